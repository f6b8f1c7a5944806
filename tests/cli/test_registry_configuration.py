"""Wrong settings for registries: the message names the file and the place, and says what was wanted; status 2."""

from __future__ import annotations

import base64
import json

import pytest
import trustme

from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry

HOST = "localhost.invalid"  # never asked: the settings are wrong before
HEAD = "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  additionalImages:\n"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    output = tmp_path_factory.mktemp("registry-configuration") / "out"
    with FakeRegistry() as source:
        reference = source.add_image("org/app", image(), tag="v1")
        done = run("hub-export", "create", "--image", str(reference), "--insecure", source.host, "--output", output)
        assert done.status == 0, done.stderr
    return output


@pytest.fixture(params=["create", "push"])
def attempt(request, archive, tmp_path):
    """Give a function that runs a command with settings; it must not have begun anything."""

    def act(*arguments, host=HOST, **env):
        commands = {
            "create": ("hub-export", "create", "--image", f"{host}/org/app:v1", "--output", tmp_path / "out"),
            "push": ("hub-import", "push", archive, "--registry", host),
        }
        done = run(*commands[request.param], "--progress", "none", *arguments, env=env)
        assert not (tmp_path / "out").exists()
        return done

    return act


def refused(done, *words):
    assert done.status == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: "), done.stderr
    assert len(lines) == 2, "what is wrong, and what to do"
    for word in words:
        assert str(word) in done.stderr


def written(folder, name, content):
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param('{"auths": {\n  "a.example": }\n}', ("JSON is malformed", "byte 27"), id="not JSON"),
        pytest.param('{"auths": {"a.example": {"auth": "YTpi"}', ("truncated",), id="cut off"),
        pytest.param("[]", ("Expected `object`, got `array`",), id="a list"),
        pytest.param('{"auths": []}', ("$.auths", "Expected `object`, got `array`"), id="auths a list"),
        pytest.param('{"auths": {"a.example": "YTpi"}}', ("$.auths[", "Expected `object", "got `str`"), id="entry a text"),
        pytest.param('{"auths": {"a.example": {"auth": 7}}}', ("].auth`", "Expected `str`, got `int`"), id="auth a number"),
        pytest.param('{"credHelpers": {"a.example": true}}', ("$.credHelpers[", "Expected `str`"), id="helper no text"),
    ],
)
def test_broken_auth_json(attempt, tmp_path, content, words):
    file = written(tmp_path, "auth.json", content)
    refused(attempt("--authfile", file), f"error: {file}: ", *words, "Wanted: ", "podman login", "--authfile")
    refused(attempt(REGISTRY_AUTH_FILE=str(file)), f"error: {file}: ", *words)


@pytest.mark.parametrize("auth", ["%%%", base64.b64encode(b"no colon").decode(), base64.b64encode(b"\xff:\xfe").decode()])
def test_auth_that_is_no_user_and_password(attempt, tmp_path, auth):
    with FakeRegistry(tls=True, auth="basic") as registry:
        content = {"auths": {registry.host: {"auth": auth}, "other.example": {"auth": "?"}}}  # the other is not asked for
        file = written(tmp_path, "auth.json", json.dumps(content))
        done = attempt("--authfile", file, "--ca", registry.ca, host=registry.host)
        refused(done, f"{file}: auths['{registry.host}']", "auth is not base64 of user:password", "podman login")
    assert auth not in done.stderr


def test_authfile_that_is_not_there(attempt, tmp_path):
    missing = tmp_path / "none.json"
    refused(attempt("--authfile", missing), f"error: --authfile: no such file: {missing}", "podman login --authfile")
    refused(attempt(REGISTRY_AUTH_FILE=str(missing)), f"error: REGISTRY_AUTH_FILE: no such file: {missing}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(
            '[[registry]]\nprefix = "a.example"\n[[registry]]\nprefix = "quay.io"\nblockd = true\n',
            ("[[registry]] number 2 (prefix 'quay.io')", "unknown key 'blockd'", "blocked"),
            id="unknown key",
        ),
        pytest.param(
            '[[registry]]\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "a.example"\ninsecur = true\n',
            ("[[registry]] number 1 (prefix 'quay.io')", "[[registry.mirror]] number 1", "unknown key 'insecur'", "insecure"),
            id="unknown key of a mirror",
        ),
        pytest.param(
            '[registries.search]\nregistries = ["quay.io"]\n', ("version 1", "[registries]", "[[registry]]"), id="version 1"
        ),
        pytest.param('[[registry]]\nprefix = "quay.io\n', ("line 2, column 18", "Wanted: TOML"), id="not TOML"),
        pytest.param("[[registry]\n", ("line 1", "Wanted: TOML"), id="bracket missing"),
        pytest.param(
            '[[registry]]\nprefix = "quay.io"\nblocked = "yes"\n', ("registry[0].blocked", "Expected `bool`"), id="wrong type"
        ),
        pytest.param('[registry]\nprefix = "quay.io"\n', ("$.registry", "Expected `array`"), id="single brackets"),
        pytest.param('registry = "quay.io"\n', ("$.registry", "Expected `array`"), id="a text"),
        pytest.param("[[registry]]\ninsecure = true\n", ("[[registry]] with prefix ''", "Wanted: host"), id="no prefix"),
        pytest.param(
            '[[registry]]\nprefix = "quay.io"\nlocation = "https://a.example"\n',
            ("not a location: 'https://a.example'", "Wanted: host[:port][/path]"),
            id="a URL as location",
        ),
        pytest.param(b"# \xff\n", ("byte 0xff in position 2", "Wanted: TOML"), id="not UTF-8"),
    ],
)
def test_broken_registries_conf(attempt, tmp_path, content, words):
    file = written(tmp_path, "registries.conf", content)
    refused(attempt("--registries-conf", file), f"error: {file}: ", *words)
    refused(attempt(CONTAINERS_REGISTRIES_CONF=str(file)), f"error: {file}: ", *words)


