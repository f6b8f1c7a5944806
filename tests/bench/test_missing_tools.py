"""A benchmark without one of its programs says which, leaves its table, and the others are measured."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.samples import more

PROGRAM = {
    "tests.bench moving terabytes": "docker-registry",
    "tests.bench whole-index": "nginx",
    "tests.bench peers": "curl",
    "tests.bench limits": "skopeo",
    "tests.bench scaling": "docker-registry",
    "tests.bench.serving": "nginx",
    "tests.bench.reports": "chromium",
}
FEW = [*PROGRAM][:2]


@pytest.mark.parametrize("command", [*FEW, *more(sorted(PROGRAM.keys() - FEW))])
def test_a_missing_program_is_said(command, tmp_path):
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    words = [sys.executable, "-m", *command.split(), *(["--no-write"] if " " in command else [])]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    what = command.replace(".", " ").split()[2]
    assert f"{what}: not measured: {PROGRAM[command]} is not installed" in done.stdout
    assert ("\n## terabytes\n" in done.stdout) is ("terabytes" in command)
