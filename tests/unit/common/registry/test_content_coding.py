"""Responses with Content-Encoding, although `identity` is asked for.

registry.access.redhat.com compresses configs (quay/quay#1310), proxies before Harbor compress manifests
(oras-project/oras-go#1177), and Apache names layers that are stored as gzip `x-gzip` (moby/moby#17595).
"""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import pytest
import zstandard

from common.content import verified
from common.errors import ContentError, DamagedError, NotFoundError, RegistryRefusedError
from common.oci.image import MAX_MANIFEST_SIZE, Descriptor, digest_of
from common.oci.media_types import OCI_INDEX
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry
from tests.samples import more

APP = image([b"app"])


def bare_deflate(content):
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(content) + deflater.flush()


ENCODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "GZIP": gzip.compress,
    "identity, gzip": gzip.compress,
    "deflate, gzip": lambda content: gzip.compress(bare_deflate(content)),
}


def answered(registry, part, content, coding, method="GET", **fault):
    """Let the registry answer with `content`, encoded."""
    body = ENCODERS[coding](content)
    fault = {"status": 200, "body": body, "times": 100, **fault}
    registry.fault(method, part, headers={"Content-Encoding": coding, **fault.pop("headers", {})}, **fault)


@pytest.mark.parametrize("coding", ["gzip", "zstd", "deflate, gzip", *more(["x-gzip", "deflate", "GZIP", "identity, gzip"])])
@pytest.mark.parametrize("parts", [APP, index([APP])], ids=["manifest", "index"])
def test_a_document_is_decoded_by_tag_and_by_digest(connect, coding, parts):
    with FakeRegistry() as registry:
        tagged = registry.add_image("org/app", parts, "v1")
        client = connect(registry)
        answered(registry, "/manifests/", parts.raw, coding)
        for reference in (tagged, tagged.pinned(parts.digest)):
            document = client.document(reference)
            assert (document.raw, document.media_type) == (parts.raw, parts.media_type)
        answered(registry, "/manifests/", b"", coding, "HEAD")
        assert client.head(tagged) == Descriptor(parts.media_type, parts.digest, len(parts.raw))


def test_bytes_that_are_right_as_they_are_stay_so(connect):
    with FakeRegistry() as registry:
        tagged = registry.add_image("org/app", APP, "v1")
        layer = gzip.compress(b"a layer" * 1000)
        blob = registry.add_blob("org/app", layer)
        client = connect(registry)
        for coding in ("gzip", "br", "a lie"):
            registry.fault("GET", "/manifests/", times=2, status=200, body=APP.raw, headers={"Content-Encoding": coding})
            assert client.document(tagged).digest == client.document(tagged.pinned(APP.digest)).digest == APP.digest
        registry.fault("GET", "/blobs/", status=200, body=layer, headers={"Content-Encoding": "x-gzip"})
        assert client.blob_bytes(registry.reference("org/app"), blob, 10**6) == layer
        assert len(registry.log("GET", "/blobs/")) == 1


@pytest.mark.parametrize("length", [True, False], ids=["with a length", "in chunks"])
@pytest.mark.parametrize("content", [b'{"os": "linux"}' * 100, gzip.compress(b"a layer" * 1000)], ids=["config", "gzip layer"])
def test_a_blob_is_decoded_where_its_bytes_are_others(connect, content, length):
    with FakeRegistry() as registry:
        blob = registry.add_blob("org/app", content)
        client = connect(registry)
        headers = {} if length else {"Transfer-Encoding": "chunked", "Content-Length": ""}
        body = gzip.compress(content)
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        headers["Content-Encoding"] = "gzip"
        registry.fault("GET", "/blobs/", status=200, body=body if length else chunked, headers=headers)
        assert client.blob_bytes(registry.reference("org/app"), blob, 10**6) == content
        assert len(registry.log("GET", "/blobs/")) == 1


def test_an_encoded_blob_in_chunks_that_is_right_as_it_is_comes_with_the_second_try(connect):
    with FakeRegistry() as registry:
        layer = gzip.compress(b"a layer" * 1000)
        blob = registry.add_blob("org/app", layer)
        headers = {"Transfer-Encoding": "chunked", "Content-Length": "", "Content-Encoding": "x-gzip"}
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(layer), layer)
        registry.fault("GET", "/blobs/", times=2, status=200, body=body, headers=headers)
        assert connect(registry).blob_bytes(registry.reference("org/app"), blob, 10**6) == layer
        assert len(registry.log("GET", "/blobs/")) == 2


