"""The SHA256SUMS files next to the volumes: checksums of the volumes, and whether other files are the signed ones."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from common.archive import checksums, inventory_file, location, parity
from common.archive.direct_io import read_some
from common.archive.inventory import MAX_SIZE
from common.archive.signature import MAX_SIGNATURE
from common.archive.volume import REPORT_NAME
from common.errors import HubError
from common.files import medium_error
from common.oci.image import hex_of
from common.text import enumeration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from common.archive.discover import FoundArchive
    from common.archive.location import Place
    from common.archive.signature import Verifier


_STEP = 1024 * 1024
_SHOWN = 20  # names of what is no part of the archive, in one line


class Neighbours(NamedTuple):
    """What is next to the volumes and that no signature with the given key covers; nothing without a key.

    `unvouched`: files that belong to the archive, such as the report. `beside`: what is no part of it.
    """

    unvouched: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the fields in the JSON of a command."""
        return {"unvouched": list(self.unvouched), "beside": list(self.beside)}

    def lines(self) -> list[str]:
        """Return them for people."""
        lines = [
            f"{name}: not signed, so it is not to be believed; the signature covers the volumes" for name in self.unvouched
        ]
        if self.beside:
            lines.append(f"no part of the archive, and not covered by its signature: {enumeration(self.beside, _SHOWN)}")
        return lines


NOTHING = Neighbours()


def neighbours(found: FoundArchive) -> Neighbours:
    """Return what is next to the volumes and not signed. Reads SHA256SUMS and the report, and nothing of the volumes."""
    return ChecksumFiles(found).neighbours() if found.key is not None else NOTHING


def is_file(place: Place) -> bool:
    """Return whether a file exists that can be reached."""
    try:
        return location.is_file(place)
    except OSError:  # the medium is gone: its volumes say so
        return False


