"""Parts and their joining: whatever is cut where, moved, copied, lost or interrupted, the archive is the one of one process."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pytest
from msgspec.structs import replace as replaced

from common.archive import checksums
from common.archive.signature import Algorithm, Signer, make_keys
from common.errors import (
    ArchiveDamagedError,
    ArchiveIncompleteError,
    HubError,
    InUseError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from common.files import locked
from common.oci.image import digest_of, hex_of
from common.progress import Silent
from exporter.archive.output import JOINING, LOCK, tidy_finished
from exporter.archive.writer import blobs_of
from exporter.distributed import join_state, joining, part
from exporter.distributed.join_state import FoundPart
from exporter.distributed.part import Lost, PartWriter
from importer.archive.reader import Archive
from importer.archive.verify import verify
from tests.fakes.archives import CUT, chunks_of, noise, write
from tests.fakes.kills import killed_after

PLAN = digest_of(b"the plan")
LARGE = digest_of(noise("large", 900_000))
SMALL = digest_of(noise("small", 1000))


def make(directory, numbers, *, lost=(), sign=None, share=Fraction(0), plan=PLAN):
    """Fill a part of CUT, but for the blobs in `lost`; return it."""
    layout = CUT.layout()
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


def join(parts, directory, *, sign=None, share=Fraction(0), lost=(), further=None, progress=None, plan=PLAN):
    layout = CUT.layout()
    content = dataclasses.replace(CUT, missing=frozenset(lost))
    closing = dataclasses.replace(content.closing(layout), sign=sign)
    owned = join_state.owners(parts, layout, plan)
    assert join_state.lost(owned, layout).keys() == set(lost)
    joining.join(owned, directory, layout, closing, share=share, progress=progress or Silent(), further=further)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def tmp_path():
    """A directory in memory: much is made durable here."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def elsewhere(tmp_path_factory):
    """A directory on another file system."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture
def signers(tmp_path_factory):
    """Two keys of one algorithm."""
    home = tmp_path_factory.mktemp("keys")
    for name in "ab":
        make_keys(home / name, home / f"{name}.pub", Algorithm.ECDSA_P256)
    return [Signer.load(home / name) for name in "ab"]


@pytest.fixture
def signer(signers):
    return signers[0]


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
    with pytest.raises(ArchiveDamagedError, match=r"a/volume-0002\.tar\.zst is not as long as its part says") as raised:
        join(parts, tmp_path / "joined")
    assert f"remove {tmp_path / 'a'}," in raised.value.hint
    assert (tmp_path / "a" / "volume-0001.tar.zst").is_file(), "nothing was moved"
    join([make(tmp_path / "a", (1, 2)), parts[1]], tmp_path / "joined")
    assert is_right(tmp_path / "joined")


def test_a_gathered_file_that_was_cut_short_is_made_again(tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))]
    join_and_be_killed(parts, tmp_path / "joined")
    os.truncate(tmp_path / "joined" / "volume-0002.tar.zst", 1000)
    with pytest.raises(ArchiveDamagedError, match=r"joined/volume-0002\.tar\.zst is not as long") as raised:
        join(parts, tmp_path / "joined")
    assert f"remove {tmp_path / 'a'}," in raised.value.hint
    join([make(tmp_path / "a", (1, 2)), parts[1]], tmp_path / "joined")
    assert is_right(tmp_path / "joined")


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
        assert {one.directory for one in join_state.owners(order, CUT.layout(), PLAN).values()} == {tmp_path / "a"}


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


def join_and_be_killed(parts, directory, **how):
    """Join, up to the instant in which the last files would be written."""
    with pytest.raises(KeyboardInterrupt):
        join(parts, directory, further=torn, **how)
    assert not (directory / "SHA256SUMS").exists()


def is_right(directory):
    """Say whether every file is what SHA256SUMS says, with nothing else beside them, and every blob what its digest says."""
    listed = checksums.parse((directory / "SHA256SUMS").read_bytes())
    found = {name: hex_of(digest_of(raw)) for name, raw in contents(directory).items() if name in listed}
    strangers = contents(directory).keys() - listed.keys() - {"SHA256SUMS", "SHA256SUMS.sig"}
    return found == listed and not strangers and verify(Archive.open([directory]), jobs=2, progress=Silent()).ok


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


@pytest.fixture(params=["moved", "copied"])
def places(request, tmp_path, elsewhere):
    """Where two parts lie: beside the archive, or on another file system."""
    home = tmp_path if request.param == "moved" else elsewhere
    return home / "a", home / "b"


def test_what_another_plan_gathered_is_neither_taken_nor_touched(tmp_path):
    """Same layout, as of plans that differ in their time only."""
    join_and_be_killed([make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))], tmp_path / "joined")
    before, other = contents(tmp_path / "joined"), digest_of(b"another")
    parts = [make(tmp_path / "a", (1, 2), plan=other), make(tmp_path / "b", (3,), plan=other)]
    mine = contents(tmp_path / "a")
    with pytest.raises(UsageError, match="holds volumes of another plan's parts"):
        join(parts, tmp_path / "joined", plan=other)
    assert contents(tmp_path / "joined") == before
    assert contents(tmp_path / "a") == mine
    with pytest.raises(UsageError, match="holds volumes of parts that are being joined"):
        write(tmp_path / "joined", dataclasses.replace(CUT, volume_size=700_000))
    with pytest.raises(UsageError, match="holds volumes of parts that are being joined"):
        make(tmp_path / "joined", (1, 2), plan=other)
    assert contents(tmp_path / "joined") == before


@pytest.mark.parametrize("keys", [(None, 0), (0, None), (0, 1)], ids=str)
@pytest.mark.parametrize("again", [False, True], ids=["", "parts made again"])
def test_another_key_after_a_kill_is_the_one_that_counts(keys, again, places, signers, tmp_path):
    share = Fraction(1, 10)
    first, second = (None if key is None else signers[key].sign for key in keys)
    numbers = ((1,), (2, 3))
    parts = [make(at, each, sign=second, share=share) for at, each in zip(places, numbers, strict=True)]
    join_and_be_killed(parts, tmp_path / "joined", sign=first, share=share)
    if again:
        parts = [make(at, each, sign=second, share=share) for at, each in zip(places, numbers, strict=True)]
    join(parts, tmp_path / "joined", sign=second, share=share)
    assert is_right(tmp_path / "joined")
    whole = make(tmp_path / "whole", (1, 2, 3), sign=second, share=share).record
    assert {name: hex_of(digest_of((tmp_path / "joined" / name).read_bytes())) for name in whole.sums} == whole.sums


@pytest.mark.parametrize("lost", [SMALL, LARGE], ids=["in one volume", "in all three"])
def test_what_was_lost_and_cleared_and_is_there_again_is_in_the_archive(lost, places, tmp_path):
    write(tmp_path / "whole", CUT)
    parts = [make(places[0], (1,), lost=(lost,)), make(places[1], (2, 3))]
    join_and_be_killed(parts, tmp_path / "joined", lost=(lost,))
    parts = [make(places[0], (1,)), make(places[1], (2, 3))]
    join(parts, tmp_path / "joined")
    assert contents(tmp_path / "joined") == contents(tmp_path / "whole")


def test_what_is_cleared_in_a_volume_is_never_called_present(tmp_path):
    """Though its own part lost nothing; made again, it may stand in for the one that was cleared."""
    parts = [make(tmp_path / "a", (1,), lost=(LARGE,)), make(tmp_path / "b", (2, 3))]
    join_and_be_killed(parts, tmp_path / "joined", lost=(LARGE,))
    parts[0] = make(tmp_path / "a", (1,))
    with pytest.raises(ArchiveIncompleteError, match=rf"the place of {LARGE}, which was lost before, is cleared") as raised:
        join(parts, tmp_path / "joined")
    assert f"remove {tmp_path / 'b'}," in raised.value.hint
    parts[1] = make(tmp_path / "b", (2, 3))
    join(parts, tmp_path / "joined")
    assert is_right(tmp_path / "joined")


def test_what_is_lost_after_all_is_missing_in_what_was_gathered(tmp_path):
    write(tmp_path / "whole", dataclasses.replace(CUT, missing=frozenset([LARGE])))
    join_and_be_killed([make(tmp_path / "a", (1,)), make(tmp_path / "b", (2, 3))], tmp_path / "joined")
    parts = [make(tmp_path / "a", (1,)), make(tmp_path / "b", (2, 3), lost=(LARGE,))]
    join(parts, tmp_path / "joined", lost=(LARGE,))
    assert contents(tmp_path / "joined") == contents(tmp_path / "whole")


def test_a_blob_counts_as_lost_only_where_its_volume_is_taken(tmp_path):
    write(tmp_path / "whole", CUT)
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (1, 3), lost=(SMALL,))]
    join(parts, tmp_path / "joined")
    assert contents(tmp_path / "joined") == contents(tmp_path / "whole")
    assert [path.name for path in sorted((tmp_path / "b").glob("volume-*"))] == ["volume-0001.tar.zst"]


@pytest.mark.parametrize("steps", range(1, 12))
def test_closing_again_goes_on_with_the_volume_that_it_was_at(steps, signer, tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))]
    with suppress(KeyboardInterrupt):
        join(parts, tmp_path / "joined", sign=signer.sign, progress=Stumbling(steps))
        assert steps > 6, "each volume is read in two steps"
    if not (tmp_path / "joined" / "SHA256SUMS").exists():
        rest = Counting()
        join(parts, tmp_path / "joined", sign=signer.sign, progress=rest)
        assert rest.steps == 6 - (steps - 1) // 2 * 2
    assert is_right(tmp_path / "joined")


class Counting(Silent):
    """Progress that counts its steps."""

    steps = 0

    def advance(self, size, item=None):
        del size, item
        self.steps += 1


def test_a_part_is_no_place_for_the_archive(tmp_path):
    share = Fraction(1, 10)
    one = make(tmp_path / "part", (1, 2, 3), share=share)
    before = contents(one.directory)
    assert "volume-0001.tar.zst.parity" in before
    with pytest.raises(UsageError, match="part is a part of an archive"):
        join([one], one.directory, share=share)
    with pytest.raises(UsageError, match="part is a part of an archive"):
        write(one.directory, CUT)
    assert contents(one.directory) == before


def test_a_part_that_is_in_use_is_neither_joined_nor_changed(tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))]
    before = contents(tmp_path / "a")
    with locked(tmp_path / "a" / LOCK, "it"):
        with pytest.raises(InUseError, match=r"the part .*a is in use"):
            join(parts, tmp_path / "joined")
        with pytest.raises(InUseError, match="a is in use"):
            make(tmp_path / "a", (1, 2))
        assert contents(tmp_path / "a") == before
    join(parts, tmp_path / "joined")
    assert is_right(tmp_path / "joined")


def test_a_part_that_was_made_again_since_is_looked_at_again(tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))]
    make(tmp_path / "b", (3,), lost=(LARGE,))
    with pytest.raises(InUseError, match="b was made again just now"):
        join(parts, tmp_path / "joined")
    assert (tmp_path / "a" / "volume-0001.tar.zst").is_file()
    assert not list((tmp_path / "joined").iterdir())


def test_what_was_half_copied_makes_room_before_room_is_looked_for(tmp_path, elsewhere):
    """As much room as the archive needs, and a half copied volume in it."""
    parts = [make(elsewhere / "a", (1, 2)), make(tmp_path / "b", (3,))]
    joined = tmp_path / "joined"
    joined.mkdir()
    for name in ("volume-0001.tar.zst", "volume-0002.tar.zst", "volume-0003.tar.zst"):
        (joined / f".{name}.new").write_bytes(b"half")
    with pytest.raises(SpaceError):
        join([*parts[1:], dataclasses.replace(parts[0], directory=grown(parts[0].directory, 1 << 43))], joined)
    assert not list(joined.glob(".volume-*"))
    assert (joined / "volume-0003.tar.zst").is_file()


def grown(directory, size):
    """Make the first volume of a part larger than any file system, without taking room."""
    os.truncate(directory / "volume-0001.tar.zst", size)
    return directory


BETWEEN_MOUNTS = """
import sys
from pathlib import Path
from tests.unit.exporter.distributed.test_joining import is_right, join, make
home = Path(sys.argv[1])
join([make(home / "mounted", (1, 2)), make(home / "b", (3,))], home / "joined")
assert is_right(home / "joined")
assert (home / "mounted" / "volume-0001.tar.zst").is_file()
assert not list((home / "mounted").glob("*probe"))
"""


@pytest.mark.parametrize("options", ["bind", "bind,ro"])
def test_two_mounts_of_one_device_are_two_file_systems(options, tmp_path):
    """A volume with a subPath is such a mount: files have the same device, and cannot be moved."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    (tmp_path / "mounted").mkdir()
    if options == "bind,ro":
        make(tmp_path / "real", (1, 2))
    source = tmp_path / "real"
    source.mkdir(exist_ok=True)
    code = BETWEEN_MOUNTS if options == "bind" else BETWEEN_MOUNTS.replace('make(home / "mounted", (1, 2))', READ_ONLY)
    script = f'mount -o {options} "$0/real" "$0/mounted" && exec "$1" -c "$2" "$0"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, tmp_path, sys.executable, code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


