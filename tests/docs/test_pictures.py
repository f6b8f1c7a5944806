"""The pictures of the documentation: there, small, shown by a page, and made by a script; and the page that describes what they show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import pictures
from tests.docs.reading import DOCUMENTS, ROOT
from tests.fakes.browser import needed
from tests.fakes.png import header_of

NAMES = ("report.png", "report-dark.png", "deploy.png", "deploy-dark.png")
MOST = 150_000  # bytes
PAGES = (ROOT / "docs" / "reference" / "pages.md").read_text()
TEMPLATES = [path for side in ("exporter", "importer") for path in (ROOT / side / "report").glob("*.jinja")]


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_png_of_a_moderate_size(name: str) -> None:
    picture = (pictures.PICTURES / name).read_bytes()
    assert header_of(picture).width == 1280
    assert len(picture) < MOST


def test_no_other_file_is_with_the_pictures() -> None:
    assert sorted(path.name for path in pictures.PICTURES.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if "dark" not in name])
def test_pictures_are_shown(name: str) -> None:
    assert any(f"pictures/{name}" in path.read_text() for path in DOCUMENTS)


@pytest.mark.integration
@pytest.mark.more
@needed
def test_the_script_makes_them(tmp_path: Path) -> None:
    """Other fonts and browsers draw other pixels: width, number and size are what can be compared."""
    pictures.main(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    for path in tmp_path.iterdir():
        assert header_of(path.read_bytes()) == header_of((pictures.PICTURES / path.name).read_bytes())
        assert path.stat().st_size < MOST


def test_a_picture_has_nothing_of_this_machine(tmp_path: Path) -> None:
    inventory, report = pictures.archive(tmp_path)
    for page in (report, pictures.deploy(tmp_path, inventory)):
        text = page.decode()
        assert str(tmp_path) not in text
        assert "/tmp" not in text
        assert "quay.io/example" not in text


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_each_section_of_a_page_is_described(path: Path) -> None:
    found = re.findall(r'<(?:section|nav) id="([^"]+)"', path.read_text())
    assert [name for name in found if f"`#{name}`" not in PAGES] == []
