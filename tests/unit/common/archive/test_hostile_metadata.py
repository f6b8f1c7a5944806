"""Metadata regions that claim more than they are: refused after a read of their real size."""

from __future__ import annotations

import os

import pytest

from common.archive import frames
from common.archive.inventory_file import NAME
from common.archive.reader import MAX_CACHED, MAX_FRAME, ArchiveReader, FrameCache, MetadataIndex
from common.archive.volume import TAR_BLOCK, entry_name, padded, tar_header, volume_name
from common.errors import ContentError
from common.oci.image import digest_of
from importer.archive.verify import verify
from tests.fakes.archives import noise
from tests.fakes.hostile import compact, inventory, volume


def test_a_hole_is_not_read_three_bytes_at_a_time(tmp_path):
    """Three zeros are an empty raw block (RFC 8878, 3.1.1.2): a sparse file of 1 GiB has 350 million of them."""
    head = frames.raw_frame_header(1024)
    (tmp_path / "file").write_bytes(head)
    os.truncate(tmp_path / "file", 1 << 30)
    with (tmp_path / "file").open("rb") as file, pytest.raises(ContentError, match="goes past"):
        frames.frame_end(file.fileno(), 0, 1 << 30)


def test_blocks_of_a_frame_have_a_limit(tmp_path):
    """64 and one for each 4 KiB of content; compressors make blocks of 8 KiB at least."""
    for blocks, fits in ((65, True), (66, False)):
        empty = frames.block_header(0, last=False)
        content = frames.raw_frame_header(4096) + empty * (blocks - 1) + frames.block_header(0, last=True)
        (tmp_path / "file").write_bytes(content)
        with (tmp_path / "file").open("rb") as file:
            if fits:
                assert frames.frame_end(file.fileno(), 0, len(content)) == len(content)
                continue
            with pytest.raises(ContentError):
                frames.frame_end(file.fileno(), 0, len(content))


def test_manifests_hold_at_most_16_mib_and_1024_times_their_size(tmp_path):
    """One manifest may be of 16 MiB of the same byte, and no more of them."""
    frame, end = frames.compress(bytes(MAX_FRAME)), frames.compress(tar_header(NAME, 1))
    head = frames.compress(tar_header("x", 2 * MAX_FRAME))
    for count, fits in ((2, True), (3, False)):
        content = head + frame * count + (end if fits else b"")
        (tmp_path / "file").write_bytes(content)
        with (tmp_path / "file").open("rb") as file:
            if fits:
                assert MetadataIndex.scan(file.fileno(), 0, len(content), 1 << 30).names() == {"x"}
                continue
            with pytest.raises(ContentError, match="the metadata grows to"):
                MetadataIndex.scan(file.fileno(), 0, len(content), 1 << 30)


def test_entries_that_the_inventory_does_not_list_are_not_kept(tmp_path):
    """8 KB of headers would be megabytes of names, for each of thousands of volumes."""
    names = [f"blobs/sha256/{number:064x}" for number in range(1000)]
    path = tmp_path / volume_name(1)
    manifests = {digest_of(b"x"): {"mediaType": "x", "size": 16 << 20}}
    path.write_bytes(volume(compact(inventory(manifests=manifests)), [frames.compress(tar_header(name, 0)) for name in names]))
    archive = ArchiveReader.open_untrusted([path])
    for _ in range(2):
        with pytest.raises(ContentError, match="has other entries than the inventory lists"):
            archive.scan(1)
    assert "other entries" in verify(archive).damage[0]


def _alternating(count: int) -> tuple[bytes, list[bytes]]:
    """Return a region of `count` frames of MAX_FRAME bytes, each with a manifest at its beginning, and the manifests."""
    content, manifests = b"", []
    for number in range(count):
        manifests.append(b"%d" % number)
        head = tar_header(entry_name(digest_of(manifests[-1])), 1) + padded(manifests[-1])
        fill = MAX_FRAME - len(head) - TAR_BLOCK
        head += tar_header(f"fill-{number}", fill) + noise(str(number), 16 * 1024)
        content += frames.compress(head + bytes(MAX_FRAME - len(head)))
    return content + frames.compress(tar_header(NAME, 1)), manifests


def test_frames_are_decompressed_once_whatever_the_order_of_reads(tmp_path):
    """Manifests that alternate between frames took 8 MiB of decompression each; four frames of that size stay in memory now."""
    fitting = MAX_CACHED // MAX_FRAME
    content, manifests = _alternating(fitting + 1)
    digests = [digest_of(manifest) for manifest in manifests]
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        index = MetadataIndex.scan(file.fileno(), 0, len(content), 1 << 30)
        for digest in digests:  # the last one takes the room of the first
            index.manifest(file.fileno(), digest)
        os.truncate(tmp_path / "file", 0)  # so that a frame that is read once more is an error
        for _ in range(3):
            assert [index.manifest(file.fileno(), digest) for digest in digests[1:]] == manifests[1:]
        with pytest.raises(ContentError):
            index.manifest(file.fileno(), digests[0])


def test_volumes_share_the_room_for_frames(tmp_path):
    """A manifest that is damaged in thousands of volumes is looked for in each: 8 MiB for each of them were gigabytes."""
    cache = FrameCache()
    content, (manifest,) = _alternating(1)
    indexes = []
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        for _ in range(MAX_CACHED // MAX_FRAME + 1):
            indexes.append(MetadataIndex.scan(file.fileno(), 0, len(content), 1 << 30, cache))
            indexes[-1].manifest(file.fileno(), digest_of(manifest))
        os.truncate(tmp_path / "file", 0)
        assert all(index.manifest(file.fileno(), digest_of(manifest)) == manifest for index in indexes[1:])
        with pytest.raises(ContentError):
            indexes[0].manifest(file.fileno(), digest_of(manifest))
        indexes[1].forget()
        with pytest.raises(ContentError):
            indexes[1].manifest(file.fileno(), digest_of(manifest))
