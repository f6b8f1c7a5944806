"""182 selections from real catalogs: results equal those of oc-mirror, except where a rule of docs/reference/selection.md differs.

`deviations.json` lists these with the rule and the exact result. A difference that is not listed fails, and so does a listed
one that no longer exists.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import HubError
from exporter.catalog.model import Catalog, Package
from exporter.catalog.readers import file_based
from exporter.catalog.rebuild import catalog_files
from exporter.catalog.selection import select
from exporter.imageset.model import ChannelRequest, OperatorRequest, PackageRequest
from tests.fakes.catalogs import expected, real

CASES = {case["id"]: case for case in expected("filter-cases.json")}
DEVIATIONS = json.loads((Path(__file__).parent / "deviations.json").read_bytes())


@pytest.mark.parametrize("number", CASES)
def test_selection_keeps_what_the_reference_keeps(number: str) -> None:
    case = CASES[number]
    ours, theirs = outcome(case), reference(case)
    listed = DEVIATIONS.get(number)
    if listed is None:
        assert ours == theirs
    else:
        assert ours != theirs, "listed as a deviation, but it is none"
        assert ours == listed["ours"]


def test_all_cases_are_there_and_every_deviation_quotes_a_rule() -> None:
    assert len(CASES) == 182
    assert set(DEVIATIONS) <= set(CASES)
    assert all(one["rule"].endswith(".") for one in DEVIATIONS.values())


def reference(case: dict[str, Any]) -> dict[str, Any]:
    result = dict(case.get("result_plain_semver") or case["result"])
    result.pop("opm_validate", None)
    return result


def outcome(case: dict[str, Any]) -> dict[str, Any]:
    """Return what we keep, after a round through the files that we would write."""
    try:
        selection = select(real(case["catalog"]), request(case))
    except HubError as error:
        return {"error": error.message, "hint": error.hint}
    names = {name for package in selection.catalog.packages.values() for name in package.bundles}
    assert {one.bundle for one in selection.reasons if one.kept} == names
    written = selection.catalog if selection.unmodified else file_based.load(catalog_files(selection.catalog).items())
    assert not written.problems
    assert listing(written) == listing(selection.catalog)
    return {"packages": listing(written)}


def request(case: dict[str, Any]) -> OperatorRequest:
    packages = tuple(
        PackageRequest(
            one["name"],
            one.get("defaultChannel", ""),
            one.get("minVersion", ""),
            one.get("maxVersion", ""),
            tuple(
                ChannelRequest(each["name"], each.get("minVersion", ""), each.get("maxVersion", ""))
                for each in one.get("channels", [])
            ),
        )
        for one in case["packages"]
    )
    return OperatorRequest(case["catalog"], case.get("full", False), packages)


def listing(catalog: Catalog) -> dict[str, Any]:
    return {name: package_listing(package) for name, package in catalog.packages.items()}


def package_listing(package: Package) -> dict[str, Any]:
    bundles = package.bundles.values()
    images = {text for one in bundles for text in (one.image, *(image.image for image in one.related_images)) if text}
    entries = package.deprecations.entries if package.deprecations else ()
    deprecations = [f"{one.reference.schema}/{one.reference.name}".removesuffix("/") for one in entries]
    return {
        "bundles": sorted(package.bundles),
        "channels": {name: sorted(one.name for one in channel.entries) for name, channel in package.channels.items()},
        "defaultChannel": package.default_channel,
        "images": {"count": len(images), "sha256": hashlib.sha256("\n".join(sorted(images)).encode()).hexdigest()},
    } | ({"deprecations": deprecations} if deprecations else {})
