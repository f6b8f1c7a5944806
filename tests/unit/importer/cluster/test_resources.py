"""What is built for each release is what that release knows, and valid by the schemas of the newest."""

import jsonschema
import pytest
import yaml

from common.archive.inventory import CatalogRecord, ImageKind, ImageRecord, Inventory
from common.digest import Digest
from common.errors import UsageError
from importer.cluster.catalog_source import source_name
from importer.cluster.mirror_merge import MAX_OBJECT_SIZE
from importer.cluster.mirror_rules import Scope
from importer.cluster.release import Release
from importer.cluster.resources import ResourceOptions, build, catalog_names, scope
from importer.mapping import Mirror, map_images
from importer.render import render
from tests.fakes.cluster_kinds import CRDS

A, B = Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64)
INDEX = "registry.redhat.io/redhat/redhat-operator-index:v4.18"
MIRROR = Mirror.parse("mirror.example:5000/hub")
RELEASES = ["4.3", "4.5", "4.6", "4.8", "4.12", "4.13", "4.14", "4.15", "4.18", "4.20"]
NEEDED = ("redhat-operators/alpha/alpha.v1.0.0",)


def image(source, digest=A, kind=ImageKind.RELATED, needed_by=NEEDED, **fields):
    return ImageRecord(source, digest, None, kind, (), complete=True, needed_by=needed_by, size=1, **fields)


def inventory(*images, file_format="file-based", **fields):
    record = CatalogRecord(INDEX, A, B, "redhat-operators", file_format, filtered=True, packages=(), **fields)
    catalog = image(INDEX, B, ImageKind.CATALOG, (), tag="v4.18")
    return Inventory("", "", "", {}, (), (record,), (catalog, *images), {}, {}, (), ())


def built(carried, release, options=None, mirror=MIRROR, **fields):
    options = options or ResourceOptions(registry_ca="PEM")
    known = Release.parse(release) if release else None
    return build(carried, map_images(carried, mirror), mirror, known, options, **fields)


def by_kind(result):
    return {resource.kind: resource.body for resource in result.resources}


def schemas():
    for path in CRDS.glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        for version in crd["spec"]["versions"]:
            name = f"{crd['spec']['group']}/{version['name']}"
            yield (name, crd["spec"]["names"]["kind"]), version["schema"]["openAPIV3Schema"]


SCHEMAS = dict(schemas())
DIGEST, TAG = f"quay.io/x/y@{A}", "quay.io/x/z:v1"


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_gets_the_kinds_of_the_gate_table_and_they_are_valid(release):
    result = built(inventory(image(DIGEST), image(TAG, tag="v1")), release)
    minor = int(release.partition(".")[2])
    kinds = {"ConfigMap", "Image", "OperatorHub"}
    kinds |= {"ImageDigestMirrorSet", "ImageTagMirrorSet"} if minor >= 13 else {"ImageContentSourcePolicy"}
    kinds |= {"CatalogSource"} if minor >= 9 else set()
    kinds |= {"ClusterCatalog"} if minor >= 18 else set()
    assert set(by_kind(result)) == kinds
    for resource in result.resources:
        if resource.kind != "ConfigMap":
            jsonschema.validate(resource.body, SCHEMAS[resource.api_version, resource.kind])
    codes = [problem.code for problem in result.problems]
    assert codes == (["tag-unmirrorable"] if minor < 13 else []) + (["catalog-unservable"] if minor < 9 else [])


@pytest.mark.parametrize(
    ("release", "config"),
    [
        ("4.9", None),
        ("4.10", None),
        ("4.12", {"securityContextConfig": "restricted"}),
        ("4.18", {"securityContextConfig": "restricted"}),
        ("4.20", {"securityContextConfig": "restricted", "extractContent": {"catalogDir": "/configs"}}),
        (None, None),
    ],
)
def test_pod_configuration_holds_only_what_the_release_knows(release, config):
    spec = by_kind(built(inventory(image(DIGEST)), release))["CatalogSource"]["spec"]
    assert spec.get("grpcPodConfig") == config
    assert spec["image"] == f"mirror.example:5000/hub/redhat/redhat-operator-index@{B}"
    assert "updateStrategy" not in spec


def test_an_sqlite_catalog_is_served_by_every_release():
    for release in RELEASES:
        assert "CatalogSource" in by_kind(built(inventory(image(DIGEST), file_format="sqlite"), release))


def test_a_template_adds_what_it_may():
    template = {"spec": {"image": "evil", "priority": 7, "updateStrategy": {}, "grpcPodConfig": {"memoryTarget": "100Mi"}}}
    carried = inventory(image(DIGEST), catalog_source_template=template)
    spec = by_kind(built(carried, "4.18"))["CatalogSource"]["spec"]
    assert (spec["priority"], spec["grpcPodConfig"]["memoryTarget"]) == (7, "100Mi")
    assert spec["image"].startswith("mirror.example")
    assert "updateStrategy" not in spec


