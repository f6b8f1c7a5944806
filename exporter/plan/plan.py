"""The plan: every image, every blob once, every byte position, before the first layer moves (ADR 0003).

Pure. What it says of an image or a blob is what the inventory will say, unless fetching finds that something is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import UNSET

from common.archive import frames
from common.archive.inventory import BlobRecord, CatalogRecord, Encoding, ImageKind, ImageRecord, ManifestRecord, Problem
from common.archive.layout import PlannedBlob
from common.oci import media_types
from common.oci.image import Descriptor, Digest, Document, Index, Manifest
from common.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.images.resolve import ResolvedImage

Totals = dict[str, int]
_COMPRESSED = (media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER_ZSTD, media_types.DOCKER_LAYER_GZIP)


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What will move. `blobs` in the order of the archive; `held` are the blobs that exist nowhere but here.

    `elsewhere`: blobs of the images that are left out, with who has them; `requires`: the earlier archives among these.
    """

    catalogs: tuple[CatalogRecord, ...]
    images: tuple[ImageRecord, ...]
    documents: Mapping[Digest, Document]
    blobs: tuple[PlannedBlob, ...]
    places: Mapping[Digest, tuple[Reference, ...]]
    held: Mapping[Digest, bytes]
    problems: tuple[Problem, ...]
    elsewhere: Mapping[Digest, BlobRecord] = field(default_factory=dict)
    requires: tuple[Digest, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of all blobs."""
        return sum(blob.descriptor.size for blob in self.blobs)

    def needs(self, digest: Digest) -> Iterator[Digest]:
        """Yield the blobs of a document and of all documents below it."""
        document = self.documents[digest]
        if isinstance(document, Manifest):
            yield from (blob.digest for blob in document.blobs)
            return
        for child in document.manifests:
            if child.digest in self.documents:
                yield from self.needs(child.digest)

    def manifest_records(self) -> dict[Digest, ManifestRecord]:
        """Return the inventory's `manifests`."""
        return {digest: _record(document, self.documents) for digest, document in self.documents.items()}

    def blob_records(self) -> dict[Digest, BlobRecord]:
        """Return the inventory's `blobs`; those that are carried have no places in volumes yet."""
        carried = {
            blob.descriptor.digest: BlobRecord(blob.descriptor.size, blob.descriptor.media_type, blob.encoding)
            for blob in self.blobs
        }
        return carried | dict(self.elsewhere)


def make_plan(
    catalogs: Sequence[CatalogRecord],
    images: Sequence[ResolvedImage],
    held: Mapping[Digest, bytes],
    problems: Iterable[Problem],
) -> ExportPlan:
    """Return the plan for resolved images; those that could not be resolved stay in it as incomplete."""
    documents = {d.digest: d for image in images if image.tree for d in image.tree.documents}
    found = tuple(problem for image in images if (problem := image.problem))
    return ExportPlan(
        catalogs=tuple(catalogs),
        images=tuple(_image_record(image) for image in images),
        documents=dict(sorted(documents.items())),
        blobs=tuple(_planned(blob, held) for blob in _ordered(images)),
        places=_places(images),
        held=held,
        problems=tuple(dict.fromkeys((*problems, *found))),
    )


def _ordered(images: Sequence[ResolvedImage]) -> Iterable[Descriptor]:
    """Yield each blob once: what one operator needs lies together, then by digest (archive format, *A volume*)."""
    groups: dict[tuple[int, str], dict[Digest, Descriptor]] = {}
    taken: set[Digest] = set()
    for image in sorted(images, key=_group):
        group = groups.setdefault(_group(image), {})
        for blob in image.tree.blobs if image.tree else ():
            if blob.digest not in taken:
                taken.add(blob.digest)
                group[blob.digest] = blob
    for key in sorted(groups):
        yield from (groups[key][digest] for digest in sorted(groups[key]))


def _group(image: ResolvedImage) -> tuple[int, str]:
    """Catalogs first, so that the first volume makes the operators known; then package by package; then the rest."""
    if image.wanted.kind is ImageKind.CATALOG:
        return 0, ""
    if image.wanted.needed_by:
        return 1, "/".join(image.wanted.needed_by[0].split("/")[:2])
    return 2, ""


def _planned(blob: Descriptor, held: Mapping[Digest, bytes]) -> PlannedBlob:
    content = held.get(blob.digest)
    if content is None or blob.media_type in _COMPRESSED:
        return PlannedBlob(blob, Encoding.RAW)
    return PlannedBlob(blob, Encoding.ZSTD, len(frames.compress(content)))


def _places(images: Sequence[ResolvedImage]) -> dict[Digest, tuple[Reference, ...]]:
    """Return for each blob the repositories that have it."""
    places: dict[Digest, dict[Reference, None]] = {}
    for image in images:
        repository = Reference(image.wanted.reference.registry, image.wanted.reference.repository)
        for blob in image.tree.blobs if image.tree else ():
            places.setdefault(blob.digest, {})[repository] = None
    return {digest: tuple(sorted(found)) for digest, found in places.items()}


def _image_record(image: ResolvedImage) -> ImageRecord:
    wanted, tree = image.wanted, image.tree
    return ImageRecord(
        source=wanted.source,
        digest=tree.root.digest if tree else None,
        media_type=tree.root.media_type if tree else None,
        kind=wanted.kind,
        platforms=image.platforms,
        complete=tree is not None and image.problem is None,
        needed_by=wanted.needed_by,
        size=sum(blob.size for blob in tree.blobs) if tree else 0,
        tag=(wanted.tag if wanted.named else wanted.reference.tag) or UNSET,
        missing_platforms=image.missing_platforms or UNSET,
        target_repository=wanted.target_repository or UNSET,
        target_tag=wanted.target_tag or UNSET,
    )


def _record(document: Document, carried: Mapping[Digest, Document]) -> ManifestRecord:
    subject = document.subject.digest if document.subject else None
    size = len(document.raw)
    if isinstance(document, Manifest):
        return ManifestRecord(document.media_type, size, blobs=tuple(b.digest for b in document.blobs), subject=subject)
    assert isinstance(document, Index)
    children = tuple(dict.fromkeys(m.digest for m in document.manifests if m.digest in carried))
    return ManifestRecord(document.media_type, size, manifests=children, subject=subject)
