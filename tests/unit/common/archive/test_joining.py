"""Parts and their joining: whatever is cut where, moved, copied, lost or interrupted, the archive is the one of one process."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest

from common.archive import joining, part
from common.archive.filling import blobs_of
from common.archive.joining import FoundPart
from common.archive.part import PartWriter
from common.archive.reader import Archive
from common.archive.signature import Signer
from common.archive.verification import verify
from common.digest import digest_of
from common.errors import ArchiveDamagedError, ArchiveIncompleteError, HubError, NotFoundError, UsageError
from common.progress import Silent
from tests.fakes.archives import CUT, chunks_of, noise, write

PLAN = digest_of(b"the plan")
LARGE = digest_of(noise("large", 900_000))
SMALL = digest_of(noise("small", 1000))


def make(directory, numbers, *, lost=(), sign=None, share=Fraction(0), plan=PLAN):
    """Fill a part of CUT, but for the blobs in `lost`; return it."""
    layout = CUT.layout()
    part.forget(directory)
    with PartWriter(directory, layout, numbers, plan, share=share) as writer:
        errors = {}
        for blob in blobs_of(layout, numbers):
            if blob.digest in lost:
                writer.mark_missing(blob.digest)
                errors[blob.digest] = NotFoundError(f"{blob.digest}: gone", hint="Ask for it.")
            else:
                writer.write(blob, chunks_of(CUT.blobs[blob.digest]))
        made = writer.finish(dataclasses.replace(CUT.closing(layout), sign=sign), errors)
    assert part.read(directory) == made
    return FoundPart(directory, made)


def join(parts, directory, *, sign=None, share=Fraction(0), lost=(), further=None, progress=None):
    layout = CUT.layout()
    content = dataclasses.replace(CUT, missing=frozenset(lost))
    closing = dataclasses.replace(content.closing(layout), sign=sign)
    owned = joining.owners(parts, layout, PLAN)
    joining.join(owned, directory, layout, closing, share=share, progress=progress or Silent(), further=further)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def elsewhere():
    """A directory on another file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def signer(tmp_path):
    from common.archive.signature import Algorithm, make_keys

    make_keys(tmp_path / "key", tmp_path / "pub", Algorithm.ECDSA_P256)
    return Signer.load(tmp_path / "key")


WAYS = [[(1,), (2,), (3,)], [(1, 2), (3,)], [(1,), (2, 3)], [(1, 2, 3)], [(1, 3), (2,)]]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_parts_make_the_archive_of_one_process(way, tmp_path):
    write(tmp_path / "whole", CUT)
    parts = [make(tmp_path / f"part-{number}", numbers) for number, numbers in enumerate(way)]
    join(parts, tmp_path / "joined")
    assert contents(tmp_path / "joined") == contents(tmp_path / "whole")
    assert not any(one.directory.exists() for one in parts)


def test_parts_on_another_file_system_are_copied_and_stay(tmp_path, elsewhere):
    write(tmp_path / "whole", CUT)
    parts = [make(elsewhere / "far", (1, 2)), make(tmp_path / "near", (3,))]
    join(parts, tmp_path / "joined")
    assert contents(tmp_path / "joined") == contents(tmp_path / "whole")
    assert (elsewhere / "far" / "volume-0001.tar.zst").is_file()
    assert not (tmp_path / "near").exists()


def test_a_copy_that_is_not_what_the_part_wrote_is_refused(tmp_path, elsewhere):
    parts = [make(elsewhere / "far", (1, 2)), make(tmp_path / "near", (3,))]
    with (elsewhere / "far" / "volume-0002.tar.zst").open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff")
    with pytest.raises(ArchiveDamagedError, match=r"volume-0002\.tar\.zst: not what its part wrote"):
        join(parts, tmp_path / "joined")
    assert not (tmp_path / "joined" / "volume-0002.tar.zst").exists()


def test_a_file_that_was_cut_short_is_refused(tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))]
    os.truncate(tmp_path / "a" / "volume-0002.tar.zst", 1000)
    with pytest.raises(ArchiveDamagedError, match="not as long as its part says"):
        join(parts, tmp_path / "joined")
    assert not (tmp_path / "joined" / "SHA256SUMS").exists()


@pytest.mark.parametrize("lost", [(SMALL,), (LARGE,), (SMALL, LARGE)], ids=["small", "in three volumes", "both"])
def test_what_any_part_lost_is_missing_in_all_of_the_archive(lost, tmp_path):
    write(tmp_path / "whole", dataclasses.replace(CUT, missing=frozenset(lost)))
    parts = [make(tmp_path / "a", (1,), lost=lost), make(tmp_path / "b", (2, 3))]
    assert parts[0].record.lost.keys() == set(lost)
    join(parts, tmp_path / "joined", lost=lost)
    assert contents(tmp_path / "joined") == contents(tmp_path / "whole")


