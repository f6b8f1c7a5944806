"""The pull test on a cluster: creates a pod for each group of nodes, waits for the verdicts, deletes what it created.

Two tests may run at once: they share a namespace, each deletes its own pods, and the last one the namespace. What
a test that was killed has left is deleted by the next one.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import ClusterError, InterruptedByUserError
from common.interruption import is_stopped, pause
from importer.cluster.api.client import ConflictError, ForbiddenError
from importer.cluster.kinds import EVENT, MACHINE_CONFIG_POOL, NAMESPACE, NODE, OWN_LABELS, POD, has_own_label, short
from importer.cluster.nodes import configures_nodes
from importer.cluster.resources.permissions import missing, pulling
from importer.pulls.groups import configurations, grouped, is_ready, unready
from importer.pulls.images import for_architecture
from importer.pulls.looking import Look, State, look, with_events
from importer.pulls.objects import NAME, RUN_LABEL, TEMPORARY_LABEL, Owner, is_left_over, namespace, pod, pod_name
from importer.pulls.verdicts import Nodes, Outcome, PullTest, Verdict, failed, not_tested, pulled, too_slow, untested

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.errors import HubError
    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.finding import Finding
    from importer.cluster.record import PullImage
    from importer.cluster.release import Release
    from importer.diagnose.snapshot import Snapshot
    from importer.pulls.groups import Group

_SUBJECT = "pull test"
_LOG = logging.getLogger(__name__)
_LONGEST = 400
_GRANT = "hub-import render --rbac writes them into rbac-pull-test.yaml, with the namespace; deploy does without them."
# What a namespace lacks in its first seconds: its default account, the range of users of OpenShift. And the end of one that
# another test deletes.
_PASSING = re.compile(r'serviceaccount "default" not found|openshift\.io/sa\.scc|being terminated|not found', re.IGNORECASE)
_TIMES = 2  # that the pod of a group is created, where others delete it


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited. `settle_s`: for a failure to pass, since a kubelet tries again after 10 and 20 seconds."""

    timeout_s: float = 300.0
    settle_s: float = 35.0
    poll_s: float = 2.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = pause


def this_process() -> Owner:
    """Return the owner of the pods that this process creates."""
    return Owner(secrets.token_hex(4), _host(), os.getpid(), lambda: datetime.now(UTC), _is_alive)


def _host() -> str:
    # Containers may share the name of their host, and not its processes.
    with suppress(OSError):
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # EPERM: it runs under another account
        return True
    return True


def groups_of(client: ClusterClient, release: Release | None) -> tuple[tuple[Group, ...], tuple[Body, ...]]:
    """Return the groups of the nodes, and the pools. Raises ClusterError."""
    pools = (client.list(MACHINE_CONFIG_POOL) or []) if configures_nodes(release) else []
    return grouped(client.list(NODE) or [], pools), tuple(pools)


def foresee(
    client: ClusterClient, release: Release | None, images: Sequence[PullImage]
) -> tuple[tuple[Group, ...], Finding | None]:
    """Return the groups that a test would create a pod for; none, and why, where it cannot be made. Changes nothing."""
    try:
        groups, _ = groups_of(client, release)
        refused = _refusal(client, groups, images)
    except ClusterError as error:
        refused, groups = not_tested(_SUBJECT, "the nodes cannot be read", (error.message,), _GRANT), ()
    return () if refused else tuple(each for each in groups if _lack(each, images) is None), refused


def run(
    client: ClusterClient,
    release: Release | None,
    images: Sequence[PullImage],
    snapshot: Callable[[], Snapshot],
    *,
    owner: Owner | None = None,
    patience: Patience | None = None,
) -> PullTest:
    """Let a pod of each group pull an image, and return the verdicts. What fails on the way is one of them, never an error."""
    try:
        groups, pools = groups_of(client, release)
        if refused := _refusal(client, groups, images):
            verdicts = [Verdict(each, Outcome.NOT_TESTED, finding=refused) for each in groups]
            return PullTest(tuple(verdicts), refused)
    except ClusterError as error:
        return PullTest(refused=not_tested(_SUBJECT, "the cluster could not be read", (error.message,), _GRANT))
    verdicts = [lack for each in groups if (lack := _lack(each, images)) is not None]
    named = {each.group for each in verdicts}
    wanted = {each: _image(each, images) for each in groups if each not in named}
    test = _Test(client, wanted, owner or this_process(), patience or Patience())
    if wanted:
        test.run()
        verdicts += _Judge(client, test, {str(each["metadata"]["name"]): each for each in pools}, snapshot).verdicts()
    order = {each: number for number, each in enumerate(groups)}
    return PullTest(tuple(sorted(verdicts, key=lambda each: order[each.group])), left=tuple(test.left))


