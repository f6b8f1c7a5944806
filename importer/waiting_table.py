"""The wait as a live table on a terminal: one row for each thing, what it is doing, since when, and what happens next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from importer.cluster.finding import Finding
from importer.cluster.watching import Row, clock_text

_REFRESHES_PER_S = 4


class LiveTable:
    """Draws rows over each other; causes that are found stay above the table. What it shows is never read as markup."""

    def __init__(self, file: TextIO) -> None:
        self._console = Console(file=file, markup=False, highlight=False)
        self._live: Live | None = None

    def rows(self, rows: Sequence[Row], now_s: float) -> None:
        """Draw everything as it is now."""
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=_REFRESHES_PER_S, transient=False)
            self._live.start()
        self._live.update(_table(rows, now_s), refresh=True)

    def finding(self, finding: Finding) -> None:
        """Show a cause above the table."""
        self._console.print(Text(finding.told, style="yellow"))

    def end(self) -> None:
        """Leave the last table on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _table(rows: Sequence[Row], now_s: float) -> Table:
    table = Table(title=f"waiting for the cluster, {clock_text(now_s)}", title_justify="left", expand=True)
    for name, ratio in (("waiting for", 3), ("state", 3), ("since", 1), ("last seen", 4), ("next", 3)):
        table.add_column(name, ratio=ratio, overflow="fold")
    for row in rows:
        look, since = row.look, clock_text(now_s - row.since_s)
        style = "green" if look.ok else "yellow"
        seen = look.evidence or (f"before: {row.before.state}" if row.before else "")
        cells = (look.thing, Text(look.state, style=style), since, seen, "done" if look.ok else look.then)
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    return table
