"""Application of resources to a cluster, each after those that it depends on (docs/reference/cluster.md, *apply*). Idempotent.

`resources/build.py` makes the resources; `writing.py` writes a single object.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.errors import ClusterError
from importer.cluster.api.discovery import mirror_objects
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    CLUSTER_VERSION,
    CONFIG_MAP,
    DEPLOYMENT,
    IMAGE_CONFIG,
    IMAGE_REGISTRY,
    MARKETPLACE,
    NAMESPACE,
    NETWORK_POLICY,
    OPERATOR_HUB,
    SERVICE,
    SUBSCRIPTION,
    UPDATE_SERVICE,
    Resource,
    has_own_label,
    kind_of,
)
from importer.cluster.resources.build import NAME as CA_NAME
from importer.cluster.resources.catalog_source import defaults_off, is_default
from importer.cluster.resources.mirror_rules import MIRROR_KINDS, merge_rules
from importer.cluster.resources.openshift_release import (
    foreign_name,
    has_space,
    is_signatures,
    lacks,
    with_graph,
    with_signatures,
)
from importer.cluster.trust import allow, ca_config_map_name, managed, trusting, with_ca
from importer.cluster.writing import Change, Wish, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.record import Recorder
    from importer.cluster.release import Release


_REMOVAL_TRIES = 60
_REMOVAL_PAUSE_S = 2.0  # the marketplace operator reconciles within seconds, unless it is being restarted


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """The result for every object, in order; in a dry run, the predicted one."""

    changes: tuple[Change, ...]

    @property
    def changed(self) -> tuple[Change, ...]:
        """The objects that were created or changed."""
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
    """Bring resources into the cluster: trust, default sources off, mirror rules, releases, then the catalogs.

    `registries`: hosts to add where the cluster has a list of allowed registries. `release` None is a Kubernetes with OLM.
    Each object is reported in a line, and `recorder` receives the former values; objects that do not differ are not written.
    Raises ClusterError; changes until then stay, and a repeated call continues from there.
    """
    server_side = release is None or release.server_side_apply
    writer = Writer(client, server_side=server_side, dry_run=dry_run, tell=tell, recorder=recorder)
    pending = _Pending(resources)
    _trust(writer, pending, registries)
    _default_sources_off(writer, pending)
    _mirror_rules(writer, pending, release)
    _releases(writer, pending)
    if pending.has(CATALOG_SOURCE.name):
        _namespace(writer, release)
    # What serves a catalog by address comes before the CatalogSource that names it.
    for resource in pending.of(NETWORK_POLICY.name, DEPLOYMENT.name, SERVICE.name):
        writer.own(resource)
    for resource in pending.of(CATALOG_SOURCE.name):
        if writer.dry_run and _is_default_there(writer, resource):
            writer.promise(resource)  # after the change, the default with this name is deleted first
            continue
        _await_default_gone(writer, resource, sleep)
        _without_image(writer, resource)
        writer.own(resource)
    _cluster_catalogs(writer, pending)
    # After the catalogs: OLM resolves a Subscription as soon as it names another one.
    for resource in pending.of(SUBSCRIPTION.name):
        writer.shared(SUBSCRIPTION, resource.name, resource.namespace, _if_there({"spec": resource.body["spec"]}))
    for resource in pending.rest():
        writer.own(resource)
    return ApplyResult(tuple(writer.changes))


class _Pending:
    """The resources that are not applied yet, by kind."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self._left = list(resources)

    def of(self, *kinds: str) -> list[Resource]:
        taken = [each for each in self._left if each.kind in kinds]
        self._left = [each for each in self._left if each.kind not in kinds]
        return taken

    def named(self, kind: str, name: str) -> list[Resource]:
        taken = [each for each in self._left if (each.kind, each.name) == (kind, name)]
        self._left = [each for each in self._left if each not in taken]
        return taken

    def has(self, kind: str) -> bool:
        return any(each.kind == kind for each in self._left)

    def rest(self) -> list[Resource]:
        return self._left


def _trust(writer: Writer, pending: _Pending, registries: Sequence[str]) -> None:
    """Write the mirror's CA into the ConfigMap in use, before images.config names it, and allow its registry."""
    # The registry first: up to 4.4 its operator runs node-ca, which copies the CA to the nodes.
    for resource in pending.of(IMAGE_REGISTRY.name):
        writer.shared(IMAGE_REGISTRY, resource.name, "", managed(resource))
    for resource in pending.named(CONFIG_MAP.name, CA_NAME):
        name = ca_config_map_name(writer.client, resource.name)
        writer.shared(CONFIG_MAP, name, resource.namespace, with_ca(resource))
    for resource in pending.of(IMAGE_CONFIG.name):
        wanted = resource.body["spec"]["additionalTrustedCA"]["name"]
        writer.shared(IMAGE_CONFIG, resource.name, "", trusting(wanted))
    # With allowedRegistries set, policy.json rejects all other registries, also the sources of the mirror rules.
    if registries:
        allow(writer, registries)


def _default_sources_off(writer: Writer, pending: _Pending) -> None:
    """Disable the default sources; a cluster without the capability `marketplace` has no OperatorHub."""
    for resource in pending.of(OPERATOR_HUB.name):
        writer.shared(OPERATOR_HUB, resource.name, "", defaults_off)


