"""Mirror rules: which sources the nodes pull from which mirrors. Pure.

Precedence among the rules of a cluster, the rules that an archive needs, and their merge into existing objects
(docs/reference/cluster.md, *Foreign mirror rules*). `node_configuration.py` has what the nodes get of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from common.archive.inventory import ATTACHED, ImageKind
from common.errors import ClusterError
from importer.cluster.kinds import ICSP, IDMS, ITMS, Resource, has_own_label

if TYPE_CHECKING:
    from importer.mapping import MappedImage


FIELD = {ICSP.name: "repositoryDigestMirrors", IDMS.name: "imageDigestMirrors", ITMS.name: "imageTagMirrors"}
MIRROR_KINDS = (ICSP, IDMS, ITMS)
NEVER = "NeverContactSource"
Body = Mapping[str, Any]
Pair = tuple[str, str]  # source, mirror


class Scope(StrEnum):
    """The part of a reference that a rule names.

    With namespace and registry scope, one rule serves many images, where the mirror's path ends like the source's.
    """

    REPOSITORY = "repository"
    NAMESPACE = "namespace"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True, order=True)
class MirrorRule:
    """`source` and `mirror`: a registry, a namespace or a repository. A rule acts on pulls by digest, or on pulls by tag."""

    source: str
    mirror: str
    by_digest: bool


@dataclass(frozen=True, slots=True)
class RuledImage:
    """An image that nodes pull under its source's name, and the rule that leads them to the mirror."""

    image: MappedImage
    rule: MirrorRule


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of an object: `source`, its mirrors in order, and the `mirrorSourcePolicy` as it is written there."""

    source: str
    mirrors: tuple[str, ...]
    policy: str = ""

    def to_builtins(self) -> dict[str, Any]:
        """Return the rule as an object of its kind has it."""
        body: dict[str, Any] = {"source": self.source, "mirrors": list(self.mirrors)}
        return {**body, "mirrorSourcePolicy": self.policy} if self.policy else body


@dataclass(frozen=True, slots=True)
class Listed:
    """A rule of the cluster. `owned`: in an object of hub-import."""

    rule: Rule
    kind: str
    name: str
    owned: bool

    @property
    def by_tag(self) -> bool:
        """Whether it acts on pulls by tag; else on pulls by digest."""
        return self.kind == ITMS.name


@dataclass(frozen=True, slots=True)
class MergedRules:
    """The objects to `write`, complete; `satisfied`: wanted objects whose rules are all in force elsewhere."""

    write: tuple[Resource, ...]
    satisfied: tuple[Resource, ...]


def listed(body: Mapping[str, Any], *, owned: bool = False) -> list[Listed]:
    """Return the rules of an object, with its kind and name. `owned`: also without the label of hub-import."""
    owned = owned or has_own_label(body)
    return [Listed(rule, body["kind"], str(body["metadata"]["name"]), owned) for rule in rules_of(body)]


def rules_of(body: Mapping[str, Any]) -> list[Rule]:
    """Return the rules of an object of any kind."""
    listed = (body.get("spec") or {}).get(FIELD[body["kind"]]) or []
    return [
        Rule(each.get("source") or "", tuple(each.get("mirrors") or ()), each.get("mirrorSourcePolicy") or "")
        for each in listed
    ]


def refused_sources(rules: Iterable[Listed]) -> dict[str, list[Listed]]:
    """Return the sources, with their rules, for which the machine config operator writes no configuration at all; sorted."""
    by_source: dict[str, list[Listed]] = {}
    for each in rules:
        by_source.setdefault(each.rule.source, []).append(each)
    return {source: found for source, found in sorted(by_source.items()) if _is_refused(found)}


def _is_refused(rules: Sequence[Listed]) -> bool:
    """Return whether the rules of one source have two policies, or forbid the source that they have as a mirror."""
    # machine-config-operator, container-runtime-config/helpers.go, validateRegistriesConfScopes
    never = [each.rule for each in rules if each.rule.policy == NEVER]
    return 0 < len(never) < len(rules) or any(rule.source in rule.mirrors for rule in never)


def _by_tag(kind: str) -> bool:
    """Return whether rules of a kind act on pulls by tag; else they act on pulls by digest."""
    return kind == ITMS.name


# Precedence: the rules that nodes follow.
#
# The machine config operator writes one entry of registries.conf for each source, out of the rules of all kinds that have it.
# Nodes follow only the entry with the longest prefix, of equally long ones the first in the order of their bytes
# (containers/image, pkg/sysregistriesv2). So a rule for a repository takes it away from a rule for its registry, for pulls by
# digest and by tag. Two policies for one source, also in rules without mirrors, stop the operator
# (machine-config-operator, container-runtime-config/helpers.go, validateRegistriesConfScopes); no policy counts as
# AllowContactingSource, and an ImageContentSourcePolicy has none.

_WILDCARD = "*."


class Precedence:
    """The rules of a cluster, and what a further rule would override. Rules without a real mirror redirect no pull."""

    def __init__(self, listed: Sequence[Listed]) -> None:
        self._by_source: dict[str, list[Listed]] = {}
        self._foreign: dict[str, list[Listed]] = {}  # also those without mirrors: their policies count
        self._owned_never = {each.rule.source for each in listed if each.owned and each.rule.policy == NEVER}
        for each in listed:
            if not each.owned:
                self._foreign.setdefault(each.rule.source, []).append(each)
            if set(each.rule.mirrors) - {each.rule.source}:
                self._by_source.setdefault(each.rule.source, []).append(each)
        self._wildcards = sorted((each for each in self._by_source if each.startswith(_WILDCARD)), key=len, reverse=True)

    def shadowed(self, source: str, *, by_tag: bool) -> tuple[str, ...]:
        """Return the mirrors of a broader rule that a rule for `source` would override, each with the rest of the path."""
        # With a foreign rule for just this source, nodes do not follow a broader one now either.
        if any(not each.owned for each in self._by_source.get(source, ())):
            return ()
        broader = self._broader(source)
        rest = _below(broader, source)
        if rest is None or rest.startswith(":"):  # a port after a wildcard cannot follow a mirror with a path
            return ()
        mirrors = (mirror for each in self._by_source.get(broader, ()) if each.by_tag is by_tag for mirror in each.rule.mirrors)
        return tuple(dict.fromkeys(mirror + rest for mirror in mirrors if mirror + rest != source))

    def followed(self, source: str) -> list[Listed]:
        """Return the rules with mirrors that nodes follow for a repository, of pulls by digest and by tag."""
        return self._by_source.get(source) or self._by_source.get(self._broader(source), [])

    def places(self, source: str) -> Iterator[str]:
        """Yield the repositories on mirror registries that nodes try when they pull from the repository `source`."""
        for found in self.followed(source):
            yield from (mirror + (_below(found.rule.source, source) or "") for mirror in found.rule.mirrors)

    def leads(self, source: str, mirror: str) -> bool:
        """Return whether nodes that pull from the repository `source` try `mirror`, its place on a mirror registry."""
        return mirror in self.places(source)

    def policy(self, source: str) -> str:
        """Return the policy that a rule for `source` needs: that of its foreign rules, else that of the broader rule."""
        foreign = self._foreign.get(source)
        if not foreign and source in self._owned_never:
            return NEVER  # an existing policy is not loosened
        deciding = foreign or self._by_source.get(source) or self._by_source.get(self._broader(source), [])
        return NEVER if any(each.rule.policy == NEVER for each in deciding) else ""

    def forbidding(self, source: str) -> str:
        """Return the foreign object that has NeverContactSource for just this source; empty when none has."""
        return next((f"{each.kind} {each.name}" for each in self._foreign.get(source, ()) if each.rule.policy == NEVER), "")

    def _broader(self, source: str) -> str:
        """Return the source of the rules that are followed for `source` without one of its own; empty when there are none."""
        named = next((each for each in _above(source) if each in self._by_source), "")
        wild = next((each for each in self._wildcards if _below(each, source) is not None), "")
        return max(wild, named, key=len)  # the wildcard where both are equally long: * sorts before letters and digits


def _above(source: str) -> Iterator[str]:
    """Yield the namespaces above a repository, and its registry."""
    while "/" in source:
        source = source.rpartition("/")[0]
        yield source


def _below(broader: str, source: str) -> str | None:
    """Return the rest of `source` after a broader one: `/path`, for a wildcard also `:port` or empty; None: not broader."""
    if not broader.startswith(_WILDCARD):
        return source.removeprefix(broader) if broader and source.startswith(f"{broader}/") else None
    name = source.partition("/")[0].partition(":")[0]
    return source.removeprefix(name) if name.endswith(broader[1:]) else None


def covers(scope: str, name: str) -> bool:
    """Return whether a scope (`*.host`, `host[:port]`, a path, an image) covers an image, or a registry's host."""
    # The scopes of signature policies (containers-policy.json(5), *docker:*) match as the sources of mirror rules do, and a
    # repository covers its images by digest.
    return name == scope or name.startswith(f"{scope}@") or _below(scope, name) is not None


