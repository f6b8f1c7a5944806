"""Logins into files as they are: what else is in them stays, in a form that their readers understand."""

from __future__ import annotations

import base64
import json

import pytest

from common.errors import AuthenticationError, CredentialsRefusedError, UsageError
from common.registry.credentials import Credential, Credentials
from common.registry.login import login
from common.registry.settings import RegistrySettings
from tests.fakes.registry import PASSWORD, USER, FakeRegistry, Quay
from tests.samples import more

OTHER = {"auth": base64.b64encode(b"other:secret").decode()}
ACCOUNT = Credential(USER, PASSWORD)
WRITTEN = {"auth": ACCOUNT.basic}


def _settings(registry, path, **more_settings):
    return RegistrySettings(authfile=path, insecure=frozenset({registry.host}), **more_settings)


@pytest.fixture(name="registry")
def _registry():
    with FakeRegistry(auth="basic") as registry:
        yield registry


@pytest.mark.parametrize("encoding", ["utf-16", *more(["utf-8-sig"])])
def test_a_file_of_windows(tmp_path, registry, encoding):
    """moby/moby#44790; podman reads UTF-8 without a byte order mark."""
    path = tmp_path / "auth.json"
    document = {"auths": {"o.example": OTHER, "w.example": {"auth": f"{OTHER['auth'][:4]}\n{OTHER['auth'][4:]}"}}, "kept": [1]}
    path.write_bytes(json.dumps(document).encode(encoding))
    login(_settings(registry, path), registry.host, ACCOUNT)
    document["auths"][registry.host] = WRITTEN
    assert json.loads(path.read_bytes()) == document
    assert not path.read_bytes().startswith(b"\xef")


def test_the_old_form_under_another_name_becomes_the_new_one(tmp_path, registry):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"o.example": OTHER, "kept": "x"}))
    login(_settings(registry, path), registry.host, ACCOUNT)
    assert json.loads(path.read_text()) == {"auths": {"o.example": OTHER, registry.host: WRITTEN}, "kept": "x"}


def test_the_old_form_stays_under_its_own_name(tmp_path, registry):
    path = tmp_path / ".dockercfg"
    path.write_text(json.dumps({"o.example": OTHER}))
    login(_settings(registry, path), registry.host, ACCOUNT)
    assert json.loads(path.read_text()) == {"o.example": OTHER, registry.host: WRITTEN}
    assert Credentials(_settings(registry, path)).find(registry.host) == ACCOUNT


def test_null_is_no_entry(tmp_path, registry):
    path = tmp_path / "auth.json"
    path.write_text('{"auths": null, "credHelpers": null}')
    login(_settings(registry, path), registry.host, ACCOUNT)
    assert json.loads(path.read_text())["auths"] == {registry.host: WRITTEN}


def test_a_secret_stays_as_it_is(tmp_path, registry):
    path = tmp_path / "secret.json"
    raw = json.dumps({"kind": "Secret", "stringData": {".dockerconfigjson": json.dumps({"auths": {"o.example": OTHER}})}})
    path.write_text(raw)
    with pytest.raises(UsageError, match="into which no login is written") as caught:
        login(_settings(registry, path), registry.host, ACCOUNT)
    assert "oc extract" in caught.value.hint
    assert path.read_text() == raw
    assert registry.requests == []


HELPER = '#!/bin/sh\ncat >"${0%/*}/$1"\n'


@pytest.mark.parametrize("field", ["credHelpers", *more(["credsStore"])])
def test_a_helper_keeps_the_name_that_it_is_asked_for(tmp_path, registry, field):
    program = tmp_path / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    path = tmp_path / "auth.json"
    name = registry.host.upper()
    path.write_text(json.dumps({field: {name: "test"} if field == "credHelpers" else "test"}))
    login(_settings(registry, path, environ={"PATH": f"{program.parent}:/usr/bin:/bin"}), registry.host, ACCOUNT)
    kept = json.loads((program.parent / "store").read_text())
    assert kept["ServerURL"] == (name if field == "credHelpers" else registry.host)


# Accounts for a namespace, which `/v2/` alone refuses (podman-container-tools/skopeo#1104).


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_an_account_of_a_namespace(tmp_path, auth):
    path = tmp_path / "auth.json"
    with FakeRegistry(auth=auth) as registry:
        registry.passwords = {"org+robot": "secret"}
        registry.quay = Quay({"org"}, only_in={"org+robot": "org"}, needs_repository=True)
        robot = Credential("org+robot", "secret")
        with pytest.raises(AuthenticationError):
            login(_settings(registry, path), f"{registry.host}/org", Credential("org+robot", "wrong"))
        with pytest.raises(AuthenticationError):
            login(_settings(registry, path), registry.host, robot)
        assert not path.exists()
        login(_settings(registry, path), f"{registry.host}/org", robot)
        assert json.loads(path.read_text())["auths"] == {f"{registry.host}/org": {"auth": robot.basic}}
        assert dict(registry.repositories) == {}


def test_a_wrong_password_is_asked_once(tmp_path):
    with FakeRegistry(auth="token") as registry:
        with pytest.raises(CredentialsRefusedError):
            login(_settings(registry, tmp_path / "auth.json"), f"{registry.host}/org", Credential(USER, "wrong"))
        assert len(registry.log("GET", "/token")) == 1
