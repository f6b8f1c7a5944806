"""Wait until the cluster serves the content of the archive, displaying the state of each check and since when."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from common.errors import ClusterError
from importer.cluster.api.client import ClusterClient, UnavailableError
from importer.cluster.finding import UNKNOWN, Finding
from importer.cluster.readiness import readiness
from importer.cluster.readiness.readiness import Check, Configurations, pools

if TYPE_CHECKING:
    from importer.cluster.readiness.readiness import ExpectedCatalog
    from importer.cluster.release import Release
    from importer.cluster.resources.mirror_rules import Pair


# The display of a wait: the state of each check and since when, and the causes that were found.

# Often enough to show in a log that the wait is alive, also to CI systems that end silent jobs.
REMIND_S = 60.0
# What differs in a message that a container repeats: time stamps (RFC 3339, klog, `date`), durations of Go (the back-off of the
# kubelet grows), and the local port of a connection (`read tcp 10.0.0.1:53422->172.30.0.10:53`).
_MOMENTS = re.compile(
    r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?|\b[IWEF]\d{4} (?=\d\d:)|\d\d:\d\d:\d\d(?:\.\d+)?"
    r"|\b(?:\d+(?:\.\d+)?(?:ms|[hmsµ]s?))+\b|:\d{4,5}(?=->)"
)


def same_apart_from_time(one: str, other: str) -> bool:
    """Return whether two messages differ in nothing but time stamps, durations and local ports."""
    return one == other or _MOMENTS.sub("", one) == _MOMENTS.sub("", other)


@dataclass(frozen=True, slots=True)
class Row:
    """One check and its previous result. `since_s` and `before_s` count from the start of the wait."""

    check: Check
    since_s: float
    before: Check | None = None
    before_s: float = 0.0


class Display(Protocol):
    """Display of a wait."""

    def rows(self, rows: Sequence[Row], now_s: float) -> None:
        """Show all checks, `now_s` after the start."""
        ...

    def finding(self, finding: Finding) -> None:
        """Show a cause that was found."""
        ...

    def end(self) -> None:
        """Leave the final state on the screen."""
        ...


class Lines:
    """Display of a wait as plain lines, for logs: one for each change, and a reminder every minute without one.

    A message of the cluster is written once for each check, however often a pod goes from one state to another and back.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._last_s = 0.0
        self._written: dict[str, list[str]] = {}  # by check: its last messages

    def rows(self, rows: Sequence[Row], now_s: float) -> None:
        """Write the changes, or the reminder."""
        # A row of this poll that changed has the time of this poll.
        fresh = [row for row in rows if row.since_s == now_s]
        for row in fresh:
            was = f" (before, for {clock_text(now_s - row.before_s)}: {row.before.state})" if row.before else ""
            self._tell(f"{clock_text(now_s)} {row.check.subject}: {self._once(row.check)}{was}")
        if fresh:
            self._last_s = now_s
        elif now_s - self._last_s >= REMIND_S:
            self._last_s = now_s
            for row in (row for row in rows if not row.check.ok):
                next_step = f"; {row.check.next_step}" if row.check.next_step else ""
                since = clock_text(now_s - row.since_s)
                self._tell(f"{clock_text(now_s)} still {row.check.subject}, for {since}: {row.check.state}{next_step}")

    def _once(self, check: Check) -> str:
        """Return the state with its message, or without where that was written before."""
        written = self._written.setdefault(check.subject, [])
        if any(same_apart_from_time(check.evidence, each) for each in written):
            return check.state
        # ErrImagePull and ImagePullBackOff take turns, with a message each.
        written[:] = [*written[1 - _MESSAGES_KEPT :], check.evidence]
        return check.text

    def finding(self, finding: Finding) -> None:
        """Write a cause, its evidence and its fix."""
        for line in finding.lines:
            self._tell(line)

    def end(self) -> None:
        """Do nothing: lines stay as they are."""


_MESSAGES_KEPT = 5


def clock_text(seconds: float) -> str:
    """Return m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


POLL_S = 5.0
QUICK_POLL_S, QUICK_S = 1.0, 10.0  # at first: a second apply of the same archive is done after one poll
DIAGNOSE_S = 30.0
RELIST_S = 60.0
_READS = 2  # a single read may show the state of the former pod
Diagnose = Callable[[], Sequence[Finding]]
Checks = Callable[[], list[Check]]


def wait_healthy(
    client: ClusterClient,
    expectations: Sequence[ExpectedCatalog],
    *,
    release: Release | None,
    timeout_s: float,
    display: Display,
    diagnose: Diagnose = tuple,
    rules: Collection[Pair] = (),
    further: Mapping[str, Checks] = MappingProxyType({}),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when every catalog is served from its image, with exactly its packages, and every pool has the mirror rules.

    `display` receives every state, and each cause that `diagnose` finds, once. `release` None: a Kubernetes without pools.
    `rules`: of an import without catalogs, too. `further`: other checks, by the subject that they have while the API is away.
    `clock` is monotonic, in seconds. Raises ClusterError after `timeout_s`, with the checks that failed, their last state and
    the causes; and at once for a paused pool or a missing permission, which waiting does not change.
    """
    watch, kept = _Watch(clock, display, diagnose), _Kept()
    # Consecutive polls in which all checks were ready.
    good = 0
    try:
        while True:
            kept.now_s = watch.elapsed()
            seen = _checks(client, expectations, release, rules, kept)
            seen += [check for subject, ask in further.items() for check in _try(subject, ask)]
            watch.note(seen)
            good = good + 1 if all(check.ok for check in seen) else 0
            if good >= _READS:
                return
            # After the checks: what became ready during the last pause still counts.
            if watch.elapsed() >= timeout_s:
                raise _timed_out(watch, timeout_s)
            sleep(QUICK_POLL_S if watch.elapsed() < QUICK_S else POLL_S)
    finally:
        display.end()


