"""JSON values that are decoded later, or never."""

from __future__ import annotations

import msgspec

ABSENT = msgspec.Raw()  # msgspec has no union of Raw with None


def is_given(raw: msgspec.Raw) -> bool:
    """Say whether there is a value; null is none."""
    return memoryview(raw)[:5].tobytes() not in {b"", b"null"}
