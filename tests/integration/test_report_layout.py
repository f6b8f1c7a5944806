"""report.html in a browser: where links at the top lead at each width, printed pages, dark colours, tables and boxes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from common.archive import inventory_file
from common.oci.image import digest_of
from common.sbom.document import Package
from common.sbom.software import ImageSoftware, Software
from exporter.catalog.model import Catalog
from exporter.report import software
from exporter.report.facts import facts_of
from exporter.report.page import Report
from tests.fakes import reports
from tests.fakes.browser import DESK, PHONE, Visit, needed
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, real
from tests.samples import more

pytestmark = [pytest.mark.integration, needed]
PACKAGES = ("infinispan", "kube-green", "sailoperator", "layer7-operator")
LONG = "Deploys a database with replicas, backups and monitoring. " * 8


def small(home: Path) -> bytes:
    return reports.reported(reports.planned(real("fbc/community-v4.20"), PACKAGES[1:2]), home).page


def many_volumes(home: Path) -> bytes:
    made = reports.reported(reports.planned(real("fbc/community-v4.20"), PACKAGES), home, volume_size=620 * 1024**2)
    assert len(made.inventory.volumes) >= 16
    return made.page


def large(home: Path) -> bytes:
    """326 operators, whose cards are of different heights."""
    return reports.reported(reports.planned(catalog(326), full=True), home).page


def catalog(count: int) -> Catalog:
    blobs = []
    for number in range(count):
        name = f"operator-{number:03}"
        images = [f"quay.io/example/{name}-{part}@sha256:{number * 100 + part:064x}" for part in range(number % 19)]
        bundle = bundle_blob(
            f"{name}.v1.0.0", package=name, relatedImages=[{"name": f"i{i}", "image": one} for i, one in enumerate(images)]
        )
        bundle["properties"][1]["value"] = {"annotations": {"description": LONG[: 20 + number % 7 * 60]}}
        blobs += [package_blob(name), channel_blob("stable", [entry(f"{name}.v1.0.0")], package=name), bundle]
    return catalog_of(*blobs)


def landed(page: Page, link: str) -> float:
    """Follow a link of the contents, and return how far below the top of what can be seen its heading is, in pixels."""
    page.evaluate("scrollTo(0, 0)")
    page.locator(f".contents a[href='{link}']").click()
    # The position is measured when it has stayed the same for some frames, longer than the page corrects it.
    top: float = page.evaluate(
        """(link) => new Promise((done) => {
             let last, same = 0, frames = 0;
             const look = () => {
               const bar = document.querySelector(".find"), sticky = getComputedStyle(bar).position === "sticky";
               const top = document.querySelector(`${link} h2`).getBoundingClientRect().top - (sticky ? bar.offsetHeight : 0);
               same = top === last && location.hash === link ? same + 1 : 0;
               last = top;
               if (same > 14 || ++frames > 200) {
                 const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
                 done(atEnd && top > 0 && top < innerHeight ? 0 : top);  // the page ends before the heading can reach the top
               } else requestAnimationFrame(look);
             };
             requestAnimationFrame(look);
           })""",
        link,
    )
    return top


@pytest.fixture(scope="module", params=[small, large, *more([many_volumes])])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("report")
    path = home / "report.html"
    path.write_bytes(request.param(home))
    return path


@pytest.mark.parametrize("size", [DESK, *more([PHONE, {"width": 700, "height": 500}, {"width": 2560, "height": 1300}])])
def test_links_lead_to_their_headings(chromium: Browser, page: Path, size: dict[str, int]) -> None:
    visit = Visit(chromium, page, size)
    links = [str(one.get_attribute("href")) for one in visit.page.locator(".contents a").all()]
    assert len(links) >= 5
    tops = {link: landed(visit.page, link) for link in (*links, links[0])}
    visit.context.close()
    assert {link: round(top) for link, top in tops.items() if not 0 <= top <= 60} == {}


SEVEN = (*PACKAGES, "apicurio-registry-3", "ecr-secret-operator", "kepler-operator")


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The report of 7 operators with 381 images, and the digest of its archive."""
    home = tmp_path_factory.mktemp("seven")
    made = reports.reported(
        reports.planned(real("fbc/community-v4.20"), SEVEN), home, requested_by="Jo Smith", purpose='"CHG-7" </style>'
    )
    path = home / "report.html"
    path.write_bytes(made.page)
    return path, digest_of(inventory_file.encode(made.inventory))


