"""Wanted mirror rules against those that the cluster has: only what is not in force is added, nothing is taken away. Pure.

A rule is in force when any object of the cluster, ours or not, sends the same source to the same mirrors; every rule written
again would cost a rollout of all nodes (docs/cluster.md, *Foreign mirror rules*). A rule that is more specific than existing
ones lists their mirrors after its own: nodes follow the most specific rule alone (`mirror_precedence.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from common.errors import ClusterError
from importer.cluster.kinds import ICSP, IDMS, ITMS
from importer.cluster.mirror_precedence import FIELD, NEVER, Listed, Precedence, Rule, listed, rules_of
from importer.cluster.resource import OWN_LABELS, Resource

MIRROR_KINDS = (ICSP, IDMS, ITMS)
MAX_OBJECT_SIZE = 250_000  # bytes of JSON: `kubectl apply` keeps a copy in annotations, which end at 262144
_HINT = "Say --mirror-scope registry, which makes few rules of many."
_MAX_SPLITS = 100
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MergedRules:
    """`write`: objects as they shall be. `satisfied`: wanted objects whose rules are all in force elsewhere."""

    write: tuple[Resource, ...]
    satisfied: tuple[Resource, ...]


def merge_rules(wanted: Sequence[Resource], live: Sequence[Body]) -> MergedRules:
    """Return what has to be written so that every wanted rule is in force. `live`: all mirror objects of the cluster.

    Objects of hub-import are extended up to MAX_OBJECT_SIZE, then a further one begins (`-2`, …). A rule has the policy that
    its source has in any object, and the mirrors of a broader rule that it shadows.
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


def _by_tag(kind: str) -> bool:
    """Say whether rules of a kind act on pulls by tag; else they act on pulls by digest."""
    return kind == ITMS.name


def _is_of_series(name: str, first: str) -> bool:
    return name == first or re.fullmatch(rf"{re.escape(first)}-\d+", name) is not None


def _listed(wanted: Sequence[Resource], live: Sequence[Body]) -> list[Listed]:
    """Return the existing rules, without those that are wanted now: a wanted rule overrides no other wanted one."""
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
        owned = OWN_LABELS.items() <= (metadata.get("labels") or {}).items()
        owned = owned or any(_is_of_series(metadata["name"], name) for name in names)
        for each in listed(body, owned=owned):
            mirrors = each.rule.mirrors
            kept = tuple(mirror for mirror in mirrors if not owned or (each.by_tag, each.rule.source, mirror) not in asked)
            found.append(replace(each, rule=replace(each.rule, mirrors=kept)))
    return found


def _completed(wanted: Sequence[Resource], precedence: Precedence) -> list[Resource]:
    """Return the wanted objects, each rule with the mirrors of the broader rule that it shadows.

    A rule for pulls by digest takes pulls by tag from a broader rule as well, and the other way round: they get a rule for the
    same source that has only the broader one's mirrors.
    """
    completed: dict[tuple[str, str], Resource] = {}
    named = {(_by_tag(each.kind), rule.source) for each in wanted for rule in rules_of(each.body)}
    for resource in wanted:
        rules, other = [], []
        by_tag = _by_tag(resource.kind)
        for rule in rules_of(resource.body):
            kept = precedence.shadowed(rule.source, by_tag=by_tag)
            rules.append(Rule(rule.source, tuple(dict.fromkeys((*rule.mirrors, *kept))), rule.policy))
            mirrors = precedence.shadowed(rule.source, by_tag=not by_tag)
            if mirrors and (not by_tag, rule.source) not in named:
                named.add((not by_tag, rule.source))
                other.append(Rule(rule.source, mirrors))
        _add(completed, resource, rules)
        if other:
            _add(completed, _of_kind(resource, IDMS.name if by_tag else ITMS.name), other)
    return list(completed.values())


def _add(objects: dict[tuple[str, str], Resource], resource: Resource, rules: Sequence[Rule]) -> None:
    before = objects.get((resource.kind, resource.name))
    there = rules_of(before.body) if before else []
    objects[resource.kind, resource.name] = _with_rules(resource, resource.name, [*there, *rules])


def _of_kind(resource: Resource, kind: str) -> Resource:
    """Return an object of another kind with the same name and without rules."""
    api_version = next(each.api_version for each in MIRROR_KINDS if each.name == kind)
    body = {**resource.body, "apiVersion": api_version, "kind": kind, "spec": {}}
    return Resource(api_version, kind, resource.name, "", body)


