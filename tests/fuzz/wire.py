"""More targets: what registries, token servers, proxies and clusters answer, and the files that name and trust them."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import zstandard
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from common import tls
from common.mapping import Mirror
from common.oci.image import digest_of
from common.oci.reference import Reference
from common.registry import cnr, manifests, referrers
from common.registry.credentials import Credential, Credentials
from common.registry.download import _RANGE
from common.registry.http.auth import parse_challenges
from common.registry.http.coding import codings, plain_body
from common.registry.http.errors import Question, refused
from common.registry.http.exchange import Answer
from common.registry.http.tls import Trust, tls_context
from common.registry.http.tokens import TokenClient, Wanted
from common.registry.http.urls import joined, next_page
from common.registry.registries_conf import Hosts, load_hosts
from common.registry.settings import Clock, RegistrySettings
from common.retry import MAX_RETRY_AFTER_S, retry_after_s
from common.text import is_visible
from importer.cluster.api.client import connect
from tests.fuzz.mutation import mutated, mutated_json, mutated_text
from tests.fuzz.targets import JSON, TEXT, Target, at

PLACE = Reference("registry.test", "org/app")
SUBJECT = PLACE.pinned(digest_of(b"subject"))
QUESTION = Question("registry.test", "org/app", "GET manifest", "registry.test/org/app:v1")


# Headers.


def _challenge(raw, _folder):
    for challenge in parse_challenges([raw.decode("latin-1")] * 2):
        assert challenge.scheme == challenge.scheme.lower() != ""


def _headers(raw, _folder):
    text = raw.decode("latin-1")
    assert 0 <= retry_after_s(text, 0.0) <= MAX_RETRY_AFTER_S
    _RANGE.fullmatch(text)
    joined(httpx.URL("https://registry.test/v2/"), text)
    following = next_page(httpx.URL("https://registry.test/v2/a/tags/list"), httpx.Headers([(b"Link", raw)]), "fuzz")
    assert following is None or following.startswith("/")


_HEADERS = [
    b'</v2/a/tags/list?n=1&last=x>; rel="next", <https://registry.test/v2/>; rel=prev',
    b"Wed, 21 Oct 2026 07:28:00 GMT",
    b"120",
    b"bytes 10-19/20",
    b"https://cdn.test:8443/a%20b?x=y#z",
]


def _coded(raw, _folder):
    names, _, body = raw.partition(b"\n")
    codings(names.decode("latin-1"), "fuzz")
    assert len(plain_body(body, names.decode("latin-1"), "fuzz", 10_000)) <= max(10_000, len(body))


def _codings():
    document = json.dumps({"tags": ["v1"] * 50}).encode()
    return [
        b"gzip\n" + gzip.compress(document),
        b"zstd, gzip\n" + gzip.compress(zstandard.compress(document)),
        b"identity\n" + document,
    ]


# Documents.


def _error(raw, _folder):
    for status in (401, 404, 500):
        error = refused(QUESTION, httpx.Response(status, extensions={"coding": ""}), raw)
        assert len(str(error)) < 4000
        assert all(sign == "\n" or is_visible(sign) for sign in str(error))


_ERROR = json.dumps(
    {"errors": [{"code": "NAME_UNKNOWN", "message": "repository name not known", "detail": {"name": "org/app"}}]}
).encode()


def _token(raw, _folder):
    send = lambda _request: httpx.Response(200, content=raw, extensions={"redirects_to": None, "coding": ""})  # noqa: E731
    fetcher = TokenClient(Hosts(frozenset()), send, Clock())
    token = fetcher.fetch(
        Wanted(QUESTION, "org/app", "https://token.test/", "x", ("repository:org/app:pull",), None, is_known=False)
    )
    assert token.header.isprintable()
    assert token.header.isascii()


def _realm(raw, _folder):
    send = lambda _request: httpx.Response(200, content=b'{"token": "x"}', extensions={"redirects_to": None, "coding": ""})  # noqa: E731
    realm, _, service = raw.decode("latin-1").partition(" ")
    sent = Credential(username="user", password="secret")
    TokenClient(Hosts(frozenset()), send, Clock()).fetch(
        Wanted(QUESTION, "org/app", realm, service, ("a",), sent, is_known=True)
    )


def _referrers(raw, _folder):
    for one in referrers._readable(referrers._page(raw, SUBJECT) or (), SUBJECT):
        assert one.digest.startswith("sha256:")


def _listed():
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest_of(b"x"),
        "size": 3,
        "artifactType": "a/b",
        "annotations": {"a": "b"},
    }
    return [
        json.dumps(
            {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry, entry]}
        ).encode()
    ]


class _Exchange:
    """Answers each call with the same body."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def ask(self, _call: Any, _limit: int) -> Answer:
        return Answer(200, httpx.Headers(), self._raw, httpx.URL("https://quay.test/cnr"))


