"""A file into an object, in parts: where a part begins follows from the size alone, so an interrupted upload goes on.

What an earlier upload has is compared with the file, part by part; one that differs anywhere is given up, and begun anew. Until
the last part is there and the parts are put together, nobody sees anything of the object.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from common.errors import InterruptedByUserError, StorageError
from common.storage.answers import StoredPart
from common.storage.place import StoredPlace
from common.workers import workers

PART = 16 * 1024 * 1024
MAX_PARTS = 10_000
_MIB = 1024 * 1024
_MEMORY = 256 * _MIB  # that parts on their way may take


def part_size(size: int) -> int:
    """Return the bytes of every part of an object of `size` bytes, but the last: at least 16 MiB, and 10,000 parts at most."""
    least = -(-size // MAX_PARTS)
    return max(PART, -(-least // _MIB) * _MIB)


def upload(
    path: Path,
    to: StoredPlace,
    *,
    jobs: int,
    advance: Callable[[int], None],
    before_complete: Callable[[], None] = lambda: None,
) -> str:
    """Make an object of a file, up to `jobs` parts at a time; `advance` is told of bytes that are there.

    Interrupted, it leaves what it has sent, and the next call goes on with that. Raises StorageError, OSError.
    """
    size = path.stat().st_size
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if size <= PART:
            before_complete()
            to.write(os.pread(file, size, 0))
            advance(size)
        else:
            _Upload(file, size, to, advance, before_complete).run(max(min(jobs, _MEMORY // part_size(size)), 1))
    finally:
        os.close(file)
    stat = to.stat()
    if stat is None or stat.size != size:
        raise StorageError(f"{to}: {stat.size if stat else 'no'} bytes are there, and {size} were sent", hint="Run it again.")
    return stat.tag


@dataclass(frozen=True, slots=True)
class _Upload:
    """One file on its way."""

    file: int
    size: int
    to: StoredPlace
    advance: Callable[[int], None]
    before: Callable[[], None]

    def run(self, jobs: int) -> None:
        if self._is_there():
            self.advance(self.size)
            return
        try:
            self._send_all(jobs)
        except StorageError as error:
            if error.code != "NoSuchUpload" or not self._is_there():
                raise  # else somebody else who brings the same volume was faster

    def _send_all(self, jobs: int) -> None:
        name, held = self._taken_up()
        tags = {number: part.tag for number, part in held.items()}
        self.advance(sum(part.size for part in held.values()))
        stop = threading.Event()
        with workers(jobs, "upload") as pool:
            todo = [number for number in range(1, self._count + 1) if number not in tags]
            sent: dict[int, Future[str]] = {number: pool.submit(self._send, name, number, stop) for number in todo}
            try:
                tags |= {number: one.result() for number, one in sent.items()}
            except BaseException:
                stop.set()
                raise
        self.before()
        self.to.storage.complete(self.to.bucket, self.to.key, name, tags)

    def _is_there(self) -> bool:
        """Say whether the object is this very file, sent before: its tag is made of those of its parts, or of all its bytes."""
        stat = self.to.stat()
        if stat is None or stat.size != self.size:
            return False
        whole, parts = hashlib.md5(usedforsecurity=False), b""
        for number in range(1, self._count + 1):
            content = self._content(number)
            whole.update(content)
            parts += bytes.fromhex(_md5(content))
        return stat.tag.strip('"').lower() in {whole.hexdigest(), f"{_md5(parts)}-{self._count}"}

    @property
    def _count(self) -> int:
        return -(-self.size // part_size(self.size))

    def _taken_up(self) -> tuple[str, Mapping[int, StoredPart]]:
        """Return an upload to go on with, and the parts that it has already; those that are of other bytes are given up."""
        storage, bucket, key = self.to.storage, self.to.bucket, self.to.key
        for name, _began in storage.uploads(bucket, key):
            held = storage.parts(bucket, key, name)
            if held is not None and all(self._is_right(number, part) for number, part in held.items()):
                return name, held
            storage.abort(bucket, key, name)
        return storage.begin(bucket, key), {}

    def _is_right(self, number: int, part: StoredPart) -> bool:
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
        if len(content) != wanted:
            raise StorageError(f"{self.to}: the file that is being uploaded became shorter", hint="Make the volume again.")
        return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
