"""Images that only the resources in a bundle image name: found, carried, and said where they could not be looked for."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager

import pytest

from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.sources import LABEL
from tests.samples import more

pytestmark = pytest.mark.integration


def csv(host, **more):
    container = {
        "name": "manager",
        "image": f"{host}/org/manager:v1",
        "env": [
            {"name": "RELATED_IMAGE_OPERAND", "value": f"{host}/org/operand:v1"},
            {"name": "ROUTER_IMAGE", "value": "router.example.com/org/router:v1"},
            {"name": "IMAGE_PULL_POLICY", "value": "Always"},
        ],
    }
    deployment = {"name": "x", "spec": {"template": {"spec": {"containers": [container]}}}}
    listed = [{"name": "listed", "value": f"{host}/org/listed:v1"}]
    return {
        "kind": "ClusterServiceVersion",
        "spec": {"relatedImages": listed, "install": {"spec": {"deployments": [deployment]}}, **more},
    }


def bundle(content, *, label="manifests/"):
    labels = {"operators.operatorframework.io.bundle.manifests.v1": label} if label else {}
    return image(
        ({f"{(label or 'manifests').strip('/')}/foo.clusterserviceversion.yaml": content, "metadata/annotations.yaml": b"{}"},),
        labels=labels,
    )


@contextmanager
def registry_with(content, **options):
    with FakeRegistry() as registry:
        fill(registry, content, **options)
        yield registry


def fill(registry, content, **options):
    host = registry.host
    registry.add_image("org/bundle", bundle(content(host), **options), tag="v1")
    for name in ("manager", "operand", "listed"):
        registry.add_image(f"org/{name}", image([name.encode() * 100]), tag="v1")
    blob = bundle_blob("foo.v1.0.0", "1.0.0") | {"image": f"{host}/org/bundle:v1", "relatedImages": []}
    files = stream(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), blob)
    labels = {LABEL: "/configs"}
    config = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
    registry.add_image(
        "org/index", image(({"bin/opm": b"opm"}, {"configs/foo/catalog.json": files}), labels=labels, config=config), tag="v1"
    )


def create(registry, output, *more):
    return run(
        *(
            "hub-export",
            "create",
            "--catalog",
            f"{registry.host}/org/index:v1",
            "--package",
            "foo",
            "--insecure",
            registry.host,
        ),
        *("--insecure", "router.example.com", "--signatures", "ignore", "--output", output, "--format", "json", *more),
    )


@pytest.mark.parametrize("label", ["some/where", *more(["manifests/", ""])])
def test_images_that_only_the_bundle_image_names_are_carried(tmp_path, label):
    conf = tmp_path / "registries.conf"
    with registry_with(lambda host: json.dumps(csv(host)).encode(), label=label) as registry:
        conf.write_text(f'[[registry]]\nprefix = "router.example.com"\nlocation = "{registry.host}"\ninsecure = true\n')
        registry.add_image("org/router", image([b"router" * 100]), tag="v1")
        done = create(registry, tmp_path / "out", "--registries-conf", conf)
        assert done.status == 0, done.stderr
        gets = [r.path for r in registry.requests if r.method == "GET" and "/blobs/" in r.path]
        assert len(gets) == len(set(gets)), "no blob is fetched twice"
    inventory = json.loads((tmp_path / "out/inventory.json").read_bytes())
    names = {one["source"].rpartition("/")[2] for one in inventory["images"]}
    assert names == {"index:v1", "bundle:v1", "manager:v1", "operand:v1", "listed:v1", "router:v1"}
    operand = next(one for one in inventory["images"] if one["source"].endswith("operand:v1"))
    assert operand["neededBy"] == ["index/foo/foo.v1.0.0"]
    assert [one["code"] for one in inventory["problems"]] == ["related-image-recovered"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"kind: [", "foo.clusterserviceversion.yaml:2:1: not YAML"),
        pytest.param(b"a: &a [x]\nb: [*a, *a\n", "not YAML", marks=pytest.mark.more),
    ],
)
def test_an_unreadable_bundle_is_a_problem_and_others_are_read(tmp_path, content, word):
    """An error, for nothing else names the image of the operator (okderators/okderators-catalog-index#21)."""
    with registry_with(lambda _host: content) as registry:
        done = create(registry, tmp_path / "out")
        assert done.status == 3, done.stderr
    (problem,) = done.json["problems"]
    assert (problem["severity"], problem["code"]) == ("error", "bundle-unreadable")
    assert "the catalog lists no image of the operator" in problem["message"]
    assert word in problem["message"]
    assert "needed by index/foo/foo.v1.0.0" in problem["message"]


def test_a_bundle_that_is_gone_is_one_problem(tmp_path):
    with registry_with(lambda host: json.dumps(csv(host)).encode()) as registry:
        registry.repositories["org/bundle"].tags.clear()
        done = create(registry, tmp_path / "out")
        assert done.status == 3
    assert [(one["code"], one["severity"]) for one in done.json["problems"]] == [("image-not-found", "error")]


def test_images_that_an_old_release_could_not_find_by_their_tag_are_named(tmp_path):
    with registry_with(lambda host: json.dumps(csv(host)).encode()) as registry:
        for release, count in (("4.12", 4), ("4.13", 0)):
            done = create(registry, tmp_path / release, "--openshift-release", release)
            told = [one for one in done.json["problems"] if one["code"] == "tag-unmirrorable"]
            assert len(told) == count, release
            assert all("needed by index/foo/foo.v1.0.0" in one["message"] for one in told)
    wrong = run("hub-export", "plan", "--image", "registry.test/a/b:v1", "--openshift-release", "four")
    assert (wrong.status, "not an OpenShift release" in wrong.stderr) == (2, True)


def test_an_object_that_cannot_be_read_is_an_error_where_the_bundle_has_no_image(tmp_path):
    """Then OLM installs what `olm.bundle.object` holds; a bundle with an image is unpacked from that."""

    def blob(name, reference):
        fields = bundle_blob(f"{name}.v1.0.0", "1.0.0", name) | {"image": reference, "relatedImages": []}
        values = (
            {"data": base64.b64encode(text).decode()} for text in (json.dumps(csv(registry.host)).encode(), b'{"kind": [')
        )
        fields["properties"] += [{"type": "olm.bundle.object", "value": value} for value in values]
        return [package_blob(name), channel_blob("stable", [entry(f"{name}.v1.0.0")], name), fields]

    with registry_with(lambda host: json.dumps(csv(host)).encode()) as registry:
        files = stream(*blob("foo", ""), *blob("bar", f"{registry.host}/org/bundle:v1"), package_blob("other"))
        config = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
        index = image(({"bin/opm": b"opm"}, {"configs/foo/catalog.json": files}), labels={LABEL: "/configs"}, config=config)
        registry.add_image("org/index", index, tag="v1")
        done = run(
            *("hub-export", "plan", "--catalog", f"{registry.host}/org/index:v1", "--package", "foo", "--package", "bar"),
            *("--insecure", registry.host, "--insecure", "router.example.com", "--signatures", "ignore", "--format", "json"),
        )
    found = [(one["severity"], one["subject"]) for one in done.json["problems"] if one["code"] == "bundle-unreadable"]
    assert found == [("error", "foo/foo.v1.0.0")]
    assert done.status == 3


def listed(tmp_path, content, **fields):
    """Plan a package whose bundle image has a ClusterServiceVersion; return its problems, and the exit status."""
    with registry_with(lambda host: content(host) if callable(content) else content) as registry:
        bundle = bundle_blob("foo.v1.0.0", "1.0.0") | {"image": f"{registry.host}/org/bundle:v1", "relatedImages": []} | fields
        files = stream(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), bundle)
        config = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
        index = image(({"bin/opm": b"opm"}, {"configs/foo/catalog.json": files}), labels={LABEL: "/configs"}, config=config)
        registry.add_image("org/index", index, tag="v1")
        catalog = ("--catalog", f"{registry.host}/org/index:v1", "--package", "foo")
        done = run("hub-export", "plan", *catalog, *PLAN, "--insecure", registry.host)
    return [(one["severity"], one["code"]) for one in done.json["problems"]], done.status


