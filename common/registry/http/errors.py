"""Errors of HTTP: from a response or a broken connection to a message that says what to do next.

Decides which failures are retried (`RetryableError`) and which are final.
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from urllib3.exceptions import ConnectTimeoutError, IncompleteRead, NameResolutionError, ProxyError, ReadTimeoutError

from common.errors import (
    PASSING,
    AuthenticationError,
    HubError,
    NotFoundError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
    ShortAnswerError,
)
from common.log import SECRETS
from common.oci.reference import contact
from common.registry.http.coding import plain_body
from common.registry.http.pace import SlowAnswerError
from common.registry.http.urls import parsed
from common.retry import RetryableError, RetryPolicy
from common.serialization import UNDECODABLE
from common.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from common.tls import Explanation


MAX_ERROR_BODY = 64 * 1024
# Statuses of a host that is out as a whole, or that limits requests: waiting helps. A 500 may be that, for quay.io on a bad day
# (conda-forge/status#205) or a registry whose storage refuses for a moment (distribution/distribution#769), but docker-registry
# also says 500 UNKNOWN for ever to a single manifest or blob. It gets TRIES, as do 408 and 425, which are about one request.
_OUTAGES = frozenset({429, 502, 503, 504, 522, 524})
CONFLICTS = frozenset({409, 412, 423})  # another client writes the same at this moment, or a rule of the registry forbids it
TRIES = 6
QUICK_TRIES = 3  # where wrong settings are more likely than an outage
POLICY = RetryPolicy(tries=TRIES)
PATIENT = RetryPolicy(within_s=180.0, from_failure=True, longest_s=15.0, least=TRIES)  # of a host that is out
REPOSITORIES = 8  # that are asked once before a host that answers with errors, or breaks connections, counts as out for all
_STALLING = 2  # the same for one that answers nothing: each takes the whole timeout
_SMALL_BODY = 512 * 1024  # a proxy may close the connection on a larger request, each time
_MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class Question:
    """A request, for messages: `GET manifest`, of `quay.io/org/image:v1`. `external`: at a URL of the layer.

    `fetched`: a document of a host that is no registry.
    `sent_by`: the registry that names `registry` as its token server, where that is another host.
    """

    registry: str
    repository: str
    request: str
    subject: str
    writes: bool = False
    external: bool = False
    fetched: bool = False
    sent_by: str = ""


class _Detail(msgspec.Struct):
    code: str = ""
    message: str = ""
    detail: Any = None  # of any type (distribution specification, *Error codes*)


class _Details(msgspec.Struct):
    errors: list[_Detail] = []
    # Of the update service (openshift/cincinnati, commons/src/errors.rs); others have a `kind` too.
    kind: Any = None
    value: Any = None


_DETAILS = msgspec.json.Decoder(_Details)


class BusyError(RetryableError):
    """A failure that may pass. `asked_s`: the pause that was asked for with Retry-After; `by`: by the token server."""

    def __init__(self, error: RegistryError, asked_s: float = 0.0, by: str = "") -> None:
        super().__init__(error)
        self.error: RegistryError = error
        self.asked_s = asked_s
        self.by = by


class SilentHostError(RegistryUnreachableError):
    """A host that never answered in this run accepts connections and sends nothing."""


class OutageError(BusyError):
    """Trouble of a host, and not of one request: retried for as long as `HostLimiter.failed` says.

    `repositories`: how many are asked before the host counts as out for all of them.
    """

    repositories = REPOSITORIES


def not_sent(question: Question, host: str, last: RegistryError, out: str) -> RegistryError:
    """Return the error for a request that was not sent: `host` has been out for a time, `out`, with `last` in the end."""
    message = f"{question.subject}: {question.request} not sent: {host} has been out for {out}: {last.message}"
    return type(last)(message, hint=last.hint, status=last.status, code=last.code)


def passing(error: RegistryError, asked_s: float, by: str = "") -> BusyError:
    """Return the failure for a response with a status of PASSING."""
    kind = OutageError if error.status in _OUTAGES else BusyError
    return kind(error, asked_s, by)


def elsewhere(question: Question, url: httpx.URL | None) -> str:
    """Return the host of a request that the registry, or a manifest there, sent to another host; empty for the registry."""
    if url is None:
        return ""
    home = parsed(f"{url.scheme}://{contact(question.registry)}")
    return "" if (url.host, url.port) == (home.host, home.port) else url.netloc.decode()


def _asked(question: Question, host: str) -> str:
    """Return the request and its place; `host` is that of `elsewhere`."""
    if question.sent_by:
        return f"{question.subject}: {question.request}, to which {question.sent_by} sends its clients"
    if not host:
        return f"{question.subject}: {question.request} at {question.registry}"
    why = "a URL of the layer" if question.external else f"to which {question.registry} redirects"
    return f"{question.subject}: {question.request} at {host}, {why}"


def refused(question: Question, response: httpx.Response, body: bytes, url: httpx.URL | None = None) -> RegistryError:
    """Return the error for a response with a bad status; `url` is that of the response, where it may be a redirect target's."""
    status, host = response.status_code, elsewhere(question, url)
    code, text = _own_words(_plain(question, response, body))
    says = " ".join(part for part in (f"HTTP {status}", code, f"({text})" if text else "") if part)
    message = f"{_asked(question, host)}: {says}"
    kind: type[RegistryError] = RegistryRefusedError
    if status in (401, 403):
        kind = AuthenticationError
    elif status == 404:  # noqa: PLR2004 - the status
        kind = NotFoundError
    if question.fetched:
        hint = _fetch_hint(host or question.registry, status)
    elif host:
        hint = _hint_elsewhere(question, host, status)
    else:
        hint = _write_hint(question, status, code) or _home_hint(question, status, code)
    error = kind(message, hint=hint, status=status, code=code)
    error.elsewhere = host
    return error


