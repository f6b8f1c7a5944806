"""The Kubernetes kinds that the importer reads or writes: group, version, plural and scope. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


MARKETPLACE = "openshift-marketplace"
CONFIG_NAMESPACE = "openshift-config"
MANAGED_NAMESPACE = "openshift-config-managed"  # signatures of releases, and what has to be acknowledged before an update
OLM_NAMESPACE = "openshift-operator-lifecycle-manager"  # where OLM itself runs
# On the pods that OLM makes for a CatalogSource, with its name as value, in all releases (registry/reconciler/reconciler.go).
OLM_LABEL = "olm.catalogSource"
PLAIN_OLM = "olm"  # the global catalog namespace of OLM on other Kubernetes clusters


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind as the API serves it. `group` is empty for the core kinds."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def path(self) -> str:
        """The kind as permissions name it: `catalogsources.operators.coreos.com`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", namespaced=True)
SECRET = Kind("", "v1", "Secret", "secrets", namespaced=True)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
POD = Kind("", "v1", "Pod", "pods", namespaced=True)
EVENT = Kind("", "v1", "Event", "events", namespaced=True)
SERVICE = Kind("", "v1", "Service", "services", namespaced=True)
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments", namespaced=True)
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", namespaced=True)
JOB = Kind("batch", "v1", "Job", "jobs", namespaced=True)
ACCESS_REVIEW = Kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False)
SELF_REVIEW = Kind("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False)
USER = Kind("user.openshift.io", "v1", "User", "users", namespaced=False)
CLUSTER_VERSION = Kind("config.openshift.io", "v1", "ClusterVersion", "clusterversions", namespaced=False)
OPERATOR_HUB = Kind("config.openshift.io", "v1", "OperatorHub", "operatorhubs", namespaced=False)
IMAGE_CONFIG = Kind("config.openshift.io", "v1", "Image", "images", namespaced=False)
IDMS = Kind("config.openshift.io", "v1", "ImageDigestMirrorSet", "imagedigestmirrorsets", namespaced=False)
ITMS = Kind("config.openshift.io", "v1", "ImageTagMirrorSet", "imagetagmirrorsets", namespaced=False)
ICSP = Kind("operator.openshift.io", "v1alpha1", "ImageContentSourcePolicy", "imagecontentsourcepolicies", namespaced=False)
CATALOG_SOURCE = Kind("operators.coreos.com", "v1alpha1", "CatalogSource", "catalogsources", namespaced=True)
CLUSTER_CATALOG = Kind("olm.operatorframework.io", "v1", "ClusterCatalog", "clustercatalogs", namespaced=False)
PACKAGE_MANIFEST = Kind("packages.operators.coreos.com", "v1", "PackageManifest", "packagemanifests", namespaced=True)
MACHINE_CONFIG = Kind("machineconfiguration.openshift.io", "v1", "MachineConfig", "machineconfigs", namespaced=False)
INFRASTRUCTURE = Kind("config.openshift.io", "v1", "Infrastructure", "infrastructures", namespaced=False)
PROXY = Kind("config.openshift.io", "v1", "Proxy", "proxies", namespaced=False)
IMAGE_POLICY = Kind("config.openshift.io", "v1", "ClusterImagePolicy", "clusterimagepolicies", namespaced=False)
IMAGE_REGISTRY = Kind("imageregistry.operator.openshift.io", "v1", "Config", "configs", namespaced=False)
UPDATE_SERVICE = Kind("updateservice.operator.openshift.io", "v1", "UpdateService", "updateservices", namespaced=True)
NODE = Kind("", "v1", "Node", "nodes", namespaced=False)
CLUSTER_SERVICE_VERSION = Kind(
    "operators.coreos.com", "v1alpha1", "ClusterServiceVersion", "clusterserviceversions", namespaced=True
)
CLUSTER_EXTENSION = Kind("olm.operatorframework.io", "v1", "ClusterExtension", "clusterextensions", namespaced=False)
INSTALL_PLAN = Kind("operators.coreos.com", "v1alpha1", "InstallPlan", "installplans", namespaced=True)
OPERATOR_GROUP = Kind("operators.coreos.com", "v1", "OperatorGroup", "operatorgroups", namespaced=True)
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True)
CLUSTER_ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
ROLE = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles", namespaced=True)
ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", namespaced=True)
FEATURE_GATE = Kind("config.openshift.io", "v1", "FeatureGate", "featuregates", namespaced=False)
CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
EXTENSIONS = "clusterextensions.olm.operatorframework.io"  # the CustomResourceDefinition of ClusterExtension
SUBSCRIPTION = Kind("operators.coreos.com", "v1alpha1", "Subscription", "subscriptions", namespaced=True)
MACHINE_CONFIG_POOL = Kind(
    "machineconfiguration.openshift.io", "v1", "MachineConfigPool", "machineconfigpools", namespaced=False
)

