"""The plan of a prune: a file that a person reads, and that the second step takes. Pure but for `load`.

Specification: docs/reference/registry.md, *Prune*.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from common.errors import ArchiveError, ContentError, UsageError
from common.files import read_limited
from common.oci.image import Digest, digest_of, parse_digest
from common.oci.reference import is_repository
from common.serialization import UNDECODABLE, bounded_json, decode_bounded
from importer.prune.wanted import users_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from importer.prune.known import Known, OwnImage
    from importer.prune.usage import CatalogNote
    from importer.prune.wanted import Decision, RepositoryState, Used


MEDIA_TYPE = "application/vnd.hub-airgap.prune-plan.v1+json"
MAX_SIZE = 512 * 1024 * 1024  # a million manifests, with their tags and operators
_WANTED = "hub-import prune --registry HOST/PREFIX --output FILE writes one."
_USERS = 20  # operators that are named for one manifest


class _Part(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Base of the records of a plan."""


class PlannedArchive(_Part, frozen=True):
    """An archive that the mirror remembers. `kept`: why it, or a part of it, is kept; empty where it is not."""

    digest: Digest
    name: str
    created: str
    kept: str = ""


class Deletion(_Part, frozen=True):
    """A manifest that is deleted. `bytes`: those that become free with it; of a blob that several share, the first has them."""

    repository: str
    digest: Digest
    tags: tuple[str, ...]
    sources: tuple[str, ...]
    needed_by: tuple[str, ...]
    archives: tuple[Digest, ...]
    bytes: int


class Kept(_Part, frozen=True):
    """An image of an archive that is kept, and why."""

    repository: str
    digest: Digest
    source: str
    needed_by: tuple[str, ...]
    why: str


class UnusedCatalog(_Part, frozen=True):
    """A catalog in a cluster that no Subscription names, or one of oc-mirror, and how to remove it."""

    cluster: str
    kind: str
    namespace: str
    name: str
    image: str
    own: bool
    command: str


class PrunePlan(_Part, frozen=True):
    """What is deleted of a mirror, and what is kept. `state`: the digest of everything that it was made from.

    `bytes`: what becomes free when the registry has collected its garbage. `lists`: fallback tags of lists of referrers, by
    repository, that go with their subject. `records`: tags of records whose archive has nothing left.
    """

    media_type: str
    created: str
    tool: str
    registry: str
    state: Digest
    keep_last: int
    named: tuple[Digest, ...]
    clusters: tuple[str, ...]
    bytes: int
    archives: tuple[PlannedArchive, ...]
    deletions: tuple[Deletion, ...]
    kept: tuple[Kept, ...]
    lists: dict[str, tuple[str, ...]] = {}
    records: tuple[str, ...] = ()
    key: str = ""
    unrecorded: tuple[str, ...] = ()
    accept_unrecorded: bool = False
    unused_catalogs: tuple[UnusedCatalog, ...] = ()

    @property
    def digest(self) -> Digest:
        """The digest of its bytes."""
        return digest_of(encode(self))


_DECODER = msgspec.json.Decoder(PrunePlan)


def encode(plan: PrunePlan) -> bytes:
    """Return the bytes of a plan. Raises ContentError for one that is too large to be read."""
    return bounded_json(plan, MAX_SIZE, "plan", "Delete in steps: --keep-last with a larger number first.")


def load(path: Path) -> PrunePlan:
    """Read a plan. Raises UsageError for any other file, ArchiveError for a later version."""
    raw = read_limited(path, MAX_SIZE, _WANTED)
    try:
        plan = decode_bounded(raw, _DECODER)
        _check(plan, path)
    except (*UNDECODABLE, ContentError) as error:
        raise UsageError(f"{path}: not a plan of prune: {error}", hint=_WANTED) from error
    return plan


def _check(plan: PrunePlan, path: Path) -> None:
    if plan.media_type != MEDIA_TYPE:
        if plan.media_type.startswith(MEDIA_TYPE.partition(".v1")[0]):
            raise ArchiveError(f"{path}: a plan of another version, {plan.media_type[:80]}", hint="Use a newer hub-airgap.")
        raise ContentError(f"its media type is {plan.media_type[:80]!r}, wanted {MEDIA_TYPE!r}")
    for one in plan.deletions:
        # Both become parts of a path of DELETE requests: only what a push could have made is taken.
        parse_digest(one.digest)
        if not is_repository(one.repository):
            raise ContentError(f"{one.repository[:80]!r} is no repository path")


def state_digest(tags: Iterable[str], state: Mapping[str, RepositoryState], used: Used) -> Digest:
    """Return the digest of what a plan was made from: records, tags of the mirror, and what the clusters use."""
    # Sorted, so that two surveys of the same mirror give the same digest, in whatever order a registry lists its tags.
    document = {
        "records": sorted(tags),
        "tags": {name: dict(sorted(one.tags.items())) for name, one in sorted(state.items())},
        "digests": sorted(used.digests),
        "names": sorted(used.names),
        "versions": sorted(used.versions),
    }
    return digest_of(msgspec.json.encode(document))


