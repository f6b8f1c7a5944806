"""A mirror that does not say whether it has a blob (goharbor/harbor#13973, SgtSilvio/gradle-oci#154): push, and receipt."""

from __future__ import annotations

import pytest

from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.integration
APP = image([b"a layer" * 50, b"another layer" * 50])


def test_what_is_not_known_is_uploaded_and_not_confirmed(tmp_path):
    with FakeRegistry() as source, FakeRegistry() as mirror:
        source.add_image("org/app", APP, tag="v1")
        create = ("--image", f"{source.host}/org/app:v1", "--insecure", source.host, "--output", tmp_path / "out")
        assert run("hub-export", "create", *create).status == 0
        place = ("--registry", mirror.host, "--insecure", mirror.host, "--format", "json")
        mirror.fault("HEAD", "/blobs/sha256:", times=100, status=405)
        mirror.fault("GET", "/blobs/sha256:", times=100, status=400)
        pushed = run("hub-import", "push", tmp_path / "out", *place)
        assert pushed.status == 0, pushed.stderr
        assert pushed.json["uploaded"] == len(APP.blobs) == len(mirror.repositories["org/app"].blobs)
        receipt = run("hub-import", "receipt", tmp_path / "out", *place, "--output", tmp_path / "receipt.json")
        assert receipt.status == 0, receipt.stderr
        assert (receipt.json["blobs"], receipt.json["inventories"]) == (0, [])
        assert "3 requests were not answered, and nothing is confirmed by them; the first: " in receipt.stderr
        assert "HTTP 405" in receipt.stderr
