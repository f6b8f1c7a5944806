"""Parity: a file beside a volume that mends it alone (docs/archive-format.md, *Parity*; ADR 0012).

A volume is cut into blocks; every `groups`-th block belongs to one group, so that a run of bad blocks is spread over all of
them; each group has `parity` blocks of Reed-Solomon code and so survives the loss of as many. A SHA-256 for each block tells
the bad ones. This module owns the geometry and the file's bytes; `repair.py` mends. The only home of zfec, with `repair.py`.
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
HASH = 32
_MAGIC = b"HUBPAR\x00\x01"
_HEADER = struct.Struct("<8sIIIIQ32s32s")  # magic, block, data blocks, groups, parity of a group, size, two checksums
HEADER_SIZE = _HEADER.size + HASH
MIN_BLOCK, MAX_BLOCK = 4096, 1024 * 1024
_FEW = 128  # blocks that a small volume is cut into, at least, so that parity of a few percent is fine enough
_SHARES = 256  # the most blocks that one group may have, parity among them: the field is GF(2^8)
_MEMORY = 32 * 1024 * 1024
MAX_VOLUME = 1 << 50


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a volume of `size` bytes is cut: `count` blocks of `block` bytes in `groups`, each with `parity` more."""

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
        """The blocks of the volume; the last one may be short, and counts as if zeros filled it."""
        return _blocks(self.size, self.block)

    @property
    def data(self) -> int:
        """The blocks of a group; where the volume has none left for it, a block of zeros."""
        return -(-self.count // self.groups)

    @property
    def table_size(self) -> int:
        """The bytes of the checksums of all blocks, the volume's first."""
        return HASH * (self.count + self.groups * self.parity)

    @property
    def first(self) -> int:
        """Where the parity blocks begin."""
        return HEADER_SIZE + self.table_size

    @property
    def file_size(self) -> int:
        """The bytes of the parity file: header and table stand at its beginning and again, table first, at its end."""
        return 2 * self.first + self.groups * self.parity * self.block

    @property
    def step(self) -> int:
        """How much of each block of a group is worked on at a time: memory does not grow with the volume."""
        return min(self.block, max(MIN_BLOCK, 1 << (_MEMORY // (self.data + self.parity)).bit_length() - 1))

    def block_of(self, group: int, number: int) -> int | None:
        """Return which block of the volume is the `number`-th of a group; None for one of zeros."""
        index = group + number * self.groups
        return index if index < self.count else None

    def place(self, group: int, number: int) -> int:
        """Return where the `number`-th parity block of a group lies."""
        return self.first + (number * self.groups + group) * self.block


def bound(size: int, share: Fraction) -> int:
    """Return the most bytes that the parity of a volume of at most `size` bytes takes."""
    count = _blocks(size, _block(size))
    groups = -(-count // _most_data(share))
    blocks = -(-count * share.numerator // share.denominator) + 2 * groups
    return blocks * _block(size) + 2 * (HEADER_SIZE + HASH * (count + blocks))


def room(size: int, share: Fraction) -> int:
    """Return how large a volume may be, so that it and its parity take at most `size` bytes."""
    fits = size
    while share and fits > 0 and (over := fits + bound(fits, share) - size) > 0:
        fits -= max(over * share.denominator // (share.denominator + share.numerator), 1)
    return max(fits, 0)


def make(volume: Path, share: Fraction, checksum: str, advance: Callable[[int], None]) -> tuple[Path, str]:
    """Write the parity of a finished volume beside it, durable; return its path and checksum (64 hex digits).

    `checksum` is the volume's, `advance` is told of the bytes that were read. Raises OSError, UsageError without zfec.
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
    hasher = Hasher()
    read_back(path, 0, geometry.file_size, hasher, lambda _size: None)
    return path, hex_of(hasher.digest())


def pack(geometry: Geometry, checksum: str, table: bytes) -> bytes:
    """Return the header."""
    sums = bytes.fromhex(checksum), hashlib.sha256(table).digest()
    head = _HEADER.pack(_MAGIC, geometry.block, geometry.count, geometry.groups, geometry.parity, geometry.size, *sums)
    return head + hashlib.sha256(head).digest()


def read_header(file: int, size: int) -> tuple[Geometry, str, bytes]:
    """Return geometry, checksum of the volume, and table of a parity file of `size` bytes; either copy will do.

    Raises ContentError when neither is whole, or what they say cannot be.
    """
    damage = ""
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
    """Give a step of the named blocks of a group, from byte `start` of each on: the volume's first, then its parity's.

    `file`: gives zeros where the volume ends. Raises OSError.
    """
    for number in numbers:
        index = geometry.block_of(group, number)
        place = geometry.size if index is None else index * geometry.block + start
        length = min(geometry.step, geometry.block - start)
        content = os.pread(file, max(min(length, geometry.size - place), 0), place)
        yield content.ljust(length, b"\0")


def _fill(source: int, file: int, geometry: Geometry, checksum: str, advance: Callable[[int], None]) -> None:
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
        MIN_BLOCK <= block <= MAX_BLOCK
        and block & (block - 1) == 0
        and 0 < size <= MAX_VOLUME
        and count == geometry.count
        and 0 < groups <= count
        and 0 < parity < _SHARES
        and geometry.data + parity <= _SHARES
    )
    if not possible or file_size != geometry.file_size:
        raise ContentError("its header says what cannot be")
    return geometry, volume.hex(), table


def _block(size: int) -> int:
    """Return the block size: a power of two, 1 MiB but for volumes so small that this would be too coarse."""
    return min(MAX_BLOCK, max(MIN_BLOCK, 1 << max(size // _FEW, 1).bit_length() - 1))


def _blocks(size: int, block: int) -> int:
    return max(1, -(-size // block))


def _parity(data: int, share: Fraction) -> int:
    return max(1, -(-data * share.numerator // share.denominator))


def _most_data(share: Fraction) -> int:
    """Return how many blocks a group has room for beside its parity."""
    return next(data for data in range(_SHARES - 1, 0, -1) if data + _parity(data, share) <= _SHARES)
