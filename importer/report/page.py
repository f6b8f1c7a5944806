"""The page of a deploy, written however it ends: a record of the change, and a handover to the next shift.

It has the output of the commands, the account, the host and the cluster, and no credentials. It is no proof: `hub-import
status` asks the cluster itself. A page is never replaced: each deploy has its own file.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from common.distribution import TOOL
from common.errors import ExitCode, HubError, UsageError
from common.files import names_directory, require_place, require_writable, write_new
from common.log import SECRETS
from common.oci.image import hex_of
from common.oci.reference import local_path
from common.pages.page import render
from common.text import counted, visible
from importer.cluster.readiness.wait import clock_text
from importer.configure.apply import NotAgreedError
from importer.report.operators import OperatorState, compare, counts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from importer.archive.reader import Archive
    from importer.cluster.apply import ApplyResult
    from importer.cluster.discovery import ClusterIdentity
    from importer.cluster.finding import Finding
    from importer.cluster.readiness.wait import Display, Row
    from importer.configure.apply import Applied, Interaction, Tell
    from importer.operators.table import Row as OperatorRow
    from importer.push.result import PushResult
    from importer.settings import ClusterSettings, ImportSettings


_TEMPLATE = "deploy.html.jinja"
_LINES = 2_000  # of output on the page
_DIGITS = 12  # of the archive's digest, as podman and docker shorten image IDs


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a deploy: done, done with problems, or failed; and its text."""

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


def place_of(text: str | None, tell: Tell) -> Path | None:
    """Return the path for the page of a deploy, `--report FILE|DIR`; without it, the current directory.

    A text that ends with a slash names a directory. Raises UsageError for a path that cannot be written; where none was named,
    that is a warning, and None: no page.
    """
    # Checked before the deploy begins: afterwards, the record of a change of hours would be lost to a typing error.
    if text is None:
        return _current(tell)
    place = local_path(text)
    if names_directory(text) or _is_directory(place):
        require_writable(place, f"--report {text}: ")
    else:
        require_place(place)
    return place


def _is_directory(place: Path) -> bool:
    try:
        return place.is_dir()
    except OSError:  # ENAMETOOLONG, EACCES: `require_place` reports them with a hint
        return False


def _current(tell: Tell) -> Path | None:
    here = Path()
    try:
        require_writable(here)  # a Job in a pod has a read-only root file system
    except UsageError as error:
        tell(f"warning: this deploy will leave no page: {error.message}. --report names another place")
        return None
    return here


