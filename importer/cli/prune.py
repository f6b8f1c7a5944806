"""The command `prune`: what of a mirror no archive, cluster or stranger needs, as a plan, and its deletion."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.cli.options import Key, OutputOptions, RegistryOptions, command
from common.errors import ExitCode, UsageError
from common.files import size_text
from common.table import columns
from common.text import counted, enumeration, paragraphs, shortened
from importer.cli.agreement import confirmed
from importer.cli.options import CLUSTER, Context, KeepSourceHost, MaxPathComponents, ReleaseLayout, require_no_cluster

if TYPE_CHECKING:
    from common.archive.signature import Verifier
    from common.progress import Progress
    from importer.prune.delete import PruneResult
    from importer.prune.plan import PrunePlan, UnusedCatalog
    from importer.prune.run import PruneRequest


_SHOWN = 20  # rows of a table, and lines of a result; JSON has all
_NAMED = 3  # clusters


@dataclass(frozen=True, slots=True)
class KeepOptions:
    """What is kept, for a new plan; and where it goes."""

    registry: Annotated[
        str | None,
        typer.Option("--registry", metavar="HOST[:PORT][/PREFIX]", help="The mirror, as archives were pushed to it."),
    ] = None
    keep_last: Annotated[
        int | None,
        typer.Option("--keep-last", min=1, metavar="N", help="Keep the newest N archives of each catalog; default 1."),
    ] = None
    keep: Annotated[
        list[str],
        typer.Option(
            "--keep",
            metavar="ARCHIVE",
            help="Keep this archive: a directory, or name or digest of one that the mirror remembers; repeatable.",
        ),
    ] = field(default_factory=list)
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Where the plan goes, for --plan.")] = None
    accept_unrecorded: Annotated[
        bool,
        typer.Option("--accept-unrecorded", help="Go by the records, although there are archives without one."),
    ] = False
    max_path_components: MaxPathComponents = None
    keep_source_host: KeepSourceHost = False
    release_layout: ReleaseLayout = "openshift"

    @property
    def given(self) -> bool:
        """Whether any of them was given."""
        # `keep_last` is None, and not 1, without the option: `--keep-last 1` with a plan that has 3 is seen, too.
        return self != KeepOptions()


@dataclass(frozen=True, slots=True)
class ClusterChoice:
    """The clusters that pull from the mirror."""

    kubeconfig: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE",
            help="A cluster that pulls from the mirror; repeatable. Without it, $KUBECONFIG or ~/.kube/config.",
            rich_help_panel=CLUSTER,
        ),
    ] = field(default_factory=list)
    context: Context = None
    no_cluster: Annotated[
        bool,
        typer.Option("--no-cluster", help="Ask no cluster: what runs counts for nothing.", rich_help_panel=CLUSTER),
    ] = False

    def clusters(self) -> tuple[Path | None, ...]:
        """Return the kubeconfig of each cluster, None for the usual one. Raises UsageError."""
        if self.no_cluster:
            require_no_cluster(self.kubeconfig, self.context)
            return ()
        # Never without a cluster by omission: a forgotten option must not make all that runs needless.
        return tuple(self.kubeconfig) or (None,)


def prune(
    what: KeepOptions,
    cluster: ClusterChoice,
    registry: RegistryOptions,
    output: OutputOptions,
    key: Key = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Delete what this plan has; - is standard input.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the first deletion.")] = False,
) -> ExitCode:
    """Clean the mirror: plan what nothing needs any more, and with --plan delete it.

    Kept is what the newest archives of each catalog need, what clusters run, have installed or serve, and everything that no
    archive brought.
    """
    from common.archive.signature import Verifier

    progress = output.begin()
    verifier = Verifier.load(key) if key is not None else None
    if plan is None:
        return _plan(what, cluster, registry, output, verifier, progress)
    if what.given:
        raise UsageError("--plan with options of a new plan", hint="A plan has them; give clusters and credentials alone.")
    return _execute(plan, cluster, registry, output, verifier, progress, yes=yes)


def _plan(
    what: KeepOptions,
    cluster: ClusterChoice,
    registry: RegistryOptions,
    output: OutputOptions,
    key: Verifier | None,
    progress: Progress,
) -> ExitCode:
    from importer import workflow
    from importer.prune.plan import encode
    from importer.prune.run import prune_plan

    made = prune_plan(_request(what, cluster, registry, key), progress)
    if what.output is not None:
        workflow.write_file(what.output, encode(made))
    output.emit(made, lambda: [*plan_table(made, what.output), *_without_file(made, what.output)])
    return ExitCode.DONE


def _without_file(plan: PrunePlan, file: Path | None) -> list[str]:
    return ["", "nothing was deleted; with --output FILE this is a plan that can be"] if plan.deletions and file is None else []


def _request(what: KeepOptions, cluster: ClusterChoice, registry: RegistryOptions, key: Verifier | None) -> PruneRequest:
    from common.archive.location import parse
    from common.archive.reader import Archive
    from common.mapping import Mirror
    from importer.prune.run import PruneRequest

    if what.registry is None:
        raise UsageError("no mirror is named", hint="Give --registry HOST/PREFIX for a plan, or --plan FILE to delete.")
    mirror = Mirror.parse(
        what.registry,
        max_path_components=what.max_path_components,
        keep_source_host=what.keep_source_host,
        releases_by_source=what.release_layout == "source",
    )
    # What is here is read, and taken up if it has no record; anything else is a name or a digest among the records.
    here = [each for each in what.keep if each.startswith("s3://") or Path(each).exists()]
    archives = tuple(Archive.open([parse(each)], key) for each in here)
    return PruneRequest(
        mirror,
        registry.settings(),
        registry.jobs,
        what.keep_last or 1,
        archives,
        tuple(each for each in what.keep if each not in here),
        cluster.clusters(),
        cluster.context,
        key,
        what.accept_unrecorded,
    )


def _execute(
    file: Path,
    cluster: ClusterChoice,
    registry: RegistryOptions,
    output: OutputOptions,
    key: Verifier | None,
    progress: Progress,
    *,
    yes: bool,
) -> ExitCode:
    from common.mapping import Mirror
    from importer.configure.asking import NotAgreedError
    from importer.prune.delete import execute
    from importer.prune.plan import load
    from importer.prune.run import PruneRequest

    plan = load(file)
    # Paths and archives are in the records by now, and what was kept by name is in the plan as digests.
    request = PruneRequest(
        Mirror.parse(plan.registry),
        registry.settings(),
        registry.jobs,
        plan.keep_last,
        (),
        plan.named,
        cluster.clusters(),
        cluster.context,
        key,
        plan.accept_unrecorded,
    )
    # Before the survey, which may take minutes: what it finds can only make the deletion smaller. Nothing to delete is nothing
    # to ask: a script without --yes, whose plan is empty this week, has to end well.
    if (plan.deletions or plan.records or plan.lists) and not _agreed(plan, yes=yes):
        raise NotAgreedError(f"nothing was deleted from {plan.registry}", more="")
    result = execute(plan, request, progress)
    output.emit(result_document(result), lambda: result_table(result))
    return result.exit_code


def _agreed(plan: PrunePlan, *, yes: bool) -> bool:
    """Show what would be deleted, and ask, unless the answer was given as `yes`. Raises UsageError without a terminal."""
    refusal = UsageError(
        f"nothing was deleted from {plan.registry}: confirmation needs a terminal", hint="Pass --yes to agree without one."
    )
    # What is left of a run that was interrupted may be records alone.
    records = f" and {counted(len(plan.records), 'record')}" if plan.records else ""
    question = f"Delete {counted(len(plan.deletions), 'manifest')}{records} from {plan.registry}?"
    return confirmed(plan_table(plan, None), question, refusal, yes=yes)


def plan_table(plan: PrunePlan, file: Path | None) -> list[str]:
    """Return a plan for people: what goes, by operator, what stays and why, and what is next."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in plan.deletions:
        # Under the first of its operators: a manifest of several would be counted, and its bytes, several times.
        user = _operator(one.needed_by[0]) if one.needed_by else one.repository
        sums[user][0] += 1
        sums[user][1] += one.bytes
    rows = [("DELETED", "MANIFESTS", "SIZE")]
    rows += [(user, str(count), size_text(size)) for user, (count, size) in sorted(sums.items())]
    reasons: defaultdict[str, int] = defaultdict(int)
    for kept in plan.kept:
        reasons[kept.why] += 1
    archives = [("ARCHIVE", "NAME", "MADE", "KEPT")]
    archives += [(one.digest[7:19], one.name, one.created, one.kept or "no") for one in plan.archives]
    # Most images first: the reasons of single pods are what is cut off.
    often = sorted(reasons.items(), key=lambda one: -one[1])
    stays = [f"{counted(count, 'image stays', 'images stay')}: {why}" for why, count in often]
    repositories = len({one.repository for one in plan.deletions})
    where = f"{counted(repositories, 'repository', 'repositories')} of {plan.registry}"
    total = f"{counted(len(plan.deletions), 'manifest')} in {where}: up to {size_text(plan.bytes)} become free"
    asked = f"asked: {enumeration(plan.clusters, _NAMED)}" if plan.clusters else "no cluster was asked (--no-cluster)"
    return paragraphs(
        columns(archives),
        shortened(columns(rows), _SHOWN + 1, " operators (--format json lists all)") if plan.deletions else [],
        shortened(stays, _SHOWN, " reasons (--format json lists all)"),
        list(map(_catalog_line, plan.unused_catalogs)),
        [asked, total if plan.deletions else _nothing(plan)],
        [f"{file}: hub-import prune --plan {file} deletes it"] if file is not None and (plan.deletions or plan.records) else [],
    )