DAEMON_SET = Kind("apps", "v1", "DaemonSet", "daemonsets", namespaced=True)
STATEFUL_SET = Kind("apps", "v1", "StatefulSet", "statefulsets", namespaced=True)
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets", namespaced=True)  # what `rollout undo` goes back to
CRON_JOB = Kind("batch", "v1", "CronJob", "cronjobs", namespaced=True)
OLD_CRON_JOB = Kind("batch", "v1beta1", "CronJob", "cronjobs", namespaced=True)  # before Kubernetes 1.21, OpenShift 4.8
REPLICATION_CONTROLLER = Kind("", "v1", "ReplicationController", "replicationcontrollers", namespaced=True)
DEPLOYMENT_CONFIG = Kind("apps.openshift.io", "v1", "DeploymentConfig", "deploymentconfigs", namespaced=True)
IMAGE_STREAM = Kind("image.openshift.io", "v1", "ImageStream", "imagestreams", namespaced=True)
HOSTED_CLUSTER = Kind("hypershift.openshift.io", "v1beta1", "HostedCluster", "hostedclusters", namespaced=True)
NODE_POOL = Kind("hypershift.openshift.io", "v1beta1", "NodePool", "nodepools", namespaced=True)
# What `rollout undo` of a DaemonSet or StatefulSet goes back to.
CONTROLLER_REVISION = Kind("apps", "v1", "ControllerRevision", "controllerrevisions", namespaced=True)
BUILD_CONFIG = Kind("build.openshift.io", "v1", "BuildConfig", "buildconfigs", namespaced=True)
# Images that nothing runs now: disks of virtual machines that are stopped or not imported yet, services scaled to zero, tasks,
# and what nodes fetch before an update.
VIRTUAL_MACHINE = Kind("kubevirt.io", "v1", "VirtualMachine", "virtualmachines", namespaced=True)
DATA_VOLUME = Kind("cdi.kubevirt.io", "v1beta1", "DataVolume", "datavolumes", namespaced=True)
DATA_IMPORT_CRON = Kind("cdi.kubevirt.io", "v1beta1", "DataImportCron", "dataimportcrons", namespaced=True)
KNATIVE_SERVICE = Kind("serving.knative.dev", "v1", "Service", "services", namespaced=True)
KNATIVE_REVISION = Kind("serving.knative.dev", "v1", "Revision", "revisions", namespaced=True)
TEKTON_TASK = Kind("tekton.dev", "v1", "Task", "tasks", namespaced=True)
PINNED_IMAGE_SET = Kind("machineconfiguration.openshift.io", "v1", "PinnedImageSet", "pinnedimagesets", namespaced=False)
# What names images that a cluster runs, has installed, offers, or goes back to; a prune reads all of it.
IMAGE_USERS = (
    POD,
    DEPLOYMENT,
    DAEMON_SET,
    STATEFUL_SET,
    REPLICA_SET,
    JOB,
    CRON_JOB,
    REPLICATION_CONTROLLER,
    DEPLOYMENT_CONFIG,
    IMAGE_STREAM,
    CLUSTER_SERVICE_VERSION,
    INSTALL_PLAN,
    SUBSCRIPTION,
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    CLUSTER_EXTENSION,
    ITMS,
    CLUSTER_VERSION,
    UPDATE_SERVICE,
    MACHINE_CONFIG,
    HOSTED_CLUSTER,
    NODE_POOL,
    CONTROLLER_REVISION,
    BUILD_CONFIG,
    VIRTUAL_MACHINE,
    DATA_VOLUME,
    DATA_IMPORT_CRON,
    KNATIVE_SERVICE,
    KNATIVE_REVISION,
    TEKTON_TASK,
    PINNED_IMAGE_SET,
)

