"""`hub-import serve` under load beside nginx with the same blobs as plain files: `python -m tests.bench.serving [GB]`.

Each is pulled by the same eight clients, in turns, twice: the first time ours hashes what it sends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from common.oci.image import Digest, digest_of
from tests.bench.tools import missing_said
from tests.fakes.archives import Content, write
from tests.fakes.servers import free_port, require
from tests.fakes.serving import serving

CLIENTS = 8
BLOB = 64 * 1024**2
_TICKS = os.sysconf("SC_CLK_TCK")
_CONFIG = """\
daemon off; worker_processes 2; pid {home}/nginx.pid; error_log {home}/nginx.log;
events {{ worker_connections 512; }}
http {{ access_log off; sendfile on; tcp_nopush on; root {home}/files; client_body_temp_path {home}/tmp; proxy_temp_path {home}/tmp;
  fastcgi_temp_path {home}/tmp; uwsgi_temp_path {home}/tmp; scgi_temp_path {home}/tmp; server {{ listen 127.0.0.1:{port}; }} }}
"""


@dataclass(frozen=True)
class Load:
    """What a server did: seconds, seconds of CPU, bytes sent, and the most memory of one of its processes, in bytes."""

    wall: float
    cpu: float
    size: int
    peak: int

    def line(self, who: str) -> str:
        rate = self.size / self.wall / 1e6
        return f"{who:17} {self.wall:6.2f} s {rate:6.0f} MB/s {self.cpu:6.2f} s CPU {self.peak / 1024**2:6.0f} MiB"


def main(gigabytes: float) -> None:
    """Print time, CPU and memory of both, and the ratios."""
    for turn, (mine, other) in zip(("first", "again"), loads(gigabytes), strict=True):
        print(f"{turn}: {mine.line('hub-import serve')}\n{turn}: {other.line('nginx')}")
        print(f"{turn}: ratio of wall {mine.wall / other.wall:.2f}, of CPU {mine.cpu / max(other.cpu, 0.01):.1f}")


def loads(gigabytes: float, turns: int = 2) -> list[tuple[Load, Load]]:
    """Return what each of both did, ours first, for every turn."""
    require("nginx")
    found = []
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
        home = Path(name)
        blobs = _filled(home, max(CLIENTS, round(gigabytes * 1e9 / BLOB)))
        with _ours(home) as (ours, our_processes), _nginx(home) as (theirs, their_processes):
            for _ in range(turns):
                mine = _pulled(lambda digest: f"http://{ours}/v2/org/app/blobs/{digest}", blobs, our_processes)
                found.append((mine, _pulled(lambda digest: f"http://{theirs}/{digest}", blobs, their_processes)))
    return found


def _filled(home: Path, count: int) -> Sequence[Digest]:
    """Write the same blobs as an archive and as files."""
    (home / "files").mkdir()
    content = {f"quay.io/org/app:v{number}": [os.urandom(BLOB)] for number in range(count)}
    write(home / "archive", Content(content, volume_size=4 * 1024**3 - 1))
    for volume in (home / "archive").glob("volume-*"):
        os.utime(volume, (0, 0))  # one that was changed just now is hashed each time
    blobs = []
    for (blob,) in content.values():
        blobs.append(digest_of(blob))
        (home / "files" / blobs[-1]).write_bytes(blob)
    return blobs


@contextmanager
def _ours(home: Path) -> Iterator[tuple[str, Callable[[], list[int]]]]:
    with serving(home / "serve.log", home / "archive") as server:
        yield server.host, lambda: [server.process.pid]


@contextmanager
def _nginx(home: Path) -> Iterator[tuple[str, Callable[[], list[int]]]]:
    port = free_port()
    (home / "nginx.conf").write_text(_CONFIG.format(home=home, port=port))
    home.chmod(0o755)
    process = subprocess.Popen([require("nginx"), "-c", home / "nginx.conf", "-e", home / "nginx.log"])
    try:
        time.sleep(1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        yield f"127.0.0.1:{port}", lambda: [process.pid, *map(int, children.read_text().split())]
    finally:
        process.terminate()
        process.wait(30)


def _pulled(address: Callable[[Digest], str], blobs: Sequence[Digest], processes: Callable[[], list[int]]) -> Load:
    """Let every client pull its share of what they pull together: every blob once."""
    got = [0] * CLIENTS

    def pull(number: int) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            for digest in blobs[number::CLIENTS]:
                with client.stream("GET", address(digest)) as answer:
                    answer.raise_for_status()
                    got[number] += sum(map(len, answer.iter_raw(1 << 20)))

    pids = processes()
    before, began = sum(map(_cpu, pids)), time.monotonic()
    clients = [threading.Thread(target=pull, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert sum(got) == len(blobs) * BLOB, "everything came"
    return Load(time.monotonic() - began, sum(map(_cpu, pids)) - before, sum(got), max(map(_peak, pids)))


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    with missing_said("serving"):
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 4.0)
