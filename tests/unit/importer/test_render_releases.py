"""`render` of an archive with OpenShift releases: rules, signatures, update service; clusters without a ClusterVersion."""

from __future__ import annotations

import base64
from dataclasses import replace

import msgspec
import pytest
import yaml

from common.archive.inventory import ReleaseSignatureRecord
from common.errors import UsageError
from common.oci.image import Digest
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions, scope
from importer.cluster.resources.openshift_release import (
    MAX_SIGNATURES,
    UpdatePlace,
    has_room,
    has_space,
    key_prefix,
    signature_name,
    signatures,
)
from importer.configure.files.earlier import NONE, read_earlier
from importer.configure.files.render import render_archive
from importer.configure.files.roles import render_rbac
from importer.configure.files.update_files import with_earlier_signatures
from importer.mapping import Mirror
from tests.fakes.carried_releases import COMPONENTS, GRAPH, PAYLOADS, Carried, inventory
from tests.fakes.inventories import catalog, image
from tests.fakes.wanted import CA
from tests.samples import more

MIRROR = Mirror.parse("mirror.example:5000/hub")
TARGET = Carried("4.18.45")
RELEASES, POOL = f"{MIRROR}/openshift/release-images", f"{MIRROR}/openshift/release"


def render(carried, release="4.18", mirror=MIRROR, earlier=NONE, updates_from="", **options):
    known = Release.parse(release) if isinstance(release, str) else release
    return render_archive(carried, mirror, known, ResourceOptions(**options), earlier, updates_from=updates_from)


def rules(files, name="imagedigestmirrorset.yaml", field="imageDigestMirrors"):
    return {
        body["metadata"]["name"]: {each["source"]: each["mirrors"] for each in body["spec"][field]}
        for body in yaml.safe_load_all(files[name])
    }


@pytest.mark.parametrize("beyond", [0, 1])
def test_signatures_of_a_payload_at_the_limit_of_a_config_map_and_beyond(beyond):
    """Entries of one digest may have many, and those of renders over weeks are joined; an object has at most 1 MiB."""
    target = Carried("4.18.45")
    key = f"{key_prefix(target.digest)}-1"
    half = MAX_SIGNATURES // 2 - len(key)
    first, second = "a" * half, "b" * (half + beyond)
    twice = [
        msgspec.structs.replace(target.record(), signatures=(ReleaseSignatureRecord(content, "https://store"),))
        for content in (first, second)
    ]
    (one,) = signatures(msgspec.structs.replace(inventory(target), releases=tuple(twice)))
    assert list(one.body["binaryData"].values()) == ([first] if beyond else [first, second])
    # What the archive has counts before what an earlier render has, and a cluster gets a second ConfigMap for it.
    (fresh,) = signatures(msgspec.structs.replace(inventory(target), releases=(twice[1],)))
    earlier = {**fresh.body, "binaryData": {key: first}}
    joined = with_earlier_signatures(fresh, {("ConfigMap", fresh.name): earlier})
    assert sorted(joined.body["binaryData"].values()) == ([second] if beyond else [first, second])
    assert has_space(earlier, fresh) is not bool(beyond)


@pytest.mark.parametrize("wide", ["repository", "namespace", *more(["registry"])])
def test_rules_of_releases_are_for_single_repositories_in_every_scope(wide):
    """Their places do not depend on their sources, so that a rule for a namespace would lead other repositories astray."""
    files, _ = render(inventory(TARGET), mirror_scope=scope(wide))
    assert rules(files) == {"hub-openshift-release": {PAYLOADS: [RELEASES], COMPONENTS: [POOL]}}
    # By digest alone: nothing is pulled by tag, and the update service reads the mirror by its own name.
    assert "imagetagmirrorset.yaml" not in files


@pytest.mark.parametrize("release", ["4.12", *more(["4.3", "4.8"])])
def test_before_4_13_rules_are_an_image_content_source_policy(release):
    files, _ = render(inventory(TARGET), release)
    found = rules(files, "imagecontentsourcepolicy.yaml", "repositoryDigestMirrors")
    assert found == {"hub-openshift-release": {PAYLOADS: [RELEASES], COMPONENTS: [POOL]}}


def test_graph_data_alone_do_not_say_where_payloads_of_the_source_layout_are():
    files, _ = render(inventory(), mirror=replace(MIRROR, releases_by_source=True))
    assert "updates/updateservice.yaml" not in files
    files, _ = render(inventory())
    assert yaml.safe_load(files["updates/updateservice.yaml"])["spec"]["releases"] == RELEASES


