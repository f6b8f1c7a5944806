from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from common.errors import UsageError
from common.log import SECRETS
from common.registry.auth_file import MAX_FILE
from common.registry.credentials import Credential, Credentials
from common.registry.settings import RegistrySettings
from common.serialization import dump_yaml
from importer.cluster.trust import pull_credential
from tests.samples import more


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


# Forms of files.

ENTRY = _auth("a", "p:w")
AUTHS = {"auths": {"r.example": ENTRY}}
PACKED = base64.b64encode(json.dumps(AUTHS).encode()).decode()
BARE = base64.b64encode(json.dumps(AUTHS["auths"]).encode()).decode()
SECRET = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", *more(["utf-8"])])
def test_encodings_of_windows(tmp_path, encoding):
    """Notepad and PowerShell write byte order marks (moby/moby#44790)."""
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(AUTHS).replace("\n", "\r\n").encode(encoding))
    assert _find(path, "r.example") == Credential("a", "p:w")


def test_utf_16_that_is_none(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(UsageError, match="UTF-16"):
        _find(path, "r.example")


@pytest.mark.parametrize("wrapping", ["\n", *more(["\r\n", " ", "\n  \t"])])
def test_wrapped_base64(tmp_path, wrapping):
    auth = ENTRY["auth"]
    path = _write(tmp_path / "a.json", auths={"r.example": {"auth": f"{auth[:3]}{wrapping}{auth[3:]}{wrapping}"}})
    assert _find(path, "r.example") == Credential("a", "p:w")


FORMS = {
    "bare": AUTHS["auths"],  # .dockercfg (GoogleContainerTools/jib#2260)
    "bare with passwords": {"r.example": {"username": "a", "password": "p:w", "email": "x@example.org"}},
    "secret": {**SECRET, "data": {".dockerconfigjson": PACKED}},
    "secret, wrapped": {**SECRET, "data": {".dockerconfigjson": f"{PACKED[:20]}\n{PACKED[20:]}\n"}},
    "secret, text": {**SECRET, "data": None, "stringData": {".dockerconfigjson": json.dumps(AUTHS)}},
    "secret, both": {**SECRET, "data": {".dockerconfigjson": "!"}, "stringData": {".dockerconfigjson": json.dumps(AUTHS)}},
    "secret, old": {"kind": "Secret", "type": "kubernetes.io/dockercfg", "data": {".dockercfg": BARE}},
    "data of a secret": {".dockerconfigjson": PACKED},
    "list": {
        "kind": "List",
        "items": [{**SECRET, "data": {".dockerconfigjson": PACKED}}, {"kind": "Secret", "data": {"a": "b"}}],
    },
    "nulls": {"auths": {"r.example": {**ENTRY, "identitytoken": None}}, "credHelpers": None, "credsStore": None},
}


@pytest.mark.parametrize("form", ["bare", "secret", "nulls", *more(sorted(FORMS.keys() - {"bare", "secret", "nulls"}))])
def test_forms(tmp_path, form):
    assert _find(_write(tmp_path / "a.json", **FORMS[form]), "r.example") == Credential("a", "p:w")


@pytest.mark.parametrize("form", ["secret", *more(["secret, text", "secret, wrapped", "list"])])
def test_a_secret_in_yaml(tmp_path, form):
    path = tmp_path / "secret.yaml"
    path.write_text(f"# kept\n---\n{dump_yaml(FORMS[form])}")
    assert _find(path, "r.example") == Credential("a", "p:w")


TWO = {"kind": "List", "items": [FORMS["secret"], FORMS["secret"]]}
WITHOUT = {**SECRET, "data": {"password": "eA=="}}


@pytest.mark.parametrize("content", [WITHOUT, TWO, {**SECRET, "data": {".dockerconfigjson": "%%%"}}])
def test_a_secret_that_cannot_be_used_names_the_command_that_helps(tmp_path, content):
    with pytest.raises(UsageError) as caught:
        _find(_write(tmp_path / "a.json", **content), "r.example")
    assert "oc extract" in caught.value.hint
    assert "eA==" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["kind: Secrets", "a: [", "just text", *more(["- 1", "a: &a [*a]", "kind: Secret\nkind: Secret"])]
)
def test_yaml_that_is_no_secret(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"a\.json: JSON is malformed") as caught:
        _find(path, "r.example")
    assert "podman login" in caught.value.hint


def test_settings_of_docker_are_no_registries(tmp_path):
    path = _write(tmp_path / "a.json", HttpHeaders={"User-Agent": "x"}, credsStore="missing", psFormat="{{.ID}}")
    with pytest.raises(UsageError, match="docker-credential-missing"):
        _find(path, "r.example")


@pytest.mark.parametrize(
    "key", ["R.Example:5000", "HTTPS://R.EXAMPLE:5000/v1/", *more(["r.EXAMPLE:5000/", "Http://r.example:5000"])]
)
def test_hosts_have_no_case(tmp_path, key):
    path = _write(tmp_path / "a.json", auths={key: ENTRY})
    assert _find(path, "r.example:5000", "org/app") == _find(path, "R.EXAMPLE:5000") == Credential("a", "p:w")


def test_namespaces_of_a_host_in_another_case(tmp_path):
    path = _write(tmp_path / "a.json", auths={"R.Example/org": ENTRY})
    assert _find(path, "r.example", "org/app") == Credential("a", "p:w")
    assert Credentials(RegistrySettings(authfile=path)).of_namespaces("r.EXAMPLE", "org")


@pytest.mark.parametrize(
    "key",
    ["https://index.docker.io/v1/", "Index.Docker.io/v1", *more(["registry-1.docker.io/v2/", "http://docker.io", "DOCKER.IO"])],
)
def test_spellings_of_docker_hub(tmp_path, key):
    """moby, registry/config.go: IndexServer; an empty entry in another spelling hides nothing."""
    path = _write(tmp_path / "a.json", auths={"index.docker.io": {}, key: ENTRY})
    assert _find(path, "docker.io", "library/x") == Credential("a", "p:w")


def test_the_plain_spelling_counts_before_others(tmp_path):
    auths = {"https://r.example/v1/": _auth("old", "p"), "r.example": _auth("plain", "p"), "R.EXAMPLE": _auth("other", "p")}
    assert _find(_write(tmp_path / "a.json", auths=auths), "r.example").username == "plain"


def test_dockercfg_comes_last(tmp_path):
    _write(tmp_path / ".dockercfg", **{"r.example": _auth("old", "p"), "s.example": _auth("old", "p")})
    _write(tmp_path / ".docker/config.json", auths={"r.example": _auth("new", "p")})
    credentials = Credentials(RegistrySettings(environ={"HOME": str(tmp_path)}))
    assert [credentials.find(host).username for host in ("r.example", "s.example")] == ["new", "old"]


def test_other_forms_by_the_variable_and_for_the_cluster(tmp_path):
    path = _write(tmp_path / "pull-secret.json", **FORMS["secret"])
    found = Credentials(RegistrySettings(environ={"REGISTRY_AUTH_FILE": str(path)})).find("r.example")
    assert found == Credential("a", "p:w")
    assert pull_credential(path, "R.example", "org") == ENTRY["auth"]


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


def test_a_helper_of_a_registry_in_another_case(tmp_path, helper_environ):
    """The helper gets the name that the file has: it may keep the secret under that alone."""
    found = _with_helper(tmp_path, helper_environ, credHelpers={"r.example": "test"}).find("R.EXAMPLE")
    assert found == Credential("from-helper", "secret-1")


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
