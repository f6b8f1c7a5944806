"""CatalogSource and ClusterCatalog: what the release knows, what a template may say, and the name that stays."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from importer.cluster.release import Release
from importer.cluster.resources.catalog_source import catalog_source, cluster_catalog, serving, source_name
from importer.mapping import Mirror, map_catalog, map_images
from tests.fakes.inventories import B, catalog, inventory

MASTER = "node-role.kubernetes.io/master"
# operator-marketplace, defaults/01_redhat_operators.cr.yaml
PLACED = {
    "nodeSelector": {"kubernetes.io/os": "linux", MASTER: ""},
    "priorityClassName": "system-cluster-critical",
    "tolerations": [
        {"key": MASTER, "operator": "Exists", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 120},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 120},
    ],
}
RESTRICTED = PLACED | {"securityContextConfig": "restricted"}
EXTRACTED = {"extractContent": {"catalogDir": "/configs"}}


def source(release, **fields):
    carried = catalog(**fields)
    (image,) = map_images(inventory(catalogs=(carried,)), Mirror.parse("mirror.example:5000/hub"))
    return catalog_source(carried, image, "operators", Release.parse(release) if release else None)


def spec(release, **fields):
    return source(release, **fields).body["spec"]


@pytest.mark.parametrize(
    ("release", "config"),
    [
        ("4.9", None),
        ("4.10", PLACED),
        ("4.11", PLACED),
        ("4.12", RESTRICTED),
        ("4.19", RESTRICTED),
        ("4.20", RESTRICTED | EXTRACTED),
        (None, None),
    ],
)
def test_grpc_pod_config_has_the_fields_of_the_release(release, config):
    assert spec(release).get("grpcPodConfig") == config


@pytest.mark.parametrize("other", ["hosted", "microshift"])
def test_a_cluster_without_nodes_of_a_control_plane_gets_no_place_for_catalogs(other):
    """A guest of a hosted control plane has workers alone: the node selector of the defaults would leave the pod Pending."""
    release = replace(Release(4, 18), **{other: True})
    carried = catalog()
    (image,) = map_images(inventory(catalogs=(carried,)), Mirror.parse("mirror.example:5000/hub"))
    config = catalog_source(carried, image, "operators", release).body["spec"]["grpcPodConfig"]
    assert config == {"securityContextConfig": "restricted"}
    pod = serving("x", "openshift-marketplace", "m.example/x", release)[0].body["spec"]["template"]["spec"]
    assert not PLACED.keys() & pod.keys()


def test_a_catalog_by_address_runs_where_the_defaults_do():
    """Neighbour: the pod of its own Deployment had the same want."""
    for release, placed in (("4.18", PLACED), ("4.9", {})):
        pod = serving("x", "openshift-marketplace", "m.example/x", Release.parse(release))[0].body["spec"]["template"]["spec"]
        assert {name: pod[name] for name in PLACED if name in pod} == placed


def test_the_place_of_a_template_counts():
    template = {"spec": {"grpcPodConfig": {"nodeSelector": {"node-role.kubernetes.io/infra": ""}, "tolerations": []}}}
    config = spec("4.18", catalog_source_template=template)["grpcPodConfig"]
    assert config == RESTRICTED | template["spec"]["grpcPodConfig"]


def test_only_a_rebuilt_file_based_catalog_is_extracted():
    assert spec("4.20", filtered=False)["grpcPodConfig"] == RESTRICTED
    assert spec("4.20", format="sqlite")["grpcPodConfig"] == PLACED | {"securityContextConfig": "legacy"}


def test_the_image_is_the_mirrors_by_digest_and_not_polled():
    told = spec("4.18")
    assert (told["sourceType"], told["image"]) == ("grpc", f"mirror.example:5000/hub/redhat/redhat-operator-index@{B}")
    assert "updateStrategy" not in told


def test_it_is_in_the_global_catalog_namespace():
    assert source("4.18").namespace == "openshift-marketplace"
    assert source(None).namespace == "olm"


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, ("redhat-operators (mirrored)", "hub-airgap")),
        ({"display_name": "Red Hat", "publisher": "us"}, ("Red Hat", "us")),
        ({"catalog_source_template": {"spec": {"displayName": "Ours"}}}, ("Ours", "hub-airgap")),
    ],
)
def test_people_are_shown_a_name_and_a_publisher(fields, shown):
    told = spec("4.18", **fields)
    assert (told["displayName"], told["publisher"]) == shown


POD = {"memoryTarget": "100Mi", "nodeSelector": {"a": "b"}, "extractContent": {"cacheDir": "/tmp/cache"}, "unheard": 1}
TEMPLATE = {"spec": {"priority": 7, "grpcPodConfig": POD}}


@pytest.mark.parametrize(
    ("release", "priority", "fields"),
    [
        ("4.5", None, set()),
        ("4.9", 7, set()),
        ("4.10", 7, {"nodeSelector"}),
        ("4.12", 7, {"nodeSelector", "securityContextConfig"}),
        ("4.15", 7, {"nodeSelector", "securityContextConfig", "memoryTarget", "extractContent"}),
    ],
)
def test_a_template_keeps_the_fields_that_the_release_knows(release, priority, fields):
    told = spec(release, catalog_source_template=TEMPLATE, filtered=False)
    assert told.get("priority") == priority
    # Beside the place of catalogs, which the template may change (`PLACED`).
    assert set(told.get("grpcPodConfig", {})) - {"priorityClassName", "tolerations"} == fields


def test_a_template_does_not_bring_back_the_cache_of_the_catalog_that_was_filtered():
    assert "extractContent" not in spec("4.18", catalog_source_template=TEMPLATE)["grpcPodConfig"]
    assert spec("4.20", catalog_source_template=TEMPLATE)["grpcPodConfig"]["extractContent"] == {"catalogDir": "/configs"}
    assert "extractContent" not in spec(None, catalog_source_template=TEMPLATE)["grpcPodConfig"]


def test_a_template_may_choose_another_security_context():
    template = {"spec": {"grpcPodConfig": {"securityContextConfig": "legacy"}}}
    assert spec("4.18", catalog_source_template=template)["grpcPodConfig"] == PLACED | {"securityContextConfig": "legacy"}


def test_a_template_does_not_change_the_image():
    template = {
        "metadata": {"name": "x", "namespace": "kube-system"},
        "spec": {"image": "evil", "address": "evil:1", "sourceType": "internal", "updateStrategy": {}},
        "status": {},
    }
    assert source("4.18", catalog_source_template=template) == source("4.18")


@pytest.mark.parametrize("template", [{}, {"spec": None}, {"spec": {}}, {"spec": {"grpcPodConfig": {}, "secrets": []}}])
def test_an_empty_template_changes_nothing(template):
    assert source("4.18", catalog_source_template=template) == source("4.18")


@pytest.mark.parametrize(
    ("spec_of_template", "place"),
    [
        ([], r"\$.spec"),
        ("x", r"\$.spec"),
        ({"priority": "high"}, r"\$.spec.priority"),
        ({"priority": True}, r"\$.spec.priority"),
        ({"displayName": {"a": 1}}, r"\$.spec.displayName"),
        ({"secrets": [1]}, r"\$.spec.secrets\[0\]"),
        ({"grpcPodConfig": ["x"]}, r"\$.spec.grpcPodConfig"),
    ],
)
def test_a_template_with_a_field_of_the_wrong_type_is_refused_with_its_place(spec_of_template, place):
    with pytest.raises(UsageError, match=f"CatalogSource template of redhat-operators: .*{place}"):
        source("4.18", catalog_source_template={"spec": spec_of_template})


def test_olm_v1_gets_the_same_image():
    carried = catalog()
    images = map_images(inventory(catalogs=(carried,)), Mirror.parse("mirror.example"))
    body = cluster_catalog(map_catalog(carried, images), "operators").body
    assert body["spec"]["source"] == {"type": "Image", "image": {"ref": f"mirror.example/redhat/redhat-operator-index@{B}"}}
    assert body["spec"]["availabilityMode"] == "Available"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("redhat-operators", "redhat-operators"),
        ("Redhat_Operator.Index", "redhat-operator-index"),
        ("4x", "hub-4x"),
        ("a" * 63, "a" * 63),
        ("../../x", "x"),
        ("", "hub"),
        ("İ", "i"),
    ],
)
def test_a_name_is_made_of_any_text(text, name):
    assert source_name(text) == name


def test_names_too_long_for_a_service_are_cut_and_stay_apart():
    names = [source_name(f"{'very-' * 13}{end}") for end in ("long-one", "long-two")]
    assert names[0] != names[1]
    assert all(len(name) <= 63 and name.startswith("very-very-") for name in names)


@given(st.text(max_size=100))
def test_a_name_is_always_one_that_a_service_may_have_and_stays(text):
    name = source_name(text)
    assert name.isascii()
    assert 0 < len(name) <= 63
    assert name[0].isalpha()
    assert name.islower()
    assert name[-1] != "-"
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert source_name(name) == name
