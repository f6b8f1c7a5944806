"""The one loop: blobs from a source into a sink, in parallel, verified, with progress (architecture, *The idea*).

Owns threads, verification and the collecting of failures. Retry and resume inside one blob are the media's: a registry goes
on by Range, an archive reads again. One blob that fails never stops the others.
"""

from __future__ import annotations

import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from common import files
from common.content import BlobSink, BlobSource, Chunks, Written, retry_damaged, verified
from common.errors import (
    ContentError,
    HubError,
    InterruptedByUserError,
    MediumGoneError,
    RegistryError,
    RegistryUnreachableError,
    SpaceError,
    StorageUnreachableError,
    UsageError,
)
from common.interruption import end, pause
from common.progress import Progress, Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from common.oci.image import Descriptor, Digest, Hasher


_LOG = logging.getLogger(__name__)
GIVE_UP = 8  # above the default --jobs: one failure of the network hits at most so many blobs at once
_ALONE = 4  # times GIVE_UP, where all failures are of one repository
_STEP_S = 0.25  # of a pause: it ends at most so long after the loop stopped
_AHEAD = 4  # blobs waiting per worker: enough to keep it busy, few enough to hold two million blobs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one blob: `written`, or `error`."""

    blob: Descriptor
    written: Written | None = None
    error: HubError | None = None


def copy(
    blobs: Iterable[Descriptor],
    source: BlobSource,
    sink: BlobSink,
    *,
    jobs: int,
    progress: Progress | None = None,
    wait: Callable[[float], None] = pause,
    places: Callable[[Digest], Iterable[object]] = lambda _digest: (),
    names: Callable[[Digest], str] = lambda _digest: "",
) -> Iterator[Outcome]:
    """Copy every blob, `jobs` at a time, in the given order; give each outcome as it is known. `wait` pauses for seconds.

    `places`: the repositories of a blob, where they are known. `names`: what progress shows a blob as.

    Raises RegistryUnreachableError or StorageUnreachableError when GIVE_UP blobs in a row found no host, or one that is out:
    the retries of every further blob would take hours; the next run continues. Answers of 500 and above for blobs of one
    repository alone end nothing, unless no other blob went well: their retries are few.
    Raises SpaceError when the file system of the sink fills up, HubError when it breaks, MediumGoneError when the source's
    medium was removed, UsageError for settings that make no sense: every further blob would fail too.
    Passes KeyboardInterrupt on. All stop the running blobs at their next chunk; closing the iterator does the same.
    """
    stop = threading.Event()
    loop = _Loop(source, sink, progress or Silent(), stop, wait, names)
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="copy")
    try:
        yield from _while_reached(_bounded(pool, loop.one, blobs, jobs * _AHEAD), places)
    finally:
        stop.set()
        end(pool)


class HostFailures:
    """Counts what failed in a row because a host was out. Shared by threads.

    `ended_by`: the failure after which the host was out for all that follows, so that other threads send nothing more.
    `ends_alone` False: answers of one repository alone never say so.
    """

    def __init__(self, *, ends_alone: bool = True) -> None:
        self._lock = threading.Lock()
        self._ends_alone = ends_alone
        self.row = 0
        self.ended_by: HubError | None = None
        self._places: set[str] = set()
        self.works = False  # a result showed that the host answers

    def add(self, error: HubError | None, *places: str) -> bool:
        """Note one result, in repositories where they are known; say whether the host is out for all that follows."""
        with self._lock:
            if error is None or not is_host_failure(error):
                self.row, self.works = 0, True
                self._places.clear()
                return False
            self.row += 1
            # Without an answer it is the way to the host, and no repository of it.
            self._places.update(places if self._ends_alone or _is_answered(error) else ("",))
            # One repository may be out alone, behind a proxy that has a server for each path: others are asked for longer.
            is_alone = len(self._places) == 1 and "" not in self._places
            is_out = self.row >= (GIVE_UP * _ALONE if is_alone else GIVE_UP) and (self._ends_alone or not is_alone)
            if is_out:
                self.ended_by = self.ended_by or error
            return is_out


def _is_answered(error: HubError) -> bool:
    return isinstance(error, RegistryError) and bool(error.status)


def _while_reached(outcomes: Iterator[Outcome], places: Callable[[Digest], Iterable[object]]) -> Iterator[Outcome]:
    """Pass outcomes on until too many in a row mean that a host is gone."""
    failures = HostFailures(ends_alone=False)
    last: HubError | None = None
    for outcome in outcomes:
        last = outcome.error
        names = map(str, places(outcome.blob.digest)) if last is not None else ()
        if failures.add(last, *names) and last is not None:
            raise gone(last, f"given up after {failures.row} blobs in a row")
        yield outcome
    if last is not None and failures.row >= GIVE_UP and not failures.works:
        raise gone(last, f"none of {failures.row} blobs went well")


def is_host_failure(error: HubError) -> bool:
    """Say whether a host was out, so that further blobs would fail too, and the same ones may come later."""
    return isinstance(error, StorageUnreachableError) or (isinstance(error, RegistryError) and error.is_host_failure)


