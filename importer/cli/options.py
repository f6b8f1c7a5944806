"""The groups of options of hub-import: which archive, which mirror, which cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from common.cli import terminal
from common.cli.options import Archives, Key, OutputOptions, RegistryOptions, read_text
from common.durations import seconds_of
from common.errors import HubError, UsageError
from common.interruption import is_stopped
from importer.cli.agreement import agreed

if TYPE_CHECKING:
    from common.archive.inventory import Inventory
    from common.archive.location import Place
    from common.archive.reader import Archive, ArchiveReader
    from common.archive.signature import Verifier
    from importer.archive.checksum_files import Neighbours
    from importer.cluster.readiness.wait import Display
    from importer.cluster.resources.build import ResourceOptions
    from importer.configure.applied import Applied
    from importer.configure.apply import Interaction
    from importer.mapping import Mirror
    from importer.settings import ClusterSettings, ImportSettings
    from importer.workflow import Following


# Panels of --help, see common/cli/options.py.
MIRROR = "Paths on the mirror"
OBJECTS = "Catalog sources and mirror rules"
CLUSTER = "Cluster"

_LONGEST_WAIT_S = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """Which archive."""

    archive: Archives
    key: Key = None

    @property
    def words(self) -> list[str]:
        """The archive and its key as a further command names them."""
        return [*self.archive, *(["--key", str(self.key)] if self.key else [])]

    def open(self) -> Archive:
        """Open it. With --key, raises ArchiveUntrustedError unless it is signed with that key."""
        from common.archive.reader import Archive

        return Archive.open(*self._asked())

    def open_with_neighbours(self) -> tuple[Archive, Neighbours]:
        """Open it; with --key, say on stderr what is next to the volumes and not signed. Raises as `open` does."""
        from importer.archive.checksum_files import neighbours

        # Said before the first byte: a person who approves by the report must not read it hours later.
        opened = self.open()
        near = neighbours(opened.found)
        for line in near.lines():
            terminal.tell(line)
        return opened, near

    def open_untrusted(self) -> ArchiveReader:
        """Open it for a report, in which the signature is one result of many."""
        from common.archive.reader import ArchiveReader

        return ArchiveReader.open_untrusted(*self._asked())

    def _asked(self) -> tuple[list[Place], Verifier | None]:
        from common.archive.location import parse
        from common.archive.signature import Verifier

        return list(map(parse, self.archive)), Verifier.load(self.key) if self.key else None

    def following(self, *, alone: bool = True) -> Following:
        """Return a function that asks for the next medium on a terminal; elsewhere, and for a shard, none follows."""
        from importer.workflow import nothing_follows

        # A prompt makes sense only with a person at a terminal; a shard has volumes of its own.
        return self._next if alone and sys.stdin.isatty() and sys.stderr.isatty() else nothing_follows

    def _next(self, archive: Archive, wanted: Sequence[str]) -> Archive | None:
        """Ask for a medium until one holds a wanted volume of the same archive, or the answer is no."""
        where = ", ".join(self.archive)
        ways = f"Put the next medium of {archive.label} in and press Enter ({where}), or type another path; q ends"
        while True:
            text = terminal.shown(f"still wanted: {', '.join(wanted)}. {ways}")
            try:
                answer = typer.prompt(text, default="", show_default=False, prompt_suffix=": ", err=True).strip()
            # Ctrl-D at the prompt: the push ends with the volumes that were here, exit status 3. Ctrl-C comes as Abort, too.
            except typer.Abort:
                if is_stopped():
                    raise
                return None
            if answer.lower() == "q":
                return None
            try:
                found, _ = replace(self, archive=[answer] if answer else self.archive).open_with_neighbours()
            except HubError as error:
                terminal.tell_error(error)
                continue
            # Media of another archive often carry the same file names; only the digest of the inventory tells them apart.
            if found.digest == archive.digest and set(found.present) & set(wanted):
                return found
            other = f"it is of another archive, {found.label}" if found.digest != archive.digest else "none of them is there"
            terminal.tell(f"that does not help: {other}")


MaxPathComponents = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Join longer repository paths with -, for registries without nesting.",
        rich_help_panel=MIRROR,
    ),
]
KeepSourceHost = Annotated[
    bool,
    typer.Option(
        "--keep-source-host", help="Put the source's host before its path, so that paths never meet.", rich_help_panel=MIRROR
    ),
]
ReleaseLayout = Annotated[
    Literal["openshift", "source"],
    typer.Option(help="Paths of OpenShift releases: those of oc and oc-mirror, or of the sources.", rich_help_panel=MIRROR),
]


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """The registry behind the gap."""

    registry: Annotated[str, typer.Option("--registry", metavar="HOST[:PORT][/PREFIX]", help="The registry to push to.")]
    max_path_components: MaxPathComponents = None
    keep_source_host: KeepSourceHost = False
    release_layout: ReleaseLayout = "openshift"
    strict: Annotated[bool, typer.Option("--strict", help="Fail when there is any problem.")] = False

    def settings(self, registry: RegistryOptions, *, heal: bool = False, volumes: range | None = None) -> ImportSettings:
        """Return the settings of an import. Raises UsageError."""
        from importer.settings import ImportSettings

        return ImportSettings(_mirror(self.registry, self), registry.settings(), registry.jobs, self.strict, heal, volumes)

    def words(self, registry: RegistryOptions) -> list[str]:
        """Return the options by which a further command has the same names on the same registry."""
        named: dict[str, object] = {
            "--ca": registry.ca,
            "--authfile": registry.authfile,
            "--registries-conf": registry.registries_conf,
            "--max-path-components": self.max_path_components,
        }
        found = ["--registry", self.registry, *(word for host in registry.insecure for word in ("--insecure", host))]
        found += [word for option, value in named.items() if value is not None for word in (option, str(value))]
        found += ["--keep-source-host"] if self.keep_source_host else []
        return [*found, *(["--release-layout", self.release_layout] if self.release_layout != "openshift" else [])]


@dataclass(frozen=True, slots=True)
class PayloadOptions:
    """The name of a release in a program: on the mirror, or that of its source."""

    registry: Annotated[
        str | None,
        typer.Option(
            "--registry",
            metavar="HOST[:PORT][/PREFIX]",
            help="The mirror that the installer installs from; without it, the source of the release.",
        ),
    ] = None
    max_path_components: MaxPathComponents = None
    keep_source_host: KeepSourceHost = False
    release_layout: ReleaseLayout = "openshift"

    def mirror(self) -> Mirror | None:
        """Return the mirror; None without one. Raises UsageError."""
        if self.registry is not None:
            return _mirror(self.registry, self)
        if self.max_path_components is not None or self.keep_source_host or self.release_layout != "openshift":
            raise UsageError("a path on the mirror without a mirror", hint="Give --registry too, or leave the option out.")
        return None


def _mirror(registry: str, paths: MirrorOptions | PayloadOptions) -> Mirror:
    from importer.mapping import Mirror

    return Mirror.parse(
        registry,
        max_path_components=paths.max_path_components,
        keep_source_host=paths.keep_source_host,
        releases_by_source=paths.release_layout == "source",
    )


@dataclass(frozen=True, slots=True)
class ComparedArchiveOptions:
    """Which archive a cluster is compared with, if any."""

    archive: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARCHIVE…", help="The archive to compare the cluster with; without it, how the cluster is."),
    ] = None
    key: Key = None

    def compared(self) -> tuple[Inventory | None, str, Neighbours]:
        """Return its inventory and its label, None without an archive, and unsigned files next to it. Raises as `open` does."""
        from importer.archive.checksum_files import Neighbours

        if not self.archive:
            require_archive(self.key)
            return None, "", Neighbours()
        opened, near = ArchiveOptions(self.archive, self.key).open_with_neighbours()
        return opened.inventory, opened.label, near


@dataclass(frozen=True, slots=True)
class RememberedArchiveOptions:
    """Which archive; without one, those that the mirror remembers."""

    archive: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARCHIVE…", help="The archive; without it, all archives that the mirror remembers."),
    ] = None
    key: Key = None

    def open_with_neighbours(self) -> tuple[Archive | None, Neighbours]:
        """Open it, None without one; with --key, say what next to it is not signed. Raises as `ArchiveOptions.open` does."""
        from importer.archive.checksum_files import Neighbours

        return ArchiveOptions(self.archive, self.key).open_with_neighbours() if self.archive else (None, Neighbours())

    def verifier(self) -> Verifier | None:
        """Return the key that has to have signed the archives; None without one. Raises UsageError."""
        from common.archive.signature import Verifier

        return Verifier.load(self.key) if self.key else None


def require_archive(key: Path | None) -> None:
    """Raise UsageError for a key where no archive is named."""
    if key is not None:
        raise UsageError("--key without an archive", hint="Name the archive that it signed.")


Heal = Annotated[
    bool, typer.Option("--heal", help="Ask for every blob, also of images that are there: the mirror may have lost some.")
]


CatalogName = Annotated[
    list[str],
    typer.Option(
        metavar="[CATALOG=]NAME",
        help="Name of the CatalogSource, to keep redhat-operators for example; repeatable.",
        rich_help_panel=OBJECTS,
    ),
]


@dataclass(frozen=True, slots=True)
class ResourceFlags:
    """Options of the objects in the cluster."""

    catalog_name: CatalogName = field(default_factory=list)
    mirror_scope: Annotated[
        str,
        typer.Option(
            metavar="SCOPE", help="What mirror rules name: repository, namespace or registry.", rich_help_panel=OBJECTS
        ),
    ] = "repository"
    serve_catalog: Annotated[
        bool,
        typer.Option(
            "--serve-catalog",
            help="Run catalogs in Deployments of hub-import, without OLM's limits on its pods.",
            rich_help_panel=OBJECTS,
        ),
    ] = False
    image_registry_emptydir: Annotated[
        bool,
        typer.Option(
            "--image-registry-emptydir",
            help="Up to 4.4, so that --ca works: run the image registry without lasting storage.",
            rich_help_panel=OBJECTS,
        ),
    ] = False

    def options(self, registry: RegistryOptions) -> ResourceOptions:
        """Return the options of the resources; `--ca` is also what the nodes get to trust. Raises UsageError."""
        from importer.cluster.resources.build import ResourceOptions, catalog_names, scope

        # One CA for both: the registry that hub-import trusts is the one that the nodes pull from.
        ca = read_text(registry.ca, "--ca") if registry.ca else None
        return ResourceOptions(
            catalog_names(self.catalog_name),
            scope(self.mirror_scope),
            ca,
            serve_catalog=self.serve_catalog,
            image_registry_emptydir=self.image_registry_emptydir,
        )


ReplaceCredential = Annotated[
    bool,
    typer.Option(
        "--replace-credential",
        help="Let --cluster-authfile replace the pull secret's credential of a whole registry.",
        rich_help_panel=CLUSTER,
    ),
]


Repoint = Annotated[
    bool,
    typer.Option(
        "--repoint",
        help="Let Subscriptions whose catalog goes away name the one that has their operator; undo brings back the former.",
        rich_help_panel=CLUSTER,
    ),
]


NoInstall = Annotated[
    bool,
    typer.Option(
        "--no-install",
        help="Leave out the operators that the archive lists for installation (hub-export create --install).",
        rich_help_panel=CLUSTER,
    ),
]
PullTestWanted = Annotated[
    bool,
    typer.Option(
        "--pull-test",
        help="At the end, let a short-lived pod for each pool and architecture prove that nodes can pull.",
        rich_help_panel=CLUSTER,
    ),
]
NoPullTest = Annotated[
    bool,
    typer.Option("--no-pull-test", help="Create no pods that prove that nodes can pull.", rich_help_panel=CLUSTER),
]


ChangePage = Annotated[
    str | None,
    typer.Option(
        "--report",
        metavar="FILE|DIR",
        help="Leave a page about the changes, as deploy does; in a directory it is named by time. Never replaced.",
    ),
]


Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Instead of $KUBECONFIG or ~/.kube/config.",
        rich_help_panel=CLUSTER,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of the kubeconfig.",
        rich_help_panel=CLUSTER,
    ),
]


Timeout = Annotated[
    str, typer.Option(metavar="DURATION", help="How long to wait for the operators: 20s, 5m, 1h30m; 45 is 45 minutes.")
]


def timeout_of(text: str) -> float:
    """Return the seconds of --timeout. Raises UsageError."""
    # A number alone counts minutes: a rollout of a MachineConfigPool takes 10 to 40 of them.
    return seconds_of(text, "--timeout", unit="m", longest_s=_LONGEST_WAIT_S)


def display_of(output: OutputOptions, tell: Callable[[str], None]) -> Display:
    """Return the display of a wait: a live table on a terminal, else plain lines."""
    from importer.cluster.readiness.wait import Lines

    # Logs of a pipeline get one line for each change of state instead of a table that is drawn over.
    if not output.is_live:
        return Lines(tell)
    from importer.cli.cluster_tables import LiveTable

    return LiveTable(sys.stderr)


def require_no_cluster(kubeconfig: Path | list[Path] | None, context: str | None) -> None:
    """Raise UsageError for --no-cluster where a cluster is named."""
    if kubeconfig or context:
        raise UsageError("--no-cluster with a cluster", hint="Leave out --no-cluster, or --kubeconfig and --context.")


def _place_words(kubeconfig: Path | None, context: str | None) -> list[str]:
    named = {"--kubeconfig": kubeconfig, "--context": context}
    return [word for option, value in named.items() if value is not None for word in (option, str(value))]


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Which cluster, and how much of the configuration to do."""

    kubeconfig: Kubeconfig = None
    context: Context = None
    cluster_authfile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Read-only credential of the mirror, merged into the pull secret.", rich_help_panel=CLUSTER
        ),
    ] = None
    replace_credential: ReplaceCredential = False
    openshift_release: Annotated[
        str | None,
        typer.Option(
            metavar="4.N",
            help="Instead of what the cluster says of itself.",
            rich_help_panel=CLUSTER,
        ),
    ] = None
    catalogs_only: Annotated[
        bool,
        typer.Option(
            "--catalogs-only",
            help="Write catalogs alone: rules, trust and default sources are in place, as in a hosted cluster.",
            rich_help_panel=CLUSTER,
        ),
    ] = False
    repoint: Repoint = False
    no_install: NoInstall = False
    update_service: Annotated[
        bool,
        typer.Option(
            "--update-service",
            help="Let the cluster ask its UpdateService for updates: spec.upstream of ClusterVersion; undo restores it.",
            rich_help_panel=CLUSTER,
        ),
    ] = False
    acknowledge: Annotated[
        list[str],
        typer.Option(
            "--acknowledge",
            metavar="NAME",
            help="What the cluster asks an administrator to acknowledge before an update; repeatable.",
            rich_help_panel=CLUSTER,
        ),
    ] = field(default_factory=list)
    allow_orphaned: Annotated[
        list[str],
        typer.Option(
            "--allow-orphaned",
            metavar="PACKAGE",
            help="An operator whose Subscription may lose its catalog; repeatable.",
            rich_help_panel=CLUSTER,
        ),
    ] = field(default_factory=list)
    allow_stranded: Annotated[
        list[str],
        typer.Option(
            "--allow-stranded",
            metavar="PACKAGE",
            help="An operator that the archive need not update to the head of its channel; repeatable.",
            rich_help_panel=CLUSTER,
        ),
    ] = field(default_factory=list)
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change and push nothing.")] = False
    diff: Annotated[
        bool, typer.Option("--diff", help="Show how each object would differ, before the question; --dry-run always does.")
    ] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the first change.")] = False
    timeout: Timeout = "45"

    @property
    def words(self) -> list[str]:
        """The cluster as a further command names it."""
        return _place_words(self.kubeconfig, self.context)

    def settings(self, resources: ResourceOptions, *, pull_test: bool = False) -> ClusterSettings:
        """Return the settings of the cluster's part. Raises UsageError."""
        from importer.cluster.release import Release
        from importer.settings import ClusterSettings

        return ClusterSettings(
            kubeconfig=self.kubeconfig,
            context=self.context,
            authfile=self.cluster_authfile,
            replace_credential=self.replace_credential,
            resources=replace(resources, catalogs_only=self.catalogs_only),
            release=Release.parse(self.openshift_release) if self.openshift_release is not None else None,
            allowed_orphans=tuple(self.allow_orphaned),
            allowed_stranded=tuple(self.allow_stranded),
            repoint=self.repoint,
            installs=not self.no_install,
            update_service=self.update_service,
            acknowledged=tuple(dict.fromkeys(self.acknowledge)),
            pull_test=pull_test,
            dry_run=self.dry_run,
            timeout_s=timeout_of(self.timeout),
        )

    def interaction(self, output: OutputOptions, tell: Callable[[str], None]) -> Interaction:
        """Return the callbacks of an apply: a live table on a terminal, else plain lines."""
        from importer.configure.apply import Interaction

        return Interaction(tell, self.agree, display_of(output, tell))

    def agree(self, would: Applied) -> bool:
        """Ask whether the cluster may be changed. Raises UsageError where standard input is not a terminal."""
        from importer.cli import cluster_tables

        return agreed(cluster_tables.question_table(would, diff=self.diff), cluster_tables.would_change(would), yes=self.yes)


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """Which cluster, for commands that bring nothing to it."""

    kubeconfig: Kubeconfig = None
    context: Context = None

    @property
    def words(self) -> list[str]:
        """The cluster as a further command names it."""
        return _place_words(self.kubeconfig, self.context)

    def settings(
        self,
        authfile: Path | None = None,
        *,
        replace_credential: bool = False,
        dry_run: bool = False,
        resources: ResourceOptions | None = None,
        repoint: bool = False,
    ) -> ClusterSettings:
        """Return the settings of the cluster's part."""
        from importer.cluster.resources.build import ResourceOptions
        from importer.settings import ClusterSettings

        return ClusterSettings(
            resources=resources or ResourceOptions(),
            repoint=repoint,
            kubeconfig=self.kubeconfig,
            context=self.context,
            authfile=authfile,
            replace_credential=replace_credential,
            dry_run=dry_run,
        )