@dataclass(slots=True)
class _Kept:
    """What a wait need not read in each poll: configurations of pools, and packages that are listed, with the time of that."""

    now_s: float = 0.0
    configurations: Configurations = field(default_factory=dict)
    listed: dict[str, tuple[float, list[Check]]] = field(default_factory=dict)

    def packages(self, client: ClusterClient, expected: ExpectedCatalog, *, fresh: bool) -> list[Check]:
        """Check the packages of a catalog; unless `fresh`, those that were complete in the last minute are not read again."""
        since_s, checks = self.listed.get(expected.name, (0.0, []))
        if checks and not fresh and self.now_s - since_s < RELIST_S:
            return checks
        checks = readiness.packages(client, expected)
        self.listed[expected.name] = (self.now_s, checks if all(each.ok for each in checks) else [])
        return checks


def _checks(
    client: ClusterClient,
    expectations: Sequence[ExpectedCatalog],
    release: Release | None,
    further: Collection[Pair],
    kept: _Kept,
) -> list[Check]:
    rules = {*further, *(rule for expected in expectations for rule in expected.rules)}
    # Pools first: without the mirror rules no pod can pull, and a paused pool ends the wait.
    seen = _try("MachineConfigPools", lambda: pools(client, rules, kept.configurations)) if release is not None else []
    rolled = all(check.ok for check in seen)
    for expected in expectations:
        name = expected.name
        served: list[Check] = []
        if release is None or release.classic:
            served = _try(f"CatalogSource {name}", partial(readiness.catalog, client, expected))
            seen += served
        if release is None or release.lists_packages:
            # A whole catalog is listed in many MB, and nodes roll for an hour. The polls that end the wait read it.
            fresh = rolled or not all(check.ok for check in served)
            seen += _try(f"packages of {name}", partial(kept.packages, client, expected, fresh=fresh))
        if release is not None and release.has_cluster_catalog:
            check = readiness.cluster_catalogs if release.classic else readiness.by_olm_v1_alone
            seen += _try(f"ClusterCatalog of {name}", partial(check, client, expected))
    return seen


def _try(subject: str, check: Callable[[], list[Check]]) -> list[Check]:
    """Return the checks; one that reports an unavailable API server, which restarts while nodes are rolled."""
    try:
        return check()
    except UnavailableError as error:
        return [Check(subject, ok=False, state=error.message, next_step="the request is repeated")]


class _Watch:
    """The last result of every check and since when, and the causes that were shown."""

    def __init__(self, clock: Callable[[], float], display: Display, diagnose: Diagnose) -> None:
        self._clock = clock
        self._start_s = clock()
        self._display = display
        self._diagnose = diagnose
        self._diagnosed_s = 0.0
        self._shown: set[tuple[str, str]] = set()
        self._known: dict[str, Row] = {}

    def elapsed(self) -> float:
        return self._clock() - self._start_s

    def note(self, seen: Sequence[Check]) -> None:
        """Show results; checks without one this time are dropped. Look for causes every half minute."""
        now_s = self.elapsed()
        # Checks can disappear: a pod is not checked once its Deployment reports an error.
        self._known = {check.subject: self._row(check, now_s) for check in seen}
        self._display.rows(list(self._known.values()), now_s)
        # A diagnosis reads many lists and the logs of all catalogs: every half minute is no burden for the API server.
        if all(check.ok for check in seen) or now_s - self._diagnosed_s < DIAGNOSE_S:
            return
        self._diagnosed_s = now_s
        for finding in self.findings():
            # Unknown causes are normal while pods start, and shown only when the time is over.
            if finding.code != UNKNOWN and (finding.code, finding.subject) not in self._shown:
                self._shown.add((finding.code, finding.subject))
                self._display.finding(finding)

    def findings(self) -> Sequence[Finding]:
        """Return the findings; none while the API server is unavailable."""
        try:
            return self._diagnose()
        except UnavailableError:
            return ()

    def failing(self) -> list[str]:
        """Return a line for each check that is not ready."""
        return [
            f"{row.check.subject}: {row.check.text}, since {clock_text(row.since_s)}"
            for row in self._known.values()
            if not row.check.ok
        ]

    def _row(self, check: Check, now_s: float) -> Row:
        before = self._known.get(check.subject)
        if before is None:
            return Row(check, now_s)
        if before.check == check or _is_repeated(before.check, check):
            return Row(check, before.since_s)
        return Row(check, now_s, before.check, before.since_s)


def _is_repeated(before: Check, check: Check) -> bool:
    """Return whether a check has its former result, with a message of another moment."""
    same = (before.subject, before.ok, before.state, before.next_step) == (
        check.subject,
        check.ok,
        check.state,
        check.next_step,
    )
    return same and same_apart_from_time(before.evidence, check.evidence)


def _timed_out(watch: _Watch, timeout_s: float) -> ClusterError:
    failing = watch.failing() or ["all checks were ready, but only in the last read"]
    causes = [line for finding in watch.findings() for line in finding.lines]
    return ClusterError(
        f"the cluster is not healthy after {clock_text(timeout_s)}:",
        details=[*failing, *causes],
        hint="Nothing has to be undone: run the same command again to continue waiting, or `hub-import doctor` for causes.",
    )
