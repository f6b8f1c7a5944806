"""Sections of oc-mirror's files that hub-export does not carry: each is left out with a problem, unless it requests nothing.

Rules: ADR 0029.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.serialization import Placed

LEFT_OUT = {
    "helm": "for charts list their images under additionalImages",
    "samples": "list the samples' images under additionalImages",
}
TYPES: dict[str, type] = {"helm": dict, "samples": list}
LISTS = {"helm": ("repositories", "local"), "samples": ()}


def left_out(mirror: dict[str, Placed]) -> Iterator[tuple[str, Placed, str]]:
    """Yield name, position and reason of each section that is not carried and requests something."""
    for name, why in LEFT_OUT.items():
        if name in mirror and not _is_blank(mirror[name].plain()):
            yield name, mirror[name], f"hub-export carries operators, releases and images; {why}"


def _is_blank(value: Any) -> bool:
    """Return whether a value requests nothing: empty, or with empty values only."""
    if isinstance(value, dict | list):
        return all(map(_is_blank, value.values() if isinstance(value, dict) else value))
    return not value
