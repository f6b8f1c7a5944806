from __future__ import annotations

import json

import pytest

from common.errors import ContentError, NotFoundError, RegistryRefusedError
from common.oci import media_types
from common.oci.image import MAX_MANIFEST_SIZE, Descriptor, Index, Manifest, digest_of
from common.oci.reference import Reference
from tests.fakes.factories import image, index, seed
from tests.fakes.registry import PASSWORD, USER, FakeRegistry


@pytest.mark.parametrize("docker", [False, True])
def test_document_by_tag_and_by_digest(connect, docker):
    parts = image(labels={"a": "b"}, docker=docker)
    with FakeRegistry() as registry:
        client = connect(registry)
        reference = registry.add_image("org/app", parts, tag="v1")
        by_tag = client.document(reference)
        assert isinstance(by_tag, Manifest)
        assert (by_tag.raw, by_tag.digest, by_tag.media_type) == (parts.raw, parts.digest, parts.media_type)
        assert client.document(reference.pinned(parts.digest)) == by_tag


def test_index_and_its_children(connect):
    parts = index([image(platform="linux/amd64"), image(platform="linux/arm64/v8")])
    with FakeRegistry() as registry:
        client = connect(registry)
        found = client.document(registry.add_image("org/app", parts, tag="v1"))
        assert isinstance(found, Index)
        children = [client.document(Reference(registry.host, "org/app", digest=child.digest)) for child in found.manifests]
        assert [child.raw for child in children] == [child.raw for child in parts.manifests]


def test_head_and_get_send_the_same_accept(connect):
    with FakeRegistry() as registry:
        client = connect(registry)
        reference = registry.add_image("org/app", image(), tag="v1")
        client.head(reference)
        client.document(reference)
        accepts = [r.headers["Accept"] for r in registry.log("", "/manifests/")]
        assert accepts == [", ".join(media_types.ACCEPT)] * 2


def test_head(connect):
    parts = image()
    with FakeRegistry() as registry:
        client = connect(registry)
        reference = registry.add_image("org/app", parts, tag="v1")
        assert client.head(reference) == parts.descriptor
        assert client.head(registry.reference("org/app", "v2")) is None
        assert client.head(registry.reference("org/none", "v2")) is None


@pytest.mark.parametrize("status", [400, 403, 405])
def test_head_that_is_forbidden_is_asked_as_get(connect, status):
    with FakeRegistry() as registry:
        client = connect(registry)
        reference = registry.add_image("org/app", image(), tag="v1")
        registry.fault("HEAD", "/manifests/", times=2, status=status)
        assert client.head(reference) == image().descriptor
        assert client.head(registry.reference("org/app", "v2")) is None


def test_head_with_another_digest_is_an_error(connect):
    digest = digest_of(b"x")
    with FakeRegistry() as registry:
        registry.fault("HEAD", "", status=200, headers={"Docker-Content-Digest": digest_of(b"y"), "Content-Type": "a/b"})
        with pytest.raises(ContentError, match="says that it has"):
            connect(registry).head(Reference(registry.host, "a", digest=digest))


def test_manifest_with_wrong_digest(connect, clock):
    with FakeRegistry() as registry:
        client = connect(registry)
        parts = image()
        reference = registry.add_image("org/app", parts)
        registry.fault("GET", "/manifests/", flip=True)
        assert client.document(reference).raw == parts.raw, "a bad copy once is asked for again"
        registry.fault("GET", "/manifests/", flip=True, times=4)
        assert client.document(reference).raw == parts.raw, "and again, several times"
        asked = registry.log("GET", "/manifests/")
        assert [each.headers.get("Cache-Control") for each in asked] == [None, "no-cache", None, *["no-cache"] * 4]
        assert clock.slept == [0.5, 0.5, 1, 2, 4]
        registry.fault("GET", "/manifests/", flip=True, times=99)
        with pytest.raises(ContentError, match=r"sent a manifest with digest .*, 5 times"):
            client.document(reference)


