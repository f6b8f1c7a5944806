"""What the template of a namespace may give it: labels and annotations that Kubernetes accepts. Pure.

A template is the text of a catalog's publisher. Its labels are written into the cluster, into rendered files and into commands
that a person may copy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from importer.install.offers import Chosen

# kubernetes, apimachinery/pkg/util/validation, IsQualifiedName and IsValidLabelValue
_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_NAME}")
_VALUE = re.compile(rf"({_NAME})?")


def labels_of(members: Sequence[Chosen]) -> dict[str, str]:
    """Return the labels that the templates of operators give their namespace, without those that Kubernetes refuses."""
    return {key: value for key, value in _of("labels", members).items() if _VALUE.fullmatch(value)}


def annotations_of(members: Sequence[Chosen]) -> dict[str, str]:
    """Return the annotations that the templates of operators give their namespace."""
    return _of("annotations", members)


def _of(field: str, members: Sequence[Chosen]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in members:
        listed = (one.template.get("metadata") or {}).get(field)
        for key, value in listed.items() if isinstance(listed, dict) else ():
            text = _text(value)
            # One key that is wrong would let the API server refuse the namespace, and with it the operator.
            if text is not None and _KEY.fullmatch(key):
                found[key] = text
    return found


def _text(value: Any) -> str | None:
    """Return a value as JSON spells it: publishers write `true` without quotes; None for what is no value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int)) else None
