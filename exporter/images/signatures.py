"""What travels with an image so that it can be trusted: cosign tags (`.sig`, `.att`, `.sbom`) and OCI referrers.

They are found for every manifest of an image that is carried, for runtimes check the one that they run. Nothing here is
fatal: what cannot be looked up becomes a warning, and the policy says whether an image without a signature may travel.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from common.archive.inventory import ImageKind, Problem, ProblemCode
from common.errors import ContentError, HubError, NotFoundError, UsageError
from common.interruption import workers
from common.oci.image import Descriptor, Digest, Document, Manifest, hex_of
from common.oci.reference import Reference
from common.text import counted
from exporter.images.resolve import ResolvedImage, WantedImage, fetch_tree, needed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from common.progress import Progress
    from common.registry.client import RegistryClient

MAX_DEPTH = 3  # a signature of an attestation of an image
_COSIGN = {"sig": ImageKind.SIGNATURE, "att": ImageKind.ATTACHMENT, "sbom": ImageKind.ATTACHMENT}
_SIGNATURES = (
    "application/vnd.dev.cosign.artifact.sig.v1+json",
    "application/vnd.dev.cosign.simplesigning.v1+json",
    "application/vnd.dev.sigstore.bundle",
    "application/vnd.cncf.notary.signature",
)
MAX_FOUND = 1000  # for one manifest, on all levels
_PATIENCE = 8  # lookups that a registry may fail before it is not asked any more


@dataclass(slots=True)
class _Subject:
    """A manifest that is carried, and who needs it."""

    reference: Reference
    needed_by: set[str] = field(default_factory=set)
    target_repository: str | None = None


@dataclass(slots=True)
class _Found:
    """What refers to one subject, or the error that kept it away."""

    images: list[ResolvedImage] = field(default_factory=list)
    error: HubError | None = None


def find(
    images: Sequence[ResolvedImage], client: RegistryClient, *, jobs: int, progress: Progress
) -> tuple[list[ResolvedImage], list[Problem]]:
    """Return the signatures and attachments of images, sorted by source, and a warning for each registry that would not say."""
    subjects = _subjects(images)
    if not subjects:
        return [], []
    asker = _Asker(client)

    def one(subject: _Subject) -> _Found:
        found = asker.ask(subject)
        progress.advance(1)
        return found

    progress.begin(f"looking for the signatures of {counted(len(subjects), 'manifest')}", len(subjects), "manifests")
    try:
        with workers(jobs, "signatures") as pool:
            answers = list(pool.map(one, subjects))
    finally:
        progress.end()
    by_source = {image.wanted.source: image for answer in answers for image in answer.images}
    return [by_source[source] for source in sorted(by_source)], _unanswered(subjects, answers)


def unsigned(images: Iterable[ResolvedImage], found: Iterable[ResolvedImage]) -> list[Problem]:
    """Return an error for each image for which no signature was found, neither its index nor any of its manifests."""
    signed = {digest for image in found if image.wanted.kind is ImageKind.SIGNATURE for digest in _signs(image)}
    return [
        Problem("error", ProblemCode.SIGNATURE_MISSING, image.wanted.source, f"no signature was found{needed(image.wanted)}")
        for image in images
        if image.tree is not None and not signed.intersection(document.digest for document in image.tree.documents)
    ]


def _signs(image: ResolvedImage) -> Iterator[Digest]:
    """Give the digest that a signature is for: its subject, or the one in its cosign tag."""
    if image.tree is not None and image.tree.root.subject is not None:
        yield image.tree.root.subject.digest
    tag = image.wanted.reference.tag or ""
    if tag.startswith("sha256-"):
        yield Digest(f"sha256:{tag.removeprefix('sha256-').partition('.')[0]}")


def _subjects(images: Iterable[ResolvedImage]) -> list[_Subject]:
    """Return each manifest of each image once per repository."""
    found: dict[Reference, _Subject] = {}
    for image in images:
        for document in image.tree.documents if image.tree else ():
            reference = image.wanted.reference.pinned(document.digest)
            subject = found.setdefault(reference, _Subject(reference, target_repository=image.wanted.target_repository))
            subject.needed_by.update(image.wanted.needed_by)
    return list(found.values())


class _Asker:
    """Asks for one subject after the other; stops asking a registry that fails again and again. Shared by threads."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._failed: Counter[str] = Counter()
        self._errors: dict[str, HubError] = {}

    def ask(self, subject: _Subject) -> _Found:
        """Return everything that refers to a subject."""
        host = subject.reference.registry
        if self._failed[host] >= _PATIENCE:
            return _Found(error=self._errors[host])
        found = _Found()
        try:
            for image in chain(self._cosign(subject), self._referrers(subject, subject.reference, MAX_DEPTH)):
                found.images.append(image)
                if len(found.images) > MAX_FOUND:
                    raise ContentError(f"{subject.reference}: more than {MAX_FOUND} signatures and attachments")
        except UsageError:
            raise
        except HubError as error:
            self._failed[host] += 1
            self._errors[host] = error
            found.error = error
        return found

    def _cosign(self, subject: _Subject) -> Iterator[ResolvedImage]:
        assert subject.reference.digest is not None
        for suffix, kind in _COSIGN.items():
            tag = f"sha256-{hex_of(subject.reference.digest)}.{suffix}"
            reference = Reference(subject.reference.registry, subject.reference.repository, tag)
            try:
                tree = fetch_tree(reference, self._client, ())
            except NotFoundError:
                continue
            yield ResolvedImage(_wanted(reference, kind, subject), tree)

    def _referrers(self, subject: _Subject, of: Reference, depth: int) -> Iterator[ResolvedImage]:
        for descriptor in self._client.referrers(of):
            reference = of.pinned(descriptor.digest)
            tree = fetch_tree(reference, self._client, ())
            yield ResolvedImage(_wanted(reference, _kind(descriptor, tree.root), subject), tree)
            if depth > 1:
                yield from self._referrers(subject, reference, depth - 1)


def _wanted(reference: Reference, kind: ImageKind, subject: _Subject) -> WantedImage:
    return WantedImage(reference, kind, tuple(sorted(subject.needed_by)), target_repository=subject.target_repository)


def _kind(descriptor: Descriptor, document: Document) -> ImageKind:
    config = document.config.media_type if isinstance(document, Manifest) else ""
    kinds = (descriptor.artifact_type, document.artifact_type, config)
    return ImageKind.SIGNATURE if any(kind.startswith(_SIGNATURES) for kind in kinds) else ImageKind.ATTACHMENT


def _unanswered(subjects: Sequence[_Subject], answers: Sequence[_Found]) -> list[Problem]:
    """Return one warning for each registry that could not be asked."""
    errors: defaultdict[str, list[HubError]] = defaultdict(list)
    for subject, answer in zip(subjects, answers, strict=True):
        if answer.error is not None:
            errors[subject.reference.registry].append(answer.error)
    return [_warning(host, found) for host, found in sorted(errors.items())]


def _warning(host: str, errors: Sequence[HubError]) -> Problem:
    first = min(errors, key=lambda error: error.message)
    many = counted(len(errors), "manifest")
    return Problem(
        "warning", ProblemCode.SIGNATURE_UNAVAILABLE, host, f"signatures of {many} could not be looked up: {first.about(host)}"
    )
