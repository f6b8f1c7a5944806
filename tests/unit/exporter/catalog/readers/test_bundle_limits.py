"""Bundle images of strangers: an error of that bundle for anything that cannot be read, and bounds near real bundles."""

import gzip
import io
import tarfile

import pytest

from common.errors import CatalogError, ContentError, HubError
from common.oci import media_types
from common.oci.image import Tree, digest_of, encode, parse
from common.serialization import DocumentError
from exporter.catalog.readers import bundle_image
from exporter.catalog.readers.bundle_image import MAX_CONTENTS, MAX_FILE
from exporter.catalog.readers.catalog_image import MAX_CONFIG_SIZE
from tests.samples import more
from tests.spent import spent

CSV = b"kind: ClusterServiceVersion\nmetadata:\n  name: foo.v1\n"


def tar(files: dict[str, bytes | str]) -> bytes:
    """Return a layer; text stands for a hard link to its file."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(f"manifests/{name}")
            if isinstance(content, str):
                member.type, member.linkname = tarfile.LNKTYPE, f"manifests/{content}"
            else:
                member.size = len(content)
            made.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return output.getvalue()


def read(*layers: bytes, config: bytes = b"{}"):
    """Read a bundle of compressed layers."""
    blobs = {digest_of(one): one for one in (config, *layers)}
    listed = [{"mediaType": media_types.OCI_LAYER_GZIP, "digest": digest_of(one), "size": len(one)} for one in layers]
    described = {"mediaType": media_types.OCI_CONFIG, "digest": digest_of(config), "size": len(config)}
    manifest = parse(encode({"schemaVersion": 2, "config": described, "layers": listed}), media_types.OCI_MANIFEST)
    return bundle_image.read(Tree(manifest, (manifest,), ()), lambda blob: iter([blobs[blob.digest]]))


def bundle(**files: bytes | str) -> bytes:
    return gzip.compress(tar({"csv.yaml": CSV, **{f"{name}.yaml": content for name, content in files.items()}}), 1)


def of_size(size: int) -> bytes:
    return b"kind: A\ntext: '" + b"x" * (size - 16) + b"'"


def test_a_manifest_at_the_limit_is_read_and_one_beyond_is_left_out_by_name():
    """etcd refuses objects of more than 1.5 MiB of JSON (etcd, *System limits*); YAML may take twice as many bytes."""
    objects, unread = read(bundle(a=of_size(MAX_FILE)))
    assert (len(objects), unread) == (2, [])
    objects, unread = read(bundle(a=of_size(MAX_FILE + 1)))
    assert [one["kind"] for one in objects] == ["ClusterServiceVersion"]
    assert [str(one.message) for one in unread] == ["a.yaml: 4.0 MiB; the limit of a manifest is 4.0 MiB"]
    with pytest.raises(DocumentError, match=r"csv\.yaml: 4\.0 MiB; the limit"):
        read(gzip.compress(tar({"csv.yaml": CSV + b" " * MAX_FILE}), 1))


def test_all_manifests_of_a_bundle_are_bounded_also_where_links_repeat_one():
    """Before, 100,000 links to one file of megabytes were read 100,000 times."""
    part = of_size(MAX_CONTENTS // 8)
    assert len(read(bundle(**{f"a{n}": part for n in range(7)}))[0]) == 8
    with pytest.raises(CatalogError, match=r"more than 16\.0 MiB"):
        read(bundle(**{f"a{n}": part for n in range(8)}))
    took = spent(lambda: read(bundle(a=of_size(MAX_FILE), **{f"b{n}": "a.yaml" for n in range(20)})))
    assert "CatalogError: its manifests have more than 16.0 MiB" in took.error
    assert took.cpu < 1


@pytest.mark.more
def test_entries_of_a_bundle_are_bounded():
    member = tarfile.TarInfo("other/file")
    header = member.tobuf(tarfile.GNU_FORMAT)
    whole = tar({"csv.yaml": CSV})
    already = 2  # its file, and the directory of that
    for count, fits in ((100_000 - already, True), (100_000 - already + 1, False)):
        layer = gzip.compress(header * count + whole, 1)
        if fits:
            assert len(read(layer)[0]) == 1
            continue
        with pytest.raises(CatalogError, match="more than 100000 files and directories"):
            read(layer)


def test_all_layers_of_a_bundle_are_bounded_together():
    """A manifest may name a layer of 16 KB thousands of times, and each time it has 16 MiB."""
    layer = gzip.compress(bytes(16 << 20), 6)
    took = spent(lambda: read(bundle(), *[layer] * 1000))
    assert took.error == "CatalogError: its layers have more than 256.0 MiB"
    assert took.cpu < 3
    assert took.memory < 64 << 20


def test_layers_and_config_are_bounded_before_they_are_fetched():
    def described(kind, size):
        return {"mediaType": kind, "digest": digest_of(kind.encode()), "size": size}

    def fetched(config, *layers):
        listed = [described(media_types.OCI_LAYER_GZIP, size) for size in layers]
        raw = encode({"schemaVersion": 2, "config": described(media_types.OCI_CONFIG, config), "layers": listed})
        manifest = parse(raw, media_types.OCI_MANIFEST)
        asked = []
        with pytest.raises(HubError) as caught:
            bundle_image.read(Tree(manifest, (manifest,), ()), lambda blob: iter([asked.append(blob.size) or b"{}"]))
        return asked, caught.value.message

    half = bundle_image.MAX_SIZE // 2
    asked, message = fetched(MAX_CONFIG_SIZE, half, half)
    assert asked[0] == MAX_CONFIG_SIZE
    assert "no readable tar" in message
    assert fetched(2, half, half + 1) == ([], "64.0 MiB are too much for a bundle")
    assert fetched(MAX_CONFIG_SIZE + 1, 1) == ([], "a config of 8.0 MiB is too much")


def test_a_manifest_of_too_many_values_takes_little_memory():
    took = spent(lambda: read(gzip.compress(tar({"csv.yaml": CSV + b"a: [" + b"a," * (1 << 20) + b"]"}), 1)))
    assert took.error.startswith("DocumentError: csv.yaml:4: a document of more than 200000 values")
    assert took.memory < 64 << 20


BROKEN = [
    b"x: !!int ''",
    b"x: 1:59:59\n? [a]\n: b",
    *more([b"x: !!bool zz", b"x: !!binary \xc3\xa9", b"- " * 3000, b"x: 0x" + b"f" * 100_000, b"\xff\xfe\x00", b"x: &a [*a]"]),
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_file_is_left_out_and_a_broken_csv_is_the_error(content):
    objects, unread = read(bundle(a=b"kind: A\n" + content if not content.startswith((b"\xff", b"- ")) else content))
    assert len(objects) == 1
    assert [one.message.partition(":")[0] for one in unread] == ["a.yaml"]
    with pytest.raises(DocumentError):
        read(gzip.compress(tar({"csv.yaml": CSV + content}), 1))


@pytest.mark.parametrize(
    "content",
    [
        b'{\n\t"kind": "A",\n\t"face": "\\ud83d\\ude00"\n}',
        b"\xef\xbb\xbfkind: A\nface: \xf0\x9f\x98\x80\nface: !foo \xf0\x9f\x98\x80\n",
        "kind: A\nface: 😀\n".encode("utf-16"),
    ],
)
def test_manifests_are_yaml_or_json_in_every_encoding(content):
    """k8s.io/apimachinery, pkg/util/yaml/decoder.go: tabs and pairs of surrogates are JSON alone."""
    objects, unread = read(bundle(a=content))
    assert (objects[0], unread) == ({"kind": "A", "face": "😀"}, [])


@pytest.mark.parametrize("value", [b".inf", b"!!int 1.0", b"{~: 1}"])
def test_values_that_kubernetes_refuses_leave_out_their_file(value):
    objects, unread = read(bundle(a=b"kind: A\nx: " + value))
    assert len(objects) == 1
    assert [one.message.partition(": ")[0].partition(":")[0] for one in unread] == ["a.yaml"]


@pytest.mark.parametrize(
    "config",
    [
        b'{"config":{"Labels":{"operators.operatorframework.io.bundle.manifests.v1":"../../etc"}}}',
        *more(
            [
                b'{"config":{"Labels":{"operators.operatorframework.io.bundle.manifests.v1":"\\u0000"}}}',
                b'{"config":{"Labels":{"a":1}}}',
                b'{"config":{"Labels":{"a":"\xff"}}}',
                b"[" * 100_000,
                b"",
            ]
        ),
    ],
)
def test_a_config_that_says_nonsense_is_an_error_of_the_bundle(config):
    with pytest.raises((CatalogError, ContentError)):
        read(bundle(), config=config)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
def test_a_cut_or_damaged_layer_is_an_error_of_the_bundle(cut):
    layer = bundle(a=of_size(5000))
    at = int(len(layer) * cut)
    for broken in (layer[:at], layer[:at] + b"\0\xff" + layer[at + 2 :], b"\x28\xb5\x2f\xfd" + layer):
        with pytest.raises(HubError):
            read(broken)
