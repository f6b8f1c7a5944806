"""Authentication: Basic, and Bearer tokens with their cache (token authentication of distribution).

Owns known challenges, tokens and their lifetimes; `credentials.py` finds the secrets, `exchange.py` sends.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import httpx

from common.registry.http.errors import Question, no_credentials, wrong_credentials
from common.registry.http.tokens import Send, Token, TokenClient, Wanted
from common.registry.http.urls import same_origin

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from common.registry.credentials import Credential, Credentials
    from common.registry.registries_conf import Hosts
    from common.registry.settings import Clock


# Challenges of a 401 (RFC 9110, section 11; token authentication of distribution).

MAX_HEADER = 8 * 1024  # characters; with a scope of dozens of repositories a challenge has some hundred
MAX_HEADERS = 16
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# Possessive, and no two runs of blanks meet: the time is in proportion to the length, also of hostile headers.
_PARAMETER = re.compile(rf'[\s,]*+({_WORD})\s*+=\s*+(?:"((?:[^"\\]|\\.)*)"|([^\s,"]++))\s*+(?:,|$)')
_SCHEME = re.compile(rf"[\s,]*+({_WORD})(?:\s++|(?=,)|$)(?!=)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge. `scheme` in lower case; the rest is empty where it was not given."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read `WWW-Authenticate` headers; each may hold several challenges. What cannot be read, or is too long, is left out."""
    # Not cut: half of a scope is another scope.
    return [found for header in islice(headers, MAX_HEADERS) if len(header) <= MAX_HEADER for found in _parse(header)]


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


@dataclass(frozen=True, slots=True)
class Access:
    """Requested access: scopes (`repository:org/image:pull`) at a registry; `repository` chooses the credentials."""

    registry: str
    repository: str = ""
    scopes: tuple[str, ...] = ()


class RegistryAuth(httpx.Auth):
    """Basic or Bearer, as the registry asks for it. Shared by threads.

    A request's extensions hold `access` (an Access), `question` (for messages) and `is_last_access`: whether a second 401 is an
    answer for the caller, or an AuthenticationError.
    """

    def __init__(self, credentials: Credentials, hosts: Hosts, send: Send, clock: Clock) -> None:
        self._credentials = credentials
        self._client = TokenClient(hosts, send, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._fetching: defaultdict[Access, threading.Lock] = defaultdict(threading.Lock)
        self._challenges: dict[str, Challenge] = {}
        self._extra: dict[Access, tuple[str, ...]] = {}
        self._tokens: dict[Access, Token] = {}
        self._found: dict[tuple[str, str], Credential | None] = {}  # finding one may run a credential helper
        self._known: set[tuple[str, Credential | None]] = set()  # accounts that a registry's token server has accepted
        self._accepted: set[tuple[str, str]] = set()  # Basic headers that a registry has accepted

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
        if renewed == used:
            if renewed.startswith("Bearer ") and not request.extensions["is_last_access"]:
                raise wrong_credentials(question)  # asked again with less, see `Exchange`
            return
        request.headers["Authorization"] = renewed
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED or not same_origin(response.url, request.url):
            if renewed.startswith("Basic ") and (response.is_success or response.status_code == httpx.codes.NOT_FOUND):
                self._accepted.add((access.registry, renewed))
            return
        is_wrong = renewed.startswith("Basic ") and (access.registry, renewed) not in self._accepted
        if is_wrong or not request.extensions["is_last_access"]:
            raise wrong_credentials(question)

    def takes_scopes(self, registry: str) -> bool:
        """Say whether a registry asks for tokens, which are for scopes."""
        with self._lock:
            challenge = self._challenges.get(registry)
        return challenge is not None and challenge.scheme == "bearer"

    def realm(self, registry: str) -> str:
        """Return where a registry sends its clients for tokens; empty where it asked for none so far."""
        with self._lock:
            challenge = self._challenges.get(registry)
        return challenge.realm if challenge is not None and challenge.scheme == "bearer" else ""

    def _renewed(self, access: Access, challenges: list[str], used: str | None, question: Question) -> str:
        """Return what to send after a 401: `challenges` are its headers, `used` is the header that was sent.

        That is `used` where the registry has accepted the same account before, as GitLab and old Quay do at `/v2/`, and then
        refuse repositories of more components than they take (openshift/oc-mirror#590): the 401 is about the repository.
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
        if header is None or (header == used and not self._is_accepted(access, header)):
            raise no_credentials(question) if header is None else wrong_credentials(question)
        return header

    def _is_accepted(self, access: Access, header: str) -> bool:
        """Say whether the account of a header is one that the registry, or its token server, has accepted."""
        if header.startswith("Basic "):
            return (access.registry, header) in self._accepted
        # ghcr.io gives the same token each time: that one is refused says nothing about the account.
        return (access.registry, self._credential(access.registry, access.repository)) in self._known

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

    def _fetch(self, access: Access, challenge: Challenge, credential: Credential | None, question: Question) -> Token:
        scopes = tuple(dict.fromkeys((*self._extra.get(access, ()), *access.scopes)))
        is_known = credential is not None and (access.registry, credential) in self._known
        token = self._client.fetch(
            Wanted(question, access.repository, challenge.realm, challenge.service, scopes, credential, is_known)
        )
        if credential and not token.is_anonymous:
            self._known.add((access.registry, credential))  # a later 401 is about the scope, not about the account
            # Harbor's challenge is Basic for a token that lacks a right (goharbor/harbor src/server/middleware/v2auth/auth.go).
            self._accepted.add((access.registry, f"Basic {credential.basic}"))
        return token


def _best(challenges: list[Challenge]) -> Challenge | None:
    """Prefer Bearer: where a registry offers both, tokens are what it wants."""
    known = [challenge for challenge in challenges if challenge.scheme in ("bearer", "basic")]
    return min(known, key=lambda challenge: challenge.scheme != "bearer", default=None)
