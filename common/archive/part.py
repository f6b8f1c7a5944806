"""A part of an archive: some of its volumes, filled by one of several processes, and the record that says how far they are.

Where the layout is fixed, volumes need nothing of each other: whoever fills some of them closes them with the inventory as it
was planned, which is the archive's when nothing was lost. Joining (`joining.py`) then only has to put files beside each other;
where something was lost, it closes all volumes again with the inventory that says so (docs/archive-format.md, *Parts*).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path

import msgspec
from msgspec.structs import replace as replaced

from common.archive.closing import Closing
from common.archive.filling import Filling
from common.archive.layout import Layout
from common.digest import Digest, digest_of
from common.errors import HubError, UsageError
from common.files import read_limited, write_atomic
from common.progress import Progress
from common.serialization import UNDECODABLE

NAME = "hub-export.part"
MAX_SIZE = 256 * 1024 * 1024
_TYPE = "application/vnd.hub-airgap.part.v1+json"
_DAMAGED = "Make this part again: remove its directory, and run its hub-export create."


class Lost(msgspec.Struct, frozen=True):
    """Why a blob could not be had."""

    message: str
    hint: str = ""

    @property
    def error(self) -> HubError:
        """The same as an error."""
        return HubError(self.message, hint=self.hint)


class Part(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a part says of itself: the volumes it has, and the blobs that it could not get.

    `plan` is the digest of the plan that it was made by. The volumes are closed when nothing was lost: `inventory` and
    `signature` are the digests of what closed them, and `sums` the checksums (64 hex digits) of volumes and parity by file
    name. In object storage `tags` says by the same names which versions of the objects are meant.
    """

    media_type: str
    plan: Digest
    volumes: tuple[int, ...]
    lost: dict[Digest, Lost] = {}
    inventory: Digest | None = None
    signature: Digest | None = None
    sums: dict[str, str] = {}
    tags: dict[str, str] = {}

    def closed_by(self, closing: Closing) -> bool:
        """Say whether the volumes are closed as `closing` would do it."""
        return self.inventory == closing.identity and self.signature == _digest(closing.signature)

    def closed(self, closing: Closing, sums: Mapping[str, str]) -> Part:
        """Return the same of volumes that were closed by `closing`, and have these checksums now."""
        return replaced(self, inventory=closing.identity, signature=_digest(closing.signature), sums=dict(sums))


_PART = msgspec.json.Decoder(Part)


class PartWriter(Filling):
    """Fills the volumes `numbers` of a layout in a directory of their own: see `Filling`."""

    def __init__(
        self,
        directory: Path,
        layout: Layout,
        numbers: Collection[int],
        plan: Digest,
        *,
        progress: Progress | None = None,
        share: Fraction = Fraction(0),
    ) -> None:
        super().__init__(directory, layout, numbers=numbers, progress=progress, share=share)
        self._plan = plan

    def finish(self, closing: Closing, lost: Mapping[Digest, HubError]) -> Part:
        """Close the volumes with the planned inventory, if nothing was `lost`; write the record, durable, and return it.

        Raises ContentError when a medium has less than was written, OSError when it breaks; what it gives back is what the
        checksums are of.
        """
        if lost:
            for volume in self._volumes.values():
                self._wait(volume)
            reasons = {digest: Lost(error.message, error.hint) for digest, error in lost.items()}
            part = Part(_TYPE, self._plan, tuple(self._volumes), reasons)
        else:
            sums = self._close_volumes(closing.region, closing.identity)
            sums |= self._make_parity(sums)
            self._progress.end()
            ends = closing.identity, _digest(closing.signature), sums
            part = Part(_TYPE, self._plan, tuple(self._volumes), {}, *ends)
        write_atomic(self._directory / NAME, encode(part))
        return part


def read(directory: Path) -> Part | None:
    """Return the record of a part; None where there is none. Raises UsageError for one that cannot be read."""
    path = directory / NAME
    if not path.is_file() or path.is_symlink():
        return None
    return decode(read_limited(path, MAX_SIZE, _DAMAGED), str(path))


def encode(part: Part) -> bytes:
    """Return the bytes of a record."""
    return msgspec.json.encode(part) + b"\n"


def decode(raw: bytes, path: str) -> Part:
    """Return the record in `raw`, which is from `path`. Raises UsageError for what is none."""
    try:
        part = _PART.decode(raw)
    except UNDECODABLE as error:
        raise UsageError(f"{path}: not the record of a part: {error}", hint=_DAMAGED) from error
    if part.media_type != _TYPE:
        raise UsageError(f"{path}: a part of another version: {part.media_type[:80]!r}", hint="Use one version for all parts.")
    return part


def forget(directory: Path) -> None:
    """Take the record of a part away: its volumes are about to change."""
    (directory / NAME).unlink(missing_ok=True)


def _digest(signature: bytes | None) -> Digest | None:
    return digest_of(signature) if signature is not None else None
