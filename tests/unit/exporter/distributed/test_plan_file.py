"""A plan from a file is believed as far as its parts fit each other, and made again to the byte."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import pytest

from common.errors import UsageError
from common.oci.image import digest_of
from common.serialization import pretty_json
from common.storage.location import S3Location
from exporter.archive.archive_spec import ArchiveSpec
from exporter.catalog.readers import file_based
from exporter.cli import listing
from exporter.distributed import plan_file
from exporter.report.preview import Preview
from tests.fakes import reports
from tests.fakes.catalogs import CATALOGS


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """The document of a plan, as `plan --output` writes it, and what it was made of."""
    catalog = file_based.load_directory(CATALOGS / "fbc" / "redhat")
    made = reports.planned(catalog, ["openshift-cert-manager-operator"])
    settings = reports.reported(made, tmp_path_factory.mktemp("out")).settings
    whole = listing.plan_document(Preview(made, settings), explain=False) | listing.making_document(Preview(made, settings))
    return made, settings, b"".join(plan_file.encode(whole))


def load(tmp_path, raw):
    (tmp_path / "plan.json").write_bytes(raw)
    return plan_file.load(tmp_path / "plan.json")


def test_what_is_read_makes_the_same_archive(document, tmp_path):
    made, settings, raw = document
    found, spec = load(tmp_path, raw), ArchiveSpec(made.plan, settings.terms)
    assert found.spec.layout == spec.layout
    assert found.spec.closing({}, None).identity == spec.closing({}, None).identity
    assert found.spec.closing({}, None).region() == spec.closing({}, None).region()
    assert found.spec.plan.places == made.plan.places


def test_the_file_is_indented_json_with_sorted_keys(document):
    """People compare plans with diff(1)."""
    assert document[2] == pretty_json(json.loads(document[2]))


def changed(document, change):
    found = json.loads(document[2])
    change(found)
    return json.dumps(found).encode()


HELD = {f"sha256:{'0' * 64}": base64.b64encode(b"other").decode()}
DIGEST = f"sha256:{'0' * 64}"


def first(d):
    """The first blob, as it is made."""
    return d["making"]["blobs"][0]


def resized(d, size):
    """Give a blob another size, wherever the plan says it but in the manifest."""
    first(d)["descriptor"].update(size=size)
    d["blobs"][first(d)["descriptor"]["digest"]].update(size=size)


def renamed(d, name):
    """Give a blob another digest, wherever the plan says it but in the manifest."""
    d["blobs"][name] = d["blobs"].pop(first(d)["descriptor"]["digest"])
    first(d)["descriptor"].update(digest=name)


def without_a_blob(d):
    del d["blobs"][d["making"]["blobs"].pop()["descriptor"]["digest"]]


def stored(d, stored):
    first(d).update(encoding="zstd", stored=stored)
    d["blobs"][first(d)["descriptor"]["digest"]].update(encoding="zstd")


def left_to(d, holder):
    blob = d["making"]["blobs"].pop()["descriptor"]
    d["blobs"][blob["digest"]] = {"size": blob["size"], "mediaType": blob["mediaType"], "in": holder}


def with_a_child_of_many_parents(d):
    """Indexes in indexes, much deeper than any registry is asked for."""
    child = d["making"]["documents"][0]
    raw, kind = base64.b64decode(child["raw"]), child["mediaType"]
    for _ in range(1500):
        listed = {"mediaType": kind, "digest": digest_of(raw), "size": len(raw)}
        kind = "application/vnd.oci.image.index.v1+json"
        raw = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [listed]}).encode()
        d["making"]["documents"].append({"mediaType": kind, "raw": base64.b64encode(raw).decode()})
        d["manifests"][digest_of(raw)] = {"mediaType": kind, "size": len(raw), "manifests": [listed["digest"]]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("making"), "not a plan"),
        (lambda d: d["making"].pop("blobs"), "not a plan"),
        (lambda d: d["making"].update(parity="1/0"), "not a plan: parity '1/0'"),
        (lambda d: d["making"].update(parity="x"), "not a plan: parity 'x'"),
        (lambda d: d["making"].update(parity="1e99999999"), "not a plan: parity '1e99999999'"),
        (lambda d: d["making"].update(parity="-1/20"), "not a plan: parity '-1/20'"),
        (lambda d: d["making"].update(parity="21/20"), "not a plan: parity '21/20'"),
        (lambda d: d["making"].update(parity="٣/20"), "not a plan: parity"),
        (lambda d: d["making"].update(parity="9" * 100_000), "not a plan: parity"),
        (lambda d: d["making"].update(volumeSize=5), "not a plan: its volumes are larger than 5 bytes"),
        (lambda d: d["making"].update(volumeSize=-(10**30)), "not a plan: its volumes are larger than -1"),
        (lambda d: d["making"]["documents"].pop(), "not just the manifests"),
        (lambda d: d["making"]["documents"].append({"mediaType": "x", "raw": "e30="}), "neither an image manifest"),
        (lambda d: d["making"]["documents"].append({"mediaType": "x", "raw": "?"}), "not a plan"),
        (lambda d: next(iter(d["manifests"].values())).update(size=7), "not just the manifests"),
        (lambda d: next(iter(d["manifests"].values())).update(subject=DIGEST), "not just the manifests"),
        (with_a_child_of_many_parents, "nested deeper than"),
        (lambda d: d["making"]["blobs"].pop(), "not just the blobs"),
        (lambda d: d["making"]["blobs"].append(d["making"]["blobs"][0]), "not just the blobs"),
        (lambda d: first(d)["descriptor"].update(size=-1), "not just the blobs that it lists"),
        (without_a_blob, "not just the blobs that its manifests need"),
        (lambda d: renamed(d, f"sha512:{0:0128}"), "not just the blobs that its manifests need"),
        (lambda d: renamed(d, "sha512:0"), "of length >= 71 - at `key` in `$.blobs`"),
        (lambda d: resized(d, -1), "-1 bytes are not what its manifest says"),
        (lambda d: resized(d, 1 << 80), "bytes are not what its manifest says"),
        (lambda d: stored(d, 0), "cannot be stored in 0 bytes"),
        (lambda d: stored(d, -(10**12)), "cannot be stored in -1"),
        (lambda d: stored(d, 1 << 62), "cannot be stored in 4"),
        (lambda d: stored(d, None), "cannot be stored in None"),
        (lambda d: first(d).update(stored=5), "cannot be stored in 5"),
        (lambda d: left_to(d, "sha256:x"), "not a digest"),
        (lambda d: d.update(requires=["x"]), "of length >= 71 - at `$.requires[0]`"),
        (lambda d: d["images"][0].update(digest=DIGEST), "has no such manifest"),
        (lambda d: d["images"][0].update(digest=None), "is complete, but its manifest"),
        (lambda d: d["catalogs"][0].update(image=DIGEST), "has no such manifest"),
        (lambda d: d["catalogs"][0].update(digest="x"), "not a digest"),
        (lambda d: d["making"]["held"].update(HELD), "not what its digest says"),
        (lambda d: d["making"]["blobs"][0].update(places=["not a reference at all"]), "not a reference"),
        (lambda d: d["volumes"][0].update(dataSize=5), "lays out volumes in another way"),
        (lambda d: d.update(mediaType="application/vnd.hub-airgap.inventory.v9+json"), "a plan of another version"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(change, said, document, tmp_path):
    with pytest.raises(UsageError) as raised:
        load(tmp_path, changed(document, change))
    assert said in raised.value.message


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b"null", b'{"mediaType": "x"}', b"[" * 100_000])
def test_what_is_no_plan_is_refused(raw, tmp_path):
    with pytest.raises(UsageError, match=r"not a plan"):
        load(tmp_path, raw)


def test_a_plan_that_is_not_in_object_storage_is_the_callers_mistake():
    """As a file that is not there."""
    empty = SimpleNamespace(stat=lambda _bucket, _key: None)
    with pytest.raises(UsageError, match=r"s3://hub/plan\.json: there is no such object"):
        plan_file.load(S3Location("hub", "plan.json", empty))
