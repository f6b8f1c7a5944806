"""Push: blobs, manifests, indexes and tags of an archive to the mirror, in that order.

The state of the mirror is found by asking for the manifests of top-level images, nothing else (except with `heal`, which asks
for every blob). An image is tagged as soon as all of its blobs have arrived, the payload of a release after its components.
Any subset of the volumes may be present: images that need an absent one are left for later, and listed. Several processes may
share the work (`VolumePartition`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.archive.inventory import ImageKind, Inventory, Problem
from common.archive.naming import BlobNames, left_out_images
from common.content import BlobSource, Chunks, Written
from common.errors import HubError, NotWritableError, UsageError
from common.interruption import in_order, workers
from common.progress import step
from common.registry.manifest_writer import ImmutableTagError
from common.registry.source_sink import Places, RegistrySink, RegistrySource
from common.text import counted
from common.transfer import HostFailures, copy, gone
from importer.mapping import Closure, Completion, MappedImage, components_of, left_out_payloads, pushed_images
from importer.push.failures import is_shared, note_blobs, note_images
from importer.push.mirror_state import MirrorState, query_mirror
from importer.push.result import PushResult, Tally
from importer.push.tagging import Tagger, VolumePartition, right_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor

    from common.archive.reader import Archive
    from common.oci.image import Descriptor, Digest
    from common.oci.reference import Reference
    from common.progress import Progress
    from common.registry.client import RegistryClient


_UNTAGGED = 32  # images whose manifests are being written, or wait for it: several for each of --jobs


def push(
    archive: Archive,
    images: Sequence[MappedImage],
    client: RegistryClient,
    *,
    jobs: int,
    progress: Progress,
    heal: bool = False,
    volumes: Collection[int] | None = None,
) -> PushResult:
    """Push `images` to the mirror, each tagged when it is complete; with `heal` also those that are there already.

    With `volumes` only the partition of these. One image that fails does not stop the others: it is in `problems`, and
    `exit_code` is that of the gravest error.
    """
    closure, tally = Closure(archive.inventory), Tally()
    partition = VolumePartition(archive.inventory, closure, volumes)
    complete = [image for image in pushed_images(archive.inventory, images) if partition.includes(image)]
    with workers(jobs, "push") as pool:
        # A tag is written last, so an image whose tags are right has all of its blobs: thousands of HEAD requests fewer.
        found = _Found(complete) if heal else _without_present(complete, archive, client, pool, tally)
        todo = found.absent
        state = _mirror_state(archive, partition, (todo, complete), client, pool)
        waiting = sum(1 for image in todo if state.absent and not state.absent.isdisjoint(closure.blobs_of(image)))
        tally.note_missing(state.absent, waiting, archive)
        sink = RegistrySink(client, closure.repositories(todo), state.partly)
        tagger = Tagger(archive, partition, client, heal=heal, right=found.right)
        run = _Run(archive, partition, tuple(todo), frozenset(found.unknown), tagger, client, sink, pool, tally)
        left = run.transfer(state, jobs=jobs, progress=progress)
    return tally.result(
        sink.counts,
        images=len(complete),
        present=found.present,
        left=max(left - waiting, 0),  # what no volume here and no other process has is said of `waiting`
        # Images that the archive holds in part belong to no volume; the push of the whole archive reports them, once.
        left_out=len(left_out_images(archive.inventory)) if partition.is_whole else 0,
        export_problems=_left_out(archive.inventory) if partition.is_whole else [],
    )


@dataclass(slots=True)
class _Found:
    """What the mirror has: images that are `absent` under a tag, tags that are `right`, how many images it has.

    `unknown`: the names of images for which it gave an error.
    """

    absent: list[MappedImage] = field(default_factory=list)
    right: list[Reference] = field(default_factory=list)
    present: int = 0
    unknown: set[str] = field(default_factory=set)


def _without_present(
    images: Sequence[MappedImage], archive: Archive, client: RegistryClient, pool: ThreadPoolExecutor, tally: Tally
) -> _Found:
    """Ask the mirror for the images, each under all of its tags. Raises RegistryUnreachableError when it is out."""
    found, failures = _Found(), HostFailures()

    def right(image: MappedImage) -> list[Reference] | HubError:
        if failures.ended_by is not None:
            return failures.ended_by
        try:
            answer = right_tags(image, archive.inventory.manifests[image.digest].size, client)
        except UsageError:
            raise  # a wrong setting concerns every image: one error instead of one for each
        except HubError as error:
            if failures.add(error, image.repository.name):  # hundreds of images would take hours
                raise gone(error, f"given up after {failures.row} images in a row") from error
            return error
        failures.add(None)
        return answer

    for image, answer in in_order(pool, right, images):
        if isinstance(answer, HubError):
            tally.fail_image(image, answer)
            found.unknown.add(image.name)
        elif len(answer) == len(image.tags):
            found.present += 1
        else:
            found.absent.append(image)
            found.right += answer
    return found


def _mirror_state(
    archive: Archive,
    partition: VolumePartition,
    images: tuple[Sequence[MappedImage], Sequence[MappedImage]],
    client: RegistryClient,
    pool: ThreadPoolExecutor,
) -> MirrorState:
    """Return the state of the mirror for blobs that no available volume holds; `images`: those to be pushed, and all."""
    # All images, not only those to be pushed: a repository whose image is complete is a source for mounts.
    needed, known = map(partition.closure.repositories, images)
    away = [digest for digest in needed if partition.owns(digest) and not archive.is_available(digest)]
    return query_mirror(away, needed, known, records=archive.inventory.blobs, client=client, pool=pool)


def _left_out(inventory: Inventory) -> list[Problem]:
    """Return the inventory's problems with images that the archive holds in part, and those of releases that lack one."""
    incomplete = {image.source for image in inventory.images if not image.complete}
    return [*(problem for problem in inventory.problems if problem.subject in incomplete), *left_out_payloads(inventory)]