def test_what_was_lost_can_be_had_the_next_time(tmp_path):
    write(tmp_path / "whole", CUT)
    make(tmp_path / "a", (1,), lost=(SMALL,))
    parts = [make(tmp_path / "a", (1,)), make(tmp_path / "b", (2, 3))]
    join(parts, tmp_path / "joined")
    assert contents(tmp_path / "joined") == contents(tmp_path / "whole")


def test_of_two_parts_with_the_same_volume_the_whole_one_counts(tmp_path):
    write(tmp_path / "whole", CUT)
    parts = [make(tmp_path / "a", (1, 2, 3)), make(tmp_path / "b", (1,), lost=(SMALL,))]
    for order in itertools.permutations(parts):
        assert {one.directory for one in joining.owners(order, CUT.layout(), PLAN).values()} == {tmp_path / "a"}


@pytest.mark.parametrize("signed", [True, False], ids=["parts signed, too", "parts not signed"])
def test_parts_are_closed_again_where_they_are_signed_otherwise(signed, tmp_path, signer):
    parts = [
        make(tmp_path / f"{number}", (number,), sign=signer.sign if signed else None, share=Fraction(1, 10))
        for number in (1, 2, 3)
    ]
    join(parts, tmp_path / "joined", sign=signer.sign, share=Fraction(1, 10))
    found = verify(Archive.open([tmp_path / "joined"]), jobs=2, progress=Silent())
    assert found.ok
    assert len([name for name in contents(tmp_path / "joined") if name.endswith(".parity")]) == 3
    whole = [make(tmp_path / "again", (1, 2, 3), sign=signer.sign, share=Fraction(1, 10))]
    join(whole, tmp_path / "one", sign=signer.sign, share=Fraction(1, 10))
    assert contents(tmp_path / "joined") == contents(tmp_path / "one")


class Stumbling(Silent):
    """Progress that fails the n-th time that anything moves."""

    def __init__(self, steps):
        self.left = steps

    def advance(self, size, item=None):
        del size, item
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def torn(_sums):
    raise KeyboardInterrupt


@pytest.mark.parametrize("lost", [(), (SMALL,)], ids=["moved", "closed again"])
@pytest.mark.parametrize("steps", range(1, 9))
def test_whenever_joining_is_interrupted_the_next_run_ends_it(steps, lost, tmp_path, elsewhere):
    write(tmp_path / "whole", dataclasses.replace(CUT, missing=frozenset(lost)))
    share = Fraction(1, 10) if not lost else Fraction(0)
    parts = [make(tmp_path / "a", (1,), lost=lost, share=share), make(elsewhere / "b", (2, 3), share=share)]
    try:
        join(parts, tmp_path / "joined", lost=lost, share=share, progress=Stumbling(steps), further=torn)
    except KeyboardInterrupt:
        assert not (tmp_path / "joined" / "SHA256SUMS").exists()
    join(parts, tmp_path / "joined", lost=lost, share=share)
    made = {name: raw for name, raw in contents(tmp_path / "joined").items() if name.endswith(".zst")}
    assert made == {name: raw for name, raw in contents(tmp_path / "whole").items() if name.endswith(".zst")}
    assert verify(Archive.open([tmp_path / "joined"]), jobs=2, progress=Silent()).ok


def test_parts_of_another_plan_are_refused(tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,), plan=digest_of(b"another"))]
    with pytest.raises(UsageError, match="b is a part of another plan"):
        join(parts, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_volumes_in_no_part_are_named(tmp_path):
    with pytest.raises(
        ArchiveIncompleteError, match=r"2 of 3 volumes in no part that is here: volume-0001.tar.zst, volume-0003"
    ):
        join([make(tmp_path / "a", (2,))], tmp_path / "joined")


def test_a_volume_that_its_part_does_not_have_is_missed(tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))]
    (tmp_path / "a" / "volume-0001.tar.zst").unlink()
    with pytest.raises(ArchiveIncompleteError, match=r"volume-0001\.tar\.zst: not there, and its part lists it"):
        join(parts, tmp_path / "joined")


def test_volumes_of_an_interrupted_export_are_not_taken_for_those_of_parts(tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))]
    interrupted = make(tmp_path / "other", (1, 2, 3), lost=(SMALL,)).directory
    part.forget(interrupted)
    with pytest.raises(UsageError, match="holds volumes of an interrupted export"):
        join(parts, interrupted)
    assert (tmp_path / "a" / "volume-0001.tar.zst").is_file()


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"media_type": 1}', b'{"mediaType":"x","plan":"sha256:0","volumes":[1]}', b"\xff"]
)
def test_a_record_that_is_none_is_refused(raw, tmp_path):
    (tmp_path / part.NAME).write_bytes(raw)
    with pytest.raises(HubError) as raised:
        part.read(tmp_path)
    assert str(tmp_path / part.NAME) in raised.value.message
    assert raised.value.hint


def test_a_record_that_is_a_link_is_none(tmp_path):
    shutil.copy("/etc/hostname", tmp_path / "x")
    (tmp_path / part.NAME).symlink_to(tmp_path / "x")
    assert part.read(tmp_path) is None
