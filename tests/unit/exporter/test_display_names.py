"""The names of OperatorHub in `list`: from the head of the default channel, null or left out where a catalog has none."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from common.table import fitted
from exporter.cli import listing
from tests.fakes import reports
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob


def listed(
    *properties: dict[str, Any], name: str = "foo", channel: str = "stable", package: str = "foo"
) -> tuple[Any, list[str]]:
    """Return the `displayName` of the JSON, and the lines of `list --package`."""
    blob = bundle_blob(f"{name}.v1.0.0", package=package)
    blob["properties"] = [blob["properties"][0], *properties]
    catalog = catalog_of(package_blob(package), channel_blob(channel, [entry(f"{name}.v1.0.0")], package), blob)
    chosen = (reports.chosen(catalog, full=True),)
    (found,) = listing.list_document(chosen, None, explain=False)["catalogs"][0]["packages"]
    assert list(found) == ["name", "displayName", "defaultChannel", "channels"]
    return found["displayName"], listing.list_table(chosen, [package], None, explain=False)


def metadata(name: object) -> dict[str, Any]:
    return {"type": "olm.csv.metadata", "value": {"displayName": name}}


def csv(name: object) -> dict[str, Any]:
    data = json.dumps({"kind": "ClusterServiceVersion", "spec": {"displayName": name}}).encode()
    return {"type": "olm.bundle.object", "value": {"data": base64.b64encode(data).decode()}}


@pytest.mark.parametrize("said", [metadata, csv])
def test_a_name_is_shown(said) -> None:
    name, lines = listed(said("Foo of Example"))
    assert name == "Foo of Example"
    assert lines[2] == "foo: Foo of Example"


@pytest.mark.parametrize("properties", [(), (metadata(""),), (metadata(None),), (csv(["x"]),)])
def test_without_a_name_there_is_no_line(properties) -> None:
    name, lines = listed(*properties)
    assert name is None
    assert lines[2].startswith("PACKAGE")


def test_a_long_name_fits_a_terminal() -> None:
    name, lines = listed(metadata("Long " * 60))
    assert len(name) == 120  # as on the page
    assert lines[2] == f"foo: {name}"  # a pipe gets it whole
    assert max(map(len, fitted(lines[2:3], 80))) <= 80


def test_hidden_characters_do_not_reach_the_terminal() -> None:
    name, lines = listed(metadata("Foo\u202e\x1b[31m\nBar"))
    assert name == "Foo[31m Bar"
    assert lines[2] == "foo: Foo[31m Bar"


def test_only_heads_of_the_default_channel_count() -> None:
    old = bundle_blob("foo.v1.0.0") | {"properties": [bundle_blob("foo.v1.0.0")["properties"][0], metadata("Old")]}
    new = bundle_blob("foo.v2.0.0") | {"properties": [bundle_blob("foo.v2.0.0")["properties"][0], metadata("New")]}
    entries = [entry("foo.v1.0.0"), entry("foo.v2.0.0", "foo.v1.0.0")]
    catalog = catalog_of(package_blob(), channel_blob("stable", entries), channel_blob("old", entries[:1]), old, new)
    (found,) = listing.list_document((reports.chosen(catalog, full=True),), None, explain=False)["catalogs"]
    assert [one["displayName"] for one in found["packages"]] == ["New"]


def test_a_description_is_text_without_marks() -> None:
    """`list --package` showed `[cert-manager v1.20.3](https://…` as the catalog has it."""
    source = (
        "## About\nRuns **[cert-manager](https://a.example/v1)** in `pods`.\x1b[31m<br>\n* one\n* <b>two</b>\n" + "long " * 99
    )
    _, lines = listed({"type": "olm.csv.metadata", "value": {"displayName": "Foo", "annotations": {"description": source}}})
    assert lines[3].startswith("  About Runs cert-manager (https://a.example/v1) in pods.[31m - one - two long long")
    assert lines[3].endswith("…")
    assert len(lines[3]) <= 302
