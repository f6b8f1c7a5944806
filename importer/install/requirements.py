"""What OLM installs next to an operator because it requires it, and whether a catalog has it. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.version import OlmRange, parse
from importer.cluster.finding import Finding, Severity
from importer.install.groups import conflicting, lacking_mode, mode_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.archive.inventory import ChannelRecord, RequiredPackageRecord
    from importer.install.offers import Chosen, Offered
    from importer.install.placing import Placement, Surroundings

MISSING = "dependency-missing"
_SHOWN = 6  # packages of a chain
MAX_PACKAGES = 200  # that are followed from one operator; of the heads of the community catalog none needs more than two


def requirements(placements: Sequence[Placement], offered: Sequence[Offered], around: Surroundings) -> Iterator[Finding]:
    """Yield warnings about what operators require: what nothing has, what OLM installs too, and what keeps it from that."""
    wanted = {each.chosen.package for each in placements}
    catalogs = _Catalogs.of(offered)
    for each in placements:
        found = _Closure(each, catalogs, around).followed()
        if found.missing:
            yield _missing(each.chosen, found.missing)
        if further := sorted(found.brought - wanted):
            yield _further(each.chosen, further)
        if blocked := [why for name, why in found.blocked if name not in wanted]:
            yield _not_installable(each, blocked)


@dataclass(frozen=True, slots=True)
class _Catalogs:
    """The heads of channels by package, and the packages by the APIs that their heads provide."""

    channels: dict[str, list[ChannelRecord]] = field(default_factory=dict)
    providers: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, offered: Sequence[Offered]) -> _Catalogs:
        found = cls()
        for each in offered:
            for channel in each.package.channels:
                found.channels.setdefault(each.package.name, []).append(channel)
                for api in channel.provided_apis:
                    found.providers.setdefault(api, set()).add(each.package.name)
        return found


@dataclass(frozen=True, slots=True)
class _Need:
    """One requirement. `packages`: those that have it; `heads`: of these, where OLM can take nothing else."""

    text: str
    packages: tuple[str, ...] = ()
    heads: tuple[ChannelRecord, ...] = ()


@dataclass(slots=True)
class _Closure:
    """Everything that an operator requires, as far as heads state it, each package once: a cycle ends there.

    `brought`: packages that OLM installs next to it; `missing` and `blocked` name the packages that lead there.
    """

    placed: Placement
    catalogs: _Catalogs
    around: Surroundings
    brought: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    blocked: list[tuple[str, str]] = field(default_factory=list)

    def followed(self) -> _Closure:
        """Return itself, with all fields filled."""
        one = self.placed.chosen
        waiting: deque[tuple[tuple[str, ...], list[_Need]]] = deque([((), self._needs(one.channel, one.package))])
        while waiting:
            chain, needs = waiting.popleft()
            for need in needs:
                if not need.packages:
                    self.missing.append(_statement(chain, f"requires {need.text}") if chain else need.text)
                    continue
                name = need.packages[0]
                if name in self.brought or len(self.brought) == MAX_PACKAGES:
                    continue
                self.brought.add(name)
                if why := self._blocked(need):
                    self.blocked.append((name, _statement((*chain, name), why)))
                waiting.append(((*chain, name), self._common(need)))
        return self

    def _common(self, need: _Need) -> list[_Need]:
        """Return what all heads require that OLM may take for a requirement: it takes any of them."""
        listed = [{each.text: each for each in self._needs(head, need.packages[0])} for head in need.heads]
        return [each for text, each in listed[0].items() if all(text in other for other in listed)] if listed else []

    def _needs(self, channel: ChannelRecord, package: str) -> list[_Need]:
        """Return the requirements of a head that its namespace does not meet."""
        # Operators in other namespaces do not count: the resolver sees the original ClusterServiceVersions of one namespace
        # and catalogs (operator-lifecycle-manager, pkg/controller/registry/resolver/source_csvs.go).
        where = self.placed.namespace
        here = {each.package for each in self.around.subscriptions if each.namespace == where}
        provided = {api for each in self.around.groups_in(where) for api in each.provided}
        found = [self._package(each) for each in channel.required_packages if each.package not in here]
        for api in channel.required_apis:
            providers = self.catalogs.providers.get(api, set())
            if not (api in provided or package in providers or providers & here):
                found.append(self._api(api, sorted(providers)))
        return found

    def _package(self, wanted: RequiredPackageRecord) -> _Need:
        text = f"package {wanted.package} {wanted.range}".strip()
        channels = self.catalogs.channels.get(wanted.package, [])
        if not any(_is_in(wanted, one.version) for channel in channels for one in channel.bundles):
            return _Need(text)
        heads = [(channel, one) for channel in channels for one in channel.bundles if one.name == channel.head]
        # Of a version below the head nothing is known.
        whole = all(_is_in(wanted, one.version) for _, one in heads)
        return _Need(text, (wanted.package,), tuple(channel for channel, _ in heads) if whole else ())

    def _api(self, api: str, providers: Sequence[str]) -> _Need:
        only = self.catalogs.channels[providers[0]] if len(providers) == 1 else ()
        return _Need(f"API {api}", tuple(providers), tuple(each for each in only if api in each.provided_apis))

    def _blocked(self, need: _Need) -> str:
        """Return why OLM cannot run what it would install; empty where it can, or where that is not known."""
        # OLM takes any channel that fits, so only what holds for the heads of all of them is said.
        heads = [channel for name in need.packages for channel in self.catalogs.channels[name]]
        where, group = self.placed.namespace, self.placed.group
        targets = group.targets
        if targets and all(each.install_modes and lacking_mode(each.install_modes, where, targets) for each in heads):
            return f"does not support {mode_of(where, targets)}"
        others = [each for each in self.around.groups if each.namespace != where]
        found = [conflicting(group, each.provided_apis, others) for each in heads]
        if found and all(found) and found[0] is not None:
            return f"provides APIs of an operator of {found[0][0]} already"
        return ""


def _statement(packages: Sequence[str], predicate: str) -> str:
    """Return a statement about the last of some packages, each of which requires the next."""
    shown = packages if len(packages) <= _SHOWN else [*packages[: _SHOWN - 2], "…", packages[-1]]
    first, *further = shown
    return "".join([first, *(f" requires {each}, which" for each in further), f" {predicate}"])


def _is_in(wanted: RequiredPackageRecord, version: str | None) -> bool:
    """Return whether a version is in a range; a range or a version that cannot be read excludes none."""
    if not wanted.range or version is None:
        return True
    try:
        wide = OlmRange.parse(wanted.range)
    except ValueError:
        return True
    try:
        return wide.contains(parse(version))
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
