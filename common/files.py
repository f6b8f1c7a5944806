"""Atomic and durable writing of files, lock files, temporary directories, free space, and errors of media."""

from __future__ import annotations

import errno
import fcntl
import glob
import logging
import os
import shutil
import stat
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import HubError, InUseError, MediumGoneError, SpaceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import BinaryIO


# Errors of a medium: a stick that was pulled, a share that is not there any more, a disk that breaks.

# ENOTCONN: a FUSE file system whose program ended, as ntfs-3g does when its stick is pulled; ESTALE: NFS; ENODEV, ENXIO and
# ENOMEDIUM: the device or its driver.
GONE = frozenset({errno.ENOTCONN, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM, errno.ESHUTDOWN})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
BROKEN = GONE | {errno.EIO, errno.EREMOTEIO, errno.EROFS}  # EROFS: Linux mounts a failing disk read-only (ext4, errors=)
AGAIN = "Connect and mount it again, or choose another; run the same command again: what is finished is kept."


def medium_error(error: OSError) -> str:
    """Return what an error of a medium means, with the system's own words."""
    why = error.strerror or str(error)
    return f"the medium is gone: {why}" if error.errno in GONE else why


def medium_gone(what: object, error: BaseException) -> MediumGoneError | None:
    """Return the error for a medium that was removed while `what` was read; None for any other error."""
    if isinstance(error, OSError) and error.errno in GONE:
        return MediumGoneError(f"{what}: {medium_error(error)}")
    return None


@contextmanager
def reading_medium(what: object) -> Iterator[None]:
    """Raise MediumGoneError where `what` cannot be read because its medium is gone; other errors pass."""
    try:
        yield
    except OSError as error:
        if (problem := medium_gone(what, error)) is not None:
            raise problem from error
        raise


_LOG = logging.getLogger(__name__)
_STALE_S = 3600.0  # a temporary directory is locked within moments of its creation
_MAX_NAMES = 10_000  # `page-2.html` and so on, before writing is refused


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace `path` with `content`, or leave it as it was; durable when this returns. Follows no link at `path`.

    A device, pipe or socket is written to: root would replace /dev/null with a file, for all programs of the machine.
    """
    write_all_atomic({path: content}, mode)


def write_all_atomic(contents: Mapping[Path, bytes], mode: int = 0o644) -> None:
    """Replace files as `write_atomic` does; while one of them cannot be written, all stay as they were."""
    # A rename is atomic only within a file system.
    temporaries = {path: _temporary(path) for path in contents if not _is_stream(path)}
    try:
        for path, temporary in temporaries.items():
            temporary.unlink(missing_ok=True)
            with _named(path):
                _create(temporary, contents[path], mode)
        for path in contents.keys() - temporaries.keys():
            with _named(path):
                _write_to(path, contents[path])
        for path, temporary in temporaries.items():
            temporary.replace(path)
    except BaseException:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
        raise
    for directory in {path.parent for path in temporaries}:
        sync_directory(directory)


_DEVICES = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))  # /dev/stdout is a link, to a file where it is redirected


def _is_stream(path: Path) -> bool:
    """Return whether a path is no file that can be replaced, or one of this process's open files."""
    try:
        status = path.lstat()
    except OSError:
        return path.parent in _DEVICES
    if stat.S_ISBLK(status.st_mode):
        raise OSError(errno.EINVAL, "it is a block device", str(path))  # a disk, which would lose its file system
    # A link elsewhere is replaced: in a shared directory another user may have made it.
    return not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)) or path.parent in _DEVICES


