"""Part of an archive: some of its volumes, filled by one of several processes, and the record of their state.

The layout is fixed before the first byte is fetched, so the process that fills some volumes needs nothing of the others. It
closes them with the inventory as planned, or leaves the part unfinished when a blob could not be fetched
(docs/reference/archive-format.md, *Parts*).
"""

from __future__ import annotations

import os
import re
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace as replaced

from common.archive import direct_io, location, parity
from common.archive.volume import MAX_VOLUMES, VOLUME_NAME
from common.errors import ArchiveDamagedError, ContentError, HubError, UsageError
from common.files import read_limited, write_atomic
from common.oci.image import Digest, Hasher, digest_of, hex_of, parse_digest
from common.serialization import UNDECODABLE, decode_bounded
from exporter.archive import output
from exporter.archive.writer import VolumesWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from common.archive.layout import Layout
    from common.archive.location import Place
    from common.progress import Progress
    from exporter.archive.volume_writer import Closing


NAME = output.PART
MAX_SIZE = 256 * 1024 * 1024  # bounds the memory for a foreign record; a real one is a few MiB at most
_STEP = 4 * 1024 * 1024  # bytes of a copy that are read, hashed and written at a time
_TYPE = "application/vnd.hub-airgap.part.v1+json"
_CHECKSUM = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DAMAGED = "Make this part again: remove its directory, and run its hub-export create."


class MissingBlob(msgspec.Struct, frozen=True):
    """The reason why a blob could not be fetched."""

    message: str
    hint: str = ""

    @property
    def error(self) -> HubError:
        """The reason as an error."""
        return HubError(self.message, hint=self.hint)


class Part(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Record of a part: its volumes, and the blobs that could not be fetched.

    `plan` is the digest of the plan that it was made by. With `lost` and no `inventory` the part is unfinished and its volumes
    are open. Closed volumes have `inventory` and `signature`, the digests of what closed them, and `sums`, the checksums (64
    hex digits) of volumes and parity by file name; `lost` then names the blobs that were accepted as missing. In object
    storage `tags` has the ETags of the objects by the same names.
    """

    media_type: str
    plan: Digest
    volumes: tuple[int, ...]
    lost: dict[Digest, MissingBlob] = {}
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


class PartWriter(VolumesWriter):
    """Fills the volumes `numbers` of a layout in a directory of their own: see `VolumesWriter`.

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
        # Without `beside`: the report is written by `finish`.
        super().__init__(directory, layout, numbers=numbers, progress=progress, share=share)
        self._plan = plan
        self._begin = begin

    def _admit(self, directory: Path) -> None:
        """Take over a part that was made before, which is about to change."""
        output.refuse_joining(directory)
        # The record goes before any volume changes: a killed run must not leave one that is no longer true.
        forget(directory)
        if self._begin is not None:
            self._begin()

    def suspend(self, lost: Mapping[Digest, HubError]) -> Part:
        """Write the record of an unfinished part, and return it.

        The places of the blobs `lost` keep the bytes that were fetched: the next run continues from there.
        """
        reasons = {digest: MissingBlob(error.message, error.hint) for digest, error in lost.items()}
        return self._record(Part(_TYPE, self._plan, tuple(self._volumes), reasons))

    def finish(self, closing: Closing, accepted: Mapping[Digest, MissingBlob] | None = None) -> Part:
        """Close the volumes, write the record, and return it; `accepted` are missing blobs that the inventory names.

        Raises ContentError when a medium has less than was written, OSError when it breaks. The checksums are those of the
        bytes that were read back.
        """
        sums = self._close_volumes(closing.region(), closing.identity)
        # With parity, so that `finish` has to read no volume.
        sums |= self._make_parity(sums)
        open_part = Part(_TYPE, self._plan, tuple(self._volumes), dict(accepted or {}))
        return self._record(open_part.closed(closing, sums))

    def _record(self, part: Part) -> Part:
        write_atomic(self._directory / NAME, encode(part))
        return part


def read(directory: Path) -> Part | None:
    """Return the record of a part; None where there is none. Raises UsageError for one that cannot be read."""
    path = directory / NAME
    # A link may lead to a file that somebody else replaces while it is read.
    if not path.is_file() or path.is_symlink():
        return None
    return decode(read_limited(path, MAX_SIZE, _DAMAGED), str(path))


def encode(part: Part) -> bytes:
    """Return the bytes of a record."""
    return msgspec.json.encode(part) + b"\n"


def decode(raw: bytes, path: str) -> Part:
    """Return the record in `raw`, which was read from `path`. Raises UsageError for anything else."""
    try:
        part = decode_bounded(raw, _PART)
    except UNDECODABLE as error:
        raise UsageError(f"{path}: not the record of a part: {error}", hint=_DAMAGED) from error
    # Parts of different versions of the program are joined when their plan is the same.
    if part.media_type != _TYPE:
        raise UsageError(f"{path}: a part of another version: {part.media_type[:80]!r}", hint="Use one version for all parts.")
    try:
        _check(part)
    except ContentError as error:
        raise UsageError(f"{path}: not the record of a part: {error}", hint=_DAMAGED) from error
    return part


def _check(part: Part) -> None:
    """Raise ContentError for values that no record has."""
    if len(set(part.volumes)) != len(part.volumes) or not all(1 <= number <= MAX_VOLUMES for number in part.volumes):
        raise ContentError("its volumes are not different numbers from 1 on")
    for digest in (part.plan, *part.lost, part.inventory, part.signature):
        if digest is not None:
            parse_digest(digest)
    for name, checksum in part.sums.items():
        # Names become paths, so nothing but the name of a volume or its parity is accepted.
        if not VOLUME_NAME.fullmatch(name.removesuffix(parity.SUFFIX)) or not _CHECKSUM.fullmatch(checksum):
            raise ContentError(f"{checksum[:80]!r} is no checksum of a volume {name[:80]!r}")


def forget(directory: Path) -> None:
    """Remove the record of a part whose volumes are about to change."""
    (directory / NAME).unlink(missing_ok=True)


def signature_of(closing: Closing) -> Digest | None:
    """Return the digest of the signature that volumes are closed with; None where they are not signed."""
    # ECDSA here is deterministic (RFC 6979), and Ed25519 too: parts that are signed one by one have the same signature.
    return digest_of(closing.signature) if closing.signature is not None else None


def temporary_name(target: Path) -> Path:
    """Return the path of a file that is being copied to `target`."""
    return target.with_name(f".{target.name}.new")


def copy_file(source: Place, target: Path, checksum: str | None, advance: Callable[[int], None]) -> None:
    """Copy a file, whole or not at all, and compare it with its checksum. Raises ArchiveDamagedError."""
    temporary, hasher, position = temporary_name(target), Hasher(), 0
    temporary.unlink(missing_ok=True)
    # "x": never through a link, or into a file of another process.
    with location.opened(source) as reader, temporary.open("xb") as writer:
        while chunk := direct_io.read_some(reader, _STEP, position):
            hasher.update(chunk)
            direct_io.write_all(writer.fileno(), [chunk], position)
            position += len(chunk)
            advance(len(chunk))
        # Durable before it has its final name, by which the next run takes it for whole.
        os.fsync(writer.fileno())
    if checksum is not None and hex_of(hasher.digest()) != checksum:
        temporary.unlink()
        raise ArchiveDamagedError(f"{source}: not what its part wrote", hint="Make this part again.")
    temporary.replace(target)
