"""The contents of the report: reasons, changes, missing images, signatures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replaced

from common.archive.inventory import (
    BundleRecord,
    ChannelRecord,
    ImageKind,
    ImageRecord,
    Inventory,
    ManifestRecord,
    PackageRecord,
)
from common.oci.image import Digest, digest_of, hex_of
from exporter.plan import diff
from exporter.plan.planning import Planned
from exporter.report import contents
from exporter.report.contents import Background, Purpose, sizes_by_operator
from tests.fakes import inventories, reports
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, real

CATALOG = "fbc/community-v4.20"


def needing():
    """A catalog in which foo needs bar."""
    foo = bundle_blob("foo.v1.0.0")
    foo["properties"].append({"type": "olm.package.required", "value": {"packageName": "bar", "versionRange": ">=2.0.0"}})
    bars = [bundle_blob(name, package="bar") for name in ("bar.v1.0.0", "bar.v2.1.0")]
    entries = [entry("bar.v2.1.0", "bar.v1.0.0"), entry("bar.v1.0.0")]
    return catalog_of(
        *(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), foo),
        *(package_blob("bar"), channel_blob("stable", entries, package="bar"), *bars),
    )


def test_a_dependency_has_the_reason_why_it_is_carried(tmp_path: Path) -> None:
    page = reports.reported(reports.planned(needing(), ["foo"]), tmp_path).page.decode()
    assert page.count("added because needed</li>") == 1
    section = page.partition('<section id="added">')[2].partition("</section>")[0]
    assert ">bar.v2.1.0</a>" in section
    assert "required by foo 1.0.0: package bar &gt;=2.0.0" in section
    whole = reports.reported(reports.planned(needing(), full=True), tmp_path).page.decode()
    assert '<section id="added">' not in whole, "who asked for everything asked for this too"


def test_operators_come_by_title_with_versions_default_channel_first(tmp_path: Path) -> None:
    made = reports.reported(reports.planned(real(CATALOG), full=True), tmp_path)
    (part,) = contents.catalogs(made.inventory, sizes_by_operator(made.inventory), Background())
    assert [one.package for one in part.operators] == sorted(one.package for one in part.operators)
    for one in part.operators:
        names = [version.bundle for version in one.versions]
        assert len(names) == len(set(names)), "each once, however many channels it is in"
        assert one.default_channel in one.versions[0].channels
        assert one.head == one.versions[0].version
        assert one.images >= len([version for version in one.versions if version.version])
        assert one.size >= one.shared > 0


def test_images_that_are_not_whole_count_for_their_operators(tmp_path: Path) -> None:
    made = reports.reported(reports.planned(real(CATALOG), ["infinispan"], lost=["infinispan/operator"]), tmp_path)
    (part,) = contents.catalogs(made.inventory, sizes_by_operator(made.inventory), Background())
    lost = [image for image in made.inventory.images if not image.complete]
    assert lost
    assert part.operators[0].incomplete == len(lost)
    rows = contents.image_rows(made.inventory, {})
    assert sum("incomplete" in row.words.split() for row in rows) == len(lost)
    assert b"never found" in made.page


def test_signatures_stand_with_their_images(tmp_path: Path) -> None:
    inventory = reports.reported(reports.planned(real(CATALOG), ["infinispan"]), tmp_path).inventory
    rows = contents.image_rows(inventory, {})
    signed = [row for row in rows if row.signed]
    assert {row.record.kind for row in signed} == {ImageKind.BUNDLE}
    assert sum(len(row.attached) for row in rows) + len(rows) == len(inventory.images)
    (origin,) = [one for one in contents.origins(inventory, rows) if one.signed]
    assert origin.signed == len(signed)
    stray = replace_source(inventory, "sha256-", "unheard-of-")
    assert len(contents.image_rows(stray, {})) == len(inventory.images), "one that belongs to nothing stands alone"


def attached(digest: Digest, subject: Digest, kind: ImageKind = ImageKind.ATTACHMENT) -> tuple[ImageRecord, ManifestRecord]:
    record = inventories.image(f"quay.io/org/app@{digest}", digest, kind)
    return record, ManifestRecord("", 1, blobs=(), subject=subject)


def test_attachments_of_attachments_stand_with_the_image():
    """Referrers have referrers, such as the signature of an SBOM: the person who approves the archive sees them too."""
    app, bom, signature, third = (digest_of(name) for name in (b"app", b"bom", b"signature", b"third"))
    found = [
        (inventories.image("quay.io/org/app:v1", app), ManifestRecord("", 1, blobs=())),
        attached(bom, app),
        attached(signature, bom, ImageKind.SIGNATURE),
        attached(third, signature),
    ]
    inventory = replaced(
        inventories.inventory(*(image for image, _ in found), catalogs=()),
        manifests={image.digest: manifest for image, manifest in found},
    )
    (row,) = contents.image_rows(inventory, {})
    assert [one.digest for one in row.attached] == [bom]
    assert [one.digest for one in row.further] == [signature, third]
    assert not row.signed, "the signature is one of its SBOM"


def test_an_image_that_is_attached_to_itself_is_shown():
    """The tag of cosign has the digest of its subject: anybody may give it to that image itself."""
    digest = digest_of(b"app")
    image = inventories.image(f"quay.io/org/app:sha256-{hex_of(digest)}.sig", digest, ImageKind.SIGNATURE)
    inventory = replaced(inventories.inventory(image, catalogs=()), manifests={digest: ManifestRecord("", 1, blobs=())})
    assert [row.record for row in contents.image_rows(inventory, {})] == [image]


def replace_source(inventory, old, new):
    return replaced(inventory, images=tuple(replaced(one, source=one.source.replace(old, new)) for one in inventory.images))


def change(*heads):
    listed = [{"channel": channel, "from": old, "to": new} for channel, old, new in heads]
    return {"added": [], "changed": [{"catalog": "c", "package": "p", "added": ["b"], "removed": ["a", "0"], "heads": listed}]}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"added": [{"catalog": "c", "package": "p"}], "changed": []}, "new"),
        (change(("stable", "a", "b")), "stable: a → b"),
        (change(), "1 more, 2 fewer versions"),
        (change(("fast", None, "b")), "fast: no channel → b"),
    ],
)
def test_what_is_new_is_said_in_few_words(found, said):
    assert contents.changes_of({"packages": found}) == {Purpose("c", "p"): said}


def test_an_archive_that_heals_has_a_report_without_a_selection(tmp_path: Path) -> None:
    made = reports.planned(real(CATALOG), ["infinispan"])
    page = reports.reported(Planned(made.plan, ()), tmp_path).page
    assert b"<h4>infinispan</h4>" in page
    assert b'<span class="letter" aria-hidden="true">I</span>' in page


def test_nothing_but_further_images_has_a_report_too(tmp_path: Path) -> None:
    made = reports.planned(real(CATALOG), ["infinispan"])
    plan = replace(made.plan, catalogs=())
    page = reports.reported(Planned(plan, ()), tmp_path).page
    assert b"0 operators for a disconnected cluster" in page
    assert b'<section id="operators"' not in page


def test_the_same_plan_is_the_same_page(tmp_path: Path) -> None:
    first, second = (reports.reported(reports.planned(real(CATALOG), ["infinispan"]), tmp_path).page for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("default", "second", "said"),
    [
        ("b", ("x",), "default channel: a → b"),
        ("a", ("x", "y"), "the order of its versions, or what updates them"),
        ("a", ("x", "z"), "1 more, 0 fewer versions"),
    ],
)
def test_a_change_without_a_new_head_is_called_what_it_is(default: str, second: tuple[str, ...], said: str) -> None:
    def one(default: str, second: tuple[str, ...]) -> Inventory:
        channels = {"a": ("x", "y"), "b": second}
        records = tuple(ChannelRecord(n, "x", tuple(BundleRecord(b, b) for b in has)) for n, has in channels.items())
        return inventories.inventory(catalogs=(inventories.catalog(packages=(PackageRecord("p", default, records),)),))

    found = contents.changes_of(diff.between(one("a", ("x",)), one(default, second)))
    assert found == {Purpose("redhat-operators", "p"): said}


@pytest.mark.parametrize("source", ["/home/me/catalog", "./catalog", "catalogs/mine", "catalog"])
def test_a_catalog_from_a_directory_comes_from_no_registry(source: str) -> None:
    inventory = inventories.inventory(catalogs=(inventories.catalog(source=source, digest=None),))
    assert [one.registry for one in contents.origins(inventory, contents.image_rows(inventory, {}))] == ["a directory"]
