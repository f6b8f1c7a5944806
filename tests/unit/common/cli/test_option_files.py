"""Files that an option names as a whole: text, of a bounded size, whatever the path leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.cli.options import MAX_TEXT, read_text
from common.errors import UsageError


def test_a_text_of_the_largest_size_is_read(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("a" * MAX_TEXT)
    assert read_text(path, "--ca") == "a" * MAX_TEXT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff", "it is no text"),
        (b"a" * (MAX_TEXT + 1), "more than 1048576 characters"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_usage_error(tmp_path, content, said):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as raised:
        read_text(path, "--ca")
    assert raised.value.hint == "Name another file with --ca."


def test_a_device_without_end_is_not_read_to_its_end():
    with pytest.raises(UsageError, match="more than"):
        read_text(Path("/dev/zero"), "--ca")
