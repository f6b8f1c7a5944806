from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import zstandard

from common.errors import AuthenticationError, RegistryRefusedError
from common.oci.image import Descriptor, digest_of
from tests.fakes.factories import image
from tests.fakes.registry import PASSWORD, USER, FakeRegistry
from tests.fakes.registry_profile import Refusal
from tests.unit.common.registry.conftest import auth_file

CONTENT = b"content" * 100_000


def _blob(content=CONTENT):
    return Descriptor("a/b", digest_of(content), len(content))


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_login_is_used(connect, auth):
    with FakeRegistry(tls=True, auth=auth) as registry:
        client = connect(registry, login=True)
        reference = registry.add_image("org/app", image(), tag="v1")
        client.ping(registry.host)
        assert client.document(reference).raw == image().raw
        client.upload(registry.reference("org/b"), _blob(), lambda start: iter([CONTENT[start:]]))
        assert registry.repositories["org/b"].blobs[_blob().digest] == CONTENT


def test_challenge_is_remembered(connect):
    with FakeRegistry(tls=True, auth="token") as registry:
        client = connect(registry, login=True)
        reference = registry.add_image("org/app", image(), tag="v1")
        for _ in range(3):
            client.document(reference)
        assert [r.status for r in registry.log("GET", "/manifests/")] == [401, 200, 200, 200]
        assert len(registry.log("GET", "/token")) == 1


