"""Snapshots of a cluster for the rules of a diagnosis: everything is well unless a test says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from importer.cluster.readiness.readiness import Offer
from importer.diagnose.snapshot import Snapshot, SourceState
from importer.operators.installed import Sources

if TYPE_CHECKING:
    from collections.abc import Iterable

MARKET = "openshift-marketplace"
OWN = {"app.kubernetes.io/managed-by": "hub-import"}


def subscription(
    name: str = "alpha",
    source: str = "index",
    place: str = MARKET,
    namespace: str = "site",
    spec: dict[str, Any] | None = None,
    **conditions: str,
) -> dict[str, Any]:
    """Return a Subscription of a package of its name, with conditions that are true and their messages."""
    listed = [{"type": kind, "status": "True", "message": said} for kind, said in conditions.items()]
    wanted = {"name": name, "source": source, "sourceNamespace": place, **(spec or {})}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": wanted, "status": {"conditions": listed}}


def source(
    name: str = "index",
    state: str = "READY",
    place: str = MARKET,
    labels: dict[str, str] = OWN,
    offers: dict[str, dict[str, str]] | None = None,
    **fields: Any,
) -> SourceState:
    """Return a CatalogSource; `offers`: package → channel → head, the first channel is the default."""
    body = {
        "metadata": {"name": name, "namespace": place, "labels": labels},
        "spec": {"sourceType": "grpc", "image": f"mirror.example/{name}@sha256:{'ab' * 32}"},
        "status": {"connectionState": {"lastObservedState": state}},
    }
    listed = {package: Offer(next(iter(heads), ""), dict(heads)) for package, heads in (offers or {}).items()}
    return SourceState(body, (), offers=None if offers is None else listed, **fields)


def snapshot(
    *subscriptions: dict[str, Any],
    sources: Iterable[SourceState] = (),
    elsewhere: Iterable[SourceState] = (),
    everywhere: bool = True,
    known: bool = True,
    **fields: Any,
) -> Snapshot:
    """Return the state of a cluster. `sources`: CatalogSources of the catalogs' namespace, `elsewhere` those of others."""
    bodies = {(each.namespace, each.name): each.body for each in (*sources, *elsewhere)}
    nothing: dict[str, Any] = {
        "release": None,
        "pools": (),
        "missing_rules": {},
        "ca_keys": frozenset(),
        "registry_state": "",
        "jobs": (),
        "cluster_catalogs": (),
        "package_log": "",
        "rule_kinds": frozenset(),
        "all_sources": Sources(bodies, MARKET, everywhere=everywhere) if known else None,
    }
    return Snapshot(sources=tuple(sources), subscriptions=subscriptions, **{**nothing, **fields})
