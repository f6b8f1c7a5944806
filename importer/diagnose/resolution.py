"""Rules about Subscriptions that OLM does not resolve: what a catalog lacks, and the catalogs that cannot be listed. No I/O.

OLM resolves a namespace as a whole, and writes one message to all of its Subscriptions (operator-lifecycle-manager,
pkg/controller/operators/catalog/operator.go, `setSubsCond`). So a finding is about the Subscription, or the catalog, that the
message names, and there is one of it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from common.text import counted, enumeration
from importer.cluster.finding import UNKNOWN, Finding, Severity
from importer.cluster.kinds import condition, short
from importer.diagnose.snapshot import SourceState
from importer.operators.findings import ORPHANED
from importer.operators.installed import SourceKey, Subscribed
from importer.operators.keeping import repoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from importer.cluster.api.client import Body
    from importer.diagnose.snapshot import Snapshot


NOT_CARRIED = "subscription-not-carried"
_SHOWN = 5
_NAMES_SHOWN = 10
_LONGEST = 20_000  # characters of a message that are read; the resolver lists every constraint of a namespace
_ASK = "See the evidence; `oc describe` and the log of the component that reports it say more."
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")  # a text that YAML reads as the same text

# Messages of operator-lifecycle-manager. CatalogSourcesUnhealthy: pkg/controller/operators/catalog/subscription/state.go.
_NAME = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?"
_MISSING = re.compile(rf"targeted catalogsource ({_NAME})/({_NAME}) missing")

# A catalog that cannot be listed (pkg/controller/registry/resolver). The order of name and namespace changed: NAME/NAMESPACE
# before v0.29, NAMESPACE/NAME since operator-lifecycle-manager ff9084a; 0.19 had words between them.
_DOWN = (
    re.compile(rf"error using catalogsource (?P<namespace>{_NAME})/(?P<name>{_NAME})"),
    re.compile(rf"failed to populate resolver cache from source (?P<name>{_NAME})/(?P<namespace>{_NAME})"),
    re.compile(rf"error using catalog (?P<name>{_NAME}) \(in namespace (?P<namespace>{_NAME})\)"),
)

# What a Subscription's catalog lacks (resolver.go, getSubscriptionVariables): the catalog as a whole, the package, the channel,
# or the version in startingCSV.
_BY = rf"(?: in the catalog)?(?: referenced by subscription (?P<by>{_NAME}))?"
_ABSENT = (
    re.compile(rf"no operators found from catalog (?P<catalog>{_NAME}) in namespace (?P<place>{_NAME}){_BY}"),
    re.compile(rf"no operators found in package (?P<package>\S+){_BY}"),
    re.compile(rf"no operators found in channel (?P<channel>\S*) of package (?P<package>\S+){_BY}"),
    re.compile(rf"no operators found with name (?P<csv>\S+) in channel (?P<channel>\S*) of package (?P<package>\S+){_BY}"),
)
_REQUIRED = re.compile(r"requires? an operator")
_PACKAGE = re.compile(r"requires? an operator with package: ([^\s,]+)")

# Other reasons of the resolver. Variables: pkg/controller/registry/resolver/variables.go; channels: resolver.go, sortChannel.
_REASONS = (
    (
        re.compile(r"clusterserviceversion (\S+) exists and is not referenced by a subscription"),
        "csv-without-subscription",
        "a ClusterServiceVersion of the namespace belongs to no Subscription, and OLM does not replace it",
        (
            "Delete that ClusterServiceVersion where the Subscription is to install it again: the operator stops meanwhile, "
            "its custom resources stay. If the Subscription has it as installedCSV, restart the pod of catalog-operator."
        ),
    ),
    (
        re.compile(r" and \S+ (?:provide|originate from package) \S"),
        "operators-conflict",
        "two operators of the namespace provide the same API or are of the same package, and OLM installs only one of them",
        "Remove the Subscription, or the ClusterServiceVersion, of one of the two.",
    ),
    (
        re.compile(
            r"no channel heads \(|a cycle exists in the chain of replacement|found no replacement chains|"
            r"a unique replacement chain within a channel is required"
        ),
        "catalog-graph-broken",
        "the update graph of a channel is broken in the catalog, so that OLM resolves nothing of the namespace",
        "Report the package to the publisher of the catalog; export it without that channel, or from another version of it.",
    ),
)


class _Case(NamedTuple):
    """A Subscription that the resolver names, the message, and its match of `_ABSENT`."""

    body: Body
    message: str
    found: re.Match[str]

    def part(self, name: str) -> str:
        return str(self.found.groupdict().get(name) or "")


# Other catalogs: OLM resolves no Subscription while any catalog that counts for its namespace cannot be listed.


def foreign_sources(snapshot: Snapshot) -> Iterator[Finding]:
    """Give the foreign catalogs that cannot be reached or listed, with the Subscriptions that report it."""
    for source in _foreign(snapshot):
        affected = [
            f"Subscription {namespace}/{name}: {short(message)}"
            for namespace, name, message in with_condition(snapshot, "ResolutionFailed")
            if (source.namespace, source.name) in _down(message)
        ]
        # IDLE is a connection that gRPC closed for lack of requests; the next request opens it again.
        well = source.state in {"READY", "IDLE"} or (source not in snapshot.sources and source.state == "no connection yet")
        if not affected and (well or source.is_default):
            continue
        whose = "the cluster" if _is_global(source, snapshot) else f"namespace {source.namespace}"
        cannot = "OLM cannot list the operators of another catalog" if well else "another catalog cannot be reached"
        yield Finding(
            "other-catalog-down",
            f"CatalogSource {source.name}",
            f"{cannot}: while it exists, no Subscription of {whose} is resolved",
            (f"state: {source.state}", *affected[:_SHOWN]),
            f"Repair it, or: oc delete catalogsource {source.name} -n {source.namespace}",
            severity=Severity.ERROR if affected else Severity.WARNING,
        )


def _foreign(snapshot: Snapshot) -> Iterator[SourceState]:
    """Yield the catalogs that hub-import does not own, of all namespaces, without defaults that have a finding of their own."""
    here = {(source.namespace, source.name) for source in snapshot.sources}
    elsewhere = snapshot.all_sources.bodies.items() if snapshot.all_sources else ()
    others = (SourceState(body, ()) for key, body in sorted(elsewhere, key=lambda each: each[0]) if key not in here)
    for source in (*snapshot.sources, *others):
        if not source.is_managed and not (source.is_default and source.state != "READY"):
            yield source


def _is_global(source: SourceState, snapshot: Snapshot) -> bool:
    """Return whether a catalog counts for all namespaces: OLM has one namespace for these, where those of hub-import are."""
    return snapshot.all_sources is None or source.namespace == snapshot.all_sources.namespace


def _down(message: str) -> list[SourceKey]:
    """Return namespace and name of the catalogs that a message says cannot be listed."""
    return [(found["namespace"], found["name"]) for pattern in _DOWN for found in pattern.finditer(message)]


# Subscriptions whose CatalogSource does not exist.


def orphaned(snapshot: Snapshot) -> Iterator[Finding]:
    """Give an error for each Subscription whose CatalogSource does not exist, unless OLM gives another reason."""
    for body in snapshot.subscriptions:
        one = Subscribed.of(body)
        if not _is_orphaned(body, one, snapshot):
            continue
        messages = (_message(body, kind) for kind in ("CatalogSourcesUnhealthy", "ResolutionFailed"))
        yield Finding(
            ORPHANED,
            f"Subscription {one.namespace}/{one.name}",
            f"it names CatalogSource {'/'.join(one.source)}, which does not exist: {one.package} gets no updates",
            (str(one), *(short(each) for each in messages if each)),
            _fix_of_orphan(one, snapshot),
        )


def _is_orphaned(body: Body, one: Subscribed, snapshot: Snapshot) -> bool:
    sources = snapshot.all_sources
    if sources is not None and one.source in sources.bodies:
        return False  # conditions that say otherwise are older than the CatalogSource
    found = _MISSING.search(_message(body, "CatalogSourcesUnhealthy"))
    if found and found.groups() == one.source:
        return True
    failed = [message for kind in ("ResolutionFailed", "BundleUnpackFailed") if (message := _message(body, kind))]
    if failed and not any(one.source in _named_sources(message) for message in failed):
        return False
    return sources is not None and sources.lack(one.source)


def _named_sources(message: str) -> list[SourceKey]:
    """Return the catalogs without any operator that a message names."""
    return [(found["place"], found["catalog"]) for found in _ABSENT[0].finditer(message)]


def _fix_of_orphan(one: Subscribed, snapshot: Snapshot) -> str:
    known = [source.expected for source in snapshot.sources if source.expected is not None]
    offering = next((each for each in known if one.package in each.packages), None)
    if offering is None:
        return f"Export {one.package} too and apply with --catalog-name {one.source[1]}, or restore that catalog."
    patch = repoint(one, (offering.namespace, offering.name))
    if one.source[0] != offering.namespace:
        return f"Let it name {offering.name}: {patch}"
    name = one.source[1] if len(known) == 1 else f"CATALOG={one.source[1]}"
    return f"Run hub-import apply again with --catalog-name {name}; or let it name {offering.name}: {patch}"


# Subscriptions that cannot be resolved, by the reason that OLM gives.


def resolution(snapshot: Snapshot) -> Iterator[Finding]:
    """Give a finding for each reason that the resolver has, about the Subscription that it names."""
    given: set[tuple[str, str]] = set()
    for body in snapshot.subscriptions:
        message = _message(body, "ResolutionFailed")
        found = [*_absent(body, message, snapshot), *_required(body, message, snapshot), *_conflicts(body, message)]
        if message and not found and not _is_explained(message, snapshot):
            found = [_unresolved(body, message)]
        for each in found:
            if (each.code, each.subject) not in given:
                given.add((each.code, each.subject))
                yield each


def _unresolved(body: Body, message: str) -> Finding:
    return Finding(UNKNOWN, _subject(body), "cannot be resolved, for an unknown reason", (short(message),), _ASK)


def _is_explained(message: str, snapshot: Snapshot) -> bool:
    """Return whether the catalogs that a message names have findings of their own."""
    if _cases(None, message, snapshot):
        return True
    down = _down(message)
    return bool(down) and all(_has_finding(key, snapshot) for key in down)


def _has_finding(key: SourceKey, snapshot: Snapshot) -> bool:
    here = next((source for source in snapshot.sources if (source.namespace, source.name) == key), None)
    if here is None or not (here.is_managed or here.is_default):
        return snapshot.all_sources is not None and key in snapshot.all_sources.bodies
    # OLM resolves again when the catalog answers, and needs some minutes for it.
    return here.state != "READY" or here.connected_lately or not here.lists_all


def _cases(carrier: Body | None, message: str, snapshot: Snapshot) -> list[_Case]:
    """Return what a message says that catalogs lack, each with the Subscription that it names."""
    found = []
    for match in (each for pattern in _ABSENT for each in pattern.finditer(message)):
        place = str((carrier or {"metadata": {}})["metadata"].get("namespace") or "")
        named = (match["by"], place)
        bodies = (each for each in snapshot.subscriptions if _identity(each) == named)
        found.append(_Case(next(bodies, carrier or {}), message, match))
    return found


def _absent(body: Body, message: str, snapshot: Snapshot) -> Iterator[Finding]:
    for case in _cases(body, message, snapshot):
        found = _empty(case, snapshot) if case.part("catalog") else _lacking(case, snapshot)
        if found is not None:
            yield found


def _empty(case: _Case, snapshot: Snapshot) -> Finding | None:
    """Return the finding about a catalog in which OLM sees no operator; None where another finding has the cause."""
    one, sources = Subscribed.of(case.body), snapshot.all_sources
    key = (case.part("place"), case.part("catalog"))
    evidence = (str(one), short(case.message))
    if any(each.source == key and _is_orphaned(body, each, snapshot) for body, each in _subscribed(snapshot)):
        return None
    if sources is None or key not in sources.bodies:
        return _unresolved(case.body, case.message)
    if key[0] not in {one.namespace, sources.namespace}:
        return Finding(
            ORPHANED,
            _subject(case.body),
            f"it names CatalogSource {'/'.join(key)}, and OLM uses catalogs of {sources.namespace} and of a Subscription's own "
            "namespace alone",
            evidence,
            _elsewhere(one, snapshot)
            or f"Create the CatalogSource in {sources.namespace}, and let spec.sourceNamespace name it.",
        )
    source = _source(key, snapshot) or SourceState(sources.bodies[key], ())
    if source.state != "READY" or source.connected_lately:
        return None
    if source.offers:
        return _unresolved(case.body, case.message)  # the catalog has operators now, and OLM has not said so again
    return Finding(
        NOT_CARRIED,
        _subject(case.body),
        f"its catalog, CatalogSource {'/'.join(key)}, answers and has no operator",
        (*evidence, f"state: {source.state}"),
        _elsewhere(one, snapshot) or f"Export it: {_line(one.package)}; then push and apply.",
    )


def _lacking(case: _Case, snapshot: Snapshot) -> Finding | None:
    """Return the finding about a package, channel or version that a catalog lacks; None while it is just being read."""
    one, package, channel, csv = Subscribed.of(case.body), case.part("package"), case.part("channel"), case.part("csv")
    source = _source(one.source, snapshot)
    has, carried = _carried(source, package, channel)
    evidence = (str(one), short(case.message), *([has] if has else []))
    wanted = csv or channel or package
    if source is not None and wanted in carried:
        return None if source.connected_lately else _unresolved(case.body, f"{case.message} ({has})")
    what = f"version {csv} in channel {channel}" if csv else f"channel {channel}" if channel else ""
    return Finding(
        NOT_CARRIED,
        _subject(case.body),
        f"its catalog, CatalogSource {one.source[1]}, has {f'no {what} of' if what else 'no'} package {package}",
        evidence,
        _fix_of_lacking(case, one, snapshot, carried),
    )


def _carried(source: SourceState | None, package: str, channel: str) -> tuple[str, list[str]]:
    """Return what a catalog has where something is missing, as a text and as names; empty where that is not known."""
    offers = source.offers if source is not None else None
    if source is None or offers is None:
        return "", []
    if package not in offers:
        return f"it has {counted(len(offers), 'package')}: {enumeration(sorted(offers), _NAMES_SHOWN)}", list(offers)
    offer = offers[package]
    if channel not in offer.heads:
        heads = [f"{name} (head {head})" for name, head in sorted(offer.heads.items())]
        return f"it has the channels {enumeration(heads, _NAMES_SHOWN)}; default: {offer.default_channel}", [
            *offer.heads,
            package,
        ]
    versions = list(source.versions.get((package, channel)) or (offer.heads[channel],))
    return f"channel {channel} has {enumeration(versions, _NAMES_SHOWN)}", [*versions, *([] if versions else [channel])]


def _fix_of_lacking(case: _Case, one: Subscribed, snapshot: Snapshot, carried: Sequence[str]) -> str:
    package, channel, csv = case.part("package"), case.part("channel"), case.part("csv")
    source = _source(one.source, snapshot)
    expected = source.expected if source is not None else None
    image_set = f" under packages of {expected.catalog}" if expected is not None and expected.catalog else ""
    wanted = channel or str((case.body.get("spec") or {}).get("channel") or "")
    export = f"Export it: {_line(package, wanted, csv)}{image_set} in the image set; then push and apply."
    if csv:
        return f"{export} Or remove spec.startingCSV of the Subscription, or set it to a version that the channel has."
    if channel:
        offer = (source.offers or {}).get(package) if source is not None else None
        return f"{export} Or use a channel that it has: {_patch(one, offer.default_channel)}" if offer and carried else export
    return " ".join(part for part in (_elsewhere(one, snapshot), export) if part)


def _elsewhere(one: Subscribed, snapshot: Snapshot) -> str:
    """Return the advice to use another catalog that has the package; empty without one."""
    having = (each for each in snapshot.sources if one.package in (each.offers or {}))
    other = next((each for each in having if (each.namespace, each.name) != one.source), None)
    return f"CatalogSource {other.name} has it: {repoint(one, (other.namespace, other.name))}." if other else ""


def _patch(one: Subscribed, channel: str) -> str:
    patch = json.dumps({"spec": {"channel": channel}}, separators=(",", ":"))
    return f"oc patch subscription.operators.coreos.com {one.name} -n {one.namespace} --type merge -p '{patch}'"


def _line(package: str, channel: str = "", csv: str = "") -> str:
    """Return the line of an image set that selects a package, with a channel and a version."""
    version = re.search(r"\.v?(\d+\.\d+\.\d+.*)$", csv)
    least = f", minVersion: {_quoted(version[1])}" if version else ""
    channels = f", channels: [{{name: {_quoted(channel)}{least}}}]" if channel else ""
    return f"`- {{name: {_quoted(package)}{channels}}}`"


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _required(body: Body, message: str, snapshot: Snapshot) -> Iterator[Finding]:
    """Give the requirement that no catalog fulfils."""
    if not _REQUIRED.search(message):
        return
    named = _PACKAGE.search(message)
    having = [source.name for source in snapshot.sources if named and named[1] in (source.offers or {})]
    shown = (short(message), *(f"CatalogSource {name} has package {named[1]}" for name in having if named))
    line = f" {_line(named[1])} in the image set." if named and not having else ""
    yield Finding(
        "dependency-missing",
        _subject(body),
        f"the operator needs another one {'in a version ' if having else ''}that no catalog of this cluster has",
        shown,
        f"Export that package too (hub-export create follows dependencies unless --skip-dependencies is given).{line}",
    )


def _conflicts(body: Body, message: str) -> Iterator[Finding]:
    for pattern, code, cause, fix in _REASONS:
        if pattern.search(message):
            where = f"namespace {body['metadata'].get('namespace', '')}"
            yield Finding(code, f"Subscriptions of {where}", cause, (short(message),), fix)
            return


# Readers of Subscriptions.


def with_condition(snapshot: Snapshot, kind: str) -> list[tuple[str, str, str]]:
    """Return namespace, name and message of the Subscriptions of which a condition is true."""
    return [(*_identity(each)[::-1], message) for each in snapshot.subscriptions if (message := _message(each, kind))]


def _message(body: Body, kind: str) -> str:
    """Return the message of a condition that is true; empty when it is not."""
    found = condition(body, kind)
    return str(found.get("message") or kind)[:_LONGEST] if found.get("status") == "True" else ""


def _identity(body: Body) -> tuple[str, str]:
    return str(body["metadata"]["name"]), str(body["metadata"].get("namespace", ""))


def _subject(body: Body) -> str:
    name, namespace = _identity(body)
    return f"Subscription {namespace}/{name}"


def _subscribed(snapshot: Snapshot) -> Iterator[tuple[Body, Subscribed]]:
    return ((body, Subscribed.of(body)) for body in snapshot.subscriptions)


def _source(key: SourceKey, snapshot: Snapshot) -> SourceState | None:
    return next((each for each in snapshot.sources if (each.namespace, each.name) == key), None)
