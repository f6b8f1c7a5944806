"""Where cross-repository mounts work (distribution specification, *Mounting a blob from another repository*)."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.oci.reference import Reference


# Each refused mount costs a request, and mostly a token of its own. Without bounds their number grows with the square of the
# repositories: each new one asks every repository before it.
_PER_BLOB = 3
_PER_SOURCE = 2
_PER_HOST = 8  # while none has worked
_LOG = logging.getLogger(__name__)


class Mounts:
    """Chooses repositories to mount from, and remembers which refuse. Shared by threads.

    A registry refuses where the account may not read the other repository (401, 403: containerd/containerd#14086).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._without: set[str] = set()
        self._works: set[str] = set()
        self._failed: Counter[str] = Counter()  # by registry
        self._refused: Counter[Reference] = Counter()  # by source, in a row

    def candidates(self, repository: Reference, known: Sequence[Reference]) -> list[Reference]:
        """Return the repositories to mount from, those first that have not refused."""
        registry = repository.registry
        with self._lock:
            if registry in self._without:
                return []
            most = _PER_BLOB if registry in self._works else min(_PER_BLOB, _PER_HOST - self._failed[registry])
            others = [r for r in known if r.registry == registry and r.repository != repository.repository]
            left = [source for source in dict.fromkeys(others) if self._refused[source] < _PER_SOURCE]
            return sorted(left, key=self._refused.__getitem__)[: max(most, 0)]

    def worked(self, source: Reference) -> None:
        """Note a blob that was mounted."""
        with self._lock:
            self._works.add(source.registry)
            self._refused.pop(source, None)

    def refused(self, source: Reference) -> None:
        """Note a source that may not be read, or that is not there."""
        with self._lock:
            self._refused[source] += 1
            self._count(source.registry)

    def forgive(self, sources: Sequence[Reference]) -> None:
        """Take back refusals that were the target's: it takes no upload either."""
        with self._lock:
            for source in sources:
                self._refused[source] -= 1
                self._failed[source.registry] -= 1

    def ignored(self, source: Reference) -> None:
        """Note an upload that was opened in place of a mount: the source is not at fault."""
        with self._lock:
            self._count(source.registry)

    def unsupported(self, registry: str) -> None:
        """Note a registry that refuses the request itself."""
        with self._lock:
            self._without.add(registry)

    def _count(self, registry: str) -> None:
        self._failed[registry] += 1
        if self._failed[registry] == _PER_HOST and registry not in self._works:
            _LOG.info("%s: no mount has worked; no more are tried", registry)
