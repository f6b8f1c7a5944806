"""Responses for an archive whose manifests or inventory are wrong."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from common.oci import media_types
from importer.mapping import Mirror
from importer.serving.app import RegistryApp, served_repositories
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
