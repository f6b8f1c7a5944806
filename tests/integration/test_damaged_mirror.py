"""A mirror whose storage is damaged after a power cut or on a full disk: truncated content counts as missing."""

from __future__ import annotations

import pytest

from tests.fakes.commands import run
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import docker_registry

pytestmark = pytest.mark.integration
SHARED, OWN = b"a layer that two images share" * 50, b"a layer of one image" * 50
APP, TOOL = image([SHARED, OWN]), image([SHARED])
MANY = index([image([b"of amd" * 50]), image([b"of arm" * 50], platform="linux/arm64")])


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory):
    home = tmp_path_factory.mktemp("damaged")
    with FakeRegistry() as source:
        for repository, parts in (("org/app", APP), ("org/tool", TOOL), ("org/many", MANY)):
            source.add_image(repository, parts, tag="v1")
        names = [part for name in ("app", "tool", "many") for part in ("--image", f"{source.host}/org/{name}:v1")]
        done = run("hub-export", "create", *names, "--insecure", source.host, "--output", home / "out")
        assert done.status == 0, done.stderr
    return home / "out"


@pytest.fixture
def mirror(tmp_path):
    with docker_registry(tmp_path, name="mirror") as started:
        yield started


def push(archive, mirror, *more, prefix=""):
    place = ("--registry", f"{mirror.host}{prefix}", "--insecure", mirror.host)
    # Seconds that it waits for a registry of which a manifest is damaged: docker-registry says 500 or 404 for good.
    return run("hub-import", "push", archive, *place, "--format", "json", *more, env={"HUB_REGISTRY_PATIENCE": "1"})


def file_of(mirror, digest):
    hexadecimal = digest.removeprefix("sha256:")
    return mirror.root / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"


def cut(mirror, digest, share):
    """Leave a share of a file; return how many bytes stay, and how many there were."""
    file = file_of(mirror, digest)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    return file.stat().st_size, len(whole)


def untag(mirror):
    for link in (mirror.root / "docker/registry/v2/repositories").glob("**/_manifests/tags/*/current/link"):
        link.unlink()


def blob(parts, content):
    return next(digest for digest, here in parts.blobs.items() if here == content)


SHORT = [
    ("untagged", "layer", 0.5),
    ("untagged", "config", 0),
    ("heal", "layer", 0),
    ("heal", "config", 0.5),
]  # any two together
FURTHER = [(how, which, 0.5 - share) for how, which, share in SHORT]


@pytest.mark.parametrize(
    ("how", "which", "share"), [*SHORT, *(pytest.param(*each, marks=pytest.mark.more) for each in FURTHER)]
)
def test_a_short_blob_is_named_with_both_sizes(archive, mirror, share, which, how):
    assert push(archive, mirror).status == 0
    digest = blob(APP, OWN) if which == "layer" else next(d for d, c in APP.blobs.items() if c not in (OWN, SHARED))
    there, wanted = cut(mirror, digest, share)
    if how == "untagged":
        untag(mirror)
    done = push(archive, mirror, *(["--heal"] if how == "heal" else []))
    assert done.status == 5, done.stderr
    message = next(one["message"] for one in done.json["problems"] if digest in one["message"])
    assert f"the storage of {mirror.host} is damaged" in message
    assert "org/app" in message
    assert f"{there} of its {wanted} bytes" in message
    assert "--heal" in message
    healthy = [one for one in done.json["problems"] if "org/tool" in one["subject"]]
    assert healthy == []


def test_a_short_blob_is_found_where_its_repository_is_new(archive, mirror):
    """The registry keeps one file for all repositories, and leaves it as it is when the blob is sent to another."""
    assert push(archive, mirror, prefix="/one").status == 0
    cut(mirror, blob(APP, SHARED), 0.5)
    done = push(archive, mirror, prefix="/two")
    assert done.status == 5, done.stdout
    assert "is damaged: it took the blob in repository two/org/" in done.json["problems"][0]["message"]
    tagged = (mirror.root / "docker/registry/v2/repositories/two/org").glob("*/_manifests/tags")
    assert {path.parents[1].name for path in tagged} == {"many"}


