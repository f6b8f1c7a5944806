"""Opening and reading: parts in any number and order, and every kind of damage with its error."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from common.archive import frames, inventory_file
from common.archive.inventory import MEDIA_TYPE
from common.archive.reader import Archive
from common.archive.volume import CLOSING_SIZE, FOOTER_SIZE, Footer, volume_name
from common.content import verified
from common.errors import (
    ArchiveDamagedError,
    ArchiveError,
    ArchiveIncompleteError,
    ContentError,
    ExitCode,
    NotFoundError,
    UsageError,
)
from common.oci.image import digest_of
from common.transfer import copy
from tests.fakes.archives import CONFIG, CUT, described, noise, write, written
from tests.samples import more

SMALL, LARGE, AFTER = (digest_of(layers[0]) for layers in CUT.images.values())
V1, V2, V3 = map(volume_name, (1, 2, 3))


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("made")
    write(directory, CUT)
    return directory


@pytest.fixture
def archive(made, tmp_path):
    shutil.copytree(made, tmp_path / "archive")
    return tmp_path / "archive"


def content(opened: Archive, digest) -> bytes:
    return b"".join(bytes(chunk) for chunk in opened.content(digest))


def flip(path, offset: int, bit: int = 1) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= bit
    path.write_bytes(raw)


def unpacked(path) -> Footer:
    return Footer.unpack(path.read_bytes()[-FOOTER_SIZE:], path.stat().st_size)


def check_all(opened: Archive) -> None:
    assert {digest: content(opened, digest) for digest in CUT.blobs} == CUT.blobs
    assert {digest: opened.manifest(digest) for digest in CUT.manifests} == CUT.manifests


def test_a_directory_has_everything(made):
    opened = Archive.open([made])
    assert (opened.present, opened.missing) == ((V1, V2, V3), ())
    assert opened.inventory == CUT.inventory(CUT.layout())
    assert opened.digest == digest_of((made / "inventory.json").read_bytes())
    check_all(opened)


def test_volumes_alone_have_everything(archive):
    (archive / "inventory.json").unlink()
    (archive / "SHA256SUMS").unlink()
    check_all(Archive.open([archive]))
    check_all(Archive.open([archive / V3, archive / V1, archive / V2]))
    check_all(Archive.open([archive / V3, archive]))


def test_several_directories_with_one_medium_each(archive, tmp_path):
    for number, name in enumerate((V3, V1, V2)):
        (tmp_path / str(number)).mkdir()
        (archive / name).rename(tmp_path / str(number) / name)
        shutil.copy(archive / "inventory.json", tmp_path / str(number))
    check_all(Archive.open([tmp_path / "0", tmp_path / "1", tmp_path / "2"]))


def test_volumes_may_have_other_names(archive):
    (archive / V1).rename(archive / "first.bin")
    check_all(Archive.open([archive, archive / "first.bin"]))


def test_a_damaged_copy_gives_way_to_a_whole_one(archive, tmp_path):
    (tmp_path / "copy").mkdir()
    shutil.copy(archive / V1, tmp_path / "copy")
    os.truncate(archive / V1, 10_000)
    check_all(Archive.open([archive, tmp_path / "copy"]))


@pytest.mark.parametrize("name", [V1, V2, V3])
def test_one_volume_names_the_whole_archive(made, name):
    opened = Archive.open([made / name])
    assert opened.present == (name,)
    assert opened.missing == tuple(v for v in (V1, V2, V3) if v != name)
    assert {digest: opened.manifest(digest) for digest in CUT.manifests} == CUT.manifests
    for digest, blob in CUT.blobs.items():
        absent = opened.missing_volumes(digest)
        if absent:
            with pytest.raises(
                ArchiveIncompleteError, match=f"{digest}: is in {', '.join(absent)}, which is missing"
            ) as raised:
                content(opened, digest)
            assert raised.value.exit_code is ExitCode.ARCHIVE
        else:
            assert content(opened, digest) == blob


def test_the_inventory_alone_tells_what_is_missing(made):
    opened = Archive.open([made / "inventory.json"])
    assert opened.missing == (V1, V2, V3)
    assert opened.missing_volumes(LARGE) == (V1, V2, V3)
    with pytest.raises(ArchiveIncompleteError, match="no volume is here"):
        opened.manifest(next(iter(CUT.manifests)))


@pytest.mark.parametrize("start", [0, 1, 131_072, 393_215, 393_216, 393_217, 800_000, 899_999, 900_000])
def test_reading_from_any_byte_across_pieces(made, start):
    opened = Archive.open([made])
    assert b"".join(bytes(c) for c in opened.read(described(CUT.blobs[LARGE]), start)) == CUT.blobs[LARGE][start:]


@pytest.mark.parametrize("start", [0, 1, len(CONFIG) - 1, len(CONFIG)])
def test_reading_compressed_content_from_any_byte(made, start):
    assert b"".join(bytes(c) for c in Archive.open([made]).read(described(CONFIG), start)) == CONFIG[start:]


def test_many_threads_at_once(made):
    opened = Archive.open([made])
    with ThreadPoolExecutor(8) as pool:
        digests = list(CUT.blobs) * 10
        assert list(pool.map(lambda d: digest_of(content(opened, d)), digests)) == digests
        manifests = list(CUT.manifests) * 20
        assert list(pool.map(lambda d: digest_of(opened.manifest(d)), manifests)) == manifests


def test_what_is_not_listed_is_not_found(made):
    opened = Archive.open([made])
    with pytest.raises(NotFoundError, match="not in archive"):
        next(opened.read(described(b"never heard of")))
    with pytest.raises(NotFoundError, match="not in archive"):
        opened.manifest(SMALL)
    with pytest.raises(NotFoundError):
        opened.missing_volumes(digest_of(b"never heard of"))


def test_descriptors(made):
    found = Archive.open([made]).descriptor(LARGE)
    assert (found.digest, found.size) == (LARGE, 900_000)


def test_reading_needs_no_write_access(archive):
    for path in archive.iterdir():
        path.chmod(0o444)
    archive.chmod(0o555)
    check_all(Archive.open([archive]))


def test_no_file_stays_open(made):
    before = len(list(Path("/proc/self/fd").iterdir()))
    opened = Archive.open([made])
    check_all(opened)
    half_read = opened.read(described(CUT.blobs[LARGE]))
    next(half_read)
    half_read.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


RENAMED = [
    ("VOLUME_0.ZST;1", "INVENTOR.JSO;1", "SHA256SU.;1"),  # ISO 9660 level 1
    ("volume_0.zst", "inventor.jso", "sha256su"),  # the same as Linux shows it (mount(8), `map=normal`)
    *more([("VOLUME_0001_TAR.ZST;1", "INVENTORY.JSON;1"), ("VOLUME-0001.TAR.ZST",), ("INVENTORY.JSON",), ("VOLUME~1.ZST",)]),
]


@pytest.mark.parametrize("names", RENAMED)
def test_names_of_a_disc_without_extensions_are_explained(made, tmp_path, names):
    """ECMA-119, 7.5: names have capitals, digits, underscores and one dot; level 1 cuts them to 8 and 3."""
    for name, file in zip(names, (V1, "inventory.json", "SHA256SUMS"), strict=False):
        shutil.copy(made / file, tmp_path / name)
    with pytest.raises(UsageError, match=r"looks like a name on a disc without Rock Ridge and Joliet") as caught:
        Archive.open([tmp_path])
    assert repr(names[0]) in caught.value.message
    if names[0].lower().startswith("volume"):
        assert Archive.open([tmp_path / names[0]]).present == (V1,)  # as the hint says


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("mirror_000001.tar", "mirror_000001.tar"),  # v2
        ("mirror_seq1_000000.tar", "."),  # v1
        ("working-dir/logs/x.log", "."),
        ("working-dir/cluster-resources/idms-oc-mirror.yaml", "working-dir/cluster-resources"),
        ("oc-mirror-workspace/mapping.txt", "."),
    ],
)
def test_what_oc_mirror_wrote_is_called_so(tmp_path, path, named):
    """It is neither damaged nor on a medium that is not mounted."""
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(b"x" * 1024)
    with pytest.raises(UsageError, match=r"of oc-mirror\n") as caught:
        Archive.open([tmp_path / named])
    assert "hub-export create IMAGESET --output DIR" in caught.value.hint


@pytest.mark.parametrize("name", ["volume-0001.tar.zst.parity", "report.html", "volumes.txt"])
def test_other_files_are_no_renamed_volumes(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"no archive in [^:]*$"):
        Archive.open([tmp_path])


@pytest.mark.parametrize("paths", [[], ["nothing"], ["empty"]])
def test_nothing_to_open(tmp_path, paths):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no such file|no archive in"):
        Archive.open([tmp_path / path for path in paths])


def test_something_else_is_no_volume(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ArchiveDamagedError, match=r"notes.txt: no inventory can be read from it"):
        Archive.open([tmp_path / "notes.txt"])


def test_other_files_next_to_an_archive_are_no_volumes_of_it(archive):
    (archive / "notes.txt").write_text("hello")
    check_all(Archive.open([archive]))
    with pytest.raises(ArchiveDamagedError, match=r"notes\.txt is no volume of this archive: .*file ends"):
        Archive.open([archive, archive / "notes.txt"])
    shutil.copy(archive / "notes.txt", archive / volume_name(4))
    with pytest.raises(ArchiveDamagedError, match=r"volume-0004\.tar\.zst is no volume of this archive"):
        Archive.open([archive])


# Damage: undamaged content can still be read, and damaged content is named.


def test_flipped_bit_in_data_names_digest_volume_offset_and_operators(archive):
    piece = CUT.layout().blobs[SMALL].pieces[0]
    flip(archive / V1, piece.offset + 14 + 3 + 500)
    opened = Archive.open([archive])
    with pytest.raises(ArchiveDamagedError) as raised:
        content(opened, SMALL)
    assert f"{SMALL}: damaged in {V1} at offset {piece.offset}: content has digest" in raised.value.message
    assert "catalog/package/small" in raised.value.hint
    assert content(opened, AFTER) == CUT.blobs[AFTER]


def test_a_bad_blob_never_gives_its_last_chunk(archive):
    piece = CUT.layout().blobs[LARGE].pieces[2]
    flip(archive / V3, piece.offset + 14 + 3 + 5)
    taken = 0
    with pytest.raises(ArchiveDamagedError, match=f"{V1} at offset .*, {V2} at offset .*, {V3} at offset"):
        for chunk in Archive.open([archive]).content(LARGE):
            taken += len(chunk)
    assert taken < 900_000


def test_the_loop_reports_damage_as_damage(archive):
    flip(archive / V1, CUT.layout().blobs[SMALL].pieces[0].offset + 14 + 3)

    class Sink:
        def write(self, blob, read):
            for _ in read(0):
                pass

    blobs = [described(blob) for blob in CUT.blobs.values()]
    outcomes = {o.blob.digest: o.error for o in copy(blobs, Archive.open([archive]), Sink(), jobs=2)}
    assert isinstance(outcomes.pop(SMALL), ArchiveDamagedError)
    assert set(outcomes.values()) == {None}


@pytest.mark.parametrize("at", [0, 5, 10, 14])
def test_flipped_bit_in_a_frame_header(archive, at):
    piece = CUT.layout().blobs[LARGE].pieces[1]
    flip(archive / V2, piece.offset + at)
    with pytest.raises(ArchiveDamagedError, match=f"{LARGE}: damaged in {V2} at offset {piece.offset}: the header of"):
        content(Archive.open([archive]), LARGE)


def test_flipped_bit_in_compressed_content(archive):
    piece = CUT.layout().blobs[digest_of(CONFIG)].pieces[0]
    flip(archive / V1, piece.offset + piece.stored - 1)
    with pytest.raises(ArchiveDamagedError, match="broken frame"):
        content(Archive.open([archive]), digest_of(CONFIG))


def test_truncated_volume(archive):
    os.truncate(archive / V2, 200_000)
    opened = Archive.open([archive])
    assert opened.present == (V1, V2, V3)
    assert content(opened, SMALL) == CUT.blobs[SMALL]
    with pytest.raises(ArchiveDamagedError, match=f"{LARGE}: damaged in {V2} .* the file ends at byte 200000"):
        content(opened, LARGE)


def test_truncated_volume_alone(archive):
    os.truncate(archive / V2, 200_000)
    with pytest.raises(ArchiveDamagedError, match=f"{V2}: no inventory can be read from it: it has no footer: cut short"):
        Archive.open([archive / V2])


def test_missing_volume(archive):
    (archive / V2).unlink()
    opened = Archive.open([archive])
    assert opened.missing == (V2,)
    with pytest.raises(ArchiveIncompleteError, match=f"is in {V2}, which is missing"):
        content(opened, LARGE)


def test_medium_taken_out_while_reading(archive):
    opened = Archive.open([archive])
    (archive / V1).unlink()
    with pytest.raises(ArchiveDamagedError, match=f"{V1} .*No such file"):
        content(opened, SMALL)
    assert opened.manifest(next(iter(CUT.manifests)))


def test_flipped_bit_in_the_metadata_of_one_volume(archive):
    flip(archive / V1, CUT.layout().volumes[0].data_size + 60)
    check_all(Archive.open([archive]))
    with pytest.raises(ArchiveDamagedError, match=f"damaged in every volume that is here: {V1}: its metadata is damaged"):
        Archive.open([archive / V1]).manifest(next(iter(CUT.manifests)))


def test_flipped_bit_in_the_inventory_of_one_volume(archive):
    footer = unpacked(archive / V1)
    flip(archive / V1, footer.inventory_offset + footer.inventory_stored // 2)
    check_all(Archive.open([archive / V1, archive / V2, archive / V3]))
    with pytest.raises(ArchiveDamagedError, match=f"{V1}: no inventory can be read from it: its metadata is damaged"):
        Archive.open([archive / V1])


@pytest.mark.parametrize("at", [0, 4, 8, 16, 20, 24, 32, 40, 48, 79])
def test_flipped_bit_in_a_footer(archive, at):
    flip(archive / V1, (archive / V1).stat().st_size - FOOTER_SIZE + at)
    opened = Archive.open([archive])
    assert opened.present == (V1, V2, V3)
    check_all(opened)


def test_flipped_bit_in_inventory_json(archive):
    flip(archive / "inventory.json", 20)
    with pytest.raises(ArchiveError):
        Archive.open([archive])


def test_another_inventory_next_to_the_volumes(archive):
    raw = (archive / "inventory.json").read_bytes()
    (archive / "inventory.json").write_bytes(raw.replace(b"hub-airgap 0.1.0", b"hub-airgap 0.1.1"))
    with pytest.raises(ArchiveDamagedError, match="is a volume of another archive") as raised:
        Archive.open([archive])
    assert "each has a copy" in raised.value.hint


def test_swapped_volume_of_another_archive(archive, tmp_path):
    other = dataclasses.replace(CUT, images=CUT.images | {"registry.test/other:v1": [noise("other", 10)]})
    written(tmp_path / "other", other)
    shutil.copy(tmp_path / "other" / V2, archive / V2)
    for paths in ([archive], [archive / V1, archive / V2]):
        with pytest.raises(
            ArchiveDamagedError, match=f"{V2} is a volume of another archive: it belongs to archive of 2026-01-31"
        ) as raised:
            Archive.open(paths)
        assert "right volume" in raised.value.hint


def test_two_archives_at_once(archive, tmp_path):
    write(tmp_path / "other", dataclasses.replace(CUT, images={}, volume_size=1 << 20))
    with pytest.raises(ArchiveDamagedError, match="inventories of different archives"):
        Archive.open([archive, tmp_path / "other"])


def test_unknown_major_version(archive):
    raw = (archive / "inventory.json").read_bytes()
    (archive / "inventory.json").write_bytes(raw.replace(MEDIA_TYPE.encode(), MEDIA_TYPE.replace("v1", "v2").encode()))
    with pytest.raises(ArchiveError, match="format version 2; this program reads version 1") as raised:
        Archive.open([archive])
    assert not isinstance(raised.value, ArchiveDamagedError)


def test_unknown_major_version_of_a_volume(archive):
    flip(archive / V1, (archive / V1).stat().st_size - FOOTER_SIZE + 15, 3)
    with pytest.raises(ArchiveError, match="format version 2"):
        Archive.open([archive])


def forged(archive, inventory: bytes, frame: bytes = b"") -> None:
    """Rewrite a volume's copy of the inventory, with a footer that vouches for it."""
    path = archive / V1
    footer = unpacked(path)
    raw = path.read_bytes()
    place = slice(footer.inventory_offset, footer.inventory_offset + footer.inventory_stored)
    frame = frame or frames.compress(inventory)
    new = dataclasses.replace(footer, inventory_stored=len(frame), inventory=digest_of(inventory))
    end = raw[place.stop : len(raw) - FOOTER_SIZE]
    path.write_bytes(raw[: place.start] + frame + end + new.pack())


