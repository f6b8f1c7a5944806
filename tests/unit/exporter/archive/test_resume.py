"""An export that was interrupted goes on: what is whole is not read from its source again."""

from __future__ import annotations

import random

import pytest

from common.archive.direct_io import allocated
from common.archive.frames import BLOCK
from common.archive.layout import PlannedBlob, plan_layout
from common.archive.volume import JOURNAL_NAME
from common.content import Written, verified
from common.oci.image import Descriptor, Hasher, digest_of
from exporter.archive.output import EARLIER
from exporter.archive.writer import ArchiveWriter
from tests.fakes.archives import CUT, write

SIZES = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 2_000_003)
BLOBS = {digest_of(content): content for content in (random.Random(size).randbytes(size) for size in SIZES)}
LARGE = max(CUT.blobs, key=lambda digest: len(CUT.blobs[digest]))
BIG = max(BLOBS, key=lambda digest: len(BLOBS[digest]))


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


class Source:
    """Content that remembers how it was opened, and may break."""

    def __init__(self, digest, breaks_at=None, step=70_000):
        self.digest, self.breaks_at, self.step = digest, breaks_at, step
        self.starts: list[int] = []

    def read(self, start=0, prefix: Hasher | None = None):
        self.starts.append(start)
        blob = described(self.digest)
        return verified(self._chunks(start), blob, prefix, start)

    def _chunks(self, start):
        content = BLOBS[self.digest]
        for position in range(start, len(content), self.step):
            if self.breaks_at is not None and position >= self.breaks_at:
                raise ConnectionError
            yield content[position : position + self.step]


def described(digest):
    return Descriptor("application/octet-stream", digest, len(BLOBS[digest]))


def layout_of(blobs=tuple(BLOBS), volume_size=10_000_000):
    return plan_layout([PlannedBlob(described(digest)) for digest in blobs], 1000, volume_size)


@pytest.mark.parametrize("volume_size", [10_000_000, 600_000])
@pytest.mark.parametrize("breaks_at", [0, 70_000, 1_000_000, 1_960_000])
def test_a_blob_goes_on_from_its_last_whole_block(tmp_path, volume_size, breaks_at):
    layout = layout_of(volume_size=volume_size)
    with ArchiveWriter(tmp_path, layout) as writer, pytest.raises(ConnectionError):
        writer.write(described(BIG), Source(BIG, breaks_at).read)
    second = Source(BIG)
    with ArchiveWriter(tmp_path, layout) as writer:
        assert writer.write(described(BIG), second.read) is Written.COPIED
    (start,) = second.starts
    assert start <= breaks_at + 70_000
    assert start >= breaks_at - 2 * BLOCK - 70_000
    third = Source(BIG)
    with ArchiveWriter(tmp_path, layout) as writer:
        assert writer.write(described(BIG), third.read) is Written.PRESENT
    assert third.starts == []


@pytest.mark.parametrize("digest", list(BLOBS))
def test_what_is_whole_is_not_read_again(tmp_path, digest):
    layout = layout_of()
    with ArchiveWriter(tmp_path, layout) as writer:
        writer.write(described(digest), Source(digest).read)
    again = Source(digest)
    with ArchiveWriter(tmp_path, layout) as writer:
        writer.write(described(digest), again.read)
        others = [each for each in BLOBS if each != digest]
        assert all(writer.write(described(each), Source(each).read) is Written.COPIED for each in others)
    assert again.starts in ([], [0]), "an empty blob costs nothing"
    assert again.starts == ([] if BLOBS[digest] else again.starts)


@pytest.mark.parametrize("where", [0.0, 0.3, 0.7, 1.0])
def test_a_block_that_was_lost_is_noticed_and_the_blob_read_from_its_beginning(tmp_path, where):
    layout = layout_of()
    with ArchiveWriter(tmp_path, layout) as writer:
        writer.write(described(BIG), Source(BIG).read)
    piece = layout.blobs[BIG].pieces[0]
    volume = tmp_path / layout.volumes[piece.volume - 1].name
    with volume.open("r+b") as file:
        file.seek(piece.offset + 100 + int(where * (piece.stored - 5000)))
        file.write(bytes(4096))
    again = Source(BIG)
    with ArchiveWriter(tmp_path, layout) as writer:
        assert writer.write(described(BIG), again.read) is Written.COPIED
    assert len(again.starts) == 1
    final = Source(BIG)
    with ArchiveWriter(tmp_path, layout) as writer:
        assert writer.write(described(BIG), final.read) is Written.PRESENT


