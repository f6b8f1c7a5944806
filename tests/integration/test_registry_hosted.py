"""What ECR, GitLab and Artifactory refuse when something was not prepared, and how `push` says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import PASSWORD, USER, FakeRegistry
from tests.fakes.registry_product import Product
from tests.fakes.registry_profile import Refusal
from tests.fakes.registry_profiles_closed import ARTIFACTORY, ECR, GITLAB
from tests.samples import more

pytestmark = pytest.mark.integration
APP, TOOL = image([b"base", b"app"]), image([b"base", b"tool"])
UNKNOWN = Refusal(
    404, "NAME_UNKNOWN", "The repository with name '{name}' does not exist in the registry with id '123456789012'"
)
# plexsystems/sinker#55 for what is read, aws/containers-roadmap#1970 for what is written
BARE_ECR = replace(
    ECR, profile=replace(ECR.profile, must_exist="repository", missing_read=UNKNOWN, missing_write=UNKNOWN), settings=()
)


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosted")
    with FakeRegistry() as source:
        names = []
        for name, parts in (("org/app", APP), ("org/deep/tool", TOOL)):
            source.add_image(name, parts, tag="v1")
            names += ["--image", f"{source.host}/{name}:v1"]
        done = run("hub-export", "create", *names, "--insecure", source.host, "--output", folder / "out")
        assert done.status == 0, done.stderr
    return folder / "out"


def push(archive, product: Product, registry: FakeRegistry, folder, *more, prefix=""):
    login = ("--username", USER, "--password-stdin", "--authfile", folder / "auth.json", "--insecure")
    assert run("hub-import", "login", registry.host, *login, stdin=PASSWORD).status == 0
    place = ("--registry", f"{registry.host}/{prefix or product.prefix}", "--insecure", registry.host)
    return run("hub-import", "push", archive, *place, "--authfile", folder / "auth.json", *more)


def test_ecr_without_a_template_names_the_repositories_to_make(archive, tmp_path):
    with BARE_ECR.registry() as registry:
        done = push(archive, BARE_ECR, registry, tmp_path)
        said = done.stdout + done.stderr
        assert done.status == 5, said
        for name in ("ocp/org/app", "ocp/org/deep/tool"):
            assert name in said
        assert "make" in said.lower() or "create" in said.lower(), said
        registry.prepared |= {"ocp/org/app", "ocp/org/deep/tool"}
        assert push(archive, BARE_ECR, registry, tmp_path).status == 0


def test_ecr_with_immutable_tags_takes_the_same_archive_again(archive, tmp_path):
    """moby/buildkit#3776, aws/containers-roadmap#2380: the tag is refused, of the same digest too."""
    product = replace(ECR, profile=replace(ECR.profile, immutable=True))
    with product.registry() as registry:
        assert push(archive, product, registry, tmp_path).status == 0
        assert push(archive, product, registry, tmp_path).status == 0
        assert push(archive, product, registry, tmp_path, "--heal").status == 0


def test_gitlab_takes_two_levels_below_the_project_and_the_option_is_named(archive, tmp_path):
    """gitlabhq/gitlabhq, lib/container_registry/path.rb: a project further up is not found."""
    with GITLAB.registry() as registry:
        done = push(archive, GITLAB, registry, tmp_path)
        said = done.stdout + done.stderr
        assert done.status == 5, said
        assert "--max-path-components" in said
        assert registry.repositories["ocp/mirror/org/app"].tags["v1"] == APP.digest, "others arrive"
        assert push(archive, GITLAB, registry, tmp_path, *GITLAB.options).status == 0
        assert registry.repositories["ocp/mirror/org/deep-tool"].tags["v1"] == TOOL.digest


@pytest.mark.parametrize("product", [GITLAB, *more([ARTIFACTORY])], ids=lambda each: each.name)
def test_a_project_that_is_missing_is_named(product, archive, tmp_path):
    with product.registry() as registry:
        done = push(archive, product, registry, tmp_path, prefix="other/place")
        said = done.stdout + done.stderr
        assert done.status == 5, said
        assert "other" in said
        assert not any(repository.blobs for repository in registry.repositories.values())