# Wanted rules: those that lead each image of an archive to its mirror.

# A CatalogSource names the mirror itself, and runtimes look for signatures where they find the image: neither needs a rule.
_WITHOUT_RULES = frozenset((ImageKind.CATALOG, ImageKind.GRAPH_DATA, *ATTACHED))


def rules_for(images: Sequence[MappedImage], scope: Scope, existing: Collection[MirrorRule] = ()) -> tuple[RuledImage, ...]:
    """Return the images that need a rule, each with one that leads to its mirror, in the order given.

    `existing`: the rules of the cluster. An image that a more specific rule would lead elsewhere gets a rule for its own
    repository in every scope.
    """
    ruled = [RuledImage(image, _rule(image, scope)) for image in images if _needs_rule(image)]
    # Ends: a rule for the image's own repository is the most specific one, so that each round has fewer to change.
    while misdirected := _misdirected(ruled, existing):
        for position in misdirected:
            image = ruled[position].image
            ruled[position] = RuledImage(image, _rule(image, Scope.REPOSITORY))
    return tuple(ruled)


def _needs_rule(image: MappedImage) -> bool:
    unchanged = image.source is not None and image.source.name == image.repository.name
    return image.source is not None and not unchanged and image.record.kind not in _WITHOUT_RULES


def _rule(image: MappedImage, scope: Scope) -> MirrorRule:
    assert image.source is not None
    source, mirror, by_digest = image.source.name, image.repository.name, image.source.digest is not None
    host, _, path = source.partition("/")
    # The places of releases do not depend on their sources: a wider rule would send other repositories astray.
    if scope is Scope.REPOSITORY or image.fixed or not mirror.endswith(f"/{path}"):
        return MirrorRule(source, mirror, by_digest)
    if scope is Scope.REGISTRY:
        return MirrorRule(host, mirror.removesuffix(f"/{path}"), by_digest)
    last = path.rpartition("/")[2]
    return MirrorRule(source.removesuffix(f"/{last}"), mirror.removesuffix(f"/{last}"), by_digest)


