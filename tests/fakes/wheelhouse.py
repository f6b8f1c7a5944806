"""Wheels without a package index: the distributions installed here as wheels again, and a lock file of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from exporter.kit.wheel_file import rebuilt

_NEWER = re.compile(r"manylinux_2_(29|[3-9]\d)_")  # what pip chose for this machine may be too new for a kit


def fill(directory: Path, *, everywhere: bool = False, extras: Iterable[str] = ()) -> None:
    """Put the wheels of all that hub-airgap needs here, and of pip, into a directory, with their lock file.

    `everywhere`: by their names they fit every machine and Python, which is enough to be carried. `extras`: of hub-airgap.
    """
    directory.mkdir(parents=True, exist_ok=True)
    waiting, seen = [Requirement(f"hub-airgap[{','.join(extras)}]"), Requirement("pip")], set()
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
    lock(directory)


def lock(directory: Path) -> Path:
    """Write the lock file of the wheels in a directory (PEP 751); return its path."""
    text = 'lock-version = "1.0"\ncreated-by = "tests"\n'
    packages: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(directory.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(path.name)
        packages.setdefault((name, str(version)), []).append(path)
    for (name, version), paths in packages.items():
        text += f'\n[[packages]]\nname = "{name}"\nversion = "{version}"\n'
        for path in paths:
            content = path.read_bytes()
            text += f'[[packages.wheels]]\npath = "{path.name}"\nsize = {len(content)}\n'
            text += f'hashes = {{ sha256 = "{hashlib.sha256(content).hexdigest()}" }}\n'
    found = directory / "pylock.toml"
    found.write_text(text)
    return found


def offer(directory: Path, locked: Path | None = None) -> dict[str, str]:
    """Return the environment in which pip knows these wheels alone, and a kit is made of them, or of those in `locked`."""
    lock_file = (locked or directory) / "pylock.toml"
    return {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(directory),
        "HUB_EXPORT_LOCK": str(lock_file),
    }
