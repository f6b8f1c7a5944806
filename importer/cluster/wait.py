"""Waiting until the cluster serves what the archive carries, telling on the way what each thing is doing and since when."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from common.errors import ClusterError
from importer.cluster import looks
from importer.cluster.client import ClusterClient
from importer.cluster.looks import ExpectedCatalog, Look
from importer.cluster.refusals import UnavailableError
from importer.cluster.release import Release

POLL_S = 5.0
_READS = 2  # a state can be a former pod's: all has to be well twice in a row


def wait_healthy(
    client: ClusterClient,
    expectations: Sequence[ExpectedCatalog],
    *,
    release: Release | None,
    timeout_s: float,
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when every catalog is served from its image, with just its packages, and no pool of nodes is under way.

    `tell` gets a line whenever the state of one thing changes. `release` None: a Kubernetes without pools. `clock` gives
    seconds and never jumps. An API server that is away for a while is waited for. Raises ClusterError after `timeout_s`,
    listing what is not as it shall be and what was seen last; and at once for what waiting cannot mend.
    """
    watch = _Watch(clock, tell)
    good = 0
    while True:
        seen = _all_looks(client, expectations, pools=release is not None)
        watch.note(seen)
        good = good + 1 if all(look.ok for look in seen) else 0
        if good >= _READS:
            return
        if watch.elapsed() >= timeout_s:
            raise _timed_out(watch, timeout_s)
        sleep(POLL_S)


def _all_looks(client: ClusterClient, expectations: Sequence[ExpectedCatalog], *, pools: bool) -> list[Look]:
    seen = _try("MachineConfigPools", lambda: looks.pools(client)) if pools else []
    for expected in expectations:
        name = expected.name
        seen += _try(f"CatalogSource {name}", partial(_one, looks.catalog_source, client, expected))
        seen += _try(f"pod of {name}", partial(_one, looks.catalog_pod, client, expected))
        seen += _try(f"packages of {name}", partial(_one, looks.packages, client, expected))
        if pools:
            seen += _try(f"ClusterCatalog of {name}", partial(looks.cluster_catalogs, client, expected))
    return seen


def _one(
    look: Callable[[ClusterClient, ExpectedCatalog], Look], client: ClusterClient, expected: ExpectedCatalog
) -> list[Look]:
    return [look(client, expected)]


def _try(thing: str, look: Callable[[], list[Look]]) -> list[Look]:
    """Look; an API server that restarts, as it does while nodes are rolled, is one more state to wait through."""
    try:
        return look()
    except UnavailableError as error:
        return [Look(thing, ok=False, state=error.message)]


@dataclass(frozen=True, slots=True)
class _Since:
    look: Look
    since_s: float


class _Watch:
    """What every thing was last seen doing, and since when."""

    def __init__(self, clock: Callable[[], float], tell: Callable[[str], None]) -> None:
        self._clock = clock
        self._start_s = clock()
        self._tell = tell
        self._known: dict[str, _Since] = {}

    def elapsed(self) -> float:
        return self._clock() - self._start_s

    def note(self, seen: Sequence[Look]) -> None:
        """Remember what was seen and tell what is new; what was not looked at this time is forgotten."""
        now_s = self.elapsed()
        former, self._known = self._known, {}
        for look in seen:
            before = former.get(look.thing)
            if before is not None and before.look == look:
                self._known[look.thing] = before
                continue
            self._known[look.thing] = _Since(look, now_s)
            was = f" (before, for {_minutes(now_s - before.since_s)}: {before.look.state})" if before else ""
            self._tell(f"{_minutes(now_s)} {look.thing}: {look.state}{was}")

    def unwell(self) -> list[str]:
        """Return a line for each thing that is not as it shall be."""
        return [
            f"{each.look.thing}: {each.look.state}, since {_minutes(each.since_s)}"
            for each in self._known.values()
            if not each.look.ok
        ]


def _timed_out(watch: _Watch, timeout_s: float) -> ClusterError:
    unwell = watch.unwell() or ["all was well, but only once"]
    return ClusterError(
        "\n  ".join([f"the cluster is not healthy after {_minutes(timeout_s)}:", *unwell]),
        hint="Nothing has to be undone: run the same command again to go on waiting, or `hub-import doctor` for causes.",
    )


def _minutes(seconds: float) -> str:
    """Return m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
