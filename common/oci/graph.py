"""What hangs together: an index, its manifests, their blobs. No I/O: the caller gives a way to get a document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from common.digest import Digest
from common.errors import ContentError
from common.oci.descriptor import Descriptor
from common.oci.manifest import Document, Index, Manifest
from common.oci.platform import Platform

MAX_DEPTH = 8
MAX_DOCUMENTS = 10_000
_ATTESTATION = Platform("unknown", "unknown")
_NAMED = 4  # how many media types a message names


@dataclass(frozen=True, slots=True)
class Tree:
    """A top-level document and every document below it that was wanted. `left_out`: children of unwanted platforms."""

    root: Document
    documents: tuple[Document, ...]
    left_out: tuple[Descriptor, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob of every document, each digest once."""
        found = {b.digest: b for d in self.documents if not isinstance(d, Index) for b in d.blobs}
        return tuple(found.values())

    @property
    def images(self) -> tuple[Manifest, ...]:
        """The manifests of images that run, without the artifacts that an index may have beside them."""
        return tuple(one for one in self.documents if isinstance(one, Manifest) and one.is_image)

    @property
    def is_hollow(self) -> bool:
        """Whether this is an index that lists nothing but attestations (BuildKit's platform `unknown/unknown`), or nothing."""
        listed = [child for one in self.documents if isinstance(one, Index) for child in one.manifests]
        indexes = {one.digest for one in self.documents if isinstance(one, Index)}
        content = (child for child in listed if child.digest not in indexes and child.platform != _ATTESTATION)
        return isinstance(self.root, Index) and next(content, None) is None

    @property
    def kinds(self) -> str:
        """What this consists of, by media types, for a message that says why it is no image."""
        if self.is_hollow:
            return "an index that lists no image"
        manifests = [one for one in self.documents if isinstance(one, Manifest)]
        found = {blob.media_type for one in manifests for blob in one.blobs}
        return (
            f"content of the media types {', '.join(sorted(found)[:_NAMED])}"
            if found
            else "an index without what was wanted of it"
        )


def walk(root: Document, fetch: Callable[[Descriptor], Document], platforms: Sequence[Platform] = ()) -> Tree:
    """Collect `root` and all below it, children before parents; `platforms` (none means all) chooses among children.

    Raises ContentError past MAX_DEPTH and MAX_DOCUMENTS; whatever `fetch` raises passes through.
    """
    seen: dict[Digest, Document] = {}
    left_out: list[Descriptor] = []

    def visit(document: Document, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ContentError(f"{root.digest}: indexes nested deeper than {MAX_DEPTH}")
        if document.digest in seen:
            return
        if len(seen) >= MAX_DOCUMENTS:
            raise ContentError(f"{root.digest}: more than {MAX_DOCUMENTS} manifests below one index")
        if isinstance(document, Index):
            wanted, unwanted = choose(document.manifests, platforms)
            left_out.extend(unwanted)
            for child in wanted:
                if child.digest not in seen:
                    visit(fetch(child), depth + 1)
        seen[document.digest] = document

    visit(root, 0)
    return Tree(root, tuple(seen.values()), tuple(left_out))


def choose(children: Iterable[Descriptor], platforms: Sequence[Platform]) -> tuple[list[Descriptor], list[Descriptor]]:
    """Part children into wanted and unwanted. A child that names no platform is always wanted."""
    wanted: list[Descriptor] = []
    unwanted: list[Descriptor] = []
    for child in children:
        fits = not platforms or child.platform is None or any(p.accepts(child.platform) for p in platforms)
        (wanted if fits else unwanted).append(child)
    return wanted, unwanted


def platforms_of(documents: Iterable[Document]) -> Iterator[Platform]:
    """Give the platforms that indexes name, in order, with repeats."""
    for document in documents:
        if isinstance(document, Index):
            yield from (child.platform for child in document.manifests if child.platform is not None)
