"""What this machine can do at the most: one thread of SHA-256, one writer, one connection on the loopback."""

from __future__ import annotations

import hashlib
import mmap
import os
import platform
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common.storage.client import Storage
from common.storage.location import S3File, S3Location
from common.storage.upload import upload
from tests.fakes.object_store import environment_of, served
from tests.fakes.servers import require

_MIB = 1 << 20
_SIZE = 1024 * _MIB
_OBJECT = 256 * _MIB


@dataclass(frozen=True)
class Limit:
    """Bytes per second, and seconds of CPU for each gigabyte."""

    what: str
    rate: float
    cpu: float


def limits(home: Path) -> list[Limit]:
    """Measure each once, over a GiB; object storage over a quarter of that."""
    return [
        _measured("SHA-256, one thread", _hash),
        _measured(
            "writing one file past the page cache, 2 MiB at a time, flushed", lambda: _write(home / "direct", os.O_DIRECT)
        ),
        _measured("reading it again past the page cache, 4 MiB at a time", lambda: _read(home / "direct")),
        _measured("writing one file through the page cache, flushed", lambda: _write(home / "cached", 0)),
        _measured("one connection on the loopback, both ends in Python", _loopback),
        *_object_storage(home),
    ]


def table(found: list[Limit]) -> str:
    """Return the limits as a Markdown table."""
    rows = [f"| {one.what} | {one.rate / 1e9:.2f} GB/s | {one.cpu:.2f} s |" for one in found]
    return "\n".join(["| what | at most | CPU per GB |", "|---|---|---|", *rows])


def machine() -> str:
    """Return what was measured on, and with."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3
    skopeo = subprocess.run([require("skopeo"), "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    registry = subprocess.run(
        [require("docker-registry"), "--version"], check=True, capture_output=True, text=True
    ).stdout.split()
    return (
        f"{os.cpu_count()} × {model}, {memory:.0f} GiB; Linux {platform.release()}; Python {platform.python_version()}; "
        f"skopeo {skopeo}; docker-registry {registry[-1]}"
    )


def _measured(what: str, work: Callable[[], None], size: int = _SIZE) -> Limit:
    os.sync()
    began, before = time.monotonic(), time.process_time()
    work()
    return Limit(what, size / (time.monotonic() - began), (time.process_time() - before) / (size / 1e9))


def _hash() -> None:
    block, hasher = os.urandom(_MIB), hashlib.sha256()
    for _ in range(_SIZE // _MIB):
        hasher.update(block)


def _write(path: Path, flags: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    os.posix_fallocate(file, 0, _SIZE)
    with mmap.mmap(-1, 2 * _MIB) as block:
        block.write(os.urandom(2 * _MIB))
        for position in range(0, _SIZE, len(block)):
            os.pwrite(file, block, position)
    os.fsync(file)
    os.close(file)


def _read(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, 4 * _MIB) as block:
        for position in range(0, _SIZE, len(block)):
            os.preadv(file, [block], position)
    os.close(file)


def _object_storage(home: Path) -> Iterator[Limit]:
    """Send a file to rclone's S3 server and read it there again; the CPU is ours alone."""
    account = ("bench", "bench-secret")
    path = home / "volume"
    path.write_bytes(os.urandom(_MIB) * (_OBJECT // _MIB))
    with served(home, "bench", account) as (_, port):
        os.environ |= environment_of(f"127.0.0.1:{port}", account)
        place = S3Location("bench", "volume", Storage.connect())
        yield _measured(
            "sending it to object storage (rclone), four parts at a time",
            lambda: upload(path, place, jobs=4, advance=lambda _size: None),
            _OBJECT,
        )
        yield _measured("reading it there again, on and on", lambda: _read_stored(S3File(place)), _OBJECT)


def _read_stored(file: S3File) -> None:
    for position in range(0, _OBJECT, 256 * 1024):
        file.read(256 * 1024, position)


def _loopback() -> None:
    near, far = _pair()
    sender = threading.Thread(target=_send, args=(near,))
    sender.start()
    block = bytearray(_MIB)
    left = _SIZE
    while left:
        left -= far.recv_into(block)
    sender.join()
    near.close()
    far.close()


def _send(to: socket.socket) -> None:
    block = os.urandom(_MIB)
    for _ in range(_SIZE // _MIB):
        to.sendall(block)


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        return near, far
