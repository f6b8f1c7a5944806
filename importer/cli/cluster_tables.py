"""Results of the commands that work on a cluster: JSON documents, tables for people, the live wait.

Specification: docs/reference/cli.md, *JSON*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from common.cli.results import problem_lines
from common.cli.summary import next_command, same_command
from common.table import Verbatim, columns, fitted
from common.text import counted, enumeration, indented, paragraphs, visible
from importer.cli import pull_tables
from importer.cli.finding_tables import finding_document, findings_lines
from importer.cli.tables import push_document, push_table
from importer.cluster.nodes import UNSEEN_RULES
from importer.cluster.readiness.readiness import how_far, is_paused, is_rolled_out
from importer.cluster.readiness.wait import Row, clock_text
from importer.cluster.resources.node_configuration import MAX_MACHINE_CONFIG
from importer.diagnose.installing import REQUIRES_APPROVAL, current_plans, unwell
from importer.operators import shown
from importer.operators.settling import NOT_WELL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from common.cli.summary import Measured
    from importer.cluster.api.discovery import ClusterIdentity
    from importer.cluster.apply import ApplyResult
    from importer.cluster.finding import Finding
    from importer.cluster.record import ImportedArchive
    from importer.cluster.resources.build import Built
    from importer.cluster.resources.node_configuration import NodeSize
    from importer.cluster.updates.outlook import Update
    from importer.configure.applied import Applied
    from importer.configure.operators import Survey
    from importer.configure.running import Outcome
    from importer.configure.undo import UndoResult
    from importer.diagnose.olm_objects import Version
    from importer.diagnose.snapshot import SourceState
    from importer.diagnose.state import Health
    from importer.push.result import PushResult


Document = dict[str, Any]

# Lines of one object. A ConfigMap with a CA bundle has thousands; JSON has them all.
_DIFF_SHOWN = 60
_CSVS_SHOWN = 3
_FIELDS_SHOWN = 3  # of one object that undo restores


def render_document(paths: Sequence[Path], built: Built) -> Document:
    """Return the JSON of `render`."""
    size = _node_document(built.node_size)
    return {"files": [str(path) for path in paths], "problems": built.problems, "notes": built.notes, "nodeConfiguration": size}


def render_table(paths: Sequence[Path], built: Built, archive: str) -> list[str]:
    """Return `render` for people; `archive`: its label."""
    size = [built.node_size.line] if built.node_size else []
    return [*problem_lines(built.problems), *_noted(built.notes), *size, f"files for {archive}:", *map(str, paths)]


def cluster_document(cluster: ClusterIdentity | None) -> Document | None:
    """Return the JSON of a cluster: the address of its API, the context, OpenShift's version; null for unknown values."""
    # Every result names its cluster, so that a log proves where a change was made (ADR 0033).
    return {"server": cluster.server, "context": cluster.context, "release": cluster.version} if cluster else None


def apply_document(applied: Applied) -> Document:
    """Return the JSON of `apply`: `healthy` once OLM lists what the archive carries."""
    changes = changes_document(applied.result)
    findings = [finding_document(each) for each in applied.findings]
    where = cluster_document(applied.cluster)
    return {
        "healthy": applied.done and applied.well and not applied.cannot_pull,
        "cluster": where,
        "changes": changes,
        "findings": findings,
        "operators": shown.document(applied.operators),
        "operatorsAfter": shown.document(applied.operators_after) if applied.operators_after is not None else None,
        "problems": applied.problems,
        "notes": applied.notes,
        "updates": [update_document(each) for each in applied.updates],
        "installed": [
            {"package": name, "state": state, "approve": command or None} for name, state, command in applied.installed
        ],
        "nodeConfiguration": _node_document(applied.node_size),
        **pull_tables.pulls_document(applied.pulls),
    }


