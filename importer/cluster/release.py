"""OpenShift releases, and the features of each that an import depends on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from common.openshift.openshift_release import parse_release
from importer.cluster.kinds import ICSP, IDMS, ITMS, Kind

_MAJOR = 4
# First minor release of 4 with each field: CatalogSource in operator-framework/api, as vendored by OLM's branch release-4.N.
_POD_CONFIG_SINCE = {
    "nodeSelector": 10,
    "tolerations": 10,
    "priorityClassName": 10,
    "securityContextConfig": 12,
    "affinity": 14,
    "memoryTarget": 14,
    "extractContent": 15,
}
_WITHOUT_LIMIT = 10  # BZ#1814777 was merged to release-4.3 on 2020-03-26, so about 4.3.10


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A minor release, such as 4.18, comparable by age. `patch` where it is known; it does not count in comparisons.

    `microshift`: that of MicroShift, which has no kinds to configure nodes and default catalogs with. `hosted`: in the guest
    of a hosted control plane, which has no nodes of a control plane. `classic`: whether it has OLM (Classic), which is a
    capability that can be off (openshift/api, config/v1, OperatorLifecycleManager).
    """

    major: int
    minor: int
    patch: int | None = field(default=None, compare=False)
    microshift: bool = field(default=False, compare=False)
    hosted: bool = field(default=False, compare=False)
    classic: bool = field(default=True, compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `4.18` (a patch version may follow). Raises UsageError, also for a release before 4.3."""
        return cls(*parse_release(text))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def serves_file_based(self) -> bool:
        """Whether its catalog pods can serve file-based catalogs: `opm serve` came with 4.9."""
        return self >= Release(4, 9)

    @property
    def server_side_apply(self) -> bool:
        """Whether server-side apply is reliable."""
        # Up to 4.5 many CRDs have no structural schema, so that their lists are atomic and unknown fields are kept.
        return self >= Release(4, 6)

    @property
    def has_priority(self) -> bool:
        """Whether CatalogSource knows `priority`."""
        return self >= Release(4, 6)

    @property
    def pod_config_fields(self) -> frozenset[str]:
        """The fields of a CatalogSource's `grpcPodConfig` that exist; none: `grpcPodConfig` itself does not."""
        return frozenset(name for name, since in _POD_CONFIG_SINCE.items() if self.minor >= since or self.major > _MAJOR)

    @property
    def places_catalogs(self) -> bool:
        """Whether its default catalogs run on nodes of the control plane, with a priority (operator-marketplace#457)."""
        return "nodeSelector" in self.pod_config_fields and not (self.hosted or self.microshift)

    @property
    def extracts_without_cache(self) -> bool:
        """Whether `grpcPodConfig.extractContent` works without a cache in the image."""
        return self >= Release(4, 20)

    @property
    def limits_catalog_memory(self) -> bool:
        """Whether OLM limits catalog pods to 100 MiB of memory: 4.3 up to about 4.3.9 (BZ#1760608, removed by BZ#1814777)."""
        return self == Release(4, 3) and self.patch is not None and self.patch < _WITHOUT_LIMIT

    @property
    def trusts_without_registry(self) -> bool:
        """Whether nodes get a registry's CA also where the image registry is not Managed."""
        # Up to 4.4 the daemon set node-ca, which copies CAs to the nodes, belongs to the registry's operator.
        return self >= Release(4, 5)

    @property
    def encodes_node_files(self) -> bool:
        """Whether files of the nodes are in base64 in their MachineConfig; before, they are percent-encoded."""
        return self >= Release(4, 11)

    @property
    def has_namespaced_credentials(self) -> bool:
        """Whether nodes find the credential of a pull that a pull secret has under `HOST/PATH` (openshift-docs#35639)."""
        # CRI-O 1.22 of 4.9 has containers/image 5.15, which looks for it; CRI-O 1.21 of 4.8 has 5.10.
        return self >= Release(4, 9)

    @property
    def has_image_policies(self) -> bool:
        """Whether ClusterImagePolicy is generally available (v1, SigstoreImageVerification in the default feature set)."""
        return self >= Release(4, 20) and not self.microshift

    @property
    def has_capabilities(self) -> bool:
        """Whether capabilities, such as the marketplace, can be disabled."""
        return self >= Release(4, 11) and not self.microshift

    @property
    def restricts_pods(self) -> bool:
        """Whether pods may have a restricted security context."""
        # Before 4.11 the SCC `restricted` refuses the seccomp profile RuntimeDefault.
        return self >= Release(4, 11)

    @property
    def denies_network(self) -> bool:
        """Whether the namespace of catalogs denies all traffic that no NetworkPolicy allows."""
        # operator-marketplace#644: the branch release-4.20 has the policy, release-4.19 does not. MicroShift has it since April
        # 2026 (microshift#6575) in the releases that it was brought to; where it is not, a policy for one pod does no harm.
        return self >= Release(4, 20) or self.microshift

    @property
    def rule_kinds(self) -> tuple[Kind, ...]:
        """The kinds of mirror rules that it serves."""
        if self.microshift:
            return ()
        return (ICSP, IDMS, ITMS) if self >= Release(4, 13) else (ICSP,)

    @property
    def rollout(self) -> str:
        """The effect of new mirror rules for pulls by digest on the nodes, for people."""
        # machine-config-operator, pkg/daemon: a change of registries.conf reboots up to 4.6; 4.7 drains and reloads CRI-O; from
        # 4.8 on added mirrors for digests are reloaded without a drain.
        if self <= Release(4, 6):
            return "every node is drained and rebooted, one after another"
        if self == Release(4, 7):
            return "every node is drained, one after another; none reboots"
        return "nodes take them over without being drained"

    @property
    def has_cluster_catalog(self) -> bool:
        """Whether OLM v1 with ClusterCatalog is part of the release."""
        return self >= Release(4, 18) and not self.microshift

    @property
    def lists_packages(self) -> bool:
        """Whether packageserver lists the content of catalogs; MicroShift has none (operator-framework-olm#1008)."""
        return self.classic and not self.microshift

    @property
    def default_cluster_catalogs(self) -> dict[str, str]:
        """The ClusterCatalogs that OpenShift creates, and the image of each."""
        if not self.has_cluster_catalog:
            return {}
        indexes = {f"{of}-operators": f"{of}-operator-index" for of in ("certified", "community", "redhat")}
        if self < Release(4, 22):
            indexes["redhat-marketplace"] = "redhat-marketplace-index"
        return {f"openshift-{name}": f"registry.redhat.io/redhat/{index}:v{self}" for name, index in sorted(indexes.items())}

    def digest_rules(self, *, existing_icsp: bool) -> Kind:
        """Return the kind for mirror rules of pulls by digest."""
        # Before 4.15 the machine config operator refuses a cluster that has both kinds.
        if self < Release(4, 13) or (existing_icsp and self < Release(4, 15)):
            return ICSP
        return IDMS

    def tag_rules(self, *, existing_icsp: bool) -> Kind | None:
        """Return the kind for mirror rules of pulls by tag; None where no usable one exists."""
        return ITMS if self.digest_rules(existing_icsp=existing_icsp) is IDMS else None
