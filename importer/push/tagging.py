"""The manifests and tags of one image on the mirror: children by digest, then the image itself under its tags.

A tag is written last: a client that finds the tag finds the whole image.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from common.archive.inventory import ATTACHED, ImageKind
from common.errors import ContentError, HubError, RegistryError, RegistryRefusedError
from common.oci.image import Descriptor, Digest
from common.registry.manifest_writer import Family, ImmutableTagError, UnsupportedTypeError, family_of
from common.registry.source_sink import RegistrySink
from common.transfer import HostFailures, copy, gone

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from common.archive.inventory import Inventory, ManifestRecord
    from common.archive.reader import Archive
    from common.oci.reference import Reference
    from common.registry.client import RegistryClient
    from importer.mapping import Closure, MappedImage


@dataclass(frozen=True, slots=True)
class VolumePartition:
    """The part of a push that one process does: that of `volumes`, counted from 1; None: everything. Pure (ADR 0022).

    Each blob has one owner, so no two processes write the same blob into one repository: docker-registry 2.8 may refuse a
    manifest then (docs/reference/registry.md, *Writing*). The owner uploads a blob to all of its repositories.
    """

    inventory: Inventory
    closure: Closure
    volumes: Collection[int] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether no other process pushes the same archive."""
        return self.volumes is None

    def owns(self, digest: Digest) -> bool:
        """Say whether this process uploads a blob."""
        # A blob begins in exactly one volume, also where it is cut; one of an earlier archive is in none: the first takes it.
        pieces = self.inventory.blobs[digest].pieces
        return self.volumes is None or (pieces[0].volume if pieces else 1) in self.volumes

    def includes(self, image: MappedImage) -> bool:
        """Say whether this process uploads a blob of the image. An image without blobs belongs to the first volume."""
        needed = self.closure.blobs_of(image)
        return self.volumes is None or any(map(self.owns, needed)) or (not needed and 1 in self.volumes)

    def may_tag(self, image: MappedImage) -> bool:
        """Say whether an image may be tagged by this process; payloads, and images with a subject, only by an unshared push."""
        # A registry without the referrers API keeps them in a list under a tag, which is read, changed and written back
        # (distribution specification, *Referrers tag schema*): two processes would overwrite each other's entries.
        record = self.inventory.manifests[image.digest]
        # Another process may still have components of a payload to bring.
        return self.volumes is None or (record.subject is None and image.record.kind is not ImageKind.RELEASE)

    def foreign_blobs(self, images: Iterable[MappedImage]) -> list[Digest]:
        """Return the blobs of images that other processes upload."""
        if self.is_whole:
            return []
        needed = dict.fromkeys(digest for image in images for digest in self.closure.blobs_of(image))
        return sorted(digest for digest in needed if not self.owns(digest))


_REFUSED = (400, 404)  # how registries refuse a manifest with unknown content: MANIFEST_BLOB_UNKNOWN, or not found
_UNSUPPORTED_TYPE = 415
_SERVER_ERROR = 500
_ALONE = (
    "It took other manifests of this kind; its log says more. A registry that takes no index (manifest list) is too old for "
    "images of several platforms: update it, or use another mirror."
)
_LOG = logging.getLogger(__name__)


