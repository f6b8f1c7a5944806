"""The two commands as a person runs them: a process, its exit status, what it printed."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.command_server import CommandServer
from tests.fakes.secrets import leaked

BIN = Path(sys.executable).parent
# In place of the authorities of the system: no server here has a certificate of theirs, and OpenSSL reads all of them for each
# context that a client makes, which takes 20 ms of CPU. One that nothing is signed by: httpx refuses an empty file.
AUTHORITIES = str(Path(__file__).with_name("no-server.pem"))
_BASE = {
    "SSL_CERT_FILE": AUTHORITIES,
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "COLUMNS": "200",
    "PYTHONFAULTHANDLER": "1",
    "HUB_REGISTRY_PATIENCE": "10",  # seconds; hosts that are out for good would cost each command three minutes
}
_TIMEOUT_S = 240
_STARTING = threading.Lock()
_COUNTED: set[tuple[str, ...]] = set()  # the kinds of commands that coverage has counted


@dataclass(frozen=True)
class Result:
    """What a command did."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def run(
    program: str,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    fresh: bool = False,
    started: Callable[[int], None] | None = None,
) -> Result:
    """Run `hub-export` or `hub-import` to its end, with a clean environment and `env`; `stdin` None: it is empty.

    The command is a process of its own, forked from one that has imported the programs (tests/fakes/command_server.py). `fresh`
    starts the executable instead: with a hash seed and memory of its own, for tests about start-up, memory and equal bytes.

    `started` gets the number of the process, to kill it at some moment; such a command is always forked.

    No command may show a secret of the suite, and an error that ends one has advice, whatever a test is about.
    """
    command = [str(BIN / program), *map(str, arguments)]
    environ = {**_BASE, **(env or {})}
    where = str(cwd or os.environ["HOME"])  # a test's own home, so that files a command leaves meet no other test
    source = None if stdin is None else stdin.encode()
    measured = _measured(program, [str(each) for each in arguments])
    if started is None and (fresh or measured or _needs_interpreter(env or {})):
        done = subprocess.run(
            command,
            capture_output=True,
            env={**measured, **environ},
            cwd=where,
            timeout=_TIMEOUT_S,
            **({"stdin": subprocess.DEVNULL} if source is None else {"input": source}),
            check=False,
        )
    else:
        done = _server(os.getpid()).run(command, environ, where, source, _TIMEOUT_S, started=started)
    return _checked(program, Result(done.returncode, _text(done.stdout), _text(done.stderr)))


def on_terminal(
    program: str,
    *arguments: str | Path,
    columns: int = 80,
    lines: int = 24,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    started: Callable[[int], None] | None = None,
) -> Result:
    """Run a command whose output is a terminal, forked as `run` does; `stdout` has what the terminal got, of both streams."""
    environ = {name: value for name, value in _BASE.items() if name != "COLUMNS"} | {"TERM": "xterm"} | dict(env or {})
    where = str(cwd or os.environ["HOME"])
    command = [str(BIN / program), *map(str, arguments)]
    done = _server(os.getpid()).run(command, environ, where, None, _TIMEOUT_S, started=started, size=(lines, columns))
    assert not (found := leaked(done.stdout.decode())), f"secrets in the output of {program}: {found}"
    return Result(done.returncode, done.stdout.decode(), "")


def killed_when(
    moment: Callable[[], bool], program: str, *arguments: str | Path, env: Mapping[str, str] | None = None
) -> Result:
    """Run a command and kill it at a moment, unless it has ended before."""

    def kill(process: int) -> None:
        with suppress(ProcessLookupError):
            while not moment():
                os.kill(process, 0)
                time.sleep(0.003)
            os.kill(process, signal.SIGKILL)

    return run(program, *arguments, env=env, started=kill)


def _text(output: bytes) -> str:
    """Return what was printed with universal newlines, as subprocess does for text."""
    return output.decode().replace("\r\n", "\n").replace("\r", "\n")


def _checked(program: str, result: Result) -> Result:
    found = leaked(result.stdout + result.stderr)
    assert not found, f"secrets in the output of {program}: {found}"
    last = result.stderr.rpartition("\nerror: ")[2] if "\nerror: " in f"\n{result.stderr}" else "\n  "
    # A line of a problem, which a code ends, has its advice in the message.
    assert "\n  " in last or last.partition("\n")[0].endswith("]"), f"an error without advice: {last}"
    return result


def _server(process: int) -> CommandServer:
    """Return the server of this process; threads that ask at the same time get one."""
    with _STARTING:
        return _started(process)


@functools.cache
def _started(_process: int) -> CommandServer:
    server = CommandServer(_BASE)
    atexit.register(server.close)
    return server


def _needs_interpreter(env: Mapping[str, str]) -> bool:
    """Whether the environment is about the interpreter or the loader, which read it once, at their start."""
    return any(name.startswith(("PYTHON", "LD_", "LC_")) or name == "LANG" for name in env)


def _measured(program: str, arguments: Sequence[str]) -> dict[str, str]:
    """Return what makes coverage count a command, in `make test-all`: once for each set of options in this test process.

    Coverage starts with the interpreter, so it takes a process that is not forked, and that takes ten times the CPU of one that is.
    There are thousands of commands, and the options tell what runs in `common`, nearly always.
    """
    told = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    if not told:
        return {}
    kind = (program, *arguments[:1], *sorted({each.partition("=")[0] for each in arguments[1:] if each.startswith("-")}))
    with _STARTING:
        if kind in _COUNTED:
            return {}
        _COUNTED.add(kind)
    return told
