"""Catalog images on disk: OCI layouts of every shape, directories of skopeo, archives of Docker, with and without a transport."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from typing import Any

import pytest

from common.content import DirectoryStore
from common.errors import CatalogError, NotACatalogError, UsageError
from common.oci.image import Index, Platform, digest_of, hex_of
from exporter.catalog.readers.catalog_image import CONFIGS_LABEL
from exporter.catalog.readers.opening import CatalogOpener
from exporter.imageset import source_name
from tests.fakes import factories
from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.samples import more

FILES = {
    "configs/foo/catalog.json": stream(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), bundle_blob("foo.v1.0.0"))
}
LABELS = {CONFIGS_LABEL: "/configs"}
AMD, ARM = (factories.image((FILES,), labels=LABELS, platform=one) for one in ("linux/amd64", "linux/arm64"))
OTHER = factories.image((FILES, {"x": b"y"}), labels=LABELS)
ATTESTED = factories.attestation()
BOTH = factories.index([AMD, ARM])
REF, CONTAINERD = "org.opencontainers.image.ref.name", "io.containerd.image.name"


def listed(parts: factories.Parts, platform: str | None = "", **fields: Any) -> dict[str, Any]:
    """Return a descriptor; `platform`: another one, None for none."""
    names = ("os", "architecture", "variant")
    text = parts.platform if platform == "" else platform
    place = {"platform": dict(zip(names, text.split("/"), strict=False))} if text else {}
    return {"mediaType": parts.media_type, "digest": parts.digest, "size": len(parts.raw)} | place | fields


def named(parts: factories.Parts, name: str, **notes: str) -> dict[str, Any]:
    return listed(parts, None, annotations={REF: name, **notes})


def layout(*descriptors: dict[str, Any], parts=(AMD, ARM, OTHER, ATTESTED, BOTH)) -> dict[str, bytes]:
    """Return the files of a layout."""
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    for one in parts:
        for digest, content in {one.digest: one.raw, **one.blobs}.items():
            files[f"blobs/sha256/{hex_of(digest)}"] = content
    return files | {"index.json": json.dumps({"schemaVersion": 2, "manifests": list(descriptors)}).encode()}


def written(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def packed(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def opened(name, tmp_path, *platforms):
    source_name.require_source(str(name))
    (tmp_path / "store").mkdir(exist_ok=True)
    opener = CatalogOpener(None, DirectoryStore(tmp_path / "store"))  # type: ignore[arg-type] - no registry is asked
    found = opener.open(str(name), platforms)
    assert list(found.catalog.packages) == ["foo"]
    assert found.base is not None
    return found.base.tree


PLATFORMS = {
    "platforms in the descriptors": [listed(AMD), listed(ARM)],
    "platforms in the configs": [listed(AMD, None), listed(ARM, None)],
    "attestation": [listed(AMD), listed(ATTESTED, "unknown/unknown"), listed(ARM)],
    "duplicates": [listed(AMD), listed(ARM), listed(AMD), listed(ARM)],
    "one name": [listed(AMD, annotations={REF: "v1"}), listed(ARM, annotations={REF: "v1"})],
}


@pytest.mark.parametrize("case", [*list(PLATFORMS)[:3], *more(list(PLATFORMS)[3:])])
def test_descriptors_of_several_platforms_are_one_image(case, tmp_path):
    """openshift/oc-mirror#810: index.json lists the platforms."""
    tree = opened(f"oci:{written(tmp_path / 'layout', layout(*PLATFORMS[case]))}", tmp_path)
    assert isinstance(tree.root, Index)
    assert {one.digest for one in tree.images} == {AMD.digest, ARM.digest}
    wanted = {Platform("linux", "amd64"), Platform("linux", "arm64")}
    assert {one.platform for one in tree.root.manifests} - {Platform("unknown", "unknown")} == wanted
    assert any("annotations" in one for one in json.loads(tree.root.raw)["manifests"]) is False
    few = opened(f"oci:{tmp_path / 'layout'}", tmp_path, Platform("linux", "arm64"))
    assert [one.digest for one in few.images] == [ARM.digest]


@pytest.mark.parametrize("form", ["oci:{}@{}", "{}@{}", "oci:{}:{}", "oci:{}:@{}", "oci://{}:v1@{}"])
def test_an_image_of_a_layout_is_named_by_its_digest(form, tmp_path):
    """containers-transports(5) has `oci:PATH:NAME` alone; references have `@`, and people write it here too."""
    folder = written(tmp_path / "layout", layout(named(AMD, "v1"), named(OTHER, "v2")))
    assert opened(form.format(folder, AMD.digest), tmp_path).root.digest == AMD.digest


def test_a_digest_that_a_layout_does_not_have_is_an_error_with_its_images(tmp_path):
    folder = written(tmp_path / "layout", layout(named(AMD, "v1"), named(OTHER, "v2")))
    with pytest.raises(UsageError, match="0 images of the name 'sha256:"):
        opened(f"oci:{folder}@sha256:{'0' * 64}", tmp_path)
    with pytest.raises(UsageError, match="no such file") as caught:
        opened(f"oci:{folder}-missing@sha256:{'0' * 64}", tmp_path)
    assert "digest" in caught.value.hint