@dataclass(frozen=True, slots=True)
class _Run:
    """One push: the images to be pushed, the names of `unknown` ones (the mirror gave an error for them), and its objects."""

    archive: Archive
    partition: VolumePartition
    todo: tuple[MappedImage, ...]
    unknown: frozenset[str]
    tagger: Tagger
    client: RegistryClient
    sink: RegistrySink
    pool: ThreadPoolExecutor
    tally: Tally

    @property
    def closure(self) -> Closure:
        """The closure of the images."""
        return self.partition.closure

    def transfer(self, state: MirrorState, *, jobs: int, progress: Progress) -> int:
        """Copy blobs and tag images; failures are in the tally. Returns how many images are left to other processes."""
        tags = _TagQueue(self.tagger, self.todo, self.unknown, self.pool, self.partition)
        for digest in state.whole:
            tags.arrived(digest)
        # Absent ones are in the tally as missing; trying to read them would add an error for each.
        settled = state.whole | state.absent
        ordered = self.closure.upload_order(self.todo)
        blobs = [digest for digest in ordered if digest not in settled and self.partition.owns(digest)]
        source = ArchiveOrMirror(self.archive, self.client, state.partly)
        users = ((image.repository, image.record.needed_by) for image in self.todo)
        names = BlobNames(self.sink.places, users)
        wanted = self._wanted(blobs, progress)
        size = sum(self.archive.inventory.blobs[digest].size for digest in blobs)
        with step(progress, f"pushing {counted(len(blobs), 'blob')}", size, kept=True):
            failed = _copy_blobs(wanted, source, self.sink, self.tally, tags.arrived, names=names, jobs=jobs, progress=progress)
        self.tally.warn_unreadable(self.client.unreadable)
        self._note_failures(blobs, failed)
        # After the last blob of this process, and no earlier. Several processes upload the blobs of one image; the last of them
        # to ask finds all blobs on the mirror, and tags the image. So no coordinator is needed (ADR 0022).
        self._count_foreign(tags)
        note_images(self.todo, tags.results(), self.sink.not_writable, self.tagger, self.tally)
        return 0 if self.partition.is_whole else len(self.todo) - tags.count

    def _count_foreign(self, tags: _TagQueue) -> None:
        """Count the blobs that other processes have uploaded by now."""
        blobs, records = self.partition.foreign_blobs(self.todo), self.archive.inventory.blobs
        if not blobs:
            return
        needed = self.closure.repositories(self.todo)
        found = query_mirror(blobs, needed, needed, records=records, client=self.client, pool=self.pool)
        for digest in found.whole:
            tags.arrived(digest)
        # A blob that is missing in one repository still completes the images of the others.
        for digest, repositories in found.partly.items():
            tags.arrived(digest, set(needed[digest]) - set(repositories))

    def _note_failures(self, copied: Iterable[Digest], failed: Mapping[Digest, HubError]) -> None:
        """Note the blobs that could not be copied, and the repositories that refused one."""
        found: list[tuple[Digest, Reference | None, HubError]] = []
        for digest in copied:
            error = failed.get(digest)
            refused: Mapping[Reference, HubError] = {}
            # A blob that some repositories took is not a failure as a whole: only the images of the others are named.
            if error is None or isinstance(error, NotWritableError) or is_shared(error):
                refused = self.sink.refused(digest)
            found += ((digest, place, refused[place]) for place in refused if place not in self.sink.not_writable)
            if error is not None and not refused:
                found.append((digest, None, error))
        if found:
            note_blobs(found, self.closure.users(self.todo), self.tally)

    def _wanted(self, blobs: Sequence[Digest], progress: Progress) -> Iterator[Descriptor]:
        """Give the blobs, without those that only images need whose media type the mirror has refused by then."""
        users: dict[Digest, list[MappedImage]] = {}
        for blob in map(self.archive.descriptor, blobs):
            if self.tagger.refused and not users:
                users = self.closure.users(self.todo)
            if not users or any(self.tagger.type_error(image) is None for image in users[blob.digest]):
                yield blob
            else:
                progress.failed(blob.size)


