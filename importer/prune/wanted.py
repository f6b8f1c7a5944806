"""The rules of prune: what of a mirror is kept, and why. Pure (ADR 0081).

Everything is kept that a kept archive, a cluster, or content of others needs; only what an archive brought is deleted. Rules
that cannot decide keep.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.errors import HubError
from common.oci.image import PREFIX, Digest
from common.oci.reference import Reference
from common.text import counted
from importer.prune.known import ATTACHED_TAG, RELEASES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from importer.prune.known import Known, KnownArchive, OwnImage

    _Place = tuple[str, Digest]  # a repository, and an image there


_STABLE = re.compile(r"hub-sha256-([0-9a-f]{64})", re.ASCII)  # common/mapping.py, stable_tag
_FALLBACK = re.compile(r"sha256-([0-9a-f]{64})", re.ASCII)  # distribution specification 1.1, *Referrers tag schema*


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """What a repository of the mirror has. `tags`: those that lead to a manifest.

    `below`: what manifests name that no archive brought, and `blobs` what these consist of, with their own bytes; `attached`:
    what refers to a manifest, by the registry's own list; `listed`: the referrers in a list under a fallback tag.
    """

    tags: Mapping[str, Digest] = field(default_factory=dict)
    below: Mapping[Digest, tuple[Digest, ...]] = field(default_factory=dict)
    attached: Mapping[Digest, tuple[Digest, ...]] = field(default_factory=dict)
    listed: Mapping[str, tuple[Digest, ...]] = field(default_factory=dict)
    blobs: Mapping[Digest, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Used:
    """What clusters use: digests and names of images, and versions of operators, each with the first place that names it."""

    digests: Mapping[Digest, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """Which archives are kept as a whole: the newest `keep_last` of each group, and those that are named."""

    keep_last: int
    named: frozenset[Digest] = frozenset()


@dataclass(slots=True)
class Decision:
    """What is kept in each repository, with the reason; what is deleted, parents before children.

    `lists`: fallback tags of lists of referrers that are deleted with their subject; `unrecorded`: tags of hub-airgap that no
    record explains.
    """

    kept: dict[str, dict[Digest, str]] = field(default_factory=lambda: defaultdict(dict))
    deleted: dict[str, tuple[Digest, ...]] = field(default_factory=dict)
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unrecorded: tuple[str, ...] = ()
    archives: dict[Digest, str] = field(default_factory=dict)
    """Why an archive, or a group of it, is kept."""

    def keeps(self, repository: str, digest: Digest) -> bool:
        """Say whether a manifest is kept."""
        return digest in self.kept.get(repository, ())


def decide(known: Known, policy: Policy, used: Used, state: Mapping[str, RepositoryState]) -> Decision:
    """Return what is kept and what is deleted of what archives brought."""
    rules = _Rules(known, used, state)
    rules.by_archives(policy)
    rules.by_clusters()
    rules.by_tags()
    rules.follow()
    return rules.result()


class _Rules:
    def __init__(self, known: Known, used: Used, state: Mapping[str, RepositoryState]) -> None:
        self.known, self.used, self.state = known, used, state
        self.decision = Decision()
        self._names = _by_tag(used.names)
        self.images = list(known.images())
        self.explained: defaultdict[tuple[str, str], set[Digest]] = defaultdict(set)  # tags, by any record
        self.brought: defaultdict[tuple[str, str], set[Digest]] = defaultdict(set)  # tags, by one that is trusted
        self.own: defaultdict[str, set[Digest]] = defaultdict(set)  # what a record that is trusted lists
        self.listed: defaultdict[str, set[Digest]] = defaultdict(set)  # what any record lists
        self.referrers: defaultdict[_Place, set[Digest]] = defaultdict(set)  # by their subject, of records that are trusted
        self.there = {(name, digest) for name, one in state.items() for digest in one.tags.values()}  # under any tag
        for archive in known.archives:
            for image in archive.images:
                self.listed[image.repository].update(image.documents)
                for tag in image.tags:
                    self.explained[image.repository, tag].add(image.digest)
                    if archive.trusted:
                        self.brought[image.repository, tag].add(image.digest)
                if archive.trusted:
                    self.own[image.repository].update(image.documents)
                if archive.trusted and image.subject is not None:
                    self.referrers[image.repository, image.subject].add(image.digest)

    def _keep(self, image: OwnImage, why: str) -> None:
        kept = self.decision.kept[image.repository]
        for document in image.documents:
            kept.setdefault(document, why)
        # A tag of a kept image that has another digest by now: who pulls by the tag gets that one.
        tags = self._tags(image.repository)
        for tag in image.tags:
            if (now := tags.get(tag)) is not None and now != image.digest:
                self._keep_digest(image.repository, now, f"has the tag {tag} of an image that is kept")

    def _keep_digest(self, repository: str, digest: Digest, why: str) -> None:
        """Keep a manifest and what is below it, as archives or the registry know it."""
        kept = self.decision.kept[repository]
        waiting = [digest]
        below = self.state[repository].below if repository in self.state else {}
        while waiting:
            one = waiting.pop()
            if one in kept and one != digest:
                continue
            kept.setdefault(one, why)
            named = self.known.documents.get(one)
            waiting += [child for child in (*(named.children if named else ()), *below.get(one, ())) if child not in kept]

    def _tags(self, repository: str) -> Mapping[str, Digest]:
        return self.state[repository].tags if repository in self.state else {}

    # Archives.

    def by_archives(self, policy: Policy) -> None:
        """Keep what the newest archives of each group need, and archives that are named, or whose catalog is served."""
        newest = _newest(self.known.archives, policy.keep_last, self.there)
        served = dict(self._served())
        reasons = self.decision.archives
        for archive in self.known.archives:
            if archive.digest in policy.named:
                reasons[archive.digest] = "named"
                for image in archive.images:
                    self._keep(image, f"archive {_named(archive)} is named")
                continue
            lost = (image for image in archive.images if (image.repository, image.digest) not in self.there)
            lacking = Counter(group for image in lost for group in image.groups)
            for image in archive.images:
                for group in image.groups:
                    if archive.created >= newest.get(group, "") and lacking[group]:
                        reason = f"incomplete: the mirror lacks {counted(lacking[group], 'image')}"
                        why = f"archive {_named(archive)}: {reason} of {group}"
                        reasons[archive.digest] = reason
                    elif archive.created >= newest.get(group, ""):
                        reason = f"among the newest {policy.keep_last}"
                        why = f"archive {_named(archive)}: {reason} of {group}"
                        reasons.setdefault(archive.digest, reason)
                    elif (archive.digest, group) in served:
                        why = f"{group} is served: {served[archive.digest, group]}"
                        reasons.setdefault(archive.digest, why)
                    else:
                        continue
                    self._keep(image, why)
                    break

    def _served(self) -> Iterator[tuple[tuple[Digest, str], str]]:
        """Yield archive and group of each catalog that is served, and where."""
        catalogs = {digest for archive in self.known.archives for digest, _ in archive.catalogs}
        found: dict[Digest, str] = {}
        for image in self.images:
            if image.digest in catalogs and (why := self._used_by(image)) is not None:
                found.setdefault(image.digest, why)
        for archive in self.known.archives:
            for digest, group in archive.catalogs:
                # A tag counts where the archive itself has it: the tag of another one could be deleted in the same run.
                own = (one for one in archive.images if one.digest == digest and group in one.groups)
                why = found.get(digest) or next(filter(None, map(self._tagged, own)), None)
                if why is not None:
                    yield (archive.digest, group), why

    def _tagged(self, image: OwnImage) -> str | None:
        """Return the tag of an image that leads to it now, other than that of its digest; None where none does.

        An archive that was pushed again, to go back to its catalog, has an older date than the one that it replaced.
        """
        now = self._tags(image.repository)
        leading = (tag for tag in image.tags if not _STABLE.fullmatch(tag) and now.get(tag) == image.digest)
        return next((f"the tag {tag} of the mirror leads to it" for tag in leading), None)

    # Clusters.

    def by_clusters(self) -> None:
        """Keep images of which a cluster uses any document, by digest, in every repository; and those that it names by tag.

        And all images of the versions of operators that it has, or is going to install.
        """
        running: dict[Digest, str] = {}  # payloads
        for image in self.images:
            why = self._used_by(image) or self._of_version(image)
            if why is not None:
                self._keep(image, f"used: {why}")
                if image.kind in RELEASES and image.digest in image.releases:
                    running[image.digest] = why
        self._keep_releases(running)

    def _used_by(self, image: OwnImage) -> str | None:
        """Return where a cluster uses an image, by the digest of anything of it, or by a tag that leads to it."""
        # Pods name the index, the manifest of their architecture, or the configuration, as the engine has it.
        for document in image.documents:
            known = self.known.documents.get(document)
            for one in (document, *(known.blobs if known else ())):
                if one in self.used.digests:
                    return self.used.digests[one]
        return self._named_by(image)

    def _of_version(self, image: OwnImage) -> str | None:
        """Return where a cluster has a version of an operator that needs an image; None where it has none."""
        # `neededBy` is `catalog/package/version`. A version that was built again has other images, which are kept as well.
        versions = (user.rpartition("/")[2] for user in image.operators)
        return next((self.used.versions[one] for one in versions if one in self.used.versions), None)

    def _named_by(self, image: OwnImage) -> str | None:
        """Return where a cluster names an image by a tag that leads to it now; None where none does."""
        now = self._tags(image.repository)
        for tag in image.tags:
            if now.get(tag) == image.digest:
                places = self._names.get(tag, {})
                # By the last component of the path: mirrors, prefixes and hosts are not compared.
                why = places.get(_last(image.repository)) or places.get(_last(image.source.partition("@")[0]))
                if why is not None:
                    return why
        return None

    # Content of others.

    def by_tags(self) -> None:
        """Keep what tags lead to that no record explains, and what refers to an own manifest without a record of it."""
        for repository, state in self.state.items():
            for tag, digest in state.tags.items():
                # A record that is not trusted must not make a tag of others look like one of an archive.
                if digest not in self.brought.get((repository, tag), ()) and not self._is_own_list(repository, tag):
                    self._keep_digest(repository, digest, f"has the tag {tag}, which no archive brought")
                    # Harbor deletes signatures and attachments with their image, by tag or list (goharbor/harbor,
                    # src/controller/artifact/controller.go, deleteDeeply); elsewhere they would be left without one.
                    if (subject := subject_of_tag(tag)) is not None:
                        self._keep_digest(repository, subject, f"others have attached something to it: {tag}")
            for subject, attached in state.attached.items():
                if not self.listed[repository].issuperset(attached):
                    self._keep_digest(repository, subject, "others have attached something to it")
            # What no record that counts lists is not ours to delete, and what it names has to stay.
            for digest in self.listed[repository] - self.own[repository]:
                self._keep_digest(repository, digest, "its record is not signed with the key")

    def _is_own_list(self, repository: str, tag: str) -> bool:
        """Say whether a tag is that of a list of referrers which has own ones alone: it follows its subject."""
        state, subject = self.state[repository], subject_of_tag(tag)
        found = state.listed.get(tag)
        # oc-mirror gives images a tag of this form. No archive brings a list, and what it lists is attached to its subject.
        if not found or subject is None or _FALLBACK.fullmatch(tag) is None or state.tags[tag] in self.listed[repository]:
            return False
        return self.referrers[repository, subject].issuperset(found)

    # What follows something that is kept.

    def follow(self) -> None:
        """Keep signatures and attachments of what is kept, components of payloads, and images of which a part is kept."""
        attached = [image for image in self.images if image.subject is not None]
        count = -1
        # Until nothing is added: an attachment may have some of its own, and an image that is kept for a part of it has some.
        while count != (count := sum(map(len, self.decision.kept.values()))):
            self._keep_releases(
                {
                    image.digest: self.decision.kept[image.repository][image.digest]
                    for image in self.images
                    if image.digest in image.releases and self.decision.keeps(image.repository, image.digest)
                }
            )
            self._keep_parents()
            for image in attached:
                assert image.subject is not None
                if self.decision.keeps(image.repository, image.subject):
                    self._keep(image, "belongs to an image that is kept")

    def _keep_releases(self, payloads: Mapping[Digest, str]) -> None:
        for image in self.images if payloads else ():
            for payload in image.releases:
                if payload in payloads:
                    self._keep(image, f"of a release that is kept: {payloads[payload]}")
                    break

    def result(self) -> Decision:
        """Return the decision."""
        heights = self.known.heights()
        found = self.decision
        for repository, own in self.own.items():
            doomed = own - found.kept[repository].keys()
            if doomed:
                # Parents first: registries refuse to delete what an index names (goharbor/harbor, src/controller/artifact;
                # project-zot/zot#2626), and an index without its manifests cannot be pulled.
                found.deleted[repository] = tuple(sorted(doomed, key=lambda one: (-heights.get(one, 0), one)))
        for repository, state in self.state.items():
            lists = tuple(tag for tag in sorted(state.listed) if self._follows(repository, tag))
            if lists:
                found.lists[repository] = lists
        found.unrecorded = tuple(sorted(self._unrecorded()))
        return found

    def _keep_parents(self) -> None:
        """Keep an image of which a manifest stays that has neither a tag nor a parent that stays.

        Harbor deletes such a manifest with its index, and Quay and zot collect it.
        """
        parents: defaultdict[_Place, set[Digest]] = defaultdict(set)
        # An index that was lost holds none of its manifests.
        for image in (one for one in self.images if (one.repository, one.digest) in self.there):
            for digest in image.documents:
                known = self.known.documents.get(digest)
                for child in known.children if known else ():
                    parents[image.repository, child].add(digest)
        changed = True
        while changed:
            changed = False
            for image in self.images:
                kept = self.decision.kept[image.repository]
                if image.digest in kept or kept.keys().isdisjoint(image.documents):
                    continue
                for one in image.documents[:-1]:
                    place = (image.repository, one)
                    if one in kept and place not in self.there and parents[place].isdisjoint(kept):
                        self._keep(image, f"a part of it is kept: {kept[one]}")
                        changed = True
                        break

    def _follows(self, repository: str, tag: str) -> bool:
        deleted = self.decision.deleted.get(repository, ())
        # Two lists may have the same content, and so one digest: it is deleted where nothing needs it.
        own = self._is_own_list(repository, tag) and not self.decision.keeps(repository, self.state[repository].tags[tag])
        return own and subject_of_tag(tag) in deleted

    def _unrecorded(self) -> Iterator[str]:
        """Yield the stable tags of images that no record explains: an archive was pushed whose record is not there."""
        for repository, state in self.state.items():
            for tag, digest in state.tags.items():
                stable = _STABLE.fullmatch(tag)
                if stable and digest == PREFIX + stable[1] and digest not in self.explained.get((repository, tag), ()):
                    yield f"{repository}:{tag}"


def _newest(archives: Sequence[KnownArchive], keep_last: int, there: Collection[_Place]) -> dict[str, str]:
    """Return for each group the time of the oldest archive that is kept of it. Archives of one time are kept together.

    An archive that has nothing of a group which an older one lacks does not count: a re-request brings a few images again, and
    would push out the archive that it repairs. Nor does one of which the mirror lacks an image by now: an older one may be the
    only one that can be installed. `there`: the images that the mirror has.
    """
    found: defaultdict[str, dict[tuple[str, Digest], set[_Place]]] = defaultdict(dict)
    # A record that nobody signed must not push out those that were: its own content is kept anyway.
    for archive in (one for one in archives if one.trusted):
        for image in archive.images:
            for group in image.groups:
                content = found[group].setdefault((archive.created, archive.digest), set())
                content.add((image.repository, image.digest))
    return {group: _oldest_kept(content, keep_last, there) for group, content in found.items()}


def _oldest_kept(content: Mapping[tuple[str, Digest], set[_Place]], keep_last: int, there: Collection[_Place]) -> str:
    """Return the time of the archive with which `keep_last` are reached; `content`: of one group, by time and archive."""
    newest_first = sorted(content, reverse=True)
    count = 0
    for position, one in enumerate(newest_first):
        # Each image has a tag that no other one takes (stable_tag), so what no tag leads to was deleted.
        if content[one].issubset(there) and not any(content[one] <= content[older] for older in newest_first[position + 1 :]):
            count += 1
        if count == keep_last:
            return one[0]
    return newest_first[-1][0]


def _named(archive: KnownArchive) -> str:
    return archive.name or archive.digest.removeprefix(PREFIX)[:12]


def _by_tag(names: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, why in names.items():
        try:
            reference = Reference.parse(name)
        except HubError:
            continue  # no image has such a name
        found[reference.tag or "latest"].setdefault(_last(reference.repository), why)
    return found


def subject_of_tag(tag: str) -> Digest | None:
    """Return the image that a tag is about by its form: a list of referrers, or what cosign attaches; None for other tags."""
    found = _FALLBACK.fullmatch(tag) or ATTACHED_TAG.fullmatch(tag)
    return Digest(PREFIX + found[1]) if found else None


def _last(path: str) -> str:
    return path.rpartition("/")[2].partition(":")[0]


def own_repositories(known: Known) -> list[str]:
    """Return the repositories that archives brought something to, sorted."""
    return sorted({image.repository for image in known.images()})


def users_of(images: Iterable[OwnImage]) -> list[str]:
    """Return the operators that images are for, sorted; the sources of those that no operator needs."""
    return sorted({user for image in images for user in (image.operators or (image.source,))})
