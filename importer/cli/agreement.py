"""The question before a change of the cluster or the mirror, and who answers it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import typer

from common.cli import terminal
from common.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from importer.report.changes import AgreedRecord
    from importer.report.record import Author

# Names of accounts come from sudo's environment, which the caller sets: bounded before they reach the page.
_LONGEST = 64  # characters of an account's name


def author() -> Author:
    """Return who runs this, where: the account, with sudo also the one before it, and the host."""
    import pwd
    import socket

    from importer.report.record import Author

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    # OpenShift runs containers with a random UID, which /etc/passwd does not name.
    except KeyError:
        user = f"uid {os.getuid()}"
    # The page is a change record: it names the person behind root.
    former = os.environ.get("SUDO_USER", "")
    return Author(f"{user} (sudo by {former[:_LONGEST]})" if former and former != user else user, socket.gethostname())


def agreed(shown: list[str], where: str, *, yes: bool) -> bool:
    """Show what would be changed, in the last line on which cluster, and ask, unless the answer was given as `yes`.

    Raises UsageError where standard input is no terminal.
    """
    refusal = UsageError(
        f"the cluster was not changed: confirmation needs a terminal. {where}",
        hint="Pass --yes to agree without a question; --dry-run only shows the changes.",
    )
    return confirmed((*shown, where), "Change the cluster?", refusal, yes=yes)


def confirmed(shown: Iterable[str], question: str, refusal: UsageError, *, yes: bool) -> bool:
    """Show what would be done, and ask, unless the answer was given as `yes`.

    Raises `refusal` where standard input is no terminal.
    """
    for line in shown:
        terminal.tell(line)
    # --yes prints the same lines: the log of a pipeline is then a record of what was agreed to.
    if yes:
        return True
    # Without a terminal nothing is changed: silence is not consent.
    if not sys.stdin.isatty():
        raise refusal
    return typer.confirm(question, err=True)


def begun(record: AgreedRecord, shown: list[str], where: str, *, changes: int, drain: str, yes: bool) -> bool:
    """Ask as `agreed` does; record that the changes begin, how many there are, and what they do to nodes."""
    agreed_to = agreed(shown, where, yes=yes)
    if agreed_to:
        record.agreed(changes, drain)
    return agreed_to