def _node_document(found: NodeSize | None) -> Document | None:
    """Return the JSON of the configuration that nodes get of the mirror rules: its size in bytes, and the limit."""
    if found is None:
        return None
    return {
        "mirrorScope": found.scope,
        "sources": found.size.sources,
        "registriesConf": found.size.registries_conf,
        "machineConfig": found.size.machine_config,
        "machineConfigLimit": MAX_MACHINE_CONFIG,
    }


def changes_document(result: ApplyResult) -> list[Document]:
    """Return the JSON of what became, or would become, of each object."""
    return [
        {"action": c.action, "kind": c.kind, "name": c.name, "namespace": c.namespace, "detail": c.detail, "diff": c.diff}
        for c in result.changes
    ]


def update_document(update: Update) -> Document:
    """Return the JSON of a release that the cluster can go to."""
    return {
        "version": update.release.version,
        "architecture": update.release.architecture,
        "digest": update.release.digest,
        "via": update.via,
        "commands": update.commands,
        "risks": update.risks,
        "acknowledge": [{"name": name, "text": text} for name, text in update.acknowledge],
    }


def updates_lines(updates: Sequence[Update]) -> list[str]:
    """Return the releases that the cluster can go to, each with its command; the administrator runs it."""
    lines = [line for each in updates if each.commands for line in each.lines]  # an incomplete one is a problem
    return ["The cluster can be updated to these releases of the archive:", *lines] if lines else []


def apply_table(applied: Applied, place: Sequence[str] = (), *, taken: Measured | None = None) -> list[str]:
    """Return `apply` for people; `place`: the options that name the cluster in a further command."""
    if not applied.done:
        return [*planned_table(applied), *updates_lines(applied.updates), would_change(applied), *unchanged()]
    left = findings_lines([finding for finding in applied.findings if finding.code == NOT_WELL])
    changes = [*problem_lines(applied.problems), *changes_table(applied.result), *installed_lines(applied.installed)]
    after = next_command("next", "hub-import", "status" if applied.well and not applied.cannot_pull else "doctor", *place)
    pulls = pull_tables.pulls_table(applied.pulls)
    last = [*_made(applied, taken), applied.verdict, after]
    return [*changes, *left, *_noted(applied.notes), *updates_lines(applied.updates), *pulls, *last]


def unchanged() -> list[str]:
    """Return the last lines of a dry run."""
    return ["Nothing was changed.", next_command("to do it", *same_command(without=["--dry-run"]))]


def installed_lines(outcomes: Iterable[Outcome]) -> list[str]:
    """Return what became of operators that were installed, and the commands that approve their InstallPlans."""
    listed = list(outcomes)
    approve = [f"to approve {name}: {command}" for name, _, command in listed if command]
    return [*(f"{name}: {state}" for name, state, _ in listed), *approve]


def _made(applied: Applied, taken: Measured | None) -> list[str]:
    """Return the cluster, and how many of its objects were changed, in which time."""
    changed = counted(len(applied.result.changed), "object") + " changed"
    return [f"{applied.cluster}: {changed}{f', {taken.taken()}' if taken else ''}."]


def _noted(notes: Sequence[str]) -> list[str]:
    return [f"note: {each}" for each in notes]


def planned_table(would: Applied) -> list[str]:
    """Return what `apply` would do, for people: the differences of each object, findings of the preflight, and the objects."""
    # The differences first: they have hundreds of lines, and a terminal keeps the last ones.
    return [*diff_table(would.result), *findings_lines(would.findings), *question_table(would, diff=False)]


def would_change(would: Applied) -> str:
    """Return which cluster would be changed, how much, and what that does to its nodes: one line."""
    return changes_there(would.cluster, len(would.result.changed), would.drain, shown.updating(would.operators))


def changes_there(cluster: ClusterIdentity, changes: int, *effects: str) -> str:
    """Return which cluster would be changed, how much, and to what effect: one line."""
    # ADR 0033: the last line before each question, and in each log, by whatever command.
    return f"{cluster}: {', '.join(filter(None, (counted(changes, 'change'), *effects)))}."


