"""Requester and purpose: from the options over plan, inventory and plan file to the pages that people read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.archive import inventory_file
from common.archive.inventory import MAX_PURPOSE, MAX_REQUESTER, Inventory
from common.errors import ArchiveDamagedError, UsageError
from common.registry.settings import RegistrySettings
from exporter.archive import output
from exporter.cli import listing
from exporter.cli.options import ArchiveOptions
from exporter.distributed import plan_file
from exporter.imageset.model import ImageSet
from exporter.report.preview import Preview
from exporter.settings import ExportSettings
from tests.fakes import reports
from tests.fakes.archives import CUT
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob

SETTINGS = ExportSettings(ImageSet(), RegistrySettings(), "2026-01-31T12:00:00Z")
CATALOG = catalog_of(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), bundle_blob("foo.v1.0.0"))
RAW = inventory_file.encode(CUT.inventory(CUT.layout()))


def made(tmp_path: Path, **changes: object) -> reports.Reported:
    catalog = catalog_of(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), bundle_blob("foo.v1.0.0"))
    return reports.reported(reports.planned(catalog), tmp_path, **changes)


def read(**fields: object) -> Inventory:
    return inventory_file.decode(json.dumps(json.loads(RAW) | fields).encode(), "inventory.json")


def test_they_are_recorded_and_shown(tmp_path: Path) -> None:
    found = made(tmp_path, requested_by="Jo <b>Smith</b>", purpose="CHG-7: update")
    document = json.loads(inventory_file.encode(found.inventory))
    assert document["requestedBy"] == "Jo <b>Smith</b>"
    assert document["purpose"] == "CHG-7: update"
    page = found.page.decode()
    assert "Jo &lt;b&gt;Smith&lt;/b&gt;" in page
    assert "CHG-7: update" in page


def test_without_them_an_archive_has_the_same_bytes_as_before(tmp_path: Path) -> None:
    document = json.loads(inventory_file.encode(made(tmp_path).inventory))
    assert not {"requestedBy", "purpose"} & document.keys()


def test_options_become_one_line() -> None:
    options = ArchiveOptions(requested_by=" Jo\n Smith\x1b[31m ", purpose="a\u202eb")
    applied = options.applied(SETTINGS)
    assert (applied.requested_by, applied.purpose) == ("Jo Smith[31m", "ab")


@pytest.mark.parametrize(("name", "limit"), [("requested_by", MAX_REQUESTER), ("purpose", MAX_PURPOSE)])
def test_options_have_a_limit(name: str, limit: int) -> None:
    assert len(getattr(replace(ArchiveOptions(), **{name: "x" * limit}).applied(SETTINGS), name)) == limit
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}: {limit + 1} characters; the limit is {limit}") as raised:
        replace(ArchiveOptions(), **{name: "x" * (limit + 1)}).applied(SETTINGS)
    assert raised.value.advice


@pytest.mark.parametrize(("field", "limit"), [("requestedBy", MAX_REQUESTER), ("purpose", MAX_PURPOSE)])
def test_a_reader_has_the_same_limits(field: str, limit: int) -> None:
    read(**{field: "x" * limit})
    with pytest.raises(ArchiveDamagedError, match=f"{field} has {limit + 1} characters"):
        read(**{field: "x" * (limit + 1)})
    with pytest.raises(ArchiveDamagedError):
        read(**{field: 7})


def test_a_plan_in_a_file_keeps_them(tmp_path: Path) -> None:
    catalog = catalog_of(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), bundle_blob("foo.v1.0.0"))
    planned = reports.planned(catalog)
    preview = Preview(planned, replace(SETTINGS, requested_by="Jo Smith", purpose="CHG-7"))
    document = listing.plan_document(preview, explain=False)
    assert {"requested by: Jo Smith", "purpose: CHG-7"} <= set(listing.plan_table(preview, document, explain=False))
    (tmp_path / "plan.json").write_bytes(b"".join(plan_file.encode(document | listing.making_document(preview))))
    terms = plan_file.load(tmp_path / "plan.json").spec.terms
    assert (terms.requested_by, terms.purpose) == ("Jo Smith", "CHG-7")


def test_a_name_is_recorded_shown_and_kept_in_a_plan(tmp_path: Path) -> None:
    found = made(tmp_path, name="week-47")
    assert json.loads(inventory_file.encode(found.inventory))["name"] == "week-47"
    page = found.page.decode()
    assert "<title>week-47: 1 operator" in page
    assert "<strong>week-47</strong> · Archive made on" in page
    assert "week\\2D 47" in page, "at the foot of each printed page"
    assert "name" not in json.loads(inventory_file.encode(made(tmp_path).inventory))


def test_the_same_room_is_kept_for_names_of_one_length(tmp_path: Path) -> None:
    """So an interrupted export continues in place under another name; with another room its blobs are moved."""
    layouts = []
    for name in ("week-47", "week-48", "week-47-again"):
        spec = Preview(reports.planned(CATALOG), replace(SETTINGS, name=name)).spec
        layouts.append((output.encode_journal(spec.layout), spec.layout.blobs.keys()))
    assert layouts[0] == layouts[1]
    assert layouts[0][1] == layouts[2][1]


def test_the_option_takes_a_name_and_refuses_other_texts() -> None:
    assert ArchiveOptions(name="week-47").applied(SETTINGS).name == "week-47"
    assert ArchiveOptions().applied(SETTINGS).name == ""
    for text, advice in (
        ("week 47", "--name week-47."),
        ("\u202e", "--name week-47. Or leave"),
        ("x" * 64, f"--name {'x' * 63}."),
    ):
        with pytest.raises(UsageError, match="--name") as raised:
            ArchiveOptions(name=text).applied(SETTINGS)
        assert advice in raised.value.advice