def _misdirected(ruled: Sequence[RuledImage], existing: Collection[MirrorRule]) -> list[int]:
    """Return the positions of images whose most specific rules lead elsewhere."""
    by_source: dict[str, set[MirrorRule]] = {}
    for rule in (*(each.rule for each in ruled), *existing):
        by_source.setdefault(rule.source, set()).add(rule)
    return [position for position, each in enumerate(ruled) if each.rule not in _most_specific(each.image, by_source)]


def _most_specific(image: MappedImage, by_source: Mapping[str, set[MirrorRule]]) -> set[MirrorRule]:
    assert image.source is not None
    return next((by_source[source] for source in _scopes(image.source.name) if source in by_source), set())


def _scopes(name: str) -> Iterator[str]:
    """Yield a repository's name and the scopes above it, up to its registry."""
    yield name
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


# Merge: the wanted rules that are not in force yet, in objects of hub-import. A rule is in force when any object sends the same
# source to the same mirrors; every rule that is written again would cost a rollout of all nodes.

# Bytes of JSON. `kubectl apply` keeps a copy in annotations, which are limited to 262144 bytes (also --max-icsp-size of
# `oc adm catalog mirror`, openshift/oc#818). With that copy an object stays below half a MiB; etcd takes requests of 1.5 MiB.
MAX_OBJECT_SIZE = 250_000
_MAX_SPLITS = 100
_MAX_HALVINGS = 6  # of a new series: 64 objects, for some 100,000 rules
_HINT = "Use --mirror-scope registry, which combines many rules into few."


