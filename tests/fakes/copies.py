"""Copies of what came as JSON or YAML, at a tenth of the time of `copy.deepcopy`, which took a quarter of the fake cluster's CPU."""

from __future__ import annotations

import copy
import marshal
from typing import TypeVar

Value = TypeVar("Value")


def copied(value: Value) -> Value:
    """Return a copy that shares nothing with its original."""
    try:
        return marshal.loads(marshal.dumps(value))
    except ValueError:  # not of plain types alone
        return copy.deepcopy(value)
