"""The settings of a kit; and the runtimes, each a platform with a Python, in the terms of wheels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UsageError
from common.oci.image import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from common.archive.signature import Signer
    from common.oci.reference import Reference
    from common.registry.settings import RegistrySettings


# The architectures of OpenShift, by their names in OCI images (GOARCH), with their names in Python (`uname -m`).
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le", "s390x": "s390x"}
PLATFORMS = tuple(Platform("linux", architecture) for architecture in MACHINES)
PYTHONS = ("3.11", "3.12", "3.13")
PARITY = "parity"  # the extra of the importer that `hub-import repair` needs
RELEASE_LOCK = Path(__file__).with_name("pylock.toml")
_GLIBC = range(28, 4, -1)  # 2.28 is the glibc of RHEL 8: a wheel that needs a newer one would not start there
_OLD_NAMES = ("manylinux2014", "manylinux2010", "manylinux1")  # aliases of 2_17, 2_12 and 2_5 (PEP 600)
_LOCAL = "linux"  # the tag of `pip wheel`: never on PyPI, but in the lock file of a site that builds wheels


@dataclass(frozen=True, slots=True, order=True)
class Runtime:
    """A platform with a CPython, `3.11`."""

    platform: Platform
    python: str

    @property
    def machine(self) -> str:
        """The architecture in the terms of Python, `x86_64`."""
        return MACHINES[self.platform.architecture]

    @property
    def wheel_platforms(self) -> tuple[str, ...]:
        """The platform tags of wheels that run there, best first (PEP 600)."""
        names = (*(f"manylinux_2_{minor}" for minor in _GLIBC), *_OLD_NAMES, _LOCAL)
        return tuple(f"{name}_{self.machine}" for name in names)

    @property
    def environments(self) -> tuple[dict[str, str], ...]:
        """The values of environment markers there (PEP 508), at the first patch release and at a late one."""
        fixed = {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_version": self.python,
            "sys_platform": "linux",
        }
        # Any patch release may be installed there, and a marker can ask for one (`python_full_version < "3.11.3"`).
        fulls = (f"{self.python}.0", f"{self.python}.99")
        return tuple({**fixed, "python_full_version": full, "implementation_version": full} for full in fulls)

    def __str__(self) -> str:
        return f"{self.platform} with Python {self.python}"


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """The image of the importer: its base, and the base's Python where its configuration does not name it."""

    base: Reference
    registry: RegistrySettings
    python: str | None = None
    jobs: int = 6


@dataclass(frozen=True, slots=True)
class KitSettings:
    """The settings of one kit.

    `environ`: the environment of pip; `lock`: the lock file that names the wheels; `epoch`: the time of the files in the
    importer's wheel in seconds since 1970, None for the earliest that zip can hold; `signer` signs the checksums.
    """

    output: Path
    environ: Mapping[str, str]
    platforms: tuple[Platform, ...] = PLATFORMS
    pythons: tuple[str, ...] = PYTHONS
    parity: bool = False
    image: ImageSettings | None = None
    lock: Path = RELEASE_LOCK
    epoch: int | None = None
    signer: Signer | None = None

    @property
    def runtimes(self) -> tuple[Runtime, ...]:
        """Every platform with every Python."""
        return tuple(Runtime(platform, python) for platform in self.platforms for python in self.pythons)


def checked_platforms(texts: list[str]) -> tuple[Platform, ...]:
    """Return the platforms with these names, or all of them for an empty list. Raises UsageError."""
    found = dict.fromkeys(Platform.parse(text) for text in texts)
    for platform in found:
        if platform not in PLATFORMS:
            raise UsageError(f"no kit for the platform {platform}", hint=f"There are: {', '.join(map(str, PLATFORMS))}.")
    return tuple(found) or PLATFORMS


def checked_pythons(texts: list[str], option: str = "--python") -> tuple[str, ...]:
    """Return these versions of Python, or all of them for an empty list. Raises UsageError."""
    found = tuple(dict.fromkeys(texts))
    for text in found:
        if text not in PYTHONS:
            raise UsageError(f"{option} {text[:40]!r}: no kit for this Python", hint=f"There are: {', '.join(PYTHONS)}.")
    return found or PYTHONS
