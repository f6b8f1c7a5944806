"""Reads for a diagnosis: what is not allowed, or would be too much, is kept as a text, and the rest is read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from common.errors import ClusterError
from importer.cluster.api.client import Body, ClusterClient, ForbiddenError, Query, UnavailableError
from importer.cluster.api.namespaces import one_by_one
from importer.cluster.kinds import NAMESPACE, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")
LOG_LINES = 30
NAMESPACES = 100  # that are asked one by one, where the cluster as a whole may not be read


@dataclass(slots=True)
class Reader:
    """Reads objects; what it does not read is kept in `unreadable`.

    `known`: namespaces, for accounts that may not list them.
    """

    client: ClusterClient
    unreadable: list[str] = field(default_factory=list)
    known: Sequence[str] = ()
    _namespaces: Sequence[str] | None = None

    def read(self, request: Callable[[], T], default: T) -> T:
        """Return what `request` reads, or `default` where that is refused. Raises UnavailableError."""
        try:
            return request()
        # Every further read would wait for the retries too.
        except UnavailableError:
            raise
        except ClusterError as error:
            return self._refused(error, default)

    def list(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Body]:
        """Return the objects of a kind; none where they may not be read."""
        return self.read(lambda: self.client.list(kind, namespace, labels) or [], [])

    def get(self, kind: Kind, name: str, namespace: str = "") -> Body:
        """Return an object; an empty one where it may not be read."""
        return self.read(lambda: self.client.get(kind, name, namespace) or {}, {})

    def log(self, pod: str, namespace: str, container: str) -> str:
        """Return the end of a container's log; empty where it may not be read."""
        try:
            return self.client.log(pod, namespace, container, lines=LOG_LINES)
        except ClusterError as error:
            # The API server relays logs from the kubelet: its UnavailableError means the node, and is no reason to stop.
            return self._refused(error, "")

    def everywhere(self, kind: Kind, keep: Callable[[Body], T | None], query: Query) -> Sequence[T]:
        """Return what `keep` makes of the objects of all namespaces that may be read. Raises UnavailableError."""
        try:
            return self._scanned(kind, keep, query)
        except ForbiddenError as error:
            self._refused(error, None)
        except UnavailableError:
            raise
        except ClusterError as error:
            return self._refused(error, ())
        found, _ = one_by_one(
            self._possible_namespaces(), lambda namespace: self._scanned(kind, keep, replace(query, namespace=namespace))
        )
        return found

    def some(self, kind: Kind, keep: Callable[[Body], T | None], query: Query) -> Sequence[T]:
        """Return what `keep` makes of the first objects of a query; none where they may not be read."""

        def request() -> Sequence[T]:
            scanned = self.client.scan(kind, keep, query)
            return scanned.found if scanned else ()

        return self.read(request, ())

    def _scanned(self, kind: Kind, keep: Callable[[Body], T | None], query: Query) -> Sequence[T]:
        scanned = self.client.scan(kind, keep, query)
        if scanned is not None and not scanned.whole:
            self.note(f"only the first {query.most} {kind.plural} of {query.namespace or 'the cluster'} were read")
        return scanned.found if scanned else ()

    def _possible_namespaces(self) -> Sequence[str]:
        if self._namespaces is None:
            listed = [str(each["metadata"]["name"]) for each in self.list(NAMESPACE)]
            names = list(dict.fromkeys([*self.known, *listed]))
            if len(names) > NAMESPACES:
                self.note(f"only {NAMESPACES} of {len(names)} namespaces were read")
            self._namespaces = names[:NAMESPACES]
        return self._namespaces

    def note(self, text: str) -> None:
        """Keep what was not read."""
        if text not in self.unreadable:
            self.unreadable.append(text)

    def _refused(self, error: ClusterError, default: T) -> T:
        self.note(error.message)
        return default
