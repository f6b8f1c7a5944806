"""Output directory of an export: its lock, its journal, and the files that an interrupted export left in it.

The journal exists from before the first volume until after SHA256SUMS. While it is there without SHA256SUMS, every file with
the name of an archive's file belongs to the unfinished export. The next export continues it when its layout is the same;
otherwise it sets the old volumes aside and moves the blobs from them that it still needs. Parts, and volumes that came from
parts, are admitted only by the commands that make and join them (`admit`).
"""

from __future__ import annotations

import logging
import re
import shutil
import stat
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Self

import msgspec

from common import files
from common.archive import checksums, inventory_file, parity
from common.archive.inventory import MAX_BLOBS, VolumeRecord
from common.archive.layout import Layout, PlacedBlob
from common.archive.volume import JOURNAL_NAME, MAX_VOLUMES, VOLUME_NAME
from common.errors import ContentError, InUseError, UsageError
from common.files import locked, read_limited, sync_directory, write_atomic, write_parts_atomic
from common.oci.image import parse_digest
from common.serialization import UNDECODABLE, decode_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType


# The journal: the layout of an unfinished export. It does not list the blobs that were written: a later run reads that from
# their places (`resume.py`), so nothing depends on the order in which the two become durable.

MAX_SIZE = 1024 * 1024 * 1024
_PART = 250  # blobs that are encoded at once
_TYPE = "application/vnd.hub-airgap.journal.v1+json"
_LOG = logging.getLogger(__name__)


class _Journal(msgspec.Struct, rename="camel"):
    media_type: str
    volumes: tuple[VolumeRecord, ...]
    reserve: int
    blobs: list[PlacedBlob]


_JOURNAL = msgspec.json.Decoder(_Journal)


def write_journal(path: Path, layout: Layout) -> None:
    """Write the journal of a layout; durable when this returns. Raises OSError."""
    write_parts_atomic(path, _journal_parts(layout))


def is_journal_of(path: Path, layout: Layout) -> bool:
    """Say whether a file is the journal of a layout."""
    # Byte for byte: the same layout is always encoded to the same bytes.
    return _holds(path, _journal_parts(layout))


def encode_journal(layout: Layout) -> bytes:
    """Return the bytes of a journal. Same layout, same bytes."""
    return b"".join(_journal_parts(layout))


def _journal_parts(layout: Layout) -> Iterator[bytes]:
    """Yield the same bytes in parts: all of them take a third of a KiB for each blob."""
    head = msgspec.json.encode(_Journal(_TYPE, layout.volumes, layout.reserve, []))
    yield head[: -len("]}")]
    blobs, lead = iter(layout.blobs.values()), b""
    while some := list(islice(blobs, _PART)):
        yield lead + msgspec.json.encode(some)[1:-1]
        lead = b","
    yield b"]}\n"


def read_journal(path: Path, most: int = MAX_BLOBS) -> Layout | None:
    """Return the layout of an interrupted export of at most `most` blobs; None where there is none that this version reads."""
    try:
        journal = _decoded(read_limited(path, MAX_SIZE), most)
        if journal.media_type != _TYPE:
            return None
        layout = Layout({blob.descriptor.digest: blob for blob in journal.blobs}, journal.volumes, journal.reserve)
        _check(layout)
    except (UsageError, *UNDECODABLE, ContentError) as error:
        _LOG.info("%s: %s", path, error)
        return None
    return layout


def _decoded(raw: bytes, most: int) -> _Journal:
    """Decode a journal. Raises ContentError for more blobs than `most`, UNDECODABLE."""
    # Before they are decoded: one for each blob, its descriptor and its place, one for each volume, and one more for the rest
    # of a blob that is cut at its end.
    if (objects := raw.count(b"{")) > 1 + 3 * most + 2 * MAX_VOLUMES:
        raise ContentError(f"{objects} objects, more than a journal has")
    journal = decode_bounded(raw, _JOURNAL)
    if len(journal.blobs) > most:
        raise ContentError(f"{len(journal.blobs)} blobs; the limit is {most}")
    return journal


def _check(layout: Layout) -> None:
    """Raise ContentError for what no export writes: files are opened, and bytes read, by what a journal says."""
    for digest in layout.blobs:
        parse_digest(digest)
    inventory_file.check_layout(layout.volumes, layout.blob_records())
    last = 0, 0
    for blob in layout.blobs.values():
        for piece in blob.pieces:
            here = piece.volume, piece.offset
            if here < last:
                raise ContentError(f"{blob.descriptor.digest}: its place is not behind that of the blob before")
            last = here


