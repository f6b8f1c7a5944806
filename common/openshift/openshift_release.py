"""Releases of OpenShift as people and clusters write them: a rule of both programs. Pure."""

from __future__ import annotations

import re

from common.errors import UsageError

OLDEST = (4, 3)
_NEWEST_MAJOR = 5  # 5.0 is another name of 4.23 (operator-lifecycle-manager, IsOperatorMaxOCPVersionCompatibleWithCluster)
_SHOWN = 40
# After a patch version anything: 4.20.0-rc.1, 4.18.0-0.nightly-2025-01-01-000000.
_PATTERN = re.compile(r"v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,5})([-+]\S{0,80})?)?", re.ASCII)


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
