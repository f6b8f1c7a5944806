"""A real headless Chromium: pages as people see them, by mouse, by keyboard, on paper, without scripts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
AXE = Path(sys.prefix) / "node" / "node_modules" / "axe-core" / "axe.min.js"
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 800}
# It would otherwise look for its vendor's hosts at every start.
_ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage"
)

needed = pytest.mark.skipif(CHROMIUM is None or not AXE.is_file(), reason="needs chromium, and axe-core from npm")


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser of one's own."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS.split())
        try:
            yield started
        finally:
            started.close()


class Visit:
    """A page that somebody has opened; `heard` is what it asked for or complained of beyond itself."""

    def __init__(self, browser: Browser, path: Path, size: dict[str, int], *, scripts: bool = True) -> None:
        self.context = browser.new_context(viewport=size, java_script_enabled=scripts)
        self.page: Page = self.context.new_page()
        self.heard: list[str] = []
        self.page.on("console", lambda message: self.heard.append(message.text))
        self.page.on("pageerror", lambda error: self.heard.append(str(error)))
        self.page.on("dialog", lambda dialog: self.heard.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self._requested(request.url))
        self.page.goto(path.as_uri())

    def _requested(self, url: str) -> None:
        if not url.startswith(("file:", "data:")):
            self.heard.append(f"request: {url}")

    def barriers(self) -> list[str]:
        """Return what axe-core finds that keeps people out."""
        self.page.evaluate(AXE.read_text())
        found: dict[str, Any] = self.page.evaluate("axe.run()")
        assert found["passes"], "it has looked"
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]

    def shown(self, selector: str) -> list[str]:
        """Return the texts of the elements that can be seen."""
        return [(one.text_content() or "").strip() for one in self.page.locator(selector).all() if one.is_visible()]