def merge_rules(wanted: Sequence[Resource], live: Sequence[Body]) -> MergedRules:
    """Return what has to be written so that every wanted rule is in force. `live`: all mirror objects of the cluster.

    Objects of hub-import are extended up to MAX_OBJECT_SIZE, then a further one is started (`-2`, …); nothing is removed. The
    objects to write are in the order in which no rule is missing meanwhile. A rule gets the policy of its source, and the
    mirrors of the broader rule that it overrides.
    Raises ClusterError for a policy that the kind cannot express, and for rules that do not fit.
    """
    precedence = Precedence(_listed(wanted, live))
    current = {(body["kind"], str(body["metadata"]["name"])): body for body in live}
    write: dict[tuple[str, str], Resource] = {}
    satisfied = []
    for resource in _completed(wanted, precedence):
        family = [body for body in current.values() if _by_tag(body["kind"]) is _by_tag(resource.kind)]
        own = {name: rules_of(body) for (kind, name), body in current.items() if kind == resource.kind}
        own = {name: rules for name, rules in own.items() if _is_of_series(name, resource.name)}
        fresh = _fresh(resource, [rule for body in family for rule in rules_of(body)], own.values(), precedence)
        placed = _place(resource, fresh, own)
        write.update({(each.kind, each.name): each for each in placed})
        current.update({(each.kind, each.name): each.body for each in placed})
        if not placed:
            satisfied.append(resource)
    return MergedRules(tuple(write.values()), tuple(satisfied))


def series_names(wanted: Sequence[Resource]) -> tuple[str, ...]:
    """Return the names of the objects that the wanted rules may be written into, for permissions by name; sorted.

    One more of each series than the last that the rules fill: existing rules of earlier archives stay in its objects.
    """
    last: dict[str, int] = {resource.name: 0 for resource in wanted}
    for each in merge_rules(wanted, []).write:
        first = each.name if each.name in last else next(name for name in last if _is_of_series(each.name, name))
        last[first] = max(last[first], _series(first).index(each.name))
    return tuple(sorted({name for first, number in last.items() for name in _series(first)[: number + 2]}))


@cache
def _series(first: str) -> tuple[str, ...]:
    return (first, *(f"{first}-{number}" for number in range(2, _MAX_SPLITS + 1)))


def _is_of_series(name: str, first: str) -> bool:
    # Not any number: `hub-index-418` may be the object of another catalog, which is called index-418.
    return name in _series(first)


def _listed(wanted: Sequence[Resource], live: Sequence[Body]) -> list[Listed]:
    """Return the existing rules, without the mirrors of owned ones that are wanted now."""
    names = {resource.name for resource in wanted}
    asked = {
        (_by_tag(resource.kind), rule.source, mirror)
        for resource in wanted
        for rule in rules_of(resource.body)
        for mirror in rule.mirrors
    }
    found = []
    for body in live:
        metadata = body["metadata"]
        owned = any(_is_of_series(metadata["name"], name) for name in names)
        for each in listed(body, owned=owned):
            mirrors = each.rule.mirrors
            # Wanted rules do not override each other: otherwise a second apply would add mirrors, and roll the nodes.
            kept = tuple(mirror for mirror in mirrors if not each.owned or (each.by_tag, each.rule.source, mirror) not in asked)
            found.append(replace(each, rule=replace(each.rule, mirrors=kept)))
    return found


