"""Counts the work of a command of this project: calls of the kernel by strace, bytes and memory by /proc."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.servers import require

_WRAPPER = """\
import json, sys
from importlib import import_module
where, program, *rest = sys.argv[1:]
sys.argv = [program, *rest]
try:
    import_module(program).main()
finally:
    figures = {key: int(value) for key, value in (line.split(": ") for line in open("/proc/self/io"))}
    figures["peak"] = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
    json.dump(figures, open(where, "w"))
"""


@dataclass(frozen=True)
class Counted:
    """What a process did: bytes read from files, bytes written to files, the most memory, and calls of the kernel by name."""

    read: int
    written: int
    peak: int
    calls: dict[str, int]


def counted(home: Path, program: str, *arguments: str | Path) -> Counted:
    """Run a command of this project under strace, which only counts."""
    # -B: the first command of a new checkout would write a file of bytecode for each module.
    command = [require("strace"), "-f", "-c", "-o", home / "calls", sys.executable, "-B", "-c", _WRAPPER, home / "io"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([*command, program, *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((home / "io").read_text())
    lines = (re.findall(r"\S+", line) for line in (home / "calls").read_text().splitlines())
    calls = {fields[-1]: int(fields[3]) for fields in lines if len(fields) >= 5 and fields[3].isdigit()}
    assert calls["total"] > 1000, "strace's summary was understood"
    return Counted(figures["rchar"], figures["wchar"], figures["peak"], calls)
