"""Loading and selection, each in a process of its own: CPU and memory beside what the bytes themselves cost.

The catalogs are the largest real one as a JSON stream, and the beginning of the same one as YAML.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from exporter.catalog.dependencies import Selected, close
from exporter.catalog.readers import file_based
from exporter.catalog.selection import select
from exporter.imageset.model import OperatorRequest, PackageRequest
from tests.bench.goods import largest
from tests.bench.meter import peak_of
from tests.bench.rows import Row

_YAML_SIZE = 13_000_000
_TIMES = 3


def rows(home: Path) -> list[Row]:
    """Return what loading the largest catalog, and selecting from it cost; files are written into `home`."""
    raw = largest()
    (home / "catalog.json").write_bytes(raw)
    (home / "catalog.yaml").write_text(_as_yaml(raw))
    ours, plain = _best("load", home), _best("plain", home)
    yaml_ours, yaml_plain = _best("load-yaml", home), _best("plain-yaml", home)
    chosen, half = _best("select", home), _best("select-half", home)
    yaml_size = (home / "catalog.yaml").stat().st_size
    return [
        Row(
            f"load {len(raw) / 1e6:.0f} MB of JSON, CPU",
            ours["cpu"],
            1.5,
            "s",
            f"`json.loads` of the same bytes: {plain['cpu']:.1f} s",
        ),
        Row("… memory", ours["memory"] / len(raw), 2.0, "× its size", f"`json.loads`: {plain['memory'] / len(raw):.1f} ×"),
        Row(
            f"load {yaml_size / 1e6:.0f} MB of YAML, CPU",
            yaml_ours["cpu"] / yaml_plain["cpu"],
            1.5,
            "× PyYAML's C loader",
            f"{yaml_ours['cpu']:.1f} s and {yaml_plain['cpu']:.1f} s",
        ),
        Row(
            "selection and closure over all of it, CPU",
            chosen["cpu"],
            1.0,
            "s",
            f"of half of the packages: {half['cpu']:.2f} s",
        ),
    ]


def _as_yaml(raw: bytes) -> str:
    """Return the first blobs of a catalog as YAML documents, about _YAML_SIZE bytes."""
    parts, size = [], 0
    for blob, _ in file_based.blobs_of("catalog.json", raw):
        if size > _YAML_SIZE:
            break
        parts.append(yaml.dump(json.loads(blob.raw), Dumper=yaml.CSafeDumper, sort_keys=False))
        size += len(parts[-1])
    return "---\n".join(parts)


def _best(what: str, home: Path) -> dict[str, float]:
    """Return the least of several processes: other work on the machine only ever adds."""
    command = [sys.executable, "-m", "tests.bench.catalogs", what, str(home)]
    found = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(_TIMES)]
    return {key: min(one[key] for one in found) for key in found[0]}


def _child(what: str, home: Path) -> None:
    """Do one thing and print what it cost, without the start of Python."""
    kind = "yaml" if what.endswith("yaml") else "json"
    path = home / f"catalog.{kind}"
    work: dict[str, Callable[[], Any]] = {
        "load": lambda: file_based.load([(path.name, path.read_bytes())]),
        "load-yaml": lambda: file_based.load([(path.name, path.read_bytes())]),
        "plain": lambda: list(_plain(path.read_bytes())),
        "plain-yaml": lambda: list(yaml.load_all(path.read_bytes(), Loader=yaml.CSafeLoader)),
    }
    prepared: Any = None
    if what.startswith("select"):
        prepared = file_based.load([(path.name, path.read_bytes())])
        names = sorted(prepared.packages)[: len(prepared.packages) // (2 if what == "select-half" else 1)]
        work[what] = lambda: _selected(prepared, names)
    before, memory = time.process_time(), peak_of(os.getpid())
    kept = work[what]()
    assert kept
    print(json.dumps({"cpu": time.process_time() - before, "memory": peak_of(os.getpid()) - memory}))


def _plain(raw: bytes) -> Iterator[Any]:
    """Give each object of a stream as `json` decodes it, cut where the writer of the stream began a line."""
    begin = 0
    while begin < len(raw):
        end = raw.find(b"\n{", begin) + 1 or len(raw)
        yield json.loads(raw[begin:end])
        begin = end


def _selected(catalog: Any, names: list[str]) -> Any:
    request = OperatorRequest("largest", full=True, packages=tuple(map(PackageRequest, names)))
    return close([Selected(catalog, select(catalog, request))])


if __name__ == "__main__":
    _child(sys.argv[1], Path(sys.argv[2]))
