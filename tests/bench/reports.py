"""report.html of the largest real catalog, opened in a real browser: `python -m tests.bench.reports`."""

from __future__ import annotations

import lzma
import tempfile
import time
from pathlib import Path

from exporter.catalog.readers import file_based
from tests.bench.tools import missing_said
from tests.fakes import reports
from tests.fakes.browser import DESK, Visit, browser
from tests.fakes.catalogs import real
from tests.fakes.servers import require

LARGEST = Path(__file__).parents[3] / "shared" / "data" / "catalogs" / "large" / "community-all.json.xz"
TRIES = 3


def main() -> None:
    """Print how large the pages are, how long they take to make and to open."""
    require("chromium")
    if LARGEST.is_file():
        catalog = file_based.load([("catalog.json", lzma.decompress(LARGEST.read_bytes()))])
    else:
        print("the largest catalog is not here; a small one instead")
        catalog = real("fbc/community-v4.20")
    for title, full in (("the heads of all channels", False), ("everything", True)):
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
            home = Path(name)
            planned = reports.planned(catalog, full=full)
            began = time.monotonic()
            made = reports.reported(planned, home)
            took = time.monotonic() - began
            (home / "report.html").write_bytes(made.page)
            opened = min(_opened(home / "report.html") for _ in range(TRIES))
        print(
            f"{title}: {len(made.inventory.images)} images, {len(made.page) / 1e6:.1f} MB, {took:.1f} s to make, {opened:.2f} s to open"
        )


def _opened(page: Path) -> float:
    """Return the seconds until a page is loaded and drawn, without those of the browser's own start."""
    with browser() as started:
        began = time.monotonic()
        visit = Visit(started, page, DESK)
        visit.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return time.monotonic() - began


if __name__ == "__main__":
    with missing_said("reports"):
        main()
