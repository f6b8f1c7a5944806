"""How OperatorHub presents an operator: title, publisher, summary, icon. Pure; from the catalog, and hostile like all of it.

Sources: facts/openshift.md §2.2 (`olm.package`, `olm.csv.metadata`, `olm.bundle.object`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from common.plain import plain
from common.serialization import UNDECODABLE
from exporter.catalog.model import CSV_METADATA, Bundle, Package
from exporter.catalog.related_images import inline_csvs

MAX_ICON = 512 * 1024  # bytes of base64; real ones have up to 394,168
_ICONS = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"))
_LINE = 120
_SUMMARY = 320


@dataclass(frozen=True, slots=True)
class Presentation:
    """Texts of one line each, and the icon as a `data:` address; empty where the catalog says nothing."""

    title: str = ""
    publisher: str = ""
    summary: str = ""
    icon: str = ""


def presentation_of(package: Package, head: str) -> Presentation:
    """Return how OperatorHub shows a package, by the bundle `head`; what is missing or of the wrong shape is left out."""
    blob = _mapping(_decoded(package.blob.view))
    said = list(_metadata(package.bundles[head])) if head in package.bundles else []
    title = next((text for one in said if (text := plain(one.get("displayName"), _LINE))), "")
    publisher = next((text for one in said if (text := plain(_mapping(one.get("provider")).get("name"), _LINE))), "")
    notes = [_mapping(one.get("annotations")).get("description") for one in said]
    summaries = [*notes, blob.get("description"), *(one.get("description") for one in said)]
    icons = [blob.get("icon"), *(icon for one in said for icon in _listed(one.get("icon")))]
    return Presentation(
        title=title,
        publisher=publisher,
        summary=next((text for one in summaries if (text := plain(one, _SUMMARY).lstrip("#* "))), ""),
        icon=next((address for one in icons if (address := _address(one))), ""),
    )


def _metadata(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Give what describes a bundle: the property made for that, or the ClusterServiceVersion where it is inside."""
    for one in bundle.properties:
        if one.type == CSV_METADATA:
            yield _mapping(_decoded(one.value))
    for csv in inline_csvs(bundle):
        annotations = _mapping(csv.get("metadata")).get("annotations")
        yield _mapping(csv.get("spec")) | {"annotations": annotations}


def _address(icon: object) -> str:
    """Return an icon as a `data:` address: of a type that a page shows without running anything, and really base64."""
    found = _mapping(icon)
    data, kind = found.get("base64data"), found.get("mediatype")
    if not isinstance(data, str) or not isinstance(kind, str) or kind not in _ICONS or len(data) > MAX_ICON:
        return ""
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if content else ""


def _decoded(raw: memoryview | msgspec.Raw) -> Any:
    """Return JSON that nobody has looked at as a whole yet; None for what is none after all, such as text that is not UTF-8."""
    try:
        return msgspec.json.decode(raw)
    except UNDECODABLE:
        return None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
