"""Checks of a plan: problems that stop it, and installed operators that it would leave without an update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common import supported_releases
from common.archive.inventory import Problem, ProblemCode
from common.errors import ProblemsError, RegistryError
from common.text import counted
from common.version import Key, OlmRange, Version, try_parse
from exporter.catalog.model import Catalog, Channel, ChannelEntry, Package
from exporter.plan import mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from common.archive.inventory import PackageRecord
    from common.target_profile import InstalledOperator, TargetProfile
    from exporter.catalog.steps import Chosen
    from exporter.plan.plan import ExportPlan


_SHOWN = 20  # problems that an error lists: one screen; `hub-export plan` lists all


def check(plan: ExportPlan, *, strict: bool) -> None:
    """Raise ProblemsError, UsageError or RegistryError for a plan that must not, or cannot, be carried out."""
    mapping.find(plan)  # again: a plan may come from a file that an earlier version wrote
    if strict:
        require_none(plan.problems)
    _require_signed(plan.problems)
    _require_content(plan)


def _require_signed(problems: Sequence[Problem]) -> None:
    # All of them in one error, so that one run is enough to correct the image set.
    missing = [problem for problem in problems if problem.code is ProblemCode.SIGNATURE_MISSING]
    if missing:
        raise ProblemsError(
            f"{counted(len(missing), 'image')} without a signature, and --signatures require was given:",
            details=[f"{problem.subject}: {problem.message}" for problem in missing[:_SHOWN]],
            hint="Leave them out with blockedImages, or say --signatures carry.",
        )


def _require_content(plan: ExportPlan) -> None:
    """Raise RegistryError when none of the images could be resolved: an empty archive would look like a success."""
    if plan.images and not plan.documents:
        sources, many = {image.source for image in plan.images}, len(plan.images)
        first = next((problem for problem in plan.problems if problem.subject in sources), plan.problems[0])
        lead = f"none of the {many} images can be fetched; the first: " if many > 1 else ""
        hint = f"Nothing was written. What {first.code} means: docs/problems.md; hub-export plan lists all."
        raise RegistryError(f"{lead}{first.subject}: {first.message}", hint=hint)


def require_none(problems: Sequence[Problem]) -> None:
    """Raise the error that `--strict` makes of problems: all but notes, which say what the image set allows."""
    serious = [problem for problem in problems if problem.code is not ProblemCode.PACKAGE_ABSENT]
    if serious:
        details = [f"{p.severity}: {p.subject}: {p.message}" for p in serious[:_SHOWN]]
        raise ProblemsError(f"{len(serious)} problems, and --strict was given:", details=details)


def unsupported(packages: Iterable[PackageRecord], release: tuple[int, int] | None) -> list[Problem]:
    """Return a warning for each package with heads that are not for the release of the cluster."""
    found = supported_releases.unsupported(packages, release) if release is not None else ()
    return [Problem("warning", ProblemCode.RELEASE_UNSUPPORTED, name, message) for name, message in found]


# Operators of a target profile that could not be updated from a selection.
#
# An operator can be updated when the channel of its Subscription is kept, and the installed version is an entry of it, or one
# replaces it, skips it, or has its version in `skipRange` (OLM, *Creating an update graph*).

Offered = tuple[Catalog, Catalog]  # a whole catalog, and the kept part


def stranded(offered: Iterable[Offered], operators: Iterable[InstalledOperator]) -> list[Problem]:
    """Return a warning for each installed operator of a catalog that its kept part cannot update."""
    # Operators that none of the catalogs has come from other catalogs of the cluster.
    catalogs = list(offered)
    return [problem for operator in operators for problem in _problems(catalogs, operator)]


def left_behind(chosen: Iterable[Chosen], target: TargetProfile | None) -> list[Problem]:
    """Return a warning for each operator of the target cluster that could not be updated from the selections."""
    operators = target.operators if target else None
    return stranded([(item.opened.catalog, item.selection.catalog) for item in chosen], operators or ())


def _problems(catalogs: list[Offered], operator: InstalledOperator) -> Iterator[Problem]:
    having = [(whole, kept) for whole, kept in catalogs if operator.package in whole.packages]
    if not having:
        return
    reasons = [
        _reason(whole.packages[operator.package], kept.packages.get(operator.package), operator) for whole, kept in having
    ]
    # One catalog with an update is enough: its package may be in several.
    if all(reasons):
        version = f" {operator.version}" if operator.version else f" ({operator.csv})"
        message = f"{operator.package}{version} is installed in {operator.namespace}, and {reasons[0]}"
        yield Problem("warning", ProblemCode.OPERATOR_STRANDED, operator.package, message)


def _reason(whole: Package, kept: Package | None, operator: InstalledOperator) -> str:
    """Return why an operator cannot be updated, and what to add; empty when it can."""
    if kept is None:
        return "its package is not carried: add it"
    # A Subscription without a channel follows the default one.
    name = operator.channel or kept.default_channel
    channel = kept.channels.get(name)
    if channel is None:
        there = "add it" if name in whole.channels else "the catalog no longer has it: choose another in its Subscription"
        return f"channel {name}, which it follows, is not carried: {there}"
    if _updates(channel, operator):
        return ""
    before = whole.channels.get(name)
    if before is not None and (updates := _updates(before, operator)):
        wanted = _range_to_add(_versions(whole, updates), _versions(kept, channel.entries), operator)
        return f"no version of channel {name} that is carried updates it: {wanted}"
    return f"channel {name} has no update for it: its publisher has removed the way to the head"


def _range_to_add(updates: list[Version], carried: list[Version], operator: InstalledOperator) -> str:
    """Return the range to request: from the installed version to the head."""
    installed = try_parse(operator.version or "")
    if installed is None:
        return "add all its versions"
    if carried and all(version.key < installed.key for version in carried):
        return f"raise maxVersion to {installed}"
    # A rebuild that updates the installed version may sort below it (1.0.1-1 replaces 1.0.1).
    lowest = min([installed, *([max(updates, key=_key)] if updates else [])], key=_key)
    return f"add minVersion {lowest}"


def _versions(package: Package, entries: Iterable[ChannelEntry]) -> list[Version]:
    bundles = (package.bundles.get(entry.name) for entry in entries)
    return [bundle.version for bundle in bundles if bundle is not None and bundle.version is not None]


def _key(version: Version) -> Key:
    return version.key


def _updates(channel: Channel, operator: InstalledOperator) -> list[ChannelEntry]:
    """Return the entries that are installed or update the installed version. From each of them there is a way to the head."""
    version = try_parse(operator.version or "")
    return [entry for entry in channel.entries if _is_update(entry, operator.csv, version)]


def _is_update(entry: ChannelEntry, csv: str, version: Version | None) -> bool:
    """Return whether an entry is the installed version or updates it."""
    if csv in {entry.name, entry.replaces, *entry.skips}:
        return True
    if version is None or not entry.skip_range:
        return False
    # An invalid range matches nothing, as for OLM, and is a problem of its bundle already.
    try:
        return OlmRange.parse(entry.skip_range).contains(version)
    except ValueError:
        return False
