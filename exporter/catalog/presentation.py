"""The presentation of operators in OperatorHub: title, publisher, summary, icon. Pure.

Catalogs are untrusted input: any field can be missing, of another type, or meant to break a page. Source of the fields:
operator-framework/operator-registry, alpha/declcfg/declcfg.go (`olm.package`) and alpha/property/property.go
(`olm.csv.metadata`, `olm.bundle.object`).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from common.go_yaml import fold
from common.serialization import UNDECODABLE
from common.text import sanitize
from exporter.catalog.model import CSV_METADATA
from exporter.catalog.related_images import inline_csvs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.catalog.model import Bundle, Package

MAX_ICON = 512 * 1024  # bytes of base64; real ones have up to 394,168
# Types that browsers show in <img> without running a script, also SVG (SVG 2, *Secure static mode*).
_ICONS = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"))
_LINE = 120  # characters of a title
# Brackets without an end take a parser of Markdown time by the square of the length: 0.13 s for 4,000 characters, and an index
# has 300 operators.
MAX_SUMMARY = 1500  # characters of Markdown, of which the page shows less
_NAMES = {"displayname": "displayName", **{name: name for name in ("annotations", "description", "provider", "icon")}}


@dataclass(frozen=True, slots=True)
class Presentation:
    """Texts of one line each, and the icon as a `data:` address; empty where the catalog says nothing.

    `summary` is Markdown as the catalog has it, cut to a length.
    """

    title: str = ""
    publisher: str = ""
    summary: str = ""
    icon: str = ""


def presentation_of(package: Package, head: str) -> Presentation:
    """Return the presentation of a package, by the bundle `head`; fields of a wrong type count as missing."""
    blob = _mapping(_decoded(package.blob.view))
    # Short texts first: `description` of a ClusterServiceVersion can be a whole document in Markdown.
    found = list(_metadata(package.bundles[head])) if head in package.bundles else []
    notes = [_mapping(one.get("annotations")).get("description") for one in found]
    summaries = [*notes, blob.get("description"), *(one.get("description") for one in found)]
    icons = [blob.get("icon"), *(icon for one in found for icon in _listed(one.get("icon")))]
    return Presentation(
        title=_title(found),
        publisher=_publisher(found),
        summary=next((str(one)[:MAX_SUMMARY] for one in summaries if sanitize(one, _LINE).strip("#*- ")), ""),
        icon=next((address for one in icons if (address := _address(one))), ""),
    )


def names_of(package: Package, head: str) -> tuple[str, str]:
    """Return the title of a package and its provider, by the bundle `head`; empty where the catalog has none."""
    found = list(_metadata(package.bundles[head])) if head in package.bundles else []
    return _title(found), _publisher(found)


def _publisher(found: Iterable[Mapping[str, Any]]) -> str:
    return next((text for one in found if (text := sanitize(_mapping(one.get("provider")).get("name"), _LINE))), "")


def _title(found: Iterable[Mapping[str, Any]]) -> str:
    return next((text for one in found if (text := sanitize(one.get("displayName"), _LINE))), "")


def _metadata(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Give the descriptions of a bundle: its property `olm.csv.metadata`, and its inline ClusterServiceVersion."""
    for one in bundle.properties:
        if one.type == CSV_METADATA:
            # In any case, as Go reads the property.
            yield {_NAMES.get(fold(name), name): value for name, value in _mapping(_decoded(one.value)).items()}
    for csv in inline_csvs(bundle):
        annotations = _mapping(csv.get("metadata")).get("annotations")
        yield _mapping(csv.get("spec")) | {"annotations": annotations}


def _address(icon: object) -> str:
    """Return an icon as a `data:` URL, empty for another type than `_ICONS` and for invalid base64."""
    found = _mapping(icon)
    data, kind = found.get("base64data"), found.get("mediatype")
    if not isinstance(data, str) or not isinstance(kind, str) or kind not in _ICONS or len(data) > MAX_ICON:
        return ""
    try:
        # Decoded and encoded again, so that nothing but the alphabet of base64 gets into the attribute.
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if content else ""


def _decoded(raw: memoryview | msgspec.Raw) -> Any:
    """Return the value of JSON that was kept as bytes, None for bytes that are no JSON, such as invalid UTF-8."""
    try:
        return msgspec.json.decode(raw)
    except UNDECODABLE:
        return None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