def _write_to(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY), "wb", buffering=0) as stream:
        view = memoryview(content)
        while view:
            view = view[stream.write(view) :]


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Give a new file to write, which replaces `path` at the end; where the block fails, `path` stays as it was.

    For content that is too large for `write_atomic`. Follows no link at `path`. Raises OSError.
    """
    temporary = _temporary(path)
    temporary.unlink(missing_ok=True)
    try:
        with _creating(temporary, mode, path) as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_parts_atomic(path: Path, parts: Iterable[bytes]) -> None:
    """Replace `path` as `write_atomic` does with content that is made while it is written."""
    with _named(path), replacing(path) as file:
        file.writelines(parts)


def write_together(files: Mapping[Path, tuple[bytes, int]]) -> None:
    """Write new files, content and mode for each, or none of them. Raises FileExistsError where one is there, OSError."""
    made: list[Path] = []
    try:
        for path, (content, mode) in files.items():
            with _named(path):
                _create(path, content, mode)
            made.append(path)
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise
    for directory in {path.parent for path in files}:
        sync_directory(directory)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give an OSError the name that the caller gave: write(2) has none, and open(2) that of the temporary file."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _create(path: Path, content: bytes, mode: int) -> None:
    with _creating(path, mode, path) as file:
        file.write(content)


@contextmanager
def _creating(path: Path, mode: int, named: Path) -> Iterator[BinaryIO]:
    """Give a file that does not exist, to be written; nothing is left of it where that fails. `mode` counts from its creation.

    `named`: the name that the caller gave.
    """
    with _named(named):
        # O_EXCL and O_NOFOLLOW: in a shared directory the name may be a link that another user has made.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # before a rename; else a crash may leave an empty file under the final name
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def writing(what: object, hint: str) -> Iterator[None]:
    """Raise our error where `what`, which the user named, cannot be written; `hint` for what another name would help."""
    try:
        yield
    except OSError as error:
        raise unwritable(f"{what}: cannot be written", error, hint) from error


def unwritable(message: str, error: OSError, hint: str) -> HubError:
    """Return SpaceError for a full file system or quota, HubError for a medium that breaks, else UsageError with `hint`."""
    message = f"{message}: {medium_error(error)}"
    if error.errno in FULL:
        return SpaceError(message)
    if error.errno in BROKEN and error.errno != errno.EROFS:  # a read-only file system is no place to name
        return HubError(message, hint=AGAIN)
    return UsageError(message, hint=hint)


def _temporary(path: Path) -> Path:
    """Return the name of a file while it is written."""
    return path.with_name(f".{path.name}.new")


def write_new(path: Path, content: bytes) -> Path:
    """Write a file that does not exist yet; return it. Nothing is replaced, and no link is followed.

    Where `path` exists, the file gets the next free name: `page.html`, `page-2.html`, `page-3.html`. Raises OSError.
    """
    file = _reserved(path)
    try:
        write_atomic(file, content)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return file


def _reserved(path: Path) -> Path:
    """Create an empty file under the first free name, so that another process takes the next one."""
    for number in range(1, _MAX_NAMES):
        name = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        with suppress(FileExistsError):
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644))
            return name
    raise FileExistsError(errno.EEXIST, "all names for it are taken", str(path))


def require_place(path: Path) -> None:
    """Raise UsageError for a file that cannot be written, before the long work for it begins."""
    try:
        _temporary(path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # a name that the file system does not allow, a directory without permission to enter it
        raise unwritable(f"{path}: cannot be written", error, "Name a file elsewhere.") from error
    if path.is_dir():
        raise UsageError(f"{path} is a directory", hint="Name the file that is to be written.")
    # The directory, not the file: it is written under another name and renamed.
    require_writable(path.parent, f"{path}: ")


def names_directory(text: str) -> bool:
    """Return whether a path as typed names a directory: it ends with a slash, `.` or `..`, which a Path would remove."""
    return text.rpartition("/")[2] in ("", ".", "..")


def require_writable(directory: Path, what: str = "") -> None:
    """Raise UsageError, whose text begins with `what`, for a directory in which no file can be created."""
    if not directory.is_dir():
        raise UsageError(f"{what}there is no directory {directory}", hint="Make it first, or name another place.")
    # By creating a file, since permission bits are not decisive: root passes them, ACLs and NFS servers add rules.
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise unwritable(f"{what}directory {directory} cannot be written", error, "Name a place elsewhere.") from error


STDIN = Path("/dev/stdin")


def open_argument(path: Path) -> BinaryIO:
    """Open a file given as an argument for reading; standard input by its descriptor. Raises OSError."""
    # The name of a socket cannot be opened (ENXIO, open(2)), and sshd makes one for a command without a terminal.
    return os.fdopen(os.dup(0), "rb") if path == STDIN else path.open("rb")


def read_limited(path: Path, limit: int, hint: str = "") -> bytes:
    """Return the content of a file given as an argument, of at most `limit` bytes. Raises UsageError."""
    try:
        with open_argument(path) as file:
            # By its size first, so that a huge file is not read; by reading then, since a pipe or a device has no size.
            raw = file.read(limit + 1) if os.fstat(file.fileno()).st_size <= limit else None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint=hint) from error
    if raw is None or len(raw) > limit:
        raise UsageError(f"{path}: larger than {limit} bytes", hint=hint)
    return raw


def sync_directory(directory: Path) -> None:
    """Make new names and renames in `directory` durable: fsync of a file does not include its name (fsync(2))."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file. Raises InUseError when another process holds it."""
    import filelock  # noqa: PLC0415 - 10 ms, and only directories that are written are locked

    lock = filelock.FileLock(path, blocking=False)  # flock: the kernel releases it when the process is killed
    try:
        lock.acquire()
    except filelock.Timeout:
        raise InUseError(
            f"{what} is in use by another process (lock {path})",
            hint="Wait until it ends and run this again, or use another directory.",
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """Make a temporary directory for this user alone, and remove it at the end.

    Those that killed processes of this user left under the same prefix are removed first.
    """
    _remove_stale(Path(tempfile.gettempdir()), prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel releases it when the process is killed
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(handle)  # last: while it is open, no other process takes the directory for a stale one


def _remove_stale(root: Path, prefix: str) -> None:
    for folder in sorted(root.glob(f"{glob.escape(prefix)}*")):
        with suppress(OSError):  # of another user, gone meanwhile, or in use
            status = folder.lstat()
            # One that was made just now may not be locked yet. In a shared directory others may make such names, too.
            is_old = time.time() - status.st_mtime > _STALE_S
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or not is_old:
                continue
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
                _LOG.info("%s: removed, left by a process that was killed", folder)
            finally:
                os.close(handle)


def free_space(directory: Path) -> int:
    """Return the free bytes of the file system of `directory`."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize  # f_bfree would include the blocks that are reserved for root


def require_space(directory: Path, need: int, what: str) -> None:
    """Raise SpaceError with need, have and path when `need` bytes do not fit."""
    have = free_space(directory)
    if need > have:
        raise SpaceError(
            f"{what} needs {size_text(need)} in {directory}, and {size_text(have)} are free",
            hint=f"Free at least {size_text(need - have)}, or name another directory.",
        )


def size_text(size: int) -> str:
    """Return a size for people: `3.2 GiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":  # noqa: PLR2004 - the step of the units
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError(unit)
