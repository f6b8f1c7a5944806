"""hub-import as a program: the script that pip installs, and `python -m importer`.

Signals are handled from the first line: loading the commands takes a second on a busy machine, and Ctrl-C is heard then too.
"""

from __future__ import annotations

import os

from common import interruption


def main() -> None:
    """Run hub-import."""
    interruption.loading(quiet="_HUB_IMPORT_COMPLETE" in os.environ)  # a shell asks, and shows what is on stderr
    interruption.listen()
    from importer.cli import app  # noqa: PLC0415 - after the signals

    app.main()


if __name__ == "__main__":
    main()
