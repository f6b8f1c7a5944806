"""The command `install`: operators out of the catalogs that the cluster serves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from common.cli.options import Key, OutputOptions, command
from common.errors import ExitCode, UsageError
from importer.cli.agreement import agreed
from importer.cli.options import (
    CLUSTER,
    ArchiveOptions,
    Context,
    Kubeconfig,
    NoInstall,
    Timeout,
    display_of,
    timeout_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.archive.inventory import Inventory
    from importer.archive.checksum_files import Neighbours
    from importer.configure.files.subscriptions import Subscriptions
    from importer.configure.installing import Installed
    from importer.configure.running import Asking
    from importer.install.wanted import How, Wanted
    from importer.settings import ClusterSettings

# Panels of the help: `render` and `create` show the same options among many others.
PLACES = "Operators that are installed"
OLM_V1 = "OLM v1"
Packages = Annotated[
    list[str],
    typer.Argument(metavar="PACKAGE[:CHANNEL][@VERSION]…", help="What to install: by default the head of the default channel."),
]


@dataclass(frozen=True, slots=True)
class HowOptions:
    """How operators are installed; by default as they suggest."""

    namespace: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Instead of the suggested one; created where it does not exist.", rich_help_panel=PLACES
        ),
    ] = ""
    approval: Annotated[
        Literal["automatic", "manual"],
        typer.Option(help="Whether a person approves each update, the first one too.", rich_help_panel=PLACES),
    ] = "automatic"
    install_mode: Annotated[
        Literal["AllNamespaces", "OwnNamespace", "SingleNamespace", "MultiNamespace"] | None,
        typer.Option("--install-mode", help="Of a new OperatorGroup, instead of the widest that fits.", rich_help_panel=PLACES),
    ] = None
    watch: Annotated[
        list[str],
        typer.Option(
            metavar="NAMESPACE", help="What the operators watch, of a new OperatorGroup; repeatable.", rich_help_panel=PLACES
        ),
    ] = field(default_factory=list)
    catalog: Annotated[
        str, typer.Option(metavar="NAME", help="The CatalogSource, where several have a package.", rich_help_panel=PLACES)
    ] = ""
    olm: Annotated[
        Literal["v0", "v1"], typer.Option(help="v1: a ClusterExtension instead of a Subscription.", rich_help_panel=OLM_V1)
    ] = "v0"
    service_account: Annotated[
        str,
        typer.Option(
            "--service-account",
            metavar="NAME",
            help="An existing one for the ClusterExtension, instead of a new one with cluster-admin.",
            rich_help_panel=OLM_V1,
        ),
    ] = ""

    def how(self) -> How:
        """Return it as the rules take it. Raises UsageError."""
        from importer.install.wanted import Approval, How, InstallMode

        return How(
            self.namespace,
            Approval(self.approval.capitalize()),
            InstallMode(self.install_mode) if self.install_mode else None,
            tuple(dict.fromkeys(self.watch)),
            self.catalog,
            olm_v1=self.olm == "v1",
            service_account=self.service_account,
        )


@dataclass(frozen=True, slots=True)
class SubscriptionOptions(HowOptions):
    """Operators that rendered files install."""

    subscriptions: Annotated[
        list[str],
        typer.Option(
            "--subscriptions",
            metavar="PACKAGE[:CHANNEL][@VERSION]",
            help="An operator that the files install: namespace, OperatorGroup, Subscription; repeatable.",
            rich_help_panel=PLACES,
        ),
    ] = field(default_factory=list)

    no_install: NoInstall = False

    def asked(self) -> Subscriptions:
        """Return the operators, and how they are installed. Raises UsageError for options without an operator."""
        from importer.configure.files.subscriptions import Subscriptions
        from importer.install.wanted import How, parse_all

        how = self.how()
        # Operators that the archive lists go where they suggest: options would mean one of them, and apply to all.
        if not self.subscriptions and how != How():
            raise UsageError("an option of operators without --subscriptions", hint="Name them: --subscriptions PACKAGE.")
        return Subscriptions(parse_all(self.subscriptions), listed=not self.no_install, how=how)


@dataclass(frozen=True, slots=True)
class ServedOptions:
    """Which catalogs."""

    archive: Annotated[
        list[str] | None,
        typer.Option(
            "--archive", metavar="ARCHIVE", help="Only from the catalogs of this archive, which was imported; repeatable."
        ),
    ] = None
    key: Key = None

    def inventory(self) -> tuple[Inventory | None, Neighbours]:
        """Return the inventory of the archive, None without one, and unsigned files next to it. Raises UsageError."""
        from importer.archive.checksum_files import Neighbours
        from importer.cli.options import require_archive

        if not self.archive:
            require_archive(self.key)  # a key without an archive would look as if something had been verified
            return None, Neighbours()
        opened, near = ArchiveOptions(self.archive, self.key).open_with_neighbours()
        return opened.inventory, near


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """Which cluster, and how far to go."""

    kubeconfig: Kubeconfig = None
    context: Context = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and change nothing.")] = False
    diff: Annotated[
        bool,
        typer.Option("--diff", help="Show the objects before the question; --dry-run always does.", rich_help_panel=CLUSTER),
    ] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the first change.")] = False
    timeout: Timeout = "15"

    def settings(self) -> ClusterSettings:
        """Return the settings of the cluster's part. Raises UsageError."""
        from importer.settings import ClusterSettings

        return ClusterSettings(self.kubeconfig, self.context, dry_run=self.dry_run, timeout_s=timeout_of(self.timeout))

    def asking(self, output: OutputOptions, tell: Callable[[str], None]) -> Asking:
        """Return the callbacks of an installation."""
        from importer.configure.running import Asking

        return Asking(tell, self._agree, display_of(output, tell))

    def _agree(self, would: Installed) -> bool:
        return agreed(_question(would, diff=self.diff), _where(would), yes=self.yes)


