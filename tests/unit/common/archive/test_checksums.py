"""SHA256SUMS, written and read."""

from __future__ import annotations

import pytest

from common.archive import checksums
from common.errors import ContentError

A, B = "a" * 64, "b" * 64


def test_lines_are_sorted_and_read_back():
    raw = checksums.render({"volume-0001.tar.zst": A, "inventory.json": B})
    assert raw == f"{B}  inventory.json\n{A}  volume-0001.tar.zst\n".encode()
    assert checksums.parse(raw) == {"inventory.json": B, "volume-0001.tar.zst": A}


@pytest.mark.parametrize(
    "line",
    [
        f"{A}  ../etc/passwd",
        f"{A}  /etc/passwd",
        f"{A}  a/b",
        f"{A}  .hidden",
        f"{A[:-1]}  x",
        f"{A.upper()}  x",
        "",
        f"{A}  ü",
        f"{A}  ",
    ],
)
def test_other_lines_are_refused(line):
    with pytest.raises(ContentError, match="line 2 is no checksum"):
        checksums.parse(f"{A}  first\n{line}\n".encode())


def test_a_name_that_repeats_is_refused():
    with pytest.raises(ContentError, match="stands there twice"):
        checksums.parse(f"{A}  x\n{B}  x\n".encode())


def test_a_file_beyond_the_limit_is_refused():
    with pytest.raises(ContentError, match="the limit is 67108864"):
        checksums.parse(bytes(checksums.MAX_SIZE + 1))
    with pytest.raises(ContentError, match="cut off"):  # one of the limit is read
        checksums.parse(bytes(checksums.MAX_SIZE))
