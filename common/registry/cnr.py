"""The app registry that Quay had until 3.7 (CNR): package manifests as archives, by namespace.

The last client of it was operator-registry (github.com/operator-framework/operator-registry), up to v1.16.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from common.errors import ContentError, UsageError
from common.log import SECRETS
from common.oci.image import PREFIX, Digest, digest_of, parse_digest
from common.oci.reference import Reference, is_host
from common.registry.http.coding import is_json
from common.registry.http.exchange import Call, Exchange
from common.serialization import UNDECODABLE, decode_bounded

if TYPE_CHECKING:
    from collections.abc import Callable


DEFAULT_ENDPOINT = "https://quay.io/cnr"
MAX_LIST = 64 * 1024 * 1024
MAX_ARCHIVE = 256 * 1024 * 1024
_MAX_PACKAGES = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
T = TypeVar("T")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class _Listed(msgspec.Struct):
    name: str
    default: str


class _Content(msgspec.Struct):
    digest: str


class _Shown(msgspec.Struct):
    content: _Content


class _Login(msgspec.Struct):
    token: str


_LISTED = msgspec.json.Decoder(list[_Listed])
_SHOWN: msgspec.json.Decoder[list[_Shown] | _Shown] = msgspec.json.Decoder(list[_Shown] | _Shown)
_LOGIN = msgspec.json.Decoder(_Login)


@dataclass(frozen=True, slots=True)
class AppPackage:
    """A package of a namespace, `NAMESPACE/NAME`, and its newest release."""

    name: str
    release: str


class AppRegistry:
    """Asks one app registry. `token`: what its login gave, the whole value of the header.

    Raises UsageError for an endpoint that cannot be meant, RegistryError, ContentError for answers that are none.
    """

    def __init__(self, exchange: Exchange, endpoint: str, token: str = "") -> None:
        host, path = split_endpoint(endpoint)
        self._exchange = exchange
        self._place = Reference(host, "")
        self._path = path
        self._token = token
        SECRETS.add(token)

    def login(self, username: str, password: str) -> None:
        """Get a token for a user."""
        raw = msgspec.json.encode({"user": {"username": username, "password": password}})
        call = Call(
            "POST",
            self._place,
            f"{self._path}/api/v1/users/login",
            "login",
            self._place.registry,
            headers={"Content-Type": "application/json"},
            body=lambda: iter([raw]),
            length=len(raw),
            anonymous=True,
        )
        raw = self._exchange.ask(call, MAX_LIST).plain(call, MAX_LIST)
        self._token = self._decoded(raw, _LOGIN, "login").token
        SECRETS.add(self._token)

    def packages(self, namespace: str) -> list[AppPackage]:
        """Return the packages of a namespace, sorted by name."""
        if not _NAME.fullmatch(namespace):
            raise UsageError(f"not a namespace of an app registry: {namespace[:100]!r}", hint="For example redhat-operators.")
        raw = self._get(f"api/v1/packages?namespace={namespace}&media_type=helm", f"the packages of {namespace}", MAX_LIST)
        listed = self._decoded(raw, _LISTED, namespace)
        if len(listed) > _MAX_PACKAGES:
            raise ContentError(f"{self._place.registry}: {len(listed)} packages; the limit is {_MAX_PACKAGES}")
        good = [one for one in listed if _NAME.fullmatch(one.name) and _PLAIN.fullmatch(one.default)]
        return sorted((AppPackage(one.name, one.default) for one in good), key=lambda one: one.name)

    def archive(self, package: AppPackage) -> bytes:
        """Return the archive (tar.gz) of a package's release, verified by its digest."""
        where = f"api/v1/packages/{package.name}"
        raw = self._get(f"{where}/{package.release}", package.name, MAX_LIST)
        shown = self._decoded(raw, _SHOWN, package.name)
        first = next(iter(shown), None) if isinstance(shown, list) else shown
        if first is None:
            raise ContentError(f"{package.name}: release {package.release} has no content")
        digest = parse_digest(f"{PREFIX}{first.content.digest.removeprefix(PREFIX)}")
        is_right = lambda raw: digest_of(raw) == digest  # noqa: E731 - an archive is a gzip file: only its digest says
        content = self._get(f"{where}/blobs/sha256/{digest.removeprefix(PREFIX)}", package.name, MAX_ARCHIVE, is_right)
        return _verified(content, digest, package.name)

    def _get(self, path: str, subject: str, limit: int, is_right: Callable[[bytes], bool] = is_json) -> bytes:
        url = f"{self._path}/{path}"
        call = Call("GET", self._place, url, "app registry", subject, authorization=self._token, anonymous=not self._token)
        return self._exchange.ask(call, limit).plain(call, limit, is_right)

    def _decoded(self, raw: bytes, decoder: msgspec.json.Decoder[T], subject: str) -> T:
        try:
            return decode_bounded(raw, decoder)
        except UNDECODABLE as error:
            raise ContentError(
                f"{subject}: {self._place.registry} is no app registry: {error}", hint="Check --appregistry-endpoint."
            ) from error


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """Return host and path of an endpoint such as `https://quay.example/cnr`. Raises UsageError."""
    host, _, path = endpoint.removeprefix("https://").removeprefix("http://").partition("/")
    if not is_host(host) or not re.fullmatch(r"[A-Za-z0-9._/-]*", path):
        raise UsageError(f"not an app registry: {endpoint[:200]!r}", hint="For example https://quay.example/cnr")
    return host, f"/{path}".rstrip("/")


def _verified(content: bytes, digest: Digest, name: str) -> bytes:
    if digest_of(content) != digest:
        raise ContentError(f"{name}: the archive has digest {digest_of(content)}, wanted {digest}", hint="Run again.")
    return content