ONE = {
    "several names": [named(AMD, "v1"), named(AMD, "latest")],
    "attestation": [listed(AMD), listed(ATTESTED, "unknown/unknown")],
    "reference type": [listed(AMD), listed(ATTESTED, None, annotations={"vnd.docker.reference.type": "attestation-manifest"})],
    "artifact": [listed(AMD), listed(ATTESTED, None, artifactType="application/vnd.in-toto+json")],
    "nested index": [listed(BOTH, None)],
    "index and its children": [listed(AMD), listed(ARM), named(BOTH, "v1")],
    "parts of platforms": [named(AMD, "v1") | {"platform": {"architecture": "amd64", "variant": None}}],
    "nulls": [{"digest": AMD.digest, "size": 0, "mediaType": None, "annotations": None, "platform": None}],
}


@pytest.mark.parametrize(
    "case",
    [
        *list(ONE)[:2],
        "index and its children",
        *more(["reference type", "artifact", "nested index", "nulls", "parts of platforms"]),
    ],
)
def test_what_belongs_to_an_image_does_not_make_it_ambiguous(case, tmp_path):
    """ORAS lists children of an index too (oras-project/oras-go, content/oci), BuildKit attestations."""
    tree = opened(written(tmp_path / "layout", layout(*ONE[case])), tmp_path)
    assert tree.root.digest == (BOTH if "index" in case else AMD).digest


@pytest.mark.parametrize(
    "case",
    [
        ([named(AMD, "v1"), named(OTHER, "v2")], "It has: v1, v2"),
        ([listed(AMD), listed(OTHER)], "It has: sha256:"),
        ([named(AMD, "v1", **{CONTAINERD: "a.example/b:v1"}), named(ARM, "v1")], "It has: a.example/b:v1, v1"),
        *more([([listed(AMD), listed(BOTH), listed(OTHER)], "sha256:")]),
    ],
)
def test_images_that_differ_are_asked_for_by_name(case, tmp_path):
    descriptors, hint = case
    with pytest.raises(UsageError, match=f": {len(descriptors)} images") as caught:
        opened(written(tmp_path / "layout", layout(*descriptors)), tmp_path)
    assert hint in caught.value.hint


def test_an_image_is_found_by_each_of_its_names(tmp_path):
    """BuildKit and `docker save` write the whole reference next to the tag (containerd, images/annotations.go)."""
    whole = "docker.io/library/foo:v1"
    folder = written(tmp_path / "layout", layout(named(AMD, "v1", **{CONTAINERD: whole}), named(OTHER, "v2")))
    for name in ("v1", whole, AMD.digest, f"@{AMD.digest}"):
        assert opened(f"oci:{folder}:{name}", tmp_path).root.digest == AMD.digest
    assert opened(f"{folder}:v2", tmp_path).root.digest == OTHER.digest
    with pytest.raises(UsageError, match="0 images of the name 'v9'"):
        opened(f"{folder}:v9", tmp_path)


def skopeo(parts: factories.Parts) -> dict[str, bytes]:
    """Return the files of `skopeo copy --all … dir:` (containers/image, directory/directory_transport.go)."""
    files = {"version": b"Directory Transport Version: 1.1\n", "manifest.json": parts.raw, "signature-1": b"x"}
    for one in (parts, *parts.manifests):
        files |= {hex_of(digest): content for digest, content in one.blobs.items()}
    return files | {f"{hex_of(one.digest)}.manifest.json": one.raw for one in parts.manifests}


@pytest.mark.parametrize("name", ["dir:{}", "{}", "dir://{}", *more(["oci:{}"])])
def test_a_directory_of_skopeo_is_read(name, tmp_path):
    folder = written(tmp_path / "dir", skopeo(BOTH))
    assert opened(name.format(folder), tmp_path).root.digest == BOTH.digest
    with pytest.raises(UsageError, match="has no names"):
        opened(f"dir:{folder}:v1", tmp_path)
    few = written(tmp_path / "few", skopeo(AMD))
    assert opened(few, tmp_path).root.digest == AMD.digest


@pytest.mark.parametrize("name", ["{}", "oci-archive:{}", "docker-archive:{}", *more(["oci:{}", "oci-archive://{}"])])
def test_an_archive_is_known_by_its_content(name, tmp_path):
    """Since Docker 25 `docker save` writes a layout (moby/moby#44598)."""
    files = layout(named(AMD, "v1")) | {"manifest.json": b'[{"Config":"x","RepoTags":[],"Layers":[]}]'}
    assert opened(name.format(packed(tmp_path / "a.tar", files)), tmp_path).root.digest == AMD.digest


