"""The error tree. Every error that a person may meet is one of these, and each knows its exit code.

    HubError                      1   failed
    ├── UsageError                2   flags, configuration files, image sets: the caller can correct it
    │   ├── FaultsError           2   several of these in one input, all named at once
    │   └── NotACatalogError      2   the named image or folder has no catalog
    ├── CatalogError              1   a catalog that cannot be read or would not be served
    ├── ContentError              1   bytes that are not what their digest, size or format promised
    │   ├── DamagedError          1   they arrived so from a registry, which may send them again
    │   ├── PayloadError          1   the payload of a release, which cannot be read or contradicts itself
    │   ├── ImageFileError        1   a file of an image that is not there, or cannot be used
    │   └── SignatureError        1   an OpenPGP signature that is malformed, or of no trusted key
    ├── ReleaseUnverifiedError    1   an OpenShift release without a signature that is accepted
    ├── ProblemsError             1   --strict, and there were problems
    ├── InUseError                1   another process holds what this one needs: later it may be free
    ├── ArchiveError              4   archive damaged, incomplete or not trusted
    │   ├── ArchiveDamagedError   4
    │   ├── ArchiveIncompleteError 4
    │   │   └── MediumGoneError   4   the medium was removed while it was read
    │   └── ArchiveUntrustedError 4
    ├── RegistryError             5   registry refused or unreachable
    │   ├── RegistryUnreachableError 5
    │   │   └── ShortAnswerError  5   it sends, or has, only a part of a blob or manifest
    │   ├── AuthenticationError   5
    │   │   ├── CredentialsRefusedError 5 a token server does not know them
    │   │   ├── CredentialsWithheldError 5 a token server is not safe to send them to
    │   │   └── NotWritableError  5 a repository takes nothing from this account, or from any
    │   ├── NotFoundError         5   the registry answered: there is no such thing
    │   └── RegistryRefusedError  5
    │       └── NotTakenError     5   a repository takes no blob now: a rule, a quota, no space, no connection
    ├── ClusterError              6   cluster refused, unreachable or unhealthy
    ├── StorageError              1   object storage refused or unreachable
    │   └── StorageUnreachableError 1 no answer
    ├── SpaceError                7   not enough room on a file system
    └── InterruptedByUserError  130   the message says whether work is kept, and how to continue

A message says what failed, on which object, got and wanted; `hint` says what to do next. An error that ends a command always
says what next: where it has no hint of its own, what usually helps with its kind. Secrets never appear in either.
Exit codes: the table in `docs/reference/cli.md`.
"""

from __future__ import annotations

import logging
import traceback
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, Protocol

from common.text import shortened, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


_LOG = logging.getLogger(__name__)


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


MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "failed",
    ExitCode.USAGE: "usage or configuration",
    ExitCode.PROBLEMS: "done, with problems listed",
    ExitCode.ARCHIVE: "archive damaged, incomplete or not trusted",
    ExitCode.REGISTRY: "registry refused or unreachable",
    ExitCode.CLUSTER: "cluster refused, unreachable or unhealthy",
    ExitCode.SPACE: "not enough space",
    ExitCode.INTERRUPTED: "interrupted; run again to continue",
}


# An image set of thousands of lines with one wrong indentation would fill the terminal and hide the first fault.
_SHOWN_FAULTS = 100  # of one FaultsError


