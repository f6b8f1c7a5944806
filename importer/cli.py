"""hub-import: flags → settings, error → exit code, result → stdout."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli import OutputOptions, RegistryOptions, command, read_text, start, version_option
from common.errors import ExitCode, UsageError
from common.login_command import add_login

if TYPE_CHECKING:
    from common.archive.reader import Archive
    from importer.cluster.apply import ApplyResult
    from importer.cluster.resources import ResourceOptions
    from importer.settings import ClusterSettings, ImportSettings

app = typer.Typer(
    help="Bring an archive of hub-export into a disconnected cluster: mirror registry, OperatorHub, and the wait for it.",
    no_args_is_help=True,
)
app.callback()(version_option)


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """Which archive."""

    archive: Annotated[
        list[Path], typer.Argument(metavar="ARCHIVE…", help="Directories that hold the archive, or single volume files.")
    ]

    key: Annotated[
        Path | None, typer.Option(metavar="PUB", help="Public key (PEM); an archive that it did not sign is refused.")
    ] = None

    def open(self, *, trusted: bool = True) -> Archive:
        """Open it. With a key, raises ArchiveUntrustedError unless it is signed, or `trusted` is False."""
        from common.archive.reader import Archive
        from common.archive.signature import Verifier

        return Archive.open(self.archive, Verifier.load(self.key) if self.key else None, trusted=trusted)


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """The registry behind the gap."""

    registry: Annotated[str, typer.Option("--registry", metavar="HOST[:PORT][/PREFIX]", help="The registry to push to.")]
    max_path_components: Annotated[
        int | None, typer.Option(min=1, help="Join longer repository paths with -, for registries without nesting.")
    ] = None
    keep_source_host: Annotated[
        bool, typer.Option("--keep-source-host", help="Put the source's host before its path, so that paths never meet.")
    ] = False
    strict: Annotated[bool, typer.Option("--strict", help="Fail when there is any problem.")] = False

    def settings(self, registry: RegistryOptions) -> ImportSettings:
        """Return the settings of an import. Raises UsageError."""
        from importer.mapping import Mirror
        from importer.settings import ImportSettings

        mirror = Mirror.parse(
            self.registry, max_path_components=self.max_path_components, keep_source_host=self.keep_source_host
        )
        return ImportSettings(mirror, registry.settings(), registry.jobs, self.strict)


@dataclass(frozen=True, slots=True)
class ResourceFlags:
    """What the cluster is told."""

    catalog_name: Annotated[
        list[str],
        typer.Option(
            metavar="[CATALOG=]NAME", help="Name of the CatalogSource, to keep redhat-operators for example; repeatable."
        ),
    ] = field(default_factory=list)
    mirror_scope: Annotated[
        str, typer.Option(metavar="SCOPE", help="What mirror rules name: repository, namespace or registry.")
    ] = "repository"

    def options(self, registry: RegistryOptions) -> ResourceOptions:
        """Return the options of the resources; `--ca` is also what the nodes get to trust. Raises UsageError."""
        from importer.cluster.resources import ResourceOptions, catalog_names, scope

        ca = read_text(registry.ca, "--ca") if registry.ca else None
        return ResourceOptions(catalog_names(self.catalog_name), scope(self.mirror_scope), ca)


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Which cluster, and how far to go on it."""

    kubeconfig: Annotated[Path | None, typer.Option(metavar="FILE", help="Instead of $KUBECONFIG or ~/.kube/config.")] = None
    context: Annotated[str | None, typer.Option(help="Of the kubeconfig.")] = None
    cluster_authfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read-only credential of the mirror, merged into the pull secret.")
    ] = None
    openshift_release: Annotated[
        str | None, typer.Option(metavar="4.N", help="Instead of what the cluster says of itself.")
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change and push nothing.")] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the first change.")] = False
    timeout: Annotated[int, typer.Option(min=1, metavar="MINUTES", help="How long to wait for the operators.")] = 45

    def settings(self, resources: ResourceOptions) -> ClusterSettings:
        """Return the settings of the cluster's part. Raises UsageError."""
        from importer.cluster.release import Release
        from importer.settings import ClusterSettings

        return ClusterSettings(
            kubeconfig=self.kubeconfig,
            context=self.context,
            authfile=self.cluster_authfile,
            resources=resources,
            release=Release.parse(self.openshift_release) if self.openshift_release else None,
            dry_run=self.dry_run,
            timeout_s=self.timeout * 60.0,
        )

    def agree(self, would: ApplyResult) -> bool:
        """Ask whether the cluster may be changed. Raises UsageError where nobody can answer."""
        from importer import listing

        if self.yes:
            return True
        print(listing.changes_table(would), file=sys.stderr)
        if not sys.stdin.isatty():
            raise UsageError("the cluster would be changed as above, and nobody is here to agree", hint="Say --yes.")
        return typer.confirm("Change the cluster?", err=True)


