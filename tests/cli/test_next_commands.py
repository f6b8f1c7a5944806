"""The last line of results and errors: the next command, as it can be copied into a shell."""

from __future__ import annotations

import shlex

import pytest

from common.cli.summary import Measured, same_command
from common.progress import Silent
from tests.fakes.commands import on_terminal, run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.samples import more


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["undo", "--dry-run", "--context", "a b"], ["undo", "--context", "a b"]),
        (["undo", "--dry-run=server", "--yes"], ["undo", "--yes"]),
        (["build-catalog", "--auth-token", "s3cret-token", "--to", "x"], ["build-catalog", "--auth-token=***", "--to", "x"]),
        (["build-catalog", "--auth-token=s3cret-token", "--to", "x"], ["build-catalog", "--auth-token=***", "--to", "x"]),
    ],
)
def test_the_same_command_is_what_was_typed_without_secrets(monkeypatch, typed, said):
    monkeypatch.setattr("sys.argv", ["/opt/hub/bin/hub-import", *typed])
    assert same_command(without=["--dry-run"]) == ["hub-import", *said]


def test_failures_of_a_step_are_what_is_left():
    taken = Measured(Silent())
    assert taken.left() == ""
    taken.begin("fetching 3 blobs", 3 << 20)
    taken.advance(1 << 20)
    assert taken.left() == "fetching 3 blobs: stopped at 1.0 MiB of 3.0 MiB"
    taken.failed(1 << 20)
    assert taken.left() == "fetching 3 blobs: stopped at 1.0 MiB of 3.0 MiB, 1 failed"
    taken.failed(1 << 20)
    assert taken.left() == "fetching 3 blobs: 1.0 MiB of 3.0 MiB, 2 failed"


@pytest.mark.parametrize("status", [503, *more([500])])
def test_a_registry_that_is_out_in_the_middle(tmp_path, status):
    """What is done, what is left, and the command that continues; in a pipe in one line, on a terminal with backslashes."""
    with FakeRegistry() as source:
        source.add_image("org/app", image([b"%d" % number for number in range(12)]), tag="v1")
        out = tmp_path / "week 47"
        words = ["create", "--image", f"{source.host}/org/app:v1", "--insecure", source.host, "--output", str(out)]
        source.fault("GET", "/blobs/", status=status, times=10_000)
        env = {"HUB_REGISTRY_PATIENCE": "1"}
        done = run("hub-export", *words, env=env)
        shown = on_terminal("hub-export", *words, env=env)
    lines = done.stderr.splitlines()
    assert done.status == 5, done.stderr
    assert any(line.startswith("  fetching 13 blobs: ") and " of " in line for line in lines), done.stderr
    assert shlex.split(lines[-1]) == ["hub-export", *words]
    copied = shown.stdout.rpartition("\n  hub-export ")[2].replace("\\\n", "")
    assert shlex.split(copied) == words


def test_blobs_that_a_registry_does_not_give_are_failed(tmp_path):
    """Neighbour: single blobs stop nothing; the archive is made, and the command for another one is the last but one."""
    with FakeRegistry() as source:
        source.add_image("org/app", image([b"one", b"two"]), tag="v1")
        words = ["create", "--image", f"{source.host}/org/app:v1", "--insecure", source.host, "--output", str(tmp_path / "out")]
        source.fault("GET", "/blobs/", status=404, times=1)
        done = run("hub-export", *words)
    assert done.status == 3, done.stderr
    assert "fetching 3 blobs: 1 failed, " in done.stderr
    assert "stopped at" not in done.stderr
    assert shlex.join(["hub-export", *words[:-1], f"{tmp_path}/out-again"]) in done.stdout
