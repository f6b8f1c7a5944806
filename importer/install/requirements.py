"""What OLM installs next to an operator because it requires it, and whether a catalog has it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.version import OlmRange, parse
from importer.cluster.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.archive.inventory import RequiredPackageRecord
    from importer.install.offers import Chosen, Offered
    from importer.install.placing import Surroundings

MISSING = "dependency-missing"


def requirements(chosen: Sequence[Chosen], offered: Sequence[Offered], around: Surroundings) -> Iterator[Finding]:
    """Yield a warning for what operators require and neither a catalog nor the cluster has; one for what OLM installs too."""
    provided = {api for each in around.groups for api in each.provided}
    for one in chosen:
        missing, brought = [], set[str]()
        for wanted in one.channel.required_packages:
            # What a catalog has, OLM takes from it; an operator that is subscribed to is there.
            if any(_satisfies(each, wanted) for each in offered):
                brought.add(wanted.package)
            elif not any(each.package == wanted.package for each in around.subscriptions):
                missing.append(f"package {wanted.package} {wanted.range}".strip())
        for api in one.channel.required_apis:
            providers = {each.package.name for each in offered if any(api in c.provided_apis for c in each.package.channels)}
            if not providers and api not in provided:
                missing.append(f"API {api}")
            elif one.package not in providers and api not in provided:
                brought.add(min(providers))
        if missing:
            yield _missing(one, missing)
        if further := sorted(brought - {each.package for each in chosen}):
            yield _further(one, further)


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
