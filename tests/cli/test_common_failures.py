"""The most common failures, as the person sees them: what, where, why, and what to do next, to the letter."""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime

import pytest

from tests.fakes.authorities import PrivateAuthority
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import PASSWORD, USER, FakeRegistry
from tests.fakes.servers import free_port

APP = image([random.Random(3).randbytes(20_000)])
LOGIN = "log in with hub-export login, hub-import login or podman login {host}, or pass --authfile."
NEXT = "  Nothing was written. What {code} means: docs/reference/problems.md; hub-export plan lists all.\n"
DENIED = b'{"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}'


@pytest.fixture
def mirror():
    """Give a function that starts a registry holding org/app:v1; they end with the test."""
    started = []

    def start(**options):
        registry = FakeRegistry(**options).__enter__()
        started.append(registry)
        registry.add_image("org/app", APP, tag="v1")
        return registry

    yield start
    for registry in started:
        registry.__exit__(None, None, None)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    output = tmp_path_factory.mktemp("common-failures") / "out"
    with FakeRegistry() as source:
        reference = source.add_image("org/app", APP, tag="v1")
        done = run("hub-export", "create", "--image", str(reference), "--insecure", source.host, "--output", output)
        assert done.status == 0, done.stderr
    return output


@pytest.fixture(params=["create", "push"])
def attempt(request, archive, tmp_path):
    """Give a function that runs a command against a host and returns what it said: `create` reads, `push` writes."""

    def create(host, *arguments, image="org/app:v1", **env):
        flags = ("--image", f"{host}/{image}", "--output", tmp_path / "out", "--progress", "none")
        return run("hub-export", "create", *flags, *arguments, env=env)

    def push(host, *arguments, **env):
        return run("hub-import", "push", archive, "--registry", host, "--progress", "none", *arguments, env=env)

    def act(host, *arguments, **env):
        done = {"create": create, "push": push}[request.param](host, *arguments, **env)
        assert not (tmp_path / "out").exists(), "a command that failed left its output directory behind"
        return done

    act.reads = request.param == "create"
    return act


def authfile(folder, host, password=PASSWORD):
    file = folder / "auth.json"
    file.write_text(json.dumps({"auths": {host: {"username": USER, "password": password}}}))
    return file


def said(done, attempt, host, why, hint, *, code="image-unreachable"):
    """Compare the whole of stderr: `create` asks for the manifest, `push` first of all whether there is a registry."""
    if attempt.reads:
        expected = f"error: {host}/org/app:v1: GET manifest at {host}: {why.rstrip('.')}. {hint}\n"
        expected += NEXT.format(code=code)
    else:
        expected = f"error: {host}: GET /v2/ at {host}: {why}\n  {hint}\n"
    assert (done.status, done.stderr, done.stdout) == (5, expected, "")


def test_unknown_host_name(attempt):
    host = "localhost.invalid"
    hint = "Check the spelling of localhost.invalid, and DNS on this machine."
    said(attempt(host), attempt, host, "unknown host name", hint)


def test_connection_refused(attempt):
    host = f"localhost:{free_port()}"
    hint = f"Is the registry running, and is the port of {host} right?"
    said(attempt(host), attempt, host, "connection refused", hint)


def test_certificate_not_trusted(attempt, mirror):
    """With the name of the issuer, as in the certificate (rfc4514): which file to look for."""
    registry = mirror(tls=True, authority=PrivateAuthority())
    host = registry.host
    why = "its certificate is not trusted: unable to get local issuer certificate (issued by CN=Site CA)"
    said(attempt(host), attempt, host, why, f"Add the CA with --ca FILE, or as certs.d/{host}/ca.crt.")


def test_certificate_for_another_name(attempt, mirror):
    registry = mirror(tls=True, certificate_for="mirror.example")
    why = "its certificate is for another name: Hostname mismatch, certificate is not valid for 'localhost'."
    said(attempt(registry.host, "--ca", registry.ca), attempt, registry.host, why, "Use the name in the certificate.")


def test_certificate_expired(attempt, mirror):
    registry = mirror(tls=True, certificate_until=datetime(2020, 1, 1, tzinfo=UTC))
    why, hint = "its certificate has expired", "Renew it, or set this machine's clock."
    said(attempt(registry.host, "--ca", registry.ca), attempt, registry.host, why, hint)


