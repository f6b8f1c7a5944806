"""Parts and their joining: however volumes are divided, moved, copied or interrupted, the archive is the one of one process."""

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
from fractions import Fraction
from pathlib import Path

import pytest
from msgspec.structs import replace as replaced

from common.archive import checksums
from common.archive.reader import Archive
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
from exporter.distributed import joining, part, part_selection
from exporter.distributed.part import MissingBlob, PartWriter
from exporter.distributed.part_selection import FoundPart
from importer.archive.verify import verify
from tests.fakes.archives import CUT, chunks_of, noise, write
from tests.fakes.kills import killed_after
from tests.samples import more

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
                errors[blob.digest] = NotFoundError(f"{blob.digest}: gone", hint="Ask for it.")
            else:
                writer.write(blob, chunks_of(CUT.blobs[blob.digest]))
        made = writer.suspend(errors) if errors else writer.finish(dataclasses.replace(CUT.closing(layout), sign=sign))
    assert part.read(directory) == made
    return FoundPart(directory, made)


def select(parts, plan=PLAN):
    selection = part_selection.select(parts, CUT.layout(), plan)
    part_selection.require_all(selection, CUT.layout())
    return selection


def join(parts, directory, *, sign=None, further=None, progress=None, plan=PLAN):
    layout = CUT.layout()
    closing = dataclasses.replace(CUT.closing(layout), sign=sign)
    joining.join(select(parts, plan), directory, layout, closing, progress=progress or Silent(), further=further)


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


def test_a_moved_file_that_was_cut_short_is_made_again(tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))]
    join_and_be_killed(parts, tmp_path / "joined")
    os.truncate(tmp_path / "joined" / "volume-0002.tar.zst", 1000)
    with pytest.raises(ArchiveDamagedError, match=r"joined/volume-0002\.tar\.zst is not as long") as raised:
        join(parts, tmp_path / "joined")
    assert f"remove {tmp_path / 'a'}," in raised.value.hint
    join([make(tmp_path / "a", (1, 2)), parts[1]], tmp_path / "joined")
    assert is_right(tmp_path / "joined")


def test_an_unfinished_part_is_finished_by_the_next_run(tmp_path):
    write(tmp_path / "whole", CUT)
    assert make(tmp_path / "a", (1,), lost=(SMALL,)).record.inventory is None
    parts = [make(tmp_path / "a", (1,)), make(tmp_path / "b", (2, 3))]
    join(parts, tmp_path / "joined")
    assert contents(tmp_path / "joined") == contents(tmp_path / "whole")


def test_of_two_parts_with_the_same_volume_the_finished_one_counts(tmp_path):
    parts = [make(tmp_path / "a", (1, 2, 3)), make(tmp_path / "b", (1,), lost=(SMALL,))]
    for order in itertools.permutations(parts):
        assert {one.directory for one in select(order).values()} == {tmp_path / "a"}


class Stumbling(Silent):
    """Progress that fails the n-th time that anything moves."""

    def __init__(self, steps):
        self.left = steps

    def advance(self, size, item=None, *, moved=True):
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


@pytest.mark.parametrize("steps", range(1, 6))
def test_whenever_copying_is_interrupted_the_next_run_ends_it(steps, tmp_path, elsewhere):
    write(tmp_path / "whole", CUT)
    share = Fraction(1, 10)
    parts = [make(tmp_path / "a", (1,), share=share), make(elsewhere / "b", (2, 3), share=share)]
    with pytest.raises(KeyboardInterrupt):
        join(parts, tmp_path / "joined", progress=Stumbling(steps), further=torn)
    assert not (tmp_path / "joined" / "SHA256SUMS").exists()
    join(parts, tmp_path / "joined")
    made = {name: raw for name, raw in contents(tmp_path / "joined").items() if name.endswith(".zst")}
    assert made == {name: raw for name, raw in contents(tmp_path / "whole").items() if name.endswith(".zst")}
    assert is_right(tmp_path / "joined")


@pytest.fixture(params=["moved", "copied"])
def places(request, tmp_path, elsewhere):
    """The directories of two parts: on the file system of the archive, or on another."""
    home = tmp_path if request.param == "moved" else elsewhere
    return home / "a", home / "b"


def test_volumes_of_another_plan_are_neither_taken_nor_touched(tmp_path):
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
def test_parts_that_are_made_again_with_another_key_after_a_kill_are_the_ones_that_count(keys, places, signers, tmp_path):
    share = Fraction(1, 10)
    first, second = (None if key is None else signers[key].sign for key in keys)

    def parts(sign):
        return [make(at, each, sign=sign, share=share) for at, each in zip(places, ((1,), (2, 3)), strict=True)]

    join_and_be_killed(parts(first), tmp_path / "joined", sign=first)
    join(parts(second), tmp_path / "joined", sign=second)
    assert is_right(tmp_path / "joined")
    whole = make(tmp_path / "whole", (1, 2, 3), sign=second, share=share).record
    assert {name: hex_of(digest_of((tmp_path / "joined" / name).read_bytes())) for name in whole.sums} == whole.sums


