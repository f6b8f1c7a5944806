"""The update graph of a channel: its head, the chain of `replaces` below it, and what skips what.

Only the channel's entries are nodes; a name in `replaces` or `skips` that is no entry counts for nothing. Everything here is
linear in entries and edges. Sources: facts/oc-mirror.md §2.3, facts/openshift.md §2.3, design/selection.md *Rules*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from common.errors import CatalogError
from exporter.catalog.model import ChannelEntry

MAX_ENTRIES = 100_000
MAX_NAMES = 5  # named in an error message


@dataclass(frozen=True, slots=True)
class UpdateGraph:
    """A well-formed graph. `chain` is head first; `skipped_by` names one entry that skips each skipped one."""

    entries: Mapping[str, ChannelEntry]
    chain: tuple[str, ...]
    skipped_by: Mapping[str, str]

    @classmethod
    def of(cls, entries: Iterable[ChannelEntry], where: str) -> UpdateGraph:
        """Build the graph of a channel. Raises CatalogError, naming `where` and every fault that makes it none."""
        listed = tuple(entries)
        nodes = {entry.name: entry for entry in listed}
        pointed_at = {name for entry in listed for name in targets(entry, nodes)}
        heads = [name for name in nodes if name not in pointed_at]
        faults = [*_faults(listed), *_head_faults(heads, bool(listed))]
        if not faults and (cycle := _in_cycles(nodes)):
            faults.append(f"cycle in the update graph: {names(cycle)}")
        if faults:
            raise CatalogError(f"{where}: {'; '.join(faults)}")
        return cls(nodes, tuple(_chain(nodes, heads[0])), _skipped(listed, nodes))

    @property
    def head(self) -> str:
        """The entry that nothing replaces or skips: what OLM installs."""
        return self.chain[0]

    @property
    def stranded(self) -> tuple[str, ...]:
        """Entries that no update leads over: neither in the chain nor skipped. OLM refuses a channel that has one."""
        chain = set(self.chain)
        return tuple(name for name in self.entries if name not in chain and name not in self.skipped_by)

    def skips(self, name: str) -> Iterator[str]:
        """Give the entries that an entry skips and that are entries."""
        return (skipped for skipped in self.entries[name].skips if skipped in self.entries)

    def order(self) -> tuple[str, ...]:
        """Return every entry, head first: the chain, behind each of its nodes what that skips; the stranded last."""
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
        return tuple(seen | dict.fromkeys(self.entries))


def targets(entry: ChannelEntry, nodes: Mapping[str, ChannelEntry]) -> set[str]:
    """Return the entries that `entry` stands above: what it replaces and skips, itself left out."""
    return {name for name in (entry.replaces, *entry.skips) if name in nodes and name != entry.name}


def names(listed: Iterable[str]) -> str:
    """Return names for a message: sorted, the first few."""
    ordered = sorted(listed)
    more = f" and {len(ordered) - MAX_NAMES} more" if len(ordered) > MAX_NAMES else ""
    return ", ".join(ordered[:MAX_NAMES]) + more


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
    """Return the nodes that are left when heads are taken away again and again (Kahn): those in or under a cycle."""
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