def gone(error: HubError, what: str) -> HubError:
    """Return the error that ends a run for a host that is out; `error` is that of the last blob."""
    kind = StorageUnreachableError if isinstance(error, StorageUnreachableError) else RegistryUnreachableError
    again = "Run the same command again when it is back: it continues where it stopped."
    if error.hint and "run again" not in error.hint.lower():  # a wrong name, a certificate, a firewall: it needs more than time
        again = f"{error.hint} Then run the same command again: it continues where it stopped."
    return kind(f"{what}: {error.message}", hint=again)


def _bounded(
    pool: ThreadPoolExecutor, work: Callable[[Descriptor], Outcome], blobs: Iterable[Descriptor], ahead: int
) -> Iterator[Outcome]:
    """Run `work` over blobs with at most `ahead` of them begun or waiting.

    Outcomes come through a queue and not by `concurrent.futures.wait`: that holds the locks of many futures, and where Ctrl-C
    interrupts it just then, a worker waits for one of them for ever.
    """
    results: SimpleQueue[Outcome | BaseException] = SimpleQueue()

    def run(blob: Descriptor) -> None:
        try:
            results.put(work(blob))
        except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is taken
            results.put(error)

    running = 0
    for blob in blobs:
        pool.submit(run, blob)
        running += 1
        if running >= ahead:
            yield _taken(results)
            running -= 1
    for _ in range(running):
        yield _taken(results)


def _taken(results: SimpleQueue[Outcome | BaseException]) -> Outcome:
    result = results.get()
    if isinstance(result, BaseException):
        raise result
    return result


def _raise_fatal(error: OSError, what: str) -> None:
    """Raise our error for a medium that will not take the next blob either: it is full, broken, or cannot be written."""
    if error.errno in files.FULL:
        raise SpaceError(f"no space left while writing {what}", hint="Free some and run again.") from error
    if error.errno in files.BROKEN:
        hint = (
            files.AGAIN if error.errno in files.GONE else "Look at the disk, or choose another; finished blobs are kept on it."
        )
        raise HubError(f"{what} cannot be written: {files.medium_error(error)}", hint=hint) from error


@dataclass(frozen=True, slots=True)
class _Loop:
    """The work on one blob."""

    _source: BlobSource
    _sink: BlobSink
    _progress: Progress
    _stop: threading.Event
    _wait: Callable[[float], None]
    _names: Callable[[Digest], str]

    def one(self, blob: Descriptor) -> Outcome:
        name = blob.digest[:19]
        self._progress.item(name, blob.size, self._names(blob.digest))
        content = _Content(self._source, blob, self._counting(name), self._stop)
        try:
            written = retry_damaged(lambda _try: self._sink.write(blob, content.read), self._pause)
        except (SpaceError, InterruptedByUserError, UsageError, MediumGoneError):
            raise
        except HubError as error:
            _LOG.debug("%s: %s", blob.digest, error)
            return self._failed(content, error)
        except OSError as error:
            # A single unreadable file is one blob's failure; a full or broken disk is everyone's.
            _raise_fatal(error, blob.digest)
            return self._failed(content, ContentError(f"{blob.digest}: {error}"))
        finally:
            self._progress.item_end(name)
        content.settle()
        return Outcome(blob, written)

    def _failed(self, content: _Content, error: HubError) -> Outcome:
        self._progress.failed(content.left)
        return Outcome(content.blob, error=error)

    def _pause(self, seconds: float) -> None:
        """Wait. Raises InterruptedByUserError when the loop, or the process, stops."""
        for _ in range(math.ceil(seconds / _STEP_S)):
            if self._stop.is_set():
                raise InterruptedByUserError("stopped")
            self._wait(_STEP_S)

    def _counting(self, name: str) -> Callable[[int, bool], None]:
        return lambda size, moved: self._progress.advance(size, name, moved=moved)


class _Content:
    """The verified content of one blob, opened as often as its sink needs it; progress counts each byte once."""

    def __init__(self, source: BlobSource, blob: Descriptor, count: Callable[[int, bool], None], stop: threading.Event) -> None:
        self._source = source
        self.blob = blob
        self._count = count
        self._stop = stop
        self._furthest = 0

    def read(self, start: int = 0, prefix: Hasher | None = None) -> Chunks:
        """Give the verified content from `start`; bytes before it that are not in `prefix` are read too, for the digest."""
        position = start if prefix else 0
        self._advance_to(position, moved=False)  # bytes of an earlier run count as done
        for chunk in verified(self._source.read(self.blob, position), self.blob, prefix, position):
            if self._stop.is_set():
                raise InterruptedByUserError("stopped")
            position += len(chunk)
            self._advance_to(position)
            if position > start:
                yield chunk[max(len(chunk) - (position - start), 0) :]

    @property
    def left(self) -> int:
        """The bytes that progress has not counted."""
        return self.blob.size - self._furthest

    def settle(self) -> None:
        """Count what the sink did not need to read."""
        self._advance_to(self.blob.size, moved=False)

    def _advance_to(self, position: int, *, moved: bool = True) -> None:
        if position > self._furthest:
            self._count(position - self._furthest, moved)
            self._furthest = position