def _app_registry(raw, _folder):
    registry: Any = cnr.AppRegistry(_Exchange(raw), "https://quay.test/cnr")  # type: ignore[arg-type]
    if b'"name"' in raw:
        registry.packages("redhat-operators")
    else:
        registry.archive(cnr.AppPackage("a", "1.0.0"))


_APPS = [
    b'[{"name": "redhat-operators/a", "default": "1.0.0", "releases": ["1.0.0"]}]',
    json.dumps([{"content": {"digest": "0" * 64}}]).encode(),
]


# Files.


def _settings(folder: Path, **changes: Any) -> RegistrySettings:
    return RegistrySettings(environ={"HOME": str(folder), "PATH": "/nonexistent"}, system_root=folder, **changes)


def _credentials(raw, folder):
    found = Credentials(_settings(folder, authfile=at(folder, "auth.json", raw)))
    for place in (PLACE, Reference("docker.io", "library/a")):
        found.find(place.registry, place.repository)
    found.of_namespaces("registry.test", "org")


_AUTHS = json.dumps(
    {"auths": {"registry.test": {"auth": "dXNlcjpwYXNz"}, "registry.test/org": {"username": "u", "password": "p"}, "https://index.docker.io/v1/": {"identitytoken": "t", "auth": "dTp="}}}
).encode()  # fmt: skip
_SECRET = (
    b"kind: Secret\napiVersion: v1\ntype: kubernetes.io/dockerconfigjson\nstringData:\n  .dockerconfigjson: |\n    "
    + _AUTHS
    + b"\n"
)
_CONF = b"""\
unqualified-search-registries = ["registry.test"]
[[registry]]
prefix = "*.test"
location = "mirror.test:5000/a"
insecure = true
blocked = false
[[registry.mirror]]
location = "other.test/b"
pull-from-mirror = "digest-only"
[aliases]
"a" = "registry.test/a"
"""


def _hosts(raw, folder):
    hosts = load_hosts(_settings(folder, registries_conf=at(folder, "registries.conf", raw)))
    for place in (PLACE, SUBJECT):
        hosts.insecure(place.registry)
        assert hosts.places(place)
        hosts.check_allowed(place)


def _mapped(raw, _folder):
    text = raw.decode("utf-8", "replace")
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    mirror = Mirror.parse(f"{reference.registry}/a", max_path_components=3, keep_source_host=True)
    assert len(mirror.repository(reference).repository) <= 255


