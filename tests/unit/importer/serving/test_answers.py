"""Answers to an inventory that lies."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from starlette.requests import Request

from importer.mapping import Mirror
from importer.serving.app import RegistryApp
from importer.serving.offer import offer_of
from tests.fakes.archives import CUT


@pytest.mark.parametrize("media_type", ["text/\u4e2d", "a/b\r\nX-Evil: 1", "a/b; c=d", "", "a"])
def test_a_media_type_that_is_none_gets_into_no_header(media_type: str) -> None:
    inventory = CUT.inventory(CUT.layout())
    records = {digest: replace(record, media_type=media_type) for digest, record in inventory.manifests.items()}
    inventory = replace(inventory, manifests=records)
    app = RegistryApp(SimpleNamespace(inventory=inventory, manifest=bytes), offer_of(inventory, Mirror("localhost")))
    path = f"/v2/small/manifests/{inventory.images[0].digest}"
    answer = app.answer(Request({"type": "http", "method": "HEAD", "path": path, "headers": [], "query_string": b""}))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/octet-stream")