def _image(group: Group, images: Sequence[PullImage]) -> str:
    found = for_architecture(images, group.architecture)
    return found.image if found else ""


def _refusal(client: ClusterClient, groups: Sequence[Group], images: Sequence[PullImage]) -> Finding | None:
    """Return why no group can be tested. Raises ClusterError."""
    if not images:
        cause = "no image is known that nodes pull by its source name: no archive with one was imported by this version"
        return not_tested(_SUBJECT, cause, (), "hub-import status ARCHIVE --pull takes it from an archive.")
    if not groups:
        return not_tested(_SUBJECT, "the cluster lists no Linux node with an architecture")
    if lacking := missing(client, pulling(prepared=_exists(client))):
        cause = "this account may not create its pods"
        return not_tested(_SUBJECT, cause, tuple(f"not allowed: {each}" for each in lacking), _GRANT)
    return None


def _exists(client: ClusterClient) -> bool:
    with suppress(ForbiddenError):
        return client.get(NAMESPACE, NAME) is not None
    return False


def _lack(group: Group, images: Sequence[PullImage]) -> Verdict | None:
    """Return the verdict of a group that cannot be tested."""
    if not _image(group, images):
        fix = f"Export with --platform linux/{group.architecture}, where these nodes are to run operators."
        return untested(group, f"no imported archive has an image for {group.architecture}", (), fix)
    if not group.ready:
        return untested(group, "no node of the group is ready and takes pods", group.unready, image=_image(group, images))
    return None


