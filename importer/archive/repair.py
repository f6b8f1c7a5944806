"""Repair of volumes with the parity files next to them, in place or into another directory.

A block is written only when the decoded content has the checksum in the parity file; good blocks are never touched. Too much
damage in one group does not prevent the repair of the others.
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
from common.files import medium_gone, reading_medium, require_space
from common.oci.image import Hasher, hex_of
from common.progress import step
from common.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from common.progress import Progress


class RepairStatus(StrEnum):
    """The state of a volume after a repair."""

    OK = "ok"  # nothing was wrong
    REPAIRED = "mended"  # the value is part of the JSON (docs/reference/cli.md)
    DAMAGED = "damaged"  # more than the parity can restore


@dataclass(frozen=True, slots=True)
class Repaired:
    """A volume after repair: its blocks, those found bad, those repaired; `missing`: good blocks too few for the rest."""

    path: Path
    status: RepairStatus
    block: int
    blocks: int
    bad: int
    repaired: int
    missing: int


def repair(paths: Sequence[Path], output: Path | None, progress: Progress) -> list[Repaired]:
    """Repair the volumes of directories, or single ones, that have a parity file next to them. Raises as `Repair.run` does.

    Raises UsageError when there is no parity file, or no volume for one.
    """
    # First: zfec is an extra (ADR 0012), and a person should learn that before hours of reading.
    parity.require_coder()
    found: list[Path] = []
    for path in paths:
        with reading_medium(path):
            found += _volumes(path)
    volumes = list(dict.fromkeys(found))
    if not volumes:
        raise UsageError(
            f"no parity in {', '.join(map(str, paths))}",
            hint="Archives have parity when they were made with --parity. Without it: hub-import verify --rerequest.",
        )
    size = 0
    for volume in volumes:
        with reading_medium(volume):
            size += volume.stat().st_size
    with step(progress, f"checking and repairing {counted(len(volumes), 'volume')}", size, kept=True):
        # One after the other: reading is the limit, and two volumes on one medium only make it seek.
        return [Repair(volume, progress.advance, _listed_checksum(volume)).run(output) for volume in volumes]


def exit_code(results: Sequence[Repaired]) -> ExitCode:
    """Return 4 when a volume is still damaged."""
    return ExitCode.ARCHIVE if any(one.status is RepairStatus.DAMAGED for one in results) else ExitCode.DONE


def _volumes(path: Path) -> Iterator[Path]:
    if path.is_dir():
        files = sorted(path.glob(f"*{parity.SUFFIX}"))
    else:
        files = [path if path.name.endswith(parity.SUFFIX) else path.with_name(path.name + parity.SUFFIX)]
    for file in files:
        volume = file.with_name(file.name.removesuffix(parity.SUFFIX))
        if not file.is_file() or not volume.is_file():
            absent = file if volume.is_file() else volume  # without both, the one that was typed
            raise UsageError(f"{absent}: no such file", hint="A repair needs the volume, with its parity file next to it.")
        yield volume


def _listed_checksum(volume: Path) -> str | None:
    """Return the checksum of a volume in the SHA256SUMS next to it; None where there is none."""
    # Also where it cannot be read: it may be on the same damaged medium, and the parity file has checksums of its own.
    path = volume.with_name(checksums.NAME)
    try:
        with path.open("rb") as file:
            return checksums.parse(file.read(checksums.MAX_SIZE + 1)).get(volume.name)
    except (OSError, ContentError):
        return None


class Repair:
    """The repair of one volume. `checksum`: its entry in SHA256SUMS, where that is available."""

    def __init__(self, volume: Path, advance: Callable[[int], None], checksum: str | None = None) -> None:
        self._volume = volume
        self._advance = advance
        self._expected = checksum

    def run(self, output: Path | None) -> Repaired:
        """Repair the volume in place, or a copy of it in `output`.

        Raises ArchiveDamagedError when the parity file is damaged or of another volume, UsageError when the volume cannot be
        written, SpaceError, OSError.
        """
        beside = self._volume.with_name(self._volume.name + parity.SUFFIX)
        with _opened(beside, os.O_RDONLY) as file, _opened(self._volume, os.O_RDONLY) as source:
            try:
                geometry, checksum, table = parity.read_header(file, os.fstat(file).st_size)
            except ContentError as error:
                raise ArchiveDamagedError(f"{beside}: {error}", hint="Copy it again, or copy the volume again.") from error
            # The wrong parity file would "repair" every block of a good volume into another one.
            if self._expected not in (None, checksum):
                raise ArchiveDamagedError(
                    f"{beside} is the parity of another volume: SHA256SUMS has {self._expected}, it would make {checksum}",
                    hint="Bring the right parity file.",
                )
            # The length counts too: a copy that was cut has only good blocks, followed by missing ones.
            bad = self._bad(source, geometry, table)
            good = os.fstat(source).st_size == geometry.size
            if not bad and good and output is None:
                return Repaired(self._volume, RepairStatus.OK, geometry.block, geometry.count, 0, 0, 0)
            target = self._volume if output is None else self._copied(source, geometry, output)
            with _opened(target, os.O_RDWR) as repaired:
                missing = _GroupRepair(file, source, repaired, geometry, table).run(bad)
                # A volume that grew (a copy onto a device of fixed size, for example) has zeros at its end.
                os.ftruncate(repaired, geometry.size)
                os.fsync(repaired)
        self._require_checksum(target, geometry, None if missing else checksum)
        status = RepairStatus.DAMAGED if missing else RepairStatus.REPAIRED if bad or not good else RepairStatus.OK
        left = sum(1 for index in bad if index % geometry.groups in missing)
        return Repaired(target, status, geometry.block, geometry.count, len(bad), len(bad) - left, sum(missing.values()))

    def _bad(self, source: int, geometry: Geometry, table: bytes) -> list[int]:
        """Return the blocks of the volume that have another checksum, or cannot be read."""
        bad = []
        for index in range(geometry.count):
            if _block_sum(source, geometry, index) != table[index * HASH : (index + 1) * HASH]:
                bad.append(index)
            self._advance(geometry.block)
        return bad

    def _copied(self, source: int, geometry: Geometry, output: Path) -> Path:
        """Copy the volume, with zeros where it cannot be read."""
        output.mkdir(parents=True, exist_ok=True)
        require_space(output, geometry.size, "the repaired volume")
        target = output / self._volume.name
        if target.exists():
            raise UsageError(f"{target} exists already", hint="Give --output a directory without volumes.")
        # Zeros stand for unreadable blocks. They are bad by their checksum, so the repair writes them.
        with _opened(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
            for index in range(geometry.count):
                length = min(geometry.block, geometry.size - index * geometry.block)
                content = _read(source, length, index * geometry.block) or b""
                write_all(file, [content.ljust(length, b"\0")], index * geometry.block)
        return target

    def _require_checksum(self, path: Path, geometry: Geometry, checksum: str | None) -> None:
        """Check the repaired volume as its medium returns it. Raises ArchiveDamagedError: the medium is defective."""
        # Past the page cache (ADR 0021), which would return the bytes as they were written. Not after an incomplete repair.
        hasher = Hasher()
        if checksum is not None:
            read_back(path, 0, geometry.size, hasher, self._advance)
            if hex_of(hasher.digest()) != checksum:
                raise ArchiveDamagedError(
                    f"{path}: repaired, but read back its checksum is wrong", hint="Use another medium with --output."
                )


class _GroupRepair:
    """The repair of the groups of one volume: `source` is read, `target` written; they may be the same file."""

    def __init__(self, file: int, source: int, target: int, geometry: Geometry, table: bytes) -> None:
        self._parity = file
        self._source = source
        self._target = target
        self._geometry = geometry
        self._table = table

    def run(self, bad: list[int]) -> dict[int, int]:
        """Repair every group that has enough good blocks; return for the others how many are missing."""
        missing: dict[int, int] = {}
        for group, count in Counter(index % self._geometry.groups for index in bad).items():
            good = [number for number in range(self._geometry.parity) if self._is_good(group, number)]
            if len(good) < count:
                missing[group] = count - len(good)  # Reed-Solomon needs one good parity block for each bad data block
            else:
                self._repair_group(group, [index for index in bad if index % self._geometry.groups == group], good[:count])
        return missing

    def _repair_group(self, group: int, bad: list[int], parity_blocks: list[int]) -> None:
        geometry = self._geometry
        decoder = parity.coder("Decoder", geometry.data, geometry.parity)
        damaged = {index // geometry.groups for index in bad}
        kept = [number for number in range(geometry.data) if number not in damaged]
        # zfec numbers the blocks of a group: data blocks first, then parity blocks.
        numbers = [*kept, *(geometry.data + number for number in parity_blocks)]
        hashers = {index: hashlib.sha256() for index in bad}
        for write in (False, True):  # decoded twice: the result is verified before the first byte is written
            # In slices, so that memory does not grow with the size of a block and the number of blocks in a group (ADR 0012).
            for start in range(0, geometry.block, geometry.step):
                parts = list(parity.slices(self._source, geometry, group, kept, start))
                parts += [self._slice(group, number, start) for number in parity_blocks]
                made = decoder.decode(parts, numbers)
                for index in bad:
                    self._take(index, start, made[index // geometry.groups], None if write else hashers[index])
            if not write and any(h.digest() != self._table[i * HASH : (i + 1) * HASH] for i, h in hashers.items()):
                raise ArchiveDamagedError(f"group {group} cannot be repaired: the decoded content has another checksum")

    def _take(self, index: int, start: int, content: Any, hasher: Any) -> None:
        if hasher is not None:
            hasher.update(content)
            return
        offset = index * self._geometry.block + start
        # The last block is padded with zeros for the code; they are no part of the volume.
        length = max(min(len(content), self._geometry.size - offset), 0)
        if length:
            write_all(self._target, [memoryview(content)[:length]], offset)

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
        # No link: a repair as root on a foreign medium must not write to a file elsewhere.
        file = os.open(path, flags | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if (problem := medium_gone(path, error)) is not None:
            raise problem from error
        # Most damaged volumes are on read-only discs.
        hint = "Repair a copy with --output DIR." if flags & os.O_RDWR else "Is the medium here, and readable?"
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
    """Return the bytes at an offset; None where the medium reports an error (EIO on a scratched disc)."""
    try:
        return os.pread(file, length, offset)
    except OSError as error:
        # Every further block would count as damaged, and be written.
        if (problem := medium_gone("the volume or its parity file", error)) is not None:
            raise problem from error
        return None
