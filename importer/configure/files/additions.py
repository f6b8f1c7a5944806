"""What people added to the objects of an earlier render, in fields that hub-import does not write.

Specification: docs/reference/cluster.md, *render*.

On a cluster others own such fields, and `apply` leaves them; in a file nothing says who wrote one. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.errors import UsageError
from importer.cluster.kinds import OPERATOR_HUB, Resource, map_of
from importer.cluster.resources.catalog_source import defaults_off

if TYPE_CHECKING:
    from collections.abc import Mapping

    from importer.cluster.api.client import Body


def with_additions(resource: Resource, before: Body | None) -> Resource:
    """Return an object with the labels and annotations of its earlier form; one of the cluster with all of its fields.

    Raises UsageError for an OperatorHub whose sources cannot be read.
    """
    if before is None:
        return resource
    body, metadata = dict(resource.body), dict(resource.body["metadata"])
    for name in ("labels", "annotations"):
        if merged := {**map_of(map_of(before.get("metadata")).get(name)), **metadata.get(name, {})}:
            metadata[name] = merged
    body["metadata"] = metadata
    if resource.shared:
        body["spec"] = {**map_of(before.get("spec")), **body["spec"], **_sources_off(resource, before)}
    return Resource.of(body, shared=resource.shared)


def _sources_off(resource: Resource, before: Body) -> Mapping[str, Any]:
    """Return the fields of OperatorHub that disable every default source, also those that its `sources` enable."""
    if resource.kind != OPERATOR_HUB.name:
        return {}
    try:
        fields = defaults_off(before)
    except (AttributeError, TypeError) as error:
        raise UsageError(
            f"--merge: the sources of {OPERATOR_HUB.name} {resource.name} cannot be read: {str(error)[:200]}",
            hint="Correct them in operatorhub.yaml: a list of name and disabled.",
        ) from error
    return map_of(map_of(fields).get("spec"))
