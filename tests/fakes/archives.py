"""Small archives made by the real writer, from content that is the same in every run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from common.archive import frames, inventory, metadata
from common.archive.inventory import BlobRecord, Encoding, ImageKind, ImageRecord, Inventory, ManifestRecord, ProblemCode
from common.archive.layout import Layout, PlannedBlob, plan_layout
from common.archive.reader import Archive
from common.content import Chunk, Chunks
from common.oci import media_types
from common.oci.image import Descriptor, Digest, Hasher, digest_of, encode
from exporter.archive.volume_writer import Closing
from exporter.archive.writer import ArchiveWriter, FinishedArchive

CREATED = "2026-01-31T12:00:00Z"
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}'


_KEPT = 1 << 20  # bytes; larger content is not kept in memory for its digest


def _digest(content: bytes) -> Digest:
    """Return a digest that is asked for dozens of times for each archive, and for the same content in all of them."""
    return _kept(content) if len(content) <= _KEPT else digest_of(content)


_kept = lru_cache(256)(digest_of)


def noise(seed: str, size: int) -> bytes:
    """Return bytes that no compressor makes smaller, the same for the same seed."""
    return hashlib.shake_256(seed.encode()).digest(size)


def described(content: bytes, media_type: str = media_types.OCI_LAYER_GZIP) -> Descriptor:
    return Descriptor(media_type, _digest(content), len(content))


def chunks_of(content: bytes, step: int = 100_000) -> Callable[..., Chunks]:
    """Return a `read` as sinks get it."""

    def read(start: int = 0, _prefix: Hasher | None = None) -> Iterable[Chunk]:
        return iter([content[at : at + step] for at in range(start, len(content), step)])

    return read


@dataclass
class Content:
    """What a test wants in its archive. Every image has CONFIG, stored as zstd, and its own layers.

    `additional`: sources of images that no operator needs.
    """

    images: Mapping[str, Sequence[bytes]]
    missing: frozenset[Digest] = frozenset()
    bound: int | None = None
    volume_size: int = 1 << 30
    extra: Mapping[str, bytes] = field(default_factory=dict)
    created: str = CREATED
    additional: frozenset[str] = frozenset()

    def manifest(self, layers: Sequence[bytes]) -> bytes:
        return encode(
            {
                "schemaVersion": 2,
                "mediaType": media_types.OCI_MANIFEST,
                "config": {"mediaType": media_types.OCI_CONFIG, "digest": _digest(CONFIG), "size": len(CONFIG)},
                "layers": [
                    {"mediaType": media_types.OCI_LAYER_GZIP, "digest": _digest(layer), "size": len(layer)} for layer in layers
                ],
            }
        )

    @property
    def manifests(self) -> dict[Digest, bytes]:
        raws = [self.manifest(layers) for layers in self.images.values()]
        return {_digest(raw): raw for raw in sorted(raws, key=_digest)}

    @property
    def blobs(self) -> dict[Digest, bytes]:
        found = {_digest(CONFIG): CONFIG}
        for layers in self.images.values():
            found.update({_digest(layer): layer for layer in layers})
        return found

    def planned(self) -> list[PlannedBlob]:
        config = PlannedBlob(described(CONFIG, media_types.OCI_CONFIG), Encoding.ZSTD, len(frames.compress(CONFIG)))
        layers = [PlannedBlob(described(blob)) for digest, blob in self.blobs.items() if digest != _digest(CONFIG)]
        return [config, *layers]

    def index_json(self) -> bytes:
        plain = self.inventory(None)
        return metadata.index_json(plain.images, plain.manifests)

    def layout(self) -> Layout:
        bound = metadata.bound(self.inventory(None), self.index_json()) if self.bound is None else self.bound
        return plan_layout(self.planned(), bound, self.volume_size)

    def inventory(self, layout: Layout | None) -> Inventory:
        records = {
            digest: BlobRecord(len(blob), media_types.OCI_LAYER_GZIP, Encoding.RAW) for digest, blob in self.blobs.items()
        }
        if layout is not None:
            records = layout.blob_records()
        for digest in self.missing if layout is not None else ():
            records[digest] = BlobRecord(records[digest].size, records[digest].media_type, missing=ProblemCode.BLOB_UNAVAILABLE)
        return Inventory(
            media_type=inventory.MEDIA_TYPE,
            created=self.created,
            tool="hub-airgap 0.1.0",
            image_set={"kind": "ImageSetConfiguration"},
            requires=(),
            catalogs=(),
            images=tuple(self._image(source, layers) for source, layers in self.images.items()),
            manifests={_digest(self.manifest(layers)): self._record(layers) for layers in self.images.values()},
            blobs=records,
            volumes=layout.volumes if layout is not None else (),
            problems=(),
        )

    def closing(self, layout: Layout) -> Closing:
        """Return what closes the archive."""
        return Closing(self.inventory(layout), self.manifests, self.index_json())

    def _image(self, source: str, layers: Sequence[bytes]) -> ImageRecord:
        return ImageRecord(
            source=source,
            digest=_digest(self.manifest(layers)),
            media_type=media_types.OCI_MANIFEST,
            kind=ImageKind.ADDITIONAL if source in self.additional else ImageKind.RELATED,
            platforms=("linux/amd64",),
            complete=not {_digest(layer) for layer in layers} & self.missing,
            needed_by=() if source in self.additional else (f"catalog/package/{_package(source)}",),
            size=sum(map(len, layers)) + len(CONFIG),
        )

    def _record(self, layers: Sequence[bytes]) -> ManifestRecord:
        blobs = tuple(dict.fromkeys([_digest(CONFIG), *map(_digest, layers)]))
        return ManifestRecord(media_types.OCI_MANIFEST, len(self.manifest(layers)), blobs=blobs)


def _package(source: str) -> str:
    return source.partition("@")[0].rpartition("/")[2].partition(":")[0]


def write(directory: Path, content: Content) -> FinishedArchive:
    """Make the archive."""
    layout = content.layout()
    with ArchiveWriter(directory, layout) as writer:
        for digest, blob in content.blobs.items():
            if digest in content.missing:
                writer.mark_missing(digest)
            else:
                writer.write(layout.blobs[digest].descriptor, chunks_of(blob))
        return writer.finish(content.closing(layout), lambda _sums: content.extra)


def written(directory: Path, content: Content) -> Archive:
    """Make the archive and open it."""
    write(directory, content)
    return Archive.open([directory])


# Three volumes; the large layer is cut into three pieces, with a small one before and one after it.
CUT = Content(
    images={
        "registry.test/small:v1": [noise("small", 1000)],
        "registry.test/large:v1": [noise("large", 900_000), b""],
        "registry.test/after@sha256:" + "0" * 64: [noise("after", 131_072)],
    },
    bound=20_000,
    volume_size=500_000,
)
