"""The files for GitOps: all of them, stable, and what kubectl and kustomize can take."""

import json
import random
import re
from functools import partial

import pytest
import yaml

from common.archive.inventory import ChannelRecord, PackageRecord
from importer.cli.cluster_tables import render_document, render_table
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions, build
from importer.cluster.resources.mirror_rules import MAX_OBJECT_SIZE
from importer.configure.files.earlier import NONE
from importer.configure.files.render import render, render_archive
from importer.configure.files.rule_files import near, node_size
from importer.mapping import Mirror, map_images
from tests.fakes.inventories import A, catalog, image, inventory
from tests.fakes.wanted import CA
from tests.samples import more

MIRROR = Mirror.parse("mirror.example:5000/hub")
COMMON = {"kustomization.yaml", "mapping.txt", "operatorhub.yaml"}
TRUST, SOURCE = {"registry-ca.yaml"}, {"catalogsource-redhat-operators.yaml"}


def objects(carried, release, options):
    return build(carried, map_images(carried, MIRROR), MIRROR, Release.parse(release) if release else None, options).resources


def rendered(carried, release, options=None):
    made = objects(carried, release, options or ResourceOptions(registry_ca=CA))
    return render(made, map_images(carried, MIRROR))


def in_order(body):
    return json.dumps(body, sort_keys=True)


def documents(files, name):
    return list(yaml.load_all(files[name], yaml.CSafeLoader))


@pytest.mark.parametrize(
    ("release", "names"),
    [
        ("4.8", COMMON | TRUST | {"imagecontentsourcepolicy.yaml"}),
        ("4.12", COMMON | TRUST | SOURCE | {"imagecontentsourcepolicy.yaml"}),
        ("4.14", COMMON | TRUST | SOURCE | {"imagedigestmirrorset.yaml", "imagetagmirrorset.yaml"}),
        (
            "4.18",
            COMMON
            | TRUST
            | SOURCE
            | {"imagedigestmirrorset.yaml", "imagetagmirrorset.yaml"}
            | {"clustercatalog-redhat-operators.yaml", "clustercatalogs-default.yaml"},
        ),
        (None, (COMMON - {"operatorhub.yaml"}) | SOURCE),
    ],
)
def test_each_release_gets_its_files(release, names):
    files = rendered(inventory(image(f"quay.io/x/y@{A}"), image("quay.io/x/z:v1", tag="v1")), release)
    assert set(files) == names
    assert list(files) == sorted(files)
    assert documents(files, "kustomization.yaml")[0]["resources"] == sorted(names - {"kustomization.yaml", "mapping.txt"})


def test_operators_that_are_not_meant_for_the_release_are_problems():
    """OLM, pkg/controller/operators/openshift/helpers.go: `olm.maxOpenShiftVersion`."""
    offered = PackageRecord("foo", "stable", (ChannelRecord("stable", "foo.v1", (), "4.17"),))
    carried = inventory(catalogs=(catalog(packages=(offered,)),))
    for release, wanted in (("4.18", ["foo"]), ("4.17", []), (None, [])):
        built = render_archive(carried, MIRROR, Release.parse(release) if release else None, ResourceOptions())[1]
        found = [(one.severity, one.subject) for one in built.problems if one.code == "release-unsupported"]
        assert found == [("warning", name) for name in wanted]


def test_without_a_ca_and_without_tags_there_are_no_such_files():
    files = rendered(inventory(image(f"quay.io/x/y@{A}")), "4.18", ResourceOptions())
    assert {"registry-ca.yaml", "imagetagmirrorset.yaml"}.isdisjoint(files)


def test_the_ca_comes_with_the_object_that_names_it():
    config_map, config = documents(rendered(inventory(), "4.18"), "registry-ca.yaml")
    assert config_map["data"] == {"mirror.example..5000": CA}
    assert config["spec"]["additionalTrustedCA"]["name"] == config_map["metadata"]["name"]


def test_the_files_are_the_objects_that_apply_gets():
    carried = inventory(image(f"quay.io/x/y@{A}"))
    options = ResourceOptions(registry_ca=CA)
    files = rendered(carried, "4.20", options)
    names = documents(files, "kustomization.yaml")[0]["resources"]
    shown = sorted((each for name in names for each in documents(files, name)), key=in_order)
    assert shown == sorted(
        (yaml.safe_load(yaml.safe_dump(each.body)) for each in objects(carried, "4.20", options)), key=in_order
    )