def _completed(wanted: Sequence[Resource], precedence: Precedence) -> list[Resource]:
    """Return the wanted objects, each rule with the mirrors of the broader rule that it overrides."""
    completed: dict[tuple[str, str], Resource] = {}
    named = {(_by_tag(each.kind), rule.source) for each in wanted for rule in rules_of(each.body)}
    for resource in wanted:
        rules, other = [], []
        by_tag = _by_tag(resource.kind)
        for rule in rules_of(resource.body):
            kept = precedence.shadowed(rule.source, by_tag=by_tag)
            rules.append(Rule(rule.source, tuple(dict.fromkeys((*rule.mirrors, *kept))), rule.policy))
            mirrors = precedence.shadowed(rule.source, by_tag=not by_tag)
            # A rule for pulls by digest also overrides the broader rule for pulls by tag, and the reverse: those pulls get a
            # rule for the same source, with the broader one's mirrors alone.
            if mirrors and (not by_tag, rule.source) not in named:
                named.add((not by_tag, rule.source))
                other.append(Rule(rule.source, mirrors))
        _add(completed, resource, rules)
        if other:
            _add(completed, _of_kind(resource, IDMS.name if by_tag else ITMS.name), other)
    return list(completed.values())


def _add(objects: dict[tuple[str, str], Resource], resource: Resource, rules: Sequence[Rule]) -> None:
    before = objects.get((resource.kind, resource.name))
    existing = rules_of(before.body) if before else []
    objects[resource.kind, resource.name] = _with_rules(resource, resource.name, [*existing, *rules])


def _of_kind(resource: Resource, kind: str) -> Resource:
    """Return an object of another kind with the same name and without rules."""
    api_version = next(each.api_version for each in MIRROR_KINDS if each.name == kind)
    body = {**resource.body, "apiVersion": api_version, "kind": kind, "spec": {}}
    return Resource(api_version, kind, resource.name, "", body)


def _fresh(resource: Resource, existing: Sequence[Rule], own: Collection[Sequence[Rule]], precedence: Precedence) -> list[Rule]:
    """Return the rules that are not in force, each with the policy that its source needs."""
    mirrors: dict[str, set[str]] = {}
    for rule in existing:
        mirrors.setdefault(rule.source, set()).update(rule.mirrors)
    policies = {rule.source: rule.policy for rule in chain.from_iterable(own)}
    found = []
    for rule in rules_of(resource.body):
        policy = _policy(resource, rule.source, precedence)
        agrees = (policies.get(rule.source, policy) == NEVER) is (policy == NEVER)
        if not agrees or not set(rule.mirrors) <= mirrors.get(rule.source, set()):
            found.append(Rule(rule.source, rule.mirrors, policy))
    return found


def _policy(resource: Resource, source: str, precedence: Precedence) -> str:
    """Return the policy for a source. Raises ClusterError where the kind has no policies and the source needs one."""
    if resource.kind != ICSP.name:
        return precedence.policy(source)
    if conflicting := precedence.forbidding(source):
        raise ClusterError(
            f"{conflicting} has {NEVER} for {source}, which an {ICSP.name} cannot have: two policies of a source stop rollouts",
            hint="Bring all rules into ImageDigestMirrorSets first (oc adm migrate icsp), or remove the policy from it.",
        )
    return ""


def _place(resource: Resource, fresh: Sequence[Rule], own: Mapping[str, Sequence[Rule]]) -> list[Resource]:
    """Return the changed objects of a series; without fresh rules its first object, when it exists."""
    if not own and (dealt := _dealt(resource, fresh)):
        return dealt
    series = _Series(resource, own)
    if not fresh:
        return series.first()
    series.add([rule for rule in fresh if not series.changed(rule)])
    return series.touched()


def _dealt(resource: Resource, rules: Sequence[Rule]) -> list[Resource]:
    """Return the objects of a new series; none where they would be too many.

    The digest of its source decides which object a rule is in, and a full object is halved: objects that are made again from
    other rules, as `render` makes them, differ in the one that a rule was added to or taken from, and in its new half.
    """
    names = _series(resource.name)
    sized = [(rule, _size(rule.to_builtins()) + len(", "), _spread(rule.source)) for rule in rules]
    pending, found = [(0, 1, sized)], {}
    while pending:
        number, bit, part = pending.pop()
        if sum(size for _, size, _ in part) + _size(_with_rules(resource, names[number], ()).body) <= MAX_OBJECT_SIZE:
            found[number] = _with_rules(resource, names[number], [rule for rule, _, _ in part])
        elif bit == 1 << _MAX_HALVINGS:
            return []
        else:
            pending.append((number, bit << 1, [each for each in part if not each[2] & bit]))
            pending.append((number + bit, bit << 1, [each for each in part if each[2] & bit]))
    return [found[number] for number in sorted(found) if rules_of(found[number].body)]


