"""Downloads of blobs: streamed, and continued after a break by Range from the last good byte."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from common.content import REPEATS, Chunks
from common.errors import ContentError, DamagedError, ShortAnswerError
from common.oci.compression import without_codings
from common.registry.http.coding import codings
from common.registry.http.errors import TRIES
from common.registry.http.exchange import Call, Exchange
from common.retry import RetryableError, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from common.oci.image import Descriptor, Digest
    from common.oci.reference import Reference
    from common.registry.settings import Clock


# Damaged content, counted by blob and place. A line that flips bits gives other ones the next time, and `Cache-Control:
# no-cache` (RFC 9111, 5.2.1.4) passes a cache with a bad copy. What stays damaged at one place is requested from the next.

FRESH = {"Cache-Control": "no-cache"}
_HINT = (
    "A proxy, a cache or the line changes the bytes on their way: take another way (another mirror in registries.conf, "
    "no proxy), then run it again."
)


class Damages:
    """Counts by blob and place. Shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Digest, dict[str, int]] = {}

    def count(self, digest: Digest) -> int:
        """Return how often a blob arrived damaged before."""
        with self._lock:
            return sum(self._counts.get(digest, {}).values())

    def left(self, digest: Digest, places: Sequence[str]) -> list[str]:
        """Return the places that have not yet sent a blob damaged as often as it makes sense."""
        with self._lock:
            counts = self._counts.get(digest, {})
            return [place for place in places if counts.get(place, 0) < REPEATS]

    def noted(self, digest: Digest, sent: Iterable[str], places: Sequence[str], error: ContentError) -> DamagedError:
        """Count one more, from the places that `sent` the bytes; return the error, which says whether a place is left."""
        with self._lock:
            counts = self._counts.setdefault(digest, {})
            for place in sent:
                counts[place] = counts.get(place, 0) + 1
        return self.error(digest, places, error.message)

    def error(self, digest: Digest, places: Sequence[str], why: str) -> DamagedError:
        """Return the error for a blob that arrived damaged: how often, from where, and `why` the last time."""
        with self._lock:
            counts = dict(self._counts.get(digest, {}))
        counted = ", ".join(f"{_times(count)} from {place}" for place, count in counts.items())
        why = why.removeprefix(f"{digest}: ")
        return DamagedError(f"{digest}: arrived damaged {counted}: {why}", hint=_HINT, more=bool(self.left(digest, places)))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


_PARTIAL, _OUT_OF_RANGE = 206, 416
_PROGRESS = 1024 * 1024  # a try that brought so much is not counted against the bound
_POLICY = RetryPolicy(tries=TRIES, jitter=0.0)
_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)")


@dataclass(slots=True)
class _Stream:
    """The position in a blob, and the URL that serves it."""

    blob: Descriptor
    position: int
    ranges: bool = True
    url: str = ""
    fresh: bool = False
    as_it_comes: bool = False


class Download:
    """Reads blobs from one place at a time; which places there are is the caller's to know."""

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange = exchange
        self._clock = clock

    def stream(self, repository: Reference, blob: Descriptor, start: int = 0, url: str = "", *, damaged: int = 0) -> Chunks:
        """Give the bytes of `blob` from `start`; `url`: an external location from a manifest, which gets no credentials.

        `damaged`: how often it arrived damaged; then caches must revalidate with the registry.

        Raises RegistryError when it breaks too often without going forward, and ContentError when more comes than the blob
        should have; whether the bytes are right is `verified`'s to say.
        """
        # Every other try: whether an encoded body of unknown length is the blob as it is only shows when all of it is read.
        state = _Stream(blob, start, url=url, fresh=damaged > 0, as_it_comes=damaged % 2 == 1)
        with self._exchange.retries(_call(repository, state, start).limited_by, _POLICY) as retries:
            for attempt in retries:
                with attempt:
                    began = state.position
                    try:
                        yield from self._once(repository, state)
                    finally:
                        if state.position - began >= _PROGRESS:
                            retries.reset()  # a host that breaks every transfer after a while still gives all of a large layer

    def _once(self, repository: Reference, state: _Stream) -> Chunks:
        blob, asked = state.blob, state.position if state.ranges else 0
        if asked >= blob.size > 0:
            return
        with self._exchange.open(_call(repository, state, asked)) as response:
            coded = _codings(repository, response, state)
            skip = _skip(repository, response, state, asked, coded=bool(coded))
            for chunk in without_codings(response.iter_raw(), coded, blob.size) if coded else response.iter_raw():
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                wanted = chunk[skip:] if skip else chunk
                skip = 0
                state.position += len(wanted)
                if state.position > blob.size:
                    raise ContentError(f"{blob.digest}: {repository.name} sends more than the {blob.size} bytes it should have")
                yield wanted
        if state.position < blob.size:
            raise RetryableError(_short(repository, state))


def _codings(repository: Reference, response: httpx.Response, state: _Stream) -> tuple[str, ...]:
    """Return the content codings to undo; none where the bytes as they come are the blob's."""
    names = codings(response.headers.get("Content-Encoding", ""), f"{repository.name}@{state.blob.digest}")
    # Both kinds of servers exist (see `coding`): one whose length is that of the blob sends the blob itself.
    whole = response.headers.get("Content-Range", "").rpartition("/")[2] or response.headers.get("Content-Length", "")
    if not whole.isdigit():  # sent in chunks, as proxies that compress do; else the next try takes the bytes as they come
        return () if state.as_it_comes else names
    return () if whole == str(state.blob.size) else names


def _skip(repository: Reference, response: httpx.Response, state: _Stream, asked: int, *, coded: bool = False) -> int:
    """Return how many bytes to read past: none where the answer begins as asked, `position` where it begins at 0."""
    if not asked or response.status_code == httpx.codes.OK:
        return state.position
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status_code == _PARTIAL and match and int(match[1]) == asked and not coded:  # a decoder needs the beginning
        return 0
    state.ranges = False  # a range that is refused, or another than was asked for: read it all again
    raise RetryableError(_short(repository, state))


def _call(repository: Reference, state: _Stream, asked: int) -> Call:
    blob = state.blob
    return Call(
        "GET",
        repository,
        state.url or f"/v2/{repository.repository}/blobs/{blob.digest}",
        "blob",
        f"{repository.name}@{blob.digest}",
        headers={**({"Range": f"bytes={asked}-"} if asked else {}), **(FRESH if state.fresh else {})},
        accept=frozenset({_OUT_OF_RANGE}) if asked else frozenset(),
        anonymous=bool(state.url),
    )


def _short(repository: Reference, state: _Stream) -> ShortAnswerError:
    return ShortAnswerError(
        f"{repository.name}@{state.blob.digest}: GET blob: ended after {state.position} of {state.blob.size} bytes",
        hint="Run again; what is done is kept.",
    )
