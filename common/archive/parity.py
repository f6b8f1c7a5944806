"""Parity files: Reed-Solomon code that repairs a volume (docs/reference/archive-format.md, *Parity*; ADR 0012).

A volume is divided into blocks, and these into groups; a group has `parity` blocks of code and survives the loss of as many.
A SHA-256 of each block identifies the damaged ones. This module has the geometry and the file format; the importer repairs.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.archive.direct_io import read_back, read_exactly, write_all
from common.distribution import how_to_install
from common.errors import ContentError, UsageError
from common.oci.image import Hasher, hex_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from fractions import Fraction
    from pathlib import Path


SUFFIX = ".parity"
HASH = 32  # bytes of a SHA-256 checksum
_MAGIC = b"HUBPAR\x00\x01"
_HEADER = struct.Struct("<8sIIIIQ32s32s")  # magic, block, data blocks, groups, parity of a group, size, two checksums
HEADER_SIZE = _HEADER.size + HASH
MIN_BLOCK, MAX_BLOCK = 4096, 1024 * 1024
_FEW = 128  # blocks of a small volume, at least: five percent of ten blocks would be one
_SHARES = 256  # blocks of one group, at most, parity included: zfec computes in GF(2^8)
_MEMORY = 32 * 1024 * 1024  # bytes of one step over all blocks of a group
# 16 TiB, the largest file of ext4. Bounds the table that a damaged or hostile header makes a reader allocate: 512 MiB and the
# share of parity. A sparse file of some kilobytes has the size of any parity.
MAX_VOLUME = 1 << 44


@dataclass(frozen=True, slots=True)
class Geometry:
    """Division of a volume of `size` bytes: `count` blocks of `block` bytes in `groups`, each with `parity` blocks of code."""

    size: int
    block: int
    groups: int
    parity: int

    @classmethod
    def of(cls, size: int, share: Fraction) -> Geometry:
        """Return the geometry that lets a group lose `share` of its blocks."""
        block = _block(size)
        count = _blocks(size, block)
        groups = -(-count // _most_data(share))
        return cls(size, block, groups, _parity(-(-count // groups), share))

    @property
    def count(self) -> int:
        """The number of blocks of the volume; the last one may be short and is padded with zeros."""
        return _blocks(self.size, self.block)

    @property
    def data(self) -> int:
        """The number of blocks of a group; a group that has fewer is padded with blocks of zeros."""
        return -(-self.count // self.groups)

    @property
    def table_size(self) -> int:
        """Bytes of the checksums of all blocks, those of the volume first."""
        return HASH * (self.count + self.groups * self.parity)

    @property
    def first(self) -> int:
        """Position of the first parity block."""
        return HEADER_SIZE + self.table_size

    @property
    def file_size(self) -> int:
        """Bytes of the parity file."""
        # Header and table are there twice, at both ends: the file is on the medium that damaged the volume.
        return 2 * self.first + self.groups * self.parity * self.block

    @property
    def step(self) -> int:
        """Bytes of each block of a group that are processed at a time: memory does not grow with the volume."""
        return min(self.block, max(MIN_BLOCK, 1 << (_MEMORY // (self.data + self.parity)).bit_length() - 1))

    def block_of(self, group: int, number: int) -> int | None:
        """Return the index in the volume of the `number`-th block of a group; None for a block of zeros."""
        # Neighbours belong to different groups, so that a scratch, a run of bad blocks, is spread over all of them.
        index = group + number * self.groups
        return index if index < self.count else None

    def place(self, group: int, number: int) -> int:
        """Return the position of the `number`-th parity block of a group."""
        return self.first + (number * self.groups + group) * self.block


def bound(size: int, share: Fraction) -> int:
    """Return the most bytes that the parity of a volume of at most `size` bytes takes."""
    # Members and parity of a group are both rounded up: two more blocks of parity for each group.
    count = _blocks(size, _block(size))
    groups = -(-count // _most_data(share))
    blocks = -(-count * share.numerator // share.denominator) + 2 * groups
    return blocks * _block(size) + 2 * (HEADER_SIZE + HASH * (count + blocks))


def room(size: int, share: Fraction) -> int:
    """Return the largest size of a volume that takes, with its parity if any, at most `size` bytes."""
    # `bound` has steps, so there is no formula; the correction converges in a few rounds.
    fits = min(size, MAX_VOLUME) if share else size
    while share and fits > 0 and (over := fits + bound(fits, share) - size) > 0:
        fits -= max(over * share.denominator // (share.denominator + share.numerator), 1)
    return max(fits, 0)


def make(volume: Path, share: Fraction, checksum: str, advance: Callable[[int], None]) -> tuple[Path, str]:
    """Write the parity of a finished volume next to it, durably; return its path and checksum (64 hex digits).

    `checksum` is the volume's; `advance` gets the number of bytes read. Raises OSError, UsageError without zfec.
    """
    path = volume.with_name(volume.name + SUFFIX)
    geometry = Geometry.of(volume.stat().st_size, share)
    source = os.open(volume, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            _fill(source, file, geometry, checksum, advance)
            os.fsync(file)
        finally:
            os.close(file)
    finally:
        os.close(source)
    # The checksum is that of the medium: what cannot be read back would not repair anything.
    hasher = Hasher()
    read_back(path, 0, geometry.file_size, hasher, lambda _size: None)
    return path, hex_of(hasher.digest())


def pack(geometry: Geometry, checksum: str, table: bytes) -> bytes:
    """Return the header."""
    sums = bytes.fromhex(checksum), hashlib.sha256(table).digest()
    head = _HEADER.pack(_MAGIC, geometry.block, geometry.count, geometry.groups, geometry.parity, geometry.size, *sums)
    return head + hashlib.sha256(head).digest()


def read_header(file: int, size: int) -> tuple[Geometry, str, bytes]:
    """Return geometry, checksum of the volume, and table of a parity file of `size` bytes, from either copy.

    Raises ContentError when neither is whole, or their values are impossible.
    """
    damage = ""  # of the first copy: the second one is searched for from the end, so a file cut short breaks it as well
    for at in (0, size - HEADER_SIZE):
        try:
            geometry, checksum, wanted = _unpack(read_exactly(file, HEADER_SIZE, max(at, 0)), size)
            table = read_exactly(file, geometry.table_size, HEADER_SIZE if at == 0 else at - geometry.table_size)
        except ContentError as error:
            damage = damage or str(error)
            continue
        if hashlib.sha256(table).digest() == wanted:
            return geometry, checksum, table
        damage = damage or "its checksums are damaged"
    raise ContentError(f"both of its headers are of no use: {damage}")


def coder(kind: str, data: int, parity: int) -> Any:
    """Return zfec's `Encoder` or `Decoder` for a group. Raises UsageError where zfec is not installed."""
    # An optional dependency, for its licence (GPL) and its few wheels (ADR 0012); imported when it is used.
    try:
        zfec = importlib.import_module("zfec")
    except ImportError as error:
        raise UsageError(
            "parity needs the package zfec, which is not installed",
            hint=f"{how_to_install('zfec', 'python3-zfec')} Without a network: a kit made with hub-export kit --parity.",
        ) from error
    return getattr(zfec, kind)(data, data + parity)


