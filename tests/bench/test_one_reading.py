"""Bytes that are read from volumes: each once, where two hashes are taken of it (ADR 0084)."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path

import pytest

from common.archive.layout import PlannedBlob, plan_layout
from common.archive.reader import ArchiveReader
from common.content import Written
from common.oci.image import Descriptor, digest_of
from common.oci.media_types import OCI_LAYER_GZIP
from exporter.archive import early_reading
from exporter.archive.writer import ArchiveWriter
from importer.archive.verify import verify
from tests.fakes.archives import CONFIG, Content, chunks_of, described, noise, write

MIB = 1024 * 1024
LAYERS = [noise(f"layer {number}", size) for number, size in enumerate((3 * MIB, 70_000, 5 * MIB, 1, MIB, 200, 4 * MIB))]
WHOLE = Content({"registry.test/app:v1": LAYERS})
SPLIT = dataclasses.replace(WHOLE, volume_size=6 * MIB)  # blobs of which are cut at the end of a volume
FEW = MIB  # headers, metadata, what Python reads


def bytes_read() -> int:
    """Return how many bytes this process has read from files."""
    return int(next(line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar")).split()[1])


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("volume-*"))


def fill(directory: Path, content: Content, *, last: int | None = None) -> None:
    """Write the blobs of an archive and leave it unfinished; of the last blob only `last` bytes."""
    *first, end = content.blobs.values()
    with ArchiveWriter(directory, content.layout()) as writer:
        for blob in first:
            writer.write(described(blob), chunks_of(blob))
        if last is None:
            writer.write(described(end), chunks_of(end))
        else:
            with pytest.raises(ConnectionError):
                writer.write(described(end), lambda _start=0, _prefix=None: breaking(end[:last]))


def breaking(content: bytes):
    yield content
    raise ConnectionError


def finish(directory: Path, content: Content, *, early: bool = False) -> list[Written]:
    """Take an archive up; return what became of its blobs. `early`: its volumes are read while it is planned."""
    layout = content.layout()
    with (
        early_reading.begun(directory) if early else nullcontext() as reading,
        ArchiveWriter(directory, layout, reading=reading) as writer,
    ):
        done = [writer.write(described(blob), chunks_of(blob)) for blob in content.blobs.values()]
        writer.finish(content.closing(layout))
    return done


def test_verification_reads_every_byte_once(tmp_path):
    write(tmp_path, WHOLE)
    before = bytes_read()
    assert verify(ArchiveReader.open_untrusted([tmp_path])).ok
    assert size_of(tmp_path) <= bytes_read() - before <= size_of(tmp_path) + FEW


@pytest.mark.parametrize("early", [False, True], ids=["after the plan", "while it is made"])
@pytest.mark.parametrize("content", [WHOLE, SPLIT], ids=["one volume", "split blobs"])
def test_what_an_interrupted_export_wrote_is_read_once(tmp_path, content, early):
    write(tmp_path / "straight", content)
    fill(tmp_path / "killed", content)
    before = bytes_read()
    assert set(finish(tmp_path / "killed", content, early=early)) == {Written.PRESENT}
    assert size_of(tmp_path / "killed") <= bytes_read() - before <= size_of(tmp_path / "killed") + FEW
    for path in (tmp_path / "straight").iterdir():
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("content", [WHOLE, SPLIT], ids=["one volume", "split blobs"])
def test_only_the_blob_that_was_interrupted_is_read_again(tmp_path, content):
    write(tmp_path / "straight", content)
    fill(tmp_path / "killed", content, last=3 * MIB)
    before = bytes_read()
    assert finish(tmp_path / "killed", content).count(Written.COPIED) == 1
    # Its bytes, and the rest of the step in which they begin: once for the digest, once behind the last byte that was written.
    assert bytes_read() - before <= size_of(tmp_path / "killed") + len(LAYERS[-1]) + 4 * MIB
    for path in (tmp_path / "straight").iterdir():
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()


def test_an_empty_blob_without_its_entry_is_not_complete(tmp_path):
    """Its digest is that of nothing: the entry, header and block, has to be there."""
    content = Content({"registry.test/app:v1": [b"", noise("one", 300_000)]})
    write(tmp_path / "straight", content)
    layout = content.layout()
    with ArchiveWriter(tmp_path / "killed", layout) as writer:
        writer.write(described(CONFIG), chunks_of(CONFIG))
    assert finish(tmp_path / "killed", content).count(Written.COPIED) == 2
    for path in (tmp_path / "straight").iterdir():
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()


def test_a_damaged_blob_is_written_again_and_the_checksum_is_right(tmp_path):
    """The checksum was taken of the damaged bytes while their digest was not known yet."""
    write(tmp_path / "straight", WHOLE)
    fill(tmp_path / "killed", WHOLE)
    place = WHOLE.layout().blobs[described(LAYERS[2]).digest].pieces[0]
    with (tmp_path / "killed" / "volume-0001.tar.zst").open("r+b") as file:
        file.seek(place.offset + 4 * MIB)
        file.write(b"damage")
    assert finish(tmp_path / "killed", WHOLE).count(Written.COPIED) == 1
    for path in (tmp_path / "straight").iterdir():
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()


def test_places_that_were_not_reached_cost_a_small_read_each(tmp_path):
    """Not a step of 2 MiB: an export that was interrupted at its beginning has reserved all of its bytes."""
    blobs = [PlannedBlob(Descriptor(OCI_LAYER_GZIP, digest_of(bytes([number])), 8 * MIB)) for number in range(32)]
    layout = plan_layout(blobs, 1000, 100 * MIB)
    for _ in range(2):
        before = bytes_read()
        with ArchiveWriter(tmp_path, layout):
            read = bytes_read() - before
    assert read <= 3 * 4 * MIB + FEW, "at most the first steps of three volumes"
