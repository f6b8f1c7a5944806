"""Sections of oc-mirror's files that hub-export does not carry: each is left out with a problem, unless it requests nothing.

Rules: ADR 0029.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.serialization import Placed

LEFT_OUT = {
    "platform": "releases of OpenShift itself are not among them",
    "helm": "for charts list their images under additionalImages",
    "samples": "list the samples' images under additionalImages",
}
TYPES: dict[str, type] = {"platform": dict, "helm": dict, "samples": list}
LISTS = {"platform": ("channels", "architectures", "platforms"), "helm": ("repositories", "local"), "samples": ()}
# `architectures`, `platforms` and `kubeVirtContainer` choose images of a release, and request none (oc-mirror,
# v2/internal/pkg/release/cincinnati.go and local_stored_collector.go).
_NO_REQUESTS = {"architectures", "platforms", "kubeVirtContainer"}


def left_out(mirror: dict[str, Placed]) -> Iterator[tuple[str, Placed, str]]:
    """Yield name, position and reason of each section that is not carried and requests something."""
    for name, why in LEFT_OUT.items():
        if name in mirror and _requests_something(name, mirror[name].plain()):
            yield name, mirror[name], f"hub-export carries operators and images; {why}"


def _requests_something(name: str, value: Any) -> bool:
    if name == "platform":
        # A channel without fields is a channel; a misspelt field may have been one.
        fields = {field: content for field, content in (value or {}).items() if field not in _NO_REQUESTS}
        return bool(fields.pop("channels", None)) or not _is_blank(fields)
    return not _is_blank(value)


def _is_blank(value: Any) -> bool:
    """Return whether a value requests nothing: empty, or with empty values only."""
    if isinstance(value, dict | list):
        return all(map(_is_blank, value.values() if isinstance(value, dict) else value))
    return not value
