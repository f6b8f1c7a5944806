"""Authentication: Basic, and Bearer tokens with their cache (token authentication of distribution).

Owns known challenges, tokens and their lifetimes; `credentials.py` finds the secrets, `exchange.py` sends.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import msgspec

from common.errors import AuthenticationError, CredentialsRefusedError, RegistryRefusedError
from common.log import SECRETS
from common.oci.reference import is_host
from common.registry.http.errors import PASSING, Question, no_credentials, refused, wrong_credentials
from common.registry.http.urls import parsed, same_origin, with_parameter
from common.retry import RetryableError
from common.serialization import UNDECODABLE

if TYPE_CHECKING:
    from common.registry.credentials import Credential, Credentials
    from common.registry.registries_conf import Hosts
    from common.registry.settings import Clock


# Challenges of a 401 (RFC 9110, section 11; token authentication of distribution).

MAX_HEADER = 16 * 1024
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
_SCHEME = re.compile(rf"\s*,?\s*({_WORD})(?:\s+|\s*(?:,|$))(?!=)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge. `scheme` in lower case; the rest is empty where it was not given."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read `WWW-Authenticate` headers; each may hold several challenges. What cannot be read is left out."""
    return [challenge for header in headers for challenge in _parse(header[:MAX_HEADER])]


def _parse(text: str) -> Iterator[Challenge]:
    position = 0
    while match := _SCHEME.match(text, position):
        parameters, position = _parameters(text, match.end())
        yield Challenge(
            match[1].lower(), parameters.get("realm", ""), parameters.get("service", ""), parameters.get("scope", "")
        )


