"""The operators of a cluster before and after a change, for the page. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from importer.operators.installed import SUCCEEDED
from importer.operators.table import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from importer.operators.table import Row


GOOD, WARN, BAD = "good", "warn", "bad"  # as the style of pages knows them
_FORESEEN = {Result.UNCHANGED: GOOD, Result.STRANDED: BAD, Result.ORPHANED: BAD, Result.UNRESOLVED: BAD}
_AFTERWARDS = {
    Result.UPDATES: "OLM updates it",
    Result.WAITS: "an update waits for approval",
    Result.STRANDED: "its catalog has no way to the head of its channel",
    Result.ORPHANED: "it has no catalog",
    Result.UNRESOLVED: "OLM cannot resolve it",
}
_FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class OperatorState:
    """One operator: `before` and `after` are versions with phases, `kind` and `verdict` how it is now, or is foreseen."""

    operator: str
    subject: str
    before: str
    after: str
    catalog: str
    channel: str
    approval: str
    foreseen: str
    kind: str
    verdict: str


def compare(before: Iterable[Row], after: Iterable[Row] | None) -> list[OperatorState]:
    """Return all operators, those of before first. `after` None: not read, so that the verdicts are those of the preflight."""
    former = {row.subject: row for row in before}
    now = {row.subject: row for row in after} if after is not None else None
    names = dict.fromkeys((*former, *(now or ())))
    return [_state(former.get(name), now.get(name) if now is not None else None, seen=now is not None) for name in names]


def counts(states: Sequence[OperatorState]) -> tuple[int, int]:
    """Return how many operators there are, and how many of them need a person."""
    return len(states), sum(state.kind == BAD for state in states)


def _state(before: Row | None, after: Row | None, *, seen: bool) -> OperatorState:
    row = after or before
    assert row is not None
    kind, verdict = _judged(before, after) if seen else _foreseen(row)
    then = before.catalog_then if before is not None else row.catalog_now
    now = row.catalog_now if before is None else before.catalog_now
    return OperatorState(
        row.operator,
        row.subject,
        _installed(before) if before else "",
        _installed(after) if after else "",
        now if now == then else f"{now} → {then or 'none'}",
        row.channel,
        row.approval,
        _outlook(before) if before else "",
        kind,
        verdict,
    )


def _installed(row: Row) -> str:
    """Return version and phase of an operator, and what OLM was about to install."""
    shown = " ".join(part for part in (row.version or row.installed, row.phase) if part)
    return ", ".join(part for part in (shown or "not installed", row.plan and f"InstallPlan {row.plan}") if part)


def _outlook(row: Row) -> str:
    """Return what the preflight foresaw."""
    way = f": {' → '.join(row.path)}" if row.path else ""
    return f"{row.result.text}{way}{f' ({row.reason})' if row.reason else ''}"


def _foreseen(row: Row) -> tuple[str, str]:
    return _FORESEEN.get(row.result, WARN), f"predicted: {row.result.text}"


def _judged(before: Row | None, after: Row | None) -> tuple[str, str]:
    """Return how an operator is after the change; one that was not healthy before is not worse than it was."""
    if after is None:
        return BAD, "gone"
    was_well = before is not None and before.well
    # Both results of the update itself: a new version that failed, and an old one that is being replaced.
    if was_well and not after.well:
        failed = after.phase == _FAILED or after.result in (Result.ORPHANED, Result.UNRESOLVED)
        # What is installed may run on while OLM cannot update it.
        now = f", and is {after.phase or 'not installed'} now"
        if after.phase == SUCCEEDED:
            now = f"; now {_AFTERWARDS.get(after.result, 'OLM reports a failure')}"
        return BAD if failed else WARN, _because(f"was healthy{now}", after)
    if after.result in _AFTERWARDS:
        return _FORESEEN.get(after.result, WARN), _because(_AFTERWARDS[after.result], after)
    if before is not None and before.installed != after.installed:
        return GOOD if after.well else WARN, f"updated from {before.version or before.installed or 'nothing'}"
    if not after.well:
        return WARN, _because("as before, and not healthy", after)
    return GOOD, "new" if before is None else "as before"


def _because(text: str, row: Row) -> str:
    return f"{text}: {row.reason}" if row.reason else text
