"""Archives that nobody would write, and what a command takes to read one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.archive import frames, inventory_file
from common.archive.inventory import MEDIA_TYPE
from common.archive.metadata import INDEX_NAME
from common.archive.volume import END_MARK, OPENING, Footer, padded, padding, tar_header, volume_name
from common.oci.image import digest_of
from tests.fakes.secrets import leaked

_MEASURED = """
import runpy, sys, time
path, sys.argv[1:] = sys.argv[1], sys.argv[2:]
module = sys.argv[1]
sys.argv = [module, *sys.argv[2:]]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    open(path, "w").write(f"{peak} {time.process_time()}")
"""


def inventory(**fields: Any) -> dict[str, Any]:
    """Return the JSON of an inventory of one volume without blobs; `fields` replace or add to its own."""
    empty: dict[str, Any] = {"requires": [], "catalogs": [], "images": [], "manifests": {}, "blobs": {}, "problems": []}
    volumes = [{"name": volume_name(1), "dataSize": len(OPENING)}]
    told = {"mediaType": MEDIA_TYPE, "created": "2026-01-31T12:00:00Z", "tool": "x", "imageSet": {}, "volumes": volumes}
    return {**empty, **told, **fields}


def compact(document: Any) -> bytes:
    """Return JSON without a blank."""
    return json.dumps(document, separators=(",", ":")).encode()


def volume(raw: bytes, entries: Iterable[bytes] = ()) -> bytes:
    """Return a volume whose inventory is `raw`. `entries`: frames of metadata in place of an index of nothing."""
    index = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    usual = [frames.compress(tar_header(INDEX_NAME, len(index)) + padded(index))]
    before = b"".join([*(list(entries) or usual), frames.compress(tar_header(inventory_file.NAME, len(raw)))])
    content, rest = frames.compress(raw), bytes(padding(len(raw)))
    offset = len(OPENING) + len(before)
    footer = Footer(1, 1, len(OPENING), offset, len(content), digest_of(raw))
    return b"".join([OPENING, before, content, frames.compress(rest) if rest else b"", END_MARK, footer.pack()])


@dataclass(frozen=True)
class Taken:
    """What a command did, and what it took: bytes of memory at the most, seconds of CPU."""

    status: int
    stdout: str
    stderr: str
    memory: int
    cpu: float


def measured(folder: Path, program: str, *arguments: str | Path) -> Taken:
    """Run `hub-export` or `hub-import` in a process of its own."""
    report, module = folder / "measured", {"hub-export": "exporter", "hub-import": "importer"}[program]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(report), module, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", "COLUMNS": "200"},
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
    )
    assert not leaked(done.stdout + done.stderr)
    peak, cpu = report.read_text().split()
    return Taken(done.returncode, done.stdout, done.stderr, int(peak) * 1024, float(cpu))
