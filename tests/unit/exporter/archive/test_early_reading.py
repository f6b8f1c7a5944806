"""What an interrupted export wrote is read while the plan is made: believed only with the same journal and the same volumes."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from common.archive import frames
from common.archive.frames import BLOCK, block_header, position, raw_frame_header
from common.archive.inventory import Encoding, VolumeRecord
from common.archive.layout import PlannedBlob, plan_layout
from common.archive.volume import JOURNAL_NAME, OPENING, entry_name, header_frame, padding_frame
from common.content import Written
from common.errors import InUseError, UsageError
from common.files import locked
from common.oci.image import Descriptor, Digest, digest_of
from common.oci.media_types import OCI_LAYER_GZIP
from exporter.archive import early_reading
from exporter.archive.output import LOCK, PART, read_journal, write_journal
from exporter.archive.resume import left_behind
from exporter.archive.writer import ArchiveWriter
from tests.fakes.archives import CONFIG, CUT, Content, chunks_of, described, noise, write

MIB = 1024 * 1024
LAYERS = [noise(f"early {number}", size) for number, size in enumerate((3 * MIB, 70_000, 5 * MIB, 1, MIB, 200))]
WHOLE = Content({"registry.test/app:v1": LAYERS})
SPLIT = dataclasses.replace(WHOLE, volume_size=4 * MIB)
FIRST = "volume-0001.tar.zst"


class Shown:
    """Progress that is noted."""

    def __init__(self):
        self.steps = []

    def begin(self, what, total, unit="bytes", *, kept=False):
        del unit, kept
        self.steps.append([what, total, 0, 0])

    def advance(self, size, item="", *, moved=True):
        del item
        assert size > 0 or not moved, "it never goes back, and nothing is counted twice"
        self.steps[-1][2] += size
        self.steps[-1][3] += size if moved else 0

    def end(self):
        """Nothing is noted."""


def fill(directory, content, count=None):
    """Write the first blobs of an archive, and leave it unfinished."""
    with ArchiveWriter(directory, content.layout()) as writer:
        for blob in list(content.blobs.values())[:count]:
            writer.write(described(blob), chunks_of(blob))


def taken_up(directory, content, during=lambda _reading: None, progress=None):
    """Continue an archive whose volumes are read early; return what became of its blobs. `during`: while it is planned."""
    layout = content.layout()
    with early_reading.begun(directory) as reading:
        during(reading)
        with ArchiveWriter(directory, layout, progress=progress, reading=reading) as writer:
            done = [writer.write(described(blob), chunks_of(blob)) for blob in content.blobs.values()]
            writer.finish(content.closing(layout))
    return done


def same(one, other):
    return {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def until_read(reading):
    reading._found.exception()


@pytest.mark.parametrize("wait", [until_read, lambda _reading: None], ids=["read before the plan", "read after it"])
@pytest.mark.parametrize("content", [WHOLE, SPLIT], ids=["one volume", "split blobs"])
@pytest.mark.parametrize("count", [None, 4, 0])
def test_what_is_there_is_not_written_again(tmp_path, content, count, wait):
    write(tmp_path / "straight", content)
    fill(tmp_path / "killed", content, count)
    done = taken_up(tmp_path / "killed", content, wait)
    assert done.count(Written.PRESENT) == len(list(content.blobs)[:count])
    assert same(tmp_path / "straight", tmp_path / "killed")


def test_progress_counts_every_byte_once_and_those_read_before_not_for_the_rate(tmp_path):
    fill(tmp_path, WHOLE)
    size, shown = sum(volume.data_size for volume in WHOLE.layout().volumes), Shown()
    taken_up(tmp_path, WHOLE, until_read, shown)
    assert shown.steps[0] == ["reading what an interrupted export wrote", size, size, 0]


def test_without_an_interrupted_export_there_is_nothing_to_read(tmp_path):
    with early_reading.begun(tmp_path) as reading:
        assert reading is None
    assert not list(tmp_path.iterdir()), "not even a lock"


def test_a_finished_archive_is_not_read(tmp_path):
    write(tmp_path, CUT)
    with early_reading.begun(tmp_path) as reading:
        assert reading is None


def test_nothing_is_read_while_another_process_writes(tmp_path):
    fill(tmp_path, WHOLE)
    with locked(tmp_path / LOCK, "it"), pytest.raises(InUseError, match="in use by another process"):
        taken_up(tmp_path, WHOLE)


def test_the_lock_is_held_while_the_plan_is_made_and_released_after_it(tmp_path):
    fill(tmp_path, WHOLE)
    with early_reading.begun(tmp_path), pytest.raises(InUseError, match="in use by another process"):
        fill(tmp_path, WHOLE)
    assert set(taken_up(tmp_path, WHOLE)) == {Written.PRESENT}


def test_parts_are_refused_before_they_are_read(tmp_path):
    fill(tmp_path, WHOLE)
    (tmp_path / PART).write_bytes(b"{}")
    with pytest.raises(UsageError, match="is a part of an archive"):
        taken_up(tmp_path, WHOLE)


def test_another_layout_takes_over_what_is_there(tmp_path):
    fill(tmp_path / "killed", WHOLE)
    write(tmp_path / "straight", SPLIT)
    done = taken_up(tmp_path / "killed", SPLIT)
    assert done.count(Written.PRESENT) == len(LAYERS), "all but the compressed one"
    assert same(tmp_path / "straight", tmp_path / "killed")


def removed(path):
    path.unlink()


def replaced(path):
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def damaged(path):
    with path.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"damage")


def damaged_and_set_back(path):
    """As by a tool that writes into the same file, and gives it its former time."""
    status = path.stat()
    damaged(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [removed, replaced, damaged, damaged_and_set_back])
@pytest.mark.parametrize("content", [WHOLE, SPLIT], ids=["one volume", "split blobs"])
def test_volumes_that_change_while_the_plan_is_made_are_read_again(tmp_path, content, change):
    write(tmp_path / "straight", content)
    fill(tmp_path / "killed", content)

    def during(reading):
        until_read(reading)
        change(tmp_path / "killed" / FIRST)

    taken_up(tmp_path / "killed", content, during)
    assert same(tmp_path / "straight", tmp_path / "killed")


@pytest.mark.parametrize(("change", "copied"), [(removed, 4), (damaged, 1)])  # four begin in the first volume
def test_missing_and_damaged_volumes_cost_what_was_in_them(tmp_path, change, copied):
    write(tmp_path / "straight", SPLIT)
    fill(tmp_path / "killed", SPLIT)
    change(tmp_path / "killed" / FIRST)
    done = taken_up(tmp_path / "killed", SPLIT)
    assert done.count(Written.COPIED) == copied
    assert same(tmp_path / "straight", tmp_path / "killed")


def test_a_volume_without_its_first_entry_is_read_again_when_that_is_written(tmp_path):
    write(tmp_path / "straight", WHOLE)
    fill(tmp_path / "killed", WHOLE)
    with (tmp_path / "killed" / FIRST).open("r+b") as file:
        file.write(bytes(len(OPENING)))
    shown = Shown()
    assert set(taken_up(tmp_path / "killed", WHOLE, until_read, shown)) == {Written.PRESENT}
    assert [step[0] for step in shown.steps[:2]] == ["reading what an interrupted export wrote"] * 2
    assert all(step[1] == step[2] for step in shown.steps)
    assert same(tmp_path / "straight", tmp_path / "killed")


def test_links_are_not_read_and_not_written_through(tmp_path):
    fill(tmp_path / "killed", WHOLE)
    (tmp_path / "killed" / FIRST).rename(tmp_path / "precious")
    (tmp_path / "killed" / FIRST).hardlink_to(tmp_path / "precious")
    before = (tmp_path / "precious").read_bytes()
    assert set(taken_up(tmp_path / "killed", WHOLE)) == {Written.COPIED}
    assert (tmp_path / "precious").read_bytes() == before


class Scratched(type(Path())):
    """A directory whose volumes cannot be read."""

    def lstat(self):
        if self.name == FIRST:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return super().lstat()


def test_an_error_of_the_disk_is_raised_where_an_export_reads(tmp_path):
    fill(tmp_path, WHOLE)
    with early_reading.begun(Scratched(tmp_path)) as reading:
        until_read(reading)
        with pytest.raises(OSError, match="Input/output error"), ArchiveWriter(tmp_path, WHOLE.layout(), reading=reading):
            pass
    assert set(taken_up(tmp_path, WHOLE)) == {Written.PRESENT}, "the lock was released"


def test_a_plan_that_fails_ends_the_reading(tmp_path):
    """A blob of 4 GiB, of zeros, in a sparse file: its reading takes seconds."""
    blob = PlannedBlob(Descriptor(OCI_LAYER_GZIP, Digest(f"sha256:{0:064}"), 4 * 1024 * MIB))
    layout = plan_layout([blob], 1000, 5 * 1024 * MIB)
    size, piece = blob.descriptor.size, layout.blobs[blob.descriptor.digest].pieces[0]
    header = header_frame(entry_name(blob.descriptor.digest), size)
    write_journal(tmp_path / JOURNAL_NAME, layout)
    with (tmp_path / FIRST).open("wb") as file:
        file.write(OPENING + header + raw_frame_header(size))
        for at in range(0, size, BLOCK):
            os.pwrite(file.fileno(), block_header(BLOCK, last=at + BLOCK == size), piece.offset + position(at) - 3)
        file.truncate(layout.volumes[0].data_size)
    with pytest.raises(LookupError), early_reading.begun(tmp_path) as reading:
        while not reading.done:
            threading.Event().wait(0.01)
        raise LookupError
    assert 0 < reading.done < size
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("early-reading", "hash", "read-ahead"))]


def test_a_frame_that_is_unpacked_hears_the_stop(tmp_path):
    """Frames of a few MB may hold some GiB, and the file of such a volume is read in one step."""
    content = noise("dense", 16 * 1024) + bytes(8 * MIB)
    frame = frames.compress(content)
    blob = PlannedBlob(Descriptor("text/plain", digest_of(content), len(content)), Encoding.ZSTD, len(frame))
    layout = plan_layout([blob], 1000, 4 * MIB)
    piece, header = layout.blobs[blob.descriptor.digest].pieces[0], entry_name(blob.descriptor.digest)
    with (tmp_path / FIRST).open("wb") as file:
        file.write(OPENING + header_frame(header, len(content)))
        os.pwrite(file.fileno(), frame + padding_frame(len(content)), piece.offset)
    asked = []
    assert left_behind(layout, tmp_path, [1], asked.append).complete == [blob.descriptor.digest]
    assert asked.count(0) >= 8 * MIB / (256 * 1024)


def journals():
    """Journals of which no export can be the author: the files and ranges that they name are not read."""
    layout = CUT.layout()
    first, second = list(layout.blobs.values())[:2]
    piece = second.pieces[0]

    def with_blobs(*blobs):
        return dataclasses.replace(layout, blobs={blob.descriptor.digest: blob for blob in blobs})

    def with_piece(**changes):
        return with_blobs(first, changed(second, pieces=(changed(piece, **changes),)))

    return {
        "a file elsewhere": dataclasses.replace(layout, volumes=(VolumeRecord("../secret", 100_000), *layout.volumes[1:])),
        "no volumes": dataclasses.replace(layout, volumes=()),
        "no pieces": with_blobs(first, changed(second, pieces=())),
        "not a digest": with_blobs(changed(first, descriptor=changed(first.descriptor, digest="sha256:../x"))),
        "another volume": with_piece(volume=99),
        "volume 0": with_piece(volume=0),
        "before the file": with_piece(offset=-5),
        "behind it": with_piece(offset=1 << 60),
        "another length": with_piece(stored=piece.stored + 1),
        "the same place": with_piece(offset=first.pieces[0].offset),
        "backwards": with_blobs(second, first),
    }


@pytest.mark.parametrize("name", journals())
def test_a_journal_that_no_export_wrote_is_not_followed(tmp_path, name):
    fill(tmp_path, WHOLE)
    write_journal(tmp_path / JOURNAL_NAME, journals()[name])
    assert read_journal(tmp_path / JOURNAL_NAME) is None
    with early_reading.begun(tmp_path) as reading:
        until_read(reading)
        assert reading.done == 0


def test_the_config_of_an_image_is_read_too(tmp_path):
    """Its frame is compressed."""
    fill(tmp_path, WHOLE, 1)
    assert taken_up(tmp_path, WHOLE)[0] is Written.PRESENT
    assert next(iter(WHOLE.blobs.values())) is CONFIG
