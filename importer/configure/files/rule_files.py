"""Mirror rules in files: their objects, with those of an earlier render, and what nodes get of them. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from common.archive.inventory import Problem, ProblemCode
from importer.cluster.kinds import Resource
from importer.cluster.resources.mirror_rules import FIELD, Scope, listed, merge_rules
from importer.cluster.resources.node_configuration import WIDER, NodeSize, size_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from importer.cluster.release import Release
    from importer.cluster.resources.build import Built, ResourceOptions
    from importer.cluster.resources.mirror_rules import Pair
    from importer.cluster.resources.node_configuration import Size
    from importer.configure.files.earlier import Earlier


def rule_objects(resources: Sequence[Resource], earlier: Earlier) -> list[Resource]:
    """Return the objects of mirror rules, with those of the earlier render."""
    written = merge_rules([resource for resource in resources if resource.kind in FIELD], earlier.rules).write
    return list({(each.kind, each.name): each for each in (*map(Resource.of, earlier.rules), *written)}.values())


def node_size(
    resources: Sequence[Resource],
    make: Callable[[ResourceOptions], Built],
    options: ResourceOptions,
    earlier: Earlier,
    release: Release,
) -> NodeSize | None:
    """Return what nodes get of the rules in the files; None without rules. The cluster may have further ones."""

    def size(made: Sequence[Resource]) -> Size:
        rules = [rule for each in rule_objects(made, earlier) for rule in listed(each.body, owned=True)]
        return size_with(rules, release=release)

    if not rule_objects(resources, earlier):
        return None
    found = NodeSize(size(resources), options.mirror_scope, changes=True)
    scopes = WIDER[options.mirror_scope] if found.is_near else ()
    return replace(found, wider=tuple((one, size(make(replace(options, mirror_scope=one)).resources)) for one in scopes))


def by_scope(
    make: Callable[[ResourceOptions], Built], options: ResourceOptions, earlier: Earlier
) -> dict[Scope, tuple[Pair, ...]]:
    """Return the rules that nodes of a hosted cluster would need in each scope."""
    return {one: make(replace(options, mirror_scope=one)).node_rules + earlier.node_rules for one in Scope}


def near(found: NodeSize | None) -> Iterator[Problem]:
    """Yield a warning where the limit of a MachineConfig is near. `apply` knows what the cluster has besides, and refuses."""
    if found is not None and found.is_near:
        message = "; ".join((found.line, *found.others, found.advice))
        yield Problem("warning", ProblemCode.NODES_LARGE, "nodes", message)
