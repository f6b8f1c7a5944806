"""What `--version`, `--help` and completion load. The figures of `make bench` follow from it; a clock would fail on busy machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.samples import more

# Each takes 5 to 60 ms, and none is needed to print help: the first three came with typer's own help, and with its conversion of
# values; the others with modules of ours that commands need later.
HEAVY = {"rich", "markdown_it", "pydantic", "pygments", "yaml", "filelock", "tqdm", "asyncio", "ssl", "httpx", "urllib3"}
HEAVY |= {"cryptography", "jinja2", "lightkube", "zstandard", "boto3", "starlette", "stamina", "attr"}
ASK = """
import atexit, os, sys
atexit.register(lambda: os.write(2, "\\n".join(sorted(sys.modules)).encode()))
import hub_airgap
sys.argv = sys.argv[1:]
(hub_airgap.export_main if sys.argv[0] == "hub-export" else hub_airgap.import_main)()
"""


def loaded(*command, env=None, status=0):
    given = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin", **(env or {})}
    done = subprocess.run([sys.executable, "-c", ASK, *command], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout, set(done.stderr.split())


@pytest.mark.parametrize(
    ("command", "most"),
    [
        (["hub-export", "create", "--help"], 290),
        (["hub-import", "deploy", "--help"], 280),
        pytest.param(["hub-export", "--help"], 290, marks=pytest.mark.more),
        pytest.param(["hub-import", "--help"], 280, marks=pytest.mark.more),
        pytest.param(["hub-export", "login", "--help"], 290, marks=pytest.mark.more),
    ],
)
def test_help_loads_no_renderer_and_nothing_that_commands_need(command, most):
    shown, modules = loaded(*command)
    assert f"Usage: {' '.join(command[:-1])}" in shown
    assert {name.partition(".")[0] for name in modules} & HEAVY == set()
    assert len(modules) <= most, "what is new? python -X importtime says what it costs"


@pytest.mark.parametrize(
    "arguments", [[], *more([["crate"], ["create"], ["create", "--retry-times", "3"], ["list", "--openshift", "4"]])]
)
def test_a_usage_error_loads_no_renderer(arguments):
    """typer draws the help of a program without arguments with rich."""
    _, modules = loaded("hub-export", *arguments, status=2)
    assert {name.partition(".")[0] for name in modules} & (HEAVY - {"pydantic"}) == set()


@pytest.mark.parametrize("program", ["hub-export", *more(["hub-import"])])
def test_the_version_loads_no_commands(program):
    shown, modules = loaded(program, "--version")
    assert shown.count(".") == 2
    assert {name.partition(".")[0] for name in modules} & (HEAVY | {"typer", "msgspec"}) == set()
    assert len(modules) <= 180


@pytest.mark.parametrize(
    ("line", "offered"),
    [("create --vol", ["--volume-size", "--volumes"]), pytest.param("pl", ["plan"], marks=pytest.mark.more)],
)
def test_a_tabulator_converts_no_values(line, offered):
    """Each press of the Tab key starts the program."""
    words = f"hub-export {line}"
    env = {"_HUB_EXPORT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    shown, modules = loaded("hub-export", env=env)
    assert shown.split() == offered
    assert {name.partition(".")[0] for name in modules} & HEAVY == set()


@pytest.mark.parametrize("asked", ["--version", "--help", *more(["--show-completion"])])
def test_a_full_disk_is_said_and_no_trace(asked):
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "importer", asked]
        done = subprocess.run(
            command,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={"HOME": "/nonexistent", "SHELL": "/bin/bash"},
            check=False,
        )
    assert done.returncode == 7, done.stderr
    assert done.stderr.startswith("error: standard output: No space left on device\n  ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", *more(["latin-1"])])
def test_help_is_drawn_where_the_terminal_has_no_unicode(encoding):
    env = {"HOME": "/nonexistent", "PYTHONIOENCODING": encoding, "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-m", "exporter", "create", "--help"], env=env, capture_output=True, check=True)
    text = done.stdout.decode("ascii")
    assert "+- Options -----" in text
    assert "\\u256d" not in text


@pytest.mark.parametrize("columns", ["80", *more(["40", "120"])])
def test_no_line_of_help_is_wider_than_the_terminal_and_no_option_is_cut(columns):
    env = {"HOME": "/nonexistent", "COLUMNS": columns, "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "create", "--help"], env=env, capture_output=True, text=True, check=True
    )
    panels = [line for line in done.stdout.splitlines() if line.startswith(("╭", "│", "╰"))]
    assert len(panels) > 60
    if int(columns) >= 80:
        assert {len(line) for line in panels} == {int(columns)}
    assert "--platform, --filter-by-os OS/ARCH" in done.stdout
    assert "--authfile, -a FILE" in done.stdout
    assert "…│" not in done.stdout
