"""Repositories that fail on a host that works: their further blobs and manifests get one try each."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from common.errors import RegistryError
from common.retry import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.errors import HubError
    from common.oci.reference import Reference
    from common.registry.http.exchange import Exchange


T = TypeVar("T")
_ENOUGH = 3  # calls in a row that all of their retries did not help; each takes seconds, or minutes for 502 to 504


class FailingRepositories:
    """Sends calls with retries, and remembers where they do not help. Shared by threads."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._lock = threading.Lock()
        self._failed: Counter[tuple[str, str]] = Counter()

    def retried(self, repository: Reference, what: str, action: Callable[[], T]) -> T:
        """Return the result of `action`, which does `what` in a repository; see `Exchange.retried`."""
        key = (repository.name, what)

        def once() -> T:
            try:
                return action()
            except RetryableError as failure:
                if self._failed[key] >= _ENOUGH and _is_server_error(failure.error):
                    failure.tries = 1
                raise

        try:
            result = self._exchange.retried(repository.registry, once)
        except RegistryError as error:
            self._note(key, failed=_is_server_error(error))
            raise
        self._note(key, failed=False)
        return result

    def _note(self, key: tuple[str, str], *, failed: bool) -> None:
        with self._lock:
            if failed:
                self._failed[key] += 1
            else:
                self._failed.pop(key, None)  # not 0: there may be thousands of repositories


def _is_server_error(error: HubError) -> bool:
    # Without a status nothing was answered: the host, or the way to it, is out, and `HostLimiter` has its bounds.
    return isinstance(error, RegistryError) and bool(error.status) and error.is_host_failure
