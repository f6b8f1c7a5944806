"""The content of an archive that the mirror has: asked blob by blob and repository by repository, for a receipt."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.archive.inventory import MAX_CREATED, BaseRecord, repository_of
from common.errors import AuthenticationError, ContentError, HubError, RegistryError, RegistryUnreachableError
from common.interruption import in_order, workers
from common.mapping import fixed_paths
from common.progress import step
from common.text import counted
from common.transfer import HostFailures, is_host_failure
from importer.mapping import Closure, MappedImage, pushed_images
from importer.push.tagging import is_tagged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from common.archive.inventory import Inventory
    from common.oci.image import Digest
    from common.oci.reference import Reference
    from common.progress import Progress
    from common.registry.client import RegistryClient

    _RepositoryBlob = tuple[Reference, Digest]


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Blobs on the mirror, by the repository of their source; `inventories`: archives whose whole content is there.

    `archives` describes them, as far as they are known.
    """

    inventories: tuple[Digest, ...]
    repositories: dict[str, frozenset[Digest]]
    archives: Mapping[Digest, BaseRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """What to ask for: an archive's inventory, its digest, and its images on the mirror."""

    inventory: Inventory
    digest: Digest
    images: Sequence[MappedImage]


def confirm(contents: Iterable[Content], client: RegistryClient, *, jobs: int, progress: Progress) -> Confirmation:
    """Ask for every blob in every repository that needs it, once, and for every tag. Raises RegistryError.

    A repository that may not be read, or that does not exist, has nothing, and is in a warning. So is a blob or a tag of which
    the registry does not say whether it has it.
    """
    mirror = _ReadOnlyMirror(client)
    inventories: dict[Digest, None] = {}
    repositories: dict[str, set[Digest]] = {}
    archives: dict[Digest, BaseRecord] = {}
    known: dict[_RepositoryBlob, bool] = {}
    with workers(jobs, "receipt") as pool:
        for content in contents:
            found = _confirmed(content, mirror, known, pool, progress)
            inventories |= dict.fromkeys(found.inventories)
            archives |= found.archives
            for name, blobs in found.repositories.items():
                repositories.setdefault(name, set()).update(blobs)
    mirror.warn()
    return Confirmation(tuple(inventories), {name: frozenset(blobs) for name, blobs in repositories.items()}, archives)


def _confirmed(
    content: Content,
    mirror: _ReadOnlyMirror,
    known: dict[_RepositoryBlob, bool],
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> Confirmation:
    """Ask for what an archive has; `known`: the answers so far, to which those of this one are added."""
    inventory = content.inventory
    closure = Closure(inventory)
    complete = pushed_images(inventory, content.images)
    # Each repository on its own: registries share storage, but whether a blob can be pulled is decided for each repository.
    needed = {(image.repository, digest) for image in complete for digest in closure.blobs_of(image)}
    asked: list[_RepositoryBlob] = sorted(needed - known.keys())

    def has(one: _RepositoryBlob) -> bool:
        repository, digest = one
        found = mirror.has_blob(repository, digest, inventory.blobs[digest].size)
        progress.advance(1)
        return found

    with step(progress, f"asking for {counted(len(asked), 'blob')}", len(asked), "blobs"):
        known.update(in_order(pool, has, asked))
        sizes = {image.digest: inventory.manifests[image.digest].size for image in complete}
        answers = in_order(pool, lambda image: mirror.has_tags(image, sizes[image.digest]), complete)
        tagged = all(found for _, found in answers)
    present = {one for one in needed if known[one]}
    # The next export leaves out everything of an archive that is confirmed as a whole, so tags count, and images that the
    # archive holds in part keep it from being whole.
    whole = tagged and len(present) == len(needed) and len(complete) == len(inventory.images)
    # Earlier archives too: the blobs that this one leaves to them were asked for with the rest.
    inventories = (content.digest, *inventory.requires) if whole else ()
    fixed = fixed_paths(inventory.carried_releases)
    own = BaseRecord(inventory.created[:MAX_CREATED], inventory.name or "")
    archives = {**inventory.known_bases, content.digest: own}
    return Confirmation(inventories, _by_source(complete, closure, present, fixed), archives)


def _by_source(
    images: Sequence[MappedImage], closure: Closure, present: Collection[_RepositoryBlob], fixed: Mapping[str, str]
) -> dict[str, frozenset[Digest]]:
    """Return the present blobs of images by the repository of their source, which is what an exporter knows."""
    repositories: dict[str, set[Digest]] = {}
    for image in images:
        found = {digest for digest in closure.blobs_of(image) if (image.repository, digest) in present}
        repositories.setdefault(repository_of(image.record, fixed), set()).update(found)
    return {name: frozenset(found) for name, found in repositories.items()}


def find_missing(images: Sequence[MappedImage], client: RegistryClient, *, jobs: int, progress: Progress) -> list[str]:
    """Return the names of the images that the mirror does not have. Raises RegistryError."""
    mirror = _ReadOnlyMirror(client)

    def has(image: MappedImage) -> bool:
        found = mirror.has_image(image)  # by digest: the cluster pulls by digest, and tags may have moved since
        progress.advance(1)
        return found

    with (
        step(progress, f"asking the mirror for {counted(len(images), 'image')}", len(images), "images"),
        workers(jobs, "in-place") as pool,
    ):
        missing = [image.name for image, found in in_order(pool, has, images) if not found]
    mirror.warn()
    return missing


class _ReadOnlyMirror:
    """The mirror as an account with `pull` alone sees it. Shared by threads.

    Quay creates a repository when a token with `push` is requested, so only `pull` is. It answers 401 for a repository that
    does not exist (quay/quay, endpoints/v2/__init__.py, `require_repo_read`), so 401 and 403 count as "not there".
    """

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._refused: dict[Reference, AuthenticationError] = {}
        self._lock = threading.Lock()
        self._unknown: HubError | None = None  # the first one
        self._unknown_count = 0
        self._failures = HostFailures()

    def has_blob(self, repository: Reference, digest: Digest, size: int) -> bool:
        """Say whether a repository has all bytes of a blob."""
        return self._asked(repository, lambda: self._client.has_blob(repository, digest, size))

    def has_image(self, image: MappedImage) -> bool:
        """Say whether an image is there, tagged or not."""
        return self._asked(image.repository, lambda: self._client.head(image.pinned) is not None)

    def has_tags(self, image: MappedImage, size: int) -> bool:
        """Say whether an image, whose manifest has `size` bytes, is there under all of its tags."""
        return self._asked(image.repository, lambda: is_tagged(image, size, self._client))

    def warn(self) -> None:
        """Warn of the repositories that were refused, and of the questions that were not answered."""
        if self._unknown is not None:
            _LOG.warning(
                "%s not answered, and nothing is confirmed by them; the first: %s",
                counted(self._unknown_count, "request was", "requests were"),
                self._unknown,
            )
        # One line: a mirror that was never pushed to refuses each of its repositories.
        if self._refused:
            first = min(self._refused)
            _LOG.warning(
                "%s counted as empty, for they do not exist or may not be read; the first: %s",
                counted(len(self._refused), "repository", "repositories"),
                self._refused[first],
            )

    def _asked(self, repository: Reference, question: Callable[[], bool]) -> bool:
        if repository in self._refused:
            return False  # without a request: thousands of blobs of one repository would get the same answer
        if (ended_by := self._failures.ended_by) is not None:
            raise ended_by.with_traceback(None)
        try:
            return question()
        except AuthenticationError as error:
            self._refused[repository] = error
        except RegistryUnreachableError:
            raise
        except (RegistryError, ContentError) as error:
            self._note_unknown(error)
        return False

    def _note_unknown(self, error: RegistryError | ContentError) -> None:
        """Count an answer that does not say whether something is there. Raises it where the registry is in trouble."""
        with self._lock:
            self._unknown = self._unknown or error
            self._unknown_count += 1
        # In all, not in a row: each costs minutes of retries.
        if is_host_failure(error) and self._failures.add(error):
            raise error
