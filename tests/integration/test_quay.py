"""A mirror such as Quay, where a repository exists from the moment in which a token to push into it was asked for.

quay/quay, endpoints/v2/v2auth.py and endpoints/v2/__init__.py (`require_repo_read`); reported as helm/helm#31567 and
ambient-code/platform#669. skopeo asks a destination for `pull,push` from its first question on.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.fakes.archives import noise
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import Result, run
from tests.fakes.factories import image, index
from tests.fakes.registry import PASSWORD, USER, FakeRegistry, Quay
from tests.fakes.servers import docker_registry
from tests.fakes.token_server import TokenServer
from tests.samples import more

pytestmark = pytest.mark.integration
BASE = noise("base", 5_000)
APP, TOOL, ALONE = image([BASE, b"app"]), image([BASE, b"tool"]), image([b"alone"])
SIGNATURE = image([b"signed"], subject=APP.descriptor, artifact_type="application/vnd.example.signature")
MANY = index([image([b"amd"]), image([b"arm"], platform="linux/arm64")])
IMAGES = {"org/app": APP, "org/tool": TOOL, "org/many": MANY, "other/alone": ALONE}
READER = "reader"


@dataclass(frozen=True)
class Archives:
    first: Path
    increment: Path  # app's second tag shares the base, which is in `first`


NEXT = image([BASE, b"app, next"])


@pytest.fixture(name="archives", scope="module")
def _archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    folder = tmp_path_factory.mktemp("quay")
    with FakeRegistry() as source:
        for name, parts in IMAGES.items():
            source.add_image(name, parts, tag="v1")
        source.add_image("org/app", SIGNATURE)
        names = [part for name in IMAGES for part in ("--image", f"{source.host}/{name}:v1")]
        common = ("--insecure", source.host)
        done = run("hub-export", "create", *names, *common, "--output", folder / "first")
        assert done.status == 0, done.stderr
        source.add_image("org/app", NEXT, tag="v2")
        second = ("--image", f"{source.host}/org/app:v2", "--since", folder / "first", "--output", folder / "second")
        done = run("hub-export", "create", *second, *common)
        assert done.status == 0, done.stderr
    return Archives(folder / "first", folder / "second")


@pytest.fixture(name="quay")
def _quay() -> Iterator[FakeRegistry]:
    with FakeRegistry(auth="token") as registry:
        registry.quay = Quay({"org", "other"})
        registry.passwords[READER] = PASSWORD
        yield registry


def authfile(folder: Path, host: str, user: str = USER, password: str = PASSWORD) -> Path:
    path = folder / f"{user}.json"
    path.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}}))
    return path


def imported(command: str, archive: Path, mirror: FakeRegistry, folder: Path, *more: str | Path, user: str = USER) -> Result:
    place = ("--registry", mirror.host, "--insecure", mirror.host, "--authfile", authfile(folder, mirror.host, user))
    return run("hub-import", command, archive, *place, "--format", "json", *more)


def arrived(mirror: FakeRegistry, names: set[str]) -> None:
    for name in names:
        repository = mirror.repositories[name]
        assert repository.tags["v1"] == IMAGES[name].digest
        for parts in (IMAGES[name], *IMAGES[name].manifests):
            assert set(parts.blobs) <= set(repository.blobs), name


def scopes(mirror: FakeRegistry) -> list[str]:
    """Return the scopes that tokens were asked for, each request's in one text."""
    queries = [parse_qs(request.target.partition("?")[2]) for request in mirror.log("GET", "/token")]
    return [" ".join(query.get("scope", ())) for query in queries]


def test_a_push_creates_the_repositories_that_do_not_exist(archives: Archives, quay: FakeRegistry, tmp_path: Path) -> None:
    pushed = imported("push", archives.first, quay, tmp_path)
    assert pushed.status == 0, pushed.stdout + pushed.stderr
    arrived(quay, set(IMAGES))
    assert SIGNATURE.digest in quay.repositories["org/app"].manifests
    asked = [scope for scope in scopes(quay) if scope and "hub-airgap-archives" not in scope]
    assert all(":pull,push" in scope for scope in asked), "as skopeo asks"
    quay.requests.clear()
    again = imported("push", archives.first, quay, tmp_path)
    assert again.status == 0, again.stdout
    # Without a prefix the record would need an organization of its own, so that each push asks for it (ADR 0080).
    sent = [each for each in quay.log("POST", "/blobs/") if "/hub-airgap-archives/" not in each.path]
    assert sent == quay.log("PUT") == [], "everything is there"


def test_healing_and_the_fallback_tag_of_referrers(archives: Archives, quay: FakeRegistry, tmp_path: Path) -> None:
    quay.referrers = False
    for _ in range(2):
        healed = imported("push", archives.first, quay, tmp_path, "--heal")
        assert healed.status == 0, healed.stdout + healed.stderr
    arrived(quay, set(IMAGES))
    assert f"sha256-{APP.digest.removeprefix('sha256:')}" in quay.repositories["org/app"].tags


