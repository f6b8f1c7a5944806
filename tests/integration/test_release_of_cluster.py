"""An operator that is not meant for the cluster's release: from the catalog to inventory and report, and to the preflight there.

OLM installs above `olm.maxOpenShiftVersion`, and never below `minKubeVersion` (operator-lifecycle-manager,
pkg/controller/operators/openshift/helpers.go, pkg/controller/operators/olm/requirements.go).
"""

from __future__ import annotations

import base64
import json

import pytest

from tests.fakes import factories
from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import Site

pytestmark = pytest.mark.integration


def test_the_warning_is_in_inventory_and_report_and_in_the_preflight_of_the_real_release(tmp_path):
    csv = json.dumps({"kind": "ClusterServiceVersion", "spec": {"minKubeVersion": "1.32.0"}}).encode()
    properties = [
        {"type": "olm.package", "value": {"packageName": "foo", "version": "1.0.0"}},
        {"type": "olm.bundle.object", "value": {"data": base64.b64encode(csv).decode()}},
    ]
    # Without an image: OLM installs the object, and the archive has the catalog alone.
    blobs = [package_blob(), channel_blob("stable", [entry("foo.v1.0.0")])]
    blobs.append(bundle_blob("foo.v1.0.0", image="", properties=properties))
    labels = {"operators.operatorframework.io.index.configs.v1": "/configs"}
    config = {"Entrypoint": ["/bin/opm", "serve", "/configs"]}
    index = factories.image(({"configs/catalog.json": stream(*blobs)},), labels=labels, config=config)
    with FakeRegistry() as source:
        source.add_image("olm/index", index, tag="v1")
        named = ["--catalog", f"{source.host}/olm/index:v1", "--package", "foo", "--insecure", source.host]
        made = run("hub-export", "create", *named, "--openshift-release", "4.18", "--output", tmp_path / "out")
    assert made.status == 0, made.stderr
    message = "on OpenShift 4.18: foo.v1.0.0 (stable) needs Kubernetes 1.32.0, and there is 1.31"
    inventory = json.loads((tmp_path / "out/inventory.json").read_bytes())
    assert [one["message"] for one in inventory["problems"] if one["code"] == "release-unsupported"] == [message]
    assert "needs Kubernetes 1.32.0" in (tmp_path / "out/report.html").read_text()
    with FakeRegistry() as mirror, FakeCluster("4.16.3") as cluster:
        done = Site(cluster, mirror, tmp_path / "out", tmp_path).run("deploy", "--dry-run")
    assert "foo.v1.0.0 (stable) needs Kubernetes 1.32.0, and there is 1.29" in done.stdout, done.stderr