def freed_blobs(
    known: Known, decision: Decision, present: Mapping[str, Collection[Digest]], state: Mapping[str, RepositoryState]
) -> dict[Digest, int]:
    """Return the blobs, manifests among them, that nothing needs which stays, with their sizes.

    Storage is shared by the repositories of a registry, and a garbage collection deletes what no manifest of any of them names
    (distribution/distribution, registry/storage/garbagecollect.go).
    """
    staying: set[Digest] = set()
    for kept in decision.kept.values():
        for digest in kept:
            staying.add(digest)
            known_one = known.documents.get(digest)
            staying.update(known_one.blobs if known_one else ())
    # Layers of others' images, too: a layer of ours may be mounted there.
    for one in state.values():
        staying.update(one.blobs)
    found: dict[Digest, int] = {}
    for digests in present.values():
        for digest in digests:
            doomed = known.documents[digest]
            # The same manifest may stay in another repository: storage has its bytes once.
            if digest not in staying:
                found[digest] = doomed.size
            found.update((blob, known.blobs[blob]) for blob in doomed.blobs if blob not in staying)
    return found


def freed_of_records(removed: Collection[str], blobs: Mapping[str, Mapping[Digest, int]]) -> dict[Digest, int]:
    """Return the content of removed records that no other record has, with its sizes."""
    # All artifacts share the empty configuration.
    staying = {digest for tag, one in blobs.items() if tag not in removed for digest in one}
    return {digest: size for tag in removed for digest, size in blobs[tag].items() if digest not in staying}


def deletions(
    known: Known, present: Mapping[str, Collection[Digest]], state: Mapping[str, RepositoryState], free: Mapping[Digest, int]
) -> list[Deletion]:
    """Return the manifests to delete, parents before children in each repository."""
    users: defaultdict[tuple[str, Digest], list[OwnImage]] = defaultdict(list)
    for image in known.images():
        for document in image.documents:
            users[image.repository, document].append(image)
    found = []
    counted: set[Digest] = set()  # a blob that several share is freed once: the first has it
    for repository in sorted(present):
        tags: defaultdict[Digest, list[str]] = defaultdict(list)
        for tag, digest in state[repository].tags.items() if repository in state else ():
            tags[digest].append(tag)
        for digest in present[repository]:
            images = users[repository, digest]
            own = {digest, *known.documents[digest].blobs} - counted
            counted |= own
            size = sum(free.get(blob, 0) for blob in own)
            found.append(
                Deletion(
                    repository,
                    digest,
                    tuple(sorted(tags[digest])),
                    tuple(sorted({image.source for image in images})),
                    tuple(users_of(images)[:_USERS]),
                    tuple(dict.fromkeys(image.archive for image in images)),  # whose records lose a part
                    size,
                )
            )
    return found


def kept_images(known: Known, decision: Decision) -> list[Kept]:
    """Return the images of archives that stay, each place once, with the reason."""
    found: dict[tuple[str, Digest], Kept] = {}
    for image in known.images():
        place = (image.repository, image.digest)
        why = decision.kept[image.repository].get(image.digest)
        # Many archives have the same image; the reason is one of the place.
        if why is not None and place not in found:
            found[place] = Kept(*place, image.source, image.operators[:_USERS], why)
    return [found[place] for place in sorted(found)]


def needless_records(known: Known, decision: Decision, tags: Mapping[Digest, Collection[str]]) -> list[str]:
    """Return the tags of records that explain nothing which stays and which no other record explains.

    `tags`: those of the records of each archive. From the oldest archive on, so that the newest record of shared content stays.
    """
    explained: defaultdict[tuple[str, Digest], int] = defaultdict(int)
    staying: dict[Digest, set[tuple[str, Digest]]] = {}
    for archive in known.archives:
        places = {
            (image.repository, document)
            for image in archive.images
            for document in image.documents
            if decision.keeps(image.repository, document)
        }
        # An archive may have two records: pushed with two layouts of paths, or interrupted while it was marked as pruned.
        staying[archive.digest] = staying.get(archive.digest, set()) | places
    for places in staying.values():
        for place in places:
            explained[place] += 1
    found: list[str] = []
    # The record of a stranger is not deleted on its own word.
    trusted = {archive.digest for archive in known.archives if archive.trusted}
    for archive in sorted(known.archives, key=lambda one: (one.created, one.digest)):
        if archive.digest in decision.archives or archive.digest not in trusted or archive.digest not in staying:
            continue
        places = staying.pop(archive.digest)
        if all(explained[place] > 1 for place in places):
            # One at a time: two records that explain each other's content must not both go.
            for place in places:
                explained[place] -= 1
            found += tags[archive.digest]
    return sorted(found)


def unused(notes: Iterable[CatalogNote]) -> list[UnusedCatalog]:
    """Return catalogs of clusters that could be removed, with the command."""
    found = []
    for note in notes:
        where = f" -n {note.namespace}" if note.namespace else ""  # a ClusterCatalog has none
        command = f"oc delete {note.kind.lower()} {note.name}{where}"
        found.append(UnusedCatalog(note.cluster, note.kind, note.namespace, note.name, note.image, note.own, command))
    return found
