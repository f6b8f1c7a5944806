"""`--version` alone, without typer: scripts and installers ask it often, and it takes a third of the time."""

from __future__ import annotations

import sys

from common.distribution import VERSION


def main() -> None:
    """Print the version."""
    try:
        print(VERSION, flush=True)  # noqa: T201 - terminal.py loads what encodes results
    except OSError as error:
        from common.cli.options import output_failed

        sys.exit(output_failed(error))
