"""A part of an archive: some of its volumes, filled by one of several processes, and the record that says how far they are.

Where the layout is fixed, volumes need nothing of each other: whoever fills some of them closes them with the inventory as it
was planned, which is the archive's when nothing was lost. Joining (`joining.py`) then only has to put files beside each other;
where something was lost, it closes all volumes again with the inventory that says so (docs/archive-format.md, *Parts*).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace as replaced

from common.archive import parity
from common.archive.volume import MAX_VOLUMES, VOLUME_NAME
from common.errors import ContentError, HubError, UsageError
from common.files import read_limited, write_atomic
from common.oci.image import Digest, digest_of, parse_digest
from common.serialization import UNDECODABLE, decode_bounded
from exporter.archive import output
from exporter.archive.writer import Filling

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from common.archive.layout import Layout
    from common.progress import Progress
    from exporter.archive.volume_writer import Closing

NAME = output.PART
MAX_SIZE = 256 * 1024 * 1024
_TYPE = "application/vnd.hub-airgap.part.v1+json"
_CHECKSUM = re.compile(r"[0-9a-f]{64}", re.ASCII)
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
        return self.inventory == closing.identity and self.signature == signature_of(closing)

    def closed(self, closing: Closing, sums: Mapping[str, str]) -> Part:
        """Return the same of volumes that were closed by `closing`, and have these checksums now."""
        return replaced(self, inventory=closing.identity, signature=signature_of(closing), sums=dict(sums))


_PART = msgspec.json.Decoder(Part)


class PartWriter(Filling):
    """Fills the volumes `numbers` of a layout in a directory of their own: see `Filling`.

    `begin` is called when the directory is locked and the record of what it held is away, before anything else in it changes.
    """

    def __init__(
        self,
        directory: Path,
        layout: Layout,
        numbers: Collection[int],
        plan: Digest,
        *,
        progress: Progress | None = None,
        share: Fraction = Fraction(0),
        begin: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(directory, layout, numbers=numbers, progress=progress, share=share)
        self._plan = plan
        self._begin = begin

    def _admit(self, directory: Path) -> None:
        """Take over a part that was made before, which is about to change."""
        output.refuse_joining(directory)
        forget(directory)
        if self._begin is not None:
            self._begin()

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
            ends = closing.identity, signature_of(closing), sums
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
        part = decode_bounded(raw, _PART)
    except UNDECODABLE as error:
        raise UsageError(f"{path}: not the record of a part: {error}", hint=_DAMAGED) from error
    if part.media_type != _TYPE:
        raise UsageError(f"{path}: a part of another version: {part.media_type[:80]!r}", hint="Use one version for all parts.")
    try:
        _check(part)
    except ContentError as error:
        raise UsageError(f"{path}: not the record of a part: {error}", hint=_DAMAGED) from error
    return part


def _check(part: Part) -> None:
    """Raise ContentError for what no part says of itself."""
    if len(set(part.volumes)) != len(part.volumes) or not all(1 <= number <= MAX_VOLUMES for number in part.volumes):
        raise ContentError("its volumes are no different numbers from 1 on")
    for digest in (part.plan, *part.lost, part.inventory, part.signature):
        if digest is not None:
            parse_digest(digest)
    for name, checksum in part.sums.items():
        if not VOLUME_NAME.fullmatch(name.removesuffix(parity.SUFFIX)) or not _CHECKSUM.fullmatch(checksum):
            raise ContentError(f"{checksum[:80]!r} is no checksum of a volume {name[:80]!r}")


def forget(directory: Path) -> None:
    """Take the record of a part away: its volumes are about to change."""
    (directory / NAME).unlink(missing_ok=True)


def signature_of(closing: Closing) -> Digest | None:
    """Return the digest of the signature that volumes are closed with; None where they are not signed."""
    return digest_of(closing.signature) if closing.signature is not None else None
