"""The failures that people meet most: each message says what, where, why and what next. The whole text is pinned."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import PASSWORD, USER, FakeRegistry
from tests.fakes.servers import free_port

APP = image()
DENIED = b'{"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}'
INSECURE = "WARNING {host}: its identity is not verified (--insecure, or insecure in registries.conf)\n"


def create(tmp_path, host, *arguments, env=None, name="org/app:v1"):
    chosen = ("--image", f"{host}/{name}", "--output", tmp_path / "out", "--progress", "none")
    return run("hub-export", "create", *chosen, *arguments, env=env)


def says(done, host, text, status=5, *, insecure=True):
    warning = INSECURE.format(host=host) if insecure else ""
    assert done.stderr == f"{warning}error: {text.format(host=host)}\n"
    assert done.status == status


def auth(tmp_path, host, password=PASSWORD):
    entry = {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {host: entry}}))
    return tmp_path / "auth.json"


@pytest.fixture
def registry():
    with FakeRegistry() as started:
        started.add_image("org/app", APP, tag="v1")
        yield started


def test_unknown_host(tmp_path):
    says(
        create(tmp_path, "registry.invalid"),
        "registry.invalid",
        "{host}/org/app:v1: GET manifest at {host}: unknown host name. Check the spelling of {host}, and DNS on this machine.",
        insecure=False,
    )


def test_connection_refused(tmp_path):
    host = f"localhost:{free_port()}"
    says(
        create(tmp_path, host),
        host,
        "{host}/org/app:v1: GET manifest at {host}: connection refused. Is the registry running, and is the port of {host} right?",
        insecure=False,
    )


@pytest.mark.parametrize(
    ("options", "trusted", "why"),
    [
        (
            {},
            False,
            (
                "its certificate is not trusted: unable to get local issuer certificate. "
                "Add the CA with --ca FILE, or as certs.d/{host}/ca.crt."
            ),
        ),
        (
            {"certificate_for": "other.example"},
            True,
            (
                "its certificate is for another name: Hostname mismatch, certificate is not valid for 'localhost'. "
                "Use the name in the certificate."
            ),
        ),
        (
            {"certificate_until": datetime(2020, 1, 1, tzinfo=UTC)},
            True,
            "its certificate: certificate has expired. Renew it, or set this machine's clock.",
        ),
    ],
)
def test_certificates(tmp_path, options, trusted, why):
    with FakeRegistry(tls=True, **options) as registry:
        done = create(tmp_path, registry.host, *(["--ca", registry.ca] if trusted else []))
        says(done, registry.host, f"{{host}}/org/app:v1: GET manifest at {{host}}: {why}", insecure=False)


def test_plain_http(tmp_path, registry):
    says(
        create(tmp_path, registry.host),
        registry.host,
        "{host}/org/app:v1: GET manifest at {host}: it does not speak TLS. "
        "If it is meant to be plain HTTP, say --insecure {host}.",
        insecure=False,
    )


def test_no_credentials_and_wrong_credentials(tmp_path, registry):
    registry.auth = "basic"
    says(
        create(tmp_path, registry.host, "--insecure", registry.host),
        registry.host,
        "{host}/org/app:v1: GET manifest at {host}: HTTP 401, and there are no credentials for it. "
        "Repository org/app does not exist or you may not read it: log in with podman login {host}, or pass --authfile.",
    )
    says(
        create(tmp_path, registry.host, "--insecure", registry.host, "-a", auth(tmp_path, registry.host, "another")),
        registry.host,
        "{host}/org/app:v1: GET manifest at {host}: HTTP 401, the credentials were refused. "
        "Log in again with podman login {host}, or pass --authfile.",
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("org/app:v2", "HTTP 404 MANIFEST_UNKNOWN (manifest unknown). Repository org/app does not have it"),
        ("org/ap:v1", "HTTP 404 NAME_UNKNOWN (repository name not known to registry). Repository org/ap does not exist"),
    ],
)
def test_an_image_that_is_not_there(tmp_path, registry, name, why):
    says(
        create(tmp_path, registry.host, "--insecure", registry.host, name=name),
        registry.host,
        f"{{host}}/{name}: GET manifest at {{host}}: {why}, or you may not read it: check the name, "
        "or log in with podman login {host}, or pass --authfile.",
    )


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (
            {"status": 403, "body": DENIED},
            (
                "HTTP 403 DENIED (requested access to the resource is denied). "
                "Repository org/app does not exist or you may not read it: log in with podman login {host}, or pass --authfile."
            ),
        ),
        (
            {"status": 429, "headers": {"Retry-After": "0"}},
            "HTTP 429. The registry limits requests: log in for a higher limit, lower --jobs, or go on later.",
        ),
        (
            {"status": 502, "body": b"<html>bad gateway</html>"},
            "HTTP 502. The registry has trouble of its own: look at its log, then run again; what is done is kept.",
        ),
    ],
)
def test_a_registry_that_refuses(tmp_path, registry, fault, why):
    registry.fault("GET", "/manifests/", times=99, **fault)
    done = create(tmp_path, registry.host, "--insecure", registry.host)
    says(done, registry.host, f"{{host}}/org/app:v1: GET manifest at {{host}}: {why}")


def test_a_proxy_that_is_not_there(tmp_path):
    says(
        create(tmp_path, "localhost:1", env={"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"}),
        "localhost:1",
        "{host}/org/app:v1: GET manifest at {host}: the proxy does not answer. Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY.",
        insecure=False,
    )


@pytest.fixture
def archive(tmp_path, registry):
    assert create(tmp_path, registry.host, "--insecure", registry.host, "--signatures", "ignore").status == 0
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("options", "fault", "why"),
    [
        (
            {"max_body": 10},
            {},
            (
                "PATCH blob at {host}: HTTP 413; needed by {source}. "
                "The registry, or a proxy before it, limits the size of a request: raise that limit."
            ),
        ),
        (
            {},
            {"status": 507},
            (
                "POST upload at {host}: HTTP 507; needed by {source}. "
                "The registry has no space left: make room there, then run again; what is done is kept."
            ),
        ),
        (
            {},
            {"status": 403, "body": DENIED},
            (
                "POST upload at {host}: HTTP 403 DENIED (requested access to the resource is denied); needed by {source}. "
                "Repository org/app does not exist or you may not write to it: log in with podman login {host}, or pass --authfile."
            ),
        ),
    ],
)
def test_a_mirror_that_refuses(archive, registry, options, fault, why):
    with FakeRegistry(**options) as mirror:
        if fault:
            mirror.fault("POST", "/blobs/uploads/", times=99, **fault)
        done = run("hub-import", "push", archive, "--registry", mirror.host, "--insecure", mirror.host, "--progress", "none")
        assert done.status == 5
        text = why.format(host=mirror.host, source=f"{registry.host}/org/app:v1")
        for digest in APP.blobs:
            assert f"error: {digest}: {mirror.host}/org/app@{digest}: {text} [push-failed]\n" in done.stdout


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("basic", "HTTP 401, and there are no credentials for it\n  Log in with podman login {host}, or pass --authfile."),
        (None, "it does not speak TLS\n  If it is meant to be plain HTTP, say --insecure {host}."),
    ],
)
def test_a_mirror_that_cannot_be_used_is_told_before_the_first_byte(archive, setting, text):
    with FakeRegistry(auth=setting) as mirror:
        insecure = ("--insecure", mirror.host) if setting else ()
        done = run("hub-import", "push", archive, "--registry", mirror.host, "--progress", "none", *insecure)
        says(done, mirror.host, f"{{host}}: GET /v2/ at {{host}}: {text}", insecure=bool(setting))