def test_a_forged_inventory_is_checked_too(archive):
    raw = (archive / "inventory.json").read_bytes()
    forged(archive, raw.replace(b'"volume-0002.tar.zst"', b'"../../volume.tar.zst"'))
    with pytest.raises(ArchiveDamagedError, match="volume 2 is called"):
        Archive.open([archive / V1])


def test_a_bomb_in_place_of_the_inventory(archive):
    size = 513 * 1024 * 1024
    compressor = zstandard.ZstdCompressor().compressobj(size=size)
    bomb = b"".join(compressor.compress(bytes(1024 * 1024)) for _ in range(513)) + compressor.flush()
    forged(archive, b"", bomb)
    with pytest.raises(ArchiveDamagedError, match="no inventory can be read"):
        Archive.open([archive / V1])


def test_a_manifest_of_another_size_than_listed(archive):
    digest, raw = next(iter(CUT.manifests.items()))
    document = (archive / "inventory.json").read_bytes()
    shown = b'"size": %d\n' % len(raw)
    assert shown in document
    inventory = inventory_file.decode(document.replace(shown, b'"size": %d\n' % (len(raw) + 1)), "x")
    opened = Archive.open([archive])
    forged_archive = Archive(dataclasses.replace(opened.found, inventory=inventory))
    with pytest.raises(ArchiveDamagedError, match="the inventory says"):
        forged_archive.manifest(digest)