def question_table(would: Applied, *, diff: bool) -> list[str]:
    """Return what a person is asked to agree to: each object, with `diff` also how it would differ; operators."""
    # Long diffs hid the question at the end; they are shown on request.
    diffs = diff_table(would.result) if diff else []
    noted = [*problem_lines(would.problems), *_noted(would.notes)]
    # Known since the export, and decisive here: the operators would be listed, and their pods could not start.
    lacking = [f"warning: {would.left_out}"] if would.left_out else []
    pulls = [f"would do a {would.would_pull}"] if would.would_pull else []
    nodes = [would.node_size.line] if would.node_size and would.node_size.changes else []
    objects = changes_table(would.result, done=False)
    return [*diffs, *noted, *objects, *nodes, *shown.affected(would.operators), *pulls, *lacking]


def diff_table(result: ApplyResult) -> list[str]:
    """Return how each changed object would differ."""
    return [line for change in result.changed for line in _shortened(change.diff)]


def operators_document(found: Survey) -> Document:
    """Return the JSON of `operators`."""
    refused = [found.refused] if found.refused else []
    return {"cluster": cluster_document(found.cluster), "operators": shown.document(found.rows), "unseen": refused}


def operators_table(found: Survey, compared: str = "") -> list[str]:
    """Return `operators` for people; `compared` as for `status_table`."""
    refused = [f"not seen: {found.refused}"] if found.refused else []
    return [f"{found.cluster}.", *_compared(compared), *shown.lines(found.rows), *refused]


def _shortened(diff: Sequence[str]) -> list[str]:
    more = len(diff) - _DIFF_SHOWN
    return [*map(Verbatim, diff[:_DIFF_SHOWN]), *([f"… {more} more lines; --format json has them all"] if more > 0 else [])]


# A dry run and a question say what would be done: the JSON has the same words for both.
_WOULD = {
    "created": "would create",
    "changed": "would change",
    "deleted": "would delete",
    "restored": "would restore",
    "refused": "would refuse",
}


def _said(action: str, *, done: bool) -> str:
    return action if done else _WOULD.get(action, action)


def changes_table(result: ApplyResult, *, done: bool = True) -> list[str]:
    """Return what became, or unless `done` would become, of each object."""
    rows = [("ACTION", "KIND", "NAME", "DETAIL")]
    rows += [
        (_said(c.action, done=done), c.kind, f"{c.namespace}/{c.name}" if c.namespace else c.name, c.detail)
        for c in result.changes
    ]
    return columns(rows)


def undo_document(done: UndoResult, *, dry_run: bool) -> Document:
    """Return the JSON of `undo`; `fields` are those that others have written."""
    objects = [
        {"outcome": one.outcome, "kind": one.kind, "name": one.name, "namespace": one.namespace, "fields": one.fields}
        for one in done.objects
    ]
    where = {"cluster": cluster_document(done.cluster), "archives": _archives(done.archives)}
    return {"done": not dry_run, **where, "objects": objects}


def _archives(imported: Sequence[ImportedArchive]) -> list[Document]:
    return [{"digest": one.digest, "name": one.name or None, "created": one.created or None} for one in imported]


def undo_table(done: UndoResult, place: Sequence[str] = (), *, dry_run: bool) -> list[str]:
    """Return `undo` for people; `place` as for `apply_table`."""
    refused = any(one.fields for one in done.objects)
    lines = [f"{done.cluster}.", *undone_rows(done, dry_run=dry_run)]
    if dry_run:
        lines += [would_undo(done), *unchanged()]
    if refused:
        # ADR 0027: a field with another manager is never reset, because its owner may depend on it.
        lines.append("What others changed stays as it is, and in the record: settle it by hand, then undo again.")
    if not dry_run:
        again = next_command("then", *same_command()) if refused else next_command("next", "hub-import", "operators", *place)
        lines += [f"{counted(len(done.changed), 'object')} changed back.", again]
    return lines


