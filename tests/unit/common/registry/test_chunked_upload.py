"""Uploads that do not go through in one PUT."""

from __future__ import annotations

import random

import pytest

from common.content import Written
from common.errors import RegistryRefusedError
from common.oci.image import Descriptor, digest_of
from common.registry.upload.forms import LEAST_CHUNK
from tests.fakes.registry import FakeRegistry
from tests.samples import more

MIB = 1024 * 1024
CONTENT = random.Random(1).randbytes(3 * MIB + 17)
BLOB = Descriptor("a/b", digest_of(CONTENT), len(CONTENT))


class Source:
    """Content in odd pieces, which counts how often it was opened, and where."""

    def __init__(self, content: bytes = CONTENT, piece: int = 100_000) -> None:
        self.content, self.piece = content, piece
        self.opened: list[int] = []

    def read(self, start):
        self.opened.append(start)
        for position in range(start, len(self.content), self.piece):
            yield self.content[position : position + self.piece]


def upload(registry, connect, source=None):
    source = source or Source()
    client = connect(registry)
    written = client.upload(registry.reference("org/app"), BLOB, source.read)
    assert written is Written.COPIED
    assert registry.find_blob("org/app", BLOB.digest) == CONTENT
    return client


def sizes(registry):
    return [len(r.body) for r in registry.log("PATCH") if r.status == 202]


def test_a_host_that_limits_requests_gets_chunks_that_fit_and_is_remembered(connect):
    with FakeRegistry(max_body=MIB) as registry:
        client = upload(registry, connect)
        assert sum(sizes(registry)) == len(CONTENT)
        assert max(sizes(registry)) <= MIB
        assert min(sizes(registry)[:-1]) >= LEAST_CHUNK
        asked = len(registry.requests)
        client.upload(registry.reference("org/other"), BLOB, Source().read)
        methods = [r.method for r in registry.requests[asked:]]
        assert "PUT" not in methods[: methods.index("PATCH")], "the second blob is not tried in one piece"
        assert 413 not in [r.status for r in registry.requests[asked:]], "nor with chunks that are too large"


@pytest.mark.parametrize("status", [405, 411, 413])
def test_a_put_that_is_refused_for_its_size_or_form_becomes_chunks(connect, status):
    with FakeRegistry() as registry:
        registry.fault("PUT", "/blobs/uploads/", status=status)
        source = Source()
        upload(registry, connect, source)
        assert sizes(registry) == [len(CONTENT)], "smaller than a chunk, so it goes in one"
        assert registry.log("PATCH")[0].headers["Content-Range"] == f"0-{len(CONTENT) - 1}"


def test_a_put_whose_connection_breaks_is_tried_in_chunks(connect):
    with FakeRegistry() as registry:
        registry.fault("PUT", "/blobs/uploads/", drop=True)
        upload(registry, connect)
        assert len(sizes(registry)) == 1


def test_the_registrys_least_chunk_is_kept_to(connect):
    with FakeRegistry(max_body=2 * MIB, chunk_min_length=1_200_000) as registry:
        upload(registry, connect)
        assert all(size >= 1_200_000 for size in sizes(registry)[:-1])


def test_a_limit_below_the_registrys_least_chunk_is_an_error_that_says_so(connect):
    with FakeRegistry(max_body=MIB, chunk_min_length=2 * MIB) as registry:
        client = connect(registry)
        with pytest.raises(RegistryRefusedError, match="HTTP 413") as caught:
            client.upload(registry.reference("org/app"), BLOB, Source().read)
        assert "raise that limit" in caught.value.hint


@pytest.mark.parametrize("fault", [{"drop": True}, {"lose_answer": True}, {"status": 503}])
def test_a_broken_chunk_goes_on_from_where_the_registry_is(connect, fault):
    with FakeRegistry(max_body=MIB) as registry:
        registry.fault("PATCH", "/blobs/uploads/", skip=4, **fault)
        upload(registry, connect)
        assert len(registry.log("POST", "/blobs/uploads/")) == 2, "one for the PUT, one for the chunks: none begins again"
        assert registry.log("GET", "/blobs/uploads/"), "the status was asked"


def test_a_proxy_that_breaks_what_is_too_large_without_a_word_gets_smaller_chunks(connect):
    with FakeRegistry() as registry:
        registry.fault("PUT", "/blobs/uploads/", drop=True)
        registry.fault("PATCH", "/blobs/uploads/", times=3, drop=True)
        upload(registry, connect)
        assert max(sizes(registry)) < len(CONTENT) / 2


