"""The request for OpenShift releases: `mirror.platform` of an ImageSetConfiguration, or `--release` and `--release-image`."""

from __future__ import annotations

from dataclasses import dataclass

ARCHITECTURES = ("amd64", "arm64", "ppc64le", "s390x", "multi")  # of the update service; `multi`: one payload for all


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

    `graph`: the graph data of the OpenShift Update Service too; `kubevirt`: the disk image for OpenShift Virtualization too.
    """

    channels: tuple[ReleaseChannel, ...] = ()
    architectures: tuple[str, ...] = ("amd64",)
    graph: bool = False
    release: str = ""
    kubevirt: bool = False

    @property
    def asks(self) -> bool:
        """Whether anything is requested."""
        return bool(self.channels or self.graph or self.release)
