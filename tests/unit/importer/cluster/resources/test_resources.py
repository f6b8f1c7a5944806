"""The objects for each release have only kinds and fields of that release (docs/facts/openshift.md §10)."""

import copy
from dataclasses import replace

import pytest

from common.errors import ExitCode, UsageError
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions, build, catalog_names, scope
from importer.cluster.resources.mirror_rules import Scope
from importer.cluster.resources.permissions import needed
from importer.mapping import Mirror, map_images
from tests.fakes.cluster_kinds import Shape, kinds_of
from tests.fakes.inventories import A, B, catalog, image, inventory
from tests.fakes.wanted import CA
from tests.samples import more

MIRROR = Mirror.parse("mirror.example:5000/hub")
RELEASES = ["4.3", "4.5", "4.6", "4.8", "4.9", "4.12", "4.13", "4.14", "4.15", "4.18", "4.20"]
DIGEST, TAG = f"quay.io/x/y@{A}", "quay.io/x/z:v1"
TEMPLATE = {"spec": {"priority": 7, "grpcPodConfig": {"memoryTarget": "100Mi", "nodeSelector": {"a": "b"}}}}


def built(carried, release, options=None, mirror=MIRROR, **fields):
    known = Release.parse(release) if release else None
    return build(carried, map_images(carried, mirror), mirror, known, options or ResourceOptions(registry_ca=CA), **fields)


def by_kind(result):
    return {resource.kind: resource.body for resource in result.resources}


def rule_objects(result):
    return {
        (resource.kind, resource.name): [each["source"] for rules in resource.body["spec"].values() for each in rules]
        for resource in result.resources
        if resource.kind.startswith("Image") and resource.kind != "Image"
    }


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_gets_the_kinds_of_the_gate_table(release):
    result = built(inventory(image(DIGEST), image(TAG, tag="v1")), release)
    minor = int(release.partition(".")[2])
    kinds = ["ConfigMap", "Image", *(["Config"] if minor < 5 else []), "OperatorHub"]
    kinds += ["ImageDigestMirrorSet", "ImageTagMirrorSet"] if minor >= 13 else ["ImageContentSourcePolicy"]
    kinds += ["ClusterCatalog"] * 4 if minor >= 18 else []  # the defaults, to be switched off
    kinds += ["CatalogSource"] if minor >= 9 else []
    kinds += ["ClusterCatalog"] if minor >= 18 else []
    assert [resource.kind for resource in result.resources] == kinds
    codes = [problem.code for problem in result.problems]
    assert codes == (["tag-unmirrorable"] if minor < 13 else []) + (["catalog-unservable"] if minor < 9 else [])
    assert result.exit_code is (ExitCode.PROBLEMS if minor < 9 else ExitCode.DONE)


def test_a_cluster_with_olm_v1_alone_gets_no_catalog_source():
    """Without the capability OperatorLifecycleManager (openshift/api, config/v1) it has no such kind."""
    release = replace(Release.parse("4.20"), classic=False)
    carried = inventory(image(DIGEST))
    found = build(carried, map_images(carried, MIRROR), MIRROR, release, ResourceOptions())
    kinds = [resource.kind for resource in found.resources]
    assert ("CatalogSource" in kinds, kinds[-1]) == (False, "ClusterCatalog")


@pytest.mark.parametrize("release", ["4.18", *more(["4.5", "4.14", "4.20"])])
@pytest.mark.parametrize("hosted", [False, True])
def test_an_archive_without_catalogs_leaves_the_default_sources_alone(release, hosted):
    carried = inventory(image(DIGEST, needed_by=()), catalogs=())
    result = built(carried, release, ResourceOptions(hosted=hosted))
    assert {resource.kind for resource in result.resources}.isdisjoint({"OperatorHub", "ClusterCatalog"})
    written = {(each.kind.name, each.verb) for each in needed(Release.parse(release), result.resources)}
    assert hosted or not written & {("OperatorHub", "get"), ("OperatorHub", "patch"), ("ClusterCatalog", "patch")}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("file_format", ["file-based", "sqlite"])
@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_every_release_knows_every_field(release, file_format, template):
    served = {(kind.api_version, kind.kind): kind for kind in kinds_of(tuple(map(int, release.split("."))))}
    carried = inventory(
        image(DIGEST), image(TAG, tag="v1"), catalogs=(catalog(format=file_format, catalog_source_template=template),)
    )
    for resource in built(carried, release).resources:
        shape = Shape(served[resource.api_version, resource.kind].schema)
        assert shape.errors(dict(resource.body)) == []
        assert shape.prune(copy.deepcopy(dict(resource.body))) == []


@pytest.mark.parametrize("release", RELEASES)
def test_an_sqlite_catalog_is_served_by_every_release_and_not_by_olm_v1(release):
    resources = built(inventory(catalogs=(catalog(format="sqlite"),)), release).resources
    kinds = [resource.kind for resource in resources if not resource.shared]
    assert "CatalogSource" in kinds
    assert "ClusterCatalog" not in kinds