def test_a_part_is_no_place_for_the_archive(tmp_path):
    share = Fraction(1, 10)
    one = make(tmp_path / "part", (1, 2, 3), share=share)
    before = contents(one.directory)
    assert "volume-0001.tar.zst.parity" in before
    with pytest.raises(UsageError, match="part is a part of an archive"):
        join([one], one.directory)
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
    parts = [make(at, numbers, share=Fraction(1, 10)) for at, numbers in ((elsewhere / "a", (1, 2)), (tmp_path / "b", (3,)))]
    joined = tmp_path / "joined"
    joined.mkdir()
    for name in ("volume-0001.tar.zst", "volume-0002.tar.zst", "volume-0003.tar.zst"):
        (joined / f".{name}.new").write_bytes(b"half")
    with pytest.raises(SpaceError):
        join([*parts[1:], dataclasses.replace(parts[0], directory=grown(parts[0].directory, 1 << 43))], joined)
    assert not list(joined.glob(".volume-*"))
    assert (joined / "volume-0003.tar.zst").is_file()


def grown(directory, size):
    """Make the first parity of a part larger than any file system, without taking room."""
    os.truncate(directory / "volume-0001.tar.zst.parity", size)
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


@pytest.mark.parametrize("options", ["bind", *more(["bind,ro"])])
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
BETWEEN_MOUNTS = (
    "from exporter.distributed import part\nfrom exporter.distributed.part_selection import FoundPart" + BETWEEN_MOUNTS
)


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
    """Two parts on a quick file system, with a blob that is cut over both, and their archive."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        home = Path(name)
        make(home / "parts" / "a", (1,))
        make(home / "parts" / "b", (2, 3))
        write(home / "archive", CUT)
        yield home


PLACES = {False: "moved", True: "copied"}
CASES = [("", True), ("a", False), ("b", True), ("ab", False)]  # any two together


def set_out(made, work, names="ab"):
    """Copy parts to a directory, as if they were just made there; return the parts that are there."""
    for name in names:
        shutil.rmtree(work / name, ignore_errors=True)
        shutil.copytree(made / "parts" / name, work / name)
    return [FoundPart(work / name, part.read(work / name)) for name in "ab" if (work / name / part.NAME).is_file()]


@pytest.mark.parametrize(
    ("names", "far"),
    [
        *(pytest.param(names, far, id=f"{names}-{PLACES[far]}") for names, far in CASES),
        *(pytest.param(names, not far, id=f"{names}-{PLACES[not far]}", marks=pytest.mark.more) for names, far in CASES),
    ],
)
def test_killed_at_any_instant_the_next_run_makes_the_archive(names, far, made, elsewhere, tmp_path):
    """With the same parts (moved volumes are only in the output directory), or with some that were made again."""
    work, out = (elsewhere if far else tmp_path) / "work", tmp_path / "out"
    for changes in range(("", "a", "b", "ab").index(names), 80, 4):
        parts = set_out(made, work)
        with killed_after(changes, tmp_path) as died:
            join(parts, out)
        if not (out / "SHA256SUMS").exists():
            again = set_out(made, work, names)
            join(again if names else parts, out)
        tidy_finished(out)
        assert contents(out) == contents(made / "archive"), changes
        shutil.rmtree(out)
    assert not died


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
    with pytest.raises(ArchiveIncompleteError, match=r"2 of 3 volumes in none of the parts: volume-0001.tar.zst, volume-0003"):
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
    "changes", [{"volumes": (1, 4)}, {"lost": {digest_of(b"strange"): MissingBlob("gone")}}], ids=["volumes", "blobs"]
)
def test_a_record_of_what_the_plan_has_not_is_refused(changes, tmp_path):
    one = make(tmp_path / "a", (1, 2, 3))
    with pytest.raises(UsageError, match="a: its record has volumes or blobs that its plan does not have"):
        select([FoundPart(one.directory, replaced(one.record, **changes))])


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"mediaType":"x","plan":"sha256:0","volumes":{}}'], ids=repr)
def test_a_mark_that_is_none_is_refused(raw, tmp_path):
    parts = [make(tmp_path / "a", (1, 2)), make(tmp_path / "b", (3,))]
    join_and_be_killed(parts, tmp_path / "joined")
    (tmp_path / "joined" / JOINING).write_bytes(raw)
    before = contents(tmp_path / "joined")
    with pytest.raises(UsageError, match=re.escape(str(tmp_path / "joined" / JOINING))):
        join(parts, tmp_path / "joined")
    assert contents(tmp_path / "joined") == before


def test_a_moved_volume_with_another_name_is_refused(tmp_path):
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
