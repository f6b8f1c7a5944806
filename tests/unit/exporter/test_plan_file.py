"""A plan from a file is believed as far as its parts fit each other, and made again to the byte."""

from __future__ import annotations

import base64
import json

import pytest

from common.errors import UsageError
from common.serialization import pretty_json
from exporter import listing, plan_file
from exporter.blueprint import Blueprint
from exporter.catalog import file_based
from tests.fakes import reports
from tests.fakes.catalogs import CATALOGS


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """The document of a plan, as `plan --output` writes it, and what it was made of."""
    catalog = file_based.load_directory(CATALOGS / "fbc" / "redhat")
    made = reports.planned(catalog, ["openshift-cert-manager-operator"])
    settings = reports.reported(made, tmp_path_factory.mktemp("out")).settings
    whole = listing.plan_document(made, settings, explain=False) | listing.making_document(made, settings)
    return made, settings, pretty_json(whole)


def load(tmp_path, raw):
    (tmp_path / "plan.json").write_bytes(raw)
    return plan_file.load(tmp_path / "plan.json")


def test_what_is_read_makes_the_same_archive(document, tmp_path):
    made, settings, raw = document
    found, drawn = load(tmp_path, raw), Blueprint(made.plan, settings.terms)
    assert found.drawn.layout == drawn.layout
    assert found.drawn.closing({}, None).content == drawn.closing({}, None).content
    assert found.drawn.closing({}, None).region == drawn.closing({}, None).region
    assert found.drawn.plan.places == made.plan.places


def changed(document, change):
    found = json.loads(document[2])
    change(found)
    return json.dumps(found).encode()


HELD = {f"sha256:{'0' * 64}": base64.b64encode(b"other").decode()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("making"), "not a plan"),
        (lambda d: d["making"].pop("blobs"), "not a plan"),
        (lambda d: d["making"].update(parity="1/0"), "not a plan"),
        (lambda d: d["making"].update(parity="x"), "not a plan"),
        (lambda d: d["making"]["documents"].pop(), "not just the manifests"),
        (lambda d: d["making"]["documents"].append({"mediaType": "x", "raw": "e30="}), "neither an image manifest"),
        (lambda d: d["making"]["documents"].append({"mediaType": "x", "raw": "?"}), "not a plan"),
        (lambda d: d["making"]["blobs"].pop(), "not just the blobs"),
        (lambda d: d["making"]["blobs"].append(d["making"]["blobs"][0]), "not just the blobs"),
        (lambda d: d["making"]["held"].update(HELD), "not what its digest says"),
        (lambda d: d["making"]["blobs"][0].update(places=["not a reference at all"]), "not a reference"),
        (lambda d: d["volumes"][0].update(dataSize=5), "lays out volumes in another way"),
        (lambda d: d.update(mediaType="application/vnd.hub-airgap.inventory.v9+json"), "a plan of another version"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(change, said, document, tmp_path):
    with pytest.raises(UsageError) as raised:
        load(tmp_path, changed(document, change))
    assert said in str(raised.value)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b"null", b'{"mediaType": "x"}', b"[" * 100_000])
def test_what_is_no_plan_is_refused(raw, tmp_path):
    with pytest.raises(UsageError, match=r"not a plan"):
        load(tmp_path, raw)
