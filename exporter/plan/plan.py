"""The plan of an archive: all images and each blob once, in the order of the archive (ADR 0003). Pure.

The inventory has the same values, except for blobs that are missing when they are fetched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import UNSET

from common.archive import frames
from common.archive.inventory import (
    BaseRecord,
    BlobRecord,
    CatalogRecord,
    Encoding,
    ImageKind,
    ImageRecord,
    ManifestRecord,
    Problem,
    ReleaseRecord,
    UpdateGraphRecord,
)
from common.archive.layout import PlannedBlob
from common.oci import media_types
from common.oci.image import Descriptor, Digest, Document, Index, Manifest
from common.oci.reference import Reference
from exporter.plan.packed import PackedManifests

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from exporter.images.resolve import ResolvedImage


# Layers that are compressed already are stored raw (ADR 0004).
_COMPRESSED = (media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER_ZSTD, media_types.DOCKER_LAYER_GZIP)


NO_GRAPH = UpdateGraphRecord()


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """A plan. `blobs` in the order of the archive; `held` are blobs that exist in memory only; `places`: sources of each blob.

    `manifests` are the records of manifests and indexes in the inventory, `documents` the bytes of each as they were received.
    `elsewhere`: blobs that are left out, with their holders; `requires`: the earlier archives among the holders;
    `bases`: names and dates of the holders, as far as they are known.
    """

    catalogs: tuple[CatalogRecord, ...]
    images: tuple[ImageRecord, ...]
    manifests: Mapping[Digest, ManifestRecord]
    documents: Mapping[Digest, bytes]
    blobs: tuple[PlannedBlob, ...]
    places: Mapping[Digest, tuple[Reference, ...]]
    held: Mapping[Digest, bytes]
    problems: tuple[Problem, ...]
    elsewhere: Mapping[Digest, BlobRecord] = field(default_factory=dict)
    requires: tuple[Digest, ...] = ()
    releases: tuple[ReleaseRecord, ...] = ()
    update_graph: UpdateGraphRecord = NO_GRAPH
    bases: Mapping[Digest, BaseRecord] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The bytes of all blobs."""
        return sum(blob.descriptor.size for blob in self.blobs)

    def needs(self, digest: Digest) -> Iterator[Digest]:
        """Yield the blobs of a document and of all documents that it references."""
        record = self.manifests[digest]
        yield from record.blobs
        for child in record.manifests:  # without those of platforms that were left out
            yield from self.needs(child)

    def blob_records(self) -> dict[Digest, BlobRecord]:
        """Return the inventory's `blobs`, with empty positions for blobs of this archive: the layout fills them in."""
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
    """Return the plan for resolved images; those that could not be resolved are in it as incomplete."""
    documents = dict(sorted({d.digest: d for image in images if image.tree for d in image.tree.documents}.items()))
    blobs = tuple(_planned(blob, held) for blob in _ordered(images))
    # One text for each digest, which up to hundreds of manifests and repositories name.
    shared = {digest: digest for digest in (*(blob.descriptor.digest for blob in blobs), *documents)}
    found = tuple(problem for image in images if (problem := image.problem))
    return ExportPlan(
        catalogs=tuple(catalogs),
        images=tuple(_image_record(image) for image in images),
        manifests=manifest_records(documents.values(), documents, shared),
        documents=PackedManifests((digest, document.raw) for digest, document in documents.items()),
        blobs=blobs,
        places=_places(images, shared),
        held=held,
        problems=tuple(dict.fromkeys((*problems, *found))),
    )


def _ordered(images: Sequence[ResolvedImage]) -> Iterable[Descriptor]:
    """Yield each blob once, grouped by operator, then by digest (docs/reference/archive-format.md, *A volume*)."""
    # Grouped, so that a lost volume affects few operators. A shared blob is in the first of its groups.
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
    """Return the sort key of an image's group: catalogs, then package by package, then all others."""
    # With the first volume the catalogs can be pushed, before the rest arrives.
    if image.wanted.kind is ImageKind.CATALOG:
        return 0, ""
    if image.wanted.needed_by:
        return 1, "/".join(image.wanted.needed_by[0].split("/")[:2])
    return 2, ""


def _planned(blob: Descriptor, held: Mapping[Digest, bytes]) -> PlannedBlob:
    content = held.get(blob.digest)
    if content is None or blob.media_type in _COMPRESSED:
        return PlannedBlob(blob, Encoding.RAW)
    # The compressed size is part of the layout, so blobs made here (image configurations of a few KiB) are compressed twice.
    stored = len(frames.compress(content))
    # A reader refuses what is denser.
    return (
        PlannedBlob(blob, Encoding.ZSTD, stored)
        if len(content) <= frames.blob_bound(stored)
        else PlannedBlob(blob, Encoding.RAW)
    )


def _places(images: Sequence[ResolvedImage], shared: Mapping[Digest, Digest]) -> dict[Digest, tuple[Reference, ...]]:
    """Return the source repositories of each blob; blobs of the same repositories share one tuple."""
    places: dict[Digest, dict[Reference, None]] = {}
    repositories: dict[Reference, Reference] = {}
    for image in images:
        named = Reference(image.wanted.reference.registry, image.wanted.reference.repository)
        repository = repositories.setdefault(named, named)
        for blob in image.tree.blobs if image.tree else ():
            places.setdefault(shared[blob.digest], {})[repository] = None
    known: dict[tuple[Reference, ...], tuple[Reference, ...]] = {}
    sorted_places = ((digest, tuple(sorted(found))) for digest, found in places.items())
    return {digest: known.setdefault(found, found) for digest, found in sorted_places}


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
        # A catalog may be built on an image of another name, so its tag is that of the name in the image set.
        tag=(wanted.tag if wanted.named else wanted.reference.tag) or UNSET,
        missing_platforms=image.missing_platforms or UNSET,
        target_repository=wanted.target_repository or UNSET,
        target_tag=wanted.target_tag or UNSET,
    )


def manifest_records(
    documents: Iterable[Document], carried: Container[Digest], shared: Mapping[Digest, Digest]
) -> dict[Digest, ManifestRecord]:
    """Return the inventory's `manifests`, with digests in the texts of `shared`; `carried`: the digests of all documents."""
    return {shared.get(one.digest, one.digest): _record(one, carried, shared) for one in documents}


def _record(document: Document, carried: Container[Digest], shared: Mapping[Digest, Digest]) -> ManifestRecord:
    subject = document.subject.digest if document.subject else None
    size = len(document.raw)
    if isinstance(document, Manifest):
        blobs = tuple(shared.get(blob.digest, blob.digest) for blob in document.blobs)
        return ManifestRecord(document.media_type, size, blobs=blobs, subject=subject)
    assert isinstance(document, Index)
    # An index may list a manifest twice, for two platforms.
    children = tuple(dict.fromkeys(shared.get(m.digest, m.digest) for m in document.manifests if m.digest in carried))
    return ManifestRecord(document.media_type, size, manifests=children, subject=subject)
