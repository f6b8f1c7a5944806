"""The metadata region: index, manifests and inventory, the same in every volume.

Specification: docs/reference/archive-format.md, *A volume*, 2.

This module writes it; `common.archive.reader` reads it.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from common.archive import frames, inventory_file
from common.archive.inventory import ImageRecord, Inventory, ManifestRecord, Problem, ProblemCode
from common.archive.volume import TAR_BLOCK, entry_name, padded, padding, tar_header
from common.oci import media_types
from common.oci.image import Digest, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


# The grammar of names in the `index.json` of an OCI image layout (OCI image specification 1.1, annotations).

_ALPHANUM = "[A-Za-z0-9]+"
_COMPONENT = rf"{_ALPHANUM}(?:(?:[-._:@+]|--){_ALPHANUM})*"
_REF_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)


def ref_name(source: str, digest: Digest) -> str:
    """Return the name of an image: its source reference, or its digest where the grammar does not allow the reference."""
    return source if _REF_NAME.fullmatch(source) else digest


INDEX_NAME = "index.json"
FRAME_CONTENT = 1024 * 1024  # a reader decompresses one frame for each manifest that it looks up
# The size of the region is needed before fetching (ADR 0003), and fetching adds to the inventory; so there is room for these.
PROBLEMS_ROOM = 256 * 1024  # bytes of JSON for problems found while fetching
_PIECE_ROOM = 256  # bytes of JSON for the place of a blob, at its longest
_SIGNATURE_ROOM = 2048  # the frame of the signature, with its tar header
_RECORD_INDENT = 64  # bytes that indentation adds to the compact form of a problem, at most


@dataclass(frozen=True, slots=True)
class Region:
    """A finished metadata region. `inventory_at`: position of the inventory's content frame, from the start of the region."""

    frames: tuple[bytes, ...]
    inventory_at: int
    inventory_stored: int

    @property
    def size(self) -> int:
        """Bytes of the whole region."""
        return sum(map(len, self.frames))


def build(
    index_json: bytes, manifests: Mapping[Digest, bytes], inventory_json: bytes, signature: bytes | None = None
) -> Region:
    """Return the region: index, manifests in the given order, inventory, its signature. Same input, same bytes."""
    return build_in_parts(index_json, manifests, lambda: [inventory_json], signature)


def build_in_parts(
    index_json: bytes,
    manifests: Mapping[Digest, bytes],
    inventory_json: Callable[[], Iterable[bytes]],
    signature: bytes | None = None,
) -> Region:
    """Return the same region for an inventory that comes in parts, each time that it is asked for (ADR 0086)."""
    size = sum(map(len, inventory_json()))
    before = [frames.compress(part) for part in _cut(_entries(index_json, manifests, size))]
    content = frames.compress_parts(inventory_json(), size)
    if size > frames.content_bound(len(content)):
        # Not compressed: readers bound the content of so short a frame (ADR 0030).
        content = frames.long_raw_frame(b"".join(inventory_json()))
    rest = bytes(padding(size))
    if signature is not None:
        rest += tar_header(inventory_file.SIGNATURE_NAME, len(signature)) + padded(signature)
    after = [frames.compress(rest)] if rest else []
    return Region((*before, content, *after), sum(map(len, before)), len(content))


def bound(inventory: Inventory, index_json: bytes) -> int:
    """Return an upper bound of the bytes of the region, from a planned inventory: blobs without pieces, no volumes yet.

    Counts one piece for each blob, PROBLEMS_ROOM, and a signature. Records of volumes and of further pieces are in
    `layout.VOLUME_ROOM`.
    """
    before = entries_size(inventory, index_json)
    listed = sum(map(len, inventory_file.parts(inventory))) + _PIECE_ROOM * len(inventory.blobs) + PROBLEMS_ROOM
    cuts = before // FRAME_CONTENT * frames.compress_bound(0)
    return (
        frames.compress_bound(before)
        + cuts
        + frames.compress_bound(listed)
        + frames.compress_bound(TAR_BLOCK)
        + _SIGNATURE_ROOM
    )


def entries_size(inventory: Inventory, index_json: bytes) -> int:
    """Return the bytes of tar in front of the inventory's content."""
    # Readers bound the decompression of the region by this number.
    manifests = sum(TAR_BLOCK + record.size + padding(record.size) for record in inventory.manifests.values())
    return 2 * TAR_BLOCK + len(padded(index_json)) + manifests


def within_room(found: Sequence[Problem]) -> tuple[Problem, ...]:
    """Return the problems found while fetching, as many as PROBLEMS_ROOM takes; a last one counts the rest."""
    kept: list[Problem] = []
    room = PROBLEMS_ROOM - TAR_BLOCK
    for number, problem in enumerate(found):
        room -= len(msgspec.json.encode(problem)) + _RECORD_INDENT
        if room < 0:
            left = len(found) - number
            message = f"{left} further problems are not listed; the records of images and blobs have them all"
            kept.append(Problem("error", ProblemCode.BLOB_UNAVAILABLE, "archive", message))
            break
        kept.append(problem)
    return tuple(kept)


def index_json(images: Iterable[ImageRecord], manifests: Mapping[Digest, ManifestRecord]) -> bytes:
    """Return the OCI index of the archive: each top-level image that is carried, under its source reference.

    Nothing in it depends on the host or on the order of `images`.
    """
    named = sorted({(ref_name(i.source, i.digest), i.digest) for i in images if i.digest is not None and i.digest in manifests})
    # One after the other: all of them as dictionaries would take several times their bytes.
    made = io.BytesIO()
    made.write(encode({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []})[: -len("]}")])
    for number, (name, digest) in enumerate(named):
        made.write((b"," if number else b"") + _descriptor(name, digest, manifests[digest]))
    made.write(b"]}")
    return made.getvalue()


def _descriptor(name: str, digest: Digest, record: ManifestRecord) -> bytes:
    return encode(
        {
            "mediaType": record.media_type,
            "digest": digest,
            "size": record.size,
            "annotations": {"org.opencontainers.image.ref.name": name},
        }
    )


def _entries(index_json: bytes, manifests: Mapping[Digest, bytes], inventory_size: int) -> Iterator[bytes]:
    """Yield the tar up to the content of the inventory."""
    yield tar_header(INDEX_NAME, len(index_json)) + padded(index_json)
    for digest, raw in manifests.items():
        yield tar_header(entry_name(digest), len(raw)) + padded(raw)
    yield tar_header(inventory_file.NAME, inventory_size)


def _cut(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in chunks of FRAME_CONTENT."""
    pending = bytearray()
    for part in parts:
        pending += part
        while len(pending) >= FRAME_CONTENT:
            yield bytes(pending[:FRAME_CONTENT])
            del pending[:FRAME_CONTENT]
    if pending:
        yield bytes(pending)
