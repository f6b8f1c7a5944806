"""Hosts that answer nonsense, ask for too much, or go away: told once, and told right."""

from __future__ import annotations

import json

import pytest

from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.secrets import PROXY_PASSWORD
from tests.samples import more

pytestmark = pytest.mark.integration
APP = image([b"layer"])
BRIEF = {"HUB_REGISTRY_PATIENCE": "1"}  # seconds, where a host is out for good
LATIN_1 = b'{"errors": [{"code": "DENIED", "message": "acc\xe8s refus\xe9"}]}'


def create(registry, output, *arguments, name="org/app:v1", env=None):
    return run(
        *("hub-export", "create", "--image", f"{registry.host}/{name}", "--insecure", registry.host, "--output", output),
        *("--signatures", "ignore", *arguments),
        env=env,
    )


def push(archive, host, *more, env=None):
    return run("hub-import", "push", archive, "--registry", host, "--insecure", host, *more, env=env)


def test_an_error_that_is_not_utf_8_is_an_error_all_the_same(tmp_path):
    with FakeRegistry() as registry:
        registry.fault("GET", "/manifests/", status=403, times=99, body=LATIN_1)
        done = create(registry, tmp_path / "out")
    assert done.status == 5
    assert "HTTP 403" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_auth_json_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "auth.json").write_bytes(b'{"auths": {"\xff": {}}}')
    done = run("hub-export", "plan", "--image", "localhost:1/a/b:v1", "-a", tmp_path / "auth.json")
    assert done.status == 2
    assert str(tmp_path / "auth.json") in done.stderr


@pytest.mark.parametrize("status", [429, *more([503])])
def test_a_mirror_that_always_asks_to_wait_gets_no_further_questions(tmp_path, status):
    with FakeRegistry() as source:
        source.add_image("org/app", APP, tag="v1")
        assert create(source, tmp_path / "out").status == 0
    with FakeRegistry() as mirror:
        mirror.fault("*", "/manifests/", status=status, headers={"Retry-After": "0"}, times=1000)
        done = push(tmp_path / "out", mirror.host, "--format", "json", env=BRIEF)
        assert done.status == 5
        assert done.json["problems"]
        assert {request.method for request in mirror.log("", "/manifests/")} == {"HEAD"}
        told = push(tmp_path / "out", mirror.host, env=BRIEF)
    assert "1 image: 0 already there" in told.stdout


def test_a_token_server_that_wants_a_login_says_so(tmp_path):
    with FakeRegistry(auth="token") as registry:
        registry.add_image("org/app", APP, tag="v1")
        done = create(registry, tmp_path / "out")
        assert "HTTP 401, and there are no credentials for it" in done.stderr
        wrong = {"auths": {registry.host: {"username": "somebody", "password": "wrong"}}}
        (tmp_path / "auth.json").write_text(json.dumps(wrong))
        done = create(registry, tmp_path / "out", "-a", tmp_path / "auth.json")
        assert "HTTP 401, the credentials were refused" in done.stderr


@pytest.mark.parametrize(
    ("scheme", "mark"),
    [
        ("ftp", "/"),
        ("socks4", "@"),
        ("ftp", ":"),
        *(pytest.param(*each, marks=pytest.mark.more) for each in [("socks4", "/"), ("ftp", "@"), ("socks4", ":")]),
    ],
)
def test_a_proxy_that_is_not_usable_is_not_quoted(tmp_path, mark, scheme):
    env = {"HTTPS_PROXY": f"{scheme}://user:{PROXY_PASSWORD}{mark}tail-of-it@127.0.0.1:1"}
    done = run("hub-export", "plan", "--image", "localhost:1/a/b:v1", env=env)
    assert done.status == 2
    assert "the proxy is not usable" in done.stderr
    assert "tail-of-it" not in done.stderr


def test_a_client_key_without_its_certificate_is_named(tmp_path):
    folder = tmp_path / ".config/containers/certs.d/localhost:1"
    folder.mkdir(parents=True)
    (folder / "client.key").write_text("x")
    done = run("hub-export", "plan", "--image", "localhost:1/a/b:v1", env={"HOME": str(tmp_path)})
    assert done.status == 2
    assert f"{folder}/client.key: there is no client.cert beside it" in done.stderr


@pytest.mark.parametrize("blobs", [12, *more([2])])
def test_a_source_that_is_out_for_too_long_ends_the_run_and_the_next_one_goes_on(tmp_path, blobs):
    """A 503 on blobs beyond the patience is no reason to finish an archive that lacks them."""
    with FakeRegistry() as source:
        source.add_image("org/app", image([b"layer %d" % number for number in range(blobs)]), tag="v1")
        out = source.fault("GET", "/blobs/", times=1000, status=503)
        done = create(source, tmp_path / "out", env=BRIEF)
        assert done.status == 5
        assert "HTTP 503" in done.stderr
        assert "it continues where it stopped" in done.stderr
        out.times = 0
        assert create(source, tmp_path / "out").status == 0
    assert run("hub-import", "verify", tmp_path / "out").status == 0


def test_a_source_that_goes_away_ends_the_run_and_the_next_one_goes_on(tmp_path):
    parts = image([b"layer %d" % number for number in range(40)])
    with FakeRegistry() as source:
        source.add_image("org/app", parts, tag="v1")
        gone = source.fault("GET", "/blobs/", skip=12, times=1000, drop=True)
        done = create(source, tmp_path / "out", "--jobs", "12", env=BRIEF)
        assert done.status == 5
        assert "given up after 8 blobs in a row" in done.stderr
        assert "it continues where it stopped" in done.stderr
        had = {request.path for request in source.log("GET", "/blobs/") if request.status == 200}
        assert len(had) == 12
        gone.times = 0
        before = len(source.requests)
        assert create(source, tmp_path / "out").status == 0
        again = {request.path for request in source.requests[before:] if "/blobs/" in request.path}
        assert again
        assert not again & had
    assert run("hub-import", "verify", tmp_path / "out").status == 0
