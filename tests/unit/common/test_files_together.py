"""Several files that belong together: all are written, or none, and an error names the file that the caller wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.files import write_all_atomic, write_together


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_that_fails_leaves_all_as_they_were(tmp_path, small_files) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with small_files(1000), pytest.raises(OSError) as raised:
        write_all_atomic({tmp_path / "a": b"new", tmp_path / "b": b"x" * 2000})
    assert raised.value.filename == str(tmp_path / "b")
    assert contents(tmp_path) == {"a": b"old"}
    write_all_atomic({tmp_path / "a": b"new", tmp_path / "b": b"x" * 2000})
    assert contents(tmp_path) == {"a": b"new", "b": b"x" * 2000}


def test_of_new_files_none_is_left(tmp_path, small_files) -> None:
    files = {tmp_path / "key": (b"secret", 0o600), tmp_path / "pub": (b"x" * 2000, 0o644)}
    with small_files(1000), pytest.raises(OSError) as raised:
        write_together(files)
    assert raised.value.filename == str(tmp_path / "pub")
    assert contents(tmp_path) == {}
    write_together(files)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_there_stays(tmp_path) -> None:
    """Also where it appeared after the look: O_EXCL of open(2)."""
    (tmp_path / "pub").write_bytes(b"of others")
    with pytest.raises(FileExistsError):
        write_together({tmp_path / "key": (b"secret", 0o600), tmp_path / "pub": (b"x", 0o644)})
    assert contents(tmp_path) == {"pub": b"of others"}