class DeployReport:
    """A context manager around one deploy; leaving it writes the page, also when an error passes through.

    `where`: a directory, in which the page is named by time and archive, or a file; an existing file is kept, and the page gets
    the next free name. None: no page.
    """

    def __init__(
        self,
        archive: Archive,
        settings: ImportSettings,
        where: Path | None,
        tell: Tell,
        *,
        author: Author,
        place: ClusterSettings,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._archive = archive
        self._settings = settings
        self._where = where
        self._tell = tell
        self._author = author
        self._place = place
        self._now = now or (lambda: datetime.now(UTC))
        self._recorded = _RecordingDisplay()
        self.pushed: PushResult | None = None
        self.applied: Applied | None = None
        self.cluster: ClusterIdentity | None = None
        self._planned: Applied | None = None

    def __enter__(self) -> Self:
        self._began = self._now()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # A deploy that was refused before it did anything (a wrong option, no agreement) is nothing to record.
        if self._where is None or (self.pushed is None and isinstance(error, (UsageError, NotAgreedError))):
            return
        target = self._where / self._name() if self._where.is_dir() else self._where
        try:
            file = write_new(target, self._render(self._ending(error)))
        except OSError as problem:  # a warning: the cluster is changed, and the exit code has to say so
            self._tell(f"{target}: the page of this deploy could not be written: {problem.strerror}")
        else:
            self._tell(f"{file}: what was done, as a page")

    def _name(self) -> str:
        """Return the name of a page: the UTC time of the start, and the first digits of the archive's digest."""
        # Basic format of ISO 8601, without colons: the page is copied to file systems that do not allow them.
        return f"hub-deploy-{self._began.strftime('%Y%m%dT%H%M%SZ')}-{hex_of(self._archive.digest)[:_DIGITS]}.html"

    def previewed(self, planned: Applied) -> None:
        """Record the result of the preflight."""
        self._planned = planned

    def met(self, cluster: ClusterIdentity, account: str) -> None:
        """Record the cluster, and the account under which it is changed."""
        # Before the preflight: a deploy that is refused for missing permissions has to say whose they are.
        self.cluster, self._author = cluster, replace(self._author, account=account)

    def recording(self, interaction: Interaction) -> Interaction:
        """Return callbacks that call the given ones and record the changes, the wait and its findings for the page."""
        self._recorded.display, self._recorded.pass_on = interaction.display, interaction.tell
        return replace(
            interaction,
            tell=self._recorded.tell,
            display=self._recorded,
            changed=self._recorded.changed,
            operators=self._recorded.operators,
        )

    def _command(self, name: str) -> str:
        """Return a command for the same cluster, as a shell takes it."""
        # The context by name, also where it was the current one: that changes with every `oc project`.
        context = self.cluster.context if self.cluster else self._place.context
        file = self._place.kubeconfig
        where = [*(["--kubeconfig", str(file.absolute())] if file else []), *(["--context", context] if context else [])]
        return shlex.join(["hub-import", name, *where])

    def _ending(self, error: BaseException | None) -> Ending:
        # The gravest first: an error, a cluster that was not changed, then problems.
        if isinstance(error, HubError):
            return Ending("bad", error.message, error.advice)
        if error is not None:
            return Ending("bad", "Interrupted.", "Run the same command again: it continues where it stopped.")
        if self.applied is None:
            return Ending("bad", "The cluster was not changed: content that it needs is missing on the mirror.")
        codes = {part.exit_code for part in (self.pushed, self.applied) if part is not None}
        if codes == {ExitCode.DONE}:
            return self._good(self.applied.verdict)
        return Ending("warn", "OLM lists what the archive carries; there are problems with some of it.")

    def _good(self, verdict: str) -> Ending:
        total, bad = counts(self._operators())
        if not bad:
            return Ending("good", verdict)
        hint = "The table of operators says which, and why; hub-import doctor shows causes."
        return Ending("warn", f"{verdict} Not well afterwards: {bad} of {counted(total, 'operator')} of the cluster.", hint)

    def _operators(self) -> list[OperatorState]:
        return compare(self._planned.operators if self._planned else (), self._recorded.operators_after)

    def _render(self, ending: Ending) -> bytes:
        ended, planned = self._now(), self.applied or self._planned
        operators = self._operators()
        return render(
            Path(__file__).parent,
            _TEMPLATE,
            tool=TOOL,
            began=_moment(self._began),
            ended=_moment(ended),
            lasted=clock_text((ended - self._began).total_seconds()),
            ending=ending,
            inventory=self._archive.inventory,
            identity=self._archive.digest,
            mirror=str(self._settings.mirror),
            author=self._author,
            cluster=self.cluster,
            pushed=self.pushed,
            applied=self.applied,
            result=self._recorded.result,
            rows=self._recorded.last,
            lines=self._recorded.lines,
            drain=planned.drain if planned else "",
            operators=operators,
            counts=counts(operators),
            read_again=self._recorded.operators_after is not None,
            commands={name: self._command(name) for name in ("status", "doctor", "undo")},
            # The wait finds some causes that the preflight found already.
            findings=tuple(dict.fromkeys((*(planned.findings if planned else ()), *self._recorded.findings))),
        )


class _RecordingDisplay:
    """A display that records lines, and the last state of the wait, for the page; it passes everything on to another one."""

    def __init__(self) -> None:
        self.display: Display | None = None
        self.pass_on: Tell | None = None
        self.lines: list[str] = []
        self.operators_after: Sequence[OperatorRow] | None = None
        self.result: ApplyResult | None = None
        self.last: Sequence[Row] = ()
        self.findings: list[Finding] = []

    def changed(self, result: ApplyResult) -> None:
        """Record the changes, for `Interaction.changed`."""
        self.result = result

    def tell(self, line: str) -> None:
        """Record and pass on a line; the page of a wait of days keeps the first ones, which name the changes."""
        if len(self.lines) < _LINES:
            self.lines.append(visible(SECRETS.mask(line)))
        if self.pass_on is not None:
            self.pass_on(line)

    def operators(self, rows: Sequence[OperatorRow]) -> None:
        """Record the operators after the change."""
        self.operators_after = rows

    def rows(self, rows: Sequence[Row], now_s: float) -> None:
        """Record and pass on the state of everything that is waited for."""
        self.last = rows
        if self.display is not None:
            self.display.rows(rows, now_s)

    def finding(self, finding: Finding) -> None:
        """Record and pass on a finding."""
        self.findings.append(finding)
        if self.display is not None:
            self.display.finding(finding)

    def end(self) -> None:
        """Pass on the end."""
        if self.display is not None:
            self.display.end()


def _moment(moment: datetime) -> str:
    # UTC with a Z: the page is read on the other side of a shift, and of the gap.
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
