"""Requests to registries and their responses: one `httpx.Client`, retries, redirects, scheme, and errors for bad responses.

Uses `transport.py` (HTTP), `auth.py` (credentials) and `host_limiter.py` (concurrency). Knows neither manifests nor blobs.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import httpx

from common.content import CHUNK_SIZE, Chunks
from common.errors import (
    PASSING,
    AuthenticationError,
    ContentError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
)
from common.log import SECRETS
from common.oci.reference import Reference, is_host
from common.progress import duration
from common.registry.credentials import Credentials
from common.registry.http.auth import Access, RegistryAuth
from common.registry.http.coding import is_json, plain_body
from common.registry.http.errors import (
    MAX_ERROR_BODY,
    POLICY,
    QUICK_TRIES,
    BusyError,
    Question,
    SilentHostError,
    passing,
    refused,
)
from common.registry.http.host_limiter import HostLimiter
from common.registry.http.transport import Urllib3Transport
from common.registry.http.urls import NOWHERE, joined, next_page, parsed, same_origin, target
from common.retry import Retries, RetryableError, RetryPolicy, retry_after_s
from common.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from common.registry.registries_conf import Hosts
    from common.registry.settings import Clock, RegistrySettings


MAX_REDIRECTS = 10
_MAX_PLACE = 300  # characters of a URL in a message: a scheme may have thousands
_HEADERS = {"User-Agent": "hub-airgap", "Accept": "*/*", "Accept-Encoding": "identity"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FOLLOWED = ("GET", "HEAD")
_UNREACHED = 20  # hosts that never answer, as many as a run waits for with all patience; real catalogs name a dozen hosts
_NOT_ASKED = "Leave the images of the hosts that do not answer out, or look at the route and the proxy; then run it again."
_SILENT_S = 60.0  # a host that said nothing at first is not asked again for so long: each try takes seconds
_NO_AUTH = httpx.Auth()  # None would let httpx take user and password out of a URL that a registry gave
_LOG = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """A request: `url` is a path (`/v2/…`) or what a registry gave as Location; `subject` is for messages.

    `accept`: statuses of 400 and above that the caller understands; `passing_codes`: error codes of the registry that are
    retried. `body` is opened for every try; `length` in bytes.
    `also_from`: a second repository that is read, as mounting does. `anonymous`: never sent with credentials;
    `authorization`: just this one. `scoped` False: the repository only chooses the credentials, nothing in it is asked for.
    `fetched`: a document of a host that is no registry; `url` is whole then.
    """

    method: str
    repository: Reference
    url: str
    what: str
    subject: str
    headers: Mapping[str, str] = field(default_factory=dict)
    accept: frozenset[int] = frozenset()
    passing_codes: frozenset[str] = frozenset()
    body: Callable[[], Chunks] | None = None
    length: int = 0
    writes: bool = False
    also_from: str = ""
    read_s: float | None = None
    anonymous: bool = False
    authorization: str = ""
    scoped: bool = True
    fetched: bool = False

    @property
    def question(self) -> Question:
        """This call, for messages."""
        to = self.repository
        return Question(
            to.registry,
            to.repository if self.scoped else "",
            f"{self.method} {self.what}",
            self.subject,
            self.writes,
            external=self.is_external,
            fetched=self.fetched,
        )

    @property
    def is_external(self) -> bool:
        """Whether it goes to a URL of a layer, and not to the registry."""
        return self.anonymous and not self.fetched and not self.url.startswith("/")

    @property
    def limited_by(self) -> str:
        """The host whose limiter counts. That of a URL of a layer is its own: its publisher must not hold up a registry."""
        return (self.is_external and parsed(self.url).netloc.decode()) or self.repository.registry

    def access(self, *, push: bool) -> Access:
        """What the registry has to allow."""
        name = self.repository.repository
        scopes = [f"repository:{name}:{'pull,push' if push else 'pull'}"] if name and self.scoped else []
        if self.also_from:
            scopes.append(f"repository:{self.also_from}:pull")
        return Access(self.repository.registry, name, tuple(scopes))


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was read to its end."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: httpx.URL

    def plain(self, call: Call, limit: int, is_right: Callable[[bytes], bool] = is_json) -> bytes:
        """Return the body without its content codings, which were not asked for; see `coding.plain_body`."""
        return plain_body(self.body, self.headers.get("Content-Encoding", ""), call.subject, limit, is_right)


class Exchange:
    """Sends calls to registries. Shared by threads."""

    def __init__(
        self,
        settings: RegistrySettings,
        hosts: Hosts,
        clock: Clock,
        notify: Callable[[str], None],
        pushes_to: frozenset[str] = frozenset(),
    ) -> None:
        self._settings = settings
        self._outage_s = settings.outage_s
        # With the slash, so that HOST/mirror does not cover HOST/mirror-2.
        self._pushes_to = tuple(f"{place}/" for place in pushes_to)
        self._without_push: set[Reference] = set()
        self._hosts = hosts
        self._clock = clock
        self._notify = notify
        times = settings.timeouts
        self._timeout = httpx.Timeout(times.read_s, connect=times.connect_s).as_dict()
        self.credentials = Credentials(settings)
        self._auth = RegistryAuth(self.credentials, hosts, self._send_small, clock)
        self._client = _Client(
            transport=Urllib3Transport(settings, hosts),
            trust_env=False,  # the transport has the proxies, and ~/.netrc is no place for a registry's credentials
            max_redirects=MAX_REDIRECTS,
            event_hooks={"response": [self._received]},
        )
        self._lock = threading.Lock()
        self._origins: dict[str, httpx.URL] = {}
        self._unverified: set[str] = set()
        self._probing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._limiters: dict[str, HostLimiter] = {}
        self._silent: dict[str, tuple[SilentHostError, float]] = {}
        self._reached: set[str] = set()  # hosts that answered in this run
        self._in_vain_s = 0.0  # of requests to the others

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def pushes(self, repository: Reference) -> bool:
        """Say whether a repository will be written to: then every request for it asks for pull and push."""
        return f"{repository.name}/".startswith(self._pushes_to)

    def ask(self, call: Call, limit: int = MAX_ERROR_BODY) -> Answer:
        """Send a call, with retries. Raises RegistryError; ContentError past `limit` bytes."""
        return self.retried(call.repository.registry, lambda: self.ask_once(call, limit))

    def ask_within(self, seconds: float, call: Call, limit: int = MAX_ERROR_BODY) -> Answer:
        """Send a call as `ask` does, with silence and retries of so many seconds; then the error `was_cut_short`.

        Unlike `ask`, pauses that the host asks for are part of these seconds: there is another way to what the call asks for.
        """
        limiter = self.limiter(call.repository.registry)
        until_s = self._clock.monotonic_s() + seconds
        try:
            # Not `retries`: what it notes about a host that was given up is for calls with all retries.
            for attempt in Retries(POLICY, notify=limiter.report, sleep=self._clock.sleep, clock=limiter.patience_s):
                with attempt:
                    try:
                        return self.ask_once(replace(call, read_s=min(seconds, self._settings.timeouts.read_s)), limit)
                    except RetryableError as failure:
                        last_s = limiter.patience_s() + until_s - limiter.open_s()
                        failure.until_s = last_s if failure.until_s is None else min(failure.until_s, last_s)
                        raise
        except RegistryError as error:
            error.was_cut_short = limiter.open_s() >= until_s
            raise
        raise AssertionError("the last attempt returns or raises")

    def takes_scopes(self, registry: str) -> bool:
        """Say whether a registry asks for tokens."""
        return self._auth.takes_scopes(registry)

    def realm(self, registry: str) -> str:
        """Return where a registry sends its clients for tokens; empty where it asked for none so far."""
        return self._auth.realm(registry)

    def pages(self, call: Call, limit: int, most: int, within_s: float | None = None) -> Iterator[Answer]:
        """Give the answer to a call and those of its next pages, at most `most`, each of at most `limit` bytes.

        `within_s`: see `ask_within`.
        """
        for _ in range(most):
            answer = self.ask(call, limit) if within_s is None else self.ask_within(within_s, call, limit)
            yield answer
            following = next_page(answer.url, answer.headers, call.subject)
            if following is None:
                return
            call = replace(call, url=following)
        raise ContentError(f"{call.subject}: more than {most} pages of {call.what}")

    def retried(self, registry: str, action: Callable[[], T]) -> T:
        """Return the result of `action`, which is retried as requests to a registry are."""
        with self.retries(registry) as retries:
            for attempt in retries:
                with attempt:
                    return action()
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def retries(self, host: str, policy: RetryPolicy = POLICY) -> Iterator[Retries]:
        """Give the retries of one call to a host; its limiter learns whether they helped."""
        limiter = self.limiter(host)
        retries = Retries(policy, notify=limiter.report, sleep=self._clock.sleep, clock=limiter.patience_s)
        try:
            yield retries
        except RegistryError as error:
            if isinstance(error, SilentHostError):
                self._silent.setdefault(host, (error, self._clock.monotonic_s()))
            if retries.is_out_of_time:
                limiter.waited(in_vain=True)
            raise
        if retries.failures:
            limiter.waited(in_vain=False)

    def ask_once(self, call: Call, limit: int = MAX_ERROR_BODY) -> Answer:
        """Send a call a single time; raises RetryableError where another try may help."""
        with self.open(call) as response:
            body = _bounded(response, limit)
            if body is None:
                raise ContentError(f"{call.subject}: {call.question.registry} sends more than {limit} bytes")
            return Answer(response.status_code, response.headers, body, response.url)

    @contextmanager
    def open(self, call: Call) -> Iterator[httpx.Response]:
        """Send a call a single time and give the response unread. A break while reading is a RetryableError, too."""
        limiter = self.limiter(call.limited_by)
        with limiter.turn():
            self._check_silent(call.limited_by)
            limiter.check(call.question)
            try:
                with self._first_contact(call.limited_by):
                    response = self._authorized(call)
                try:
                    self._judge(call, response)
                except BaseException:
                    response.close()
                    raise
            except BusyError as failure:
                limiter.failed(failure, call.question.repository)
                raise
            except RegistryError:
                limiter.answered()
                raise
            limiter.answered()
            try:
                yield response
            finally:
                response.close()
        limiter.went_well()  # not after an error, nor for a body that broke

    def limiter(self, host: str) -> HostLimiter:
        """Return the limiter of a registry, or of another host; see `Call.limited_by`."""
        with self._lock:
            if host not in self._limiters:
                self._limiters[host] = HostLimiter(host, self._settings.jobs, self._outage_s, self._clock, self._notify)
            return self._limiters[host]

    def _check_silent(self, host: str) -> None:
        """Raise without a request where a host said nothing a moment ago, at its first contact."""
        if host in self._silent:
            error, since_s = self._silent[host]
            if self._clock.monotonic_s() - since_s < _SILENT_S:
                raise RetryableError(error, 1)
            self._silent.pop(host, None)

    @contextmanager
    def _first_contact(self, host: str) -> Iterator[None]:
        """Count the time of requests to hosts that never answered; raise without one where all of them had enough."""
        if host in self._reached:
            yield
            return
        # A catalog or a re-request may name thousands of hosts, each of which takes minutes to say nothing.
        limit_s = _UNREACHED * max(self._outage_s, _SILENT_S)
        if self._in_vain_s >= limit_s:
            message = f"{host}: not asked: other hosts that never answered took {duration(limit_s)} of this run"
            raise RetryableError(RegistryUnreachableError(message, hint=_NOT_ASKED), 1)
        began_s = self._clock.monotonic_s()
        try:
            yield
        except RetryableError as failure:
            if isinstance(failure.error, RegistryUnreachableError):
                with self._lock:
                    self._in_vain_s += self._clock.monotonic_s() - began_s
            else:
                self._reached.add(host)
            raise
        except RegistryError:
            self._reached.add(host)  # it answered, and refused
            raise
        self._reached.add(host)

    def _authorized(self, call: Call) -> httpx.Response:
        """Send with the access that the call needs; a read in a repository of `pushes_to` with push, where that is granted."""
        if not self._widened(call):
            return self._send(call, call.access(push=call.writes))
        try:
            return self._send(call, call.access(push=True), is_last_access=False)
        except AuthenticationError as error:
            if not self._auth.takes_scopes(call.repository.registry):
                raise
            # An account that may only pull: some token servers refuse a scope with push, others grant nothing of it.
            _LOG.info("%s: again without push: %s", call.repository.name, error.message)
            self._without_push.add(_repository(call.repository))
            return self._send(call, call.access(push=False))

    def _widened(self, call: Call) -> bool:
        """Say whether a read asks for push as well: one token serves the writes that follow, and may create the repository."""
        reads = call.scoped and not call.writes
        return reads and self.pushes(call.repository) and _repository(call.repository) not in self._without_push

    def _send(self, call: Call, access: Access, *, is_last_access: bool = True) -> httpx.Response:
        """Send, and follow the redirects of reads. Credentials go to the registry alone."""
        origin = self._origin(call)
        url = self._url(call, origin)
        at_home = same_origin(url, origin)
        headers = {**_HEADERS, **call.headers}
        if call.authorization and at_home:
            headers["Authorization"] = call.authorization
        # An iterable body without a length would be sent in chunks, which some registries and proxies refuse with 411.
        if call.method in ("PUT", "POST", "PATCH"):
            headers["Content-Length"] = str(call.length)
        request = httpx.Request(
            call.method,
            url,
            headers=headers,
            stream=_Body(call.body) if call.body else None,
            extensions={
                "timeout": self._timeout if call.read_s is None else {**self._timeout, "read": call.read_s},
                "question": call.question,
                "access": access,
                "is_last_access": is_last_access,
            },
        )
        request.url = url  # not a copy of it, see `PathURL`
        auth = self._auth if at_home and not call.anonymous and not call.authorization else _NO_AUTH
        try:
            response = self._client.send(request, auth=auth, stream=True, follow_redirects=call.method in _FOLLOWED)
        except httpx.TooManyRedirects as error:
            raise RegistryRefusedError(
                f"{call.subject}: {call.question.request}: more than {MAX_REDIRECTS} redirects"
            ) from error
        # A document that is not at the target of a redirect does not exist; a registry would give another URL.
        final = call.fetched or same_origin(response.url, origin)
        return response if final else _from_elsewhere(call, response)

    def _url(self, call: Call, origin: httpx.URL) -> httpx.URL:
        url = target(origin, call.url)
        if url == NOWHERE:
            raise RegistryRefusedError(
                f"{call.subject}: {call.question.request}: {call.url[:200]!r} is no URL",
                hint="It comes from the registry, or from a manifest there: their publisher can correct it.",
            )
        if not call.url.startswith("/"):  # a Location of an upload, or one of a layer's `urls`
            self._check_redirect(call.question, origin, url)
        return url

    def _received(self, response: httpx.Response) -> None:
        """Log a response and check where it redirects to, before httpx does (an event hook)."""
        request = response.request
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s %s: %d", request.method, SECRETS.mask(str(request.url)), response.status_code)
        if not response.has_redirect_location:
            return
        following = joined(request.url, response.headers["Location"])
        if request.method in _FOLLOWED and "access" in request.extensions:
            self._check_redirect(request.extensions["question"], request.url, following)
            if not same_origin(request.url, following):
                request.headers.pop("Authorization", None)  # httpx would keep it from http:// to https:// of one host
        else:
            del response.headers["Location"]  # not followed here; httpx would parse it, and raise for one that is no URL
            response.extensions["redirects_to"] = following

    def _check_redirect(self, question: Question, url: httpx.URL, following: httpx.URL) -> None:
        host = following.netloc.decode()
        # From HTTPS not to this machine either: a foreign host would choose which of its services is asked.
        plain = self._hosts.insecure(host) if url.scheme == "https" or not question.fetched else self._hosts.may_be_plain(host)
        falls = following.scheme != "https" and not plain and (url.scheme == "https" or question.fetched)
        if falls or following.scheme not in ("http", "https") or not is_host(host):
            place = sanitize(f"{following.scheme}://{host}", _MAX_PLACE)
            raise RegistryRefusedError(
                f"{question.subject}: {question.registry} redirects to {place}, which is not safe",
                hint=f"If that is meant so, say --insecure {host}." if falls else "It is set up wrongly.",
            )

    def _judge(self, call: Call, response: httpx.Response) -> None:
        # A redirect that is still one here was not followed: it answers a write, or has no Location.
        status = response.status_code
        if status < httpx.codes.BAD_REQUEST and status not in _REDIRECTS:
            return
        if status in call.accept:
            return
        error = refused(call.question, response, _bounded(response, MAX_ERROR_BODY) or b"", response.url)
        if status in PASSING:
            raise passing(error, retry_after_s(response.headers.get("Retry-After", ""), self._clock.now_s()))
        if error.code in call.passing_codes:
            raise RetryableError(error, QUICK_TRIES)
        raise error

    def _send_small(self, request: httpx.Request) -> httpx.Response:
        """Send a request of `auth.py`, which brings its own credentials; its answer is small."""
        question: Question = request.extensions["question"]
        request.extensions["timeout"] = self._timeout
        request.headers.update(_HEADERS)
        response = self._client.send(request, auth=_NO_AUTH, stream=True)
        try:
            body = _bounded(response, MAX_ERROR_BODY) or b""
        finally:
            response.close()
        if (following := response.extensions.get("redirects_to")) is not None:
            self._check_redirect(question, request.url, following)
        # Without the headers: httpx would decode the body by Content-Encoding, and 64 KiB of zstd can be gigabytes.
        extensions = {
            "redirects_to": following,
            "coding": response.extensions["coding"],
            "asked_s": retry_after_s(response.headers.get("Retry-After", ""), self._clock.now_s()),
        }
        return httpx.Response(response.status_code, content=body, extensions=extensions)

    def _origin(self, call: Call) -> httpx.URL:
        """Return `https://host`; for a host named as insecure, `http://host` when it does not speak TLS."""
        registry = call.repository.registry
        if call.fetched:  # its URL says how it is spoken to
            if parsed(call.url).scheme == "https" and self._hosts.insecure(registry):
                self._warn_unverified(registry)
            return parsed(call.url)
        with self._lock:
            probing = self._probing[registry]
        with probing:  # one thread probes, so that the warning is logged once
            if registry not in self._origins:
                host = self._hosts.contact(registry)
                known = httpx.URL(f"https://{host}")
                insecure = any(map(self._hosts.insecure, (registry, host)))
                self._origins[registry] = self._probed(known, call.question) if insecure else known
        return self._origins[registry]

    def _probed(self, secure: httpx.URL, question: Question) -> httpx.URL:
        self._warn_unverified(secure.netloc.decode())
        try:
            self._touch(secure, question)
        except RetryableError as failure:
            _LOG.debug("%s: %s", secure, failure)
            plain = secure.copy_with(scheme="http")  # only here, after the user allowed it with --insecure
            try:
                self._touch(plain, question)
            except RetryableError as second:
                if isinstance(failure.error, SilentHostError) and isinstance(second.error, SilentHostError):
                    second.tries = 1  # these were two tries already
                raise
            return plain
        return secure

    def _warn_unverified(self, host: str) -> None:
        with self._lock:
            is_first = host not in self._unverified  # a host that is down is probed for each call
            self._unverified.add(host)
        if is_first:
            _LOG.warning("%s: its identity is not verified (--insecure, or insecure in registries.conf)", host)

    def _touch(self, origin: httpx.URL, question: Question) -> None:
        """Send a request of which any response counts."""
        timeout = self._timeout
        if origin.scheme == "http":
            # /v2/ without credentials costs a registry nothing. A TLS handshake is bounded by the connect timeout already.
            timeout = {**timeout, "read": timeout["connect"]}
        extensions = {"timeout": timeout, "question": question}
        request = httpx.Request("GET", origin.join("/v2/"), headers=_HEADERS, extensions=extensions)
        self._client.send(request, auth=_NO_AUTH, stream=True).close()


class _Client(httpx.Client):
    """A client that keeps no cookies: registries need none, and looking for them cost 60 of 600 µs per request."""

    @property
    def cookies(self) -> httpx.Cookies:
        """None, ever."""
        return _NO_COOKIES

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        pass


class _NoCookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave them in the response."""


