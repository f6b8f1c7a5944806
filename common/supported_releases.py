"""The releases of OpenShift that the head of a channel is for, by what its publisher wrote: a rule of both programs. Pure.

`olm.maxOpenShiftVersion`: OLM, pkg/controller/operators/openshift (helpers.go; later internal/versionutils). It installs the
operator on later releases too, which its publisher has not meant it for. `minKubeVersion`: OLM, pkg/controller/operators/olm,
requirements.go. It never installs the operator below it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from common.archive.inventory import ChannelRecord, PackageRecord


MAXIMUM = "olm.maxOpenShiftVersion"
MINIMUM = "minKubeVersion"
MAX_TEXT = 64  # characters of a value that are kept and shown
Minor = tuple[int, int]
_SHOWN = 3  # heads of one package that are named
# Older releases of OLM accept a `v` and a patch version, later ones neither: a publisher means the same.
_MAXIMUM = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.\d+)?(?:[-+].*)?", re.ASCII)
_MINIMUM = re.compile(r"v?(\d{1,4})\.(\d{1,4})\.\d+(?:[-+].*)?", re.ASCII)
# OpenShift 5.0 and 4.23 are one release; 5.1 comes after both (OLM, IsOperatorMaxOCPVersionCompatibleWithCluster).
_LAST_OF_4 = 23


def kubernetes_of(release: Minor) -> Minor | None:
    """Return the minor version of Kubernetes in a release of OpenShift; None for one before 4.3."""
    major, minor = release
    # 4.3 has 1.16, and each release since one more (release notes of OpenShift, *About this release*).
    number = minor + (_LAST_OF_4 if major == 5 else 0)  # noqa: PLR2004 - the release itself
    return (1, number + 13) if major in (4, 5) and number >= 3 else None  # noqa: PLR2004 - the release itself


def unsupported(packages: Iterable[PackageRecord], release: Minor) -> Iterator[tuple[str, str]]:
    """Yield package and message for each package with heads that are not for a release, or cannot be installed on it."""
    for package in packages:
        found: dict[tuple[str, str], list[str]] = {}
        for channel in package.channels:
            if why := _why(channel, release):
                found.setdefault((channel.head, why), []).append(channel.name)
        if found:
            heads = [f"{head} ({', '.join(names[:_SHOWN])}{_more(names)}) {why}" for (head, why), names in found.items()]
            more = f"; {len(heads) - _SHOWN} more heads" if len(heads) > _SHOWN else ""
            yield package.name, f"on OpenShift {release[0]}.{release[1]}: {'; '.join(heads[:_SHOWN])}{more}"


def _more(names: list[str]) -> str:
    return ", …" if len(names) > _SHOWN else ""


def _why(channel: ChannelRecord, release: Minor) -> str:
    """Return why the head of a channel is not for a release; empty when it may be."""
    reasons = (_above(channel.max_open_shift_version, release), _below(channel.min_kube_version, release))
    return " and ".join(filter(None, reasons))


def _above(text: str | None, release: Minor) -> str:
    if not text:
        return ""
    match = _MAXIMUM.fullmatch(text)
    if match is None:
        return f"has the {MAXIMUM} {text[:MAX_TEXT]!r}, which OLM cannot read"
    maximum = (int(match[1]), int(match[2]))
    return f"is for releases up to {match[1]}.{match[2]}" if _joint(release) > _joint(maximum) else ""


def _below(text: str | None, release: Minor) -> str:
    if not text:
        return ""
    match = _MINIMUM.fullmatch(text)
    if match is None:
        return f"has the {MINIMUM} {text[:MAX_TEXT]!r}, which OLM cannot read, and so never installs it"
    has = kubernetes_of(release)
    # The patch version of the cluster is not known here.
    if has is None or (int(match[1]), int(match[2])) <= has:
        return ""
    return f"needs Kubernetes {text[:MAX_TEXT]}, and there is {has[0]}.{has[1]}"


def _joint(release: Minor) -> Minor:
    return (5, 0) if release == (4, _LAST_OF_4) else release
