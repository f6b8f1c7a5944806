"""Threads that meet a type for the first time together: msgspec crashes the process then, unless its decoder was made before."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.samples import more

ROOT = Path(__file__).parents[3]
MEETING = """
import sys, threading
sys.setswitchinterval(1e-6)
from common.oci.image import parse
raw = b'{"schemaVersion": 2, "config": {"mediaType": "a", "digest": "sha256:%s", "size": 2}, "layers": []}' % (b"a" * 64)
start = threading.Barrier(8)
def meet():
    start.wait()
    parse(raw)
threads = [threading.Thread(target=meet) for _ in range(8)]
for each in threads:
    each.start()
for each in threads:
    each.join()
"""


@pytest.mark.parametrize("processes", [4, *more([40])])  # without prepared decoders, two in five of them die
def test_the_first_manifest_can_be_decoded_by_several_threads(processes):
    for _ in range(processes):
        assert subprocess.run([sys.executable, "-c", MEETING], cwd=ROOT, check=False, timeout=120).returncode == 0


def calls(name):
    """Yield module, tree and node of each call of a function of this name in the programs."""
    for folder in ("common", "exporter", "importer"):
        for path in (ROOT / folder).rglob("*.py"):
            # Most modules are not parsed, which takes ten times as long as this.
            if f"{name}(" in (text := path.read_text()):
                tree = ast.parse(text)
                for node in ast.walk(tree):
                    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(name):
                        yield path, tree, node


def test_decoders_are_made_at_import():
    """A Struct goes into a decoder that is made at import; what has no Struct in it may be named where it is read."""
    met = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, _, node in calls("msgspec.json.decode")
        for keyword in node.keywords
        if keyword.arg == "type" and isinstance(keyword.value, ast.Name)
    ]
    assert met == []


def home(path, tree, name):
    """Return the module that defines a name of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and name in (each.name for each in node.names):
            return ROOT / f"{node.module.replace('.', '/')}.py"
    return path


def test_types_of_converted_documents_are_inspected_at_import():
    """msgspec.convert inspects a Struct at its first use, too: two releases that were verified together ended the process."""
    converted = {
        (home(path, tree, node.args[1].id), node.args[1].id)
        for path, tree, node in calls("convert")
        if len(node.args) > 1 and isinstance(node.args[1], ast.Name)
    }
    assert {name for _, name in converted} >= {"_ImageStream", "_Metadata", "Template"}
    assert [name for path, name in converted if f"json.Decoder({name})" not in path.read_text()] == []
