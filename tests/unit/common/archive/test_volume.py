"""Tar headers, first entry, end mark and footer, byte by byte."""

from __future__ import annotations

import io
import tarfile

import pytest
import zstandard

from common.archive import volume
from common.archive.volume import CLOSING_SIZE, FOOTER_SIZE, Footer
from common.errors import ArchiveError, ContentError
from common.oci.image import Digest, digest_of

HEX = "ab" * 32
FILE_SIZE = 10_000
FOOTER = Footer(2, 3, 2000, 3000, 400, Digest("sha256:" + HEX))


def _content(frames: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(frames), read_across_frames=True).read()


def test_names():
    digest = Digest("sha256:" + HEX)
    assert volume.volume_name(1) == "volume-0001.tar.zst"
    assert volume.volume_name(12345) == "volume-12345.tar.zst"
    assert volume.entry_name(digest) == f"blobs/sha256/{HEX}"
    assert volume.entry_name(digest, 2, 3) == f"blobs/sha256/{HEX}.piece-002-of-003"


@pytest.mark.parametrize("size", [0, 1, 512, 8 * 1024**3 - 1, 8 * 1024**3, 1 << 42])
def test_python_reads_our_headers(size):
    header = volume.entry_header("blobs/sha256/" + HEX, size)
    with tarfile.open(fileobj=io.BytesIO(header + bytes(1024))) as tar:
        (entry,) = tar.getmembers() if size == 0 else [tar.next()]
    assert (entry.name, entry.size, entry.mode, entry.uid, entry.gid, entry.mtime) == (
        "blobs/sha256/" + HEX,
        size,
        0o644,
        0,
        0,
        0,
    )
    assert (entry.uname, entry.gname, entry.isreg()) == ("", "", True)
    assert ("size" in entry.pax_headers) == (size >= 8 * 1024**3)
    assert len(volume.header_frame("x", size)) == volume.header_frame_size(size)
    assert _content(volume.header_frame("blobs/sha256/" + HEX, size)) == header


@pytest.mark.parametrize(
    ("digits", "number"), [(b"00000000017", 15), (b"00000000019", None), (b"0000000 017", None), (b"", None)]
)
def test_a_number_of_a_header_is_octal(digits, number):
    assert volume.octal(digits) == number


def test_a_name_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        volume.tar_header("x" * 101, 1)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_padding(size):
    frame = volume.padding_frame(size)
    assert len(frame) == volume.padding_frame_size(size)
    assert (size + len(_content(frame))) % 512 == 0
    assert (frame == b"") == (size % 512 == 0)


def test_every_volume_begins_with_a_zstandard_frame_of_the_entry_oci_layout():
    assert volume.OPENING.startswith(bytes.fromhex("28b52ffd"))
    with tarfile.open(fileobj=io.BytesIO(_content(volume.OPENING) + _content(volume.END_MARK))) as tar:
        assert tar.getnames() == ["oci-layout"]
        assert tar.extractfile("oci-layout").read() == b'{"imageLayoutVersion":"1.0.0"}'


def test_the_footer_has_the_bytes_of_the_format():
    raw = FOOTER.pack()
    assert len(raw) == FOOTER_SIZE == 80
    assert raw[:8] == bytes.fromhex("5b2a4d18") + (72).to_bytes(4, "little")
    assert raw[8:16] == b"HUBVOL\x00\x01"
    numbers = [(16, 4, 2), (20, 4, 3), (24, 8, 2000), (32, 8, 3000), (40, 8, 400)]
    assert all(int.from_bytes(raw[at : at + size], "little") == value for at, size, value in numbers)
    assert raw[48:].hex() == HEX
    assert Footer.unpack(raw, FILE_SIZE) == FOOTER
    assert _raw(bytes(1024)) == volume.END_MARK


def _raw(content: bytes) -> bytes:
    return (
        bytes.fromhex("28b52ffdc038")
        + len(content).to_bytes(8, "little")
        + (len(content) << 3 | 1).to_bytes(3, "little")
        + content
    )


@pytest.mark.parametrize("at", range(15))
def test_a_flipped_bit_in_the_fixed_part_is_no_footer(at):
    raw = bytearray(FOOTER.pack())
    raw[at] ^= 1
    with pytest.raises(ContentError, match="no footer"):
        Footer.unpack(bytes(raw), FILE_SIZE)


def test_a_short_footer_is_none():
    with pytest.raises(ContentError, match="no footer"):
        Footer.unpack(FOOTER.pack()[1:], FILE_SIZE)


def test_a_later_version_is_named():
    raw = bytearray(FOOTER.pack())
    raw[15] = 2
    with pytest.raises(ArchiveError, match="format version 2; this program reads version 1") as raised:
        Footer.unpack(bytes(raw), FILE_SIZE)
    assert "reads format version 2" in raised.value.hint


@pytest.mark.parametrize(
    "numbers",
    [
        (0, 3, 2000, 3000, 400),
        (4, 3, 2000, 3000, 400),
        (1, 100_001, 2000, 3000, 400),
        (1, 1, 1040, 3000, 400),
        (1, 1, 3000, 3000, 400),
        (1, 1, 2000, 3000, 0),
        (1, 1, 2000, 3000, FILE_SIZE - CLOSING_SIZE - 3000 + 1),
        (1, 1, 2000, 2**63, 2**63),
        (1, 1, 2**64 - 1, 2**64 - 1, 2**64 - 1),
    ],
)
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ContentError, match="its footer"):
        Footer.unpack(Footer(*numbers, digest_of(b"")).pack(), FILE_SIZE)