def test_okd_and_5_0_have_the_repositories_of_their_own_payload():
    """The sources are those of image-references, never constants (openshift/oc, pkg/cli/admin/release)."""
    okd = Carried(
        "4.18.0-okd-scos.8", payloads="registry.ci.openshift.org/origin/release-scos", pool="quay.io/okd/scos-content", okd=True
    )
    newer = Carried("5.0.1", pool="quay.io/openshift-release-dev/ocp-v5.0-art-dev")
    files, _ = render(inventory(okd, newer))
    assert rules(files)["hub-openshift-release"] == {
        "registry.ci.openshift.org/origin/release-scos": [RELEASES],
        "quay.io/okd/scos-content": [POOL],
        PAYLOADS: [RELEASES],
        "quay.io/openshift-release-dev/ocp-v5.0-art-dev": [POOL],
    }


def test_a_component_that_an_operator_needs_too_is_in_the_rules_of_its_catalog():
    shared = image(TARGET.component("cli"), Digest(TARGET.component("cli").partition("@")[2]))
    files, _ = render(inventory(TARGET, catalogs=(catalog(),), images=(shared,)))
    assert rules(files) == {
        "hub-openshift-release": {PAYLOADS: [RELEASES]},
        "hub-redhat-operators": {COMPONENTS: [POOL]},
    }


def test_signatures_are_one_file_for_each_release_and_graph_data_is_outside_of_the_kustomization():
    files, built = render(inventory(TARGET, Carried("4.18.46", signatures=())), registry_ca=CA)
    name = signature_name(TARGET.digest)
    assert name == "sha256-" + TARGET.digest.partition(":")[2][:16]
    listed = yaml.safe_load(files["kustomization.yaml"])["resources"]
    assert [each for each in listed if each.startswith("release-signature")] == [f"release-signature-{name}.yaml"]
    body = yaml.safe_load(files[f"release-signature-{name}.yaml"])
    assert body["metadata"]["namespace"] == "openshift-config-managed"
    assert body["metadata"]["labels"]["release.openshift.io/verification-signatures"] == ""
    key = f"sha256-{TARGET.digest.partition(':')[2]}-1"
    assert body["binaryData"] == {key: base64.b64encode(b"signed").decode()}
    assert "data" not in body
    service = yaml.safe_load(files["updates/updateservice.yaml"])
    assert service["spec"] == {"replicas": 1, "releases": RELEASES, "graphDataImage": f"{MIRROR}/openshift/graph-image@{GRAPH}"}
    assert not [each for each in listed if "update" in each]
    config_map = next(each for each in yaml.safe_load_all(files["registry-ca.yaml"]) if each["kind"] == "ConfigMap")
    assert config_map["data"] == {"mirror.example..5000": CA, "updateservice-registry": CA}
    assert [each.subject for each in built.problems] == ["OpenShift 4.18.46 (amd64)"]
    # Without graph data there is nothing for an update service.
    files, _ = render(inventory(TARGET, graph=False), registry_ca=CA)
    assert "updates/updateservice.yaml" not in files
    config_map = next(each for each in yaml.safe_load_all(files["registry-ca.yaml"]) if each["kind"] == "ConfigMap")
    assert config_map["data"] == {"mirror.example..5000": CA}


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_merge_keeps_the_signatures_of_earlier_renders(tmp_path):
    """An Application that prunes would delete the signatures of the running release with the next archive."""
    write(tmp_path, render(inventory(Carried("4.18.44"), TARGET), registry_ca=CA)[0])
    again = Carried("4.18.45", signatures=(b"another", b"signed"))
    files, _ = render(inventory(again), earlier=read_earlier(tmp_path), registry_ca=CA)
    names = [f"release-signature-{signature_name(each.digest)}.yaml" for each in (Carried("4.18.44"), TARGET)]
    listed = yaml.safe_load(files["kustomization.yaml"])["resources"]
    assert sorted(names) == [each for each in listed if each.startswith("release-signature")]
    data = yaml.safe_load(files[names[1]])["binaryData"]
    assert sorted(map(base64.b64decode, data.values())) == [b"another", b"signed"]
    assert data["sha256-" + TARGET.digest.partition(":")[2] + "-1"] == base64.b64encode(b"signed").decode()


