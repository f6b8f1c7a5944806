"""The page of a deploy, written however it ends: a record of the change, and a handover to the next shift.

It has the output of the commands, the account, the host and the cluster, and no credentials. It is no proof: `hub-import
status` asks the cluster itself. A page is never replaced: each deploy has its own file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from common.archive.naming import digits, printed, titled
from common.errors import ExitCode, UsageError
from common.files import names_directory, require_place, require_writable
from common.oci.reference import local_path
from common.text import counted
from importer.configure.asking import NotAgreedError
from importer.report.operators import OperatorState, compare, counts
from importer.report.record import ChangeRecord, Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from common.archive.reader import Archive
    from importer.cluster.apply import ApplyResult
    from importer.cluster.finding import Finding
    from importer.cluster.readiness.wait import Display, Row
    from importer.configure.applied import Applied
    from importer.configure.apply import Interaction, Tell
    from importer.operators.table import Row as OperatorRow
    from importer.pulls.verdicts import PullTest
    from importer.push.result import PushResult
    from importer.report.record import Author
    from importer.settings import ClusterSettings, ImportSettings


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


class DeployReport(ChangeRecord):
    """The record of one deploy; its page is named by time and archive."""

    template: ClassVar[str] = "deploy.html.jinja"
    stem: ClassVar[str] = "deploy"

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
        super().__init__(where, tell, author=author, place=place, now=now)
        self._archive = archive
        self._settings = settings
        self._recorded = _RecordingDisplay()
        self.pushed: PushResult | None = None
        self.applied: Applied | None = None
        self._planned: Applied | None = None

    def has_begun(self, error: BaseException | None) -> bool:
        """Return whether anything was pushed, or the preflight found an error."""
        # A deploy that was refused for a wrong option, or without agreement, is nothing to record.
        return self.pushed is not None or not isinstance(error, (UsageError, NotAgreedError))

    def suffix(self) -> str:
        """Return the name of the archive, where it has one, and the first digits of its digest."""
        return "".join(f"-{part}" for part in (self._archive.inventory.name or "", digits(self._archive.digest)) if part)

    def subject(self) -> str:
        """Return the identity of the archive."""
        return self._archive.digest

    def printed(self, moment: str) -> str:
        """Return the foot of each printed page, with the name of the archive."""
        return printed(self.subject(), self._archive.inventory.name or "", moment)

    def previewed(self, planned: Applied) -> None:
        """Record the result of the preflight."""
        self._planned = planned

    def recording(self, interaction: Interaction) -> Interaction:
        """Return callbacks that call the given ones and record lines, changes, the wait and its findings for the page."""
        self._recorded.display = interaction.display
        return replace(
            interaction,
            tell=self.tell,
            display=self._recorded,
            changed=self._recorded.changed,
            operators=self._recorded.operators,
            pulled=self._recorded.pulled,
        )

    def ending(self) -> Ending:
        """Return the end: a cluster that was not changed, problems, operators that are not healthy, or a good one."""
        if self.applied is None:
            return Ending("bad", "The cluster was not changed: content that it needs is missing on the mirror.")
        if self.applied.cannot_pull:
            hint = "The section about the pull test shows which nodes, and why."
            return Ending("warn", self.applied.verdict, hint)
        codes = {part.exit_code for part in (self.pushed, self.applied) if part is not None}
        if codes != {ExitCode.DONE}:
            lacking = f"{self.applied.left_out}." if self.applied.left_out else ""
            text = "OLM lists the catalogs of the archive; there are problems with some of their content."
            return Ending("warn", text, lacking)
        total, bad = counts(self._operators())
        if not bad:
            return Ending("good", self.applied.verdict)
        hint = "The table of operators shows which, and why; hub-import doctor shows causes."
        unhealthy = f"Not healthy afterwards: {bad} of {counted(total, 'operator')} of the cluster."
        return Ending("warn", f"{self.applied.verdict} {unhealthy}", hint)

    def _operators(self) -> list[OperatorState]:
        return compare(self._planned.operators if self._planned else (), self._recorded.operators_after)

    def content(self) -> Mapping[str, Any]:
        """Return what was pushed and applied, the operators, and the state at the end."""
        planned, operators = self.applied or self._planned, self._operators()
        return {
            "inventory": self._archive.inventory,
            "identity": self._archive.digest,
            "bases": titled(self.pushed.requires, self._archive.inventory.known_bases) if self.pushed else (),
            "mirror": str(self._settings.mirror),
            "pushed": self.pushed,
            "applied": self.applied,
            "result": self._recorded.result,
            "rows": self._recorded.last,
            "notes": planned.notes if planned else (),
            "updates": self.applied.updates if self.applied else (),
            "drain": planned.drain if planned else "",
            "node_size": planned.node_size.line if planned and planned.node_size and planned.node_size.changes else "",
            "operators": operators,
            "counts": counts(operators),
            "pulls": self._recorded.pulls,
            "read_again": self._recorded.operators_after is not None,
            # The wait finds some causes that the preflight found already.
            "findings": tuple(dict.fromkeys((*(planned.findings if planned else ()), *self._recorded.findings))),
        }


class _RecordingDisplay:
    """A display that records the last state of the wait for the page, and passes everything on to another display."""

    def __init__(self) -> None:
        self.display: Display | None = None
        self.operators_after: Sequence[OperatorRow] | None = None
        self.result: ApplyResult | None = None
        self.last: Sequence[Row] = ()
        self.pulls: PullTest | None = None
        self.findings: list[Finding] = []

    def changed(self, result: ApplyResult) -> None:
        """Record the changes, for `Interaction.changed`."""
        self.result = result

    def operators(self, rows: Sequence[OperatorRow]) -> None:
        """Record the operators after the change."""
        self.operators_after = rows

    def pulled(self, pulls: PullTest) -> None:
        """Record the verdicts of the pull test, for `Interaction.pulled`."""
        self.pulls = pulls
        self.findings += pulls.findings

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
