"""Requests to token servers and their answers (token authentication of distribution; OAuth 2, RFC 6749).

`auth.py` decides which token is needed, and keeps it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import msgspec

from common.errors import (
    PASSING,
    AuthenticationError,
    CredentialsRefusedError,
    CredentialsWithheldError,
    HubError,
    NotFoundError,
    RegistryError,
    RegistryRefusedError,
)
from common.log import SECRETS
from common.oci.reference import is_host
from common.registry.http.coding import plain_body
from common.registry.http.errors import (
    MAX_ERROR_BODY,
    Question,
    elsewhere,
    no_credentials,
    passing,
    refused,
    rights_hint,
    wrong_credentials,
)
from common.registry.http.urls import parsed, same_origin, with_parameter
from common.serialization import UNDECODABLE

if TYPE_CHECKING:
    from common.registry.credentials import Credential
    from common.registry.registries_conf import Hosts
    from common.registry.settings import Clock


DEFAULT_LIFE_S = 60.0
MAX_LIFE_S = 24 * 3600.0
MAX_REDIRECTS = 10
_USED_LIFE = 0.75  # of a token's life, so that it does not expire in the middle of an upload
_CLIENT = "hub-airgap"
_WRONG_REALM = "Correct the token realm in the registry's configuration."
_SAME_METHOD = (307, 308)  # RFC 9110, 15.4: after the others a POST becomes a GET, without its form
_BOM = b"\xef\xbb\xbf"
_LOG = logging.getLogger(__name__)

# Sends a request as it is, and returns a response that was read and is bounded. Its extensions hold `redirects_to`, a URL that
# may be requested next, and `coding`, the Content-Encoding of its body. Raises RetryableError.
Send = Callable[[httpx.Request], httpx.Response]


class _Answer(msgspec.Struct):
    """A token server's answer. Clocks differ, so `issued_at` is not read.

    Each field is decoded on its own: null, text for a number, or another type in one must not cost the token of another
    (distribution/distribution#1746: "expires_in" as text; SecureAuthCorp/oauth2c#37).
    """

    token: msgspec.Raw = msgspec.Raw()
    access_token: msgspec.Raw = msgspec.Raw()
    expires_in: msgspec.Raw = msgspec.Raw()


_ANSWER = msgspec.json.Decoder(_Answer)
_TEXT = msgspec.json.Decoder(str)
_NUMBER: msgspec.json.Decoder[float | str] = msgspec.json.Decoder(float | str)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A token that `question` needs, from `realm`. `is_known`: the token server has accepted the credential before."""

    question: Question
    repository: str
    realm: str
    service: str
    scopes: tuple[str, ...]
    credential: Credential | None
    is_known: bool


@dataclass(frozen=True, slots=True)
class Token:
    """The value of a header, and for how long it is used. `is_anonymous`: given without the credential."""

    header: str
    fresh_until_s: float
    is_anonymous: bool = False


class TokenClient:
    """Fetches tokens. Shared by threads."""

    def __init__(self, hosts: Hosts, send: Send, clock: Clock) -> None:
        self._hosts = hosts
        self._send = send
        self._clock = clock

    def fetch(self, wanted: Wanted) -> Token:
        """Return a token. Raises AuthenticationError, RegistryRefusedError, and RetryableError where another try may help."""
        realm = self._realm(wanted)
        asked_s = self._clock.monotonic_s()
        first = _first_request(realm, wanted)
        response, last = self._sent(first, wanted)
        is_anonymous = wanted.credential is None or not (last.method == "POST" or "Authorization" in last.headers)
        asking = _asking(wanted, realm, last.url)
        if not response.is_success:
            raise _refusal(wanted, asking, last.url, response, lost=wanted.credential is not None and is_anonymous)
        return _read(_plain(response), asked_s, asking, is_anonymous=is_anonymous)

    def _sent(self, request: httpx.Request, wanted: Wanted) -> tuple[httpx.Response, httpx.Request]:
        """Send a request and follow redirects (moby/moby#38662); return the last response, and its request."""
        realm = request.url
        for _ in range(MAX_REDIRECTS + 1):
            asking = _asking(wanted, realm, request.url)
            # A connection that breaks is one to this server, not to the registry.
            sent_by = wanted.question.registry if elsewhere(wanted.question, request.url) else ""
            request.extensions = {"question": replace(asking, registry=_host(request.url), sent_by=sent_by)}
            response = self._send(request)
            following: httpx.URL | None = response.extensions.get("redirects_to")
            if following is None:
                return response, request
            request = _redirected(request, response.status_code, following, asking)
        raise RegistryRefusedError(
            f"{wanted.question.subject}: token from {_host(realm)}: more than {MAX_REDIRECTS} redirects", hint=_WRONG_REALM
        )

    def _realm(self, wanted: Wanted) -> httpx.URL:
        realm, registry = parsed(wanted.realm), wanted.question.registry
        if realm.scheme not in ("http", "https") or not is_host(_host(realm)):
            raise RegistryRefusedError(
                f"{wanted.question.subject}: {registry} asks for a token from {wanted.realm[:200]!r}, which is no URL",
                hint=_WRONG_REALM,
            )
        contact = parsed(f"https://{self._hosts.contact(registry)}")
        at_home = realm.host == contact.host
        # --insecure is for one host: a token server on the same host is meant as well, one on another host is not.
        allowed = self._hosts.insecure(_host(realm)) or (at_home and self._hosts.insecure(registry))
        if wanted.credential is None or realm.scheme == "https" or allowed:
            return realm
        # A registry behind a TLS proxy that does not pass X-Forwarded-Proto names itself with http:// (moby/moby#38662).
        if at_home and realm.port in (None, contact.port):
            return realm.copy_with(scheme="https", port=contact.port)
        raise CredentialsWithheldError(
            f"{wanted.question.subject}: {registry} wants the password sent in the clear to http://{_host(realm)}",
            hint=f"If that is meant so, say --insecure {_host(realm)}.",
            status=httpx.codes.UNAUTHORIZED,
        )


def _host(url: httpx.URL) -> str:
    return url.netloc.decode()


def _asking(wanted: Wanted, realm: httpx.URL, url: httpx.URL) -> Question:
    """Return the request for a token, for messages: it names the token server, and where that redirects to."""
    question = wanted.question
    way = f" (redirected to {_host(url)})" if _host(url) != _host(realm) else ""
    return replace(question, repository=wanted.repository, request=f"token from {_host(realm)}{way}")


def _first_request(realm: httpx.URL, wanted: Wanted) -> httpx.Request:
    credential = wanted.credential
    if credential and credential.identity_token:
        return _refresh(realm, wanted.service, wanted.scopes, credential.identity_token)
    return _ask(realm, wanted.service, wanted.scopes, credential)


def _ask(realm: httpx.URL, service: str, scopes: tuple[str, ...], credential: Credential | None) -> httpx.Request:
    url = with_parameter(realm.copy_remove_param("service"), "service", service) if service else realm
    for scope in scopes:
        url = with_parameter(url, "scope", scope)
    if not url.host:
        raise RegistryRefusedError(
            f"{_host(realm)}: realm, service and scope of a token are too long for a URL: "
            f"{len(str(realm))}, {len(service)} and {sum(map(len, scopes))} characters",
            hint=_WRONG_REALM,
        )
    headers = {"Authorization": f"Basic {credential.basic}"} if credential and credential.username else {}
    return httpx.Request("GET", url, headers=headers)


def _refresh(realm: httpx.URL, service: str, scopes: tuple[str, ...], identity_token: str) -> httpx.Request:
    """Trade an identity token for an access token (OAuth 2, refresh grant)."""
    form = {"grant_type": "refresh_token", "refresh_token": identity_token, "client_id": _CLIENT, "service": service}
    return httpx.Request("POST", realm, data=form | {"scope": " ".join(scopes)})


def _redirected(request: httpx.Request, status: int, url: httpx.URL, asking: Question) -> httpx.Request:
    """Return the request that follows a redirect. Secrets stay with the origin, but for its upgrade from http to https."""
    at_home = same_origin(request.url, url)
    if request.method == "POST":
        if not at_home or status not in _SAME_METHOD:
            raise CredentialsWithheldError(
                f"{asking.subject}: {asking.request} at {asking.registry}: HTTP {status} to {url.scheme}://{_host(url)}, "
                "and an identity token is sent again to the same server alone, after 307 or 308",
                hint=f"Correct the token realm of {asking.registry}, or log in there with a password.",
                status=httpx.codes.UNAUTHORIZED,
            )
        return httpx.Request("POST", url, headers={"Content-Type": request.headers["Content-Type"]}, content=request.content)
    # The name is the same, and its certificate is verified now: it gets nothing that was not sent to it in the clear before.
    upgraded = (request.url.scheme, url.scheme) == ("http", "https") and request.url.host == url.host
    authorization = request.headers.get("Authorization") if at_home or upgraded else None
    if authorization is None and "Authorization" in request.headers:
        _LOG.info("%s: redirects to %s, which gets no password", asking.request, _host(url))
    return httpx.Request("GET", url, headers={"Authorization": authorization} if authorization else {})


def _plain(response: httpx.Response) -> bytes:
    """Return the body of a small response, decompressed to the same bound; as it is where that is not possible."""
    try:
        return plain_body(response.content, response.extensions["coding"], "", MAX_ERROR_BODY)
    except HubError:
        return response.content


def _refusal(wanted: Wanted, asking: Question, url: httpx.URL, response: httpx.Response, *, lost: bool) -> Exception:
    """Return the error for a token server's refusal. `lost`: the credential was not sent on to where it redirects."""
    status, server = response.status_code, asking.request.removeprefix("token from ")
    error = refused(asking, response, response.content)
    if lost and status in (400, 401, 403):
        return CredentialsWithheldError(
            f"{error.message}, and no password is sent to another server",
            hint="Correct the token realm in the registry's configuration: name the server that answers there.",
            status=httpx.codes.UNAUTHORIZED,
            code=error.code,
        )
    if status == httpx.codes.UNAUTHORIZED and not wanted.is_known:
        if wanted.credential is None:
            return no_credentials(wanted.question)
        return wrong_credentials(wanted.question, CredentialsRefusedError, server)
    error = _about_token(error, server, rights_hint(asking) if wanted.is_known else "")
    if status in PASSING:
        return passing(error, response.extensions.get("asked_s", 0.0), _host(url))
    return error


def _about_token(error: RegistryError, server: str, rights: str) -> RegistryError:
    """Return the error for the status of a token server, where it means something else than a registry's.

    `rights`: the hint for an account that it knows.
    """
    status, kind, hint = error.status, type(error), error.hint
    if status == httpx.codes.BAD_REQUEST:
        # Some answer 400 to wrong credentials where others answer 401; old Quay to repositories of three components
        # (podman-container-tools/skopeo#1180).
        kind, hint = AuthenticationError, rights or hint
    elif status >= httpx.codes.INTERNAL_SERVER_ERROR:
        hint = f"The token server {server} has trouble of its own: look at its log, then run again; what is done is kept."
    elif (isinstance(error, NotFoundError) and not error.code) or status < httpx.codes.BAD_REQUEST:
        kind, hint = RegistryRefusedError, _WRONG_REALM  # the page is missing, not an image
    return kind(error.message, hint=hint, status=status, code=error.code)


def _read(body: bytes, asked_s: float, question: Question, *, is_anonymous: bool) -> Token:
    try:
        answer = _ANSWER.decode(body.removeprefix(_BOM))
    except UNDECODABLE:
        answer = _Answer()
    token = next((text for text in map(_text, (answer.token, answer.access_token)) if text), "")
    if not token:
        raise RegistryRefusedError(
            f"{question.subject}: {question.request} for {question.registry}: an answer without a token",
            hint=f"Look at the log of the token server {question.request.removeprefix('token from ')}.",
        )
    SECRETS.add(token)
    life_s = _life_s(answer.expires_in)
    _LOG.debug("%s: token for %s, %.0f s", question.registry, question.repository, life_s)
    return Token(f"Bearer {token}", asked_s + life_s * _USED_LIFE, is_anonymous)


def _text(raw: msgspec.Raw) -> str:
    """Return a token that can be sent in a header; empty for anything else."""
    try:
        text = _TEXT.decode(raw)
    except UNDECODABLE:
        return ""
    return text if text.isascii() and text.isprintable() else ""


def _life_s(raw: msgspec.Raw) -> float:
    """Return for how long a token lives: as said in a number or its text, otherwise as the specification assumes."""
    try:
        life_s = float(_NUMBER.decode(raw))
    except (*UNDECODABLE, ValueError):
        return DEFAULT_LIFE_S
    return min(life_s, MAX_LIFE_S) if math.isfinite(life_s) and life_s > 0 else DEFAULT_LIFE_S
