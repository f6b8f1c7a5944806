"""The effects of changed configuration on the nodes, by release (docs/reference/cluster.md, *Preflight*). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.cluster.kinds import ICSP, IDMS, ITMS, SECRET
from importer.cluster.release import Release

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


REGISTRIES = "spec.registrySources"  # of image.config `cluster`
RULES = frozenset((ICSP.name, IDMS.name, ITMS.name))
NO_DRAIN = "no drain"
_DRAINED = "every node is drained"
_IN_TURN = f"{_DRAINED}, one after another"
_REBOOTED = f"{_DRAINED} and rebooted, one after another"


def effects(release: Release, changed: Collection[str], *, removed: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the causes of a rollout, and the effect of each on the nodes.

    `changed` has kinds, and REGISTRIES. `removed`: mirror rules are taken away, or get their former content.
    """
    # machine-config-operator, pkg/daemon/update.go: up to 4.6 every changed file reboots.
    reboots = release <= Release(4, 6)
    if {ICSP.name, IDMS.name}.intersection(changed):
        # pkg/daemon/drain.go, isSafeContainerRegistryConfChanges: only added mirrors for digests need no drain.
        away = _REBOOTED if reboots else f"{_IN_TURN}; none reboots"
        yield "mirror rules for pulls by digest", away if removed else release.rollout
    if ITMS.name in changed:
        yield "mirror rules for pulls by tag", _IN_TURN
    if REGISTRIES in changed:
        yield "registries that nodes may pull from", _allowed(release)
    # A changed pull secret is written in place from 4.7 on.
    if SECRET.name in changed and reboots:
        yield "pull secret", _REBOOTED


def _allowed(release: Release) -> str:
    """Return the effect of changed `allowedRegistries`, which are in policy.json alone."""
    # machine-config-operator, pkg/daemon: policy.json reboots up to 4.11; from 4.12 on CRI-O reloads it, and only a changed
    # registries.conf drains (isDrainRequired).
    return _REBOOTED if release <= Release(4, 11) else "nodes take them over without being drained"


def strongest(release: Release | None, changed: Collection[str], *, removed: bool = False) -> str:
    """Return the strongest effect, for the line before a question; empty where it is not known."""
    if release is None:
        return ""
    found = [effect for _, effect in effects(release, changed, removed=removed) if effect.startswith(_DRAINED)]
    # By what a node loses: a reboot, then a drain, whose text may say that none reboots.
    return max(found, key=lambda effect: (effect == _REBOOTED, len(effect)), default=NO_DRAIN)
