"""Discovery of the parts of an archive, with the check that they belong together and that its inventory may be trusted.

The parts are in one directory, in several (one for each medium), or named one by one. The inventory is read from its file or
from any volume; all other parts have to agree with it. A damaged volume stays in the result: its undamaged blobs are readable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from common.archive import checksums, frames, inventory_file, location
from common.archive.direct_io import read_exactly, size_of
from common.archive.frames import Packed
from common.archive.inventory import MAX_SIZE, Inventory
from common.archive.naming import label_of
from common.archive.signature import MAX_SIGNATURE, SignatureState, Verifier
from common.archive.volume import CLOSING_SIZE, FOOTER_SIZE, JOURNAL_NAME, TAR_BLOCK, VOLUME_NAME, Footer, octal
from common.errors import (
    ArchiveDamagedError,
    ArchiveError,
    ArchiveIncompleteError,
    ArchiveUntrustedError,
    ContentError,
    UsageError,
)
from common.files import medium_gone, reading_medium
from common.oci.image import Digest, digest_of
from common.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from common.archive.location import Place


_WITHOUT = "Name the volume files alone: each has a copy of the inventory."
_NOTHING = Packed.of(b"")
_LOOKED_AT = 16  # volumes that are searched for a signature: each is a frame to decompress, and all should have the same
_TAIL = 8 * TAR_BLOCK  # bytes after the inventory, at most: padding, and the entry of the signature
# Names of volumes and of the inventory as plain ISO 9660 has them: `VOLUME_0.ZST;1`, `VOLUME_0001_TAR.ZST`, `INVENTOR.JSO`.
# Linux shows them in lower case without the version (mount(8), `map=normal`).
_RENAMED = re.compile(
    r"(?:volume[-_~]?[0-9_~]{1,6}(?:[._]tar)?[._]?(?:zst)?|inventory?\.json?)(?:;1)?", re.ASCII | re.IGNORECASE
)
_AGAIN = "Copy it again from where the archive was made."


@dataclass(frozen=True, slots=True)
class FoundVolume:
    """An available volume. Without a usable footer, `damage` says why."""

    path: Place
    footer: Footer | None
    damage: str = ""


@dataclass(frozen=True, slots=True)
class FoundArchive:
    """The available parts of one archive, with a signature in any state: enough for a report on it.

    Code that acts on the inventory takes a `TrustedArchive`; `verify` alone reports on the others. `volumes` by number; `key`:
    the one required to have signed it; `directories`: those that were searched, and those of files named alone; `packed`: the
    bytes of the inventory, for the mirror's record; `signatures`: those that were found for it, in any state.
    """

    inventory: Inventory
    digest: Digest
    volumes: Mapping[int, FoundVolume]
    checksums: tuple[Place, ...]
    signature: SignatureState
    key: Verifier | None
    directories: tuple[Place, ...] = ()
    packed: Packed = field(default=_NOTHING, repr=False)
    signatures: tuple[bytes, ...] = ()

    @property
    def is_trusted(self) -> bool:
        """Whether no key was given, or the inventory is signed with it."""
        return self.key is None or self.signature is SignatureState.VALID


@dataclass(frozen=True, slots=True)
class TrustedArchive(FoundArchive):
    """The available parts of one archive whose inventory may be acted on. Raises ArchiveUntrustedError for any other."""

    def __post_init__(self) -> None:
        # `find` raises before the inventory is parsed; this keeps an instance from being made without it.
        if not self.is_trusted:
            raise ArchiveUntrustedError(f"{self.digest}: not trusted: signature {self.signature}")


_Archive = TypeVar("_Archive", bound=FoundArchive)


def find(places: Sequence[Place], key: Verifier | None = None) -> TrustedArchive:
    """Find the parts of an archive in directories and volume files, in file systems or in object storage.

    With `key`, raises ArchiveUntrustedError unless the inventory is signed with it.

    Raises UsageError when there is nothing, ArchiveIncompleteError for an export that never finished, ArchiveDamagedError when
    no inventory can be read or the parts belong to different archives, ArchiveError for a later format.
    """
    parts = _gather(places, key)
    # Before the inventory is parsed: its parser is the first thing that hostile bytes would reach.
    if key is not None and parts.signature is not SignatureState.VALID:
        raise _untrusted(parts.where, parts.signature, key)
    return _assembled(TrustedArchive, parts)


def find_untrusted(places: Sequence[Place], key: Verifier | None = None) -> FoundArchive:
    """Find the parts of an archive for a report, in which the signature is one result of many. Else raises as `find` does."""
    return _assembled(FoundArchive, _gather(places, key))


def just_made(place: Place, inventory: Inventory, digest: Digest) -> FoundArchive:
    """Return an archive whose volumes were closed in `place` by this process, before the files next to them are complete."""
    first, *others = [place / volume.name for volume in inventory.volumes]
    # The footer of one volume is enough: each has all manifests, and in object storage each footer is a request.
    volumes = [_volume(first), *(FoundVolume(path, None, "its footer was not read") for path in others)]
    return FoundArchive(inventory, digest, dict(enumerate(volumes, 1)), (), SignatureState.ABSENT, None, (place,))


@dataclass(slots=True)
class _Files:
    """The available files, sorted by name; a file that is named explicitly is a volume, unless it ends in .json."""

    volumes: list[Place] = field(default_factory=list)
    inventories: list[Place] = field(default_factory=list)
    checksums: list[Place] = field(default_factory=list)
    signatures: list[Place] = field(default_factory=list)
    renamed: list[Place] = field(default_factory=list)
    directories: list[Place] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts found. `raw`: the bytes of the inventory, not parsed yet; `where`: the file that they were read from."""

    where: str
    raw: bytes
    signature: SignatureState
    signatures: Sequence[bytes]
    key: Verifier | None
    volumes: Sequence[FoundVolume]
    checksums: Sequence[Place]
    directories: Sequence[Place]