class ArchiveOrMirror:
    """A BlobSource: the archive, or for blobs that no available volume holds a repository of the mirror that has them."""

    def __init__(self, archive: Archive, client: RegistryClient, partly: Places) -> None:
        self._archive = archive
        self._mirror = RegistrySource(client, partly)
        self._partly = partly

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """Return the bytes of a blob from `start` on."""
        # The sink mounts such a blob if the registry can; only where that fails it is read from the mirror and uploaded.
        return self._mirror.read(blob, start) if blob.digest in self._partly else self._archive.read(blob, start)


def _copy_blobs(
    blobs: Iterable[Descriptor],
    source: BlobSource,
    sink: RegistrySink,
    tally: Tally,
    arrived: Callable[[Digest, Collection[Reference]], None],
    *,
    names: BlobNames,
    jobs: int,
    progress: Progress,
) -> dict[Digest, HubError]:
    """Copy blobs, and call `arrived` for each; return the errors of those that could not be copied."""
    failed: dict[Digest, HubError] = {}
    for outcome in copy(blobs, source, sink, jobs=jobs, progress=progress, places=sink.places, names=names.name):
        if outcome.error is not None:
            failed[outcome.blob.digest] = outcome.error
            continue
        arrived(outcome.blob.digest, sink.refused(outcome.blob.digest))
        # Mounted and present blobs cost no bytes on the wire.
        if outcome.written is Written.COPIED:
            tally.bytes += outcome.blob.size
    return failed


class _TagQueue:
    """Writes the manifests and tags of an image as soon as its last blob has arrived, while other blobs are uploaded."""

    def __init__(
        self,
        tagger: Tagger,
        todo: Sequence[MappedImage],
        unknown: Collection[str],
        pool: ThreadPoolExecutor,
        partition: VolumePartition,
    ) -> None:
        self._tagger = tagger
        self._partition = partition
        self._absent = {*unknown, *(image.name for image in todo)}  # until they are written
        self._completion = Completion(todo, partition.closure)
        self._pool = pool
        self._running: deque[tuple[MappedImage, Future[HubError | None]]] = deque()
        self._failed: list[tuple[MappedImage, HubError]] = []
        self.count = 0  # images that were complete
        self._payloads: list[MappedImage] = []
        self._begin(self._completion.without_blobs())  # no arrival of a blob would begin them

    def arrived(self, digest: Digest, refused: Collection[Reference] = ()) -> None:
        """Record that a blob is on the mirror, except in the repositories that `refused` it."""
        self._begin(self._completion.arrived(digest, refused))

    def results(self) -> Iterator[tuple[MappedImage, HubError]]:
        """Wait for all, and give the images that failed."""
        # In the order of completion; `attempt` returns its errors, so that one does not hide the others.
        while self._running:
            self._settle(*self._running.popleft())
        yield from self._failed
        # An update service offers a payload as soon as it has a tag, and the update would stop where a component is missing.
        ready = [
            payload for payload in self._payloads if self._absent.isdisjoint(components_of(self._partition.inventory, payload))
        ]
        for image, error in zip(ready, self._pool.map(self._tagger.attempt, ready), strict=True):
            if error is not None:
                yield image, error

    def _begin(self, images: Iterable[MappedImage]) -> None:
        for image in filter(self._partition.may_tag, images):
            if image.record.kind is ImageKind.RELEASE:
                self._payloads.append(image)
            else:
                self._running.append((image, self._pool.submit(self._tagger.attempt, image)))
                self.count += 1
        # A future takes a KiB, and there are thousands of images: where manifests are slower than blobs, blobs wait.
        while self._running and (len(self._running) > _UNTAGGED or self._running[0][1].done()):
            self._settle(*self._running.popleft())

    def _settle(self, image: MappedImage, future: Future[HubError | None]) -> None:
        """Wait for an image; note whether it was written."""
        error = future.result()
        if error is None or isinstance(error, ImmutableTagError):  # a component is pulled by its digest
            self._absent.discard(image.name)
        if error is not None:
            self._failed.append((image, error))
