"""Ctrl-C while the network stalls: each command ends at once, with 130 and its message, whatever its threads wait for."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tests.fakes.archives import noise
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.link import Link, redirect
from tests.fakes.registry import FakeRegistry
from tests.fakes.silent import SilentServer
from tests.fakes.sites import Site, shared_both
from tests.samples import more

pytestmark = pytest.mark.integration
# Of a busy machine. The timeouts of sockets are 60 s, and those of connecting, after which there is a retry, 10 s.
AT_ONCE_S = 20.0
LARGE = noise("stops", 12_000_000)  # more than the buffers of sockets hold


def stopped(is_held, *command, env=None, number=signal.SIGINT):
    """Run a command, and send it a signal once `is_held` has returned; it has to end at once."""
    sent = []

    def send(process):
        is_held(process)
        sent.append(time.monotonic())
        os.kill(process, number)

    done = run(*command, env=env, started=send)
    assert time.monotonic() - sent[0] < AT_ONCE_S
    assert done.status == 130, done.stderr
    assert "error: interrupted\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert "trying again" not in done.stderr
    assert " failed, " not in done.stderr  # what was stopped did not fail
    return done


def when(event):
    def wait(_process):
        assert event.wait(60)

    return wait


def when_dialled(server):
    def wait(process):
        while not server.is_dialled:
            os.kill(process, 0)
            time.sleep(0.005)

    return wait


def when_stuck(link):
    """Wait until a link holds what comes, and the sender's buffer no longer gets emptier or fuller."""

    def wait(process):
        assert link.held.wait(60)
        before = ""
        while (queued := link.queued) != before or not queued:
            before = queued
            os.kill(process, 0)
            time.sleep(0.05)

    return wait


def create(host, output):
    return ["hub-export", "create", "--image", f"{host}/org/app:v1", "--insecure", host, "--output", output]


@pytest.mark.parametrize(
    "begin", more([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"\x16\x03\x03"])
)
def test_create_while_a_head_a_small_body_or_a_handshake_does_not_come_or_end(tmp_path, begin):
    with SilentServer(begin) as silent:
        stopped(when(silent.asked), *create(silent.host, tmp_path / "out"), number=signal.SIGTERM)


def test_create_while_connecting(tmp_path):
    with SilentServer(deaf=True) as silent:
        stopped(when_dialled(silent), *create(silent.host, tmp_path / "out"))


def test_plan_while_a_registry_asks_to_wait():
    """What was not looked up before the stop did not fail, and nothing of a plan is kept."""
    asked = threading.Event()
    with FakeRegistry() as source:
        for name in "ab":
            source.add_image(f"org/{name}", image([name.encode()]), tag="v1")
        source.fault("GET", "/manifests/", times=1000, status=429, headers={"Retry-After": "600"}, action=asked.set)
        images = [part for name in "ab" for part in ("--image", f"{source.host}/org/{name}:v1")]
        done = stopped(when(asked), "hub-export", "plan", *images, "--insecure", source.host)
    assert "looking up 2 images: stopped at 0 of 2 images after " in done.stderr
    assert "Nothing was changed by this step; run the same command again." in done.stderr


def test_plan_before_its_first_step():
    """It keeps nothing, at no moment."""
    asked = threading.Event()
    with FakeRegistry() as source:
        source.fault("GET", "/manifests/", times=1000, status=429, headers={"Retry-After": "600"}, action=asked.set)
        catalog = f"{source.host}/org/catalog:v1"
        done = stopped(when(asked), "hub-export", "plan", "--catalog", catalog, "--package", "app", "--insecure", source.host)
    assert "\n  Run the same command again.\n" in done.stderr
    assert "Completed work" not in done.stderr


@pytest.mark.parametrize("begin", more([b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"]))
def test_create_while_a_token_server_does_not_answer(tmp_path, begin):
    with SilentServer(begin) as silent, FakeRegistry(auth="token", anonymous=True) as source:
        source.add_image("org/app", image([b"small"]), tag="v1")
        source.realm = f"http://{silent.host}/token"
        stopped(when(silent.asked), *create(source.host, tmp_path / "out"), "--insecure", silent.host)


@pytest.mark.parametrize("begin", more([b"", b"HTTP/1.1 200 Connection established\r\n\r\n"]))
def test_create_while_a_proxy_does_not_answer(tmp_path, begin):
    with SilentServer(begin) as silent:
        proxy = {"HTTPS_PROXY": f"http://{silent.host}"}
        name = "registry.example.com/org/app:v1"
        stopped(when(silent.asked), "hub-export", "create", "--image", name, "--output", tmp_path / "out", env=proxy)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive with one large blob."""
    output = tmp_path_factory.mktemp("stops") / "out"
    with FakeRegistry() as source:
        source.add_image("org/app", image([LARGE]), tag="v1")
        done = run(*create(source.host, output))
        assert done.status == 0, done.stderr
    return output


@pytest.mark.parametrize("held", [{"hold_up_after": 1_000_000}, *more([{"hold_after": 100}, {"hold_after": 700}])])
def test_push_while_the_mirror_takes_nothing_or_does_not_answer(archive, held):
    with FakeRegistry() as mirror, Link(mirror.host, rate=100_000_000, **held) as link:
        place = ["--registry", f"{link.host}/ocp", "--insecure", link.host]
        is_held = when_stuck(link) if "hold_up_after" in held else when(link.held)
        stopped(is_held, "hub-import", "push", archive, *place)
        again = run("hub-import", "push", archive, "--registry", f"{mirror.host}/ocp", "--insecure", mirror.host)
    assert again.status == 0, again.stderr


@pytest.mark.parametrize("begin", more([b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<"]))
def test_verify_of_an_archive_in_object_storage(begin):
    with SilentServer(begin) as silent:
        keys = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_ENDPOINT_URL": f"http://{silent.host}"}
        stopped(when(silent.asked), "hub-import", "verify", "s3://bucket/archive", env=keys)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return shared_both(tmp_path_factory)["file-based"]


@pytest.mark.parametrize("hold_after", more([1, 20_000, 60_000, 120_000]))
def test_deploy_while_the_api_server_does_not_answer(catalog, tmp_path, hold_after):
    with FakeCluster("4.18", tls=False) as cluster, FakeRegistry() as mirror:
        site = Site(cluster, mirror, catalog, tmp_path)
        with Link(cluster.url.partition("://")[2], rate=100_000_000, hold_after=hold_after) as link:
            redirect(site.kubeconfig, link)
            place = ["--registry", f"{mirror.host}/ocp", "--insecure", mirror.host, "--kubeconfig", site.kubeconfig]
            stopped(when(link.held), "hub-import", "deploy", catalog, *place, "--yes")
