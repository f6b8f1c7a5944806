"""Find the SBOMs that an archive carries, and the images that each is for. Reads manifests, and no other content.

cosign has them under tags `sha256-<hex>.sbom` (attachments) and `.att` (attestations), registries with the referrers API in
manifests with a subject, and BuildKit in a manifest of the image's own index (platform `unknown/unknown`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from common.archive.inventory import ATTACHED, ImageKind, documents_of
from common.errors import ArchiveError, ContentError, MediumGoneError
from common.oci.image import Digest, Manifest, artifact_type, described, subject_of_tag
from common.sbom.envelope import STATEMENT, is_predicate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from common.archive.inventory import ImageRecord, Inventory
    from common.archive.reader import ArchiveReader
    from common.oci.image import Descriptor

# sigstore/cosign, specs/SBOM_SPEC.md; IANA for application/spdx+json and application/vnd.cyclonedx+json. Prefixes: suffixes
# such as +gzip, and parameters, are appended.
_DOCUMENTS = ("text/spdx", "application/spdx", "application/vnd.cyclonedx", "application/vnd.syft")
_ENVELOPES = ("application/vnd.dsse.envelope", "application/vnd.in-toto", "application/vnd.dev.sigstore.bundle")
# cosign puts the type of the predicate on the layer, BuildKit too, and a Sigstore bundle has it on its manifest.
_LAYER_NOTES = ("predicateType", "in-toto.io/predicate-type")
_MANIFEST_NOTE = "dev.sigstore.bundle.predicateType"


class Carriage(StrEnum):
    """The way on which an SBOM comes with its image."""

    ATTACHMENT = "attachment"  # the tag .sbom of cosign
    ATTESTATION = "attestation"  # the tag .att of cosign
    REFERRER = "referrer"  # a manifest with a subject
    INDEX = "index"  # a manifest in the index of the image


@dataclass(frozen=True, slots=True)
class Carried:
    """A blob with an SBOM. `subject`: the manifest that it is for; `manifests`: those of the `images` that have it."""

    blob: Descriptor
    carriage: Carriage
    subject: Digest
    images: tuple[Digest, ...]
    manifests: frozenset[Digest]


@dataclass(frozen=True, slots=True)
class Unread:
    """An attachment of an image whose manifest cannot be read."""

    subject: str
    error: ArchiveError | ContentError


class Images:
    """The images of an archive that SBOMs are about, by digest, and the images that each manifest belongs to."""

    def __init__(self, inventory: Inventory, wanted: Iterable[ImageRecord]) -> None:
        self.records: defaultdict[Digest, list[ImageRecord]] = defaultdict(list)
        for image in wanted:
            if image.digest is not None and image.kind not in ATTACHED:
                self.records[image.digest].append(image)
        self.documents: dict[Digest, list[Digest]] = {root: documents_of(inventory, root) for root in self.records}
        self.roots: defaultdict[Digest, list[Digest]] = defaultdict(list)
        for root, documents in self.documents.items():
            for document in documents:
                self.roots[document].append(root)
        self._manifests: dict[tuple[Digest, ...], frozenset[Digest]] = {}

    def manifests(self, roots: tuple[Digest, ...]) -> frozenset[Digest]:
        """Return all manifests of some images."""
        # Kept: a thousand indexes may share a thousand manifests, each with an attachment.
        if roots not in self._manifests:
            self._manifests[roots] = frozenset(each for root in roots for each in self.documents[root])
        return self._manifests[roots]


def carried(archive: ArchiveReader, images: Images) -> tuple[list[Carried], list[Unread]]:
    """Return the SBOMs of images, in the order of the inventory, and attachments whose manifest cannot be read."""
    found: dict[tuple[Digest, Digest], Carried] = {}
    unread: list[Unread] = []
    for subject, digest, carriage in _manifests(archive.inventory, images):
        try:
            document = archive.document(digest)
        except MediumGoneError:
            raise
        except (ArchiveError, ContentError) as error:
            unread.append(Unread(images.records[images.roots[subject][0]][0].source, error))
            continue
        if isinstance(document, Manifest):
            for blob in _sboms(document):
                roots = tuple(images.roots[subject])
                found.setdefault((subject, blob.digest), Carried(blob, carriage, subject, roots, images.manifests(roots)))
    return list(found.values()), unread


def may_carry(inventory: Inventory) -> bool:
    """Say whether there are manifests that may have SBOMs; False for most archives without attachments."""
    # Before the documents of each image are listed, which takes a second for a whole catalog.
    attached = any(_may_have_one(inventory, image) for image in inventory.images)
    if not attached and not any(blob.media_type.startswith(STATEMENT) for blob in inventory.blobs.values()):
        return False
    return next(_manifests(inventory, Images(inventory, inventory.images)), None) is not None


def _manifests(inventory: Inventory, images: Images) -> Iterator[tuple[Digest, Digest, Carriage]]:
    yield from _attached(inventory, images)
    yield from _in_indexes(inventory, images)


def _attached(inventory: Inventory, images: Images) -> Iterator[tuple[Digest, Digest, Carriage]]:
    """Give the subject and the digest of each manifest that is attached to an image, except signatures by tag."""
    for image in inventory.images:
        if image.digest is None or not _may_have_one(inventory, image):
            continue
        suffix, digest = _tagged(image)
        subject = inventory.manifests[image.digest].subject or digest
        if subject in images.roots and suffix != "sig":
            carriage = {"sbom": Carriage.ATTACHMENT, "att": Carriage.ATTESTATION}.get(suffix, Carriage.REFERRER)
            yield subject, image.digest, carriage


def _may_have_one(inventory: Inventory, image: ImageRecord) -> bool:
    """Say whether an attachment may be an SBOM, by the media types of its blobs."""
    record = inventory.manifests.get(image.digest) if image.digest else None
    if image.kind not in ATTACHED or record is None:
        return False
    # A Sigstore bundle is counted as a signature: it may be one, or an attestation.
    kinds = (inventory.blobs[blob].media_type for blob in record.blobs)
    return image.kind is not ImageKind.SIGNATURE or any(kind.startswith(_ENVELOPES) for kind in kinds)


def _tagged(image: ImageRecord) -> tuple[str, Digest]:
    """Return the suffix of a tag of cosign, and the digest in it; empty texts for an image without such a tag."""
    # cosign before 3.0 has no subject, it derives the tag from the digest: `sha256-<hex>.sbom`.
    tag = image.source.rpartition(":")[2]
    subject = subject_of_tag(tag)
    return ("", Digest("")) if subject is None else (tag.partition(".")[2], subject)


def _in_indexes(inventory: Inventory, images: Images) -> Iterator[tuple[Digest, Digest, Carriage]]:
    """Give the manifests with in-toto statements in the index of an image (BuildKit, *Image attestation storage*)."""
    for root, documents in images.documents.items():
        for digest in documents if len(documents) > 1 else ():
            blobs = inventory.manifests[digest].blobs
            if any(inventory.blobs[blob].media_type.startswith(STATEMENT) for blob in blobs):
                yield root, digest, Carriage.INDEX


def _sboms(document: Manifest) -> Iterator[Descriptor]:
    """Give the layers that are SBOMs, or statements that may be."""
    notes = described(document).get("annotations", {})
    is_sbom = artifact_type(document).startswith(_DOCUMENTS)
    for layer in document.layers:
        kinds = [note for name in _LAYER_NOTES if (note := layer.annotations.get(name))] or [notes.get(_MANIFEST_NOTE, "")]
        if layer.media_type.startswith(_ENVELOPES):
            if not kinds[0] or is_predicate(kinds[0]):
                yield layer
        # oras gives any file the type of a tar, and the artifact its own.
        elif is_sbom or layer.media_type.startswith(_DOCUMENTS):
            yield layer