class Tagger:
    """Writes manifests and tags; with `heal` also those that are there already. Shared by threads.

    `right`: tags that have the right digest already. `refused`: the families of media types that the mirror does not take.
    """

    def __init__(
        self,
        archive: Archive,
        partition: VolumePartition,
        client: RegistryClient,
        *,
        heal: bool = False,
        right: Collection[Reference] = (),
    ) -> None:
        self._archive = archive
        self._partition = partition
        self._client = client
        self._heal = heal
        self._right = frozenset(right)
        self.refused: dict[Family, UnsupportedTypeError] = {}
        self._hidden = False
        self._taken: set[Family] = set()
        self._suspected: set[Family] = set()  # an image of theirs was refused
        self._failures = HostFailures(ends_alone=False)

    def attempt(self, image: MappedImage) -> HubError | None:
        """Write an image whose blobs have arrived; return the error, if any."""
        known = self.type_error(image)
        if known is not None:
            return known
        # The retries of hundreds of images would take hours. The blobs are there then, and the next run writes the manifests.
        if (ended_by := self._failures.ended_by) is not None:
            return gone(ended_by, "not written, for too many images in a row were not taken")
        try:
            immutable = self._write(image)
        except UnsupportedTypeError as refusal:
            self._failures.add(None)
            return self._judged(image, refusal)
        except HubError as error:
            self._failures.add(error, image.repository.name)
            return error
        self._failures.add(None)
        if image.record.kind not in ATTACHED:
            self._taken.update(self._families(image))
        return immutable

    def _judged(self, image: MappedImage, refusal: UnsupportedTypeError) -> HubError:
        """Return the error for an image whose type was refused; note whether it is about all images of that type."""
        family = refusal.family
        if image.record.kind in ATTACHED:
            return refusal
        if family in self._taken:
            return RegistryRefusedError(refusal.message, hint=_ALONE, status=refusal.status, code=refusal.code)
        # 400 with the media type may be about the one image, whose publisher must not keep all others from the mirror.
        is_sure = refusal.status == _UNSUPPORTED_TYPE or family in self._suspected
        self._suspected.add(family)
        return self.refused.setdefault(family, refusal) if is_sure else refusal

    def type_error(self, image: MappedImage) -> UnsupportedTypeError | None:
        """Return the error for an image of a type that the mirror has refused before; None where it may be taken."""
        if not self.refused or image.record.kind in ATTACHED:
            return None
        families = self._families(image)
        return next((error for family, error in tuple(self.refused.items()) if family in families), None)

    def _families(self, image: MappedImage) -> set[Family]:
        return {family_of(self._record(each).media_type) for each in self._partition.closure.manifests_of(image.digest)}

    def _write(self, image: MappedImage) -> HubError | None:
        """Write manifests, then tags; return the error of a tag that cannot be moved: the others are written."""
        # Two processes can find an image complete at once. Whichever is later asks first: docker-registry trips over a
        # file that another process is just writing (HTTP 400, DIGEST_INVALID; ADR 0022).
        if not self._partition.is_whole and not self._heal and self._is_present(image):
            return None
        *children, root = self._partition.closure.manifests_of(image.digest)
        for child in children:
            self._put(image, image.repository.pinned(child), child)
            if image.record.kind not in ATTACHED:
                self._taken.add(family_of(self._record(child).media_type))  # an index that is refused stands alone then
        immutable: HubError | None = None
        try:
            if self._record(root).subject is not None:
                check = self._check_of(image.repository, root)
                self._client.put_referrer(image.repository, self._archive.document(root), on_missing=check)
        except ImmutableTagError as error:
            immutable = error  # of the list of referrers: the manifest itself is there
        for tag in image.tags:
            try:
                self._tag(image, tag)
            except ImmutableTagError as error:
                immutable = immutable or error
        # Read back after all writes: a 201 proves nothing where a damaged file is in the registry's storage already.
        for document in (*children, root):
            self._require_whole(image.repository.pinned(document), self._record(document).size)
        return immutable

    def _tag(self, image: MappedImage, tag: str) -> None:
        """Write a tag that is not right already."""
        # Registries with immutable tags refuse the second PUT of a tag, same digest or not (aws/containers-roadmap#2380).
        if image.tagged(tag) in self._right and not self._heal:
            return
        if not self._put(image, image.tagged(tag), image.digest) and self._heal:
            self._put(image, image.pinned, image.digest)  # the tag is right and immutable: its manifest is written nevertheless

    def _is_present(self, image: MappedImage) -> bool:
        return is_tagged(image, self._record(image.digest).size, self._client)

    def _require_whole(self, reference: Reference, size: int) -> None:
        """Check a manifest that was written. Raises RegistryRefusedError where the registry's file is damaged.

        docker-registry (2.8.2) answers 201 to a manifest whose file it has already, damaged or not, and 500 to a GET of it.
        Where the manifest cannot be read (yet, or by this account), the 201 counts.
        """
        why = ""
        try:
            found = self._client.head(reference)
            if found is None:
                self._note_hidden(reference)
            if found is None or found.size == size:
                return
            why = f"has {found.size} of its {size} bytes"
            self._client.document(reference)  # verified by its digest: a wrong length in HEAD alone is no damage
        except ContentError as error:
            why = why or f"answers that {error.message}"
        except RegistryError as error:
            if error.status != _SERVER_ERROR:
                _LOG.info("%s: not checked after it was written: %s", reference, error.message)
                return
            why = f"answers HTTP {error.status} to a request for it"
        else:
            return
        raise RegistryRefusedError(
            f"{reference}: the storage of {reference.registry} is damaged: it took the manifest in repository "
            f"{reference.repository} and {why}",
            hint="Restore the file in the registry's storage, or remove it there, then push again with --heal.",
        )

    def _note_hidden(self, reference: Reference) -> None:
        """Warn, once, of a mirror that takes manifests and does not say which it has."""
        error = self._client.refusal(reference)
        if error is None or self._hidden:
            return
        self._hidden = True
        _LOG.warning(
            "%s took a manifest and does not say that it has it, so each push asks for every blob and writes every manifest "
            "again: %s\n  Give this account the right to pull from the mirror.",
            reference.registry,
            error.message,
        )

    def _record(self, digest: Digest) -> ManifestRecord:
        return self._archive.inventory.manifests[digest]

    def _put(self, image: MappedImage, reference: Reference, digest: Digest) -> bool:
        """Write a manifest; False: it was refused, for it is there already."""
        record, document = self._record(digest), self._archive.document(digest)
        # What --platform left out is missing on purpose: waiting for it would be in vain.
        waits = not (record.manifests and image.record.missing_platforms)
        check = self._check_of(reference, digest)
        return self._client.put_manifest(reference, document.raw, document.media_type, on_missing=check, waits=waits)

    def _check_of(self, reference: Reference, digest: Digest) -> Callable[[], None] | None:
        """Return what checks the blobs of a manifest that the registry does not see; None where it has none."""
        record = self._record(digest)
        return partial(self._ensure_blobs, reference, record) if record.blobs else None

    def _ensure_blobs(self, reference: Reference, record: ManifestRecord) -> None:
        """Upload the blobs of a manifest that are missing, of those that this process owns. Raises as an upload does."""
        known = self._archive.inventory.blobs
        owned = filter(self._partition.owns, record.blobs)
        blobs = [Descriptor(known[digest].media_type, digest, known[digest].size) for digest in owned]
        sink = RegistrySink(self._client, {blob.digest: (reference,) for blob in blobs})
        for outcome in copy(blobs, self._archive, sink, jobs=1):
            if outcome.error is not None:
                raise outcome.error


