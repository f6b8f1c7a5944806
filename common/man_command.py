"""The command `man`, the same in both programs: manual pages for those who installed with pip, or from the kit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.cli import command
from common.errors import ExitCode, UsageError


def add_man(app: typer.Typer, program: str) -> None:
    """Register the command with a program."""

    def manual(
        directory: Annotated[
            Path | None,
            typer.Option("--output", metavar="DIR", help="Write all pages there: ~/.local/share/man/man1."),
        ] = None,
    ) -> ExitCode:
        """The manual: one page for the program, or with --output each page as a file."""
        from common.cli import created_now, named
        from common.files import write_atomic
        from common.manual import pages

        made = pages(named(app, program), program, created_now().partition("T")[0])
        if directory is None:
            print(made[f"{program}.1"], end="")
            return ExitCode.DONE
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for name, text in made.items():
                write_atomic(directory / name, text.encode())
        except OSError as error:
            raise UsageError(f"{directory}: cannot be written: {error.strerror}", hint="Choose another --output.") from error
        print(f"{len(made)} pages in {directory}")
        return ExitCode.DONE

    command(app, "man")(manual)
