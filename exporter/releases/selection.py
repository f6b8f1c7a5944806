"""The releases of an image set: which of a channel, and the update paths between them. Looks only at graphs.

A channel has more than its own minor version: stable-4.18 begins with 4.16. The rules for one channel are those of oc-mirror
(openshift/oc-mirror, internal/pkg/release/cincinnati.go); what it leaves out without a word is an error or a problem here.
For several channels the path is searched in all of their graphs together, and in those of the channels in between.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from common.archive.inventory import MAX_RELEASES, Problem, ProblemCode, UpdatePathRecord, UpdateStepRecord
from common.errors import HubError, UsageError, one_error
from common.openshift.openshift_release import minor_of_channel
from common.text import enumeration
from exporter.imageset.releases import channel_faults
from exporter.releases.updates import paths
from exporter.releases.updates.graph import Graph, Node, order, require_same, united
from exporter.releases.updates.update_service import PREFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from common.oci.reference import Reference
    from exporter.imageset.releases import PlatformRequest, ReleaseChannel
    from exporter.releases.updates.update_service import GraphSource

_MAX_BETWEEN = 20  # channels between the first and the last one
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class SelectedRelease:
    """A release to carry. `channels`: those of the request that it was selected from; empty for one between two of them."""

    version: str
    architecture: str
    payload: Reference
    okd: bool = False
    channels: tuple[str, ...] = ()
    errata: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a request means. `paths` lead over selected releases; `notes`: what a person should know before it is fetched."""

    releases: tuple[SelectedRelease, ...] = ()
    paths: tuple[UpdatePathRecord, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Chosen:
    """The releases and paths that are selected so far for one architecture."""

    architecture: str
    releases: dict[tuple[bool, str], SelectedRelease] = field(default_factory=dict)
    paths: dict[UpdatePathRecord, None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, node: Node, channel: str, *, okd: bool) -> None:
        known = self.releases.get((okd, node.version))
        if known is None:
            known = SelectedRelease(node.version, self.architecture, node.payload, okd, (), node.url)
        require_same(node.version, known.payload, node.payload)
        if channel and channel not in known.channels:
            known = replace(known, channels=(*known.channels, channel))
        self.releases[okd, node.version] = known

    def add_path(self, steps: tuple[UpdateStepRecord, ...], subject: str) -> None:
        if not steps:
            return
        self.paths[UpdatePathRecord(self.architecture, steps)] = None
        for step in steps:
            if step.risks:
                names = enumeration([f"{risk.name} ({risk.url})" if risk.url else risk.name for risk in step.risks], _SHOWN)
                message = f"{subject}: {step.from_} to {step.to} is not recommended for every cluster: {names}"
                self.problems.append(_warning(ProblemCode.UPDATE_RISK, f"{step.to}-{self.architecture}", message))


@dataclass(frozen=True, slots=True)
class _Range:
    """The part of a channel that is requested: its bounds, which exist, and whether both were stated."""

    channel: ReleaseChannel
    graph: Graph
    low: str
    high: str

    @property
    def versions(self) -> tuple[str, ...]:
        every = self.graph.versions
        return every[every.index(self.low) : every.index(self.high) + 1]


def choose(request: PlatformRequest, graphs: GraphSource) -> Selection:
    """Return the releases of the channels of a request; none where it names one by its image.

    Raises UsageError with all faults: unknown channels and versions, ends without a path; HubError where a graph is not read.
    """
    if request.release or not request.channels:
        return Selection()
    _raise_any([fault for each in request.channels for fault in channel_faults(each, "releases")])
    found = [_Chosen(architecture) for architecture in request.architectures]
    faults: list[UsageError] = []
    for chosen in found:
        ranges = _ranges(request.channels, graphs, chosen, faults)
        for each in ranges:
            _select(each, chosen, faults)
        several = [each for each in ranges if not each.channel.okd]
        if len(several) > 1:
            _connect(several, graphs, chosen, faults)
    _raise_any(faults)
    releases = [each for chosen in found for each in chosen.releases.values()]
    if len(releases) > MAX_RELEASES:
        raise UsageError(f"{len(releases)} releases are selected; the limit is {MAX_RELEASES}", hint="Narrow the ranges.")
    return Selection(
        tuple(sorted(releases, key=lambda each: (each.okd, order(each.version)))),
        tuple(path for chosen in found for path in chosen.paths),
        tuple(dict.fromkeys(problem for chosen in found for problem in chosen.problems)),
        tuple(dict.fromkeys(note for chosen in found for note in chosen.notes)),
    )


def path_between(graph: Graph, channel: str, start: str, goal: str) -> tuple[UpdateStepRecord, ...]:
    """Return the shortest path between two versions of a graph. Raises UsageError where one is missing, or the path."""
    _raise_any([fault for each in (start, goal) if (fault := missing(each, graph, channel)) is not None])
    steps = paths.shortest(graph, start, goal)
    if steps is None:
        raise _no_path(graph, channel, start, goal)
    return steps


def _raise_any(faults: Sequence[UsageError]) -> None:
    if faults:
        raise one_error("releases", list({fault.message: fault for fault in faults}.values()))


def _warning(code: ProblemCode, subject: str, message: str) -> Problem:
    return Problem("warning", code, subject, message)


def _ranges(channels: Iterable[ReleaseChannel], graphs: GraphSource, chosen: _Chosen, faults: list[UsageError]) -> list[_Range]:
    """Return the ranges of the channels that can be read; faults of the others are noted."""
    found = []
    for channel in channels:
        graph = graphs.graph(channel.name, chosen.architecture, okd=channel.okd)
        if not graph.nodes:
            faults.append(graphs.unknown(channel.name, chosen.architecture, okd=channel.okd))
            continue
        try:
            found.append(_range(channel, graph, graphs, chosen))
        except UsageError as fault:
            faults.append(fault)
    return found


def _range(channel: ReleaseChannel, graph: Graph, graphs: GraphSource, chosen: _Chosen) -> _Range:
    """Return what a channel entry requests. Raises UsageError for versions that are not there, where they have to be."""
    first, newest = graph.versions[0], graph.versions[-1]
    low, high = channel.min_version, channel.max_version
    exact = channel.shortest_path or (low == high != "")
    absent = [(each, fault) for each in (low, high) if each and (fault := missing(each, graph, channel.name)) is not None]
    if exact:
        for version, fault in absent:
            fault.hint += _elsewhere(version, channel, graphs, chosen.architecture)
        _raise_any([fault for _, fault in absent])
    if not low and not high and not channel.full:
        return _Range(channel, graph, newest, newest)
    inside = [
        name
        for name in graph.versions
        if (not low or order(name)[0] >= order(low)[0]) and (not high or order(name)[0] <= order(high)[0])
    ]
    if not inside:
        raise UsageError(
            f"{channel.name}, {chosen.architecture}: no release from {low or first} to {high or newest}",
            hint=f"It has {first} to {newest}; hub-export list --release {channel.name} shows all.",
        )
    for version, fault in absent:
        message = f"{fault.message}; {inside[0]} to {inside[-1]} are selected. {fault.hint}"
        chosen.problems.append(_warning(ProblemCode.RELEASE_BOUND, f"{version}-{chosen.architecture}", message))
    if not low and not channel.shortest_path:
        chosen.notes.append(
            f"{channel.name}, {chosen.architecture}: no minVersion, so all {len(inside)} releases from {inside[0]} to "
            f"{inside[-1]} are selected"
        )
    return _Range(channel, graph, inside[0], inside[-1])


def _elsewhere(version: str, channel: ReleaseChannel, graphs: GraphSource, architecture: str) -> str:
    """Return the sentence that names other channels of the minor version that have a release; empty where none has it.

    Some releases are in the eus channel alone, or not yet in the stable one.
    """
    minor = minor_of_channel(channel.name)
    if minor is None or channel.okd:
        return ""
    found = []
    for prefix in PREFIXES:
        name = f"{prefix}-{minor[1]}.{minor[2]}"
        with suppress(HubError):  # this is about another error
            if name != channel.name and version in graphs.graph(name, architecture).nodes:
                found.append(name)
    return f" It is in {' and '.join(found)}." if found else ""


def missing(version: str, graph: Graph, channel: str) -> UsageError | None:
    """Return the error for a version that a channel does not have, with the nearest that it has."""
    if version in graph.nodes:
        return None
    below = [name for name in graph.versions if order(name) < order(version)]
    above = graph.versions[len(below) :]
    nearest = [*below[-1:], *above[:1]]
    return UsageError(f"release {version} is not in {channel}", hint=f"The nearest: {' and '.join(nearest)}.")


def _select(wanted: _Range, chosen: _Chosen, faults: list[UsageError]) -> None:
    """Add the releases of one channel entry."""
    channel, graph = wanted.channel, wanted.graph
    names: Iterable[str] = wanted.versions
    where = f"{channel.name}, {chosen.architecture}"
    if channel.shortest_path and wanted.low != wanted.high:
        steps = paths.shortest(graph, wanted.low, wanted.high)
        if steps is None:
            faults.append(_no_path(graph, where, wanted.low, wanted.high))
            return
        chosen.add_path(steps, where)
        names = [wanted.low, *(step.to for step in steps)]
    elif wanted.low != wanted.high:
        _show_path(wanted, chosen, where)
    for name in names:
        chosen.add(graph.nodes[name], channel.name, okd=channel.okd)


def _show_path(wanted: _Range, chosen: _Chosen, where: str) -> None:
    """Add the shortest path over a whole range, which selects nothing; a warning where the range has none."""
    steps = paths.shortest(wanted.graph, wanted.low, wanted.high, within=frozenset(wanted.versions))
    if steps is not None:
        # Known issues of its steps are shown with it: no path was asked for, so they are no problem of the request.
        chosen.paths[UpdatePathRecord(chosen.architecture, steps)] = None
        return
    fault = _no_path(wanted.graph, where, wanted.low, wanted.high)
    message = f"{fault.message} over the selected releases. {fault.hint}"
    chosen.problems.append(_warning(ProblemCode.UPDATE_PATH, f"{wanted.high}-{chosen.architecture}", message))


def _no_path(graph: Graph, where: str, start: str, goal: str) -> UsageError:
    nearest = paths.nearest(graph, start, goal)
    from_there = f"From {start} updates lead to {nearest} at most" if nearest else f"There is no update from {start}"
    begin = next((name for name in sorted(paths.leading_to(graph, goal), key=order) if order(name) > order(start)), "")
    to_there = f"; {begin} is the lowest version after it that can be updated to {goal}" if begin else ""
    if order(start) > order(goal):
        to_there = "; updates do not lead to lower versions"
    return UsageError(f"{where}: no update path from {start} to {goal}", hint=f"{from_there}{to_there}.")


def _connect(ranges: Sequence[_Range], graphs: GraphSource, chosen: _Chosen, faults: list[UsageError]) -> None:
    """Add the shortest path from the lowest to the highest version of several channels."""
    first = min(ranges, key=lambda each: (order(each.low), each.channel.name))
    last = max(ranges, key=lambda each: (order(each.high), each.channel.name))
    if first.low == last.high:
        return
    every = [each.graph for each in ranges]
    between = list(_between(first.channel.name, last.channel.name, {each.channel.name for each in ranges}, graphs, chosen))
    graph = united([*every, *(found for _, found in between)])
    names = [*dict.fromkeys(each.channel.name for each in ranges), *(name for name, found in between if found.nodes)]
    where = f"{enumeration(names, _SHOWN)}, {chosen.architecture}"
    steps = paths.shortest(graph, first.low, last.high)
    if steps is None:
        fault = _no_path(graph, where, first.low, last.high)
        if lacking := [name for name, found in between if not found.nodes]:
            fault.hint += f" There is no channel {enumeration(lacking, _SHOWN)}."
        if first.channel.min_version and last.channel.max_version:
            fault.hint += " Releases for clusters of their own go into an export of each channel."
            faults.append(fault)
            return
        # An end that is only the newest or oldest of a channel: releases for different clusters may be meant.
        chosen.problems.append(
            _warning(ProblemCode.UPDATE_PATH, f"{last.high}-{chosen.architecture}", f"{fault.message}. {fault.hint}")
        )
        return
    chosen.add_path(steps, where)
    for step in steps:
        chosen.add(graph.nodes[step.to], "", okd=False)


def _between(first: str, last: str, known: set[str], graphs: GraphSource, chosen: _Chosen) -> Iterator[tuple[str, Graph]]:
    """Yield a channel of each minor version between two channels, without releases where none exists.

    A channel may not exist yet (openshift/oc-mirror#292), or never: there is no eus channel of an odd minor version.
    """
    one, other = minor_of_channel(first), minor_of_channel(last)
    if one is None or other is None or one[1] != other[1]:
        return
    minors = range(one[2] + 1, other[2])
    for minor in minors[:_MAX_BETWEEN]:
        names = [f"{prefix}-{one[1]}.{minor}" for prefix in dict.fromkeys((one[0], other[0], "stable"))]
        if known.intersection(names):
            continue
        found = ((name, graphs.graph(name, chosen.architecture)) for name in names)
        yield next((pair for pair in found if pair[1].nodes), (names[0], Graph()))
