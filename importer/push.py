"""Everything of the archive into the mirror: blobs, manifests, indexes, tags, in that order.

What the mirror already has is found by asking for the manifests of top-level images, nothing else; an image is tagged as soon
as all of it is there. Any subset of the volumes may be present: what needs an absent one is left for later and listed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from common.archive.inventory import ATTACHED, Inventory, Problem, ProblemCode
from common.archive.reader import Archive
from common.columns import counted
from common.content import Written
from common.digest import Digest
from common.errors import ArchiveError, ExitCode, HubError, UsageError, first_of
from common.oci.descriptor import Descriptor
from common.progress import Progress
from common.reference import Reference
from common.registry.client import RegistryClient
from common.registry.source_sink import RegistrySink
from common.transfer import copy
from common.workers import workers
from importer.contents import Completion, Contents
from importer.mapping import MappedImage
from importer.tagging import SparseIndexError, Tagger, explained

_NAMED = 3  # how many of the images that need a blob its problem names


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did; the JSON of docs/cli.md.

    `uploaded`, `mounted`, `present` count blobs in repositories; `bytes` are those that went to the mirror; the rest is for
    people. An image whose manifests were there already costs nothing and counts in `images_present` alone.
    """

    uploaded: int
    mounted: int
    present: int
    failed: int
    bytes: int
    waiting_for: tuple[str, ...]
    problems: tuple[Problem, ...]
    exit_code: ExitCode
    images: int
    images_present: int
    images_left_out: int

    @property
    def ok(self) -> bool:
        """Everything that the archive lists is in the mirror."""
        return self.exit_code is ExitCode.DONE


@dataclass(slots=True)
class _Tally:
    """What went wrong or was left for later."""

    bytes: int = 0
    waiting_for: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    codes: list[ExitCode] = field(default_factory=list)

    def fail(self, subject: str, error: HubError, users: Sequence[MappedImage], note: str = "") -> None:
        """Note an error and its exit code; operators run without a signature or attachment that the mirror does not take."""
        harmless = all(image.record.kind in ATTACHED for image in users)
        self.codes.append(ExitCode.PROBLEMS if harmless else error.exit_code)
        severity: Literal["error", "warning"] = "warning" if harmless else "error"
        self.problems.append(Problem(severity, _code_of(error), subject, error.about(subject, note)))

    def fail_image(self, image: MappedImage, error: HubError) -> None:
        """Note what became of an image."""
        self.fail(image.name, error, [image])

    def fail_blob(self, digest: Digest, error: HubError, users: Sequence[MappedImage]) -> None:
        """Note what became of a blob, and the images that need it."""
        more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
        self.fail(digest, error, users, f"; needed by {', '.join(image.name for image in users[:_NAMED])}{more}")


def push(
    archive: Archive, images: Sequence[MappedImage], client: RegistryClient, *, jobs: int, progress: Progress
) -> PushResult:
    """Bring `images` into the mirror, each tagged when all of it is there.

    One image that fails does not stop the others: it is in `problems`, and `exit_code` says what the worst of them means.
    """
    contents, tally = Contents(archive.inventory), _Tally()
    complete = [image for image in images if image.record.complete]
    with workers(jobs, "push") as pool:
        todo, present = _looked_up(complete, client, pool, tally)
        sink = RegistrySink(client, contents.places(todo))
        blobs = contents.blobs(todo)
        absent = _not_at_hand(blobs, archive, pool, there=contents.asker(todo, client), tally=tally)
        tags = _Tags(Tagger(contents, archive, client), Completion(todo, contents), pool)
        at_hand = [blob for blob in blobs if not archive.missing_volumes(blob.digest)]
        for digest in {blob.digest for blob in blobs} - absent - {blob.digest for blob in at_hand}:
            tags.arrived(digest)  # an earlier push has brought it
        lost = _copy_blobs(at_hand, archive, sink, tally, tags.arrived, jobs=jobs, progress=progress)
        for digest, failure in lost.items():
            tally.fail_blob(digest, failure, [image for image in todo if digest in contents.needs(image)])
        for digest in (blob.digest for blob in at_hand if blob.digest not in lost):
            for place, failure in sink.refused(digest).items():
                users = [image for image in todo if image.repository == place and digest in contents.needs(image)]
                tally.fail_blob(digest, failure, users)
        for image, error in tags.results():
            tally.fail_image(image, explained(image, error))
    failed = len(tally.problems)
    left_out = sum(1 for image in archive.inventory.images if not image.complete and image.kind not in ATTACHED)
    tally.problems += _left_out(archive.inventory)
    if left_out or tally.waiting_for:
        tally.codes.append(ExitCode.PROBLEMS)
    return PushResult(
        uploaded=sink.counts.uploaded,
        mounted=sink.counts.mounted,
        present=sink.counts.present,
        failed=failed,
        bytes=tally.bytes,
        waiting_for=tuple(sorted(tally.waiting_for)),
        problems=tuple(tally.problems),
        exit_code=first_of(tally.codes),
        images=len(complete),
        images_present=present,
        images_left_out=left_out,
    )


