"""What a bundle says about the releases that it is for. Pure.

Both are read where OLM finds them: `olm.maxOpenShiftVersion` is a property of the bundle, or of the annotation `olm.properties`
of its ClusterServiceVersion, `minKubeVersion` a field of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from common.serialization import UNDECODABLE
from common.supported_releases import MAX_TEXT, MAXIMUM, MINIMUM
from exporter.catalog.model import CSV_METADATA
from exporter.catalog.related_images import inline_csvs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.catalog.model import Bundle


_ANNOTATION = "olm.properties"


class _Stated(msgspec.Struct):
    type: str
    value: msgspec.Raw = msgspec.Raw(b"null")


class _Metadata(msgspec.Struct, rename="camel"):
    """The fields of the metadata that are read. Others are long descriptions."""

    annotations: Any = None
    min_kube_version: Any = None


_LISTED = msgspec.json.Decoder(list[_Stated])
_METADATA = msgspec.json.Decoder(_Metadata)


def stated(bundle: Bundle) -> tuple[str | None, str | None]:
    """Return the maximum of OpenShift and the minimum of Kubernetes as written; None where a bundle has none."""
    values = [one.value for one in bundle.properties if one.type == MAXIMUM]
    minimum = None
    for notes, text in _of_csv(bundle):
        values += _annotated(notes)
        minimum = minimum or text
    # OLM takes the highest of several.
    texts = [text for value in values if (text := _text(value))]
    return max(texts, key=_key, default=None), minimum


def _of_csv(bundle: Bundle) -> Iterator[tuple[Any, str | None]]:
    """Yield annotations and minimum of each ClusterServiceVersion, or of the metadata that a catalog has in its place."""
    # Most have neither: a megabyte is not decoded for that.
    for one in bundle.properties:
        if one.type == CSV_METADATA and any(name in bytes(one.value) for name in (MINIMUM.encode(), MAXIMUM.encode())):
            yield from ((value.annotations, _minimum(value.min_kube_version)) for value in _metadata(one.value))
    if not bundle.has(CSV_METADATA):
        for csv in inline_csvs(bundle):
            yield _under(csv, "metadata").get("annotations"), _minimum(_under(csv, "spec").get(MINIMUM))


def _metadata(raw: msgspec.Raw) -> Iterator[_Metadata]:
    try:
        yield _METADATA.decode(raw)
    except (*UNDECODABLE, RecursionError):
        return


def _under(value: Any, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _minimum(value: Any) -> str | None:
    return value.strip()[:MAX_TEXT] or None if isinstance(value, str) else None


def _annotated(annotations: Any) -> Iterator[msgspec.Raw]:
    text = annotations.get(_ANNOTATION) if isinstance(annotations, dict) else None
    try:
        listed = _LISTED.decode(text) if isinstance(text, str) else []
    except (*UNDECODABLE, RecursionError):
        return
    yield from (one.value for one in listed if one.type == MAXIMUM)


def _text(raw: msgspec.Raw) -> str:
    """Return a value as text. A number stays as written: 4.10 is no 4.1."""
    written = bytes(raw).strip()[: 4 * MAX_TEXT]
    try:
        text = msgspec.json.decode(raw, type=str) if written[:1] == b'"' else written.decode(errors="replace")
    except (*UNDECODABLE, RecursionError):
        text = written.decode(errors="replace")
    return "" if text == "null" else text.strip()[:MAX_TEXT]


def _key(text: str) -> tuple[int, ...]:
    numbers = text.removeprefix("v").split(".")
    return tuple(int(one) if one.isascii() and one.isdecimal() else -1 for one in numbers[:3])
