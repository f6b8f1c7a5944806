"""`hub-import serve` as a process of its own, and what it tells."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.fakes.commands import BIN


@dataclass
class Serving:
    """A server that listens; `lines` is what it told when it began."""

    process: subprocess.Popen[str]
    host: str
    lines: list[str]
    log: Path

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=f"http://{self.host}/v2/", trust_env=False, **options)

    @property
    def peak(self) -> int:
        """The most memory that it had, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


@contextmanager
def serving(log: Path, *arguments: str | Path, listen: str = "127.0.0.1:0", before: tuple[str, ...] = ()) -> Iterator[Serving]:
    """Start the server and wait until it listens; stop it at the end. `before`: what it is started by, such as strace."""
    env = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    env |= {"HOME": str(log.parent), "PATH": "/usr/bin:/bin", "PYTHONFAULTHANDLER": "1"}
    command = [*before, str(BIN / "hub-import"), "serve", *map(str, arguments), "--listen", listen]
    with log.open("w+") as file:
        process = subprocess.Popen(command, stderr=file, text=True, env=env)
        try:
            yield Serving(process, *_told(process, log), log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(120)


def _told(process: subprocess.Popen[str], log: Path) -> tuple[str, list[str]]:
    while process.poll() is None:
        text = log.read_text()
        match = re.search(r"^serving .* at (\S+?)(?: \(|;)", text, re.MULTILINE)
        if match and "on the cluster:" in text:
            return match[1], text.splitlines()
        time.sleep(0.02)
    raise AssertionError(log.read_text())