def _plain(question: Question, response: httpx.Response, body: bytes) -> bytes:
    """Return a body without its content codings; empty where they cannot be undone, for encoded bytes are no words."""
    try:
        return plain_body(body, response.extensions["coding"], question.subject, MAX_ERROR_BODY)
    except HubError:
        return b""


def _own_words(body: bytes) -> tuple[str, str]:
    """Return the registry's error code and text, bounded and on one line (distribution specification, *Error codes*)."""
    try:
        found = _DETAILS.decode(body)
        if found.errors:
            code, text = found.errors[0].code, _with_detail(found.errors[0])
        else:
            code, text = (found.kind, found.value) if isinstance(found.kind, str) and isinstance(found.value, str) else ("", "")
    except UNDECODABLE:
        code, text = "", "" if body.lstrip().startswith(b"<") else body.decode("utf-8", "replace")
    return _clean(code)[:64], _clean(text)


def _with_detail(error: _Detail) -> str:
    """Return the text of an error: Nexus and zot say the reason in `detail` alone, others repeat names there."""
    detail = error.detail
    reasons = [detail.get(key) for key in _REASON_KEYS] if isinstance(detail, dict) else [detail]
    return ": ".join(part for part in (error.message, *reasons) if isinstance(part, str) and part)


_REASON_KEYS = ("message", "reason", "mediaType", "reference", "digest")


def _clean(text: str) -> str:
    return sanitize(SECRETS.mask(text), _MAX_TEXT)  # in this order: the beginning of a secret is not recognized