def test_printed_pages_are_few_and_each_names_the_archive(chromium: Browser, seven: tuple[Path, str], tmp_path: Path) -> None:
    visit = Visit(chromium, seven[0], DESK)
    pdf = tmp_path / "report.pdf"
    visit.page.pdf(path=pdf, format="A4")
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], check=True, capture_output=True, text=True).stdout
    pages = text.removesuffix("\f").split("\f")
    assert len(pages) <= 8
    for number, page in enumerate(pages, 1):
        assert seven[1] in page
        assert f"page {number} of {len(pages)}" in page
    for word in ("Requested by", "Jo Smith", '"CHG-7" </style>', "Decision", "refused", "Name", "Date, signature"):
        assert word in pages[0]
    listed = visit.page.locator("#images .row > code").count()
    assert sum(page.count("sha256:") for page in pages) >= listed, "digests of the appendix are whole lines"
    visit.context.close()


def test_dark_pages_can_be_read(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(small(tmp_path))
    visit = Visit(chromium, path, DESK)
    visit.page.emulate_media(color_scheme="dark")
    paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", paper)[:3])) < 150
    visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert visit.barriers() == []
    assert not visit.page.locator(".approval").is_visible()
    visit.page.emulate_media(color_scheme="dark", media="print")
    assert visit.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()") == "#1a1d21"
    visit.context.close()


def test_one_volume_is_drawn_once_and_names_do_not_break(chromium: Browser, tmp_path: Path, seven: tuple[Path, str]) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(small(tmp_path))
    visit = Visit(chromium, path, DESK)
    assert visit.page.locator("svg.map.broad").count() == 1
    visit.context.close()
    visit = Visit(chromium, seven[0], PHONE)
    assert visit.page.locator("svg.map.narrow").count() == 2
    heights = visit.page.evaluate(
        """[...document.querySelectorAll("td.name")].map((one) => {
             const range = document.createRange();
             range.selectNodeContents(one);
             return range.getClientRects().length;
           })"""
    )
    assert set(heights) == {1}, "each name has one line"
    lines = visit.page.evaluate(
        """[...document.querySelectorAll("#files td.digest")].map((one) => {
             const range = document.createRange();
             range.selectNodeContents(one);
             return range.getClientRects().length;
           })"""
    )
    assert lines and max(lines) <= 2, "a checksum can be compared"  # noqa: PT018 - lines
    facts = visit.page.evaluate("[...document.querySelectorAll('.facts div')].map((one) => one.getBoundingClientRect().top)")
    assert all(facts.count(top) == 2 for top in facts), "no box is alone on a line"
    visit.context.close()


@pytest.fixture(scope="module")
def with_software(seven: tuple[Path, str]) -> Path:
    """The report of the 7 operators, with SBOMs of most of their images."""
    home = seven[0].parent / "software"
    home.mkdir()
    planned = reports.planned(real("fbc/community-v4.20"), SEVEN)
    made = reports.reported(planned, home, requested_by="Jo Smith", purpose="CHG-7")
    images = [ImageSoftware(one.digest, [one]) for one in made.inventory.images if one.digest and one.needed_by]
    found = Software(images)
    for number in range(700):
        licence = f"LicenseRef-{number % 80}" if number % 7 else "MIT AND Zlib"
        package = Package(f"package-{number:04}", f"1.{number}", "rpm", licence, "")
        found.packages[package] = [number % len(images)]
    report = Report(facts_of(planned), made.settings.making)
    path = home / "report.html"
    path.write_bytes(report._page(made.inventory, [], digest_of(b"archive"), software._shown(found)))
    return path


def test_packages_are_searched_and_the_printed_page_has_the_licences_alone(
    chromium: Browser, with_software: Path, tmp_path: Path
) -> None:
    visit = Visit(chromium, with_software, DESK)
    assert 0 <= landed(visit.page, "#software") <= 60
    visit.page.fill("#find", "package-0123")
    hit = visit.page.locator("#software tr[data-find=package]:visible")
    assert hit.count() == 1
    assert 0 <= hit.bounding_box()["y"] <= DESK["height"]  # type: ignore[index]
    visit.page.fill("#find", "")
    visit.page.pdf(path=tmp_path / "report.pdf", format="A4")
    text = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "report.pdf", "-"], check=True, capture_output=True, text=True
    ).stdout
    assert len(text.removesuffix("\f").split("\f")) <= 8
    assert "MIT (100)" in text
    assert "package-0123" not in text
    visit.context.close()


@pytest.mark.more
def test_software_is_readable_on_a_phone(chromium: Browser, with_software: Path) -> None:
    visit = Visit(chromium, with_software, PHONE)
    assert 0 <= landed(visit.page, "#software") <= 60
    assert not visit.page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert visit.barriers() == []
    visit.context.close()
