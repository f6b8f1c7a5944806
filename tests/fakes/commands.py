"""The two commands as a person runs them: a process, its exit status, what it printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.secrets import leaked

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Result:
    """What a command did."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


_SEEN: set[tuple[str, ...]] = set()


def _measured(program: str, arguments: tuple[str | Path, ...]) -> dict[str, str]:
    """Return what makes coverage count a command: once for each command with these options.

    It takes two thirds more CPU then, and there are thousands; what runs in `common` is told by the options, nearly always.
    """
    command, *others = map(str, arguments or ("",))
    kind = (program, command, *sorted(each.partition("=")[0] for each in others if each.startswith("-")))
    if kind in _SEEN:
        return {}
    _SEEN.add(kind)
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}


def run(
    program: str,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> Result:
    """Run `hub-export` or `hub-import` to its end, with a clean environment and `env`; `stdin` None: there is none.

    Whatever a test is about, no command may show a secret of the suite, and an error that ends one says what to do next.
    """
    base = {
        **_measured(program, arguments),
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "COLUMNS": "200",
        "PYTHONFAULTHANDLER": "1",
    }
    done = subprocess.run(
        [str(BIN / program), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**base, **(env or {})},
        cwd=cwd or os.environ["HOME"],  # a test's own, where what a command leaves is nobody's
        timeout=240,
        **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
        check=False,
    )
    found = leaked(done.stdout + done.stderr)
    assert not found, f"secrets in the output of {program}: {found}"
    last = done.stderr.rpartition("\nerror: ")[2] if "\nerror: " in f"\n{done.stderr}" else "\n  "
    assert "\n  " in last, f"an error without advice: {last}"
    return Result(done.returncode, done.stdout, done.stderr)