_HINTS = {
    409: "Another process may write the same at this moment, or the registry has a rule against it: run again; its log says.",
    412: "A rule of the registry forbids it, such as immutable tags, a quota or a scan: its administrator can change the rule.",
    413: "The registry, or a proxy before it, limits the size of a request: raise that limit.",
    415: "The registry does not take this media type: its documentation says which it takes, and which setting allows others.",
    423: "It is locked at the registry, as during garbage collection or by a rule of retention: run again later.",
    507: "The registry has no space left: make room there, then run again; what is done is kept.",
    429: "The registry limits requests: log in for a higher limit, lower --jobs, or go on later.",
}
# Of content that was written before, or of a session: not of the repository.
_OF_CONTENT = frozenset(
    {"BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}
)


def _write_hint(question: Question, status: int, code: str) -> str:
    """Return what to do where a repository takes nothing; empty for other refusals of a write."""
    if not question.writes or question.request.startswith("DELETE") or code == NAME_INVALID:
        return ""
    namespace = question.repository.partition("/")[0]
    if status == 404 and code in _OF_CONTENT:  # noqa: PLR2004 - the status
        return "The registry does not find what was just written: look at its storage and its log, then run again."
    # ECR: NAME_UNKNOWN, in its API RepositoryNotFoundException (moby/moby#24473). Harbor: NOT_FOUND (goharbor/harbor#13795).
    if status == 404:  # noqa: PLR2004 - the status
        return (
            f"Create it at {question.registry} first (ECR: each repository; Harbor, GitLab: the project; Artifactory, Nexus: a "
            "local or hosted repository), then run again."
        )
    # docker-registry as a cache: 405 UNSUPPORTED. Harbor: 405 for a proxy project. Quay: 405 in read-only mode.
    if status == 405:  # noqa: PLR2004 - the status
        return (
            f"{question.registry}, or {namespace} in it, may be a pull-through cache (proxy), which takes no push, or be "
            "read-only: push to a registry, project or repository that is none; nodes may pull through the cache."
        )
    return ""


def _login(registry: str) -> str:
    return f"log in with hub-export login, hub-import login or podman login {registry}, or pass --authfile"


def _hint(question: Question, status: int, code: str) -> str:
    login = _login(question.registry)
    if status in (401, 403) and not question.repository:
        return f"{login[0].upper()}{login[1:]}."
    if status == 404 and not question.repository:  # noqa: PLR2004 - the status
        return f"Is {question.registry} a registry? It does not speak the registry protocol, version 2."
    if status in (401, 403):
        namespace = question.repository.partition("/")[0]
        right = f"ask for the right to write to it, or to create repositories in {namespace}; or "
        verb, how = ("write to", right) if question.writes else ("read", "")
        return f"Repository {question.repository} does not exist or you may not {verb} it: {how}{login}."
    if status == 404:  # noqa: PLR2004 - the status
        what = "does not exist" if code == "NAME_UNKNOWN" else "does not have it"
        return f"Repository {question.repository} {what}, or you may not read it: check the name, or {login}."
    if status >= 500 and status not in _HINTS:  # noqa: PLR2004 - server errors
        return "The registry has trouble of its own: look at its log, then run again; what is done is kept."
    return _HINTS.get(status, "The registry's log says more.")


def _hint_elsewhere(question: Question, host: str, status: int) -> str:
    """Return the next step after a refusal by a redirect target, at which credentials for the registry do not count."""
    if status in (401, 403):
        return (
            f"Run again. If it stays: does a proxy or firewall let {host} through, as well as {question.registry}? Signed URLs "
            "also need the right time on this machine."
        )
    if status == 429:  # noqa: PLR2004 - the status
        return f"{host} limits requests: lower --jobs, or go on later."
    if status >= 500:  # noqa: PLR2004 - server errors
        return f"{host}, or a proxy before it, has trouble of its own: run again later; what is done is kept."
    return f"Run again; if it stays, the log of {host} says more."


def _fetch_hint(host: str, status: int) -> str:
    """Return the next step after a refusal by a host that is no registry."""
    if status in (401, 403):
        return f"No credentials are sent to {host}: check the address; does a proxy or firewall let this machine reach it?"
    if status == 404:  # noqa: PLR2004 - the status
        return "Check the address."
    if status == 429:  # noqa: PLR2004 - the status
        return f"{host} limits requests: run again later."
    if status >= 500:  # noqa: PLR2004 - server errors
        return f"{host}, or a proxy before it, has trouble of its own: run again later."
    return f"Check the address; if it stays, the log of {host}, or of a proxy before it, says more."


NAME_INVALID = "NAME_INVALID"  # of a repository (distribution specification, *Error codes*)
_FLAT = 2  # components that every registry takes: ORGANIZATION/REPOSITORY
_SHORTER = f"push with --max-path-components {_FLAT}, or as many as it takes, or to a shorter path"


def _home_hint(question: Question, status: int, code: str) -> str:
    """Return what to do after a refusal by the registry itself, which may be one of the repository's name."""
    components = question.repository.count("/") + 1
    if code == NAME_INVALID and status in (400, 404) and question.repository:
        size = f"{components} components, {len(question.repository)} characters"
        fix = f"{_SHORTER[0].upper()}{_SHORTER[1:]}." if question.writes else "Check the name."
        return f"{question.registry} takes no repository named {question.repository} ({size}). {fix}"
    hint = _hint(question, status, code)
    # GitLab and old Quay answer 401 or 403 to it (openshift/oc-mirror#590, podman-container-tools/skopeo#1180).
    if status in (401, 403) and question.writes and components > _FLAT:
        return (
            f"{hint} {question.registry} may also take no paths of {components} components (GitLab, old Quay): then {_SHORTER}."
        )
    return hint


def rights_hint(question: Question) -> str:
    """Return what to do where an account that the registry knows lacks a right."""
    return _home_hint(question, 403, "")


def no_credentials(question: Question) -> AuthenticationError:
    """Return the error for a registry that wants credentials where none are configured."""
    return AuthenticationError(
        f"{question.subject}: {question.request} at {question.registry}: HTTP 401, and there are no credentials for it",
        hint=_hint(question, 401, ""),
        status=401,
    )


def wrong_credentials(
    question: Question, kind: type[AuthenticationError] = AuthenticationError, server: str = ""
) -> AuthenticationError:
    """Return the error for credentials that a registry refuses, or for it its token `server`."""
    by = f" by its token server {server}" if server not in ("", question.registry) else ""
    return kind(
        f"{question.subject}: {question.request} at {question.registry}: HTTP 401, the credentials were refused{by}",
        hint=f"The password is wrong or has expired: {_login(question.registry)}.",
        status=401,
    )


class Explain(Protocol):
    """Explains why a certificate was refused: that of the proxy, or of the host behind it."""

    def __call__(self, error: ssl.SSLCertVerificationError, /, *, is_proxys: bool) -> Explanation:
        """Return why, and the next step."""
        ...


def unreachable(
    question: Question,
    url: httpx.URL,
    proxy: str,
    explain: Explain,
    error: Exception,
    *,
    sent: int | None = None,
    is_first: bool = False,
) -> RetryableError:
    """Return the error for a connection to `url` that was not made, or broke; `proxy` is `HOST:PORT`, empty without one.

    `sent`: the length of the request's body, for a host that has answered before, and is asked for a response: such a host is
    out. None for a first contact (`is_first`), where name, port or route may be wrong, and for the body of a response.
    """
    causes = list(_causes(error))  # urllib3 wraps the reason several times
    host = elsewhere(question, url)
    why, hint, tries = _proxy_tls(proxy, causes, explain) or _explained(host or question.registry, causes, explain)
    if proxy and hint.startswith(_WANTS_CLIENT):  # in TLS 1.3 its refusal comes after the handshake, so it may be either's
        hint += f" The proxy may want one too: certs.d/{proxy}."
    kind: type[RegistryUnreachableError] = RegistryUnreachableError
    if why == _SILENT and is_first:
        tries = QUICK_TRIES  # a service that speaks another protocol waits for ever, and so would every try
        if not proxy and not host and not question.sent_by:
            kind, why, hint = SilentHostError, _NOTHING_SAID, _silent_hint(question.registry, url)
    if why in _ABOUT_THE_WAY or (why == _SILENT and is_first):
        hint = _way_hint(question, host) or hint
    if question.fetched:
        hint = _fetch_way_hint(host or question.registry, why) or hint
    if short := next((cause for cause in causes if isinstance(cause, IncompleteRead)), None):
        # Closed, not reset: also where the length is that of a database, and the storage has less (Quay, GitLab).
        kind, why = ShortAnswerError, f"the answer ended after {short.partial} of {short.partial + short.expected} bytes"
    failure = kind(f"{_asked(question, host)}: {why}", hint=hint)
    is_small = sent is not None and sent <= _SMALL_BODY
    not_made = tries is None or (sent is not None and any(isinstance(cause, _NOT_MADE) for cause in causes))
    if tries == 1 or not (is_small or not_made):
        return RetryableError(failure, tries)
    outage = OutageError(failure)
    # A connection that is not made is that of the host; one that breaks may be that of a path, before which a proxy stands.
    outage.repositories = 0 if not_made else _STALLING if why in (_SILENT, _NOTHING_SAID) else REPOSITORIES
    return outage


def _fetch_way_hint(host: str, why: str) -> str:
    """Return what to do where a host that is no registry is not reached; else empty."""
    if why == _NO_TLS:
        return f"If it is meant to be plain HTTP, write http:// and say --insecure {host}."
    if why in (*_ABOUT_THE_WAY, _SILENT, _NOTHING_SAID):
        return f"DNS, firewall and proxy have to let this machine reach {host}; check the address."
    return ""


def _way_hint(question: Question, host: str) -> str:
    """Return what to do where a host is not reached whose name and port are no choice of the person; else empty."""
    at, by = question.registry, question.sent_by
    if by:
        return (
            f"{by} sends its clients to the token server {at} for a token: DNS, firewall and proxy have to let this machine "
            f"reach {at} too; or correct the token realm in the registry's configuration."
        )
    if host:
        return f"{at} sends its clients there: DNS, firewall and proxy have to let this machine reach {host} too."
    return ""


def _silent_hint(host: str, url: httpx.URL) -> str:
    tried = "plain HTTP needs" if url.scheme == "https" else "both were tried, for"
    return f"Is {host} a registry, and is the port right? Does it speak TLS, or plain HTTP ({tried} --insecure {host})?"


def _causes(error: BaseException | None, depth: int = 0) -> Iterator[BaseException]:
    """Give an error and everything it wraps; urllib3 hides the cause in `args` and `reason`."""
    if error is None or depth > 8:  # noqa: PLR2004 - deeper than any wrapping, and an end for a cycle
        return
    yield error
    wrapped: list[Any] = [error.__cause__, getattr(error, "reason", None), *error.args]
    for inner in wrapped:
        if isinstance(inner, BaseException):
            yield from _causes(inner, depth + 1)


_NOT_MADE = (ConnectionRefusedError, socket.gaierror, NameResolutionError, ConnectTimeoutError)
PROXY_HINT = "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3}[^'\")]{0,100})")
_TUNNEL_HINTS = {
    "407": "Put user and password of the proxy into HTTPS_PROXY: http://user:password@host:port.",
    "403": "The proxy does not let {host} through: ask for that, or exempt {host} in NO_PROXY.",
}
# As from a registry: a proxy answers these while it restarts, is overloaded or waits for the host (RFC 9110, 15.6). Some answer
# 500 to a wrong name, so that is final, as are 403 and 407.
_PASSING_TUNNEL = PASSING & {429, 502, 503, 504}
_TUNNEL_PASSES = "The proxy, or its way to {host}, has trouble: look at its log, then run again; what is done is kept."
_SILENT = "no answer in time"
_REASONS: tuple[tuple[tuple[type[BaseException], ...], str, str, int], ...] = (
    (
        (SlowAnswerError,),
        "the answer does not end in time",
        "{host}, or a proxy before it, sends a few bytes at a time: look at its load and its log, then run again.",
        QUICK_TRIES,
    ),
    (
        (ProxyError,),
        "the proxy does not answer",
        PROXY_HINT,
        QUICK_TRIES,
    ),
    (
        (socket.gaierror, NameResolutionError),
        "unknown host name",
        "Check the spelling of {host}, and DNS on this machine.",
        QUICK_TRIES,
    ),
    ((ConnectionRefusedError,), "connection refused", "Is the registry running, and is the port of {host} right?", QUICK_TRIES),
    (
        # The end of TLS without its closing alert: a server that stops reading a large body looks like this, too.
        (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError),
        "connection reset",
        "Run again; what is done is kept. A proxy or firewall on the way may limit size or time.",
        TRIES,
    ),
    ((ConnectTimeoutError,), "no answer in time while connecting", "Check the route and the firewall.", QUICK_TRIES),
    (
        (ReadTimeoutError, TimeoutError),
        _SILENT,
        "Registry or network are slow: run again; what is done is kept.",
        TRIES,
    ),
)