def test_a_catalog_that_cannot_be_served_is_named_with_the_way_out():
    (problem,) = built(inventory(image(DIGEST)), "4.8").problems
    assert (problem.severity, problem.subject) == ("error", "redhat-operators")
    assert "OpenShift 4.8 cannot serve a file-based catalog" in problem.message
    assert "SQLite" in problem.message


def test_a_kubernetes_with_olm_gets_its_catalog_source_alone():
    result = built(inventory(image(DIGEST), image(TAG, tag="v1")), None)
    assert [(resource.kind, resource.namespace) for resource in result.resources] == [("CatalogSource", "olm")]
    assert result.problems == ()


def test_without_a_ca_there_are_no_objects_for_trust():
    assert {"ConfigMap", "Image"}.isdisjoint(by_kind(built(inventory(image(DIGEST)), "4.18", ResourceOptions())))


def test_a_policy_that_exists_decides_before_4_15():
    carried = inventory(image(DIGEST), image(TAG, tag="v1"))
    before = built(carried, "4.14", existing_icsp=True)
    assert list(rule_objects(before)) == [("ImageContentSourcePolicy", "hub-redhat-operators")]
    assert [problem.code for problem in before.problems] == ["tag-unmirrorable"]
    assert len(rule_objects(built(carried, "4.15", existing_icsp=True))) == 2


def test_an_image_pulled_by_tag_is_named_with_its_bundles():
    (problem,) = built(inventory(image(TAG, tag="v1")), "4.12").problems
    assert (problem.severity, problem.subject) == ("warning", TAG)
    assert "OpenShift 4.12" in problem.message
    assert "redhat-operators/alpha/alpha.v1.0.0" in problem.message


def test_a_signature_is_no_image_pulled_by_tag():
    carried = inventory(image(DIGEST), image("quay.io/x/y:sha256-1.sig", B, "signature", (), tag="sha256-1.sig"))
    assert built(carried, "4.12").problems == ()
    assert rule_objects(built(carried, "4.18")) == {("ImageDigestMirrorSet", "hub-redhat-operators"): ["quay.io/x/y"]}


def test_joined_paths_need_repository_scope():
    mirror = Mirror.parse("mirror.example:5000/hub", max_path_components=3)
    carried = inventory(image(DIGEST), image(f"quay.io/x/y/z@{A}"))
    rules = rule_objects(built(carried, "4.18", ResourceOptions(mirror_scope=Scope.REGISTRY), mirror))
    assert rules["ImageDigestMirrorSet", "hub-redhat-operators"] == ["quay.io/x/y", "quay.io/x/y/z"]


def test_each_catalog_has_its_rules_and_the_rest_have_theirs():
    other = catalog("community", "quay.io/operatorhubio/catalog:latest", image=A)
    carried = inventory(
        image(DIGEST, needed_by=("redhat-operators/a/a.v1", "community/a/a.v1")),
        image(f"quay.io/o/p@{A}", needed_by=("community/a/a.v1",)),
        image(f"quay.io/o/q@{A}", needed_by=()),
        image(f"quay.io/o/r@{A}", needed_by=("elsewhere/a/a.v1",)),
        catalogs=(catalog(), other),
    )
    assert rule_objects(built(carried, "4.18")) == {
        ("ImageDigestMirrorSet", "hub-redhat-operators"): ["quay.io/x/y"],
        ("ImageDigestMirrorSet", "hub-community"): ["quay.io/o/p"],
        ("ImageDigestMirrorSet", "hub-additional"): ["quay.io/o/q", "quay.io/o/r"],
    }


@pytest.mark.parametrize("chosen", [["redhat-operators=mine"], ["mine"]])
def test_a_name_may_be_chosen(chosen):
    result = built(inventory(image(DIGEST)), "4.18", ResourceOptions(catalog_names=catalog_names(chosen)))
    names = {resource.kind: resource.name for resource in result.resources}
    assert (names["CatalogSource"], names["ClusterCatalog"]) == ("mine", "mine")
    assert names["ImageDigestMirrorSet"] == "hub-redhat-operators"


@pytest.mark.parametrize("text", ["redhat-operators=Upper", "redhat-operators=", "", "a=" + "b" * 64, "a=4x", "a=../b"])
def test_a_name_that_no_catalog_source_may_have_is_refused(text):
    with pytest.raises(UsageError, match="is not a name for a CatalogSource"):
        catalog_names([text])


def test_a_name_for_a_catalog_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="has no catalog 'other'") as caught:
        built(inventory(), "4.18", ResourceOptions(catalog_names={"other": "x"}))
    assert "redhat-operators" in caught.value.hint


@pytest.mark.parametrize("options", [ResourceOptions(), ResourceOptions(catalog_names={"": "x"})])
def test_two_catalogs_of_one_name_are_refused(options):
    twins = (catalog("my_catalog"), catalog("my.catalog", "quay.io/my/catalog:v1", image=A))
    with pytest.raises(UsageError, match="two catalogs would get the same CatalogSource"):
        built(inventory(catalogs=twins), "4.18", options)


def test_scopes_are_named():
    assert [scope(text) for text in ("repository", "namespace", "registry")] == list(Scope)
    with pytest.raises(UsageError, match="--mirror-scope 'everything'") as caught:
        scope("everything")
    assert "repository, namespace, registry" in caught.value.hint
