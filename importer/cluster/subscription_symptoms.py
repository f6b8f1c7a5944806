"""What OLM says of Subscriptions whose CatalogSource does not exist. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from importer.cluster.client import Body
from importer.cluster.evidence import Evidence
from importer.cluster.finding import Finding
from importer.cluster.looks import condition, short
from importer.cluster.subscriptions import ORPHANED, Place, Subscribed, repoint

# Messages of operator-lifecycle-manager: pkg/controller/operators/catalog/subscription/state.go (CatalogSourcesUnhealthy),
# pkg/controller/registry/resolver/resolver.go (ResolutionFailed).
_MISSING = re.compile(r"targeted catalogsource ([a-z0-9.-]+)/([a-z0-9.-]+) missing")
_FROM_CATALOG = re.compile(r"no operators found from catalog ([a-z0-9.-]+) in namespace ([a-z0-9.-]+)")


def orphaned(evidence: Evidence) -> Iterator[Finding]:
    """Give an error for each Subscription whose CatalogSource does not exist, unless OLM gives another reason."""
    for body in evidence.subscriptions:
        one = Subscribed.of(body)
        if not _is_orphaned(body, one, evidence):
            continue
        said = (_said(body, kind) for kind in ("CatalogSourcesUnhealthy", "ResolutionFailed"))
        yield Finding(
            ORPHANED,
            f"Subscription {one.namespace}/{one.name}",
            f"it names CatalogSource {'/'.join(one.source)}, which does not exist: {one.package} gets no updates",
            (str(one), *(short(each) for each in said if each)),
            _fix(one, evidence),
        )


def is_explained(said: str, evidence: Evidence) -> bool:
    """Say whether the resolver complains of a CatalogSource that another finding calls missing.

    It then fails for all Subscriptions of the namespace, with the same message.
    """
    named = _named(said)
    subscribed = ((body, Subscribed.of(body)) for body in evidence.subscriptions)
    return named is not None and any(one.source == named and _is_orphaned(body, one, evidence) for body, one in subscribed)


def _is_orphaned(body: Body, one: Subscribed, evidence: Evidence) -> bool:
    sources = evidence.all_sources
    if sources is not None and one.source in sources.bodies:
        return False  # what OLM said of it is older
    match = _MISSING.search(_said(body, "CatalogSourcesUnhealthy"))
    if match and match.groups() == one.source:
        return True
    failed = [said for kind in ("ResolutionFailed", "BundleUnpackFailed") if (said := _said(body, kind))]
    if failed and one.source not in map(_named, failed):
        return False
    return sources is not None and sources.lack(one.source)


def _said(body: Body, kind: str) -> str:
    """Return the message of a condition that is true; empty when it is not."""
    found = condition(body, kind)
    return str(found.get("message") or kind) if found.get("status") == "True" else ""


def _named(said: str) -> Place | None:
    match = _FROM_CATALOG.search(said)
    return (match[2], match[1]) if match else None


def _fix(one: Subscribed, evidence: Evidence) -> str:
    known = [source.expected for source in evidence.sources if source.expected is not None]
    offering = next((each for each in known if one.package in each.packages), None)
    if offering is None:
        return f"Export {one.package} too and apply with --catalog-name {one.source[1]}, or bring that catalog back."
    patch = repoint(one, (offering.namespace, offering.name))
    if one.source[0] != offering.namespace:
        return f"Let it name {offering.name}: {patch}"
    name = one.source[1] if len(known) == 1 else f"CATALOG={one.source[1]}"
    return f"Run hub-import apply again with --catalog-name {name}; or let it name {offering.name}: {patch}"
