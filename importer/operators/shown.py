"""The table of operators for people, and as JSON (docs/reference/cli.md, *JSON*). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.table import columns
from common.text import counted, visible
from importer.operators.table import SUBSCRIPTION, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from importer.operators.table import Row

_LONGEST = 300  # characters of a reason, which may be OLM's


def document(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the JSON of the rows."""
    return [
        {
            "kind": row.kind,
            "operator": row.operator,
            "namespace": row.namespace,
            "name": row.name,
            "installed": row.installed or None,
            "version": row.version or None,
            "phase": row.phase or None,
            "installPlan": row.plan or None,
            "approval": row.approval,
            "catalog": {"now": row.catalog_now, "then": row.catalog_then},
            "channel": row.channel or None,
            "versions": row.versions or None,
            "head": row.head or None,
            "path": row.path,
            "result": row.result,
            "reason": row.reason,
        }
        for row in rows
    ]


def lines(rows: Sequence[Row]) -> list[str]:
    """Return every row: a line with its versions and result, and below it what that depends on."""
    if not rows:
        return ["No operators are installed."]
    cells = [("OPERATOR", "INSTALLED", "THEN", "RESULT"), *map(_cells, rows)]
    heading, *table = columns(cells)
    return [heading, *(line for first, row in zip(table, rows, strict=True) for line in (first, *_details(row)))]


def affected(rows: Sequence[Row]) -> list[str]:
    """Return the rows of operators that do not stay as they are, and how many do; nothing without operators."""
    other = [row for row in rows if row.result is not Result.UNCHANGED]
    same = len(rows) - len(other)
    rest = [f"{counted(same, 'operator')} unchanged; hub-import operators shows all."] if same else []
    return [*(lines(other) if other else []), *rest]


def updating(rows: Sequence[Row]) -> str:
    """Return how many operators update now; empty for none."""
    count = sum(row.result is Result.UPDATES for row in rows)
    return f"{counted(count, 'operator')} will update" if count else ""


def _cells(row: Row) -> tuple[str, str, str, str]:
    where = f"{row.namespace}/{row.operator}" if row.namespace else row.operator
    then = _number(row.path[-1]) if row.path else ""
    installed = row.version or _number(row.installed) or "-"
    return where, installed, then or installed, row.result.text


def _number(name: str) -> str:
    """Return the version in the name of a bundle, `operator.v1.2.3`; the name where it has none."""
    return (name.partition(".")[2] or name).removeprefix("v")


def _followed(row: Row) -> list[str]:
    """Return what an operator follows; one of OLM v1 without a channel follows all of them."""
    named = f"channel {row.channel}" if row.channel else ""
    if row.kind == SUBSCRIPTION:
        return [named or "default channel"]
    return [row.subject, named or "every channel", f"version {row.versions}" if row.versions else ""]


def _details(row: Row) -> list[str]:
    catalog = row.catalog_now if row.catalog_then in (row.catalog_now, None) else f"{row.catalog_now} -> {row.catalog_then}"
    parts = [
        f"catalog {catalog}",
        *_followed(row),
        row.approval,
        f"over {len(row.path)} versions" if row.path and len(row.path) > 1 else "",
        f"head {_number(row.head)}" if row.head and row.result in (Result.STRANDED, Result.UNKNOWN) else "",
    ]
    text = ", ".join(part for part in parts if part)
    reason = visible(row.reason)
    shown = f"{text}; {reason if len(reason) <= _LONGEST else reason[:_LONGEST] + '…'}" if reason else text
    return [f"    {visible(shown)}"]
