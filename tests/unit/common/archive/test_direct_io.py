"""Positioned reads and writes, reserving, clearing and reading back, on the file system of the temporary directory."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from pathlib import Path

import pytest

from common.archive import direct_io
from common.errors import ContentError, InterruptedByUserError
from common.oci.image import Hasher, digest_of
from tests.fakes.archives import noise


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


@pytest.fixture
def file(path):
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    yield handle
    os.close(handle)


def test_write_all_puts_parts_side_by_side(file):
    direct_io.write_all(file, [b"ab", memoryview(b"cde"), b"", b"f"], 10)
    assert os.pread(file, 100, 0) == bytes(10) + b"abcdef"


def test_short_writes_and_reads_are_continued():
    content = noise("pipe", 100)
    assert b"".join(direct_io._after([content[:30], content[30:]], 40)) == content[40:]
    assert b"".join(direct_io._after([content[:30], content[30:]], 30)) == content[30:]
    assert direct_io._after([content], 100) == []


def test_reading_beyond_the_end_is_an_error(file):
    direct_io.write_all(file, [b"abc"], 0)
    assert direct_io.read_exactly(file, 3, 0) == b"abc"
    with pytest.raises(ContentError, match="ends at byte 3, wanted 4"):
        direct_io.read_exactly(file, 3, 1)
    with pytest.raises(ContentError, match="ends at byte 3, wanted 5"):
        direct_io.read_into(file, [memoryview(bytearray(2)), memoryview(bytearray(3))], 0)


def test_preallocated_bytes_read_as_zeros(file):
    if not direct_io.preallocate(file, 100_000):
        pytest.skip("this file system cannot reserve")
    assert os.pread(file, 200_000, 0) == bytes(100_000)
    assert os.fstat(file).st_blocks * 512 >= 100_000


def test_preallocating_more_than_the_free_space_raises(file):
    with pytest.raises(OSError) as raised:
        if not direct_io.preallocate(file, 1 << 60):
            pytest.skip("this file system cannot reserve")
    assert raised.value.errno in (errno.ENOSPC, errno.EFBIG)


@pytest.mark.parametrize(("offset", "length"), [(0, 100_000), (1, 5), (4000, 9000), (90_000, 20_000), (0, 0)])
def test_zero_clears_a_range_and_nothing_else(file, offset, length):
    content = noise("zero", 100_000)
    os.pwrite(file, content, 0)
    direct_io.zero(file, offset, length)
    wanted = bytearray(content) + bytes(max(offset + length - len(content), 0))
    wanted[offset : offset + length] = bytes(length)
    assert os.pread(file, 200_000, 0) == wanted


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (5, 1), (1000, 2_500_000)])
def test_zeros_are_written_where_there_are_no_holes(file, offset, length):
    os.pwrite(file, noise("zero", 3_000_000), 0)
    direct_io.write_zeros(file, offset, length)
    wanted = noise("zero", 3_000_000)
    assert os.pread(file, 4_000_000, 0) == wanted[:offset] + bytes(length) + wanted[offset + length :]


def test_a_file_system_without_fallocate_is_no_error():
    sealed = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    try:
        fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        assert direct_io.preallocate(sealed, 1000) is False
    finally:
        os.close(sealed)


def test_a_partial_write_is_continued_until_it_fails(file, small_files):
    with small_files(5000), pytest.raises(OSError) as raised:
        direct_io.write_all(file, [bytes(3000), b"x" * 3000], 0)
    assert raised.value.errno == errno.EFBIG
    assert os.pread(file, 10_000, 0) == bytes(3000) + b"x" * 2000


def test_read_back_without_o_direct():
    path = Path("/proc/version")
    content, hasher = path.read_bytes(), Hasher()
    with pytest.raises(OSError, match="Invalid argument"):
        os.open(path, os.O_RDONLY | os.O_DIRECT)
    direct_io.read_back(path, 3, len(content), hasher, lambda _: None)
    assert hasher.digest() == digest_of(content[3:])


@pytest.mark.parametrize(("start", "end"), [(0, 9_000_000), (1, 9_000_000), (4096, 8_999_999), (5_000_001, 5_000_002), (7, 7)])
def test_read_back_hashes_a_range(path, file, start, end):
    content = noise("back", 9_000_000)
    os.pwrite(file, content, 0)
    os.fsync(file)
    hasher, told = Hasher(), []
    direct_io.read_back(path, start, end, hasher, told.append)
    assert hasher.digest() == digest_of(content[start:end])
    assert sum(told) == end - start


def test_read_back_continues_a_hash(path, file):
    os.pwrite(file, b"abcdef", 0)
    os.fsync(file)
    hasher = Hasher()
    direct_io.read_back(path, 0, 2, hasher, lambda _: None)
    direct_io.read_back(path, 2, 6, hasher, lambda _: None)
    assert hasher.digest() == "sha256:" + hashlib.sha256(b"abcdef").hexdigest()


def test_read_back_of_a_short_file_is_an_error(path, file):
    os.pwrite(file, bytes(5000), 0)
    with pytest.raises(ContentError, match="file: ends at byte 5000 when read back, wanted 5001"):
        direct_io.read_back(path, 0, 5001, Hasher(), lambda _: None)


def test_read_back_stops_when_advance_raises(path, file):
    os.pwrite(file, bytes(5000), 0)

    def stop(_: int) -> None:
        raise InterruptedByUserError("stopped")

    with pytest.raises(InterruptedByUserError):
        direct_io.read_back(path, 0, 5000, Hasher(), stop)


def test_read_back_follows_no_link(path, file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(OSError) as raised:
        direct_io.read_back(link, 0, 0, Hasher(), lambda _: None)
    assert raised.value.errno == errno.ELOOP
