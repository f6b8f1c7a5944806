"""docs/reference/limits.md: each limit names its constant, which exists, and the file of its test, which exists."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.reading import ROOT

PAGE = ROOT / "docs" / "reference" / "limits.md"
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


def test_a_constant_is_in_the_module_that_the_page_names():
    """A value is compared where its module is found: one that has moved would be compared no more."""
    paths = [path for folder in ("common", "exporter", "importer") for path in files(folder)]
    named = {each for row in ROWS for each in re.findall(r"`([\w./]+)\.(_?[A-Z][A-Z0-9_]+)`", row["limit"])}
    assert len(named) > 60
    for module, name in sorted(named):
        homes = [path for path in paths if str(path.with_suffix("")).endswith("/" + module.replace(".", "/"))]
        assert any(re.search(rf"^(\w+, )*{name}\b", path.read_text(), re.MULTILINE) for path in homes), f"{module}.{name}"


UNITS = {"": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "s": 1, "characters": 1}
OPERATORS = {ast.Mult: operator.mul, ast.Pow: operator.pow, ast.LShift: operator.lshift, ast.Sub: operator.sub}


def number(node: ast.expr) -> float | None:
    """Return the value of a constant that is written as a product, power or shift of numbers."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = number(node.left), number(node.right)
        return None if left is None or right is None else OPERATORS[type(node.op)](left, right)
    return None


@cache
def constants(module: str) -> dict[str, float]:
    """Return the numbers that modules of a name define."""
    found: dict[str, float] = {}
    for folder in ("common", "exporter", "importer"):
        for path in files(folder):
            if str(path.with_suffix("")).endswith("/" + module):
                for node in ast.parse(path.read_text()).body:
                    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                        value = number(node.value)
                        found |= {} if value is None else {node.targets[0].id: value}
    return found


def documented() -> Iterator[tuple[str, float, float]]:
    """Give the constants of a module whose value stands in the table, with both values."""
    for row in ROWS:
        named = [text for text in re.findall(r"`([^`]+)`", row["limit"]) if CONSTANT.search(text)]
        values = row["value"].split(", ")
        module = ""
        for name, value in zip(named, values, strict=False):
            before, _, constant = name.rpartition(".")
            module = before.replace(".", "/") or module
            match = re.match(r"([\d,.]+)(?: (bytes|KiB|MiB|GiB|TiB|s|characters)\b)?", value)
            if module and constant in constants(module) and match and len(values) == len(named):
                yield name, constants(module)[constant], float(match[1].replace(",", "")) * UNITS[match[2] or ""]


def test_each_value_is_that_of_its_constant():
    found = list(documented())
    assert len(found) > 60
    assert [each for each in found if each[1] != each[2]] == []