def test_the_source_is_read_once_for_all_chunks(connect):
    with FakeRegistry(max_body=MIB) as registry:
        client = upload(registry, connect)
        source = Source()
        client.upload(registry.reference("org/other"), BLOB, source.read)
        assert len(sizes(registry)) > 6
        assert source.opened == [0]


def test_a_forgotten_session_begins_again(connect):
    with FakeRegistry(max_body=MIB) as registry:
        client = upload(registry, connect)
        registry.fault("PATCH", "/blobs/uploads/", skip=1, status=404, body=b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}')
        client.upload(registry.reference("org/other"), BLOB, Source().read)
        assert registry.find_blob("org/other", BLOB.digest) == CONTENT


def test_tokens_that_end_between_chunks_are_renewed(connect):
    with FakeRegistry(auth="token", max_body=MIB) as registry:
        client = connect(registry, login=True)
        registry.fault("PATCH", "/blobs/uploads/", skip=3, status=401)
        registry.fault("PUT", "/blobs/uploads/", skip=1, status=401)
        client.upload(registry.reference("org/app"), BLOB, Source().read)
        assert registry.find_blob("org/app", BLOB.digest) == CONTENT


def test_wrong_content_never_becomes_a_blob(connect):
    with FakeRegistry(max_body=MIB) as registry:
        client = connect(registry)
        wrong = Source(CONTENT[:-1] + b"x")
        with pytest.raises(RegistryRefusedError, match="DIGEST_INVALID"):
            client.upload(registry.reference("org/app"), BLOB, wrong.read)
        assert registry.find_blob("org/app", BLOB.digest) is None


HERE = {"Location": "/v2/org/app/blobs/uploads/opened@0"}


def opens_upload(registry, **headers):
    """Let the next upload be opened with further headers."""
    registry.sessions["opened"] = bytearray()
    registry.fault("POST", "/blobs/uploads/", status=202, headers={**HERE, **headers})


@pytest.mark.parametrize("header", ["X-Registry-Supports-Signatures", *more(["x_registry_supports_signatures"])])
def test_a_registry_that_stores_a_broken_put_is_sent_no_whole_blob(connect, header):
    """Pulp compares the digest only after a PATCH (pulp/pulp_container, app/registry_api.py, BlobUploads.put); Satellite passes its header on."""
    with FakeRegistry() as registry:
        opens_upload(registry, **{header: "1"})
        client = upload(registry, connect)
        client.upload(registry.reference("org/other"), BLOB, Source().read)
        assert sizes(registry) == [len(CONTENT)] * 2, "the host is remembered"
        assert [len(r.body) for r in registry.log("PUT")] == [0, 0]


def test_a_registry_that_stores_a_broken_put_says_so_when_it_does_not_mount(connect):
    with FakeRegistry(mounts=False) as registry:
        opens_upload(registry, **{"X-Registry-Supports-Signatures": "1"})
        client = connect(registry)
        client.upload(registry.reference("org/app"), BLOB, Source().read, [registry.reference("org/other")])
        assert registry.find_blob("org/app", BLOB.digest) == CONTENT
        assert [len(r.body) for r in registry.log("PUT")] == [0]


def test_a_registry_that_stores_a_broken_put_and_refuses_chunks_is_not_asked_for_ever(connect):
    with FakeRegistry() as registry:
        for _ in range(9):
            registry.fault("POST", "/blobs/uploads/", status=202, headers={**HERE, "X-Registry-Supports-Signatures": "1"})
        registry.sessions["opened"] = bytearray()
        registry.fault("PATCH", "/blobs/uploads/", status=400, times=999)
        assert upload(registry, connect)
        assert [r.method for r in registry.log("", "/blobs/uploads/")] == ["POST", "PATCH"] * 2 + ["POST", "PUT"]


def test_a_chunk_of_which_the_registry_lost_a_part_unseen_is_sent_in_another_upload(connect):
    """Pulp's status counts what a broken PATCH announced; the closing PUT is 500 and ends the upload (measured, pulp_container 2.30)."""
    with FakeRegistry() as registry:
        opens_upload(registry, **{"X-Registry-Supports-Signatures": "1"})
        registry.fault("PATCH", "/blobs/uploads/", drop=True)
        registry.fault("GET", "/blobs/uploads/", status=204, headers={"Range": f"0-{len(CONTENT) - 1}"})
        registry.fault("PUT", "/blobs/uploads/", status=500, body=b"<h1>Server Error (500)</h1>")
        upload(registry, connect)
        assert [r.status for r in registry.log("PUT")] == [500, 201]
        assert sizes(registry) == [len(CONTENT)]
