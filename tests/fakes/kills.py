"""An instant in which a process dies: before a change to the files below a directory, counted from where it is set.

Python tells its audit hooks of every change before it is made. From the instant on none is made any more, so that nothing is
tidied up that a process would not have lived to tidy up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


class Killed(BaseException):
    """Where the process would have ended."""


class _Instant:
    home = ""
    left: int | None = None

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if self.left is None or not self._changes(event, args):
            return
        if not self.left:
            raise Killed
        self.left -= 1

    def _changes(self, event: str, args: tuple[object, ...]) -> bool:
        if event == "os.truncate":
            return True
        if not isinstance(args[0] if args else None, str | bytes | os.PathLike):
            return False
        below = os.fsdecode(args[0]).startswith(self.home)  # type: ignore[arg-type]
        makes = event == "open" and bool(args[2] & os.O_CREAT)  # type: ignore[operator]
        return below and (makes or event in _CHANGES)


_INSTANT = _Instant()


@contextmanager
def killed_after(changes: int, home: Path) -> Iterator[list[bool]]:
    """Die after so many changes below `home`; the list that it gives has True in it when that came to pass."""
    if not _INSTANT.home:
        sys.addaudithook(_INSTANT)
    _INSTANT.home, _INSTANT.left = str(home), changes
    died: list[bool] = []
    try:
        yield died
    except Killed:
        died.append(True)
    finally:
        _INSTANT.left = None
