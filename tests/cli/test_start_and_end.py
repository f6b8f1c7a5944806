"""Signals before a command runs, while it loads what it needs, and after it: an exit status of docs/reference/cli.md, and never a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.reading import ROOT
from tests.fakes.commands import BIN
from tests.fakes.moments import struck
from tests.samples import more

COMPLETING = {"COMP_CWORD": "1"}
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, *more([signal.SIGTERM, signal.SIGHUP])])


@SIGNALS
def test_a_signal_while_the_program_loads_ends_it_with_130(tmp_path, number):
    found = struck(tmp_path, ["hub-import", "status"], number, first="listen", last="working", every=5000)
    assert len(found) > 10, "modules load and typer builds the commands"
    assert {(moment.status, moment.stderr) for moment in found} == {
        (130, "error: interrupted\n  Nothing was done yet; run the same command again.\n")
    }


@pytest.mark.parametrize("arguments", [["no-such-command"], *more([["create", "--help"]])])
def test_help_and_usage_errors_are_interrupted_as_quietly(tmp_path, arguments):
    found = struck(tmp_path, ["hub-export", *arguments], signal.SIGINT, first="listen", last="", every=15000)
    assert len(found) > 3
    assert {moment.status for moment in found} == {130}
    assert all(moment.stderr.endswith("run the same command again.\n") for moment in found)
    assert not [moment for moment in found if "Traceback" in moment.stderr]


@pytest.mark.parametrize("program", ["hub-import", *more(["hub-export"])])
def test_a_signal_while_a_shell_completes_is_silent(tmp_path, program):
    asked = {f"_{program.upper().replace('-', '_')}_COMPLETE": "complete_bash", "COMP_WORDS": f"{program} pl", **COMPLETING}
    found = struck(tmp_path, [program], signal.SIGINT, first="listen", last="", every=10000, env=asked)
    assert len(found) > 3
    assert {(moment.status, moment.stderr) for moment in found} == {(130, "")}


def test_a_signal_while_a_command_loads_what_it_needs_ends_it_with_130(tmp_path):
    command = ["hub-import", "inspect", "/nowhere"]
    found = struck(tmp_path, command, signal.SIGTERM, first="working", last="finished", every=120, name="<module>")
    assert len(found) > 1
    assert {moment.status for moment in found} == {130}
    assert {moment.stderr.splitlines()[0] for moment in found} == {"error: interrupted"}


def test_a_signal_after_the_command_keeps_its_exit_status(tmp_path):
    found = struck(tmp_path, ["hub-import", "inspect", "/nowhere"], signal.SIGINT, first="finished", last="", every=20)
    assert len(found) > 2
    assert {(moment.status, moment.stderr) for moment in found} == {(2, "")}


@SIGNALS
@pytest.mark.parametrize("command", [["hub-import", "--version"], ["hub-import", "inspect", "/nowhere"]])
def test_a_signal_while_the_interpreter_ends_keeps_the_exit_status(tmp_path, command, number):
    """CPython 3.11 restores the default action of handled signals (`_PySignal_Fini`) before it frees the modules."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "class Last:\n"
        f"    def __del__(self, kill=os.kill, own=os.getpid()): kill(own, {int(number)})\n"
        "last = Last()\n"
    )
    env = {"HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([str(BIN / command[0]), *command[1:]], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if command[-1] == "--version" else 2)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["exporter", "importer"])
def test_signals_are_handled_before_anything_large_is_loaded(program):
    ask = f"import sys; import {program}.__main__; import common.interruption; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", ask], capture_output=True, text=True, check=True)
    foreign = {name.partition(".")[0] for name in done.stdout.split()} - sys.stdlib_module_names - {"__main__"}
    ours = {name for name in done.stdout.split() if name.partition(".")[0] in ("common", "hub_airgap", program)}
    assert ours == {
        "common",
        "common.errors",
        "common.interruption",
        "common.text",
        "hub_airgap",
        program,
        f"{program}.__main__",
    }
    assert "typer" not in foreign
    assert "msgspec" not in foreign


def test_the_programs_begin_where_signals_are_handled():
    text = (ROOT / "pyproject.toml").read_text()
    assert '\nhub-export = "hub_airgap:export_main"  # ADR 0074\nhub-import = "hub_airgap:import_main"\n' in text


@pytest.mark.parametrize("name", ["SIGTERM", *more(["SIGINT", "SIGHUP"])])
def test_a_signal_before_anything_is_loaded_ends_with_130(name):
    """Also before `common.interruption`, which is found by the path that `prepare` orders."""
    code = f"import os, signal, hub_airgap; hub_airgap.prepare(); os.kill(os.getpid(), signal.{name})"
    begun = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); {code}"  # the tests may run under nohup
    done = subprocess.run([sys.executable, "-c", begun], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_nohup_is_respected(tmp_path):
    """A SIGHUP that is ignored when the program starts stays so: it ends by itself, with its own status."""
    ignoring = 'trap "" HUP; exec "$@"'
    code = "import os, signal; from common import interruption; interruption.listen(); os.kill(os.getpid(), signal.SIGHUP)"
    command = ["sh", "-c", ignoring, "sh", sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, env={**os.environ}, check=False).returncode == 0
    # Reset first: the tests themselves may have been started by nohup.
    heard = [sys.executable, "-c", f"import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); {code}"]
    assert subprocess.run(heard, cwd=ROOT, capture_output=True, check=False).returncode != 0


def test_a_result_that_cannot_be_written_is_an_error_and_no_trace():
    command = [str(BIN / "hub-export"), "list", "--catalog", str(ROOT / "tests/data/catalogs/fbc/redhat")]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env={"HOME": "/nonexistent"}, check=False
        )
    assert done.returncode == 7
    assert done.stderr.startswith("error: standard output: No space left on device\n  ")
    assert "Traceback" not in done.stderr


def test_a_second_sighup_does_not_end_the_cleaning_up():
    """bash(1), SIGNALS: the shell sends SIGHUP to its jobs, and the kernel has sent it to the foreground process group."""
    code = """
import os, signal
from common import interruption
interruption.listen()
hang_up = lambda: os.kill(os.getpid(), signal.SIGHUP)
try:
    hang_up()
except KeyboardInterrupt:
    hang_up()
    print("cleaned up", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "cleaned up\n"
    assert done.returncode != 0, "a person may end it at once"


@pytest.mark.parametrize("closed", ["2>&-", *more(["2>/dev/full", ">&- 2>&-"])])
def test_without_a_stderr_the_exit_status_stays(closed):
    """Python Library Reference, sys.stderr: None where the descriptor is closed; print then writes on stdout."""
    command = ["sh", "-c", f'"$0" inspect /nowhere {closed}', str(BIN / "hub-import")]
    done = subprocess.run(command, env={"HOME": "/nonexistent"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize("words", ["login registry.example", *more(["login registry.example -u me --password-stdin"])])
def test_a_standard_input_that_is_closed_is_an_empty_one(words):
    """Python Library Reference, sys.stdin: None where the descriptor is closed, as some supervisors start jobs."""
    command = ["sh", "-c", f'"$0" {words} <&-', str(BIN / "hub-import")]
    done = subprocess.run(command, env={"HOME": "/nonexistent"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "standard input is" in done.stderr
