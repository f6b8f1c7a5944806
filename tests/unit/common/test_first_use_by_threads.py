"""Threads that meet a type for the first time together: msgspec crashes the process then, unless its decoder was made before."""

from __future__ import annotations

import ast
import re
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


def test_decoders_are_made_at_import():
    """A Struct goes into a decoder that is made at import; what has no Struct in it may be named where it is read."""
    met = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("common", "exporter", "importer")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "msgspec.json.decode"
        for keyword in node.keywords
        if keyword.arg == "type" and isinstance(keyword.value, ast.Name)
    ]
    assert met == []


def test_types_of_converted_documents_are_inspected_at_import():
    """msgspec.convert inspects a Struct at its first use, too: two releases that were verified together ended the process."""
    source = {path: path.read_text() for folder in ("common", "exporter", "importer") for path in (ROOT / folder).rglob("*.py")}
    converted = {
        node.args[1].id
        for text in source.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"convert", "msgspec.convert"}
        if len(node.args) > 1 and isinstance(node.args[1], ast.Name)
    }
    made = {name for text in source.values() for name in re.findall(r"json\.Decoder\((\w+)\)", text)}
    assert converted >= {"_ImageStream", "_Metadata", "Template"}
    assert converted - made == set()