@dataclass(slots=True)
class _Test:
    """One run: creates, waits and deletes. `seen`: the last look at each group; `refused`: why a group has no pod."""

    client: ClusterClient
    images: dict[Group, str]
    owner: Owner
    patience: Patience
    seen: dict[Group, Look] = field(default_factory=dict)
    refused: dict[Group, tuple[str, str]] = field(default_factory=dict)  # cause and words
    left: list[str] = field(default_factory=list)
    _created: dict[Group, int] = field(default_factory=dict)
    _since: dict[Group, float] = field(default_factory=dict)
    _placed: dict[Group, float] = field(default_factory=dict)  # since when a pod is on a node, and pulls nothing
    _looked: set[Group] = field(default_factory=set)

    def run(self) -> None:
        """Fill `seen` and `refused` for every group."""
        try:
            self._enter()
            self._sweep()
            for each in self.images:
                self._create(each)
            self._watch()
        except ClusterError as error:
            for each in self._open():
                self.refused[each] = ("the test could not be made to its end", error.message)
        finally:
            self._leave()

    def _open(self) -> list[Group]:
        return [each for each in self.images if each not in self.seen and each not in self.refused]

    def _enter(self) -> None:
        """Have a namespace: the one that is there, if it is one of hub-import, or a new one. Raises ClusterError."""
        ends = self.patience.clock() + self.patience.timeout_s
        while True:
            live = self.client.get(NAMESPACE, NAME)
            if live is None:
                # ConflictError: another test has created it meanwhile.
                with suppress(ConflictError):
                    self.client.create(NAMESPACE, namespace())
                    return
            elif not has_own_label(live):
                raise ClusterError(f"Namespace {NAME} exists and is not one of hub-import: it has no label {_LABEL}")
            elif not _ends(live):
                return
            if self.patience.clock() >= ends:
                raise ClusterError(f"Namespace {NAME} is being deleted, and that does not end")
            self.patience.sleep(self.patience.poll_s)

    def _sweep(self) -> None:
        """Delete the pods of tests that were killed. One that cannot be deleted is no reason to test nothing: see `_leave`."""
        for each in self.client.list(POD, NAME, OWN_LABELS) or []:
            if is_left_over(each, self.owner):
                with suppress(ClusterError):
                    self._delete(each)

    def _delete(self, body: Body) -> None:
        with suppress(ConflictError):  # it is another one by now
            self.client.delete(POD, str(body["metadata"]["name"]), NAME, only={"uid": str(body["metadata"]["uid"])})

    def _create(self, group: Group) -> None:
        """Create the pod of a group; what refuses it for good is in `refused`."""
        self._created[group] = self._created.get(group, 0) + 1
        body = pod(group, self.images[group], self.owner)
        ends = self.patience.clock() + self.patience.settle_s
        while (error := self._refusal(body)) is not None:
            # A ResourceQuota was changed by another pod meanwhile, or the namespace is too new.
            passes = isinstance(error, ConflictError) or _PASSING.search(error.message)
            if not passes or self.patience.clock() >= ends:
                self.refused[group] = ("the cluster refuses its pod", error.message)
                return
            self.patience.sleep(self.patience.poll_s)
            self._enter()

    def _refusal(self, body: Body) -> ClusterError | None:
        """Create a pod; return why it does not exist."""
        try:
            self.client.create(POD, body)
        except ClusterError as error:
            # The answer to the first attempt may have been lost: then the pod exists.
            exists = isinstance(error, ConflictError) and self.client.get(POD, body["metadata"]["name"], NAME)
            return None if exists else error
        return None

    def _watch(self) -> None:
        """Look at the pods until each group has a verdict, or the time is over. Raises ClusterError."""
        ends = self.patience.clock() + self.patience.timeout_s
        while self._open():
            pods = {str(each["metadata"]["name"]): each for each in self.client.list(POD, NAME, self._label) or []}
            over = self.patience.clock() >= ends
            for group in self._open():
                body = pods.get(pod_name(group, self.owner))
                if body is None or _ends(body):
                    self._gone(group)
                else:
                    self._look(group, body, over=over)
            if self._open():
                self.patience.sleep(self.patience.poll_s)

    @property
    def _label(self) -> dict[str, str]:
        return {RUN_LABEL: self.owner.run}

    def _gone(self, group: Group) -> None:
        """Create a pod again that others have deleted, such as a test that ended and took the namespace along."""
        if self._created[group] < _TIMES:
            self._enter()
            self._create(group)
        else:
            self.refused[group] = ("its pod was deleted by others", "")

    def _look(self, group: Group, body: Body, *, over: bool) -> None:
        """Keep what the pod of a group shows, once it is final."""
        found = look(body)
        now = self.patience.clock()
        if found.state is State.PENDING and found.node:
            found = self._on_node(group, found, now)
        is_final = found.state in (State.FAILING, State.UNSCHEDULED, State.UNREADY)
        since = self._since.setdefault(group, now) if is_final else now
        if found.state in (State.PULLED, State.ENDED) or over or now - since >= self.patience.settle_s:
            found = with_events(found, self._events(str(body["metadata"]["name"])))
            # The event with the duration may come a moment after the status.
            if found.state is State.PULLED and found.seconds is None and group not in self._looked and not over:
                self._looked.add(group)
                return
            self.seen[group] = found

    def _on_node(self, group: Group, found: Look, now: float) -> Look:
        """Return a look that says so where the node of a pod has stopped: its kubelet says nothing more about the pod."""
        if now - self._placed.setdefault(group, now) < self.patience.settle_s:
            return found  # a node that is busy; one more request for each look is not worth it
        with suppress(ClusterError):
            node = self.client.get(NODE, found.node)
            why = unready(node) if node is not None else "it is no longer there"
            # A kubelet continues with the pods of a node that was cordoned or tainted meanwhile.
            if why and (node is None or not is_ready(node)):
                return replace(found, state=State.UNREADY, message=why)
        return found

    def _events(self, name: str) -> list[Body]:
        with suppress(ForbiddenError):
            found = self.client.list(EVENT, NAME) or []
            return [each for each in found if (each.get("involvedObject") or {}).get("name") == name]
        return []

    def _leave(self) -> None:
        """Delete the pods of this run, and the namespace that a test created unless another test has pods in it.

        What cannot be deleted is in `left`. After a stop it is in the log, since there is no result.
        """
        try:
            live = self.client.get(NAMESPACE, NAME)
            if live is None or not has_own_label(live) or _ends(live):
                return
            others = self._empty()
            if not others and (live["metadata"].get("labels") or {}).get(TEMPORARY_LABEL) == "true":
                self.client.delete(NAMESPACE, NAME, only={"uid": str(live["metadata"]["uid"])})
                self.left.clear()  # pods go with their namespace
        except ClusterError as error:
            self._remains(f"Namespace {NAME}", error)
        except InterruptedByUserError as error:  # in place of a retry
            self._remains(f"Namespace {NAME}", error)
        if is_stopped():
            for each in self.left:
                _LOG.warning("left behind: %s (the next pull test deletes it)", each)

    def _empty(self) -> int:
        """Delete the pods of this run, and of runs that were killed; return how many others there are. Raises ClusterError."""
        others = 0
        for each in self.client.list(POD, NAME) or []:
            if (each["metadata"].get("labels") or {}).get(RUN_LABEL) == self.owner.run or is_left_over(each, self.owner):
                try:
                    self._delete(each)
                except ClusterError as error:
                    self._remains(f"Pod {each['metadata']['name']} in namespace {NAME}", error)
            else:
                others += not _ends(each)
        return others

    def _remains(self, what: str, error: HubError) -> None:
        self.left.append(f"{what}: {short(error.message, _LONGEST)}")


