"""The second step of prune: what the plan has, and a new survey too, is deleted. It can be interrupted, and run again.

Parents go before children, manifests before records: what an interrupted run leaves is still known to be needless.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from common.content import in_memory
from common.errors import (
    AuthenticationError,
    ContentError,
    ExitCode,
    HubError,
    NotFoundError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
    UsageError,
)
from common.interruption import workers
from common.oci import media_types
from common.oci.image import PREFIX, Descriptor, Digest, digest_of, encode
from common.oci.reference import Reference
from common.progress import step
from common.registry.client import RegistryClient
from common.text import counted, enumeration
from importer.prune import plan as plans
from importer.prune.products import allows_deletion, frees_space, product_of
from importer.prune.reading import MirrorReader
from importer.prune.run import survey
from importer.prune.wanted import RepositoryState, subject_of_tag
from importer.records.store import RecordStore, now, repository_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from common.progress import Progress
    from importer.prune.plan import Deletion, PrunePlan
    from importer.prune.run import PruneRequest, Survey

    _Place = tuple[str, Digest]  # a repository, and a manifest there


_OFF = frozenset((400, 405, 501))
_TRIAL = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}'
_SHOWN = 5
_STILL_THERE = "the registry answered that it deletes it, and it is still there"
_CHILDREN_FIRST = re.compile(r"\bchild(?:ren)?\b", re.IGNORECASE)  # an index that is refused because its manifests are there
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spared:
    """A manifest of the plan that stays, and why."""

    repository: str
    digest: Digest
    why: str


@dataclass(slots=True)
class PruneResult:
    """What was deleted. `gone`: manifests that were not there any more; `spared`: those that something needs by now.

    `refused`: those that the registry does not delete. `bytes`: what becomes free by what was deleted.
    """

    registry: str
    deleted: list[Deletion] = field(default_factory=list)
    gone: int = 0
    spared: list[Spared] = field(default_factory=list)
    refused: list[Spared] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    bytes: int = 0
    space: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """PROBLEMS where something of the plan is still there."""
        return ExitCode.PROBLEMS if self.spared or self.refused else ExitCode.DONE


def execute(plan: PrunePlan, request: PruneRequest, progress: Progress) -> PruneResult:
    """Delete what a plan has. Raises UsageError for other clusters or another key, RegistryError where DELETE is off."""
    key = request.key.fingerprint if request.key is not None else ""
    if key != plan.key:
        raise UsageError("the plan was made with another key, or without one", hint="Give the same --key, or make a new plan.")
    with RegistryClient(request.registry, notify=progress.waiting) as client:
        # Everything is read again: what was tagged, or began to run, since the plan was made is in it.
        found = survey(request, client, progress)
        _require_clusters(plan, found)
        run = _Run(plan, request, client, found, progress)
        return run.run()


def _require_clusters(plan: PrunePlan, found: Survey) -> None:
    asked = sorted(one.server for one in found.usages)
    if asked != sorted(plan.clusters):
        raise UsageError(
            f"the plan was made with {enumeration(plan.clusters, _SHOWN) or 'no cluster'}, and now "
            f"{enumeration(asked, _SHOWN) or 'none'} was read",
            hint="Give the same --kubeconfig files, or --no-cluster; or make a new plan.",
        )


@dataclass(slots=True)
class _Run:
    plan: PrunePlan
    request: PruneRequest
    client: RegistryClient
    found: Survey
    progress: Progress
    result: PruneResult = field(init=False)
    there: set[_Place] = field(init=False)
    """What the survey would delete, and the mirror still has."""

    def __post_init__(self) -> None:
        self.result = PruneResult(self.plan.registry)
        self.there = {(name, digest) for name, digests in self.found.present.items() for digest in digests}

    @property
    def failed(self) -> set[_Place]:
        """What of the plan stays."""
        return {(one.repository, one.digest) for one in (*self.result.refused, *self.result.spared)}

    def run(self) -> PruneResult:
        """Delete manifests, repository by repository, then records."""
        wanted = self._still_wanted()
        by_repository: defaultdict[str, list[Deletion]] = defaultdict(list)
        for one in wanted:
            by_repository[one.repository].append(one)
        self._require_deletion()
        what = f"deleting {counted(len(wanted), 'manifest')}"
        with step(self.progress, what, len(wanted), "manifests", kept=True), workers(self.request.jobs, "prune") as pool:
            for repository, found in by_repository.items():
                self._delete_from(repository, found, pool)
        self._delete_lists()
        self._update_records()
        self.result.bytes = self._freed()
        host = self.request.mirror.host
        self.result.space = frees_space(product_of(host, self.client.realm(host)))
        return self.result

    def _still_wanted(self) -> list[Deletion]:
        """Return what the plan and the new survey both delete; what is needed by now is spared."""
        wanted = []
        for one in self.plan.deletions:
            why = self.found.decided.kept.get(one.repository, {}).get(one.digest)
            if (one.repository, one.digest) in self.there:
                wanted.append(one)
            elif why is not None:
                self.result.spared.append(Spared(one.repository, one.digest, why))
            else:
                self.result.gone += 1
        return wanted

    def _require_deletion(self) -> None:
        """Delete a tiny image of our own first. Raises RegistryRefusedError where the registry deletes nothing."""
        place = repository_of(self.request.mirror)
        blob = Descriptor(media_types.OCI_CONFIG, digest_of(_TRIAL), len(_TRIAL))
        config = {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}
        layer = {**config, "mediaType": media_types.OCI_LAYER_GZIP}
        document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": [layer]}
        # One of its own for each run: of two at a time, one would find its trial deleted, or back again, by the other.
        raw = encode({**document, "annotations": {"io.hub-airgap.trial": secrets.token_hex(8)}})
        trial = place.pinned(digest_of(raw))
        try:
            if not self.client.has_blob(place, blob.digest, blob.size):
                self.client.upload(place, blob, partial(in_memory, _TRIAL))
            self.client.put_manifest(trial, raw, media_types.OCI_MANIFEST)
        except (AuthenticationError, RegistryUnreachableError):
            raise
        except RegistryError as error:
            _LOG.info("%s: not known whether it deletes: %s", place.registry, error.message)
            return
        self._try_deletion(trial)

    def _try_deletion(self, trial: Reference) -> None:
        try:
            self.client.delete(trial)
            if self.client.head(trial) is None:
                return
            why = "it answered that it had deleted one, and has it still"
        except RegistryRefusedError as error:
            if error.status not in _OFF:
                raise
            why = error.message
        except NotFoundError as error:
            why = error.message  # Satellite has no route for it
        product = product_of(trial.registry, self.client.realm(trial.registry))
        raise RegistryRefusedError(
            f"{trial.registry} deletes no manifests, so nothing was deleted: {why}",
            hint=f"Switch it on: {'; '.join(allows_deletion(product))}.",
        )

    def _delete_from(self, repository: str, wanted: Sequence[Deletion], pool: ThreadPoolExecutor) -> None:
        """Delete manifests of one repository, whose tags are read again at the last moment."""
        needed = self._needed_by_now(repository, wanted, pool)
        waiting = [one for one in wanted if not self._spared(one, needed)]
        refused: dict[Digest, HubError] = {}
        # Again as long as something goes: a registry may refuse a manifest as long as another one is there.
        before = len(self.result.deleted)
        while waiting:
            left = self._pass(waiting, refused)
            if len(left) == len(waiting):
                break
            waiting = left
        self._require_gone(before, pool)
        self.result.refused += [Spared(one.repository, one.digest, refused[one.digest].message) for one in waiting]

    def _require_gone(self, before: int, pool: ThreadPoolExecutor) -> None:
        """Ask for the manifests deleted since: a registry may accept a DELETE (202), and delete nothing, or later."""
        # A retention rule of one repository does not show in the trial. The record of what the registry keeps has to stay.
        asked = self.result.deleted[before:]
        for one, why in zip(asked, pool.map(self._doubt, asked), strict=True):
            if why:
                self.result.deleted.remove(one)
                self.there.add((one.repository, one.digest))
                self.result.refused.append(Spared(one.repository, one.digest, why))

    def _doubt(self, one: Deletion) -> str:
        """Return why a manifest may be there after its deletion; empty: it is gone. Raises RegistryUnreachableError."""
        try:
            return _STILL_THERE if self._is_there(one) else ""
        except RegistryUnreachableError:
            raise
        except (RegistryError, ContentError) as error:  # of one repository; it does not end the run
            return f"not known whether it is gone: {error.message}"

    def _is_there(self, one: Deletion) -> bool:
        return self.client.head(self._place(one)) is not None

    def _place(self, one: Deletion) -> Reference:
        return Reference(self.request.mirror.host, one.repository).pinned(one.digest)

    def _pass(self, waiting: Sequence[Deletion], refused: dict[Digest, HubError]) -> list[Deletion]:
        """Delete manifests of one repository, parents first; return those that are left."""
        left: list[Deletion] = []
        below: dict[Digest, HubError] = {}  # what stays because an index stays that names it
        closed: HubError | None = None
        for one in waiting:
            if (why := closed or below.get(one.digest)) is not None:
                refused[one.digest] = why
            elif self._delete(one, refused):
                continue
            left.append(one)
            error = refused[one.digest]
            # The right to delete may be one of the project, or of the repository; those of others are tried.
            closed = error if isinstance(error, AuthenticationError) else closed
            if not _CHILDREN_FIRST.search(error.message):
                below.update(dict.fromkeys(self.found.known.documents[one.digest].children, error))
        return left

    def _needed_by_now(self, repository: str, wanted: Sequence[Deletion], pool: ThreadPoolExecutor) -> Mapping[Digest, str]:
        """Return the manifests that a tag leads to which the survey did not see, and what is below them."""
        before = self.found.state[repository].tags
        reader = MirrorReader(self.client, self.request.mirror.host, self.request.jobs, self.progress)
        tags = reader.tags(repository, pool)
        if before.keys() - tags.keys():
            listed = {repository: RepositoryState(tags)}
            reader.require_listed(self.found.known, listed, {repository: {one.digest for one in wanted}})
        fresh = {tag: digest for tag, digest in tags.items() if before.get(tag) != digest}
        if not fresh:
            return {}
        # As if no archive had brought any of it: everything below counts.
        state = reader.repository(repository, {tag: (digest,) for tag, digest in tags.items() if tag not in fresh}, pool)
        needed: dict[Digest, str] = {}
        for tag, digest in fresh.items():
            subject = subject_of_tag(tag)  # to which something was attached, by a tag
            for root in (digest, *((subject,) if subject else ())):
                for one in self._closure(root, state.below):
                    needed.setdefault(one, f"the tag {tag} was set meanwhile")
        return needed

    def _closure(self, digest: Digest, below: Mapping[Digest, Sequence[Digest]]) -> Iterator[Digest]:
        waiting, seen = [digest], {digest}
        while waiting:
            one = waiting.pop()
            yield one
            known = self.found.known.documents.get(one)
            for child in (*(known.children if known else ()), *below.get(one, ())):
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)

    def _spared(self, one: Deletion, needed: Mapping[Digest, str]) -> bool:
        if one.digest in needed:
            self.result.spared.append(Spared(one.repository, one.digest, needed[one.digest]))
        return one.digest in needed

    def _delete(self, one: Deletion, refused: dict[Digest, HubError]) -> bool:
        """Delete a manifest; False: the registry refuses it. Raises RegistryUnreachableError."""
        try:
            self.client.delete(self._place(one))
            # Before its manifests are deleted: an index without them would be worse than one that stays.
            if self.found.known.documents[one.digest].children and self._is_there(one):
                refused[one.digest] = RegistryRefusedError(_STILL_THERE)
                return False
        except NotFoundError:
            self.result.gone += 1  # deleted with its parent, or by another run
        except RegistryUnreachableError:
            raise
        except (RegistryError, ContentError) as error:
            refused[one.digest] = error
            return False
        else:
            self.result.deleted.append(one)
        self.there.discard((one.repository, one.digest))
        self.progress.advance(1)
        return True

    def _delete_lists(self) -> None:
        """Delete lists of referrers, under fallback tags, whose subject is gone, in this run or an interrupted one."""
        for repository, tags in self.found.decided.lists.items():
            place, state = Reference(self.request.mirror.host, repository), self.found.state[repository]
            for tag in tags:
                subject = Digest(PREFIX + tag.removeprefix("sha256-"))
                if tag not in self.plan.lists.get(repository, ()) or (repository, subject) in self.there:
                    continue
                try:
                    self.client.delete(place.pinned(state.tags[tag]))
                except NotFoundError:
                    continue
                except RegistryRefusedError as error:
                    self.result.refused.append(Spared(repository, state.tags[tag], error.message))

    def _update_records(self) -> None:
        """Remove the records of archives that have nothing left, and mark those of which a part is gone."""
        store = RecordStore(self.client, self.request.mirror, self.request.key)
        failed = self.failed
        # What an interrupted run deleted is `gone` by now, and counts.
        deleted = [one for one in self.plan.deletions if (one.repository, one.digest) not in failed]
        affected = {archive for one in deleted for archive in one.archives}
        held = {archive for one in self.plan.deletions if (one.repository, one.digest) in failed for archive in one.archives}
        needless = set(plans.needless_records(self.found.known, self.found.decided, self.found.record_tags))
        trusted = {one.digest for one in self.found.known.archives if one.trusted}
        for archive, tags in self.found.record_tags.items():
            for tag in tags:
                if tag in needless and tag in self.plan.records and archive not in held:
                    self._try(tag, partial(store.remove, tag))
                elif archive in affected and archive in trusted and tag.startswith("archive-"):
                    self._try(tag, partial(_mark, store, tag))

    def _try(self, tag: str, action: Callable[[], None]) -> None:
        try:
            action()
        except NotFoundError:  # another run removed it meanwhile
            self.result.records.append(tag)
        except RegistryRefusedError as error:  # an immutable tag: receipts ask for every blob, so an old record does no harm
            self.result.refused.append(Spared(repository_of(self.request.mirror).repository, Digest(tag), error.message))
        else:
            self.result.records.append(tag)

    def _freed(self) -> int:
        """Return the bytes that become free by what was deleted, where a part of the plan was not."""
        known, failed = self.found.known, self.failed
        stays = [one.digest for one in self.plan.deletions if (one.repository, one.digest) in failed]
        held = {blob for one in stays if one in known.documents for blob in (one, *known.documents[one].blobs)}
        free = plans.freed_blobs(known, self.found.decided, self.found.present, self.found.state)
        named = {
            blob for one in self.result.deleted for blob in (one.digest, *known.documents[one.digest].blobs) if blob in free
        }
        records = [tag for tag in self.result.records if tag in self.plan.records]
        of_records = plans.freed_of_records(records, self.found.record_blobs)
        return sum(free[blob] for blob in named - held) + sum(of_records.values())


def _mark(store: RecordStore, tag: str) -> None:
    store.mark_pruned(store.read(tag), now())
