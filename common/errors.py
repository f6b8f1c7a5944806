"""The error tree. Every error that a person may meet is one of these, and each knows its exit code.

    HubError                      1   failed
    ├── UsageError                2   flags, configuration files, image sets: the caller can mend it
    │   └── NotACatalogError      2   what was named is an image or a folder, but no catalog
    ├── CatalogError              1   a catalog that cannot be read or would not be served
    ├── ContentError              1   bytes that are not what their digest, size or format promised
    ├── ProblemsError             1   --strict, and there were problems
    ├── ArchiveError              4   archive damaged, incomplete or not trusted
    │   ├── ArchiveDamagedError   4
    │   ├── ArchiveIncompleteError 4
    │   └── ArchiveUntrustedError 4
    ├── RegistryError             5   registry refused or unreachable
    │   ├── RegistryUnreachableError 5
    │   ├── AuthenticationError   5
    │   ├── NotFoundError         5   the registry answered: there is no such thing
    │   └── RegistryRefusedError  5
    ├── ClusterError              6   cluster refused, unreachable or unhealthy
    ├── SpaceError                7   not enough room on a file system
    └── InterruptedByUserError  130   state is kept; the message says how to go on

A message says what failed, on which object, got and wanted; `hint` says what to do next. Secrets never appear in either.
Exit codes: the table in `docs/cli.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a command's exit status means."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PROBLEMS = 3
    ARCHIVE = 4
    REGISTRY = 5
    CLUSTER = 6
    SPACE = 7
    INTERRUPTED = 130


class HubError(Exception):
    """Something that a person has to know. `str()` gives the message, and the hint in a second sentence."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def about(self, subject: str, note: str = "") -> str:
        """Return message, note and hint on one line, for a list whose lines begin with `subject`."""
        message = f"{self.message.removeprefix(f'{subject}: ')}{note}"
        return f"{message.rstrip('.')}. {self.hint}" if self.hint else message


class UsageError(HubError):
    """Flags, configuration or an image set that cannot mean anything, or not what was meant."""

    exit_code = ExitCode.USAGE


class NotACatalogError(UsageError):
    """The named image or path exists, but holds no catalog."""


class CatalogError(HubError):
    """A catalog that cannot be read, or that OLM would refuse to serve."""


class ContentError(HubError):
    """Bytes that are not what their digest, size or format promised."""


class ProblemsError(HubError):
    """Problems were found and the caller asked for none (`--strict`)."""


class ArchiveError(HubError):
    """The archive is damaged, incomplete or not trusted."""

    exit_code = ExitCode.ARCHIVE


class ArchiveDamagedError(ArchiveError):
    """Bytes of the archive are not the ones that were written."""


class ArchiveIncompleteError(ArchiveError):
    """A part of the archive is not here."""


class ArchiveUntrustedError(ArchiveError):
    """The signature is missing or wrong."""


class RegistryError(HubError):
    """A registry refused or was not reached. Without an answer `status` (HTTP) is 0 and `code`, the registry's own, empty."""

    exit_code = ExitCode.REGISTRY

    def __init__(self, message: str, *, hint: str = "", status: int = 0, code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class RegistryUnreachableError(RegistryError):
    """No answer: name, route, TLS or time."""


class AuthenticationError(RegistryError):
    """The registry wants credentials, or others than it got."""


class NotFoundError(RegistryError):
    """The registry answered that there is no such repository, manifest or blob."""


class RegistryRefusedError(RegistryError):
    """The registry answered with an error of its own."""


class ClusterError(HubError):
    """The cluster refused, could not be reached, or did not become healthy."""

    exit_code = ExitCode.CLUSTER


class SpaceError(HubError):
    """A file system has too little room. Found before anything is written."""

    exit_code = ExitCode.SPACE


class InterruptedByUserError(HubError):
    """Stopped by the user. What was done so far is kept."""

    exit_code = ExitCode.INTERRUPTED


# When several apply, the first in this order is the exit status (docs/cli.md).
PRECEDENCE = (
    ExitCode.INTERRUPTED,
    ExitCode.ARCHIVE,
    ExitCode.SPACE,
    ExitCode.REGISTRY,
    ExitCode.CLUSTER,
    ExitCode.PROBLEMS,
)


def first_of(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit code that counts when several apply; DONE when none does."""
    given = set(codes)
    return next((code for code in (*PRECEDENCE, ExitCode.USAGE, ExitCode.FAILED) if code in given), ExitCode.DONE)
