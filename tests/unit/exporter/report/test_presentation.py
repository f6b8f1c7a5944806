"""How OperatorHub shows an operator, from every place where a catalog may say it; wrong shapes say nothing."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from exporter.catalog.model import Property
from exporter.catalog.presentation import MAX_ICON, Presentation, presentation_of
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, real

ICON = base64.b64encode(b"<svg/>").decode()


def shown(package: dict[str, Any], *properties: dict[str, Any]) -> Presentation:
    bundle = bundle_blob("foo.v1.0.0")
    bundle["properties"] = [bundle["properties"][0], *properties]
    catalog = catalog_of(package_blob(**package), channel_blob("stable", [entry("foo.v1.0.0")]), bundle)
    return presentation_of(catalog.packages["foo"], "foo.v1.0.0")


def metadata(**value: Any) -> dict[str, Any]:
    return {"type": "olm.csv.metadata", "value": value}


def csv(spec: dict[str, Any], **annotations: str) -> dict[str, Any]:
    resource = {"kind": "ClusterServiceVersion", "metadata": {"annotations": annotations}, "spec": spec}
    return {"type": "olm.bundle.object", "value": {"data": base64.b64encode(json.dumps(resource).encode()).decode()}}


def test_the_property_made_for_it() -> None:
    said = metadata(displayName="Foo", provider={"name": "Example"}, annotations={"description": "Short."}, description="Long.")
    found = shown({"icon": {"base64data": ICON, "mediatype": "image/svg+xml"}}, said)
    assert found == Presentation("Foo", "Example", "Short.", f"data:image/svg+xml;base64,{ICON}")


def test_names_match_in_any_case_as_in_go() -> None:
    assert shown({}, metadata(DISPLAYNAME="Foo", Annotations={"description": "Short."})) == Presentation("Foo", "", "Short.")


def test_a_cluster_service_version_inside() -> None:
    icon = {"base64data": ICON, "mediatype": "image/png"}
    found = shown({}, csv({"displayName": "Foo", "provider": {"name": "Example"}, "icon": [icon]}, description="Short."))
    assert found == Presentation("Foo", "Example", "Short.", f"data:image/png;base64,{ICON}")


def test_the_package_where_the_bundle_says_nothing() -> None:
    assert shown({"description": "## What it does"}).summary == "## What it does"


@pytest.mark.parametrize(
    "icon",
    [
        {"base64data": ICON, "mediatype": "text/html"},
        {"base64data": ICON, "mediatype": 'image/png;charset=x"><script>'},
        {"base64data": "%%%", "mediatype": "image/png"},
        {"base64data": "", "mediatype": "image/png"},
        {"base64data": "A" * (MAX_ICON + 4), "mediatype": "image/png"},
        {"base64data": 7, "mediatype": "image/png"},
        {"mediatype": "image/png"},
        "icon",
        None,
    ],
)
def test_what_is_no_icon_is_none(icon: object) -> None:
    assert not shown({"icon": icon}).icon


@pytest.mark.parametrize(
    "value", [{"displayName": 7, "provider": "Example", "annotations": [1], "description": {}}, "text", None]
)
def test_wrong_shapes_say_nothing(value: object) -> None:
    assert shown({}, {"type": "olm.csv.metadata", "value": value}) == Presentation()


def test_a_head_without_a_bundle() -> None:
    catalog = catalog_of(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]))
    assert presentation_of(catalog.packages["foo"], "foo.v1.0.0") == Presentation()


@pytest.mark.parametrize("name", ["fbc/redhat", "fbc/community-v4.20", "fbc/bundle-object-v4.16"])
def test_real_operators_have_all(name: str) -> None:
    for package in real(name).packages.values():
        channel = package.channels[package.default_channel]
        head = next(one.name for one in channel.entries if all(one.name != other.replaces for other in channel.entries))
        found = presentation_of(package, head)
        assert found.title, package.name
        assert found.publisher, package.name
        assert found.summary, package.name
        assert found.icon.startswith("data:image/"), package.name


@pytest.mark.parametrize("bad", [b'"\xff"', b"1e999"], ids=["not UTF-8", "a number beyond all"])
def test_json_that_breaks_where_nobody_looked_says_nothing(bad: bytes) -> None:
    """Readers of catalogs skip what they do not know, without checking it."""
    package = catalog_of(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), bundle_blob("foo.v1.0.0")).packages[
        "foo"
    ]
    broken = b'{"displayName":' + bad + b"}"
    bundle = replace(package.bundles["foo.v1.0.0"], properties=(Property("olm.csv.metadata", msgspec.Raw(broken)),))
    blob = replace(package.blob, view=memoryview(broken))
    assert presentation_of(replace(package, bundles={bundle.name: bundle}, blob=blob), bundle.name) == Presentation()
