"""What OLM installs next to an operator because it requires it, and whether a catalog has it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.version import OlmRange, parse
from importer.cluster.finding import Finding, Severity
from importer.install.groups import conflicting, lacking_mode, mode_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.archive.inventory import RequiredPackageRecord
    from importer.install.offers import Chosen, Offered
    from importer.install.placing import Placement, Surroundings

MISSING = "dependency-missing"


def requirements(placements: Sequence[Placement], offered: Sequence[Offered], around: Surroundings) -> Iterator[Finding]:
    """Yield warnings about what operators require: what nothing has, what OLM installs too, and what keeps it from that."""
    wanted = {each.chosen.package for each in placements}
    for each in placements:
        missing, brought = _needs(each, offered, around)
        if missing:
            yield _missing(each.chosen, missing)
        if further := sorted(brought - wanted):
            yield _further(each.chosen, further)
        blocked = [why for name in further if (why := _blocked(name, each, offered, around))]
        if blocked:
            yield _not_installable(each, blocked)


def _needs(placed: Placement, offered: Sequence[Offered], around: Surroundings) -> tuple[list[str], set[str]]:
    """Return what an operator requires and nothing has, and the packages that OLM installs next to it."""
    one = placed.chosen
    # What is in other namespaces does not count: the resolver sees the original ClusterServiceVersions of one namespace, and
    # catalogs (operator-lifecycle-manager, pkg/controller/registry/resolver/source_csvs.go).
    here = {each.package for each in around.subscriptions if each.namespace == placed.namespace}
    provided = {api for each in around.groups_in(placed.namespace) for api in each.provided}
    missing, brought = [], set[str]()
    for wanted in one.channel.required_packages:
        if wanted.package in here:
            continue
        if any(_satisfies(each, wanted) for each in offered):
            brought.add(wanted.package)
        else:
            missing.append(f"package {wanted.package} {wanted.range}".strip())
    for api in one.channel.required_apis:
        providers = {each.package.name for each in offered if api in _apis(each)}
        if api in provided or one.package in providers or providers & here:
            continue
        if providers:
            brought.add(min(providers))
        else:
            missing.append(f"API {api}")
    return missing, brought


def _apis(offered: Offered) -> set[str]:
    return {api for channel in offered.package.channels for api in channel.provided_apis}


def _blocked(name: str, placed: Placement, offered: Sequence[Offered], around: Surroundings) -> str:
    """Return why OLM cannot run a required package next to an operator; empty where it can, or where that is not known."""
    # OLM takes any channel that fits, so only what holds for the heads of all of them is said.
    heads = [channel for each in offered if each.package.name == name for channel in each.package.channels]
    targets = placed.group.targets
    if targets and all(each.install_modes and lacking_mode(each.install_modes, placed.namespace, targets) for each in heads):
        return f"{name} does not support {mode_of(placed.namespace, targets)}"
    others = [each for each in around.groups if each.namespace != placed.namespace]
    found = [conflicting(placed.group, each.provided_apis, others) for each in heads]
    if found and all(found) and found[0] is not None:
        return f"{name} provides APIs of an operator of {found[0][0]} already"
    return ""


def _satisfies(offered: Offered, wanted: RequiredPackageRecord) -> bool:
    """Return whether a catalog has a version of a package in a range; a range that cannot be read excludes none."""
    if offered.package.name != wanted.package:
        return False
    if not wanted.range:
        return True
    try:
        wide = OlmRange.parse(wanted.range)
    except ValueError:
        return True
    versions = (one.version for channel in offered.package.channels for one in channel.bundles)
    return any(_is_in(wide, version) for version in versions)


def _is_in(wide: OlmRange, version: str | None) -> bool:
    try:
        return version is None or wide.contains(parse(version))
    except ValueError:
        return False


def _missing(one: Chosen, missing: Sequence[str]) -> Finding:
    return Finding(
        MISSING,
        str(one),
        "it requires what no catalog has: OLM does not resolve it until the cluster has that",
        tuple(missing),
        "Export the packages (hub-export create takes requirements along unless --skip-dependencies), and import the archive.",
        severity=Severity.WARNING,
    )


def _further(one: Chosen, further: Sequence[str]) -> Finding:
    return Finding(
        "dependency-installed",
        str(one),
        "OLM installs what it requires next to it, with Subscriptions of its own, which undo leaves",
        tuple(further),
        "Nothing, if that is meant.",
        severity=Severity.WARNING,
    )


def _not_installable(placed: Placement, why: Sequence[str]) -> Finding:
    return Finding(
        "dependency-blocked",
        str(placed.chosen),
        f"OLM installs what it requires in namespace {placed.namespace} too, where {placed.group} does not let that run",
        tuple(why),
        "Choose a namespace whose OperatorGroup fits both: --namespace, --install-mode, --watch.",
        severity=Severity.WARNING,
    )