_NO_COOKIES = _NoCookies()


class _Body(httpx.SyncByteStream):
    """The body of a call; each time that it is sent, after a 401 too, it is opened again."""

    def __init__(self, read: Callable[[], Chunks]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[bytes]:
        yield from self._read()  # type: ignore[misc]  # memoryviews too, which sockets accept


def _repository(reference: Reference) -> Reference:
    return Reference(reference.registry, reference.repository)


def _from_elsewhere(call: Call, response: httpx.Response) -> httpx.Response:
    """Return the response of a redirect target; an expired signed URL is retried, for the registry gives a new one.

    A 401 is such an expiry too: credentials for the registry are none for an object store.
    """
    # A write goes elsewhere by the Location of its upload: 400 is about the upload then, not a URL that expired.
    statuses = (400, 401, 403, 404, 410) if call.method in _FOLLOWED else (401, 403, 404, 410)
    if response.status_code in statuses:
        body = _bounded(response, MAX_ERROR_BODY) or b""
        response.close()
        error = refused(call.question, response, body, response.url)
        refusal = RegistryRefusedError(error.message, hint=error.hint, status=error.status)
        refusal.elsewhere = error.elsewhere
        raise RetryableError(refusal, QUICK_TRIES)
    return response


def _bounded(response: httpx.Response, limit: int) -> bytes | None:
    """Read a body of at most `limit` bytes; None when there is more."""
    if response.request.method == "HEAD":
        return b""  # its Content-Length announces a body that never comes
    response.extensions["hasten"]()
    parts: list[bytes] = []
    size = 0
    for chunk in response.iter_raw(CHUNK_SIZE):
        size += len(chunk)
        if size > limit:
            return None
        parts.append(bytes(chunk))
    return b"".join(parts)
