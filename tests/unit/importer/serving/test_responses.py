"""Responses for an archive whose manifests or inventory are wrong."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from common.oci import media_types
from common.oci.image import digest_of
from importer.mapping import Mirror
from importer.serving.app import MAX_PAGE, RegistryApp, Repository, served_repositories
from tests.fakes.archives import CUT


def asked(inventory_type: str, document_type: str, method: str = "HEAD") -> Response:
    """Ask for a manifest of which the inventory says one media type, and the document another; none where it is empty."""
    inventory = CUT.inventory(CUT.layout())
    records = {digest: replace(record, media_type=inventory_type) for digest, record in inventory.manifests.items()}
    inventory = replace(inventory, manifests=records)
    documents = {digest: json.loads(raw) | {"mediaType": document_type} for digest, raw in CUT.manifests.items()}
    archive = SimpleNamespace(inventory=inventory, manifest=lambda digest: json.dumps(documents[digest]).encode())
    path = f"/v2/small/manifests/{inventory.images[0].digest}"
    request = Request({"type": "http", "method": method, "path": path, "headers": [], "query_string": b""})
    return RegistryApp(archive, served_repositories(inventory, Mirror("localhost"))).answer(request)


@pytest.mark.parametrize("media_type", ["text/\u4e2d", "a/b\r\nX-Evil: 1", "a/b; c=d", "a"])
def test_a_media_type_that_is_none_gets_into_no_header(media_type: str) -> None:
    answer = asked(media_type, media_type)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/octet-stream")


@pytest.mark.parametrize("noted", ["application/json", "text/plain", media_types.DOCKER_MANIFEST, "a/b\r\nX-Evil: 1", ""])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_media_type_is_that_of_the_document(noted: str, method: str) -> None:
    assert asked(noted, "", method).headers["Content-Type"] == media_types.OCI_MANIFEST
    assert asked(noted, media_types.DOCKER_MANIFEST, method).headers["Content-Type"] == media_types.DOCKER_MANIFEST
    assert (
        asked(noted, "application/vnd.example.manifest+json").headers["Content-Type"] == "application/vnd.example.manifest+json"
    )


def referrer_pages(sizes: list[int], query: str = "") -> list[tuple[int, int]]:
    """Ask for the referrers of an image, page by page; return of each how many it lists, and how many were read for it.

    `sizes`: what the inventory says of each.
    """
    subject = digest_of(b"subject")
    documents = {}
    for number in range(len(sizes)):
        config = {"mediaType": "a/b", "size": 2, "digest": digest_of(b"{}")}
        raw = json.dumps({"schemaVersion": 2, "config": config, "layers": [], "annotations": {"n": str(number)}}).encode()
        documents[digest_of(raw)] = raw
    records = {digest: SimpleNamespace(media_type="", size=size) for digest, size in zip(sorted(documents), sizes, strict=True)}
    read: list[str] = []
    inventory = SimpleNamespace(manifests=records)
    archive = SimpleNamespace(inventory=inventory, manifest=lambda digest: read.append(digest) or documents[digest])
    repository = Repository({}, frozenset(), frozenset(), {subject: tuple(sorted(documents))})
    app = RegistryApp(archive, {"org/app": repository})
    path, pages, listed = f"/v2/org/app/referrers/{subject}", [], []
    while True:
        before = len(read)
        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": query.encode()}
        answer = app.answer(Request(scope))
        page = json.loads(answer.body)["manifests"]
        listed += [each["digest"] for each in page]
        pages.append((len(page), len(read) - before))
        if "Link" not in answer.headers:
            assert listed == (sorted(documents) if "artifactType" not in query else [])
            return pages
        query = answer.headers["Link"].split("?")[1].split(">")[0]


def test_a_page_of_referrers_reads_a_bounded_number_of_manifests() -> None:
    """An archive decides how many refer to one image: each request parsed all of them."""
    assert referrer_pages([100] * 100) == [(100, 100)]
    assert referrer_pages([100] * 101) == [(100, 100), (1, 1)]
    none = "artifactType=application/vnd.example.none"
    assert referrer_pages([100] * MAX_PAGE, none) == [(0, MAX_PAGE)]
    assert referrer_pages([100] * (MAX_PAGE + 1), none) == [(0, MAX_PAGE), (0, 1)]


def test_a_page_of_referrers_has_4_mib_of_manifests() -> None:
    """Annotations are of any length, and clients take an index of 4 MiB (distribution specification, *Pushing Manifests*)."""
    half = 2 << 20
    assert referrer_pages([half, half]) == [(2, 2)]
    assert referrer_pages([half, half + 1, 1, 16 << 20]) == [(1, 1), (2, 2), (1, 1)]


EMPTY = json.dumps({"schemaVersion": 2, "manifests": []}).encode()


def test_small_manifests_stay_in_memory_and_large_ones_do_not() -> None:
    subject = digest_of(b"subject")
    for count, size, again in ((128, 256 << 10, 0), (129, 256 << 10, 129), (2, (256 << 10) + 1, 2)):
        digests = tuple(sorted(digest_of(b"%d" % number) for number in range(count)))
        records = {digest: SimpleNamespace(media_type=media_types.OCI_INDEX, size=size) for digest in digests}
        read: list[str] = []
        archive = SimpleNamespace(
            inventory=SimpleNamespace(manifests=records), manifest=lambda digest, read=read: read.append(digest) or EMPTY
        )
        app = RegistryApp(archive, {"a": Repository({}, frozenset(digests), frozenset(), {subject: ()})})
        counts = []
        for _ in range(3):  # the first round reads the media types, too
            read.clear()
            for digest in digests:
                path = f"/v2/a/manifests/{digest}"
                scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
                assert app.answer(Request(scope)).body == EMPTY
            counts.append(len(read))
        assert counts[2] == again


def test_pages_of_lists_have_a_thousand_entries() -> None:
    for count, listed in ((MAX_PAGE, MAX_PAGE), (MAX_PAGE + 1, MAX_PAGE)):
        tags = dict.fromkeys([f"t{number:05}" for number in range(count)], digest_of(b""))
        app = RegistryApp(SimpleNamespace(inventory=None, manifest=str), {"a": Repository(tags, frozenset(), frozenset(), {})})
        for query in (b"", b"n=100000"):
            scope = {"type": "http", "method": "GET", "path": "/v2/a/tags/list", "headers": [], "query_string": query}
            answer = app.answer(Request(scope))
            assert len(json.loads(answer.body)["tags"]) == listed
            assert ("Link" in answer.headers) == (count > listed)