def test_a_policy_that_exists_decides_before_4_15():
    carried = inventory(image(DIGEST))
    for release, kind in (
        ("4.13", "ImageContentSourcePolicy"),
        ("4.14", "ImageContentSourcePolicy"),
        ("4.15", "ImageDigestMirrorSet"),
    ):
        assert kind in by_kind(built(carried, release, existing_icsp=True))


@pytest.mark.parametrize(
    ("wanted", "source", "mirror"),
    [
        ("repository", "quay.io/x/y", "mirror.example:5000/hub/x/y"),
        ("namespace", "quay.io/x", "mirror.example:5000/hub/x"),
        ("registry", "quay.io", "mirror.example:5000/hub"),
    ],
)
def test_scopes(wanted, source, mirror):
    options = ResourceOptions(mirror_scope=scope(wanted))
    rules = by_kind(built(inventory(image(DIGEST)), "4.18", options))["ImageDigestMirrorSet"]["spec"]["imageDigestMirrors"]
    assert rules == [{"source": source, "mirrors": [mirror]}]


def test_joined_paths_need_repository_scope():
    mirror = Mirror.parse("mirror.example:5000/hub", max_path_components=2)
    options = ResourceOptions(mirror_scope=Scope.NAMESPACE)
    rules = by_kind(built(inventory(image(DIGEST)), "4.18", options, mirror))["ImageDigestMirrorSet"]["spec"][
        "imageDigestMirrors"
    ]
    assert rules == [{"source": "quay.io/x/y", "mirrors": ["mirror.example:5000/hub/x-y"]}]


def test_the_ca_is_found_by_host_and_port():
    kinds = by_kind(built(inventory(image(DIGEST)), "4.18"))
    assert kinds["ConfigMap"]["data"] == {"mirror.example..5000": "PEM"}
    assert kinds["Image"]["spec"] == {"additionalTrustedCA": {"name": "hub-registry-ca"}}


def test_images_of_no_catalog_have_rules_of_their_own():
    names = [
        r.name
        for r in built(inventory(image(DIGEST), image(f"quay.io/o/p@{A}", needed_by=())), "4.18").resources
        if "Mirror" in r.kind
    ]
    assert names == ["hub-redhat-operators", "hub-additional"]


def test_large_rule_sets_are_split_below_what_an_annotation_takes():
    many = [image(f"quay.io/{'n' * 60}/image-{number:05}@{A}") for number in range(3000)]
    carried = inventory(*many)
    files = render(built(carried, "4.18").resources, map_images(carried, MIRROR))
    parts = list(yaml.safe_load_all(files["imagedigestmirrorset.yaml"]))
    assert [part["metadata"]["name"] for part in parts] == [
        "hub-redhat-operators",
        "hub-redhat-operators-2",
        "hub-redhat-operators-3",
    ]
    assert all(len(yaml.dump(part)) < MAX_OBJECT_SIZE * 1.05 for part in parts)
    assert sum(len(part["spec"]["imageDigestMirrors"]) for part in parts) == 3000


def test_names():
    assert source_name("Redhat_Operator.Index") == "redhat-operator-index"
    assert source_name("4x") == "hub-4x"
    assert len(source_name("a" * 100)) == 63
    chosen = ResourceOptions(catalog_names=catalog_names(["redhat-operators=mine"]))
    assert by_kind(built(inventory(image(DIGEST)), "4.18", chosen))["CatalogSource"]["metadata"]["name"] == "mine"
    only = ResourceOptions(catalog_names=catalog_names(["only"]))
    assert by_kind(built(inventory(image(DIGEST)), "4.18", only))["CatalogSource"]["metadata"]["name"] == "only"


def test_wrong_choices():
    with pytest.raises(UsageError, match="is no name for a CatalogSource"):
        catalog_names(["redhat-operators=Upper"])
    with pytest.raises(UsageError, match="has no catalog 'other'"):
        built(inventory(image(DIGEST)), "4.18", ResourceOptions(catalog_names={"other": "x"}))
    with pytest.raises(UsageError, match="--mirror-scope"):
        scope("everything")


@pytest.mark.parametrize("text", ["", "4", "four", "4.2", "3.11", "4.x"])
def test_no_release(text):
    with pytest.raises(UsageError, match=r"release|older than"):
        Release.parse(text)


def test_releases_compare_as_numbers():
    assert Release.parse("4.9") < Release.parse("4.18") < Release.parse("v4.20.3")
    assert str(Release.parse("4.18.1")) == "4.18"
