"""hub-export: flags → settings, error → exit code, result → stdout."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli import terminal
from common.cli.login import add_login
from common.cli.options import SHARING, OutputOptions, RegistryOptions, ShardOptions, application, command, start
from common.cli.sbom import add_sbom
from common.errors import ExitCode, UsageError
from common.files import writing
from exporter.cli.build import add_build
from exporter.cli.kit import KitOptions, add_kit
from exporter.cli.options import ARCHIVE, INCREMENTS, ArchiveOptions, SelectionOptions
from exporter.cli.planned import PlaceOptions, add_finish, create_planned, only_planned, show_archive
from exporter.cli.release_options import ReleaseListOptions, ReleaseOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.archive.location import Place
    from exporter.settings import ExportSettings


# A sentence for people who do not know the program yet: `hub-export --help` begins with it.
app = application("Carry OperatorHub catalogs and their images out of a connected network, in an archive for media.")


# Repeated here, because `--help` must not import cryptography: it takes 0.1 s and is not needed for help.
class Algorithm(StrEnum):
    """Signature algorithms of `keygen`; equal to those of `common.archive.signature`."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


@command(app, "list")
def list_(
    selection: SelectionOptions,
    releases: ReleaseListOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    explain: Annotated[bool, typer.Option("--explain", help="Say for every bundle why it is kept or not.")] = False,
) -> ExitCode:
    """What a catalog offers, or what an image set keeps of it; with --release, what a channel of OpenShift has.

    With --package: the versions and update edges of these packages. Contacts nothing but the catalog, or the update service.
    """
    from common.text import paragraphs
    from exporter import workflow
    from exporter.catalog import steps
    from exporter.cli import listing
    from exporter.cli import releases as tables
    from exporter.context import opened
    from exporter.releases import carrying

    if releases.release or (releases.given and selection.imageset is None):
        if explain or selection != SelectionOptions():
            raise UsageError("--release and a catalog at once", hint="List one after the other.")
        return _list_releases(releases, registry, output)
    # Without an image set, `list` shows all versions: a person who looks for a version must not see heads only.
    offered = selection.offered()
    settings = offered.settings(registry, releases.described())
    closed = offered is selection  # what a catalog offers needs nothing more
    # No further step: only catalog images and update graphs are fetched.
    with opened(settings.registry, output.begin()) as context:
        selected = carrying.selected(settings, context)
        chosen = steps.choose(settings, context, dependencies=closed)
    target = settings.target if closed else None  # operators are compared with a selection, not with all that a catalog offers
    asked = [*settings.image_set.problems, *selected.problems, *listing.release_problems(chosen, settings.release)]
    # The document is built in both formats: the exit status depends on its problems.
    document = listing.list_document(chosen, target, explain=explain, asked=asked) | tables.selected_document(selected)
    shown, packages = tables.selected_table(selected), [*selection.package, *selection.optional, *selection.install]
    output.emit(
        document,
        lambda: paragraphs(shown, listing.list_table(chosen, packages, target, explain=explain, asked=asked)),
    )
    return workflow.outcome(document["problems"], strict=selection.strict)


def _list_releases(releases: ReleaseListOptions, registry: RegistryOptions, output: OutputOptions) -> ExitCode:
    from exporter.cli import releases as tables
    from exporter.context import opened
    from exporter.releases.updates.update_service import graph_source

    request, settings = releases.request()
    with opened(registry.settings(), output.begin()) as context:
        document = tables.channels_document(request, graph_source(context.client, settings))
    output.emit(document, lambda: tables.channels_table(document))
    return ExitCode.DONE


@command(app)
def plan(
    selection: SelectionOptions,
    releases: ReleaseOptions,
    archive: ArchiveOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    explain: Annotated[bool, typer.Option("--explain", help="Say for every bundle why it is kept or not.")] = False,
    file: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="FILE", help="Write the plan into a file, or s3://…: for create --plan, and for diff."
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            "--report", metavar="FILE", help="Write the report page, for approval before anything is fetched; also s3://…."
        ),
    ] = None,
) -> ExitCode:
    """What would be carried, why, and how large it is; fetches no layer."""
    from common.archive import location
    from exporter import workflow
    from exporter.cli import listing
    from exporter.distributed import plan_file
    from exporter.report.preview import Preview

    place, page = _places(file, report, [*selection.inputs, *releases.inputs])
    settings = archive.applied(selection.settings(registry, releases))
    planned = workflow.plan(settings, output.begin(), whole=place is not None)
    preview = Preview(planned, settings)
    document = listing.plan_document(preview, explain=explain)
    if place is not None:
        # Indented JSON: people compare plans with diff(1) and review them before a transfer.
        with writing(file, "Choose another --output."):
            location.write_parts(place, plan_file.encode(document | listing.making_document(preview)))
    if page is not None:
        with writing(report, "Choose another --report."):
            location.write(page, preview.page())
    output.emit(document, lambda: listing.plan_table(preview, document, explain=explain))
    return workflow.outcome(planned.plan.problems, strict=settings.strict)


