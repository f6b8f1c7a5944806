"""Where each operator goes: namespace, OperatorGroup and mode, or why it cannot be installed. Pure.

A namespace without an OperatorGroup gets one that all operators of the run support there; one that has a group is used as it
is, or refused by name. The choices are those of the console (openshift/console, operator-hub-subscribe.tsx), so that both do
the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.text import enumeration
from importer.cluster.finding import Finding, Severity
from importer.install.groups import ALL_NAMESPACES, Group, conflicting, intersects, lacking_mode, mode_of, shown
from importer.install.wanted import Approval, How, InstallMode, is_namespace, object_name
from importer.operators.keeping import repoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from importer.install.offers import Chosen
    from importer.operators.installed import Extension, SourceKey, Subscribed

GROUP, NO_MODE, SUBSCRIBED, LEFT_CSV = "operator-group", "install-mode", "operator-subscribed", "csv-without-subscription"
_GLOBAL_GROUP = "global-operators"
_LONGEST = 63  # of a namespace
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a cluster has in the way of an installation; nothing where no cluster is read (`render`).

    `home`: the namespace of operators that watch all namespaces; `csvs`: namespace and name of ClusterServiceVersions.
    `lost`: the CatalogSources that Subscriptions name and that do not exist.
    """

    home: str = "openshift-operators"
    groups: tuple[Group, ...] = ()
    subscriptions: tuple[Subscribed, ...] = ()
    extensions: tuple[Extension, ...] = ()
    csvs: frozenset[tuple[str, str]] = frozenset()
    lost: frozenset[SourceKey] = frozenset()

    def groups_in(self, namespace: str) -> list[Group]:
        """Return the OperatorGroups of a namespace."""
        return [each for each in self.groups if each.namespace == namespace]

    @property
    def global_namespace(self) -> str:
        """The namespace with the group of operators that watch all namespaces."""
        # The console takes the first group of that name. A tenant may have made one: the accounts of operators with rights on
        # the whole cluster would then be in the tenant's namespace.
        found = [each.namespace for each in self.groups if each.name == _GLOBAL_GROUP and each.targets == ALL_NAMESPACES]
        return found[0] if len(found) == 1 else self.home


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one operator goes. `group`: the OperatorGroup, `fresh` when it is to be created.

    `present`: its Subscription is there already.
    """

    chosen: Chosen
    namespace: str
    group: Group
    fresh: bool
    approval: Approval = Approval.AUTOMATIC
    present: bool = False

    @property
    def mode(self) -> InstallMode | None:
        """The install mode; None while the group selects no namespace."""
        return mode_of(self.namespace, self.group.targets) if self.group.targets else None


@dataclass(frozen=True, slots=True)
class Placed:
    """The operators that are installed, and what is said: errors refuse the whole run."""

    placements: tuple[Placement, ...]
    findings: tuple[Finding, ...]


def place(chosen: Sequence[Chosen], how: How, around: Surroundings) -> Placed:
    """Return where operators go. An operator that is there in another way is said and left alone."""
    placements: list[Placement] = []
    findings: list[Finding] = []
    # By namespace: all operators of one share its OperatorGroup, so they are judged together.
    by_namespace: dict[str, list[Chosen]] = {}
    for one in chosen:
        namespace = namespace_of(one, how, around)
        existing = _existing(one, namespace, how, around)
        if isinstance(existing, Finding):
            findings.append(existing)
        elif existing:
            group = next(iter(around.groups_in(namespace)), Group(namespace, namespace))
            placements.append(Placement(one, namespace, group, fresh=False, approval=how.approval, present=True))
        else:
            by_namespace.setdefault(namespace, []).append(one)
    for namespace, members in by_namespace.items():
        found = _group(namespace, members, how, around)
        if isinstance(found, Finding):
            findings.append(found)
            continue
        fresh = not around.groups_in(namespace)
        fitting = [Placement(one, namespace, found, fresh, how.approval) for one in members]
        findings += [each for one in fitting for each in _objections(one, around)]
        placements += fitting
    findings += [each for one in placements if not one.present for each in _remarks(one, placements, around)]
    # As they were asked for, not by namespace: the table, the writes and the wait are in the order of the command.
    order = {one.package: number for number, one in enumerate(chosen)}
    placements.sort(key=lambda one: order[one.chosen.package])
    return Placed(tuple(placements), tuple(findings))


def namespace_of(one: Chosen, how: How, around: Surroundings) -> str:
    """Return the namespace of an operator: the one that was asked for, the suggested one, or as its install modes want it."""
    if how.namespace or one.suggested:
        return how.namespace or one.suggested
    # Unknown modes count as AllNamespaces: the group that is there decides, which is a warning (`_remarks`).
    watches_all = one.modes is None or InstallMode.ALL in one.modes
    if watches_all and not how.watch and how.mode in (None, InstallMode.ALL):
        return around.global_namespace
    return own_namespace(one)


def own_namespace(one: Chosen) -> str:
    """Return the name of a namespace for one operator that suggests none."""
    # A name of a package may have dots and capitals.
    name = "".join(each if each.isascii() and each.isalnum() else "-" for each in one.package.lower())[:_LONGEST].strip("-")
    return name if is_namespace(name) else "operator"


def _existing(one: Chosen, namespace: str, how: How, around: Surroundings) -> Finding | bool:
    """Return whether the Subscription that is wanted is there; a finding for another one, which is left alone."""
    # OLM (Classic) and OLM v1 do not know of each other: both would write the same CustomResourceDefinitions.
    for extension in around.extensions:
        if extension.package == one.package:
            return _left_alone(
                one, f"ClusterExtension {extension.name}", "OLM v1 has it installed", f"spec.namespace: {extension.namespace}"
            )
    for each in around.subscriptions:
        if each.namespace == namespace and each.name == object_name(one.package) and each.package != one.package:
            cause = f"the namespace has a Subscription of that name for another operator, {each.package}"
            return Finding(GROUP, str(one), cause, (str(each),), "Choose another namespace: --namespace.")
    same = [each for each in around.subscriptions if each.package == one.package]
    here = next((each for each in same if each.namespace == namespace), None)
    if here is not None:
        return _compared(one, here, around)
    # OLM would refuse the APIs of the second one (InterOperatorGroupOwnerConflict), unless the groups select other namespaces.
    # That has to be meant: by --namespace.
    apart = [each for each in same if not (how.namespace and _is_apart(one, namespace, each.namespace, how, around))]
    if apart:
        gone = ", which does not exist" if _is_lost(one, apart[0], around) else ""
        evidence = f"channel {apart[0].channel or '(default)'} of {'/'.join(apart[0].source)}{gone}"
        where = f"it is subscribed to in namespace {apart[0].namespace}"
        return _subscribed(one, apart[0], where, evidence, around)
    return False


def _compared(one: Chosen, here: Subscribed, around: Surroundings) -> Finding | bool:
    """Return True for the Subscription that is wanted; a finding that names what it has otherwise."""
    default = one.offered.package.default_channel
    other = []
    if _is_lost(one, here, around):
        other.append(f"CatalogSource {'/'.join(here.source)}, which does not exist")
    elif here.source != one.source:
        other.append(f"catalog {'/'.join(here.source)}, not {'/'.join(one.source)}")
    # OLM takes the default channel where spec.channel is empty.
    if (here.channel or default) != one.channel.name:
        other.append(f"channel {here.channel or default}, not {one.channel.name}")
    # A head that the Subscription has not reached yet is an update, which OLM does on its own.
    if not one.is_head and one.entry.name not in (here.installed, here.current, here.starting):
        other.append(f"version {here.installed or here.starting or '(none yet)'}, not {one.entry.name}")
    if not other:
        return True
    return _subscribed(one, here, "it is subscribed to otherwise", "; ".join(other), around)


def _is_lost(one: Chosen, here: Subscribed, around: Surroundings) -> bool:
    """Return whether a Subscription names a CatalogSource that does not exist."""
    # `deploy` asks before it creates the catalogs of the archive.
    return here.source in around.lost and here.source != one.source


def _subscribed(one: Chosen, here: Subscribed, cause: str, evidence: str, around: Surroundings) -> Finding:
    found = _left_alone(one, f"Subscription {here.namespace}/{here.name}", cause, evidence)
    if not _is_lost(one, here, around):
        return found
    # It gets no updates, and OLM resolves no other Subscription of its namespace: that is never meant.
    return replace(found, fix=f"Let it name {one.source[1]}: hub-import apply --repoint, or {repoint(here, one.source)}.")


def _left_alone(one: Chosen, subject: str, cause: str, evidence: str) -> Finding:
    return Finding(
        SUBSCRIBED,
        subject,
        f"{cause}: {one} is left alone",
        (evidence,),
        "Nothing, if that is meant; otherwise change it there, or remove it first.",
        severity=Severity.WARNING,
    )


def _is_apart(one: Chosen, namespace: str, other: str, how: How, around: Surroundings) -> bool:
    """Return whether an operator may be there twice: the groups of both namespaces select different ones."""
    # Without a group there so far, the one that would be created counts.
    found = around.groups_in(namespace)
    own = found[0] if found else Group(namespace, namespace, _targets(namespace, [one], how) or ALL_NAMESPACES)
    # Without an OperatorGroup the other one does not run yet; the group that it waits for may select all namespaces.
    return bool(around.groups_in(other)) and not any(intersects(own, each) for each in around.groups_in(other))


def _group(namespace: str, members: Sequence[Chosen], how: How, around: Surroundings) -> Group | Finding:
    """Return the OperatorGroup of a namespace: the one that it has, or a new one; or why there is none that fits."""
    found = around.groups_in(namespace)
    names = enumeration([one.package for one in members], _SHOWN)
    if len(found) > 1:
        listed = tuple(map(str, found[:_SHOWN]))
        cause = f"the namespace of {names} has several OperatorGroups, so that OLM installs nothing (TooManyOperatorGroups)"
        return Finding(
            GROUP, f"namespace {namespace}", cause, listed, "Delete all but one, or choose another namespace: --namespace."
        )
    if found:
        # Never changed, even where that would let the operator in: the group decides for every operator of the namespace.
        return _existing_group(found[0], members, how)
    targets = _targets(namespace, members, how)
    if targets is not None:
        return Group(namespace, namespace, targets)
    return _no_mode(namespace, members, how)


def _existing_group(group: Group, members: Sequence[Chosen], how: How) -> Group | Finding:
    if group.targets is None:
        cause = "the OperatorGroup of the namespace selects no namespace, so that OLM installs nothing (NoTargetNamespaces)"
        return Finding(
            GROUP, str(group), cause, (), "Label the namespaces that it should select, or choose another: --namespace."
        )
    wrong = [(one, lacking) for one in members if (lacking := _lacks(one, group.namespace, group.targets)) is not None]
    if wrong:
        one, lacking = wrong[0]
        evidence = [f"{group}: {shown(group.targets)}", *(f"{each.package} supports {_modes(each)}" for each, _ in wrong)]
        cause = (
            f"{one} does not support {lacking}, which the OperatorGroup of its namespace asks for (UnsupportedOperatorGroup)"
        )
        return Finding(GROUP, str(group), cause, tuple(evidence), "Choose another namespace: --namespace.")
    other_mode = how.mode is not None and how.mode is not mode_of(group.namespace, group.targets)
    if other_mode or (how.watch and tuple(sorted(how.watch)) != group.targets):
        cause = "the OperatorGroup of the namespace selects other namespaces than those asked for"
        listed = (f"{group}: {shown(group.targets)}", f"asked for: {how.mode or shown(sorted(how.watch))}")
        fix = "Choose another namespace: --namespace; or leave --install-mode and --watch out."
        return Finding(GROUP, str(group), cause, listed, fix)
    return group


def _lacks(one: Chosen, namespace: str, targets: Sequence[str]) -> InstallMode | None:
    return None if one.modes is None else lacking_mode(one.modes, namespace, targets)


def _modes(one: Chosen) -> str:
    return enumeration([mode for mode in InstallMode if mode in (one.modes or ())], len(InstallMode)) or "no install mode"


def _asked(namespace: str, how: How) -> tuple[str, ...] | None:
    """Return the targets that the options ask for; None where they leave it open."""
    if how.watch:
        return tuple(sorted(how.watch))
    if how.mode is InstallMode.ALL:
        return ALL_NAMESPACES
    return (namespace,) if how.mode is InstallMode.OWN else None


def _targets(namespace: str, members: Sequence[Chosen], how: How) -> tuple[str, ...] | None:
    """Return the targets of a new OperatorGroup; None where none fits all operators."""
    asked = _asked(namespace, how)
    # SingleNamespace and MultiNamespace need names of namespaces, which only --watch has.
    wrong_mode = asked is not None and how.mode not in (None, mode_of(namespace, asked))
    if wrong_mode or (asked is None and (how.mode is not None or all(one.modes is None for one in members))):
        return None
    # AllNamespaces before OwnNamespace, as the console prefers it.
    options = [asked] if asked is not None else [ALL_NAMESPACES, (namespace,)]
    return next((each for each in options if all(_lacks(one, namespace, each) is None for one in members)), None)


def _no_mode(namespace: str, members: Sequence[Chosen], how: How) -> Finding:
    names = enumeration([one.package for one in members], _SHOWN)
    subject = str(members[0]) if len(members) == 1 else f"operators {names}"
    unknown = [one.package for one in members if one.modes is None]
    if len(unknown) == len(members) and how.mode is None and not how.watch:
        return Finding(
            NO_MODE,
            subject,
            "which install modes it has is not known: the archive was made by an older hub-export",
            (f"namespace {namespace} has no OperatorGroup",),
            "Give --install-mode AllNamespaces or OwnNamespace, by the documentation of the operator.",
        )
    evidence = tuple(f"{one.package} supports {_modes(one)}" for one in members if one.modes is not None)
    asked = _asked(namespace, how)
    if how.mode is not None and (asked is None or how.mode is not mode_of(namespace, asked)):
        cause = f"{how.mode} needs the namespaces that the operator watches"
        fix = "Name them: --watch NAMESPACE, one for SingleNamespace, several for MultiNamespace."
    elif asked is not None:
        cause = f"namespace {namespace} with {shown(asked)} is {mode_of(namespace, asked)}, which is not supported"
        fix = "Use one of the modes that are supported: --install-mode, or --watch."
    elif len(members) > 1:
        cause = f"they go to namespace {namespace}, and no OperatorGroup fits all of them"
        fix = "Install them one by one, each with its own --namespace."
    else:
        cause = "it supports neither AllNamespaces nor OwnNamespace"
        fix = "Name the namespaces that it watches: --watch NAMESPACE, one for SingleNamespace, several for MultiNamespace."
    return Finding(NO_MODE, subject, cause, evidence, fix)


def _objections(one: Placement, around: Surroundings) -> Iterator[Finding]:
    """Yield errors for what would keep OLM from installing an operator in its place."""
    provided = frozenset(one.chosen.channel.provided_apis)
    # A second group in the same namespace was refused before.
    others = [each for each in around.groups if each.namespace != one.namespace]
    if one.group.fixed and not provided <= one.group.provided:
        cause = f"{one.chosen} provides APIs that its OperatorGroup does not allow (staticProvidedAPIs)"
        extra = enumeration(sorted(provided - one.group.provided), _SHOWN)
        yield Finding(GROUP, str(one.group), cause, (extra,), "Choose another namespace: --namespace.")
    if found := conflicting(one.group, provided, others):
        other, same = found
        cause = (
            f"an operator of an intersecting OperatorGroup provides the APIs of {one.chosen} (InterOperatorGroupOwnerConflict)"
        )
        evidence = (f"{other}: {shown(other.targets)}", enumeration(sorted(same), _SHOWN))
        yield Finding(
            GROUP,
            str(other),
            cause,
            evidence,
            "Remove that operator first, or choose a namespace that the group does not select.",
        )
    # While OLM updates an operator, its namespace has the version that is replaced, too: then the package is subscribed to, and
    # `_existing` has decided.
    subscribed = {each.installed for each in around.subscriptions if each.namespace == one.namespace}
    here = {name for namespace, name in around.csvs if namespace == one.namespace} - subscribed
    # One that the catalog does not carry any more is known by the usual form of names, PACKAGE.vVERSION.
    usual = f"{one.chosen.package}.v"
    for name in sorted(each for each in here if each in one.chosen.entries or each.startswith(usual)):
        yield Finding(
            LEFT_CSV,
            f"ClusterServiceVersion {one.namespace}/{name}",
            f"{one.chosen} is there without a Subscription, and OLM resolves none for it",
            (),
            f"oc delete csv {name} -n {one.namespace}; its CustomResourceDefinitions and custom resources stay.",
        )


def _remarks(one: Placement, placements: Sequence[Placement], around: Surroundings) -> Iterator[Finding]:
    """Yield warnings about what follows from an installation."""
    warning = Finding("", str(one.chosen), "", (), "Nothing, if that is meant.", severity=Severity.WARNING)
    if not one.chosen.is_head:
        head = one.chosen.channel.head
        if one.approval is Approval.AUTOMATIC:
            cause = f"OLM installs {one.chosen.entry.name}, and updates it to {head} at once"
            yield replace(warning, code="version-updates", cause=cause, fix="To keep the version: --approval manual.")
        yield replace(
            warning,
            code="head-stands-in",
            cause=f"install modes and requirements are those of {head}; of {one.chosen.entry.name} they are not known",
        )
    if one.chosen.entry.deprecated:
        cause = f"its catalog deprecates {one.chosen.entry.name}, channel {one.chosen.channel.name} or the package"
        yield replace(warning, code="operator-deprecated", cause=cause, fix="Nothing, or another channel: PACKAGE:CHANNEL.")
    if one.chosen.modes is None:
        cause = "which install modes it has is not known"
        yield replace(warning, code=NO_MODE, cause=cause, evidence=(f"{one.group}: {shown(one.group.targets)}",))
    waiting = [each.package for each in around.subscriptions if each.namespace == one.namespace]
    if one.fresh and waiting:
        cause = f"its new OperatorGroup lets OLM install {enumeration(waiting, _SHOWN)} too, which waits for one"
        yield replace(warning, code=GROUP, subject=f"namespace {one.namespace}", cause=cause)
    if one.group.account:
        cause = f"the OperatorGroup limits its operators to the rights of ServiceAccount {one.group.account}"
        yield replace(warning, code=GROUP, subject=str(one.group), cause=cause)
    yield from _unresolved(one, placements, around, warning)
    yield from _approvals(one, placements, around, warning)


def _is_first(one: Placement, placements: Sequence[Placement]) -> bool:
    """Return whether an operator is the first new one of its namespace, for which is said what all of them share."""
    return next(each for each in placements if each.namespace == one.namespace and not each.present) is one


def _unresolved(one: Placement, placements: Sequence[Placement], around: Surroundings, warning: Finding) -> Iterator[Finding]:
    """Yield a warning where OLM cannot resolve a Subscription of the namespace, and so none of them."""
    # operator-lifecycle-manager, pkg/controller/registry/resolver/resolver.go (Resolve): one solution for all Subscriptions.
    # `deploy` asks before it creates the catalogs of the archive, so that their absence says nothing.
    here = [each for each in around.subscriptions if each.namespace == one.namespace and each.package != one.chosen.package]
    lost = {each.name for each in here if each.source in around.lost and each.source != one.chosen.source}
    failing = [each for each in here if each.name in lost or (each.unresolved and each.source not in around.lost)]
    if failing and _is_first(one, placements):
        names = enumeration([each.package for each in failing], _SHOWN)
        cause = f"OLM does not resolve {names}, and it resolves all Subscriptions of a namespace together: it installs none"
        said = [each.unresolved or f"{each}: CatalogSource {'/'.join(each.source)} does not exist" for each in failing[:_SHOWN]]
        fix = "Repair that Subscription first (hub-import doctor), or choose another namespace: --namespace."
        subject = f"namespace {one.namespace}"
        yield replace(warning, code="namespace-unresolved", subject=subject, cause=cause, evidence=tuple(said), fix=fix)


def _approvals(one: Placement, placements: Sequence[Placement], around: Surroundings, warning: Finding) -> Iterator[Finding]:
    """Yield a warning where one Subscription with manual approval makes the InstallPlans of others manual."""
    # operator-lifecycle-manager, pkg/controller/operators/catalog/operator.go, syncResolvingNamespace
    others = [each for each in around.subscriptions if each.namespace == one.namespace]
    manual = [each.package for each in others if each.approval == Approval.MANUAL]
    if one.approval is Approval.AUTOMATIC and manual:
        names = enumeration(manual, _SHOWN)
        cause = f"its InstallPlans wait for approval too: {names} in namespace {one.namespace} has manual approval"
        yield replace(warning, code="approval-shared", cause=cause)
    automatic = [each.package for each in others if each.approval != Approval.MANUAL]
    if one.approval is Approval.MANUAL and automatic and _is_first(one, placements):
        cause = f"manual approval makes the updates of {enumeration(automatic, _SHOWN)} in namespace {one.namespace} wait too"
        yield replace(warning, code="approval-shared", cause=cause, fix="Choose another namespace: --namespace; or nothing.")
