"""hub-export: flags → settings, error → exit code, result → stdout."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from common.cli import OutputOptions, RegistryOptions, ShardOptions, command, start, version_option
from common.errors import ExitCode, UsageError
from common.files import require_place, write_atomic
from common.login_command import add_login
from common.man_command import add_man
from common.serialization import pretty_json
from exporter.kit.options import KitOptions
from exporter.options import ArchiveOptions, BuildOptions, SelectionOptions
from exporter.settings import Making

app = typer.Typer(
    help="Carry OperatorHub catalogs and their images out of a connected network, in an archive for media.",
    no_args_is_help=True,
)
app.callback()(version_option)


_SAID = "Give it to hub-export plan. What the environment says (HUB_EXPORT_…) counts as given, too."
_PARTS = "hub-export plan --output FILE makes a plan; hub-export kit makes a kit for itself."


class Algorithm(StrEnum):
    """How keys sign; a copy of the words, for --help has no time for cryptography."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


@command(app, "list")
def list_(
    selection: SelectionOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    explain: Annotated[bool, typer.Option("--explain", help="Say for every bundle why it is kept or not.")] = False,
) -> ExitCode:
    """What a catalog offers, or what an image set keeps of it.

    With --package: the versions and update edges of these packages. Contacts nothing but the catalog.
    """
    from exporter import listing, workflow

    offered = selection.offered()
    settings, closed = offered.settings(registry), offered is selection  # what a catalog offers needs nothing more
    chosen = workflow.look(settings, output.begin(), dependencies=closed)
    target = settings.target if closed else None  # an offer is no selection, and leaves nobody behind
    document = listing.list_document(chosen, target, explain=explain)
    output.emit(document, lambda: listing.list_table(chosen, selection.package, target, explain=explain))
    return workflow.outcome(document["problems"], strict=selection.strict)


@command(app)
def plan(
    selection: SelectionOptions,
    archive: ArchiveOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    explain: Annotated[bool, typer.Option("--explain", help="Say for every bundle why it is kept or not.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write the plan into a file: for create --plan, and for diff."),
    ] = None,
) -> ExitCode:
    """What would be carried, why, and how large it is; fetches no layer."""
    from exporter import listing, workflow

    if file is not None:
        require_place(file)
    settings = archive.applied(selection.settings(registry))
    planned = workflow.plan(settings, output.begin(), whole=file is not None)
    document = listing.plan_document(planned, settings, explain=explain)
    if file is not None:
        write_atomic(file, pretty_json(document | listing.making_document(planned, settings)))
    output.emit(document, lambda: listing.plan_table(planned, settings, explain=explain))
    return workflow.outcome(planned.plan.problems, strict=settings.strict)


@command(app)
def create(
    selection: SelectionOptions,
    archive: ArchiveOptions,
    shard: ShardOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    directory: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the archive is made.")],
    only: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A re-request: make the small archive that heals the other side.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A mapping.txt: carry only the images that it lists.")
    ] = None,
    manifests_only: Annotated[
        bool, typer.Option("--manifests-only", help="Only write mapping.txt, to be edited and given to --images.")
    ] = False,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Private key (PEM) to sign the archive with; keygen makes one.")
    ] = None,
    with_kit: Annotated[
        bool, typer.Option("--with-kit", help="Put the importer itself beside the archive, in kit/, as kit makes it.")
    ] = False,
    planned: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Carry what this plan says (plan --output makes one)."),
    ] = None,
) -> ExitCode:
    """Make the archive: catalog, images, inventory and checksums, in volumes that fit on media.

    With --plan and --volumes or --shards: a part of it, for finish to join.
    """
    from common.archive.signature import Signer
    from exporter import listing, mapping_file, workflow

    signer = Signer.load(sign) if sign else None
    if planned is not None or shard.given:
        said = replace(selection, strict=False) != SelectionOptions() or archive != ArchiveOptions() or only or images
        path = _only_planned(planned, said=bool(said), beyond=manifests_only or with_kit)
        work = Making(directory, registry.jobs, signer)
        return _create_planned(path, work, shard, registry, output, strict=selection.strict)
    asked = selection.healing(registry, only) if only else selection.settings(registry)
    settings = replace(archive.applied(asked), output=directory, signer=signer)
    settings = replace(settings, images=mapping_file.read(images) if images else None)
    if with_kit:
        settings = replace(settings, kit=KitOptions().settings(directory / "kit", registry))
    if manifests_only:
        written, problems = workflow.write_mapping(settings, output.begin())
        output.emit({"mapping": str(written), "problems": problems}, lambda: str(written))
        return workflow.outcome(problems, strict=settings.strict)
    made = workflow.export(settings, output.begin())
    output.emit(listing.created_document(made, directory), lambda: listing.created_table(made, directory))
    return workflow.outcome_of(made, strict=settings.strict)


