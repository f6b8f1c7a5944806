"""Fork server for `hub-export` and `hub-import`: each command is a process, but the imports are paid for once.

A command costs 0.6 to 0.9 s of CPU when an interpreter starts and imports everything, and about 0.1 s when it is forked from a
process that has done so. The server is started with the first command of a test process and ends with it.

What a command sees is that of a new process: arguments, environment, working directory, umask, the three standard streams,
signals, exit status and the end of its threads. Not that of a new process: the hash seed (all commands of one server share it),
the time of start-up, memory, and what the interpreter does at its end (`atexit`). Tests about these use `fresh=True` or the executable.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import io
import json
import multiprocessing
import os
import pkgutil
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

PROGRAMS = {"hub-export": "exporter.__main__", "hub-import": "importer.__main__"}
_ROOT = Path(__file__).resolve().parents[2]
_FORK = multiprocessing.get_context("fork")  # its processes end without taking every module apart: 60 ms of CPU each
_HEADER = struct.Struct("!I")
_STREAMS = 3
# What an export imports when it has begun to write.
_LATE = ("filelock", "_strptime", "encodings.idna", "importlib.resources.readers")


class CommandServer:
    """The client's side: starts the server process and runs commands in it. Threads may share one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="commands-")
        self._address = str(Path(self._folder.name) / "socket")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self._address)
        listener.listen(64)
        # The server ends when the write end of its standard input is closed, which also happens when this process is killed.
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env=dict(environ),
            cwd=_ROOT,
        )
        listener.close()

    def run(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        stdin: bytes | None,
        timeout: float,
        *,
        started: Callable[[int], None] | None = None,
        size: tuple[int, int] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, as `subprocess.run` with captured output does. Raises subprocess.TimeoutExpired.

        `started` gets the number of the process, so that a test may kill it at a moment of its choice. With `size`, the output
        is what a terminal of so many lines and columns gets, standard error too.
        """
        request = {"command": list(command), "env": dict(env), "cwd": cwd, "umask": _umask()}
        if size is not None:
            with Terminal(*size) as terminal, tempfile.TemporaryFile() as source:
                streams = [source.fileno(), terminal.inside, terminal.inside]
                status = self._status(request, streams, timeout, started)
            return subprocess.CompletedProcess(command, status, terminal.shown, b"")
        with (
            tempfile.TemporaryFile() as source,
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
        ):
            source.write(stdin or b"")
            source.seek(0)
            streams = [source.fileno(), output.fileno(), errors.fileno()]
            status = self._status(request, streams, timeout, started)
            return subprocess.CompletedProcess(command, status, _content(output), _content(errors))

    def _status(
        self, request: Mapping[str, Any], streams: Sequence[int], timeout: float, started: Callable[[int], None] | None
    ) -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(self._address)
            body = json.dumps(request).encode("utf-8", "surrogateescape")
            socket.send_fds(connection, [_HEADER.pack(len(body))], list(streams))
            connection.sendall(body)
            return _answer(connection, request["command"], timeout, started)

    def close(self) -> None:
        """End the server; commands that still run keep running."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


class Terminal:
    """A terminal; at its end `shown` is all that was written on it, with the newlines of the program."""

    def __init__(self, lines: int, columns: int) -> None:
        self._outside, self.inside = pty.openpty()
        fcntl.ioctl(self.inside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.shown = b""
        # A command stops when the terminal's buffer is full.
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the last that had it open has closed it
            while part := os.read(self._outside, 65536):
                self.shown += part

    def __exit__(self, *_: object) -> None:
        os.close(self.inside)
        self._reader.join()
        os.close(self._outside)
        self.shown = self.shown.replace(b"\r\n", b"\n")


def _answer(connection: socket.socket, command: Sequence[str], timeout: float, started: Callable[[int], None] | None) -> int:
    """Return the exit status, negative for a signal; kills the command when its time is over."""
    lines = connection.makefile("rb")
    first = lines.readline()
    if not first:
        raise AssertionError(f"the command server ended before it ran {command}")
    if started:
        started(int(first))
    connection.settimeout(timeout)
    try:
        last = lines.readline()
    except TimeoutError:
        os.kill(int(first), signal.SIGKILL)
        raise subprocess.TimeoutExpired(list(command), timeout) from None
    if not last:
        raise AssertionError(f"the command server ended while it ran {command}")
    return int(last)


def _content(file: Any) -> bytes:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def _umask() -> int:
    """Return the umask without changing it, for other threads may be creating files (proc(5), since Linux 4.7)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("Umask:")[2].split()[0], 8)


# The server's side.


def _serve(listener: socket.socket) -> None:
    """Fork a process for each connection, and tell each client how its command ended. Ends with the standard input."""
    running: dict[int, tuple[Any, socket.socket]] = {}
    poller = select.poll()
    for descriptor in (0, listener.fileno()):
        poller.register(descriptor, select.POLLIN | select.POLLHUP)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == 0:
                os._exit(0)
            if descriptor in running:
                poller.unregister(descriptor)
                _end(*running.pop(descriptor))
                continue
            connection, _ = listener.accept()
            request, streams = _request(connection)
            sockets = [listener, connection, *(each for _, each in running.values())]
            command = _FORK.Process(target=_be, args=(request, streams, sockets))
            command.start()
            for stream in streams:
                os.close(stream)
            connection.sendall(f"{command.pid}\n".encode())
            running[command.sentinel] = command, connection
            poller.register(command.sentinel, select.POLLIN)


def _request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    header, streams, _, _ = socket.recv_fds(connection, _HEADER.size, _STREAMS)
    (length,) = _HEADER.unpack(header)
    body = bytearray()
    while len(body) < length:
        body += connection.recv(length - len(body))
    return json.loads(body.decode("utf-8", "surrogateescape")), streams


def _end(command: Any, connection: socket.socket) -> None:
    command.join()
    with connection, contextlib.suppress(OSError):  # a client that gave up
        connection.sendall(f"{command.exitcode}\n".encode())
    command.close()


def _be(request: Mapping[str, Any], streams: Sequence[int], sockets: Sequence[socket.socket]) -> None:
    """Be the command of a request, in the forked process, with nothing open but its standard streams."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for each in sockets:
        each.close()
    _run(request)


def _run(request: Mapping[str, Any]) -> None:
    """Be the console script of the request, in the main thread."""
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    sys.stdin, sys.stdout, sys.stderr = (_stream(number) for number in range(_STREAMS))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.argv = request["command"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    module = importlib.import_module(PROGRAMS[Path(sys.argv[0]).name])
    sys.exit(module.main())


def _stream(number: int) -> io.TextIOWrapper:
    """Return a standard stream as the interpreter makes it for a file or a pipe under LANG=C.UTF-8."""
    errors = {0: "surrogateescape", 1: "surrogateescape", 2: "backslashreplace"}[number]
    raw = open(number, "rb" if number == 0 else "wb", closefd=False)  # noqa: SIM115 - open until the process ends
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=number == 2)


def _import_all() -> None:
    """Import what commands import, when they start and when they run, so that they find it."""
    for package in ("common", "exporter", "importer"):
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)
    _make_all()
    for trial in (["hub-export", "plan", "/nonexistent"], ["hub-import", "push", "--help"], ["hub-import", "push", "--none"]):
        for name in _modules_after(trial):
            importlib.import_module(name)


def _make_all() -> None:
    """Make what every command makes of the code alone, half of its CPU: the tree of commands, and templates as functions."""
    from common.cli.options import named
    from common.pages import page

    for program, module in PROGRAMS.items():
        package = module.partition(".")[0]
        root = named(importlib.import_module(f"{package}.cli.app").app, program)
        for each in (root, *root.commands.values()):
            for parameter in each.params:
                parameter.get_runtime_param()  # typer makes it when the first value comes
        templates = page._environment(Path(str(importlib.import_module(f"{package}.report").__file__)).parent)
        for name in templates.list_templates(extensions=["jinja"]):
            templates.get_template(name)


def _modules_after(command: list[str]) -> list[str]:
    """Return what a command has imported when it ends: libraries import parts of themselves late, typer for one."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - a device
            for number in range(_STREAMS):
                os.dup2(nothing.fileno(), number)
        atexit.register(lambda: os.write(writer, "\n".join(sys.modules).encode()))
        _run({"command": command, "env": dict(os.environ), "cwd": "/", "umask": 0o022})
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as names:
        found = [name for name in names.read().split("\n") if name not in sys.modules]
    os.wait()
    return found


def _main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    _import_all()
    assert threading.active_count() == 1, f"a fork would lose threads: {threading.enumerate()}"
    gc.collect()
    gc.freeze()  # commands do not copy the pages of what is imported
    _serve(listener)


if __name__ == "__main__":
    _main()
