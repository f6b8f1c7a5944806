"""The releases that a cluster can go to, and the command of the administrator for each. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.openshift.supported_releases import number_of
from common.text import counted, enumeration
from common.version import Key, Version, try_parse
from importer.cluster.kinds import short
from importer.cluster.updates.reading import MULTI, UpdateState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from common.archive.inventory import RiskRecord, UpdateStepRecord
    from importer.cluster.updates.expected import ExpectedRelease

_NAMED = 5  # releases in a note
_LONGEST = 400  # of the text of an acknowledgement
MAX_WAY = 100  # of a way; an inventory may list 100 000 steps
_LOWEST: Key = (-1, 0, 0, False, ())


@dataclass(frozen=True, slots=True)
class Update:
    """A release that the cluster can go to. `via`: the releases on the way; `commands`: of the administrator, in order.

    There is none for a release that the archive has not all images of: its update would stop half way.

    `risks`: known issues of the last step; `acknowledge`: what has to be acknowledged first, with its text.
    """

    release: ExpectedRelease
    commands: tuple[str, ...]
    via: tuple[str, ...] = ()
    risks: tuple[RiskRecord, ...] = ()
    acknowledge: tuple[tuple[str, str], ...] = ()

    @property
    def advice(self) -> str:
        """The commands on one line."""
        if self.release.missing:
            return f"export it again, push and apply: the archive lacks {counted(self.release.missing, 'image')} of it"
        # Not `&&`: the cluster needs a moment to ask for the updates of another channel.
        return ", then ".join(self.commands)

    @property
    def lines(self) -> list[str]:
        """The update for people."""
        on_the_way = f" after {', '.join(self.via)}" if self.via else ""
        lines = [f"{self.release.name}{on_the_way}: {self.advice}"]
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
    starts = {step.from_ for _, each in known for step in each.steps}
    last = {name: _last_steps(str(now), [each for _, each in known if each.architecture == name]) for name in architectures}
    found = []
    furthest = {name: _furthest(known, steps) for name, steps in last.items()}
    for version, each in sorted(known, key=lambda pair: (pair[0].key, pair[1].architecture)):
        steps = last[each.architecture]
        # Without a path that starts at the cluster's version, the rule of the cluster version operator: no minor is skipped.
        # A release of a range may be off the shortest path over it, which the archive has for information.
        off_path = not each.steps and each.version not in starts and version.key < furthest[each.architecture]
        follows = bool(steps) and not off_path
        if version.key > now.key and (each.version in steps if follows else _is_next(now, version)):
            way = _way(str(now), each.version, steps) if follows else ()
            found.append(_update(state, each, version, way))
    return tuple(found)


def unfit(state: UpdateState, releases: Sequence[ExpectedRelease]) -> tuple[str, ...]:
    """Return the note that the cluster can go to none of some releases; empty where it can, or where there are none."""
    now = state.current
    if now is None or not releases or updates(state, releases):
        return ()
    cluster = f"{now} ({state.architecture})" if state.architecture else str(now)
    carried = enumeration([f"{each.version} ({each.architecture})" for each in releases], _NAMED)
    return (f"releases: none of the archive is an update of this cluster, which is OpenShift {cluster}: it carries {carried}",)


def _furthest(known: Sequence[tuple[Version, ExpectedRelease]], steps: Mapping[str, UpdateStepRecord]) -> Key:
    """Return the key of the highest release that the known updates lead to; one below all others without any."""
    return max((version.key for version, each in known if each.version in steps), default=_LOWEST)


def _fits(state: UpdateState, release: ExpectedRelease) -> bool:
    if not state.architecture:
        return release.architecture != MULTI
    return release.architecture == state.architecture


def _is_next(now: Version, target: Version) -> bool:
    return 0 <= number_of(target.release[:2]) - number_of(now.release[:2]) <= 1


def _last_steps(start: str, releases: Sequence[ExpectedRelease]) -> Mapping[str, UpdateStepRecord]:
    """Return the last step of a shortest way to each version that the known updates lead to from `start`."""
    onward: dict[str, list[UpdateStepRecord]] = {}
    for release in releases:
        for step in release.steps:
            onward.setdefault(step.from_, []).append(step)
    incomplete = {release.version for release in releases if release.missing}
    found: dict[str, UpdateStepRecord] = {}
    waiting = deque([start])
    while waiting:
        for step in onward.get(waiting.popleft(), ()):
            if step.to != start and step.to not in found:
                found[step.to] = step
                if step.to not in incomplete:
                    waiting.append(step.to)
    return found


def _way(start: str, target: str, last: Mapping[str, UpdateStepRecord]) -> tuple[UpdateStepRecord, ...]:
    """Return the steps from `start` to a version that was reached; of a way that no cluster would go, the last ones."""
    steps: list[UpdateStepRecord] = []
    while target != start and len(steps) < MAX_WAY:
        steps.append(last[target])
        target = last[target].from_
    return tuple(reversed(steps))


def _update(state: UpdateState, release: ExpectedRelease, target: Version, path: Sequence[UpdateStepRecord]) -> Update:
    acks = tuple((name, short(text, _LONGEST)) for name, text in state.wanted_acks(target).items())
    via = tuple(step.to for step in path[:-1])
    return Update(release, _commands(state, release), via, path[-1].risks if path else (), acks)


def _commands(state: UpdateState, release: ExpectedRelease) -> tuple[str, ...]:
    if release.missing:
        return ()
    if not state.follows_service:
        # By digest, which the signature is for; the mirror rules lead it to the mirror.
        return (f"oc adm upgrade --allow-explicit-upgrade --to-image {release.pinned}",)
    command = f"oc adm upgrade --to={release.version}"
    if state.channel and (state.channel in release.channels or not release.channels):
        return (command,)
    return (f"oc adm upgrade channel {channel_for(release)}", command)


def channel_for(release: ExpectedRelease) -> str:
    """Return a channel that has a release: the stable one of its minor release, unless it is in others alone."""
    minor = ".".join(release.version.split(".")[:2])
    channels = [each for each in release.channels if each.endswith(f"-{minor}")]
    stable = f"stable-{minor}"
    return stable if stable in channels or not channels else channels[0]