def test_manifest_that_is_too_large(connect):
    raw = b" " * (MAX_MANIFEST_SIZE + 1)
    with FakeRegistry() as registry:
        digest = registry.add_manifest("org/app", raw, media_types.OCI_MANIFEST)
        with pytest.raises(ContentError, match=f"sends more than {MAX_MANIFEST_SIZE}"):
            connect(registry).document(Reference(registry.host, "org/app", digest=digest))


def test_schema_1_is_refused_by_name(connect):
    with FakeRegistry() as registry:
        registry.add_manifest("org/app", b'{"schemaVersion": 1}', media_types.DOCKER_SCHEMA_1_SIGNED, "old")
        with pytest.raises(ContentError, match="schema 1"):
            connect(registry).document(registry.reference("org/app", "old"))


def test_missing_manifest_says_what_and_what_next(connect):
    with FakeRegistry() as registry:
        registry.add_image("org/app", image(), tag="v1")
        with pytest.raises(NotFoundError) as caught:
            connect(registry).document(registry.reference("org/app", "v2"))
        error = caught.value
        assert (error.status, error.code) == (404, "MANIFEST_UNKNOWN")
        for part in (f"{registry.host}/org/app:v2", "GET manifest", "404", "MANIFEST_UNKNOWN", f"podman login {registry.host}"):
            assert part in str(error)
        assert len(registry.log("GET", "/manifests/")) == 1


def test_put_manifest_by_tag_and_by_digest(connect):
    parts = image()
    with FakeRegistry() as registry:
        client = connect(registry)
        for content in parts.blobs.values():
            registry.add_blob("org/app", content)
        client.put_manifest(registry.reference("org/app", "v1"), parts.raw, parts.media_type)
        client.put_manifest(registry.reference("org/app"), parts.raw, parts.media_type)
        stored = registry.repositories["org/app"]
        assert stored.manifests == {parts.digest: (parts.media_type, parts.raw)}
        assert stored.tags == {"v1": parts.digest}
        assert [r.path.rpartition("/")[2] for r in registry.log("PUT")] == ["v1", parts.digest]
        assert all(r.headers["Content-Type"] == parts.media_type for r in registry.log("PUT"))


def test_put_manifest_without_its_blobs(connect):
    parts = image()
    with FakeRegistry() as registry, pytest.raises(NotFoundError) as caught:
        connect(registry).put_manifest(registry.reference("org/app", "v1"), parts.raw, parts.media_type)
    assert caught.value.code == "MANIFEST_BLOB_UNKNOWN"


def test_put_manifest_that_arrives_changed(connect):
    with FakeRegistry() as registry:
        registry.fault("PUT", "/manifests/", status=201, headers={"Docker-Content-Digest": digest_of(b"other")})
        with pytest.raises(ContentError, match="stored"):
            connect(registry).put_manifest(registry.reference("org/app", "v1"), b"{}", media_types.OCI_MANIFEST)


def test_sparse_index_is_refused_or_taken_as_the_registry_likes(connect):
    parts = index([image(platform="linux/amd64"), image(platform="linux/arm64")])
    with FakeRegistry() as registry:
        client = connect(registry)
        registry.add_image("org/app", parts.manifests[0])
        with pytest.raises(NotFoundError, match="MANIFEST_BLOB_UNKNOWN"):
            client.put_manifest(registry.reference("org/app", "v1"), parts.raw, parts.media_type)
        registry.sparse = True
        client.put_manifest(registry.reference("org/app", "v1"), parts.raw, parts.media_type)
        assert client.head(registry.reference("org/app", "v1")) == parts.descriptor


def test_tags_over_several_pages(connect):
    with FakeRegistry(page=2) as registry:
        client = connect(registry)
        names = [f"v{number}" for number in range(5)]
        for name in names:
            registry.add_image("org/app", image(), tag=name)
        assert list(client.tags(registry.reference("org/app"))) == names
        assert len(registry.log("GET", "/tags/list")) == 3


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"tags": [1]}'])
def test_tags_that_are_none(connect, body):
    with FakeRegistry() as registry, pytest.raises(ContentError, match="not a list of tags"):
        registry.fault("GET", "/tags/", status=200, body=body)
        list(connect(registry).tags(registry.reference("org/app")))


