"""What long work shows: on a terminal of 80 columns, in a log, and to programs; and what it says while nothing moves."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pytest

from tests.fakes.archives import noise
from tests.fakes.commands import BIN, run
from tests.fakes.factories import image
from tests.fakes.link import Link
from tests.fakes.registry import FakeRegistry
from tests.samples import more

pytestmark = pytest.mark.integration
LARGE = noise("large", 8_000_000)


@pytest.fixture
def slow():
    """A registry whose line brings four megabytes a second: (host, reference)."""
    with FakeRegistry(tls=False) as source:
        source.add_image("org/app", image([LARGE, b"small"]), tag="v1")
        with Link(source.host, rate=4_000_000) as link:
            yield link


def command(link, output, *more):
    return ["hub-export", "create", "--image", f"{link.host}/org/app:v1", "--insecure", link.host, "--output", output, *more]


def test_on_a_terminal_of_80_columns(slow, tmp_path):
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    program, *arguments = command(slow, tmp_path / "out")
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "TERM": "xterm", "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        [str(BIN / program), *map(str, arguments)], stdin=inside, stdout=subprocess.DEVNULL, stderr=inside, env=env
    )
    os.close(inside)
    shown = b""
    while True:
        try:
            shown += os.read(outside, 100_000)
        except OSError:  # the last who had the terminal open has closed it
            break
    os.close(outside)
    assert process.wait(120) == 0, shown
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown.decode())
    lines = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
    at = lines.index(f"WARNING {slow.host}: its identity is not verified (--insecure, or insecure")
    assert lines[at + 1] == "  in registries.conf)"
    assert max(len(line) for line in lines) <= 80
    moving = [line for line in lines if line.startswith("fetching 3 blobs")]
    assert len(moving) > 3, "it moves"
    assert any(re.search(r"\d+%.* \S+ .iB of 7.6 MiB, .* .iB/s, .* left$", line) for line in moving), "bytes, rate, time left"
    assert any(line.startswith("  org/app ") for line in lines), "and a line for each blob, with its image"
    assert any(line.startswith("reading back what was written: done") for line in lines)


def test_in_a_log(slow, tmp_path):
    done = run(*command(slow, tmp_path / "out"))
    assert done.status == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "blobs" in line]
    assert told[0] == "fetching 3 blobs: 7.6 MiB"
    assert re.fullmatch(r"fetching 3 blobs: done, 7\.6 MiB in \d+ s", told[-1])
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr
    assert " 0 " not in re.sub("in 0 s|0 s left", "", done.stderr), "steps that have nothing to do are not told"
    assert done.stderr.count("its identity is not verified") == 1


def test_to_programs(slow, tmp_path):
    done = run(*command(slow, tmp_path / "out", "--progress", "json", "--format", "json"))
    assert done.status == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    fetching = [event for event in events if event["step"] == "fetching 3 blobs"]
    assert [fetching[0]["event"], fetching[-1]["event"]] == ["begin", "end"]
    assert fetching[-1]["done"] == fetching[-1]["total"] > len(LARGE)
    amounts = [event["done"] for event in fetching]
    assert amounts == sorted(amounts)
    assert json.loads(done.stdout)["totals"]["images"] == 1


@pytest.mark.parametrize("style", ["json", *more(["plain"])])
def test_an_interrupted_step_has_stopped_and_is_not_done(tmp_path, style):
    with FakeRegistry(tls=False) as source:
        source.add_image("org/app", image([LARGE, b"small"]), tag="v1")
        # More has moved than the manifests: the step has begun, and its largest blob is on its way.
        with Link(source.host, rate=4_000_000, hold_after=1_000_000) as link:
            done = run(*command(link, tmp_path / "out", "--progress", style), started=interrupt_when_held(link))
    assert done.status == 130, done.stderr
    assert re.search(r"^error: interrupted\n  fetching 3 blobs: stopped at .* of 7.6 MiB\n", done.stderr, re.MULTILINE)
    assert re.search(r"\n  hub-export create --image \S+ .*--progress \w+\n\Z", done.stderr), "the command, to be copied"
    if style == "json":
        events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        assert [event["event"] for event in events if event["step"] == "fetching 3 blobs"][-1] == "stopped"
    else:
        assert re.search(r"^fetching 3 blobs: stopped at .* of 7.6 MiB after \d+ s$", done.stderr, re.MULTILINE)
        assert "fetching 3 blobs: done" not in done.stderr


def interrupt_when_held(link):
    """Return what sends Ctrl-C to a process once a link holds its answers."""

    def interrupt(process):
        assert link.held.wait(60)
        os.kill(process, signal.SIGINT)

    return interrupt


def test_nothing_where_nothing_is_wanted(slow, tmp_path):
    done = run(*command(slow, tmp_path / "out", "--progress", "none", "--log-level", "error"))
    assert (done.status, done.stderr) == (0, "")
