"""The size of the configuration that nodes get of mirror rules, in advance (docs/reference/cluster.md, *Preflight*).

Reads only. The machine config operator puts the rules of all objects into one file of one MachineConfig for each pool. Where
that object is larger than etcd takes, no node gets any rule, and the pools report RenderDegraded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ClusterError
from common.text import counted
from importer.cluster.api.client import UnavailableError
from importer.cluster.api.discovery import mirror_objects
from importer.cluster.finding import Finding, Severity
from importer.cluster.kinds import MACHINE_CONFIG, MACHINE_CONFIG_POOL, status_of
from importer.cluster.nodes import configures_nodes
from importer.cluster.resources.mirror_rules import FIELD, MirrorRule, Scope, listed, merge_rules
from importer.cluster.resources.node_configuration import MAX_MACHINE_CONFIG, NEAR, registries_conf, size_of, sources_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.kinds import Resource
    from importer.cluster.release import Release
    from importer.cluster.resources.mirror_rules import Listed

    Scoped = Callable[[Scope, Collection[MirrorRule]], Iterable[Resource]]


LARGE = "node-configuration-large"
_MEGA = 1_000_000
_WIDER = {Scope.REPOSITORY: (Scope.NAMESPACE, Scope.REGISTRY), Scope.NAMESPACE: (Scope.REGISTRY,), Scope.REGISTRY: ()}


@dataclass(frozen=True, slots=True)
class Size:
    """What nodes get: the `sources` of all rules, and the bytes of registries.conf and of the largest MachineConfig with it."""

    sources: int
    registries_conf: int
    machine_config: int

    @property
    def text(self) -> str:
        """One line for people."""
        conf, largest, limit = map(_size_text, (self.registries_conf, self.machine_config, MAX_MACHINE_CONFIG))
        sources = counted(self.sources, "source")
        return f"registries.conf of the nodes: {conf} for {sources}; the largest MachineConfig: {largest} of at most {limit}"


@dataclass(frozen=True, slots=True)
class NodeSize:
    """The size with all rules of an import. `scope`: that of its rules; `wider`: what each wider scope would make of it.

    `changes`: rules would be written.
    """

    size: Size
    scope: Scope
    changes: bool
    wider: tuple[tuple[Scope, Size], ...] = ()

    @property
    def line(self) -> str:
        """The size for people, with the scope that it depends on."""
        return f"{self.size.text} (--mirror-scope {self.scope})"

    def findings(self) -> Iterator[Finding]:
        """Yield a warning near the limit; an error beyond it, where rules would be written."""
        if self.size.machine_config <= NEAR:
            return
        over = self.size.machine_config > MAX_MACHINE_CONFIG
        cause = "more than etcd takes: nodes would get no rule at all, and pools report RenderDegraded" if over else "near that"
        yield Finding(
            LARGE,
            "nodes",
            f"the mirror rules make the configuration of the nodes large, {cause}",
            (self.line, *(f"--mirror-scope {scope}: {size.text}" for scope, size in self.wider)),
            self._advice(),
            severity=Severity.ERROR if over and self.changes else Severity.WARNING,
        )

    def _advice(self) -> str:
        smaller = [(scope, size) for scope, size in self.wider if size.machine_config < self.size.machine_config]
        fitting = [scope for scope, size in smaller if size.machine_config <= NEAR]
        if smaller:
            best = fitting[0] if fitting else smaller[-1][0]
            return f"Use --mirror-scope {best}: the mirror keeps the paths of the sources, so that one rule serves many."
        return (
            "Remove rules that nothing needs. Those of the cluster stay when the scope of an import gets wider: "
            "`hub-import undo` removes those of hub-import, and drains the nodes."
        )


def foresee(
    client: ClusterClient, release: Release | None, wanted: Sequence[Resource], scope: Scope, scoped: Scoped
) -> NodeSize | None:
    """Return the size that the wanted rules lead to; None where no object configures nodes, or none is wanted.

    `scoped` returns the objects of another scope, by the rules of the cluster. Raises ClusterError.
    """
    rules = _rules(wanted)
    if release is None or not rules or not configures_nodes(release):
        return None
    live = mirror_objects(client, release)
    present = _machine_configs(client)
    after, before = _after(rules, live), _listed(live)
    size = _size(after, present)
    if size.machine_config <= NEAR:
        return NodeSize(size, scope, after != before)
    known = {MirrorRule(each.rule.source, mirror, not each.by_tag) for each in before for mirror in each.rule.mirrors}
    wider = tuple((each, _size(_after(_rules(scoped(each, known)), live), present)) for each in _WIDER[scope])
    return NodeSize(size, scope, after != before, wider)


def _rules(resources: Iterable[Resource]) -> list[Resource]:
    return [each for each in resources if each.kind in FIELD]


def _after(wanted: Sequence[Resource], live: Sequence[Body]) -> list[Listed]:
    """Return the rules of the cluster once the wanted ones are merged into them."""
    bodies = {(str(each["kind"]), str(each["metadata"]["name"])): each for each in live}
    bodies |= {(each.kind, each.name): dict(each.body) for each in merge_rules(wanted, live).write}
    return _listed(bodies.values())


def _listed(bodies: Iterable[Body]) -> list[Listed]:
    return [each for body in bodies for each in listed(body, owned=True)]


def _machine_configs(client: ClusterClient) -> list[Body | None]:
    """Return the present configuration of each pool; None, which stands for a usual one, where none may be read."""
    try:
        names = {
            str((status_of(each).get("configuration") or {}).get("name") or "")
            for each in client.list(MACHINE_CONFIG_POOL) or ()
        }
        return [client.get(MACHINE_CONFIG, name) for name in sorted(names - {""})] or [None]
    except UnavailableError:
        raise
    except ClusterError:
        return [None]


def _size(rules: Collection[Listed], present: Sequence[Body | None]) -> Size:
    text = registries_conf(rules)
    return Size(sources_of(rules), len(text.encode()), max(size_of(each, text) for each in present))


def _size_text(number: int) -> str:
    return f"{number / _MEGA:.2f} MB" if number >= _MEGA else f"{number / 1000:.0f} kB"
