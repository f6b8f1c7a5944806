"""Mending a volume with the parity file beside it, in place or into another directory.

A block is written only when the code gave exactly the content that its checksum wants; what is good is never touched. Too
much damage in one group does not keep the others from being mended.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from common.archive import checksums, parity
from common.archive.direct_io import read_back, write_all
from common.archive.parity import HASH, Geometry
from common.errors import ArchiveDamagedError, ContentError, ExitCode, UsageError
from common.files import require_space
from common.oci.image import Hasher, hex_of
from common.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from common.progress import Progress


class RepairStatus(StrEnum):
    """What became of a volume."""

    OK = "ok"  # nothing was wrong
    MENDED = "mended"
    DAMAGED = "damaged"  # more than the parity can mend


@dataclass(frozen=True, slots=True)
class Repaired:
    """A volume after repair: blocks in all, found bad, mended; `lacking`: how many more good blocks it would have taken."""

    path: Path
    status: RepairStatus
    block: int
    blocks: int
    bad: int
    mended: int
    lacking: int


class Repair:
    """One volume and its parity. `checksum`: what SHA256SUMS wants of the volume, where that is at hand."""

    def __init__(self, volume: Path, advance: Callable[[int], None], checksum: str | None = None) -> None:
        self._volume = volume
        self._advance = advance
        self._wanted = checksum

    def run(self, output: Path | None) -> Repaired:
        """Mend the volume in its place, or a copy of it in `output`.

        Raises ArchiveDamagedError when the parity file is of no use or of another volume, UsageError when the volume cannot
        be written, SpaceError, OSError.
        """
        beside = self._volume.with_name(self._volume.name + parity.SUFFIX)
        with _opened(beside, os.O_RDONLY) as file, _opened(self._volume, os.O_RDONLY) as source:
            try:
                geometry, checksum, table = parity.read_header(file, os.fstat(file).st_size)
            except ContentError as error:
                raise ArchiveDamagedError(f"{beside}: {error}", hint="Copy it again, or copy the volume again.") from error
            if self._wanted not in (None, checksum):
                raise ArchiveDamagedError(
                    f"{beside} is the parity of another volume: SHA256SUMS wants {self._wanted}, it would make {checksum}",
                    hint="Bring the right parity file.",
                )
            bad = self._bad(source, geometry, table)
            good = os.fstat(source).st_size == geometry.size
            if not bad and good and output is None:
                return Repaired(self._volume, RepairStatus.OK, geometry.block, geometry.count, 0, 0, 0)
            target = self._volume if output is None else self._copied(source, geometry, output)
            with _opened(target, os.O_RDWR) as mended:
                lacking = _Mending(file, source, mended, geometry, table).mend(bad)
                os.ftruncate(mended, geometry.size)
                os.fsync(mended)
        self._require_checksum(target, geometry, None if lacking else checksum)
        status = RepairStatus.DAMAGED if lacking else RepairStatus.MENDED if bad or not good else RepairStatus.OK
        left = sum(1 for index in bad if index % geometry.groups in lacking)
        return Repaired(target, status, geometry.block, geometry.count, len(bad), len(bad) - left, sum(lacking.values()))

    def _bad(self, source: int, geometry: Geometry, table: bytes) -> list[int]:
        """Return the blocks of the volume that are not what their checksum says, or cannot be read."""
        bad = []
        for index in range(geometry.count):
            if _block_sum(source, geometry, index) != table[index * HASH : (index + 1) * HASH]:
                bad.append(index)
            self._advance(geometry.block)
        return bad

    def _copied(self, source: int, geometry: Geometry, output: Path) -> Path:
        """Copy the volume, with zeros where it cannot be read."""
        output.mkdir(parents=True, exist_ok=True)
        require_space(output, geometry.size, "the mended volume")
        target = output / self._volume.name
        if target.exists():
            raise UsageError(f"{target} is there already", hint="Give --output a directory without volumes.")
        with _opened(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
            for index in range(geometry.count):
                length = min(geometry.block, geometry.size - index * geometry.block)
                content = _read(source, length, index * geometry.block) or b""
                write_all(file, [content.ljust(length, b"\0")], index * geometry.block)
        return target

    def _require_checksum(self, path: Path, geometry: Geometry, checksum: str | None) -> None:
        """Read the mended volume from its medium; what cannot be right any more after all that is a defect of the medium."""
        hasher = Hasher()
        if checksum is not None:
            read_back(path, 0, geometry.size, hasher, self._advance)
            if hex_of(hasher.digest()) != checksum:
                raise ArchiveDamagedError(
                    f"{path}: mended, and read back it is not what was written", hint="Use another medium with --output."
                )


class _Mending:
    """The groups of one volume: `source` is read, `target` written; they may be the same file."""

    def __init__(self, file: int, source: int, target: int, geometry: Geometry, table: bytes) -> None:
        self._parity = file
        self._source = source
        self._target = target
        self._geometry = geometry
        self._table = table

    def mend(self, bad: list[int]) -> dict[int, int]:
        """Mend every group that can be; return for the others how many good blocks they lack."""
        lacking: dict[int, int] = {}
        for group, count in Counter(index % self._geometry.groups for index in bad).items():
            good = [number for number in range(self._geometry.parity) if self._is_good(group, number)]
            if len(good) < count:
                lacking[group] = count - len(good)
            else:
                self._mend(group, [index for index in bad if index % self._geometry.groups == group], good[:count])
        return lacking

    def _mend(self, group: int, bad: list[int], spare: list[int]) -> None:
        geometry = self._geometry
        decoder = parity.coder("Decoder", geometry.data, geometry.parity)
        lost = {index // geometry.groups for index in bad}
        kept = [number for number in range(geometry.data) if number not in lost]
        numbers = [*kept, *(geometry.data + number for number in spare)]
        hashers = {index: hashlib.sha256() for index in bad}
        for write in (False, True):  # the code is tried before anything is written: a checksum may be wrong too
            for start in range(0, geometry.block, geometry.step):
                parts = list(parity.slices(self._source, geometry, group, kept, start))
                parts += [self._slice(group, number, start) for number in spare]
                made = decoder.decode(parts, numbers)
                for index in bad:
                    self._take(index, start, made[index // geometry.groups], None if write else hashers[index])
            if not write and any(h.digest() != self._table[i * HASH : (i + 1) * HASH] for i, h in hashers.items()):
                raise ArchiveDamagedError(f"group {group} cannot be mended: its parity gives other content than it promises")

    def _take(self, index: int, start: int, content: Any, hasher: Any) -> None:
        if hasher is not None:
            hasher.update(content)
            return
        place = index * self._geometry.block + start
        length = max(min(len(content), self._geometry.size - place), 0)
        if length:
            write_all(self._target, [memoryview(content)[:length]], place)

    def _slice(self, group: int, number: int, start: int) -> bytes:
        length = min(self._geometry.step, self._geometry.block - start)
        return os.pread(self._parity, length, self._geometry.place(group, number) + start)

    def _is_good(self, group: int, number: int) -> bool:
        at = (self._geometry.count + number * self._geometry.groups + group) * HASH
        content = _read(self._parity, self._geometry.block, self._geometry.place(group, number))
        return content is not None and hashlib.sha256(content).digest() == self._table[at : at + HASH]


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    try:
        file = os.open(path, flags | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        hint = "Mend a copy with --output DIR." if flags & os.O_RDWR else "Is the medium here, and readable?"
        raise UsageError(f"{path}: cannot be opened: {error.strerror}", hint=hint) from error
    try:
        yield file
    finally:
        os.close(file)


def _block_sum(file: int, geometry: Geometry, index: int) -> bytes | None:
    content = _read(file, geometry.block, index * geometry.block)
    if content is None:
        return None
    content = content[: geometry.size - index * geometry.block]
    return hashlib.sha256(content.ljust(geometry.block, b"\0")).digest()


def _read(file: int, length: int, offset: int) -> bytes | None:
    """Return what a file has there; None where the medium cannot read it."""
    try:
        return os.pread(file, length, offset)
    except OSError:
        return None


# Mends what parity lies beside: finds the volumes, and mends one after the other.


def repair(paths: Sequence[Path], output: Path | None, progress: Progress) -> list[Repaired]:
    """Mend the volumes of directories, or single ones, that have parity beside them. Raises what `Repair.run` raises.

    Raises UsageError when there is no parity, or a volume is not there at all.
    """
    parity.require_coder()
    volumes = list(dict.fromkeys(volume for path in paths for volume in _volumes(path)))
    if not volumes:
        raise UsageError(
            f"no parity in {', '.join(map(str, paths))}",
            hint="Archives have parity when they were made with --parity. Without it: hub-import verify --rerequest.",
        )
    progress.begin(f"checking {counted(len(volumes), 'volume')}", sum(volume.stat().st_size for volume in volumes))
    found = [Repair(volume, progress.advance, _wanted(volume)).run(output) for volume in volumes]
    progress.end()
    return found


def exit_code(results: Sequence[Repaired]) -> ExitCode:
    """Return 4 when a volume is still damaged."""
    return ExitCode.ARCHIVE if any(one.status is RepairStatus.DAMAGED for one in results) else ExitCode.DONE


def _volumes(path: Path) -> Iterator[Path]:
    if path.is_dir():
        beside = sorted(path.glob(f"*{parity.SUFFIX}"))
    else:
        beside = [path if path.name.endswith(parity.SUFFIX) else path.with_name(path.name + parity.SUFFIX)]
    for file in beside:
        volume = file.with_name(file.name.removesuffix(parity.SUFFIX))
        if not file.is_file() or not volume.is_file():
            absent = volume if file.is_file() else file
            raise UsageError(f"{absent}: no such file", hint="Parity mends a volume that is here, with its parity beside it.")
        yield volume


def _wanted(volume: Path) -> str | None:
    """Return the checksum that SHA256SUMS beside a volume wants; None where nothing says."""
    path = volume.with_name(checksums.NAME)
    try:
        with path.open("rb") as file:
            return checksums.parse(file.read(checksums.MAX_SIZE + 1)).get(volume.name)
    except (OSError, ContentError):
        return None
