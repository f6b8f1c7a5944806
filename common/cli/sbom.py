"""The command `sbom`, the same in both programs: who approves an archive may sit on either side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from common.cli.options import Archives, Key, OutputOptions, command
from common.errors import ExitCode, UsageError, of_problems
from common.table import columns
from common.text import counted, enumeration, indented, paragraphs, shortened

if TYPE_CHECKING:
    from common.archive.reader import Archive
    from common.sbom.software import ImageSoftware, Software

_OPERATORS = 3  # that a licence names
_WITHOUT = 20  # images without an SBOM that are listed


def add_sbom(app: typer.Typer) -> None:
    """Register the command with a program."""
    command(app, "sbom")(_sbom)


def _sbom(
    archive: Archives,
    output: OutputOptions,
    key: Key = None,
    operator: Annotated[
        list[str] | None,
        typer.Option("--operator", metavar="PACKAGE", help="Only images that this operator needs; repeatable."),
    ] = None,
    package: Annotated[
        str, typer.Option("--package", metavar="TEXT", help="Only packages with this in their name or package URL.")
    ] = "",
    licence: Annotated[
        str,
        typer.Option("--licence", "--license", metavar="ID", help="Only packages with this licence, such as MIT or 'GPL-*'."),
    ] = "",
) -> ExitCode:
    """The packages and licences in the images of an archive, by the SBOMs that it carries. Nothing in them is verified."""
    from common.archive.location import parse
    from common.archive.reader import Archive
    from common.archive.signature import Verifier
    from common.sbom.software import Selection, document_of, software

    progress = output.begin()
    opened = Archive.open(list(map(parse, archive)), Verifier.load(key) if key else None)
    operators = tuple(dict.fromkeys(operator or ()))
    _require_known(opened, operators)
    found = software(opened, Selection(operators, package, licence), progress)
    output.emit(document_of(found, opened), lambda: _table(found, opened))
    return of_problems(found.problems)


def _require_known(archive: Archive, operators: tuple[str, ...]) -> None:
    """Raise UsageError for an operator that the archive does not have."""
    # An empty result would read as "no such software in it".
    from common.archive.inventory import packages_of

    known = packages_of(name for image in archive.inventory.images for name in image.needed_by)
    if unknown := sorted(set(operators) - known):
        raise UsageError(
            f"--operator {unknown[0]}: no image of the archive is needed by it",
            hint=f"It has {enumeration(sorted(known), 8) or 'no operators'}.",
        )


def _table(found: Software, archive: Archive) -> list[str]:
    # The summary is last: thousands of packages scroll all lines above them away.
    from common.archive.naming import heading_of
    from common.cli.results import problem_lines

    summary = [heading_of(archive.inventory, archive.digest), _summary(found)]
    return paragraphs(_packages(found), _licences(found), _without(found), problem_lines(found.problems), summary)


def _packages(found: Software) -> list[str]:
    # One image and a count: a package of the base layer is in every image of an archive. The JSON has all of them.
    rows = [("PACKAGE", "VERSION", "TYPE", "LICENCE", "IMAGES")]
    for package, numbers in found.ordered():
        images = enumeration(list(dict.fromkeys(_short(found.images[number]) for number in numbers)), 1)
        rows.append((package.name, package.version, package.kind, package.licence, images))
    return columns(rows) if len(rows) > 1 else []


def _licences(found: Software) -> list[str]:
    rows = [("LICENCE", "PACKAGES", "IMAGES", "OPERATORS")]
    rows += [
        (one.licence, str(one.packages), str(one.images), enumeration(one.operators, _OPERATORS)) for one in found.licences()
    ]
    return columns(rows) if len(rows) > 1 else []


def _without(found: Software) -> list[str]:
    from common.archive.naming import short

    names = [f"{_short(image)} {short(image.digest)}" for image in found.images if image.state == "none"]
    return ["images without an SBOM:", *indented(shortened(names, _WITHOUT))] if names else []


def _summary(found: Software) -> str:
    """Return one line: how much is known, and that it was not verified."""
    images, read = len(found.images), found.count("read")
    packages = counted(len(found.packages), "package")
    return f"{read} of {counted(images, 'image')} with an SBOM that was read: {packages}. As stated there; not verified."


def _short(image: ImageSoftware) -> str:
    """Return the name of an image without registry and digest."""
    return image.records[0].source.partition("@")[0].rpartition("/")[2]
