import gzip as reference_gzip
import time
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ContentError
from common.oci.compression import MAX_LAYER_WINDOW, decompressed, gzip, without_codings

CONTENT = b"operator " * 50_000


def pieces(content, size=1000):
    return [content[i : i + size] for i in range(0, len(content), size)]


@pytest.mark.parametrize(
    "packed",
    [
        CONTENT,
        reference_gzip.compress(CONTENT),
        zstandard.compress(CONTENT),
        b"".join(map(reference_gzip.compress, pieces(CONTENT, 90_000))),
    ],
    ids=["plain", "gzip", "zstd", "gzip members"],
)
def test_reads_streams_of_other_tools(packed):
    assert b"".join(decompressed(pieces(packed), len(CONTENT))) == CONTENT


@pytest.mark.parametrize("pack", [bytes, reference_gzip.compress, zstandard.compress])
def test_growth_is_bounded(pack):
    with pytest.raises(ContentError, match="grows past its limit of 1000 bytes"):
        list(decompressed(pieces(pack(CONTENT)), 1000))


@pytest.mark.parametrize(("log", "fits"), [(25, True), (26, False)])
def test_windows_of_zstd_have_a_limit(log, fits):
    """Go's encoder made 16 and 32 MiB until 2024 (klauspost/compress#913); a header of a few bytes may claim terabytes."""
    parameters = zstandard.ZstdCompressionParameters(window_log=log)
    packing = zstandard.ZstdCompressor(compression_params=parameters).compressobj()  # without a content size, so with a window
    packed = packing.compress(CONTENT) + packing.flush()
    assert (1 << log == MAX_LAYER_WINDOW) == fits
    # As much as a decoder has to support (RFC 8878, 3.1.1.1.2; RFC 9659 for HTTP).
    with pytest.raises(ContentError, match="broken"):
        list(without_codings([packed], ["zstd"], len(CONTENT)))
    if fits:
        assert b"".join(decompressed([packed], len(CONTENT))) == CONTENT
        return
    with pytest.raises(ContentError, match="broken"):
        list(decompressed([packed], len(CONTENT)))


@pytest.mark.parametrize("pack", [reference_gzip.compress, zstandard.compress])
def test_a_broken_stream_is_an_error(pack):
    packed = bytearray(pack(bytes(range(256)) * 100))
    packed[40] ^= 0xFF
    packed[-1] ^= 0xFF
    with pytest.raises(ContentError, match="broken"):
        list(decompressed([bytes(packed)], 1 << 20))


@pytest.mark.parametrize("pack", [reference_gzip.compress, zstandard.compress])
def test_a_short_stream_is_an_error(pack):
    with pytest.raises(ContentError, match="ends early"):
        list(decompressed([pack(CONTENT)[:-20]], 1 << 20))


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip), ("deflate", zlib.compress)])
def test_empty_members_take_time_in_proportion_to_their_number(coding, pack):
    """Each ends a stream, and what follows it was copied: a second for each MiB, of which zstd makes any number from nothing."""
    empty = pack(b"")
    began_s = time.process_time()
    assert b"".join(without_codings([empty * (2**20 // len(empty))], [coding], 0)) == b""
    assert time.process_time() - began_s < 0.7


def test_gzip_is_reproducible_and_standard():
    assert gzip(CONTENT) == gzip(CONTENT)
    assert reference_gzip.decompress(gzip(CONTENT)) == CONTENT


@given(st.binary(max_size=2000), st.integers(1, 300))
def test_any_cut_gives_the_same(content, size):
    assert b"".join(decompressed(pieces(gzip(content), size), 2000)) == content
