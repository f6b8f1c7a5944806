"""The documents of one image into the mirror: children by digest, then the image itself under its tags.

A tag is the last thing written, so whoever finds it finds all of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ContentError, HubError, RegistryError, RegistryRefusedError
from common.log import logger
from common.oci.image import Descriptor, Digest
from common.registry.source_sink import RegistrySink
from common.transfer import copy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from common.archive.inventory import Inventory, ManifestRecord
    from common.oci.reference import Reference
    from common.registry.client import RegistryClient
    from importer.archive.reader import Archive
    from importer.mapping import Contents, MappedImage

# What of a push is this process's, where several share it by volumes: no two ever write the same blob into a repository.
#
# A blob is brought, into all of its repositories, by whoever has the volume that it begins in. An image is tagged by whoever
# finds all of it there after its own blobs; of all that look after their last blob, the last one does. Pure.


@dataclass(frozen=True, slots=True)
class Shard:
    """The shard of one process: that of `volumes`, counted from 1; None: everything."""

    inventory: Inventory
    contents: Contents
    volumes: Collection[int] | None = None

    @property
    def whole(self) -> bool:
        """Whether nobody else works on the same archive."""
        return self.volumes is None

    def brings(self, digest: Digest) -> bool:
        """Say whether a blob is brought here. What lies in an earlier archive is the first volume's."""
        pieces = self.inventory.blobs[digest].pieces
        return self.volumes is None or (pieces[0].volume if pieces else 1) in self.volumes

    def takes(self, image: MappedImage) -> bool:
        """Say whether an image concerns this shard: one of its blobs is brought here. One without any is the first volume's."""
        needs = self.contents.needs(image)
        return self.volumes is None or any(map(self.brings, needs)) or (not needs and 1 in self.volumes)

    def tags(self, image: MappedImage) -> bool:
        """Say whether an image may be tagged here at all.

        What refers to another image may have to be entered into a list, which two processes could tear from each other's
        hands (distribution specification, *Referrers tag schema*): that is for a push of the whole archive, afterwards.
        """
        record = self.inventory.manifests[image.digest]
        return self.volumes is None or record.subject is None

    def of_others(self, images: Iterable[MappedImage]) -> list[Digest]:
        """Return the blobs of images that others bring."""
        needed = dict.fromkeys(digest for image in images for digest in self.contents.needs(image))
        return sorted(digest for digest in needed if not self.brings(digest))


_REFUSED = (400, 404)  # how registries refuse a manifest with unknown content: a broken request, or nothing found
_SERVER_ERROR = 500
_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
_LOG = logger(__name__)


class Tagger:
    """Pushes documents; to `heal`, those too that should be there already. Shared by threads."""

    def __init__(self, archive: Archive, shard: Shard, client: RegistryClient, *, heal: bool = False) -> None:
        self._archive = archive
        self._shard = shard
        self._client = client
        self._heal = heal

    def attempt(self, image: MappedImage) -> HubError | None:
        """Push an image whose blobs are there; return what went wrong, if anything."""
        try:
            if not self._shard.whole and not self._heal and self._there(image):
                return None  # another one found all of it before us
            *children, root = self._shard.contents.documents(image.digest)
            for child in children:
                self._put(image.repository.pinned(child), child)
            if self._record(root).subject is not None:
                self._client.put_referrer(image.repository, self._archive.document(root))
            for tag in image.tags:
                self._put(image.tagged(tag), root)
            for document in (*children, root):
                self._require_whole(image.repository.pinned(document), self._record(document).size)
        except HubError as error:
            return error
        return None

    def _there(self, image: MappedImage) -> bool:
        return is_tagged(image, self._record(image.digest).size, self._client)

    def _require_whole(self, reference: Reference, size: int) -> None:
        """Look at a document that was written. Raises RegistryRefusedError where the registry has lost some of it.

        docker-registry (2.8.2) answers 201 to a document whose file it has already, damaged or not, and 500 to who asks for it.
        Of what it does not show (yet, or to us) its 201 is believed.
        """
        why = ""
        try:
            found = self._client.head(reference)
            if found is None or found.size == size:
                return
            why = f"has {found.size} of its {size} bytes"
            self._client.document(reference)  # verified by its digest: what HEAD says of the length alone is no damage
        except ContentError as error:
            why = why or f"answers that {error.message}"
        except RegistryError as error:
            if error.status != _SERVER_ERROR:
                _LOG.info("%s: not looked at after it was written: %s", reference, error.message)
                return
            why = f"gives HTTP {error.status} to who asks for it"
        else:
            return
        raise RegistryRefusedError(
            f"{reference}: the storage of {reference.registry} is damaged: it took the manifest in repository "
            f"{reference.repository} and {why}",
            hint="Restore the file in the registry's storage, or remove it there, then push again with --heal.",
        )

    def _record(self, digest: Digest) -> ManifestRecord:
        return self._archive.inventory.manifests[digest]

    def _put(self, reference: Reference, digest: Digest) -> None:
        """Write a document. One whose blobs the registry does not see is written again once they are there for certain."""
        record, document = self._record(digest), self._archive.document(digest)
        try:
            self._client.put_manifest(reference, document.raw, document.media_type)
        except RegistryError as error:
            if error.code != _BLOB_UNKNOWN or not record.blobs:
                raise
            _LOG.info("%s: looking for its blobs again: %s", reference, error.message)
            self._bring(reference, record)
            self._client.put_manifest(reference, document.raw, document.media_type)

    def _bring(self, reference: Reference, record: ManifestRecord) -> None:
        """Ask for each blob of a manifest that is ours, and upload those that are not there. Raises what uploading raises."""
        known = self._archive.inventory.blobs
        ours = filter(self._shard.brings, record.blobs)
        blobs = [Descriptor(known[digest].media_type, digest, known[digest].size) for digest in ours]
        sink = RegistrySink(self._client, {blob.digest: (reference,) for blob in blobs})
        for outcome in copy(blobs, self._archive, sink, jobs=1):
            if outcome.error is not None:
                raise outcome.error


def is_tagged(image: MappedImage, size: int, client: RegistryClient) -> bool:
    """Say whether the mirror has the image, of so many bytes, under all of its tags. Raises RegistryError, ContentError."""
    heads = (client.head(image.tagged(tag)) for tag in image.tags)
    return all(head is not None and (head.digest, head.size) == (image.digest, size) for head in heads)


class SparseIndexError(RegistryError):
    """The mirror refuses an index whose platforms are not all there."""


def explained(image: MappedImage, error: HubError) -> HubError:
    """Return the error; for an index that lacks platforms, one that says so (docs/registry.md, *Writing*)."""
    lacking = image.record.missing_platforms or ()
    if not (isinstance(error, RegistryError) and lacking and error.status in _REFUSED):
        return error
    return SparseIndexError(
        f"{image.repository.registry} refuses the index {image.digest}, which lacks {', '.join(lacking)}: {error.message}",
        hint="Export it without --platform, or use a registry that accepts sparse indexes.",
    )
