"""The parts of a volume around its content: names, tar headers, padding, first entry, end mark, footer.

Pure. The tar is POSIX pax: mode 0644, no owner, no time (docs/reference/archive-format.md, *A volume*). Each part is a
Zstandard frame of known length, so that the layout is exact to the byte.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from common.archive import frames
from common.archive.frames import FOOTER_MAGIC, SKIPPABLE_HEADER
from common.errors import ArchiveError, ContentError
from common.oci.image import PREFIX, Digest, hex_of

if TYPE_CHECKING:
    from common.archive.inventory import Piece

MAX_VOLUMES = 100_000
MAX_PIECES = 999  # of one blob: three digits in its names
PAX_SIZE = 8 * 1024**3  # from this size on 11 octal digits, the size field of a ustar header, do not suffice
TAR_BLOCK = 512
_NAME_FIELD = 100
# Four digits and more, up to MAX_VOLUMES; names sort by number up to 9,999 volumes.
VOLUME_NAME = re.compile(r"volume-(\d{4,6})\.tar\.zst", re.ASCII)
REPORT_NAME = "report.html"
JOURNAL_NAME = "hub-export.journal"  # in a directory whose volumes are not complete yet
_TAG = b"HUBVOL\x00"
_VERSION = 1


def volume_name(number: int) -> str:
    """Return the file name of volume `number`, counted from 1."""
    return f"volume-{number:04d}.tar.zst"


def entry_name(digest: Digest, number: int = 1, count: int = 1) -> str:
    """Return the tar name of a blob, or of piece `number` of `count` of it."""
    piece = f".piece-{number:03d}-of-{count:03d}" if count > 1 else ""
    return f"blobs/sha256/{hex_of(digest)}{piece}"


def octal(digits: bytes) -> int | None:
    """Return a number of a tar header, in octal digits (POSIX.1-1988, ustar); None where a damaged one has an 8 or a 9."""
    return int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else None


def tar_header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """Return one ustar header block."""
    if len(name) > _NAME_FIELD:
        raise ValueError(f"the name {name!r} does not fit into a tar header")
    fields = (
        name.encode("ascii").ljust(_NAME_FIELD, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        b"%011o\0" % (0 if size >= PAX_SIZE else size) + b"0" * 11 + b"\0",
        b" " * 8 + kind + b"\0" * 100 + b"ustar\x0000" + b"\0" * 64 + b"0000000\0" * 2,
    )
    # The checksum is over the header with spaces in the place of the checksum (POSIX ustar): `b" " * 8` above.
    block = b"".join(fields).ljust(TAR_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def entry_header(name: str, size: int) -> bytes:
    """Return all headers of a tar entry: from 8 GiB on with a pax header that has the size."""
    if size < PAX_SIZE:
        return tar_header(name, size)
    record = _pax_record(size)
    return tar_header("PaxHeader", len(record), b"x") + padded(record) + tar_header(name, size)


def _pax_record(size: int) -> bytes:
    """Return the pax record `LENGTH size=VALUE`."""
    # LENGTH counts itself; values from 8 GiB to 2^63 have 10 to 19 digits, so it always has two digits.
    body = b" size=%d\n" % size
    return b"%d" % (len(body) + 2) + body


def padding(size: int) -> int:
    """Return the number of zero bytes that a tar has after `size` bytes of content."""
    return -size % TAR_BLOCK


def padded(content: bytes) -> bytes:
    """Return content with its padding."""
    return content + bytes(padding(len(content)))


def header_frame(name: str, size: int) -> bytes:
    """Return the frame in front of the content frame of an entry."""
    return frames.raw_frame(entry_header(name, size))


def header_frame_size(size: int) -> int:
    """Return the length of `header_frame` for an entry of `size` bytes."""
    return frames.raw_frame_size(TAR_BLOCK if size < PAX_SIZE else 3 * TAR_BLOCK)


def padding_frame(size: int) -> bytes:
    """Return the frame after the content frame of an entry; empty when there is no padding."""
    return frames.raw_frame(bytes(padding(size))) if padding(size) else b""


def padding_frame_size(size: int) -> int:
    """Return the length of `padding_frame`."""
    return frames.raw_frame_size(padding(size)) if padding(size) else 0


def extent(piece: Piece) -> tuple[int, int]:
    """Return begin and end of a piece in its volume, from tar header to padding."""
    return piece.offset - header_frame_size(piece.size), piece.offset + piece.stored + padding_frame_size(piece.size)


_OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
OPENING = frames.raw_frame(tar_header("oci-layout", len(_OCI_LAYOUT)) + padded(_OCI_LAYOUT))
END_MARK = frames.raw_frame(bytes(2 * TAR_BLOCK))
FOOTER_SIZE = SKIPPABLE_HEADER + 72
CLOSING_SIZE = len(END_MARK) + FOOTER_SIZE


@dataclass(frozen=True, slots=True)
class Footer:
    """The last 80 bytes of a volume. Offsets are from the beginning of the file."""

    number: int
    count: int
    metadata_offset: int
    inventory_offset: int
    inventory_stored: int
    inventory: Digest

    def pack(self) -> bytes:
        """Return the skippable frame."""
        numbers = struct.pack(
            "<IIQQQ", self.number, self.count, self.metadata_offset, self.inventory_offset, self.inventory_stored
        )
        payload = _TAG + bytes([_VERSION]) + numbers + bytes.fromhex(hex_of(self.inventory))
        return FOOTER_MAGIC + len(payload).to_bytes(4, "little") + payload

    @classmethod
    def unpack(cls, raw: bytes, file_size: int) -> Self:
        """Read the last bytes of a volume of `file_size` bytes.

        Raises ContentError when that is no footer or its numbers do not fit the file, ArchiveError for a later version.
        """
        # Everything but the version first: a file without a footer is reported as damaged, not as of another version.
        start = FOOTER_MAGIC + (FOOTER_SIZE - SKIPPABLE_HEADER).to_bytes(4, "little") + _TAG
        if len(raw) != FOOTER_SIZE or not raw.startswith(start):
            raise ContentError("it has no footer: cut short, damaged, or its export never finished")
        if raw[15] != _VERSION:
            raise ArchiveError(
                f"the volume has format version {raw[15]}; this program reads version {_VERSION}",
                hint=f"Use a hub-airgap that reads format version {raw[15]}.",
            )
        number, count, metadata, offset, stored = struct.unpack_from("<IIQQQ", raw, 16)
        footer = cls(number, count, metadata, offset, stored, Digest(PREFIX + raw[48:].hex()))
        footer._check(file_size)
        return footer

    def _check(self, file_size: int) -> None:
        if not 1 <= self.number <= self.count <= MAX_VOLUMES:
            raise ContentError(f"its footer calls it volume {self.number} of {self.count}")
        # All offsets in order and inside the file, so that later reads cannot leave it.
        inventory_end = self.inventory_offset + self.inventory_stored
        if not len(OPENING) <= self.metadata_offset < self.inventory_offset < inventory_end <= file_size - CLOSING_SIZE:
            raise ContentError(
                f"its footer names places outside the file of {file_size} bytes: metadata at {self.metadata_offset}, "
                f"inventory at {self.inventory_offset} to {inventory_end}"
            )