class ChecksumFiles:
    """The SHA256SUMS files next to the volumes: the expected checksums, and the errors of files that are no volumes."""

    def __init__(self, found: FoundArchive, *, quick: bool = False) -> None:
        self.damage: list[str] = []
        self._found = found
        self._signed: dict[Place, Mapping[str, str]] = {}  # by directory: what a SHA256SUMS lists that is signed with the key
        self._sums: dict[Place, Mapping[str, str]] = {}
        self._compared: dict[Place, str] = {}
        self._volumes = {volume.path.resolve() for volume in found.volumes.values()}
        # One for each directory: the volumes of an archive may be on several media, each with its own SHA256SUMS.
        for path in () if quick else found.checksums:
            try:
                self._read(path, found.key)
            except HubError as error:
                self.damage.append(f"{path}: {error}")
            except OSError as error:
                self.damage.append(f"{path}: cannot be read: {medium_error(error)}")

    def _read(self, path: Place, key: Verifier | None) -> None:
        raw, directory = location.read(path, checksums.MAX_SIZE), path.parent.resolve()
        signature = path.with_name(checksums.SIGNATURE_NAME)
        is_signed = False
        if key is not None and not location.is_file(signature):
            self.damage.append(f"{path}: is not signed: there is no {signature.name} next to it")
        elif key is not None and not (is_signed := key.accepts(raw, location.read(signature, MAX_SIGNATURE))):
            self.damage.append(f"{path}: its signature is not that of the key {key.fingerprint}")
        self._sums[directory] = checksums.parse(raw)
        self._signed[directory] = self._sums[directory] if is_signed else {}

    def expected(self, volume: Place) -> str | None:
        """Return the expected checksum of a volume; None where no SHA256SUMS is present or lists it."""
        listed = self._sums.get(volume.parent.resolve())
        if listed is not None and volume.name not in listed:
            self.damage.append(f"{volume}: {checksums.NAME} next to it does not list it")
        return (listed or {}).get(volume.name)

    def neighbours(self) -> Neighbours:
        """Return what is next to the volumes and that no signature covers; nothing without a key.

        First the files that belong to the archive: an approver reads the report, so it has to be the signed one. A name in
        another case, or a directory of the name, would be taken for it. Then what is no part of the archive.
        """
        unvouched, beside = [], []
        known = {checksums.NAME, checksums.SIGNATURE_NAME, inventory_file.SIGNATURE_NAME}
        known.update(volume.name for volume in self._found.inventory.volumes)  # not named, and signed in themselves
        for path, listed in self._neighbours():
            if _belongs(path.name):
                if not self._is_listed(path, listed) and not self._is_inventory(path):
                    unvouched.append(str(path))
            elif path.name not in listed and path.name not in known:
                beside.append(str(path))
        return Neighbours(tuple(unvouched), tuple(beside))

    def _neighbours(self) -> Iterator[tuple[Place, Mapping[str, str]]]:
        """Give what is in the directories of the archive, with the names that are signed there; nothing without a key."""
        # Also where no volume is: an approver may have the inventory and the report alone.
        places = {*self._found.directories, *(volume.parent for volume in self._volumes)} if self._found.key else set()
        for directory in sorted({place.resolve() for place in places}, key=str):
            listed = self._signed_in(directory)
            try:
                entries = location.entries_of(directory)
            except OSError:  # the medium is gone: its volumes say so
                entries = []
            yield from ((path, listed) for path in entries if path.resolve() not in self._volumes)

    def _signed_in(self, directory: Place) -> Mapping[str, str]:
        """Return the signed checksums of a directory; nothing where its SHA256SUMS is missing, damaged or not signed."""
        if directory not in self._signed:  # the volume was named alone
            path = directory / checksums.NAME
            try:
                raw, signature = location.read(path, checksums.MAX_SIZE), path.with_name(checksums.SIGNATURE_NAME)
                key = self._found.key
                is_signed = key is not None and key.accepts(raw, location.read(signature, MAX_SIGNATURE))
                self._signed[directory] = checksums.parse(raw) if is_signed else {}
            except (HubError, OSError):
                self._signed[directory] = {}
        return self._signed[directory]

    def _is_listed(self, path: Place, listed: Mapping[str, str]) -> bool:
        """Say whether a file is the signed one. The content of parity files is left to `verify` and `repair`."""
        expected = listed.get(path.name)
        if expected is None or not is_file(path):
            return False
        return path.name.endswith(parity.SUFFIX) or not self._damage_of(path, expected)

    def _is_inventory(self, path: Place) -> bool:
        """Say whether a file is the inventory of the volumes, whose own signature was verified with them."""
        if path.name != inventory_file.NAME or not is_file(path):
            return False
        try:
            return location.size_of(path) <= MAX_SIZE and not self._damage_of(path, hex_of(self._found.digest))
        except OSError:
            return False

    def others(self) -> Iterator[str]:
        """Give a line for each other listed file that is present and has another checksum."""
        # The report and the parity files, for example. A missing one is no damage: only the volumes are the archive.
        for directory, sums in self._sums.items():
            if inventory_file.NAME not in sums and is_file(directory / inventory_file.NAME):
                yield f"{directory / inventory_file.NAME}: {checksums.NAME} next to it does not list it"
            for name, expected in sums.items():
                path = directory / name
                if path not in self._volumes and (damage := self._damage_of(path, expected)):
                    yield f"{path}: {damage}"

    def _damage_of(self, place: Place, expected: str) -> str:
        """Return the damage of a file that is no volume; nothing for one that is whole, or missing."""
        if place not in self._compared:
            try:
                self._compared[place] = _checksum(place) if location.is_file(place) else ""
            except OSError as error:
                return f"cannot be read: {medium_error(error)}"
        return "" if self._compared[place] in ("", expected) else f"its checksum is not the one in {checksums.NAME}"


def _belongs(name: str) -> bool:
    return name.lower() in (REPORT_NAME, inventory_file.NAME) or name.lower().endswith(parity.SUFFIX)


def _checksum(place: Place) -> str:
    """Return the checksum (64 hex digits) of a file."""
    hasher, position = hashlib.sha256(), 0
    with location.opened(place) as file:
        while chunk := read_some(file, _STEP, position):
            hasher.update(chunk)
            position += len(chunk)
    return hasher.hexdigest()
