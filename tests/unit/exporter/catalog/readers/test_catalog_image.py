"""The rebuilt catalog image: what it shows, what survives, and that the same input gives the same digest."""

import gzip
import json

import pytest

from common.errors import CatalogError, NotACatalogError, UsageError
from common.oci.image import Index, digest_of, parse
from exporter.catalog.readers.catalog_image import (
    BUNDLE_LABEL,
    CONFIGS_LABEL,
    DATABASE_LABEL,
    CatalogLocation,
    configs_layer,
    location_of,
    no_catalog,
    read_configs,
    rebuild,
    rebuild_index,
)
from tests.fakes import factories, image_readers
from tests.samples import more

CONFIGS = CatalogLocation("file-based", "/configs")
OLD = {"configs/foo/catalog.json": b"old foo", "configs/bar/catalog.json": b"old bar", "configs/index.yaml": b"old"}
FILES = {"foo/catalog.json": b"new foo", "catalog.json": b"others"}


def base(**options):
    settings = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs", "--cache-dir=/tmp/cache"], "User": "1001"}
    labels = {CONFIGS_LABEL: "/configs", DATABASE_LABEL: "/database/index.db", "vendor": "x"}
    layers = ({"bin/opm": b"opm", "tmp/cache/x": b"stale"}, OLD)
    return factories.image(layers, labels=labels, config={**settings, **options.pop("settings", {})}, **options)


def rebuilt(parts, files=FILES):
    return rebuild(parse(parts.raw, parts.media_type), parts.config, configs_layer(files, "/configs"), CONFIGS)


@pytest.mark.parametrize("docker", [True, False])
def test_it_shows_exactly_the_selection_to_a_runtime_and_to_olm_v1(docker):
    parts = base(docker=docker)
    image = rebuilt(parts)
    layers = [*parts.layers, image.layer]
    wanted = {f"configs/{name}": content for name, content in FILES.items()}
    assert image_readers.olm_v1(layers, "/configs") == wanted
    runtime = image_readers.runtime(layers)
    assert {path: raw for path, raw in runtime.items() if path.startswith("configs/")} == wanted
    assert runtime["bin/opm"] == b"opm"
    assert read_configs(([gzip.decompress(layer)] for layer in layers), "/configs") == FILES
    assert image_readers.olm_v1(parts.layers, "/configs") == OLD


@pytest.mark.parametrize("docker", [True, False])
def test_documents_are_right_and_everything_else_survives(docker):
    parts = base(docker=docker)
    image = rebuilt(parts)
    manifest, config = json.loads(image.manifest.raw), json.loads(image.config)
    old = json.loads(parts.config)
    assert image.manifest.media_type == parts.media_type
    assert image.manifest.config.digest == digest_of(image.config)
    assert manifest["layers"][:2] == json.loads(parts.raw)["layers"]
    assert manifest["layers"][2]["mediaType"] == manifest["layers"][0]["mediaType"]
    assert manifest["layers"][2]["digest"] == digest_of(image.layer)
    assert config["rootfs"]["diff_ids"] == [*old["rootfs"]["diff_ids"], digest_of(gzip.decompress(image.layer))]
    assert config["config"]["Cmd"] == ["serve", "/configs"]
    assert config["config"]["Entrypoint"] == ["/bin/opm"]
    assert config["config"]["Labels"] == {CONFIGS_LABEL: "/configs", "vendor": "x"}
    assert (config["config"]["User"], config["architecture"]) == ("1001", old["architecture"])
    assert set(image.blobs) == {digest_of(image.config), digest_of(image.layer)}


def test_the_same_input_gives_the_same_digest_and_another_another():
    first, again = rebuilt(base()), rebuilt(base(), dict(reversed(FILES.items())))
    assert first.manifest.digest == again.manifest.digest
    assert rebuilt(base(), {**FILES, "foo/catalog.json": b"other"}).manifest.digest != first.manifest.digest


def test_the_layer_is_the_same_on_every_machine():
    layer = configs_layer(FILES, "/configs")
    assert layer == configs_layer(FILES, "/configs")
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        entries = [(e.name, e.mode, e.uid, e.gid, e.mtime, e.isdir()) for e in archive]
    assert entries == [
        ("configs", 0o755, 0, 0, 0, True),
        ("configs/.wh..wh..opq", 0o644, 0, 0, 0, False),
        ("configs/catalog.json", 0o644, 0, 0, 0, False),
        ("configs/foo", 0o755, 0, 0, 0, True),
        ("configs/foo/catalog.json", 0o644, 0, 0, 0, False),
    ]


def test_an_index_keeps_its_platforms_and_loses_what_is_not_rebuilt():
    amd, arm = base(), base(platform="linux/arm64/v8")
    old = factories.index([amd, arm, factories.image()], extra={"annotations": {"a": "b"}})
    images = {parts.digest: rebuilt(parts) for parts in (amd, arm)}
    index = rebuild_index(parse(old.raw), images)
    assert isinstance(index, Index)
    assert [str(child.platform) for child in index.manifests] == ["linux/amd64", "linux/arm64/v8"]
    assert [child.digest for child in index.manifests] == [images[p.digest].manifest.digest for p in (amd, arm)]
    assert [child.size for child in index.manifests] == [len(images[p.digest].manifest.raw) for p in (amd, arm)]
    assert json.loads(index.raw)["annotations"] == {"a": "b"}
    with pytest.raises(CatalogError, match="none of its platforms"):
        rebuild_index(parse(old.raw), {})