def test_anonymous_token_reads_but_does_not_write(connect):
    with FakeRegistry(tls=True, auth="token", anonymous=True) as registry:
        client = connect(registry)
        reference = registry.add_image("org/app", image(), tag="v1")
        assert client.document(reference).raw == image().raw
        with pytest.raises(AuthenticationError) as caught:
            client.put_manifest(reference, image().raw, image().media_type)
        assert f"podman login {registry.host}" in str(caught.value)
        assert "may not write to it" in str(caught.value)
        assert "Authorization" not in registry.log("GET", "/token")[0].headers


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_no_credentials(connect, auth):
    with FakeRegistry(tls=True, auth=auth) as registry:
        with pytest.raises(AuthenticationError) as caught:
            connect(registry).document(registry.reference("org/app", "v1"))
        assert f"{registry.host}/org/app:v1" in str(caught.value)
        assert f"podman login {registry.host}" in str(caught.value)


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_wrong_password_fails_once_and_stays_secret(connect, auth, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with FakeRegistry(tls=True, auth=auth) as registry:
        client = connect(registry, authfile=auth_file(tmp_path / "a.json", registry.host, USER, "wr0ng-passw0rd"))
        with pytest.raises(AuthenticationError) as caught:
            client.document(registry.reference("org/app", "v1"))
        assert len(registry.log("GET", "/manifests/")) <= 2
    for secret in ("wr0ng-passw0rd", "Basic "):
        assert secret not in str(caught.value)
        assert secret not in caplog.text


def test_token_without_expiry_lives_sixty_seconds(connect, clock):
    with FakeRegistry(tls=True, auth="token", token_life_s=None) as registry:
        client = connect(registry, login=True)
        reference = registry.add_image("org/app", image(), tag="v1")
        client.document(reference)
        clock.advance(44)
        client.document(reference)
        assert len(registry.log("GET", "/token")) == 1
        clock.advance(2)
        client.document(reference)
        assert len(registry.log("GET", "/token")) == 2
        assert [r.status for r in registry.log("GET", "/manifests/")] == [401, 200, 200, 200]


def test_token_is_renewed_on_401_while_reading(connect):
    with FakeRegistry(tls=True, auth="token") as registry:
        client = connect(registry, login=True)
        reference = registry.add_image("org/app", image(), tag="v1")
        client.document(reference)
        registry.revoke_tokens()
        client.document(reference)
        assert [r.status for r in registry.log("GET", "/manifests/")] == [401, 200, 401, 200]


def test_token_is_renewed_at_the_closing_put_and_the_body_read_again(connect):
    opened = []

    def read(start):
        opened.append(start)
        yield CONTENT

    with FakeRegistry(tls=True, auth="token") as registry:
        client = connect(registry, login=True)
        registry.fault("PUT", "/blobs/uploads/", status=401, headers=_challenge(registry))
        client.upload(registry.reference("org/b"), _blob(), read)
        assert opened == [0, 0]
        assert [r.status for r in registry.log("PUT")] == [401, 201]
        assert len(registry.log("POST", "/blobs/")) == 2  # the first one learnt the challenge
        assert registry.log("PUT")[0].headers["Authorization"] != registry.log("PUT")[1].headers["Authorization"]


def _challenge(registry):
    return {"WWW-Authenticate": f'Bearer realm="{registry.url}/token",service="fake registry"'}


def test_a_fresh_token_that_is_refused_is_final(connect):
    with FakeRegistry(tls=True, auth="token") as registry:
        client = connect(registry, login=True)
        registry.fault("GET", "/manifests/", times=9, status=401, headers=_challenge(registry))
        with pytest.raises(AuthenticationError):
            client.document(registry.reference("org/app", "v1"))
        assert len(registry.log("GET", "/manifests/")) == 2


def test_403_is_never_renewed(connect):
    with FakeRegistry(tls=True, auth="token") as registry:
        client = connect(registry, login=True)
        body = json.dumps({"errors": [{"code": "DENIED", "message": "no"}]}).encode()
        registry.fault("GET", "/manifests/", times=9, status=403, body=body)
        with pytest.raises(AuthenticationError, match="DENIED"):
            client.document(registry.reference("org/app", "v1"))
        assert len(registry.log("GET", "/manifests/")) == 1


def test_scope_that_the_challenge_adds_comes_first(connect):
    with FakeRegistry(tls=True, auth="token") as registry:
        client = connect(registry, login=True)
        more = {"WWW-Authenticate": f'Bearer realm="{registry.url}/token",scope="repository:other/name:pull"'}
        registry.fault("GET", "/manifests/", status=401, headers=more)
        with pytest.raises(Exception, match="404"):
            client.document(registry.reference("org/app", "v1"))
        asked = [value for value in registry.log("GET", "/token")[0].query.values() if "repository:" in value]
        assert asked == ["repository:org/app:pull"]  # the last of two of that name
        # The token is for both: the request with it was let through.
        assert [r.status for r in registry.log("GET", "/manifests/")] == [401, 404]


def test_identity_token_is_traded(connect, tmp_path):
    with FakeRegistry(tls=True, auth="token") as registry:
        registry.identity_tokens.add("an-identity")
        path = tmp_path / "a.json"
        path.write_text(json.dumps({"auths": {registry.host: {"identitytoken": "an-identity"}}}))
        reference = registry.add_image("org/app", image(), tag="v1")
        assert connect(registry, authfile=path).document(reference).raw == image().raw
        assert b"grant_type=refresh_token" in registry.log("POST", "/token")[0].body


def test_registry_token_is_used_as_it_is(connect, tmp_path):
    with FakeRegistry(tls=True, auth="token") as registry:
        path = tmp_path / "a.json"
        path.write_text(json.dumps({"auths": {registry.host: {"registrytoken": "as-it-is"}}}))
        with pytest.raises(AuthenticationError):
            connect(registry, authfile=path).document(registry.reference("org/app", "v1"))
        assert registry.log("GET", "/manifests/")[-1].headers["Authorization"] == "Bearer as-it-is"


def test_401_without_a_challenge_is_answered_with_basic(connect):
    with FakeRegistry(tls=True) as registry:
        client = connect(registry, login=True)
        reference = registry.add_image("org/app", image(), tag="v1")
        registry.fault("GET", "/manifests/", status=401)
        assert client.document(reference).raw == image().raw
        assert registry.log("GET", "/manifests/")[1].headers["Authorization"].startswith("Basic ")


def test_password_is_not_sent_in_the_clear(connect):
    with FakeRegistry(tls=True, auth="token") as registry, FakeRegistry(auth="token") as plain:
        registry.realm = f"{plain.url}/token"
        with pytest.raises(AuthenticationError, match="in the clear"):
            connect(registry, login=True).document(registry.reference("org/app", "v1"))
        assert plain.requests == []


@pytest.mark.parametrize("realm", ["", "ftp://x/y", "nonsense", "http://[", "https://"])
def test_realm_that_is_no_url(connect, realm):
    with FakeRegistry(tls=True, auth="token") as registry:
        registry.fault("GET", "/manifests/", status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})
        with pytest.raises(RegistryRefusedError, match="which is no URL"):
            connect(registry).document(registry.reference("org/app", "v1"))


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b'{"token": "a\\nb"}', b'{"token": "x"' + b" " * 70_000 + b"}"])
def test_token_answer_that_makes_no_sense(connect, body):
    with FakeRegistry(tls=True, auth="token") as registry:
        registry.fault("GET", "/token", status=200, body=body)
        with pytest.raises(RegistryRefusedError, match="without a token"):
            connect(registry).document(registry.reference("org/app", "v1"))


