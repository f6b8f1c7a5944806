"""Random histories of imports, installations and content of others: no digest that anything needs is deleted (ADR 0081).

The model is written from what pulls do, not from our rules: whoever needs an image pulls an index, then its manifests, then their
blobs. The registry is the worst of all: it deletes what an index alone named together with it, as Harbor does, and collects
manifests without tag and parent, as Quay and zot do.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

import pytest

from common.archive.inventory import ImageKind
from common.oci.image import Digest
from importer.prune.known import Known, KnownArchive, KnownDocument, OwnImage
from importer.prune.plan import freed_blobs, needless_records
from importer.prune.wanted import Policy, RepositoryState, Used, decide
from tests.samples import more

REPOSITORIES = ("ocp/a/app", "ocp/b/tool", "ocp/index")
GROUPS = ("catalog ocp/index:v4.18", "catalog ocp/index:v4.20", "image quay.io/x/app")


def digest(kind, number):
    return Digest("sha256:" + f"{kind}{number:x}".encode().hex().rjust(64, "0"))


@dataclass
class World:
    """A mirror, what archives brought, and what uses it."""

    random: random.Random
    losing: bool = False  # whether parts of archives are lost
    documents: dict = field(default_factory=dict)
    blobs: dict = field(default_factory=dict)
    archives: list = field(default_factory=list)
    tags: dict = field(default_factory=lambda: {name: {} for name in REPOSITORIES})
    stored: dict = field(default_factory=lambda: {name: set() for name in REPOSITORIES})
    foreign: dict = field(default_factory=dict)  # documents of others: what they name
    referrers: dict = field(default_factory=lambda: {name: {} for name in REPOSITORIES})  # subject: what others attached
    used: dict = field(default_factory=dict)
    names: dict = field(default_factory=dict)

    def below(self, one):
        """Every manifest that a pull of one needs."""
        found, waiting = set(), [one]
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                known = self.documents.get(each)
                waiting += known.children if known else self.foreign.get(each, ())
        return found

    def make_documents(self):
        chance = self.random
        for number in range(8):
            blobs = tuple(digest("b", chance.randrange(12)) for _ in range(chance.randint(1, 3)))
            self.blobs |= dict.fromkeys(blobs, 100)
            self.documents[digest("m", number)] = KnownDocument(7, (), blobs)
        for number in range(5):
            children = tuple({digest("m", chance.randrange(8)) for _ in range(chance.randint(1, 3))})
            self.documents[digest("i", number)] = KnownDocument(9, children, ())
        nested = tuple({digest("i", chance.randrange(5)), digest("m", chance.randrange(8))})
        self.documents[digest("n", 0)] = KnownDocument(11, nested, ())

    def brought(self, archive, number):
        """Return a random image of an archive, pushed."""
        chance = self.random
        root, repository = chance.choice(list(self.documents)), chance.choice(REPOSITORIES)
        group = chance.choice(GROUPS)
        tag = chance.choice(["v1", "v2", "v4.18"])
        tags = (tag, f"hub-sha256-{root.removeprefix('sha256:')}")
        order = sorted(self.below(root), key=lambda one: (len(self.below(one)), one))
        kind = ImageKind.CATALOG if repository == "ocp/index" else ImageKind.RELATED
        made = OwnImage(archive, repository, f"quay.io/{repository}:{tag}", root, tags, tuple(order), kind, (), (group,))
        self.stored[repository].update(order)
        self.tags[repository] |= dict.fromkeys(tags, root)
        return made

    def attached(self, archive, image):
        """Return a signature of an image, pushed."""
        root, tag = digest("m", self.random.randrange(8)), f"sha256-{image.digest.removeprefix('sha256:')}.sig"
        self.stored[image.repository].add(root)
        self.tags[image.repository][tag] = root
        stable = f"hub-sha256-{root.removeprefix('sha256:')}"
        self.tags[image.repository][stable] = root
        subject = image.digest
        return OwnImage(
            archive, image.repository, f"{image.source}.sig", root, (tag, stable), (root,), ImageKind.SIGNATURE, subject=subject
        )

    def import_archive(self, number):
        archive = digest("a", number)
        images = [self.brought(archive, each) for each in range(self.random.randint(1, 5))]
        if self.random.random() < 0.4:
            images.append(self.attached(archive, self.random.choice(images)))
        catalogs = tuple((each.digest, each.groups[0]) for each in images if each.kind is ImageKind.CATALOG)
        created = f"2026-01-{min(number, 27) + self.random.randint(1, 2):02}"
        self.archives.append(KnownArchive(archive, created, tuple(images), catalogs=catalogs))

    def others(self):
        """Let others tag, index and attach something."""
        chance = self.random
        repository = chance.choice(REPOSITORIES)
        if not self.stored[repository]:
            return
        one = chance.choice(sorted(self.stored[repository]))
        match chance.randrange(6 if self.losing else 5):
            case 0:
                self.tags[repository]["theirs"] = one
            case 1:
                index = digest("x", chance.randrange(99))
                self.foreign[index] = (one,)
                self.stored[repository].add(index)
                self.tags[repository]["their-index"] = index
            case 2:
                attached = digest("y", chance.randrange(99))
                self.foreign[attached] = ()
                self.stored[repository].add(attached)
                self.referrers[repository].setdefault(one, []).append(attached)
            case 3:
                self.tags[repository]["v1"] = one  # a tag of ours, moved
            case 4:
                # As oc-mirror names images by the digest of their source.
                self.tags[repository][f"sha256-{chance.choice(sorted(self.stored[repository]))[7:]}"] = one
            case 5:
                self.delete(repository, one)  # a part of an archive is lost

    def install(self):
        chance = self.random
        repository = chance.choice(REPOSITORIES)
        if not self.stored[repository]:
            return
        if chance.random() < 0.7:
            self.used[chance.choice(sorted(self.stored[repository]))] = "Pod"
        elif self.tags[repository]:
            tag = chance.choice(sorted(self.tags[repository]))
            self.names[f"registry.example/else/{repository.rpartition('/')[2]}:{tag}"] = "Deployment"

    @property
    def known(self):
        return Known("registry.example", list(self.archives), dict(self.documents), dict(self.blobs))

    @property
    def state(self):
        return {
            name: RepositoryState(
                dict(self.tags[name]),
                {one: named for one, named in self.foreign.items() if one in self.stored[name]},
                {one: tuple(each) for one, each in self.referrers[name].items()},
                {tag: self.documents[one].children for tag, one in self.tags[name].items() if self.is_listing(tag, one)},
            )
            for name in REPOSITORIES
        }

    def is_listing(self, tag, one):
        """Say whether a tag has the form of a list of referrers, and leads to an index."""
        return re.fullmatch("sha256-[0-9a-f]{64}", tag) and one in self.documents and self.documents[one].children

    # The model.

    def needed(self, policy):
        """Return repository and digest of everything that somebody pulls, be it there or lost."""
        found = set()
        newest = {}
        for group in GROUPS:
            editions, seen = {}, []
            for a in sorted(self.archives, key=lambda one: (one.created, one.digest)):
                has = frozenset((i.repository, i.digest) for i in a.images if group in i.groups)
                # One that brings nothing that an earlier one lacks is no edition of its own: it repairs that one.
                # Nor is one of which an image was lost, with its tags.
                whole = all(one in self.tags[name].values() for name, one in has)
                if has and whole and not any(has <= each for each in seen):
                    editions[a.created, a.digest] = has
                seen.append(has)
            newest[group] = sorted(editions)[-policy.keep_last][0] if len(editions) >= policy.keep_last else ""
        for archive in self.archives:
            for image in archive.images:
                recent = any(archive.created >= newest[group] for group in image.groups)
                served = any(
                    group in image.groups and (self.is_used(root) or self.is_tagged(archive, root, group))
                    for root, group in archive.catalogs
                )
                if archive.digest in policy.named or recent or served:
                    found |= {(image.repository, one) for one in self.below(image.digest)} | self.pulled_by_tag(image)
                elif not self.used.keys().isdisjoint(image.documents):
                    found |= self.pulled_by_tag(image)
        for name in REPOSITORIES:
            for tag, root in self.tags[name].items():
                explained = any(
                    (i.repository, i.digest) == (name, root) and tag in i.tags for a in self.archives for i in a.images
                )
                path = f"registry.example/else/{name.rpartition('/')[2]}:{tag}"
                if not explained or path in self.names:
                    found |= {(name, one) for one in self.below(root)}
                if re.fullmatch("sha256-[0-9a-f]{64}", tag):  # what is attached to an image goes with it on Harbor
                    found |= {(name, one) for one in self.below(Digest(f"sha256:{tag[7:]}"))}
            for subject in self.referrers[name]:
                found |= {(name, one) for one in self.below(subject)}
            for one in self.used:
                if one in self.stored[name]:
                    found |= {(name, each) for each in self.below(one)}
        count = -1
        while count != (count := len(found)):
            for archive in self.archives:
                for image in archive.images:
                    if image.subject is not None and (image.repository, image.subject) in found:
                        found |= {(image.repository, one) for one in self.below(image.digest)}
                        found |= self.pulled_by_tag(image)
        return found

    def pulled_by_tag(self, image):
        """Return what a pull by a tag of an image gets, which may be another image by now."""
        tags = self.tags[image.repository]
        roots = [tags[tag] for tag in image.tags if tag in tags]
        return {(image.repository, one) for root in roots for one in self.below(root)}

    def is_used(self, root):
        """Say whether a cluster serves a catalog: a pod has any manifest of it, or an object has a tag that leads to it."""
        if not self.used.keys().isdisjoint(self.below(root)):
            return True
        for name in REPOSITORIES:
            for tag, target in self.tags[name].items():
                own = any((i.repository, i.digest) == (name, root) and tag in i.tags for a in self.archives for i in a.images)
                if target == root and own and f"registry.example/else/{name.rpartition('/')[2]}:{tag}" in self.names:
                    return True
        return False

    def is_tagged(self, archive, root, group):
        """Say whether a tag that an archive gave to its catalog leads to it: who pulls by the tag gets that catalog."""
        for image in archive.images:
            places = [self.tags[image.repository].get(tag) for tag in image.tags if not tag.startswith("hub-")]
            if image.digest == root and group in image.groups and root in places:
                return True
        return False

    # The worst registry.

    def delete(self, name, one):
        self.stored[name].discard(one)
        self.tags[name] = {tag: root for tag, root in self.tags[name].items() if root != one}
        changed = True
        while changed:
            parents = {c for each in self.stored[name] for c in self.below(each) - {each}}
            keep = {*self.tags[name].values(), *parents, *(y for ys in self.referrers[name].values() for y in ys)}
            lost = {each for each in self.stored[name] if each not in keep}
            self.stored[name] -= lost
            changed = bool(lost)


def world(seed, *, losing=False):
    chance = random.Random(seed)
    made = World(chance, losing)
    made.make_documents()
    number = 0
    for _ in range(chance.randint(3, 14)):
        step = chance.random()
        if step < 0.6:
            made.import_archive(number)
            number += 1
        elif step < 0.8:
            made.install()
        else:
            made.others()
    return made


def policy_of(made, seed):
    named = frozenset(each.digest for each in made.archives if random.Random(seed).random() < 0.2)
    return Policy(1 + seed % 3, named)


@pytest.mark.parametrize("first", [0, *more(range(1, 20))])
def test_nothing_that_is_needed_is_deleted(first):
    deleted = 0
    for seed in range(first * 300, first * 300 + 300):
        made = world(seed, losing=seed % 2 == 1)
        policy = policy_of(made, seed)
        decision = decide(made.known, policy, Used(dict(made.used), dict(made.names)), made.state)
        needed = {one for one in made.needed(policy) if one[1] in made.stored[one[0]]}
        for name, digests in decision.deleted.items():
            for one in digests:
                made.delete(name, one)
                deleted += 1
                lost = {each for each in needed if each[1] not in made.stored[each[0]]}
                assert not lost, f"seed {seed}: {one} of {name} took {lost}"
    assert deleted > 300, "there is something to delete"


@pytest.mark.parametrize("first", [0, *more(range(1, 20))])
def test_what_nothing_needs_is_deleted(first):
    """All that stays is needed, is below or above what is needed, or has a reason that the plan names."""
    for seed in range(first * 300, first * 300 + 300):
        made = world(seed, losing=seed % 2 == 1)
        policy = policy_of(made, seed)
        decision = decide(made.known, policy, Used(dict(made.used), dict(made.names)), made.state)
        needed = made.needed(policy)
        own = {(i.repository, one) for a in made.archives for i in a.images for one in i.documents}
        doomed = {(name, one) for name, digests in decision.deleted.items() for one in digests}
        there = {(name, one) for name, one in own if one in made.stored[name]}  # all but what was lost
        for name, one in there - doomed - needed:
            family = {each for each in made.stored[name] if one in made.below(each) or each in made.below(one)}
            near = {each for a in made.archives for i in a.images for each in i.documents if set(i.documents) & {*family, one}}
            # An image of which a part is needed is kept as a whole, and what its tags lead to by now.
            moved = "image that is kept" in decision.kept[name][one]
            assert moved or any((name, each) in needed for each in near | family), f"seed {seed}: {one} of {name} stays"


@pytest.mark.parametrize("first", [0, *more(range(1, 10))])
def test_interrupted_anywhere_and_run_again_it_ends_the_same(first):
    for seed in range(first * 60, first * 60 + 60):
        made = world(seed, losing=seed % 2 == 1)
        policy = policy_of(made, seed)
        used = Used(dict(made.used), dict(made.names))
        whole = decide(made.known, policy, used, made.state)
        steps = [(name, one) for name, digests in whole.deleted.items() for one in digests]
        for cut in range(0, len(steps) + 1, 1 + len(steps) // 4):
            again = world(seed, losing=seed % 2 == 1)
            for name, one in steps[:cut]:
                again.stored[name].discard(one)
                again.tags[name] = {tag: root for tag, root in again.tags[name].items() if root != one}
            second = decide(again.known, policy, used, again.state)
            assert {name: set(found) for name, found in second.deleted.items()} == {
                name: set(found) for name, found in whole.deleted.items()
            }, f"seed {seed}, after {cut} of {len(steps)}"


def test_freed_bytes_are_those_that_no_manifest_names_any_more():
    for seed in range(200):
        made = world(seed)
        decision = decide(made.known, policy_of(made, seed), Used(dict(made.used), dict(made.names)), made.state)
        present = {name: [one for one in found if one in made.stored[name]] for name, found in decision.deleted.items()}
        free = freed_blobs(made.known, decision, present, made.state)
        gone = {(name, one) for name, found in present.items() for one in found}
        staying = {one for name in REPOSITORIES for one in made.stored[name] if (name, one) not in gone}
        named = {blob for one in staying if one in made.documents for blob in made.documents[one].blobs} | staying
        lost = {blob for _, one in gone for blob in (one, *made.documents[one].blobs)}
        assert set(free) == lost - named, f"seed {seed}"


def test_a_record_goes_when_others_explain_all_that_stays():
    for seed in range(200):
        made = world(seed)
        known = made.known
        decision = decide(known, policy_of(made, seed), Used(dict(made.used), dict(made.names)), made.state)
        removed = needless_records(known, decision, {each.digest: [each.digest] for each in known.archives})
        left = [each for each in known.archives if each.digest not in removed]
        explained = {(i.repository, one) for a in left for i in a.images for one in i.documents}
        own = {(i.repository, one) for a in known.archives for i in a.images for one in i.documents}
        assert {one for one in own if decision.keeps(*one)} <= explained, f"seed {seed}"
