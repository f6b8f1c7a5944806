"""The update graph of a channel: its head, the chain of `replaces` below it, and the skipped entries.

All functions are linear in entries and edges: a package of the community catalog has 4,944 skips. Rules:
docs/reference/selection.md, *Rules*. Source: operator-registry, alpha/model/model.go (Channel.Head, validateReplacesChain).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import CatalogError
from common.text import enumeration
from common.version import Bounds, Version

if TYPE_CHECKING:
    from exporter.catalog.model import ChannelEntry


MAX_ENTRIES = 100_000  # of one channel, against hostile catalogs
MAX_NAMES = 5  # named in an error message


@dataclass(frozen=True, slots=True)
class UpdateGraph:
    """A well-formed graph. `chain` is head first; `skipped_by` names one entry that skips each skipped one."""

    entries: Mapping[str, ChannelEntry]
    chain: tuple[str, ...]
    skipped_by: Mapping[str, str]

    @classmethod
    def of(cls, entries: Iterable[ChannelEntry], where: str) -> UpdateGraph:
        """Build the graph of a channel. Raises CatalogError with `where` and each fault."""
        listed = tuple(entries)
        nodes = {entry.name: entry for entry in listed}
        # Names in `replaces` and `skips` that are no entries of the channel are valid and have no effect (opm does the same).
        pointed_at = {name for entry in listed for name in targets(entry, nodes)}
        heads = [name for name in nodes if name not in pointed_at]
        faults = [*_faults(listed), *_head_faults(heads, bool(listed))]
        # There may be a cycle below a single head too.
        if not faults and (cycle := _in_cycles(nodes)):
            faults.append(f"cycle in the update graph: {names(cycle)}")
        if faults:
            raise CatalogError(f"{where}: {'; '.join(faults)}")
        return cls(nodes, tuple(_chain(nodes, heads[0])), _skipped(listed, nodes))

    @property
    def head(self) -> str:
        """The entry that no other replaces or skips: the one that OLM installs."""
        return self.chain[0]

    @property
    def stranded(self) -> tuple[str, ...]:
        """Entries without an update to the head: neither in the chain nor skipped. opm refuses a channel with one."""
        chain = set(self.chain)
        return tuple(name for name in self.entries if name not in chain and name not in self.skipped_by)

    def skips(self, name: str) -> Iterator[str]:
        """Yield the entries of the channel that an entry skips."""
        return (skipped for skipped in self.entries[name].skips if skipped in self.entries)

    def order(self) -> tuple[str, ...]:
        """Return every entry, head first: each node of the chain, then the entries that it skips; the stranded last."""
        return tuple(self.reached() | dict.fromkeys(self.entries))

    def reached(self) -> dict[str, None]:
        """Return the entries of the chain, each with those that it skips, and that these skip; head first."""
        chain = set(self.chain)
        seen: dict[str, None] = {}
        for node in self.chain:
            seen[node] = None
            waiting = list(self.skips(node))
            while waiting:
                skipped = waiting.pop()
                if skipped not in seen and skipped not in chain:
                    seen[skipped] = None
                    waiting.extend(self.skips(skipped))
        return seen


def targets(entry: ChannelEntry, nodes: Mapping[str, ChannelEntry]) -> set[str]:
    """Return the entries that `entry` replaces or skips, except itself."""
    return {name for name in (entry.replaces, *entry.skips) if name in nodes and name != entry.name}


def names(listed: Iterable[str]) -> str:
    """Return names for a message: sorted, the first few."""
    return enumeration(sorted(listed), MAX_NAMES)


def _faults(listed: tuple[ChannelEntry, ...]) -> Iterator[str]:
    if len(listed) > MAX_ENTRIES:
        yield f"channel has {len(listed)} entries; the limit is {MAX_ENTRIES}"
    doubled = [name for name, count in Counter(entry.name for entry in listed).items() if count > 1]
    if doubled:
        yield f"duplicate entries: {names(doubled)}"
    for entry in listed:
        if entry.replaces == entry.name:
            yield f"{entry.name} replaces itself"
        if entry.name in entry.skips:
            yield f"{entry.name} skips itself"


def _head_faults(heads: list[str], has_entries: bool) -> Iterator[str]:
    if not has_entries:
        yield "channel has no entries"
    elif not heads:
        yield "no channel heads found"
    elif len(heads) > 1:
        yield f"multiple channel heads found: {names(heads)}"


def _in_cycles(nodes: Mapping[str, ChannelEntry]) -> list[str]:
    """Return the nodes in cycles or below one, by Kahn's algorithm: those left when heads are removed repeatedly."""
    below = {name: targets(entry, nodes) for name, entry in nodes.items()}
    pointers = Counter(name for some in below.values() for name in some)
    free = [name for name in nodes if not pointers[name]]
    left = set(nodes)
    while free:
        name = free.pop()
        left.discard(name)
        for target in below[name]:
            pointers[target] -= 1
            if not pointers[target]:
                free.append(target)
    return sorted(left)