def test_an_inventory_file_without_end(tmp_path):
    with (tmp_path / "inventory.json").open("wb") as file:
        file.truncate(512 * 1024 * 1024 + 1)
    with pytest.raises(ArchiveDamagedError, match="more than the 536870912 bytes"):
        Archive.open([tmp_path])


def test_an_unreadable_inventory_file(archive, tmp_path):
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "inventory.json").symlink_to("/proc/self/mem")
    with pytest.raises(ArchiveDamagedError, match=r"inventory\.json cannot be read") as raised:
        Archive.open([tmp_path / "link"])
    assert "Name the volume files alone" in raised.value.hint


def test_verified_asks_the_source_for_the_place():
    def source():
        try:
            yield b"bad"
        except ContentError as error:
            raise ArchiveDamagedError("here") from error

    with pytest.raises(ArchiveDamagedError, match="here"):
        list(verified(source(), described(b"abc")))
    with pytest.raises(ContentError, match="content has digest"):
        list(verified(iter([b"bad"]), described(b"abc")))


def test_an_unreadable_medium_is_damage(archive):
    opened = Archive.open([archive])
    (archive / V1).unlink()
    (archive / V1).mkdir()
    with pytest.raises(ArchiveDamagedError, match=os.strerror(errno.EISDIR)):
        content(opened, SMALL)


def test_the_closing_is_where_the_footer_says(made):
    assert (made / V1).read_bytes()[-CLOSING_SIZE:][:4] == frames.MAGIC
