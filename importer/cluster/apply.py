"""The resources into the cluster, in the order in which each finds what it needs; again and again without harm.

Objects of our own are applied, singletons that belong to the cluster get single fields (design: cluster, *apply*). What is
wanted is `resources.py`'s; how one object is written `writing.py`'s.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.errors import ClusterError
from importer.cluster.discovery import mirror_objects
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    CONFIG_MAP,
    DEPLOYMENT,
    IMAGE_CONFIG,
    IMAGE_REGISTRY,
    MARKETPLACE,
    NAMESPACE,
    NETWORK_POLICY,
    OPERATOR_HUB,
    SERVICE,
    Resource,
    kind_of,
)
from importer.cluster.resources.catalog_source import defaults_off, is_default
from importer.cluster.resources.mirror_rules import MIRROR_KINDS, merge_rules
from importer.cluster.trust import allow, ca_config_map_name, managed, trusting, with_ca
from importer.cluster.writing import Change, Wish, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from importer.cluster.client import Body, ClusterClient
    from importer.cluster.record import Recorder
    from importer.cluster.release import Release

_LEAVING_TRIES = 60
_LEAVING_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """Every object that was looked at, in order. In a dry run: what would have become of it."""

    changes: tuple[Change, ...]

    @property
    def changed(self) -> tuple[Change, ...]:
        """Those that are not as they were."""
        return tuple(change for change in self.changes if change.action != "unchanged")


def apply(
    client: ClusterClient,
    resources: Sequence[Resource],
    *,
    release: Release | None,
    dry_run: bool,
    tell: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    recorder: Recorder | None = None,
    registries: Sequence[str] = (),
) -> ApplyResult:
    """Bring resources into the cluster: trust, default sources off, mirror rules, then the catalogs.

    `registries`: hosts that nodes have to be allowed to pull from, where the cluster names those that they may.
    `release` None is a Kubernetes with OLM. `tell` gets a line for each object, `recorder` what was before. Repeatable: what
    is as wanted is not written.
    Raises ClusterError; what was done until then stays, and the next run goes on from there.
    """
    server_side = release is None or release.server_side_apply
    writer = Writer(client, server_side=server_side, dry_run=dry_run, tell=tell, recorder=recorder)
    chosen = _Chosen(resources)
    _trust(writer, chosen, registries)
    _default_sources_off(writer, chosen)
    _mirror_rules(writer, chosen, release)
    _namespace(writer, release)
    for resource in chosen.of(NETWORK_POLICY.name, DEPLOYMENT.name, SERVICE.name):
        writer.own(resource)
    for resource in chosen.of(CATALOG_SOURCE.name):
        if writer.dry_run and _is_default_there(writer, resource):
            writer.promise(resource)  # by then the default of its name is gone
            continue
        _await_default_gone(writer, resource, sleep)
        _without_image(writer, resource)
        writer.own(resource)
    _cluster_catalogs(writer, chosen)
    for resource in chosen.rest():
        writer.own(resource)
    return ApplyResult(tuple(writer.changes))


class _Chosen:
    """The wanted resources, by kind; each is taken once."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self._left = list(resources)

    def of(self, *kinds: str) -> list[Resource]:
        taken = [each for each in self._left if each.kind in kinds]
        self._left = [each for each in self._left if each.kind not in kinds]
        return taken

    def rest(self) -> list[Resource]:
        return self._left


def _trust(writer: Writer, chosen: _Chosen, registries: Sequence[str]) -> None:
    """Give the nodes the mirror's CA: into the ConfigMap that is in use, before images.config names it."""
    for resource in chosen.of(IMAGE_REGISTRY.name):
        writer.shared(IMAGE_REGISTRY, resource.name, "", managed(resource))
    for resource in chosen.of(CONFIG_MAP.name):
        name = ca_config_map_name(writer.client, resource.name)
        writer.shared(CONFIG_MAP, name, resource.namespace, with_ca(resource))
    for resource in chosen.of(IMAGE_CONFIG.name):
        wanted = resource.body["spec"]["additionalTrustedCA"]["name"]
        writer.shared(IMAGE_CONFIG, resource.name, "", trusting(wanted))
    if registries:
        allow(writer, registries)