def _gather(places: Sequence[Place], key: Verifier | None) -> _Parts:
    files = _Files()
    for path in places:
        with reading_medium(path):
            _look(path, files)
    if not files.volumes and not files.inventories:
        raise _nothing(places, files.renamed)
    # A volume that is reached on two ways, in its directory and by name or through a link, is read once.
    volumes = [_volume(path) for path in {path.resolve(): path for path in files.volumes}.values()]
    where, raw = _inventory(files.inventories, volumes)
    signatures = _signatures(files.signatures, volumes)
    signature = _signature_state(raw, files.signatures, signatures, key)
    return _Parts(where, raw, signature, signatures, key, volumes, files.checksums, list(dict.fromkeys(files.directories)))


def _nothing(places: Sequence[Place], renamed: Sequence[Place]) -> UsageError:
    """Return the error for directories without an archive; `renamed`: files there whose names were changed by a disc."""
    message = f"no archive in {', '.join(map(str, places)) or 'nothing'}"
    if any(_is_of_oc_mirror(place) for place in places):
        return UsageError(f"{message}: it is a directory of oc-mirror", hint=_OC_MIRROR)
    if not renamed:
        return UsageError(
            message, hint="Name the directory that has inventory.json or volume-….tar.zst, or the volume files themselves."
        )
    names = sorted((path.name for path in renamed), key=lambda name: not name.lower().startswith("volume"))
    return UsageError(
        f"{message}: {sanitize(names[0], 64)!r} looks like a name on a disc without Rock Ridge and Joliet",
        hint="Name its volume files themselves, under the names that they have there; or write the disc with both extensions "
        "(growisofs -r -J).",
    )


# openshift/oc-mirror, v2/internal/pkg/archive (mirror_000001.tar), pkg/archive (mirror_seq1_000000.tar), and their directories.
_OC_MIRROR_FILE = re.compile(r"mirror_(?:seq\d+_)?\d{6}\.tar")
_OC_MIRROR_DIRECTORIES = ("working-dir", "oc-mirror-workspace", "cluster-resources")
_OC_MIRROR = (
    "An import reads archives of hub-export. Make one from the same image set file: hub-export create IMAGESET --output DIR."
)


