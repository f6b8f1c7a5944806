"""Token servers as they are: redirects, answers that are not quite as specified, and what their errors say."""

from __future__ import annotations

import gzip
import json
import math
import zlib

import pytest

from common.errors import (
    AuthenticationError,
    CredentialsRefusedError,
    CredentialsWithheldError,
    RegistryError,
    RegistryRefusedError,
)
from tests.fakes.factories import image
from tests.fakes.registry import PASSWORD, USER, FakeRegistry
from tests.samples import more
from tests.unit.common.registry.conftest import auth_file

APP = image()
GRANTED = "a-token-that-is-granted"


def _seeded(registry, scopes=("org/app:pull",)):
    """Store an image, and accept GRANTED for it; return its reference."""
    registry.tokens[GRANTED] = (set(scopes), math.inf)
    return registry.add_image("org/app", APP, tag="v1")


def _token_answers(registry, body, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    registry.fault("GET", "/token", status=200, body=raw, headers=headers)


def _redirects(registry, location, status=301, method="GET", times=1):
    registry.fault(method, "/token", times=times, status=status, headers={"Location": location})


# Redirects (moby/moby#38662: Artifactory behind nginx names its realm with http://, and nginx redirects to https://).


@pytest.mark.parametrize("status", [301, 307, *more([302, 303, 308])])
def test_a_realm_that_redirects_on_its_host_gets_the_password(connect, status):
    with FakeRegistry(tls=True, auth="token") as registry:
        reference = _seeded(registry)
        _redirects(registry, "/token?scope=repository:org/app:pull&moved=1", status)
        assert connect(registry, login=True).document(reference).raw == APP.raw
        first, second = registry.log("GET", "/token")
        assert second.query["moved"] == "1"
        assert first.headers["Authorization"] == second.headers["Authorization"]


def test_an_upgrade_to_https_on_the_same_host_gets_the_password(connect):
    with FakeRegistry(tls=True, auth="token") as secure, FakeRegistry(auth="token") as plain:
        plain.tokens = secure.tokens
        reference = _seeded(plain)
        _redirects(plain, f"{secure.url}/token?scope=repository:org/app:pull")
        client = connect(plain, login=True, ca=secure.ca)
        assert client.document(reference).raw == APP.raw
        assert secure.log("GET", "/token")[0].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("anonymous", [True, False])
def test_another_origin_gets_no_password(connect, anonymous):
    with FakeRegistry(tls=True, auth="token") as registry:
        other = FakeRegistry(tls=True, auth="token", anonymous=anonymous, authority=registry._authority)
        with other:
            other.tokens = registry.tokens
            reference = _seeded(registry)
            _redirects(registry, f"{other.url}/token?scope=repository:org/app:pull", times=9)
            client = connect(registry, login=True)
            if anonymous:
                assert client.document(reference).raw == APP.raw
            else:
                with pytest.raises(CredentialsWithheldError, match="no password is sent to another server") as caught:
                    client.document(reference)
                assert f"token from {registry.host} (redirected to {other.host})" in str(caught.value)
            assert all("Authorization" not in request.headers for request in other.requests)


def test_a_redirect_down_to_http_is_not_followed(connect):
    with FakeRegistry(tls=True, auth="token") as registry, FakeRegistry(auth="token", anonymous=True) as plain:
        reference = _seeded(registry)
        _redirects(registry, f"{plain.url}/token")
        with pytest.raises(RegistryRefusedError, match="is not safe"):
            connect(registry, login=True).document(reference)
        assert plain.requests == []


@pytest.mark.parametrize("location", ["http://[", "ftp://host/token", *more(["https://a b/"])])
def test_a_redirect_to_no_url(connect, location):
    with FakeRegistry(tls=True, auth="token") as registry:
        _redirects(registry, location, times=9)
        with pytest.raises(RegistryRefusedError, match="not safe"):
            connect(registry).document(_seeded(registry))


def test_redirects_without_an_end(connect):
    with FakeRegistry(tls=True, auth="token") as registry:
        _redirects(registry, "/token", times=99)
        with pytest.raises(RegistryRefusedError, match="more than 10 redirects"):
            connect(registry, login=True).document(_seeded(registry))
        assert len(registry.log("GET", "/token")) == 11


@pytest.mark.parametrize("status", [307, 302, *more([308, 301, 303])])
def test_an_identity_token_follows_307_and_308_on_its_host(connect, tmp_path, status):
    """A POST becomes a GET without its form after the others (RFC 9110, 15.4)."""
    path = tmp_path / "identity.json"
    with FakeRegistry(tls=True, auth="token") as registry:
        registry.identity_tokens.add("an-identity")
        path.write_text(json.dumps({"auths": {registry.host: {"identitytoken": "an-identity"}}}))
        reference = _seeded(registry)
        _redirects(registry, "/token", status, "POST")
        client = connect(registry, authfile=path)
        if status in (307, 308):
            assert client.document(reference).raw == APP.raw
            assert [b"an-identity" in request.body for request in registry.log("POST", "/token")] == [True, True]
        else:
            with pytest.raises(CredentialsWithheldError, match="identity token is sent again to the same server alone"):
                client.document(reference)


def test_an_identity_token_does_not_follow_to_another_host(connect, tmp_path):
    path = tmp_path / "identity.json"
    with FakeRegistry(tls=True, auth="token") as registry, FakeRegistry(tls=True, authority=registry._authority) as other:
        path.write_text(json.dumps({"auths": {registry.host: {"identitytoken": "an-identity"}}}))
        _redirects(registry, f"{other.url}/token", 307, "POST")
        with pytest.raises(CredentialsWithheldError) as caught:
            connect(registry, authfile=path).document(_seeded(registry))
        assert other.requests == []
        assert "an-identity" not in str(caught.value)


# Answers (distribution/distribution#1746, SecureAuthCorp/oauth2c#37; the fields are those of "Token Authentication Specification").

ANSWERS = [
    {"token": GRANTED, "expires_in": "300"},
    {"token": None, "access_token": GRANTED, "refresh_token": None, "expires_in": None},
    {"token": "", "access_token": GRANTED, "issued_at": 5},
    *more(
        [
            {"token": ["x"], "access_token": GRANTED, "scope": {"a": 1}},
            {"token": GRANTED, "expires_in": 299.9, "refresh_token": 5},
            {"token": GRANTED, "expires_in": True},
            {"token": GRANTED, "expires_in": "abc"},
            {"token": GRANTED, "expires_in": {}},
            {"token": GRANTED, "expires_in": -1},
            {"token": GRANTED, "access_token": False},
            b'{"token": "%s", "expires_in": 1e999}' % GRANTED.encode(),
            b'{"token": "%s", "expires_in": %s}' % (GRANTED.encode(), b"9" * 5000),
            b'\xef\xbb\xbf{"token": "%s"}' % GRANTED.encode(),
            b'{"token": "%s", "other": "\xff"}' % GRANTED.encode(),
            b'{"token": "\xff", "access_token": "%s"}' % GRANTED.encode(),
            b'{"token": "a\\nb", "access_token": "%s"}' % GRANTED.encode(),
        ]
    ),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_only_the_token_of_an_answer_counts(connect, answer):
    with FakeRegistry(tls=True, auth="token") as registry:
        reference = _seeded(registry)
        _token_answers(registry, answer, **{"Content-Type": "text/plain"})
        assert connect(registry, login=True).document(reference).raw == APP.raw


@pytest.mark.parametrize("life", ["300", *more([300, 300.5, "300.0", 1e9])])
def test_a_life_that_is_understood_counts(connect, clock, life):
    assert _fetches(connect, clock, life, 200) == 1


@pytest.mark.parametrize("life", ["abc", *more([0, -5, None, True, [], "inf", "nan", "1e999"])])
def test_a_life_that_is_not_understood_is_a_minute(connect, clock, life):
    assert _fetches(connect, clock, life, 44) == 1
    assert _fetches(connect, clock, life, 46) == 2


def _fetches(connect, clock, life, seconds):
    """Return how many tokens were fetched for two requests, `seconds` apart."""
    with FakeRegistry(tls=True, auth="token") as registry:
        reference = _seeded(registry)
        _token_answers(registry, {"token": GRANTED, "expires_in": life})
        client = connect(registry, login=True)
        client.document(reference)
        clock.advance(seconds)
        client.document(reference)
        return len(registry.log("GET", "/token"))


@pytest.mark.parametrize("status", [201, *more([200, 202, 203])])
def test_any_success_with_a_token_is_one(connect, status):
    with FakeRegistry(tls=True, auth="token") as registry:
        reference = _seeded(registry)
        registry.fault("GET", "/token", status=status, body=json.dumps({"token": GRANTED}).encode())
        assert connect(registry, login=True).document(reference).raw == APP.raw


@pytest.mark.parametrize("packed", [("gzip", gzip.compress), *more([("deflate", zlib.compress), ("gzip", bytes)])])
def test_a_compressed_answer_is_read(connect, packed):
    """Some proxies compress in spite of `Accept-Encoding: identity` (quay/quay#1310)."""
    with FakeRegistry(tls=True, auth="token") as registry:
        reference = _seeded(registry)
        encoding, pack = packed
        _token_answers(registry, pack(json.dumps({"token": GRANTED}).encode()), **{"Content-Encoding": encoding})
        assert connect(registry, login=True).document(reference).raw == APP.raw


def test_a_compressed_answer_is_bounded(connect):
    bomb = gzip.compress(b'{"token": "x"' + b" " * 30_000_000 + b"}")
    with FakeRegistry(tls=True, auth="token") as registry:
        _token_answers(registry, bomb, **{"Content-Encoding": "gzip"})
        with pytest.raises(RegistryRefusedError, match="without a token"):
            connect(registry).document(_seeded(registry))


# Errors.


@pytest.mark.parametrize("status", [429, *more([503])])
def test_retry_after_of_a_token_server_is_waited_for(connect, clock, status):
    """RFC 9110, 10.2.3. The pause is one of the token server's host: nothing is asked there before its end."""
    notes = []
    with FakeRegistry(tls=True, auth="token") as registry, FakeRegistry(auth="token") as tokens:
        registry.realm, registry.tokens = f"{tokens.url}/token", tokens.tokens
        reference = _seeded(registry)
        tokens.fault("GET", "/token", status=status, headers={"Retry-After": "40"})
        began = clock.clock.monotonic_s()
        client = connect(registry, login=True, notify=notes.append, insecure=frozenset({tokens.host}))
        assert client.document(reference).raw == APP.raw
        assert clock.clock.monotonic_s() - began >= 40
        assert f"{tokens.host} asked to wait 40 s" in notes


def test_retry_after_without_an_end_is_bounded(connect, clock):
    with FakeRegistry(tls=True, auth="token") as registry:
        reference = _seeded(registry)
        registry.fault("GET", "/token", status=503, headers={"Retry-After": "99999999"})
        began = clock.clock.monotonic_s()
        assert connect(registry, login=True).document(reference).raw == APP.raw
        assert 900 <= clock.clock.monotonic_s() - began < 1000


KINDS = {
    401: CredentialsRefusedError,
    404: RegistryRefusedError,  # a missing page of the token server is no missing image
    400: AuthenticationError,
    403: AuthenticationError,
}


@pytest.mark.parametrize("status", [401, 404, *more([400, 403])])
def test_an_error_names_the_token_server(connect, status):
    with FakeRegistry(tls=True, auth="token") as registry, FakeRegistry(auth="token") as tokens:
        registry.realm = f"{tokens.url}/token"
        tokens.fault("GET", "/token", times=9, status=status)
        with pytest.raises(RegistryError) as caught:
            connect(registry, login=True, insecure=frozenset({tokens.host})).document(_seeded(registry))
        assert type(caught.value) is KINDS[status]
        assert tokens.host in str(caught.value)
        assert registry.host in str(caught.value)


def test_a_compressed_error_of_a_token_server_is_read(connect):
    words = json.dumps({"errors": [{"code": "DENIED", "message": "no such right"}]}).encode()
    with FakeRegistry(tls=True, auth="token") as registry:
        headers = {"Content-Encoding": "gzip"}
        registry.fault("GET", "/token", times=9, status=403, body=gzip.compress(words), headers=headers)
        with pytest.raises(AuthenticationError, match=r"HTTP 403 DENIED \(no such right\)") as caught:
            connect(registry, login=True).document(_seeded(registry))
        assert caught.value.code == "DENIED"


def test_trouble_of_a_token_server_is_not_the_registrys(connect):
    with FakeRegistry(tls=True, auth="token") as registry, FakeRegistry(auth="token") as tokens:
        registry.realm = f"{tokens.url}/token"
        tokens.fault("GET", "/token", times=99, status=500)
        with pytest.raises(RegistryRefusedError) as caught:
            connect(registry, login=True, insecure=frozenset({tokens.host})).document(_seeded(registry))
        assert f"The token server {tokens.host} has trouble of its own" in caught.value.hint


def test_a_long_token_in_the_words_of_a_registry_is_redacted(connect):
    """Tokens have thousands of characters, and more than a message has: none of them may be left."""
    token = "a-long-token-" + "0123456789" * 300
    with FakeRegistry(auth="token") as registry:
        reference = _seeded(registry)
        _token_answers(registry, {"token": token})
        registry.tokens[token] = ({"org/app:pull"}, math.inf)
        body = json.dumps({"errors": [{"code": "DENIED", "message": f"refused: {token}"}]}).encode()
        client = connect(registry, login=True)
        client.document(reference)
        registry.fault("GET", "/manifests/", times=9, status=400, body=body)
        with pytest.raises(RegistryRefusedError, match=r"refused: \*\*\*") as caught:
            client.document(reference)
        assert "a-long-token" not in str(caught.value)


# Where passwords may go in the clear.


def test_insecure_is_for_the_host_that_was_named(connect):
    """`--insecure MIRROR` says nothing of a token server elsewhere; its host is named in the hint."""
    with FakeRegistry(auth="token") as registry, FakeRegistry(auth="token") as tokens:
        realm = tokens.url.replace("localhost", "127.0.0.1")
        registry.realm = f"{realm}/token"
        with pytest.raises(AuthenticationError, match="in the clear to http://127") as caught:
            connect(registry, login=True).document(_seeded(registry))
        assert f"--insecure {realm.removeprefix('http://')}" in caught.value.hint
        assert tokens.requests == []


def test_an_anonymous_token_may_come_from_any_host(connect):
    with FakeRegistry(auth="token") as registry, FakeRegistry(auth="token", anonymous=True) as tokens:
        registry.realm, registry.tokens = f"{tokens.url.replace('localhost', '127.0.0.1')}/token", tokens.tokens
        reference = _seeded(registry)
        assert connect(registry).document(reference).raw == APP.raw


def test_a_realm_in_http_at_the_registry_itself_is_asked_by_https(connect):
    """A registry behind a TLS proxy that does not pass X-Forwarded-Proto (moby/moby#38662)."""
    with FakeRegistry(tls=True, auth="token") as registry:
        reference = _seeded(registry)
        registry.realm = f"http://{registry.host}/token"
        assert connect(registry, login=True).document(reference).raw == APP.raw


def test_the_password_in_the_clear_ends_a_ping_at_once(connect, tmp_path):
    """Credentials of a namespace may be refused at `/v2/`, where none is named; this is no refusal of the registry."""
    with FakeRegistry(tls=True, auth="token") as registry, FakeRegistry(auth="token") as tokens:
        registry.realm = f"{tokens.url}/token"
        login = auth_file(tmp_path / "namespace.json", f"{registry.host}/org", USER, PASSWORD)
        with pytest.raises(AuthenticationError, match="in the clear"):
            connect(registry, authfile=login).ping(f"{registry.host}/org")
