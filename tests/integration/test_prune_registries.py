"""Prune on each product, on docker-registry with its garbage collection, and where manifests name each other."""

from __future__ import annotations

import subprocess

import pytest

from common.archive.reader import Archive
from common.errors import AuthenticationError, ExitCode, RegistryError
from common.progress import Silent
from importer import workflow
from importer.settings import ImportSettings
from tests.fakes import registry_profiles, registry_profiles_closed
from tests.fakes.archives import noise
from tests.fakes.commands import run
from tests.fakes.factories import image, index
from tests.fakes.pruned_mirrors import Site, dated, root, weeks
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_profile import Profile, Refusal
from tests.fakes.servers import docker_registry, require
from tests.samples import more


@pytest.fixture(name="archives", scope="module")
def _archives(tmp_path_factory):
    return weeks(tmp_path_factory.mktemp("weeks"))


PRODUCTS = {each.name: each for each in (*registry_profiles.PROFILES, *registry_profiles_closed.PROFILES)}


@pytest.mark.parametrize("name", ["Harbor", *more(sorted(PRODUCTS.keys() - {"Harbor"}))])
def test_each_product_deletes_or_says_why_not(archives, tmp_path, name):
    product = PRODUCTS[name]
    with product.registry() as registry:
        site = Site(registry, tmp_path, product)
        site.push(*archives)
        plan, before = site.plan(), site.stored
        assert len(plan.deletions) == 2
        if not registry.deletes:
            with pytest.raises(RegistryError, match="nothing was deleted"):
                site.run(plan)
            assert site.stored == before
            registry.deletes = True  # as its administrator switches it on
        result = site.run(plan)
        assert (result.exit_code, result.refused) == (ExitCode.DONE, []), result
        assert {root(each) for each in archives[:2]}.isdisjoint(site.stored[site.mirror.at("org/app").repository])
        assert list(site.archives) == [archives[2].digest]


def test_immutable_tags_are_refused_and_named(archives, tmp_path):
    """goharbor/harbor, src/server/middleware/immutable/deletemf.go: 412 for a manifest with an immutable tag."""
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        site.push(*archives)
        plan = site.plan()
        registry.profile = Profile(immutable=True, is_immutable=Refusal(412, "PRECONDITION", "configured as immutable"))
        result = site.run(plan)
        assert result.exit_code is ExitCode.PROBLEMS
        assert {root(each) for each in archives[:2]} <= {one.digest for one in result.refused}
        assert result.bytes == 0
        assert len(site.archives) == 3, "the records of what is there stay"


def blobs_of(server):
    """Return the blobs that docker-registry keeps, with their sizes."""
    return {path.parent.name: path.stat().st_size for path in server.root.rglob("blobs/sha256/*/*/data")}


@pytest.mark.parametrize("keep", [1, *more([2])])
def test_docker_registry_frees_what_the_plan_said(archives, tmp_path, keep):
    """The real one, with its own garbage collection."""
    with docker_registry(tmp_path, name="mirror") as server:
        site = Site(server, tmp_path)
        site.push(*archives)
        before = blobs_of(server)
        plan = site.plan(keep_last=keep)
        assert len(plan.deletions) == 3 - keep
        assert blobs_of(server) == before
        result = site.run(plan)
        assert (result.exit_code, result.bytes) == (ExitCode.DONE, plan.bytes)
        again = site.run(plan)
        assert (again.exit_code, again.deleted, again.gone) == (ExitCode.DONE, [], 3 - keep)
        config = server.root.parent / "config.yml"
        program = require("docker-registry")
        subprocess.run([program, "garbage-collect", str(config)], check=True, capture_output=True)
        after = blobs_of(server)
        assert sum(before.values()) - sum(after.values()) == plan.bytes > 1800
        assert set(after) < set(before)
        # What stays can be pulled: a push finds everything that the kept archive needs.
        left = workflow.push(archives[2], ImportSettings(site.mirror, site.settings, heal=True), Silent())
        assert (left.exit_code, left.uploaded) == (ExitCode.DONE, 0)


def exported(source, folder, tag, epoch):
    done = run(
        *("hub-export", "create", "--image", f"{source.host}/org/signed:{tag}", "--insecure", source.host, "--output", folder),
        env={"SOURCE_DATE_EPOCH": str(epoch)},
    )
    assert done.status == 0, done.stderr
    return Archive.open([folder])


def test_the_list_of_referrers_goes_with_its_image(tmp_path):
    """docker-registry has no referrers API: a push lists them under a fallback tag, which no inventory has."""
    subject, newer = image([noise("subject", 200)]), image([noise("newer", 200)])
    sbom = image([noise("sbom", 100)], subject=subject.descriptor, artifact_type="application/spdx+json")
    with FakeRegistry() as source, FakeRegistry(referrers=False) as registry:
        source.add_image("org/signed", subject, tag="v1")
        source.add_image("org/signed", sbom)
        source.add_image("org/signed", newer, tag="v2")
        site = Site(registry, tmp_path)
        site.push(exported(source, tmp_path / "first", "v1", 1767225600), exported(source, tmp_path / "next", "v2", 1767830400))
        fallback, repository = f"sha256-{subject.digest[7:]}", site.repository("org/signed")
        assert fallback in repository.tags
        plan = site.plan()
        assert {one.digest for one in plan.deletions} == {subject.digest, sbom.digest}
        assert plan.lists == {"ocp/org/signed": (fallback,)}
        registry.fault("DELETE", f"/manifests/{repository.tags[fallback]}", status=403)
        with pytest.raises(AuthenticationError):
            site.run(plan)
        assert set(repository.manifests) == {newer.digest, repository.tags[fallback]}, "interrupted before the list"
        assert site.run(plan).exit_code is ExitCode.DONE
        assert fallback not in repository.tags
        assert set(repository.manifests) == {newer.digest}