def test_registries_conf_that_is_not_there(attempt, tmp_path):
    refused(attempt("--registries-conf", tmp_path / "none"), f"no such registries.conf: {tmp_path / 'none'}")


@pytest.mark.parametrize(
    "content", ["hello", "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\x30\x82"]
)
def test_authority_that_is_no_pem(attempt, tmp_path, content):
    file = written(tmp_path, "ca.pem", content)
    refused(attempt("--ca", file), f"error: {file}: not a certificate authority", "Wanted: certificates in PEM")


def test_authority_that_is_not_there_or_a_folder(attempt, tmp_path):
    refused(attempt("--ca", tmp_path / "none"), f"error: {tmp_path / 'none'}: ", "No such file or directory")
    refused(attempt("--ca", tmp_path), f"error: {tmp_path}: ", "Is a directory")


@pytest.fixture
def certificates(tmp_path):
    folder = tmp_path / "home/.config/containers/certs.d" / HOST
    folder.mkdir(parents=True)
    return folder


def test_client_certificate_without_its_key(attempt, certificates, tmp_path):
    issued = trustme.CA().issue_cert("client.example")
    issued.cert_chain_pems[0].write_to_path(str(certificates / "client.cert"))
    refused(
        attempt(HOME=str(tmp_path / "home")), f"error: {certificates}/client.cert: ", "no client.key", "Put the client's key"
    )


def test_client_certificate_with_another_key_or_none_at_all(attempt, certificates, tmp_path):
    authority = trustme.CA()
    authority.issue_cert("client.example").cert_chain_pems[0].write_to_path(str(certificates / "client.cert"))
    key = certificates / "client.key"
    other = authority.issue_cert("other.example").private_key_pem.bytes()
    for content in (b"nonsense", other):
        key.write_bytes(content)
        refused(attempt(HOME=str(tmp_path / "home")), f"{certificates}/client.cert", str(key), "Wanted: PEM")


def test_authority_in_certs_d_that_is_no_pem(attempt, certificates, tmp_path):
    file = written(certificates, "ca.crt", "nonsense")
    refused(attempt(HOME=str(tmp_path / "home")), f"error: {file}: not a certificate authority")


REFERENCES = [
    pytest.param("a.invalid/org/my app:v1", "'org/my app' is no repository path", id="space in the repository"),
    pytest.param("a.invalid/org/app:v 1", "'v 1' is no tag", id="space in the tag"),
    pytest.param("a.invalid/Org/App:v1", "a repository has no upper-case letters", id="upper case"),
    pytest.param("https://a.invalid/org/app:v1", "https:// is no host name", id="a URL"),
    pytest.param("a.invalid/org/app:", "'' is no tag", id="colon without a tag"),
    pytest.param("a.invalid/org/app@sha256:12", "not a digest: 'sha256:12'", id="short digest"),
]


@pytest.mark.parametrize(("reference", "why"), [*REFERENCES, ("", ""), ("a.invalid/org/app:v1 ", "'v1 ' is no tag")])
def test_reference_on_the_command_line(tmp_path, reference, why):
    done = run("hub-export", "create", "--image", reference, "--output", tmp_path / "out")
    refused(done, f"not an image reference: {reference!r}: {why}", "Wanted: registry/repository[:tag][@sha256:digest]")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("reference", "why"), REFERENCES)
def test_reference_in_an_image_set(tmp_path, reference, why):
    file = written(tmp_path, "set.yaml", f"{HEAD}  - name: a.invalid/org/good:v1\n  - name: {reference!r}\n")
    done = run("hub-export", "create", file, "--output", tmp_path / "out")
    refused(done, f"error: {file}:6", repr(reference), why)


@pytest.mark.parametrize(
    "registry", ["a.invalid/my prefix", "a.invalid/Prefix", "A_.example", "https://a.invalid", "a.invalid:port", ""]
)
def test_registry_on_the_command_line(archive, registry):
    done = run("hub-import", "push", archive, "--registry", registry)
    refused(done, f"not a registry: {registry!r}", "Wanted: HOST[:PORT][/PREFIX]")
