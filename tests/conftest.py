"""For every test: a clean environment, no network but loopback, no pauses between tries."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import stamina

from common.log import SECRETS
from tests.fakes.commands import AUTHORITIES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# How long one example takes depends on how busy the machine is.
_UNTIMED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("here", max_examples=50, **_UNTIMED)
hypothesis.settings.register_profile("all", max_examples=500, **_UNTIMED)
hypothesis.settings.load_profile("here")

_TRIES = 100  # more than any policy has: only the pauses are taken away
_TESTS = Path(__file__).parent
_SLOW_FIRST = _TESTS / "slow_first.txt"
_LOGGERS = ("common", "exporter", "importer", "urllib3", "httpx", "httpcore", "botocore", "boto3")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
_NAMES = ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "CONTAINERS_REGISTRIES_CONF", "KUBECONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR")

# What is collected stays until the end: looking for garbage among it took a fifth of the CPU of collecting, in every worker.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage again, and never among what was collected."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow files first: a file runs on one worker, and one that starts last keeps the others waiting at the end."""
    ranks = {name: rank for rank, name in enumerate(_SLOW_FIRST.read_text(encoding="ascii").split())}
    items.sort(
        key=lambda item: ranks.get(str(item.path.relative_to(_TESTS)), len(ranks))
    )  # stable: all else stays in its order


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for the tests of a module."""
    from tests.fakes.browser import browser

    with browser() as started:
        yield started


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of all homes: `mktemp` reads its directory each time, which thousands of homes make slow."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def clean_environment(homes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, no authorities of the system, and none of the other variables that we read. Gives the home."""
    home = Path(tempfile.mkdtemp(dir=homes))
    for name in os.environ:
        if name.startswith(("XDG_", "HUB_")) or name in _NAMES or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SSL_CERT_FILE", AUTHORITIES)
    monkeypatch.setenv("HOME", str(home))
    for name, folder in (("XDG_CONFIG_HOME", "config"), ("XDG_RUNTIME_DIR", "runtime"), ("XDG_CACHE_HOME", "cache")):
        (home / folder).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(home / folder))
    return home


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave this machine."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(self: socket.socket, address: Any) -> None:
        _check(self, address)
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        _check(self, address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)


def _check(sock: socket.socket, address: Any) -> None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    host = address[0]
    try:
        allowed = ipaddress.ip_address(host).is_loopback
    except ValueError:
        allowed = host == "localhost"
    if not allowed:
        raise RuntimeError(f"a test wants to connect to {host}")


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """Tries happen as often as in life, without the waiting between them."""
    with stamina.set_testing(True, attempts=_TRIES, cap=True):
        yield


@pytest.fixture(autouse=True)
def same_process() -> Iterator[None]:
    """Give the next test the process as this one found it: loggers as they were, no secrets; working directory and signals unchanged."""
    tops = [logging.getLogger(package) for package in _LOGGERS]
    kept = [(top.handlers[:], top.level, top.propagate) for top in tops]
    before = Path.cwd(), [signal.getsignal(each) for each in _SIGNALS]
    yield
    SECRETS.clear()
    for top, (handlers, level, propagate) in zip(tops, kept, strict=True):
        top.handlers[:], top.propagate = handlers, propagate
        top.setLevel(level)
    assert (Path.cwd(), [signal.getsignal(each) for each in _SIGNALS]) == before, "a test changed the process and left it so"
