"""The verdicts of a pull test: what each group of nodes did, what is known of its way, and the cause of a failure. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from common.errors import UsageError
from common.oci.reference import Reference
from common.text import counted
from importer.cluster.finding import UNKNOWN, Finding, Severity
from importer.cluster.resources.mirror_rules import NEVER, Precedence
from importer.diagnose.pulls import WITHOUT_RULE, cause_of
from importer.diagnose.workloads import WaitingImage
from importer.pulls.objects import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from importer.diagnose.snapshot import Snapshot
    from importer.pulls.groups import Group
    from importer.pulls.looking import Look

NOT_TESTED = "pull-not-tested"
TIMEOUT = "pull-timeout"
_MANUAL = "Repeat the test when that is settled: hub-import status --pull."


class Outcome(StrEnum):
    """What became of the pull of a group."""

    PULLED = "pulled"
    FAILED = "failed"
    NOT_TESTED = "not-tested"


class Through(StrEnum):
    """Where an image came from, as far as the objects of the cluster show it."""

    MIRROR = "mirror"
    MIRROR_FIRST = "mirror-first"
    SOURCE = "source"
    UNKNOWN = "unknown"


_THROUGH = {
    Through.MIRROR: "through the mirror",
    Through.MIRROR_FIRST: "by a mirror rule that lets nodes ask the source where the mirror fails",
    Through.SOURCE: "by its own name, for which the cluster has no mirror rule",
    Through.UNKNOWN: "the mirror rules of these nodes are not known",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one group did. `node`: where its pod ran; `seconds`: of the pull, by the kubelet; `finding`: why not."""

    group: Group
    outcome: Outcome
    image: str = ""
    node: str = ""
    seconds: float | None = None
    through: Through | None = None
    finding: Finding | None = None

    @property
    def text(self) -> str:
        """The verdict in words."""
        if self.outcome is Outcome.PULLED and self.through is not None:
            took = f" in {self.seconds:.1f} s" if self.seconds is not None else ""
            return f"pulled{took}, {_THROUGH[self.through]}"
        why = f": {self.finding.cause}" if self.finding else ""
        return f"{'cannot pull' if self.outcome is Outcome.FAILED else 'not tested'}{why}"


@dataclass(frozen=True, slots=True)
class PullTest:
    """The verdicts of all groups. `refused`: why nothing was tested; `left`: what could not be deleted, as text."""

    verdicts: tuple[Verdict, ...] = ()
    refused: Finding | None = None
    left: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether a group cannot pull."""
        return any(each.outcome is Outcome.FAILED for each in self.verdicts)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, each once."""
        found = [self.refused, *(each.finding for each in self.verdicts)]
        return tuple(dict.fromkeys(each for each in found if each is not None))


@dataclass(frozen=True, slots=True)
class Nodes:
    """The configurations of the node that a pod ran on: its own, and the one of its pool; empty where not known."""

    current: str = ""
    wanted: str = ""
    paused: bool = False

    @property
    def behind(self) -> bool:
        """Whether the node does not have the configuration of its pool yet."""
        return bool(self.current and self.wanted and self.current != self.wanted)


def not_tested(subject: str, cause: str, evidence: Sequence[str] = (), fix: str = _MANUAL) -> Finding:
    """Return the warning that pulls were not tested."""
    return Finding(NOT_TESTED, subject, cause, tuple(filter(None, evidence)), fix, severity=Severity.WARNING)


def subject_of(group: Group) -> str:
    """Return the subject of findings about a group."""
    return f"nodes of {group.label}"


def untested(group: Group, cause: str, evidence: Sequence[str] = (), fix: str = _MANUAL, image: str = "") -> Verdict:
    """Return the verdict of a group that was not tested."""
    return Verdict(group, Outcome.NOT_TESTED, image, finding=not_tested(subject_of(group), cause, evidence, fix))


def pulled(group: Group, image: str, seen: Look, snapshot: Snapshot) -> Verdict:
    """Return the verdict of a group whose pod has pulled."""
    return Verdict(group, Outcome.PULLED, image, seen.node, seen.seconds, _through(image, snapshot))


def _through(image: str, snapshot: Snapshot) -> Through:
    """Return where an image came from: a rule is tried first, and only NeverContactSource excludes the source."""
    if snapshot.mirror_rules is None:
        return Through.UNKNOWN
    name = Reference.parse(image).name
    precedence = Precedence(snapshot.mirror_rules)
    rules = [each for each in precedence.followed(name) if not each.by_tag]
    if not rules:
        return Through.SOURCE
    # The policy counts for a source, whichever of its objects has it (machine-config-operator, registriesConfig).
    return Through.MIRROR if any(each.rule.policy == NEVER for each in rules) else Through.MIRROR_FIRST


def failed(group: Group, image: str, seen: Look, snapshot: Snapshot, nodes: Nodes) -> Verdict:
    """Return the verdict of a group whose pod cannot pull: the cause as `doctor` finds it, and the words of the kubelet."""
    waiting = WaitingImage(NAME, f"of {group.name}", "pull", image, seen.reason, seen.message, seen.node)
    found = cause_of(snapshot, waiting)
    if nodes.behind and not _names_mirror(image, seen.message, snapshot):
        found = _not_rolled_out(found, group, nodes, seen.node)
    if found.code == UNKNOWN:
        found = replace(found, cause="the cause is not known: see the words of the kubelet")
    at = f"node {seen.node}: " if seen.node else ""
    # All of it: the attempts at mirrors come after the long name of the image, and the cause after these.
    evidence = [f"{image}: {at}{seen.reason}", seen.message or "the kubelet gives no reason"]
    if nodes.behind:
        evidence.append(f"node {seen.node}: currentConfig {nodes.current}, its pool has {nodes.wanted}")
    shown = replace(found, subject=subject_of(group), evidence=tuple(evidence), severity=Severity.ERROR, fixable=False)
    return Verdict(group, Outcome.FAILED, image, seen.node, finding=shown)


def _names_mirror(image: str, message: str, snapshot: Snapshot) -> bool:
    """Return whether the words of the kubelet are about a mirror: the node has a rule then."""
    try:
        rules = Precedence(snapshot.mirror_rules or ()).followed(Reference.parse(image).name)
    except UsageError:
        return False
    return any(mirror.partition("/")[0] in message for each in rules for mirror in each.rule.mirrors)


def _not_rolled_out(found: Finding, group: Group, nodes: Nodes, node: str) -> Finding:
    wait = "Wait until the pool has its new configuration: oc get machineconfigpool"
    paused = f'The pool is paused: oc patch machineconfigpool {group.pool} --type merge -p \'{{"spec":{{"paused":false}}}}\''
    cause = f"the mirror rules are not rolled out to node {node} yet, and it asked the image's own registry"
    return replace(
        found, code=WITHOUT_RULE, cause=cause, fix=f"{paused}." if nodes.paused else f"{wait} {group.pool}. {_MANUAL}"
    )


def too_slow(group: Group, image: str, seen: Look, waited_s: float) -> Verdict:
    """Return the verdict of a group whose pull has begun and did not end."""
    cause = f"the pull did not end within {counted(round(waited_s / 60), 'minute')}"
    fix = f"Look at the network between the nodes and the mirror, and at the load of the mirror. {_MANUAL}"
    finding = Finding(TIMEOUT, subject_of(group), cause, tuple(filter(None, (f"{image}: node {seen.node}", seen.message))), fix)
    return Verdict(group, Outcome.FAILED, image, seen.node, finding=finding)
