"""The request for OpenShift releases: `mirror.platform` of an ImageSetConfiguration, or `--release` and `--release-image`.

Source of the fields: openshift/oc-mirror, internal/pkg/api/v2alpha1/type_config.go; of the names of channels and
architectures: openshift/cincinnati, docs/design/openshift.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common import version
from common.errors import UsageError
from common.openshift.openshift_release import is_channel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from common.oci.image import Platform

MULTI = "multi"
ARCHITECTURES = ("amd64", "arm64", "ppc64le", "s390x", MULTI)  # of the update service; `multi`: one payload for all
TYPES = ("ocp", "okd")
_OTHER_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
_OKD = re.compile(r"4-.*|(?:.*-)?(?:scos|okd)(?:-.*)?|.*-4")  # channels of OKD have no minor version
_VERSION = re.compile(r"v?(\d{1,3}\.\d{1,4})(?:\.\d{1,5}(-[0-9A-Za-z.-]{1,80})?)?", re.ASCII)
_FLAG = re.compile(r"([^@\s]+)(?:@(\S*))?")


@dataclass(frozen=True, slots=True)
class ReleaseChannel:
    """A channel of the update service, and which of its releases. Versions are empty where there is no bound.

    `okd`: a channel of OKD; `shortest_path`: the releases of the shortest update path only; `full`: every release.
    """

    name: str
    okd: bool = False
    min_version: str = ""
    max_version: str = ""
    shortest_path: bool = False
    full: bool = False


@dataclass(frozen=True, slots=True)
class PlatformRequest:
    """The releases of an image set. `release`: one payload by its reference, in place of channels.

    `graph`: the graph data of the OpenShift Update Service too; `kubevirt`: the disk image for OpenShift Virtualization too;
    `platforms`: of payloads and components that are image indexes only these; empty for all.
    """

    channels: tuple[ReleaseChannel, ...] = ()
    architectures: tuple[str, ...] = ("amd64",)
    graph: bool = False
    release: str = ""
    kubevirt: bool = False
    platforms: tuple[Platform, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether anything is requested."""
        return bool(self.channels or self.graph or self.release)


NO_RELEASES = PlatformRequest()


def channel_faults(channel: ReleaseChannel, where: str) -> Iterator[UsageError]:
    """Yield the faults of the request for a channel; messages begin with `where`."""
    if meant := _channel_of_version(channel.name):
        # An update service answers with an empty graph, and its neighbours take a minute to look up.
        both = f", and {channel.name} as minVersion and maxVersion" if channel.name.count(".") > 1 else ""
        yield UsageError(f"{where}: {channel.name!r} is a version and no channel", hint=f"Write {meant}{both}.")
    elif not is_channel(channel.name):
        yield UsageError(
            f"{where}: {channel.name[:100]!r} is no channel", hint="For example stable-4.18, eus-4.18, or stable-scos-4 of OKD."
        )
    bounds = [channel.min_version, channel.max_version]
    # oc-mirror ends with a panic at two numbers (internal/pkg/release/cincinnati.go, semver.MustParse).
    bad = [text for text in bounds if text and version.try_parse(text) is None]
    for text in bad:
        hint = f"Releases have three numbers, such as 4.18.3; hub-export list --release {channel.name[:100]} shows them."
        yield UsageError(f"{where}: {channel.name[:100]}: {text[:80]!r} is no version of a release", hint=hint)
    if not bad and all(bounds) and version.parse(bounds[0]).key > version.parse(bounds[1]).key:
        yield UsageError(f"{where}: {channel.name}: minVersion {bounds[0]} is above maxVersion {bounds[1]}", hint="Swap them.")
    if channel.full and any(bounds):
        yield UsageError(
            f"{where}: {channel.name}: full and a version range exclude each other",
            hint="Take full out, or minVersion and maxVersion.",
        )


def _channel_of_version(text: str) -> str:
    """Return the channel that has a version, or the releases of two numbers; empty for another text."""
    found = _VERSION.fullmatch(text)
    if not found:
        return ""
    suffix = found[2] or ""
    if "okd" in suffix:
        return "stable-scos-4"
    return f"{'candidate' if suffix else 'stable'}-{found[1]}"  # release candidates are in no other channel


def _flag_meant(name: str, bounds: str) -> str:
    """Return `stable-4.18@4.18.1` for `4.18.1`, and so for a range of versions; empty for another text."""
    ends = [end.removeprefix("v") for end in name.split("..", 1)]
    channels = [_channel_of_version(end) for end in ends if end]
    if not all(channels) or not channels:
        return ""
    wanted = bounds or "..".join(ends)
    is_range = all(version.try_parse(end) for end in wanted.split("..", 1) if end)  # two numbers are no bound
    return f"{channels[-1]}@{wanted}" if is_range else channels[-1]


def architecture_fault(name: str, where: str) -> UsageError | None:
    """Return the fault of an architecture, if it has one."""
    if name in ARCHITECTURES:
        return None
    meant = _OTHER_NAMES.get(name.lower(), name.lower())
    hint = f"Write {meant}." if meant in ARCHITECTURES else f"Wanted: {', '.join(ARCHITECTURES)}."
    return UsageError(f"{where}: {name[:40]!r} is no architecture of releases", hint=hint)


def channel_of_flag(text: str, *, shortest_path: bool = False) -> ReleaseChannel:
    """Read `CHANNEL[@MIN..MAX]`; one version alone is both minimum and maximum. Raises UsageError."""
    match = _FLAG.fullmatch(text)
    if not match or match[2] in ("", ".."):
        raise UsageError(
            f"--release {text[:200]!r} cannot be read",
            hint="Wanted: CHANNEL[@MIN..MAX], for example stable-4.18@4.18.3..4.18.9",
        )
    if meant := _flag_meant(match[1], match[2] or ""):
        raise UsageError(
            f"--release {text[:200]!r} is a version, and names no channel",
            hint=f"Write --release {meant}; hub-export list --release {meant.partition('@')[0]} shows what the channel has.",
        )
    low, dots, high = (match[2] or "").partition("..")
    channel = ReleaseChannel(
        match[1],
        okd=bool(_OKD.fullmatch(match[1])),
        min_version=low,
        max_version=high if dots else low,
        shortest_path=shortest_path,
    )
    for fault in channel_faults(channel, "--release"):
        raise fault
    return channel


def request_of_flags(
    *,
    channels: Iterable[str],
    release: str,
    architectures: Iterable[str],
    graph: bool,
    shortest_path: bool,
) -> PlatformRequest:
    """Return the request of flags. Raises UsageError."""
    wanted = tuple(channel_of_flag(text, shortest_path=shortest_path) for text in channels)
    chosen = tuple(dict.fromkeys(architectures))
    if release and wanted:
        raise UsageError("--release and --release-image exclude each other", hint="A release by its image needs no channel.")
    if (chosen or shortest_path) and release:
        raise UsageError(
            "--release-arch and --shortest-path have no effect with --release-image",
            hint="Leave them out: the payload says its architecture, and its tag, such as 4.18.3-aarch64.",
        )
    if (chosen or shortest_path) and not wanted:
        raise UsageError("--release-arch and --shortest-path need --release", hint="Name a channel, such as stable-4.18.")
    for name in chosen:
        if fault := architecture_fault(name, "--release-arch"):
            raise fault
    return PlatformRequest(wanted, chosen or ("amd64",), graph, release)
