"""The command `status`: how the cluster is, and which archives the mirror remembers; the mirror alone with --no-cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli.options import OutputOptions, RegistryOptions, command
from common.errors import ExitCode, UsageError
from importer.cli.options import CLUSTER, ComparedArchiveOptions, PlaceOptions, require_no_cluster

if TYPE_CHECKING:
    from common.archive.inventory import Inventory
    from importer.diagnose.state import Health
    from importer.records.listing import Remembered
    from importer.settings import ClusterSettings


# Why `--no-cluster` cannot have an option.
_NEEDS_CLUSTER = {
    "an archive": "status compares an archive with a cluster; hub-import inspect ARCHIVE shows what is in it",
    "--ask-mirror": "it asks for the releases that the cluster can go to",
    "--pull": "it creates pods in the cluster",
}


def add_status(app: typer.Typer) -> None:
    """Register the command with the program."""
    command(app)(status)


@dataclass(frozen=True, slots=True)
class MirrorQuestions:
    """What the mirror is asked for."""

    ask_mirror: Annotated[
        bool, typer.Option("--ask-mirror", help="Ask the registry, too, for the OpenShift releases that the cluster can go to.")
    ] = False
    registry: Annotated[
        str | None,
        typer.Option("--registry", metavar="HOST[:PORT][/PREFIX]", help="List the archives that this mirror remembers, too."),
    ] = None

    def remembered(self, registry: RegistryOptions) -> Remembered | None:
        """Return the archives of the mirror, None where none is named. Raises UsageError, RegistryError."""
        from importer.records.listing import remembered

        return remembered(self.registry, registry.settings()) if self.registry is not None else None


def status(
    archive: ComparedArchiveOptions,
    cluster: PlaceOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    mirror: MirrorQuestions,
    no_cluster: Annotated[
        bool,
        typer.Option(
            "--no-cluster", help="Ask no cluster: with --registry, the archives of the mirror alone.", rich_help_panel=CLUSTER
        ),
    ] = False,
    pull: Annotated[
        bool,
        typer.Option("--pull", help="Let a short-lived pod for each pool and architecture prove that nodes can pull."),
    ] = False,
) -> ExitCode:
    """How the cluster is: catalogs, packages, mirror rules, pools, updates. Needs no archive, and changes nothing.

    With --pull it creates pods in a namespace of its own, and deletes them. With --registry and --no-cluster it needs no
    cluster either, and lists the archives of the mirror alone.
    """
    from importer.cli import cluster_tables, pull_tables, tables
    from importer.configure.pulling import prove

    output.begin()
    if no_cluster:
        require_no_cluster(cluster.kubeconfig, cluster.context)
        return _mirror_alone(mirror, archive, registry, output, pull=pull)
    inventory, compared, near = archive.compared()
    known = mirror.remembered(registry)
    found = _examined(cluster.settings(), inventory, mirror, registry)
    pulls = prove(cluster.settings(), found, inventory) if pull else None
    document = cluster_tables.health_document(found) | near.document() | tables.remembered_document(known)
    output.emit(
        document | pull_tables.pulls_document(pulls) | {"healthy": found.healthy and not (pulls and pulls.failed)},
        lambda: [
            *pull_tables.pulls_table(pulls),
            *pull_tables.pulls_verdict(pulls, cluster_tables.status_table(found, compared, cluster.words)),
            *tables.remembered_table(known),
        ],
    )
    return ExitCode.CLUSTER if pulls is not None and pulls.failed else found.exit_code


def _examined(
    cluster: ClusterSettings, inventory: Inventory | None, mirror: MirrorQuestions, registry: RegistryOptions
) -> Health:
    """Return the health of the cluster; where none answers, the error says how to ask the mirror alone."""
    from importer.cluster.api.client import NoClusterError, UnavailableError
    from importer.diagnose import health
    from importer.push.payloads import asking

    ask = asking(registry.settings()) if mirror.ask_mirror else None
    try:
        return health.examine(cluster, inventory=inventory, ask_mirror=ask)
    except (NoClusterError, UnavailableError) as error:
        if mirror.registry is not None:
            error.hint = f"{error.advice} With --no-cluster it lists the archives of the mirror alone."
        raise


def _mirror_alone(
    mirror: MirrorQuestions, archive: ComparedArchiveOptions, registry: RegistryOptions, output: OutputOptions, *, pull: bool
) -> ExitCode:
    """Show what the mirror remembers. `healthy` is null in the JSON: how the cluster is was not asked."""
    from importer.cli import tables

    given = {"an archive": archive.archive, "--ask-mirror": mirror.ask_mirror, "--pull": pull}
    if wrong := next((name for name, value in given.items() if value), None):
        raise UsageError(f"--no-cluster with {wrong}: {_NEEDS_CLUSTER[wrong]}", hint="Leave one of the two out.")
    _, _, near = archive.compared()
    known = mirror.remembered(registry)
    if known is None:
        raise UsageError(
            "--no-cluster without --registry: nothing is left to ask",
            hint="Name the mirror whose archives are wanted: --registry HOST[:PORT][/PREFIX].",
        )
    document = {"healthy": None, "cluster": None} | near.document() | tables.remembered_document(known)
    output.emit(document, lambda: tables.remembered_table(known))
    # A record that cannot be used is content that the answer lacks, and there is no health that counts more.
    return ExitCode.PROBLEMS if known.unusable else ExitCode.DONE
