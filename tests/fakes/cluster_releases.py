"""What acts on releases in the fake cluster: the cluster version operator, and the operator of the OpenShift Update Service.

Sources, of openshift/cluster-version-operator: pkg/cvo/availableupdates.go (RetrievedUpdates: NoChannel, RemoteFailed),
pkg/cvo/upgradeable.go (`checkAdminGate`: gates of the current minor version, acknowledged by "true"), pkg/cvo/updatepayload.go and
sync_worker.go (`RetrievePayload`: the signature is looked for by the digest; the message of ReleaseAccepted). Of
openshift/library-go: pkg/verify/store/configmap (the label, `binaryData`, keys that begin with `sha256-<hex>`). Of
openshift/cincinnati-operator: controllers/updateservice_controller.go (conditions, `findTrustedCAConfig`, the address of the route)
and names.go.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from tests.fakes.cluster_store import Body, Key, Write

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster

NAMESPACE = "openshift-update-service"
LABEL = "release.openshift.io/verification-signatures"
MANAGED = "openshift-config-managed"
_GATE = re.compile(r"^ack-([4-5])[.]([0-9]{1,})-[^-]")
_OSUS = Write("updateservice-operator")


class ReleaseOperators:
    """Both operators. Called under the store's lock, with the kind that is being read."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._reads: dict[tuple[str, str], int] = {}  # of an UpdateService with its graph data

    def read(self, kind: str) -> None:
        """Let time pass."""
        if kind in {"UpdateService", "Deployment", "ClusterVersion"} and self._cluster.update_service:
            for key in self._keys("UpdateService"):
                self._serve(key, passing=kind == "UpdateService")
        if kind == "ClusterVersion" and self._cluster.plays_updates:
            for key in self._keys("ClusterVersion"):
                self._version(key)

    def owns(self, deployment: Body) -> bool:
        return any(each["kind"] == "UpdateService" for each in deployment["metadata"].get("ownerReferences") or [])

    # The operator of the update service.

    def _serve(self, key: Key, *, passing: bool) -> None:
        body = self._cluster.store.get(key)
        what = (key.name, body["spec"]["graphDataImage"])
        self._reads[what] = self._reads.get(what, 0) + passing
        if self._reads[what] <= self._cluster.service_reads:
            return
        self._deployment(key, body)
        if self._cluster.service_failure:
            reason, message = self._cluster.service_failure
            failed = {"type": "ReconcileCompleted", "status": "False", "reason": reason, "message": message}
            self._show(key, {"conditions": [self._authority(), failed]})
            return
        conditions = [self._authority(), {"type": "ReconcileCompleted", "status": "True", "reason": "Success"}]
        address = f"https://{key.name}-route-{key.namespace}.apps.cluster.example"
        self._show(key, {"conditions": conditions, "policyEngineURI": address})

    def _authority(self) -> Body:
        """Return whether the CA of the registry is where the operator looks for it."""
        named = ((self._cluster.get("Image", "cluster").get("spec") or {}).get("additionalTrustedCA") or {}).get("name")
        if not named:
            text = "image.config.openshift.io.Spec.AdditionalTrustedCA.Name not set for image name cluster"
            return {"type": "RegistryCACertFound", "status": "False", "reason": "NotConfigured", "message": text}
        found = self._data(named, "openshift-config")
        if "updateservice-registry" in found:
            return {"type": "RegistryCACertFound", "status": "True", "reason": "CACertFound", "message": ""}
        text = (
            "Found ConfigMap referenced by ImageConfig.Spec.AdditionalTrustedCA.Name but did not find key 'updateservice-registry'"
            f" for registry CA cert in ConfigMap (Name: {named}, Namespace: openshift-config)"
        )
        reason = "EnsureAdditionalTrustedCAFailed"
        return {"type": "RegistryCACertFound", "status": "False", "reason": reason, "message": text}

    def _deployment(self, key: Key, body: Body) -> None:
        replicas = body["spec"]["replicas"]
        pod = {
            "initContainers": [{"name": "graph-data", "image": body["spec"]["graphDataImage"]}],
            "containers": [{"name": "graph-builder", "image": "update-service"}],
        }
        owner = {"kind": "UpdateService", "name": key.name, "uid": body["metadata"]["uid"]}
        spec = {"replicas": replicas, "template": {"metadata": {"labels": {"app": key.name}}, "spec": pod}}
        place = Key(self._cluster.kind("Deployment"), key.namespace, key.name)
        if self._cluster.store.find(place) is None:
            metadata = {"name": key.name, "namespace": key.namespace, "ownerReferences": [owner]}
            self._cluster.store.create(place, {"metadata": metadata, "spec": spec}, _OSUS)
        elif self._cluster.store.get(place)["spec"] != spec:
            self._cluster.store.merge_patch(place, {"spec": spec}, _OSUS)
        generation = self._cluster.store.get(place)["metadata"].get("generation", 1)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas)
        self._show(place, {"observedGeneration": generation, **counts})

    # The cluster version operator.

    def _version(self, key: Key) -> None:
        body = self._cluster.store.get(key)
        spec, status = body.get("spec") or {}, body.get("status") or {}
        conditions = [self._retrieved(spec), *self._upgradeable(), *self._accepted(spec)]
        told = {each["type"] for each in conditions}
        others = [
            each
            for each in status.get("conditions") or []
            if each["type"] not in {*told, "ReleaseAccepted"} and each.get("reason") != "AdminAckRequired"
        ]
        self._show(key, {**status, "conditions": [*others, *conditions]})

    def _retrieved(self, spec: Body) -> Body:
        failed = {"type": "RetrievedUpdates", "status": "False"}
        if not spec.get("channel"):
            return {**failed, "reason": "NoChannel", "message": "The update channel has not been configured."}
        upstream = spec.get("upstream") or "https://api.openshift.com/api/upgrades_info/v1/graph"
        served = {
            f"{(self._cluster.store.get(key).get('status') or {}).get('policyEngineURI')}/api/upgrades_info/v1/graph"
            for key in self._keys("UpdateService")
        }
        asked = f'Get "{upstream}?arch=amd64&channel={spec["channel"]}"'
        if upstream not in served:
            why = "dial tcp: lookup api.openshift.com: no such host"
        elif not self._cluster.trusted_routes:
            why = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        elif not self._has_channel(spec["channel"]):
            version = self._cluster.get("ClusterVersion", "version")["status"]["desired"]["version"]
            why = f'currently reconciling cluster version {version} not found in the "{spec["channel"]}" channel'
            return {**failed, "reason": "VersionNotFound", "message": f"Unable to retrieve available updates: {why}"}
        else:
            return {"type": "RetrievedUpdates", "status": "True"}
        return {**failed, "reason": "RemoteFailed", "message": f"Unable to retrieve available updates: {asked}: {why}"}

    def _has_channel(self, channel: str) -> bool:
        """Say whether a channel has the cluster's version: channels have those of the former minor releases, too."""
        minor = self._cluster.release[1] if self._cluster.release else 0
        return int(channel.rpartition(".")[2]) >= minor

    def _upgradeable(self) -> list[Body]:
        gates, acks = self._data("admin-gates", MANAGED), self._data("admin-acks", "openshift-config")
        applying = {name: text for name, text in gates.items() if (found := _GATE.match(name)) and self._is_current(found)}
        wanted = sorted(text for name, text in applying.items() if acks.get(name) != "true")
        told = {"status": "False", "reason": "AdminAckRequired", "message": " ".join(wanted)}
        return [{"type": "Upgradeable", **told}, {"type": "UpgradeableAdminAckRequired", **told}] if wanted else []

    def _is_current(self, gate: re.Match[str]) -> bool:
        return (int(gate[1]), int(gate[2])) == self._cluster.release

    def _accepted(self, spec: Body) -> list[Body]:
        desired = spec.get("desiredUpdate") or {}
        image, version = str(desired.get("image") or ""), str(desired.get("version") or "")
        if not image:
            return []
        target = f'version="{version}" image="{image}"'
        digest = image.partition("@")[2]
        if not desired.get("force") and not self._is_signed(digest):
            why = f"The update cannot be verified: unable to verify {digest} against keyrings: verifier-public-key-redhat"
        elif digest in self._cluster.absent_payloads:
            waits = f'"ErrImagePull" and message "reading manifest {digest} in {image.partition("@")[0]}: manifest unknown"'
            said = f'failed at pending with reason "" and message "" and status initcontainer cleanup is waiting with reason {waits}'
            why = f"Unable to download and prepare the update: pod version--x7 {said}"
        else:
            text = f'Payload loaded {target} architecture="amd64"'
            return [{"type": "ReleaseAccepted", "status": "True", "reason": "PayloadLoaded", "message": text}]
        text = f"Retrieving payload failed {target} failure={why}"
        return [{"type": "ReleaseAccepted", "status": "False", "reason": "RetrievePayload", "message": text}]

    def _is_signed(self, digest: str) -> bool:
        prefix = digest.replace(":", "-")
        found = [self._cluster.store.get(key) for key in self._keys("ConfigMap") if key.namespace == MANAGED]
        labelled = [each for each in found if LABEL in (each["metadata"].get("labels") or {})]
        signatures = [
            text for each in labelled for name, text in (each.get("binaryData") or {}).items() if name.startswith(prefix)
        ]
        return any(base64.b64decode(each, validate=True) for each in signatures)

    def _data(self, name: str, namespace: str) -> dict[str, str]:
        found = self._cluster.store.find(Key(self._cluster.kind("ConfigMap"), namespace, name))
        return dict((found or {}).get("data") or {})

    def _keys(self, kind: str) -> list[Key]:
        found = [each for each in self._cluster.kinds if each.kind == kind]
        return self._cluster.store.keys(found[0]) if found else []

    def _show(self, key: Key, status: Body) -> None:
        if (self._cluster.store.get(key).get("status") or {}) != status:
            self._cluster.store.set_status(key, status)