class HubError(Exception):
    """Something that a person has to know. `str()` gives the message with its details, and the hint, on lines of their own.

    `details`: further lines of the message. A newline inside the message or a detail is untrusted text: it is escaped.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    usual_hint: ClassVar[str] = "Run it again with --log-level debug to see more of what led here."

    def __init__(self, message: str, *, hint: str = "", details: Sequence[str] = ()) -> None:
        # Only newlines added here separate lines of a message; without details there are none, also where it quotes some.
        self.message = "\n  ".join([message, *map(visible, details)]) if details else message
        # Exception.args keeps the message alone, so that a pickled or logged error has no hint twice.
        super().__init__(self.message)
        self.details = tuple(details)
        self.hint = hint
        self._headline = message

    @property
    def advice(self) -> str:
        """What to do next: the hint, or the usual advice for errors of this class. Never empty."""
        return self.hint or self.usual_hint

    @property
    def lines(self) -> list[str]:
        """The message as lines: the first, and indented the details."""
        return [self._headline, *(f"  {detail}" for detail in self.details)]

    def __str__(self) -> str:
        # Two spaces mark advice: the tests of the commands require such a line below each error.
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def about(self, subject: str, note: str = "") -> str:
        """Return message, note and hint on one line, for a list whose lines begin with `subject`."""
        # The subject begins the line already; most messages begin with it too.
        message = f"{self.message.removeprefix(f'{subject}: ')}{note}"
        return f"{message.rstrip('.')}. {self.hint}" if self.hint else message


@contextmanager
def boundary(translate: Callable[[Exception], HubError]) -> Iterator[None]:
    """Raise what a parser raises for untrusted bytes as the error of its reader; the errors of this module pass through."""
    # One place instead of a list of exceptions: constructors of PyYAML, msgspec, sqlite3 and others document few of theirs.
    # Errors of the machine are none of the bytes.
    try:
        yield
    except (HubError, OSError, MemoryError):
        raise
    except Exception as error:
        # For a defect of this program that looks like unreadable bytes.
        place = traceback.extract_tb(error.__traceback__)[-1]
        _LOG.debug("%s at %s:%s: %s", type(error).__name__, place.filename, place.lineno, error)
        raise translate(error) from error


class UsageError(HubError):
    """Options, configuration or an image set that are invalid or contradictory."""

    exit_code = ExitCode.USAGE
    usual_hint = "See --help of the command."


class FaultsError(UsageError):
    """Several faults of one input, named at once. `cut`: the rest of the input was not looked at."""

    usual_hint = "Correct them, and run it again."

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        details: Sequence[str] = (),
        faults: Sequence[UsageError] = (),
        cut: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, details=details)
        self.faults = tuple(faults)
        self.cut = cut


def each_fault(errors: Iterable[UsageError]) -> list[UsageError]:
    """Return single faults: those of each FaultsError, and the other errors as they are."""
    return [fault for error in errors for fault in (error.faults if isinstance(error, FaultsError) else (error,))]


def one_error(subject: str, errors: Sequence[UsageError], *, cut: bool = False) -> UsageError:
    """Return one error for all, of which there is at least one; a single fault stays as it is."""
    faults = each_fault(errors)
    if len(faults) == 1:
        return faults[0]
    cut = cut or any(isinstance(error, FaultsError) and error.cut for error in errors)
    details = shortened([fault.about(subject) for fault in faults], _SHOWN_FAULTS)
    message = f"{subject}: {len(faults)} faults{' at least' if cut else ''}:"
    return FaultsError(message, hint=FaultsError.usual_hint, details=details, faults=faults, cut=cut)


class NotACatalogError(UsageError):
    """The named image or path exists, but holds no catalog."""

    usual_hint = (
        "Name a catalog image, a directory of catalog files, or an SQLite catalog; hub-export list shows the content of one."
    )


class CatalogError(HubError):
    """A catalog that cannot be read, or that OLM would refuse to serve."""

    usual_hint = "The catalog itself is at fault: use another version of it, or report this message to its publisher."


class ContentError(HubError):
    """Bytes that are not what their digest, size or format promised."""

    usual_hint = "Something changed the bytes on their way: run it again, and look for a proxy or a cache in between."


class DamagedError(ContentError):
    """Content that arrived damaged from a registry. `more`: whether asking again, or elsewhere, still makes sense."""

    def __init__(self, message: str, *, hint: str = "", more: bool = False) -> None:
        super().__init__(message, hint=hint)
        # The caller asks another mirror of registries.conf while this is true.
        self.more = more


class SignatureError(ContentError):
    """An OpenPGP signature, or a document that it signs, that is not accepted. The message has no subject: it is a reason."""

    usual_hint = "Ask the publisher for a signature by a key that is trusted here."


class ReleaseUnverifiedError(HubError):
    """No signature of an OpenShift release is accepted: nothing says that its digest is one that the publisher released."""


class PayloadError(ContentError):
    """The payload of a release that cannot be read, or that contradicts itself or the update service."""

    usual_hint = "The release itself is at fault: choose another version of it, or report this message to its publisher."


class ImageFileError(ContentError):
    """A file of an image that is not there, is no plain file, or cannot be used; or layers beyond the limits."""

    usual_hint = "The image itself is at fault, or is another one than expected: report this message to its publisher."


class ProblemsError(HubError):
    """Problems were found and the caller asked for none (`--strict`)."""

    usual_hint = "Correct them, or leave --strict out: they are then listed, and the exit status is 3."


class InUseError(HubError):
    """A lock is held by another process, possibly a dead one on another machine. Not a usage error: it is temporary."""

    usual_hint = "Wait until the other one ends, and run it again."


class ArchiveError(HubError):
    """The archive is damaged, incomplete or not trusted."""

    exit_code = ExitCode.ARCHIVE
    usual_hint = "hub-import verify reports what is damaged or missing."


class ArchiveDamagedError(ArchiveError):
    """Bytes of the archive are not the ones that were written."""

    usual_hint = "Copy it again from where it came; hub-import repair and --rerequest help where that is far."


class ArchiveIncompleteError(ArchiveError):
    """A part of the archive is not here."""

    usual_hint = "Bring the missing volumes; hub-import inspect lists those that are here."


class MediumGoneError(ArchiveIncompleteError):
    """A stick, disk or share that was removed while it was read: every other file on it fails too."""

    usual_hint = "Connect and mount it again, then run the same command again: what is finished is kept."


class ArchiveUntrustedError(ArchiveError):
    """The signature is missing or wrong."""


# 522 and 524 are Cloudflare's: the origin behind it did not answer.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 522, 524})  # HTTP statuses of trouble that may pass


class RegistryError(HubError):
    """A registry refused or was not reached. Without an answer `status` (HTTP) is 0 and `code`, the registry's own, empty.

    `elsewhere`: the host that answered, where the registry had redirected there. `was_cut_short`: the caller allowed less time
    than retries take.
    """

    exit_code = ExitCode.REGISTRY
    usual_hint = (
        "Look at the registry, or at its log; run the same command again when it works again: it continues where it stopped."
    )

    def __init__(self, message: str, *, hint: str = "", details: Sequence[str] = (), status: int = 0, code: str = "") -> None:
        super().__init__(message, hint=hint, details=details)
        self.status = status
        self.code = code
        self.elsewhere = ""
        self.was_cut_short = False

    @property
    def is_host_failure(self) -> bool:
        """Whether the host is in trouble, so that further requests would fail too; else it refused this one."""
        return self.status in PASSING


class RegistryUnreachableError(RegistryError):
    """No answer: name, route, TLS or time."""

    @property
    def is_host_failure(self) -> bool:
        """Yes: nothing was answered."""
        return True


class ShortAnswerError(RegistryUnreachableError):
    """The answer ended early, each time: the registry may have only a part of the blob or manifest."""


class AuthenticationError(RegistryError):
    """The registry wants credentials, or others than it got."""


class CredentialsRefusedError(AuthenticationError):
    """The token server of a registry does not know the account, or knows it with another password."""


class CredentialsWithheldError(AuthenticationError):
    """Credentials were not sent to a token server: they would go in the clear, or to another server than the one named."""


class NotWritableError(AuthenticationError):
    """A repository opens no upload: no right to it, it does not exist, its name is refused, or it is a cache."""


class NotFoundError(RegistryError):
    """The registry answered that there is no such repository, manifest or blob."""


class RegistryRefusedError(RegistryError):
    """The registry answered with an error of its own."""


class NotTakenError(RegistryRefusedError):
    """A repository takes no blob, for a reason that is not about one of them: a rule, a quota, no space, no connection."""


class ClusterError(HubError):
    """The cluster refused, could not be reached, or did not become healthy."""

    exit_code = ExitCode.CLUSTER
    usual_hint = "hub-import doctor looks for the cause in the cluster; nothing that was done has to be undone first."


class StorageError(HubError):
    """Object storage refused or was not reached. Without an answer `status` (HTTP) is 0 and `code` is empty."""

    usual_hint = (
        "Look at the service, or at its log; run the same command again when it works again: it continues where it stopped."
    )

    def __init__(self, message: str, *, hint: str = "", status: int = 0, code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class StorageUnreachableError(StorageError):
    """No answer: name, route, TLS or time."""


class SpaceError(HubError):
    """A file system has too little room. Most commands check it before they write; some find it while they write."""

    exit_code = ExitCode.SPACE
    usual_hint = "Free some, or choose another place; run the same command again: it continues where it stopped."


class InterruptedByUserError(HubError):
    """Stopped by the user."""

    exit_code = ExitCode.INTERRUPTED
    usual_hint = "Run the same command again."


# The exit code of every command is decided by these functions and by `HubError.exit_code` (docs/reference/cli.md, *Exit
# codes*).

# When several apply, the first in this order is the exit status: what needs a person first comes first.
PRECEDENCE = (
    ExitCode.INTERRUPTED,
    ExitCode.ARCHIVE,
    ExitCode.SPACE,
    ExitCode.REGISTRY,
    ExitCode.CLUSTER,
    ExitCode.PROBLEMS,
)


class Rated(Protocol):
    """A problem, as plans, inventories and results list them: an `error` or a `warning`."""

    @property
    def severity(self) -> str:
        """Return `error` where requested content is missing or wrong, else `warning`."""
        ...


def first_of(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit code that counts when several apply; DONE when none does."""
    given = set(codes)
    return next((code for code in (*PRECEDENCE, ExitCode.USAGE, ExitCode.FAILED) if code in given), ExitCode.DONE)


def of_problems(problems: Iterable[Rated]) -> ExitCode:
    """Return PROBLEMS when one of them is an error. Warnings alone are DONE: everything requested was carried or applied."""
    return ExitCode.PROBLEMS if any(problem.severity == "error" for problem in problems) else ExitCode.DONE


def strictly(codes: Iterable[ExitCode], *, strict: bool) -> ExitCode:
    """Return the exit code that counts of an import; under `--strict`, PROBLEMS is a failure."""
    code = first_of(codes)
    return ExitCode.FAILED if strict and code is ExitCode.PROBLEMS else code
