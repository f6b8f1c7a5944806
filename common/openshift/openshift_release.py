"""Releases of OpenShift as people and clusters write them: a rule of both programs. Pure."""

from __future__ import annotations

import re

from common.errors import UsageError

OLDEST = (4, 3)
_NEWEST_MAJOR = 5  # 5.0 is another name of 4.23 (operator-lifecycle-manager, IsOperatorMaxOCPVersionCompatibleWithCluster)
_SHOWN = 40
# After a patch version anything: 4.20.0-rc.1, 4.18.0-0.nightly-2025-01-01-000000.
_PATTERN = re.compile(r"v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,5})([-+]\S{0,80})?)?", re.ASCII)
# Names of the update service (openshift/cincinnati, docs/design/openshift.md), narrow enough for a command that people copy.
_CHANNEL = re.compile(r"[0-9a-z.-]{1,100}")
_CHANNEL_OF_MINOR = re.compile(r"(.+)-(\d{1,3})\.(\d{1,4})", re.ASCII)
_ARCHITECTURE = re.compile(r"[0-9a-z_]{1,20}")


def parse_release(text: str) -> tuple[int, int, int | None]:
    """Return the numbers of `4.18`, `v4.18` or `4.18.7`; the patch version may be None. Raises UsageError for another text.

    And for a release that the programs do not know, because a mistyped one would select another way of working.
    """
    match = _PATTERN.fullmatch(text.strip())
    if not match:
        raise UsageError(
            f"not an OpenShift release: {text[:_SHOWN]!r}", hint="Wanted: 4.N, for example 4.18; a patch version may follow."
        )
    major, minor = int(match[1]), int(match[2])
    if (major, minor) < OLDEST:
        raise UsageError(
            f"OpenShift {major}.{minor} is older than 4.3, the oldest release that this program knows",
            hint="Wanted: 4.N from 4.3 on. create and push without a release are for every registry; such a cluster has to be "
            "configured by hand.",
        )
    if major > _NEWEST_MAJOR:
        raise UsageError(f"there is no OpenShift {major}.{minor}", hint="Wanted: 4.N, for example 4.18.")
    return major, minor, int(match[3]) if match[3] else None


def is_channel(text: str) -> bool:
    """Return whether `text` can be the name of a channel."""
    return _CHANNEL.fullmatch(text) is not None


def minor_of_channel(name: str) -> tuple[str, int, int] | None:
    """Return `("stable", 4, 18)` of stable-4.18; None for a channel without a minor version, as those of OKD are."""
    match = _CHANNEL_OF_MINOR.fullmatch(name)
    return (match[1], int(match[2]), int(match[3])) if match else None


def is_architecture(text: str) -> bool:
    """Return whether `text` can be the name of an architecture."""
    return _ARCHITECTURE.fullmatch(text) is not None
