"""Hosted control planes: the patch of the HostedCluster, and the catalogs alone in the guest.

openshift/hypershift: api/hypershift/v1beta1/hostedcluster_types.go (imageContentSources, additionalTrustBundle with
`ca-bundle.crt`, configuration.operatorhub, olmCatalogPlacement) and hostedclusterconfigoperator, resources.go, `reconcileOLM`.
Asked for in hypershift#3142, #3611, #2632 and openshift-docs#80675.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import trustme
import yaml

from common.errors import UsageError
from importer.cluster.api.discovery import identify
from importer.cluster.apply import ApplyResult
from importer.cluster.kinds import CATALOG_SOURCE
from importer.cluster.preflight import Intent, circumstances
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions, build
from importer.cluster.resources.mirror_rules import FIELD, Scope
from importer.configure.applied import Applied
from importer.configure.files.earlier import NONE, read_earlier
from importer.configure.files.hosted import BUNDLE, MAX_FILE, MAX_SOURCES, PATCH, read_hosted_cluster
from importer.configure.files.render import render_archive
from importer.configure.operators import foresee, name
from importer.mapping import Mirror, map_images
from importer.settings import ClusterSettings
from importer.workflow import write_files
from tests.fakes.inventories import A, catalog, image, inventory
from tests.fakes.wanted import CA, package

MIRROR = Mirror.parse("mirror.example:5000/hub")
RELEASE = Release(4, 18)
NAMES = {"": "mirrored"}
OPTIONS = ResourceOptions(catalog_names=NAMES, registry_ca=CA, hosted=True)
CARRIED = inventory(catalogs=(catalog("mine", "quay.io/x/mine:v4.18", packages=(package("alpha"),)),))
ALPHA, TOOL = f"quay.io/x/alpha@{A}", "quay.io/x/tool:v1"
LIVE = """\
apiVersion: hypershift.openshift.io/v1beta1
kind: HostedCluster
metadata: {name: guest, namespace: clusters}
spec:
  imageContentSources:
  - source: quay.io/openshift-release-dev/ocp-release
    mirrors: [mirror.example:5000/ocp/release]
  - source: quay.io/x
    mirrors: [cache.example/x]
  additionalTrustBundle: {name: user-ca}
  configuration: {operatorhub: {sources: [{name: community-operators, disabled: false}]}}
