"""The wait after an import until every operator that was well is well again. Manual approvals are not waited for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from importer.cluster.api.client import UnavailableError
from importer.cluster.finding import Finding
from importer.operators.installed import SUCCEEDED
from importer.operators.table import CLUSTER_EXTENSION, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from importer.operators.installed import Extension, Installed
    from importer.operators.table import Row

NOT_WELL = "operator-not-well"
# An update takes a minute or two; one that takes longer has a cause that waiting seldom removes.
LONGEST_S = 600.0
_POLL_S = 5.0
_QUICK_POLL_S, _QUICK_S = 1.0, 10.0
_WAITED_FOR = frozenset((Result.UNCHANGED, Result.UPDATES, Result.WAITS, Result.UNKNOWN))


@dataclass(frozen=True, slots=True)
class State:
    """An operator after an import: whether it is well, in words. `final`: OLM does not try again."""

    row: Row
    well: bool
    text: str
    final: bool = False

    @property
    def finding(self) -> Finding:
        """The finding about an operator that is not well."""
        return Finding(
            NOT_WELL,
            self.row.subject,
            "it was healthy before the import, and is not healthy yet",
            (self.text,),
            "hub-import doctor shows causes; hub-import operators shows its state and its next update.",
        )


def waited_for(before: Sequence[Row]) -> list[Row]:
    """Return the operators that have to be well after an import: those that are, and keep a catalog and a way."""
    return [row for row in before if row.well and row.result in _WAITED_FOR]


def state(row: Row, seen: Installed) -> State:
    """Return how an operator is; one that is gone was removed by a person, and is not waited for."""
    if row.kind == CLUSTER_EXTENSION:
        return _extension_state(row, next((each for each in seen.extensions if each.name == row.name), None))
    one = next((each for each in seen.subscriptions if (each.namespace, each.name) == (row.namespace, row.name)), None)
    if one is None:
        return State(row, well=True, text="it is gone")
    csv = seen.csv(one)
    phase = csv.phase if csv is not None else ""
    text = f"{one.installed or 'nothing'} is {phase or 'not known'}"
    if one.plan_failure:
        return State(row, well=False, text=one.plan_failure, final=True)
    if one.needs_approval:
        return State(row, phase == SUCCEEDED, f"{text}; InstallPlan {one.plan} waits for approval")
    target = row.path[-1] if row.path and row.result is Result.UPDATES else one.installed
    arrived = one.installed == target
    text = text if arrived else f"{text}; {target} is not installed yet"
    return State(row, arrived and phase == SUCCEEDED and not one.unresolved, one.unresolved or text)


def _extension_state(row: Row, found: Extension | None) -> State:
    """Return how an operator of OLM v1 is: its condition Installed stays true while an update of it fails."""
    if found is None:
        return State(row, well=True, text="it is gone")
    target = row.path[-1] if row.path and row.result is Result.UPDATES else found.installed
    arrived = found.installed == target
    text = f"{found.installed or 'nothing'} is installed"
    text = text if arrived else f"{text}, {target} not yet"
    return State(row, arrived and found.healthy, f"{text}: {found.trouble}" if found.trouble else text)


def settle(
    before: Sequence[Row],
    look: Callable[[], Installed],
    tell: Callable[[str], None],
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[State]:
    """Return the operators that are not well when all are, or when the time is over. `before`: the table of the import.

    `look` reads the operators; `tell` gets a line for each change.
    """
    rows, start_s, told = waited_for(before), clock(), dict[str, str]()
    left: list[State] = []
    while rows:
        try:
            seen = look()
            left = [each for row in rows if not (each := state(row, seen)).well]
        except UnavailableError as error:  # while nodes are rolled; nothing is known of the operators
            left = left or [State(row, well=False, text=error.message) for row in rows]
        for each in left:
            if told.get(each.row.subject) != each.text:
                told[each.row.subject] = each.text
                tell(f"waiting for operator {each.row.operator}, {each.row.subject}: {each.text}")
        elapsed_s = clock() - start_s
        if all(each.final for each in left) or elapsed_s >= min(timeout_s, LONGEST_S):
            break
        sleep(_QUICK_POLL_S if elapsed_s < _QUICK_S else _POLL_S)
    return left
