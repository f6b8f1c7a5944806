"""An offer of wheels without a package index: what is installed here, made into wheels again."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from exporter.kit.wheel_file import rebuilt

_NEWER = re.compile(r"manylinux_2_(29|[3-9]\d)_")  # what pip chose for this machine may be too new for a kit


def fill(directory: Path, *, everywhere: bool = False) -> None:
    """Put the wheels of all that hub-airgap needs here, and of pip, into a directory.

    `everywhere`: by their names they fit every machine and Python, which is enough to be carried.
    """
    directory.mkdir(parents=True, exist_ok=True)
    waiting, seen = [Requirement("hub-airgap"), Requirement("pip")], set()
    while waiting:
        asked = waiting.pop()
        name, extras = canonicalize_name(asked.name), frozenset(asked.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        installed = distribution(name)
        if name != "hub-airgap":  # that one comes from the command itself
            file, content = rebuilt(installed)
            file = (
                re.sub(r"-cp\d+-\w+-manylinux.*", "-py3-none-any.whl", file)
                if everywhere
                else _NEWER.sub("manylinux_2_28_", file)
            )
            (directory / file).write_bytes(content)
        waiting += [
            further
            for further in map(Requirement, installed.requires or ())
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        ]


def offer(directory: Path) -> dict[str, str]:
    """Return the environment in which pip knows these wheels alone."""
    return {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(directory)}
