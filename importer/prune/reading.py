"""What a mirror has: tags, manifests that no archive brought, and what is attached to them. Reads only."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.errors import ContentError, NotFoundError, RegistryError
from common.interruption import workers
from common.oci.image import MAX_DOCUMENTS, Digest, Document, Index, Manifest
from common.oci.reference import Reference
from common.progress import step
from common.text import counted
from importer.prune.wanted import RepositoryState, own_repositories

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from concurrent.futures import ThreadPoolExecutor

    from common.progress import Progress
    from common.registry.client import RegistryClient
    from importer.prune.known import Known


_FALLBACK = re.compile(r"sha256-[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class MirrorReader:
    """Reads repositories of one registry. What may not be read is an error: nothing is known to be needless then."""

    client: RegistryClient
    host: str
    jobs: int
    progress: Progress

    def read(self, known: Known) -> dict[str, RepositoryState]:
        """Return the state of every repository that archives brought something to. Raises RegistryError, ContentError."""
        names = own_repositories(known)
        explained: dict[str, dict[str, set[Digest]]] = {}
        for image in (one for archive in known.archives if archive.trusted for one in archive.images):
            for tag in image.tags:
                explained.setdefault(image.repository, {}).setdefault(tag, set()).add(image.digest)
        what = f"reading {counted(len(names), 'repository', 'repositories')} of the mirror"
        with step(self.progress, what, len(names), "repositories"), workers(self.jobs, "prune") as pool:
            return {name: self.repository(name, explained.get(name, {}), pool) for name in names}

    def repository(self, name: str, explained: Mapping[str, Collection[Digest]], pool: ThreadPoolExecutor) -> RepositoryState:
        """Return the state of one repository; that of one that does not exist is empty."""
        tags = self.tags(name, pool)
        below: dict[Digest, tuple[Digest, ...]] = {}
        listed: dict[str, tuple[Digest, ...]] = {}
        blobs: dict[Digest, int] = {}
        foreign = {tag: digest for tag, digest in tags.items() if digest not in explained.get(tag, ())}
        for tag, document in zip(foreign, pool.map(lambda one: self._document(name, one), foreign.values()), strict=True):
            if document is None:  # deleted since
                continue
            if isinstance(document, Index) and _FALLBACK.fullmatch(tag):
                listed[tag] = tuple(child.digest for child in document.manifests)
            self._note(name, document, below, blobs)
        self.progress.advance(1)
        return RepositoryState(tags, below, {}, listed, blobs)

    def tags(self, name: str, pool: ThreadPoolExecutor) -> dict[str, Digest]:
        """Return the tags of a repository that lead to a manifest."""
        place = Reference(self.host, name)
        try:
            listed = list(self.client.tags(place))
        except NotFoundError:
            return {}
        # docker-registry before 2.7 lists tags whose manifest was deleted: those lead nowhere.
        found = pool.map(lambda tag: self.client.head(Reference(self.host, name, tag)), listed)
        return {tag: one.digest for tag, one in zip(listed, found, strict=True) if one is not None}

    def _document(self, name: str, digest: Digest) -> Document | None:
        try:
            return self.client.document(Reference(self.host, name).pinned(digest))
        except NotFoundError:
            return None

    def _note(self, name: str, root: Document, below: dict[Digest, tuple[Digest, ...]], blobs: dict[Digest, int]) -> None:
        """Note what a manifest of others consists of, down to its blobs. Raises ContentError past MAX_DOCUMENTS."""
        waiting, seen = [root], {root.digest}
        while waiting:
            one = waiting.pop()
            blobs[one.digest] = len(one.raw)
            # What is attached needs the image that it is attached to.
            named = [one.subject.digest] if one.subject is not None else []
            if isinstance(one, Manifest):
                blobs.update((blob.digest, blob.size) for blob in one.blobs)
            else:
                named += [child.digest for child in one.manifests]
            below[one.digest] = tuple(named)
            seen.update(fresh := [digest for digest in dict.fromkeys(named) if digest not in seen])
            if len(seen) > MAX_DOCUMENTS:
                raise ContentError(f"{name}: more than {MAX_DOCUMENTS} manifests below {root.digest}")
            # A sparse index lists manifests that are not there.
            waiting += [found for found in (self._document(name, digest) for digest in fresh) if found is not None]

    def present(self, doomed: Mapping[str, Iterable[Digest]]) -> dict[str, tuple[Digest, ...]]:
        """Return those of manifests that are there, in their order."""
        asked = [(name, digest) for name, digests in doomed.items() for digest in digests]
        found: dict[str, list[Digest]] = {}
        named = f"asking for {counted(len(asked), 'manifest')}"
        with step(self.progress, named, len(asked), "manifests"), workers(self.jobs, "prune") as pool:
            answers = pool.map(lambda one: self.client.head(Reference(self.host, one[0]).pinned(one[1])), asked)
            for (name, digest), answer in zip(asked, answers, strict=True):
                self.progress.advance(1)
                if answer is not None:
                    found.setdefault(name, []).append(digest)
        return {name: tuple(digests) for name, digests in found.items()}

    def require_listed(
        self, known: Known, state: Mapping[str, RepositoryState], doomed: Mapping[str, Collection[Digest]]
    ) -> None:
        """Raise RegistryError where a tag of an image that would be deleted is there, and no list of tags has it."""
        # What others have tagged is not known then: 404 is also the answer to an account that may not list.
        unlisted = {
            (image.repository, tag)
            for image in known.images()
            if image.digest in doomed.get(image.repository, ())
            for tag in image.tags
            if tag not in state[image.repository].tags
        }
        with workers(self.jobs, "prune") as pool:
            answers = pool.map(lambda one: self.client.head(Reference(self.host, *one)), places := sorted(unlisted))
            for (name, tag), answer in zip(places, answers, strict=True):
                if answer is not None:
                    raise RegistryError(
                        f"{self.host}/{name}: the registry's list of tags lacks {tag}, which is there",
                        hint="Tags of others may be missing, too. Let the account list tags, or run the command again.",
                    )

    def with_attached(
        self, state: Mapping[str, RepositoryState], doomed: Mapping[str, Iterable[Digest]]
    ) -> dict[str, RepositoryState]:
        """Return the state with what refers to manifests that would be deleted, by the registry's own lists."""
        found = dict(state)
        with workers(self.jobs, "prune") as pool:
            for name, digests in doomed.items():
                asked = list(digests)
                answers = pool.map(lambda one, name=name: self._referrers(name, one), asked)
                attached = {one: answer for one, answer in zip(asked, answers, strict=True) if answer}
                found[name] = replace(found.get(name, RepositoryState()), attached=attached)
        return found

    def _referrers(self, name: str, digest: Digest) -> tuple[Digest, ...]:
        subject = Reference(self.host, name).pinned(digest)
        try:
            if not self.client.has_referrers_api(subject):
                return ()
            return tuple(one.digest for one in self.client.referrers(subject))
        except NotFoundError:
            return ()
