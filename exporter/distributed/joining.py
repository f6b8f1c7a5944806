"""Parts into the archive that one process would have made, byte for byte (docs/archive-format.md, *Parts*).

Volumes are moved, or copied where they lie on another file system. Where nothing was lost they are whole already; otherwise, or
when the archive is signed otherwise, each is closed again. Whatever interrupts this, the next run goes on, also with parts that
were made again: what a volume is that came from a part is in the mark (`gathered.py`).
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from common.archive import direct_io, location, parity
from common.archive.direct_io import Buffers
from common.archive.layout import Layout, extent
from common.archive.volume import VOLUME_NAME
from common.errors import ArchiveDamagedError, ArchiveError, ArchiveIncompleteError, InUseError
from common.files import locked, require_space, sync_directory
from common.oci.image import Digest, Hasher, hex_of
from common.text import counted
from exporter.archive.output import LOCK, PROBE, WORKING, OutputDirectory
from exporter.archive.volume_writer import Closing, Further, VolumeFile
from exporter.distributed import join_state, part
from exporter.distributed.join_state import FoundPart, Gathered, Mark, Owners, Volumes, again, parts_of
from exporter.distributed.part import signature_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from common.archive.location import Place
    from common.progress import Progress

_STEP = 4 * 1024 * 1024


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

    `closing` must call missing what is `lost`. Raises UsageError for a directory that cannot be taken, InUseError for a part
    that is in use, ArchiveIncompleteError when a part lacks a file, ArchiveDamagedError when a file is not what its part wrote.
    """
    parts = parts_of(owned)
    mark = Mark(directory, parts[0].record.plan)
    with ExitStack() as stack:

        def admit(path: Path) -> None:
            mark.admit(path)
            stack.enter_context(_kept(parts))

        output = stack.enter_context(OutputDirectory(directory, layout, admit))
        joiner = _Joiner(Volumes(directory, layout, closing, share, mark), progress)
        joiner.gather(owned)
        closing.complete(directory, joiner.close(), further)
        output.finished()
        for one in parts:
            tidy(one.directory)


@contextmanager
def _kept(parts: Iterable[FoundPart]) -> Iterator[None]:
    """Keep parts from being made again meanwhile. Raises InUseError for one that is in use, or not what it was."""
    with ExitStack() as stack:
        for one in parts:
            try:
                stack.enter_context(locked(one.directory / LOCK, f"the part {one.directory}"))
            except OSError as error:
                if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
                    raise  # where nothing can be written, nobody makes a part
            if part.read(one.directory) != one.record:
                raise InUseError(f"{one.directory} was made again just now", hint="Run this again.")
        yield


