"""Whether a registry has a blob, and how many bytes of it: by HEAD, or by GET of its first byte where HEAD does not say."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import httpx

from common.errors import PASSING, AuthenticationError, RegistryError, RegistryRefusedError, RegistryUnreachableError
from common.registry.http.exchange import Answer, Call, Exchange
from common.retry import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.oci.image import Descriptor
    from common.oci.reference import Reference
    from common.registry.settings import Clock
    from common.registry.upload.failing import FailingRepositories


# Answers to HEAD of a blob that do not say whether it is there: ECR Public has 401 for blobs that it gives to a GET
# (aws/containers-roadmap#2671), object storage 403 where a URL is signed for GET (distribution/distribution#1217), and proxies
# that forbid the method 405 or 501. Rules of proxies have statuses of their own, such as 406 and 451. 404 and 410 are those of
# a redirect target, whose storage has lost the blob: an upload would not bring it back.
SAYS_NOTHING = frozenset(range(300, 600)) - PASSING - {404, 410}
# Statuses of a proxy that stopped waiting while the registry may still be working; 522 and 524 are Cloudflare's.
GATEWAY = frozenset({408, 502, 504, 522, 524})
_CLOSED = frozenset({401, 403})
_PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0)  # 30 s: a commit to object storage took 8 s (GoogleContainerTools/jib#4301)
_AT_ONCE_S = 5.0  # a connection that breaks earlier is not a proxy that gave up waiting
_SILENT = 3  # refused HEADs in a row after which a host, or a repository, is asked for every 32nd blob alone
_AGAIN = 32
_TOTAL = re.compile(r"bytes (?:\d{1,19}-\d{1,19}|\*)/(\d{1,19})")
DAMAGED = (
    "Restore the file in the registry's storage, or remove it there (docker-registry: blobs/sha256/…/data; neither an upload "
    "nor a DELETE replaces it; Pulp: DELETE the blob, then clean up orphans). Then push again with --heal, which asks for "
    "every blob."
)
_LOG = logging.getLogger(__name__)


class Presence:
    """Asks for blobs; remembers hosts whose answers to HEAD say nothing. Shared by threads."""

    def __init__(self, exchange: Exchange, clock: Clock, failing: FailingRepositories) -> None:
        self._exchange = exchange
        self._failing = failing
        self._clock = clock
        self._lock = threading.Lock()
        self._by_get: set[str] = set()
        self._get_is_useless: set[str] = set()
        self._refused: Counter[str] = Counter()  # HEADs in a row, by registry, or by repository for 401 and 403
        self._last: dict[str, RegistryError] = {}
        self._short: set[tuple[Reference, str]] = set()
        self.unreadable: dict[str, RegistryError] = {}  # by registry: what its storage said of a blob that had just arrived

    def stored_size(self, repository: Reference, blob: Descriptor, *, once: bool = False) -> int | None:
        """Return the bytes that the registry has of a blob, `blob.size` where it does not say; None when it has none.

        After a power cut or on a full disk a registry may keep a file that is empty or short, and still answer 200 with
        the length of that file (distribution/distribution#2788, moby/moby#21290).
        Raises RegistryError where the registry does not say whether it has the blob; with `once`, RetryableError after one try.
        """
        size = self._asked(repository, blob, once=once)
        if size is not None and size != blob.size:
            self._short.add((repository, blob.digest))
        return size

    def confirms(self, repository: Reference, blob: Descriptor, *, sized: bool) -> bool:
        """Say whether a blob is there, and, where its size is known, whole; see `RegistryClient.has_blob`."""
        try:
            stored = self.stored_size(repository, blob)
        except RegistryError as error:
            if error.status not in SAYS_NOTHING or not self._exchange.pushes(repository):
                raise
            _LOG.info("%s: taken for not there: %s", _name(repository, blob), error.message)
            return False
        if stored is None or not sized or stored == blob.size:
            return stored is not None
        place, registry = f"{repository}@{blob.digest}", repository.registry
        _LOG.warning(
            "%s: the storage of %s is damaged: it has %d of %d bytes\n  %s", place, registry, stored, blob.size, DAMAGED
        )
        return False

    def was_short(self, repository: Reference, blob: Descriptor) -> bool:
        """Say whether the blob was seen with another size than it has."""
        return (repository, blob.digest) in self._short

    def note_unreadable(self, repository: Reference, blob: Descriptor, error: RegistryError) -> None:
        """Note a host to which the registry redirects, and which does not give a blob that was uploaded; once for a registry.

        `error`: the answer to the question for it. S3 says 403 of an object that is lost, where the account of the registry
        may not list (docs.aws.amazon.com, GetObject, *Permissions*), and of all of them where it may not read.
        """
        registry = repository.registry
        if registry in self.unreadable or not _is_closed(error):
            return
        try:  # a GET that was of no use for an absent blob may be for one that is there: URLs are signed for one method
            self._first_byte(repository, blob, once=False)
        except RegistryError as other:
            if _is_closed(other):
                self.unreadable[registry] = other
        else:
            self._get_is_useless.discard(registry)

    def arrives(self, repository: Reference, blob: Descriptor, failure: RetryableError, since_s: float | None) -> bool:
        """Say whether a blob whose answer was lost is there, now or within half a minute; see `awaited`."""
        return self.awaited(lambda: self.stored_size(repository, blob, once=True) == blob.size, failure, since_s)

    def awaited(self, is_there: Callable[[], bool], failure: RetryableError, since_s: float | None) -> bool:
        """Ask with growing pauses for a blob that was sent, without an answer; once where the registry cannot be working on it.

        `since_s`: when all of it was sent (monotonic); None where it was not.
        """
        for pause_s in _PAUSES_S if self._may_follow(failure, since_s) else _PAUSES_S[:1]:
            if pause_s:
                self._clock.sleep(pause_s)
            try:
                if is_there():
                    return True
            except (RegistryError, RetryableError) as error:
                _LOG.info("not known whether it is there: %s", error.args[0])
                if isinstance(error, RegistryError) and error.status in SAYS_NOTHING:
                    return False  # the next answer would be the same
        return False

    def _may_follow(self, failure: RetryableError, since_s: float | None) -> bool:
        if since_s is None:
            return False
        # A reset or a read timeout after a while, too: load balancers end connections that are silent.
        late = isinstance(failure.error, RegistryUnreachableError) and self._clock.monotonic_s() - since_s >= _AT_ONCE_S
        return late or (isinstance(failure.error, RegistryError) and failure.error.status in GATEWAY)

    def _asked(self, repository: Reference, blob: Descriptor, *, once: bool) -> int | None:
        registry = repository.registry
        if registry in self._by_get:
            return self._first_byte(repository, blob, once=once)
        self._raise_known(repository)
        try:
            head = partial(self._exchange.ask_once, _call("HEAD", repository, blob))
            answer = head() if once else self._failing.retried(repository, "presence", head)
        except RegistryError as error:
            if error.status not in SAYS_NOTHING:
                raise
            return self._refused_head(repository, blob, error, once=once)
        with self._lock:
            for key in (registry, repository.name):
                self._refused.pop(key, None)  # not 0: there may be thousands of repositories
        if answer.status != httpx.codes.OK:
            return None
        size = _length(answer)
        if size == 0 and blob.size:
            return self._empty(repository, blob, once=once)
        return self._measured(repository, blob, once=once) if size is None else size

    def _raise_known(self, repository: Reference) -> None:
        """Raise the last error of a host, or repository, that has not answered a HEAD several times in a row."""
        with self._lock:
            for key in (repository.registry, repository.name):
                if self._refused[key] < _SILENT:
                    continue
                self._refused[key] += 1
                if self._refused[key] % _AGAIN:  # it may have been about those blobs: digests of another algorithm are 400
                    raise self._last[key].with_traceback(None)  # or the traceback would grow with each blob

    def _refused_head(self, repository: Reference, blob: Descriptor, error: RegistryError, *, once: bool) -> int | None:
        """Ask with GET; where that does not help either, raise the error of HEAD."""
        registry = repository.registry
        if not self._get_is_useless & {registry, repository.name}:
            try:
                size = self._first_byte(repository, blob, once=once)
            except RegistryError as other:
                _LOG.info("%s: GET says no more than HEAD: %s", repository.name, other.message)
                self._get_is_useless.add(repository.name if isinstance(other, AuthenticationError) else registry)
            else:
                _LOG.info("%s: blobs are asked for with GET: %s", registry, error.message)
                self._by_get.add(registry)
                return size
        # Rights differ between repositories; what a server does not implement is the same in all.
        key = repository.name if isinstance(error, AuthenticationError) else registry
        with self._lock:
            self._refused[key] += 1
            self._last[key] = error
        raise error

    def _measured(self, repository: Reference, blob: Descriptor, *, once: bool) -> int:
        """Return the size of a blob that is there, but whose HEAD has no length; `blob.size` where GET has none either."""
        registry = repository.registry
        if registry in self._get_is_useless:
            return blob.size
        try:
            size = self._first_byte(repository, blob, once=once)
        except RegistryError as error:
            _LOG.info("%s: %s", registry, error.message)
            size = None
        if size is None:
            self._get_is_useless.add(registry)
            return blob.size
        return size

    def _empty(self, repository: Reference, blob: Descriptor, *, once: bool) -> int:
        """Return the size of a blob that HEAD calls empty.

        Its file is damaged, or a proxy counts the bytes of the answer to HEAD, which has none (yusing/godoxy#169).
        """
        try:
            return self._first_byte(repository, blob, once=once) or 0
        except RegistryError as error:
            _LOG.info("%s: %s", repository.registry, error.message)
            return 0

    def _first_byte(self, repository: Reference, blob: Descriptor, *, once: bool) -> int | None:
        """Ask for one byte of a blob: the answer to a range has the size of the whole (RFC 9110, 14.4)."""

        def asked() -> int | None:
            with self._exchange.open(_call("GET", repository, blob)) as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    return None
                if response.status_code == httpx.codes.OK:  # no ranges: closed unread
                    size = _length(response)
                    if size is None:
                        self._get_is_useless.add(repository.registry)
                    return blob.size if size is None else size
                total = _TOTAL.fullmatch(response.headers.get("Content-Range", ""))
                if response.status_code == httpx.codes.PARTIAL_CONTENT:
                    return int(total[1]) if total else blob.size
                return int(total[1]) if total else 0  # 416: not even one byte

        return asked() if once else self._failing.retried(repository, "first byte", asked)


def _call(method: str, repository: Reference, blob: Descriptor) -> Call:
    accept = frozenset({404} if method == "HEAD" else {404, 416})
    headers = {} if method == "HEAD" else {"Range": "bytes=0-0"}
    url = f"/v2/{repository.repository}/blobs/{blob.digest}"
    return Call(method, repository, url, "blob", _name(repository, blob), headers=headers, accept=accept)


def _length(answer: Answer | httpx.Response) -> int | None:
    """Return the length of a blob by its headers; None where there is none, or that of an encoded answer."""
    size = answer.headers.get("Content-Length", "")
    says = size.isascii() and size.isdigit() and answer.headers.get("Content-Encoding", "identity") == "identity"
    return int(size[:19]) if says else None


def _is_closed(error: RegistryError) -> bool:
    return bool(error.elsewhere) and error.status in _CLOSED


def _name(repository: Reference, blob: Descriptor) -> str:
    return f"{repository.name}@{blob.digest}"


def damaged(repository: Reference, blob: Descriptor, stored: int) -> RegistryRefusedError:
    """Return the error for a blob of which the registry keeps another number of bytes than it was given."""
    return RegistryRefusedError(
        f"{_name(repository, blob)}: the storage of {repository.registry} is damaged: it took the blob in repository "
        f"{repository.repository} and has {stored} of its {blob.size} bytes",
        hint=DAMAGED,
    )
