"""What is read from the payload of a release: real files of published ones, and such as a stranger could publish."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from common.archive.inventory import ProblemCode
from common.errors import PayloadError
from common.oci.image import Descriptor
from exporter.images.stored import MAX_CONFIG_SIZE
from exporter.releases import bootimages, payload, payload_files
from exporter.releases.payload import Payload
from tests.fakes import factories, releases
from tests.fakes.factories import Parts
from tests.fakes.releases import BOOTIMAGES, COMPONENTS, DATA
from tests.samples import more

REFERENCES, METADATA = "release-manifests/image-references", "release-manifests/release-metadata"
FEW = ("cli", "pod")


def read(image: Parts, **asked: Any) -> Payload:
    return payload.read(*releases.opened(image), "quay.io/r/p@sha256:0", **asked)


def made(files: Mapping[str, bytes], architecture: str = "amd64") -> Parts:
    """Return a payload of these files, in place of those of a release with two components."""
    whole = {**releases.release("4.18.3", names=FEW).files, **files}
    return releases.payload({name: content for name, content in whole.items() if content}, {}, "4.18.3", architecture)


def references(*tags: Any, **fields: Any) -> bytes:
    document = {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1", "metadata": {"name": "4.18.3"}}
    return json.dumps({**document, "spec": {"tags": list(tags)}, **fields}).encode()


def tag(name: Any = "cli", image: Any = f"{COMPONENTS}@sha256:{'a' * 64}", kind: Any = "DockerImage") -> dict[str, Any]:
    return {"name": name, "from": {"kind": kind, "name": image}}


def metadata(**fields: Any) -> bytes:
    return json.dumps({"kind": "cincinnati-metadata-v0", "version": "4.18.3", "previous": [], **fields}).encode()


# Real files.


def test_real_files_of_a_release() -> None:
    real = (DATA / "image-references" / "ocp-4.12.0-amd64.json").read_bytes()
    found = read(
        made({REFERENCES: real, METADATA: (DATA / "release-metadata" / "ocp-4.12.0.json").read_bytes()}), version="4.12.0"
    )
    assert (found.version, found.architecture, len(found.components), len(found.previous)) == ("4.12.0", "amd64", 183, 21)
    assert found.errata == "https://access.redhat.com/errata/RHSA-2022:7399"
    listed = {tag["name"]: tag["from"]["name"] for tag in json.loads(real)["spec"]["tags"]}
    assert {one.name: str(one.reference) for one in found.components} == listed
    assert str(found.component("cli")) == listed["cli"]
    assert found.component("absent") is None
    assert not found.problems


def test_a_release_of_ci_names_its_own_registry() -> None:
    """The sources are those of image-references: CI and OKD have others than quay.io."""
    real = (DATA / "image-references" / "ocp-4.8-ci-amd64.json").read_bytes()
    version = "4.8.0-0.ci-2021-05-03-215023"
    found = read(made({REFERENCES: real, METADATA: metadata(version=version)}))
    assert {one.reference.name for one in found.components} == {"registry.ci.openshift.org/ocp/4.8-2021-05-03-215023"}
    assert len(found.components) == 140


def test_digests_that_repeat_and_lists_stay() -> None:
    """One digest has many names on s390x (openshift/oc-mirror#968); a list must stay one (METAL-1440)."""
    release = releases.release("4.18.3", "s390x", names=("cli", "pod", "etcd"), same={"pod": "etcd"}, lists=("cli",))
    found = read(release.payload)
    assert found.architecture == "s390x"
    assert found.component("pod") == found.component("etcd")
    assert found.component("cli") == found.components[0].reference
    assert str(found.component("cli")) == release.component("cli")


def test_a_multi_architecture_release() -> None:
    release = releases.multi("4.18.3", names=FEW)
    found = read(release.payload, version="4.18.3")
    assert found.architecture == "multi"
    assert [str(one.reference) for one in found.components] == [release.component(name) for name in FEW]
    with pytest.raises(PayloadError, match="out of the multi-architecture release") as refused:
        read(release.payload.manifests[0])
    assert "-multi" in refused.value.hint


def test_only_the_payloads_that_are_carried_are_read() -> None:
    release = releases.multi("4.18.3", names=FEW, children={"s390x": {METADATA: metadata(version="4.18.4")}})
    tree, stored = releases.opened(release.payload)
    with pytest.raises(PayloadError, match="contradicts itself"):
        payload.read(tree, stored, "q")
    kept = replace(tree, documents=(tree.documents[0], tree.root))
    assert payload.read(kept, stored, "q").architecture == "multi"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {REFERENCES: references(tag(), metadata={"name": "4.18.4"}), METADATA: metadata(version="4.18.4")},
            "of several releases",
        ),
        ({METADATA: metadata(previous=["4.18.2"])}, "disagree in release-metadata"),
        ({REFERENCES: references(tag("other"))}, "different components"),
    ],
)
def test_payloads_of_an_index_that_disagree(files: Mapping[str, bytes], message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        read(releases.multi("4.18.3", names=FEW, architectures=("amd64", "arm64"), children={"arm64": files}).payload)


def test_the_version_is_that_of_the_update_service() -> None:
    with pytest.raises(PayloadError, match=r"is release 4\.18\.3, and the update service names it 4\.18\.2"):
        read(made({}), version="4.18.2")


@pytest.mark.parametrize("converted", [False, True])
def test_what_other_readers_take_for_something_else(*, converted: bool) -> None:
    """The update service reads Docker media types alone; clusters read the architecture from release-metadata."""
    if converted:
        image: Parts = with_layers(files(), docker=False)
    else:
        layer = releases.manifests_layer(files())
        each = [factories.image((layer,), platform=f"linux/{one}", docker=True) for one in ("amd64", "arm64")]
        image = factories.index(each, docker=True)
    (problem,) = read(image).problems
    assert (problem.code, problem.severity) == (ProblemCode.PAYLOAD_UNLISTED, "warning")
    assert ("OCI" in problem.message) == converted


# Disk images.


def test_disk_images_of_several_streams() -> None:
    """5.0 has a second ConfigMap value with a stream for each version of RHEL."""
    found = read(made({BOOTIMAGES: (DATA / "bootimages" / "5.0.yaml").read_bytes()}), kubevirt=True)
    assert [(one.architecture, one.name) for one in found.machines] == [
        ("amd64", "kube-virt-container"),
        ("amd64", "kube-virt-container-rhel-10"),
    ]
    assert [hexed[:8] for one in found.kubevirt if (hexed := str(one.digest)[7:])] == ["833cbd9a", "843e75c1"]
    assert [one.name for one in found.images][-1] == "kube-virt-container-rhel-10"
    assert not found.problems


@pytest.mark.parametrize(
    "case",
    [
        ("4.15-x86_64-only.yaml", "4.15.0", "amd64", 0, 0),
        ("4.15-short.yaml", "4.15.0", "amd64", 0, 0),  # that for s390x is no digest, and is not asked for
        ("4.8-no-kubevirt.yaml", "4.8.0", "amd64", 0, 1),
        ("4.8-no-kubevirt.yaml", "4.16.0", "amd64", 1, 0),
        ("4.15-x86_64-only.yaml", "4.16.0", "arm64", 0, 1),
        *more(
            [("4.15-x86_64-only.yaml", "4.16.0", "s390x", 0, 1), ("", "4.16.0", "amd64", 1, 0), ("", "4.14.9", "amd64", 0, 1)]
        ),
    ],
)
def test_disk_images_are_missing_where_a_release_should_have_them(case: tuple[str, str, str, int, int]) -> None:
    """OCPBUGS-37950, OCPBUGS-49990: releases without the image ended oc-mirror, or lost it silently."""
    file, version, architecture, problems, notes = case
    files = {
        BOOTIMAGES: (DATA / "bootimages" / file).read_bytes() if file else b"",
        REFERENCES: references(tag(), metadata={"name": version}),
        METADATA: metadata(version=version),
    }
    found = read(made(files, architecture), kubevirt=True)
    assert (len(found.problems), len(found.notes)) == (problems, notes)
    assert bool(found.machines) == (not problems and not notes)
    assert not read(made(files, architecture)).machines


def test_disk_images_of_several_architectures() -> None:
    found = read(releases.multi("4.18.3", names=FEW, kubevirt=True).payload, kubevirt=True)
    assert [one.name for one in found.machines] == ["kube-virt-container-s390x", "kube-virt-container-x86_64"]
    assert (len(found.notes), found.problems) == (2, ())


def test_disk_images_have_tags_of_their_own() -> None:
    machines = releases.bootimages({"amd64": [factories.image(docker=True)]})
    found = read(made({BOOTIMAGES: machines, REFERENCES: references(tag("kube-virt-container"))}), kubevirt=True)
    assert "is that of a component" in found.problems[0].message
    assert not found.machines


@pytest.mark.parametrize(
    "text",
    [
        (DATA / "bootimages" / "4.15-short.yaml").read_text(),
        "data: [1]",
        'data: {stream: \'{"architectures": {"s390x": {"images": {"kubevirt": {}}}}}\'}',
        *more(
            [
                "data: {stream: '{'}",
                "data: {stream: '" + '{"a":' * 40 + "1" + "}" * 40 + "'}",
                "a: &a [1, 1]\nb: &b [*a, *a]\n"
                + "".join(f"c{n}: &c{n} [*{'b' if not n else f'c{n - 1}'}, *b]\n" for n in range(60)),
            ]
        ),
    ],
)
def test_disk_images_that_cannot_be_read(text: str) -> None:
    """The release is carried without them: a cluster needs none to update."""
    found = read(made({BOOTIMAGES: text.encode()}, "s390x"), kubevirt=True)
    (problem,) = found.problems
    assert (problem.severity, problem.code) == ("error", ProblemCode.KUBEVIRT_MISSING)
    assert "bootimages.yaml" in problem.message
    assert (found.machines, len(found.components)) == ((), 2)


# Strangers' files.


@pytest.mark.parametrize(
    "case",
    [
        ({REFERENCES: b""}, "has no image-references"),
        ({METADATA: b""}, "has no release-metadata"),
        ({METADATA: metadata(version="4.18.4")}, "contradicts itself"),
        ({METADATA: metadata(kind="other")}, "of the kind 'other'"),
        ({METADATA: metadata(version="4.18")}, "'4.18' is no version"),
        ({METADATA: metadata(previous=["4.18.2", "x\x1b[31m"])}, r"'x\\x1b\[31m' is no version"),
        ({METADATA: b"<html>"}, "release-metadata"),
        ({REFERENCES: references()}, "lists no image"),
        ({REFERENCES: references(kind="List")}, "wanted an ImageStream"),
        ({REFERENCES: references(tag(), tag())}, "'cli': listed twice"),
        ({REFERENCES: references(tag(image="quay.io/a/b:v1"))}, "is not by digest"),
        ({REFERENCES: references(tag("a\n\x1b[2Jb"))}, r"no name that a tag can have"),
        ({REFERENCES: references(tag("x" * 120))}, "no tag can have the name"),
        *more(
            [
                ({REFERENCES: references(tag(kind="ImageStreamTag"))}, "lists no image"),
                ({REFERENCES: references(tag(image="../../etc"))}, "not an image reference"),
                ({REFERENCES: references(tag(name=["cli"]))}, "image-references"),
                ({REFERENCES: references(tag(), spec=None)}, "lists no image"),
                ({REFERENCES: b"a: &a [*a]"}, "image-references"),
                ({REFERENCES: references(tag()) * 2}, "trailing characters"),
                ({REFERENCES: b"a: 1\n---\nb: 1\n"}, "more than one document"),
                ({REFERENCES: b"{}" * 2_000_000}, "more than any real document"),
                ({REFERENCES: references(tag(image="a/" * 1_000_000))}, "not an image reference"),
                ({REFERENCES: b"[" * 100_000}, "image-references"),
                ({REFERENCES: b"\xff\xfe\xff"}, "image-references"),
                ({METADATA: metadata(metadata={"url": ["a"]})}, "release-metadata"),
                ({METADATA: b"   "}, "empty"),
            ]
        ),
    ],
)
def test_files_that_are_refused(case: tuple[Mapping[str, bytes], str]) -> None:
    files, message = case
    with pytest.raises(PayloadError, match=message) as refused:
        read(made(files))
    shown = str(refused.value) + "".join(refused.value.details)
    assert shown.startswith("quay.io/r/p@sha256:0: ")
    assert "\x1b" not in shown
    assert len(shown) < 2_000  # whatever the size of the file


def test_yaml_is_read_as_clusters_read_it() -> None:
    found = read(made({REFERENCES: _YAML}))
    assert [one.name for one in found.components] == ["cli"]


_YAML = f"""apiVersion: image.openshift.io/v1
kind: ImageStream
metadata: {{name: 4.18.3, annotations: null}}
spec:
  tags:
  - {{name: cli, from: {{kind: DockerImage, name: "{COMPONENTS}:v1@sha256:{"a" * 64}"}}}}
  - {{name: local, from: {{kind: ImageStreamTag, name: "x:y"}}}}
""".encode()


def test_every_fault_of_the_list_is_named_at_once() -> None:
    tags = [tag(f"c{number}", "quay.io/a/b:v1") for number in range(30)]
    with pytest.raises(PayloadError) as refused:
        read(made({REFERENCES: references(*tags)}))
    assert len(refused.value.details) == 11
    assert refused.value.details[-1] == "and 20 more"
    assert str(refused.value).count("'c0'") == 1  # once, and on a line of its own
    assert "\\n" not in str(refused.value)


# Layers.


def with_layers(*layers: bytes | Mapping[str, bytes], docker: bool = True) -> Parts:
    return factories.image(
        [releases.manifests_layer(one) if isinstance(one, Mapping) else one for one in layers], docker=docker
    )


def files(version: str = "4.18.3") -> dict[str, bytes]:
    return {REFERENCES: references(tag(), metadata={"name": version}), METADATA: metadata(version=version)}


def test_the_first_layer_from_the_top_counts() -> None:
    image = with_layers({"usr/a": b"base"}, files("4.18.2"), files("4.18.3"), {"etc/motd": b"hello"})
    tree, stored = releases.opened(image)
    asked: list[Descriptor] = []

    def counted(blob: Descriptor) -> Any:
        asked.append(blob)
        return stored(blob)

    assert payload.read(tree, counted, "q").version == "4.18.3"
    assert len(asked) == 3  # two layers and the config


@pytest.mark.parametrize(
    ("above", "message"),
    [
        ({"release-manifests/.wh..wh..opq": b""}, "hides the release-manifests"),
        ({".wh.release-manifests": b""}, "hides"),
        ({"release-manifests/.wh.image-references": b""}, "hides"),
        ({"release-manifests/image-references": references(tag())}, "has no release-metadata"),
        (b"not a tar", "no readable tar"),
        (b"\x28\xb5\x2f\xfd no frame", "zstd stream"),
    ],
    ids=["opaque", "folder", "file", "half", "no tar", "no zstd"],
)
def test_layers_that_a_cluster_would_see_otherwise(above: Any, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        read(with_layers(files(), above))


def test_whiteouts_hide_lower_layers_only() -> None:
    layer = releases.manifests_layer({"./release-manifests/.wh..wh..opq": b"", **files(), "release-manifests/.wh.other": b""})
    assert read(with_layers(files("4.18.2"), layer)).version == "4.18.3"


def test_a_file_of_an_upper_layer_counts() -> None:
    machines = releases.bootimages({"amd64": [factories.image(docker=True)]})
    old = {BOOTIMAGES: (DATA / "bootimages" / "4.15-short.yaml").read_bytes(), **files()}
    found = read(with_layers(old, {BOOTIMAGES: machines}), kubevirt=True)
    assert str(found.kubevirt[0].digest) == factories.image(docker=True).digest


def test_links_are_no_files() -> None:
    layer = _linked("release-manifests/image-references", "/etc/passwd")
    with pytest.raises(PayloadError, match="no plain file"):
        read(with_layers(layer))


def _linked(name: str, target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        tar.addfile(entry)
    return gzip.compress(buffer.getvalue())


def test_another_image_is_not_fetched_as_a_whole() -> None:
    """An image that is named by mistake may have gigabytes."""
    with pytest.raises(PayloadError, match="not the payload of a release") as refused:
        read(with_layers({"etc/motd": b"hello"}, {"etc/motd": b"bye"}))
    assert "--image" in refused.value.hint


# Limits: the last value that is read, and the first that is not.


def padded(content: bytes, size: int) -> bytes:
    return content + b" " * (size - len(content))


def with_size(size: int) -> Parts:
    """Return an image whose top layer has nothing of a release, and claims a size; the payload is below."""
    image = with_layers(files(), {"etc/motd": b"hello"})
    document = json.loads(image.raw)
    rest = document["layers"][0]["size"]
    document["layers"][1]["size"] = size - rest
    return replace(image, raw=json.dumps(document).encode())


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize(
    "what", ["layers", "file", "components", "previous", "payloads", "config", "depth", *more(["headers", "unpacked"])]
)
def test_limits(what: str, over: int) -> None:
    many = payload.MAX_COMPONENTS + over
    match what:
        case "layers":
            image = with_size(payload_files.MAX_SIZE + over)
        case "file":
            image = made({METADATA: padded(metadata(), payload_files.MAX_FILE + over)})
        case "components":
            image = made({REFERENCES: references(*(tag(f"c{number}") for number in range(many)))})
        case "previous":
            image = made({METADATA: metadata(previous=[f"4.18.{number}" for number in range(payload.MAX_PREVIOUS + over)])})
        case "payloads":
            layer = releases.manifests_layer(
                files() | {METADATA: metadata(metadata={"release.openshift.io/architecture": "multi"})}
            )
            names = [f"linux/a{number}" for number in range(payload.MAX_PAYLOADS + over)]
            image = factories.index([factories.image((layer,), platform=name, docker=True) for name in names], docker=True)
        case "config":
            image = with_layers(files())
            config = padded(image.blobs[json.loads(image.raw)["config"]["digest"]], MAX_CONFIG_SIZE + over)
            document = json.loads(image.raw)
            document["config"] |= {"size": len(config), "digest": factories.digest_of(config)}
            image = replace(image, raw=json.dumps(document).encode(), config=config)
        case "depth":
            levels = bootimages.MAX_DEPTH + over
            stream = '{"a":' * levels + "{}" + "}" * levels
            image = made({BOOTIMAGES: json.dumps({"data": {"stream": stream}}).encode()})
        case "headers":
            count = payload_files.MAX_HEADERS + over - 4  # the folder, two files, and the end
            image = with_layers(_empty_files(count, files()))
        case _:
            # Half of it in each of two layers: the limit is that of all.
            plain = gzip.decompress(releases.manifests_layer(files()))
            half = gzip.compress(_zeros(payload_files.MAX_UNPACKED // 2 - len(plain) + 512 * over) + plain, 1)
            top = gzip.compress(_zeros(payload_files.MAX_UNPACKED // 2), 1)
            image = with_layers(half, top)
    if over and what == "depth":
        assert "deeper" in read(image, kubevirt=True).problems[0].message
    elif over:
        with pytest.raises(PayloadError, match=r"limit|at most|more than|more headers|no such files"):
            read(image, kubevirt=True)
    else:
        assert read(image, kubevirt=True).version == "4.18.3"


def _empty_files(count: int, more_files: Mapping[str, bytes]) -> bytes:
    plain = gzip.decompress(releases.manifests_layer(more_files))
    header = tarfile.TarInfo("usr/empty").tobuf(tarfile.USTAR_FORMAT)
    return gzip.compress(header * count + plain, 1)


def _zeros(size: int) -> bytes:
    """Return a file of zeros, with its header."""
    entry = tarfile.TarInfo("usr/zeros")
    entry.size = size - 512
    return entry.tobuf(tarfile.USTAR_FORMAT) + bytes(size - 512)