def require_coder() -> None:
    """Raise UsageError where zfec is not installed."""
    coder("Encoder", 1, 1)


def slices(file: int, geometry: Geometry, group: int, numbers: Sequence[int], start: int) -> Iterator[bytes]:
    """Yield one step of the blocks `numbers` of a group, from byte `start` of each on, zeros after the end of the volume.

    Raises OSError.
    """
    for number in numbers:
        index = geometry.block_of(group, number)
        place = geometry.size if index is None else index * geometry.block + start
        length = min(geometry.step, geometry.block - start)
        content = os.pread(file, max(min(length, geometry.size - place), 0), place)
        yield content.ljust(length, b"\0")


def _fill(source: int, file: int, geometry: Geometry, checksum: str, advance: Callable[[int], None]) -> None:
    # The table comes first in the file but is known last, so the blocks are written before it.
    hashes = [bytes(HASH)] * (geometry.count + geometry.groups * geometry.parity)
    encoder = coder("Encoder", geometry.data, geometry.parity)
    for group in range(geometry.groups):
        _fill_group((source, file), geometry, group, encoder, hashes)
        advance(sum(geometry.block for number in range(geometry.data) if geometry.block_of(group, number) is not None))
    table = b"".join(hashes)
    header = pack(geometry, checksum, table)
    write_all(file, [header, table], 0)
    write_all(file, [table, header], geometry.file_size - geometry.first)


def _fill_group(files: tuple[int, int], geometry: Geometry, group: int, encoder: Any, hashes: list[bytes]) -> None:
    source, file = files
    data, more = range(geometry.data), range(geometry.parity)
    # All blocks of a group at once, but only a step of each: the code works on bytes of the same position.
    hashers = [hashlib.sha256() for _ in range(geometry.data + geometry.parity)]
    for start in range(0, geometry.block, geometry.step):
        parts = list(slices(source, geometry, group, data, start))
        parity = encoder.encode(parts, list(range(geometry.data, geometry.data + geometry.parity)))
        for number in more:
            write_all(file, [parity[number]], geometry.place(group, number) + start)
        for hasher, part in zip(hashers, (*parts, *parity), strict=True):
            hasher.update(part)
    for number in data:
        index = geometry.block_of(group, number)
        if index is not None:
            hashes[index] = hashers[number].digest()
    for number in more:
        where = geometry.count + number * geometry.groups + group
        hashes[where] = hashers[geometry.data + number].digest()


def _unpack(raw: bytes, file_size: int) -> tuple[Geometry, str, bytes]:
    magic, block, count, groups, parity, size, volume, table = _HEADER.unpack(raw[: _HEADER.size])
    if magic != _MAGIC:
        raise ContentError("it is not of a version that this program reads")
    if hashlib.sha256(raw[: _HEADER.size]).digest() != raw[_HEADER.size :]:
        raise ContentError("its header is damaged")
    geometry = Geometry(size, block, max(groups, 1), parity)
    possible = (
        0 < size <= MAX_VOLUME
        and block == _block(size)  # the format leaves no choice, and small blocks make a large table
        and count == geometry.count
        and 0 < groups <= count
        and 0 < parity < _SHARES
        and geometry.data + parity <= _SHARES
    )
    if not possible or file_size != geometry.file_size:
        raise ContentError("its header has impossible values")
    return geometry, volume.hex(), table


def _block(size: int) -> int:
    """Return the block size: a power of two, 1 MiB except for small volumes."""
    return min(MAX_BLOCK, max(MIN_BLOCK, 1 << max(size // _FEW, 1).bit_length() - 1))


def _blocks(size: int, block: int) -> int:
    return max(1, -(-size // block))


def _parity(data: int, share: Fraction) -> int:
    return max(1, -(-data * share.numerator // share.denominator))


def _most_data(share: Fraction) -> int:
    """Return the most blocks of content that a group may have next to its parity."""
    return next(data for data in range(_SHARES - 1, 0, -1) if data + _parity(data, share) <= _SHARES)