def test_a_content_network_behind_a_firewall(mirror, tmp_path):
    """The registry answers, and redirects to a host that does not (quay/quay-docs#149)."""
    registry, cdn = mirror(tls=True), f"localhost:{free_port()}"
    registry.fault("GET", "/blobs/", status=307, headers={"Location": f"https://{cdn}/signed"}, times=100)
    image_flags = ("--image", f"{registry.host}/org/app:v1", "--ca", registry.ca)
    done = run("hub-export", "create", *image_flags, "--output", tmp_path / "out", "--progress", "none")
    assert done.status == 5
    assert f"GET blob at {cdn}, to which {registry.host} redirects: connection refused" in done.stderr
    way = f"{registry.host} sends its clients there: DNS, firewall and proxy have to let this machine reach {cdn} too."
    assert f"{way} Then run the same command again: it continues where it stopped." in done.stderr


def test_plain_http_where_tls_was_expected(attempt, mirror):
    host = mirror().host
    hint = f"If it is meant to be plain HTTP, say --insecure {host}."
    said(attempt(host), attempt, host, "it does not speak TLS", hint)


def test_no_credentials(attempt, mirror):
    registry = mirror(tls=True, auth="basic")
    login = LOGIN.format(host=registry.host)
    hint = f"Repository org/app does not exist or you may not read it: {login}" if attempt.reads else f"L{login[1:]}"
    done = attempt(registry.host, "--ca", registry.ca)
    said(done, attempt, registry.host, "HTTP 401, and there are no credentials for it", hint, code="image-unauthorized")


def test_wrong_credentials(attempt, mirror, tmp_path):
    registry = mirror(tls=True, auth="basic")
    done = attempt(registry.host, "--ca", registry.ca, "--authfile", authfile(tmp_path, registry.host, "mistyped"))
    hint = f"The password is wrong or has expired: {LOGIN.format(host=registry.host)}"
    said(done, attempt, registry.host, "HTTP 401, the credentials were refused", hint, code="image-unauthorized")
    assert "mistyped" not in done.stderr


def test_proxy_that_is_not_there(attempt, mirror):
    registry = mirror(tls=True)
    done = attempt(registry.host, "--ca", registry.ca, HTTPS_PROXY=f"http://127.0.0.1:{free_port()}")
    said(done, attempt, registry.host, "the proxy does not answer", "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY.")
    assert not registry.log(), "nothing went past the proxy"


def test_insecure_is_warned_of_before_the_error(attempt, mirror):
    registry = mirror(auth="basic")
    done = attempt(registry.host, "--insecure", registry.host)
    warning, error = done.stderr.split("\n", 1)
    assert warning == f"WARNING {registry.host}: its identity is not verified (--insecure, or insecure in registries.conf)"
    assert error.startswith(f"error: {registry.host}")
    assert "HTTP 401, and there are no credentials for it" in error
    assert done.status == 5


# Reading alone.


def read(registry, folder, name, *arguments):
    flags = ("--image", f"{registry.host}/{name}", "--ca", registry.ca, "--output", folder / "out", "--progress", "none")
    return run("hub-export", "create", *flags, *arguments)


@pytest.mark.parametrize(
    ("name", "own_words", "advice"),
    [
        pytest.param(
            "org/typo:v1",
            "NAME_UNKNOWN (repository name not known to registry)",
            "Repository org/typo does not exist, or you may not read it: check the name, or ",
            id="repository",
        ),
        pytest.param(
            "org/app:v9",
            "MANIFEST_UNKNOWN (manifest unknown)",
            "Repository org/app does not have it, or you may not read it: check the name, or ",
            id="tag",
        ),
    ],
)
def test_what_is_not_there(mirror, tmp_path, name, own_words, advice):
    registry = mirror(tls=True)
    done = read(registry, tmp_path, name)
    expected = f"error: {registry.host}/{name}: GET manifest at {registry.host}: HTTP 404 {own_words}. {advice}"
    assert (done.status, done.stderr) == (
        5,
        f"{expected}{LOGIN.format(host=registry.host)}\n{NEXT.format(code='image-not-found')}",
    )


def test_what_is_not_allowed(mirror, tmp_path):
    registry = mirror(tls=True, auth="basic")
    registry.fault("GET", "/manifests/", status=403, body=DENIED, times=99)
    done = read(registry, tmp_path, "org/app:v1", "--authfile", authfile(tmp_path, registry.host))
    expected = (
        f"error: {registry.host}/org/app:v1: GET manifest at {registry.host}: "
        "HTTP 403 DENIED (requested access to the resource is denied). "
        f"Repository org/app does not exist or you may not read it: {LOGIN.format(host=registry.host)}\n"
        f"{NEXT.format(code='image-unauthorized')}"
    )
    assert (done.status, done.stderr) == (5, expected)