def undone_rows(done: UndoResult, *, dry_run: bool) -> list[str]:
    """Return the imports, and what became, or would become, of each object."""
    rows = [("OUTCOME", "KIND", "NAME", "FORMER VALUES OF", "CHANGED BY OTHERS SINCE")]
    rows += [
        (
            _said(one.outcome, done=not dry_run),
            one.kind,
            f"{one.namespace}/{one.name}".lstrip("/"),
            enumeration(one.former, _FIELDS_SHOWN),
            ", ".join(one.fields),
        )
        for one in done.objects
    ]
    # All of them: undo goes back to before the first, not before the last.
    archives = (
        ["undo goes back to before these imports:", *indented([each.label for each in done.archives])] if done.archives else []
    )
    return [*archives, *columns(rows)]


def would_undo(would: UndoResult) -> str:
    """Return which cluster would be changed back, how much, and what that does to its nodes: one line."""
    return changes_there(would.cluster, len(would.changed), would.drain)


def fixes_table(health: Health) -> list[str]:
    """Return what `doctor --fix` would do."""
    return [f"would fix {each.subject}: {each.cause}" for each in health.fixable]


def would_fix(health: Health) -> str:
    """Return which cluster would be changed, how much, and what that does to its nodes: one line."""
    return changes_there(health.cluster, len(health.fixable), health.drain)


def deploy_document(pushed: PushResult | None, applied: Applied | None, cluster: ClusterIdentity | None) -> Document:
    """Return the JSON of `deploy`: that of `push` unless it was a dry run, of `apply` unless the cluster was left alone."""
    return {
        "cluster": cluster_document(cluster),
        "push": push_document(pushed) if pushed else None,
        "apply": apply_document(applied) if applied else None,
    }


def deploy_table(
    pushed: PushResult | None, applied: Applied | None, place: Sequence[str] = (), *, taken: Measured | None = None
) -> list[str]:
    """Return `deploy` for people; `place` as for `apply_table`."""
    alone = "The cluster was left alone: the mirror does not have everything yet."
    last = apply_table(applied, place, taken=taken) if applied else [alone, next_command("then again", *same_command())]
    return paragraphs(push_table(pushed) if pushed else [], last)


def health_document(health: Health) -> Document:
    """Return the JSON of `status` and `doctor`."""
    lacking = sorted({pair for pairs in health.snapshot.missing_rules.values() for pair in pairs})
    return {
        "healthy": health.healthy,
        "release": str(health.snapshot.release) if health.snapshot.release else None,
        "cluster": cluster_document(health.cluster),
        "archives": _archives(health.archives),
        "catalogs": [
            *(_catalog_document(source) for source in health.snapshot.sources if source.is_managed),
            *(
                # OLM v1 lists no packages.
                {"name": each.name, "state": check.state, "packages": _counts(len(each.packages), None)}
                for each, check in health.in_olm_v1
            ),
            *({"name": each.name, "state": "absent", "packages": _counts(len(each.packages), 0)} for each in health.absent),
        ],
        "mirrors": {
            "expected": len({rule for each in health.expected for rule in each.rules}),
            "missing": [{"source": source, "mirror": mirror} for source, mirror in lacking],
        },
        "pools": [
            {
                "name": pool["metadata"]["name"],
                "state": "updated" if is_rolled_out(pool) else "updating",
                "progress": how_far(pool),
                "rulesMissing": health.missing_rules(pool),
            }
            for pool in health.snapshot.pools
        ],
        "installPlans": [
            {"namespace": each.namespace, "name": each.name, "phase": each.phase, "csvs": each.csvs, "message": each.failure}
            for each in current_plans(health.snapshot)
        ],
        "clusterServiceVersions": [_version_document(each) for each in unwell(health.snapshot)],
        "findings": [finding_document(each, fixed=each in health.fixed) for each in health.findings],
        "operators": shown.document(health.operators),
        "updates": [{**update_document(each), "obstacles": health.obstacles(each)} for each in health.snapshot.targets],
        "unseen": health.snapshot.unreadable,
    }