def _operator(user: str) -> str:
    """Return an operator without its package, which a terminal has no room for: what would be cut is the version at the end."""
    catalog, *package, version = user.split("/")
    # The source of an image, which no operator needs, has a tag or a digest.
    return f"{catalog}/{version}" if len(package) == 1 and ":" not in user else user


def _nothing(plan: PrunePlan) -> str:
    # A run that was interrupted after its last manifest leaves records alone.
    left = f", but {counted(len(plan.records), 'record')} of archives that are gone" if plan.records else ""
    return f"nothing of {plan.registry} is needless{left}"


def _catalog_line(one: UnusedCatalog) -> str:
    whose = "no operator is installed from it" if one.own else "it is of oc-mirror"
    return f"{one.kind} {one.name} of {one.cluster}: {whose}; to remove it: {one.command}"


def result_document(result: PruneResult) -> dict[str, Any]:
    """Return the JSON of `prune --plan`."""
    return {
        "ok": result.exit_code is ExitCode.DONE,
        "registry": result.registry,
        "deleted": [{"repository": one.repository, "digest": one.digest} for one in result.deleted],
        "gone": result.gone,
        "bytes": result.bytes,
        "spared": [{"repository": one.repository, "digest": one.digest, "why": one.why} for one in result.spared],
        "refused": [{"repository": one.repository, "digest": one.digest, "why": one.why} for one in result.refused],
        "records": result.records,
        "space": result.space,
    }


def result_table(result: PruneResult) -> list[str]:
    """Return the result of `prune --plan` for people."""
    gone = f", {result.gone} were gone already" if result.gone else ""
    lines = [f"kept: {one.repository}@{one.digest}: {one.why}" for one in result.spared]
    lines += [f"refused: {one.repository}@{one.digest}: {one.why}" for one in result.refused]
    deleted = f"{counted(len(result.deleted), 'manifest')} deleted from {result.registry}{gone}"
    return [
        *shortened(lines, _SHOWN, " more (--format json lists all)"),
        f"{deleted}; {size_text(result.bytes)} become free",
        *(f"the space: {line}" for line in result.space),
    ]


def add_prune(app: typer.Typer) -> None:
    """Add the command `prune`."""
    command(app)(prune)