def install(
    packages: Packages, how: HowOptions, served: ServedOptions, cluster: TargetOptions, output: OutputOptions
) -> ExitCode:
    """Install operators from the imported catalogs: namespace, OperatorGroup, Subscription; wait until they run."""
    from common.cli import terminal
    from importer.configure.installing import install as installing
    from importer.install.wanted import parse_all

    output.begin()
    # Before the archive, which may take minutes to open: a wrong name is an error at once.
    wanted, chosen = parse_all(packages), how.how()
    inventory, near = served.inventory()
    done = installing(cluster.settings(), wanted, chosen, inventory, cluster.asking(output, terminal.tell))
    output.emit(_document(done, wanted) | near.document(), lambda: _table(done))
    return done.exit_code


def _document(done: Installed, wanted: tuple[Wanted, ...]) -> dict[str, Any]:
    """Return the JSON of `install`."""
    from importer.cli.cluster_tables import changes_document, cluster_document
    from importer.cli.finding_tables import finding_document

    # A dry run has no outcomes: `state` and `approve` are null, and never absent.
    states = {name: (state, command or None) for name, state, command in done.outcomes}
    return {
        "cluster": cluster_document(done.cluster),
        "done": done.done,
        "wanted": list(map(str, wanted)),
        "operators": [
            {**each, **dict(zip(("state", "approve"), states.get(each["package"], (None, None)), strict=True))}
            for each in _operators(done)
        ],
        "changes": changes_document(done.result),
        "findings": [finding_document(each) for each in done.findings],
    }


def _operators(done: Installed) -> list[dict[str, Any]]:
    placed = [
        {
            "package": one.chosen.package,
            "namespace": one.namespace,
            "olm": "v0",
            "channel": one.chosen.channel.name,
            "version": one.chosen.entry.name,
            "catalog": one.chosen.source[1],
            "installMode": one.mode,
            "operatorGroup": one.group.name,
            "approval": one.approval,
            "present": one.present,
        }
        for one in done.installation.placements
    ]
    extended = [
        {
            "package": each.chosen.package,
            "namespace": each.namespace,
            "olm": "v1",
            "channel": each.chosen.channel.name,
            "version": each.chosen.entry.name,
            "catalog": each.chosen.source[1],
            "watchNamespace": each.watch or None,
            "serviceAccount": each.account or None,
            "present": each.present,
        }
        for each in done.installation.extended
    ]
    return [*placed, *extended]


def _table(done: Installed) -> list[str]:
    """Return `install` for people."""
    from common.text import counted
    from importer.cli.cluster_tables import changes_table, installed_lines, unchanged
    from importer.cli.finding_tables import findings_lines

    if not done.done:
        # A dry run is asked for the objects: it shows them without --diff, and findings in full, since it ends with them.
        return [*findings_lines(done.findings), *_question(done, diff=True), _where(done), *unchanged()]
    changed = f"{counted(len(done.result.changed), 'object')} changed"
    return [*changes_table(done.result), f"{done.cluster}: {changed}.", *installed_lines(done.outcomes)]


def _question(would: Installed, *, diff: bool) -> list[str]:
    """Return what a person is asked to agree to: where each operator goes, and each object."""
    from common.table import columns
    from importer.cli.cluster_tables import changes_table, diff_table

    rows = [("OPERATOR", "VERSION", "CATALOG", "NAMESPACE", "WATCHES", "APPROVAL")]
    for each in _operators(would):
        # Empty for an OperatorGroup whose selector matches nothing so far.
        watches = each.get("installMode") or each.get("watchNamespace") or ("AllNamespaces" if each["olm"] == "v1" else "")
        approval = "there already" if each["present"] else each.get("approval") or "OLM v1"
        rows.append((each["package"], each["version"], each["catalog"], each["namespace"], str(watches), str(approval)))
    listed = columns(rows) if len(rows) > 1 else []
    # Long differences would hide what a person agrees to.
    differences = diff_table(would.result) if diff else []
    return [*differences, *listed, *(changes_table(would.result, done=False) if would.result.changes else [])]


def _where(would: Installed) -> str:
    """Return which cluster would be changed, and how much: one line."""
    from importer.cli.cluster_tables import changes_there

    return changes_there(would.cluster, len(would.result.changed))


def add_install(app: typer.Typer) -> None:
    """Add the command to the importer's."""
    command(app)(install)
