"""Upload of a file in parts. The size alone determines where a part begins, so an interrupted upload continues.

The parts of an earlier upload are compared with the file. One that differs anywhere is left alone and another begun: it may be
that of a second process with the same file, at a service whose part tags are no MD5. Only an upload that began more than a day
ago is aborted. The object is visible only when the upload is completed.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from common.errors import InterruptedByUserError, StorageError
from common.interruption import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from common.storage.client import UploadedPart
    from common.storage.location import S3Location


PART = 16 * 1024 * 1024  # S3 requires at least 5 MiB; smaller parts cost requests, larger ones memory
MAX_PARTS = 10_000  # limit of S3 (Multipart upload limits)
_ABANDONED = timedelta(days=1)  # no process takes that long for one file
_MIB = 1024 * 1024
_MEMORY = 256 * _MIB  # that parts on their way may take


def part_size(size: int) -> int:
    """Return the bytes of every part of an object of `size` bytes, but the last: at least 16 MiB, and 10,000 parts at most."""
    least = -(-size // MAX_PARTS)
    return max(PART, -(-least // _MIB) * _MIB)


def _nothing() -> None:
    """Do nothing."""


def upload(
    path: Path,
    to: S3Location,
    *,
    jobs: int,
    advance: Callable[[int], None],
    before_complete: Callable[[], None] = _nothing,
) -> str:
    """Make an object of a file, up to `jobs` parts at a time; return its tag, as in `Stat`.

    `advance` is called with the number of bytes that are stored.
    `before_complete` is called right before the object becomes visible, unless the same object is there already.
    An interrupted call leaves its parts, and the next one continues with them. Raises StorageError, OSError, and what
    `before_complete` raises.
    """
    size = path.stat().st_size
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        _Upload(file, size, to, advance, before_complete).run(max(min(jobs, _MEMORY // part_size(size)), 1))
    finally:
        os.close(file)
    # The tag of the object is not in every answer to a completed upload, so it is asked for.
    stat = to.stat()
    if stat is None or stat.size != size:
        raise StorageError(f"{to}: {stat.size if stat else 'no'} bytes are there, and {size} were sent", hint="Run it again.")
    return stat.tag


@dataclass(frozen=True, slots=True)
class _Upload:
    """One file on its way."""

    file: int
    size: int
    to: S3Location
    advance: Callable[[int], None]
    before_complete: Callable[[], None]

    def run(self, jobs: int) -> None:
        if self._is_there():
            self.advance(self.size)
            return
        try:
            if self.size <= PART:
                self._send_at_once()
            else:
                self._send_all(jobs)
        except StorageError:
            if not self._is_there_after_all():
                raise  # otherwise a second process with the same file was faster, or an answer was lost

    def _send_at_once(self) -> None:
        content = self._content(1) if self.size else b""
        self.before_complete()
        self.to.write(content)
        self.advance(self.size)

    def _send_all(self, jobs: int) -> None:
        name, held = self._taken_up()
        tags = {number: part.tag for number, part in held.items()}
        self.advance(sum(part.size for part in held.values()))
        stop = threading.Event()  # so that parts which have not begun are skipped after a failure
        with workers(jobs, "upload") as pool:
            todo = [number for number in range(1, self._count + 1) if number not in tags]
            sent: dict[int, Future[str]] = {number: pool.submit(self._send, name, number, stop) for number in todo}
            try:
                tags |= {number: one.result() for number, one in sent.items()}
            except BaseException:
                stop.set()
                raise
        # The object does not exist until now, so a process that was overtaken stops here without a trace.
        self.before_complete()
        self.to.storage.complete(self.to.bucket, self.to.key, name, tags)

    def _is_there(self) -> bool:
        """Say whether the object is this file, by its tag: the MD5 of all bytes, or of the MD5s of its parts."""
        stat = self.to.stat()
        if stat is None or stat.size != self.size:
            return False
        whole, parts = hashlib.md5(usedforsecurity=False), b""
        for number in range(1, self._count + 1):
            content = self._content(number)
            whole.update(content)
            parts += bytes.fromhex(_md5(content))
        return stat.tag.strip('"').lower() in {whole.hexdigest(), f"{_md5(parts)}-{self._count}"}

    def _is_there_after_all(self) -> bool:
        with suppress(StorageError):  # the first error says more
            return self._is_there()
        return False

    @property
    def _count(self) -> int:
        return -(-self.size // part_size(self.size))

    def _taken_up(self) -> tuple[str, Mapping[int, UploadedPart]]:
        """Return an upload to continue and its parts, all of this file; a new upload where there is none."""
        storage, bucket, key = self.to.storage, self.to.bucket, self.to.key
        for name, began in storage.uploads(bucket, key):
            held = storage.parts(bucket, key, name)
            # An upload without parts is not taken: a second process may have just begun it.
            if held and all(self._is_right(number, part) for number, part in held.items()):
                return name, held
            if began is not None and datetime.now(UTC) - began > _ABANDONED:
                storage.abort(bucket, key, name)
        return storage.begin(bucket, key), {}

    def _is_right(self, number: int, part: UploadedPart) -> bool:
        if not 1 <= number <= self._count:
            return False
        content = self._content(number)
        return (len(content), _md5(content)) == (part.size, part.tag.lower())

    def _send(self, name: str, number: int, stop: threading.Event) -> str:
        if stop.is_set():
            raise InterruptedByUserError("stopped")
        content = self._content(number)
        tag = self.to.storage.write_part(self.to.bucket, self.to.key, name, number, content)
        self.advance(len(content))
        return tag

    def _content(self, number: int) -> bytes:
        start = (number - 1) * part_size(self.size)
        wanted = min(part_size(self.size), self.size - start)
        content = os.pread(self.file, wanted, start)
        # A part that is short would shift no byte, but the checksum of the volume is written already.
        if len(content) != wanted:
            raise StorageError(f"{self.to}: the file that is being uploaded became shorter", hint="Make the volume again.")
        return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
