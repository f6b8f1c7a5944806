"""Installation by OLM v1: which operators it takes, and what a ClusterExtension needs. Pure.

Sources: operator-controller, its pages *Limitations* and *Single- and OwnNamespace install modes*, and
internal/operator-controller/applier/provider.go; openshift/enhancements, enhancements/olm (service-account-deprecation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.text import enumeration
from importer.cluster.finding import Finding, Severity
from importer.install.placing import NO_MODE, SUBSCRIBED, own_namespace
from importer.install.wanted import InstallMode, object_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from importer.install.offers import Chosen
    from importer.install.placing import Surroundings
    from importer.install.wanted import How

UNSUPPORTED, RIGHTS = "olm-v1-unsupported", "cluster-admin-account"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Ability:
    """What the OLM v1 of a cluster can. `catalogs`: the ClusterCatalogs that it serves; None: not known.

    `watches_one`: it installs operators that watch one namespace (feature gate NewOLMOwnSingleNamespace).
    `needs_account`: a ClusterExtension has to name a ServiceAccount, as before that field was deprecated.
    """

    present: bool = True
    catalogs: frozenset[str] | None = None
    watches_one: bool = False
    needs_account: bool = True


@dataclass(frozen=True, slots=True)
class Extended:
    """One operator as OLM v1 installs it. `account` empty: it needs no ServiceAccount; `watch` empty: all namespaces.

    `version`: the one that it stays at; empty: it is updated. `present`: its ClusterExtension is there already.
    """

    chosen: Chosen
    namespace: str
    account: str = ""
    makes_account: bool = False
    watch: str = ""
    version: str = ""
    present: bool = False


def extend(chosen: Sequence[Chosen], how: How, around: Surroundings, ability: Ability) -> tuple[list[Extended], list[Finding]]:
    """Return what OLM v1 is to install, and what is said: errors refuse the whole run."""
    found: list[Extended] = []
    said: list[Finding] = []
    for one in chosen:
        made = _extended(one, how, around, ability)
        if isinstance(made, Finding):
            said.append(made)
            continue
        found.append(made)
        if one.modes is None and not made.present:
            said.append(_unknown(one))
        # Said before the question, each time that such an account would be written.
        if made.makes_account and not made.present:
            said.append(_rights(made))
    return found, said


def _extended(one: Chosen, how: How, around: Surroundings, ability: Ability) -> Extended | Finding:
    if not ability.present:
        return _refusal(one, "the cluster has no OLM v1", "", "OpenShift has it since 4.18. Leave --olm out.")
    if not one.offered.file_based:
        return _refusal(one, "its catalog is a database, which OLM v1 does not serve", "", "Leave --olm out.")
    # apply writes a ClusterCatalog of the same name next to each CatalogSource that OLM v1 can serve.
    if ability.catalogs is not None and one.source[1] not in ability.catalogs:
        cause = f"OLM v1 does not serve the catalog: there is no available ClusterCatalog {one.source[1]}"
        return _refusal(one, cause, "", "hub-import apply writes it; or leave --olm out.")
    if one.requires:
        needs = enumeration(one.requires, _SHOWN)
        return _refusal(one, "it requires other operators, and OLM v1 resolves no requirements", needs, "Leave --olm out.")
    # Without a suggestion one of its own: the home of global operators is that of OLM (Classic).
    namespace = how.namespace or one.suggested or own_namespace(one)
    watch = _watch(one, namespace, how, ability)
    if isinstance(watch, Finding):
        return watch
    account = how.service_account or (f"{object_name(one.package)}-installer" if ability.needs_account else "")
    # Without a version OLM v1 follows the channel; with one it stays, which is what PACKAGE@VERSION asks for.
    version = "" if one.is_head else str(one.entry.version or "")
    extended = Extended(one, namespace, account, not how.service_account and ability.needs_account, watch, version)
    return _unless_there(extended, around)


def _watch(one: Chosen, namespace: str, how: How, ability: Ability) -> str | Finding:
    """Return the namespace that an operator watches; empty for all."""
    # OLM v1 judges modes that are not known itself, and reports them on the ClusterExtension.
    modes = one.modes or frozenset((InstallMode.ALL,))
    wanted = how.watch[0] if how.watch else ""
    if not wanted and InstallMode.ALL in modes:
        return ""
    shown = enumeration([mode for mode in InstallMode if mode in modes], len(InstallMode)) or "none"
    if not wanted and InstallMode.OWN in modes:
        wanted = namespace
    mode = InstallMode.OWN if wanted == namespace else InstallMode.SINGLE
    if not wanted or mode not in modes:
        cause = f"it cannot watch {f'namespace {wanted} ({mode})' if wanted else 'all namespaces'}"
        return _refusal(one, cause, f"install modes: {shown}", "Name another: --watch NAMESPACE; or leave --olm out.")
    # Without the gate OLM v1 installs operators that support AllNamespaces alone.
    if not ability.watches_one:
        cause = f"it watches one namespace ({mode}), which this OLM v1 does not support"
        return _refusal(one, cause, f"install modes: {shown}; feature gate NewOLMOwnSingleNamespace is off", "Leave --olm out.")
    return wanted


def _refusal(one: Chosen, cause: str, evidence: str, fix: str) -> Finding:
    return Finding(UNSUPPORTED, str(one), cause, (evidence,) if evidence else (), fix)


def _unknown(one: Chosen) -> Finding:
    return Finding(
        NO_MODE,
        str(one),
        "which install modes it has, and what it requires, is not known: OLM v1 may refuse it",
        (),
        "--archive ARCHIVE says it, with the archive that brought the catalog.",
        severity=Severity.WARNING,
    )


def _rights(made: Extended) -> Finding:
    return Finding(
        RIGHTS,
        f"ServiceAccount {made.namespace}/{made.account}",
        f"OLM v1 installs {made.chosen} with this account, which gets the ClusterRole cluster-admin",
        ("the rights have to include all that its bundle creates and grants",),
        "An account with fewer rights: --service-account NAME, made before (operator-controller, derive-service-account).",
        severity=Severity.WARNING,
    )


def _unless_there(made: Extended, around: Surroundings) -> Extended | Finding:
    """Return the operator, `present` where it is there in this way; a finding where it is there otherwise, and left alone."""
    one = made.chosen
    subject, evidence = "", ""
    for each in around.subscriptions:
        if each.package == one.package:
            subject, evidence = f"Subscription {each.namespace}/{each.name}", "OLM (Classic) has it installed"
    for extension in around.extensions:
        if extension.package != one.package:
            # ClusterExtensions have no namespace: the name is taken in the whole cluster.
            if extension.name == object_name(one.package):
                cause = f"the cluster has a ClusterExtension of that name for another operator, {extension.package}"
                return _refusal(one, cause, "", "Remove that one first, or leave --olm out.")
            continue
        subject = f"ClusterExtension {extension.name}"
        evidence = f"namespace {extension.namespace}, channels {', '.join(extension.channels) or '(all)'}"
        if (
            extension.namespace == made.namespace
            and extension.channels == (one.channel.name,)
            and extension.name == object_name(one.package)
        ):
            return Extended(one, made.namespace, made.account, makes_account=False, watch=made.watch, present=True)
    if not subject:
        return made
    fix = "Nothing, if that is meant; otherwise change it there, or remove it first."
    cause = f"it is installed otherwise: {one} is left alone"
    return Finding(SUBSCRIBED, subject, cause, (evidence,), fix, severity=Severity.WARNING)