def test_merge_refuses_signatures_of_others(tmp_path):
    files, _ = render(inventory(TARGET))
    name = f"release-signature-{signature_name(TARGET.digest)}.yaml"
    files[name] = files[name].replace(b"managed-by: hub-import", b"managed-by: others")
    write(tmp_path, files)
    with pytest.raises(UsageError, match="is not of hub-import"):
        read_earlier(tmp_path)


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (None, "another Kubernetes has no ClusterVersion"),
        (Release(4, 18, microshift=True), "MicroShift has no ClusterVersion"),
    ],
)
def test_clusters_without_a_cluster_version_get_none_of_it(release, said):
    files, built = render(inventory(TARGET), release)
    assert not [name for name in files if "signature" in name or name.startswith("updates/")]
    assert said in built.notes[0]
    with pytest.raises(UsageError, match="no ClusterVersion"):
        render(inventory(TARGET), release, updates_from="https://updates.example")


def test_a_hosted_cluster_is_updated_by_its_own_field():
    """HyperShift: spec.release of the HostedCluster (hypershift, api/hypershift/v1beta1, hostedcluster_types.go)."""
    files, built = render(inventory(TARGET), Release(4, 18, hosted=True), hosted=True)
    assert not [name for name in files if "signature" in name or name.startswith("updates/")]
    assert "spec.release of its HostedCluster" in built.notes[0]
    assert built.notes[0].endswith(f"{PAYLOADS}@{TARGET.digest}")
    patch = yaml.safe_load(files["hosting/hostedcluster-patch.yaml"])
    sources = {each["source"]: each["mirrors"] for each in patch["spec"]["imageContentSources"]}
    assert sources == {PAYLOADS: [RELEASES], COMPONENTS: [POOL]}


def test_the_address_of_the_graph_is_a_patch_of_its_own():
    files, _ = render(inventory(TARGET), updates_from="https://updates.apps.example/")
    patch = yaml.safe_load(files["updates/clusterversion-patch.yaml"])
    assert patch == {"spec": {"upstream": "https://updates.apps.example/api/upgrades_info/v1/graph"}}
    assert files["updates/clusterversion-patch.yaml"].startswith(b"# oc patch clusterversion version --type merge")
    assert "updates/clusterversion-patch.yaml" not in render(inventory(TARGET))[0]


@pytest.mark.parametrize("uri", ["updates.example", "ftp://x", "https://", "https://u:p@updates.example", "https://a b"])
def test_an_address_that_is_none_is_refused(uri):
    with pytest.raises(UsageError, match="not an address"):
        render(inventory(TARGET), updates_from=uri)


def test_an_address_without_releases_is_refused():
    with pytest.raises(UsageError, match="no releases"):
        render(inventory(graph=False), updates_from="https://updates.example")


def test_the_layout_of_sources_keeps_its_paths():
    mirror = Mirror.parse("mirror.example:5000/hub", releases_by_source=True)
    files, _ = render(inventory(TARGET), mirror=mirror)
    assert rules(files)["hub-openshift-release"] == {
        PAYLOADS: [f"{mirror}/openshift-release-dev/ocp-release"],
        COMPONENTS: [f"{mirror}/openshift-release-dev/ocp-v4.0-art-dev"],
    }
    service = yaml.safe_load(files["updates/updateservice.yaml"])
    assert service["spec"]["releases"] == f"{mirror}/openshift-release-dev/ocp-release"


def test_the_roles_have_exactly_the_objects_of_releases():
    _, built = render(inventory(TARGET))
    text = render_rbac(Release.parse("4.18"), built.resources, ResourceOptions())["rbac.yaml"].decode()
    allowed = {
        (body["metadata"].get("namespace", ""), resource): set(rule["verbs"])
        for body in yaml.safe_load_all(text)
        for rule in body["rules"]
        for resource in rule["resources"]
        if not ({"get", "create"} == set(rule["verbs"]) and resource == "configmaps")
    }
    name = signature_name(TARGET.digest)
    assert name in text
    assert f"hub-{name}" in text
    assert allowed["openshift-update-service", "updateservices"] >= {"get", "patch", "delete"}
    assert "list" in allowed["", "updateservices"]
    assert "admin-acks" in text
    without = render_rbac(Release.parse("4.18"), render(inventory(graph=False))[1].resources, ResourceOptions())[
        "rbac.yaml"
    ].decode()
    assert "updateservice" not in without
    assert "openshift-config-managed" not in without


def test_the_room_of_a_label_of_dns():
    assert has_room(UpdatePlace("n" * 53, "hub"))
    assert not has_room(UpdatePlace("n" * 54, "hub"))
