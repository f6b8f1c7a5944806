"""What a kit is made for, frozen; and the runtimes: a platform with a Python, as wheels name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import UsageError
from common.oci.image import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from common.oci.reference import Reference
    from common.registry.settings import RegistrySettings

# What Python calls the machines that we call by the name of an image's platform.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le", "s390x": "s390x"}
PLATFORMS = tuple(Platform("linux", architecture) for architecture in MACHINES)
PYTHONS = ("3.11", "3.12", "3.13")
_GLIBC = range(28, 4, -1)  # 2.28 is RHEL 8's: what needs a newer one would not start there
_OLD_NAMES = ("manylinux2014", "manylinux2010", "manylinux1")


@dataclass(frozen=True, slots=True, order=True)
class Runtime:
    """A platform with a CPython, `3.11`."""

    platform: Platform
    python: str

    @property
    def machine(self) -> str:
        """The architecture as Python on that machine calls it."""
        return MACHINES[self.platform.architecture]

    @property
    def wheel_platforms(self) -> tuple[str, ...]:
        """The platform tags of wheels that run there, best first."""
        names = (*(f"manylinux_2_{minor}" for minor in _GLIBC), *_OLD_NAMES)
        return tuple(f"{name}_{self.machine}" for name in names)

    @property
    def environments(self) -> tuple[dict[str, str], ...]:
        """The values of environment markers there: at the first patch release and at a late one, for any may be installed."""
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
        fulls = (f"{self.python}.0", f"{self.python}.99")
        return tuple({**fixed, "python_full_version": full, "implementation_version": full} for full in fulls)

    def __str__(self) -> str:
        return f"{self.platform} with Python {self.python}"


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """The image that the kit has beside the wheels: what it is built on, and the base's Python where that has to be told."""

    base: Reference
    registry: RegistrySettings
    python: str | None = None
    jobs: int = 6


@dataclass(frozen=True, slots=True)
class KitSettings:
    """One kit.

    `environ`: what pip reads; `epoch`: seconds since 1970 that files in our own wheel get, None: the earliest that zip knows.
    """

    output: Path
    environ: Mapping[str, str]
    platforms: tuple[Platform, ...] = PLATFORMS
    pythons: tuple[str, ...] = PYTHONS
    parity: bool = False
    image: ImageSettings | None = None
    epoch: int | None = None

    @property
    def runtimes(self) -> tuple[Runtime, ...]:
        """Every platform with every Python."""
        return tuple(Runtime(platform, python) for platform in self.platforms for python in self.pythons)


def checked_platforms(texts: list[str]) -> tuple[Platform, ...]:
    """Return platforms by name, all of them for none. Raises UsageError."""
    found = dict.fromkeys(Platform.parse(text) for text in texts)
    for platform in found:
        if platform not in PLATFORMS:
            raise UsageError(f"no kit for the platform {platform}", hint=f"There are: {', '.join(map(str, PLATFORMS))}.")
    return tuple(found) or PLATFORMS


def checked_pythons(texts: list[str], option: str = "--python") -> tuple[str, ...]:
    """Return versions of Python, all of them for none. Raises UsageError."""
    found = tuple(dict.fromkeys(texts))
    for text in found:
        if text not in PYTHONS:
            raise UsageError(f"{option} {text[:40]!r}: no kit for this Python", hint=f"There are: {', '.join(PYTHONS)}.")
    return found or PYTHONS
