"""An archive of format version 1, kept as bytes: today's reader reads it, today's writer makes the same from the same input.

`archive-v1.tar.xz` holds the files of the archive as they were written when the version was defined. It is never made anew for
the same version: other people's media depend on it. `python -m tests.golden.test_golden_archive` writes the one of a new version.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest

from common.archive.reader import Archive
from common.oci.image import Digest, digest_of
from importer.archive.verify import verify
from tests.fakes.archives import Content, noise, write

KEPT = Path(__file__).with_name("archive-v1.tar.xz")
IDENTITY = Digest("sha256:7ee366aa7763f99cd1197c0e3072146a3ba542102d9dfbfe393f801cd96cbe06")


def _pattern(seed: str, size: int) -> bytes:
    """Return content that compresses well, so that the kept file is small."""
    line = noise(seed, 64)
    return (line * (size // 64 + 1))[:size]


MISSING = _pattern("missing", 5000)
CONTENT = Content(
    images={
        "registry.test/small@sha256:" + "1" * 64: [_pattern("small", 1000)],
        "registry.test/cut:v1": [_pattern("cut", 700_001), b""],
        "registry.test/block:v1": [_pattern("block", 131_072)],
        "registry.test/incomplete:v1": [_pattern("small", 1000), MISSING],
        "dir:not a name": [_pattern("aligned", 1024)],
    },
    missing=frozenset({digest_of(MISSING)}),
    bound=20_000,
    volume_size=400_000,
    extra={"report.html": b"<!doctype html><title>report</title>\n"},
)


@pytest.fixture
def kept(tmp_path) -> Path:
    with tarfile.open(KEPT) as tar:
        tar.extractall(tmp_path / "kept", filter="data")
    return tmp_path / "kept"


def test_the_kept_archive_is_small():
    assert KEPT.stat().st_size < 100_000


def test_todays_reader_reads_it(kept):
    archive = Archive.open([kept])
    assert archive.digest == IDENTITY
    assert archive.present == ("volume-0001.tar.zst", "volume-0002.tar.zst", "volume-0003.tar.zst")
    for digest, blob in CONTENT.blobs.items():
        if digest not in CONTENT.missing:
            assert b"".join(bytes(chunk) for chunk in archive.content(digest)) == blob
    assert {digest: archive.manifest(digest) for digest in CONTENT.manifests} == CONTENT.manifests
    result = verify(archive)
    assert result.ok, result.damage


def test_todays_writer_makes_the_same_bytes(kept, tmp_path):
    write(tmp_path / "new", CONTENT)
    assert _files(tmp_path / "new") == _files(kept)


def _files(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def _keep(directory: Path) -> None:
    finished = write(directory, CONTENT)
    print(finished.inventory)
    with tarfile.open(KEPT, "x:xz", preset=9) as tar:
        for path in sorted(finished.files):
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            tar.addfile(entry, io.BytesIO(path.read_bytes()))


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
