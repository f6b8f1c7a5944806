"""The first step of prune: read records, clusters and mirror, decide, and write down what would be deleted. Deletes nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.distribution import TOOL
from common.errors import ArchiveDamagedError, UsageError
from common.oci.image import PREFIX, Digest
from common.registry.client import RegistryClient
from common.text import counted, enumeration
from importer.mapping import map_images, pushed_images
from importer.prune import plan as plans
from importer.prune.known import Known
from importer.prune.plan import MEDIA_TYPE, PlannedArchive, PrunePlan
from importer.prune.reading import MirrorReader
from importer.prune.usage import ClusterUsage, read_cluster
from importer.prune.wanted import Policy, Used, decide
from importer.push.confirmation import find_missing
from importer.records.document import head_of
from importer.records.store import RecordStore, now, repository_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from common.archive.reader import Archive
    from common.archive.signature import Verifier
    from common.mapping import Mirror
    from common.progress import Progress
    from common.registry.settings import RegistrySettings
    from importer.prune.wanted import Decision, RepositoryState


_SHOWN = 5
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})", re.ASCII)  # 12 digits are what tables show
_RECORDS_FIRST = "Nothing was planned, for what it needs is not known."


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """What to keep, and whom to ask. `clusters`: a kubeconfig for each, None for the usual one; empty with --no-cluster.

    `archives`: those that --keep names and that are here; `named`: those that it names by digest or name.
    """

    mirror: Mirror
    registry: RegistrySettings
    jobs: int = 6
    keep_last: int = 1
    archives: tuple[Archive, ...] = ()
    named: tuple[str, ...] = ()
    clusters: tuple[Path | None, ...] = ()
    context: str | None = None
    key: Verifier | None = None
    accept_unrecorded: bool = False


@dataclass(slots=True)
class Survey:
    """Everything that a plan is made from."""

    known: Known
    record_tags: dict[Digest, list[str]] = field(default_factory=dict)
    record_blobs: dict[str, Mapping[Digest, int]] = field(default_factory=dict)
    named: frozenset[Digest] = frozenset()
    usages: Sequence[ClusterUsage] = ()
    used: Used = field(default_factory=Used)
    state: Mapping[str, RepositoryState] = field(default_factory=dict)
    decision: Decision | None = None
    present: Mapping[str, tuple[Digest, ...]] = field(default_factory=dict)

    @property
    def decided(self) -> Decision:
        """The decision."""
        assert self.decision is not None
        return self.decision


def survey(request: PruneRequest, client: RegistryClient, progress: Progress) -> Survey:
    """Read everything, and decide. Raises ClusterError, RegistryError, ArchiveDamagedError where anything cannot be read."""
    # Clusters first: an account that may not read all of one is told before thousands of requests to the registry.
    usages = [read_cluster(kubeconfig, request.context) for kubeconfig in request.clusters]
    # Reversed, so that the first cluster is the one that a reason names.
    used = Used(
        {digest: why for one in reversed(usages) for digest, why in one.digests.items()},
        {name: why for one in reversed(usages) for name, why in one.names.items()},
        {name: why for one in reversed(usages) for name, why in one.versions.items()},
    )
    client.ping(str(request.mirror), may_be_closed=True)
    # Before the records are read: what is taken up here is one of them.
    for archive in request.archives:
        _remember(archive, request, client, progress)
    found = Survey(Known(request.mirror.host), usages=usages, used=used)
    store = RecordStore(client, request.mirror, request.key)
    for record in store.records(progress):
        # Records that the key did not sign count as a reason to keep, and are no reason to delete (ADR 0081).
        found.known.add(record, request.mirror, trusted=request.key is None or record.signed)
        found.record_tags.setdefault(record.digest, []).append(record.head.tag)
        found.record_blobs[record.head.tag] = record.stored
    _require_records(found.known, store)
    found.named = frozenset({*(one.digest for one in request.archives), *_resolved(request.named, found.known)})
    reader = MirrorReader(client, request.mirror.host, request.jobs, progress)
    state = reader.read(found.known)
    policy = Policy(request.keep_last, found.named)
    first = decide(found.known, policy, used, state)
    # Only of what would be deleted: one request for each manifest.
    doomed = reader.present(first.deleted)
    reader.require_listed(found.known, state, doomed)
    found.state = reader.with_attached(state, doomed)
    # Again, with what others have attached: that only adds to what is kept, so `doomed` has all that is left.
    found.decision = decide(found.known, policy, used, found.state)
    found.present = {
        name: tuple(filter(frozenset(digests).__contains__, doomed[name]))
        for name, digests in found.decision.deleted.items()
        if name in doomed
    }
    # An archive without a record could need anything that is planned, in every repository.
    if found.decision.unrecorded and not request.accept_unrecorded:
        raise _unrecorded(found.decision.unrecorded)
    return found


def make_plan(request: PruneRequest, found: Survey) -> PrunePlan:
    """Return the plan of a survey."""
    known, decision = found.known, found.decided
    free = plans.freed_blobs(known, decision, found.present, found.state)
    deleted = plans.deletions(known, found.present, found.state, free)
    records = plans.needless_records(known, decision, found.record_tags)
    # After the deletions, whose sizes are those of manifests alone.
    free |= plans.freed_of_records(records, found.record_blobs)
    archives = {
        one.digest: PlannedArchive(one.digest, one.name, one.created, decision.archives.get(one.digest, ""))
        for one in known.archives
    }
    tags = [tag for each in found.record_tags.values() for tag in each]
    return PrunePlan(
        MEDIA_TYPE,
        now(),
        TOOL,
        str(request.mirror),
        plans.state_digest(tags, found.state, found.used),
        request.keep_last,
        tuple(sorted(found.named)),
        tuple(one.server for one in found.usages),
        sum(free.values()),
        tuple(sorted(archives.values(), key=lambda one: (one.created, one.digest))),
        tuple(deleted),
        tuple(plans.kept_images(known, decision)),
        dict(decision.lists),
        tuple(records),
        request.key.fingerprint if request.key is not None else "",
        decision.unrecorded,
        request.accept_unrecorded,
        tuple(plans.unused([note for one in found.usages for note in one.catalogs])),
    )


def prune_plan(request: PruneRequest, progress: Progress) -> PrunePlan:
    """Return what would be deleted of a mirror."""
    with RegistryClient(request.registry, notify=progress.waiting) as client:
        return make_plan(request, survey(request, client, progress))


def _require_records(known: Known, store: RecordStore) -> None:
    # Of an archive that cannot be read nothing is known, and so nothing of what it shares with others either.
    if store.unusable:
        tags = [f"{tag} ({why})" for tag, why in sorted(store.unusable.items())]
        raise ArchiveDamagedError(
            f"{store.repository.name}: records that cannot be used: {enumeration(tags, _SHOWN)}. {_RECORDS_FIRST}",
            hint="Push the archive again with --heal, or delete the record if it is not one of hub-import.",
        )
    if not known.archives:
        raise UsageError(
            f"{store.repository.name} has no record: this mirror remembers no archive, so nothing is known to be needless",
            hint="Give archives that were pushed before with --keep ARCHIVE; the next push of one stores its record.",
        )


def _unrecorded(tags: Sequence[str]) -> UsageError:
    return UsageError(
        f"{counted(len(tags), 'tag')} of hub-airgap, of archives that the mirror does not remember: "
        f"{enumeration(tags, _SHOWN)}. What these archives share with others could be deleted",
        hint="Give them with --keep ARCHIVE, or push them again. Where they are gone for good, --accept-unrecorded goes by the "
        "records alone: these tags stay, and what they share with archives that are not kept may be deleted.",
    )


def _resolved(named: Sequence[str], known: Known) -> list[Digest]:
    """Return the archives that are named by digest, its first digits, or name. Raises UsageError."""
    found: list[Digest] = []
    for text in named:
        match = _DIGEST.fullmatch(text)
        fits = {
            one.digest
            for one in known.archives
            if one.name == text or (match and one.digest.removeprefix(PREFIX).startswith(match[1]))
        }
        # A name that two weeks share would keep one of them by chance.
        if len(fits) != 1:
            said = "no archive" if not fits else f"{len(fits)} archives"
            raise UsageError(
                f"--keep {text}: {said} of that name or digest in the mirror's records",
                hint="Name a directory with the archive, or a digest of: hub-import status --registry HOST/PREFIX.",
            )
        found += fits
    return found


def _remember(archive: Archive, request: PruneRequest, client: RegistryClient, progress: Progress) -> None:
    """Take up an archive that was pushed before there were records. Raises UsageError where the mirror lacks a part of it."""
    head = head_of(archive.digest, request.mirror, now())
    if RecordStore(client, request.mirror).has(head):
        return
    images = pushed_images(archive.inventory, map_images(archive.inventory, request.mirror))
    if missing := find_missing(images, client, jobs=request.jobs, progress=progress):
        raise UsageError(
            f"archive {archive.digest} is not in {request.mirror}: {counted(len(missing), 'image is', 'images are')} missing, "
            f"{enumeration(missing, _SHOWN)}",
            hint="Push it first; or give the paths that its push had: --max-path-components, --keep-source-host.",
        )
    # A client of its own: the other one asks for tokens without the right to push, so that reading creates no repositories
    # (ADR 0031).
    pushes = frozenset({repository_of(request.mirror).name})
    with RegistryClient(request.registry, notify=progress.waiting, pushes_to=pushes) as writer:
        RecordStore(writer, request.mirror).remember(archive)