def _spread(source: str) -> int:
    return hashlib.sha256(source.encode()).digest()[0]


class _Series:
    """The objects of one name, NAME, NAME-2 and so on, each below MAX_OBJECT_SIZE."""

    def __init__(self, resource: Resource, own: Mapping[str, Sequence[Rule]]) -> None:
        self._resource = resource
        self._names = _series(resource.name)
        self._rules = {name: {rule.source: rule for rule in rules} for name, rules in own.items()}
        self._holder = {source: name for name, rules in reversed(self._rules.items()) for source in rules}
        self._room: dict[str, int] = {}
        self._touched: set[str] = set()
        self._moved = False

    def first(self) -> list[Resource]:
        """Return the first object, unchanged, when it exists."""
        return [self._object(self._resource.name)] if self._resource.name in self._rules else []

    def touched(self) -> list[Resource]:
        """Return the changed objects, those that got a rule of another one before that."""
        names = self._names[::-1] if self._moved else self._names
        return [self._object(name) for name in names if name in self._touched]

    def changed(self, rule: Rule) -> bool:
        """Change the rule for a source that one of the objects has already; return whether one has it.

        Where it has no room, the rule moves to a later object: two policies of a source would stop all rollouts.
        """
        name = self._holder.get(rule.source, "")
        if not name:
            return False
        old = self._rules[name][rule.source]
        # The new mirrors first: the archive was pushed to them just now, while the old ones may be out of date.
        united = Rule(rule.source, tuple(dict.fromkeys((*rule.mirrors, *old.mirrors))), rule.policy)
        if not self._put(name, united, _size(united.to_builtins()) - _size(old.to_builtins())):
            del self._rules[name][rule.source]
            self._room[name] += _size(old.to_builtins()) + len(", ")
            self._touched.add(name)
            self._moved = True
            self._put_first(united, self._names[self._names.index(name) + 1 :])
        return True

    def add(self, rules: Sequence[Rule]) -> None:
        """Put each rule into the first object with room. Raises ClusterError."""
        names: Sequence[str] = self._names
        for rule in rules:
            names = self._put_first(rule, names)

    def _put_first(self, rule: Rule, names: Sequence[str]) -> Sequence[str]:
        """Put a rule into the first of these objects with room; return that one and those after it. Raises ClusterError."""
        size = _size(rule.to_builtins()) + len(", ")
        for position, name in enumerate(names):
            if self._put(name, rule, size):
                return names[position:]
            if not self._rules.get(name):
                message = f"{self._resource.kind} {name}: one mirror rule alone is larger than {MAX_OBJECT_SIZE} bytes"
                raise ClusterError(message, hint=_HINT)
        message = f"{self._resource.kind} {self._resource.name}: more than {_MAX_SPLITS} objects of mirror rules"
        raise ClusterError(message, hint=_HINT)

    def _put(self, name: str, rule: Rule, growth: int) -> bool:
        if name not in self._room:
            self._room[name] = MAX_OBJECT_SIZE - _size(self._object(name).body)
        if growth > self._room[name]:
            return False
        self._room[name] -= growth
        self._rules.setdefault(name, {})[rule.source] = rule
        self._touched.add(name)
        return True

    def _object(self, name: str) -> Resource:
        return _with_rules(self._resource, name, self._rules.get(name, {}).values())


def _with_rules(resource: Resource, name: str, rules: Iterable[Rule]) -> Resource:
    spec = {**resource.body["spec"], FIELD[resource.kind]: [rule.to_builtins() for rule in rules]}
    body = {**resource.body, "metadata": {**resource.body["metadata"], "name": name}, "spec": spec}
    return Resource(resource.api_version, resource.kind, name, "", body)


def _size(document: Body) -> int:
    return len(json.dumps(document))
