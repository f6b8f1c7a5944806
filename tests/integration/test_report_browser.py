"""report.html in a real browser: read, searched, printed, without scripts, on a phone, and full of hostile names."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from exporter.catalog.model import Catalog
from tests.fakes import reports
from tests.fakes.browser import DESK, PHONE, Visit, needed
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, real
from tests.samples import more

pytestmark = [pytest.mark.integration, needed]
PACKAGES = ("infinispan", "kube-green", "sailoperator", "layer7-operator")
EVIL = '"><script>document.title="owned"</script><img src="http://127.0.0.1:9/x" onerror="alert(1)">'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of four real operators after an archive of two of them, with an image that could not be fetched."""
    home = tmp_path_factory.mktemp("report")
    catalog, lost = real("fbc/community-v4.20"), ["caapim/gateway"]
    return written(home, reports.increment(catalog, PACKAGES[:2], PACKAGES, home, lost=lost, volume_size=1024**3).page)


def written(home: Path, page: bytes) -> Path:
    path = home / "report.html"
    path.write_bytes(page)
    return path


@pytest.mark.parametrize("size", [DESK, *more([PHONE])], ids=["desk", "phone"])
def test_nothing_keeps_anybody_out(chromium: Browser, report: Path, size: dict[str, int]) -> None:
    visit = Visit(chromium, report, size)
    visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert visit.barriers() == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= size["width"], "it is not wider than the screen"
    assert visit.heard == []


def test_it_says_what_is_inside(chromium: Browser, report: Path) -> None:
    visit = Visit(chromium, report, DESK)
    assert visit.page.inner_text("h1") == "4 operators for a disconnected cluster"
    assert visit.shown(".card h4") == ["Infinispan Operator", "kube-green", "Layer7 Operator", "Sail Operator"]
    assert visit.page.inner_text(".verdict").startswith("Not complete: 1 problem, 1 image incomplete")
    assert "docker.io/caapim/gateway" in visit.page.inner_text("#problems")
    visit.page.locator("#operators").scroll_into_view_if_needed()  # icons are loaded when they come near
    visit.page.wait_for_function("[...document.images].every((one) => one.complete)")
    assert visit.page.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)"), "icons are drawn"


def test_search_finds_operators_images_and_digests(chromium: Browser, report: Path) -> None:
    visit = Visit(chromium, report, DESK)
    page = visit.page
    everything = page.locator("[data-find]").count()
    page.fill("#find", "INFINISPAN operator:2")
    cards, rows = visit.shown(".card h4"), visit.shown("#images .row")
    assert rows
    assert all("infinispan" in row.lower() and "operator:2" in row.lower() for row in rows)
    assert "Sail Operator" not in cards
    assert page.inner_text("#found") == f"{len(cards) + len(rows)} of {everything} shown"
    digest = page.locator("#images .row code").first.text_content() or ""
    page.fill("#find", digest)
    assert len(visit.shown("#images .row")) == 1
    page.fill("#find", "nothing is called like this")
    assert visit.shown("[data-find]") == []
    assert not page.locator("#images").is_visible()
    page.click("button[type=reset]")
    page.wait_for_function("document.getElementById('found').textContent === ''")
    assert len(visit.shown(".card")) == len(PACKAGES)


@pytest.mark.parametrize(
    ("kind", "cards", "rows"),
    [
        ("incomplete", 0, 1),
        *[
            pytest.param(*each, marks=pytest.mark.more)
            for each in [("operator", 4, 0), ("bundle", 0, None), ("changed", 2, 0), ("problem", 0, 0)]
        ],
    ],
)
def test_the_filter_shows_one_kind(chromium: Browser, report: Path, kind: str, cards: int, rows: int | None) -> None:
    visit = Visit(chromium, report, DESK)
    visit.page.select_option("#kind", kind)
    assert len(visit.shown(".card")) == cards
    shown = visit.shown("#images .row")
    if rows is None:
        assert shown
        assert all(kind in row for row in shown)
    else:
        assert len(shown) == rows
    assert bool(visit.shown("#problems .row")) == (kind == "problem")


def test_a_box_of_the_treemap_leads_to_its_operator(chromium: Browser, report: Path) -> None:
    visit = Visit(chromium, report, DESK)
    page = visit.page
    page.select_option("#kind", "problem")  # which hides what the box leads to
    page.locator("svg.broad a", has_text="infinispan").first.click()
    card = page.locator(".card:target")
    card.wait_for(state="visible")  # `hashchange` comes a moment after the click
    assert card.locator("h4").inner_text() == "Infinispan Operator"
    assert card.locator("details").get_attribute("open") is not None
    card.scroll_into_view_if_needed()
    assert card.is_visible()