_LABEL = ", ".join(f"{name}={value}" for name, value in OWN_LABELS.items())


def _ends(body: Body) -> bool:
    return bool(body["metadata"].get("deletionTimestamp")) or (body.get("status") or {}).get("phase") == "Terminating"


@dataclass(frozen=True, slots=True)
class _Judge:
    """Makes verdicts of what a test has seen."""

    client: ClusterClient
    test: _Test
    pools: dict[str, Body]
    snapshot: Callable[[], Snapshot]

    def verdicts(self) -> list[Verdict]:
        """Return the verdict of each group."""
        refused = [
            untested(group, cause, (words,), image=self.test.images[group])
            for group, (cause, words) in self.test.refused.items()
        ]
        if not self.test.seen:
            return refused
        try:
            snapshot = self.snapshot()
        except ClusterError as error:
            lost = "the state of the cluster could not be read after the test"
            return [
                *refused,
                *(untested(each, lost, (error.message,), image=self.test.images[each]) for each in self.test.seen),
            ]
        return [*refused, *(self._of(group, seen, snapshot) for group, seen in self.test.seen.items())]

    def _of(self, group: Group, seen: Look, snapshot: Snapshot) -> Verdict:
        image = self.test.images[group]
        if seen.state is State.FAILING and seen.image == image:
            return failed(group, image, seen, snapshot, self._nodes(group, seen.node))
        if seen.state is State.PENDING and seen.pulling:
            return too_slow(group, image, seen, self.test.patience.timeout_s)
        if seen.state is State.PULLED and seen.image == image and seen.asked:
            return pulled(group, image, seen, snapshot)
        cause, words = _no_verdict(seen, image)
        return untested(group, cause, (f"node {seen.node}" if seen.node else "", words), image=image)

    def _nodes(self, group: Group, node: str) -> Nodes:
        """Return the configurations of a node and of its pool."""
        pool = self.pools.get(group.pool)
        if pool is None or not node:
            return Nodes()
        with suppress(ClusterError):
            current, desired = configurations(self.client.get(NODE, node) or {"metadata": {}})
            spec = pool.get("spec") or {}
            # The nodes of a paused pool get no new desiredConfig: what they lack is the configuration of the pool.
            wanted = str((spec.get("configuration") or {}).get("name") or "") or desired
            return Nodes(current, wanted, paused=bool(spec.get("paused")))
        return Nodes()


def _no_verdict(seen: Look, image: str) -> tuple[str, str]:
    """Return why a pod says nothing about the pull, and the words of the cluster."""
    if seen.image != image:
        return "an admission webhook has changed the image of the pod", f"{image} → {seen.image}"
    words = {
        State.PULLED: "the node has the image and asked no registry: an admission webhook has changed imagePullPolicy",
        State.UNSCHEDULED: "no node of the group takes its pod",
        State.UNREADY: "its node is not ready",
        State.ENDED: "its pod ended before the pull",
    }
    return words.get(seen.state, "its pod was not started in time"), seen.message
