"""Writes the table of docs/how-to/from-oc-mirror.md from that of the programs (common/cli/habits.py)."""

from __future__ import annotations

import re
from pathlib import Path

from common.cli.habits import markdown

PAGE = Path(__file__).parents[1] / "docs/how-to/from-oc-mirror.md"
BEGIN, END = "<!-- habits: made by tests/habits_page.py -->", "<!-- end of habits -->"

if __name__ == "__main__":
    text = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{markdown()}\n{END}", PAGE.read_text(), flags=re.DOTALL)
    PAGE.write_text(text)
