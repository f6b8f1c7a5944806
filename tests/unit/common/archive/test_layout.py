"""The layout: every place to the byte, cutting, volumes that are too small."""

from __future__ import annotations

import pytest

from common.archive import layout as module
from common.archive.frames import BLOCK, raw_frame_size
from common.archive.inventory import Encoding, Piece
from common.archive.layout import PlannedBlob, plan_layout
from common.archive.volume import CLOSING_SIZE, MAX_PIECES, OPENING, extent, header_frame_size
from common.errors import UsageError
from common.oci.image import Descriptor, Digest

GIB = 1024**3


def blob(number: int, size: int, stored: int | None = None) -> PlannedBlob:
    digest = Digest(f"sha256:{number:064x}")
    return PlannedBlob(Descriptor("x/y", digest, size), Encoding.RAW if stored is None else Encoding.ZSTD, stored)


def pieces(planned, layout):
    return layout.blobs[planned.descriptor.digest].pieces


def test_blobs_are_adjacent_in_the_given_order():
    blobs = [blob(3, 1000), blob(1, 0), blob(2, 512), blob(4, 90, 70)]
    layout = plan_layout(blobs, 5000, GIB)
    assert list(layout.blobs) == [b.descriptor.digest for b in blobs]
    end = len(OPENING)
    for planned in blobs:
        (piece,) = pieces(planned, layout)
        header, padding = 14 + 3 + 512, -planned.descriptor.size % 512
        assert piece.offset == end + header
        assert piece.stored == (planned.stored or raw_frame_size(planned.descriptor.size))
        end = piece.offset + piece.stored + (padding and 14 + 3 + padding)
        assert extent(piece) == (piece.offset - header, end)
    assert [(v.name, v.data_size) for v in layout.volumes] == [("volume-0001.tar.zst", end)]
    assert layout.blob_records()[blobs[3].descriptor.digest].encoding is Encoding.ZSTD


def test_no_blobs_make_one_volume():
    layout = plan_layout([], 5000, 10_000)
    assert [(v.name, v.data_size) for v in layout.volumes] == [("volume-0001.tar.zst", len(OPENING))]
    assert layout.volumes[0].data_size + layout.reserve <= 10_000


def test_the_next_volume_begins_when_a_blob_does_not_fit_any_more():
    blobs = [blob(n, 300_000) for n in range(7)]
    layout = plan_layout(blobs, 5000, 1_000_000)
    assert [pieces(b, layout)[0].volume for b in blobs] == [1, 1, 1, 2, 2, 2, 3]
    assert all(v.data_size + layout.reserve <= 1_000_000 for v in layout.volumes)


def test_a_blob_that_fits_in_no_empty_volume_is_cut_and_fills_the_current_one():
    before, large, after = blob(1, 100_000), blob(2, 2_000_000), blob(3, 1000)
    layout = plan_layout([before, large, after], 5000, 1_000_000)
    found = pieces(large, layout)
    assert [p.volume for p in found] == [1, 2, 3]
    assert sum(p.size for p in found) == 2_000_000
    assert all(p.size % BLOCK == 0 and p.stored == raw_frame_size(p.size) for p in found[:-1])
    limit = 1_000_000 - layout.reserve
    for piece in found[:-1]:
        assert limit - (BLOCK + 3) < extent(piece)[1] <= limit
    assert pieces(after, layout)[0].volume == 3
    assert extent(pieces(after, layout)[0])[0] == extent(found[-1])[1]


def test_a_blob_that_fits_in_an_empty_volume_is_never_cut():
    layout = plan_layout([blob(1, 600_000), blob(2, 900_000)], 5000, 1_000_000)
    assert [len(p.pieces) for p in layout.blobs.values()] == [1, 1]


def test_a_compressed_blob_that_must_be_cut_becomes_raw():
    large = blob(1, 3_000_000, 1_500_000)
    layout = plan_layout([large], 5000, 1_000_000)
    placed = layout.blobs[large.descriptor.digest]
    assert placed.encoding is Encoding.RAW
    assert placed.record.encoding is Encoding.RAW
    assert sum(p.size for p in placed.pieces) == 3_000_000


