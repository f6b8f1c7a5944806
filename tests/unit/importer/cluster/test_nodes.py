"""Nodes whose platform the archive does not have, and nodes that no object of the API configures.

A node that finds no manifest of its platform in an index says `no image found in manifest list` (containers/image,
`manifest.ChooseInstance`): the archive of `--platform linux/amd64` is of no use to a node of arm64, and only preflight can say so.
"""

from __future__ import annotations

import msgspec

from common.archive.inventory import ImageKind
from importer.cli.cluster_tables import apply_table
from importer.cluster.api.discovery import identify
from importer.cluster.apply import ApplyResult
from importer.cluster.nodes import lacking
from importer.cluster.preflight import Intent, circumstances
from importer.cluster.readiness.readiness import ExpectedCatalog
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.release import Release
from importer.cluster.writing import Action, Change
from importer.configure.applied import Applied
from importer.diagnose.health import examine
from importer.settings import ClusterSettings
from tests.fakes.inventories import INDEX, A, B, image

AMD, ARM, Z = "linux/amd64", "linux/arm64/v8", "linux/s390x"


def put_nodes(cluster, *architectures, system="linux"):
    for number, architecture in enumerate(architectures):
        info = {"architecture": architecture, "operatingSystem": system}
        node = {"kind": "Node", "metadata": {"name": f"{system}-{architecture}-{number}"}, "status": {"nodeInfo": info}}
        cluster.put(node, "kubelet")


def carried(source, *platforms, missing=(), **fields):
    return msgspec.structs.replace(image(source, A, **fields), platforms=platforms, missing_platforms=tuple(missing))


def of(name):
    return (f"index/{name}/{name}.v1.0.0",)


def test_packages_and_nodes_are_counted_for_each_platform(start):
    cluster, client = start("4.18")
    put_nodes(cluster, "amd64", "amd64", "arm64", "arm64", "arm64", "s390x")
    images = [
        carried("quay.io/x/left-out", AMD, missing=[ARM, Z], needed_by=of("alpha")),
        # Neighbour: never published for arm64, in an archive with all platforms.
        carried("quay.io/x/never", AMD, Z, needed_by=of("beta")),
        carried("quay.io/x/everywhere", AMD, ARM, Z, needed_by=of("gamma")),
        carried("quay.io/x/single", needed_by=of("delta")),  # no index
        carried("quay.io/x/signature", AMD, kind=ImageKind.SIGNATURE, needed_by=of("epsilon")),
    ]
    (finding,) = [one for one in circumstances(client, Intent((), None, "m.example", images=images)) if "platform" in one.code]
    assert (finding.code, finding.severity) == ("platform-not-carried", "warning")
    assert finding.evidence == (
        "linux/arm64 (3 nodes): left out of the export: alpha; not published for it: beta",
        "linux/s390x (1 node): left out of the export: alpha",
    )


def test_the_catalog_itself_and_images_without_a_package_are_named(start):
    """Neighbours: no pod of the catalog could start at all; additional images have no package."""
    cluster, client = start(None)
    put_nodes(cluster, "ppc64le")
    images = [
        carried(INDEX, AMD, kind=ImageKind.CATALOG, needed_by=()),
        carried("quay.io/x/tool:v1", AMD, kind=ImageKind.ADDITIONAL, needed_by=()),
    ]
    (finding,) = lacking(client, images)
    assert finding.evidence == (f"linux/ppc64le (1 node): not published for it: quay.io/x/tool:v1, the catalog {INDEX}",)


def test_windows_nodes_and_nodes_without_an_architecture_say_nothing(start):
    cluster, client = start("4.18")
    put_nodes(cluster, "amd64", system="windows")
    put_nodes(cluster, "")
    assert not list(lacking(client, [carried("quay.io/x/y", ARM, missing=[AMD])]))


def test_nodes_that_may_not_be_listed_are_said_where_it_matters(start):
    cluster, client = start("4.18")
    cluster.forbidden.add(("list", "nodes"))
    assert not list(lacking(client, [carried("quay.io/x/y", AMD, ARM)]))
    (finding,) = lacking(client, [carried("quay.io/x/y", AMD, missing=[ARM]), image("quay.io/x/z", B)])
    assert (finding.code, finding.severity) == ("nodes-unseen", "warning")
    assert ARM in finding.cause


def test_nodes_whose_runtime_no_object_configures_are_said_with_the_verdict(start, tmp_path):
    """operator-lifecycle-manager#3200, #1998: OLM lists the operators of a mirrored catalog, and no bundle can be pulled."""
    cluster, client = start(None)
    intent = Intent((), None, "m.example", node_rules=(("quay.io/x/y", "m.example/x/y"),))
    findings = [one for one in circumstances(client, intent) if one.code == "node-mirrors-unseen"]
    applied = Applied(
        ApplyResult((Change(Action.CREATED, "CatalogSource", "x", "olm"),)),
        (),
        done=True,
        cluster=identify(client),
        findings=tuple(findings),
    )
    last = apply_table(applied)[-2]
    assert last.startswith("OLM lists what the archive carries. Nodes can pull operators only with the mirror configuration")
    assert "hub-import render --kubernetes" in last
    # Neighbour: status, which has no archive.
    Recorder(client, record_namespace(client)).expect([ExpectedCatalog("index", "olm", "m.example/i@sha256:1", {})])
    health = examine(ClusterSettings(kubeconfig=cluster.kubeconfig(tmp_path)))
    assert [one.code for one in health.findings if one.severity == "warning"] == ["node-mirrors-unseen"]


def test_openshift_has_objects_for_that(start):
    _, client = start("4.18")
    assert not list(circumstances(client, Intent((), Release(4, 18), "m.example")))
