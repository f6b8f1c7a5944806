"""The size of the configuration that nodes get of mirror rules, in advance (docs/reference/cluster.md, *Preflight*).

Reads only. The machine config operator puts the rules of all objects into one file of one MachineConfig for each pool. Where
that object is larger than etcd takes, no node gets any rule, and the pools report RenderDegraded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import ClusterError
from importer.cluster.api.client import UnavailableError
from importer.cluster.api.discovery import mirror_objects
from importer.cluster.finding import Finding, Severity
from importer.cluster.kinds import MACHINE_CONFIG, MACHINE_CONFIG_POOL, status_of
from importer.cluster.nodes import configures_nodes
from importer.cluster.resources.mirror_rules import FIELD, MirrorRule, Scope, listed, merge_rules
from importer.cluster.resources.node_configuration import LARGE, WIDER, NodeSize, size_with

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.kinds import Resource
    from importer.cluster.release import Release
    from importer.cluster.resources.mirror_rules import Listed

    Scoped = Callable[[Scope, Collection[MirrorRule]], Iterable[Resource]]


def findings(found: NodeSize | None) -> Iterator[Finding]:
    """Yield a warning near the limit; an error beyond it, where rules would be written."""
    if found is None or not found.is_near:
        return
    cause = (
        "more than etcd takes: nodes would get no rule at all, and pools report RenderDegraded"
        if found.is_over
        else "near what etcd takes"
    )
    yield Finding(
        LARGE,
        "nodes",
        f"the mirror rules make the configuration of the nodes large, {cause}",
        (found.line, *found.others),
        found.advice,
        severity=Severity.ERROR if found.is_over and found.changes else Severity.WARNING,
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
    size = size_with(after, present, release=release)
    if not (found := NodeSize(size, scope, after != before)).is_near:
        return found
    known = {MirrorRule(each.rule.source, mirror, not each.by_tag) for each in before for mirror in each.rule.mirrors}
    objects = ((each, _rules(scoped(each, known))) for each in WIDER[scope])
    wider = tuple((each, size_with(_after(made, live), present, release=release)) for each, made in objects)
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
