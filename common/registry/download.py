"""Blobs out of a registry: streamed, and gone on with after a break by Range from the last good byte."""

from __future__ import annotations

import re
from dataclasses import dataclass

import httpx

from common.content import Chunks
from common.errors import ContentError, RegistryUnreachableError
from common.log import logger
from common.oci.descriptor import Descriptor
from common.reference import Reference
from common.registry.damage import FRESH
from common.registry.exchange import Call, Exchange
from common.registry.refusal import Trouble
from common.registry.settings import Clock

_PARTIAL, _OUT_OF_RANGE = 206, 416
_PROGRESS = 1024 * 1024  # a try that brought so much is not counted against the bound
_PAUSE_S = 0.5
_MAX_PAUSE_S = 20.0
_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)")
_LOG = logger(__name__)


@dataclass(slots=True)
class _Stream:
    """Where we are in a blob, and what it has cost."""

    blob: Descriptor
    position: int
    ranges: bool = True
    failures: int = 0
    url: str = ""
    fresh: bool = False


class Download:
    """Reads blobs from one place at a time; which places there are is the caller's to know."""

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange = exchange
        self._clock = clock

    def stream(self, repository: Reference, blob: Descriptor, start: int = 0, url: str = "", *, fresh: bool = False) -> Chunks:
        """Give the bytes of `blob` from `start`; `url`: where a manifest says that it lies outside, which gets no credentials.

        `fresh`: caches are told not to answer without asking the registry.

        Raises RegistryError when it breaks too often without going forward, and ContentError when more comes than the blob
        should have; whether the bytes are right is `verified`'s to say.
        """
        state = _Stream(blob, start, url=url, fresh=fresh)
        while True:
            began = state.position
            try:
                yield from self._once(repository, state)
            except Trouble as trouble:
                if state.position - began >= _PROGRESS:
                    state.failures = 0
                state.failures += 1
                if state.failures >= trouble.tries:
                    raise trouble.error from trouble.__cause__
                _LOG.info("%s: goes on from byte %d: %s", blob.digest, state.position, trouble)
                self._clock.sleep(min(_PAUSE_S * 2 ** (state.failures - 1), _MAX_PAUSE_S))
            else:
                return

    def _once(self, repository: Reference, state: _Stream) -> Chunks:
        blob, asked = state.blob, state.position if state.ranges else 0
        if asked >= blob.size > 0:
            return
        with self._exchange.open(_call(repository, state, asked)) as response:
            skip = _skip(repository, response, state, asked)
            for chunk in response.iter_raw():
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
            raise Trouble(_short(repository, state))


def _skip(repository: Reference, response: httpx.Response, state: _Stream, asked: int) -> int:
    """Return how many bytes to read past: none where the answer begins as asked, `position` where it begins at 0."""
    if not asked or response.status_code == httpx.codes.OK:
        return state.position
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status_code == _PARTIAL and match and int(match[1]) == asked:
        return 0
    state.ranges = False  # a range that is refused, or another than was asked for: read it all again
    raise Trouble(_short(repository, state))


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


def _short(repository: Reference, state: _Stream) -> RegistryUnreachableError:
    return RegistryUnreachableError(
        f"{repository.name}@{state.blob.digest}: GET blob: ended after {state.position} of {state.blob.size} bytes",
        hint="Run again; what is done is kept.",
    )