@pytest.mark.parametrize("size", [8 * GIB - 1, 8 * GIB])
def test_entries_from_8_gib_on_have_a_pax_header(size):
    layout = plan_layout([blob(1, size)], 5000, 100 * GIB)
    header = 529 if size < 8 * GIB else 14 + 3 + 3 * 512
    assert pieces(blob(1, size), layout)[0].offset == len(OPENING) + header


def test_pieces_around_8_gib_fill_their_volume():
    # Volumes in which 8 GiB fit, or almost: with a piece of 8 GiB the header grows by a kilobyte.
    fixed = len(OPENING) + CLOSING_SIZE + 5000 + 5 * module.VOLUME_ROOM
    sizes = set()
    for room in range(0, 4096, 128):
        volume_size = fixed + 529 + raw_frame_size(8 * GIB) + room
        layout = plan_layout([blob(1, 30 * GIB)], 5000, volume_size)
        (first, *_) = pieces(blob(1, 30 * GIB), layout)
        limit = volume_size - layout.reserve
        assert extent(first)[1] <= limit
        more = first.size + BLOCK
        assert len(OPENING) + header_frame_size(more) + raw_frame_size(more) > limit
        sizes.add(first.size)
    assert sizes == {8 * GIB - BLOCK, 8 * GIB}


def test_a_volume_that_is_too_small_names_the_smallest_that_works():
    blobs = [blob(1, 50_000), blob(2, 1_000_000)]
    with pytest.raises(UsageError, match="volumes of 20000 bytes are too small") as raised:
        plan_layout(blobs, 10_000, 20_000)
    smallest = int(raised.value.hint.removesuffix(".").rpartition(" ")[2])
    layout = plan_layout(blobs, 10_000, smallest)
    assert all(v.data_size + layout.reserve <= smallest for v in layout.volumes)
    with pytest.raises(UsageError, match="too small"):
        plan_layout(blobs, 10_000, smallest - 1)


@pytest.mark.parametrize("volume_size", [0, 1, 1000])
def test_an_empty_archive_needs_room_for_metadata(volume_size):
    with pytest.raises(UsageError, match=r"The smallest --volume-size that works is \d+|too small") as raised:
        plan_layout([], 5000, volume_size)
    smallest = int(raised.value.hint.removesuffix(".").rpartition(" ")[2])
    assert len(plan_layout([], 5000, smallest).volumes) == 1


def test_a_blob_has_a_limited_number_of_pieces():
    one_block = len(OPENING) + CLOSING_SIZE + 5000 + 529 + raw_frame_size(BLOCK)
    size = 1100 * BLOCK
    with pytest.raises(UsageError, match="too small"):
        plan_layout([blob(1, size)], 5000, one_block + 1100 * module.VOLUME_ROOM + 5000 - BLOCK)
    layout = plan_layout([blob(1, size)], 5000, one_block + 1100 * module.VOLUME_ROOM + BLOCK)
    assert len(pieces(blob(1, size), layout)) <= MAX_PIECES


def test_more_blobs_than_an_inventory_lists_are_refused(monkeypatch):
    class Many(list):
        def __len__(self):
            return 2_000_001

    with pytest.raises(UsageError, match="2000001 blobs; an archive holds at most 2000000"):
        plan_layout(Many(), 5000, GIB)


def test_a_blob_planned_twice_is_a_mistake():
    with pytest.raises(ValueError, match="planned twice"):
        plan_layout([blob(1, 5), blob(1, 5)], 5000, GIB)


def test_the_same_plan_gives_the_same_layout():
    blobs = [blob(n, n * 7919 % 400_000) for n in range(500)]
    assert plan_layout(blobs, 5000, 1_000_000) == plan_layout(list(blobs), 5000, 1_000_000)


def test_pieces_are_those_of_the_inventory():
    assert plan_layout([blob(1, 10)], 5000, GIB).blobs[Digest(f"sha256:{1:064x}")].pieces == (
        Piece(volume=1, offset=len(OPENING) + 529, stored=27, size=10),
    )
