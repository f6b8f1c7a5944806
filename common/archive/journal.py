"""The journal of an export: the layout that its volumes are being filled by, so that a later run knows where things lie.

It is written before the first volume and goes after SHA256SUMS. What has been filled is not in it: the places tell that
themselves (`resume.py`), and need no order of writing.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from common.archive.inventory import VolumeRecord
from common.archive.layout import Layout, PlacedBlob
from common.errors import ContentError
from common.files import write_atomic
from common.log import logger
from common.serialization import UNDECODABLE, decode_bounded

NAME = "hub-export.journal"
MAX_SIZE = 1024 * 1024 * 1024
_TYPE = "application/vnd.hub-airgap.journal.v1+json"
_LOG = logger(__name__)


class _Journal(msgspec.Struct, rename="camel"):
    media_type: str
    volumes: tuple[VolumeRecord, ...]
    reserve: int
    blobs: list[PlacedBlob]


_JOURNAL = msgspec.json.Decoder(_Journal)


def write(path: Path, layout: Layout) -> None:
    """Write the journal of a layout; durable when this returns. Raises OSError."""
    write_atomic(path, encode(layout))


def encode(layout: Layout) -> bytes:
    """Return the bytes of a journal. Same layout, same bytes."""
    return msgspec.json.encode(_Journal(_TYPE, layout.volumes, layout.reserve, list(layout.blobs.values()))) + b"\n"


def read(path: Path) -> Layout | None:
    """Return the layout of an interrupted export; None where there is none that this version reads."""
    try:
        raw = path.read_bytes() if path.stat().st_size <= MAX_SIZE else b""
        journal = decode_bounded(raw, _JOURNAL)
    except (OSError, *UNDECODABLE, ContentError) as error:
        _LOG.info("%s: %s", path, error)
        return None
    if journal.media_type != _TYPE:
        return None
    return Layout({blob.descriptor.digest: blob for blob in journal.blobs}, journal.volumes, journal.reserve)
