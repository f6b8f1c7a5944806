"""verify: every kind of damage is found, named, and hides nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import msgspec
import pytest

from common.archive import inventory_file
from common.archive.reader import Archive
from common.archive.volume import CLOSING_SIZE, FOOTER_SIZE, extent, padding_frame_size, tar_header, volume_name
from common.errors import ArchiveError, ContentError
from common.oci.image import digest_of
from importer.archive.verify import VolumeStatus, verify
from importer.archive.volume_check import _check_tail
from tests.fakes.archives import CONFIG, CUT, Content, noise, write

SMALL, LARGE, AFTER = (digest_of(layers[0]) for layers in CUT.images.values())
V1, V2, V3 = map(volume_name, (1, 2, 3))
LAYOUT = CUT.layout()


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("made")
    write(directory, dataclasses.replace(CUT, extra={"report.html": b"<html>"}))
    return directory


@pytest.fixture
def archive(made, tmp_path):
    shutil.copytree(made, tmp_path / "archive")
    return tmp_path / "archive"


def flip(path, offset: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)


def statuses(result) -> list[str]:
    return [volume.status.value for volume in result.volumes]


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_whole_archive_is_ok(made, quick, jobs):
    result = verify(Archive.open([made]), quick=quick, jobs=jobs)
    assert result.ok
    assert result.document() == {
        "ok": True,
        "inventory": digest_of((made / "inventory.json").read_bytes()),
        "name": None,
        "created": "2026-01-31T12:00:00Z",
        "signature": "absent",
        "volumes": [{"name": name, "status": "ok"} for name in (V1, V2, V3)],
        "blobs": {"checked": 0 if quick else 5, "bad": []},
        "unvouched": [],
        "beside": [],
    }
    assert result.damage == ()


def test_a_signature_is_not_checked_here(archive):
    (archive / "inventory.json.sig").write_bytes(b"x")
    assert verify(Archive.open([archive]), quick=True).signature == "unchecked"


def test_missing_volumes_are_not_ok(archive):
    (archive / V2).unlink()
    result = verify(Archive.open([archive]))
    assert not result.ok
    assert statuses(result) == ["ok", "missing", "ok"]
    assert (result.bad, result.damage, result.checked) == ((), (), 4)


@pytest.mark.parametrize("sums", [True, False])
def test_flipped_bit_in_data(archive, sums):
    if not sums:
        (archive / "SHA256SUMS").unlink()
    piece = LAYOUT.blobs[SMALL].pieces[0]
    flip(archive / V1, piece.offset + 14 + 3 + 7)
    result = verify(Archive.open([archive]))
    assert statuses(result) == ["damaged", "ok", "ok"]
    assert result.document()["blobs"] == {
        "checked": 5,
        "bad": [{"digest": SMALL, "volume": V1, "offset": piece.offset, "neededBy": ["catalog/package/small"]}],
    }
    assert msgspec.json.decode(msgspec.json.encode(result.document())) == result.document()
    assert verify(Archive.open([archive]), quick=True).ok


def test_flipped_bit_in_a_cut_blob(archive):
    flip(archive / V2, LAYOUT.blobs[LARGE].pieces[1].offset + 14 + 3 + 7)
    (archive / "SHA256SUMS").unlink()
    result = verify(Archive.open([archive]))
    assert [bad.digest for bad in result.bad] == [LARGE]
    assert "damaged" in statuses(result)


def test_flipped_bit_in_compressed_content(archive):
    piece = LAYOUT.blobs[digest_of(CONFIG)].pieces[0]
    flip(archive / V1, piece.offset + piece.stored - 1)
    (bad,) = verify(Archive.open([archive])).bad
    assert bad.digest == digest_of(CONFIG)
    assert bad.needed_by == ("catalog/package/after", "catalog/package/large", "catalog/package/small")


def places():
    start, _ = extent(LAYOUT.blobs[SMALL].pieces[0])
    piece = LAYOUT.blobs[SMALL].pieces[0]
    yield "first entry", 100, "the entry oci-layout is damaged, at offset 0"
    yield "tar header", start + 14 + 3 + 50, f"the tar header of blobs/sha256/{SMALL[7:]} is damaged"
    yield "frame of the tar header", start + 1, "the tar header of"
    yield "padding", piece.offset + piece.stored + padding_frame_size(1000) - 1, f"the padding of blobs/sha256/{SMALL[7:]} is"
    yield "metadata", LAYOUT.volumes[0].data_size + 60, "its metadata is damaged"


@pytest.mark.parametrize(("offset", "match"), [pytest.param(o, m, id=i) for i, o, m in places()])
@pytest.mark.parametrize("sums", [True, False])
def test_flipped_bit_around_the_content(archive, offset, match, sums):
    if not sums:
        (archive / "SHA256SUMS").unlink()
    flip(archive / V1, offset)
    result = verify(Archive.open([archive]))
    assert statuses(result) == ["damaged", "ok", "ok"]
    assert any(match in line for line in result.damage)
    assert any("SHA256SUMS" in line for line in result.damage) == sums
    assert result.bad == ()


@pytest.mark.parametrize("back", [FOOTER_SIZE - 4, 1, CLOSING_SIZE - 100, CLOSING_SIZE + 5])
def test_flipped_bit_at_the_end(archive, back):
    flip(archive / V1, (archive / V1).stat().st_size - back)
    assert statuses(verify(Archive.open([archive]))) == ["damaged", "ok", "ok"]
    assert statuses(verify(Archive.open([archive]), quick=True)) == ["damaged", "ok", "ok"]


def test_no_byte_of_a_volume_goes_unchecked(tmp_path):
    write(tmp_path, Content(images={"a/b:c": [noise("x", 700)]}))
    (tmp_path / "SHA256SUMS").unlink()
    path = tmp_path / V1
    for offset in range(0, path.stat().st_size, 13):
        flip(path, offset)
        try:
            assert not verify(Archive.open([tmp_path])).ok, offset
        except ArchiveError as error:
            assert "format version" in error.message  # noqa: PT017 - the one flip that makes it a later format
        flip(path, offset)


def test_truncated_volume(archive):
    os.truncate(archive / V1, LAYOUT.blobs[SMALL].pieces[0].offset + 500)
    result = verify(Archive.open([archive]))
    assert statuses(result) == ["damaged", "ok", "ok"]
    assert {bad.digest for bad in result.bad} == {SMALL, LARGE}
    assert any("it has no footer: cut short" in line for line in result.damage)
    quick = verify(Archive.open([archive]), quick=True)
    assert statuses(quick) == ["damaged", "ok", "ok"]


def test_bytes_behind_the_footer_are_damage(archive):
    with (archive / V1).open("ab") as file:
        file.write(b"\0")
    assert statuses(verify(Archive.open([archive]), quick=True)) == ["damaged", "ok", "ok"]


def test_missing_blobs_leave_empty_space(tmp_path):
    write(tmp_path, dataclasses.replace(CUT, missing=frozenset({LARGE, AFTER})))
    result = verify(Archive.open([tmp_path]))
    assert result.ok
    assert result.checked == 3
    (tmp_path / "SHA256SUMS").unlink()
    start, end = extent(LAYOUT.blobs[LARGE].pieces[1])
    for offset, match in ((start + 3, "is damaged"), (start + 7, "is damaged"), (end - 1, "is not empty")):
        flip(tmp_path / V2, offset)
        result = verify(Archive.open([tmp_path]))
        assert statuses(result) == ["ok", "damaged", "ok"]
        assert any(f"the space of a missing blob {match}" in line for line in result.damage)
        flip(tmp_path / V2, offset)


def test_checksums_of_other_files(archive):
    (archive / "report.html").write_bytes(b"<script>")
    result = verify(Archive.open([archive]))
    assert not result.ok
    assert statuses(result) == ["ok", "ok", "ok"]
    assert [line for line in result.damage if "report.html: its checksum is not the one in SHA256SUMS" in line]
    (archive / "report.html").unlink()
    assert verify(Archive.open([archive])).ok


def test_checksums_that_are_none(archive):
    (archive / "SHA256SUMS").write_bytes(b"hello\n")
    result = verify(Archive.open([archive]))
    assert not result.ok
    assert any("line 1 is no checksum" in line for line in result.damage)


def test_wrong_checksum_of_a_volume(archive):
    sums = (archive / "SHA256SUMS").read_text().splitlines()
    (archive / "SHA256SUMS").write_text("\n".join(f"{'0' * 64}  {V3}" if V3 in line else line for line in sums) + "\n")
    result = verify(Archive.open([archive]))
    assert statuses(result) == ["ok", "ok", "damaged"]
    assert result.damage == (f"{V3}: its checksum is not the one in SHA256SUMS",)


def test_another_index_json_than_the_inventory_implies(tmp_path):
    content = dataclasses.replace(CUT)
    content.index_json = lambda: json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    write(tmp_path, content)
    assert any("index.json is not that of the inventory" in line for line in verify(Archive.open([tmp_path])).damage)


def test_manifests_that_are_not_there_or_not_listed(tmp_path):
    class Without(Content):
        @property
        def manifests(self):
            return {}

    write(tmp_path, Without(CUT.images, bound=20_000))
    assert any("other entries than the inventory lists" in line for line in verify(Archive.open([tmp_path])).damage)


def test_progress_reaches_its_total(made):
    class Counting:
        total = done = 0

        def begin(self, what, total, unit, *, kept):
            self.total = total

        def advance(self, size, item="", *, moved=True):
            self.done += size

        def end(self):
            self.ended = True

    counting = Counting()
    verify(Archive.open([made]), progress=counting)
    assert counting.ended
    assert counting.done >= counting.total > 0


def test_an_unreadable_volume_is_damaged(archive):
    opened = Archive.open([archive])
    (archive / V1).unlink()
    result = verify(opened)
    assert next(volume.status for volume in result.volumes) is VolumeStatus.DAMAGED
    assert any("cannot be read" in line for line in result.damage)


def test_a_size_of_a_signature_that_is_no_octal_number_is_damage():
    header = bytearray(tar_header(inventory_file.SIGNATURE_NAME, 64))
    header[130] = ord("9")
    with pytest.raises(ContentError, match="entries behind the inventory"):
        _check_tail(bytes(header) + bytes(512), 0)