def test_registries_that_are_busy_or_broken_for_ever_cost_their_own_images_alone(mirror, tmp_path):
    busy, broken, well = mirror(), mirror(), mirror()
    busy.fault("GET", "/org/app/manifests/", status=429, headers={"Retry-After": "0"}, times=10_000)
    broken.fault("GET", "/org/app/manifests/", status=502, body=b"<html>bad gateway</html>", times=10_000)
    flags = [word for each in (busy, broken, well) for word in ("--image", f"{each.host}/org/app:v1", "--insecure", each.host)]
    command = ["create", *flags, "--output", tmp_path / "out", "--progress", "none", "--format", "json"]
    done = run("hub-export", *command, env={"HUB_REGISTRY_PATIENCE": "1"})
    assert done.status == 3, done.stderr
    told = {problem["subject"]: problem for problem in done.json["problems"]}
    limits = "The registry limits requests: log in for a higher limit, lower --jobs, or go on later."
    trouble = "The registry has trouble of its own: look at its log, then run again; what is done is kept."
    for registry, status, hint in ((busy, 429, limits), (broken, 502, trouble)):
        problem = told.pop(f"{registry.host}/org/app:v1")
        assert (problem["severity"], problem["message"]) == ("error", f"GET manifest at {registry.host}: HTTP {status}. {hint}")
    assert told == {}
    assert run("hub-import", "verify", tmp_path / "out").status == 0
    inventory = json.loads((tmp_path / "out/inventory.json").read_bytes())
    assert [each["source"] for each in inventory["images"] if each["complete"]] == [f"{well.host}/org/app:v1"]


# Writing alone.


def test_a_mirror_that_limits_the_size_of_a_body(archive):
    needed = json.loads((archive / "inventory.json").read_bytes())["images"][0]["source"]
    with FakeRegistry(tls=True, max_body=10) as empty:
        done = run(
            "hub-import", "push", archive, "--registry", empty.host, "--ca", empty.ca, "--progress", "none", "--jobs", "1"
        )
        host = empty.host
    assert (done.status, done.stderr) == (5, "")
    hint = "The registry, or a proxy before it, limits the size of a request: raise that limit."
    text = f"PATCH blob at {host}: HTTP 413; needed by {needed}. {hint}"
    # The form of the upload in which a blob was refused last: the second blob begins with what the first one taught.
    told = {re.sub("PUT blob", "PATCH blob", line) for line in done.stdout.splitlines() if line.startswith("error: ")}
    assert told == {f"error: {digest}: {host}/org/app@{digest}: {text} [push-failed]" for digest in APP.blobs}


def test_a_mirror_without_space(archive):
    """One problem for the registry, not one for each blob."""
    needed = json.loads((archive / "inventory.json").read_bytes())["images"][0]["source"]
    with FakeRegistry(tls=True) as empty:
        empty.fault("POST", "/blobs/uploads/", times=99, status=507)
        done = run("hub-import", "push", archive, "--registry", empty.host, "--ca", empty.ca, "--progress", "none")
        host = empty.host
    assert (done.status, done.stderr) == (5, "")
    (told,) = (line for line in done.stdout.splitlines() if line.startswith("error: "))
    first = next(digest for digest in APP.blobs if digest in told)
    hint = "The registry has no space left: make room there, then run again; what is done is kept."
    assert told.startswith(f"error: {host}: {host}/org/app@{first}: POST upload at {host}: HTTP 507")
    assert told.endswith(f"needed by {needed}. {hint} [push-failed]")


def test_a_mirror_where_the_account_may_not_write(archive):
    """One problem for the namespace, not one for each blob."""
    needed = json.loads((archive / "inventory.json").read_bytes())["images"][0]["source"]
    with FakeRegistry(tls=True) as empty:
        empty.fault("POST", "/blobs/uploads/", times=99, status=403, body=DENIED)
        done = run("hub-import", "push", archive, "--registry", empty.host, "--ca", empty.ca, "--progress", "none")
        host = empty.host
    assert (done.status, done.stderr) == (5, "")
    (told,) = (line for line in done.stdout.splitlines() if line.startswith("error: "))
    first = next(digest for digest in APP.blobs if digest in told)
    assert told == (
        f"error: {host}/org/app: {host}/org/app@{first}: POST upload at {host}: HTTP 403 DENIED (requested access to the resource "
        f"is denied); needed by {needed}. Repository org/app does not exist or you may not write to it: ask for the right to "
        f"write to it, or to create repositories in org; or {LOGIN.format(host=host)} [push-failed]"
    )
