"""Find the signatures and attachments of images: cosign tags (`.sig`, `.att`, `.sbom`) and OCI referrers.

They are looked up for every carried manifest of an image, because runtimes check the manifest that they run. Where the tags of
a repository can be listed, tags that are not in the list are not asked for. Failed lookups become warnings; the policy
(`--signatures`) decides whether an image without a signature is carried.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from common.archive.inventory import ImageKind, Problem, ProblemCode
from common.errors import ContentError, DamagedError, HubError, NotFoundError, UsageError
from common.interruption import done_for_each
from common.oci.image import Descriptor, Digest, Document, Manifest, hex_of, subject_of_tag
from common.oci.reference import Reference
from common.progress import step
from common.text import counted
from common.transfer import is_host_failure
from exporter.images.resolve import ResolvedImage, WantedImage, fetch_tree, needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from common.progress import Progress
    from common.registry.client import RegistryClient


MAX_DEPTH = 3  # a signature of an attestation of an image; without a bound a loop of referrers would not end
# sigstore/cosign, specs/SIGNATURE_SPEC.md, *Discovery*: the tag is `sha256-<hex>` with one of these suffixes.
_COSIGN = {"sig": ImageKind.SIGNATURE, "att": ImageKind.ATTACHMENT, "sbom": ImageKind.ATTACHMENT}
# Media types of artifacts, or of their config, that are signatures; with these prefixes, since versions are appended.
_SIGNATURES = (
    "application/vnd.dev.cosign.artifact.sig.v1+json",
    "application/vnd.dev.cosign.simplesigning.v1+json",
    "application/vnd.dev.sigstore.bundle",
    "application/vnd.cncf.notary.signature",
)
MAX_FOUND = 1000  # for one manifest, on all levels: a registry decides how many it lists
# Of the images of a repository whose list was read, one of so many is asked for tag by tag: the list may be incomplete.
_SAMPLED = 16
# Lookups that took all retries, of one registry: a registry that is down would delay the export for long. Of so many lookups
# that were answered, one more may fail.
_MAX_FAILURES, _ANSWERED = 8, 100


@dataclass(slots=True)
class _Subject:
    """A carried manifest, and the bundles that need it."""

    reference: Reference
    needed_by: set[str] = field(default_factory=set)
    target_repository: str | None = None
    is_root: bool = False  # of an image; else a manifest of an index

    @property
    def digest(self) -> Digest:
        """The digest of the manifest."""
        assert self.reference.digest is not None
        return self.reference.digest


@dataclass(slots=True)
class _Found:
    """The artifacts that refer to one subject, or the error of the lookup."""

    images: list[ResolvedImage] = field(default_factory=list)
    error: HubError | None = None


def find(
    images: Sequence[ResolvedImage], client: RegistryClient, *, jobs: int, progress: Progress
) -> tuple[list[ResolvedImage], list[Problem]]:
    """Return the signatures and attachments of images, sorted by source, and a warning for each registry that failed."""
    subjects = _subjects(images)
    if not subjects:
        return [], []
    lookup = _Lookup(client)

    def one(subject: _Subject) -> _Found:
        found = lookup.run(subject)
        progress.advance(1)
        return found

    _read_tags(subjects, client, jobs=jobs, progress=progress)
    answers = _looked_up(subjects, one, jobs=jobs, progress=progress)
    # A list that turned out to be incomplete has hidden tags of subjects before and after.
    doubtful = [subject for subject in subjects if client.is_in_doubt(subject.reference)]
    if doubtful:
        again = dict(zip(map(id, doubtful), _looked_up(doubtful, one, jobs=jobs, progress=progress), strict=True))
        answers = [again.get(id(subject), answer) for subject, answer in zip(subjects, answers, strict=True)]
    # An artifact can refer to several subjects, such as an index and its manifests.
    by_source = {image.wanted.source: image for answer in answers for image in answer.images}
    return [by_source[source] for source in sorted(by_source)], _warnings(subjects, answers)


def _looked_up(
    subjects: Sequence[_Subject], one: Callable[[_Subject], _Found], *, jobs: int, progress: Progress
) -> list[_Found]:
    """Return what refers to each subject; `one` looks it up."""
    what = f"looking for the signatures of {counted(len(subjects), 'manifest')}"
    with step(progress, what, len(subjects), "manifests"):
        return done_for_each(one, subjects, jobs, "signatures")


def _read_tags(subjects: Sequence[_Subject], client: RegistryClient, *, jobs: int, progress: Progress) -> None:
    """Read the tag lists of repositories with several subjects: one question each in place of three for each subject."""
    within: defaultdict[tuple[str, str], list[_Subject]] = defaultdict(list)
    for subject in subjects:
        within[subject.reference.registry, subject.reference.repository].append(subject)
    listed = [group for group in within.values() if len(group) > 1]
    if not listed:
        return

    def one(group: Sequence[_Subject]) -> None:
        # From the end: of images that are named by tag, these are the newest.
        sampled = [subject.digest for subject in group if subject.is_root][::-_SAMPLED]
        client.read_tags(group[0].reference, [subject.digest for subject in group], sampled)
        progress.advance(1)

    what = f"reading the tags of {counted(len(listed), 'repository', 'repositories')}"
    with step(progress, what, len(listed), "repositories"):
        done_for_each(one, listed, jobs, "tags")


def unsigned(images: Iterable[ResolvedImage], found: Iterable[ResolvedImage]) -> list[Problem]:
    """Return an error for each image without a signature of its index or of one of its manifests."""
    signed = {digest for image in found if image.wanted.kind is ImageKind.SIGNATURE for digest in _signs(image)}
    return [
        Problem("error", ProblemCode.SIGNATURE_MISSING, image.wanted.source, f"no signature was found{needed(image.wanted)}")
        for image in images
        if image.tree is not None and not signed.intersection(document.digest for document in image.tree.documents)
    ]


def _signs(image: ResolvedImage) -> Iterator[Digest]:
    """Give the digest of the signed manifest: the subject of the signature, or the digest in its cosign tag."""
    if image.tree is not None and image.tree.root.subject is not None:
        yield image.tree.root.subject.digest
    if (subject := subject_of_tag(image.wanted.reference.tag or "")) is not None:
        yield subject


def _subjects(images: Iterable[ResolvedImage]) -> list[_Subject]:
    """Return each manifest of each image once per repository."""
    found: dict[Reference, _Subject] = {}
    for image in images:
        for document in image.tree.documents if image.tree else ():
            reference = image.wanted.reference.pinned(document.digest)
            subject = found.setdefault(reference, _Subject(reference, target_repository=image.wanted.target_repository))
            subject.is_root |= image.tree is not None and document is image.tree.root
            subject.needed_by.update(image.wanted.needed_by)
    return list(found.values())


class _TooManyError(ContentError):
    """More artifacts refer to a manifest than are carried of one."""


class _Lookup:
    """Looks up subjects, and stops for a registry of which too many lookups failed. Shared by threads."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._failed: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._errors: dict[str, HubError] = {}

    def run(self, subject: _Subject) -> _Found:
        """Return the artifacts that refer to a subject."""
        host = subject.reference.registry
        if self._failed[host] >= _MAX_FAILURES + self._answered[host] // _ANSWERED:
            return _Found(error=self._errors[host])
        found = _Found()
        try:
            for image in chain(self._cosign(subject), self._referrers(subject, subject.reference, MAX_DEPTH)):
                found.images.append(image)
                if len(found.images) > MAX_FOUND:
                    raise _TooManyError(f"{subject.reference}: more than {MAX_FOUND} signatures and attachments")
        except UsageError:
            raise  # a wrong setting concerns every image
        except HubError as error:
            found.error = error
        self._note(host, found.error)
        return found

    def _note(self, host: str, error: HubError | None) -> None:
        with self._lock:
            # Another error is about this subject alone: an artifact that cannot be read, is gone, or may not be pulled.
            if error is not None and (is_host_failure(error) or isinstance(error, DamagedError | _TooManyError)):
                self._errors[host] = error
                self._failed[host] += 1
            else:
                self._answered[host] += 1

    def _cosign(self, subject: _Subject) -> Iterator[ResolvedImage]:
        for suffix, kind in _COSIGN.items():
            tag = f"sha256-{hex_of(subject.digest)}.{suffix}"
            reference = Reference(subject.reference.registry, subject.reference.repository, tag)
            if self._client.lacks_tag(reference):
                continue
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
    # Until image-spec 1.1 the media type of the config was the type of an artifact.
    kinds = (descriptor.artifact_type, document.artifact_type, config)
    return ImageKind.SIGNATURE if any(kind.startswith(_SIGNATURES) for kind in kinds) else ImageKind.ATTACHMENT


def _warnings(subjects: Sequence[_Subject], answers: Sequence[_Found]) -> list[Problem]:
    """Return one warning for each registry with failed lookups."""
    errors: defaultdict[str, list[HubError]] = defaultdict(list)
    for subject, answer in zip(subjects, answers, strict=True):
        if answer.error is not None:
            errors[subject.reference.registry].append(answer.error)
    return [_warning(host, found) for host, found in sorted(errors.items())]


def _warning(host: str, errors: Sequence[HubError]) -> Problem:
    # The first in alphabetical order: threads finish in any order, and the same failure gives the same inventory.
    first = min(errors, key=lambda error: error.message)
    many = counted(len(errors), "manifest")
    return Problem(
        "warning", ProblemCode.SIGNATURE_UNAVAILABLE, host, f"signatures of {many} could not be looked up: {first.about(host)}"
    )
