"""Which volumes are whose, where several processes share one archive: a range that a person names, or a shard of N."""

from __future__ import annotations

import re

from common.errors import UsageError

_INDEX = re.compile(r"\d{1,9}", re.ASCII)
_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6})?)?", re.ASCII)


def named(text: str, count: int) -> range:
    """Return the volumes of `3`, `3-5` or `3-` among `count`, which are counted from 1. Raises UsageError."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"not a range of volumes: {text[:40]!r}", hint="Wanted: --volumes 3-5, or one number.")
    first = int(match[1])
    last = first if "-" not in text else int(match[2] or count)
    if not 1 <= first <= last <= count:
        raise UsageError(f"--volumes {text.strip()}: the archive has volumes 1 to {count}", hint="Name a range of these.")
    return range(first, last + 1)


def index_of(text: str) -> int:
    """Return the index of a shard from JOB_COMPLETION_INDEX, which may be empty. Raises UsageError."""
    if _INDEX.fullmatch(text) is None:
        raise UsageError(
            f"JOB_COMPLETION_INDEX is not the number of a shard: {text[:40]!r}"
            if text
            else "--shards without JOB_COMPLETION_INDEX",
            hint="An indexed Job sets it; elsewhere set it yourself, or name the volumes with --volumes.",
        )
    return int(text)


def shard(index: int, shards: int, count: int) -> range:
    """Return the volumes of shard `index` (from 0) of `shards`: all of `count`, each once, as even as can be; none is possible.

    Raises UsageError for an index that is none of the shards'.
    """
    if not 0 <= index < shards:
        raise UsageError(
            f"shard {index} of {shards}: shards are counted from 0 to {shards - 1}",
            hint="Give --shards the number of completions of the Job.",
        )
    return range(index * count // shards + 1, (index + 1) * count // shards + 1)