def _is_of_oc_mirror(place: Place) -> bool:
    if not isinstance(place, Path):
        return False
    names = {place.name, *(path.name for path in location.files_in(place) or ())}
    known = any((place / name).is_dir() for name in _OC_MIRROR_DIRECTORIES) or place.name in _OC_MIRROR_DIRECTORIES
    return known or any(_OC_MIRROR_FILE.fullmatch(name) for name in names)


def _assembled(kind: type[_Archive], parts: _Parts) -> _Archive:
    """Parse the inventory and sort the volumes by it."""
    digest, inventory = digest_of(parts.raw), inventory_file.decode(parts.raw, parts.where)
    volumes = _sorted(parts.volumes, _Wanted(inventory, digest, parts.where, parts.key is not None))
    return kind(
        inventory,
        digest,
        volumes,
        tuple(parts.checksums),
        parts.signature,
        parts.key,
        tuple(parts.directories),
        Packed.of(parts.raw),
        tuple(dict.fromkeys(parts.signatures)),
    )


def _look(place: Place, files: _Files) -> None:
    here = location.files_in(place)
    files.directories.append(place.parent if here is None else place)
    if here is not None:
        _look_into(place, here, files)
    elif not location.is_file(place):
        hint = "Is the medium mounted?" if isinstance(place, Path) else "List the objects there, and check AWS_ENDPOINT_URL."
        raise UsageError(f"{place}: no such file or directory", hint=hint)
    elif place.suffix == ".json":  # a copy of an inventory that was kept under a name of its own, for `--since`
        files.inventories.append(place)
    else:
        files.volumes.append(place)


def _look_into(directory: Place, here: Sequence[Place], files: _Files) -> None:
    names = {path.name for path in here}
    # SHA256SUMS is written last (ADR 0010): with it a journal is left over from a kill just before the end.
    if JOURNAL_NAME in names and checksums.NAME not in names:
        raise ArchiveIncompleteError(
            f"{directory}: the export into it never finished", hint="Run hub-export create again with the same image set."
        )
    files.volumes += [path for path in here if VOLUME_NAME.fullmatch(path.name)]
    files.inventories += [path for path in here if path.name == inventory_file.NAME]
    files.renamed += [path for path in here if _RENAMED.fullmatch(path.name)]
    files.checksums += [path for path in here if path.name == checksums.NAME]
    files.signatures += [path for path in here if path.name == inventory_file.SIGNATURE_NAME]


def _volume(path: Place) -> FoundVolume:
    try:
        # The end of the file alone: a volume may be on a slow medium, or in object storage.
        with location.opened(path) as file:
            size = size_of(file)
            raw = read_exactly(file, FOOTER_SIZE, max(size - FOOTER_SIZE, 0))
        return FoundVolume(path, Footer.unpack(raw, size))
    except (ContentError, OSError) as error:
        if (problem := medium_gone(path, error)) is not None:
            raise problem from error
        return FoundVolume(path, None, str(error))


def _inventory(files: Iterable[Place], volumes: Sequence[FoundVolume]) -> tuple[str, bytes]:
    """Return the inventory's bytes and the file they were read from: its own, or the first volume that has them whole."""
    found: tuple[str, bytes] | None = None
    # All of them, also when the first is good: with parts of two archives the user has to decide.
    for path in files:
        raw = _bounded(path)
        if found is not None and found[1] != raw:
            raise ArchiveDamagedError(
                f"{path} and {found[0]} are inventories of different archives", hint="Name the parts of one archive."
            )
        found = str(path), raw
    if found is not None:
        return found
    for volume in volumes:
        carried = _carried(volume)
        # A damaged copy decompresses to something else; the footer has the digest of the inventory it was closed with.
        if carried is not None and volume.footer is not None and digest_of(carried) == volume.footer.inventory:
            return str(volume.path), carried
    first = volumes[0]
    if _OC_MIRROR_FILE.fullmatch(first.path.name):
        raise UsageError(f"{first.path}: an archive of oc-mirror", hint=_OC_MIRROR)
    raise ArchiveDamagedError(
        f"{first.path}: no inventory can be read from it: {first.damage or _why_not_carried(first)}",
        hint="Copy the volume again, or put inventory.json or another volume next to it.",
    )