def test_token_server_in_trouble_is_asked_again(connect):
    with FakeRegistry(tls=True, auth="token") as registry:
        reference = registry.add_image("org/app", image(), tag="v1")
        registry.fault("GET", "/token", times=2, status=503)
        assert connect(registry, login=True).document(reference).raw == image().raw


def test_mount_asks_for_both_repositories(connect):
    with FakeRegistry(tls=True, auth="token") as registry:
        client = connect(registry, login=True)
        registry.add_blob("org/a", CONTENT)
        client.upload(registry.reference("org/b"), _blob(), lambda _s: iter([CONTENT]), [registry.reference("org/a")])
        path = registry.log("GET", "/token")[0]
        assert path.query["service"] == "fake registry"
        granted = next(iter(registry.tokens.values()))[0]
        assert granted == {"org/b:pull", "org/b:push", "org/a:pull"}


def test_passwords_are_per_namespace(connect, tmp_path):
    with FakeRegistry(tls=True, auth="basic") as registry:
        registry.passwords["team"] = "team-password"
        path = tmp_path / "a.json"
        host = registry.host
        entries = {
            host: {"username": USER, "password": PASSWORD},
            f"{host}/team": {"username": "team", "password": "team-password"},
        }
        path.write_text(json.dumps({"auths": entries}))
        client = connect(registry, authfile=path)
        for name in ("org/app", "team/app"):
            client.document(registry.add_image(name, image(), tag="v1"))
        sent = {r.path.split("/")[2]: r.headers["Authorization"] for r in registry.log("GET", "/manifests/") if r.status == 200}
        assert sent["org"] != sent["team"]


def test_many_threads_fetch_one_token(connect):
    with FakeRegistry(tls=True, auth="token") as registry:
        client = connect(registry, login=True)
        reference = registry.add_image("org/app", image(), tag="v1")
        client.ping(registry.host)  # learns the challenge
        before = len(registry.log("GET", "/token"))
        with ThreadPoolExecutor(8) as pool:
            assert len(list(pool.map(lambda _: client.document(reference), range(24)))) == 24
        assert len(registry.log("GET", "/token")) == before + 1


def test_identity_token_that_is_refused(connect, tmp_path):
    with FakeRegistry(tls=True, auth="token") as registry:
        path = tmp_path / "a.json"
        path.write_text(json.dumps({"auths": {registry.host: {"identitytoken": "old-identity"}}}))
        registry.fault("POST", "/token", status=400, body=b'{"error": "invalid_grant"}')
        client = connect(registry, authfile=path)
        for _ in range(2):  # 400, then the fake's own 401
            with pytest.raises(AuthenticationError) as caught:
                client.document(registry.reference("org/app", "v1"))
            assert "old-identity" not in str(caught.value)


