"""hub-import: flags → settings, error → exit code, result → stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli import terminal
from common.cli.login import add_login
from common.cli.options import OutputOptions, RegistryOptions, ShardOptions, application, command, read_text, start
from common.cli.sbom import add_sbom
from common.errors import ExitCode, UsageError, strictly
from common.text import counted
from importer.cli.agreement import author, begun
from importer.cli.extract import add_extract
from importer.cli.install import add_install
from importer.cli.options import (
    CLUSTER,
    ArchiveOptions,
    CatalogName,
    ChangePage,
    ClusterOptions,
    ComparedArchiveOptions,
    Heal,
    MirrorOptions,
    NoPullTest,
    PlaceOptions,
    PullTestWanted,
    RememberedArchiveOptions,
    ReplaceCredential,
    Repoint,
    ResourceFlags,
    require_no_cluster,
)
from importer.cli.prune import add_prune
from importer.cli.render import add_render
from importer.cli.serve import add_serve
from importer.cli.status import add_status

if TYPE_CHECKING:
    from collections.abc import Collection

    from common.archive.reader import ArchiveReader
    from common.oci.image import Digest
    from importer.configure.undo import UndoResult
    from importer.diagnose.state import Health


app = application(
    "Bring an archive of hub-export into a disconnected cluster: mirror registry, OperatorHub, and the wait for it."
)


@command(app)
def inspect(archive: ArchiveOptions, output: OutputOptions) -> ExitCode:
    """Show the content of an archive, and which of its volumes are here."""
    from importer.archive.checksum_files import neighbours
    from importer.cli import tables

    output.begin()
    opened = archive.open()
    near = neighbours(opened.found)
    output.emit(tables.inspect_document(opened, near), lambda: tables.inspect_table(opened, near))
    return ExitCode.ARCHIVE if near.unvouched else ExitCode.DONE


@command(app)
def verify(
    archive: ArchiveOptions,
    output: OutputOptions,
    quick: Annotated[bool, typer.Option("--quick", help="Completeness and structure only, not every byte.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Volumes checked at the same time.")] = 2,
    wanted: Annotated[
        Path | None,
        typer.Option(
            "--rerequest", metavar="FILE", help="Write a re-request for missing content, for hub-export create --only."
        ),
    ] = None,
) -> ExitCode:
    """Check that the archive is whole: completeness, checksums, every byte."""
    from importer import workflow
    from importer.cli import tables

    progress = output.begin()
    # verify reports a missing or wrong signature on its own, together with everything else that it finds.
    opened = archive.open_untrusted()
    result = workflow.check(opened, quick=quick, jobs=jobs, progress=progress)
    output.emit(result.document(), lambda: tables.verify_table(result, archive.words, progress, asked=wanted is not None))
    # A re-request decides what the other side sends: it is not made from an inventory that is not signed with the key.
    if result.is_trusted:
        _ask_again(opened, {bad.digest for bad in result.bad}, wanted)
    elif wanted is not None:
        terminal.tell(f"{wanted}: not written, because the signature is not valid")
    return ExitCode.DONE if result.ok else ExitCode.ARCHIVE


@command(app)
def repair(
    archive: Annotated[list[Path], typer.Argument(metavar="ARCHIVE…", help="Directories or volumes, with their parity files.")],
    output: OutputOptions,
    directory: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Repair copies in this directory; needed for read-only media."),
    ] = None,
) -> ExitCode:
    """Repair damaged volumes with their parity files (hub-export create --parity), in place or into a directory."""
    from importer.archive import repair as repairs
    from importer.cli import tables

    results = repairs.repair(archive, directory, output.begin())
    output.emit(tables.repair_document(results), lambda: tables.repair_table(results))
    return repairs.exit_code(results)


@command(app)
def probe(
    mirror: MirrorOptions,
    registry: RegistryOptions,
    cluster: PlaceOptions,
    output: OutputOptions,
    file: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where the profile goes, for hub-export create --target.")
    ] = None,
    no_cluster: Annotated[
        bool, typer.Option("--no-cluster", help="Ask no cluster: what the mirror takes alone.", rich_help_panel=CLUSTER)
    ] = False,
) -> ExitCode:
    """Write down what the other side has to know: release, platforms, installed operators, what the mirror takes."""
    from importer import workflow
    from importer.cli import tables
    from importer.cluster.api.client import NoClusterError, UnavailableError

    output.begin()
    if no_cluster:
        require_no_cluster(cluster.kubeconfig, cluster.context)
    # Nothing of the archive is needed: the profile travels to the connected side before the first export.
    try:
        found = workflow.probe(mirror.settings(registry), None if no_cluster else cluster.settings(), file)
    except (NoClusterError, UnavailableError) as error:
        error.hint = f"{error.advice} With --no-cluster it tries the mirror alone."
        raise
    output.emit(found, lambda: tables.target_table(found, file))
    return ExitCode.DONE


@command(app)
def push(
    archive: ArchiveOptions,
    mirror: MirrorOptions,
    registry: RegistryOptions,
    shard: ShardOptions,
    output: OutputOptions,
    wanted: Annotated[
        Path | None,
        typer.Option(
            "--rerequest", metavar="FILE", help="Write a re-request for missing content, for hub-export create --only."
        ),
    ] = None,
    heal: Heal = False,
) -> ExitCode:
    """Push the volumes that are here into the mirror: any volume alone, in any order.

    On a terminal it asks for the next medium as long as volumes are missing.
    """
    from importer import workflow
    from importer.cli import tables

    # Opened before any registry is contacted: a damaged archive must not start a push.
    progress, (opened, near) = output.begin(), archive.open_with_neighbours()
    settings = mirror.settings(registry, heal=heal, volumes=shard.of(len(opened.inventory.volumes)))
    result = workflow.push(opened, settings, progress, archive.following(alone=not shard.given))
    words = [*archive.words, *mirror.words(registry)]
    output.emit(tables.push_document(result) | near.document(), lambda: tables.push_table(result, words, progress))
    _ask_again(opened, result.missing, wanted)
    return strictly([result.exit_code], strict=settings.strict)


@command(app)
def receipt(
    archive: RememberedArchiveOptions,
    mirror: MirrorOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    file: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the receipt goes.")],
    sign: Annotated[Path | None, typer.Option(metavar="KEY", help="Private key (PEM) to sign it with, into FILE.sig.")] = None,
    redact: Annotated[bool, typer.Option("--redact", help="Without the name of the registry: it leaves this network.")] = False,
) -> ExitCode:
    """Write down what the mirror really has, so that hub-export create --receipt leaves it out.

    Without an archive it is made from the records that push stores in the mirror.
    """
    from common.archive.signature import Signer
    from importer import workflow
    from importer.cli import tables

    progress = output.begin()
    signer = Signer.load(sign) if sign else None
    (opened, near), settings = archive.open_with_neighbours(), mirror.settings(registry)
    key = archive.verifier()
    made = workflow.receipt(opened, settings, progress, file=file, signer=signer, redact=redact, key=key)
    output.emit(tables.receipt_document(made, file) | near.document(), lambda: tables.receipt_table(made, file))
    return ExitCode.DONE


# Here, in the order of the work, in which --help lists the commands.
add_render(app)


@command(app)
def apply(
    archive: ArchiveOptions,
    mirror: MirrorOptions,
    registry: RegistryOptions,
    resources: ResourceFlags,
    cluster: ClusterOptions,
    output: OutputOptions,
    pull_test: PullTestWanted = False,
) -> ExitCode:
    """Configure the cluster: trust, default sources off, mirror rules, catalog sources; wait until OLM lists the operators."""
    from importer import workflow
    from importer.cli import cluster_tables

    progress = output.begin()
    settings = mirror.settings(registry)
    told = cluster.settings(resources.options(registry), pull_test=pull_test)
    opened, near = archive.open_with_neighbours()
    applied = workflow.apply(opened, settings, told, progress, interaction=cluster.interaction(output, terminal.tell))
    output.emit(
        cluster_tables.apply_document(applied) | near.document(),
        lambda: cluster_tables.apply_table(applied, cluster.words, taken=progress),
    )
    return strictly([applied.exit_code], strict=settings.strict)


@command(app)
def deploy(
    archive: ArchiveOptions,
    mirror: MirrorOptions,
    registry: RegistryOptions,
    resources: ResourceFlags,
    cluster: ClusterOptions,
    output: OutputOptions,
    page: Annotated[
        str | None,
        typer.Option(
            "--report",
            metavar="FILE|DIR",
            help="The page about this deploy; in a directory it is named by time and archive. Never replaced.",
        ),
    ] = None,
    heal: Heal = False,
    no_pull_test: NoPullTest = False,
) -> ExitCode:
    """Verify, push, apply and wait: everything, in one command that can be run again."""
    from importer import workflow
    from importer.cli import cluster_tables
    from importer.report.page import DeployReport, place_of

    progress = output.begin()
    # The place of the page is settled first: it must exist even when the first step fails.
    wanted = place_of(page, terminal.tell)
    settings = mirror.settings(registry, heal=heal)
    told = cluster.settings(resources.options(registry), pull_test=not no_pull_test)
    (opened, near), interaction = archive.open_with_neighbours(), cluster.interaction(output, terminal.tell)
    # The page is written however the block ends, also by Ctrl-C: it is the record of the change.
    kept = None if told.dry_run else wanted
    with DeployReport(opened, settings, kept, terminal.tell, author=author(), place=told) as report:
        following = archive.following()
        pushed, applied = workflow.deploy(
            opened, settings, told, progress, report, interaction=interaction, following=following
        )
    document = cluster_tables.deploy_document(pushed, applied, report.cluster) | near.document()
    output.emit(document, lambda: cluster_tables.deploy_table(pushed, applied, cluster.words, taken=progress))
    return strictly([part.exit_code for part in (pushed, applied) if part is not None], strict=settings.strict)


@command(app)
def operators(
    archive: ComparedArchiveOptions,
    cluster: PlaceOptions,
    output: OutputOptions,
    catalog_name: CatalogName = [],  # noqa: B006 - typer copies it
    repoint: Repoint = False,
) -> ExitCode:
    """The operators of the cluster: versions, catalogs, and what an import of the archive does to each. Changes nothing."""
    from importer.cli import cluster_tables
    from importer.cluster.resources.build import ResourceOptions, catalog_names
    from importer.configure import operators as surveying

    output.begin()
    inventory, compared, near = archive.compared()
    told = cluster.settings(resources=ResourceOptions(catalog_names(catalog_name)), repoint=repoint)
    found = surveying.survey(told, inventory)
    output.emit(
        cluster_tables.operators_document(found) | near.document(), lambda: cluster_tables.operators_table(found, compared)
    )
    return found.exit_code


add_status(app)


@command(app)
def doctor(
    cluster: PlaceOptions,
    output: OutputOptions,
    fix: Annotated[bool, typer.Option("--fix", help="Apply the fixes that change nothing else.")] = False,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="For --fix: the CA (PEM) that signed the mirror.")] = None,
    cluster_authfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For --fix: read-only credential of the mirror, for the nodes.")
    ] = None,
    replace_credential: ReplaceCredential = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the first change.")] = False,
    page: ChangePage = None,
) -> ExitCode:
    """Find causes of failures in the state of the cluster, with evidence and a fix; an unknown cause is reported as unknown."""
    from importer.cli import cluster_tables
    from importer.configure.asking import NotAgreedError
    from importer.diagnose import health
    from importer.report.changes import FixRecord
    from importer.report.page import place_of

    output.begin()
    if page is not None and not fix:
        # Without this, a person would look for a page that nothing writes.
        raise UsageError("--report without --fix: the page is about changes", hint="Give --fix too, or --format json > FILE.")
    told = cluster.settings(cluster_authfile, replace_credential=replace_credential)
    wanted = place_of(page, terminal.tell) if page is not None else None
    # Read before the question, so that a wrong path is no surprise after the answer.
    pem = read_text(ca, "--ca") if ca else None

    def agree(health: Health) -> bool:
        shown, where = cluster_tables.fixes_table(health), cluster_tables.would_fix(health)
        return begun(record, shown, where, changes=len(health.fixable), drain=health.drain, yes=yes)

    with FixRecord(wanted, terminal.tell, author=author(), place=told) as record:
        found = health.fix(told, pem, record.tell, agree, record.meets) if fix else health.examine(told, pem)
        record.done(found)
    output.emit(cluster_tables.health_document(found), lambda: cluster_tables.doctor_table(found, cluster.words))
    # After the findings, which a person wants in any case.
    if fix and found.fixable and not record.is_agreed:
        raise NotAgreedError(more="; without --fix it only shows")
    return found.exit_code


@command(app)
def undo(
    cluster: PlaceOptions,
    output: OutputOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the first change.")] = False,
    page: ChangePage = None,
) -> ExitCode:
    """Bring the cluster back to how it was before the first apply; what others changed since stays as it is."""
    from importer import workflow
    from importer.cli import cluster_tables
    from importer.report.changes import UndoRecord
    from importer.report.page import place_of

    output.begin()
    told = cluster.settings(dry_run=dry_run)
    wanted = place_of(page, terminal.tell) if page is not None else None

    def agree(would: UndoResult) -> bool:
        shown, where = cluster_tables.undone_rows(would, dry_run=True), cluster_tables.would_undo(would)
        return begun(record, shown, where, changes=len(would.changed), drain=would.drain, yes=yes)

    with UndoRecord(wanted, terminal.tell, author=author(), place=told) as record:
        done = workflow.undo(told, record.tell, agree, record.meets)
        record.done(done)
    document = cluster_tables.undo_document(done, dry_run=dry_run)
    output.emit(document, lambda: cluster_tables.undo_table(done, cluster.words, dry_run=dry_run))
    return ExitCode.CLUSTER if any(one.fields for one in done.objects) else ExitCode.DONE


def _ask_again(archive: ArchiveReader, blobs: Collection[Digest], file: Path | None) -> None:
    """Write a re-request where one is wanted, and say what to do with it."""
    from importer import workflow

    if file is None:
        return
    count = workflow.rerequest(archive, blobs, file)
    asked = f"asks for {counted(count, 'blob')} of {archive.label}; on the other side: hub-export create --only {file.name}"
    terminal.tell(f"{file}: {asked}" if count else f"{file}: not written, nothing is wanted again")


add_install(app)
add_extract(app)
add_prune(app)
add_serve(app)
add_login(app)
add_sbom(app)


def main() -> None:
    """Run hub-import."""
    start(app, "hub-import")
