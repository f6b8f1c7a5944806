"""The operators that an archive lists for installation, as part of its import (ADR 0079)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from common.text import counted, enumeration
from importer.cluster.apply import ApplyResult
from importer.cluster.finding import Finding, Severity
from importer.cluster.resources.catalog_source import namespace_for
from importer.configure.running import carry_out, outcomes, refused, rehearse, watch
from importer.install.offers import of_packages
from importer.install.planning import plan
from importer.install.wanted import How, Wanted
from importer.install.writing import Installation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.archive.reader import Archive
    from importer.cluster.api.client import ClusterClient
    from importer.cluster.release import Release
    from importer.cluster.resources.build import Built
    from importer.cluster.resources.permissions import Permission
    from importer.cluster.writing import Change
    from importer.configure.running import Asking, Outcome
    from importer.install.offers import Offered
    from importer.settings import ClusterSettings

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ListedPlan:
    """What becomes of the operators that an archive lists for installation, as part of its import."""

    client: ClusterClient
    release: Release | None
    installation: Installation = field(default_factory=Installation)
    findings: tuple[Finding, ...] = ()

    @property
    def _possible(self) -> bool:
        # With an error nothing is written: the preflight refuses the whole import for it.
        return bool(self.installation.packages) and not any(each.severity is Severity.ERROR for each in self.findings)

    def foresee(self) -> tuple[Change, ...]:
        """Return what would change. Raises ClusterError."""
        if not self._possible:
            return ()
        return rehearse(self.client, self.release, self.installation).changes

    def carry_out(self, asking: Asking, timeout_s: float) -> tuple[ApplyResult, tuple[Outcome, ...]]:
        """Install the operators, once the catalogs are served, and wait until they run. Raises ClusterError."""
        if not self._possible:
            return ApplyResult(()), ()
        result = carry_out(self.client, self.release, self.installation, asking.tell)
        progress = watch(self.client, self.release, self.installation, asking, timeout_s=timeout_s)
        return result, outcomes(progress)


def plan_listed(client: ClusterClient, release: Release | None, names: Sequence[str], offers: Sequence[Offered]) -> ListedPlan:
    """Return the plan for the operators that an archive lists; `offers` are those of its catalogs. Raises ClusterError."""
    if not names:
        return ListedPlan(client, release)
    if release is not None and not release.classic:
        return ListedPlan(client, release, findings=(_leavable(_without_classic(names)),))
    # What is read comes first. A 403 would end the import of an account that may do all of it but install.
    if lacking := refused(client, release, Installation()):
        return ListedPlan(client, release, findings=(_not_allowed(lacking),))
    # The file of an image set says no version: the archive carries the heads that it was asked for.
    installation, found = plan(client, release, [Wanted(each) for each in names], How(), offers)
    findings = [_leavable(each) for each in found]
    if lacking := refused(client, release, installation):
        findings.append(_not_allowed(lacking))
    return ListedPlan(client, release, installation, tuple(findings))


def listed_of(
    client: ClusterClient, archive: Archive, built: Built, release: Release | None, cluster: ClusterSettings
) -> ListedPlan:
    """Return the plan for the operators that the archive lists for installation. Raises ClusterError."""
    place = namespace_for(release)
    offered = [each for named in built.served for each in of_packages(named.catalog.packages, (place, named.name))]
    return plan_listed(client, release, archive.inventory.installs if cluster.installs else (), offered)


def _without_classic(names: Sequence[str]) -> Finding:
    # OLM v1 would need an account that may do everything, which a person has to want.
    cause = "the archive lists them for installation by Subscription, and the cluster has no OLM (Classic)"
    fix = f"hub-import install {' '.join(names)} --olm v1 installs them, after the import."
    return Finding("olm-classic-absent", f"operators {enumeration(list(names), _SHOWN)}", cause, (), fix)


def _not_allowed(lacking: Sequence[Permission]) -> Finding:
    what = "to install operators"
    cause = f"{counted(len(lacking), f'permission {what} is', f'permissions {what} are')} missing"
    fix = "An administrator grants exactly these, or give --no-install."
    return Finding("not-allowed", "permissions", cause, tuple(map(str, lacking)), fix)


def _leavable(finding: Finding) -> Finding:
    """Return a finding with the way to import without installing."""
    more = " --no-install imports without installing." if finding.severity is Severity.ERROR else ""
    return replace(finding, fix=f"{finding.fix}{more}")
