"""The project installed as a person does: its wheel, and an installer that has the wheels of all that it needs, and no network."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.docs.reading import ROOT
from tests.fakes import wheelhouse

_BLOCK = re.compile(r"^```text needs a package index\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the installation commands of the README."""
    (block,) = _BLOCK.findall((ROOT / "README.md").read_text())
    return block.splitlines()


def release(folder: Path, extras: Iterable[str] = ()) -> dict[str, str]:
    """Build the wheel into a folder; return the environment in which pip and uv have that, and what it needs with the extras."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    wheelhouse.fill(folder / "wheels", extras=extras)
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/python3").symlink_to(Path(sys._base_executable).resolve())  # type: ignore[attr-defined]
    return {
        **wheelhouse.offer(folder / "wheels"),
        "UV_FIND_LINKS": str(folder / "wheels"),
        "UV_OFFLINE": "1",
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_PYTHON_DOWNLOADS": "never",
        "HOME": str(folder),
        "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def typed(command: str, folder: Path, environment: dict[str, str]) -> None:
    """Type an installation command in the folder of the release."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr


def by_pip(folder: Path, extras: Iterable[str]) -> Path:
    """Install by the README's command for pip, with these extras; return the directory of the programs."""
    (command,) = (one for one in commands() if one.startswith("python3 "))
    wanted = ",".join(sorted(extras))
    typed(re.sub(r"\[[a-z0-9,]+\]", f"[{wanted}]" if wanted else "", command), folder, release(folder, extras))
    return folder / "hub/bin"