def test_an_increment_finds_what_came_earlier(archives: Archives, quay: FakeRegistry, tmp_path: Path) -> None:
    early = imported("push", archives.increment, quay, tmp_path)
    assert early.status == 3, early.stdout
    assert len(early.json["requires"]) == 1, "what must come first is named"
    assert imported("push", archives.first, quay, tmp_path).status == 0
    late = imported("push", archives.increment, quay, tmp_path)
    assert late.status == 0, late.stdout
    assert quay.repositories["org/app"].tags["v2"] == NEXT.digest


@pytest.mark.parametrize("refuses", [0, *more([401, 403])])
def test_an_account_that_may_not_create_gets_one_error_for_a_namespace(
    archives: Archives, quay: FakeRegistry, tmp_path: Path, refuses: int
) -> None:
    quay.quay = Quay({"other"}, refuses=refuses)
    pushed = imported("push", archives.first, quay, tmp_path)
    assert pushed.status == 5, pushed.stdout
    (problem,) = [each for each in pushed.json["problems"] if each["severity"] == "error"]
    assert problem["subject"] == f"{quay.host}/org"
    assert "3 repositories" in problem["message"]
    assert "create repositories in org" in problem["message"]
    arrived(quay, {"other/alone"})
    quay.requests.clear()
    # One thread: several ask at the same time before the first refusal is known, and how many depends on the machine's load.
    assert imported("push", archives.first, quay, tmp_path, "--heal", "--jobs", "1").status == 5
    asked = [request.path for request in quay.log("POST", "/org/app/blobs/uploads/") if "mount" not in request.query]
    assert len(asked) <= 2, "once, and again with a new token; not for every blob"


def test_one_repository_that_is_read_only_is_named(archives: Archives, quay: FakeRegistry, tmp_path: Path) -> None:
    quay.quay = Quay({"other"})
    for name in ("org/tool", "org/many"):
        _ = quay.repositories[name]
    pushed = imported("push", archives.first, quay, tmp_path)
    assert pushed.status == 5, pushed.stdout
    assert [each["subject"] for each in pushed.json["problems"] if each["severity"] == "error"] == [f"{quay.host}/org/app"]
    arrived(quay, {"other/alone", "org/tool", "org/many"})


@pytest.mark.parametrize("status", [403, *more([401])])
def test_a_registry_that_answers_no_question_but_takes_uploads(archives: Archives, tmp_path: Path, status: int) -> None:
    """AWS and proxies say 403 to HEAD of what is not there (SgtSilvio/gradle-oci#154, goharbor/harbor#13973)."""
    with FakeRegistry() as mirror:
        for method in ("HEAD", "GET"):
            for part in ("/manifests/", "/blobs/sha256"):
                mirror.fault(method, part, status=status, times=999)
        pushed = imported("push", archives.first, mirror, tmp_path)
        assert pushed.status == 0, pushed.stdout + pushed.stderr
        arrived(mirror, set(IMAGES))


# Accounts that may only pull.


@pytest.mark.parametrize("refuses", [0, *more([401, 403])])
def test_a_reader_takes_a_receipt_and_creates_nothing(
    archives: Archives, quay: FakeRegistry, tmp_path: Path, refuses: int
) -> None:
    quay.quay = Quay({"org", "other"}, refuses=refuses)
    empty = imported("receipt", archives.first, quay, tmp_path, "--output", tmp_path / "empty.json")
    assert empty.status == 0, empty.stderr
    assert empty.json["blobs"] == 0
    assert "4 repositories counted as empty" in empty.stderr
    assert dict(quay.repositories) == {}, "a question creates nothing"
    assert imported("push", archives.first, quay, tmp_path).status == 0
    quay.quay = Quay(readers={READER}, refuses=refuses)
    taken = imported("receipt", archives.first, quay, tmp_path, "--output", tmp_path / "receipt.json", user=READER)
    assert taken.status == 0, taken.stderr
    assert len(taken.json["inventories"]) == 1
    assert "counted as empty" not in taken.stderr


@pytest.mark.parametrize("refuses", [403, *more([0, 401])])
def test_a_reader_pushes_nothing_where_everything_is_there(
    archives: Archives, quay: FakeRegistry, tmp_path: Path, refuses: int
) -> None:
    assert imported("push", archives.first, quay, tmp_path).status == 0
    quay.quay = Quay(readers={READER}, refuses=refuses)
    again = imported("push", archives.first, quay, tmp_path, user=READER)
    assert again.status == 0, again.stdout
    missing = imported("push", archives.increment, quay, tmp_path, user=READER)
    assert missing.status == 5
    assert "may not write" in missing.stdout


