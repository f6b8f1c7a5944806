"""The commands against a real Pulp (the registry of Satellite), with skopeo as a witness. `make test-all` installs it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections import Counter

import pytest

from common.content import Written
from common.oci.image import Descriptor, digest_of, hex_of
from common.oci.reference import Reference
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from tests.fakes.archives import noise
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import BIN, run
from tests.fakes.factories import image, index
from tests.fakes.pulp import PASSWORD, USER, Pulp, pulp
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import require

pytestmark = [pytest.mark.integration, pytest.mark.more, pytest.mark.timeout(600)]
BASE = noise("base", 200_000)
PLAIN = image([BASE, noise("plain", 300_000)])
DOCKER = image([BASE, noise("docker", 100_000)], docker=True)
CHILDREN = [image([BASE, noise(each, 50_000)], platform=each) for each in ("linux/amd64", "linux/arm64")]
MANY = index(CHILDREN)
LARGE = image([noise("large", 40_000_000)])
NOTARY = "application/vnd.cncf.notary.signature"


@pytest.fixture(scope="module")
def mirror():
    with pulp() as server:
        yield server


@pytest.fixture
def account(mirror, tmp_path):
    """The file with the account."""
    path = tmp_path / "auth.json"
    entry = {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    path.write_text(json.dumps({"auths": {mirror.host: entry}}))
    return path


def settings_of(mirror, account):
    return RegistrySettings(authfile=account, insecure=frozenset({mirror.host, mirror.content}))


@pytest.fixture
def client(mirror, account):
    with RegistryClient(settings_of(mirror, account), pushes_to=frozenset({mirror.host})) as found:
        yield found


@pytest.fixture
def source():
    with FakeRegistry() as registry:
        registry.add_image("org/plain", PLAIN, "v1")
        registry.add_image("org/docker", DOCKER, "v1")
        registry.add_image("org/many", MANY, "v1")
        yield registry


def create(source, output, *names, more=()):
    images = [part for name in names for part in ("--image", f"{source.host}/org/{name}")]
    done = run("hub-export", "create", *images, "--insecure", source.host, "--output", output, "--format", "json", *more)
    assert done.status == 0, done.stderr
    return output


def push(archive, mirror: Pulp, account, prefix, *more):
    place = ("--registry", f"{mirror.host}/{prefix}", "--insecure", mirror.host, "--insecure", mirror.content)
    return run("hub-import", "push", archive, *place, "--authfile", account, "--format", "json", *more)


def asked(mirror: Pulp, since: int = 0) -> Counter[tuple[str, str]]:
    """Return the requests by method and kind."""
    lines = [line.split() for line in mirror.log[since:]]
    kinds = ("/blobs/uploads/", "/blobs/", "/manifests/", "/token/")
    return Counter((method, next((kind for kind in kinds if kind in path), path)) for method, path, _status in lines)


def pulled(mirror: Pulp, account, name, folder):
    """Pull with skopeo, which verifies every byte; return the bytes of the manifest or index."""
    command = [require("skopeo"), "copy", "--all", "--authfile", account, "--src-tls-verify=false"]
    done = subprocess.run(
        [*command, f"docker://{mirror.host}/{name}", f"dir:{folder}"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return (folder / "manifest.json").read_bytes()


def test_push_and_push_again_and_read(source, mirror, account, tmp_path):
    archive = create(source, tmp_path / "out", "plain:v1", "docker:v1", "many:v1")
    done = push(archive, mirror, account, "first")
    assert done.status == 0, done.stderr
    before = len(mirror.log)
    again = push(archive, mirror, account, "first")
    assert (again.status, again.json["uploaded"], again.json["mounted"]) == (0, 0, 0)
    assert set(asked(mirror, before)) <= {("HEAD", "/manifests/"), ("GET", "/token/"), ("GET", "/v2/")}
    assert pulled(mirror, account, "first/org/plain:v1", tmp_path / "plain") == PLAIN.raw
    assert pulled(mirror, account, "first/org/docker:v1", tmp_path / "docker") == DOCKER.raw
    assert pulled(mirror, account, "first/org/many:v1", tmp_path / "many") == MANY.raw


def test_an_upload_that_breaks_leaves_nothing_that_a_later_one_cannot_replace(mirror, client):
    """Of a PUT with the whole blob Pulp keeps what came under the digest that was announced (app/registry_api.py, BlobUploads.put)."""
    content = os.urandom(3_000_000)
    blob, repository = Descriptor("a/b", digest_of(content), len(content)), Reference(mirror.host, "broken/app")

    def breaks(start):
        yield content[start : start + 1_000_000]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.upload(repository, blob, breaks)
    assert not client.has_blob(repository, blob.digest)
    assert client.upload(repository, blob, lambda _start: iter([content])) is Written.COPIED
    assert client.blob_bytes(repository, blob, len(content)) == content


def test_a_push_that_is_killed_is_finished_by_the_next(mirror, account, tmp_path):
    with FakeRegistry() as source:
        source.add_image("org/large", LARGE, "v1")
        archive = create(source, tmp_path / "out", "large:v1")
    place = ["--registry", f"{mirror.host}/killed", "--insecure", mirror.host, "--insecure", mirror.content]
    before = asked(mirror)
    process = subprocess.Popen(
        [BIN / "hub-import", "push", archive, *place, "--authfile", account],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    patch = ("PATCH", "/blobs/uploads/")
    while process.poll() is None and asked(mirror)[patch] == before[patch]:  # the layer is three chunks
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = push(archive, mirror, account, "killed")
    assert done.status == 0, done.stderr
    assert pulled(mirror, account, "killed/org/large:v1", tmp_path / "pulled") == LARGE.raw


def test_an_increment_by_a_receipt(source, mirror, account, tmp_path):
    one = create(source, tmp_path / "one", "plain:v1")
    assert push(one, mirror, account, "weekly").status == 0
    assert run("hub-export", "keygen", tmp_path / "site").status == 0
    place = ("--registry", f"{mirror.host}/weekly", "--insecure", mirror.host, "--insecure", mirror.content)
    receipt = tmp_path / "receipt.json"
    written = ("--authfile", account, "--output", receipt, "--sign", tmp_path / "site.key")
    done = run("hub-import", "receipt", one, *place, *written)
    assert done.status == 0, done.stderr
    assert set(json.loads(receipt.read_bytes())["blobs"]) == set(PLAIN.blobs)
    source.add_image("org/plain", DOCKER, "v2")
    two = create(source, tmp_path / "two", "plain:v2", more=("--receipt", receipt, "--receipt-key", tmp_path / "site.pub"))
    blobs = json.loads((two / "inventory.json").read_bytes())["blobs"]
    assert "pieces" not in blobs[digest_of(BASE)], "the base is on the mirror"
    assert push(two, mirror, account, "weekly").status == 0
    assert pulled(mirror, account, "weekly/org/plain:v2", tmp_path / "pulled") == DOCKER.raw


def test_heal_writes_what_was_deleted(source, mirror, account, client, tmp_path):
    archive = create(source, tmp_path / "out", "many:v1")
    assert push(archive, mirror, account, "heal").status == 0
    whole = push(archive, mirror, account, "heal", "--heal")
    assert (whole.status, whole.json["uploaded"]) == (0, 0), whole.stderr
    repository = Reference(mirror.host, "heal/org/many")
    client.delete(repository.pinned(MANY.digest))  # with its manifests and tags, by a task of Pulp's worker
    assert any(client.head(repository.pinned(MANY.digest)) is None or time.sleep(0.1) for _ in range(600))
    healed = push(archive, mirror, account, "heal", "--heal")
    assert healed.status == 0, healed.stderr
    assert pulled(mirror, account, "heal/org/many:v1", tmp_path / "pulled") == MANY.raw


def test_a_short_blob_that_another_client_left_is_named_and_can_be_removed(mirror, account, client, tmp_path):
    parts = image([noise("short", 100_000)])
    digest = digest_of(parts.layers[0])
    with FakeRegistry() as source:
        source.add_image("org/short", parts, "v1")
        archive = create(source, tmp_path / "out", "short:v1")
    mirror.keep_short("damaged/org/short", digest)
    done = push(archive, mirror, account, "damaged")
    assert done.status == 5
    assert "has 0 of its 100000 bytes" in str(done.json["problems"])
    client.delete_blob(Reference(mirror.host, "damaged/org/short").pinned(digest))
    mirror.clean_orphans()
    again = push(archive, mirror, account, "damaged")
    assert again.status == 0, again.stderr
    assert pulled(mirror, account, "damaged/org/short:v1", tmp_path / "pulled") == parts.raw


def test_signatures_and_referrers(mirror, account, client, tmp_path):
    """Pulp has no referrers API: they are found by the fallback tag."""
    cosign, notary = image([b"cosign"]), image([b"notary"], subject=PLAIN.descriptor, artifact_type=NOTARY)
    with FakeRegistry() as source:
        source.add_image("org/plain", PLAIN, "v1")
        source.add_image("org/plain", cosign, f"sha256-{hex_of(PLAIN.digest)}.sig")
        source.add_image("org/plain", notary)
        archive = create(source, tmp_path / "out", "plain:v1")
    done = push(archive, mirror, account, "signed")
    assert done.status == 0, done.stderr
    repository = Reference(mirror.host, "signed/org/plain")
    assert [each.digest for each in client.referrers(repository.pinned(PLAIN.digest))] == [notary.digest]
    assert (
        client.document(Reference(mirror.host, repository.repository, f"sha256-{hex_of(PLAIN.digest)}.sig")).raw == cosign.raw
    )


def test_a_tag_that_moves_leaves_the_image_that_it_had(mirror, account, client, tmp_path):
    """As the tag of a catalog does each week; a cluster may still run the older one."""
    for week, parts in (("one", PLAIN), ("two", DOCKER)):
        with FakeRegistry() as source:
            source.add_image("org/catalog", parts, "v4.18")
            archive = create(source, tmp_path / week, "catalog:v4.18")
        done = push(archive, mirror, account, "moves")
        assert done.status == 0, done.stderr
    repository = Reference(mirror.host, "moves/org/catalog")
    assert client.document(Reference(mirror.host, repository.repository, "v4.18")).raw == DOCKER.raw
    assert client.document(repository.pinned(PLAIN.digest)).raw == PLAIN.raw
    spared = {f"hub-sha256-{hex_of(each.digest)}" for each in (PLAIN, DOCKER)}
    assert set(client.tags(repository)) == {"v4.18", *spared}


def test_export_from_it(source, mirror, account, tmp_path):
    """Blobs come by a redirect to the content server, whose URL is signed."""
    assert push(create(source, tmp_path / "out", "many:v1", "docker:v1"), mirror, account, "again").status == 0
    names = [part for name in ("many", "docker") for part in ("--image", f"{mirror.host}/again/org/{name}:v1")]
    hosts = ("--insecure", mirror.host, "--insecure", mirror.content)
    done = run("hub-export", "create", *names, *hosts, "--authfile", account, "--output", tmp_path / "back")
    assert done.status == 0, done.stderr
    assert run("hub-import", "verify", tmp_path / "back").status == 0


def test_many_images_in_one_repository(mirror, account, tmp_path):
    """Each tag is a new version of the repository, which Pulp writes one at a time: others get 429 after two seconds."""
    images = [image([BASE, noise(f"number {number}", 1000)]) for number in range(12)]
    with FakeRegistry() as source:
        for number, each in enumerate(images):
            source.add_image("org/many", each, f"v{number}")
        archive = create(source, tmp_path / "out", *(f"many:v{number}" for number in range(12)))
    done = push(archive, mirror, account, "crowd")
    assert done.status == 0, done.stderr
    assert done.json["uploaded"] == 1 + 2 * 12


def test_mounts(mirror, client, account):
    """Only from a repository whose tagged images have the blob: what was uploaded alone is not mounted (404 BLOB_UNKNOWN)."""
    first, second, third = (Reference(mirror.host, f"mounts/{name}") for name in ("one", "two", "three"))
    contents = [(Descriptor("a/b", digest, len(content)), content) for digest, content in PLAIN.blobs.items()]

    def wrote(found, target, sources=()):
        return {
            found.upload(target, blob, lambda _start, content=content: iter([content]), sources) for blob, content in contents
        }

    assert wrote(client, first) == {Written.COPIED}
    assert wrote(client, second, [first]) == {Written.COPIED}
    client.put_manifest(Reference(mirror.host, first.repository, "v1"), PLAIN.raw, PLAIN.media_type)
    with RegistryClient(settings_of(mirror, account), pushes_to=frozenset({mirror.host})) as another:
        assert wrote(another, third, [first]) == {Written.MOUNTED}
        assert all(another.has_blob(third, blob.digest) for blob, _ in contents)


def test_probe(mirror, account, tmp_path):
    """Pulp takes an index whose manifests are not there (app/registry_api.py, Manifests.put, makes an error and does not raise it)."""
    with FakeCluster("4.18") as cluster:
        place = ("--registry", f"{mirror.host}/probe", "--insecure", mirror.host, "--insecure", mirror.content)
        options = ("--authfile", account, "--kubeconfig", cluster.kubeconfig(tmp_path), "--format", "json")
        done = run("hub-import", "probe", *place, *options)
    assert done.status == 0, done.stderr
    assert done.json["registry"] == {
        "address": f"{mirror.host}/probe",
        "nestedPaths": True,
        "sparseIndexes": True,
        "referrers": False,
    }


def test_login(mirror, tmp_path):
    for password, status in ((PASSWORD, 0), ("wrong", 5)):
        file = tmp_path / f"{status}.json"
        account = ("--username", USER, "--password-stdin", "--authfile", file, "--insecure")
        done = run("hub-import", "login", mirror.host, *account, stdin=password)
        assert done.status == status, done.stderr
        assert file.exists() == (status == 0)


def test_an_account_that_may_not_push_is_told_so(source, mirror, tmp_path):
    mirror.manage(
        "shell",
        "-c",
        "from django.contrib.auth import get_user_model as m; m().objects.create_user('reader', password='reads-only-1')",
    )
    archive = create(source, tmp_path / "out", "plain:v1")
    (tmp_path / "auth.json").write_text(
        json.dumps({"auths": {mirror.host: {"username": "reader", "password": "reads-only-1"}}})
    )
    done = push(archive, mirror, tmp_path / "auth.json", "closed")
    assert done.status == 5
    assert "closed" in str(done.json["problems"])