def _fresh(resource: Resource, existing: Sequence[Rule], own: Collection[Sequence[Rule]], precedence: Precedence) -> list[Rule]:
    """Return the rules that are not in force, each with the policy that its source has to have."""
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
    """Return the policy for a source: two of them for one source stop the rollout. Raises ClusterError."""
    if resource.kind != ICSP.name:
        return precedence.policy(source)
    if theirs := precedence.forbidding(source):
        raise ClusterError(
            f"{theirs} has {NEVER} for {source}, which an {ICSP.name} cannot have: two policies for a source stop all rollouts",
            hint="Bring all rules into ImageDigestMirrorSets first (oc adm migrate icsp), or take the policy out there.",
        )
    return ""


def _place(resource: Resource, fresh: Sequence[Rule], own: Mapping[str, Sequence[Rule]]) -> list[Resource]:
    """Return our objects with the fresh rules: a source is changed where it is, a new one goes where there is room.

    Without fresh ones, the first object when it is there.
    """
    series = _Series(resource, own)
    if not fresh:
        return series.first()
    series.add([rule for rule in fresh if not series.changed(rule)])
    return series.touched()


class _Series:
    """The objects of one name, NAME, NAME-2 and so on, each below MAX_OBJECT_SIZE."""

    def __init__(self, resource: Resource, own: Mapping[str, Sequence[Rule]]) -> None:
        self._resource = resource
        self._rules = {name: {rule.source: rule for rule in rules} for name, rules in own.items()}
        self._holder = {source: name for name, rules in reversed(self._rules.items()) for source in rules}
        self._room: dict[str, int] = {}
        self._touched: set[str] = set()

    def first(self) -> list[Resource]:
        """Return the first object as it is, when it is there."""
        return [self._object(self._resource.name)] if self._resource.name in self._rules else []

    def touched(self) -> list[Resource]:
        """Return the objects that have changed."""
        return [self._object(name) for name in self._names() if name in self._touched]

    def changed(self, rule: Rule) -> bool:
        """Change the rule for a source that one of the objects has already; return whether there is one, with room for it.

        New mirrors come before the old ones: they were filled last.
        """
        name = self._holder.get(rule.source, "")
        if not name:
            return False
        old = self._rules[name][rule.source]
        united = Rule(rule.source, tuple(dict.fromkeys((*rule.mirrors, *old.mirrors))), rule.policy)
        return self._put(name, united, _size(united.to_builtins()) - _size(old.to_builtins()))

    def add(self, rules: Sequence[Rule]) -> None:
        """Put each rule into the first object with room. Raises ClusterError."""
        kind, names = self._resource.kind, iter(self._names())
        name = next(names)
        for rule in rules:
            while not self._put(name, rule, _size(rule.to_builtins()) + len(", ")):
                if not self._rules.get(name):
                    said = f"{kind} {name}: one mirror rule alone is larger than {MAX_OBJECT_SIZE} bytes"
                    raise ClusterError(said, hint=_HINT)
                name = next(names, "")
                if not name:
                    said = f"{kind} {self._resource.name}: more than {_MAX_SPLITS} objects of mirror rules"
                    raise ClusterError(said, hint=_HINT)

    def _put(self, name: str, rule: Rule, growth: int) -> bool:
        if name not in self._room:
            self._room[name] = MAX_OBJECT_SIZE - _size(self._object(name).body)
        if growth > self._room[name]:
            return False
        self._room[name] -= growth
        self._rules.setdefault(name, {})[rule.source] = rule
        self._touched.add(name)
        return True

    def _names(self) -> list[str]:
        name = self._resource.name
        return [name, *(f"{name}-{number}" for number in range(2, _MAX_SPLITS + 1))]

    def _object(self, name: str) -> Resource:
        return _with_rules(self._resource, name, self._rules.get(name, {}).values())


def _with_rules(resource: Resource, name: str, rules: Iterable[Rule]) -> Resource:
    spec = {**resource.body["spec"], FIELD[resource.kind]: [rule.to_builtins() for rule in rules]}
    body = {**resource.body, "metadata": {**resource.body["metadata"], "name": name}, "spec": spec}
    return Resource(resource.api_version, resource.kind, name, "", body)


def _size(document: Body) -> int:
    return len(json.dumps(document))