_NOTHING_SAID = "no answer in time: it accepts connections and says nothing"
_ABOUT_THE_WAY = ("unknown host name", "connection refused", "no answer in time while connecting")


def _explained(host: str, causes: list[BaseException], explain: Explain) -> tuple[str, str, int | None]:
    """Return what happened, what to do, and how often to try; None: as POLICY says."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return *explain(cause, is_proxys=False), 1
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            return _handshake(host, cause)
    if tunnel := next((match for cause in causes if (match := _TUNNEL.search(str(cause)))), None):
        status = tunnel[1][:3]
        passes = int(status) in _PASSING_TUNNEL
        hint = _TUNNEL_PASSES if passes else _TUNNEL_HINTS.get(status, PROXY_HINT)
        return f"the proxy refuses: {_clean(tunnel[1])}", hint.format(host=host), None if passes else 1
    # urllib3 wraps a reset in ProxyError where a proxy is used: the order of the table decides.
    for kinds, why, hint, tries in _REASONS:
        if any(isinstance(cause, kinds) for cause in causes):
            return why, hint.format(host=host), tries
    return f"connection broken: {_clean(str(causes[0]))}", "Run again; what is done is kept.", TRIES


def _proxy_tls(proxy: str, causes: list[BaseException], explain: Explain) -> tuple[str, str, int | None] | None:
    """Explain a TLS connection to the proxy that failed; None where another one did, or nothing of TLS."""
    error = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if error is None or not any(isinstance(cause, ProxyError) for cause in causes):
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return *explain(error, is_proxys=True), 1
    return f"the proxy: TLS: {error.reason or _clean(str(error))}", f"A proxy without TLS is http://{proxy}. {PROXY_HINT}", 1


_NO_TLS = "it does not speak TLS"
_WANTS_CLIENT = "It may want a client certificate"


def _handshake(host: str, error: ssl.SSLError) -> tuple[str, str, int | None]:
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return _NO_TLS, f"If it is meant to be plain HTTP, say --insecure {host}.", 1
    reason = error.reason or str(error)[:_MAX_TEXT]
    if "CERTIFICATE" in reason:
        return f"TLS: {reason}", f"{_WANTS_CLIENT}: put one into certs.d/{host}.", 1
    return f"TLS: {reason}", "Run again; check the registry's TLS versions if it stays.", QUICK_TRIES
