"""The record of one change of a cluster, as a page: written however the change ends, and never in place of another one."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from common.distribution import TOOL
from common.errors import HubError
from common.files import write_new
from common.log import SECRETS
from common.pages.page import render, short_moment
from common.text import visible
from importer.cluster.api.kubeconfig import in_variable
from importer.cluster.readiness.wait import clock_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from importer.cluster.api.discovery import ClusterIdentity
    from importer.configure.apply import Tell
    from importer.settings import ClusterSettings


_LINES = 2_000  # of output on the page


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a change: done, done with problems, or failed; and its text."""

    kind: str  # good, warn or bad, as the style knows them
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Author:
    """The author of a change: the account on this machine, the machine, and the account that the cluster knows, if any."""

    user: str
    host: str
    account: str = ""

    def __str__(self) -> str:
        return f"{self.user} on {self.host}{f', as {self.account} of the cluster' if self.account else ''}"


class ChangeRecord:
    """A context manager around one change; leaving it writes the page, also when an error passes through.

    `where`: a directory, in which the page is named by the time, or a file; an existing file is kept, and the page gets the
    next free name. None: no page. `tell` gets every line of output.
    """

    template: ClassVar[str]
    stem: ClassVar[str]  # of the name of a page

    def __init__(
        self,
        where: Path | None,
        tell: Tell,
        *,
        author: Author,
        place: ClusterSettings,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.where = where
        self._tell = tell
        self._author = author
        self._place = place
        self._now = now or (lambda: datetime.now(UTC))
        self._lines: list[str] = []
        self.cluster: ClusterIdentity | None = None

    def __enter__(self) -> Self:
        self._began = self._now()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.where is None or not self.has_begun(error):
            return
        target = self.where / self._name() if self.where.is_dir() else self.where
        try:
            file = write_new(target, self._render(self._failure(error) or self.ending()))
        except OSError as problem:  # a warning: the cluster is changed, and the exit code has to say so
            self._tell(f"{target}: the page of this change could not be written: {problem.strerror}")
        else:
            self._tell(f"{file}: what was done, as a page")

    def has_begun(self, error: BaseException | None) -> bool:
        """Return whether anything was done; what was refused before is nothing to record."""
        raise NotImplementedError

    def ending(self) -> Ending:
        """Return the end of a change without an error."""
        raise NotImplementedError

    def content(self) -> Mapping[str, Any]:
        """Return what the template needs besides the values of every page."""
        raise NotImplementedError

    def _name(self) -> str:
        # Basic format of ISO 8601, without colons: the page is copied to file systems that do not allow them.
        return f"hub-{self.stem}-{self._began.strftime('%Y%m%dT%H%M%SZ')}{self.suffix()}.html"

    def subject(self) -> str:
        """Return what each printed page names: the archive, or the kind of change."""
        return f"{TOOL} {self.stem}"

    def printed(self, moment: str) -> str:
        """Return the foot of each printed page: the subject, and when the command began."""
        return f"{self.subject()}  {moment}"

    def suffix(self) -> str:
        """Return what follows the time in the name of a page."""
        return ""

    def met(self, cluster: ClusterIdentity, account: str) -> None:
        """Record the cluster, and the account under which it is changed."""
        # Before the preflight: a deploy that is refused for missing permissions has to say whose they are.
        self.cluster, self._author = cluster, replace(self._author, account=account)

    @property
    def meets(self) -> Callable[[ClusterIdentity, str], None] | None:
        """`met`, where there will be a page; without one, no request asks for the account."""
        return None if self.where is None else self.met

    def tell(self, line: str) -> None:
        """Record and pass on a line; the page of a wait of days keeps the first ones, which name the changes."""
        if len(self._lines) < _LINES:
            self._lines.append(visible(SECRETS.mask(line)))
        self._tell(line)

    def _command(self, name: str) -> str:
        """Return a command for the same cluster, as a shell takes it."""
        # The context by name, also where it was the current one: that changes with every `oc project`.
        context = self.cluster.context if self.cluster else self._place.context
        listed = in_variable(os.environ) if context else []
        # Several files are merged, and no option can name them.
        file = self._place.kubeconfig or (Path(listed[0]) if len(listed) == 1 else None)
        where = [*(["--kubeconfig", str(file.absolute())] if file else []), *(["--context", context] if context else [])]
        return shlex.join(["hub-import", name, *where])

    def _failure(self, error: BaseException | None) -> Ending | None:
        if isinstance(error, HubError):
            return Ending("bad", error.message, error.advice)
        if error is not None:
            return Ending("bad", "Interrupted.", "Run the same command again: it continues where it stopped.")
        return None

    def _render(self, ending: Ending) -> bytes:
        ended = self._now()
        return render(
            Path(__file__).parent,
            self.template,
            printed=self.printed(short_moment(_moment(self._began))),
            tool=TOOL,
            began=_moment(self._began),
            ended=_moment(ended),
            lasted=clock_text((ended - self._began).total_seconds()),
            ending=ending,
            author=self._author,
            cluster=self.cluster,
            lines=self._lines,
            commands={name: self._command(name) for name in ("status", "doctor", "undo")},
            **self.content(),
        )


def _moment(moment: datetime) -> str:
    # UTC with a Z: the page is read on the other side of a shift, and of the gap.
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
