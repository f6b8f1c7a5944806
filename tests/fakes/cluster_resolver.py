"""OLM's resolver: the conditions of Subscriptions, in its words.

Sources, all of operator-lifecycle-manager: pkg/controller/operators/catalog/subscription/state.go (CatalogSourcesUnhealthy),
pkg/controller/registry/resolver/resolver.go (`no operators found …`), pkg/controller/registry/resolver/cache/cache.go (a catalog
that does not answer; the words changed with v0.29, commit ff9084a, here by release from 4.18 on).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tests.fakes.cluster_operators import PENDING
from tests.fakes.cluster_store import Body, Key
from tests.fakes.cluster_upgrades import Upgrades

if TYPE_CHECKING:
    from common.archive.inventory import ChannelRecord
    from tests.fakes.cluster import FakeCluster

_DIAL = (
    'failed to list bundles: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: '
    'dial tcp: lookup {name}.{namespace}.svc on 172.30.0.10:53: no such host"'
)


class Resolver:
    """Writes the conditions of Subscriptions that came without any, and lets them update. Called under the store's lock."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._upgrades = Upgrades(cluster)
        self._mine: set[Key] = set()

    def run(self) -> None:
        """Resolve every namespace; what tests gave conditions themselves stays as it is."""
        found: dict[str, list[Key]] = {}
        for key in self._keys("Subscription"):
            body = self._cluster.store.get(key)
            if "source" in (body.get("spec") or {}) and (key in self._mine or not _conditions(body)):
                self._mine.add(key)
                found.setdefault(key.namespace, []).append(key)
        for namespace, keys in found.items():
            self._resolve(namespace, keys)

    def _resolve(self, namespace: str, keys: Sequence[Key]) -> None:
        """Resolve one namespace as a whole: what one Subscription cannot have, none of them gets (`setSubsCond`)."""
        bodies = {key: self._cluster.store.get(key) for key in keys}
        waiting = any((body.get("status") or {}).get("state") == PENDING for body in bodies.values())
        failed = [] if waiting else list(itertools.chain.from_iterable(map(self._resolution, bodies.values())))[:1]
        for key, body in bodies.items():
            kept = [each for each in _conditions(body) if each["type"].startswith(("InstallPlan", "Bundle"))]
            conditions = [self._health(body["spec"]), *failed, *kept]
            self._cluster.store.set_status(key, {**(body.get("status") or {}), "conditions": conditions})
        if not failed:
            self._upgrades.run(namespace, [(key, self._channel(body["spec"])) for key, body in bodies.items()])

    def _channel(self, spec: Body) -> ChannelRecord | None:
        """Return the channel of a Subscription as its catalog has it; None where that is not known."""
        source = self._source(spec)
        offered = self._cluster.simulator.offers(source) if source else None
        for package in offered or ():
            if package.name == spec.get("name"):
                wanted = spec.get("channel") or package.default_channel
                return next((each for each in package.channels if each.name == wanted), None)
        return None

    def _health(self, spec: Body) -> Body:
        place = f"{spec.get('sourceNamespace')}/{spec['source']}"
        if self._source(spec) is None:
            message, reason = f"targeted catalogsource {place} missing", "UnhealthyCatalogSourceFound"
            return {"type": "CatalogSourcesUnhealthy", "status": "True", "reason": reason, "message": message}
        message, reason = "all available catalogsources are healthy", "AllCatalogSourcesHealthy"
        return {"type": "CatalogSourcesUnhealthy", "status": "False", "reason": reason, "message": message}

    def _resolution(self, body: Body) -> Iterator[Body]:
        """Give the condition of a Subscription that OLM cannot resolve, installed or not (operator-lifecycle-manager#3162)."""
        spec = body["spec"]
        failed = {"type": "ResolutionFailed", "status": "True"}
        if down := self._down(spec):
            yield {**failed, "reason": "ErrorPreventedResolution", "message": self._unreachable(down[0])}
            return
        said = self._unsatisfied(body, spec)
        if said:
            name = body["metadata"]["name"]
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

    def _unsatisfied(self, body: Body, spec: Body) -> str:
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
        installed = (body.get("status") or {}).get("installedCSV")
        if first and not installed and first not in {each.name for each in entries}:
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


def _conditions(body: Body) -> list[Body]:
    return list((body.get("status") or {}).get("conditions") or [])