def _left_out(inventory: Inventory) -> list[Problem]:
    """Return what the inventory says of the images that are not whole in the archive."""
    incomplete = {image.source for image in inventory.images if not image.complete}
    return [problem for problem in inventory.problems if problem.subject in incomplete]


def _looked_up(
    images: Sequence[MappedImage], client: RegistryClient, pool: ThreadPoolExecutor, tally: _Tally
) -> tuple[list[MappedImage], int]:
    """Return the images that the mirror does not have under all of their tags, and how many it has."""

    def there(image: MappedImage) -> bool | HubError:
        try:
            heads = (client.head(image.tagged(tag)) for tag in image.tags)
            return all(head is not None and head.digest == image.digest for head in heads)
        except UsageError:
            raise  # a setting that makes no sense hurts every image
        except HubError as error:
            return error

    absent, present = [], 0
    for image, answer in zip(images, pool.map(there, images), strict=True):
        if isinstance(answer, HubError):
            tally.fail_image(image, answer)
        elif answer:
            present += 1
        else:
            absent.append(image)
    return absent, present


def _not_at_hand(
    blobs: Sequence[Descriptor],
    archive: Archive,
    pool: ThreadPoolExecutor,
    *,
    there: Callable[[Digest], bool],
    tally: _Tally,
) -> set[Digest]:
    """Return the blobs that lie in absent volumes and that no earlier push has brought either."""
    elsewhere = [blob.digest for blob in blobs if archive.missing_volumes(blob.digest)]
    absent = {digest for digest, found in zip(elsewhere, pool.map(there, elsewhere), strict=True) if not found}
    tally.waiting_for.update(name for digest in absent for name in archive.missing_volumes(digest))
    return absent


class _Tags:
    """Writes the manifests and tags of an image as soon as its last blob is there, while others are still on their way."""

    def __init__(self, tagger: Tagger, completion: Completion, pool: ThreadPoolExecutor) -> None:
        self._tagger = tagger
        self._completion = completion
        self._pool = pool
        self._running: list[tuple[MappedImage, Future[HubError | None]]] = []
        self._begin(completion.without_blobs())

    def arrived(self, digest: Digest, refused: Collection[Reference] = ()) -> None:
        """Note that a blob is on the mirror, but for the repositories that `refused` it."""
        self._begin(self._completion.arrived(digest, refused))

    def results(self) -> Iterator[tuple[MappedImage, HubError]]:
        """Wait for all, and give the images that failed."""
        for image, future in self._running:
            error = future.result()
            if error is not None:
                yield image, error

    def _begin(self, images: Iterable[MappedImage]) -> None:
        self._running += [(image, self._pool.submit(self._tagger.attempt, image)) for image in images]


def _copy_blobs(
    blobs: Sequence[Descriptor],
    archive: Archive,
    sink: RegistrySink,
    tally: _Tally,
    arrived: Callable[[Digest, Collection[Reference]], None],
    *,
    jobs: int,
    progress: Progress,
) -> dict[Digest, HubError]:
    """Copy what is at hand, telling `arrived` of each blob; return what could not be brought, and why."""
    lost: dict[Digest, HubError] = {}
    progress.begin(f"pushing {counted(len(blobs), 'blob')}", sum(blob.size for blob in blobs))
    try:
        for outcome in copy(blobs, archive, sink, jobs=jobs, progress=progress):
            if outcome.error is not None:
                lost[outcome.blob.digest] = outcome.error
                continue
            arrived(outcome.blob.digest, sink.refused(outcome.blob.digest))
            if outcome.written is Written.COPIED:
                tally.bytes += outcome.blob.size
    finally:
        progress.end()
    return lost


def _code_of(error: HubError) -> ProblemCode:
    if isinstance(error, SparseIndexError):
        return ProblemCode.SPARSE_INDEX
    return ProblemCode.ARCHIVE_DAMAGED if isinstance(error, ArchiveError) else ProblemCode.PUSH_FAILED
