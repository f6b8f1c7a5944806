"""Update paths: the shortest way from one release to another. Pure.

Plain edges go first, however many there are: they are recommended for every cluster. Of several shortest paths the one with the
highest versions in between is taken, from the first step on, as oc-mirror does (openshift/oc-mirror,
internal/pkg/release/core-cincinnati.go); so the result does not depend on the order of the graph.
"""

from __future__ import annotations

from collections import defaultdict, deque
from itertools import pairwise
from typing import TYPE_CHECKING

from common.archive.inventory import UpdateStepRecord
from exporter.releases.updates.graph import Graph, order

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    Next = Callable[[str], Iterable[str]]


def shortest(
    graph: Graph, start: str, goal: str, *, within: Collection[str] | None = None
) -> tuple[UpdateStepRecord, ...] | None:
    """Return the steps from `start` to `goal`, none where they are equal; None where there is no path.

    `within`: over these versions only.
    """
    plain, every = (_limited(following, within) for following in (_plain(graph), _all(graph)))
    found = _search(graph, start, goal, plain) or _search(graph, start, goal, every)
    if found is None:
        return None
    risks = graph.conditional
    return tuple(UpdateStepRecord(one, other, risks.get(one, {}).get(other, ())) for one, other in pairwise(found))


def reachable(graph: Graph, start: str) -> frozenset[str]:
    """Return the versions that updates lead to from `start`, over all edges."""
    return frozenset(_visited(graph, start, "", _all(graph))) - {start}


def nearest(graph: Graph, start: str, goal: str) -> str:
    """Return the reachable version that is nearest below `goal`, else nearest above; empty where `start` has no updates."""
    found = sorted(reachable(graph, start), key=order)
    below = [each for each in found if order(each) < order(goal)]
    return below[-1] if below else next(iter(found), "")


def leading_to(graph: Graph, goal: str) -> frozenset[str]:
    """Return the versions from which updates lead to `goal`, over all edges."""
    before: defaultdict[str, list[str]] = defaultdict(list)
    following = _all(graph)
    for name in graph.nodes:
        for each in following(name):
            before[each].append(name)
    return frozenset(_visited(graph, goal, "", lambda name: before.get(name, ()))) - {goal}


def _plain(graph: Graph) -> Next:
    return lambda name: graph.plain.get(name, ())


def _all(graph: Graph) -> Next:
    return lambda name: {*graph.plain.get(name, ()), *graph.conditional.get(name, ())}


def _limited(following: Next, within: Collection[str] | None) -> Next:
    return following if within is None else lambda name: [each for each in following(name) if each in within]


def _search(graph: Graph, start: str, goal: str, following: Next) -> list[str] | None:
    if start not in graph.nodes or goal not in graph.nodes:
        return None
    before = _visited(graph, start, goal, following)
    if goal not in before:
        return None
    path = [goal]
    while path[-1] != start:
        path.append(before[path[-1]])
    return path[::-1]


def _visited(graph: Graph, start: str, goal: str, following: Next) -> dict[str, str]:
    """Search by breadth, up to `goal`; return for each version the one before it."""
    before = {start: start}
    queue = deque([start])
    while queue and goal not in before:
        name = queue.popleft()
        # From high to low: of the paths to a version the one found first has the highest versions.
        for each in sorted((one for one in following(name) if one not in before), key=graph.rank.__getitem__, reverse=True):
            before[each] = name
            queue.append(each)
    return before