WORKING = "hub-export."  # what the names of all files begin with that are there only while an archive is made
LOCK = "hub-export.lock"
CATALOGS = "hub-export.catalogs"  # the layers of catalogs, while the archive is made
PART = "hub-export.part"  # the volumes here are a part, which is whole
JOINING = "hub-export.joining"  # the volumes here come from parts
PROBE = "hub-export.probe"  # an empty file that was moved here, to see whether files can be
EARLIER = "hub-export.earlier-"  # with a suffix of 00 to 99: volumes of a previous layout, from which blobs are moved
_MAX_EARLIER = 100
# Compared without case: on FAT and NTFS a twin that differs only in case is the same file.
_OURS = re.compile(
    r"volume-\d+\.tar\.zst(\.parity)?|inventory\.json(\.sig)?|sha256sums(\.sig)?|report\.html", re.ASCII | re.IGNORECASE
)
_SHOWN = 3  # names in a message


class OutputDirectory:
    """Context manager that holds a directory for one export. Finished archives and foreign files are never changed.

    `admit` checks or prepares the directory when it is locked and before anything in it changes; it raises UsageError for one
    that must stay as it is. `is_held`: the caller holds its lock (`held`).

    Raises InUseError when the directory is in use, UsageError when it holds a finished archive, or files with the
    names of one that no export made.
    """

    def __init__(self, path: Path, layout: Layout, admit: Callable[[Path], None], *, is_held: bool = False) -> None:
        self.path = path
        self._is_held = is_held
        self._layout = layout
        self._admit = admit
        self._stack = ExitStack()
        self.resumes = False  # the volumes here are of the same layout
        self.earlier: tuple[PreviousExport, ...] = ()

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise UsageError(f"{self.path} is not a directory", hint="Give --output a directory.") from None
        with ExitStack() as stack:
            if not self._is_held:
                stack.enter_context(held(self.path))
            try:
                self._claim()
            except (UsageError, InUseError):
                if not is_begun(self.path):
                    (self.path / LOCK).unlink(missing_ok=True)  # not even a lock stays in a foreign directory
                raise
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def volumes(self) -> Iterator[Path]:
        """Give the volume files in the directory, with those of previous layouts."""
        for directory in (self.path, *(export.directory for export in self.earlier)):
            yield from (path for path in directory.iterdir() if VOLUME_NAME.fullmatch(path.name))

    def abandon(self) -> None:
        """Remove the journal of an export that has written nothing yet."""
        if not any(self.volumes()):
            (self.path / JOURNAL_NAME).unlink()
            (self.path / LOCK).unlink(missing_ok=True)

    def finished(self) -> None:
        """Remove journal, lock and all files for a later run: the archive is complete and durable."""
        _tidy(self.path)

    def _claim(self) -> None:
        """Decide how to continue, and write the journal. The process may be killed after any step."""
        found = require_free(self.path)
        self._admit(self.path)
        mine = self.path / JOURNAL_NAME
        self.resumes = is_journal_of(mine, self._layout)
        if not self.resumes:
            if self._joined:
                raise UsageError(
                    f"{self.path} holds volumes of parts in another layout", hint="Finish with the version that began."
                )
            if found:
                self._set_aside(found)
            write_journal(mine, self._layout)
        for name in found if self.resumes else ():
            if not self._is_kept(name) or not is_plain(self.path / name):
                (self.path / name).unlink()  # inventory and reports are made again; a link would lead a write elsewhere
        self.earlier = tuple(
            PreviousExport(directory, layout)
            for directory in sorted(self.path.glob(f"{EARLIER}*"))
            if (layout := read_journal(directory / JOURNAL_NAME)) is not None
        )

    def _is_kept(self, name: str) -> bool:
        """Say whether a file is kept: volumes, and their parity where parts are joined."""
        return bool(VOLUME_NAME.fullmatch(name.removesuffix(parity.SUFFIX) if self._joined else name))

    @property
    def _joined(self) -> bool:
        return (self.path / JOINING).is_file()

    def _set_aside(self, found: Sequence[str]) -> None:
        """Move volumes of another layout into a directory of their own, with their journal in front of them."""
        mine = self.path / JOURNAL_NAME
        raw = read_limited(mine, MAX_SIZE, "It was written by no export: choose another --output.")
        places = [self.path / f"{EARLIER}{number:02d}" for number in range(_MAX_EARLIER)]
        begun = [place for place in places if _holds(place / JOURNAL_NAME, [raw])]
        free = [place for place in places if not place.exists()]
        if not begun and not free:
            raise UsageError(f"{self.path} holds {_MAX_EARLIER} interrupted exports", hint="Choose another --output.")
        place = (begun or free)[0]
        place.mkdir(exist_ok=True)
        # The journal first: volumes without one could never be used, or removed, again.
        write_atomic(place / JOURNAL_NAME, raw)
        for name in found:
            if VOLUME_NAME.fullmatch(name):
                (self.path / name).rename(place / name)
            else:
                (self.path / name).unlink()
        sync_directory(place)
        sync_directory(self.path)


