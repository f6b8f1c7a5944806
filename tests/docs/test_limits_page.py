"""docs/limits.md: each limit names its constant, which exists, and the file of its test, which exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.reading import ROOT

PAGE = ROOT / "docs" / "limits.md"
CONSTANT = re.compile(r"(_?[A-Z][A-Z0-9]*_[A-Z0-9_]+|_[A-Z]+|[A-Z]{5,})")


def rows() -> list[dict[str, str]]:
    """Return the rows of all tables, by the names of their columns."""
    found, names = [], None
    for line in PAGE.read_text().splitlines():
        if not line.startswith("|"):
            names = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if names is None:
            names = cells
        elif not line.startswith("|---"):
            assert len(cells) == len(names), line
            found.append(dict(zip(names, cells, strict=True)))
    return found


ROWS = rows()


@cache
def files(folder: str) -> list[Path]:
    return [path for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py"]


@cache
def defined() -> frozenset[str]:
    """Return the names of upper case that the programs define."""
    text = "\n".join(path.read_text() for folder in ("common", "exporter", "importer") for path in files(folder))
    return frozenset(
        re.findall(r"^(_?[A-Z][A-Z0-9_]*)(?:, _?[A-Z][A-Z0-9_]*)*\s*(?::[^=\n]+)?=", text, re.MULTILINE)
    ) | frozenset(
        name
        for line in re.findall(r"^((?:_?[A-Z][A-Z0-9_]*, )+_?[A-Z][A-Z0-9_]*) =", text, re.MULTILINE)
        for name in line.split(", ")
    )


def test_there_are_limits():
    assert len(ROWS) > 100


@pytest.mark.parametrize("column", ["limit", "value", "reason", "largest real value", "test"])
def test_each_row_has_what_a_reader_looks_for(column):
    assert [row["limit"] for row in ROWS if not row.get(column)] == []


def test_each_test_exists_once():
    """A file of tests by its name, or by its path where the page of its folder is another one."""
    wrong = []
    for row in ROWS:
        named = re.findall(r"`([^`]+)`", row["test"])
        for name in named or [""]:
            path = name.removesuffix(".py")
            there = [each for each in files("tests") if str(each.relative_to(ROOT).with_suffix("")).endswith(path)]
            if (
                not re.fullmatch(r"(\w+/)*test_\w+", path)
                or len([each for each in there if each.stem == path.rpartition("/")[2]]) != 1
            ):
                wrong.append((row["limit"], name))
    assert wrong == []


def test_each_constant_exists():
    named = {
        (row["limit"], name)
        for row in ROWS
        for text in re.findall(r"`([^`]+)`", row["limit"])
        for name in CONSTANT.findall(text)
    }
    assert len(named) > 60
    assert [(limit, name) for limit, name in sorted(named) if name not in defined() and limit.count("MAX_…") == 0] == []
