"""Where the releases of OpenShift and OKD are described: the standard URLs, each of which a setting may replace."""

from __future__ import annotations

# Stores of signatures, as clusters have them (openshift/cluster-update-keys, stores/): STORE/sha256=HEX/signature-1.
SIGNATURE_STORES = (
    "https://mirror.openshift.com/pub/openshift-v4/signatures/openshift/release",
    "https://storage.googleapis.com/openshift-release/official/signatures/openshift/release",
)
OKD_SIGNATURE_STORES = ("https://storage.googleapis.com/openshift-ci-release/releases/signatures/openshift/release",)
# Channels, risks and known issues of all updates (openshift/oc-mirror, internal/pkg/release/const.go).
GRAPH_DATA = "https://api.openshift.com/api/upgrades_info/graph-data"

# Update services: that of the product (openshift/cincinnati, docs/design/openshift.md), and the release controller of OKD.
UPDATE_SERVICE = "https://api.openshift.com/api/upgrades_info/v1/graph"
OKD_UPDATE_SERVICE = "https://origin-release.ci.openshift.org/graph"
GRAPH_PATH = "/api/upgrades_info/v1/graph"  # of every update service, OpenShift Update Service in a cluster too

# Payloads of OKD, whose signatures are those of CI (okd-project/okd, README.md).
OKD_PAYLOADS = ("quay.io/okd/", "quay.io/openshift/okd", "registry.ci.openshift.org/origin/")
