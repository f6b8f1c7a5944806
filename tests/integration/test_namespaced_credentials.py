"""Credentials that are for a namespace of a registry, as Quay's robots are for one organization: `auths: {"HOST/mirror": …}`.

podman-container-tools/skopeo#1104; containers-auth.json(5) says which entry fits a repository.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import Result, run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry, Quay
from tests.fakes.sites import Site, export_images, shared_both
from tests.samples import more

pytestmark = pytest.mark.integration
IMAGES = {"org/app": image([b"base", b"app"]), "other/tool": image([b"base", b"tool"])}


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_images(tmp_path_factory.mktemp("namespaced") / "out", IMAGES)


@pytest.fixture(name="mirror", params=["token", *more(["basic"])])
def _mirror(request: pytest.FixtureRequest) -> Iterator[FakeRegistry]:
    """A registry whose accounts are for one namespace each."""
    with FakeRegistry(auth=request.param) as registry:
        registry.passwords = {f"{name}+robot": f"secret of {name}" for name in ("mirror", "org", "other")}
        registry.quay = Quay({"mirror", "org", "other"}, only_in={f"{name}+robot": name for name in ("mirror", "org", "other")})
        yield registry


def entry(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def authfile(folder: Path, host: str, *namespaces: str, password: str = "") -> Path:
    """Write credentials for namespaces `NAME` or `NAME/MORE`, none for the host."""
    path = folder / "auth.json"
    robots = {name: name.partition("/")[0] for name in namespaces}
    auths = {f"{host}/{name}": entry(f"{robot}+robot", password or f"secret of {robot}") for name, robot in robots.items()}
    path.write_text(json.dumps({"auths": auths}))
    return path


def imported(command: str, archive: Path, mirror: FakeRegistry, prefix: str, login: Path, *more: str | Path) -> Result:
    place = ("--registry", f"{mirror.host}{prefix}", "--insecure", mirror.host, "--authfile", login)
    return run("hub-import", command, archive, *place, "--format", "json", *more)


# Any two together.
PLACES = [("basic", "mirror", False), ("basic", "mirror/ocp", True), ("token", "mirror", True), ("token", "mirror/ocp", False)]
FURTHER = [(kind, namespace, not needs) for kind, namespace, needs in PLACES]


@pytest.mark.parametrize(
    ("mirror", "namespace", "needs_repository"),
    [PLACES[0], PLACES[2], *(pytest.param(*each, marks=pytest.mark.more) for each in (PLACES[1], PLACES[3], *FURTHER))],
    indirect=["mirror"],
)
def test_push_and_receipt(archive: Path, mirror: FakeRegistry, tmp_path: Path, namespace: str, needs_repository: bool) -> None:
    mirror.quay.needs_repository = needs_repository
    login = authfile(tmp_path, mirror.host, namespace)
    pushed = imported("push", archive, mirror, "/mirror/ocp", login)
    assert pushed.status == 0, pushed.stdout + pushed.stderr
    for name, parts in IMAGES.items():
        assert mirror.repositories[f"mirror/ocp/{name}"].tags["v1"] == parts.digest
    taken = imported("receipt", archive, mirror, "/mirror/ocp", login, "--output", tmp_path / "receipt.json")
    assert taken.status == 0, taken.stderr
    assert len(taken.json["inventories"]) == 1


def test_a_robot_for_each_organization_and_none_for_the_host(archive: Path, mirror: FakeRegistry, tmp_path: Path) -> None:
    mirror.quay.needs_repository = True
    login = authfile(tmp_path, mirror.host, "org", "other")
    pushed = imported("push", archive, mirror, "", login)
    assert pushed.status == 0, pushed.stdout + pushed.stderr
    assert {name for name, repository in mirror.repositories.items() if repository.tags} == set(IMAGES)


def test_without_any_that_fits_the_host_is_told(archive: Path, mirror: FakeRegistry, tmp_path: Path) -> None:
    pushed = imported("push", archive, mirror, "/mirror", authfile(tmp_path, mirror.host, "org", "mirrored"))
    assert pushed.status == 5
    assert "there are no credentials for it" in pushed.stderr
    assert mirror.log("HEAD") == mirror.log("POST") == []


def test_a_wrong_password_ends_in_one_error(archive: Path, mirror: FakeRegistry, tmp_path: Path) -> None:
    pushed = imported("push", archive, mirror, "/mirror", authfile(tmp_path, mirror.host, "mirror", password="wrong"))
    assert pushed.status == 5
    problems = json.loads(pushed.stdout)["problems"] if pushed.stdout else []
    assert len(problems) == (1 if mirror.auth == "basic" else 0)
    assert "the credentials were refused" in pushed.stdout + pushed.stderr


def test_probe(mirror: FakeRegistry, tmp_path: Path) -> None:
    with FakeCluster("4.18") as cluster:
        place = ("--kubeconfig", cluster.kubeconfig(tmp_path), "--registry", f"{mirror.host}/mirror", "--insecure", mirror.host)
        done = run("hub-import", "probe", *place, "--authfile", authfile(tmp_path, mirror.host, "mirror"), "--format", "json")
    assert done.status == 0, done.stderr
    assert done.json["registry"]["nestedPaths"] is True, done.json["notes"]


def test_login_and_what_it_keeps(archive: Path, mirror: FakeRegistry, tmp_path: Path) -> None:
    login = tmp_path / "auth.json"
    login.write_text(json.dumps({"credsStore": "absent"}))
    kept = ("--authfile", login, "-u", "mirror+robot", "--password-stdin", "--insecure")
    done = run("hub-import", "login", f"{mirror.host}/mirror", *kept, stdin="secret of mirror")
    assert done.status == 0, done.stderr
    assert list(json.loads(login.read_text())["auths"]) == [f"{mirror.host}/mirror"]
    pushed = imported("push", archive, mirror, "/mirror", login)
    assert pushed.status == 0, pushed.stdout + pushed.stderr


def test_sources_below_a_namespace(mirror: FakeRegistry, tmp_path: Path) -> None:
    for name in ("mirror/catalog", "org/app"):
        mirror.add_image(name, image([b"of " + name.encode()]), tag="v1")
    login = authfile(tmp_path, mirror.host, "mirror", "org/app")
    names = [part for name in ("mirror/catalog", "org/app") for part in ("--image", f"{mirror.host}/{name}:v1")]
    done = run(
        *("hub-export", "create", *names, "--insecure", mirror.host, "--authfile", login, "--output", tmp_path / "out"),
        *("--format", "json"),
    )
    assert done.status == 0, done.stdout + done.stderr


def test_deploy_with_a_credential_of_a_namespace_for_the_nodes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive = shared_both(tmp_path_factory)["file-based"]
    with FakeCluster("4.18") as cluster, FakeRegistry(auth="token") as mirror:
        mirror.passwords = {"ocp+robot": "secret of ocp"}
        mirror.quay = Quay({"ocp"})
        site = Site(cluster, mirror, archive, tmp_path)
        login = authfile(tmp_path, mirror.host, "ocp")
        done = site.run("deploy", "--authfile", login, "--ca", tmp_path / "ca.pem", "--cluster-authfile", login)
        assert done.status == 0, done.stdout + done.stderr
        secret = cluster.store.get(next(key for key in cluster.store.all_keys() if key.name == "pull-secret"))
    auths = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"]
    assert auths[f"{mirror.host}/ocp"] == entry("ocp+robot", "secret of ocp")


@pytest.mark.parametrize("mirror", ["token", *more(["basic"])], indirect=True)
def test_an_archive_with_content_of_an_earlier_one(archive: Path, mirror: FakeRegistry, tmp_path: Path) -> None:
    """What an earlier archive brought is looked up with the credential of its repository, and mounted from there."""
    mirror.quay.needs_repository = True
    login = authfile(tmp_path, mirror.host, "mirror")
    with FakeRegistry() as source:
        for name, tag in (("org/app", "v1"), ("org/new", "v1")):
            source.add_image(name, image([b"base", name.encode()]), tag=tag)
        first, second = tmp_path / "first", tmp_path / "second"
        for output, names, since in ((first, ["app"], []), (second, ["app", "new"], ["--since", first])):
            images = [part for name in names for part in ("--image", f"{source.host}/org/{name}:v1")]
            done = run("hub-export", "create", *images, "--insecure", source.host, "--output", output, *since)
            assert done.status == 0, done.stderr
    early = imported("push", second, mirror, "/mirror", login)
    assert early.status == 3, early.stdout + early.stderr
    assert early.json["requires"]
    for each in (first, second):
        pushed = imported("push", each, mirror, "/mirror", login)
        assert pushed.status == 0, pushed.stdout + pushed.stderr
    assert mirror.repositories["mirror/org/new"].tags["v1"]


@pytest.mark.parametrize("mirror", ["token", *more(["basic"])], indirect=True)
@pytest.mark.parametrize("namespace", ["mirror/catalogs", *more(["mirror"])])
def test_a_catalog_that_is_built(mirror: FakeRegistry, tmp_path: Path, namespace: str) -> None:
    mirror.quay.needs_repository = True
    mirror.add_image("org/server", image([b"server"]), tag="v1")
    login = authfile(tmp_path, mirror.host, namespace, "org")
    folder = tmp_path / "manifests" / "etcd"
    folder.mkdir(parents=True)
    (folder / "etcd.package.yaml").write_text(PACKAGE)
    (folder / "csv.yaml").write_text(CSV)
    places = ("--from", f"{mirror.host}/org/server:v1", "--to", f"{mirror.host}/mirror/catalogs/olm:v1")
    done = run(
        *("hub-export", "build-catalog", *places, "--manifest-dir", folder.parent, "--insecure", "--authfile", login),
        *("--format", "json"),
    )
    assert done.status == 0, done.stdout + done.stderr
    assert mirror.repositories["mirror/catalogs/olm"].tags["v1"] == done.json["digest"]


PACKAGE = "packageName: etcd\ndefaultChannel: a\nchannels: [{name: a, currentCSV: etcd.v1.0.0}]\n"
CSV = """apiVersion: operators.coreos.com/v1alpha1
kind: ClusterServiceVersion
metadata: {name: etcd.v1.0.0}
spec: {version: 1.0.0, displayName: etcd}
"""


def test_a_token_server_that_gets_no_password_is_one_problem(archive: Path, tmp_path: Path) -> None:
    """`--insecure` is for the mirror, not for a token server on another host, which `/v2/` does not ask without an account."""
    with FakeRegistry(auth="token") as mirror, FakeRegistry(auth="token") as tokens:
        mirror.realm = f"{tokens.url.replace('localhost', '127.0.0.1')}/token"
        host = imported("push", archive, mirror, "/org", authfile(tmp_path, mirror.host, "org"))
        assert host.status == 5
        assert "in the clear to http://127.0.0.1" in host.stderr
        assert host.stdout == "", "it ends before the first image"
        tokens.anonymous = True
        pushed = imported("push", archive, mirror, "", authfile(tmp_path, mirror.host, "org", "other"))
        assert pushed.status == 5
        assert [problem["subject"].partition("/")[2] for problem in pushed.json["problems"]] == ["org/app", "other/tool"]
        assert all("--insecure 127.0.0.1" in problem["message"] for problem in pushed.json["problems"])
        assert all("Authorization" not in request.headers for request in tokens.requests)