def _signatures(files: Sequence[Place], volumes: Sequence[FoundVolume]) -> list[bytes]:
    """Return the signatures that were found: of the file next to the inventory, and the copies that volumes carry."""
    found = [content for path in files if (content := _read_signature(path)) is not None]
    return found + [carried for volume in volumes[:_LOOKED_AT] if (carried := _carried_signature(volume))]


def _signature_state(raw: bytes, files: Sequence[Place], found: Sequence[bytes], key: Verifier | None) -> SignatureState:
    """Return the state of the inventory's signature."""
    if not found:
        return SignatureState.INVALID if files else SignatureState.ABSENT  # a file, but too long for any signature
    if key is None:
        return SignatureState.UNCHECKED
    # Any of them: next to the inventory of a signed archive a foreign file may have been left by an earlier copy.
    return SignatureState.VALID if any(key.accepts(raw, each) for each in found) else SignatureState.INVALID


def _read_signature(path: Place) -> bytes | None:
    """Return the content of a signature file; None for one that is too long. Raises ArchiveDamagedError."""
    try:
        return location.read(path, MAX_SIGNATURE) if location.size_of(path) <= MAX_SIGNATURE else None
    except (OSError, ContentError) as error:
        raise medium_gone(path, error) or ArchiveDamagedError(f"{path} cannot be read: {error}", hint=_AGAIN) from error


def _untrusted(where: str, signature: SignatureState, key: Verifier) -> ArchiveUntrustedError:
    why = (
        "it is not signed" if signature is SignatureState.ABSENT else f"its signature is not that of the key {key.fingerprint}"
    )
    return ArchiveUntrustedError(
        f"{where}: not trusted: {why}",
        hint="Ask who made the archive for the right public key, or for a signed archive. Do not use it before.",
    )


def _carried_signature(volume: FoundVolume) -> bytes | None:
    """Return the signature that a volume carries after its inventory; None where there is none, or it cannot be read."""
    footer = volume.footer
    if footer is None:
        return None
    start = footer.inventory_offset + footer.inventory_stored
    try:
        with location.opened(volume.path) as file:
            end = size_of(file) - CLOSING_SIZE
            tail = frames.decompress(read_exactly(file, end - start, start), _TAIL) if 0 < end - start <= _TAIL else b""
    except (ContentError, OSError):
        return None
    # Searched for, not parsed as tar: the padding before it has the length that the inventory's size gives, unknown here.
    at = tail.find(inventory_file.SIGNATURE_NAME.encode() + b"\0")
    header = tail[at : at + TAR_BLOCK] if at >= 0 else b""
    size = octal(header[124:135]) or 0
    return tail[at + TAR_BLOCK : at + TAR_BLOCK + size] if 0 < size <= MAX_SIGNATURE else None


def _bounded(path: Place) -> bytes:
    try:
        # The size first, so that a device or a huge file is not read into memory.
        size = location.size_of(path)
        raw = location.read(path, size) if size <= MAX_SIZE else None
    except (OSError, ContentError) as error:
        raise medium_gone(path, error) or ArchiveDamagedError(f"{path} cannot be read: {error}", hint=_WITHOUT) from error
    if raw is None:
        raise ArchiveDamagedError(f"{path}: more than the {MAX_SIZE} bytes an inventory may have", hint=_WITHOUT)
    return raw


def _carried(volume: FoundVolume) -> bytes | None:
    """Return the inventory that a volume carries; None when it cannot be read."""
    try:
        return _read_carried(volume)
    except (ContentError, OSError):
        return None


