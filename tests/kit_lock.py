"""Write the lock files: exporter/kit/pylock.toml, the wheels of the importer's dependencies for each platform and Python that a kit
supports; deploy/requirements.lock, what the container image installs; tests/requirements.lock, what `make dev` and CI install.

    make lock [BEFORE=2026-11-30T00:00:00Z]

uv resolves the versions for all of them at once, from the index that pip is configured for. The same BEFORE gives the same file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from packaging.pylock import Package, Pylock

from exporter.kit.lock_file import LockedWheel, applies, best_wheel
from exporter.kit.settings import PARITY, PLATFORMS, PYTHONS, RELEASE_LOCK, Runtime

ROOT = Path(__file__).parents[1]
RUNTIMES = [Runtime(platform, python) for platform in PLATFORMS for python in PYTHONS]
IMAGE_LOCK, TESTS_LOCK = ROOT / "deploy" / "requirements.lock", ROOT / "tests" / "requirements.lock"
REQUIREMENTS = """\
# Made by `make lock BEFORE={before}` from pyproject.toml, for pip install --require-hashes, in the versions of a
# kit. No index is named: pip's own configuration says where the files are fetched from.
"""
HEADER = """\
# Made by `make lock BEFORE={before}` from pyproject.toml: the wheels of a kit, with their checksums (PEP 751, ADR 0036).
# No index is named: pip's own configuration says where the files are fetched from, and `path` is the name of the file alone.
"""


def main(before: str) -> None:
    base = {each.name: each.version for each in resolved(before)}
    full = resolved(before, "--extra", PARITY)
    moved = {name for name, version in base.items() if (name, version) not in {(each.name, each.version) for each in full}}
    if moved:
        sys.exit(f"with the extra {PARITY} other versions are chosen of: {', '.join(sorted(moved))}")
    text = HEADER.format(before=before) + f'lock-version = "1.0"\nextras = ["{PARITY}"]\ncreated-by = "hub-airgap"\n'
    for package in full:
        text += entry(package, extra="" if package.name in base else f"'{PARITY}' in extras")
    RELEASE_LOCK.write_text(text)
    Pylock.from_dict(tomllib.loads(text)).validate()
    pinned = [f"{each.name}=={each.version}" for each in full]
    plain = requirements(before, pinned, more=("hatchling",))
    write(IMAGE_LOCK, before, plain)
    for extra in ("s3", PARITY):
        further = requirements(before, pinned, "--extra", extra)
        write(IMAGE_LOCK.with_name(f"requirements-{extra}.lock"), before, [each for each in further if each not in plain])
    write(TESTS_LOCK, before, requirements(before, pinned, "--extra", "dev", more=("hatchling", "editables", "pip")))


def write(path: Path, before: str, blocks: Sequence[str]) -> None:
    path.write_text(REQUIREMENTS.format(before=before) + "".join(blocks))


def requirements(before: str, pinned: Sequence[str], *options: str, more: Sequence[str] = ()) -> list[str]:
    """Return the requirements of the programs, and `more`, each with its hashes, in the versions of the kit."""
    with tempfile.TemporaryDirectory() as folder:
        output, others, constraints = (Path(folder, name) for name in ("requirements.txt", "more.in", "constraints.txt"))
        others.write_text("\n".join(more))
        constraints.write_text("\n".join(pinned))
        command = [
            *(Path(sys.executable).with_name("uv"), "pip", "compile", ROOT / "pyproject.toml", others, "--quiet", *options),
            *("--constraint", constraints, "--universal", "--python-version", PYTHONS[0], "--exclude-newer", before),
            *("--no-config", "--system-certs", "--generate-hashes", "--no-header", "--no-annotate"),
            *("--no-emit-package", "hub-airgap", "--output-file", output),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **index()})
        return re.findall(r"^[^\s#].*\n(?:[ ].*\n)*", output.read_text(), re.MULTILINE)


def resolved(before: str, *options: str) -> list[Package]:
    with tempfile.TemporaryDirectory() as folder:
        output, more = Path(folder, "pylock.toml"), Path(folder, "requirements.in")
        more.write_text("pip\n")  # install.sh runs it out of the kit
        command = [
            *(Path(sys.executable).with_name("uv"), "pip", "compile", ROOT / "pyproject.toml", more, *options, "--quiet"),
            *("--universal", "--python-version", PYTHONS[0], "--only-binary", ":all:", "--exclude-newer", before),
            *("--no-config", "--system-certs", "--format", "pylock.toml", "--output-file", output),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **index()})
        return list(Pylock.from_dict(tomllib.loads(output.read_text())).packages)


def index() -> dict[str, str]:
    """Return pip's index in uv's terms; uv does not read the configuration of pip."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    url = os.environ.get("PIP_INDEX_URL") or subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()
    return {"UV_DEFAULT_INDEX": url} if url else {}


def entry(package: Package, extra: str) -> str:
    """Return the entry of a package with the wheels that kits take, or nothing for one that no runtime needs."""
    needed_by = [runtime for runtime in RUNTIMES if applies(package.marker, runtime, parity=True)]
    if not needed_by:
        return ""
    wheels = {wheel.filename: wheel for runtime in needed_by if (wheel := best_wheel(package, runtime))}
    marker = str(package.marker or "")
    condition = f"({marker}) and {extra}" if marker and extra else marker or extra
    lines = ["", "[[packages]]", f'name = "{package.name}"', f'version = "{package.version}"']
    lines += [f'marker = "{condition.replace(chr(34), chr(39))}"'] if condition else []
    lines += ["wheels = [", *(line(wheel) for _, wheel in sorted(wheels.items())), "]"]
    return "\n".join(lines) + "\n"


def line(wheel: LockedWheel) -> str:
    return f'    {{ path = "{wheel.filename}", size = {wheel.size}, hashes = {{ sha256 = "{wheel.sha256}" }} }},'


if __name__ == "__main__":
    main(sys.argv[1])
