"""An export and a push of any number of small blobs without a network: what an archive costs by its number of blobs alone.

The shape is that of the largest real catalog (tests/bench/goods.py): half of the images are bundles of one layer, the others
have six, half of them shared, and every third has two platforms; so an image has 3.7 blobs.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from common.archive.inventory import ImageKind
from common.archive.reader import Archive
from common.content import Chunks, Written, in_memory
from common.mapping import Mirror, map_images
from common.oci import media_types
from common.oci.image import Descriptor, Digest, Document, Platform, Tree, digest_of, encode, parse
from common.oci.reference import Reference
from common.progress import Silent
from common.registry.client import RegistryClient
from exporter.archive.archive_spec import ArchiveSpec
from exporter.archive.fetch import copy_blobs
from exporter.archive.writer import ArchiveWriter
from exporter.images.resolve import ResolvedImage, WantedImage
from exporter.plan.plan import ExportPlan, make_plan
from exporter.report.facts import Facts
from exporter.report.page import Report
from exporter.settings import ArchiveTerms, Making
from importer.push.confirmation import Confirmation, Content, confirm
from importer.push.push import push
from importer.push.result import PushResult
from importer.records.document import REPOSITORY
from importer.records.store import RecordStore

_OPERATORS = 16  # images of each
_PLATFORMS = ("amd64", "arm64")


class Source:
    """A BlobSource that knows the content of each blob by its number alone."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}  # by the first 60 bits of the digest, which takes less than the digest itself

    def blob(self, number: int, media_type: str) -> dict[str, Any]:
        """Return the descriptor of a blob."""
        content = _content(number)
        digest = digest_of(content)
        self._numbers[_short(digest)] = number
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """Give the content of a blob from byte `start` on."""
        return in_memory(_content(self._numbers[_short(blob.digest)]), start)


def _short(digest: Digest) -> int:
    return int(digest[7:22], 16)


def _content(number: int) -> bytes:
    return b"blob %d" % number


def plan_of(images: int, source: Source) -> ExportPlan:
    """Return the plan of so many images, as it is after their manifests were read."""
    return make_plan((), list(_images(images, source)), {}, ())


def _images(count: int, source: Source) -> Iterator[ResolvedImage]:
    for number in range(count):
        operator = f"operator-{number // _OPERATORS}"
        documents = list(_documents(number, source))
        name = f"quay.io/community/{operator}-{'bundle' if number % 2 else 'image'}-{number // 4}"
        reference = Reference.parse(f"{name}@{documents[-1].digest}")
        needed_by = tuple(f"community/{operator}/{operator}.v1.{each}.0" for each in range(1 if number % 2 else 4))
        kind = ImageKind.BUNDLE if number % 2 else ImageKind.RELATED
        wanted = WantedImage(reference, kind, needed_by, (Platform("linux", "amd64"), Platform("linux", "arm64")))
        yield ResolvedImage(wanted, Tree(documents[-1], tuple(documents), ()))