_AUTHORITY = b"""\
-----BEGIN CERTIFICATE-----
MIIByjCCAW+gAwIBAgIUM5SEuwC8am7AJ8O8ZzVtNKDqDmQwCgYIKoZIzj0EAwIw
QDEXMBUGA1UECgwOdHJ1c3RtZSB2MS4yLjExJTAjBgNVBAsMHFRlc3RpbmcgQ0Eg
I2JuYTNHZF9oVzJoYzBPbUUwIBcNMDAwMTAxMDAwMDAwWhgPMzAwMDAxMDEwMDAw
MDBaMEAxFzAVBgNVBAoMDnRydXN0bWUgdjEuMi4xMSUwIwYDVQQLDBxUZXN0aW5n
IENBICNibmEzR2RfaFcyaGMwT21FMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
/gYMvwYgadr+mXN/Uwt/vf4NW100xDayfl9DL53s4uRm7v4ZklPi/E6CWfzY2yiv
hOr6PFWMW6khJPWuw0Yi5aNFMEMwHQYDVR0OBBYEFDRcccj3eVgkR/r+Ce49xQNK
AxLVMBIGA1UdEwEB/wQIMAYBAf8CAQkwDgYDVR0PAQH/BAQDAgGGMAoGCCqGSM49
BAMCA0kAMEYCIQDdmU0c+LQ+Q5C0tOdBFmmKjcPkFh687i5czRoYxgwWWwIhAIrr
g4wk3GxF74S7yn4aqc2+EvN3WuJOWsZ3OrC12mU1
-----END CERTIFICATE-----
"""  # of trustme, kept: the same seed gives the same input


def _ders():
    return [load_pem_x509_certificate(_AUTHORITY).public_bytes(Encoding.DER)]


def _certificate(raw, _folder):
    seen = tls._read(raw)
    assert seen is None or seen.issuer.isprintable()


def _trusted(raw, folder):
    path = at(folder, "ca.crt", raw)
    tls_context(Trust(authorities=(path,), verify=True))


def _kubeconfig(raw, folder):
    with connect(at(folder, "kubeconfig", raw), None) as cluster:
        assert all(map(is_visible, cluster.server))


_KUBECONFIG = b"""\
apiVersion: v1
kind: Config
current-context: a
clusters: [{name: c, cluster: {server: "https://api.cluster.test:6443", insecure-skip-tls-verify: false}}]
contexts: [{name: a, context: {cluster: c, user: u, namespace: default}}]
users: [{name: u, user: {token: secret}}]
"""


def _both(seeds: list[bytes]) -> Callable[[], list[bytes]]:
    return lambda: seeds


def _any(raw: bytes, chance: random.Random) -> bytes:
    """JSON where it is JSON, text otherwise."""
    return (mutated_json if raw.startswith((b"{", b"[")) else mutated_text)(raw, chance)


TARGETS = (
    Target("challenge", _both([b'Bearer realm="https://token.test/t",service="x",scope="repository:org/app:pull"', b'Negotiate, Basic realm="a \\" b", x=y']), _challenge, TEXT),
    Target("other headers", _both(_HEADERS), _headers, TEXT),
    Target("content coding", _codings, _coded, TEXT),
    Target("body of an error", _both([_ERROR, b"<html>upstream away</html>", b'{"message": "x", "error": "y"}']), _error, (mutated, mutated_text, _any, _any)),
    Target("token", _both([b'{"token": "abc", "access_token": "d", "expires_in": 300, "issued_at": "2026-01-31T12:00:00Z"}']), _token, JSON),
    Target("realm", _both([b"https://token.test:8443/auth/token?x=y registry.test", b"https://token.test/ x"]), _realm, TEXT),
    Target("tags", _both([b'{"name": "org/app", "tags": ["v1", "v2", "latest"]}', b'{"tags": null}']), lambda raw, _folder: manifests._tags(raw, PLACE), JSON),
    Target("referrers", _listed, _referrers, JSON),
    Target("app registry", _both(_APPS), _app_registry, JSON),
    Target("auth.json", _both([_AUTHS, _SECRET]), _credentials, (_any, _any, mutated), 0.5),
    Target("registries.conf", _both([_CONF]), _hosts, TEXT),
    Target("reference and mapping", _both([b"registry.test:5000/org/app:v1@" + digest_of(b"x").encode(), b"docker.io/library/a:latest"]), _mapped, TEXT),
    Target("certificate", _ders, _certificate),
    Target("certs.d", lambda: [_AUTHORITY * 2], _trusted, TEXT, 0.05),
    Target("kubeconfig", _both([_KUBECONFIG]), _kubeconfig, TEXT, 0.1),
)  # fmt: skip
