"""Which of a cluster's mirror rules nodes follow: the most specific source, and one policy for each source. Pure.

The machine config operator makes one entry of registries.conf for each source, out of all rules of all kinds that have it;
nodes follow the entry with the longest prefix alone, of equally long ones the first in the order of their bytes
(containers/image, pkg/sysregistriesv2). So a rule for a repository takes it away from a rule for its registry, for pulls by
digest and by tag. Two policies for one source stop the operator (openshift
machine-config-operator, container-runtime-config/helpers.go, validateRegistriesConfScopes), also of rules without mirrors; no
policy counts as AllowContactingSource, and an ImageContentSourcePolicy has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from importer.cluster.kinds import ICSP, IDMS, ITMS

FIELD = {ICSP.name: "repositoryDigestMirrors", IDMS.name: "imageDigestMirrors", ITMS.name: "imageTagMirrors"}
NEVER = "NeverContactSource"
_WILDCARD = "*."


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of an object: `source`, its mirrors in order, and the `mirrorSourcePolicy` as it is written there."""

    source: str
    mirrors: tuple[str, ...]
    policy: str = ""

    def to_builtins(self) -> dict[str, Any]:
        """Return it as it is in the object."""
        body: dict[str, Any] = {"source": self.source, "mirrors": list(self.mirrors)}
        return {**body, "mirrorSourcePolicy": self.policy} if self.policy else body


@dataclass(frozen=True, slots=True)
class Listed:
    """A rule that a cluster has. `owned`: in an object of hub-import."""

    rule: Rule
    kind: str
    name: str
    owned: bool

    @property
    def by_tag(self) -> bool:
        """Whether it acts on pulls by tag; else on pulls by digest."""
        return self.kind == ITMS.name


def listed(body: Mapping[str, Any], *, owned: bool = False) -> list[Listed]:
    """Return the rules of an object, with where they are."""
    return [Listed(rule, body["kind"], str(body["metadata"]["name"]), owned) for rule in rules_of(body)]


def rules_of(body: Mapping[str, Any]) -> list[Rule]:
    """Return the rules of an object of any kind."""
    listed = (body.get("spec") or {}).get(FIELD[body["kind"]]) or []
    return [
        Rule(each.get("source") or "", tuple(each.get("mirrors") or ()), each.get("mirrorSourcePolicy") or "")
        for each in listed
    ]


class Precedence:
    """The rules of a cluster, and what a further rule would override. Rules without a real mirror send no pull elsewhere."""

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
        """Return the mirrors that pulls of `source` would lose to a rule of its own, with the path that makes them fit.

        Nothing where a foreign rule for just that source exists: then nodes do not follow a broader one.
        """
        if any(not each.owned for each in self._by_source.get(source, ())):
            return ()
        broader = self._broader(source)
        rest = _below(broader, source)
        if rest is None or rest.startswith(":"):  # a port after a wildcard: no mirror with a path could be followed by it
            return ()
        mirrors = (mirror for each in self._by_source.get(broader, ()) if each.by_tag is by_tag for mirror in each.rule.mirrors)
        return tuple(dict.fromkeys(mirror + rest for mirror in mirrors if mirror + rest != source))

    def policy(self, source: str) -> str:
        """Return the policy that a rule for `source` has to have: that of its rules, else that of the broader one.

        Foreign rules decide; without them an existing policy is not loosened.
        """
        theirs = self._foreign.get(source)
        if not theirs and source in self._owned_never:
            return NEVER
        deciding = theirs or self._by_source.get(source) or self._by_source.get(self._broader(source), [])
        return NEVER if any(each.rule.policy == NEVER for each in deciding) else ""

    def forbidding(self, source: str) -> str:
        """Return the foreign object that has NeverContactSource for just this source; empty when none has."""
        return next((f"{each.kind} {each.name}" for each in self._foreign.get(source, ()) if each.rule.policy == NEVER), "")

    def _broader(self, source: str) -> str:
        """Return the source of the rules that are followed for `source` without one of its own; empty when there are none."""
        named = next((each for each in _above(source) if each in self._by_source), "")
        wild = next((each for each in self._wildcards if _below(each, source) is not None), "")
        return max(wild, named, key=len)  # the wildcard where both are equally long: * comes before letters and digits


def _above(source: str) -> Iterator[str]:
    """Give the namespaces above a repository, and its registry."""
    while "/" in source:
        source = source.rpartition("/")[0]
        yield source


def _below(broader: str, source: str) -> str | None:
    """Return what follows a broader source in `source`: `/path`, for a wildcard also `:port` or nothing; None: not broader."""
    if not broader.startswith(_WILDCARD):
        return source.removeprefix(broader) if broader and source.startswith(f"{broader}/") else None
    name = source.partition("/")[0].partition(":")[0]
    return source.removeprefix(name) if name.endswith(broader[1:]) else None
