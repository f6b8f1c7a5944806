"""Real registry servers for tests: Debian's docker-registry, on loopback, ended by their own process id."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.fakes.secrets import REAL_PASSWORD, REAL_USER

USER, PASSWORD = REAL_USER, REAL_PASSWORD
# Several tests share two cores: a Go program spends less there when it collects its garbage seldom and wakes no further threads.
THRIFTY = {"GOGC": "400", "GOMAXPROCS": "1"}
# The registry waits for the disk at each of a dozen small files of an upload: 100 images took 3 s of CPU and 10 s on a disk, and 0.8 s and 1 s in memory.
_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30  # only folders of our own in it; containers often have 64 MiB there


@dataclass(frozen=True)
class Server:
    """A running registry: `host` is host:port; `ca` a PEM file (None without TLS); `root` where it keeps its blobs; `pid` its process."""

    host: str
    ca: Path | None
    log: Path
    root: Path
    pid: int


def require(program: str) -> str:
    """Return the path of a program; skip the test where it is missing."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


@contextmanager
def docker_registry(
    tmp_path: Path,
    *,
    tls: bool = False,
    htpasswd: bool = False,
    auth: str = "",
    client_ca: Path | None = None,
    name: str = "registry",
    storage: str = "delete: {enabled: true}",
    host: str = "localhost",
    port: int = 0,
) -> Iterator[Server]:
    """Start docker-registry in `tmp_path`. TLS uses a fresh CA; htpasswd knows USER with PASSWORD.

    `auth`: another line of its configuration; `storage`: what its storage has beside the directory;
    `client_ca`: clients have to show a certificate of this authority; `host` and `port`: where it listens, 0 is any.
    """
    home = tmp_path / name
    home.mkdir()
    with in_memory(home / "data"):
        yield from _served(home, host, port, tls=tls, htpasswd=htpasswd, auth=auth, client_ca=client_ca, storage=storage)


def _served(
    home: Path, host: str, port: int, *, tls: bool, htpasswd: bool, auth: str, client_ca: Path | None, storage: str
) -> Iterator[Server]:
    program = require("docker-registry")
    for _ in range(5):
        chosen = port or free_port()
        ca = _certificates(home, host) if tls else None
        config = home / "config.yml"
        if htpasswd:
            auth = f"auth: {{htpasswd: {{realm: tests, path: {_htpasswd(home)}}}}}"
        config.write_text(_config(home, f"{host}:{chosen}", tls=tls, auth=auth, client_ca=client_ca, storage=storage))
        log = home / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [program, "serve", str(config)], stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **THRIFTY}
            )
        try:
            if answers(process, host, chosen):
                yield Server(f"{host}:{chosen}", ca, log, home / "data", process.pid)
                return
        finally:
            process.terminate()
            process.wait(120)
    raise RuntimeError(f"docker-registry does not start:\n{log.read_text()}")


@contextmanager
def in_memory(path: Path) -> Iterator[None]:
    """Let a directory, which is not there yet, be in memory, where there is room."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="registry-", dir=_MEMORY) as folder:
        path.symlink_to(folder)
        yield


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(process: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Say whether a server takes connections, as soon as it does; no, where it ends or takes too long."""
    for _ in range(400):
        if process.poll() is not None:
            return False
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def _config(home: Path, address: str, *, tls: bool, auth: str, client_ca: Path | None, storage: str) -> str:
    lines = [
        "version: 0.1",
        "log: {level: error, accesslog: {disabled: false}}",
        f"storage: {{filesystem: {{rootdirectory: {home / 'data'}}}, {storage}}}",
        "http:",
        f"  addr: {address}",
        "  secret: for-tests",
    ]
    if tls:
        clients = f", clientcas: [{client_ca}]" if client_ca else ""
        lines.append(f"  tls: {{certificate: {home / 'server.pem'}, key: {home / 'server.key'}{clients}}}")
    return "\n".join([*lines, auth]) + "\n"


def _certificates(home: Path, host: str) -> Path:
    authority = trustme.CA()
    certificate = authority.issue_cert(host, "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(home / "server.pem")
    certificate.private_key_pem.write_to_path(home / "server.key")
    authority.cert_pem.write_to_path(home / "ca.pem")
    return home / "ca.pem"


def _htpasswd(home: Path) -> Path:
    # bcrypt at its least cost: the registry computes it for each request, which was a third of the CPU that it took.
    done = subprocess.run([require("htpasswd"), "-BbnC", "4", USER, PASSWORD], check=True, capture_output=True)
    path = home / "htpasswd"
    path.write_bytes(done.stdout)
    return path