def _parameters(text: str, position: int) -> tuple[dict[str, str], int]:
    found: dict[str, str] = {}
    while match := _PARAMETER.match(text, position):
        quoted = match[2]
        found[match[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[3]
        position = match.end()
    return found, position


DEFAULT_LIFE_S = 60.0
MAX_LIFE_S = 24 * 3600.0
_USED_LIFE = 0.75  # of a token's life, so that it does not expire in the middle of an upload
_CLIENT = "hub-airgap"
_LOG = logging.getLogger(__name__)


class _Answer(msgspec.Struct):
    """A token server's answer. Clocks differ, so `issued_at` is not read."""

    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


@dataclass(frozen=True, slots=True)
class Access:
    """Requested access: scopes (`repository:org/image:pull`) at a registry; `repository` chooses the credentials."""

    registry: str
    repository: str = ""
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    fresh_until_s: float


# Sends a request as it is, and returns a response that was read and is bounded. Raises RetryableError.
Send = Callable[[httpx.Request], httpx.Response]


class RegistryAuth(httpx.Auth):
    """Basic or Bearer, as the registry asks for it. Shared by threads.

    A request's extensions hold `access` (an Access), `question` (for messages) and `is_last_access`: whether a second 401 is an
    answer for the caller, or an AuthenticationError.
    """

    def __init__(self, credentials: Credentials, hosts: Hosts, send: Send, clock: Clock) -> None:
        self._credentials = credentials
        self._hosts = hosts
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()
        self._fetching: defaultdict[Access, threading.Lock] = defaultdict(threading.Lock)
        self._challenges: dict[str, Challenge] = {}
        self._extra: dict[Access, tuple[str, ...]] = {}
        self._tokens: dict[Access, _Token] = {}
        self._found: dict[tuple[str, str], Credential | None] = {}  # finding one may run a credential helper
        self._known: set[tuple[str, Credential]] = set()  # accounts that a registry's token server has accepted

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Send with what the registry asked for before, and once more with what a 401 asks for."""
        access: Access = request.extensions["access"]
        question: Question = request.extensions["question"]
        with self._lock:
            challenge = self._challenges.get(access.registry)
        used = self._answer(access, challenge, question) if challenge else None
        if used:
            request.headers["Authorization"] = used
        response = yield request
        # A redirect target, an object store for one, does not ask who we are at the registry.
        if response.status_code != httpx.codes.UNAUTHORIZED or not same_origin(response.url, request.url):
            return
        renewed = self._renewed(access, response.headers.get_list("WWW-Authenticate"), used, question)
        request.headers["Authorization"] = renewed
        response = yield request
        refused_again = response.status_code == httpx.codes.UNAUTHORIZED and same_origin(response.url, request.url)
        if refused_again and (renewed.startswith("Basic ") or not request.extensions["is_last_access"]):
            raise wrong_credentials(question)

    def takes_scopes(self, registry: str) -> bool:
        """Say whether a registry asks for tokens, which are for scopes."""
        with self._lock:
            challenge = self._challenges.get(registry)
        return challenge is not None and challenge.scheme == "bearer"

    def _renewed(self, access: Access, challenges: list[str], used: str | None, question: Question) -> str:
        """Return what to send after a 401: `challenges` are its headers, `used` is the header that was sent.

        Raises AuthenticationError when there is no other header to send than the refused one.
        """
        asked = _best(parse_challenges(challenges))
        with self._lock:  # a 401 without a challenge repeats the one before
            challenge = asked or self._challenges.get(access.registry) or Challenge("basic")
            self._challenges[access.registry] = challenge
            if challenge.scope and challenge.scope not in access.scopes:
                self._extra[access] = tuple(challenge.scope.split()[:16])  # a bound: it goes into a URL
            token = self._tokens.get(access)
            if token and token.header == used:
                del self._tokens[access]
            self._found.pop((access.registry, access.repository), None)  # a helper may give another password now
        header = self._answer(access, challenge, question)
        if header is None or header == used:
            raise no_credentials(question) if header is None else wrong_credentials(question)
        return header

    def _credential(self, registry: str, repository: str) -> Credential | None:
        key = (registry, repository)
        with self._lock:
            if key in self._found:
                return self._found[key]
        # Without the lock: a helper is a process, and two threads that run it at the same time do no harm.
        return self._find(key)

    def _find(self, key: tuple[str, str]) -> Credential | None:
        found = self._credentials.find(*key)
        with self._lock:
            self._found[key] = found
        return found

    def _answer(self, access: Access, challenge: Challenge, question: Question) -> str | None:
        credential = self._credential(access.registry, access.repository)
        if credential and credential.registry_token:  # a token made elsewhere, to be sent as it is (containers-auth.json(5))
            return f"Bearer {credential.registry_token}"
        if challenge.scheme == "basic":
            return f"Basic {credential.basic}" if credential and credential.username else None
        with self._lock:
            fetching = self._fetching[access]
        with fetching:  # one thread fetches, the others wait for its token
            token = self._tokens.get(access)
            if token is None or token.fresh_until_s <= self._clock.monotonic_s():
                # The secret of a helper may live shorter than this process (an hour at some clouds): one call for each token.
                credential = self._find((access.registry, access.repository)) if token else credential
                token = self._fetch(access, challenge, credential, question)
                self._tokens[access] = token
        return token.header

    def _fetch(self, access: Access, challenge: Challenge, credential: Credential | None, question: Question) -> _Token:
        realm = self._realm(access.registry, challenge, credential, question)
        scopes = tuple(dict.fromkeys((*self._extra.get(access, ()), *access.scopes)))
        asked_s = self._clock.monotonic_s()
        if credential and credential.identity_token:
            request = _refresh(realm, challenge.service, scopes, credential.identity_token)
        else:
            request = _ask(realm, challenge.service, scopes, credential)
        asking = Question(access.registry, access.repository, f"token from {realm.host}", question.subject, question.writes)
        request.extensions = {"question": replace(asking, registry=realm.netloc.decode())}  # a break names the token server
        response = self._send(request)
        known = credential is not None and (access.registry, credential) in self._known
        if response.status_code == httpx.codes.UNAUTHORIZED and not known:
            raise wrong_credentials(question, CredentialsRefusedError) if credential else no_credentials(question)
        if response.status_code != httpx.codes.OK:
            error = refused(asking, response, response.content)
            raise RetryableError(error) if response.status_code in PASSING else _about_token(error, response.status_code)
        if credential:
            self._known.add((access.registry, credential))  # a later 401 is about the scope, not about the account
        return _read(response, asked_s, asking)

    def _realm(self, registry: str, challenge: Challenge, credential: Credential | None, question: Question) -> httpx.URL:
        realm = parsed(challenge.realm)
        if realm.scheme not in ("http", "https") or not is_host(realm.netloc.decode()):
            raise RegistryRefusedError(
                f"{question.subject}: {registry} asks for a token from {challenge.realm[:200]!r}, which is no URL",
                hint="Correct the token realm in the registry's configuration.",
            )
        secret = credential is not None and realm.scheme == "http"
        if secret and not (self._hosts.insecure(registry) or self._hosts.insecure(realm.netloc.decode())):
            raise AuthenticationError(
                f"{question.subject}: {registry} wants the password sent in the clear to http://{realm.netloc.decode()}",
                hint=f"If that is meant so, say --insecure {registry}.",
            )
        return realm


def _best(challenges: list[Challenge]) -> Challenge | None:
    """Prefer Bearer: where a registry offers both, tokens are what it wants."""
    known = [challenge for challenge in challenges if challenge.scheme in ("bearer", "basic")]
    return min(known, key=lambda challenge: challenge.scheme != "bearer", default=None)


def _ask(realm: httpx.URL, service: str, scopes: tuple[str, ...], credential: Credential | None) -> httpx.Request:
    url = with_parameter(realm.copy_remove_param("service"), "service", service) if service else realm
    for scope in scopes:
        url = with_parameter(url, "scope", scope)
    if not url.host:
        raise RegistryRefusedError(
            f"{realm.netloc.decode()}: realm, service and scope of a token are too long for a URL: "
            f"{len(str(realm))}, {len(service)} and {sum(map(len, scopes))} characters",
            hint="Correct the token realm in the registry's configuration.",
        )
    headers = {"Authorization": f"Basic {credential.basic}"} if credential and credential.username else {}
    return httpx.Request("GET", url, headers=headers)


def _refresh(realm: httpx.URL, service: str, scopes: tuple[str, ...], identity_token: str) -> httpx.Request:
    """Trade an identity token for an access token (OAuth 2, refresh grant)."""
    form = {"grant_type": "refresh_token", "refresh_token": identity_token, "client_id": _CLIENT, "service": service}
    return httpx.Request("POST", realm, data=form | {"scope": " ".join(scopes)})


def _read(response: httpx.Response, asked_s: float, question: Question) -> _Token:
    try:
        answer = _ANSWER.decode(response.content)
    except UNDECODABLE:
        answer = _Answer()
    token = answer.token or answer.access_token
    if not token or not token.isascii() or not token.isprintable():
        raise RegistryRefusedError(
            f"{question.subject}: {question.request} for {question.registry}: an answer without a token",
            hint="Look at the log of the token server.",
        )
    SECRETS.add(token)
    life_s = DEFAULT_LIFE_S if answer.expires_in is None or answer.expires_in <= 0 else min(answer.expires_in, MAX_LIFE_S)
    _LOG.debug("%s: token for %s, %.0f s", question.registry, question.repository, life_s)
    return _Token(f"Bearer {token}", asked_s + life_s * _USED_LIFE)


def _about_token(error: Exception, status: int) -> Exception:
    """Return the error for a token server's refusal: some answer 400 to wrong credentials where others answer 401."""
    if status == httpx.codes.BAD_REQUEST and isinstance(error, RegistryRefusedError):
        return AuthenticationError(error.message, hint=error.hint, status=status, code=error.code)
    return error
