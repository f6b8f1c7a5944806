"""A terminal that is closed under a command: SIGHUP, then EIO for whatever is written on it (tty_ioctl(4), termios(3)).

The command ends with 130, and leaves no temporary directory.
"""

from __future__ import annotations

import os
import pty
import signal
import socket
from pathlib import Path

import pytest

from tests.fakes import hostile
from tests.fakes.commands import BIN
from tests.samples import more

ASKED = ["--catalog", "HOST/a/b:c", "--insecure", "HOST"]


def ended(folder: Path, command: list[str], words: bytes = b"") -> int:
    """Start a command on a terminal, close it when a registry that never answers is asked, or `words` are shown."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    arguments = [str(BIN / command[0]), *(each.replace("HOST", host) for each in command[1:])]
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored, and so it would be by the command
        os.chdir(folder)
        os.execve(
            arguments[0], arguments, {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "TERM": "xterm"}
        )
    with listener:
        if words:
            shown = b""
            while words not in shown:
                shown += os.read(terminal, 1000)
            os.close(terminal)
        else:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(60)
                assert connection.recv(1), "the request, so that the command waits for its answer"
                os.close(terminal)
                return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize(
    "command",
    [
        ["hub-export", "list", *ASKED],
        *more(
            [
                ["hub-export", "plan", "--heads", *ASKED],
                ["hub-export", "create", "--heads", "--output", "out", *ASKED],
                ["hub-import", "push", "in", "--registry", "HOST", "--insecure", "HOST"],
            ]
        ),
    ],
)
def test_a_closed_terminal_interrupts(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "volume-0001.tar.zst").write_bytes(hostile.volume(hostile.compact(hostile.inventory())))
    assert ended(tmp_path, command) == 130
    assert not list(tmp_path.glob("hub-*")), "a temporary directory"


def test_a_terminal_that_is_closed_at_a_question_interrupts(tmp_path: Path) -> None:
    assert ended(tmp_path, ["hub-import", "login", "HOST", "--insecure", "-u", "me"], b"Password: ") == 130
    assert not list(tmp_path.glob("hub-*"))
