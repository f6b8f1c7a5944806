"""Commands that work from a plan: the archive or a part of it, in a directory or in object storage; and `finish`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli.options import SHARING, OutputOptions, RegistryOptions, ShardOptions, command
from common.errors import ExitCode, UsageError
from exporter.settings import Making

if TYPE_CHECKING:
    from common.archive.location import Place
    from common.archive.signature import Signer
    from common.cli.summary import Measured
    from common.storage.location import S3Location
    from exporter.distributed.part_directory import MadePart
    from exporter.distributed.plan_file import PlanFile
    from exporter.workflow import Exported


_SAID = "Give it to hub-export plan. What the environment says (HUB_EXPORT_…) counts as given, too."
_BEYOND = "A mapping.txt is made before there is a plan; hub-export kit makes a kit for itself."
_THERE = "Volumes in object storage stay where they are: finish s3://BUCKET/PREFIX --output s3://BUCKET/PREFIX, the same twice."


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """Where an archive is made."""

    where: Annotated[
        str, typer.Option("--output", metavar="DIR", help="Where the archive is made; of a plan also s3://BUCKET/PREFIX.")
    ]
    scratch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With s3://: where each volume is made before it is uploaded; room for one.",
            rich_help_panel=SHARING,
        ),
    ] = None

    def stored(self) -> S3Location | None:
        """Return the place in object storage; None for a directory. Raises UsageError."""
        from common.archive.location import parse
        from common.storage.location import S3Location

        # The scheme decides; a directory named `s3:` cannot be meant.
        place = parse(self.where)
        return place if isinstance(place, S3Location) else None

    def directory(self) -> Path:
        """Return the directory. Raises UsageError for object storage, and for options that only that has."""
        from common.archive.location import parse

        place = parse(self.where)
        if not isinstance(place, Path):
            raise UsageError(
                f"{self.where}: an archive in object storage is made of a plan",
                hint="hub-export plan … --output FILE, then create --plan FILE --output s3://… --scratch DIR.",
            )
        # An option without an effect is an error, see receipt_key.
        if self.scratch is not None:
            raise UsageError("--scratch and a directory", hint="Only s3://… needs a scratch disk.")
        return place


def only_planned(path: str | None, *, said: bool, beyond: bool) -> Place:
    """Return the plan. Raises UsageError without one, with what the plan says itself, and with what no plan is for."""
    from common.archive.location import parse

    if said:
        raise UsageError("--plan and something that a plan says itself", hint=_SAID)
    if path is None:
        raise UsageError("--volumes and --shards need --plan", hint="hub-export plan --output FILE makes a plan.")
    if beyond:
        raise UsageError("--plan and --manifests-only, or --with-kit", hint=_BEYOND)
    return parse(path)


def create_planned(
    path: Place,
    place: PlaceOptions,
    signer: Signer | None,
    shard: ShardOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    *,
    strict: bool,
) -> ExitCode:
    """Make the archive of a plan, or a part of it."""
    from exporter import planned_workflow, workflow
    from exporter.distributed import plan_file
    from exporter.distributed.s3_volumes import S3Settings

    progress, found = output.begin(), plan_file.load(path)
    numbers = shard.of(len(found.spec.layout.volumes))
    if numbers is not None and not numbers:
        return _show_part(None, found, output, strict=strict)
    stored, settings = place.stored(), registry.settings()
    made: MadePart | Exported
    if stored is not None:
        work = S3Settings(stored, place.scratch, registry.jobs, signer)
        made = planned_workflow.export_to_s3(found, work, numbers, settings, progress, strict=strict)
    else:
        making = Making(place.directory(), registry.jobs, signer)
        if numbers is not None:
            made = planned_workflow.export_part(found, making, numbers, settings, progress, strict=strict)
        else:
            made = planned_workflow.export_planned(found, making, settings, progress, strict=strict)
    if isinstance(made, workflow.Exported):
        return show_archive(made, place.where, output, progress, strict=strict)
    return _show_part(made, found, output, strict=strict, whole=numbers is None)


def show_archive(made: Exported, where: Path | str, output: OutputOptions, taken: Measured, *, strict: bool) -> ExitCode:
    """Show an archive."""
    from exporter import workflow
    from exporter.cli import listing

    listing.tell_finished(made, where)
    output.emit(listing.created_document(made, where), lambda: listing.created_table(made, where, taken))
    return workflow.outcome_of(made, strict=strict)


def _show_part(made: MadePart | None, plan: PlanFile, output: OutputOptions, *, strict: bool, whole: bool = False) -> ExitCode:
    """Show a part, which may have no volumes, or the parts of the `whole` before `finish`."""
    from exporter import planned_workflow
    from exporter.cli import listing

    output.emit(listing.part_document(made), lambda: listing.part_table(made, plan.spec.terms))
    return planned_workflow.outcome_of_part(made, plan.spec, strict=strict, whole=whole) if made is not None else ExitCode.DONE


def add_finish(app: typer.Typer) -> None:
    """Register the command with a program."""
    command(app, "finish")(_finish)


def _finish(
    output: OutputOptions,
    directories: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR…", help="Where create --volumes wrote the parts, each or all of them; s3://… as in --output."
        ),
    ],
    place: PlaceOptions,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="The private key (PEM) that the parts were signed with.")
    ] = None,
    accept_missing: Annotated[
        bool,
        typer.Option(
            "--accept-missing",
            help="Make the archive without the blobs that unfinished parts could not get; the volumes are written once more.",
        ),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when there is any problem.")] = False,
) -> ExitCode:
    """Join the parts that several create --plan made, into the archive that one would have made.

    Parts on the same file system are moved, and used up; others are copied; in object storage they stay where they are.
    An unfinished part, which lacks a blob, is named and refused: run its create again, or give --accept-missing.
    """
    from common.archive.location import parse
    from common.archive.signature import Signer
    from common.storage.location import S3Location
    from exporter import planned_workflow
    from exporter.distributed.s3_volumes import S3Settings

    signer, progress = Signer.load(sign) if sign else None, output.begin()
    stored, parts = place.stored(), [parse(each) for each in directories]
    if stored is not None and parts == [stored]:
        work = S3Settings(stored, place.scratch, signer=signer)
        made = planned_workflow.finish_s3(work, progress, accept_missing=accept_missing)
        return show_archive(made, place.where, output, progress, strict=strict)
    # Parts and archive are either all in one bucket or all on disk: a join never downloads terabytes unasked.
    local = [part for part in parts if not isinstance(part, S3Location)]
    if stored is not None or len(local) != len(parts):
        raise UsageError("parts in object storage, and an archive elsewhere", hint=_THERE)
    made = planned_workflow.finish(local, Making(place.directory(), signer=signer), progress, accept_missing=accept_missing)
    return show_archive(made, place.where, output, progress, strict=strict)
