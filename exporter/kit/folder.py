"""The folder that a kit is made in: whose it is, and how a new kit takes the place of an old one.

Everything is fetched into a folder of its own in it, so that an interrupted run goes on and an old kit stays whole meanwhile.
Then the files are moved into place; SHA256SUMS goes first and comes last: with it the kit is complete.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from common.archive import checksums
from common.errors import HubError, UsageError
from common.files import locked, sync_directory, write_atomic
from exporter.settings import FAT32_BYTES

STAGING = "hub-export.kit"
LOCK = "hub-export.kit.lock"
WHEELS = "wheels"
INSTALL, README, RUNTIMES = "install.sh", "README.txt", "platforms.txt"
_REQUEST = "request"
_OURS = re.compile(
    r"wheels|install\.sh|readme\.txt|platforms\.txt|sha256sums|hub-import-linux-[a-z0-9]+\.oci\.tar", re.IGNORECASE
)
_LINE = re.compile(r"[0-9a-f]{64}  ((?:wheels/)?[A-Za-z0-9][A-Za-z0-9._+-]*)")
_CHUNK = 1024 * 1024


class KitFolder:
    """Holds a folder while a kit is made in it. Nothing of others is touched.

    `request` says what the kit is made of; what an interrupted run fetched for another is thrown away. Raises UsageError for a
    folder that is in use, cannot be made, or has files named like ours that are not ours.
    """

    def __init__(self, path: Path, request: str) -> None:
        self.path = path
        self.staging = path / STAGING
        self._request = request
        self._stack = ExitStack()
        self._existed = path.is_dir()

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be made: {error.strerror}", hint="Choose another --output.") from error
        if self._existed:
            self._require_ours()
        try:
            self._stack.enter_context(locked(self.path / LOCK, f"the folder {self.path}"))
        except PermissionError as error:
            raise UsageError(f"{self.path}: {error.strerror}", hint="Choose another --output.") from error
        request = self.staging / _REQUEST
        if self.staging.is_dir() and not (request.is_file() and request.read_text() == self._request):
            shutil.rmtree(self.staging)
        self.staging.mkdir(exist_ok=True)
        write_atomic(request, self._request.encode())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        (self.path / LOCK).unlink(missing_ok=True)
        if not self._existed:
            with suppress(OSError):  # it holds something
                self.path.rmdir()

    def abandon(self) -> None:
        """Take away what was fetched: it would not help another run."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def finish(self, wheels: Mapping[str, Path], files: Mapping[str, bytes], images: Mapping[str, Path]) -> int:
        """Move all into place, in the stead of an older kit; return the size of the kit.

        `wheels` and `images`: where they lie now, by name; `files`: what to write.
        """
        (self.path / WHEELS).mkdir(exist_ok=True)
        moved = {**{f"{WHEELS}/{name}": path for name, path in wheels.items()}, **images}
        sums = {name: _checksum(path) for name, path in moved.items()}
        sums |= {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        size = sum(path.stat().st_size for path in moved.values()) + sum(map(len, files.values()))
        stale = self._ours() - set(sums)
        (self.path / checksums.NAME).unlink(missing_ok=True)  # from here on this is no kit until the last line
        for name in stale:
            (self.path / name).unlink(missing_ok=True)
        for name, path in moved.items():
            path.replace(self.path / name)
        for name, content in files.items():
            write_atomic(self.path / name, content, 0o755 if name == INSTALL else 0o644)
        sync_directory(self.path / WHEELS)
        listed = checksums.render(sums)
        write_atomic(self.path / checksums.NAME, listed)
        shutil.rmtree(self.staging)
        return size + len(listed)

    def _require_ours(self) -> None:
        """Raise UsageError for files named like ours in a folder where no kit was made, or begun."""
        try:
            found = sorted(entry.name for entry in self.path.iterdir() if _OURS.fullmatch(entry.name))
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}", hint="Choose another --output.") from error
        link = next((name for name in (*found, STAGING) if (self.path / name).is_symlink()), None)
        ours = (self.staging / _REQUEST).is_file() or INSTALL in self._made_earlier()
        if link or (found and not ours):
            raise UsageError(
                f"{self.path} holds {link or found[0]}, which this command did not make",
                hint="Choose another folder with --output, or move the file away.",
            )

    def _ours(self) -> set[str]:
        """Return the names of what a kit has here, or a run that was interrupted while it moved its files."""
        wheels = {f"{WHEELS}/{path.name}" for path in (self.path / WHEELS).glob("*.whl")}
        return wheels | {path.name for path in self.path.glob("hub-import-*.oci.tar") if _OURS.fullmatch(path.name)}

    def _made_earlier(self) -> set[str]:
        """Return the names of the files of a kit that is here."""
        sums = self.path / checksums.NAME
        if sums.is_symlink() or not sums.is_file():
            return set()
        matches = map(_LINE.fullmatch, sums.read_text(encoding="ascii", errors="replace").splitlines())
        return {match[1] for match in matches if match}


def _checksum(path: Path) -> str:
    """Return the checksum of a file that is durable when this returns."""
    if path.stat().st_size > FAT32_BYTES:
        raise HubError(f"{path.name} is too large for FAT32: {path.stat().st_size} bytes", hint="Use a smaller --image-base.")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        os.fsync(file.fileno())
    return digest.hexdigest()
