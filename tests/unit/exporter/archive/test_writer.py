"""Writing: every promise about directories, places, order and what is left when it fails."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from common.archive import inventory_file
from common.archive.direct_io import Buffers
from common.archive.inventory import BlobRecord, ProblemCode
from common.archive.layout import Layout
from common.archive.reader import Archive
from common.archive.volume import JOURNAL_NAME, extent
from common.content import Written
from common.errors import ArchiveIncompleteError, ContentError, ExitCode, InUseError, SpaceError, UsageError
from common.files import locked
from common.oci.image import digest_of
from exporter.archive.output import LOCK
from exporter.archive.volume_writer import Closing, VolumeWriter
from exporter.archive.writer import ArchiveWriter
from tests.fakes.archives import CONFIG, CUT, Content, chunks_of, described, noise, write, written

SMALL, LARGE = (digest_of(CUT.images[f"registry.test/{name}:v1"][0]) for name in ("small", "large"))
FILES = {"inventory.json", "SHA256SUMS", "volume-0001.tar.zst", "volume-0002.tar.zst", "volume-0003.tar.zst"}


def names(directory) -> set[str]:
    return {path.name for path in directory.iterdir()}


def contents(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def begin(directory) -> None:
    """Leave an unfinished export behind."""
    with ArchiveWriter(directory, CUT.layout()) as writer:
        writer.write(described(CONFIG), chunks_of(CONFIG))


def test_an_archive_is_complete_and_lists_its_files(tmp_path):
    finished = write(tmp_path, dataclasses.replace(CUT, extra={"report.html": b"<html>"}))
    assert names(tmp_path) == FILES | {"report.html"}
    assert [path.name for path in finished.files] == [
        *("inventory.json", "volume-0001.tar.zst", "volume-0002.tar.zst", "volume-0003.tar.zst", "report.html", "SHA256SUMS")
    ]
    assert finished.inventory == digest_of((tmp_path / "inventory.json").read_bytes())
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        name: hashlib.sha256(content).hexdigest() for name, content in contents(tmp_path).items() if name != "SHA256SUMS"
    }


def test_the_same_plan_gives_the_same_bytes_whatever_the_order(tmp_path):
    write(tmp_path / "a", CUT)
    layout = CUT.layout()
    with ArchiveWriter(tmp_path / "b", layout) as writer, ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(writer.write, layout.blobs[digest].descriptor, chunks_of(blob, 7001))
            for digest, blob in reversed(CUT.blobs.items())
        ]
        assert {job.result() for job in jobs} == {Written.COPIED}
        writer.finish(Closing(CUT.inventory(layout), CUT.manifests, CUT.index_json()))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_blob_lies_where_the_formula_says(tmp_path):
    archive = written(tmp_path, CUT)
    content, done = CUT.blobs[LARGE], 0
    for piece in archive.inventory.blobs[LARGE].pieces:
        raw = (tmp_path / f"volume-{piece.volume:04d}.tar.zst").read_bytes()
        for i in (0, 1, 131_071, 131_072, piece.size - 1):
            if i < piece.size:
                assert raw[piece.offset + 14 + i // 131072 * 131075 + 3 + i % 131072] == content[done + i]
        done += piece.size
    assert done == len(content)


def test_a_blob_written_again_is_present(tmp_path):
    with ArchiveWriter(tmp_path, CUT.layout()) as writer:
        assert writer.write(described(CONFIG), chunks_of(CONFIG)) is Written.COPIED
        assert writer.write(described(CONFIG), chunks_of(b"not even read")) is Written.PRESENT


@pytest.mark.parametrize("digest", [digest_of(CONFIG), SMALL, LARGE])
@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"x", lambda _: b"", lambda c: c[:393_216]])
def test_content_of_another_size_is_refused_and_can_be_written_again(tmp_path, digest, change):
    layout, content = CUT.layout(), CUT.blobs[digest]
    with ArchiveWriter(tmp_path, layout) as writer:
        if change(content) != content:
            with pytest.raises(ContentError, match="planned were"):
                writer.write(layout.blobs[digest].descriptor, chunks_of(change(content)))
        assert writer.write(layout.blobs[digest].descriptor, chunks_of(content)) is Written.COPIED


def test_a_source_that_breaks_leaves_the_place_to_a_second_try(tmp_path):
    layout = CUT.layout()

    def breaking(_start):
        yield CUT.blobs[LARGE][:500_000]
        raise ContentError("connection lost")

    with ArchiveWriter(tmp_path, layout) as writer:
        for digest, blob in CUT.blobs.items():
            if digest == LARGE:
                with pytest.raises(ContentError, match="connection lost"):
                    writer.write(layout.blobs[digest].descriptor, breaking)
            writer.write(layout.blobs[digest].descriptor, chunks_of(blob))
        writer.finish(Closing(CUT.inventory(layout), CUT.manifests, CUT.index_json()))
    assert b"".join(map(bytes, Archive.open([tmp_path]).content(LARGE))) == CUT.blobs[LARGE]


def test_a_missing_blob_leaves_zeroed_skippable_frames(tmp_path):
    content, layout = dataclasses.replace(CUT, missing=frozenset({LARGE, SMALL})), CUT.layout()

    def breaking(_start):
        yield CUT.blobs[LARGE][:500_000]
        raise ContentError("connection lost")

    with ArchiveWriter(tmp_path, layout) as writer:
        with pytest.raises(ContentError):
            writer.write(layout.blobs[LARGE].descriptor, breaking)
        for digest, blob in content.blobs.items():
            if digest in content.missing:
                writer.mark_missing(digest)
            else:
                writer.write(layout.blobs[digest].descriptor, chunks_of(blob))
        writer.finish(Closing(content.inventory(layout), content.manifests, content.index_json()))
    for digest in content.missing:
        for piece in layout.blobs[digest].pieces:
            start, end = extent(piece)
            place = (tmp_path / f"volume-{piece.volume:04d}.tar.zst").read_bytes()[start:end]
            assert place == bytes.fromhex("5a2a4d18") + (end - start - 8).to_bytes(4, "little") + bytes(end - start - 8)
    archive = Archive.open([tmp_path])
    with pytest.raises(ArchiveIncompleteError, match=r"could not be fetched .* \(blob-unavailable\)"):
        list(archive.content(LARGE))


def test_volumes_end_where_their_content_ends(tmp_path):
    write(tmp_path, Content(images={"a/b:c": [noise("x", 10)]}))
    assert (tmp_path / "volume-0001.tar.zst").stat().st_size < 10_000


def test_an_archive_without_blobs(tmp_path):
    content = Content(images={})
    layout = dataclasses.replace(CUT, images={}).layout()
    empty = Layout({}, layout.volumes[:1], layout.reserve)
    inventory = replace(content.inventory(empty), volumes=empty.volumes, blobs={})
    with ArchiveWriter(tmp_path, replaced_end(empty)) as writer:
        writer.finish(Closing(replace(inventory, volumes=replaced_end(empty).volumes), {}, content.index_json()))
    assert Archive.open([tmp_path]).inventory.blobs == {}


def replaced_end(layout: Layout) -> Layout:
    return dataclasses.replace(layout, volumes=(replace(layout.volumes[0], data_size=1041),))


def test_a_finished_archive_is_never_touched(tmp_path):
    write(tmp_path, CUT)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="holds a finished archive") as raised, ArchiveWriter(tmp_path, CUT.layout()):
        pass
    assert "--output" in raised.value.hint
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "name", ["volume-0007.tar.zst", "VOLUME-0001.TAR.ZST", "inventory.json.sig", "volume-0001.tar.zst.parity", "report.html"]
)
def test_files_of_others_are_never_touched(tmp_path, name):
    (tmp_path / name).write_bytes(b"theirs")
    with (
        pytest.raises(UsageError, match=f"holds {name}, which this export did not make"),
        ArchiveWriter(tmp_path, CUT.layout()),
    ):
        pass
    assert contents(tmp_path) == {name: b"theirs"}


@pytest.mark.parametrize("name", ["inventory.json", "SHA256SUMS", "sha256sums"])
def test_what_looks_finished_is_never_touched(tmp_path, name):
    (tmp_path / name).write_bytes(b"theirs")
    with pytest.raises(UsageError, match="holds a finished archive"), ArchiveWriter(tmp_path, CUT.layout()):
        pass
    assert contents(tmp_path) == {name: b"theirs"}


def test_other_files_may_lie_there(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"mine")
    write(tmp_path, CUT)
    assert names(tmp_path) == FILES | {"notes.txt"}


def test_an_unfinished_export_is_recognised_and_begun_again(tmp_path):
    begin(tmp_path)
    left = names(tmp_path)
    assert JOURNAL_NAME in left
    assert "volume-0001.tar.zst" in left
    assert not left & {"inventory.json", "SHA256SUMS"}
    with pytest.raises(ArchiveIncompleteError, match="never finished"):
        Archive.open([tmp_path])
    write(tmp_path, CUT)
    assert names(tmp_path) == FILES


def test_killed_before_the_checksums_is_unfinished_and_after_them_finished(tmp_path):
    write(tmp_path / "whole", CUT)
    for name, finished in (("SHA256SUMS", False), (None, True)):
        directory = tmp_path / str(name)
        directory.mkdir()
        for file, content in contents(tmp_path / "whole").items():
            if file != name:
                (directory / file).write_bytes(content)
        (directory / JOURNAL_NAME).write_bytes(b"{}")
        if finished:
            with pytest.raises(UsageError, match="finished archive"):
                begin(directory)
            assert Archive.open([directory]).present
        else:
            with pytest.raises(ArchiveIncompleteError):
                Archive.open([directory])
            write(directory, CUT)
            assert names(directory) == FILES


def test_a_journal_that_is_a_link_proves_nothing(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"{}")
    (tmp_path / JOURNAL_NAME).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "volume-0001.tar.zst").write_bytes(b"theirs")
    with pytest.raises(UsageError, match="did not make"), ArchiveWriter(tmp_path, CUT.layout()):
        pass
    assert (tmp_path / "volume-0001.tar.zst").read_bytes() == b"theirs"


def test_volumes_are_made_without_following_links(tmp_path):
    begin(tmp_path)
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "volume-0001.tar.zst").unlink()
    (tmp_path / "volume-0001.tar.zst").symlink_to(target)
    write(tmp_path, CUT)
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / "volume-0001.tar.zst").is_symlink()


def test_two_exporters_in_one_directory(tmp_path):
    with locked(tmp_path / LOCK, "it"), pytest.raises(InUseError, match="in use by another process"):
        write(tmp_path, CUT)
    assert names(tmp_path) <= {LOCK}


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="file is not a directory"):
        write(tmp_path / "file", CUT)


def test_too_little_space_is_found_before_the_first_byte(tmp_path):
    layout = CUT.layout()
    huge = dataclasses.replace(layout, volumes=(*layout.volumes[1:], replace(layout.volumes[0], data_size=1 << 60)))
    with (
        pytest.raises(SpaceError, match=r"the archive needs 1048576.\d TiB in .* are free") as raised,
        ArchiveWriter(tmp_path, huge),
    ):
        pass
    assert raised.value.exit_code is ExitCode.SPACE
    assert not {name for name in names(tmp_path) if name.startswith("volume")}


def test_a_file_system_with_smaller_files_is_named(tmp_path, small_files):
    with small_files(100_000), pytest.raises(UsageError, match=r"takes no files of \d+\.\d KiB") as raised:
        write(tmp_path, CUT)
    assert "--volume-size fat32" in raised.value.hint
    write(tmp_path, CUT)
    assert names(tmp_path) == FILES


def test_metadata_beyond_its_reserve_is_refused(tmp_path):
    content = dataclasses.replace(CUT, bound=0)
    with pytest.raises(ContentError, match=r"metadata of \d+ bytes, and \d+ were reserved"):
        write(tmp_path, content)
    assert "SHA256SUMS" not in names(tmp_path)


def test_a_medium_that_lost_bytes_is_found_by_reading_back(tmp_path):
    layout = CUT.layout()
    volume = VolumeWriter(tmp_path / "volume-0001.tar.zst", 1, layout.volumes[0], unsettled=1, buffers=Buffers())
    volume.create(500_000)
    os.truncate(volume.path, 5000)
    assert volume.settle(0, 397461)
    with pytest.raises(ContentError, match=r"volume-0001.tar.zst: ends at byte 5000 when read back, wanted 397461"):
        volume.read_back_data(lambda _: None)


def test_finish_refuses_what_does_not_describe_the_volumes(tmp_path):
    layout, inventory = CUT.layout(), CUT.inventory(CUT.layout())
    missing = BlobRecord(1000, "x", missing=ProblemCode.BLOB_UNAVAILABLE)
    elsewhere = {"sha256:" + "1" * 64: inventory.blobs[SMALL]}
    with ArchiveWriter(tmp_path, layout) as writer:
        for digest, blob in CUT.blobs.items():
            if digest == LARGE:
                with pytest.raises(ValueError, match="neither written nor marked"):
                    writer.finish(Closing(inventory, {}, b""))
            writer.write(layout.blobs[digest].descriptor, chunks_of(blob))
        with pytest.raises(ValueError, match="other volumes"):
            writer.finish(Closing(replace(inventory, volumes=()), {}, b""))
        with pytest.raises(ValueError, match="written and missing"):
            writer.finish(Closing(replace(inventory, blobs=inventory.blobs | {SMALL: missing}), {}, b""))
        with pytest.raises(ValueError, match="not that of its place"):
            writer.finish(Closing(replace(inventory, blobs=inventory.blobs | {SMALL: inventory.blobs[LARGE]}), {}, b""))
        with pytest.raises(ValueError, match="the layout has not"):
            writer.finish(Closing(replace(inventory, blobs=inventory.blobs | elsewhere), {}, b""))
        with pytest.raises(ValueError, match="written already"):
            writer.mark_missing(SMALL)


def test_leaving_in_the_middle_ends_the_threads(tmp_path):
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt), ArchiveWriter(tmp_path, CUT.layout()) as writer:
        writer.write(described(CONFIG), chunks_of(CONFIG))
        raise KeyboardInterrupt
    assert set(threading.enumerate()) == before


def test_progress_counts_every_byte_that_is_read_back(tmp_path):
    class Counting:
        total = done = 0

        def begin(self, what, total, unit="bytes", *, kept):
            self.total = total

        def advance(self, size, item="", *, moved=True):
            self.done += size

        def end(self):
            self.ended = True

    counting, layout = Counting(), CUT.layout()
    with ArchiveWriter(tmp_path, layout, progress=counting) as writer:
        for digest, blob in CUT.blobs.items():
            writer.write(layout.blobs[digest].descriptor, chunks_of(blob))
        writer.finish(Closing(CUT.inventory(layout), CUT.manifests, CUT.index_json()))
    assert counting.ended
    assert counting.done == counting.total > 0


def test_the_inventory_written_is_the_one_given(tmp_path):
    write(tmp_path, CUT)
    assert (tmp_path / "inventory.json").read_bytes() == inventory_file.encode(CUT.inventory(CUT.layout()))
