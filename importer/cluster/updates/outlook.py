"""The releases that a cluster can go to, and the command of the administrator for each. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.version import Version, try_parse
from importer.cluster.kinds import short
from importer.cluster.updates.reading import MULTI, UpdateState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from common.archive.inventory import RiskRecord, UpdateStepRecord
    from importer.cluster.updates.expected import ExpectedRelease

_LONGEST = 400  # of the text of an acknowledgement
_NEXT_MAJOR, _LAST_MINOR = 5, 22


@dataclass(frozen=True, slots=True)
class Update:
    """A release that the cluster can go to. `via`: the releases on the way; `commands`: of the administrator, in order.

    `risks`: known issues of the last step; `acknowledge`: what has to be acknowledged first, with its text.
    """

    release: ExpectedRelease
    commands: tuple[str, ...]
    via: tuple[str, ...] = ()
    risks: tuple[RiskRecord, ...] = ()
    acknowledge: tuple[tuple[str, str], ...] = ()

    @property
    def lines(self) -> list[str]:
        """The update for people."""
        on_the_way = f" after {', '.join(self.via)}" if self.via else ""
        lines = [f"{self.release.name}{on_the_way}: {' && '.join(self.commands)}"]
        lines += [
            f"    known issue {each.name}: {' '.join(filter(None, (each.url, short(each.message))))}" for each in self.risks
        ]
        lines += [f"    to be acknowledged first (apply --acknowledge {name}): {text}" for name, text in self.acknowledge]
        return lines


def updates(state: UpdateState, releases: Iterable[ExpectedRelease]) -> tuple[Update, ...]:
    """Return the releases that the cluster can go to, in the order of their versions."""
    now = state.current
    if now is None:
        return ()
    fitting = [(try_parse(each.version), each) for each in releases if _fits(state, each)]
    known = [(version, each) for version, each in fitting if version is not None]
    architectures = {each.architecture for _, each in known}
    paths = {name: _paths(str(now), [each for _, each in known if each.architecture == name]) for name in architectures}
    found = []
    for version, each in sorted(known, key=lambda pair: (pair[0].key, pair[1].architecture)):
        path = paths[each.architecture].get(each.version)
        # Without a path that starts at the cluster's version, the rule of the cluster version operator: no minor is skipped.
        reachable = path is not None if paths[each.architecture] else _is_next(now, version)
        if version.key > now.key and reachable:
            found.append(_update(state, each, version, path or ()))
    return tuple(found)


def _fits(state: UpdateState, release: ExpectedRelease) -> bool:
    if not state.architecture:
        return release.architecture != MULTI
    return release.architecture == state.architecture


def _is_next(now: Version, target: Version) -> bool:
    return _minor(now) <= _minor(target) <= _minor(now) + 1


def _minor(version: Version) -> int:
    # 5.0 comes after 4.22 (operator-lifecycle-manager, IsOperatorMaxOCPVersionCompatibleWithCluster).
    major, minor, _ = version.release
    return minor if major < _NEXT_MAJOR else minor + _LAST_MINOR + 1


def _paths(start: str, releases: Sequence[ExpectedRelease]) -> Mapping[str, tuple[UpdateStepRecord, ...]]:
    """Return the steps to each release that the known updates lead to; none where they do not start at `start`."""
    onward: dict[str, list[UpdateStepRecord]] = {}
    for release in releases:
        for step in release.steps:
            onward.setdefault(step.from_, []).append(step)
    found: dict[str, tuple[UpdateStepRecord, ...]] = {start: ()}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        for step in onward.get(here, ()):
            if step.to not in found:
                found[step.to] = (*found[here], step)
                waiting.append(step.to)
    del found[start]
    return found


def _update(state: UpdateState, release: ExpectedRelease, target: Version, path: Sequence[UpdateStepRecord]) -> Update:
    acks = tuple((name, short(text, _LONGEST)) for name, text in state.wanted_acks(target).items())
    via = tuple(step.to for step in path[:-1])
    return Update(release, _commands(state, release, target), via, path[-1].risks if path else (), acks)


def _commands(state: UpdateState, release: ExpectedRelease, target: Version) -> tuple[str, ...]:
    if not state.follows_service:
        # By digest, which the signature is for; the mirror rules lead it to the mirror.
        return (f"oc adm upgrade --allow-explicit-upgrade --to-image {release.pinned}",)
    command = f"oc adm upgrade --to={release.version}"
    if state.channel and (state.channel in release.channels or not release.channels):
        return (command,)
    minor = ".".join(map(str, target.release[:2]))
    channels = [each for each in release.channels if each.endswith(f"-{minor}")]
    stable = f"stable-{minor}"
    channel = stable if stable in channels or not channels else channels[0]
    return (f"oc adm upgrade channel {channel}", command)