def test_attestations_are_distinguished_from_images():
    attestation = factories.image(({"x": b"y"},))
    raw = attestation.raw.replace(b"application/vnd.oci.image.layer.v1.tar+gzip", b"application/vnd.in-toto+json")
    assert parse(attestation.raw).is_image
    assert not parse(raw).is_image


def test_an_image_without_a_catalog_is_reported_with_its_kind():
    with pytest.raises(NotACatalogError, match=r"an operator bundle .of package etcd."):
        location_of("quay.io/x/y:z", {BUNDLE_LABEL: "etcd"})
    assert location_of("quay.io/x/y:z", {}) is None
    assert "no catalog" in no_catalog("quay.io/x/y:z").message


def test_files_go_before_a_database():
    assert location_of("x", {CONFIGS_LABEL: "configs", DATABASE_LABEL: "/x.db"}) == CONFIGS
    assert location_of("x", {DATABASE_LABEL: "./index.db"}) == CatalogLocation("sqlite", "/index.db")


@pytest.mark.parametrize("label", [CONFIGS_LABEL, DATABASE_LABEL])
@pytest.mark.parametrize("directory", ["/", "..", "/a/../..", "/configs/../.."])
def test_a_label_that_leads_elsewhere(directory, label):
    with pytest.raises(CatalogError, match="names"):
        location_of("x", {label: directory})


SERVED = ["serve", "/configs", "--cache-dir=/tmp/cache"]
STARTS = [
    (["/bin/opm", "serve"], ["/configs"]),
    (["/bin/opm", *SERVED, "--cache-enforce-integrity"], None),
    (None, ["/bin/opm", "serve", "/configs", "--cache-dir", "/tmp/cache"]),
    (["/bin/sh", "-c", "exec /bin/opm serve '/configs' --cache-dir=/tmp/cache"], ["ignored"]),
    (["/bin/opm", "registry"], ["serve", "--database", "/database/index.db"]),
    *more(
        [
            (["/bin/opm"], SERVED),
            (["/bin/opm", "--debug", *SERVED], []),
            (["/bin/bash", "-ec"], ["/bin/opm serve /configs"]),
            ([], ["/bin/sh", "-c", "/bin/opm serve /configs"]),
        ]
    ),
]


@pytest.mark.parametrize("start", STARTS)
def test_opm_is_found_however_the_image_starts_it(start):
    """A runtime appends Cmd to Entrypoint; `opm generate dockerfile` divides them after opm."""
    image = rebuilt(base(settings={"Entrypoint": start[0], "Cmd": start[1]}))
    config = json.loads(image.config)["config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["/bin/opm"], ["serve", "/configs"])


def test_other_starters_stay_and_an_operator_registry_has_opm_next_to_its_server():
    """openshift/operator-framework-olm, operator-registry.Dockerfile: ENTRYPOINT registry-server, and opm in /bin."""
    for start, wanted in ((["/tini", "--", "/bin/opm", "serve"], ["/tini", "--", "/bin/opm"]), (["/start.sh"], ["/start.sh"])):
        image = rebuilt(base(settings={"Entrypoint": start, "Cmd": None}))
        assert json.loads(image.config)["config"]["Entrypoint"] == wanted
    labels = {CONFIGS_LABEL: "/configs", "io.k8s.display-name": "OpenShift Operator Registry"}
    server = {"Entrypoint": ["/bin/registry-server"], "Cmd": ["--database", "/bundles.db"]}
    image = rebuilt(base(settings={**server, "Labels": labels}))
    assert json.loads(image.config)["config"]["Entrypoint"] == ["/bin/opm"]


@pytest.mark.parametrize(
    "start",
    [
        (None, None),
        ([], ["serve", "/configs"]),
        (["/bin/registry-server"], ["--database", "/bundles.db"]),
        (["/bin/sh", "-c", "opm-init && /bin/opm serve $DIRECTORY"], None),
        *more(
            [(["/bin/bash"], ["serve"]), (["/start.sh", "serve"], []), (["/bin/sh", "-c", "opm 'serve"], []), (["sh"], ["-c"])]
        ),
    ],
)
def test_a_base_that_cannot_serve_is_refused(start):
    with pytest.raises(UsageError, match="cannot serve") as caught:
        rebuilt(base(settings={"Entrypoint": start[0], "Cmd": start[1]}))
    assert "--catalog-base" in caught.value.hint


def test_a_start_that_cannot_be_read_is_a_fault_of_the_catalog():
    with pytest.raises(CatalogError, match="Entrypoint cannot be read"):
        rebuilt(base(settings={"Entrypoint": "/bin/opm serve"}))


def test_documents_that_contradict_each_other():
    parts = base()
    config = json.loads(parts.config)
    config["rootfs"]["diff_ids"].pop()
    with pytest.raises(CatalogError, match="2 layers but 1 diff_ids"):
        rebuild(parse(parts.raw), json.dumps(config).encode(), configs_layer(FILES, "/configs"), CONFIGS)
    with pytest.raises(CatalogError, match="cannot be read"):
        rebuild(parse(parts.raw), b"[]", configs_layer(FILES, "/configs"), CONFIGS)