def test_tags_skip_what_is_no_tag(connect):
    with FakeRegistry() as registry:
        registry.fault("GET", "/tags/", status=200, body=json.dumps({"tags": ["ok", "../x", ""]}).encode())
        assert list(connect(registry).tags(registry.reference("org/app"))) == ["ok"]


def test_blob_bytes(connect):
    content = b"0123456789" * 1000
    with FakeRegistry() as registry:
        client = connect(registry)
        blob = registry.add_blob("org/app", content)
        where = registry.reference("org/app")
        assert client.has_blob(where, blob.digest)
        assert not client.has_blob(where, digest_of(b"other"))
        assert client.blob_bytes(where, blob, 10_000) == content
        with pytest.raises(ContentError, match="limit is 9999"):
            client.blob_bytes(where, blob, 9_999)
        registry.fault("GET", "/blobs/", flip=True, times=4)
        assert client.blob_bytes(where, blob, 10_000) == content
        registry.fault("GET", "/blobs/", flip=True, times=99)
        with pytest.raises(ContentError, match=r"damaged 5 times from .*: content has digest"):
            client.blob_bytes(where, blob, 10_000)


def test_empty_blob(connect):
    with FakeRegistry() as registry:
        client = connect(registry)
        blob = registry.add_blob("org/app", b"")
        assert client.blob_bytes(registry.reference("org/app"), blob, 0) == b""
        client.upload(registry.reference("org/b"), blob, lambda _start: iter([]))
        assert registry.repositories["org/b"].blobs == {blob.digest: b""}


def test_blob_that_is_longer_than_its_size(connect):
    with FakeRegistry() as registry:
        blob = registry.add_blob("org/app", b"longer than said")
        with pytest.raises(ContentError, match="sends more than the 4 bytes"):
            list(connect(registry).blob(registry.reference("org/app"), Descriptor("a/b", blob.digest, 4)))


def test_ping(connect):
    with FakeRegistry() as registry:
        connect(registry).ping(registry.host)
        assert [r.path for r in registry.log("GET")][-1] == "/v2/"


def test_ping_of_something_else(connect):
    with FakeRegistry() as registry:
        registry.fault("GET", "/v2/", skip=1, status=404)
        with pytest.raises(NotFoundError, match="does not speak the registry protocol"):
            connect(registry).ping(registry.host)


def test_error_bodies_are_bounded_and_cleaned(connect):
    message = "bad \x1b[31m" + "x" * 100_000
    with FakeRegistry() as registry:
        client = connect(registry)
        body = json.dumps({"errors": [{"code": "DENIED", "message": message[:1000]}]}).encode()
        registry.fault("GET", "/manifests/", status=418, body=body)
        with pytest.raises(RegistryRefusedError) as short:
            client.document(registry.reference("a", "b"))
        registry.fault("GET", "/manifests/", status=418, body=message.encode())
        with pytest.raises(RegistryRefusedError) as long:
            client.document(registry.reference("a", "b"))
    assert "DENIED (bad [31mx" in str(short.value)
    assert len(str(short.value)) < 600
    assert "\x1b" not in str(short.value)
    assert "xxx" not in str(long.value)


def test_no_cookie_is_kept(connect):
    with FakeRegistry() as registry:
        client = connect(registry)
        client.ping(registry.host)
        client.ping(registry.host)
        assert not [r for r in registry.requests if "Cookie" in r.headers]


def test_seed_fills_any_registry(connect):
    parts = index([image(), image(platform="linux/arm64")])
    with FakeRegistry(auth="basic", tls=True) as registry:
        seed(registry.url, "org/app", parts, tag="v1", login=(USER, PASSWORD), ca=registry.ca)
        assert connect(registry, login=True).document(registry.reference("org/app", "v1")).raw == parts.raw
