"""Through a real forward proxy: tinyproxy."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.commands import run
from tests.fakes.factories import image, seed
from tests.fakes.secrets import PROXY_PASSWORD as SECRET
from tests.fakes.secrets import PROXY_USER
from tests.fakes.servers import docker_registry, free_port, require
from tests.samples import more

pytestmark = pytest.mark.integration
APP = image([b"through a proxy"])


@dataclass(frozen=True)
class Proxy:
    host: str
    log: Path

    @property
    def connects(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if "CONNECT localhost:" in line]


@contextmanager
def tinyproxy(folder, *, password=""):
    program, port = require("tinyproxy"), free_port()
    config, log = folder / "tinyproxy.conf", folder / "tinyproxy.log"
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 60", f'LogFile "{log}"', "LogLevel Connect", "Allow 127.0.0.1"]
    config.write_text("\n".join([*lines, *([f"BasicAuth {PROXY_USER} {password}"] if password else [])]) + "\n")
    process = subprocess.Popen([program, "-d", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(2000):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield Proxy(f"127.0.0.1:{port}", log)
    finally:
        process.terminate()
        process.wait(120)


@pytest.fixture
def server(tmp_path):
    with docker_registry(tmp_path, tls=True) as started:
        seed(f"https://{started.host}", "org/app", APP, tag="v1", ca=started.ca)
        yield started


def create(server, output, **env):
    return run(
        *("hub-export", "create", "--image", f"{server.host}/org/app:v1", "--ca", server.ca, "--output", output),
        *("--log-level", "debug", "--log-file", output.with_suffix(".log")),
        env=env,
    )


def test_create_and_push_go_through_the_proxy(server, tmp_path):
    with tinyproxy(tmp_path) as proxy:
        env = {"HTTPS_PROXY": f"http://{proxy.host}"}
        done = create(server, tmp_path / "out", **env)
        assert done.status == 0, done.stderr
        used = len(proxy.connects)
        assert used
        assert all(server.host in line for line in proxy.connects)
        pushed = run("hub-import", "push", tmp_path / "out", "--registry", f"{server.host}/mirror", "--ca", server.ca, env=env)
        assert pushed.status == 0, pushed.stderr
        assert len(proxy.connects) > used
    seen = run("hub-export", "plan", "--image", f"{server.host}/mirror/org/app:v1", "--ca", server.ca)
    assert seen.status == 0, seen.stderr


@pytest.mark.parametrize("exempt", [".local,localhost", *more(["localhost", "*"])])
def test_no_proxy_goes_straight(server, tmp_path, exempt):
    with tinyproxy(tmp_path) as proxy:
        done = create(server, tmp_path / "out", HTTPS_PROXY=f"http://{proxy.host}", NO_PROXY=exempt)
        assert done.status == 0, done.stderr
        assert proxy.connects == []


def test_a_proxy_that_wants_a_password(server, tmp_path):
    with tinyproxy(tmp_path, password=SECRET) as proxy:
        right = create(server, tmp_path / "out", HTTPS_PROXY=f"http://{PROXY_USER}:{SECRET}@{proxy.host}")
        assert right.status == 0, right.stderr
        wrong = create(server, tmp_path / "no", HTTPS_PROXY=f"http://{PROXY_USER}:wrong-{SECRET}@{proxy.host}")
    assert wrong.status == 5
    assert "the proxy refuses: 401" in wrong.stderr or "the proxy refuses: 407" in wrong.stderr
    assert "HTTPS_PROXY" in wrong.stderr
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log") if path.name != "tinyproxy.log")
    assert logs
    assert SECRET not in right.stderr + right.stdout + wrong.stderr + wrong.stdout + logs


def test_a_proxy_that_is_not_there(server, tmp_path):
    done = create(server, tmp_path / "out", HTTPS_PROXY=f"http://127.0.0.1:{free_port()}")
    assert done.status == 5
    assert "the proxy does not answer" in done.stderr
    assert "Check HTTPS_PROXY" in done.stderr
    assert not (tmp_path / "out").exists()
