"""A scratch disk, where volumes are made before they are uploaded: a directory for each, of one archive and one process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.digest import Digest, digest_of, hex_of
from common.errors import UsageError
from common.files import locked
from common.storage.place import StoredPlace

_NAMED = 12  # hex digits that tell archives apart


@dataclass(frozen=True, slots=True)
class Scratch:
    """What one archive has on a scratch disk. Several processes, and several archives, may share the disk."""

    root: Path
    owner: str

    @classmethod
    def of(cls, root: Path, place: StoredPlace, plan: Digest) -> Scratch:
        """Return what the archive of a plan at a place has there."""
        return cls(root, hex_of(digest_of(f"{place} {plan}".encode()))[:_NAMED])

    def has(self, number: int) -> bool:
        """Say whether an interrupted run left something of a volume."""
        return self._directory(number).exists()

    @contextmanager
    def held(self, number: int) -> Iterator[Path]:
        """Hold the directory of a volume, with what an interrupted run left in it; it goes when all went well.

        Raises UsageError where none can be made, and what `locked` raises when another process has it.
        """
        directory = self._directory(number)
        lock = directory.with_name(f"{directory.name}.lock")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{self.root}: cannot be made: {error.strerror}", hint="Give --scratch another directory."
            ) from error
        with locked(lock, f"the scratch directory {directory}"):
            directory.mkdir(exist_ok=True)
            yield directory
            shutil.rmtree(directory)
            lock.unlink(missing_ok=True)

    def _directory(self, number: int) -> Path:
        return self.root / f"hub-export-{self.owner}-{number:04d}"