def _documents(number: int, source: Source) -> Iterator[Document]:
    """Give the manifests of an image, the index last."""
    if number % 2:
        yield _manifest([10_000_000 + 10 * number], 10_000_001 + 10 * number, source)
        return
    platforms = _PLATFORMS if number % 3 == 0 else _PLATFORMS[:1]
    children = []
    for place, _ in enumerate(platforms):
        own = 10_000_000 + 10 * number + 5 * place
        child = _manifest([number % 4, 4 + number % 4, 100 + number // _OPERATORS, own, own + 1, own + 2], own + 3, source)
        children.append(child)
        yield child
    if len(children) > 1:
        rows = [
            {
                "mediaType": child.media_type,
                "digest": child.digest,
                "size": len(child.raw),
                "platform": {"architecture": architecture, "os": "linux"},
            }
            for child, architecture in zip(children, platforms, strict=True)
        ]
        yield parse(encode({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": rows}))


def _manifest(layers: Sequence[int], config: int, source: Source) -> Document:
    body = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": source.blob(config, media_types.OCI_CONFIG),
        "layers": [source.blob(layer, media_types.OCI_LAYER_GZIP) for layer in layers],
    }
    return parse(encode(body))


def create(plan: ExportPlan, source: Source, output: Path) -> None:
    """Make the archive of a plan, as `hub-export create` does once it is planned."""
    spec = ArchiveSpec(plan, ArchiveTerms("2026-11-30T00:00:00Z", {}))
    report = Report(Facts(), Making(output))
    with ArchiveWriter(output, spec.layout) as writer:
        blobs = [blob.descriptor for blob in plan.blobs]
        lost = copy_blobs(blobs, source, writer, jobs=1, progress=Silent(), on_missing=writer.mark_missing)
        closing = spec.closing(lost, None)
        writer.finish(closing, further=lambda sums: {"report.html": report.render(closing.inventory, sums)})


class CountingMirror:
    """A registry that takes everything, as far as a push asks it; `requests` counts them by method and kind.

    `full`: it has everything already.
    """

    def __init__(self, archive: Archive, *, full: bool = False) -> None:
        self.requests: Counter[str] = Counter()
        self._manifests, self._archive = archive.inventory.manifests, archive.digest
        self._full = full
        self._lock = threading.Lock()
        self.unreadable: dict[str, Any] = {}

    def head(self, reference: Reference) -> Descriptor | None:
        """Count a HEAD of a manifest."""
        if self._count("HEAD manifests", reference):
            return Descriptor("", self._archive, 1) if self._full else None
        digest = reference.digest
        if self._full and reference.tag:
            digest = Digest("sha256:" + reference.tag.rpartition("-")[2])
        return Descriptor("", digest, self._manifests[digest].size) if digest else None

    def has_blob(self, repository: Reference, digest: Digest, size: int | None = None) -> bool:
        """Count a HEAD of a blob."""
        del digest, size
        self._count("HEAD blobs", repository)
        return self._full

    def upload(
        self, repository: Reference, blob: Descriptor, read: Callable[[int], Chunks], mount_from: Sequence[Reference] = ()
    ) -> Written:
        """Count a POST, and a PUT where nothing is mounted."""
        self._count("POST blobs", repository)
        if mount_from:
            return Written.MOUNTED
        assert sum(map(len, read(0))) == blob.size
        self._count("PUT blobs", repository)
        return Written.COPIED

    def require_whole(self, repository: Reference, blob: Descriptor, read: Callable[[int], Chunks]) -> None:
        """Count a HEAD of a blob that was sent."""
        del blob, read
        self._count("HEAD blobs", repository)

    def put_manifest(self, reference: Reference, raw: bytes, media_type: str, **_: Any) -> bool:
        """Count a PUT of a manifest."""
        del raw, media_type
        self._count("PUT manifests", reference)
        return True

    def _count(self, what: str, reference: Reference) -> bool:
        """Count a request; say whether it is about the mirror's record, whose requests are counted together."""
        of_record = reference.repository.endswith(REPOSITORY)
        with self._lock:
            self.requests["record" if of_record else what] += 1
        return of_record


def pushed(output: Path, *, full: bool = False) -> tuple[PushResult, Counter[str]]:
    """Push an archive as `hub-import push` does; return the result, and the requests by method and kind."""
    archive = Archive.open([output])
    mirror = Mirror.parse("mirror.example/a")
    images = map_images(archive.inventory, mirror)
    requests = CountingMirror(archive, full=full)
    client = cast("RegistryClient", requests)
    result = push(archive, images, client, jobs=1, progress=Silent())
    RecordStore(client, mirror).remember(archive)
    return result, requests.requests


def confirmed(output: Path) -> Confirmation:
    """Ask for everything of an archive as `hub-import receipt` does."""
    archive = Archive.open([output])
    images = map_images(archive.inventory, Mirror.parse("mirror.example/a"))
    client = cast("RegistryClient", CountingMirror(archive, full=True))
    return confirm([Content(archive.inventory, archive.digest, images)], client, jobs=1, progress=Silent())
