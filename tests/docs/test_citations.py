"""Paths and names that pages, docstrings and comments cite exist: a reader who follows one arrives."""

from __future__ import annotations

import ast
import importlib
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

from tests.docs.reading import DOCUMENTS, ROOT

PACKAGES = ("common", "exporter", "importer")
# Studies of other projects cite the files of those.
PAGES = [path for path in DOCUMENTS if "facts" not in path.relative_to(ROOT).parts]
MODULES = sorted(file for package in (*PACKAGES, "tests") for file in (ROOT / package).rglob("*.py"))
# Files of other projects, with the project.
FOREIGN = {
    "deploy/upstream/values.yaml": "operator-lifecycle-manager",
    "docs/attestations/attestation-storage.md": "buildkit",
    "docs/containers-signature.5.md": "containers/image",
    "docs/OSUpgrades.md": "machine-config-operator",
    "docs/design/openshift.md": "cincinnati",
    "docs/design/operator-bundle.md": "operator-registry",
    "docs/graph-data-init-container.md": "cincinnati-operator",
    "docs/hosts.md": "containerd",
    "docs/project/olmv1_limitations.md": "operator-controller",
    "docs/storage/disks_and_volumes.md": "kubevirt",
    "docs/user/howto_config.md": "microshift",
    "endpoints/v2/__init__.py": "quay/quay",
    "endpoints/v2/v2auth.py": "quay/quay",
}
_PATH = re.compile(r"(?<![\w./:@{}-])(?:docs|common|exporter|importer|tests|deploy|design|facts|cases)/[\w./-]*\w")
_FILE = re.compile(r"`((?:\w+/)*\w+\.(?:py|md))\b")
_NAME = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`")
# Of a citation of any form: a module without one is neither parsed nor divided into tokens, which is nearly all of the CPU.
_ANY = re.compile(
    rf"(?:docs|common|exporter|importer|tests|deploy|design|facts|cases)/|\w\.(?:py|md)\b|`(?:{'|'.join(PACKAGES)})\."
)


def name_of(path):
    return str(path.relative_to(ROOT))


def prose(path):
    """Return the text of a page, or the docstrings and comments of a module."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return source
    if not _ANY.search(source):
        return ""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
    found += [each.string for each in tokenize.generate_tokens(io.StringIO(source).readline) if each.type == tokenize.COMMENT]
    return "\n".join(found)


@cache
def endings():
    """Return the path of each source file and page, and each end of it: a room cites its own modules without the path."""
    found = [file for top in (*PACKAGES, "tests", "docs") for file in (ROOT / top).rglob("*.*")] + list(ROOT.glob("*.md"))
    parts = [file.relative_to(ROOT).parts for file in found]
    return {"/".join(each[start:]) for each in parts for start in range(len(each))}


def is_name(dotted):
    """Say whether a dotted name is a module, or something that a module has."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:length])
        if not (place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()):
            continue
        found = importlib.import_module(".".join(parts[:length]))
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def broken(path):
    """Return what a file cites and does not exist. A page may cite relative to its own folder."""
    text = prose(path)
    bases = [ROOT, path.parent] if path.suffix == ".md" else [ROOT]

    def is_foreign(cited):
        return FOREIGN.get(cited, "\0") in text

    paths = [path for path in _PATH.findall(text) if not any((base / path).exists() for base in bases)]
    files = [file for file in _FILE.findall(text) if file not in endings()]
    names = [name for name in _NAME.findall(text) if not is_name(name)]
    return sorted({cited for cited in (*paths, *files, *names) if not is_foreign(cited)})


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_what_a_page_cites_exists(path):
    assert broken(path) == []


def test_what_docstrings_and_comments_cite_exists():
    assert {name_of(path): found for path in MODULES if (found := broken(path))} == {}


def test_a_citation_of_nothing_is_found():
    page = Path(__file__).with_suffix(".none.md")
    page.write_text("see `common/nothing.py`, `docs/reference/cli.md`, `nothing.py`, `common.files.nothing`, `common.files`")
    try:
        assert broken(page) == ["common.files.nothing", "common/nothing.py", "nothing.py"]
    finally:
        page.unlink()
