"""What OLM does with Subscriptions and ClusterExtensions that install something for the first time, one read after another.

Sources: operator-lifecycle-manager, pkg/controller/operators/catalog/operator.go (a Subscription without an installed version gets
`startingCSV`, else the head; `syncInstallPlans` queries the OperatorGroup), pkg/lib/scoped/querier.go (its words),
pkg/controller/operators/olm/operator.go (reasons of a ClusterServiceVersion), pkg/controller/operators/olm/operatorgroup.go (labels of
namespaces, annotation of groups), pkg/controller/operators/adoption_controller.go (labels of components); operator-controller,
internal/operator-controller/resolve and applier/provider.go. Namespaces: kube-controller-manager, root-ca-cert-publisher and
serviceaccount controllers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes.cluster_store import Body, Key, Write
from tests.fakes.olm_groups import targets, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.archive.inventory import ChannelRecord
    from tests.fakes.cluster import FakeCluster

_WORDS = {
    "NoOperatorGroup": "csv in namespace with no operatorgroups",
    "TooManyOperatorGroups": "csv created in namespace with multiple operatorgroups, can't pick one automatically",
    "NoTargetNamespaces": "no targetNamespaces are matched operatorgroups namespace selection",
    "InterOperatorGroupOwnerConflict": "intersecting operatorgroups provide the same apis",
    "CannotModifyStaticOperatorGroupProvidedAPIs": "static provided api operatorgroup cannot be modified by these apis",
}


class Installs:
    """The first installation of operators. Called under the store's lock; does nothing unless the cluster plays it."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    @property
    def played(self) -> bool:
        return self._cluster.plays_installs

    def first(self, body: Body, channel: ChannelRecord) -> str:
        """Return the bundle that a Subscription installs first; empty for one that tests wrote with a state."""
        if not self.played or (body.get("status") or {}).get("state"):
            return ""
        return str(body["spec"].get("startingCSV") or channel.head)

    def query_failure(self, namespace: str) -> str:
        """Return why an InstallPlan is not carried out: the namespace has not one OperatorGroup."""
        count = len(self._groups(namespace)) if self.played else 1
        if count == 1:
            return ""
        many = f"more than one operator group(s) are managing this namespace count={count}"
        return many if count else "no operator group found that is managing this namespace"

    def adopt(self, namespace: str, subscription: Key, bundle: str) -> None:
        """Fail the ClusterServiceVersion that its OperatorGroup does not fit; else let the operator join the group."""
        if not self.played:
            return
        found = self._head_of(bundle)
        if found is None:
            return
        labels = {each: self._labels(each) for each in self._cluster.namespaces()}
        reason = verdict(namespace, found.install_modes, set(found.provided_apis), self._groups(), labels)
        key = Key(self._cluster.kind("ClusterServiceVersion"), namespace, bundle)
        if reason:
            selected = targets(self._groups(namespace)[0], labels)
            unsupported = f"InstallModeType not supported, cannot configure to watch {selected}"
            status = {"phase": "Failed", "reason": reason, "message": _WORDS.get(reason, unsupported)}
            self._cluster.store.set_status(key, status)
            return
        self._join(namespace, found)
        package = str(self._cluster.store.get(subscription)["spec"]["name"])
        component = {"metadata": {"labels": {f"operators.coreos.com/{package}.{namespace}": ""}}}
        self._cluster.store.merge_patch(subscription, component, Write("olm"))

    def own_plan(self, subscription: Key, plan: str) -> None:
        """Let the InstallPlan belong to its Subscription."""
        if self.played:
            uid = self._cluster.store.get(subscription)["metadata"]["uid"]
            owner = {"kind": "Subscription", "name": subscription.name, "uid": uid}
            key = Key(self._cluster.kind("InstallPlan"), subscription.namespace, plan)
            self._cluster.store.merge_patch(key, {"metadata": {"ownerReferences": [owner]}}, Write("catalog-operator"))

    def _join(self, namespace: str, head: ChannelRecord) -> None:
        (group,) = self._groups(namespace)
        name, uid = group["metadata"]["name"], group["metadata"]["uid"]
        listed = str((group["metadata"].get("annotations") or {}).get("olm.providedAPIs") or "")
        apis = ",".join(sorted({*filter(None, listed.split(",")), *head.provided_apis}))
        key = Key(self._cluster.kind("OperatorGroup"), namespace, name)
        self._cluster.store.merge_patch(key, {"metadata": {"annotations": {"olm.providedAPIs": apis}}}, Write("olm"))
        selected = targets(group, {each: self._labels(each) for each in self._cluster.namespaces()})
        self._cluster.store.set_status(key, {"namespaces": selected, "lastUpdated": "2026-01-02T03:04:05Z"})
        if selected != [""]:
            label = {"metadata": {"labels": {f"olm.operatorgroup.uid/{uid}": ""}}}
            for each in selected:
                self._cluster.store.merge_patch(Key(self._cluster.kind("Namespace"), "", each), label, Write("olm"))

    def _groups(self, namespace: str = "") -> list[Body]:
        kind = self._cluster.kind("OperatorGroup")
        return [self._cluster.store.get(key) for key in self._cluster.store.keys(kind, namespace)]

    def _labels(self, namespace: str) -> dict[str, str]:
        return dict(self._cluster.get("Namespace", namespace)["metadata"].get("labels") or {})

    def _head_of(self, bundle: str) -> ChannelRecord | None:
        """Return the channel with a bundle; what its head states is taken for the bundle."""
        channels = (c for offered in self._cluster.catalog_contents.values() for p in offered for c in p.channels)
        return next((each for each in channels if any(one.name == bundle for one in each.bundles)), None)

    def namespaces(self) -> None:
        """Give new namespaces what each has."""
        for name in self._cluster.namespaces() if self.played else ():
            for kind, each in (("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")):
                key = Key(self._cluster.kind(kind), name, each)
                if self._cluster.store.find(key) is None:
                    self._cluster.store.create(
                        key, {"metadata": {"name": each, "namespace": name}}, Write("kube-controller-manager")
                    )

    def vanish(self) -> None:
        """Take away what was in namespaces that are gone."""
        left = set(self._cluster.namespaces())
        for key in self._cluster.store.all_keys():
            if key.kind.namespaced and key.namespace not in left:
                self._cluster.store.delete(key)

    def extensions(self) -> None:
        """Let OLM v1 install what ClusterExtensions ask for, or say why not."""
        if not self.played or not any(each.kind == "ClusterExtension" for each in self._cluster.kinds):
            return
        for key in self._cluster.store.keys(self._cluster.kind("ClusterExtension")):
            body = self._cluster.store.get(key)
            said, bundle = self._resolved(body)
            if said:
                conditions = [
                    _condition("Progressing", "True", "Retrying", said),
                    _condition("Installed", "False", "Failed", said),
                ]
                self._cluster.store.set_status(key, {"conditions": conditions})
            else:
                conditions = [_condition("Progressing", "True", "Succeeded"), _condition("Installed", "True", "Succeeded")]
                self._cluster.store.set_status(key, {"conditions": conditions, "install": {"bundle": bundle}})

    def _resolved(self, body: Body) -> tuple[str, Body]:
        spec = body["spec"]
        asked, account = spec["source"]["catalog"], (spec.get("serviceAccount") or {}).get("name", "")
        name = asked["packageName"]
        found = next(self._served_to_v1(asked), None)
        if found is None:
            return f'no bundles found for package "{name}"', {}
        if self._cluster.needs_account:
            if self._cluster.store.find(Key(self._cluster.kind("ServiceAccount"), spec["namespace"], account)) is None:
                return f'service account "{account}" not found in namespace "{spec["namespace"]}"', {}
            if account not in self._administrators():
                return (
                    "pre-authorization failed: service account requires the following permissions to manage cluster extension",
                    {},
                )
        if failing := self._cluster.updates.failing.get(found.head):
            return failing[1], {}
        if found.required_packages or found.required_apis or found.constraints:
            return (
                f'bundle "{found.head}" has a dependency declared via property "olm.gvk.required" which is currently not supported',
                {},
            )
        if "AllNamespaces" not in found.install_modes and not (spec.get("config") and self._cluster.watches_one):
            return "unsupported bundle: bundle does not support AllNamespaces install mode", {}
        entry = next((one for one in found.bundles if one.version == asked.get("version")), found.bundles[0])
        return "", {"name": entry.name, "version": entry.version}

    def _administrators(self) -> set[str]:
        kind = self._cluster.kind("ClusterRoleBinding")
        found = (self._cluster.store.get(key) for key in self._cluster.store.keys(kind))
        return {each["name"] for body in found if body["roleRef"]["name"] == "cluster-admin" for each in body["subjects"]}

    def _served_to_v1(self, asked: Body) -> Iterator[ChannelRecord]:
        labels = (asked.get("selector") or {}).get("matchLabels") or {}
        wanted = labels.get("olm.operatorframework.io/metadata.name")
        for key in self._cluster.store.keys(self._cluster.kind("ClusterCatalog")):
            if wanted in (None, key.name):
                digest = self._cluster.store.get(key)["spec"]["source"]["image"]["ref"].partition("@")[2]
                for package in self._cluster.catalog_contents.get(digest, ()):
                    if package.name == asked["packageName"]:
                        yield from (each for each in package.channels if each.name in (asked.get("channels") or [each.name]))


def _condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}