def _chain(nodes: Mapping[str, ChannelEntry], head: str) -> Iterator[str]:
    name = head
    while name in nodes:  # ends: the graph has no cycle
        yield name
        name = nodes[name].replaces


def _skipped(listed: tuple[ChannelEntry, ...], nodes: Mapping[str, ChannelEntry]) -> dict[str, str]:
    skipped: dict[str, str] = {}
    for entry in listed:
        for name in entry.skips:
            if name in nodes:
                skipped.setdefault(name, entry.name)
    return skipped


# The entries of a channel that a version range keeps, with a reason for every entry. The algorithm is that of oc-mirror's
# catalog filter, with the differences of docs/reference/selection.md, *Rules*.

STRANDED = "stranded: no update leads over it, and OLM refuses a channel with such an entry"
CUT_OFF = "cut off from the head: only a stranded entry skips it"  # it would be a second head when that entry is left out
OUT_OF_REACH = "cut off from the head by entries out of range"
Versions = Mapping[str, Version]
"""Name of a bundle → its version; an entry without a bundle, or with no version that SemVer knows, is absent."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The kept and the dropped entries of a channel with their reasons. Every entry is in one of the two."""

    kept: Mapping[str, str]
    dropped: Mapping[str, str]


def everything(graph: UpdateGraph, channel: str) -> Kept:
    """Keep all entries that the head reaches."""
    return _result(graph, dict.fromkeys(graph.reached(), f"all of {channel}"), dict.fromkeys(graph.entries, CUT_OFF))


def head_only(graph: UpdateGraph, channel: str) -> Kept:
    """Keep the head."""
    dropped = {
        name: f"skipped by {graph.skipped_by[name]}" if name in graph.skipped_by else f"older than the head of {channel}"
        for name in graph.entries
    }
    return _result(graph, {graph.head: f"head of {channel}"}, dropped)


def one_version(graph: UpdateGraph, versions: Versions, wanted: Version) -> Kept:
    """Keep the one bundle of a version; none when the channel does not have it.

    Several bundles may differ in build metadata alone: then that of `wanted` must match, and without any the one nearest the
    head is kept.
    """
    equal = [name for name in graph.order() if name in versions and versions[name].key == wanted.key]
    # SemVer gives them equal precedence (2.0.0, 10), so build metadata decides only where it was given.
    if len(equal) > 1 and wanted.build:
        equal = [name for name in equal if versions[name].build == wanted.build]
    kept = {name: f"version {versions[name]}" for name in equal[:1]}
    return _result(graph, kept, dict.fromkeys(graph.entries, f"not version {wanted}"))


def in_range(graph: UpdateGraph, versions: Versions, bounds: Bounds, channel: str) -> Kept:
    """Keep the entries within bounds and those that connect them; without a maximum, the head too."""
    dropped = {name: _outside(bounds, versions.get(name)) for name in graph.entries}
    inside = {name for name, version in versions.items() if name in graph.entries and bounds.contains(version)}
    counts = _counts(graph, inside)
    if not counts[0]:  # nothing in range: the caller drops the channel, or names the range in an error
        unreached = inside.difference(graph.reached())
        stranded = set(graph.stranded)
        return Kept({}, dropped | {name: STRANDED if name in stranded else CUT_OFF for name in unreached})
    # Without a maximum the head stays even when it is out of range: a rebuild such as 1.0.1-1 that replaces 1.0.1 sorts below
    # it. Otherwise the new head is the lowest node that still has all entries in range at or below it.
    top = 0 if bounds.maximum is None else max(place for place, count in enumerate(counts) if count == counts[0])
    # The first node with no entry in range at or below it.
    bottom = next((place for place, count in enumerate(counts) if not count), len(counts))
    chain = graph.chain[top:bottom]
    kept = dict(_chain_reasons(graph, versions, chain, inside, bounds=bounds, channel=channel))
    for name in _skipped_inside(graph, chain, inside):
        kept.setdefault(name, f"in range {bounds.text}, skipped by {graph.skipped_by[name]}")
    return _result(graph, kept, dropped)


