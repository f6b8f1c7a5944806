"""Join finished parts into the archive that one process would have made, byte for byte.

Specification: docs/reference/archive-format.md, *Parts*.

The volumes are closed already, as the archive wants them, and are never opened for writing: they are moved, or copied from
another file system. An interrupted joining continues when it is run again, also with parts that were made again since.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from common.archive import parity
from common.archive.volume import CLOSING_SIZE, VOLUME_NAME
from common.errors import ArchiveDamagedError, ArchiveIncompleteError, UsageError
from common.files import read_limited, require_space, sync_directory, write_atomic
from common.oci.image import Digest
from common.progress import step
from common.serialization import UNDECODABLE, decode_bounded
from common.text import counted
from exporter.archive import output
from exporter.archive.output import PROBE, WORKING, OutputDirectory
from exporter.distributed.part import MAX_SIZE, NAME, copy_file, temporary_name
from exporter.distributed.part_selection import again, locked_parts, parts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from common.archive.layout import Layout
    from common.progress import Progress
    from exporter.archive.volume_writer import Closing, Further
    from exporter.distributed.part_selection import FoundPart, Selection


_TYPE = "application/vnd.hub-airgap.joining.v2+json"
_OTHER = "Choose another --output, or move the volumes away that are in it."


def join(
    selection: Selection,
    directory: Path,
    layout: Layout,
    closing: Closing,
    *,
    progress: Progress,
    further: Further | None = None,
) -> None:
    """Make the archive of a layout in `directory` out of its parts; those on the same file system are used up.

    Every part must be closed as `closing` says (`Part.closed_by`). Raises UsageError for a directory that cannot be taken,
    InUseError for a part that is in use, ArchiveIncompleteError when a part lacks a file, ArchiveDamagedError when a file is
    not the one that its part wrote.
    """
    parts = parts_of(selection)
    mark = Mark(directory, parts[0].record.plan)
    with ExitStack() as stack:
        # Under the lock of the output directory, and before anything in it changes.
        def admit(path: Path) -> None:
            mark.admit(path)
            stack.enter_context(locked_parts(parts))

        output = stack.enter_context(OutputDirectory(directory, layout, admit))
        sums = _Joiner(directory, layout, closing.region().size + CLOSING_SIZE, mark, progress).gather(selection)
        closing.complete(directory, sums, further)
        output.finished()
        for one in parts:
            tidy(one.directory)


class _MarkFile(msgspec.Struct, frozen=True, rename="camel"):
    """The contents of `hub-export.joining`. Only the type is required: version 1 had other fields."""

    media_type: str
    plan: Digest = Digest("")
    sums: dict[str, str] = {}


_MARK = msgspec.json.Decoder(_MarkFile)


class Mark:
    """`hub-export.joining` in an output directory: the plan of a joining, and the checksums of the files that come from parts.

    A volume that was moved exists nowhere else, and its bytes do not say by which plan it was made. So every other export
    leaves the directory alone, and the next run takes a file for the one of a part only by its checksum in the mark.
    """

    def __init__(self, directory: Path, plan: Digest) -> None:
        self._path = directory / output.JOINING
        self._plan = plan
        self._sums: dict[str, str] = {}

    def admit(self, directory: Path) -> None:
        """Read the mark of an interrupted joining in its directory; changes nothing.

        Raises UsageError for a directory whose volumes came from parts of another plan, or from no part, or are a part.
        """
        output.refuse_part(directory)
        files = [path for path in directory.iterdir() if VOLUME_NAME.fullmatch(path.name.removesuffix(parity.SUFFIX))]
        if self._path.is_file():
            self._sums = self._read()
        elif files:
            raise UsageError(
                f"{directory} holds volumes of an interrupted export",
                hint="Run the command that began it again, or choose another --output.",
            )
        for path in files:
            # A hard link would let the archive change with a file elsewhere.
            if not output.is_plain(path):
                raise UsageError(f"{path} is a link, or has another name", hint="Put a copy of it there.")

    def has(self, name: str, checksum: str) -> bool:
        """Say whether a file of this name, should there be one, is the one with this checksum."""
        return self._sums.get(name) == checksum

    def note(self, sums: Mapping[str, str]) -> None:
        """Note the checksums of files that are about to come; durable when this returns. Raises OSError."""
        self._sums |= sums
        write_atomic(self._path, msgspec.json.encode(_MarkFile(_TYPE, self._plan, self._sums)) + b"\n")

    def _read(self) -> dict[str, str]:
        try:
            mark = decode_bounded(read_limited(self._path, MAX_SIZE), _MARK)
        except UNDECODABLE as error:
            raise UsageError(f"{self._path}: not the mark of a joining: {error}", hint=_OTHER) from error
        if mark.media_type != _TYPE:
            raise UsageError(
                f"{self._path}: of another version: {mark.media_type[:80]!r}", hint="Finish with the version that began."
            )
        if mark.plan != self._plan:
            raise UsageError(
                f"{self._path.parent} holds volumes of another plan's parts",
                hint=f"They are not touched: finish that archive first. {_OTHER}",
            )
        return mark.sums


@dataclass(frozen=True, slots=True)
class _File:
    """A volume or its parity, as a part lists it; `size` is None where it does not follow from the layout."""

    source: Path
    target: Path
    checksum: str
    size: int | None

    @property
    def name(self) -> str:
        return self.target.name


@dataclass(frozen=True, slots=True)
class _Joiner:
    """One joining; `tail` is the size of a volume behind its data region."""

    directory: Path
    layout: Layout
    tail: int
    mark: Mark
    progress: Progress

    def gather(self, selection: Selection) -> dict[str, str]:
        """Bring every file into the directory; return the checksums, volumes before parity."""
        self._remove_temporary_files()
        near = {one.directory: _can_move(one.directory, self.directory) for one in parts_of(selection)}
        files = [(file, near[one.directory]) for number, one in sorted(selection.items()) for file in self._files(number, one)]
        coming = [(file, moves) for file, moves in files if self._comes(file, moves=moves)]
        for file, _ in coming:
            file.target.unlink(missing_ok=True)
        # The mark may say something new of a name only while there is no file of that name.
        sync_directory(self.directory)
        self.mark.note({file.name: file.checksum for file, _ in coming})
        for file, moves in coming:
            if moves:
                file.source.rename(file.target)
        self._copy([file for file, moves in coming if not moves])
        sync_directory(self.directory)
        # SHA256SUMS lists volumes, then parity, both by number, as one process writes them.
        listed = sorted((file for file, _ in files), key=lambda file: file.name.endswith(parity.SUFFIX))
        return {file.name: file.checksum for file in listed}

    def _files(self, number: int, one: FoundPart) -> list[_File]:
        """Return the files of a volume. Raises UsageError when the record lists no checksum of the volume."""
        record, found = self.layout.volumes[number - 1], list[_File]()
        for name, size in ((record.name, record.data_size + self.tail), (record.name + parity.SUFFIX, None)):
            if name in one.record.sums:
                found.append(_File(one.directory / name, self.directory / name, one.record.sums[name], size))
        if not found or found[0].name != record.name:
            raise UsageError(f"{one.directory}: its record lacks the checksum of {record.name}", hint=again(one.directory))
        return found

    def _comes(self, file: _File, *, moves: bool) -> bool:
        """Say whether a file has to be brought here from its part.

        One that can be moved always is, since it is as new as its record; one that was copied is not copied twice.
        """
        is_here = self.mark.has(file.name, file.checksum) and _is_whole(file.target, file.size)
        comes = _is_whole(file.source, file.size) and (moves or not is_here)
        if comes or is_here:
            return comes
        hint = again(file.source.parent)
        for path in (file.source, file.target):
            if _is_file(path) and not _is_whole(path, file.size):
                raise ArchiveDamagedError(f"{path} is not as long as its part says", hint=hint)
        raise ArchiveIncompleteError(f"{file.source}: not there, and its part lists it", hint=hint)

    def _copy(self, files: Sequence[_File]) -> None:
        """Copy files of parts. Raises SpaceError, before the first, when they do not fit."""
        sizes = sum(file.source.stat().st_size for file in files)
        # After the moves, which need no room.
        require_space(self.directory, sizes, "the archive")
        if not files:
            return
        with step(self.progress, f"copying {counted(len(files), 'file')}", sizes, kept=True):
            for file in files:
                copy_file(file.source, file.target, file.checksum, self.progress.advance)

    def _remove_temporary_files(self) -> None:
        """Remove the files that an interrupted run left half written."""
        for volume in self.layout.volumes:
            for name in (volume.name, volume.name + parity.SUFFIX):
                temporary_name(self.directory / name).unlink(missing_ok=True)
        (self.directory / PROBE).unlink(missing_ok=True)


def _can_move(source: Path, target: Path) -> bool:
    """Say whether files move between directories.

    The device number does not say it: two bind mounts or quotas of one device refuse with EXDEV, and one may be read-only.
    """
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


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_whole(path: Path, size: int | None) -> bool:
    return _is_file(path) and size in (None, path.stat().st_size)


def is_without_volumes(directory: Path) -> bool:
    """Say whether a directory has no volumes, like that of a part whose volumes were moved."""
    return not any(VOLUME_NAME.fullmatch(path.name) for path in directory.iterdir())


def tidy(directory: Path) -> None:
    """Remove the working files of a part whose volumes were moved, its record last; one that was copied stays as it is."""
    if not is_without_volumes(directory):
        return
    # The record goes last: interrupted before, the next `finish` still knows the directory as a part.
    for path in sorted(directory.glob(f"{WORKING}*"), key=lambda path: (path.name == NAME, path.name)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    with suppress(OSError):  # files that hub-export did not make stay, and so does the directory
        directory.rmdir()
