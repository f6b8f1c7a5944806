"""The metadata region, written and scanned; its bound; the names in index.json."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import tarfile

import pytest
import zstandard

from common.archive import frames, inventory_file, metadata
from common.archive.inventory import Problem, ProblemCode
from common.archive.metadata import ref_name
from common.archive.reader import MetadataIndex
from common.archive.volume import padded, tar_header
from common.errors import ContentError
from common.oci.image import Digest, digest_of
from tests.fakes.archives import CUT, Content, noise

D = Digest("sha256:" + "0" * 64)
MANIFESTS = {digest_of(raw): raw for raw in (noise(f"m{n}", 1000 + n * 700_000) for n in range(4))}
INVENTORY = b'{"inventory": 1}\n'


@pytest.fixture
def opened(tmp_path):
    files = []

    def make(content: bytes) -> int:
        path = tmp_path / str(len(files))
        path.write_bytes(content)
        files.append(os.open(path, os.O_RDONLY))
        return files[-1]

    yield make
    for file in files:
        os.close(file)


def scan(file: int, end: int, start: int = 0, limit: int = 1 << 30) -> MetadataIndex:
    return MetadataIndex.scan(file, start, end, limit)


def test_the_region_is_a_tar_of_index_manifests_and_inventory():
    region = metadata.build(b"{}", MANIFESTS, INVENTORY)
    content = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(b"".join(region.frames)), read_across_frames=True).read()
    with tarfile.open(fileobj=io.BytesIO(content + bytes(1024))) as tar:
        names = tar.getnames()
        assert tar.extractfile("inventory.json").read() == INVENTORY
    assert names == ["index.json", *(f"blobs/sha256/{d[7:]}" for d in MANIFESTS), "inventory.json"]
    raw = b"".join(region.frames)
    frame = raw[region.inventory_at : region.inventory_at + region.inventory_stored]
    assert frames.decompress(frame, len(INVENTORY)) == INVENTORY
    assert region.size == len(raw)
    assert metadata.build(b"{}", MANIFESTS, INVENTORY) == region


def test_an_inventory_without_padding_has_no_frame_for_it():
    region = metadata.build(b"{}", {}, bytes(512))
    assert region.size == region.inventory_at + region.inventory_stored


def test_manifests_are_found_by_one_scan_and_read_one_by_one(opened):
    region = metadata.build(b"{}", MANIFESTS, INVENTORY)
    file = opened(b"data" + b"".join(region.frames))
    index = scan(file, 4 + region.inventory_at, 4)
    assert index.names() == {"index.json", *(f"blobs/sha256/{d[7:]}" for d in MANIFESTS)}
    assert index.inventory_size == len(INVENTORY)
    for digest in [*MANIFESTS, *reversed(MANIFESTS)]:
        assert index.manifest(file, digest) == MANIFESTS[digest]
    assert index.index_json(file) == b"{}"
    with pytest.raises(ContentError, match="is not in the metadata"):
        index.manifest(file, D)


def test_a_manifest_with_other_content_is_refused(opened):
    region = metadata.build(b"{}", {D: b"something else"}, INVENTORY)
    file = opened(b"".join(region.frames))
    with pytest.raises(ContentError, match=f"manifest {D} has digest sha256"):
        scan(file, region.inventory_at).manifest(file, D)


def entry(name: str, content: bytes = b"") -> bytes:
    return tar_header(name, len(content)) + padded(content)


END = tar_header("inventory.json", 5)


@pytest.mark.parametrize(
    ("tar", "match"),
    [
        (b"", "ends before the inventory"),
        (entry("index.json"), "ends before the inventory"),
        (entry("index.json") + END[:100], "ends before the inventory"),
        (END + b"x", "entries behind"),
        (entry("a") + entry("a") + END, "a stands twice"),
        (bytes(512), "damaged tar header"),
        (tar_header("x", 3).replace(b"0000644", b"0000755") + bytes(512) + END, "damaged tar header"),
        (tar_header("../x", 0, b"2") + END, "damaged tar header"),
        (tar_header("x", 0o77777777777) + END, "damaged tar header"),
        (tar_header("x", 0)[:124] + b"99999999999" + tar_header("x", 0)[135:] + END, "damaged tar header"),
        (tar_header("x", 0).replace(b"x", b"\xff", 1) + END, "damaged tar header"),
    ],
)
def test_foreign_tars_are_refused(opened, tar, match):
    frame = frames.compress(tar)
    with pytest.raises(ContentError, match=match):
        scan(opened(frame), len(frame))


def test_names_are_never_paths(opened):
    frame = frames.compress(entry("../../etc/passwd", b"x") + END)
    assert scan(opened(frame), len(frame)).names() == {"../../etc/passwd"}


def test_bombs_are_refused(opened):
    big = frames.compress(bytes(8 * 1024 * 1024 + 1))
    with pytest.raises(ContentError, match="the limit is 8388608"):
        scan(opened(big), len(big))
    many = frames.compress(tar_header("x", 100 * 1024 * 1024)) + frames.compress(bytes(1024 * 1024)) * 20
    with pytest.raises(ContentError, match="the metadata grows past 10000000 bytes"):
        scan(opened(many), len(many), limit=10_000_000)


def test_flipped_bits_are_found(opened):
    region = metadata.build(b"{}", MANIFESTS, INVENTORY)
    raw = bytearray(b"".join(region.frames))
    raw[region.inventory_at // 2] ^= 1
    with pytest.raises(ContentError, match=r"broken frame|goes past|block"):
        scan(opened(bytes(raw)), region.inventory_at)


def test_skippable_frames_are_no_metadata(opened):
    raw = frames.PLACEHOLDER_MAGIC + bytes(20)
    with pytest.raises(ContentError, match="wrong magic"):
        scan(opened(raw), len(raw))


@pytest.mark.parametrize("content", [CUT, dataclasses.replace(CUT, images={}), dataclasses.replace(CUT, volume_size=1 << 30)])
def test_the_bound_holds(content):
    layout = dataclasses.replace(content, bound=None, volume_size=content.volume_size + metadata.PROBLEMS_ROOM).layout()
    problems = [Problem("error", ProblemCode.BLOB_UNAVAILABLE, f"quay.io/x/{n}", "ü" * 300) for n in range(10_000)]
    inventory = content.inventory(layout)
    full = type(inventory)(
        **{**{f: getattr(inventory, f) for f in inventory.__struct_fields__}, "problems": metadata.within_room(problems)}
    )
    region = metadata.build(content.index_json(), content.manifests, inventory_file.encode(full))
    assert region.size + 1024 < metadata.bound(content.inventory(None), content.index_json())


def test_problems_beyond_their_room_are_counted():
    problems = [Problem("warning", ProblemCode.IMAGE_NOT_FOUND, f"quay.io/x/{n}", "m" * 100) for n in range(10_000)]
    kept = metadata.within_room(problems)
    assert kept[:-1] == tuple(problems[: len(kept) - 1])
    assert kept[-1].message.startswith(f"{10_000 - len(kept) + 1} further problems")
    assert metadata.within_room(problems[:10]) == tuple(problems[:10])
    assert metadata.within_room([]) == ()


def test_index_json_lists_every_image_that_is_carried_by_its_name():
    content = Content(images={"quay.io/b/b:v1": [b"b"], "quay.io/a/a@" + D: [b"a"], "dir:/some/where catalog": [b"c"]})
    inventory = content.inventory(None)
    document = json.loads(metadata.index_json(inventory.images, inventory.manifests))
    assert document["schemaVersion"] == 2
    assert document["mediaType"] == "application/vnd.oci.image.index.v1+json"
    names = [m["annotations"]["org.opencontainers.image.ref.name"] for m in document["manifests"]]
    assert names == ["quay.io/a/a@" + D, "quay.io/b/b:v1", digest_of(content.manifest([b"c"]))]
    for listed in document["manifests"]:
        record = inventory.manifests[listed["digest"]]
        assert (listed["size"], listed["mediaType"]) == (record.size, record.media_type)
    assert metadata.index_json(reversed(inventory.images), inventory.manifests) == content.index_json()
    assert json.loads(metadata.index_json(inventory.images, {}))["manifests"] == []


@pytest.mark.parametrize(
    ("source", "is_name"),
    [
        ("quay.io/org/image:v1", True),
        ("localhost:5000/a/b@sha256:" + "0" * 64, True),
        ("quay.io/a--b/c_d", True),
        ("quay.io/a__b/c", False),
        ("/configs", False),
        ("a b", False),
        ("", False),
        ("a/", False),
        ("quay.io/ü", False),
    ],
)
def test_names_by_the_oci_grammar(source, is_name):
    assert ref_name(source, D) == (source if is_name else D)
