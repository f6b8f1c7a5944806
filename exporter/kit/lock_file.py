"""The lock file: the wheels that make up the importer on each runtime, with their checksums.

`pylock.toml` next to this module belongs to the release: `make lock` writes it from `pyproject.toml`, and it is committed. Its
format is PEP 751 (packaging.python.org, *pylock.toml*), so a site can use another one, as `uv pip compile` writes it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from packaging.pylock import Pylock, PylockValidationError
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from common.errors import UsageError
from common.files import read_limited
from exporter.kit.settings import PARITY
from exporter.kit.wheel_file import OWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.markers import Marker
    from packaging.pylock import Package
    from packaging.tags import Tag

    from exporter.kit.settings import Runtime


@dataclass(frozen=True, slots=True)
class LockedWheel:
    """One file of a lock file. `sha256`: in hexadecimal; `size` in bytes, 0 where the lock file does not say."""

    package: str
    version: str
    filename: str
    sha256: str
    size: int

    @property
    def requirement(self) -> str:
        """The line of a requirements file that allows this wheel and no other."""
        return f"{self.package}=={self.version} --hash=sha256:{self.sha256}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The wheels of a runtime by package; or `lacks`, the packages that have none there.

    `parity`: they include what parity needs. When only parity's packages have no wheel, they are in `lacks`, and the rest is
    complete.
    """

    wheels: Mapping[str, LockedWheel]
    lacks: tuple[str, ...] = ()
    parity: bool = False


MAX_LOCK = 4 * 1024 * 1024  # tomllib takes many times its bytes; the lock of a release has 23 KB
_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class LockFile:
    """A lock file that was read. `own` are the importer's requirements, which it must satisfy.

    Raises UsageError for a file that cannot be read or is no lock file.
    """

    def __init__(self, path: Path, own: Sequence[str]) -> None:
        try:
            # packaging checks the fields, the names of the wheels and the version of the format.
            raw = read_limited(path, MAX_LOCK, "Name a lock file (pylock.toml) with --lock.")
            self._packages = Pylock.from_dict(tomllib.loads(raw.decode())).packages
        except (ValueError, RecursionError, PylockValidationError) as error:  # nested arrays
            raise UsageError(f"{path}: no lock file: {error}", hint="Its format is pylock.toml (PEP 751).") from error
        self._own = [Requirement(text) for text in own]

    def select(self, runtime: Runtime, *, parity: bool) -> Selection:
        """Return the wheels for a runtime, with those for parity where there are any. Raises UsageError."""
        try:
            return self._selected(runtime, parity=parity)
        except ValueError as error:  # packaging checks the grammar of markers, not whether a comparison makes sense
            raise UsageError(f"the lock file cannot be used: {str(error)[:300]}", hint="Make it again.") from error

    def _selected(self, runtime: Runtime, *, parity: bool) -> Selection:
        found, lacks = self._resolve(runtime, parity=parity)
        # zfec has wheels for few platforms; a kit without parity is better than none.
        if not lacks:
            return Selection(found, (), parity)
        if parity:
            without, still_lacking = self._resolve(runtime, parity=False)
            if not still_lacking:
                return Selection(without, lacks)
        return Selection({}, lacks)

    def _resolve(self, runtime: Runtime, *, parity: bool) -> tuple[dict[str, LockedWheel], tuple[str, ...]]:
        """Return the wheels, and the names of the packages without one."""
        # The lock file of a site can name hub-airgap itself, but its wheel is made of the installed distribution.
        others = [each for each in self._packages if each.name != OWN]
        applicable = [each for each in others if applies(each.marker, runtime, parity=parity)]
        # All packages are looked at, so that one run names everything that a platform lacks.
        chosen = {each.name: best_wheel(each, runtime) for each in applicable}
        lacks: set[str] = {name for name, wheel in chosen.items() if wheel is None}
        # A lock file of another release may lack a requirement altogether, or hold a version that the importer refuses.
        lacks |= {name for name, requirement in self._required(runtime, parity=parity) if not _meets(requirement, applicable)}
        return {name: wheel for name, wheel in chosen.items() if wheel}, tuple(sorted(lacks))

    def _required(self, runtime: Runtime, *, parity: bool) -> Iterator[tuple[str, Requirement]]:
        for each in self._own:
            # Without an extra, conditions on extras are false: s3 and dev are not part of a kit.
            extra, marker = PARITY if parity else "", each.marker
            if marker is None or any(marker.evaluate({**there, "extra": extra}) for there in runtime.environments):
                yield canonicalize_name(each.name), each


def applies(marker: Marker | None, runtime: Runtime, *, parity: bool) -> bool:
    """Whether a package with this marker is needed on a runtime."""
    if marker is None:
        return True
    extras = frozenset({PARITY} if parity else ())
    # In lock files extras are tested with `'parity' in extras` (PEP 751), in metadata with `extra == 'parity'`.
    return any(marker.evaluate({**each, "extras": extras}, context="lock_file") for each in runtime.environments)


def _meets(requirement: Requirement, packages: Sequence[Package]) -> bool:
    """Whether one of the packages satisfies a requirement, which can be a pre-release where it was locked."""
    name = canonicalize_name(requirement.name)
    return any(
        each.name == name and each.version is not None and requirement.specifier.contains(each.version, prereleases=True)
        for each in packages
    )


@cache  # thousands of tags, for each package of a runtime
def _ranks(runtime: Runtime) -> dict[Tag, int]:
    """Return the tags of wheels that run there, the best with the lowest number, as pip orders them.

    The ABI is named: without it packaging takes the flags of the Python that runs this, such as those of a debug build.
    """
    version = tuple(map(int, runtime.python.split(".")))
    interpreter = f"cp{version[0]}{version[1]}"
    own = cpython_tags(version, [interpreter], runtime.wheel_platforms)
    pure = compatible_tags(version, interpreter, runtime.wheel_platforms)
    return {tag: rank for rank, tag in enumerate(chain(own, pure))}


def best_wheel(package: Package, runtime: Runtime) -> LockedWheel | None:
    """Return the wheel of a package that fits a runtime best, None where none fits. Raises UsageError."""
    fitting, ranks = [], _ranks(runtime)
    for each in package.wheels or ():
        rank = min((ranks[tag] for tag in parse_wheel_filename(each.filename)[3] if tag in ranks), default=None)
        if rank is not None:
            # The name decides between wheels with the same best tag, so that the same lock file gives the same kit.
            fitting.append((rank, each.filename, each))
    if not fitting:
        return None
    _, filename, best = min(fitting, key=lambda found: found[:2])
    # The size is optional in PEP 751; a lock file without sizes only goes without the check of free space.
    sha256 = best.hashes.get("sha256")
    if sha256 is None:
        raise UsageError(f"the lock file has no sha256 of {filename}", hint="pip checks the wheels by it.")
    # The hash becomes a line of pip's requirements, and the name a path: a lock file of others could add options of pip.
    if _SHA256.fullmatch(sha256) is None or "/" in filename:
        raise UsageError(f"the lock file has an invalid entry for {package.name}: {filename[:100]!r}", hint="Make it again.")
    return LockedWheel(package.name, str(package.version), filename, sha256.lower(), best.size or 0)
