"""OLM's resolver: the conditions of Subscriptions, in its words.

Sources, all of operator-lifecycle-manager: pkg/controller/operators/catalog/subscription/state.go (CatalogSourcesUnhealthy),
pkg/controller/registry/resolver/resolver.go (`no operators found …`), pkg/controller/registry/resolver/cache/cache.go (a catalog
that does not answer; the words changed with v0.29, commit ff9084a, here by release from 4.18 on).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tests.fakes.cluster_store import Body, Key

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster

_DIAL = (
    'failed to list bundles: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: '
    'dial tcp: lookup {name}.{namespace}.svc on 172.30.0.10:53: no such host"'
)


class Resolver:
    """Writes the conditions of Subscriptions that came without any. Called under the store's lock."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._mine: set[Key] = set()

    def run(self) -> None:
        """Resolve every namespace; what tests gave conditions themselves stays as it is."""
        for key in self._keys("Subscription"):
            body = self._cluster.store.get(key)
            status, spec = body.get("status") or {}, body.get("spec") or {}
            if "source" not in spec or (status.get("conditions") and key not in self._mine):
                continue
            self._mine.add(key)
            self._cluster.store.set_status(key, {**status, "conditions": [self._health(spec), *self._resolution(body, spec)]})

    def _health(self, spec: Body) -> Body:
        place = f"{spec.get('sourceNamespace')}/{spec['source']}"
        if self._source(spec) is None:
            message, reason = f"targeted catalogsource {place} missing", "UnhealthyCatalogSourceFound"
            return {"type": "CatalogSourcesUnhealthy", "status": "True", "reason": reason, "message": message}
        message, reason = "all available catalogsources are healthy", "AllCatalogSourcesHealthy"
        return {"type": "CatalogSourcesUnhealthy", "status": "False", "reason": reason, "message": message}

    def _resolution(self, body: Body, spec: Body) -> Iterator[Body]:
        failed = {"type": "ResolutionFailed", "status": "True"}
        if down := self._down(spec):
            yield {**failed, "reason": "ErrorPreventedResolution", "message": self._unreachable(down[0])}
            return
        said = self._unsatisfied(spec)
        if said and not (body.get("status") or {}).get("installedCSV"):
            name = spec.get("name")
            message = f"constraints not satisfiable: {said} referenced by subscription {name}, subscription {name} exists"
            yield {**failed, "reason": "ConstraintsNotSatisfiable", "message": message}

    def _down(self, spec: Body) -> Sequence[Key]:
        """Return the catalogs that keep all Subscriptions from being resolved: those without a connection."""
        return [
            key
            for key in self._keys("CatalogSource")
            if key.namespace == spec.get("sourceNamespace") and self._state(key) == "TRANSIENT_FAILURE"
        ]

    def _unreachable(self, source: Key) -> str:
        said = _DIAL.format(name=source.name, namespace=source.namespace)
        if self._cluster.release is None or self._cluster.release >= (4, 18):
            return f"error using catalogsource {source.namespace}/{source.name}: {said}"
        return f"failed to populate resolver cache from source {source.name}/{source.namespace}: {said}"

    def _unsatisfied(self, spec: Body) -> str:
        name, channel, first = spec.get("name"), spec.get("channel"), spec.get("startingCSV")
        source = self._source(spec)
        if source is None:
            return f"no operators found from catalog {spec['source']} in namespace {spec.get('sourceNamespace')}"
        offered = self._cluster.simulator.offers(source)
        if offered is None:
            return ""
        package = next((each for each in offered if each.name == name), None)
        if package is None:
            return f"no operators found in package {name} in the catalog"
        channel = channel or package.default_channel
        entries = next((each.bundles for each in package.channels if each.name == channel), None)
        if entries is None:
            return f"no operators found in channel {channel} of package {name} in the catalog"
        if first and first not in {each.name for each in entries}:
            return f"no operators found with name {first} in channel {channel} of package {name} in the catalog"
        return ""

    def _source(self, spec: Body) -> Key | None:
        wanted = (spec["source"], spec.get("sourceNamespace"))
        return next((key for key in self._keys("CatalogSource") if (key.name, key.namespace) == wanted), None)

    def _state(self, source: Key) -> Any:
        status = self._cluster.store.get(source).get("status") or {}
        return (status.get("connectionState") or {}).get("lastObservedState")

    def _keys(self, kind: str) -> list[Key]:
        found = [each for each in self._cluster.kinds if each.kind == kind]
        return self._cluster.store.keys(found[0]) if found else []