@pytest.mark.parametrize(
    ("size", "shape"),
    [pytest.param(DESK, "broad", id="desk"), pytest.param(PHONE, "narrow", id="phone", marks=pytest.mark.more)],
)
def test_areas_of_the_treemap_are_as_the_sizes(chromium: Browser, report: Path, size: dict[str, int], shape: str) -> None:
    visit = Visit(chromium, report, size)
    areas = visit.page.evaluate(
        """(shape) => [...document.querySelectorAll(`#sizes svg.${shape}[role=group] rect`)].map((one) => {
             const box = one.getBoundingClientRect();
             return [box.width * box.height, parseFloat(one.parentElement.querySelector("title").textContent.split(", ")[1])];
           })""",
        shape,
    )
    assert len(areas) >= len(PACKAGES)
    whole = sum(area for area, _ in areas)
    for area, percent in areas:
        assert 100 * area / whole == pytest.approx(percent, abs=0.6)


def test_on_paper_everything_is_open(chromium: Browser, report: Path, tmp_path: Path) -> None:
    visit = Visit(chromium, report, DESK)
    pdf = tmp_path / "report.pdf"
    assert "3.3.1 in 3.x" not in visit.page.inner_text("body")
    hidden = visit.page.locator(".versions li").first
    assert not hidden.is_visible()
    line = " ".join((hidden.text_content() or "").split()[:3])
    visit.page.pdf(path=pdf, format="A4")
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], check=True, capture_output=True, text=True).stdout
    assert line in " ".join(text.split()), "versions are in closed details on the screen"
    assert "Search operators" not in text
    assert text.count("sha256:") > visit.page.locator("#images .row").count()
    assert not hidden.is_visible(), "and as it was afterwards"


def test_without_scripts_it_is_whole(chromium: Browser, report: Path) -> None:
    visit = Visit(chromium, report, DESK, scripts=False)
    page = visit.page
    assert not page.locator(".find").is_visible(), "a search that would not work is not offered"
    assert len(visit.shown(".card")) == len(PACKAGES)
    assert page.locator("#sizes svg.broad").first.is_visible()
    page.locator(".card summary").first.click()
    assert page.locator(".card .versions").first.is_visible()
    page.locator("svg.broad a", has_text="sailoperator").first.click()
    assert page.locator(".card:target h4").inner_text() == "Sail Operator"


def hostile() -> Catalog:
    """A catalog whose every text tries to be more than text."""
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg"><script>top.document.title="owned"</script><image href="http://127.0.0.1:9/y"/></svg>'
    icon = {"base64data": base64.b64encode(drawing).decode(), "mediatype": "image/svg+xml"}
    bundle = bundle_blob("foo.v1.0.0", relatedImages=[{"name": EVIL, "image": "quay.io/example/operand:1"}])
    bundle["properties"][1]["value"] = {
        "displayName": EVIL,
        "provider": {"name": "javascript:alert(1)\u202e"},
        "annotations": {"description": f"</style></script>{EVIL}"},
    }
    return catalog_of(package_blob(icon=icon), channel_blob("stable", [entry("foo.v1.0.0")]), bundle)


def test_hostile_texts_stay_texts(chromium: Browser, tmp_path: Path) -> None:
    made = reports.planned(hostile())
    visit = Visit(chromium, written(tmp_path, reports.reported(made, tmp_path, image_set=reports.asked(EVIL)).page), DESK)
    visit.page.wait_for_load_state("networkidle")
    assert visit.page.inner_text(".card h4") == EVIL
    assert "owned" not in visit.page.title()
    assert visit.page.locator("body img").count() == 1, "the icon, and no other"
    assert visit.heard == [], "nothing was asked for, and nothing had to be refused"


def test_what_slipped_through_would_not_run(chromium: Browser, tmp_path: Path) -> None:
    """The content security policy works: a script that is injected into the page does not run."""
    page = reports.reported(reports.planned(hostile()), tmp_path).page.replace(b"</body>", f"{EVIL}</body>".encode())
    visit = Visit(chromium, written(tmp_path, page), DESK)
    visit.page.wait_for_load_state("networkidle")
    assert "owned" not in visit.page.title()
    assert any("Content Security Policy" in line for line in visit.heard)
    assert not any(line.startswith("dialog") for line in visit.heard)


def test_many_images_are_not_drawn_at_once(chromium: Browser, tmp_path: Path) -> None:
    """What keeps the page of the largest catalog quick is counted here, and timed by `make bench`."""
    made = reports.reported(reports.planned(real("fbc/community-v4.20"), full=True), tmp_path)
    visit = Visit(chromium, written(tmp_path, made.page), DESK)
    images = visit.page.locator("#images .row").count()
    assert images > 800
    assert visit.page.evaluate("document.querySelectorAll('#images *').length") < 8 * images
    assert visit.page.evaluate("Math.max(...[...document.querySelectorAll('.far')].map((one) => one.children.length))") == 100
    assert visit.page.evaluate("getComputedStyle(document.querySelector('.far')).contentVisibility") == "auto"
