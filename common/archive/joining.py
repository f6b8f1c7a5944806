"""Parts into the archive that one process would have made, byte for byte (docs/archive-format.md, *Parts*).

Volumes are moved, or copied where they lie on another file system. Where nothing was lost they are whole already; otherwise, or
when the archive is signed otherwise, each is closed again. Whatever interrupts this, the next run goes on: what a part says of
itself is believed until SHA256SUMS is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from common.archive import disk, media, parity, part
from common.archive.closing import Closing, Further
from common.archive.inventory import VolumeRecord
from common.archive.layout import Layout, extent
from common.archive.media import Place
from common.archive.output import JOINING, WORKING, OutputDirectory
from common.archive.part import Part
from common.archive.staging import Buffers
from common.archive.volume import CLOSING_SIZE, VOLUME_NAME
from common.archive.volume_file import VolumeFile
from common.columns import counted
from common.digest import Digest, Hasher, hex_of
from common.errors import ArchiveDamagedError, ArchiveIncompleteError, UsageError
from common.files import require_space, sync_directory, write_atomic
from common.progress import Progress

_STEP = 4 * 1024 * 1024
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FoundPart:
    """A part, and where it lies."""

    directory: Path
    record: Part


Owners = dict[int, FoundPart]  # by number of a volume


def owners(parts: Iterable[FoundPart], layout: Layout, plan: Digest) -> Owners:
    """Return which part has each volume; of several the one that lost nothing.

    Raises UsageError for parts of another plan, ArchiveIncompleteError when volumes are in no part.
    """
    found = Owners()
    for one in sorted(parts, key=lambda one: not one.record.lost):
        if one.record.plan != plan:
            raise UsageError(f"{one.directory} is a part of another plan", hint="Join only parts that were made by one plan.")
        found |= dict.fromkeys(one.record.volumes, one)
    require_all(found, layout)
    return found


def require_all(found: Container[int], layout: Layout) -> None:
    """Raise ArchiveIncompleteError, naming the volumes that are not among the `found`."""
    if absent := [record.name for number, record in enumerate(layout.volumes, 1) if number not in found]:
        named = ", ".join(absent[:_SHOWN]) + (", …" if len(absent) > _SHOWN else "")
        raise ArchiveIncompleteError(
            f"{len(absent)} of {counted(len(layout.volumes), 'volume')} in no part that is here: {named}",
            hint="Make them with hub-export create --plan … --volumes …, or name the places that they are in.",
        )


def join(
    owned: Owners,
    directory: Path,
    layout: Layout,
    closing: Closing,
    *,
    share: Fraction = Fraction(0),
    progress: Progress,
    further: Further | None = None,
) -> None:
    """Make the archive of a layout in `directory` out of its parts; those on the same file system are used up.

    `closing` must call missing what any part has lost. Raises UsageError for a directory that cannot be taken,
    ArchiveIncompleteError when a part lacks a file, ArchiveDamagedError when a file is not what its part wrote.
    """
    parts = list({one.directory: one for one in owned.values()}.values())
    with OutputDirectory(directory, layout) as output:
        _begin(directory)
        joiner = _Joiner(directory, layout, closing, share, progress)
        joiner.gather(owned)
        whole = all(one.record.closed_by(closing) for one in parts)
        sums = joiner.sums(parts) if whole else joiner.close_again({each for one in parts for each in one.record.lost})
        closing.complete(directory, sums, further)
        output.finished()
    for one in parts:
        tidy(one.directory)


def _begin(directory: Path) -> None:
    """Note that volumes in `directory` come from parts. Raises UsageError for volumes that do not."""
    mark = directory / JOINING
    if mark.is_file():
        return
    if any(VOLUME_NAME.fullmatch(path.name) for path in directory.iterdir()):
        raise UsageError(f"{directory} holds volumes of an interrupted export", hint="Choose another --output.")
    write_atomic(mark, b"")


@dataclass(frozen=True, slots=True)
class _Joiner:
    """One joining: where, and what the result is to be."""

    directory: Path
    layout: Layout
    closing: Closing
    share: Fraction
    progress: Progress

    def gather(self, owned: Owners) -> None:
        """Bring every volume, and the parity of those that are whole, into the directory."""
        todo = [(one, name) for number, one in owned.items() for name in self._names(number, one) if self._absent(one, name)]
        far = [one.directory / name for one, name in todo if one.directory.stat().st_dev != self.directory.stat().st_dev]
        sizes = sum(path.stat().st_size for path in far)
        require_space(self.directory, sizes, "the archive")
        if far:
            self.progress.begin(f"copying {counted(len(far), 'file')}", sizes)
        for one, name in todo:
            source, target = one.directory / name, self.directory / name
            if source in far:
                bring(source, target, one.record.sums.get(name), self.progress.advance)
            else:
                source.rename(target)
        sync_directory(self.directory)
        if far:
            self.progress.end()

    def sums(self, parts: Sequence[FoundPart]) -> dict[str, str]:
        """Return the checksums that the parts' volumes have, parity behind them, as one process would list them."""
        size = self.closing.region.size + CLOSING_SIZE
        for record in self.layout.volumes:
            if (self.directory / record.name).stat().st_size != record.data_size + size:
                raise ArchiveDamagedError(f"{self.directory / record.name} is not as long as its part says")
        names = [record.name for record in self.layout.volumes]
        names += [name + parity.SUFFIX for name in names if self.share]
        said = {name: checksum for one in parts for name, checksum in one.record.sums.items()}
        if lacking := [name for name in names if name not in said]:
            raise UsageError(f"no part has {lacking[0]}", hint="Make the parts by one plan, with the same --parity.")
        return {name: said[name] for name in names}

    def close_again(self, lost: set[Digest]) -> dict[str, str]:
        """Clear the places of what was lost, close every volume, and return the checksums."""
        total = sum(record.data_size + self.closing.region.size + CLOSING_SIZE for record in self.layout.volumes)
        self.progress.begin("closing the volumes again", total)
        volumes = self._volumes()
        sums = [
            close_again(each, self.layout, self.closing, lost, share=self.share, progress=self.progress) for each in volumes
        ]
        self.progress.end()
        return {name: checksum for each in sums for name, checksum in each.items()}

    def _volumes(self) -> list[VolumeFile]:
        buffers = Buffers()
        return [
            VolumeFile(self.directory / record.name, number, record, 0, buffers)
            for number, record in enumerate(self.layout.volumes, 1)
        ]

    def _names(self, number: int, one: FoundPart) -> list[str]:
        name = self._record(number).name
        parities = [name + parity.SUFFIX] if name + parity.SUFFIX in one.record.sums else []
        return [name, *parities]

    def _absent(self, one: FoundPart, name: str) -> bool:
        """Say whether a file is still to be brought. Raises ArchiveIncompleteError when it is nowhere."""
        if (self.directory / name).is_file():
            return False
        source = one.directory / name
        if source.is_symlink() or not source.is_file():
            raise ArchiveIncompleteError(f"{source}: not there, and its part lists it", hint="Make this part again.")
        return True

    def _record(self, number: int) -> VolumeRecord:
        return self.layout.volumes[number - 1]


