"""A finished archive in the output directory, and whether an export would make the same one.

A command that is run again after its archive was finished, as a script does that lost its connection in the last second, has
nothing left to do. Times and versions of the program may differ; everything else has to be equal, as far as files, inventory
and signature show it without reading the volumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from common.archive import checksums, inventory_file, parity
from common.archive.inventory import MAX_SIZE
from common.archive.volume import VOLUME_NAME
from common.errors import ArchiveDamagedError, ContentError, UsageError
from common.files import read_limited
from common.oci.image import digest_of
from exporter.archive.output import is_begun, is_plain, tidy_finished

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from common.archive.inventory import Inventory
    from common.oci.image import Digest
    from exporter.archive.archive_spec import ArchiveSpec
    from exporter.settings import Making


class Finished(NamedTuple):
    """A finished archive: its inventory, and its digest, which is that of the file: another version may have written it."""

    inventory: Inventory
    digest: Digest


def archive_in(directory: Path) -> Finished | None:
    """Return the finished archive in a directory; None where there is none, or none that this version reads."""
    raw = _read(directory, inventory_file.NAME, MAX_SIZE)
    if raw is None or is_begun(directory) or not (directory / checksums.NAME).is_file():
        return None
    try:
        return Finished(inventory_file.decode(raw, str(directory / inventory_file.NAME)), digest_of(raw))
    except (ArchiveDamagedError, ContentError, UsageError):
        return None


def left_in(directory: Path) -> Finished | None:
    """Return the finished archive that an output directory has, if any, without the working files that an export left in it."""
    if directory.is_dir():
        tidy_finished(directory)
    return archive_in(directory)


def require_same(made: Inventory, spec: ArchiveSpec, making: Making) -> None:
    """Raise UsageError where a finished archive is not the one that `spec` describes, with the difference."""
    for difference in _differences(made, spec, making):
        raise UsageError(
            f"{making.output} holds a finished archive: {difference}",
            hint="It is not touched. Choose another directory with --output, or move the archive away.",
        )


def _differences(made: Inventory, spec: ArchiveSpec, making: Making) -> Iterator[str]:
    # Encoded and decoded, so that both have the types of a document.
    planned = inventory_file.decode(inventory_file.encode(spec.inventory({})), "the plan")
    if made.image_set != planned.image_set:
        yield "of another request"
    for option, one, other in (
        ("--name", made.name, planned.name),
        ("--requested-by", made.requested_by, planned.requested_by),
        ("--purpose", made.purpose, planned.purpose),
        ("--since or --receipt", made.requires, planned.requires),
    ):
        if one != other:
            yield f"with another {option}"
    # A blob that is missing has no place, which the plan cannot know. It is not asked for again: the volumes are closed.
    missing = {digest for digest, blob in made.blobs.items() if blob.missing is not None}
    kept = {digest: blob.size for digest, blob in made.blobs.items() if digest not in missing}
    wanted = {digest: blob.size for digest, blob in planned.blobs.items() if digest not in missing}
    if (kept, made.manifests.keys()) != (wanted, planned.manifests.keys()):
        yield "the requested content is another now"
    if made.volumes != planned.volumes:
        yield "with volumes of another size"
    yield from _differing_files(made, spec, making)


def _differing_files(made: Inventory, spec: ArchiveSpec, making: Making) -> Iterator[str]:
    directory, share = making.output, spec.terms.parity
    try:
        names = checksums.parse(read_limited(directory / checksums.NAME, MAX_SIZE))
    except ContentError:
        names = {}
    absent = [name for name in (*names, *(volume.name for volume in made.volumes)) if not (directory / name).is_file()]
    if absent:
        yield f"{absent[0]} is no longer here"
    for name in filter(VOLUME_NAME.fullmatch, names):
        # The size alone shows whether there is parity, and for which share of a volume.
        parity_file = directory / f"{name}{parity.SUFFIX}"
        size = parity.Geometry.of((directory / name).stat().st_size, share).file_size if share else None
        if (parity_file.stat().st_size if parity_file.is_file() else None) != size:
            yield "with another --parity"
    if making.sign is not None:
        signature = making.sign(_read(directory, inventory_file.NAME, MAX_SIZE) or b"")
        if _read(directory, inventory_file.SIGNATURE_NAME, len(signature) + 1) != signature:
            yield "not signed with this key"


def _read(directory: Path, name: str, most: int) -> bytes | None:
    path = directory / name
    try:
        return read_limited(path, most) if is_plain(path) else None
    except (OSError, ContentError, UsageError):
        return None
