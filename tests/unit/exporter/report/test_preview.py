"""What `plan` shows for approval: sizes by operator that add up, what was added because it is needed, and the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.registry.settings import RegistrySettings
from exporter.catalog.model import Catalog
from exporter.cli import listing
from exporter.imageset.model import ImageSet
from exporter.report.contents import CATALOGS, Purpose
from exporter.report.preview import MAX_GROUPS, Preview
from exporter.settings import ExportSettings
from tests.fakes import reports
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, real

SETTINGS = ExportSettings(ImageSet(), RegistrySettings(), "2026-01-31T12:00:00Z")
CATALOG = "fbc/community-v4.20"
NAMES = ("infinispan", "kube-green", "trident-operator")


def preview(catalog: Catalog, packages: tuple[str, ...] = (), *, lost: tuple[str, ...] = ()) -> Preview:
    return Preview(reports.planned(catalog, packages, lost=lost), SETTINGS)


def blobs_of(name: str, needs: str = "") -> list[dict]:
    blob = bundle_blob(f"{name}.v1.0.0", package=name)
    if needs:
        blob["properties"].append({"type": "olm.package.required", "value": {"packageName": needs, "versionRange": ">=1.0.0"}})
    return [package_blob(name), channel_blob("stable", [entry(f"{name}.v1.0.0")], name), blob]


def needing() -> Catalog:
    return catalog_of(*blobs_of("foo", needs="bar"), *blobs_of("bar", needs="baz"), *blobs_of("baz"), *blobs_of("other"))


def by_name(document: dict) -> dict[str, dict]:
    return {one["package"]: one for one in document["operators"]}


def test_every_byte_is_counted_once() -> None:
    document = listing.plan_document(preview(real(CATALOG), NAMES), explain=False)
    sizes = document["sizes"]
    assert sum(size for key, size in sizes.items() if key != "sharedBy") == document["totals"]["bytes"]
    assert sizes["operators"] == sum(one["ownBytes"] for one in document["operators"])
    assert sizes["sharedBy"] == [
        {"names": ["catalogs", *(f"{reports.NAME}/{name}" for name in NAMES)], "bytes": reports.BASE_SIZE}
    ]


@pytest.mark.parametrize("name", NAMES)
def test_an_operator_adds_what_the_archive_lacks_without_it(name: str) -> None:
    whole = listing.plan_document(preview(real(CATALOG), NAMES), explain=False)
    rest = listing.plan_document(preview(real(CATALOG), tuple(set(NAMES) - {name})), explain=False)
    one = by_name(whole)[name]
    signatures = whole["sizes"]["attachments"] - rest["sizes"]["attachments"]
    assert whole["totals"]["bytes"] - rest["totals"]["bytes"] == one["ownBytes"] + signatures
    assert one["totalBytes"] == one["ownBytes"] + reports.BASE_SIZE


def test_what_was_added_has_a_table_of_its_own() -> None:
    made = preview(needing(), ("foo",))
    document = listing.plan_document(made, explain=False)
    found = by_name(document)
    assert list(found) == ["bar", "baz", "foo"]
    assert found["foo"]["because"] is None
    assert found["bar"]["because"] == "required by foo 1.0.0: package bar >=1.0.0"
    assert found["baz"]["because"] == "required by bar 1.0.0: package baz >=1.0.0"  # what is needed by what is needed
    lines = listing.plan_table(made, document, explain=False)
    first, second = (
        next(at for at, line in enumerate(lines) if line.startswith(head)) for head in ("OPERATOR", "ADDED BECAUSE")
    )
    assert [line.split()[0] for line in lines[first + 1 : second - 1]] == ["foo"]
    assert [line.split()[0] for line in lines[second + 1 : second + 3]] == ["bar", "baz"]
    assert lines[second + 1].endswith("required by foo 1.0.0: package bar >=1.0.0")


def test_without_dependencies_there_is_one_table() -> None:
    made = preview(needing(), ("other",))
    lines = listing.plan_table(made, listing.plan_document(made, explain=False), explain=False)
    assert not any(line.startswith("ADDED") for line in lines)
    assert any(
        line.startswith("shared by several, counted once: 85.8 MiB, 85.8 MiB of it by catalogs, other") for line in lines
    )


def test_an_image_that_was_not_found_adds_nothing() -> None:
    found = by_name(listing.plan_document(preview(needing(), ("foo",), lost=("example/foo",)), explain=False))
    assert (found["foo"]["ownBytes"], found["foo"]["totalBytes"]) == (0, 0)
    assert found["bar"]["ownBytes"] > 0


def test_groups_that_share_are_the_largest() -> None:
    made = preview(needing())
    together = {frozenset((CATALOGS, Purpose("index", f"foo-{size}"))): size for size in range(1, 3 * MAX_GROUPS)}
    made.__dict__["sizes"] = replace(made.sizes, together=together)  # a cached property
    found = made.size_record()["sharedBy"]
    assert len(found) == MAX_GROUPS
    assert found[:2] == [{"names": ["catalogs", f"index/foo-{size}"], "bytes": size} for size in (59, 58)]


def test_the_page_says_what_is_planned_and_no_more(tmp_path: Path) -> None:
    planned = preview(needing(), ("foo",)).page().decode()
    written = reports.reported(reports.planned(needing(), ["foo"]), tmp_path)
    assert "Planned on" in planned
    assert "Planned: everything that was requested was found" in planned
    for absent in ("Archive made on", "SHA-256 of inventory.json", 'id="files"', "Archive signed", "sha256sum"):
        assert absent not in planned
        assert absent in written.page.decode()
    assert '<section id="added">' in planned
    assert len(written.inventory.volumes) == 1
    assert "volume-0001" in planned


def test_the_page_names_what_was_not_found() -> None:
    page = preview(needing(), ("foo",), lost=("example/foo",)).page().decode()
    assert "Not complete: 1 problem" in page
    assert "quay.io/example/foo:1.0.0" in page
