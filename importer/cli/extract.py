"""The command `extract`: the installer, or the client, out of a carried release."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from common.cli.options import OutputOptions, command
from common.errors import ExitCode, strictly
from importer.cli.options import ArchiveOptions, PayloadOptions

if TYPE_CHECKING:
    from importer.programs.extract import Extracted


@dataclass(frozen=True, slots=True)
class ProgramOptions:
    """Which program, of which release, for which machine."""

    directory: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the program and its checksum go.")]
    release: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="Instead of the newest of the archive; with its architecture: 4.18.3-x86_64, 4.18.3-multi."
        ),
    ] = None
    arch: Annotated[
        str | None,
        typer.Option(
            metavar="ARCH", help="Of the machine that it runs on: amd64, arm64, ppc64le, s390x. Default: the release's."
        ),
    ] = None
    os: Annotated[Literal["linux", "mac", "windows"], typer.Option(help="Of the machine that it runs on.")] = "linux"
    earlier: Annotated[
        list[str],
        typer.Option(
            "--earlier", metavar="ARCHIVE", help="An archive before this one, which has layers that it leaves out; repeatable."
        ),
    ] = field(default_factory=list)


def extract(
    program: Annotated[Literal["openshift-install", "oc"], typer.Argument(metavar="openshift-install|oc", help="The program.")],
    archive: ArchiveOptions,
    options: ProgramOptions,
    payload: PayloadOptions,
    output: OutputOptions,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when there is any problem.")] = False,
) -> ExitCode:
    """Take openshift-install or oc out of a carried release, as oc adm release extract does from a registry."""
    from importer.programs.extract import Wanted
    from importer.programs.extract import extract as extracting

    output.begin()
    wanted = Wanted(program, options.os, options.release, options.arch, payload.mirror())
    opened, near = archive.open_with_neighbours()
    earlier = [ArchiveOptions([each], archive.key).open_with_neighbours()[0] for each in options.earlier]
    done = extracting(opened, wanted, options.directory, earlier)
    output.emit(_document(done) | near.document(), lambda: _table(done))
    return strictly([done.exit_code], strict=strict)


def _document(done: Extracted) -> dict[str, Any]:
    """Return the JSON of `extract`."""
    return {
        "file": str(done.path),
        "program": done.program.command,
        "os": done.program.system,
        "arch": done.program.architecture,
        "bytes": done.size,
        "sha256": done.digest,
        "unchangedSha256": done.original,
        "release": {"version": done.release.version, "architecture": done.release.architecture},
        "installs": done.payload or None,
        "from": {"image": done.source, "layer": done.layer, "path": done.file},
        "problems": done.problems,
        "notes": done.notes,
    }


def _table(done: Extracted) -> list[str]:
    """Return `extract` for people."""
    from common.cli.results import problem_lines

    release, program = done.release, done.program
    machine = f"{program.system} on {program.architecture}"
    lines = [
        str(done.path),
        f"  {program.command} of OpenShift {release.version} ({release.architecture}), for {machine}",
        f"  from {done.source}, layer {done.layer}, {done.file}",
    ]
    if done.payload:
        lines.append(f"  installs {done.payload}")
    changed = "" if done.digest == done.original else f"; in the image {done.original}, before the release was written into it"
    lines.append(f"  {done.digest}{changed}")
    return [*problem_lines(done.problems), *(f"note: {each}" for each in done.notes), *lines]


def add_extract(app: typer.Typer) -> None:
    """Add the command to the importer's."""
    command(app)(extract)