def _result(graph: UpdateGraph, kept: Mapping[str, str], dropped: Mapping[str, str]) -> Kept:
    """Return the result without stranded entries, since OLM refuses a channel with one."""
    stranded = set(graph.stranded)
    reasons = dict.fromkeys(stranded, STRANDED)
    stay = {name: why for name, why in kept.items() if name not in stranded}
    return Kept(stay, {name: reasons.get(name) or dropped[name] for name in graph.entries if name not in stay})


def _counts(graph: UpdateGraph, inside: set[str]) -> list[int]:
    """Return for each node of the chain how many entries within the range are it, skipped by it, or below it."""
    # From the bottom with one set for all nodes: an entry that several nodes skip counts once, and the time stays linear.
    seen: set[str] = set()
    counts = [0] * len(graph.chain)
    for place in range(len(graph.chain) - 1, -1, -1):
        node = graph.chain[place]
        seen.update(name for name in (node, *_skipped_inside(graph, (node,), inside, seen)) if name in inside)
        counts[place] = len(seen)
    return counts


def _skipped_inside(graph: UpdateGraph, nodes: Iterable[str], inside: set[str], seen: Iterable[str] = ()) -> Iterator[str]:
    """Yield the entries in range that `nodes` skip, and those that these skip in turn, each once and none of `seen`."""
    known = seen if isinstance(seen, set) else set(seen)
    found: set[str] = set()
    waiting = list(nodes)
    while waiting:
        for name in graph.skips(waiting.pop()):
            if name in inside and name not in known and name not in found:
                found.add(name)
                waiting.append(name)
                yield name


def _chain_reasons(
    graph: UpdateGraph, versions: Versions, chain: tuple[str, ...], inside: set[str], *, bounds: Bounds, channel: str
) -> Iterator[tuple[str, str]]:
    """Yield the reason for each node of the kept part of the chain, also for those out of range."""
    # Nodes out of range stay where they connect others, because opm requires one chain from the head.
    newer = ""
    following = _next_inside(chain, inside)
    for place, name in enumerate(chain):
        if name in inside:
            newer = name
            yield name, f"in range {bounds.text}"
        elif not newer:
            yield name, _head_reason(graph, versions, name, bounds, channel)
        elif following[place]:
            yield name, f"needed to connect {_label(versions, newer)} with {_label(versions, following[place])}"
        else:
            yield name, f"needed to connect {_label(versions, newer)} with what {_label(versions, name)} skips"


def _head_reason(graph: UpdateGraph, versions: Versions, name: str, bounds: Bounds, channel: str) -> str:
    why = _outside(bounds, versions.get(name))
    if name == graph.head and bounds.maximum is None:
        return f"head of {channel} ({why})"
    if name == graph.head:
        return f"head of {channel} ({why}, but what it skips cannot become head)"
    if bounds.maximum is None:
        return f"needed to connect the head of {channel} with the range {bounds.text} ({why})"
    return f"new head of {channel} ({why}, but what it skips cannot become head)"


def _next_inside(chain: tuple[str, ...], inside: set[str]) -> list[str]:
    """Return for each node the nearest one below it that is in range; empty where none is."""
    below = ""
    found = [""] * len(chain)
    for place in range(len(chain) - 1, -1, -1):
        found[place] = below
        if chain[place] in inside:
            below = chain[place]
    return found


def _label(versions: Versions, name: str) -> str:
    return str(versions[name]) if name in versions else name


def _outside(bounds: Bounds, version: Version | None) -> str:
    """Return why a version is not in range."""
    if version is None:
        return "has no version"
    # A partial maximum ends below a prerelease that no file has (1.4: below 1.5.0-0).
    maximum = None if bounds.maximum_excluded else bounds.maximum
    for bound, beyond in ((bounds.minimum, bounds.below(version)), (maximum, bounds.above(version))):
        # SemVer 2.0.0, 11.3: 4.12.0-202301010000 is older than 4.12.0. Users of OpenShift's versions do not expect it.
        if bound and beyond and bound.release == version.release and bool(bound.prerelease) != bool(version.prerelease):
            older, newer = (version, bound) if version.key < bound.key else (bound, version)
            return f"out of range {bounds.text}: {older} is a prerelease, older than {newer}"
    return f"out of range {bounds.text}" if not bounds.contains(version) else OUT_OF_REACH