def _only_planned(path: Path | None, *, said: bool, beyond: bool) -> Path:
    """Return the plan. Raises UsageError without one, with what the plan says itself, and with what no plan is for."""
    if said:
        raise UsageError("--plan and something that a plan says itself", hint=_SAID)
    if path is None or beyond:
        raise UsageError("--volumes and --shards need --plan, and no --manifests-only or --with-kit", hint=_PARTS)
    return path


def _create_planned(
    path: Path, work: Making, shard: ShardOptions, registry: RegistryOptions, output: OutputOptions, *, strict: bool
) -> ExitCode:
    """Make the archive of a plan, or a part of it."""
    from exporter import listing, plan_file, workflow

    progress, found = output.begin(), plan_file.load(path)
    numbers = shard.of(len(found.drawn.layout.volumes))
    if numbers is None:
        made = workflow.export_planned(found, work, registry.settings(), progress, strict=strict)
        output.emit(listing.created_document(made, work.output), lambda: listing.created_table(made, work.output))
        return workflow.outcome_of(made, strict=strict)
    part = workflow.export_part(found, work, numbers, registry.settings(), progress, strict=strict) if numbers else None
    output.emit(listing.part_document(part), lambda: listing.part_table(part))
    return ExitCode.PROBLEMS if part is not None and part.record.lost else ExitCode.DONE


@command(app)
def finish(
    output: OutputOptions,
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR…", help="Where create --volumes wrote the parts, each or all of them.")
    ],
    directory: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the archive is made.")],
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="The private key (PEM) that the parts were signed with.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when there is any problem.")] = False,
) -> ExitCode:
    """Join the parts that several create --plan made, to the archive that one would have made.

    Parts on the same file system are moved, and used up; others are copied.
    """
    from common.archive.signature import Signer
    from exporter import listing, workflow

    work = Making(directory, signer=Signer.load(sign) if sign else None)
    made = workflow.finish(directories, work, output.begin())
    output.emit(listing.created_document(made, directory), lambda: listing.created_table(made, directory))
    return workflow.outcome_of(made, strict=strict)


@command(app, "build-catalog")
def build_catalog(
    build: BuildOptions,
    output: OutputOptions,
) -> ExitCode:
    """Make a catalog image of package manifests, as oc adm catalog build did, for OpenShift 4.3 to 4.5; and push it."""
    from exporter import listing, workflow

    built = workflow.build_catalog(build.settings(), output.begin())
    output.emit(listing.built_document(built), lambda: listing.built_table(built))
    return workflow.outcome(built.problems, strict=False)


@command(app)
def kit(
    options: KitOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    directory: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the kit is made.")],
) -> ExitCode:
    """Make the importer itself for the other side: wheels, install.sh, checksums; pip fetches them, as it is configured."""
    from exporter.kit import listing, making

    made = making.make(options.settings(directory, registry), output.begin())
    output.emit(listing.document(made), lambda: listing.table(made))
    return listing.outcome(made)


@command(app)
def diff(
    old: Annotated[Path, typer.Argument(metavar="A", help="An archive, an inventory.json, or a plan (plan --output).")],
    new: Annotated[Path, typer.Argument(metavar="B", help="What to compare it with.")],
    output: OutputOptions,
) -> ExitCode:
    """What changed between two archives or plans: packages, versions, images, bytes."""
    from exporter import differences

    output.begin()
    found = differences.between(differences.load(old), differences.load(new))
    output.emit(found, lambda: differences.table(found))
    return ExitCode.DONE


@command(app)
def keygen(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="NAME.key and NAME.pub are made.")],
    algorithm: Annotated[Algorithm, typer.Option(help="ecdsa-p256 for hosts in FIPS mode.")] = Algorithm.ED25519,
) -> ExitCode:
    """Make a key pair: the private key signs archives here, the public one goes to the other side by a way that is trusted."""
    from common.archive import signature

    private, public = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    made = signature.make_keys(private, public, signature.Algorithm(algorithm))
    print(f"{private}: keep it, and keep it secret\n{public}: {made.fingerprint}")
    return ExitCode.DONE


add_login(app)
add_man(app, "hub-export")


def main() -> None:
    """Run hub-export."""
    start(app, "hub-export")