def test_the_order_of_what_is_given_leaves_no_trace():
    images = [image(f"quay.io/x/image-{number}@{A}") for number in range(20)]
    shuffled = random.Random(1).sample(images, len(images))
    assert rendered(inventory(*images), "4.18") == rendered(inventory(*shuffled), "4.18")


def test_large_rule_sets_are_split_below_what_an_annotation_takes():
    files = rendered(inventory(*(image(f"quay.io/{'n' * 60}/image-{number:05}@{A}") for number in range(3000))), "4.18")
    parts = documents(files, "imagedigestmirrorset.yaml")
    names = ["hub-redhat-operators", *(f"hub-redhat-operators-{number}" for number in (2, 3, 4))]  # two full ones were halved
    assert [part["metadata"]["name"] for part in parts] == names
    assert all(len(yaml.dump(part, Dumper=yaml.CDumper)) < MAX_OBJECT_SIZE * 1.05 for part in parts)
    assert len({each["source"] for part in parts for each in part["spec"]["imageDigestMirrors"]}) == 3000


def test_two_catalogs_of_one_name_share_an_object():
    """Kustomize refuses two objects of one name."""
    twins = (catalog("my_catalog"), catalog("my.catalog", "quay.io/my/catalog:v1", image=A))
    carried = inventory(
        image(f"quay.io/x/y@{A}", needed_by=("my_catalog/a/a.v1",)),
        image(f"quay.io/x/z@{A}", needed_by=("my.catalog/a/a.v1",)),
        catalogs=twins,
    )
    (rules,) = documents(
        rendered(carried, "4.18", ResourceOptions(catalog_names={"my_catalog": "one"})), "imagedigestmirrorset.yaml"
    )
    assert rules["metadata"]["name"] == "hub-my-catalog"
    assert [each["source"] for each in rules["spec"]["imageDigestMirrors"]] == ["quay.io/x/y", "quay.io/x/z"]


def test_the_mapping_is_what_oc_image_mirror_reads():
    lines = rendered(inventory(image(f"quay.io/x/y@{A}", tag="v1")), "4.18")["mapping.txt"].decode().splitlines()
    assert lines == [
        f"quay.io/x/y@{A}=mirror.example:5000/hub/x/y:hub-sha256-{'a' * 64}",
        f"quay.io/x/y@{A}=mirror.example:5000/hub/x/y:v1",
    ]


def vendors(number: int):
    return inventory(*(image(f"quay.io/vendor-{n % 40}/image-{n:04}-{'n' * 190}@{A}") for n in range(number)))


def test_the_size_on_the_nodes_is_said():
    _files, built = render_archive(vendors(30), MIRROR, Release(4, 18), ResourceOptions())
    document = render_document([], built)["nodeConfiguration"]
    assert (document["sources"], document["mirrorScope"]) == (30, "repository")
    assert document["machineConfig"] > 400_000
    assert any(line.startswith("registries.conf of the nodes: ") for line in render_table([], built, "a"))
    assert not [one for one in built.problems if one.code == "node-configuration-large"]


@pytest.mark.parametrize("releases", [((4, 10), (4, 11)), *more([((4, 3), (4, 20))])])
def test_the_size_on_the_nodes_is_that_of_the_release(releases):
    """Up to 4.10 files are percent-encoded in a MachineConfig (machine-config-operator, NewIgnFileBytes), later in base64."""
    carried = inventory(*(image(f"quay.io/vendor/image-{n}@{A}") for n in range(30)))
    one, other = (render_archive(carried, MIRROR, Release(*each), ResourceOptions())[1].node_size.size for each in releases)
    assert one.registries_conf == other.registries_conf
    assert other.machine_config - 400_000 == pytest.approx(other.registries_conf * 4 / 3, abs=50)
    assert one.machine_config - 400_000 > 1.5 * one.registries_conf


def test_a_large_configuration_of_nodes_is_warned_of():
    """GitOps applies the files without a preflight: etcd takes 1.5 MiB for the MachineConfig with all rules."""
    carried, options = vendors(1150), ResourceOptions()
    make = partial(build, carried, map_images(carried, MIRROR), MIRROR, Release(4, 18))
    (problem,) = near(node_size(make(options).resources, make, options, NONE, Release(4, 18)))
    assert (problem.severity, problem.code) == ("warning", "node-configuration-large")
    assert re.search(r"--mirror-scope namespace: registries.conf of the nodes: [5-9] kB for 40 sources", problem.message)
    assert "Use --mirror-scope namespace" in problem.message
