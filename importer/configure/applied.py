"""The outcome of an apply: what the cluster gets or would get, what is said of it, the exit code and the last line. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ExitCode, of_problems
from common.text import enumeration
from importer.cluster.kinds import CATALOG_SOURCE, CLUSTER_CATALOG
from importer.cluster.nodes import RULES_MISSING, UNSEEN_RULES
from importer.operators.settling import NOT_WELL

if TYPE_CHECKING:
    from common.archive.inventory import Problem
    from importer.cluster.api.discovery import ClusterIdentity
    from importer.cluster.apply import ApplyResult
    from importer.cluster.finding import Finding
    from importer.cluster.resources.node_configuration import NodeSize
    from importer.cluster.updates.outlook import Update
    from importer.configure.running import Outcome
    from importer.operators.table import Row
    from importer.pulls.verdicts import PullTest

_NAMED = 5  # operators named in the last line


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome for the cluster's objects: done, or foreseen unless `done`.

    `findings`: of the preflight; `problems`: resources that cannot be made; `cluster`: its identity;
    `drain`: the effect of the changed configuration on nodes, as text; empty where it is not known.
    `operators`: what becomes of each operator of the cluster; `operators_after` None: they were not read again.
    `notes`: the steps left to the administrator; `updates`: the releases that the cluster can go to. `packages`: the operators
    in the catalogs of the archive. `installed`: what became of those that the archive lists for installation.
    `left_out`: the images that it lacks, as text; empty where it lacks none.
    `would_pull`: what a pull test would create, as text; `pulls`: its verdicts. `node_size`: of the mirror rules on the nodes,
    where objects have these.
    """

    result: ApplyResult
    problems: tuple[Problem, ...]
    done: bool
    cluster: ClusterIdentity
    findings: tuple[Finding, ...] = ()
    drain: str = ""
    operators: tuple[Row, ...] = ()
    operators_after: tuple[Row, ...] | None = None
    notes: tuple[str, ...] = ()
    updates: tuple[Update, ...] = ()
    packages: tuple[str, ...] = ()
    installed: tuple[Outcome, ...] = ()
    left_out: str = ""
    would_pull: str = ""
    pulls: PullTest | None = None
    node_size: NodeSize | None = None

    @property
    def well(self) -> bool:
        """Whether every operator that was well before is well again."""
        return not any(finding.code == NOT_WELL for finding in self.findings)

    @property
    def exit_code(self) -> ExitCode:
        """6 when an operator is not well again or nodes cannot pull, 3 when a catalog could not be given to the cluster."""
        return of_problems(self.problems) if self.well and not self.cannot_pull else ExitCode.CLUSTER

    @property
    def cannot_pull(self) -> bool:
        """Whether the pull test has found nodes that cannot pull."""
        return self.pulls is not None and self.pulls.failed

    @property
    def verdict(self) -> str:
        """The last line of an apply that is done."""
        # Nothing is reported as done before PackageManifests exist, pods that run are not enough; MicroShift has none.
        release = self.cluster.release
        lists = release is None or release.lists_packages
        carried = f": {enumeration(self.packages, _NAMED)}" if self.packages else ""
        done = f"OLM lists what the archive carries{carried}." if lists else "OLM has a connection to each catalog."
        given = {each.kind for each in self.result.changes}
        if CATALOG_SOURCE.name not in given:
            # A cluster without OLM (Classic); default ClusterCatalogs that are switched off are of that kind, too.
            own = self.packages and CLUSTER_CATALOG.name in given
            done = f"OLM v1 serves what the archive carries{carried}." if own else "No catalog was given to OLM."
        if self.cannot_pull:
            done += " Some nodes cannot pull its images."
        unseen = [each for each in self.findings if each.code in (UNSEEN_RULES, RULES_MISSING)]
        lacking = [f"Warning: {self.left_out}."] if self.left_out else []
        return " ".join([done, *(_sentence(each) for each in unseen), *lacking])


def _sentence(finding: Finding) -> str:
    return f"{finding.cause[0].upper()}{finding.cause[1:]}: {finding.fix}"