PLATFORMS = ("linux/amd64", "linux/arm64")


def two_weeks_of_an_index(source, site, folder):
    """Push an index, and a newer image instead of it; return the index."""
    many = index([image([noise(f"{each} of the index", 90)], platform=each) for each in PLATFORMS])
    source.add_image("org/signed", many, tag="v1")
    source.add_image("org/signed", image([noise("newer", 200)]), tag="v2")
    site.push(exported(source, folder / "first", "v1", 1767225600), exported(source, folder / "next", "v2", 1767830400))
    return many


@pytest.mark.parametrize("named", ["itself", *more(["another", "newer"])])
def test_an_index_under_a_tag_of_oc_mirror_stays(tmp_path, named):
    """oc-mirror v2 gives an image by digest the tag sha256-DIGEST, as a list of referrers has it; the digest may be the source's.

    openshift/oc-mirror, v2/internal/pkg/operator/local_stored_collector.go
    """
    with FakeRegistry() as source, FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        many = two_weeks_of_an_index(source, site, tmp_path)
        assert many.digest in {one.digest for one in site.plan().deletions}
        tags = site.repository("org/signed").tags
        digest = {"itself": many.digest, "another": f"sha256:{'0' * 64}", "newer": tags["v2"]}[named]
        tags[f"sha256-{digest[7:]}"] = many.digest
        plan = site.plan()
        assert (plan.deletions, plan.lists) == ((), {})


@pytest.mark.parametrize("when", ["plan", *more(["deletion"])])
def test_tags_that_the_registry_does_not_list_stop_the_run(tmp_path, when):
    """An account that may not list gets 404 from some registries, and the tags of others are not known then."""
    archives = [
        dated(tmp_path, 1, {"quay.io/org/app:v1": [noise("old", 300)], "quay.io/org/left:v1": [noise("left", 300)]}),
        dated(tmp_path, 8, {"quay.io/org/app:v2": [noise("new", 300)]}),
    ]
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        site.push(*archives)
        left = site.repository("org/left")
        if when == "deletion":
            plan, skipped = site.plan(), 1  # the list of the second survey is whole
        else:
            skipped = 0
        registry.fault("GET", "/org/left/tags/list", skip=skipped, status=404, times=9)
        with pytest.raises(RegistryError, match="list of tags lacks hub-sha256-"):
            site.run(plan) if when == "deletion" else site.plan()
        assert root(archives[0], 1) in left.manifests


@pytest.mark.parametrize("form", ["sha256-{}.sig", *more(["sha256-{}"])])
def test_what_is_attached_by_a_tag_while_prune_runs_keeps_its_image(tmp_path, form):
    with FakeRegistry() as source, FakeRegistry(referrers=False) as registry:
        site = Site(registry, tmp_path)
        many = two_weeks_of_an_index(source, site, tmp_path)
        plan = site.plan()

        def attach():
            registry.add_image("ocp/org/signed", image([noise("cosign", 100)]), form.format(many.digest[7:]))

        # After the survey: by the trial that shows whether the registry deletes.
        registry.fault("DELETE", "/hub-airgap-archives/manifests/", status=202, action=attach)
        registry.fault("HEAD", "/hub-airgap-archives/manifests/sha256:", status=404)
        result = site.run(plan)
        assert {one.digest for one in result.spared} == {many.digest, *(each.digest for each in many.manifests)}
        assert many.digest in site.repository("org/signed").manifests


@pytest.mark.parametrize("order", ["neither", *more(["parents", "children", "accepted"])])
def test_an_index_and_its_manifests(tmp_path, order):
    """A registry may want either first; where it deletes the index in no order, or only says so, its manifests stay."""
    with FakeRegistry() as source, FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        many = two_weeks_of_an_index(source, site, tmp_path)
        children = {each.digest for each in many.manifests}
        plan = site.plan()
        assert plan.deletions[0].digest == many.digest, "the index first"
        stored = site.repository("org/signed").manifests
        if order == "parents":
            registry.profile = Profile(referenced=Refusal(412, "PRECONDITION", "referenced by others"))
        elif order == "children":
            registry.fault(
                "DELETE",
                f"/manifests/{many.digest}",
                status=409,
                body=b'{"errors": [{"code": "X", "message": "it has children"}]}',
            )
        else:
            status = 409 if order == "neither" else 202
            registry.fault("DELETE", f"/manifests/{many.digest}", status=status, times=9)
        result = site.run(plan)
        if order in ("neither", "accepted"):
            assert {one.digest for one in result.refused} == {many.digest, *children}
            assert {many.digest, *children} <= set(stored)
        else:
            assert result.exit_code is ExitCode.DONE, result
            assert children.isdisjoint(stored)
            assert many.digest not in stored