def _places(file: str | None, report: str | None, inputs: Sequence[Path]) -> list[Place | None]:
    """Return where plan and report are written. Raises UsageError for one place of both, and for a file that is read."""
    from common.archive import location

    # Checked before the lookups, which take minutes: a wrong --output must not lose their result.
    places = [location.require_place(name) if name else None for name in (file, report)]
    if places[0] is not None and places[0] == places[1]:
        raise UsageError(f"--output and --report name the same file, {file}", hint="Give each a file of its own.")
    for option, written in zip(("--output", "--report"), places, strict=True):
        for read in inputs:
            if isinstance(written, Path) and written.exists() and read.exists() and written.samefile(read):
                raise UsageError(f"{option} would replace {read}, which this command reads", hint="Name another file.")
    return places


# Options of `create` alone; those of several commands are groups in options.py.
ReRequestFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A re-request: make the small archive that heals the other side.", rich_help_panel=INCREMENTS
    ),
]
MappingFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A mapping.txt: carry only the images that it lists.",
        rich_help_panel=INCREMENTS,
    ),
]
ManifestsOnly = Annotated[
    bool,
    typer.Option(
        "--manifests-only", help="Only write mapping.txt, to be edited and given to --images.", rich_help_panel=INCREMENTS
    ),
]
SigningKey = Annotated[
    Path | None,
    typer.Option(metavar="KEY", help="Private key (PEM) to sign the archive with; keygen makes one.", rich_help_panel=ARCHIVE),
]
WithKit = Annotated[
    bool,
    typer.Option(
        "--with-kit",
        help="Put the importer next to the archive, in kit/, as the command kit does.",
        rich_help_panel=ARCHIVE,
    ),
]
Planned = Annotated[
    str | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        help="Carry what this plan says (plan --output makes one); also s3://…, and - for standard input.",
        rich_help_panel=SHARING,
    ),
]


@command(app)
def create(
    selection: SelectionOptions,
    releases: ReleaseOptions,
    archive: ArchiveOptions,
    shard: ShardOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    place: PlaceOptions,
    only: ReRequestFile = None,
    images: MappingFile = None,
    manifests_only: ManifestsOnly = False,
    sign: SigningKey = None,
    with_kit: WithKit = False,
    planned: Planned = None,
) -> ExitCode:
    """Make the archive: catalog, images, inventory and checksums, in volumes that fit on media.

    With --plan and --volumes or --shards: a part of it, for finish to join. With --plan also into object storage.
    """
    from common.archive.signature import Signer
    from exporter import workflow
    from exporter.plan import mapping

    # The key is read first, because a wrong path must not end a run after hours of transfer.
    signer = Signer.load(sign) if sign else None
    # A plan fixes the selection; options that would change it are refused, not ignored.
    if planned is not None or shard.given:
        said = selection.given or releases.given or archive != ArchiveOptions() or only or images
        path = only_planned(planned, said=bool(said), beyond=manifests_only or with_kit)
        return create_planned(path, place, signer, shard, registry, output, strict=selection.strict)
    directory = place.directory()
    asked = selection.healing(registry, only, releases) if only else selection.settings(registry, releases)
    settings = replace(archive.applied(asked), output=directory, signer=signer)
    if images:
        settings = replace(settings, images=mapping.read(images, may_be_empty=asked.image_set.platform.asks))
    # The kit next to an archive is for every platform and Python that is supported: who imports it is not known here.
    kit = replace(KitOptions().settings(directory / "kit", registry), signer=signer) if with_kit else None
    if manifests_only:
        return _write_mapping(settings, output)
    progress = output.begin()
    made = workflow.export(settings, progress, kit)
    return show_archive(made, directory, output, progress, strict=settings.strict)


def _write_mapping(settings: ExportSettings, output: OutputOptions) -> ExitCode:
    from exporter import workflow
    from exporter.cli import listing

    # `oc adm catalog mirror --manifests-only` users edit mapping.txt and give it back.
    written, problems = workflow.write_mapping(settings, output.begin())
    output.emit({"mapping": str(written), "problems": problems}, lambda: listing.mapping_table(written, problems))
    return workflow.outcome(problems, strict=settings.strict)


@command(app)
def diff(
    old: Annotated[str, typer.Argument(metavar="A", help="An archive, an inventory.json, or a plan (plan --output).")],
    new: Annotated[str, typer.Argument(metavar="B", help="What to compare it with.")],
    output: OutputOptions,
) -> ExitCode:
    """What changed between two archives or plans: packages, versions, images, bytes."""
    from common.archive.location import parse
    from exporter.plan import diff as differences

    output.begin()
    # Neither side is verified here: diff is a report, and an inventory alone is enough for it.
    one, other = (differences.load(parse(each)) for each in (old, new))
    found = differences.between(one, other)
    output.emit(found, lambda: differences.table(found, differences.lacking(one), differences.lacking(other)))
    return ExitCode.DONE


@command(app)
def keygen(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="NAME.key and NAME.pub are made.")],
    algorithm: Annotated[Algorithm, typer.Option(help="ecdsa-p256 for hosts in FIPS mode.")] = Algorithm.ED25519,
) -> ExitCode:
    """Make a key pair: the private key signs archives here, the public one goes to the other side over a trusted channel."""
    from common.archive import signature

    # `with_suffix` would replace a part of a name such as `hub-2026.1`.
    private, public = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    made = signature.make_keys(private, public, signature.Algorithm(algorithm))
    terminal.show([f"{private}: keep it, and keep it secret", f"{public}: {made.fingerprint}"])
    return ExitCode.DONE


add_finish(app)
add_build(app)
add_kit(app)
add_login(app)
add_sbom(app)


def main() -> None:
    """Run hub-export."""
    start(app, "hub-export")
