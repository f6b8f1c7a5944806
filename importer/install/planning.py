"""From the packages that are wanted to an installation, and what is said about it. Reads the cluster, changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from common.openshift.supported_releases import unsupported
from importer.cluster.finding import Finding, Severity
from importer.install.namespaces import existing, remarks, unwatched, watched
from importer.install.offers import choose
from importer.install.olm_v1 import extend
from importer.install.placing import place
from importer.install.reading import ability, surroundings
from importer.install.requirements import requirements
from importer.install.writing import Installation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from importer.cluster.api.client import ClusterClient
    from importer.cluster.release import Release
    from importer.install.offers import Chosen, Offered
    from importer.install.placing import Surroundings
    from importer.install.wanted import How, Wanted


def plan(
    client: ClusterClient, release: Release | None, wanted: Sequence[Wanted], how: How, offers: Sequence[Offered]
) -> tuple[Installation, list[Finding]]:
    """Return where operators go, and what is said. Raises ClusterError."""
    findings: list[Finding] = []
    chosen: list[Chosen] = []
    for each in wanted:
        found = choose(each, offers, how.catalog)
        if isinstance(found, Finding):
            findings.append(found)
        else:
            chosen.append(found)
    around = surroundings(client, release)
    installation, said = _placed(client, release, chosen, how, around)
    findings += said
    written = [each.chosen for each in installation.fresh] + [each.chosen for each in installation.extended if not each.present]
    findings += requirements(installation.fresh, offers, around)
    findings += _unsupported(written, release)
    seen = existing(client, installation.members.keys() | watched(installation).keys())
    installation = replace(installation, foreign=seen.foreign)
    findings += [*remarks(installation, seen, release), *unwatched(installation, seen)]
    return installation, findings


def _placed(
    client: ClusterClient, release: Release | None, chosen: Sequence[Chosen], how: How, around: Surroundings
) -> tuple[Installation, Sequence[Finding]]:
    if how.olm_v1:
        extended, said = extend(chosen, how, around, ability(client, release))
        return Installation(extended=extended), said
    placed = place(chosen, how, around)
    return Installation(placed.placements), placed.findings


def _unsupported(chosen: Sequence[Chosen], release: Release | None) -> Iterator[Finding]:
    """Yield a warning for each head that is not meant for the release."""
    minor = (release.major, release.minor) if release is not None else None
    for one in chosen:
        package = msgspec.structs.replace(one.offered.package, channels=(one.channel,))
        for _, message in unsupported([package], minor) if one.is_head else ():
            fix = "Install another version, or update the cluster first."
            yield Finding("release-unsupported", str(one), message, (), fix, severity=Severity.WARNING)
