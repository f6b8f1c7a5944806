from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from common.errors import UsageError
from common.log import SECRETS
from common.registry.credentials import MAX_FILE, Credential, Credentials
from common.registry.settings import RegistrySettings


def _auth(user, password):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def _write(path: Path, **content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _find(path, host, repository=""):
    return Credentials(RegistrySettings(authfile=path)).find(host, repository)


def test_search_order(tmp_path):
    places = [
        ("authfile", tmp_path / "flag.json"),
        ("variable", tmp_path / "variable.json"),
        ("runtime", tmp_path / "run/containers/auth.json"),
        ("config", tmp_path / "config/containers/auth.json"),
        ("docker", tmp_path / "home/.docker/config.json"),
    ]
    for name, path in places:
        _write(path, auths={"r.example": _auth(name, "password")})
    environ = {
        "REGISTRY_AUTH_FILE": str(places[1][1]),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "HOME": str(tmp_path / "home"),
    }
    settings = [RegistrySettings(authfile=places[0][1], environ=environ)]
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME"):
        settings.append(RegistrySettings(environ=dict(environ)))
        del environ[name]
    assert [Credentials(each).find("r.example").username for each in settings] == [name for name, _ in places]
    assert Credentials(RegistrySettings(environ=environ)).find("r.example") is None


def test_docker_config_variable(tmp_path):
    _write(tmp_path / "docker/config.json", auths={"r.example": _auth("a", "b")})
    assert Credentials(RegistrySettings(environ={"DOCKER_CONFIG": str(tmp_path / "docker")})).find("r.example") == Credential(
        "a", "b"
    )


@pytest.mark.parametrize(
    ("repository", "user"),
    [
        ("org/team/app", "team"),
        ("org/team", "team"),
        ("org/teamwork", "org"),
        ("org/app", "org"),
        ("other/app", "host"),
        ("", "host"),
    ],
)
def test_most_specific_namespace_first(tmp_path, repository, user):
    auths = {"r.example": _auth("host", "p"), "r.example/org/team": _auth("team", "p"), "r.example/org": _auth("org", "p")}
    assert _find(_write(tmp_path / "a.json", auths=auths), "r.example", repository).username == user


@pytest.mark.parametrize(
    "key",
    [
        "r.example:5000",
        "r.example:5000/",
        "https://r.example:5000",
        "http://r.example:5000/",
        "https://r.example:5000/v1/",
        "r.example:5000/v2/",
    ],
)
def test_spellings_of_a_key(tmp_path, key):
    path = _write(tmp_path / "a.json", auths={key: _auth("a", "b")})
    assert _find(path, "r.example:5000", "org/app") == Credential("a", "b")
    assert _find(path, "r.example", "org/app") is None


@pytest.mark.parametrize("key", ["docker.io", "https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"])
def test_names_of_docker_hub(tmp_path, key):
    assert _find(_write(tmp_path / "a.json", auths={key: _auth("a", "b")}), "docker.io", "library/x") == Credential("a", "b")


def test_password_with_colons_and_other_letters(tmp_path):
    path = _write(tmp_path / "a.json", auths={"r.example": _auth("ü", "a:b:ü")})
    assert _find(path, "r.example") == Credential("ü", "a:b:ü")


def test_empty_entries_are_skipped(tmp_path):
    path = _write(tmp_path / "a.json", auths={"r.example/org": {}, "r.example": _auth("a", "b"), "x.example": None})
    assert _find(path, "r.example", "org/app") == Credential("a", "b")
    assert _find(path, "x.example") is None


def test_tokens(tmp_path):
    path = _write(tmp_path / "a.json", auths={"i.example": {"identitytoken": "it"}, "r.example": {"registrytoken": "rt"}})
    assert _find(path, "i.example") == Credential(identity_token="it")
    assert _find(path, "r.example") == Credential(registry_token="rt")


def test_secrets_are_masked_from_then_on(tmp_path):
    path = _write(tmp_path / "a.json", auths={"r.example": _auth("a", "unguessable-1")})
    credential = _find(path, "r.example")
    assert "unguessable-1" not in SECRETS.mask("it is unguessable-1")
    assert credential.basic not in SECRETS.mask(f"sent {credential.basic}")
    assert "unguessable-1" not in repr(credential)


@pytest.mark.parametrize("auth", ["%%%", base64.b64encode(b"no-colon").decode(), base64.b64encode(b"\xff\xfe:").decode()])
def test_auth_that_cannot_be_read(tmp_path, auth):
    path = _write(tmp_path / "a.json", auths={"r.example": {"auth": auth}})
    with pytest.raises(UsageError) as caught:
        _find(path, "r.example")
    assert str(path) in str(caught.value)
    assert "r.example" in str(caught.value)
    assert auth not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": []}', '{"auths": {"a": {"auth": 1}}}', "[" * 100_000])
def test_broken_file(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"a\.json"):
        Credentials(RegistrySettings(authfile=path))


def test_empty_file_is_like_none(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"")
    assert _find(path, "r.example") is None


def test_file_without_end(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b" " * (MAX_FILE + 1))
    with pytest.raises(UsageError, match="larger than"):
        Credentials(RegistrySettings(authfile=path))


def test_named_file_must_be_there(tmp_path):
    with pytest.raises(UsageError, match="--authfile: no such file"):
        Credentials(RegistrySettings(authfile=tmp_path / "none"))
    with pytest.raises(UsageError, match="REGISTRY_AUTH_FILE: no such file"):
        Credentials(RegistrySettings(environ={"REGISTRY_AUTH_FILE": str(tmp_path / "none")}))


# Helpers.

HELPER = """#!/bin/sh
read key
case "$key" in
  r.example|https://index.docker.io/v1/) echo '{"Username": "from-helper", "Secret": "secret-1"}' ;;
  token.example) echo '{"Username": "<token>", "Secret": "identity-1"}' ;;
  empty.example) echo '{"Username": "", "Secret": ""}' ;;
  broken.example) echo 'oops' ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""


@pytest.fixture
def helper_environ(tmp_path):
    program = tmp_path / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    return {"PATH": str(program.parent)}


def _with_helper(tmp_path, environ, **content):
    return Credentials(RegistrySettings(authfile=_write(tmp_path / "a.json", **content), environ=environ))


def test_helper_of_a_registry(tmp_path, helper_environ):
    helpers = dict.fromkeys(("r.example", "token.example", "unknown.example", "empty.example", "broken.example"), "test")
    credentials = _with_helper(tmp_path, helper_environ, credHelpers=helpers, auths={"unknown.example": _auth("a", "b")})
    assert credentials.find("r.example") == Credential("from-helper", "secret-1")
    assert credentials.find("token.example") == Credential(identity_token="identity-1")
    assert credentials.find("unknown.example") == Credential("a", "b")
    assert credentials.find("empty.example") is None
    assert credentials.find("other.example") is None
    with pytest.raises(UsageError, match="no answer that makes sense"):
        credentials.find("broken.example")


def test_store_comes_after_entries(tmp_path, helper_environ):
    credentials = _with_helper(
        tmp_path, helper_environ, credsStore="test", auths={"mine.example": _auth("a", "b"), "r.example": {}}
    )
    assert credentials.find("mine.example") == Credential("a", "b")
    assert credentials.find("r.example") == Credential("from-helper", "secret-1")
    assert credentials.find("docker.io") == Credential("from-helper", "secret-1")
    assert credentials.find("other.example") is None


@pytest.mark.parametrize("name", ["missing", "../test", "a/b", ""])
def test_helper_that_is_not_there(tmp_path, helper_environ, name):
    with pytest.raises(UsageError, match="not installed"):
        _with_helper(tmp_path, helper_environ, credHelpers={"r.example": name}).find("r.example")


def test_without_a_session_roots_file_below_run_is_found(tmp_path):
    _write(tmp_path / f"run/containers/{os.getuid()}/auth.json", auths={"r.example": _auth("root", "password")})
    found = Credentials(RegistrySettings(system_root=tmp_path)).find("r.example")
    assert found is not None
    assert found.username == "root"
    session = RegistrySettings(system_root=tmp_path, environ={"XDG_RUNTIME_DIR": str(tmp_path / "elsewhere")})
    assert Credentials(session).find("r.example") is None
