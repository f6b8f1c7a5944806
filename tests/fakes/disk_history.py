"""What a process did to a directory, recorded by strace, and the states that a loss of power could have left of it.

A write counts for certain only when a flush of its file followed; a name only when a flush of its directory did. Of everything
later, any part may be there: none of it, all of it, or some writes without others. Names come and go in their order, as the
journals of file systems keep them.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CALLS = "openat,pwrite64,pwritev,pwritev2,write,fallocate,ftruncate,fsync,fdatasync,rename,unlink,unlinkat,mkdir,rmdir"
_LINE = re.compile(r"^(\d+\.\d+) (\w+)\((.*)\)\s+= (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FD = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")


@dataclass(frozen=True)
class Step:
    """One thing that was done: to a file (`node`) or to the names of the directory."""

    kind: str
    node: int = 0
    offset: int = 0
    content: bytes = b""
    path: str = ""
    target: str = ""


@dataclass
class History:
    """All steps, in order."""

    steps: list[Step] = field(default_factory=list)

    @classmethod
    def record(cls, command: Sequence[str], folder: Path, logs: Path, env: Mapping[str, str]) -> History:
        """Run a command under strace; return what it did below `folder`."""
        logs.mkdir()
        options = ["-ff", "-ttt", "-qq", "-y", "-xx", "-s", "100000000", "-e", f"trace={_CALLS}", "-o", str(logs / "log")]
        subprocess.run(["strace", *options, *command], check=True, capture_output=True, env=dict(env))
        lines = [line for path in logs.iterdir() for line in path.read_text().splitlines()]
        found = [match for line in lines if (match := _LINE.match(line)) and int(match[4]) >= 0]
        return cls(_Reader(str(folder)).steps(sorted(found, key=lambda match: float(match[1]))))

    def after_power_loss(self, at: int, chance: random.Random, folder: Path) -> None:
        """Make in `folder` what a loss of power just before step `at` may have left."""
        done = self.steps[:at]
        mood = chance.choice(["none", "all", "some", "some"])
        synced = {step.node: number for number, step in enumerate(done) if step.kind == "fsync"}
        names = [number for number, step in enumerate(done) if step.kind in ("create", "rename", "unlink", "mkdir", "rmdir")]
        certain = max((number for number, step in enumerate(done) if step.kind == "fsync-names"), default=-1)
        loose = [number for number in names if number > certain]
        last = {"none": certain, "all": at}.get(mood, chance.choice([certain, *loose]))
        files: dict[int, bytearray] = {}
        for number, step in enumerate(done):
            kept = number <= synced.get(step.node, -1) or mood == "all" or (mood == "some" and chance.random() < 0.5)
            if step.kind in ("write", "truncate", "punch") and kept:
                _apply(files.setdefault(step.node, bytearray()), step)
        places = _names([done[number] for number in names if number <= last])
        folder.mkdir(parents=True)
        for name in sorted(places):
            path, node = folder / name, places[name]
            if node is None:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(files.get(node, b""))


def _apply(file: bytearray, step: Step) -> None:
    if step.kind == "truncate":
        del file[step.offset :]
        file.extend(bytes(step.offset - len(file)))
        return
    end = step.offset + len(step.content)
    file.extend(bytes(max(end - len(file), 0)))
    file[step.offset : end] = step.content


def _names(steps: Sequence[Step]) -> dict[str, int | None]:
    """Return what lies under which name; None for a directory."""
    found: dict[str, int | None] = {}
    for step in steps:
        if step.kind == "create":
            found[step.path] = step.node
        elif step.kind == "mkdir":
            found[step.path] = None
        elif step.kind == "rename":
            for name in [name for name in found if name == step.path or name.startswith(f"{step.path}/")]:
                found[step.target + name[len(step.path) :]] = found.pop(name)
        else:
            found.pop(step.path, None)
    return found


class _Reader:
    """Turns calls into steps; a file keeps its number whatever it is renamed to."""

    def __init__(self, folder: str) -> None:
        self._folder = f"{folder}/"
        self._nodes: dict[str, int] = {}
        self._ends: dict[int, int] = {}
        self._next = 1

    def steps(self, calls: Sequence[re.Match[str]]) -> list[Step]:
        return [step for call in calls for step in self._step(call[2], call[3])]

    def _step(self, name: str, rest: str) -> list[Step]:
        reader = getattr(self, f"_{name}", None)
        return reader(rest) if reader else []

    def _below(self, path: str) -> str | None:
        return path.removeprefix(self._folder) if path.startswith(self._folder) else None

    def _paths(self, rest: str) -> list[str | None]:
        return [self._below(_text(match)) for match in _TEXT.findall(rest)]

    def _file(self, rest: str) -> int | None:
        match = _FD.match(rest)
        path = self._below(_text(match[1])) if match else None
        return self._nodes.get(path) if path else None

    def _openat(self, rest: str) -> list[Step]:
        path = self._paths(rest)[0]
        if path is None or "O_CREAT" not in rest or path in self._nodes:
            return []
        self._nodes[path], self._next = self._next, self._next + 1
        return [Step("create", self._nodes[path], path=path)]

    def _pwritev2(self, rest: str) -> list[Step]:
        node = self._file(rest)
        parts = re.findall(r'iov_base="((?:\\x[0-9a-f]{2})*)"', rest)
        offset = int(rest.rsplit(", ", 2)[1])
        return [Step("write", node, offset, b"".join(map(_raw, parts)))] if node else []

    def _pwritev(self, rest: str) -> list[Step]:
        return self._pwritev2(f"{rest}, 0")

    def _pwrite64(self, rest: str) -> list[Step]:
        node = self._file(rest)
        return [Step("write", node, int(rest.rsplit(", ", 1)[1]), _raw(_TEXT.findall(rest)[0]))] if node else []

    def _write(self, rest: str) -> list[Step]:
        node = self._file(rest)
        if not node:
            return []
        content = _raw(_TEXT.findall(rest)[0])
        offset = self._ends.get(node, 0)
        self._ends[node] = offset + len(content)
        return [Step("write", node, offset, content)]

    def _ftruncate(self, rest: str) -> list[Step]:
        node = self._file(rest)
        return [Step("truncate", node, int(rest.rsplit(", ", 1)[1]))] if node else []

    def _fallocate(self, rest: str) -> list[Step]:
        node = self._file(rest)
        mode, offset, length = rest.rsplit(", ", 3)[1:]
        if not node:
            return []
        if "PUNCH" in mode:
            return [Step("punch", node, int(offset), bytes(int(length)))]
        return [Step("write", node, int(offset) + int(length) - 1, b"\0")]

    def _fsync(self, rest: str) -> list[Step]:
        node = self._file(rest)
        path = _text(_FD.match(rest)[1]) if _FD.match(rest) else ""
        if node:
            return [Step("fsync", node)]
        return [Step("fsync-names")] if f"{path}/".startswith(self._folder) else []

    _fdatasync = _fsync

    def _rename(self, rest: str) -> list[Step]:
        old, new = self._paths(rest)
        if old is None or new is None:
            return []
        for name in [name for name in self._nodes if name == old or name.startswith(f"{old}/")]:
            self._nodes[new + name[len(old) :]] = self._nodes.pop(name)
        return [Step("rename", path=old, target=new)]

    def _unlink(self, rest: str) -> list[Step]:
        path = self._paths(rest)[0]
        if path is None:
            return []
        self._nodes.pop(path, None)
        return [Step("unlink", path=path)]

    def _unlinkat(self, rest: str) -> list[Step]:
        folder, name = re.match(r"\w+<((?:\\x[0-9a-f]{2})*)>, ", rest), _text(_TEXT.findall(rest)[0])
        path = self._below(name if name.startswith("/") or folder is None else f"{_text(folder[1])}/{name}")
        if path is None:
            return []
        self._nodes.pop(path, None)
        return [Step("rmdir" if "AT_REMOVEDIR" in rest else "unlink", path=path)]

    def _mkdir(self, rest: str) -> list[Step]:
        path = self._paths(rest)[0]
        return [Step("mkdir", path=path)] if path else []

    def _rmdir(self, rest: str) -> list[Step]:
        path = self._paths(rest)[0]
        return [Step("rmdir", path=path)] if path else []


def _raw(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(text: str) -> str:
    return _raw(text).decode()
