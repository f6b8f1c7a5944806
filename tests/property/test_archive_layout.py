"""Any plan has a layout that keeps every rule of the format, or is refused with a size that works."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from common.archive.frames import BLOCK, position, raw_frame_size
from common.archive.inventory import Encoding
from common.archive.layout import PlannedBlob, plan_layout
from common.archive.volume import OPENING, extent, header_frame_size, padding_frame_size
from common.errors import UsageError
from common.oci.image import Descriptor, Digest

GIB = 1024**3
SIZES = st.one_of(
    st.integers(0, 5 * BLOCK),
    st.integers(0, 20 * GIB),
    st.sampled_from([0, 1, 512, BLOCK - 1, BLOCK, BLOCK + 1, 8 * GIB - 1, 8 * GIB, 8 * GIB + 1]),
)


MOST = 300  # volumes that a plan is spread over, more or less


@st.composite
def plans(draw):
    """Draw blobs, what the metadata takes, and a size of volumes that makes many of them, or one."""
    blobs = []
    for number, size in enumerate(draw(st.lists(SIZES, max_size=30))):
        descriptor = Descriptor("x/y", Digest(f"sha256:{number:064x}"), size)
        if size < GIB and draw(st.booleans()):
            blobs.append(PlannedBlob(descriptor, Encoding.ZSTD, draw(st.integers(13, size + 100))))
        else:
            blobs.append(PlannedBlob(descriptor))
    least = sum(blob.descriptor.size for blob in blobs) // MOST
    more = draw(st.one_of(st.integers(0, 30_000_000), st.integers(0, 40 * GIB)))
    return blobs, draw(st.integers(0, 10_000_000)), least + more


def laid_out(blobs, bound, volume_size):
    """Return a layout, and the volume size that it took."""
    try:
        return plan_layout(blobs, bound, volume_size), volume_size
    except UsageError as error:
        smallest = int(error.hint.removesuffix(".").rpartition(" ")[2])
        assert smallest > volume_size
        return plan_layout(blobs, bound, smallest), smallest


@settings(deadline=None)
@given(plans())
def test_every_place_keeps_the_rules(plan):
    blobs, bound, volume_size = plan
    layout, volume_size = laid_out(blobs, bound, volume_size)
    assert list(layout.blobs) == [blob.descriptor.digest for blob in blobs]
    ends = [len(OPENING)] * len(layout.volumes)
    last = 1
    for blob in blobs:
        placed = layout.blobs[blob.descriptor.digest]
        assert sum(piece.size for piece in placed.pieces) == blob.descriptor.size
        assert [p.volume for p in placed.pieces] == list(
            range(placed.pieces[0].volume, placed.pieces[0].volume + len(placed.pieces))
        )
        for piece in placed.pieces:
            start, end = extent(piece)
            assert start == ends[piece.volume - 1]  # side by side, from the first entry on
            ends[piece.volume - 1] = end
            assert piece.volume >= last
            last = piece.volume
        assert all(p.size % BLOCK == 0 and p.size for p in placed.pieces[:-1])
        if placed.encoding is Encoding.RAW:
            assert all(p.stored == raw_frame_size(p.size) for p in placed.pieces)
        else:
            assert [p.stored for p in placed.pieces] == [blob.stored]
        limit = volume_size - layout.reserve
        if len(placed.pieces) > 1:  # only what fits in no empty volume is cut
            whole = blob.stored if blob.encoding is Encoding.ZSTD else raw_frame_size(blob.descriptor.size)
            size = blob.descriptor.size
            assert len(OPENING) + header_frame_size(size) + whole + padding_frame_size(size) > limit
    assert [volume.data_size for volume in layout.volumes] == ends
    assert all(end + layout.reserve <= volume_size for end in ends)
    assert layout.reserve >= bound


@given(st.integers(0, 1 << 42), st.data())
def test_position_is_within_the_frame_and_grows(size, data):
    if size:
        index = data.draw(st.integers(0, size - 1))
        assert 17 <= position(index) < raw_frame_size(size)
        assert position(index + 1) - position(index) in (1, 4)
        assert position(size - 1) == raw_frame_size(size) - 1
