"""Metadata regions that claim more than they are: refused after a read of their real size."""

from __future__ import annotations

import os

import pytest

from common.archive import frames
from common.archive.inventory_file import NAME
from common.archive.volume import tar_header, volume_name
from common.errors import ContentError
from common.oci.image import digest_of
from importer.archive.reader import MAX_FRAME, ArchiveReader, MetadataIndex
from importer.archive.verify import verify
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
