"""Measures a command, or several side by side: time, CPU, memory, what it leaves or needs on disk, requests it makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

BIN = Path(sys.executable).parent
_TICKS = os.sysconf("SC_CLK_TCK")
_REQUEST = re.compile(
    rb'"(GET|HEAD|POST|PUT|PATCH|DELETE) /v2/(?:[^ ]*/(manifests|blobs|tags|referrers)/)?[^ ]* HTTP/1\.1" \d{3}'
)
_SAMPLE_S = 0.1


@dataclass(frozen=True)
class Measured:
    """What a command took: seconds, seconds of CPU (all processes), bytes of memory at the
    most (what each process that runs has had at the most), bytes on disk at the most.

    `requests`: by method and what for, where a registry's log was watched. `server`: seconds of CPU of the registry meanwhile.
    """

    wall: float
    cpu: float
    peak: int
    disk: int = 0
    server: float = 0.0
    requests: Mapping[str, int] = field(default_factory=dict)
    status: int = 0
    output: str = ""


@dataclass(frozen=True)
class Watched:
    """What is watched while a command runs: a registry's process and log, and folders that are to stay small but for volumes."""

    pid: int = 0
    log: Path | None = None
    folders: Sequence[Path] = ()


def measure(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    watched: Watched | None = None,
    statuses: Sequence[int] = (0,),
    kill_at: int = 0,
) -> Measured:
    """Run a command to its end; what earlier ones left to be written is on the disk before. Raises for another status.

    `kill_at`: it is killed once it has written so many bytes.
    """
    watched = watched or Watched()
    os.sync()
    log_before = watched.log.stat().st_size if watched.log else 0
    server_before = cpu_of(watched.pid) if watched.pid else 0.0
    base = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/nonexistent", "LANG": "C.UTF-8", "COLUMNS": "200"}
    with subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**base, **(env or {})},
    ) as process:
        began = time.monotonic()
        with _Sampler(process.pid, watched.folders, kill_at) as sampler:
            output = _communicated(process, stdin)
            _, status, used = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    code = process.returncode
    if code not in statuses and not (kill_at and code < 0):
        raise RuntimeError(f"{command} ended with {code}:\n{output[-4000:]}")
    return Measured(
        wall,
        used.ru_utime + used.ru_stime,
        sampler.peak,
        sampler.disk,
        (cpu_of(watched.pid) - server_before) if watched.pid else 0.0,
        _requests(watched.log, log_before) if watched.log else {},
        code,
        output,
    )


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_of(pid: int) -> int:
    """Return the most memory that a process has had; what `wait4` tells has the memory of whoever started it in it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def size_of(folder: Path, *, without: str = "\0") -> int:
    """Return the bytes that all files below a folder take on disk, but those whose names begin with `without`."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            if name.startswith(without):
                continue
            try:
                total += os.lstat(f"{path}/{name}").st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def _communicated(process: subprocess.Popen[bytes], stdin: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(stdin.encode())
        process.stdin.close()
    except BrokenPipeError:
        pass
    return process.stdout.read().decode(errors="replace")


def _family(pid: int) -> list[int]:
    """Return a process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(each for child in children for each in _family(int(child)))]


def _written(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def _requests(log: Path, start: int) -> dict[str, int]:
    with log.open("rb") as file:
        file.seek(start)
        return dict(Counter(f"{method.decode()} {kind.decode() or '/v2/'}" for method, kind in _REQUEST.findall(file.read())))


class _Sampler:
    """Looks again and again while a command runs: how large folders get, and whether it is time to kill."""

    def __init__(self, pid: int, folders: Sequence[Path], kill_at: int) -> None:
        self.disk = 0
        self.peak = 0
        self._pid = pid
        self._folders = folders
        self._kill_at = kill_at
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            self.peak = max(self.peak, sum(map(peak_of, _family(self._pid))))
            self.disk = max(self.disk, sum(size_of(folder, without="volume-") for folder in self._folders))
            if self._kill_at and _written(self._pid) >= self._kill_at:
                os.kill(self._pid, 9)
                return
