"""The command `render`: what `apply` would apply, as files; with --install, what a first installation needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli.options import OutputOptions, RegistryOptions, command
from common.errors import ExitCode, UsageError, strictly
from importer.cli.install import SubscriptionOptions
from importer.cli.options import CLUSTER, ArchiveOptions, MirrorOptions, ResourceFlags

if TYPE_CHECKING:
    from importer.cluster.release import Release

INSTALLATION = "First installation"

# Why an installation cannot have an option of `render`.
_NO_INSTALLATION = {
    "kubernetes": "openshift-install does not install another Kubernetes; hub-import render --kubernetes has the files for one",
    "microshift": "MicroShift is installed from packages; hub-import render --microshift has the files for its node",
    "hosted": "a hosted cluster is made of its HostedCluster; hub-import render --hosted has the patch for it",
    "subscriptions": "the cluster does not exist yet; hub-import install installs operators once it runs",
    "merge": "the cluster does not exist yet, and has no earlier render",
    "update-service-uri": "the cluster does not exist yet, and has no UpdateService",
    "rbac": "the installer creates the manifests, not an account of the cluster",
    "repoint": "the installer creates the manifests, not an account of the cluster",
}


@dataclass(frozen=True, slots=True)
class InstallOptions:
    """Files for the installation of a cluster, in place of those for one that runs."""

    install: Annotated[
        bool,
        typer.Option(
            "--install",
            help="Files for the first installation of a carried release: install config, mirror, manifests.",
            rich_help_panel=INSTALLATION,
        ),
    ] = False
    release: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="The release, instead of the newest of the archive.", rich_help_panel=INSTALLATION
        ),
    ] = None

    def check(self, **given: object) -> None:
        """Raise UsageError for an option that an installation does not have, or that only one has."""
        if not self.install and self.release is not None:
            raise UsageError("--release without --install", hint="For a cluster that runs: --openshift-release 4.N.")
        if wrong := next((name for name, value in given.items() if self.install and value), None):
            option = wrong.replace("_", "-")
            raise UsageError(f"--install with --{option}: {_NO_INSTALLATION[option]}", hint="Leave one of the two out.")

    def any_release(self, stated: str | None) -> bool:
        """Say whether the release need not be stated: an installation has that of the archive."""
        return self.install and stated is None


@dataclass(frozen=True, slots=True)
class KindOptions:
    """For which kind of cluster, and of which release, the files are."""

    openshift_release: Annotated[
        str | None, typer.Option(metavar="4.N", help="The release of OpenShift that the files are for.")
    ] = None
    kubernetes: Annotated[
        bool,
        typer.Option("--kubernetes", help="Files for another Kubernetes with OLM, with the drop-ins that its nodes need."),
    ] = False
    microshift: Annotated[
        bool, typer.Option("--microshift", help="The release is that of MicroShift: with the drop-in that its node needs.")
    ] = False
    hosted: Annotated[
        bool,
        typer.Option("--hosted", help="For a hosted control plane: the patch of its HostedCluster, and files for the guest."),
    ] = False
    hosted_cluster: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --hosted: oc get hostedcluster -o yaml, whose mirrors the patch keeps."),
    ] = None

    @property
    def is_hosted(self) -> bool:
        """Whether the cluster has a hosted control plane."""
        return self.hosted or self.hosted_cluster is not None

    @property
    def kinds(self) -> dict[str, bool]:
        """The options that name a kind, and whether each was given."""
        return {"kubernetes": self.kubernetes, "microshift": self.microshift, "hosted": self.is_hosted}

    def release(self) -> Release | None:
        """Return the release that files are for; None for another Kubernetes. Raises UsageError."""
        from importer.cluster.release import Release

        # No cluster is contacted: the options say which kinds of objects exist there.
        text = self.openshift_release
        if self.kubernetes == (text is not None) or sum(self.kinds.values()) > 1:
            raise UsageError(
                "the files are for a release of OpenShift, or for another Kubernetes",
                hint="Give either --openshift-release 4.N, with --microshift or --hosted where it is one, or --kubernetes.",
            )
        return None if text is None else replace(Release.parse(text), microshift=self.microshift, hosted=self.is_hosted)


@dataclass(frozen=True, slots=True)
class ContentOptions:
    """What the files have besides the objects of the archive."""

    merge: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep what an earlier render in this directory has, such as rules and catalogs."),
    ] = None
    update_service_uri: Annotated[
        str,
        typer.Option(
            metavar="URI",
            help="What the UpdateService reports: write the patch by which the cluster asks it.",
            rich_help_panel=CLUSTER,
        ),
    ] = ""
    rbac: Annotated[bool, typer.Option("--rbac", help="Write roles too, with what hub-import has to be allowed to do.")] = False
    repoint: Annotated[
        bool, typer.Option("--repoint", help="With --rbac: the roles allow apply --repoint.", rich_help_panel=CLUSTER)
    ] = False


def add_render(app: typer.Typer) -> None:
    """Register the command with a program."""
    command(app, "render")(_render)


def _render(
    archive: ArchiveOptions,
    mirror: MirrorOptions,
    registry: RegistryOptions,
    resources: ResourceFlags,
    output: OutputOptions,
    directory: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the files go.")],
    day_one: InstallOptions,
    operators: SubscriptionOptions,
    kind: KindOptions,
    content: ContentOptions,
) -> ExitCode:
    """Write what apply would apply as files, for GitOps or oc apply; with --install, what a first installation needs."""
    from importer import workflow
    from importer.cli import cluster_tables
    from importer.configure.files.rendering import render_files, render_installation
    from importer.configure.files.roles import render_rbac

    output.begin()
    settings, asked = mirror.settings(registry), operators.asked()
    day_one.check(**kind.kinds, subscriptions=asked.wanted, **asdict(content))
    release = None if day_one.any_release(kind.openshift_release) else kind.release()
    opened, near = archive.open_with_neighbours()
    options = replace(resources.options(registry), hosted=kind.is_hosted)
    if day_one.install:
        files, built = render_installation(opened, settings, options, version=day_one.release, expected=release)
    else:
        files, built = render_files(
            opened,
            settings,
            release,
            options,
            merged=content.merge,
            hosted=kind.hosted_cluster,
            updates_from=content.update_service_uri,
            subscriptions=asked,
        )
    if content.rbac:
        files |= render_rbac(release, built.resources, options, repoint=content.repoint, installs=built.installs)
    paths = workflow.write_files(directory, files)
    document = cluster_tables.render_document(paths, built) | near.document()
    output.emit(document, lambda: cluster_tables.render_table(paths, built, opened.label))
    return strictly([built.exit_code], strict=settings.strict)
