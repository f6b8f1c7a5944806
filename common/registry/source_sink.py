"""Registries as a medium: `BlobSource` and `BlobSink` over the client, for the one loop (common/transfer.py)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.content import Chunks, Written, reported
from common.errors import (
    ContentError,
    DamagedError,
    HubError,
    NotFoundError,
    NotTakenError,
    NotWritableError,
    RegistryError,
    RegistryUnreachableError,
)
from common.oci.image import Descriptor, Digest
from common.oci.reference import Reference

if TYPE_CHECKING:
    from common.registry.client import RegistryClient


_LOG = logging.getLogger(__name__)
_TROUBLES = 2  # repositories of a blob with server errors or without an answer, after which the registry is at fault
_ALONE = 2  # blobs without an answer of a repository, while others took them, after which it is not asked for every further one
Places = Mapping[Digest, Sequence[Reference]]


class RegistrySource:
    """Reads each blob from the first of its repositories that gives it."""

    def __init__(self, client: RegistryClient, places: Places) -> None:
        self._client = client
        self._places = places

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """See `BlobSource.read`. Raises the first place's error when no place has it, DamagedError for what arrived damaged."""
        position = start
        first: HubError | None = None
        places = self._places.get(blob.digest, ())
        for number, place in enumerate(places, 1):
            began, chunks = position, self._client.blob(place, blob, position)
            try:
                for chunk in chunks:
                    position += len(chunk)
                    try:
                        yield chunk
                    except ContentError as error:
                        raise reported(chunks, error) from error
            except DamagedError as error:
                if position > began:  # chunks that were already yielded cannot be replaced
                    raise DamagedError(error.message, hint=error.hint, more=error.more or number < len(places)) from error
                first = first or error
            except RegistryError as error:
                _LOG.info("%s: next repository: %s", blob.digest, error.message)
                first = first or error
            else:
                return
        raise first or NotFoundError(f"{blob.digest}: no repository is known to have it")


@dataclass(frozen=True, slots=True)
class Counts:
    """Results of a sink, in (repository, blob) pairs."""

    uploaded: int = 0
    mounted: int = 0
    present: int = 0


class RegistrySink:
    """Writes each blob into all of its repositories, one after the other: no two workers ever write one blob at a time.

    `holders`: further repositories of the same registry that are known to have a blob, to mount it from.
    """

    def __init__(self, client: RegistryClient, places: Places, holders: Places | None = None) -> None:
        self._client = client
        self._places = places
        self._holders = holders or {}
        self._lock = threading.Lock()
        self._done = dict.fromkeys(Written, 0)
        self._refused: dict[Digest, dict[Reference, RegistryError]] = {}
        self._not_writable: dict[Reference, NotWritableError] = {}
        self._alone: dict[Reference, list[RegistryError]] = {}  # without an answer while others took the blob

    @property
    def counts(self) -> Counts:
        """The counts so far."""
        with self._lock:
            return Counts(self._done[Written.COPIED], self._done[Written.MOUNTED], self._done[Written.PRESENT])

    def write(self, blob: Descriptor, read: Callable[[int], Chunks]) -> Written:
        """See `BlobSink.write`. COPIED when any repository needed the bytes. Raises NotFoundError for a blob without places.

        A repository that refuses does not keep the blob from the others: it is in `refused`, unless all of them do; then its
        error is raised. One that opens no upload for this account is not asked again, nor one that gave no answer for
        two blobs which others took.
        """
        places = self._places.get(blob.digest, ())
        if not places:
            raise NotFoundError(f"{blob.digest}: no repository was chosen for it")
        closed = self._closed(blob.digest, places)
        held, absent, silent = self._asked(blob, [place for place in places if place not in closed])
        self._count(Written.PRESENT, len(held))
        outcomes = {Written.PRESENT}
        others = tuple(self._holders.get(blob.digest, ()))
        for place in absent:
            try:
                written = self._client.upload(place, blob, read, mount_from=(*held, *others))
                if written is Written.COPIED:  # a mount writes no bytes that could be short
                    self._client.require_whole(place, blob, read)
            except RegistryError as error:
                self._note_silent(silent, place, error)
                self._refuse(blob.digest, place, error)
                continue
            self._count(written, 1)
            outcomes.add(written)
            held.append(place)
        if not held:
            raise next(iter(self.refused(blob.digest).values()))
        with self._lock:
            for place, failure in silent.items():
                self._alone.setdefault(place, []).append(failure)
        return next(kind for kind in (Written.COPIED, Written.MOUNTED, Written.PRESENT) if kind in outcomes)

    def places(self, digest: Digest) -> Sequence[Reference]:
        """Return the repositories of a blob."""
        return self._places.get(digest, ())

    @property
    def not_writable(self) -> Mapping[Reference, NotWritableError]:
        """The repositories that opened no upload for this account, with what they said."""
        with self._lock:
            return dict(self._not_writable)

    def refused(self, digest: Digest) -> Mapping[Reference, RegistryError]:
        """Return the repositories that refused a blob, with what they said."""
        with self._lock:
            return dict(self._refused.get(digest, {}))

    def _asked(
        self, blob: Descriptor, places: Sequence[Reference]
    ) -> tuple[list[Reference], list[Reference], dict[Reference, RegistryError]]:
        """Return the places that have a blob, those that do not, and those without an answer.

        One that does not say whether it has the blob refuses it.
        """
        held: list[Reference] = []
        absent: list[Reference] = []
        silent: dict[Reference, RegistryError] = {}
        troubles = 0
        for place in places:
            try:
                (held if self._client.has_blob(place, blob.digest, blob.size) else absent).append(place)
            except RegistryError as error:
                self._note_silent(silent, place, error)
                troubles += error.is_host_failure
                if troubles >= _TROUBLES:  # each costs all retries of a request
                    raise
                self._refuse(blob.digest, place, error)
        return held, absent, silent

    @staticmethod
    def _note_silent(silent: dict[Reference, RegistryError], place: Reference, error: RegistryError) -> None:
        """Note a place without an answer. Raises the error of the second one: the others are on the same registry."""
        if isinstance(error, RegistryUnreachableError):
            silent[place] = error
            if len(silent) >= _TROUBLES:
                raise error

    def _closed(self, digest: Digest, places: Sequence[Reference]) -> list[Reference]:
        """Return the places that have refused an upload, or gave no answer: they are not asked for every further blob."""
        with self._lock:
            known: dict[Reference, RegistryError] = {**self._not_writable}
            for place, errors in self._alone.items():
                if len(errors) >= _ALONE:
                    first = errors[0]
                    known[place] = NotTakenError(f"{first.message}; {place.registry} answers for others", hint=first.hint)
        closed = [place for place in places if place in known]
        for place in closed:
            self._refuse(digest, place, known[place])
        return closed

    def _refuse(self, digest: Digest, place: Reference, error: RegistryError) -> None:
        with self._lock:
            self._refused.setdefault(digest, {})[place] = error
            if isinstance(error, NotWritableError):
                self._not_writable.setdefault(place, error)

    def _count(self, kind: Written, number: int) -> None:
        with self._lock:
            self._done[kind] += number