def test_a_credential_helper_is_asked_again_for_each_token(connect, clock, tmp_path):
    """Secrets of helpers can expire after an hour (docker/docker-credential-helpers, gcloud): a push takes longer."""
    folder = tmp_path / "bin"
    folder.mkdir()
    helper = folder / "docker-credential-test"
    helper.write_text('#!/bin/sh\ncat >/dev/null; cat "${0%/*}/answer"\n')
    helper.chmod(0o755)
    with FakeRegistry(tls=True, auth="token", token_life_s=None) as registry:
        (tmp_path / "auth.json").write_text(json.dumps({"credHelpers": {registry.host: "test"}}))
        environ = {"HOME": str(tmp_path), "PATH": f"{folder}:/usr/bin:/bin"}
        client = connect(registry, authfile=tmp_path / "auth.json", environ=environ)
        reference = registry.add_image("org/app", image(), tag="v1")
        for secret in ("first", "second"):
            registry.passwords = {"robot": secret}
            (folder / "answer").write_text(json.dumps({"Username": "robot", "Secret": secret}))
            assert client.document(reference).raw == image().raw
            clock.advance(46)  # a token without an expiry lives for 60 s, of which three quarters are used
        assert [r.status for r in registry.log("GET", "/token")] == [200, 200]


def test_an_answer_of_a_token_server_is_not_decompressed(connect):
    """Its realm is chosen by the registry: 64 KiB of zstd can be gigabytes."""
    bomb = zstandard.compress(b'{"token": "x"' + b" " * 50_000_000 + b"}")
    assert len(bomb) < 64 * 1024
    with FakeRegistry(tls=True, auth="token") as registry:
        registry.fault("GET", "/token", status=200, body=bomb, headers={"Content-Encoding": "zstd"})
        with pytest.raises(RegistryRefusedError, match="without a token"):
            connect(registry).document(registry.reference("org/app", "v1"))


# Accounts that a registry accepts, and repositories that they may not use (openshift/oc-mirror#590).


def test_an_account_that_was_accepted_is_not_called_refused(connect):
    with FakeRegistry(tls=True, auth="basic") as registry:
        registry.max_depth = 2
        registry.profile = replace(registry.profile, too_deep=Refusal(401))
        client = connect(registry, login=True)
        client.ping(registry.host)
        for _ in range(2):
            with pytest.raises(AuthenticationError) as caught:
                client.put_manifest(registry.reference("org/team/app", "v1"), image().raw, image().media_type)
            assert "credentials were refused" not in str(caught.value)
            assert "right to write to it" in caught.value.hint
            assert "3 components" in caught.value.hint
            assert "--max-path-components" in caught.value.hint
        with pytest.raises(AuthenticationError) as caught:
            client.document(registry.reference("org/team/app", "v1"))
        assert "--max-path-components" not in caught.value.hint, "nothing is written"


def test_a_token_server_that_gives_one_token_alone(connect):
    """As ghcr.io does: the second 401 is about the repository, as the first one was."""
    with FakeRegistry(tls=True, auth="token") as registry:
        registry.fault("GET", "/token", status=200, times=9, body=b'{"token": "the-same"}')
        client = connect(registry, login=True)
        for _ in range(2):
            with pytest.raises(AuthenticationError) as caught:
                client.document(registry.reference("org/app", "v1"))
            assert "credentials were refused" not in str(caught.value)
            assert "may not read it" in caught.value.hint


def test_a_wrong_password_is_called_refused_each_time(connect, tmp_path):
    with FakeRegistry(tls=True, auth="basic") as registry:
        client = connect(registry, authfile=auth_file(tmp_path / "a.json", registry.host, USER, "wrong"))
        for _ in range(2):
            with pytest.raises(AuthenticationError, match="the credentials were refused"):
                client.put_manifest(registry.reference("org/team/app", "v1"), image().raw, image().media_type)
