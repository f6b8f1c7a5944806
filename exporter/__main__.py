"""hub-export as a program, for the script that pip installs (through `hub_airgap`), and `python -m exporter`.

Signals are handled from the first line: loading the commands takes a second on a busy machine, and Ctrl-C works then too.
"""

from __future__ import annotations

import os
import sys

import hub_airgap


def main() -> None:
    """Run hub-export."""
    from common import interruption  # noqa: PLC0415 - after its place is known

    interruption.loading(quiet="_HUB_EXPORT_COMPLETE" in os.environ)  # a shell asks, and shows stderr
    interruption.listen()
    if sys.argv[1:] == ["--version"]:
        from common.cli.version import main as run  # noqa: PLC0415 - without typer
    else:
        from exporter.cli.app import main as run  # noqa: PLC0415 - after the signals

    run()


if __name__ == "__main__":
    hub_airgap.export_main()