def _version_document(version: Version) -> Document:
    return {
        "namespace": version.namespace,
        "name": version.name,
        "phase": version.phase,
        "reason": version.reason,
        "message": version.message,
        "unmet": version.unmet,
    }


def status_table(health: Health, compared: str = "", place: Sequence[str] = ()) -> list[str]:
    """Return `status` for people; `compared`: the label of the archive that the cluster is compared with.

    `place` as for `apply_table`.
    """
    rows = [("WHAT", "STATE", "MORE")]
    managed = (source for source in health.snapshot.sources if source.is_managed)
    rows += [(f"CatalogSource {source.name}", source.state, _listed(source, health)) for source in managed]
    rows += [(check.subject, check.state, check.evidence) for _, check in health.in_olm_v1]
    rows += [(f"{_kind_of(health)} {each.name}", "absent", "") for each in health.absent]
    # `apply --catalogs-only` records none.
    ruled = any(each.rules for each in health.expected) or any(each.release.rules for each in health.snapshot.targets)
    for pool in health.snapshot.pools:
        lacks = health.missing_rules(pool)
        in_place = "mirror rules in place" if ruled else "which mirror rules they need is not known"
        more = f"{counted(lacks, 'mirror rule')} missing" if lacks else in_place
        paused = ", paused" if is_paused(pool) else ""
        rows.append((f"MachineConfigPool {pool['metadata']['name']}", f"{how_far(pool)}{paused}", more))
    rows += _operator_rows(health)
    for update in health.snapshot.targets:
        found = health.obstacles(update)
        state = f"not yet: {', '.join(found)}" if found else "possible"
        rows.append((f"update to {update.release.name}", state, update.advice))
    imported = [f"last import: {health.archives[-1].label}"] if health.archives else []
    first = [f"{health.cluster}.", *imported, *_compared(compared)]
    return [*first, *columns(rows), *shown.affected(health.operators), *_verdict(health, place)]


def _kind_of(health: Health) -> str:
    return "CatalogSource" if health.snapshot.classic else "ClusterCatalog"


def _compared(label: str) -> list[str]:
    return [f"compared with: {label}"] if label else []


def _listed(source: SourceState, health: Health) -> str:
    if source.packages is not None:
        return source.packages.text
    if source.expected is None:
        return "what it should list is not known"
    release = health.cluster.release
    return "what it lists cannot be read" if release is None or release.lists_packages else "MicroShift lists no packages"


def _operator_rows(health: Health) -> list[tuple[str, str, str]]:
    """Return the InstallPlans and ClusterServiceVersions that are pending or have failed."""
    plans = [
        (
            f"InstallPlan {each.namespace}/{each.name}",
            "waits for approval" if each.phase == REQUIRES_APPROVAL else each.phase or "no phase yet",
            each.failure or enumeration(each.csvs, _CSVS_SHOWN),
        )
        for each in current_plans(health.snapshot)
    ]
    versions = [
        (f"ClusterServiceVersion {each.namespace}/{each.name}", each.phase or "no phase yet", each.said)
        for each in unwell(health.snapshot)
    ]
    return [*plans, *versions]


def _verdict(health: Health, place: Sequence[str]) -> list[str]:
    if health.healthy:
        unseen = next((each for each in health.findings if each.code == UNSEEN_RULES), None)
        known = f"healthy, as far as is known: {_compare(health.unrecorded)}" if health.unrecorded else "healthy"
        return [f"{known}; {unseen.cause}" if unseen else known]
    if health.rolling and not health.findings:
        return [f"not settled: the nodes of {', '.join(health.rolling)} are taking over their configuration"]
    found = f"not healthy: {counted(len(health.findings), 'finding')}"
    return [found, next_command("causes and fixes", "hub-import", "doctor", *place)]


def _compare(names: Sequence[str]) -> str:
    # After `render`, or with a record that was deleted.
    return f"no import recorded what {enumeration(names, _CSVS_SHOWN)} should list; hub-import status ARCHIVE compares with it"


