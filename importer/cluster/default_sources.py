"""The CatalogSources that OpenShift itself brings: how to recognize them, and how they are switched off. Pure.

The marketplace operator deletes them when OperatorHub disables them, and a person's CatalogSource of the same name may then
take their place (operator-marketplace, pkg/defaults/catsrcHelpers.go). The `sources` of OperatorHub win over its
`disableAllDefaultSources` (README.md and pkg/operatorhub there): a default that they enable would stay, and keep every
Subscription from being resolved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from importer.cluster.client import Body

MANAGED_BY = "operatorframework.io/managed-by"
_MARKETPLACE_OPERATOR = "marketplace-operator"
_OPERATOR_SOURCE = "opsrc-owner-name"  # label of a CatalogSource made for an OperatorSource, up to 4.5
_NAMES = frozenset(("certified-operators", "community-operators", "redhat-marketplace", "redhat-operators"))


def is_default(source: Body) -> bool:
    """Say whether the marketplace operator put a CatalogSource there by default, and deletes it when it is disabled.

    Up to 4.5 a default is an OperatorSource, whose CatalogSource goes with it; other OperatorSources stay. The annotation came
    during 4.6 (operator-marketplace#373); before it only the manager of the fields shows who wrote the object.
    """
    metadata = source["metadata"]
    if (metadata.get("annotations") or {}).get(MANAGED_BY) == _MARKETPLACE_OPERATOR:
        return True
    owner = (metadata.get("labels") or {}).get(_OPERATOR_SOURCE)
    managers = {each.get("manager") for each in metadata.get("managedFields") or ()}
    return metadata["name"] in _NAMES and (owner == metadata["name"] or _MARKETPLACE_OPERATOR in managers)


def switched_off(live: Body | None) -> Mapping[str, Any] | None:
    """Return the fields that switch all default sources off; None for a cluster without OperatorHub."""
    if live is None:
        return None
    sources = _sources(live)
    named = {"sources": [{**each, "disabled": True} for each in sources]} if _enables(sources) else {}
    return {"spec": {"disableAllDefaultSources": True, **named}}


def _enables(sources: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether a source is enabled by name; an entry without `disabled` enables."""
    return not all(each.get("disabled") for each in sources)


def _sources(live: Body) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = (live.get("spec") or {}).get("sources") or []
    return found
