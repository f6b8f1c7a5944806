"""Waiting until the cluster serves what the archive carries, showing on the way what each thing is doing and since when."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from common.errors import ClusterError
from importer.cluster.client import ClusterClient, UnavailableError
from importer.cluster.finding import UNKNOWN, Finding
from importer.cluster.readiness import readiness
from importer.cluster.readiness.readiness import Check, pools

if TYPE_CHECKING:
    from importer.cluster.readiness.readiness import ExpectedCatalog
    from importer.cluster.release import Release

# What a wait shows: every thing that is waited for, since when it is as it is, and what was found to be wrong.

REMIND_S = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """One thing. `since_s` counts from the beginning of the wait; `before` is what it was until then, since `before_s`."""

    check: Check
    since_s: float
    before: Check | None = None
    before_s: float = 0.0


class Display(Protocol):
    """Where a wait is shown."""

    def rows(self, rows: Sequence[Row], now_s: float) -> None:
        """Show how everything is, `now_s` after the beginning."""
        ...

    def finding(self, finding: Finding) -> None:
        """Show a cause that was found."""
        ...

    def end(self) -> None:
        """Show nothing more."""
        ...


class Lines:
    """The wait as plain lines, for a log: one for each change, and a reminder now and then while nothing changes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._last_s = 0.0

    def rows(self, rows: Sequence[Row], now_s: float) -> None:
        """Tell what has changed."""
        fresh = [row for row in rows if row.since_s == now_s]
        for row in fresh:
            was = f" (before, for {clock_text(now_s - row.before_s)}: {row.before.text})" if row.before else ""
            self._tell(f"{clock_text(now_s)} {row.check.subject}: {row.check.text}{was}")
        if fresh:
            self._last_s = now_s
        elif now_s - self._last_s >= REMIND_S:
            self._last_s = now_s
            for row in (row for row in rows if not row.check.ok):
                next_step = f"; {row.check.next_step}" if row.check.next_step else ""
                since = clock_text(now_s - row.since_s)
                self._tell(f"{clock_text(now_s)} still {row.check.subject}, for {since}: {row.check.state}{next_step}")

    def finding(self, finding: Finding) -> None:
        """Tell a cause, its evidence and its fix."""
        self._tell(finding.text)

    def end(self) -> None:
        """Nothing is left on the screen that would have to go."""


def clock_text(seconds: float) -> str:
    """Return m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


POLL_S = 5.0
QUICK_POLL_S, QUICK_S = 1.0, 10.0  # at first: what is in place already shows soon
DIAGNOSE_S = 30.0
_READS = 2  # a state can be a former pod's: all has to be well twice in a row
Diagnose = Callable[[], Sequence[Finding]]


def wait_healthy(
    client: ClusterClient,
    expectations: Sequence[ExpectedCatalog],
    *,
    release: Release | None,
    timeout_s: float,
    display: Display,
    diagnose: Diagnose = tuple,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when every catalog is served from its image, with just its packages, and every pool has the mirror rules.

    `display` gets every state, and each cause that `diagnose` finds, once. `release` None: a Kubernetes without pools. `clock`
    gives seconds and never jumps. An API server that is away for a while is waited for. Raises ClusterError after `timeout_s`,
    listing what is not as it shall be, what was seen last and why; and at once for what waiting cannot mend.
    """
    watch = _Watch(clock, display, diagnose)
    good = 0
    try:
        while True:
            seen = _checks(client, expectations, release)
            watch.note(seen)
            good = good + 1 if all(check.ok for check in seen) else 0
            if good >= _READS:
                return
            if watch.elapsed() >= timeout_s:
                raise _timed_out(watch, timeout_s)
            sleep(QUICK_POLL_S if watch.elapsed() < QUICK_S else POLL_S)
    finally:
        display.end()


def _checks(client: ClusterClient, expectations: Sequence[ExpectedCatalog], release: Release | None) -> list[Check]:
    rules = {rule for expected in expectations for rule in expected.rules}
    seen = _try("MachineConfigPools", lambda: pools(client, rules)) if release is not None else []
    for expected in expectations:
        name = expected.name
        seen += _try(f"CatalogSource {name}", partial(readiness.catalog, client, expected))
        seen += _try(f"packages of {name}", partial(readiness.packages, client, expected))
        if release is not None and release.has_cluster_catalog:
            seen += _try(f"ClusterCatalog of {name}", partial(readiness.cluster_catalogs, client, expected))
    return seen


def _try(subject: str, check: Callable[[], list[Check]]) -> list[Check]:
    """Check; an API server that restarts, as it does while nodes are rolled, is one more state to wait through."""
    try:
        return check()
    except UnavailableError as error:
        return [Check(subject, ok=False, state=error.message, next_step="it is asked again")]


class _Watch:
    """What every thing was last seen doing, and since when; and what was found to be wrong."""

    def __init__(self, clock: Callable[[], float], display: Display, diagnose: Diagnose) -> None:
        self._clock = clock
        self._start_s = clock()
        self._display = display
        self._diagnose = diagnose
        self._diagnosed_s = 0.0
        self._told: set[tuple[str, str]] = set()
        self._known: dict[str, Row] = {}

    def elapsed(self) -> float:
        return self._clock() - self._start_s

    def note(self, seen: Sequence[Check]) -> None:
        """Show what was seen; what was not looked at this time is forgotten. Now and then look for causes."""
        now_s = self.elapsed()
        self._known = {check.subject: self._row(check, now_s) for check in seen}
        self._display.rows(list(self._known.values()), now_s)
        if all(check.ok for check in seen) or now_s - self._diagnosed_s < DIAGNOSE_S:
            return
        self._diagnosed_s = now_s
        for finding in self.findings():
            if finding.code != UNKNOWN and (finding.code, finding.subject) not in self._told:
                self._told.add((finding.code, finding.subject))
                self._display.finding(finding)

    def findings(self) -> Sequence[Finding]:
        """Return what is wrong; nothing while the API server is away."""
        try:
            return self._diagnose()
        except UnavailableError:
            return ()

    def unwell(self) -> list[str]:
        """Return a line for each thing that is not as it shall be."""
        return [
            f"{row.check.subject}: {row.check.text}, since {clock_text(row.since_s)}"
            for row in self._known.values()
            if not row.check.ok
        ]

    def _row(self, check: Check, now_s: float) -> Row:
        before = self._known.get(check.subject)
        if before is None:
            return Row(check, now_s)
        if before.check == check:
            return Row(check, before.since_s)
        return Row(check, now_s, before.check, before.since_s)


def _timed_out(watch: _Watch, timeout_s: float) -> ClusterError:
    unwell = watch.unwell() or ["all was well, but only once"]
    causes = [finding.text.replace("\n", "\n  ") for finding in watch.findings()]
    return ClusterError(
        "\n  ".join([f"the cluster is not healthy after {clock_text(timeout_s)}:", *unwell, *causes]),
        hint="Nothing has to be undone: run the same command again to go on waiting, or `hub-import doctor` for causes.",
    )
