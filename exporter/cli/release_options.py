"""Options of hub-export for OpenShift releases."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import UsageError
from exporter.settings import ReleaseSettings

if TYPE_CHECKING:
    from common.oci.reference import Reference
    from exporter.imageset.releases import PlatformRequest

_option = partial(typer.Option, rich_help_panel="OpenShift releases")
Architectures = Annotated[
    list[str], _option(metavar="ARCH", help="amd64 (default), arm64, ppc64le, s390x or multi; repeatable.")
]
UpdateService = Annotated[str | None, _option(metavar="URL", help="Ask this update service in place of the public one.")]
GraphFiles = Annotated[
    list[Path], _option(metavar="FILE", help="A saved answer of the update service, in place of asking it; repeatable.")
]


@dataclass(frozen=True, slots=True)
class ReleaseOptions:
    """The releases that are requested, and from where they are described. With an image set file: only the latter."""

    release: Annotated[
        list[str],
        _option(
            metavar="CHANNEL[@MIN..MAX]",
            help="Releases of a channel such as stable-4.18, the newest without a range; repeatable.",
        ),
    ] = field(default_factory=list)
    release_image: Annotated[str | None, _option(metavar="REF", help="One release, by its payload image.")] = None
    release_arch: Architectures = field(default_factory=list)
    shortest_path: Annotated[
        bool, _option("--shortest-path", help="Of a range only the releases of the shortest update path.")
    ] = False
    graph: Annotated[bool, _option("--graph", help="Also the graph data for the OpenShift Update Service.")] = False
    update_service: UpdateService = None
    graph_file: GraphFiles = field(default_factory=list)
    signature_store: Annotated[
        list[str],
        _option(metavar="URL", help="Look for signatures of releases here, in place of the public stores; repeatable."),
    ] = field(default_factory=list)
    release_key: Annotated[
        list[Path],
        _option(metavar="FILE", help="Public keys (OpenPGP) that may sign releases, with those of Red Hat; repeatable."),
    ] = field(default_factory=list)
    unverified_release: Annotated[
        list[str],
        _option(metavar="VERSION", help="Carry this release, by version or digest, without a verified signature; repeatable."),
    ] = field(default_factory=list)
    graph_data: Annotated[
        str | None, _option(metavar="URL|FILE", help="The graph data (tar.gz), in place of the public ones.")
    ] = None
    graph_base: Annotated[
        str | None, _option(metavar="REF", help="Build the graph-data image on this image instead of the release's cli.")
    ] = None

    @property
    def given(self) -> bool:
        """Whether anything of it is said."""
        return self != ReleaseOptions()

    @property
    def inputs(self) -> list[Path]:
        """The files that are read."""
        return [*self.graph_file, *self.release_key, *self._data]

    @property
    def _data(self) -> list[Path]:
        return [Path(self.graph_data)] if self.graph_data and "://" not in self.graph_data else []

    @property
    def requested(self) -> bool:
        """Whether releases are requested by flags."""
        return bool(self.release or self.release_image or self.release_arch or self.shortest_path or self.graph)

    def request(self) -> PlatformRequest:
        """Return what the flags request. Raises UsageError."""
        from common.oci.reference import Reference, without_docker
        from exporter.imageset.releases import request_of_flags

        image = str(Reference.parse(without_docker(self.release_image))) if self.release_image else ""
        return request_of_flags(
            channels=self.release,
            release=image,
            architectures=self.release_arch,
            graph=self.graph,
            shortest_path=self.shortest_path,
        )

    def healing(self) -> ReleaseSettings:
        """Return the settings for a re-request: the graph data of the first export. Raises UsageError for other options."""
        if self != ReleaseOptions(graph_data=self.graph_data, graph_base=self.graph_base):
            raise UsageError("--only and options for releases at once", hint="The re-request names the content.")
        self._require_places()
        return ReleaseSettings(graph_data=self.graph_data, graph_base=self._base)

    def settings(self, request: PlatformRequest) -> ReleaseSettings:
        """Return from where releases are described. Raises UsageError for options without an effect."""
        self._require_effect(request)
        self._require_places()
        return ReleaseSettings(
            self.update_service,
            tuple(self.graph_file),
            tuple(self.signature_store),
            tuple(self.release_key),
            frozenset(self.unverified_release),
            self.graph_data,
            self._base,
        )

    @property
    def _base(self) -> Reference | None:
        from common.oci.reference import Reference, without_docker

        return Reference.parse(without_docker(self.graph_base)) if self.graph_base else None

    def _require_places(self) -> None:
        """Raise UsageError for addresses that are none, and for a missing file: they are read after lookups of minutes."""
        from common.registry.fetch import checked_url

        for option, url in (
            ("--update-service", self.update_service),
            *(("--signature-store", one) for one in self.signature_store),
        ):
            if url is not None:
                checked_url(url, option)
        if any(not path.exists() for path in self._data):
            raise UsageError(f"--graph-data {self.graph_data}: no such file", hint="Wanted: the graph data (tar.gz), or a URL.")

    def _require_effect(self, request: PlatformRequest) -> None:
        given = {
            "--release-image": self.release_image,
            "--update-service": self.update_service,
            "--graph-data": self.graph_data,
            "--graph-base": self.graph_base,
        }
        for name in (name for name, value in given.items() if value is not None and not value.strip()):
            # The public service would be asked in place of one's own.
            raise UsageError(f"{name} is empty", hint="An empty variable of a script is a usual cause.")
        # Options without an effect are errors: the user believes that a check happens.
        described = self.update_service or self.graph_file
        checked = self.signature_store or self.release_key or self.unverified_release
        if (described or checked) and not (request.channels or request.release):
            raise UsageError("options for releases, and no release is requested", hint="Add --release, or mirror.platform.")
        if described and request.release:
            raise UsageError("--update-service and --graph-file with a release by its image", hint="Leave them out.")
        if self.update_service and self.graph_file:
            raise UsageError("--update-service and --graph-file exclude each other", hint="Leave one of them out.")
        if (self.graph_data or self.graph_base) and not request.graph:
            raise UsageError("--graph-data and --graph-base need --graph", hint="Add it, or graph: true in the image set.")


@dataclass(frozen=True, slots=True)
class ReleaseListOptions:
    """The channels of `list`, and from where their graphs come."""

    release: Annotated[
        list[str],
        _option(
            metavar="CHANNEL[@FROM..TO]",
            help="List the releases of a channel in place of a catalog; with FROM..TO the update path too; repeatable.",
        ),
    ] = field(default_factory=list)
    release_arch: Architectures = field(default_factory=list)
    update_service: UpdateService = None
    graph_file: GraphFiles = field(default_factory=list)

    @property
    def given(self) -> bool:
        """Whether any of them is."""
        return self != ReleaseListOptions()

    def described(self) -> ReleaseOptions:
        """Return from where the graphs of an image set come. Raises UsageError."""
        if self.release_arch:
            raise UsageError("--release-arch and an image set file at once", hint="Put architectures into the file.")
        return ReleaseOptions(update_service=self.update_service, graph_file=self.graph_file)

    def request(self) -> tuple[PlatformRequest, ReleaseSettings]:
        """Return the channels, and from where their graphs come. Raises UsageError."""
        options = ReleaseOptions(
            release=self.release, release_arch=self.release_arch, update_service=self.update_service, graph_file=self.graph_file
        )
        request = options.request()
        return request, options.settings(request)