def _why_not_carried(volume: FoundVolume) -> str:
    try:
        _read_carried(volume)
    except (ContentError, OSError) as error:
        return f"its metadata is damaged: {error}"
    return "its metadata is damaged: its copy of the inventory is not the one that its footer names"


def _read_carried(volume: FoundVolume) -> bytes | None:
    """Return the inventory that a volume carries. Raises ContentError, OSError."""
    footer = volume.footer
    if footer is None:
        return None
    # Before the frame is read: the footer of a hostile volume may claim any length.
    if footer.inventory_stored > frames.compress_bound(MAX_SIZE):
        raise ContentError(f"its inventory takes {footer.inventory_stored} bytes; the limit is {MAX_SIZE}")
    with location.opened(volume.path) as file:
        stored = read_exactly(file, footer.inventory_stored, footer.inventory_offset)
    return frames.decompress(stored, min(frames.content_bound(len(stored)), MAX_SIZE))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The archive that the volumes should be of. `where`: the file of its inventory; `by_key`: a signature was demanded."""

    inventory: Inventory
    digest: Digest
    where: str
    by_key: bool


def _sorted(volumes: Iterable[FoundVolume], wanted: _Wanted) -> dict[int, FoundVolume]:
    """Return volumes by number; of two copies of one volume the first with a usable footer."""
    found: dict[int, FoundVolume] = {}
    for number, volume in _numbered(volumes, wanted):
        if number not in found or (found[number].footer is None and volume.footer is not None):
            found[number] = volume
    return dict(sorted(found.items()))


def _numbered(volumes: Iterable[FoundVolume], wanted: _Wanted) -> Iterator[tuple[int, FoundVolume]]:
    inventory = wanted.inventory
    for volume in volumes:
        footer = volume.footer
        if footer is not None and footer.inventory == wanted.digest:
            # The digest is right, so a number that does not fit is damage: a footer has no checksum of its own.
            fits = footer.count == len(inventory.volumes)
            if fits and footer.metadata_offset == inventory.volumes[footer.number - 1].data_size:
                yield footer.number, volume
                continue
            damaged = FoundVolume(volume.path, None, "its footer is damaged: it does not fit the inventory")
        elif footer is not None:
            damaged = FoundVolume(volume.path, None, _explain(volume, footer, wanted))
        else:
            damaged = volume
        yield _number_by_name(damaged, inventory), damaged


def _explain(volume: FoundVolume, footer: Footer, wanted: _Wanted) -> str:
    """Return why a footer names another inventory. Raises ArchiveDamagedError for a volume of another archive."""
    # A footer that agrees with the inventory in the same volume is not damaged, so the volume is foreign.
    carried = _carried(volume)
    if carried is not None and digest_of(carried) == footer.inventory:
        # No inventory that the key did not sign is parsed, not even for its name.
        other = footer.inventory if wanted.by_key else _label(carried, footer.inventory)
        own = label_of(wanted.inventory, wanted.digest)
        raise ArchiveDamagedError(
            f"{volume.path} is a volume of another archive: it belongs to {other}, {wanted.where} is of {own}",
            hint="Put the right volume in its place, or name only the parts of one archive. If inventory.json itself is "
            "damaged, name the volume files alone: each has a copy of it.",
        )
    return "its footer is damaged: it names another inventory than it carries"


def _label(raw: bytes, digest: Digest) -> str:
    """Return the label of an archive by its inventory; the digest where that cannot be read."""
    try:
        return label_of(inventory_file.decode(raw, ""), digest)
    except ArchiveError:
        return digest


def _number_by_name(volume: FoundVolume, inventory: Inventory) -> int:
    """Return the number in the file name of a volume without a usable footer."""
    # The number decides which blobs are reported as damaged, so it has to be one of the inventory.
    match = VOLUME_NAME.fullmatch(volume.path.name)
    number = int(match[1]) if match else 0
    if not 1 <= number <= len(inventory.volumes):
        raise ArchiveDamagedError(f"{volume.path} is no volume of this archive: {volume.damage}", hint=_AGAIN)
    return number