"""


def rendered(*sources, options=OPTIONS, earlier=NONE, hosted=None):
    carried = inventory(*(image(each, tag="v1") for each in sources))
    return render_archive(carried, MIRROR, RELEASE, options, earlier, hosted=hosted)


def patch(files):
    return yaml.safe_load(files[PATCH])["spec"]


def known(folder, text=LIVE):
    path = folder / "hostedcluster.yaml"
    path.write_text(text)
    return read_hosted_cluster(path)


def test_the_patch_has_rules_trust_and_disabled_defaults_and_the_guest_its_catalog():
    files, built = rendered(ALPHA, TOOL)
    assert set(files) == {"catalogsource-mirrored.yaml", "kustomization.yaml", "mapping.txt", "operatorhub.yaml", PATCH, BUNDLE}
    spec = patch(files)
    assert spec["imageContentSources"] == [{"source": "quay.io/x/alpha", "mirrors": ["mirror.example:5000/hub/x/alpha"]}]
    assert spec["configuration"] == {"operatorhub": {"disableAllDefaultSources": True}}
    bundle = yaml.safe_load(files[BUNDLE])
    assert spec["additionalTrustBundle"] == {"name": bundle["metadata"]["name"]}
    assert bundle["data"] == {"ca-bundle.crt": CA}
    assert b"add the imageContentSources that the cluster has" in files[PATCH]
    # imageContentSources redirect pulls by digest alone.
    assert [one.subject for one in built.problems if one.code == "tag-unmirrorable"] == [TOOL]


def test_what_the_hosted_cluster_has_is_kept(tmp_path):
    """A merge patch replaces lists (RFC 7386): without the present entries, nodes lose the mirror of their release."""
    spec = patch(rendered(ALPHA, hosted=known(tmp_path))[0])
    assert spec["imageContentSources"] == [
        {"source": "quay.io/openshift-release-dev/ocp-release", "mirrors": ["mirror.example:5000/ocp/release"]},
        {"source": "quay.io/x", "mirrors": ["cache.example/x"]},
        # Neighbour: the narrower rule keeps the mirror of the broader one, as `apply` does.
        {"source": "quay.io/x/alpha", "mirrors": ["mirror.example:5000/hub/x/alpha", "cache.example/x/alpha"]},
    ]
    hub = spec["configuration"]["operatorhub"]
    assert hub == {"disableAllDefaultSources": True, "sources": [{"name": "community-operators", "disabled": True}]}
    assert spec["additionalTrustBundle"] == {"name": "user-ca"}


def test_rules_of_earlier_patches_stay(tmp_path):
    write_files(tmp_path, rendered(ALPHA)[0])
    again, _ = rendered(f"quay.io/x/beta@{A}", earlier=read_earlier(tmp_path))
    assert [each["source"] for each in patch(again)["imageContentSources"]] == ["quay.io/x/alpha", "quay.io/x/beta"]
    (tmp_path / PATCH).write_text("spec: {imageContentSources: [a]}")
    with pytest.raises(UsageError, match="not a patch of hub-import"):
        read_earlier(tmp_path)


def test_an_archive_without_catalogs_leaves_the_default_sources_to_the_hosted_cluster(tmp_path):
    alone = inventory(image(ALPHA, needed_by=()), catalogs=())
    options = replace(OPTIONS, catalog_names={})
    files, _ = render_archive(alone, MIRROR, RELEASE, options)
    assert "operatorhub.yaml" not in files
    assert "configuration" not in patch(files)
    # Neighbour: those of an earlier render stay off.
    write_files(tmp_path, rendered(f"quay.io/x/beta@{A}")[0])
    files, _ = render_archive(alone, MIRROR, RELEASE, options, read_earlier(tmp_path))
    assert "operatorhub.yaml" in files
    assert patch(files)["configuration"] == {"operatorhub": {"disableAllDefaultSources": True}}


def test_authorities_of_earlier_bundles_stay(tmp_path):
    """Seen before: a new CA replaced that of the former mirror, whose rules stay."""
    write_files(tmp_path, rendered(ALPHA)[0])
    other = trustme.CA().cert_pem.bytes().decode()
    both, _ = rendered(ALPHA, options=replace(OPTIONS, registry_ca=other), earlier=read_earlier(tmp_path))
    assert yaml.safe_load(both[BUNDLE])["data"]["ca-bundle.crt"] == CA + other
    # Neighbour: without --ca they stay too, and the patch names them.
    kept, _ = rendered(ALPHA, options=replace(OPTIONS, registry_ca=None), earlier=read_earlier(tmp_path))
    assert yaml.safe_load(kept[BUNDLE])["data"]["ca-bundle.crt"] == CA
    assert patch(kept)["additionalTrustBundle"] == {"name": "hub-registry-ca"}
    (tmp_path / BUNDLE).write_text("data: [a]")
    with pytest.raises(UsageError, match="not a ConfigMap of CAs"):
        read_earlier(tmp_path)


def test_names_of_defaults_are_refused_because_they_are_deleted_there(start):
    """`reconcileOLM` deletes by name, whoever made the object; on other clusters the annotation decides."""
    with pytest.raises(UsageError, match="redhat-operators cannot be a CatalogSource of a hosted cluster"):
        rendered(ALPHA, options=ResourceOptions(hosted=True, catalog_names={"": "redhat-operators"}))
    found = in_guest(*start("4.18"), ResourceOptions(catalog_names={"": "redhat-operators"}, catalogs_only=True))
    assert [one.code for one in found if one.severity == "error"] == ["hosted-catalog-name"]


def in_guest(cluster, client, options):
    external = {"metadata": {"name": "cluster"}, "status": {"controlPlaneTopology": "External"}}
    cluster.put({"kind": "Infrastructure", **external}, "hosted-cluster-config-operator")
    carried = inventory(image(ALPHA))
    built = build(carried, map_images(carried, MIRROR), MIRROR, RELEASE, options)
    intent = Intent(built.resources, RELEASE, MIRROR.host, catalogs_only=options.catalogs_only)
    return circumstances(client, intent)


def test_the_guest_gets_catalogs_alone_where_the_rules_are_in_place(start):
    cluster, client = start("4.18")
    found = in_guest(cluster, client, ResourceOptions(catalog_names=NAMES))
    assert [one.code for one in found] == ["hosted-control-plane"]
    assert identify(client).release.hosted
    assert "--catalogs-only" in found[0].fix
    options = ResourceOptions(catalog_names=NAMES, catalogs_only=True)
    cluster.put({"kind": "OperatorHub", "metadata": {"name": "cluster"}, "spec": {"disableAllDefaultSources": True}})
    cluster.marketplace_reads = 0
    cluster.simulator.wrote("OperatorHub")  # the marketplace operator has removed them
    assert not in_guest(cluster, client, options)
    carried = inventory(image(ALPHA))
    built = build(carried, map_images(carried, MIRROR), MIRROR, RELEASE, options)
    assert {one.kind for one in built.resources} == {"CatalogSource", "ClusterCatalog"}
    assert not built.rules


REPOSITORY = {"source": "quay.io/x/alpha", "mirrors": ["cache.example/x", "mirror.example:5000/hub/x/alpha"]}
NAMESPACE = {"source": "quay.io/x", "mirrors": ["mirror.example:5000/hub/x"]}


@pytest.mark.parametrize(
    ("kind", "rule", "led"),
    [
        ("ImageDigestMirrorSet", REPOSITORY, True),
        ("ImageDigestMirrorSet", NAMESPACE, True),  # neighbours: any scope, and any kind
        ("ImageContentSourcePolicy", {"source": "*.io", "mirrors": ["mirror.example:5000/hub"]}, True),
        ("ImageDigestMirrorSet", {**REPOSITORY, "mirrors": ["cache.example/x"]}, False),
        ("ImageDigestMirrorSet", {"source": "quay.io/x", "mirrors": ["mirror.example:5000/elsewhere"]}, False),
        ("ImageDigestMirrorSet", {"source": "quay.io/y", "mirrors": ["mirror.example:5000/hub/y"]}, False),
    ],
)
def test_rules_that_are_not_in_place_are_said_before_and_after(start, kind, rule, led):
    """The guest has an ImageDigestMirrorSet of imageContentSources (resources.go, `reconcileImageContentPolicyType`).

    Seen before: exit 0 and "OLM lists what the archive carries", where no node could pull an operator.
    """
    cluster, client = start("4.18")
    options = ResourceOptions(catalog_names=NAMES, catalogs_only=True, mirror_scope=Scope.NAMESPACE)
    carried = inventory(image(ALPHA))
    built = build(carried, map_images(carried, MIRROR), MIRROR, RELEASE, options)
    intent = Intent(built.resources, RELEASE, MIRROR.host, node_rules=built.node_rules, catalogs_only=True)
    spec = {FIELD[kind]: [rule]}
    cluster.put({"kind": kind, "metadata": {"name": "cluster"}, "spec": spec}, "hosted-cluster-config-operator")
    found = [one for one in circumstances(client, intent) if one.code == "mirror-rules-missing"]
    assert [one.evidence for one in found] == ([] if led else [("quay.io/x/alpha → mirror.example:5000/hub/x/alpha",)])
    verdict = Applied(ApplyResult(()), (), done=True, cluster=identify(client), findings=tuple(found)).verdict
    assert ("No mirror rule of the cluster leads 1 source" in verdict) is not led


def test_default_sources_that_stay_and_cannot_be_reached_are_said(start):
    cluster, client = start("4.18")
    (found,) = in_guest(cluster, client, ResourceOptions(catalog_names=NAMES, catalogs_only=True))
    assert (found.code, found.severity) == ("default-sources-enabled", "warning")
    assert [each.partition(":")[0] for each in found.evidence] == [
        "certified-operators",
        "community-operators",
        "redhat-operators",
    ]


def outlook_of(cluster, client, *, only):
    """Return the names of the catalogs, and the findings about a Subscription that names a default source."""
    if "alpha" not in cluster.names("Namespace"):
        cluster.put({"kind": "Namespace", "metadata": {"name": "alpha"}})
    spec = {"name": "alpha", "source": "redhat-operators", "sourceNamespace": "openshift-marketplace", "channel": "stable"}
    cluster.put({"kind": "Subscription", "metadata": {"name": "alpha", "namespace": "alpha"}, "spec": spec})
    identity = identify(client)
    settings = ClusterSettings(resources=ResourceOptions(catalogs_only=only))
    seen, naming = name(client, CARRIED, identity, identity.release, settings)
    findings = foresee(seen, naming, identity.release, settings).findings
    return [each.name for each in naming.named], [one.code for one in findings if one.severity == "error"]


def test_defaults_that_stay_orphan_no_subscription_and_no_catalog_takes_their_names(start):
    """Neighbours: preflight took the default sources as going away; a catalog takes the name of a missing one by itself."""
    assert outlook_of(*start("4.18"), only=False)[0] == ["redhat-operators"]
    assert outlook_of(*start("4.18"), only=True) == (["mine"], [])
    cluster, client = start("4.18")
    cluster.put({"kind": "OperatorHub", "metadata": {"name": "cluster"}, "spec": {"disableAllDefaultSources": True}})
    client.list(CATALOG_SOURCE)
    in_guest(cluster, client, ResourceOptions(catalog_names=NAMES))
    assert outlook_of(cluster, client, only=True)[0] == ["mine"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Pod\napiVersion: v1\n", "not one HostedCluster"),
        ("- a\n", "not one HostedCluster"),
        (LIVE + "---\n" + LIVE, "not one HostedCluster"),
        (LIVE.replace("imageContentSources:", "imageContentSources: [a]\n  x:"), "another type than in the API"),
        (LIVE.replace("{name: user-ca}", "[user-ca]"), "another type than in the API"),
        ("a: [", "hostedcluster.yaml"),
        (LIVE + " " * MAX_FILE, "larger than"),
    ],
)
def test_a_file_that_is_no_hosted_cluster_is_named(tmp_path, text, words):
    with pytest.raises(UsageError, match=words):
        known(tmp_path, text)


def test_a_file_of_the_largest_size_is_read(tmp_path):
    text = LIVE + "#" * (MAX_FILE - len(LIVE))
    assert known(tmp_path, text) == replace(known(tmp_path), bundle="user-ca")


@pytest.mark.parametrize("beyond", [0, 1])
def test_more_rules_than_a_hosted_cluster_takes(beyond, tmp_path):
    """A whole catalog has 590 repositories that are named by digest: openshift/hypershift#6166, #6325, spec.imageContentSources."""
    sources = [f"quay.io/vendor-{n % 20}/image-{n}@{A}" for n in range(MAX_SOURCES - 2 + beyond)]
    _files, built = rendered(*sources, hosted=known(tmp_path))  # two more are in the HostedCluster
    found = [one for one in built.problems if one.code == "hosted-rules"]
    assert bool(found) is bool(beyond)
    if beyond:
        assert f"has {MAX_SOURCES + 1} imageContentSources" in found[0].message
        # Narrower rules of the cluster are for quay.io/x and one repository of releases: nothing of them is in the way.
        assert "--mirror-scope namespace: 22, --mirror-scope registry: 3" in found[0].message
        assert built.exit_code == 3
    wider = replace(OPTIONS, mirror_scope=Scope.NAMESPACE)
    assert not [one for one in rendered(*sources, options=wider)[1].problems if one.code == "hosted-rules"]