def held(path: Path) -> AbstractContextManager[None]:
    """Hold the lock of an output directory. Raises InUseError."""
    return locked(path / LOCK, f"the output directory {path}")


def tidy_finished(path: Path) -> None:
    """Remove the working files of a finished export that was interrupted while it removed them."""
    if (is_begun(path) or (path / LOCK).is_file()) and (path / checksums.NAME).is_file():
        with held(path):
            _tidy(path)


def _holds(path: Path, content: Iterable[bytes]) -> bool:
    """Say whether a file has the content, byte for byte; it is read as far as it is the same."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return all(file.read(len(part)) == part for part in content) and not file.read(1)


def _tidy(path: Path) -> None:
    for directory in path.glob(f"{EARLIER}*"):
        shutil.rmtree(directory)
    shutil.rmtree(path / CATALOGS, ignore_errors=True)
    (path / JOINING).unlink(missing_ok=True)
    (path / JOURNAL_NAME).unlink(missing_ok=True)
    (path / LOCK).unlink(missing_ok=True)
    sync_directory(path)


@dataclass(frozen=True, slots=True)
class PreviousExport:
    """Volumes of an interrupted export with another layout."""

    directory: Path
    layout: Layout


def refuse_parts(path: Path) -> None:
    """Raise UsageError for a directory whose volumes are a part, or came from parts."""
    refuse_part(path)
    refuse_joining(path)


def refuse_part(path: Path) -> None:
    """Raise UsageError for a directory that is a part."""
    if (path / PART).is_file():
        raise UsageError(f"{path} is a part of an archive", hint="It is not touched. Choose another --output.")


def refuse_joining(path: Path) -> None:
    """Raise UsageError for a directory whose volumes came from parts."""
    if (path / JOINING).is_file():
        raise UsageError(
            f"{path} holds volumes of parts that are being joined",
            hint="Run their hub-export finish again, or choose another --output.",
        )


def is_plain(path: Path) -> bool:
    """Say whether a path is a file with one name, and no link: a write to it changes no other file."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def is_ours(name: str) -> bool:
    """Say whether a name is that of a file of a finished archive."""
    return _OURS.fullmatch(name) is not None


def is_begun(path: Path) -> bool:
    """Say whether an export has begun to make an archive in a directory, and has not finished it."""
    mine = path / JOURNAL_NAME
    return mine.is_file() and not mine.is_symlink()


def require_free(path: Path) -> list[str]:
    """Return the names of the files that an unfinished export left in a directory; changes nothing.

    Raises UsageError when it holds a finished archive, or files with names of an archive that no export is making.
    """
    found = sorted(entry.name for entry in path.iterdir() if _OURS.fullmatch(entry.name))
    lower = {name.lower() for name in found}
    begun = is_begun(path)
    if checksums.NAME.lower() in lower or (inventory_file.NAME in lower and not begun):
        raise UsageError(
            f"{path} holds a finished archive ({', '.join(found[:_SHOWN])}{', …' if len(found) > _SHOWN else ''})",
            hint="It is not touched. Choose another directory with --output, or move the archive away.",
        )
    if found and not begun:
        raise UsageError(
            f"{path} holds {found[0]}, which this export did not make",
            hint="Choose another directory with --output, or move the file away.",
        )
    return found


@contextmanager
def prepared(directory: Path, *, with_parity: bool = False, finished: bool = False) -> Iterator[None]:
    """Hold an output directory in which an archive may be made; a failure before the archive was begun leaves no files.

    `with_parity`: the archive gets parity files. `finished`: a whole one is there. Raises UsageError where none can be made.
    """
    if with_parity:
        parity.require_coder()  # before the lookups, which take minutes
    existed = directory.exists()
    make_directory(directory, "--output")
    tidy_finished(directory)
    if not finished:
        require_free(directory)  # before anything is fetched; OutputDirectory claims the directory for good
    try:
        yield
    except Exception:
        if not is_begun(directory):
            shutil.rmtree(directory / CATALOGS, ignore_errors=True)
            if not existed:
                with suppress(OSError):
                    directory.rmdir()
        raise


def make_directory(directory: Path, option: str) -> None:
    """Make a directory that an option names, unless it exists. Raises UsageError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in files.GONE:
            raise  # no fault of the name: the command line gives the advice
        raise UsageError(f"{directory}: cannot be made: {error.strerror}", hint=f"Choose another {option}.") from error
