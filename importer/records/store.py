"""Records in a mirror: written after a push, listed and read by a machine that has no archive."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from common.content import in_memory
from common.errors import (
    ArchiveError,
    AuthenticationError,
    ContentError,
    HubError,
    NotFoundError,
    RegistryError,
    RegistryUnreachableError,
    ShortAnswerError,
)
from common.oci.image import Manifest
from common.oci.reference import Reference
from common.progress import Silent, step
from common.registry.manifest_writer import ImmutableTagError
from common.text import counted
from importer.records import document
from importer.records.document import MAX_LAYER, REPOSITORY, Form, Record, RecordHead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.archive.frames import Packed
    from common.archive.reader import Archive
    from common.archive.signature import Verifier
    from common.mapping import Mirror
    from common.progress import Progress
    from common.registry.client import RegistryClient


MAX_RECORDS = 10_000  # of one mirror; one for each push of an archive
# Answers that are about the right, the space or the pace, which another form of the manifest would not change.
_ABOUT_ELSE = frozenset({401, 403, 413, 429, 507})
_UNUSABLE = (ContentError, ArchiveError, NotFoundError, ShortAnswerError)  # of one record; other errors are of the registry
_LOG = logging.getLogger(__name__)


def repository_of(mirror: Mirror) -> Reference:
    """Return the repository of the records of a mirror."""
    return mirror.at(REPOSITORY)


@dataclass(slots=True)
class RecordStore:
    """The records below the prefix of a mirror. Raises RegistryError, ContentError."""

    client: RegistryClient
    mirror: Mirror
    key: Verifier | None = None
    unusable: dict[str, str] = field(default_factory=dict)
    """Why a record cannot be used, by its tag; filled by `records`."""

    @property
    def repository(self) -> Reference:
        """The repository of the records."""
        return repository_of(self.mirror)

    def place(self, head: RecordHead) -> Reference:
        """Return the record under its tag."""
        return self._at(head.tag)

    def _at(self, tag: str) -> Reference:
        return Reference(self.repository.registry, self.repository.repository, tag)

    def has(self, head: RecordHead) -> bool:
        """Say whether there is a record, with one HEAD; it is not read."""
        found = self.client.head(self.place(head))
        return found is not None and found.size > 0

    def is_usable(self, head: RecordHead) -> bool:
        """Say whether the record can be read."""
        try:
            self.read(head.tag)
        except _UNUSABLE as error:
            _LOG.info("%s: written again: %s", self.place(head), error.message)
            return False
        return True

    def write(self, head: RecordHead, created: str, inventory: Packed, signatures: tuple[bytes, ...] = ()) -> Reference:
        """Write a record, in the first form that the registry takes; return it under its tag."""
        layer = document.encode_layer(head, inventory, signatures)
        if len(layer.content) > MAX_LAYER:
            raise ContentError(
                f"the record would have {len(layer.content)} bytes; the limit for reading it is {MAX_LAYER}",
                hint="Give the archive itself to prune (--keep ARCHIVE), receipt and status.",
            )
        place, first = self.place(head), None
        for form in Form:
            try:
                self._put(place, document.encode_form(form, head, created, layer))
            except (AuthenticationError, RegistryUnreachableError, ImmutableTagError):
                raise
            except RegistryError as error:
                # Quay, GitLab and old registries take artifacts by a list of their types, or Docker manifests alone
                # (quay/quay, image/oci; grimoire-rs/grimoire#11).
                if error.status in _ABOUT_ELSE:
                    raise
                _LOG.info("%s: not as %s: %s", place, form.value, error.message)
                first = first or error
            else:
                return place
        assert first is not None  # there are forms
        raise first

    def remember(self, archive: Archive, *, heal: bool = False) -> Reference:
        """Write the record of an archive that is in the mirror, unless it is there; return it under its tag.

        `heal`: also in place of one that cannot be read.
        """
        head = document.head_of(archive.digest, self.mirror, now())
        if not self.has(head) or (heal and not self.is_usable(head)):
            self.write(head, archive.inventory.created, archive.found.packed, archive.found.signatures)
        return self.place(head)

    def _put(self, place: Reference, written: document.Written) -> None:
        for blob, content in written.blobs:
            if not self.client.has_blob(place, blob.digest, blob.size):
                self.client.upload(self.repository, blob, partial(in_memory, content))
        self.client.put_manifest(place, written.raw, written.media_type)

    def tags(self) -> list[str]:
        """Return the tags of the records, sorted; none where the repository does not exist."""
        try:
            found = sorted(filter(document.is_record_tag, self.client.tags(self.repository)))
        except NotFoundError:
            return []
        if len(found) > MAX_RECORDS:
            raise ContentError(
                f"{self.repository.name}: more than {MAX_RECORDS} records",
                hint="Delete the tags of the oldest ones there, with the means of the registry.",
            )
        return found

    def records(self, progress: Progress | None = None) -> Iterator[Record]:
        """Read each record; those that cannot be used are in `unusable`. One at a time, for inventories are large.

        With a key, a record that it did not sign has `signed` False. `progress`: of a caller that has no step of its own.
        """
        tags, progress = self.tags(), progress or Silent()
        # That of a whole index takes seconds.
        with step(progress, f"reading {counted(len(tags), 'record')} of the mirror", len(tags), "records"):
            for tag in tags:
                try:
                    found = self.read(tag)
                except _UNUSABLE as error:
                    self.unusable[tag] = error.message
                    _LOG.warning("%s: the record %s cannot be used: %s", self.repository.name, tag, error.message)
                    progress.failed(1)
                    continue
                progress.advance(1)
                yield found

    def read(self, tag: str) -> Record:
        """Read a record. Raises ContentError or ArchiveError for one that is none, or is damaged."""
        found = self.client.document(self._at(tag))
        if not isinstance(found, Manifest) or len(found.layers) != 1:
            raise ContentError(f"{found.digest} is no manifest with one layer")
        layer = found.layers[0]
        stored = self.client.blob_bytes(self.repository, layer, MAX_LAYER)
        sizes = {found.digest: len(found.raw), **{blob.digest: blob.size for blob in found.blobs}}
        return replace(document.decode(tag, stored, self.key), stored=sizes)

    def mark_pruned(self, record: Record, now: str) -> None:
        """Say of a record that a part of its archive is gone: a second record takes its place, under another tag."""
        head = document.head_of(record.digest, record.head.mirror(self.mirror), now, pruned=True)
        if record.head.pruned:
            return
        self.write(head, record.inventory.created, record.packed, record.signatures)
        self.remove(record.head.tag)

    def remove(self, tag: str) -> None:
        """Delete a record; it may be gone already."""
        try:
            found = self.client.head(self._at(tag))
            if found is not None:
                self.client.delete(self.repository.pinned(found.digest))
        except NotFoundError:
            return


def required(store: RecordStore) -> Iterator[Record]:
    """Read the records that may be acted on: with a key, those that it signed; the others are in a warning."""
    for record in store.records():
        if store.key is not None and not record.signed:
            _LOG.warning("%s: left out, for the key %s did not sign it", store.place(record.head), store.key.fingerprint)
            continue
        yield record


def now() -> str:
    """Return the time, as records state it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def not_stored(error: HubError) -> str:
    """Return the warning about a record that was not stored."""
    return (
        f"the mirror has the archive, and its record was not stored: {error.message}. Until a push stores it, status and "
        "receipt do not list the archive, and prune has to be given it: --keep ARCHIVE"
    )