def _default_sources_off(writer: Writer, chosen: _Chosen) -> None:
    """Switch the default sources off; a cluster without the marketplace has none, and no OperatorHub either."""
    for resource in chosen.of(OPERATOR_HUB.name):
        writer.shared(OPERATOR_HUB, resource.name, "", defaults_off)


def _mirror_rules(writer: Writer, chosen: _Chosen, release: Release | None) -> None:
    wanted = chosen.of(*(kind.name for kind in MIRROR_KINDS))
    if not wanted:
        return
    merged = merge_rules(wanted, mirror_objects(writer.client, release))
    for resource in merged.satisfied:
        writer.leave(resource.kind, resource.name, "", "its rules are in force already")
    for resource in merged.write:
        writer.own(resource)


def _cluster_catalogs(writer: Writer, chosen: _Chosen) -> None:
    """Serve our catalogs to OLM v1 too, and stop its defaults; a cluster without OLM v1 is told of, and is fine."""
    wanted = chosen.of(CLUSTER_CATALOG.name)
    if not wanted:
        return
    served = writer.client.list(CLUSTER_CATALOG)
    present = {each["metadata"]["name"] for each in served or []}
    for resource in wanted:
        if served is None and not resource.shared:
            writer.leave(resource.kind, resource.name, "", "the cluster has no OLM v1")
        elif not resource.shared:
            writer.own(resource)
        elif resource.name in present:
            mode = resource.body["spec"]["availabilityMode"]
            writer.shared(CLUSTER_CATALOG, resource.name, "", _if_there({"spec": {"availabilityMode": mode}}))


def _if_there(fields: Mapping[str, Any]) -> Wish:
    """Return the wish to change an object, but not to make it."""
    return lambda live: None if live is None else fields


def _namespace(writer: Writer, release: Release | None) -> None:
    """Make the namespace of catalogs where the marketplace, which brings it along, was left out of the cluster.

    It is not recorded: `undo` would take with it what others have put there since.
    """
    if release is None or not release.has_capabilities or writer.client.get(NAMESPACE, MARKETPLACE) is not None:
        return
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    unrecorded = Writer(writer.client, server_side=False, dry_run=writer.dry_run, tell=writer.tell)
    unrecorded.shared(NAMESPACE, MARKETPLACE, "", lambda live: {"metadata": {"labels": labels}} if live is None else None)
    writer.changes += unrecorded.changes
    writer.unmade.add(MARKETPLACE)


def _without_image(writer: Writer, resource: Resource) -> None:
    """Take the image out of a CatalogSource that shall have an address: OLM takes the image where both are."""
    if "address" not in resource.body["spec"]:
        return

    def wish(live: Body | None) -> Mapping[str, Any] | None:
        return {"spec": {"image": None, "grpcPodConfig": None}} if live else None

    if "image" in ((writer.client.get(CATALOG_SOURCE, resource.name, resource.namespace) or {}).get("spec") or {}):
        writer.shared(CATALOG_SOURCE, resource.name, resource.namespace, wish)


def _await_default_gone(writer: Writer, resource: Resource, sleep: Callable[[float], None]) -> None:
    """Let the marketplace delete its default of the same name first: what we applied before that, it would delete.

    The default's own object is never changed: it keeps the annotation by which the marketplace takes it for its own.
    """
    for _ in range(_LEAVING_TRIES):
        if not _is_default_there(writer, resource):
            return
        writer.tell(f"waiting for the marketplace to remove its default CatalogSource {resource.name}")
        sleep(_LEAVING_PAUSE_S)
    waited_s = _LEAVING_TRIES * _LEAVING_PAUSE_S
    raise ClusterError(
        f"the default CatalogSource {resource.name} was disabled, and still exists after {waited_s:.0f} s",
        hint="Look at OperatorHub `cluster`: do its `sources` enable it? And does the marketplace operator run?",
    )


def _is_default_there(writer: Writer, resource: Resource) -> bool:
    live = writer.client.get(kind_of(resource.api_version, resource.kind), resource.name, resource.namespace)
    return live is not None and is_default(live)
