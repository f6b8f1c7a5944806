"""Virtual environments as pip makes them from a requirement, without pip's minutes: distributions are linked from here.

What pip would install is what the metadata asks for: the requirement, its extras, and what those require in turn. Nothing else
can be imported there, unlike in the environment of the tests, which has everything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution, entry_points
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROGRAMS = ("hub-export", "hub-import")


def make(folder: Path, extras: Iterable[str]) -> Path:
    """Make the environment of `pip install '.[EXTRAS]'` in a folder; return the directory of its programs."""
    home = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    site = home / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    beside = ["pip"]  # which python -m venv puts there
    if any(name.startswith("COVERAGE_") for name in os.environ):
        beside.append("coverage")
    for found in closure([f"hub-airgap[{','.join(extras)}]", *beside]):
        _link(found, site)
    for program in PROGRAMS:
        (entry,) = entry_points(group="console_scripts", name=program)
        script = home / "bin" / program
        script.write_text(
            f"#!{home}/bin/python\nimport sys\nfrom {entry.module} import {entry.attr}\nsys.exit({entry.attr}())\n"
        )
        script.chmod(0o755)
    return home / "bin"


def closure(requirements: Iterable[str]) -> Iterator[Distribution]:
    """Give each distribution that requirements need, once; all have to be installed here."""
    waiting, seen, given = list(map(Requirement, requirements)), set(), set()
    while waiting:
        asked = waiting.pop()
        name, extras = canonicalize_name(asked.name), frozenset(asked.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found = distribution(name)
        unknown = extras - set(found.metadata.get_all("Provides-Extra") or ())
        assert not unknown, f"{name} has no extra {', '.join(unknown)}"
        if name not in given:
            given.add(name)
            yield found
        waiting += [
            further
            for further in map(Requirement, found.requires or ())
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        ]


def extras_of(text: str) -> set[str]:
    """Return the extras that the commands of a document install: `pip install './hub_airgap-1.0-py3-none-any.whl[parity,s3]'`."""
    found = re.findall(r"(?:pipx?|uv tool) install '\.[\w./-]*\[([a-z0-9,]+)\]'", text)
    return {extra for names in found for extra in names.split(",")}


def _link(found: Distribution, site: Path) -> None:
    """Link what a distribution has in its site-packages directory."""
    for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
        target = Path(str(found.locate_file(name)))
        if not (site / name).exists():
            (site / name).symlink_to(target)
