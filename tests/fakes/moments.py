"""Signals at many moments of a program's start, without a clock: at each chosen moment the process forks, and the child signals itself.

The real executable runs to its end; a `sitecustomize` module counts the calls of functions from the moment that the program
handles signals. A moment is every Nth call. The report has, for
each, the function, how the child ended (exit status, or the negative number of a signal), and what it wrote to stderr.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.commands import BIN

_SITE = """
import json, os, signal, sys, tempfile

NUMBER, EVERY, FIRST, LAST = int(os.environ["MOMENT_SIGNAL"]), int(os.environ["MOMENT_EVERY"]), os.environ["MOMENT_FIRST"], os.environ["MOMENT_LAST"]
NAME = os.environ["MOMENT_NAME"]
REPORT = open(os.environ["MOMENT_REPORT"], "a", buffering=1)
counted, begun = 0, False


def watch(frame, event, _argument):
    global counted, begun
    if event == "return" and frame.f_globals.get("__name__") == "common.interruption":
        begun = begun or frame.f_code.co_name == FIRST
        if frame.f_code.co_name == LAST:
            sys.setprofile(None)
            return
    if event != "call" or not begun or NAME not in ("", frame.f_code.co_name):
        return
    counted += 1
    module = frame.f_globals.get("__name__")
    if counted % EVERY == 0 and not logs(frame):
        strike(f"{module}.{frame.f_code.co_name}")


def logs(frame):
    # logging makes its locks anew in a forked process, which then releases what it has not acquired: not a moment of the program's.
    while frame is not None and frame.f_globals.get("__name__") != "logging":
        frame = frame.f_back
    return frame is not None


def strike(place):
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            sys.setprofile(None)
            os.dup2(errors.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.kill(os.getpid(), NUMBER)
            return
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        errors.seek(0)
        REPORT.write(json.dumps([place, status, errors.read().decode()]) + "\\n")


sys.setprofile(watch)
"""


@dataclass(frozen=True)
class Moment:
    """Where a signal came, and how the process ended."""

    place: str
    status: int
    stderr: str


def struck(
    folder: Path,
    command: Sequence[str | Path],
    number: signal.Signals,
    *,
    first: str,
    last: str,
    every: int,
    name: str = "",
    env: Mapping[str, str] | None = None,
) -> list[Moment]:
    """Run a command, and return how it ends with a signal at each moment between two functions of `common.interruption`.

    `every`: of how many calls one is a moment; `name`: only calls of functions with this name count (`<module>`: modules).
    """
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_SITE)
    report = folder / "report"
    told = {
        "MOMENT_SIGNAL": int(number),
        "MOMENT_EVERY": every,
        "MOMENT_FIRST": first,
        "MOMENT_LAST": last,
        "MOMENT_NAME": name,
    }
    subprocess.run(
        [str(BIN / command[0]), *map(str, command[1:])],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": str(site),
            "MOMENT_REPORT": str(report),
            **{name: str(value) for name, value in told.items()},
            **(env or {}),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return [Moment(*json.loads(line)) for line in report.read_text().splitlines()] if report.exists() else []