def test_apply_where_the_base_path_is_closed(archives: Archives, tmp_path: Path) -> None:
    """A proxy that lets only the paths of repositories through: apply asks for the images, as it does elsewhere."""
    with FakeRegistry() as mirror, FakeCluster("4.18") as cluster:
        place = ("--registry", mirror.host, "--insecure", mirror.host, "--kubeconfig", cluster.kubeconfig(tmp_path))
        mirror.fault("GET", "/v2/", times=2, status=403)  # of --insecure, and ours
        done = run("hub-import", "apply", archives.first, *place, "--dry-run", "--yes", "--format", "json")
        assert "HTTP 403" not in done.stderr
        assert mirror.log("HEAD", "/org/app/manifests/"), done.stderr


def test_a_wrong_password_is_said_once(archives: Archives, quay: FakeRegistry, tmp_path: Path) -> None:
    quay.passwords[USER] = "another"
    pushed = imported("push", archives.first, quay, tmp_path)
    assert pushed.status == 5
    assert "the credentials were refused" in pushed.stderr
    assert len(quay.log("GET", "/token")) == 1


# Other commands that write.


@pytest.mark.parametrize("refuses", [403, *more([0, 401])])
def test_the_probe(quay: FakeRegistry, tmp_path: Path, refuses: int) -> None:
    with FakeCluster("4.18") as cluster:
        place = ("--kubeconfig", cluster.kubeconfig(tmp_path), "--registry", f"{quay.host}/org", "--insecure", quay.host)
        written = run("hub-import", "probe", *place, "--authfile", authfile(tmp_path, quay.host), "--format", "json")
        assert written.status == 0, written.stderr
        assert written.json["registry"]["nestedPaths"] is True
        assert written.json["registry"]["referrers"] is True
        quay.quay = Quay(readers={READER}, refuses=refuses)
        read = run("hub-import", "probe", *place, "--authfile", authfile(tmp_path, quay.host, READER), "--format", "json")
        assert read.status == 0, read.stderr
        assert [note.partition(":")[0] for note in read.json["notes"] if "mirror" in note] == ["writing to the mirror"]


def test_build_catalog_makes_its_repository(quay: FakeRegistry, tmp_path: Path) -> None:
    package = tmp_path / "manifests" / "foo"
    package.mkdir(parents=True)
    (package / "package.yaml").write_text("packageName: foo\nchannels: [{name: stable, currentCSV: foo.v1}]\n")
    (package / "foo.csv.yaml").write_text(
        "apiVersion: operators.coreos.com/v1alpha1\nkind: ClusterServiceVersion\nmetadata: {name: foo.v1}\n"
        "spec: {version: 1.0.0, install: {strategy: deployment, spec: {deployments: []}}}\n"
    )
    server = {"Entrypoint": ["/registry-server"], "Cmd": ["--database", "/bundles.db"]}
    quay.add_image("other/base", image(({"registry-server": b"server"},), config=server), tag="v1")
    command = ("build-catalog", "--manifest-dir", package.parent, "--from", f"{quay.host}/other/base:v1")
    login = ("--insecure", "--authfile", authfile(tmp_path, quay.host))
    built = run("hub-export", *command, "--to", f"{quay.host}/org/catalog:v1", *login)
    assert built.status == 0, built.stderr
    assert "v1" in quay.repositories["org/catalog"].tags
    # A tag that may not be written again is no error where it is right (aws/containers-roadmap#2380).
    rule = (
        400,
        "TAG_INVALID",
        "The image tag 'v1' already exists and cannot be overwritten because the repository is immutable.",
    )
    quay.manifest_rule = lambda name, wanted, _kind: rule if wanted in quay.repositories[name].tags else None
    again = run("hub-export", *command, "--to", f"{quay.host}/org/catalog:v1", *login)
    assert again.status == 0, again.stderr
    assert all("push" not in scope for scope in scopes(quay) if "other/base:" in scope and "org/catalog" not in scope)
    refused = run("hub-export", *command, "--to", f"{quay.host}/nowhere/catalog:v1", *login)
    assert refused.status == 5
    assert "create repositories in nowhere" in refused.stderr


def test_docker_registry_with_such_a_token_server(archives: Archives, tmp_path: Path) -> None:
    """A real registry says 404 of what does not exist, but takes only tokens that grant what is asked."""
    with TokenServer(tmp_path, {USER: PASSWORD}) as tokens, docker_registry(tmp_path, auth=tokens.config) as server:
        tokens.quay = Quay({"org", "other"})
        login = ("--authfile", authfile(tmp_path, server.host), "--insecure", server.host)
        pushed = run("hub-import", "push", archives.first, "--registry", server.host, *login)
        assert pushed.status == 0, pushed.stdout + pushed.stderr
        assert tokens.repositories == set(IMAGES)
