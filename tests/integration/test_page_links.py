"""Links within the report and the page of a deploy: each lands at its target, however it is followed; and pages that all can use."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests import pictures
from tests.fakes import reports
from tests.fakes.browser import DESK, PHONE, Visit, needed
from tests.fakes.catalogs import real
from tests.samples import more

pytestmark = [pytest.mark.integration, needed]
ASKED = ("kube-green", "layer7-operator", "sailoperator", "rabbitmq-messaging-topology-operator")
NARROW, ZOOMED = {"width": 320, "height": 700}, {"width": 640, "height": 450}  # 640: 1280 px at 200 %
# The place of the target below what covers the top; 0 where the page ends or begins before it.
PLACE = """(id) => {
  const bar = document.querySelector("form.find")?.getBoundingClientRect();
  const top = document.getElementById(id).getBoundingClientRect().top;
  const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
  if (top >= 0 && top < innerHeight && (atEnd || scrollY === 0)) return 0;
  return Math.round(top - (bar && bar.top <= 0 ? Math.max(bar.bottom, 0) : 0));
}"""
# As a click does; links of pictures have no method for it.
FOLLOW = """(link) => {
  history.replaceState(null, "", "#");
  link.scrollIntoView({ block: "center" });
  link.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An increment with many problems, added operators and links of each kind."""
    home = tmp_path_factory.mktemp("report")
    lost = ["caapim/gateway", "istio-release/pilot", "istio-release/proxyv2"]
    page = home / "report.html"
    page.write_bytes(reports.increment(real("fbc/community-v4.20"), ASKED[:1], ASKED, home, lost=lost).page)
    return page


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("deployed")
    inventory, _ = pictures.archive(home)
    page = home / "page.html"
    page.write_bytes(pictures.deploy(home, inventory))
    return page


def landed_at(page: Page, target: str) -> int:
    """Return the place of a target when it is the same as some frames before. Without scripts, no frame calls back."""
    page.wait_for_url(f"**#{target}")
    last, same = None, 0
    for _ in range(100):
        place: int = page.evaluate(PLACE, target)
        same = same + 1 if place == last else 0
        if same > 3:
            break
        last = place
        page.wait_for_timeout(50)
    return place


def targets(page: Page) -> dict[str, str]:
    """Return one link for each part of the page and target: selectors by what they are, with the targets."""
    found: dict[str, str] = page.evaluate(
        """() => {
          const links = [...document.querySelectorAll("a[href^='#']:not(.skip)")], firsts = new Map();
          links.forEach((link, number) => {
            link.dataset.number = number;
            const part = link.closest("nav, section[id], form, header")?.id || "head";
            const key = part === "images" || part === "sizes" ? part : `${part} ${link.getAttribute("href")}`;
            if (link.checkVisibility() && !firsts.has(key)) firsts.set(key, link);
          });
          return Object.fromEntries([...firsts].map(([key, link]) => [`a[data-number="${link.dataset.number}"]`, link.getAttribute("href").slice(1)]));
        }"""
    )
    return found


@pytest.mark.parametrize("name", ["report", "deployed"])
def test_each_link_has_a_target(name: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(name).read_text()
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)


@pytest.mark.parametrize("scripts", [True, *more([False])], ids=["script", "no script"])
@pytest.mark.parametrize("size", [DESK, *more([PHONE, NARROW])])
@pytest.mark.parametrize("name", ["report", *more(["deployed"])])
def test_each_link_lands(
    chromium: Browser, name: str, size: dict[str, int], request: pytest.FixtureRequest, *, scripts: bool
) -> None:
    """In each part of the page: head, contents, search bar, tables, size picture, list of images."""
    visit = Visit(chromium, request.getfixturevalue(name), size, scripts=scripts)
    page, landed = visit.page, {}
    found = targets(page)
    assert len(found) >= 7
    for selector, target in found.items():
        page.locator(selector).evaluate(FOLLOW)
        landed[f"{selector} #{target}"] = landed_at(page, target)
    visit.context.close()
    assert {link: top for link, top in landed.items() if not -1 <= top <= 60} == {}


def test_other_ways_lead_there_too(chromium: Browser, report: Path) -> None:
    visit = Visit(chromium, report, DESK)
    page = visit.page
    page.goto(f"{report.as_uri()}#images")  # the address of a section, as it is sent to a colleague
    page.reload()
    assert 0 <= landed_at(page, "images") <= 60
    page.go_back()
    page.evaluate("scrollTo(0, 0)")
    page.locator(".contents a[href='#sizes']").focus()
    page.keyboard.press("Enter")
    assert 0 <= landed_at(page, "sizes") <= 60
    page.fill("#find", "nothing is called like this")
    page.locator(".contents a[href='#added']").click()  # a section that the search left without what it lists
    page.locator("#added a").first.click()
    target = page.url.rpartition("#")[2]
    assert 0 <= landed_at(page, target) <= 60
    assert page.locator(f"#{target}").is_visible()
    assert page.input_value("#find") == ""
    inside = page.locator("#problems details .row").last
    inside.evaluate("(row) => { row.closest('details').open = false; }")  # the search has opened it
    assert not inside.is_visible()
    inside.evaluate("(row) => { row.id = 'inside'; location.hash = 'inside'; }")
    inside.wait_for(state="visible")
    visit.context.close()


@pytest.mark.parametrize("scheme", ["dark", *more(["light"])])
@pytest.mark.parametrize("name", ["deployed", *more(["report"])])
def test_all_can_use_the_pages(chromium: Browser, name: str, scheme: str, request: pytest.FixtureRequest) -> None:
    visit = Visit(chromium, request.getfixturevalue(name), DESK)
    page = visit.page
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert visit.barriers() == [], "contrast, headings, landmarks, labels, header cells"
    page.evaluate("scrollTo(0, 0)")
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate(
            "(() => { const one = getComputedStyle(document.activeElement); return [one.outlineStyle, one.outlineWidth]; })()"
        )
        assert outline == ["solid", "3px"]
    for size in (NARROW, ZOOMED):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    visit.context.close()


def test_the_page_of_a_deploy_on_paper(chromium: Browser, deployed: Path, tmp_path: Path) -> None:
    visit = Visit(chromium, deployed, DESK)
    visit.page.emulate_media(color_scheme="dark")
    pdf = tmp_path / "deploy.pdf"
    visit.page.pdf(path=pdf, format="A4")
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], check=True, capture_output=True, text=True).stdout
    pages = text.removesuffix("\f").split("\f")
    assert len(pages) == 2
    (digest,) = set(re.findall(r"sha256:[0-9a-f]{64}", pages[0]))
    for number, page in enumerate(pages, 1):
        assert f"{digest} 30 Nov 2026 09:14 UTC week-48" in " ".join(page.split())
        assert f"page {number} of 2" in page
    assert "https://api.prod.example.com:6443 (context prod-admin, OpenShift 4.18.20)" in pages[0]
    assert "disableAllDefaultSources: true" in text, "differences are in closed parts on the screen"
    assert "Search" not in text
    visit.context.close()


def test_nothing_moves() -> None:
    style = (Path(pictures.__file__).parents[1] / "common/pages/page.css").read_text()
    assert not re.search(r"transition|animation|scroll-behavior", style)
