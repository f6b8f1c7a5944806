"""The directory that an archive is being made in: whose it is, and how far it got.

A lock keeps a second exporter out. The journal lies beside the volumes from before the first of them until after
SHA256SUMS: while it is there without SHA256SUMS, everything named like an archive's file is ours and unfinished, and a later
export may start over. Resuming will read from the journal where each blob stands (docs/archive-format.md, *Writing*).
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from common.archive import checksums, inventory_file
from common.errors import UsageError
from common.files import locked, sync_directory, write_atomic

LOCK = "hub-export.lock"
JOURNAL = "hub-export.journal"
_JOURNAL_TYPE = "application/vnd.hub-airgap.journal.v1+json"
# Compared without case: on FAT and NTFS a twin that differs only in case is the same file.
_OURS = re.compile(
    r"volume-\d+\.tar\.zst(\.parity)?|inventory\.json(\.sig)?|sha256sums(\.sig)?|report\.html", re.ASCII | re.IGNORECASE
)
_SHOWN = 3  # names in a message


class OutputDirectory:
    """Holds a directory for one export, from `with` to its end. Nothing finished, and nothing of others, is ever touched.

    Raises UsageError when the directory is in use, holds a finished archive, or files named like ours that are not ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise UsageError(f"{self.path} is not a directory", hint="Give --output a directory.") from None
        with ExitStack() as stack:
            stack.enter_context(locked(self.path / LOCK, f"the output directory {self.path}"))
            try:
                self._claim()
            except UsageError:
                (self.path / LOCK).unlink(missing_ok=True)  # not even a lock stays in a directory that is not ours
                raise
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def finished(self) -> None:
        """Take journal and lock away: the archive is complete and durable."""
        (self.path / JOURNAL).unlink()
        (self.path / LOCK).unlink(missing_ok=True)
        sync_directory(self.path)

    def _claim(self) -> None:
        for name in require_free(self.path):
            (self.path / name).unlink()
        write_atomic(self.path / JOURNAL, msgspec.json.encode({"mediaType": _JOURNAL_TYPE}) + b"\n")


def require_free(path: Path) -> list[str]:
    """Return the names in a directory that an unfinished export left; changes nothing.

    Raises UsageError when it holds a finished archive, or files named like ours that no export is at work on.
    """
    found = sorted(entry.name for entry in path.iterdir() if _OURS.fullmatch(entry.name))
    lower = {name.lower() for name in found}
    journal = path / JOURNAL
    begun = journal.is_file() and not journal.is_symlink()
    if checksums.NAME.lower() in lower or (inventory_file.NAME in lower and not begun):
        raise UsageError(
            f"{path} holds a finished archive ({', '.join(found[:_SHOWN])}{', …' if len(found) > _SHOWN else ''})",
            hint="It is not touched. Choose another directory with --output, or move the archive away.",
        )
    if found and not begun:
        raise UsageError(
            f"{path} holds {found[0]}, which this export did not make",
            hint="Choose another directory with --output, or move the file away.",
        )
    return found
