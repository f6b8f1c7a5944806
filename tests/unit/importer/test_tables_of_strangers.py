"""Texts of a cluster in the tables of `apply`, `undo` and the wait: what is hidden is shown, and a line stays one line."""

from __future__ import annotations

import io
import unicodedata
from typing import Any

import pytest

from common.cli import terminal
from importer.cli import cluster_tables
from importer.cluster.api.discovery import ClusterIdentity
from importer.cluster.apply import ApplyResult
from importer.cluster.finding import Finding
from importer.cluster.readiness.readiness import Check
from importer.cluster.readiness.wait import Lines, Row
from importer.cluster.undo import Outcome, Undone
from importer.cluster.writing import Action, Change
from importer.configure.applied import Applied
from importer.configure.undo import UndoResult

EVIL = "a\x1b[2J\x9b\r\nforged line\n\u2028forged line\u202eb\ue000\x7f"
IDENTITY = ClusterIdentity(EVIL, EVIL, EVIL)
FINDING = Finding("code", EVIL, EVIL, (EVIL, EVIL), EVIL)


def require_clean(text: str) -> None:
    assert not {hex(ord(sign)) for sign in text if unicodedata.category(sign) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")}


def shown(capsys: pytest.CaptureFixture[str], table: list[str]) -> list[str]:
    """Return the lines of a table as they are printed."""
    assert isinstance(table, list)
    terminal.show(table)
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    require_clean("".join(lines))
    assert len(lines) == len(table)
    return lines


def test_tables_of_objects_stay_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    result = ApplyResult((Change(Action.CREATED, EVIL, EVIL, EVIL, EVIL, (EVIL,)), Change(Action.CHANGED, "K", "n", "", "d")))
    would = Applied(result, (), done=False, cluster=IDENTITY, findings=(FINDING,), drain=EVIL)
    lines = shown(capsys, cluster_tables.apply_table(would))
    start = next(number for number, line in enumerate(lines) if line.startswith("ACTION"))
    head, first, second = lines[start : start + 3]
    assert head.index("DETAIL") == second.rindex("d") == first.rindex("a\\x1b[2J")
    undone = UndoResult(
        IDENTITY, [Undone(Outcome.RESTORED, EVIL, EVIL, EVIL, (EVIL, EVIL)), Undone(Outcome.GONE, "K", "n", "")]
    )
    shown(capsys, cluster_tables.undo_table(undone, dry_run=True))


def test_the_wait_shows_a_message_of_the_cluster_on_its_line() -> None:
    rows = [Row(Check(EVIL, ok=False, state=EVIL, evidence=EVIL, next_step=EVIL), 0.0, Check(EVIL, ok=False, state=EVIL), 0.0)]
    said: list[str] = []
    lines = Lines(said.append)
    lines.rows(rows, 0.0)
    lines.finding(FINDING)
    assert len(said) == 1 + 4, "the terminal escapes what is inside of each"
    screen = io.StringIO()
    table: Any = cluster_tables.LiveTable(screen)
    table.rows(rows, 0.0)
    table.finding(FINDING)
    table.end()
    require_clean(screen.getvalue().replace("\n", ""))
    assert not [line for line in screen.getvalue().split("\n") if line.startswith("forged")]


@pytest.mark.parametrize(("width", "height", "is_advised"), [(80, 24, True), (80, 12, False), (200, 50, True)])
def test_a_low_terminal_shows_every_row_of_the_wait(
    monkeypatch: pytest.MonkeyPatch, width: int, height: int, is_advised: bool
) -> None:
    """rich.live cuts what is below the terminal: the advice of the first rows took the lines of the last ones."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    kinds = ("MachineConfigPool", "CatalogSource", "pod of", "packages of")
    advice = "the node keeps trying to pull and start it; it need not be deleted"
    check = [Check(f"{kind} redhat-operator-index", ok=False, state="not ready", next_step=advice) for kind in kinds]
    file = io.StringIO()
    table = cluster_tables.LiveTable(file)
    table.rows([Row(each, 0.0) for each in check], 0.0)
    table.end()
    shown = file.getvalue()
    assert shown.count("not ready") == len(kinds), shown
    assert ("NEXT" in shown) is is_advised, "what happens next, where there is room"
    assert len(shown.splitlines()) <= height