# OLM copies a ClusterServiceVersion into every namespace that its operator watches: hundreds of copies of one object
# (operator-lifecycle-manager, pkg/controller/operators/olm/operatorgroup.go; the label is CopiedLabelKey).
COPIED_LABEL = "olm.copiedFrom"

# `undo` finds the kind of a recorded object here, so a kind that was once written stays in the list.
_WRITTEN = (
    NAMESPACE,
    CONFIG_MAP,
    SECRET,
    SERVICE,
    DEPLOYMENT,
    NETWORK_POLICY,
    OPERATOR_HUB,
    IMAGE_CONFIG,
    IMAGE_REGISTRY,
    ITMS,
    IDMS,
    ICSP,
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    SUBSCRIPTION,
    CLUSTER_VERSION,
    UPDATE_SERVICE,
    OPERATOR_GROUP,
    SERVICE_ACCOUNT,
    CLUSTER_ROLE_BINDING,
    CLUSTER_EXTENSION,
    CLUSTER_SERVICE_VERSION,
    ROLE,
    ROLE_BINDING,
)
_BY_NAME = {(kind.api_version, kind.name): kind for kind in _WRITTEN}


def kind_of(api_version: str, name: str) -> Kind:
    """Return the kind of an object. Raises ClusterError for one that the importer does not write."""
    found = _BY_NAME.get((api_version, name))
    if found is None:
        raise ClusterError(f"{name} of {api_version} is not a kind that this program handles")
    return found


# A Kubernetes object as the importer writes it.

OWN_LABELS = {"app.kubernetes.io/managed-by": "hub-import"}  # on every object that hub-import owns alone


@dataclass(frozen=True, slots=True)
class Resource:
    """One object, ready for YAML or for the API. `namespace` is empty for cluster-scoped kinds.

    `body` is the whole object; of one that is `shared` with the cluster, only the fields to set where it exists.
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


# Readers of an object that the API server returned; objects of a custom kind may have no status yet.

_LONGEST = 200


def condition(body: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a condition of an object's status; empty when it has none of the kind."""
    conditions: Iterable[Mapping[str, Any]] = status_of(body).get("conditions") or []
    # KEP-1623: a list with one entry for each type.
    return next((each for each in conditions if each.get("type") == kind), {})


def status_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object's status; empty when it has none yet."""
    return body.get("status") or {}


def map_of(value: Any) -> Mapping[str, Any]:
    """Return a field that is a map; empty for any other value, of a field whose type no schema states."""
    return value if isinstance(value, dict) else {}


def maps_of(value: Any) -> list[dict[str, Any]]:
    """Return the maps of a field that is a list of them; other values are left out."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def has_own_label(body: Mapping[str, Any]) -> bool:
    """Return whether an object is one that hub-import owns alone, by its label."""
    return OWN_LABELS.items() <= (body["metadata"].get("labels") or {}).items()


def is_owned(body: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    """Return whether an object belongs to another one, by its `ownerReferences`."""
    owners, uid = body["metadata"].get("ownerReferences") or [], owner["metadata"].get("uid")
    return uid is not None and any(each.get("uid") == uid for each in owners)


def source_image(catalog: Mapping[str, Any]) -> Any:
    """Return the image of a ClusterCatalog; None where it has none."""
    source = (catalog.get("spec") or {}).get("source")
    # `source` of a Subscription is a text, so answers are not refused for one (`shape.py`).
    return (source.get("image") or {}).get("ref") if isinstance(source, dict) else None


def short(text: Any, longest: int = _LONGEST) -> str:
    """Return a message of the cluster on one line, cut to `longest` characters."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= longest else line[:longest] + "…"
