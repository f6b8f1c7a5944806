"""References without an image that runs, and layers that nobody writes: a problem each, and everything else is carried."""

from __future__ import annotations

import gzip
import tarfile

import pytest

from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.fakes.commands import run
from tests.fakes.factories import artifact, attestation, helm_chart, image, index
from tests.fakes.hostile import measured
from tests.fakes.registry import FakeRegistry
from tests.fakes.sources import LABEL
from tests.samples import more

pytestmark = pytest.mark.integration
GOOD = image(({"manifests/csv.yaml": b"kind: ClusterServiceVersion\nmetadata: {name: good}\n"},))
CSV = b"kind: ClusterServiceVersion\nmetadata:\n  name: foo.v1\nspec:\n  version: 1.0.0\n"


def extended(kind: bytes, content: bytes, count: int) -> bytes:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = kind, len(content)
    padded = content + bytes(-len(content) % 512)
    return gzip.compress((member.tobuf(tarfile.GNU_FORMAT) + padded) * count + bytes(1024), mtime=0)


NO_IMAGES = {
    "chart": helm_chart(),
    "content": artifact(image([b"chart"]), layer_type="application/vnd.cncf.helm.chart.content.v1"),
    "hollow": index([]),
    "nested": index([index([])]),
    "attestations": index([attestation(), attestation()]),
}
UNREADABLE = {
    "names": image([extended(b"L", b"abcd\0", 3000)]),
    "digits": image([extended(b"x", b"1" * (1 << 20), 4)]),
    "global": image([extended(b"g", b"13 comment=x\n", 3000)]),
}
# A file of any name is searched for `kind:` when it is no YAML.
BLANK = "\n" * 1_000_000 + "a: ["
BLANK_LINES = image(({"manifests/csv.yaml": CSV, "manifests/notes": BLANK.encode()},))
OTHER_PLATFORM = index([image([b"arm"], platform="linux/arm64")])


@pytest.fixture(scope="module")
def source():
    with FakeRegistry() as registry:
        blobs = []
        for name, parts in {"good": GOOD, **NO_IMAGES, **UNREADABLE, "arm": OTHER_PLATFORM}.items():
            registry.add_image(f"org/{name}", parts, tag="v1")
            blob = bundle_blob(f"{name}.v1.0.0", "1.0.0", name)
            blobs += [package_blob(name), channel_blob("stable", [entry(f"{name}.v1.0.0")], name)]
            operand = [{"name": "operand", "image": f"{registry.host}/org/operand:v1"}] if name == "good" else []
            blobs.append(blob | {"image": f"{registry.host}/org/{name}:v1", "relatedImages": operand})
        registry.add_image("org/operand", image([b"operand"]), tag="v1")
        add_index(registry, blobs)
        yield registry


def add_index(registry, blobs):
    add_layers(registry, ({"bin/opm": b"opm"}, {"configs/catalog.json": stream(*blobs)}))


def add_layers(registry, layers):
    config = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
    registry.add_image("org/index", image(layers, labels={LABEL: "/configs"}, config=config), tag="v1")


def export(source, *arguments):
    return run("hub-export", *arguments, "--insecure", source.host)


def test_bundles_and_images_that_are_none_are_problems_and_the_rest_arrives(source, tmp_path):
    done = export(
        source,
        *("create", "--catalog", f"{source.host}/org/index:v1", "--full", "--platform", "linux/amd64"),
        *("--image", f"{source.host}/org/hollow:v1", "--image", f"{source.host}/org/chart:v1"),
        *("--signatures", "ignore", "--output", tmp_path / "out", "--format", "json"),
    )
    assert done.status == 3, done.stderr
    problems = [one for one in done.json["problems"] if one["code"] != "sparse-index"]
    found = {one["subject"].rpartition("/")[2].removesuffix(":v1"): one for one in problems}
    assert len(found) == len(problems) == len(NO_IMAGES) + len(UNREADABLE) + 1
    for name in UNREADABLE:
        assert (found[name]["severity"], found[name]["code"]) == ("error", "bundle-unreadable")
        assert "a layer of the catalog image is no readable tar" in found[name]["message"]
    assert found["arm"]["code"] == "platform-missing"
    for name in NO_IMAGES:
        assert (found[name]["severity"], found[name]["code"]) == ("error", "image-unsupported")
    assert "helm" in found["chart"]["message"]
    assert "an index that lists no image" in found["hollow"]["message"]
    assert all("needed by index/" in one["message"] for one in found.values())
    with FakeRegistry() as mirror:
        pushed = run("hub-import", "push", tmp_path / "out", "--registry", mirror.host, "--insecure", mirror.host)
        assert pushed.status in (0, 3), pushed.stderr
        assert mirror.repositories["org/good"].manifests[GOOD.digest]