PLAN = ("--insecure", "router.example.com", "--signatures", "ignore", "--format", "json")
MINIMAL = {
    "kind": "ClusterServiceVersion",
    "metadata": {"name": "foo.v1.0.0"},
    "spec": {"install": {"spec": {"deployments": [{"name": "foo"}]}}},
}
NOTHING_TO_RUN = MINIMAL | {"spec": {"install": {"spec": {"deployments": []}}}}
UNREADABLE = ("error", "bundle-unreadable")


@pytest.mark.parametrize(
    ("content", "fields", "problems"),
    [
        (json.dumps(MINIMAL).encode(), {}, [UNREADABLE]),
        (json.dumps(NOTHING_TO_RUN).encode(), {}, []),
        *(
            pytest.param(*one, marks=pytest.mark.more)
            for one in [
                (b"kind: [", {"relatedImages": [{"name": "a", "image": ""}]}, [("error", "related-image-empty"), UNREADABLE]),
                (b"kind: [", {"relatedImages": [{"name": "a", "value": 5}]}, [("error", "related-image-empty"), UNREADABLE]),
            ]
        ),
    ],
    ids=["a CSV without images", "nothing to run", "an empty related image", "a related image of another type"],
)
def test_a_bundle_of_which_no_image_is_known_is_an_error(tmp_path, content, fields, problems):
    """okderators/okderators-catalog-index#21: the operator cannot run without its image."""
    assert listed(tmp_path, content, **fields) == (problems, 3 if problems else 0)
