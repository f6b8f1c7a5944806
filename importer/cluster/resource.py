"""A Kubernetes object as the importer writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OWN_LABELS = {"app.kubernetes.io/managed-by": "hub-import"}  # of every object that is ours alone


@dataclass(frozen=True, slots=True)
class Resource:
    """One object, ready for YAML or for the API. `namespace` is empty for cluster-scoped kinds.

    `body` is the whole of it; of one that is `shared` with the cluster, the fields that we want in it where it exists.
    """

    api_version: str
    kind: str
    name: str
    namespace: str
    body: Mapping[str, Any]
    shared: bool = False

    @classmethod
    def of(cls, body: Mapping[str, Any], *, shared: bool = False) -> Resource:
        """Return the resource that a body describes."""
        metadata = body["metadata"]
        return cls(body["apiVersion"], body["kind"], metadata["name"], metadata.get("namespace", ""), body, shared)