def doctor_table(health: Health, place: Sequence[str] = ()) -> list[str]:
    """Return `doctor` for people; `place` as for `apply_table`."""
    left = [finding for finding in health.findings if finding not in health.fixed]
    lines = [f"{health.cluster}.", *findings_lines(left), *(f"fixed: {each.subject}: {each.cause}" for each in health.fixed)]
    lines += [f"absent: {_kind_of(health)} {each.name}; hub-import apply brings it back" for each in health.absent]
    lines += [f"not seen: {each}" for each in health.snapshot.unreadable]
    if not health.findings and not health.absent:
        lines.append("Nothing is wrong, as far as can be seen.")
    if health.rolling:
        lines.append(f"under way: the nodes of {', '.join(health.rolling)} are taking over their configuration")
    if any(finding.fixable for finding in left):
        lines.append("hub-import doctor --fix fixes: " + ", ".join(each.code for each in left if each.fixable))
    if health.fixed:
        lines.append("The effect of a fix takes a minute or two.")
    return [*lines, *_after_doctor(health, left, place)]


def _after_doctor(health: Health, left: Sequence[Finding], place: Sequence[str]) -> list[str]:
    if health.fixed or (health.rolling and not left):
        return [next_command("next", "hub-import", "status", *place)]
    if any(finding.fixable for finding in left):
        return [next_command("next", *same_command(without=["--fix"], more=["--fix"]))]
    return [next_command("after the fixes", *same_command())] if left else []


def _catalog_document(source: SourceState) -> Document:
    expected = len(source.expected.packages) if source.expected else None
    listed = source.listed
    return {"name": source.name, "state": source.state, "packages": _counts(expected, listed, source.missing)}


def _counts(expected: int | None, listed: int | None, missing: Sequence[str] = ()) -> Document:
    return {"expected": expected, "listed": listed, "missing": list(missing)}


# The wait as a live table on a terminal: one row for each thing, what it is doing, since when, and what happens next.

_REFRESHES_PER_S = 4


class LiveTable:
    """Draws rows over each other; causes that are found stay above the table. What it shows is never read as markup."""

    def __init__(self, file: TextIO) -> None:
        self._console = Console(file=file, markup=False, highlight=False)
        self._live: Live | None = None

    def rows(self, rows: Sequence[Row], now_s: float) -> None:
        """Draw everything as it is now."""
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=_REFRESHES_PER_S, transient=False)
            self._live.start()
        self._live.update(_table(rows, now_s, *self._console.size), refresh=True)

    def finding(self, finding: Finding) -> None:
        """Show a cause above the table."""
        self._console.print(Text(finding.text, style="yellow"))

    def end(self) -> None:
        """Leave the last table on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _table(rows: Sequence[Row], now_s: float, width: int, height: int) -> Text:
    """Return the rows as they fit the terminal, by the layout of all tables: rich would break long names inside."""
    rows_shown = [("WAITING FOR", "STATE", "SINCE", "LAST SEEN", "NEXT")]
    for row in rows:
        check = row.check
        seen = check.evidence or (f"before: {row.before.state}" if row.before else "")
        since = clock_text(now_s - row.since_s)
        rows_shown.append((check.subject, check.state, since, seen, "done" if check.ok else check.next_step))
    # What does not fit a low terminal is cut at its foot: columns for patience give way to rows.
    lines: list[list[str]] = []
    for kept in (5, 4, 3, 2):
        lines = [fitted([line], width) for line in columns([row[:kept] for row in rows_shown])]
        if sum(map(len, lines)) < height:
            break
    shown = Text(f"waiting for the cluster, {clock_text(now_s)}")
    for number, line in enumerate(lines):
        text = Text("\n" + "\n".join(line))
        if number:
            check = rows[number - 1].check
            text.highlight_words([visible(check.state)], "green" if check.ok else "yellow")
        shown.append_text(text)
    return shown
