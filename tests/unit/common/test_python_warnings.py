"""Warnings of Python and of libraries are for the log file: on stderr they show lines of our packages, and no next step."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry

# urllib3 compares the day with RECENT_DATE (urllib3/connection.py): a later one is a clock that is years slow.
SLOW_CLOCK = """
import datetime, sys, urllib3.connection
urllib3.connection.RECENT_DATE = datetime.date(2999, 1, 1)
from exporter.__main__ import main
sys.argv = ["hub-export", *sys.argv[1:]]
sys.exit(main())
"""


WARNS = """
import sys, warnings
from pathlib import Path
from common.log import configure
configure(sys.argv[1], Path(sys.argv[2]) if sys.argv[2:] else None)
warnings.warn("a library is about to change")
"""


@pytest.mark.parametrize("level", ["debug", "warning"])
def test_a_warning_goes_into_the_log_file_alone(level, tmp_path):
    for more in ([tmp_path / "log"], []):
        done = subprocess.run([sys.executable, "-c", WARNS, level, *more], check=True, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "log").read_text().count("a library is about to change") == 1


def test_a_slow_clock_makes_no_warning_of_python(tmp_path):
    with FakeRegistry(tls=True) as registry:
        reference = registry.add_image("org/app", image([b"layer"]), tag="v1")
        command = [sys.executable, "-c", SLOW_CLOCK, "plan", "--image", str(reference), "--ca", str(registry.ca)]
        environ = {**os.environ, "HOME": str(tmp_path)}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "site-packages" not in done.stderr