def test_a_short_blob_is_not_confirmed(archive, mirror, tmp_path):
    assert push(archive, mirror).status == 0
    place = ("--registry", mirror.host, "--insecure", mirror.host)
    whole = run("hub-import", "receipt", archive, *place, "--output", tmp_path / "whole.json", "--format", "json").json
    cut(mirror, blob(APP, OWN), 0.5)
    short = run("hub-import", "receipt", archive, *place, "--output", tmp_path / "short.json", "--format", "json").json
    assert short["inventories"] == []
    assert short["blobs"] == whole["blobs"] - 1


def test_a_short_blob_of_an_earlier_archive_is_named(mirror, tmp_path):
    """The earlier archive is asked for, and its tags are right: without a warning its push would find nothing to do."""
    with FakeRegistry() as source:
        source.add_image("org/app", APP, tag="v1")
        source.add_image("org/app", image([SHARED, b"the next version" * 50]), tag="v2")
        for tag, more in (("v1", ()), ("v2", ("--since", tmp_path / "v1"))):
            wanted = ("--image", f"{source.host}/org/app:{tag}", "--insecure", source.host)
            made = run("hub-export", "create", *wanted, *more, "--output", tmp_path / tag)
            assert made.status == 0, made.stderr
    push(tmp_path / "v1", mirror)
    stays, size = cut(mirror, blob(APP, SHARED), 0.5)
    pushed = push(tmp_path / "v2", mirror)
    assert pushed.status == 3
    (warning,) = [line for line in pushed.stderr.splitlines() if "is damaged" in line]
    for part in ("WARNING", "org/app@", blob(APP, SHARED), f"{stays} of {size} bytes"):
        assert part in warning
    assert "Then push again with --heal" in pushed.stderr


def test_what_was_repaired_is_pushed(archive, mirror):
    assert push(archive, mirror).status == 0
    cut(mirror, blob(APP, OWN), 0)
    assert push(archive, mirror, "--heal").status == 5
    file_of(mirror, blob(APP, OWN)).unlink()
    assert push(archive, mirror, "--heal").status == 0
    assert file_of(mirror, blob(APP, OWN)).read_bytes() == OWN


@pytest.mark.parametrize(
    ("document", "share"),
    [("child", 0), *(pytest.param(*each, marks=pytest.mark.more) for each in (("image", 0), ("image", 0.5), ("child", 0.5)))],
)
def test_a_short_manifest_is_named(archive, mirror, document, share):
    assert push(archive, mirror).status == 0
    digest = APP.digest if document == "image" else MANY.manifests[1].digest
    cut(mirror, digest, share)
    untag(mirror)
    done = push(archive, mirror, "--heal")
    assert done.status == 5, done.stdout
    assert any(digest in one["message"] and "is damaged" in one["message"] for one in done.json["problems"])


def test_a_mirror_that_replaces_what_is_short_is_healed(archive):
    with FakeRegistry() as mirror:
        assert push(archive, mirror).status == 0
        digest = blob(APP, OWN)
        mirror.repositories["org/app"].blobs[digest] = OWN[:7]
        assert push(archive, mirror, "--heal").json["uploaded"] == 1
        assert mirror.repositories["org/app"].blobs[digest] == OWN


def test_a_short_blob_is_not_mounted(archive):
    with FakeRegistry() as mirror:
        assert push(archive, mirror).status == 0
        digest = blob(APP, SHARED)
        mirror.repositories["org/app"].blobs[digest] = b""
        del mirror.repositories["org/tool"].blobs[digest]
        assert push(archive, mirror, "--heal").status == 0
        assert {mirror.repositories[name].blobs[digest] for name in ("org/app", "org/tool")} == {SHARED}


def test_a_manifest_of_another_length_is_written_again(archive):
    with FakeRegistry() as mirror:
        assert push(archive, mirror).status == 0
        digest = APP.digest
        media_type, raw = mirror.repositories["org/app"].manifests[digest]
        mirror.repositories["org/app"].manifests[digest] = (media_type, raw[:100])
        done = push(archive, mirror)
        assert done.status == 0, done.stderr
        assert mirror.repositories["org/app"].manifests[digest] == (media_type, raw)


def test_lengths_that_are_not_said_are_no_damage(archive):
    """A proxy that compresses, or answers in chunks, leaves the length out or says another one (RFC 9110, 8.6)."""
    with FakeRegistry() as mirror:
        assert push(archive, mirror).status == 0
        mirror.fault("HEAD", "/blobs/", times=100, status=200, headers={"Content-Encoding": "gzip", "Content-Length": "3"})
        done = push(archive, mirror, "--heal")
        assert (done.status, done.json["uploaded"]) == (0, 0)
