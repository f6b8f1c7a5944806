"""The images of a bundle from all fields of a catalog; an entry that is not a reference is a problem with its name."""

import base64
import json

import pytest

from common.archive.inventory import ImageKind, ProblemCode
from exporter.catalog.related_images import images_of, unreadable_objects
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, real

HEX = "a" * 64


def bundle(*related, **fields):
    blob = bundle_blob("foo.v1.0.0", image=f"quay.io/foo/bundle@sha256:{HEX}", relatedImages=list(related), **fields)
    catalog = catalog_of(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), blob)
    return catalog.packages["foo"].bundles["foo.v1.0.0"]


def found(*related, **fields):
    images, problems = images_of(bundle(*related, **fields))
    return [str(image.reference) for image in images], [problem.code for problem in problems]


def test_the_bundle_itself_comes_first_and_every_image_once():
    images, problems = images_of(bundle({"name": "a", "image": "quay.io/x/y:v1"}, {"name": "b", "image": "quay.io/x/y:v1"}))
    assert [(str(image.reference), image.kind) for image in images] == [
        (f"quay.io/foo/bundle@sha256:{HEX}", ImageKind.BUNDLE),
        ("quay.io/x/y:v1", ImageKind.RELATED),
    ]
    assert problems == ()


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        (" quay.io/x/y:v1\n", "quay.io/x/y:v1"),
        ("docker://quay.io/x/y:v1", "quay.io/x/y:v1"),
        ("quay.io/x/y", "quay.io/x/y:latest"),
        ("nginx:1", "docker.io/library/nginx:1"),
    ],
)
def test_sloppy_references_are_understood(text, reference):
    assert found({"name": "a", "image": text})[0][1:] == [reference]


@pytest.mark.parametrize(
    ("entry_", "code"),
    [
        ({"name": "a", "image": ""}, ProblemCode.RELATED_IMAGE_EMPTY),
        ({"name": "a", "image": "   "}, ProblemCode.RELATED_IMAGE_EMPTY),
        ({"name": "a", "image": "oci://quay.io/x/y:v1"}, ProblemCode.RELATED_IMAGE_INVALID),
        ({"name": "a", "image": "quay.io/X/y"}, ProblemCode.RELATED_IMAGE_INVALID),
        ({"name": "a", "image": "${IMAGE}"}, ProblemCode.RELATED_IMAGE_INVALID),
        ({"name": "a", "image": "REPLACE_IMAGE"}, ProblemCode.RELATED_IMAGE_INVALID),
        ({"name": "a", "image": f"registry-proxy.engineering.redhat.com/x/y@sha256:{HEX}"}, ProblemCode.RELATED_IMAGE_INTERNAL),
        ({"name": "a", "image": f"registry.stage.redhat.io/x/y@sha256:{HEX}"}, ProblemCode.RELATED_IMAGE_INTERNAL),
    ],
)
def test_what_is_no_image_is_a_problem_of_its_bundle(entry_, code):
    images, problems = images_of(bundle(entry_))
    assert [problem.code for problem in problems] == [code]
    assert problems[0].subject == "foo/foo.v1.0.0"
    assert "a" in problems[0].message
    assert len(images) == 1


def test_a_value_in_place_of_an_image_is_recovered_with_a_problem():
    images, codes = found({"name": "a", "value": "quay.io/x/y:v1"})
    assert images[1:] == ["quay.io/x/y:v1"]
    assert codes == [ProblemCode.RELATED_IMAGE_RECOVERED]


def test_a_csv_that_is_in_the_catalog_is_read_too():
    container = {"image": "quay.io/x/operator:v1", "env": [{"name": "RELATED_IMAGE_DB", "value": "quay.io/x/db:v1"}]}
    spec = {"template": {"spec": {"containers": [container], "initContainers": [{"image": "quay.io/x/init:v1"}]}}}
    csv = {
        "kind": "ClusterServiceVersion",
        "spec": {
            "relatedImages": [{"name": "b", "value": "quay.io/x/b:v1"}],
            "install": {"strategy": "deployment", "spec": {"deployments": [{"name": "x", "spec": spec}]}},
        },
    }
    data = base64.b64encode(json.dumps(csv).encode()).decode()
    plain = bundle_blob("foo.v1.0.0")["properties"]
    images, codes = found(properties=[*plain, {"type": "olm.bundle.object", "value": {"data": data}}])
    assert set(images[1:]) == {f"quay.io/x/{name}:v1" for name in ("operator", "db", "init", "b")}
    assert codes == [ProblemCode.RELATED_IMAGE_RECOVERED]


@pytest.mark.parametrize("data", ["", "!!!", base64.b64encode(b"{").decode(), base64.b64encode(b"[" * 9999).decode(), 5])
def test_objects_that_cannot_be_read_do_no_harm(data):
    plain = bundle_blob("foo.v1.0.0")["properties"]
    images, _ = found(properties=[*plain, {"type": "olm.bundle.object", "value": {"data": data}}])
    assert images == [f"quay.io/foo/bundle@sha256:{HEX}"]


def test_the_real_defects_are_found():
    problems = [p for b in real("fbc/malformed").packages["kuadrant-operator"].bundles.values() for p in images_of(b)[1]]
    assert any(
        p.code == ProblemCode.RELATED_IMAGE_INVALID and "oci://quay.io/kuadrant/wasm-shim" in p.message for p in problems
    )
    lost = [
        p.code for b in real("fbc/malformed").packages["3scale-community-operator"].bundles.values() for p in images_of(b)[1]
    ]
    assert lost.count(ProblemCode.RELATED_IMAGE_EMPTY) >= 1
    mended = real("fbc/malformed-bundle-object").packages["3scale-community-operator"].bundles.values()
    codes = [problem.code for bundle_ in mended for problem in images_of(bundle_)[1]]
    assert ProblemCode.RELATED_IMAGE_RECOVERED in codes
    assert ProblemCode.RELATED_IMAGE_EMPTY not in codes


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({"data": base64.b64encode(b'{"kind": "Role"}').decode()}, ""),
        ({"data": base64.b64encode(b"kind: Role\nenum: [=]\n").decode()}, ""),
        ({"data": base64.b64encode(b'{"kind": "Role"').decode()}, "cannot be read"),
        ({"data": base64.b64encode(b"a: !!int ''").decode()}, "olm.bundle.object:1:4"),
        ({"data": base64.b64encode(b"a: [").decode()}, "cannot be read"),
        ({"data": base64.b64encode(b"text").decode()}, "it is no object"),
        ({"data": ""}, "it is no object"),
        ({"data": "!"}, "cannot be read"),
        ({}, "it has no data"),
        (None, "it has no data"),
        ({"ref": "objects/role.yaml"}, "objects/role.yaml, which a filtered catalog does not have"),
    ],
)
def test_an_object_that_olm_could_not_install_is_named(value, word):
    package = {"type": "olm.package", "value": {"packageName": "foo", "version": "1.0.0"}}
    one = bundle(properties=[package, {"type": "olm.bundle.object", "value": value}])
    told = [problem.message for problem in unreadable_objects(one, filtered=True)]
    assert [word in message for message in told] == [True] * bool(word), told
    assert list(unreadable_objects(bundle(properties=[package]), filtered=True)) == []


def test_an_object_in_a_file_is_there_while_the_catalog_is_whole():
    one = bundle(properties=[{"type": "olm.bundle.object", "value": {"ref": "objects/role.yaml"}}])
    assert list(unreadable_objects(one, filtered=False)) == []