@command(app)
def inspect(archive: ArchiveOptions, output: OutputOptions) -> ExitCode:
    """What is inside, and which volumes are here."""
    from importer import listing

    output.begin()
    opened = archive.open()
    output.emit(listing.inspect_document(opened), lambda: listing.inspect_table(opened))
    return ExitCode.DONE


@command(app)
def verify(
    archive: ArchiveOptions,
    output: OutputOptions,
    quick: Annotated[bool, typer.Option("--quick", help="Completeness and structure only, not every byte.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Volumes checked at the same time.")] = 2,
) -> ExitCode:
    """Check that the archive is whole: completeness, checksums, every byte."""
    from importer import listing, workflow

    progress = output.begin()
    opened = archive.open(trusted=False)
    result = workflow.check(opened, quick=quick, jobs=jobs, progress=progress)
    output.emit(result.document(), lambda: listing.verify_table(result))
    return ExitCode.DONE if result.ok else ExitCode.ARCHIVE


@command(app)
def push(archive: ArchiveOptions, mirror: MirrorOptions, registry: RegistryOptions, output: OutputOptions) -> ExitCode:
    """Bring everything that is at hand into the mirror: any volume alone, in any order."""
    from importer import listing, workflow

    progress = output.begin()
    settings = mirror.settings(registry)
    result = workflow.push(archive.open(), settings, progress)
    output.emit(listing.push_document(result), lambda: listing.push_table(result))
    return workflow.strictly([result.exit_code], settings)


@command(app)
def render(
    archive: ArchiveOptions,
    mirror: MirrorOptions,
    registry: RegistryOptions,
    resources: ResourceFlags,
    output: OutputOptions,
    openshift_release: Annotated[str, typer.Option(metavar="4.N", help="The release that the files are for.")],
    directory: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the files go.")],
) -> ExitCode:
    """Write what apply would apply as files, for GitOps or oc apply."""
    from importer import listing, workflow
    from importer.cluster.release import Release

    output.begin()
    settings = mirror.settings(registry)
    release = Release.parse(openshift_release)
    files, built = workflow.render(archive.open(), settings.mirror, release, resources.options(registry))
    paths = workflow.write_files(directory, files)
    output.emit(listing.render_document(paths, built), lambda: listing.render_table(paths, built))
    return workflow.strictly([built.exit_code], settings)


@command(app)
def apply(
    archive: ArchiveOptions,
    mirror: MirrorOptions,
    registry: RegistryOptions,
    resources: ResourceFlags,
    cluster: ClusterOptions,
    output: OutputOptions,
) -> ExitCode:
    """Configure the cluster: trust, default sources off, mirror rules, catalog sources; wait until OLM lists the operators."""
    from importer import listing, workflow

    output.begin()
    settings = mirror.settings(registry)
    told = cluster.settings(resources.options(registry))
    applied = workflow.apply(archive.open(), settings, told, _tell, cluster.agree)
    output.emit(listing.apply_document(applied), lambda: listing.apply_table(applied))
    return workflow.strictly([applied.exit_code], settings)


@command(app)
def deploy(
    archive: ArchiveOptions,
    mirror: MirrorOptions,
    registry: RegistryOptions,
    resources: ResourceFlags,
    cluster: ClusterOptions,
    output: OutputOptions,
) -> ExitCode:
    """Verify, push, apply and wait: everything, in one command that can be run again."""
    from importer import listing, workflow

    progress = output.begin()
    settings = mirror.settings(registry)
    told = cluster.settings(resources.options(registry))
    pushed, applied = workflow.deploy(archive.open(), settings, told, progress, tell=_tell, agree=cluster.agree)
    output.emit(listing.deploy_document(pushed, applied), lambda: listing.deploy_table(pushed, applied))
    return workflow.strictly([part.exit_code for part in (pushed, applied) if part is not None], settings)


def _tell(line: str) -> None:
    """Show what is being done or waited for."""
    print(line, file=sys.stderr, flush=True)


add_login(app)


def main() -> None:
    """Run hub-import."""
    start(app, "hub-import")