def test_an_encoded_blob_continues_from_its_beginning(connect):
    with FakeRegistry() as registry:
        content = bytes(range(256)) * 2000
        blob = registry.add_blob("org/app", content)
        body = gzip.compress(content, 0)
        for fault in ({"cut_after": 300_000}, {"status": 206, "body": body[9:]}, {}):
            more_headers = {"Content-Range": f"bytes 299000-{len(body) - 1}/{len(body)}"} if "status" in fault else {}
            headers = {"Content-Encoding": "gzip", **more_headers}
            registry.fault("GET", "/blobs/", headers=headers, **{"status": 200, "body": body, **fault})
        read = b"".join(map(bytes, verified(connect(registry).blob(registry.reference("org/app"), blob), blob)))
        assert read == content
        ranges = [each.headers.get("Range", "") for each in registry.log("GET", "/blobs/")]
        assert [bool(each) for each in ranges] == [False, True, False]


def test_a_bomb_ends_at_the_limit(connect):
    with FakeRegistry() as registry:
        tagged = registry.add_image("org/app", APP, "v1")
        client = connect(registry)
        bomb = gzip.compress(bytes(MAX_MANIFEST_SIZE * 2), 1)
        headers = {"Content-Encoding": "gzip"}
        registry.fault("GET", "/manifests/", times=100, status=200, body=bomb, headers=headers)
        tracemalloc.start()
        with pytest.raises(ContentError, match=f"limit of {MAX_MANIFEST_SIZE} bytes"):
            client.document(tagged)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 3 * MAX_MANIFEST_SIZE
        blob = registry.add_blob("org/app", b"x" * 1000)
        registry.fault("GET", "/blobs/", times=100, status=200, body=bomb, headers=headers)
        with pytest.raises(DamagedError, match="grows past its limit of 1000 bytes"):
            client.blob_bytes(registry.reference("org/app"), blob, 10**6)


@pytest.mark.parametrize("coding", ["br", *more(["compress", "gzip, br", "gzip, gzip, gzip, gzip", "\x7f\x1b[1m"])])
def test_a_coding_that_is_not_known_is_named(connect, coding):
    with FakeRegistry() as registry:
        tagged = registry.add_image("org/app", APP, "v1")
        blob = registry.add_blob("org/app", b"config")
        client = connect(registry)
        answer = {"times": 100, "status": 200, "body": b"\x0b\x02\x80", "headers": {"Content-Encoding": coding}}
        registry.fault("GET", "org/app/", **answer)
        for action in (
            lambda: client.document(tagged),
            lambda: client.document(tagged.pinned(APP.digest)),
            lambda: client.blob_bytes(registry.reference("org/app"), blob, 100),
            lambda: list(client.tags(tagged)),
        ):
            with pytest.raises(RegistryRefusedError) as caught:
                action()
            assert repr(coding) in caught.value.message
            assert "gzip" in caught.value.hint


def test_lists_and_errors_are_decoded(connect):
    with FakeRegistry() as registry:
        tagged = registry.add_image("org/app", APP, "v1")
        client = connect(registry)
        answered(registry, "/tags/", b'{"tags": ["v1"]}', "gzip")
        assert list(client.tags(tagged)) == ["v1"]
        listed = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        answered(registry, "/referrers/", json.dumps(listed).encode(), "gzip")
        assert client.has_referrers_api(tagged.pinned(APP.digest))
        words = json.dumps({"errors": [{"code": "NAME_UNKNOWN", "message": "no such name"}]}).encode()
        answered(registry, "/manifests/", words, "gzip", status=404)
        with pytest.raises(NotFoundError, match=r"NAME_UNKNOWN \(no such name\)") as caught:
            client.document(tagged)
        assert caught.value.code == "NAME_UNKNOWN"


@pytest.mark.parametrize("coding", ["br", *more(["gzip"])])
def test_an_error_whose_coding_cannot_be_undone_has_no_words(connect, coding):
    with FakeRegistry() as registry:
        tagged = registry.add_image("org/app", APP, "v1")
        body = b"\x0bgarbled words\x80"
        registry.fault("GET", "/manifests/", status=404, body=body, headers={"Content-Encoding": coding})
        with pytest.raises(NotFoundError) as caught:
            connect(registry).document(tagged)
        assert caught.value.message.endswith(": HTTP 404")


def test_encoded_bytes_of_another_document_are_damaged(connect):
    with FakeRegistry() as registry:
        reference = registry.add_image("org/app", APP, "v1").pinned(APP.digest)
        other = image([b"other"])
        answered(registry, "/manifests/", other.raw, "gzip")
        with pytest.raises(DamagedError, match=digest_of(other.raw)):
            connect(registry).document(reference)
