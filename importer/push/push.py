"""Everything of the archive into the mirror: blobs, manifests, indexes, tags, in that order.

What the mirror already has is found by asking for the manifests of top-level images, nothing else (but to heal one that lost
blobs: then every blob is asked for). An image is tagged as soon as all of it is there. Any subset of the volumes may be
present: what needs an absent one is left for later and listed. Several processes may share the work (`shard.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from common.archive.inventory import ATTACHED, BlobRecord, Inventory, Problem
from common.content import BlobSource, Chunks, Written
from common.errors import AuthenticationError, HubError, NotWritableError, RegistryError, RegistryUnreachableError, UsageError
from common.interruption import workers
from common.log import logger
from common.registry.source_sink import Places, RegistrySink, RegistrySource
from common.text import counted
from common.transfer import copy
from importer.mapping import Completion, Contents, MappedImage
from importer.push.result import PushResult, Tally
from importer.push.tagging import Shard, Tagger, explained, is_tagged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor

    from common.oci.image import Descriptor, Digest
    from common.oci.reference import Reference
    from common.progress import Progress
    from common.registry.client import RegistryClient
    from importer.archive.reader import Archive

# Content that is not at hand, because it lies in an absent volume or an earlier archive: what of it the mirror has already.

_LOG = logger(__name__)


@dataclass(frozen=True, slots=True)
class Earlier:
    """Blobs that are not at hand: `whole` are in every repository that needs them, `partly` in others, `absent` in none."""

    whole: frozenset[Digest]
    partly: Mapping[Digest, tuple[Reference, ...]]
    absent: frozenset[Digest]


def look(
    blobs: Sequence[Digest],
    wanted: Places,
    known: Places,
    *,
    records: Mapping[Digest, BlobRecord],
    client: RegistryClient,
    pool: ThreadPoolExecutor,
) -> Earlier:
    """Ask the mirror for blobs that are not at hand; a repository that does not say counts as one that has not got them.

    `wanted`: the repositories that need each blob; `known`: all that may have it, these among them; `records`: how large it is.
    One that is there with another size is damaged: it counts as absent, and nothing is mounted from there.
    Raises RegistryUnreachableError when nobody is there.
    """

    def has(place: Reference, digest: Digest) -> bool:
        try:
            return client.has_blob(place, digest, records[digest].size)
        except RegistryUnreachableError:
            raise
        except RegistryError as error:
            _LOG.info("%s: %s", place, error.message)
            return False

    def held(digest: Digest) -> tuple[Reference, ...]:
        return tuple(place for place in known[digest] if has(place, digest))

    found = dict(zip(blobs, pool.map(held, blobs), strict=True))
    whole = frozenset(digest for digest, here in found.items() if set(here) >= set(wanted[digest]))
    absent = frozenset(digest for digest, here in found.items() if not here)
    partly = {digest: here for digest, here in found.items() if digest not in whole and here}
    return Earlier(whole, partly, absent)


class ArchiveAndMirror:
    """Reads a blob from the archive, or from where the mirror has it already. A BlobSource."""

    def __init__(self, archive: Archive, client: RegistryClient, partly: Places) -> None:
        self._archive = archive
        self._mirror = RegistrySource(client, partly)
        self._partly = partly

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """See `BlobSource.read`."""
        return self._mirror.read(blob, start) if blob.digest in self._partly else self._archive.read(blob, start)


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
    """Bring `images` into the mirror, each tagged when all of it is there; with `heal` also what should be there already.

    With `volumes` only the shard of these. One image that fails does not stop the others: it is in `problems`, and `exit_code`
    says what the worst of them means.
    """
    contents, tally = Contents(archive.inventory), Tally()
    shard = Shard(archive.inventory, contents, volumes)
    complete = [image for image in images if image.record.complete and shard.takes(image)]
    with workers(jobs, "push") as pool:
        todo, present = (complete, 0) if heal else _looked_up(complete, archive, client, pool, tally)
        earlier = _earlier(archive, shard, (todo, complete), client, pool)
        tally.wait_for(earlier.absent, archive)
        sink = RegistrySink(client, contents.places(todo), earlier.partly)
        run = _Run(archive, shard, tuple(todo), Tagger(archive, shard, client, heal=heal), client, sink, pool, tally)
        left = run.bring(earlier, jobs=jobs, progress=progress)
    return tally.result(
        sink.counts,
        images=len(complete),
        present=present,
        left=left,
        left_out=_count_left_out(archive.inventory) if shard.whole else 0,
        never_had=_left_out(archive.inventory) if shard.whole else [],
    )


def _earlier(
    archive: Archive,
    shard: Shard,
    images: tuple[Sequence[MappedImage], Sequence[MappedImage]],
    client: RegistryClient,
    pool: ThreadPoolExecutor,
) -> Earlier:
    """Return what the mirror has of the blobs that are not at hand; `images`: those to be done, and all."""
    wanted, known = map(shard.contents.places, images)
    away = [digest for digest in wanted if shard.brings(digest) and not archive.at_hand(digest)]
    return look(away, wanted, known, records=archive.inventory.blobs, client=client, pool=pool)


@dataclass(frozen=True, slots=True)
class _Run:
    """One push: the images that are to be done, and what it works with."""

    archive: Archive
    shard: Shard
    todo: tuple[MappedImage, ...]
    tagger: Tagger
    client: RegistryClient
    sink: RegistrySink
    pool: ThreadPoolExecutor
    tally: Tally

    @property
    def contents(self) -> Contents:
        """What images need."""
        return self.shard.contents

    def bring(self, earlier: Earlier, *, jobs: int, progress: Progress) -> int:
        """Copy blobs and tag images; what fails is in the tally. Returns how many images are left to others."""
        tags = _Tags(self.tagger, Completion(self.todo, self.contents), self.pool, self.shard)
        for digest in earlier.whole:
            tags.arrived(digest)
        settled = earlier.whole | earlier.absent
        ours = [blob for blob in self.contents.blobs(self.todo) if self.shard.brings(blob.digest)]
        left = [blob for blob in ours if blob.digest not in settled]
        source = ArchiveAndMirror(self.archive, self.client, earlier.partly)
        lost = _copy_blobs(left, source, self.sink, self.tally, tags.arrived, jobs=jobs, progress=progress)
        self._note_failures((blob.digest for blob in left), lost)
        self._look_for_others(tags)
        self._note_images(tags.results())
        return 0 if self.shard.whole else len(self.todo) - tags.count

    def _look_for_others(self, tags: _Tags) -> None:
        """Count what others have brought by now: after our own last blob, so that of all who look the last finds everything."""
        wanted = self.contents.places(self.todo)
        blobs, records = self.shard.of_others(self.todo), self.archive.inventory.blobs
        found = look(blobs, wanted, wanted, records=records, client=self.client, pool=self.pool)
        for digest in found.whole:
            tags.arrived(digest)
        for digest, places in found.partly.items():
            tags.arrived(digest, set(wanted[digest]) - set(places))

    def _note_failures(self, copied: Iterable[Digest], lost: Mapping[Digest, HubError]) -> None:
        """Note the blobs that could not be brought, and the repositories that did not take one."""
        for digest in copied:
            error = lost.get(digest)
            failures: Mapping[Reference | None, HubError] = {None: error} if error else {}
            if error is None or isinstance(error, NotWritableError):
                refused = self.sink.refused(digest)
                failures = {place: refused[place] for place in refused if place not in self.sink.not_writable}
            for place, failure in failures.items():
                images = (image for image in self.todo if place in (None, image.repository))
                self.tally.fail_blob(digest, failure, [image for image in images if digest in self.contents.needs(image)])

    def _note_images(self, failed: Iterable[tuple[MappedImage, HubError]]) -> None:
        """Note the images that were not tagged, and once for each namespace that this account may not write there."""
        closed: dict[Reference, RegistryError] = {**self.sink.not_writable}
        for image, error in failed:
            if isinstance(error, AuthenticationError):
                closed.setdefault(image.repository, error)
            else:
                self.tally.fail_image(image, explained(image, error))
        for namespace, places in groupby(sorted(closed), key=_namespace):
            repositories = list(places)
            images = [image for image in self.todo if image.repository in repositories]
            self.tally.fail_namespace(namespace, repositories, closed[repositories[0]], images)


def _namespace(repository: Reference) -> str:
    """Return the organization (Quay), project (Harbor) or group (GitLab) in which an account may create repositories."""
    return f"{repository.registry}/{repository.repository.partition('/')[0]}"


def _count_left_out(inventory: Inventory) -> int:
    return sum(1 for image in inventory.images if not image.complete and image.kind not in ATTACHED)


def _left_out(inventory: Inventory) -> list[Problem]:
    """Return what the inventory says of the images that are not whole in the archive."""
    incomplete = {image.source for image in inventory.images if not image.complete}
    return [problem for problem in inventory.problems if problem.subject in incomplete]


def _looked_up(
    images: Sequence[MappedImage], archive: Archive, client: RegistryClient, pool: ThreadPoolExecutor, tally: Tally
) -> tuple[list[MappedImage], int]:
    """Return the images that the mirror does not have under all of their tags, and how many it has."""

    def there(image: MappedImage) -> bool | HubError:
        try:
            return is_tagged(image, archive.inventory.manifests[image.digest].size, client)
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


class _Tags:
    """Writes the manifests and tags of an image as soon as its last blob is there, while others are still on their way."""

    def __init__(self, tagger: Tagger, completion: Completion, pool: ThreadPoolExecutor, shard: Shard) -> None:
        self._tagger = tagger
        self._shard = shard
        self._completion = completion
        self._pool = pool
        self._running: list[tuple[MappedImage, Future[HubError | None]]] = []
        self._begin(completion.without_blobs())

    def arrived(self, digest: Digest, refused: Collection[Reference] = ()) -> None:
        """Note that a blob is on the mirror, but for the repositories that `refused` it."""
        self._begin(self._completion.arrived(digest, refused))

    @property
    def count(self) -> int:
        """How many images were complete."""
        return len(self._running)

    def results(self) -> Iterator[tuple[MappedImage, HubError]]:
        """Wait for all, and give the images that failed."""
        for image, future in self._running:
            error = future.result()
            if error is not None:
                yield image, error

    def _begin(self, images: Iterable[MappedImage]) -> None:
        mine = filter(self._shard.tags, images)
        self._running += [(image, self._pool.submit(self._tagger.attempt, image)) for image in mine]


def _copy_blobs(
    blobs: Sequence[Descriptor],
    source: BlobSource,
    sink: RegistrySink,
    tally: Tally,
    arrived: Callable[[Digest, Collection[Reference]], None],
    *,
    jobs: int,
    progress: Progress,
) -> dict[Digest, HubError]:
    """Copy what is at hand, telling `arrived` of each blob; return what could not be brought, and why."""
    lost: dict[Digest, HubError] = {}
    progress.begin(f"pushing {counted(len(blobs), 'blob')}", sum(blob.size for blob in blobs))
    try:
        for outcome in copy(blobs, source, sink, jobs=jobs, progress=progress):
            if outcome.error is not None:
                lost[outcome.blob.digest] = outcome.error
                continue
            arrived(outcome.blob.digest, sink.refused(outcome.blob.digest))
            if outcome.written is Written.COPIED:
                tally.bytes += outcome.blob.size
    finally:
        progress.end()
    return lost
