"""Wanted mirror rules against those that the cluster has: only what is not in force is added, nothing is taken away. Pure.

A rule is in force when any object of the cluster, ours or not, sends the same source to the same mirrors; every rule written
again would cost a rollout of all nodes (design: cluster, *Mirror rules*).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import ClusterError
from importer.cluster.kinds import ICSP, IDMS, ITMS
from importer.cluster.resource import Resource

MIRROR_KINDS = (ICSP, IDMS, ITMS)
MAX_OBJECT_SIZE = 250_000  # bytes of JSON: `kubectl apply` keeps a copy in annotations, which end at 262144
_HINT = "Say --mirror-scope registry, which makes few rules of many."
_MAX_SPLITS = 100
FIELD = {ICSP.name: "repositoryDigestMirrors", IDMS.name: "imageDigestMirrors", ITMS.name: "imageTagMirrors"}


@dataclass(frozen=True, slots=True)
class MergedRules:
    """`write`: objects as they shall be. `satisfied`: wanted objects whose rules are all in force elsewhere."""

    write: tuple[Resource, ...]
    satisfied: tuple[Resource, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    source: str
    mirrors: tuple[str, ...]
    policy: str = ""

    def to_builtins(self) -> dict[str, Any]:
        body: dict[str, Any] = {"source": self.source, "mirrors": list(self.mirrors)}
        return {**body, "mirrorSourcePolicy": self.policy} if self.policy else body


def merge_rules(wanted: Sequence[Resource], live: Sequence[Mapping[str, Any]]) -> MergedRules:
    """Return what has to be written so that every wanted rule is in force. `live`: all mirror objects of the cluster.

    Objects of ours are extended up to MAX_OBJECT_SIZE, then a further one begins (`-2`, …).
    """
    write: dict[tuple[str, str], Resource] = {}
    satisfied = []
    for resource in wanted:
        family = [*_family(live, resource.kind), *_family([each.body for each in write.values()], resource.kind)]
        fresh = _fresh(_rules(resource.body), [rule for each in family for rule in _rules(each)])
        own = {each["metadata"]["name"]: _rules(each) for each in family if each["kind"] == resource.kind}
        placed = _place(resource, fresh, own)
        write.update({(each.kind, each.name): each for each in placed})
        if not placed:
            satisfied.append(resource)
    return MergedRules(tuple(write.values()), tuple(satisfied))


def _family(objects: Iterable[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """Return the objects whose rules act on the same pulls: by tag, or by digest."""
    return [each for each in objects if (each["kind"] == ITMS.name) == (kind == ITMS.name)]


def _fresh(wanted: Sequence[_Rule], existing: Sequence[_Rule]) -> list[_Rule]:
    """Return the rules that are not in force, each with the policy its source has already: two policies stop the rollout."""
    mirrors: dict[str, set[str]] = {}
    policies: dict[str, str] = {}
    for rule in existing:
        mirrors.setdefault(rule.source, set()).update(rule.mirrors)
        if rule.policy:
            policies[rule.source] = rule.policy
    return [
        _Rule(rule.source, rule.mirrors, policies.get(rule.source, rule.policy))
        for rule in wanted
        if not set(rule.mirrors) <= mirrors.get(rule.source, set())
    ]


def _place(resource: Resource, fresh: list[_Rule], own: Mapping[str, list[_Rule]]) -> list[Resource]:
    """Return our objects with the fresh rules in the first that have room; the first also when it is there and complete."""
    placed = [_with_rules(resource, resource.name, own[resource.name])] if resource.name in own and not fresh else []
    names = iter([resource.name, *(f"{resource.name}-{n}" for n in range(2, _MAX_SPLITS + 1))])
    while fresh:
        name = next(names, None)
        if name is None:
            raise ClusterError(f"{resource.kind} {resource.name}: more than {_MAX_SPLITS} objects of mirror rules", hint=_HINT)
        there = own.get(name, [])
        count = _fitting(resource, name, there, fresh)
        if count:
            placed.append(_with_rules(resource, name, _united(there, fresh[:count])))
            fresh = fresh[count:]
        elif not there:
            raise ClusterError(
                f"{resource.kind} {name}: one mirror rule alone is larger than {MAX_OBJECT_SIZE} bytes", hint=_HINT
            )
    return placed


def _fitting(resource: Resource, name: str, there: Sequence[_Rule], fresh: Sequence[_Rule]) -> int:
    """Return how many of the fresh rules the object can take."""
    room = MAX_OBJECT_SIZE - _size(_with_rules(resource, name, there).body)
    for count, rule in enumerate(fresh):
        room -= _size(rule.to_builtins()) + len(", ")
        if room < 0:
            return count
    return len(fresh)


def _united(there: Sequence[_Rule], fresh: Sequence[_Rule]) -> list[_Rule]:
    """Return both; where a source has a rule already, the new mirrors come before the old: they are what was just filled."""
    rules = {rule.source: rule for rule in there}
    for rule in fresh:
        old = rules.get(rule.source)
        kept = tuple(mirror for mirror in old.mirrors if mirror not in rule.mirrors) if old else ()
        rules[rule.source] = _Rule(rule.source, rule.mirrors + kept, rule.policy or (old.policy if old else ""))
    return list(rules.values())


def _with_rules(resource: Resource, name: str, rules: Iterable[_Rule]) -> Resource:
    spec = {**resource.body["spec"], FIELD[resource.kind]: [rule.to_builtins() for rule in rules]}
    body = {**resource.body, "metadata": {**resource.body["metadata"], "name": name}, "spec": spec}
    return Resource(resource.api_version, resource.kind, name, "", body)


def _rules(body: Mapping[str, Any]) -> list[_Rule]:
    listed = (body.get("spec") or {}).get(FIELD[body["kind"]]) or []
    return [
        _Rule(each.get("source") or "", tuple(each.get("mirrors") or ()), each.get("mirrorSourcePolicy") or "")
        for each in listed
    ]


def _size(document: Mapping[str, Any]) -> int:
    return len(json.dumps(document))
