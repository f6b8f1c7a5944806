"""The start of the programs: CPU of what a person or a shell waits for before anything is done.

Each is the least of several processes, of the installed script, with the start of Python: other work on the machine only ever adds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.bench.meter import BIN
from tests.bench.rows import Row

_TIMES = 7
_VERSION_S, _HELP_S = 0.15, 0.25
_TAB = {"_HUB_EXPORT_COMPLETE": "complete_bash", "COMP_WORDS": "hub-export create --vol", "COMP_CWORD": "2"}


def rows() -> list[Row]:
    """Return what `--version`, `--help` and the Tab key cost."""
    python = _least([sys.executable, "-c", "pass"])
    found = [
        *(
            Row(f"`{name} --version`", _least([BIN / name, "--version"]), _VERSION_S, "s")
            for name in ("hub-export", "hub-import")
        ),
        *(
            Row(f"`{' '.join(words)} --help`", _least([BIN / words[0], *words[1:], "--help"]), _HELP_S, "s")
            for words in (["hub-export"], ["hub-import"], ["hub-export", "create"], ["hub-import", "deploy"])
        ),
        Row("the Tab key after `hub-export create`", _least([BIN / "hub-export"], _TAB), _HELP_S, "s"),
    ]
    return [Row(row.what, row.figure, row.bar, row.unit, f"of it Python alone: {python:.2f} s") for row in found]


def _least(command: list[str | Path], env: Mapping[str, str] | None = None) -> float:
    """Return the CPU seconds of a command: the least of several runs."""
    taken = []
    environ = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin", **(env or {})}
    for _ in range(_TIMES):
        process = subprocess.Popen(list(map(str, command)), env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        taken.append(used.ru_utime + used.ru_stime)
    return min(taken)