def test_a_megabyte_of_blank_lines_in_a_bundle_takes_no_more_time_than_its_bytes(tmp_path):
    with FakeRegistry() as registry:
        registry.add_image("org/foo", BLANK_LINES, tag="v1")
        registry.add_image("org/operand", GOOD, tag="v1")
        operand = {"name": "operand", "image": f"{registry.host}/org/operand:v1"}
        blob = bundle_blob("foo.v1.0.0", "1.0.0") | {"image": f"{registry.host}/org/foo:v1", "relatedImages": [operand]}
        add_index(registry, [package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), blob])
        catalog = ("--catalog", f"{registry.host}/org/index:v1", "--full", "--signatures", "ignore")
        options = ("--insecure", registry.host, "--output", tmp_path / "out")
        done = measured(tmp_path, "hub-export", "create", *catalog, *options)
    assert done.status == 0, done.stderr
    assert done.cpu < 10, "with time that grew with the square of the lines, it took hours"


@pytest.mark.parametrize("kind", ["olm.gvk", *more(["olm.package.required", "olm.constraint", "olm.bundle.object"])])
def test_a_property_that_is_not_utf_8_ends_no_run(tmp_path, kind):
    with FakeRegistry() as registry:
        registry.add_image("org/foo", GOOD, tag="v1")
        blob = bundle_blob("foo.v1.0.0", "1.0.0") | {"image": f"{registry.host}/org/foo:v1", "relatedImages": []}
        blob["properties"] = [*blob["properties"], {"type": kind, "value": {"group": "gamma", "data": "gamma"}}]
        other = bundle_blob("bar.v1.0.0", "1.0.0", "bar") | {"image": blob["image"]}
        blobs = [package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), blob]
        blobs += [package_blob("bar"), channel_blob("stable", [entry("bar.v1.0.0")], "bar"), other]
        layers = ({"bin/opm": b"opm"}, {"configs/catalog.json": stream(*blobs).replace(b"gamma", b"\xff")})
        add_layers(registry, layers)
        catalog = (
            "--catalog",
            f"{registry.host}/org/index:v1",
            "--package",
            "foo",
            "--package",
            "bar",
            "--signatures",
            "ignore",
        )
        done = export(registry, "create", *catalog, "--output", tmp_path / "out")
    assert done.status in (0, 3), done.stderr


@pytest.mark.parametrize("name", ["attestations", *more(["hollow", "nested"])])
def test_an_index_without_an_image_is_a_problem_of_its_own_reference(source, tmp_path, name):
    wanted = [part for each in (name, "good", "chart") for part in ("--image", f"{source.host}/org/{each}:v1")]
    done = export(source, "create", *wanted, "--signatures", "ignore", "--output", tmp_path / "out", "--format", "json")
    assert done.status == 3, done.stderr
    (problem,) = done.json["problems"]
    assert (problem["code"], problem["subject"]) == ("image-unsupported", f"{source.host}/org/{name}:v1")


@pytest.mark.parametrize("name", ["hollow", *more(["chart", "attestations"])])
def test_an_image_to_read_or_to_build_on_that_is_none_is_refused_with_its_reference(source, tmp_path, name):
    reference = f"{source.host}/org/{name}:v1"
    (tmp_path / "foo.package.yaml").write_text("packageName: foo\nchannels:\n- {name: a, currentCSV: foo.v1}\n")
    (tmp_path / "foo.yaml").write_bytes(CSV)
    output = ("--output", tmp_path / "out")
    good = ("--catalog", f"{source.host}/org/index:v1", "--package", "good", "--signatures", "ignore")
    for command in (
        ("list", "--catalog", reference),
        ("create", *good, "--catalog-base", reference, *output),
        ("build-catalog", "--from", reference, "--to", f"{source.host}/x/y:z", "--manifest-dir", tmp_path),
    ):
        done = run("hub-export", *command, *(["--insecure", source.host] if command[0] != "build-catalog" else ["--insecure"]))
        assert done.status == 2, done.stderr
        assert f"{reference}: no image that runs: " in done.stderr
    done = export(source, "kit", "--image-base", reference, "--image-python", "3.11", "--output", tmp_path / "kit")
    assert done.status == 2, done.stderr
    assert f"--image-base {reference}: " in done.stderr


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_catalog_of_such_layers_is_an_error_with_advice(source, name):
    done = export(source, "list", "--catalog", f"{source.host}/org/{name}:v1")
    assert done.status == 1, done.stderr
    assert "error: a layer of the catalog image is no readable tar: " in done.stderr
    assert "internal error" not in done.stderr
