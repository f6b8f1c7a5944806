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
Kubernetes = tuple[int, ...]  # major, minor and patch version, as far as they are known
_SHOWN = 3  # heads of one package that are named
# Older releases of OLM accept a `v` and a patch version, later ones neither: a publisher means the same.
_MAXIMUM = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.\d+)?(?:[-+].*)?", re.ASCII)
_KUBERNETES = re.compile(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,9})(?:[-+].*)?", re.ASCII)
# OpenShift 5.0 and 4.23 are one release; 5.1 comes after both (OLM, IsOperatorMaxOCPVersionCompatibleWithCluster).
_LAST_OF_4 = 23


def number_of(release: Minor) -> int:
    """Return the minor version of a release of OpenShift 4; those of OpenShift 5 continue it: 5.0 is 4.23."""
    major, minor = release
    return minor + (_LAST_OF_4 if major > 4 else 0)  # noqa: PLR2004 - the release itself


def kubernetes_of(release: Minor) -> Minor | None:
    """Return the minor version of Kubernetes in a release of OpenShift; None for one before 4.3."""
    # 4.3 has 1.16, and each release since one more (release notes of OpenShift, *About this release*).
    number = number_of(release)
    return (1, number + 13) if release[0] in (4, 5) and number >= 3 else None  # noqa: PLR2004 - the release itself


def version_of(text: str) -> Kubernetes:
    """Return the numbers of a version of Kubernetes, such as v1.31.2+k3s1 of an API server; empty for another text."""
    # OLM leaves out what follows a hyphen, such as the name of a distribution.
    match = _KUBERNETES.fullmatch(text)
    return tuple(map(int, match.groups())) if match else ()


def unsupported(
    packages: Iterable[PackageRecord], release: Minor | None, kubernetes: Kubernetes = ()
) -> Iterator[tuple[str, str]]:
    """Yield package and message for each package with heads that are not for a release, or cannot be installed on it.

    `kubernetes`: the version that the cluster reports, empty where it is not known; `release` None: it is no OpenShift.
    """
    has = kubernetes or (kubernetes_of(release) if release is not None else None) or ()
    shown = ".".join(map(str, release or has))
    where = f"OpenShift {shown}" if release is not None else f"Kubernetes {shown}" if has else "this cluster"
    for package in packages:
        found: dict[tuple[str, str], list[str]] = {}
        for channel in package.channels:
            if why := _why(channel, release, has):
                found.setdefault((channel.head, why), []).append(channel.name)
        if found:
            heads = [f"{head} ({', '.join(names[:_SHOWN])}{_more(names)}) {why}" for (head, why), names in found.items()]
            more = f"; {len(heads) - _SHOWN} more heads" if len(heads) > _SHOWN else ""
            yield package.name, f"on {where}: {'; '.join(heads[:_SHOWN])}{more}"


def _more(names: list[str]) -> str:
    return ", …" if len(names) > _SHOWN else ""


def _why(channel: ChannelRecord, release: Minor | None, has: Kubernetes) -> str:
    """Return why the head of a channel is not for a cluster; empty when it may be."""
    above = _above(channel.max_open_shift_version, release) if release is not None else ""
    return " and ".join(filter(None, (above, below(channel.min_kube_version, has))))


def _above(text: str | None, release: Minor) -> str:
    if not text:
        return ""
    match = _MAXIMUM.fullmatch(text)
    if match is None:
        return f"has the {MAXIMUM} {text[:MAX_TEXT]!r}, which OLM cannot read"
    maximum = (int(match[1]), int(match[2]))
    return f"is for releases up to {match[1]}.{match[2]}" if _joint(release) > _joint(maximum) else ""


def below(text: str | None, has: Kubernetes) -> str:
    """Return why OLM does not install a version with the minKubeVersion `text`; empty when it does, or may.

    `has`: the version of Kubernetes, of which the patch version, or all, may not be known.
    """
    if not text:
        return ""
    if not (needs := version_of(text)):
        return f"has the {MINIMUM} {text[:MAX_TEXT]!r}, which OLM cannot read, and so never installs it"
    minimum = needs[: len(has)]
    return f"needs Kubernetes {text[:MAX_TEXT]}, and there is {'.'.join(map(str, has))}" if minimum > has else ""


def _joint(release: Minor) -> Minor:
    return (5, 0) if release == (4, _LAST_OF_4) else release
