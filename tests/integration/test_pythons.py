"""What depends on the version of Python, run on the other supported ones, in the environments that `make pythons` makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUPPORTED = ("3.11", "3.12", "3.13")
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
# The newest by default: its ssl module differs, and that of 3.12 is as that of 3.11.
OTHERS = [
    pytest.param(version, marks=[] if version == SUPPORTED[-1] else pytest.mark.more) for version in SUPPORTED if version != OWN
]
DEPENDENT = [
    "tests/unit/common/test_tls.py",  # the flags of ssl.create_default_context
    "tests/unit/exporter/kit/test_kit_wheels.py",  # importlib.metadata
]


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", OTHERS)
def test_what_depends_on_the_python_holds_there(version, tmp_path):
    python = Path(f"{sys.prefix}-{version}/bin/python")
    if not python.exists():
        made = f"make pythons makes {python.parents[1].name} where that Python is installed"
        pytest.skip(f"not run on Python {version}: {', '.join(DEPENDENT)}; {made}")
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", tmp_path / "there", *DEPENDENT]
    inherited = ("COVERAGE_", "COV_", "PYTEST_", "PYTHON")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
