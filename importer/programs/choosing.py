"""Which release of an archive is meant, and where its images have the programs. Pure.

Places: openshift/oc, pkg/cli/admin/release/extract_tools.go, availableTargets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from common.errors import UsageError
from common.mapping import release_tag
from common.text import enumeration
from common.version import try_parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.archive.inventory import Inventory, ReleaseRecord


Command = Literal["openshift-install", "oc"]
System = Literal["linux", "mac", "windows"]
MULTI = "multi"
ARCHITECTURES = ("amd64", "arm64", "ppc64le", "s390x")
_OTHER_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
_ARTIFACTS = "usr/share/openshift"
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Program:
    """A program for one kind of machine."""

    command: Command
    system: System
    architecture: str

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"{self.command}.exe" if self.system == "windows" else self.command


@dataclass(frozen=True, slots=True)
class Place:
    """A file of a component. `architecture` None: it is the same in the images for all platforms."""

    component: str
    path: str
    architecture: str | None = None


def architecture_of(text: str) -> str:
    """Return an architecture by one of its names. Raises UsageError."""
    name = _OTHER_NAMES.get(text.lower(), text.lower())
    if name not in ARCHITECTURES:
        raise UsageError(f"--arch {text[:40]!r}: unknown", hint=f"Wanted: {', '.join(ARCHITECTURES)}.")
    return name


def releases_named(inventory: Inventory, text: str | None) -> tuple[ReleaseRecord, ...]:
    """Return the releases of one version, which may be for several architectures: the newest, or that of `--release`.

    `text`: a version, or with `-` and the architecture as in the tag of the mirror. Raises UsageError.
    """
    carried = inventory.carried_releases
    if not carried:
        raise UsageError(
            "the archive has no OpenShift release",
            hint="hub-export create --release CHANNEL carries one; see hub-import inspect.",
        )
    if text is None:
        newest = max(carried, key=_precedence).version
        return tuple(each for each in carried if each.version == newest)
    if found := tuple(each for each in carried if text in (each.version, *_tags(each))):
        return found
    raise UsageError(
        f"--release {text[:80]!r}: the archive does not have it",
        hint=f"It has {enumeration([_tags(each)[0] for each in sorted(carried, key=_precedence)], _SHOWN)}.",
    )


def _tags(release: ReleaseRecord) -> tuple[str, str]:
    return release_tag(release.version, release.architecture), f"{release.version}-{release.architecture}"


def _precedence(release: ReleaseRecord) -> tuple[object, ...]:
    version = try_parse(release.version)
    return (version is not None, version.key if version is not None else (), release.version, release.architecture)


def release_for(releases: Sequence[ReleaseRecord], architecture: str | None) -> ReleaseRecord:
    """Return the release to install out of those of one version. Raises UsageError where several are possible."""
    if len(releases) == 1:
        return releases[0]
    for wanted in (architecture, MULTI) if architecture is not None else ():
        if found := [each for each in releases if each.architecture == wanted]:
            return found[0]
    raise UsageError(
        f"the archive has OpenShift {releases[0].version} for several architectures",
        hint=f"Say which one is to be installed: --release {' or '.join(_tags(each)[0] for each in releases)}.",
    )


def place_of(program: Program, release: ReleaseRecord) -> Place:
    """Return where a release has a program. Raises UsageError where none is made for such a machine."""
    command, architecture = program.command, program.architecture
    artifacts = "installer-artifacts" if command == "openshift-install" else "cli-artifacts"
    match program.system, architecture:
        case "linux", _ if release.architecture in (architecture, MULTI):
            return Place("installer" if command == "openshift-install" else "cli", f"usr/bin/{command}", architecture)
        case "linux", _:
            return Place(artifacts, f"{_ARTIFACTS}/linux_{architecture}/{command}")
        case "mac", "amd64":
            return Place(artifacts, f"{_ARTIFACTS}/mac/{command}")
        case "mac", "arm64":
            return Place(artifacts, f"{_ARTIFACTS}/mac_arm64/{command}")
        case "windows", "amd64" if command == "oc":
            return Place(artifacts, f"{_ARTIFACTS}/windows/oc.exe")
    raise UsageError(
        f"there is no {command} for {program.system} on {architecture}",
        hint="openshift-install runs on Linux and on macOS (amd64, arm64), oc also on Windows (amd64).",
    )
