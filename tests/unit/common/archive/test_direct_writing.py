"""Writing past the page cache: bytes are at their position on every way, and their neighbours stay as they are."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from common.archive.direct_io import ALIGNMENT, STEP, Buffers, CachedWriter, DirectWriter, open_direct
from tests.fakes.archives import noise

LENGTHS = (1, ALIGNMENT - 1, ALIGNMENT, ALIGNMENT + 1, 3 * ALIGNMENT, STEP - 1, STEP, STEP + 1, 2 * STEP + 5000)
BEGINNINGS = (0, 1, ALIGNMENT - 1, ALIGNMENT, 10_000)


@pytest.fixture(name="path")
def _path(tmp_path):
    path = tmp_path / "volume"
    path.write_bytes(b"-" * (3 * STEP + 30_000))
    return path


@pytest.fixture(name="file")
def _file(path):
    file = os.open(path, os.O_RDWR)
    yield file
    os.close(file)


@pytest.fixture(name="direct")
def _direct(path):
    direct = open_direct(path)
    if direct is None:
        pytest.skip("this file system has no direct access")
    yield direct
    os.close(direct)


@pytest.mark.parametrize("begin", BEGINNINGS)
@pytest.mark.parametrize("length", LENGTHS)
def test_written_bytes_are_at_their_position(path, file, direct, begin, length):
    content = noise("staged", length)
    run = DirectWriter(file, direct, begin, Buffers())
    for start in range(0, length, 70_001):
        run.write([content[start : start + 3], memoryview(content)[start + 3 : start + 70_001]])
    run.close()
    wanted = b"-" * begin + content
    assert path.read_bytes() == wanted + b"-" * (3 * STEP + 30_000 - len(wanted))


def test_neighbours_that_share_a_page_keep_their_bytes(path, file, direct):
    buffers = Buffers()
    first, second = DirectWriter(file, direct, 100, buffers), DirectWriter(file, direct, 100 + STEP + 50, buffers)
    parts = noise("first", STEP + 50), noise("second", STEP)
    second.write([parts[1]])
    first.write([parts[0]])
    first.close()
    second.close()
    assert path.read_bytes()[: 100 + 2 * STEP + 50] == b"-" * 100 + b"".join(parts)


def test_only_whole_pages_go_past_the_cache(path, file, direct, tmp_path):
    """The run writes its whole pages through `direct`: led elsewhere, they are missing where they belong."""
    (tmp_path / "elsewhere").write_bytes(bytes(3 * STEP))
    elsewhere = os.open(tmp_path / "elsewhere", os.O_RDWR)
    content = noise("whole", STEP)
    run = DirectWriter(file, elsewhere, 5000, Buffers())
    run.write([content])
    run.close()
    os.close(elsewhere)
    first, last = 2 * ALIGNMENT, (5000 + STEP) // ALIGNMENT * ALIGNMENT
    assert (tmp_path / "elsewhere").read_bytes()[first:last] == content[first - 5000 : last - 5000]
    here = path.read_bytes()
    assert here[5000:first] == content[: first - 5000]
    assert here[first:last] == b"-" * (last - first)
    assert here[last : 5000 + STEP] == content[last - 5000 :]


def test_a_refused_direct_write_goes_through_the_cache(path, file):
    refusing = os.open("/proc/self/oom_score_adj", os.O_WRONLY)  # takes no pages: EINVAL
    with pytest.raises(OSError, match="Invalid argument"):
        os.pwrite(refusing, bytes(ALIGNMENT), 0)
    content = noise("refused", STEP)
    run = DirectWriter(file, refusing, 0, Buffers())
    run.write([content])
    run.close()
    os.close(refusing)
    assert path.read_bytes()[:STEP] == content


def test_other_errors_are_raised(file, path):
    readable = os.open(path, os.O_RDONLY)
    run = DirectWriter(file, readable, 0, Buffers())
    with pytest.raises(OSError) as caught:
        run.write([bytes(STEP)])
    assert caught.value.errno == errno.EBADF
    os.close(readable)


def test_a_cached_writer_appends(path, file):
    run = CachedWriter(file, 7)
    run.write([b"ab", b"c"])
    run.write([b"de"])
    run.close()
    assert path.read_bytes()[:14] == b"-------abcde--"


def test_buffers_are_reused():
    buffers = Buffers()
    first = buffers.take()
    assert buffers.take() is not first
    buffers.give(first)
    assert buffers.take() is first


def test_no_direct_file_where_o_direct_is_refused():
    assert open_direct(Path("/proc/self/oom_score_adj")) is None
