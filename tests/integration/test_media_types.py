"""OCI documents without `mediaType`, which the specification allows, from servers that call them something else.

gardener/cc-utils#1238 and podman-container-tools/skopeo#1695 (`application/json`), cloudflare/serverless-registry#158
(`text/plain`): behind the gap docker-registry refuses such a type with MANIFEST_INVALID.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import pytest

from common.archive.inventory import Inventory, ManifestRecord
from common.archive.reader import Archive
from common.oci import media_types
from common.oci.image import Digest, digest_of
from tests.fakes import factories
from tests.fakes.archives import Content, noise, write
from tests.fakes.commands import run
from tests.fakes.factories import ImageParts, IndexParts, Parts
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import docker_registry
from tests.fakes.serving import serving
from tests.samples import more

pytestmark = pytest.mark.integration
SERVED = [
    "application/json",
    "text/plain; charset=utf-8",
    "application/octet-stream",
    "",
    "Application/Vnd.OCI.image.MANIFEST.v1+json",
]
TYPES = {media_types.OCI_MANIFEST, media_types.OCI_INDEX}
_CONFIGS = "operators.operatorframework.io.index.configs.v1"


def bare(parts: Parts, served: str, child_type: str | None = "application/json") -> Parts:
    """Return the same without `mediaType`, and served as `served`; descriptors of children say `child_type`."""
    document = json.loads(parts.raw)
    del document["mediaType"]
    if isinstance(parts, ImageParts):
        return ImageParts(json.dumps(document).encode(), served, parts.config, parts.layers, parts.platform)
    children = tuple(bare(child, served) for child in parts.manifests)
    for entry, child in zip(document["manifests"], children, strict=True):
        entry |= {"digest": child.digest, "size": len(child.raw), "mediaType": child_type}
        if child_type is None:
            del entry["mediaType"]
    return IndexParts(json.dumps(document).encode(), served, children)


def image(name: str, served: str) -> Parts:
    return bare(factories.image([name.encode()]), served)


def index(name: str, served: str, child_type: str | None = "application/json") -> Parts:
    arm = factories.image([name.encode(), b"arm"], platform="linux/arm64")
    return bare(factories.index([factories.image([name.encode()]), arm]), served, child_type)


def catalog(bundle: str, served: str) -> Parts:
    """Return a catalog for two platforms, of two packages; its descriptors name no type."""
    blobs = []
    for name in ("alpha", "beta"):
        version = {"type": "olm.package", "value": {"packageName": name, "version": "1.0.0"}}
        head = f"{name}.v1.0.0"
        blobs += [
            {"schema": "olm.package", "name": name, "defaultChannel": "stable"},
            {"schema": "olm.channel", "package": name, "name": "stable", "entries": [{"name": head}]},
            {"schema": "olm.bundle", "package": name, "name": head, "image": bundle, "properties": [version]},
        ]
    layers = ({"bin/opm": b"opm"}, {"configs/catalog.json": "\n".join(map(json.dumps, blobs)).encode()})
    config = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
    platforms = ("linux/amd64", "linux/arm64")
    images = [factories.image(layers, labels={_CONFIGS: "/configs"}, config=config, platform=each) for each in platforms]
    return bare(factories.index(images), served, None)


def inventory_of(folder: Path) -> Inventory:
    return Archive.open([folder]).inventory


@dataclass(frozen=True)
class Made:
    folder: Path
    images: dict[str, Parts]


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    images: dict[str, Parts] = {}
    for number, served in enumerate(SERVED):
        images[f"org/image{number}"] = image(f"image {number}", served)
        images[f"org/index{number}"] = index(f"index {number}", served, (None, "text/plain")[number % 2])
    images["org/docker"] = factories.image([b"docker"], docker=True)
    folder = tmp_path_factory.mktemp("types") / "out"
    with FakeRegistry() as source:
        for name, parts in images.items():
            source.add_image(name, parts, tag="v1")
        names = [part for name in images for part in ("--image", f"{source.host}/{name}:v1")]
        done = run("hub-export", "create", *names, "--insecure", source.host, "--signatures", "ignore", "--output", folder)
        assert done.status == 0, done.stderr
    return Made(folder, images)


def test_the_inventory_has_the_types_of_the_documents(made: Made) -> None:
    inventory = inventory_of(made.folder)
    for each in inventory.images:
        expected = media_types.OCI_INDEX if "/index" in each.source else media_types.OCI_MANIFEST
        expected = media_types.DOCKER_MANIFEST if "/docker" in each.source else expected
        assert each.media_type == expected, each.source
    for digest, record in inventory.manifests.items():
        assert record.media_type in {*TYPES, media_types.DOCKER_MANIFEST}, digest
        assert (record.media_type == media_types.OCI_INDEX) == bool(record.manifests), digest


def test_docker_registry_takes_all_of_them(made: Made, tmp_path: Path) -> None:
    with docker_registry(tmp_path, name="mirror") as mirror:
        pushed = run("hub-import", "push", made.folder, "--registry", mirror.host, "--insecure", mirror.host)
        assert pushed.status == 0, pushed.stderr
        for name, parts in made.images.items():
            head = httpx.head(f"http://{mirror.host}/v2/{name}/manifests/v1", headers={"Accept": ", ".join(media_types.ACCEPT)})
            assert head.headers["Docker-Content-Digest"] == parts.digest, name


def layout_of(parts: Parts, folder: Path) -> Path:
    """Write an OCI layout whose `index.json` names no type either."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    every = [parts, *parts.manifests]
    contents = [each.raw for each in every] + [content for each in every for content in each.blobs.values()]
    for content in contents:
        (blobs / digest_of(content).removeprefix("sha256:")).write_bytes(content)
    listed = {"digest": parts.digest, "size": len(parts.raw)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [listed]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


@pytest.mark.parametrize("served", ["", *more(["text/plain"])])
def test_catalogs_and_signatures_go_the_same_way(tmp_path: Path, served: str) -> None:
    bundle = bare(factories.image([{"manifests/csv.yaml": b"kind: ClusterServiceVersion\nname: alpha\n"}]), served)
    signature = bare(factories.image([b"signed"], subject=bundle.descriptor, artifact_type="application/vnd.example"), served)
    with FakeRegistry(referrers=False) as source, docker_registry(tmp_path, name="mirror") as mirror:
        source.add_image("org/bundle", bundle)
        wanted = catalog(f"{source.host}/org/bundle@{bundle.digest}", served)
        source.add_image("org/catalog", wanted, tag="v1")
        source.add_image("org/bundle", signature)
        listed = json.dumps({"schemaVersion": 2, "manifests": [{"digest": signature.digest, "size": len(signature.raw)}]})
        source.add_manifest("org/bundle", listed.encode(), served, bundle.digest.replace(":", "-"))
        for name in (f"{source.host}/org/catalog:v1", f"oci:{layout_of(wanted, tmp_path / 'layout')}"):
            folder = tmp_path / name.partition(":")[0]
            options = ("--package", "alpha", "--insecure", source.host, "--output", folder)
            done = run("hub-export", "create", "--catalog", name, *options)
            assert done.status == 0, done.stderr
            inventory = inventory_of(folder)
            assert {record.media_type for record in inventory.manifests.values()} == TYPES
            assert signature.digest in inventory.manifests
            pushed = run("hub-import", "push", folder, "--registry", mirror.host, "--insecure", mirror.host)
            assert pushed.status == 0, pushed.stderr
            root = json.loads(Archive.open([folder]).manifest(inventory.catalogs[0].image))
            assert {child["mediaType"] for child in root["manifests"]} == {media_types.OCI_MANIFEST}, "of the rebuilt catalog"


# An archive of version 0.1, whose inventory has what the registry said.


class OldContent(Content):
    """Images without `mediaType`, in an archive that notes another type for each."""

    noted = ("application/json", "text/plain", "application/octet-stream", media_types.DOCKER_MANIFEST, media_types.OCI_INDEX)

    def manifest(self, layers):
        document = json.loads(super().manifest(layers))
        del document["mediaType"]
        return json.dumps(document).encode()

    def _record(self, layers) -> ManifestRecord:
        position = list(self.images.values()).index(layers)
        return msgspec.structs.replace(super()._record(layers), media_type=self.noted[position])


OLD = OldContent(images={f"registry.test/org/old{number}:v1": [noise(f"old {number}", 500)] for number in range(5)})


@pytest.fixture(name="old", scope="module")
def _old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old") / "out"
    write(folder, OLD)
    assert {record.media_type for record in inventory_of(folder).manifests.values()} == set(OldContent.noted)
    return folder


def old_digests() -> dict[str, Digest]:
    return {f"org/old{number}": digest for number, digest in enumerate(map(_digest, OLD.images.values()))}


def _digest(layers) -> Digest:
    return digest_of(OLD.manifest(layers))


def test_an_archive_of_before_is_pushed_healed_and_confirmed(old: Path, tmp_path: Path) -> None:
    with docker_registry(tmp_path, name="mirror") as mirror:
        place = ("--registry", mirror.host, "--insecure", mirror.host)
        for more in ((), ("--heal",)):
            pushed = run("hub-import", "push", old, *place, *more)
            assert pushed.status == 0, pushed.stderr
        receipt = run("hub-import", "receipt", old, *place, "--output", tmp_path / "receipt.json")
        assert receipt.status == 0, receipt.stderr
        assert len(json.loads((tmp_path / "receipt.json").read_bytes())["inventories"]) == 1, "everything is confirmed"
        for name, digest in old_digests().items():
            url = f"http://{mirror.host}/v2/{name}/manifests/{digest}"
            head = httpx.head(url, headers={"Accept": media_types.OCI_MANIFEST})
            assert (head.headers["Content-Type"], head.headers["Docker-Content-Digest"]) == (media_types.OCI_MANIFEST, digest)


def test_an_archive_of_before_is_served(old: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "log", old) as server, server.client() as client:
        for name, digest in old_digests().items():
            for method in ("HEAD", "GET"):
                answer = client.request(method, f"{name}/manifests/{digest}")
                assert answer.headers["Content-Type"] == media_types.OCI_MANIFEST, name