def close_again(
    volume: VolumeFile,
    layout: Layout,
    closing: Closing,
    lost: Collection[Digest],
    *,
    share: Fraction = Fraction(0),
    progress: Progress,
) -> dict[str, str]:
    """Clear the places that a volume has of what was lost, close it, and make its parity; return the checksums by name."""
    for digest in lost:
        for piece in layout.blobs[digest].pieces:
            if piece.volume == volume.number:
                volume.clear(*extent(piece))
    os.fsync(volume.file())
    volume.path.with_name(volume.path.name + parity.SUFFIX).unlink(missing_ok=True)
    volume.read_back_data(progress.advance)
    sums = {volume.path.name: volume.finish(closing.region, closing.identity, len(layout.volumes), progress.advance)}
    if share:
        path, checksum = parity.make(volume.path, share, sums[volume.path.name], lambda _size: None)
        sums[path.name] = checksum
    return sums


def bring(source: Place, target: Path, checksum: str | None, advance: Callable[[int], None]) -> None:
    """Copy a file, whole or not at all; what its part says of it must be right. Raises ArchiveDamagedError."""
    temporary, hasher, position = target.with_name(f".{target.name}.new"), Hasher(), 0
    temporary.unlink(missing_ok=True)
    with media.opened(source) as reader, temporary.open("xb") as writer:
        while chunk := disk.read_some(reader, _STEP, position):
            hasher.update(chunk)
            disk.write_all(writer.fileno(), [chunk], position)
            position += len(chunk)
            advance(len(chunk))
        os.fsync(writer.fileno())
    if checksum is not None and hex_of(hasher.digest()) != checksum:
        temporary.unlink()
        raise ArchiveDamagedError(f"{source}: not what its part wrote", hint="Make this part again.")
    temporary.replace(target)


def is_used_up(directory: Path) -> bool:
    """Say whether the volumes of a part were moved away."""
    return not any(VOLUME_NAME.fullmatch(path.name) for path in directory.iterdir())


def tidy(directory: Path) -> None:
    """Remove what is ours of a part whose volumes were moved, its record first; one that was copied stays as it is."""
    if not is_used_up(directory):
        return
    (directory / part.NAME).unlink(missing_ok=True)
    for path in directory.glob(f"{WORKING}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    with suppress(OSError):  # what else is in it is not ours to remove
        directory.rmdir()
