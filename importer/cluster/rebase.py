"""The former value of a field, brought up to date with what others have changed between two of our changes. Pure.

Without that, `undo` after a second apply would take out what others put there between the first and the second.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

_AUTHS = "auths"


def docker_config(value: Any) -> dict[str, Any] | None:
    """Return a Docker configuration (`auths` by registry), as a Secret has it in base64; None for any other value."""
    try:
        document = json.loads(base64.b64decode(value, validate=True))
    except (ValueError, TypeError, RecursionError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get(_AUTHS), dict) else None


def encoded(document: Mapping[str, Any]) -> str:
    """Return a Docker configuration as a Secret has it."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def rebased(before: Any, after: Any, now: Any) -> Any:
    """Return `before` with what others have changed since we wrote `after`; `now` is what is there at present.

    Items of lists and registry credentials that we changed stay as they were before; all others are as they are now. A value of
    another type is returned as it is.
    """
    if now == after:
        return before
    if isinstance(before, list) and isinstance(after, list) and isinstance(now, list):
        kept = [item for item in before if item in now or item not in after]
        return kept + [item for item in now if item not in before and item not in after]
    former, written, present = map(docker_config, (before, after, now))
    if former is None or written is None or present is None:
        return before
    document = {**present, _AUTHS: _rebased_keys(former[_AUTHS], written[_AUTHS], present[_AUTHS])}
    return before if document == former else encoded(document)


def _rebased_keys(before: Mapping[str, Any], after: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    kept = {key: value if key in changed else now[key] for key, value in before.items() if key in changed or key in now}
    return {**kept, **{key: value for key, value in now.items() if key not in before and key not in changed}}
