"""The SHA256SUMS files next to the volumes: checksums of the volumes, and whether other files are the signed ones."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from common.archive import checksums, inventory_file, location, parity
from common.archive.direct_io import read_some
from common.archive.signature import MAX_SIGNATURE, Verifier
from common.archive.volume import REPORT_NAME
from common.errors import HubError
from common.files import medium_error
from common.oci.image import Digest, hex_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from common.archive.location import Place


_STEP = 1024 * 1024


def is_file(place: Place) -> bool:
    """Return whether a file exists that can be reached."""
    try:
        return location.is_file(place)
    except OSError:  # the medium is gone: its volumes say so
        return False


class ChecksumFiles:
    """The SHA256SUMS files next to the volumes: the expected checksums, and the errors of files that are no volumes."""

    def __init__(self, files: Sequence[Place], key: Verifier | None, inventory: Digest) -> None:
        self.damage: list[str] = []
        self._key, self._inventory = key, inventory
        self._signed: set[Place] = set()  # directories whose SHA256SUMS is signed with the key
        self._sums: dict[Place, dict[str, str]] = {}
        self._volumes: set[Place] = set()
        # One for each directory: the volumes of an archive may be on several media, each with its own SHA256SUMS.
        for path in files:
            try:
                raw = location.read(path, checksums.MAX_SIZE)
                if key is not None:
                    self._check_signature(path, raw, key)
                self._sums[path.parent.resolve()] = checksums.parse(raw)
            except HubError as error:
                self.damage.append(f"{path}: {error}")
            except OSError as error:
                self.damage.append(f"{path}: cannot be read: {medium_error(error)}")

    def _check_signature(self, path: Place, raw: bytes, key: Verifier) -> None:
        signature = path.with_name(checksums.SIGNATURE_NAME)
        if not location.is_file(signature):
            self.damage.append(f"{path}: is not signed: there is no {signature.name} next to it")
        elif not key.accepts(raw, location.read(signature, MAX_SIGNATURE)):
            self.damage.append(f"{path}: its signature is not that of the key {key.fingerprint}")
        else:
            self._signed.add(path.parent.resolve())

    def expected(self, volume: Place) -> str | None:
        """Return the expected checksum of a volume; None where no SHA256SUMS is present or lists it."""
        self._volumes.add(volume.resolve())
        listed = self._sums.get(volume.parent.resolve())
        if listed is not None and volume.name not in listed:
            self.damage.append(f"{volume}: {checksums.NAME} next to it does not list it")
        return (listed or {}).get(volume.name)

    def neighbours(self) -> tuple[list[str], list[str]]:
        """Return what is next to the volumes and that no signature covers; nothing without a key.

        First the files that belong to the archive: an approver reads the report, so it has to be the signed one. A name in
        another case, or a directory of the name, would be taken for it. Then what is no part of the archive.
        """
        unvouched, beside = [], []
        for path, listed in self._neighbours():
            if _belongs(path.name):
                if not (path.name in listed and is_file(path)) and not self._is_inventory(path):
                    unvouched.append(str(path))
            elif path.name not in (*listed, checksums.NAME, checksums.SIGNATURE_NAME, inventory_file.SIGNATURE_NAME):
                beside.append(str(path))
        return unvouched, beside

    def _neighbours(self) -> Iterator[tuple[Place, Mapping[str, str]]]:
        """Give what is in the directories of the volumes, with the names that are signed there; nothing without a key."""
        for directory in sorted({volume.parent for volume in self._volumes} if self._key else (), key=str):
            listed = self._sums.get(directory, {}) if directory in self._signed else {}
            try:
                found = location.entries_of(directory)
            except OSError:  # the medium is gone: its volumes say so
                found = []
            yield from ((path, listed) for path in found if path not in self._volumes)

    def _is_inventory(self, path: Place) -> bool:
        """Say whether a file is the inventory of the volumes, whose own signature was verified with them."""
        return path.name == inventory_file.NAME and is_file(path) and not _damage_of(path, hex_of(self._inventory))

    def others(self) -> Iterator[str]:
        """Give a line for each other listed file that is present and has another checksum."""
        # The report and the parity files, for example. A missing one is no damage: only the volumes are the archive.
        for directory, sums in self._sums.items():
            if inventory_file.NAME not in sums and is_file(directory / inventory_file.NAME):
                yield f"{directory / inventory_file.NAME}: {checksums.NAME} next to it does not list it"
            for name, expected in sums.items():
                path = directory / name
                if path not in self._volumes and (damage := _damage_of(path, expected)):
                    yield f"{path}: {damage}"


def _belongs(name: str) -> bool:
    return name.lower() in (REPORT_NAME, inventory_file.NAME) or name.lower().endswith(parity.SUFFIX)


def _damage_of(place: Place, expected: str) -> str:
    """Return the damage of a file that is no volume; nothing for one that is whole, or missing."""
    try:
        whole = not location.is_file(place) or _checksum(place) == expected
    except OSError as error:
        return f"cannot be read: {medium_error(error)}"
    return "" if whole else f"its checksum is not the one in {checksums.NAME}"


def _checksum(place: Place) -> str:
    hasher, position = hashlib.sha256(), 0
    with location.opened(place) as file:
        while chunk := read_some(file, _STEP, position):
            hasher.update(chunk)
            position += len(chunk)
    return hasher.hexdigest()
