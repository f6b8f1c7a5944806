"""Reading of what an interrupted export wrote, in the background, while the plan is made (ADR 0093).

The journal says which blobs may be where. It is believed only when the plan turns out to give the same one, and the volumes did
not change meanwhile; otherwise the result is discarded, and nothing of it was written anywhere.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from common.archive.volume import JOURNAL_NAME, OPENING
from common.errors import InterruptedByUserError
from common.interruption import end
from common.progress import step
from exporter.archive.output import held, is_begun, is_plain, read_journal, refuse_parts
from exporter.archive.resume import STEP, left_behind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from common.progress import Progress
    from exporter.archive.resume import LeftBehind


class EarlyReading:
    """The reading of the volumes in a directory whose lock is held; it begins at once. Close it: it has a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._done = 0
        self._shown: Progress | None = None
        self._states: dict[Path, tuple[int, ...] | None] = {}  # of each volume when its reading began
        self._is_usable = True
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="early-reading")
        self._found = self._pool.submit(self._read)

    def close(self) -> None:
        """Stop the reading at its next step, and wait for that."""
        self._stop.set()
        end(self._pool)

    def is_current(self) -> bool:
        """Return whether the volumes that were read so far are still the same files, unchanged."""
        with self._lock:
            states = list(self._states.items())
        return all(_state(path) == state for path, state in states)

    def result(self, progress: Progress, total: int) -> LeftBehind | None:
        """Wait for the end of the reading, and show it; None where the volumes have to be read again.

        `total`: the bytes of all volumes. What was read before counts as done, not for the rate. Raises OSError.
        """
        try:
            with step(progress, STEP, total, kept=True):
                with self._lock:
                    progress.advance(self._done, moved=False)
                    self._shown = progress
                found = self._found.result()
                progress.advance(total - self._done, moved=False)  # places that were not reached
        finally:
            with self._lock:
                self._shown = None
        return found if self._is_usable else None

    @property
    def done(self) -> int:
        """The bytes that were read."""
        return self._done

    def _read(self) -> LeftBehind | None:
        layout = read_journal(self._directory / JOURNAL_NAME)
        if layout is None:
            return None
        return left_behind(layout, self._directory, range(1, len(layout.volumes) + 1), self._advance, self._is_there)

    def _is_there(self, path: Path) -> bool:
        """Return whether a volume can be read, and note its state."""
        state = _state(path)
        with self._lock:
            self._states[path] = state
        # An export writes the first entry again before it reads; here nothing is written.
        self._is_usable &= state is None or _begins(path)
        return state is not None

    def _advance(self, size: int) -> None:
        if self._stop.is_set():
            raise InterruptedByUserError("stopped")
        if size:
            with self._lock:
                self._done += size
                if self._shown is not None:
                    self._shown.advance(size)


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a volume is written or replaced; None where an export would make it anew."""
    try:
        if not is_plain(path):
            return None
        status = path.lstat()
    except FileNotFoundError:
        return None
    # A time of writing can be set back, as copying tools do; st_ctime cannot.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _begins(path: Path) -> bool:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return os.pread(file, len(OPENING), 0) == OPENING
    finally:
        os.close(file)


@contextmanager
def begun(directory: Path) -> Iterator[EarlyReading | None]:
    """Lock an output directory that has an interrupted export, and begin to read what that wrote; None without one.

    At the end of the block the reading stops and the lock is released. Raises InUseError, and UsageError for parts.
    """
    if not is_begun(directory):
        yield None
        return
    with held(directory):
        refuse_parts(directory)
        reading = EarlyReading(directory)
        try:
            yield reading
        finally:
            reading.close()
