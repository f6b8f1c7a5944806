"""hub-import: flags → settings, error → exit code, result → stdout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli import OutputOptions, RegistryOptions, command, start, version_option
from common.errors import ExitCode

if TYPE_CHECKING:
    from common.archive.reader import Archive
    from importer.settings import ImportSettings

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

    def open(self) -> Archive:
        """Open it."""
        from common.archive.reader import Archive

        return Archive.open(self.archive)


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
    result = workflow.check(archive.open(), quick=quick, jobs=jobs, progress=progress)
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
    return workflow.strictly(result.exit_code, settings)


def main() -> None:
    """Run hub-import."""
    start(app, "hub-import")