READ_ONLY = "FoundPart(home / 'mounted', part.read(home / 'mounted'))"
BETWEEN_MOUNTS = "from exporter.distributed import part\nfrom exporter.distributed.join_state import FoundPart" + BETWEEN_MOUNTS


def test_what_is_left_of_a_part_goes_its_record_last(tmp_path):
    for changes in itertools.count():
        directory = make(tmp_path / "a", (1, 2, 3)).directory
        for path in directory.glob("volume-*"):
            path.unlink()
        with killed_after(changes, tmp_path) as died:
            joining.tidy(directory)
        if not died:
            break
        assert (directory / part.NAME).is_file() or not list(directory.iterdir())
    assert changes > 3
    assert not directory.exists()


@pytest.fixture(scope="module")
def made():
    """Two parts on a quick file system, that lost nothing, and that lost the large blob, which lies in both."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        home = Path(name)
        for kind, lost in (("whole", ()), ("lossy", (LARGE,))):
            make(home / kind / "a", (1,), lost=lost)
            make(home / kind / "b", (2, 3))
        write(home / "archive", CUT)
        write(home / "missing", dataclasses.replace(CUT, missing=frozenset([LARGE])))
        yield home


def set_out(made, kind, work, names="ab"):
    """Put parts into a place, as if they were just made there; return what is there."""
    for name in names:
        shutil.rmtree(work / name, ignore_errors=True)
        shutil.copytree(made / kind / name, work / name)
    return [FoundPart(work / name, part.read(work / name)) for name in "ab" if (work / name / part.NAME).is_file()]


def instants(first):
    """Every eighth change, each of the tests below from another one on; a run has fewer than seventy."""
    return range(first, 80, 8)


@pytest.mark.parametrize("far", [False, True], ids=["moved", "copied"])
def test_killed_at_any_instant_the_same_again_makes_the_same(far, made, elsewhere, tmp_path):
    work, out = (elsewhere if far else tmp_path) / "work", tmp_path / "out"
    for changes in instants(4 * far):
        parts = set_out(made, "lossy", work)
        with killed_after(changes, tmp_path) as died:
            join(parts, out, lost=(LARGE,))
        if not (out / "SHA256SUMS").exists():
            join(parts, out, lost=(LARGE,))
        tidy_finished(out)
        assert contents(out) == contents(made / "missing"), changes
        shutil.rmtree(out)
    assert not died


@pytest.mark.parametrize("far", [False, True], ids=["moved", "copied"])
@pytest.mark.parametrize("names", ["a", "b", "ab"])
def test_killed_at_any_instant_parts_made_again_make_no_wrong_archive(names, far, made, elsewhere, tmp_path):
    """What was cleared in a volume that is not made again is missed, and the archive is not made."""
    work, out = (elsewhere if far else tmp_path) / "work", tmp_path / "out"
    refused = 0
    for changes in instants(("a", "b", "ab").index(names) * 2 + 1 + 3 * far):
        parts = set_out(made, "lossy", work)
        with killed_after(changes, tmp_path) as died:
            join(parts, out, lost=(LARGE,))
        if not (out / "SHA256SUMS").exists():
            lost = (LARGE,) if names == "b" else ()
            try:
                join(set_out(made, "whole", work, names), out, lost=lost)
            except ArchiveIncompleteError:
                refused += 1
            else:
                assert contents(out) == contents(made / ("missing" if lost else "archive")), changes
        shutil.rmtree(out)
    assert not died
    assert bool(refused) == (names == "a" and not far)


def test_a_lock_that_was_left_in_a_finished_archive_goes(tmp_path):
    write(tmp_path / "whole", CUT)
    before = contents(tmp_path / "whole")
    (tmp_path / "whole" / LOCK).touch()
    tidy_finished(tmp_path / "whole")
    assert contents(tmp_path / "whole") == before


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


def record(**changes):
    """Return a record as JSON that says something else in places."""
    said = {
        "mediaType": "application/vnd.hub-airgap.part.v1+json",
        "plan": PLAN,
        "volumes": [1],
        "sums": {"volume-0001.tar.zst": "0" * 64},
    }
    return json.dumps(said | changes).encode()


def test_a_record_that_is_one_is_read(tmp_path):
    (tmp_path / part.NAME).write_bytes(record())
    assert part.read(tmp_path).volumes == (1,)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"media_type": 1}',
        b'{"mediaType":"x","plan":"sha256:0","volumes":[1]}',
        b"\xff",
        record(mediaType="x"),
        record(plan="sha256:0"),
        record(volumes=[0]),
        record(volumes=[-1]),
        record(volumes=[1, 1]),
        record(volumes=[10**6]),
        record(sums={"volume-0001.tar.zst": "x" * 64}),
        record(sums={"volume-0001.tar.zst": "0" * 63}),
        record(sums={"volume-0001.tar.zst": "0" * 64 + "\n"}),
        record(sums={"volume-0001.tar.zst": "A" * 64}),
        record(sums={"../volume-0001.tar.zst": "0" * 64}),
        record(lost={"x": {"message": "gone"}}),
        record(inventory="sha256:" + "g" * 64),
        record(signature=""),
    ],
)
def test_a_record_that_is_none_is_refused(raw, tmp_path):
    (tmp_path / part.NAME).write_bytes(raw)
    with pytest.raises(HubError) as raised:
        part.read(tmp_path)
    assert str(tmp_path / part.NAME) in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    "changes", [{"volumes": (1, 4)}, {"lost": {digest_of(b"strange"): Lost("gone")}}], ids=["volumes", "blobs"]
)
def test_a_record_of_what_the_plan_has_not_is_refused(changes, tmp_path):
    one = make(tmp_path / "a", (1, 2, 3))
    with pytest.raises(UsageError, match="a: its record has volumes or blobs that its plan has not"):
        join_state.owners([FoundPart(one.directory, replaced(one.record, **changes))], CUT.layout(), PLAN)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"mediaType":"x","plan":"sha256:0","volumes":{}}'], ids=repr)
def test_a_mark_that_is_none_is_refused(raw, tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))]
    join_and_be_killed(parts, tmp_path / "joined")
    (tmp_path / "joined" / JOINING).write_bytes(raw)
    before = contents(tmp_path / "joined")
    with pytest.raises(UsageError, match=re.escape(str(tmp_path / "joined" / JOINING))):
        join(parts, tmp_path / "joined")
    assert contents(tmp_path / "joined") == before


def test_a_gathered_volume_with_another_name_is_refused(tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))]
    join_and_be_killed(parts, tmp_path / "joined")
    os.link(tmp_path / "joined" / "volume-0001.tar.zst", tmp_path / "mine")
    with pytest.raises(UsageError, match=r"volume-0001\.tar\.zst is a link, or has another name"):
        join(parts, tmp_path / "joined")
    assert (tmp_path / "joined" / "volume-0001.tar.zst").is_file()


def test_a_record_that_is_a_link_is_none(tmp_path):
    shutil.copy("/etc/hostname", tmp_path / "x")
    (tmp_path / part.NAME).symlink_to(tmp_path / "x")
    assert part.read(tmp_path) is None