def test_a_prefix_that_is_wrong_never_completes_a_blob(tmp_path):
    layout = layout_of()
    with ArchiveWriter(tmp_path, layout) as writer, pytest.raises(ConnectionError):
        writer.write(described(BIG), Source(BIG, 1_000_000).read)
    piece = layout.blobs[BIG].pieces[0]
    with (tmp_path / layout.volumes[piece.volume - 1].name).open("r+b") as file:
        file.seek(piece.offset + 5000)
        file.write(bytes(100))
    from common.errors import ContentError

    again = Source(BIG)
    with ArchiveWriter(tmp_path, layout) as writer:
        with pytest.raises(ContentError):
            writer.write(described(BIG), again.read)
        assert writer.write(described(BIG), again.read) is Written.COPIED
    assert again.starts[-1] == 0


@pytest.mark.parametrize("volume_size", [10_000_000, 700_000])
def test_another_layout_takes_what_is_whole_and_gives_its_room_back(tmp_path, volume_size):
    first = layout_of(volume_size=volume_size)
    with ArchiveWriter(tmp_path, first) as writer:
        for digest in BLOBS:
            writer.write(described(digest), Source(digest).read)
    extra = random.Random("extra").randbytes(300_000)
    BLOBS[digest_of(extra)] = extra
    try:
        second = layout_of([digest_of(extra), *reversed([each for each in BLOBS if each != digest_of(extra)])])
        sources = {digest: Source(digest) for digest in BLOBS}
        with ArchiveWriter(tmp_path, second) as writer:
            assert [path for path in tmp_path.iterdir() if path.name.startswith(EARLIER)]
            for digest in BLOBS:
                writer.write(described(digest), sources[digest].read)
            left = sum(allocated(path) for path in tmp_path.glob(f"{EARLIER}*/volume-*"))
            assert left < 500_000, "moved blobs leave holes"
        assert [digest for digest, source in sources.items() if source.starts and BLOBS[digest]] == [digest_of(extra)]
    finally:
        del BLOBS[digest_of(extra)]


def test_a_third_layout_still_finds_what_the_first_had(tmp_path):
    order = list(BLOBS)
    with ArchiveWriter(tmp_path, layout_of(order)) as writer:
        writer.write(described(BIG), Source(BIG).read)
    with ArchiveWriter(tmp_path, layout_of(order[1:])):
        pass
    source = Source(BIG)
    with ArchiveWriter(tmp_path, layout_of(order[::-1])) as writer:
        assert writer.write(described(BIG), source.read) is Written.PRESENT
    assert source.starts == []


def test_killed_while_old_volumes_are_set_aside(tmp_path):
    order = list(BLOBS)
    with ArchiveWriter(tmp_path, layout_of(order, 900_000)) as writer:
        for digest in BLOBS:
            writer.write(described(digest), Source(digest).read)
    raw = (tmp_path / JOURNAL_NAME).read_bytes()
    aside = tmp_path / f"{EARLIER}00"
    aside.mkdir()
    (aside / JOURNAL_NAME).write_bytes(raw)
    (tmp_path / "volume-0001.tar.zst").rename(aside / "volume-0001.tar.zst")  # and here the process ended
    sources = {digest: Source(digest) for digest in BLOBS}
    with ArchiveWriter(tmp_path, layout_of(order[::-1])) as writer:
        for digest in BLOBS:
            writer.write(described(digest), sources[digest].read)
    assert not [digest for digest, source in sources.items() if source.starts and BLOBS[digest]]


def test_a_resumed_archive_is_the_same_to_the_byte(tmp_path):
    write(tmp_path / "whole", CUT)
    layout = CUT.layout()

    def breaking(_start):
        yield CUT.blobs[LARGE][:500_000]
        raise ConnectionError

    with ArchiveWriter(tmp_path / "resumed", layout) as writer, pytest.raises(ConnectionError):
        writer.write(layout.blobs[LARGE].descriptor, breaking)
    write(tmp_path / "resumed", CUT)
    assert contents(tmp_path / "whole") == contents(tmp_path / "resumed")
