"""What a bundle says about the clusters and the namespace that it is for. Pure.

All is read where OLM and the console find it: `olm.maxOpenShiftVersion` is a property of the bundle, or of the annotation
`olm.properties` of its ClusterServiceVersion, the rest fields and annotations of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from common.openshift.supported_releases import MAX_TEXT, MAXIMUM, MINIMUM
from common.serialization import UNDECODABLE
from exporter.catalog.go_json import GoError, decode
from exporter.catalog.model import CSV_METADATA, Property
from exporter.catalog.properties import csv_metadata
from exporter.catalog.related_images import inline_csvs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.catalog.model import Bundle


_ANNOTATION = "olm.properties"
# The annotations that the console of OpenShift reads (openshift/console, operator-hub-types.ts, OLMAnnotation).
_NAMESPACE = "operatorframework.io/suggested-namespace"
_TEMPLATE = "operatorframework.io/suggested-namespace-template"
_MONITORING = "operatorframework.io/cluster-monitoring"
_DISCONNECTED = "features.operators.openshift.io/disconnected"  # `"true"` or `"false"`
_FEATURES = "operators.openshift.io/infrastructure-features"  # before that: a list, with `disconnected` or `Disconnected`
MAX_NAMESPACE = 63  # of an RFC 1123 label
MAX_TEMPLATE = 16 * 1024  # characters; real ones have some hundred
# operator-framework/api, pkg/operators/v1alpha1/clusterserviceversion_types.go, InstallModeType
_INSTALL_MODES = ("OwnNamespace", "SingleNamespace", "MultiNamespace", "AllNamespaces")


@dataclass(frozen=True, slots=True)
class Stated:
    """What a bundle states; the versions as written, `install_modes` the supported ones. None and empty: it states nothing."""

    max_open_shift_version: str | None = None
    min_kube_version: str | None = None
    install_modes: tuple[str, ...] = ()
    suggested_namespace: str | None = None
    suggested_namespace_template: str | None = None
    disconnected: bool | None = None
    cluster_monitoring: bool = False


@dataclass(frozen=True, slots=True)
class _Csv:
    """What is read of a ClusterServiceVersion, or of the metadata that a catalog has in its place."""

    annotations: Any
    min_kube_version: Any
    install_modes: frozenset[str]  # that are supported


_TEXT = msgspec.json.Decoder(str)


def stated(bundle: Bundle) -> Stated:
    """Return what a bundle states."""
    values = [one.value for one in bundle.properties if one.type == MAXIMUM]
    found = list(_of_csv(bundle))
    for each in found:
        values += _annotated(each.annotations)
    # OLM takes the highest of several.
    texts = [text for value in values if (text := _text(value))]
    notes = next((each.annotations for each in found if isinstance(each.annotations, dict)), {})
    return Stated(
        max(texts, key=_key, default=None),
        next((said for each in found if (said := _minimum(each.min_kube_version))), None),
        next(
            (tuple(mode for mode in _INSTALL_MODES if mode in each.install_modes) for each in found if each.install_modes), ()
        ),
        _bounded(notes.get(_NAMESPACE), MAX_NAMESPACE),
        _bounded(notes.get(_TEMPLATE), MAX_TEMPLATE),
        _disconnected(notes),
        # The console compares with exactly this text (openshift/console, operator-hub-subscribe.tsx).
        notes.get(_MONITORING) == "true",
    )


def _of_csv(bundle: Bundle) -> Iterator[_Csv]:
    for found in csv_metadata(bundle.properties):
        modes = frozenset(one.type for one in found.install_modes if one.supported)
        yield _Csv(found.annotations, found.min_kube_version, modes)
    if not bundle.has(CSV_METADATA):
        for csv in inline_csvs(bundle):
            # Exact names: the object goes to the API server as it is, which knows no other case.
            spec = _under(csv, "spec")
            yield _Csv(_under(csv, "metadata").get("annotations"), spec.get(MINIMUM), _supported(spec.get("installModes")))


def _supported(modes: Any) -> frozenset[str]:
    listed = [one for one in modes if isinstance(one, dict)] if isinstance(modes, list) else []
    return frozenset(str(one.get("type")) for one in listed if one.get("supported") is True)


def _bounded(value: Any, limit: int) -> str | None:
    """Return a text; None for a longer one, of which a part would mean something else."""
    text = value.strip() if isinstance(value, str) else ""
    return text if 0 < len(text) <= limit else None


def _disconnected(annotations: dict[str, Any]) -> bool | None:
    said = str(annotations.get(_DISCONNECTED) or "").strip().lower()
    if said in {"true", "false"}:
        return said == "true"
    try:
        features = msgspec.json.decode(str(annotations.get(_FEATURES) or "[]"), type=list[str])
    except (*UNDECODABLE, RecursionError):
        return None
    # Without it the list says nothing: publishers name what was tested.
    return True if any(one.strip().lower() == "disconnected" for one in features) else None


def _under(value: Any, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _minimum(value: Any) -> str | None:
    return value.strip()[:MAX_TEXT] or None if isinstance(value, str) else None


def _annotated(annotations: Any) -> Iterator[msgspec.Raw]:
    text = annotations.get(_ANNOTATION) if isinstance(annotations, dict) else None
    try:
        listed = decode(text.encode(), tuple[Property, ...]) if isinstance(text, str) else ()
    except (GoError, UnicodeError, RecursionError):
        return
    yield from (one.value for one in listed if one.type == MAXIMUM)


def _text(raw: msgspec.Raw) -> str:
    """Return a value as text. A number stays as written: 4.10 is no 4.1."""
    # On one line: an object, which OLM cannot read, may be indented, and is shown.
    written = b" ".join(bytes(raw)[: 16 * MAX_TEXT].split())[: 4 * MAX_TEXT]
    try:
        text = _TEXT.decode(raw) if written[:1] == b'"' else written.decode(errors="replace")
    except (*UNDECODABLE, RecursionError):
        text = written.decode(errors="replace")
    return "" if text == "null" else text.strip()[:MAX_TEXT]


def _key(text: str) -> tuple[int, ...]:
    numbers = text.removeprefix("v").split(".")
    return tuple(int(one) if one.isascii() and one.isdecimal() else -1 for one in numbers[:3])
