"""The objects of `render --subscriptions`: what `install` would write, without a cluster. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from common.errors import UsageError
from importer.cluster.finding import Finding, Severity
from importer.cluster.kinds import CLUSTER_CATALOG, OPERATOR_GROUP, SUBSCRIPTION
from importer.cluster.resources.catalog_source import FILE_BASED, namespace_for
from importer.install.groups import Group
from importer.install.namespaces import loosened
from importer.install.offers import choose, of_packages
from importer.install.olm_v1 import Ability, extend
from importer.install.placing import Surroundings, namespace_of, place
from importer.install.reading import home_of
from importer.install.requirements import requirements
from importer.install.wanted import How, parse_all
from importer.install.writing import Installation
from importer.operators.installed import Subscribed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from importer.cluster.kinds import Resource
    from importer.cluster.release import Release
    from importer.cluster.resources.build import Built
    from importer.configure.files.earlier import Earlier
    from importer.install.offers import Chosen
    from importer.install.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """The operators that files are to install, and how. `listed`: those that the archive lists, where none is named."""

    wanted: tuple[Wanted, ...] = ()
    listed: bool = True
    how: How = field(default_factory=How)


NO_SUBSCRIPTIONS = Subscriptions()


def with_subscriptions(
    built: Built, release: Release | None, asked: Subscriptions, earlier: Earlier, listed: Sequence[str] = ()
) -> Built:
    """Return what an archive needs with the objects that install operators of it, and notes about these.

    OperatorGroups and other Subscriptions of `earlier` count as those of a cluster. Raises UsageError for an operator that
    cannot be installed. `listed`: the packages that the archive lists.
    """
    wanted = asked.wanted or (parse_all(listed) if asked.listed else ())
    if not wanted:
        return built
    namespace = namespace_for(release)
    offered = [
        each
        for named in built.served
        for each in of_packages(named.catalog.packages, (namespace, named.name), file_based=named.catalog.format == FILE_BASED)
    ]
    found = [choose(each, offered, asked.how.catalog) for each in wanted]
    chosen = [each for each in found if not isinstance(each, Finding)]
    around = _surroundings(release, chosen, asked.how, earlier)
    installation, said = _placed(chosen, asked.how, around, release, built.resources)
    # Each cluster has it, and its labels are those of that cluster.
    installation = replace(installation, foreign=frozenset((around.home,)))
    said = [*(each for each in found if isinstance(each, Finding)), *said]
    said += requirements(installation.fresh, offered, around)
    _require(said)
    spaces = [each for each in installation.namespaces if each.name != around.home]
    said += [lax for each in spaces for lax in loosened(each, release)]
    resources = (*spaces, *installation.resources)
    return replace(built, installs=tuple(resources), notes=(*built.notes, *map(_note, said)))


def _placed(
    chosen: Sequence[Chosen], how: How, around: Surroundings, release: Release | None, resources: Iterable[Resource]
) -> tuple[Installation, list[Finding]]:
    if not how.olm_v1:
        placed = place(chosen, how, around)
        return Installation(placed.placements), list(placed.findings)
    # Whether a cluster has the feature gate for one namespace, or needs no account, its files cannot know.
    served = frozenset(each.name for each in resources if each.kind == CLUSTER_CATALOG.name and not each.shared)
    extended, said = extend(chosen, how, around, Ability(release is not None and release.has_cluster_catalog, served))
    return Installation(extended=extended), said


def _surroundings(release: Release | None, chosen: Sequence[Chosen], how: How, earlier: Earlier) -> Surroundings:
    bodies = earlier.objects.values()
    # Each cluster has the namespace of global operators with its group; a second group would stop all of them.
    home = home_of(release)
    groups = [Group(home, "global-operators"), *(Group.of(each) for each in bodies if each.get("kind") == OPERATOR_GROUP.name)]
    around = Surroundings(home, groups=tuple(groups))
    # A file that is rendered again gets the version of this archive.
    again = {(one.package, namespace_of(one, how, around)) for one in chosen}
    found = [Subscribed.of(each) for each in bodies if each.get("kind") == SUBSCRIPTION.name]
    return replace(around, subscriptions=tuple(each for each in found if (each.package, each.namespace) not in again))


def _require(said: Sequence[Finding]) -> None:
    errors = [each for each in said if each.severity is Severity.ERROR]
    if errors:
        details = [line for each in errors for line in each.lines]
        raise UsageError("--subscriptions: no files were written:", details=details, hint="Correct that, and render again.")


def _note(said: Finding) -> str:
    evidence = f" ({'; '.join(said.evidence)})" if said.evidence else ""
    return f"{said.subject}: {said.cause}{evidence}"