def _mirror_rules(writer: Writer, pending: _Pending, release: Release | None) -> None:
    wanted = pending.of(*(kind.name for kind in MIRROR_KINDS))
    if not wanted:
        return
    # All kinds are read: a rule that another object has in force already must not roll the nodes again.
    merged = merge_rules(wanted, mirror_objects(writer.client, release))
    for resource in merged.satisfied:
        writer.leave(resource.kind, resource.name, "", "its rules are in force already")
    for resource in merged.write:
        writer.own(resource)


def _releases(writer: Writer, pending: _Pending) -> None:
    """Write what updates of the cluster need: signatures, acknowledgements, and the update service with its address."""
    for resource in pending.of(CONFIG_MAP.name):
        if is_signatures(resource):
            _signature(writer, resource)
        else:
            writer.shared(CONFIG_MAP, resource.name, resource.namespace, _with_data(resource))
    for resource in pending.of(UPDATE_SERVICE.name):
        writer.shared(UPDATE_SERVICE, resource.name, resource.namespace, with_graph(resource))
    for resource in pending.of(CLUSTER_VERSION.name):
        writer.shared(CLUSTER_VERSION, resource.name, "", _if_there({"spec": resource.body["spec"]}))


def _with_data(resource: Resource) -> Wish:
    """Return the wish for the keys of a ConfigMap that belongs to the administrator."""
    return lambda _live: {"data": resource.body["data"]}


def _signature(writer: Writer, resource: Resource) -> None:
    """Add the signatures of a payload; what others have in a ConfigMap of the same name stays."""
    live = writer.client.get(CONFIG_MAP, resource.name, resource.namespace)
    name = resource.name
    # A second one takes what a full one has no room for.
    if live is not None and not (has_own_label(live) and has_space(live, resource)):
        if not lacks(live, resource):
            writer.leave(CONFIG_MAP.name, name, resource.namespace, "it has the signatures already")
            return
        name = foreign_name(name)
    writer.shared(CONFIG_MAP, name, resource.namespace, with_signatures(resource))


def _cluster_catalogs(writer: Writer, pending: _Pending) -> None:
    """Serve the catalogs to OLM v1 too, and stop its defaults, where the cluster has OLM v1."""
    wanted = pending.of(CLUSTER_CATALOG.name)
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
            # Only the mode: the default ClusterCatalogs belong to OpenShift, and a missing one must not be created.
            mode = resource.body["spec"]["availabilityMode"]
            writer.shared(CLUSTER_CATALOG, resource.name, "", _if_there({"spec": {"availabilityMode": mode}}))


def _if_there(fields: Mapping[str, Any]) -> Wish:
    """Return the wish to change an object, but not to create it."""
    return lambda live: None if live is None else fields


def _namespace(writer: Writer, release: Release | None) -> None:
    """Create the namespace of catalogs where the capability `marketplace`, which includes it, is disabled."""
    if release is None or not release.has_capabilities or writer.client.get(NAMESPACE, MARKETPLACE) is not None:
        return
    # The level that the marketplace gives its namespace since 4.12.
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    # Not recorded: `undo` would delete the namespace with all objects that others have created in it since.
    unrecorded = Writer(writer.client, server_side=False, dry_run=writer.dry_run, tell=writer.tell)
    unrecorded.shared(NAMESPACE, MARKETPLACE, "", lambda live: {"metadata": {"labels": labels}} if live is None else None)
    writer.changes += unrecorded.changes
    writer.unmade.add(MARKETPLACE)


def _without_image(writer: Writer, resource: Resource) -> None:
    """Remove the image from a CatalogSource that gets an address: OLM prefers the image where it has both."""
    if "address" not in resource.body["spec"]:
        return

    def wish(live: Body | None) -> Mapping[str, Any] | None:
        # grpcPodConfig configures the pod that OLM no longer creates.
        return {"spec": {"image": None, "grpcPodConfig": None}} if live else None

    if "image" in ((writer.client.get(CATALOG_SOURCE, resource.name, resource.namespace) or {}).get("spec") or {}):
        writer.shared(CATALOG_SOURCE, resource.name, resource.namespace, wish)


def _await_default_gone(writer: Writer, resource: Resource, sleep: Callable[[float], None]) -> None:
    """Wait until the marketplace operator has deleted its default of the same name."""
    # It deletes the objects that have its annotation, so the default's own object must not be changed and kept.
    for _ in range(_REMOVAL_TRIES):
        if not _is_default_there(writer, resource):
            return
        writer.tell(f"waiting for the marketplace to remove its default CatalogSource {resource.name}")
        sleep(_REMOVAL_PAUSE_S)
    waited_s = _REMOVAL_TRIES * _REMOVAL_PAUSE_S
    raise ClusterError(
        f"the default CatalogSource {resource.name} was disabled, and still exists after {waited_s:.0f} s",
        hint="See OperatorHub `cluster`: do its `sources` enable it? Does the marketplace operator run?",
    )


def _is_default_there(writer: Writer, resource: Resource) -> bool:
    live = writer.client.get(kind_of(resource.api_version, resource.kind), resource.name, resource.namespace)
    return live is not None and is_default(live)