def right_tags(image: MappedImage, size: int, client: RegistryClient) -> list[Reference]:
    """Return the tags that the mirror has right, up to the first that is not. Raises RegistryError, ContentError."""
    # By size too: after a power cut a registry may keep a short file and answer 200 (distribution/distribution#2788).
    found: list[Reference] = []
    for reference in map(image.tagged, image.tags):
        head = client.head(reference)
        if head is None or (head.digest, head.size) != (image.digest, size):
            break  # one wrong tag is enough to push the image: a first push asks once for each image
        found.append(reference)
    return found


def is_tagged(image: MappedImage, size: int, client: RegistryClient) -> bool:
    """Say whether the mirror has the image, of so many bytes, under all of its tags. Raises RegistryError, ContentError."""
    return len(right_tags(image, size, client)) == len(image.tags)


class SparseIndexError(RegistryError):
    """The mirror refuses an index whose platforms are not all present."""


def explained(image: MappedImage, error: HubError) -> HubError:
    """Return the error; for an index that lacks platforms, one that says so (docs/reference/registry.md, *Writing*)."""
    missing = image.record.missing_platforms or ()
    # Other refusals of 400 explain themselves.
    known = isinstance(error, ImmutableTagError | UnsupportedTypeError)
    if known or not (isinstance(error, RegistryError) and missing and error.status in _REFUSED):
        return error
    return SparseIndexError(
        f"{image.repository.registry} refuses the index {image.digest}, which lacks {', '.join(missing)}: {error.message}",
        hint="Export it without --platform, or use a registry that accepts sparse indexes.",
    )