@pytest.mark.parametrize("name", ["{}", "docker-archive:{}"])
def test_an_older_archive_of_docker_is_refused_with_the_command_that_makes_a_layout(name, tmp_path):
    files = {"ab.json": b"{}", "manifest.json": b'[{"Config":"ab.json","RepoTags":null,"Layers":[]}]'}
    for path in (packed(tmp_path / "a.tar", files), written(tmp_path / "unpacked", files)):
        with pytest.raises(UsageError, match="an archive of docker save") as caught:
            opened(name.format(path), tmp_path)
        assert f"skopeo copy docker-archive:{path} oci:" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["docker-daemon:foo:v1", "containers-storage:quay.io/a/b:v1", *more(["sif:a.sif", "ostree:a"])]
)
def test_stores_of_engines_are_refused_with_the_command_that_makes_a_layout(name, tmp_path):
    with pytest.raises(NotACatalogError, match="the store of a container engine") as caught:
        opened(name, tmp_path)
    assert f"skopeo copy {name} oci:" in caught.value.hint


@pytest.mark.parametrize("name", ["oci:///{}", "oci://{}", *more(["oci:{}", "oci://../here/{}"])])
def test_oc_mirrors_spelling_is_read(name, tmp_path):
    """oc-mirror cuts at `://`, and the rest may be relative (v2/internal/pkg/image, ParseRef)."""
    folder = written(tmp_path / "here/layout", layout(named(AMD, "v1")))
    path = str(folder).lstrip("/") if ":///" in name else "layout"
    with contextlib.chdir(tmp_path / "here"):
        assert opened(name.format(path), tmp_path).root.digest == AMD.digest
        with pytest.raises(NotACatalogError, match="no such file or directory"):
            source_name.require_source(name.format(f"{path}-2"))
    with pytest.raises(UsageError, match="a file URL names a path of this machine from its root"):
        source_name.require_source("file://layout")


def test_a_directory_with_layouts_in_it_says_which(tmp_path):
    """The working directory of oc-mirror: operator-catalogs/NAME/DIGEST/catalog-image."""
    folder = tmp_path / "working-dir/operator-catalogs/redhat/ab/catalog-image"
    written(folder, layout(listed(AMD)))
    with pytest.raises(NotACatalogError, match="1 OCI layout in it") as caught:
        opened(tmp_path / "working-dir", tmp_path)
    assert f"oci:{folder}" in caught.value.hint
    files = dict(zip(("working-dir/.indexignore", "working-dir/c.json"), (b"operator-catalogs", *FILES.values()), strict=True))
    written(tmp_path, files)
    opened_files = CatalogOpener(None, None).open(str(tmp_path / "working-dir"))  # type: ignore[arg-type]
    assert list(opened_files.catalog.packages) == ["foo"]


def test_a_damaged_layout_and_one_without_the_blob_are_reported(tmp_path):
    for descriptors, parts, word in (([listed(AMD)], (), "No such file"), ([listed(AMD), listed(ARM)], (AMD,), "2 images")):
        folder = written(tmp_path / f"layout-{len(parts)}", layout(*descriptors, parts=parts))
        with pytest.raises(Exception, match=word):
            opened(folder, tmp_path)
    for raw in (b"{", b"[]", b'{"manifests": {}}', b'{"manifests": null}', b'{"manifests": []}'):
        (tmp_path / "layout-0/index.json").write_bytes(raw)
        with pytest.raises(UsageError, match=r"no OCI layout|the layout has no images"):
            opened(tmp_path / "layout-0", tmp_path)


DAMAGE = {
    "a layer is cut": lambda folder: (folder / "blobs/sha256" / hex_of(digest_of(AMD.layers[0]))).write_bytes(b"x"),
    "a manifest is another one": lambda folder: (folder / "blobs/sha256" / hex_of(AMD.digest)).write_bytes(OTHER.raw),
    "a config is missing": lambda folder: (folder / "blobs/sha256" / hex_of(digest_of(AMD.config))).unlink(),
    "a digest is none": lambda folder: written(
        folder, layout({"mediaType": AMD.media_type, "digest": "sha256:../x", "size": 3})
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_image_is_an_error_that_names_its_path(damage, tmp_path):
    """The errors of files name a digest alone, and advise about proxies and registries."""
    folder = written(tmp_path / "layout", layout(listed(AMD)))
    damage(folder)
    with pytest.raises(CatalogError) as caught:
        opened(folder, tmp_path)
    assert caught.value.message.startswith(f"{folder}: the image is damaged or incomplete: ")
    assert "skopeo" in caught.value.advice


def test_many_descriptors_are_not_looked_into(tmp_path):
    """64 documents are read to find out what belongs together, and no more."""
    many = [listed(AMD, None, digest=f"sha256:{number:064x}", annotations={REF: f"v{number}"}) for number in range(65)]
    with pytest.raises(UsageError, match="65 images") as caught:
        opened(written(tmp_path / "layout", layout(*many, parts=())), tmp_path)
    assert "It has: v0, v1, v10" in caught.value.hint