@dataclass(frozen=True, slots=True)
class _Joiner:
    """One joining."""

    volumes: Volumes
    progress: Progress

    def gather(self, owned: Owners) -> None:
        """Bring every volume, and the parity of those that are whole, into the directory; make room for better ones."""
        directory, volumes = self.volumes.directory, self.volumes
        self._sweep()
        near = {one.directory: _can_move(one.directory, directory) for one in parts_of(owned)}
        coming = {number: one for number, one in owned.items() if self._comes(number, one, near=near[one.directory])}
        todo = [
            (one, name)
            for number, one in owned.items()
            for name in volumes.names(number)
            if (number in coming or volumes.lacks(number, name, one.record)) and _is_there(one.directory / name)
        ]
        for name in (name for number in coming for name in volumes.names(number)):
            (directory / name).unlink(missing_ok=True)
        sync_directory(directory)  # no volume is here while the mark changes what it says of it
        volumes.mark.note({number: join_state.of_part(one.record, number, volumes.layout) for number, one in coming.items()})
        for one, name in todo:
            if near[one.directory]:
                (one.directory / name).rename(directory / name)
        self._copy([(one, name) for one, name in todo if not near[one.directory]])
        sync_directory(directory)

    def close(self) -> dict[str, str]:
        """Close every volume again that is not closed as it shall be, or not surely; return the checksums of all."""
        todo = [number for number in self.volumes.numbers if not self.volumes.is_whole(number)]
        if todo:
            self.progress.begin("closing the volumes again", sum(map(self.volumes.size, todo)))
        buffers = Buffers()
        for number in todo:
            self._close_again(VolumeFile(self.volumes.path(number), number, self.volumes.record(number), 0, buffers))
        if todo:
            self.progress.end()
        return self.volumes.sums()

    def _close_again(self, volume: VolumeFile) -> None:
        wanted, number = self.volumes, volume.number
        cleared = wanted.to_be_cleared(number)
        wanted.mark.note({number: Gathered(cleared)})
        sums = close_again(volume, wanted.layout, wanted.closing, cleared, share=wanted.share, progress=self.progress)
        wanted.mark.note({number: Gathered(cleared, wanted.closing.identity, signature_of(wanted.closing), sums)})

    def _copy(self, files: Sequence[tuple[FoundPart, str]]) -> None:
        """Copy files of parts. Raises SpaceError, before the first, when they do not fit."""
        sizes = sum((one.directory / name).stat().st_size for one, name in files)
        require_space(self.volumes.directory, sizes, "the archive")
        if files:
            self.progress.begin(f"copying {counted(len(files), 'file')}", sizes)
        for one, name in files:
            bring(one.directory / name, self.volumes.directory / name, one.record.sums.get(name), self.progress.advance)
        if files:
            self.progress.end()

    def _comes(self, number: int, one: FoundPart, *, near: bool) -> bool:
        """Say whether a part's volume is to be brought, though there may be one here. Raises ArchiveError for want of any.

        One that can be moved always is: it is as new as its record. One that had to be copied is not copied twice.
        """
        there = one.directory / self.volumes.record(number).name
        comes = _is_there(there) and self.volumes.is_long_enough(number, there)
        stays = not (comes and near) and self.volumes.stays(number)
        if not comes and not stays:
            raise self._wanting(number, there)
        return not stays

    def _wanting(self, number: int, there: Path) -> ArchiveError:
        """Return why a volume cannot be had from its part, nor from what is here."""
        here, hint = self.volumes.path(number), again(there.parent)
        if cleared := self.volumes.cleared_for_nothing(number):
            return ArchiveIncompleteError(
                f"{here}: the place of {cleared[0]}, which was lost before, is cleared in it", hint=hint
            )
        if _is_there(there) or here.is_file():
            short = there if _is_there(there) else here
            return ArchiveDamagedError(f"{short} is not as long as its part says", hint=hint)
        return ArchiveIncompleteError(f"{there}: not there, and its part lists it", hint=hint)

    def _sweep(self) -> None:
        """Remove what an interrupted run left half written."""
        for name in [name for number in self.volumes.numbers for name in self.volumes.names(number)]:
            _temporary(self.volumes.directory / name).unlink(missing_ok=True)
        (self.volumes.directory / PROBE).unlink(missing_ok=True)


def _can_move(source: Path, target: Path) -> bool:
    """Say whether files move between directories: of one device may be two mounts or quotas, and one only be read."""
    probe = source / PROBE
    try:
        probe.touch()
        probe.rename(target / PROBE)
    except OSError:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
        return False
    (target / PROBE).unlink()
    return True


def _is_there(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.new")


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
    temporary, hasher, position = _temporary(target), Hasher(), 0
    temporary.unlink(missing_ok=True)
    with location.opened(source) as reader, temporary.open("xb") as writer:
        while chunk := direct_io.read_some(reader, _STEP, position):
            hasher.update(chunk)
            direct_io.write_all(writer.fileno(), [chunk], position)
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
    """Remove what is ours of a part whose volumes were moved, its record last; one that was copied stays as it is."""
    if not is_used_up(directory):
        return
    for path in sorted(directory.glob(f"{WORKING}*"), key=lambda path: (path.name == part.NAME, path.name)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    with suppress(OSError):  # what else is in it is not ours to remove
        directory.rmdir()
