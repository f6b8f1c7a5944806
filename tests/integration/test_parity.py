"""Parity files: scratches, scattered damage, more of it than can be repaired, and damaged parity files."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
from fractions import Fraction

import pytest

from common.archive import parity
from common.archive.parity import Geometry, room
from tests.fakes.archives import noise
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.samples import more

pytestmark = pytest.mark.integration
SIZE = 24_000_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An archive with 5 % of parity, of two volumes."""
    folder = tmp_path_factory.mktemp("parity")
    with FakeRegistry() as source:
        names = []
        for number in range(6):
            source.add_image(f"org/app{number}", image([noise(f"layer {number}", SIZE // 6)]), tag="v1")
            names += ["--image", f"{source.host}/org/app{number}:v1"]
        asked = [*names, "--insecure", source.host, "--output", folder / "out", "--parity", "5%", "--volume-size", "16MiB"]
        done = run("hub-export", "create", *asked, env={"SOURCE_DATE_EPOCH": "1767225600"})
        assert done.status == 0, done.stderr
        twice = [*asked[:-5], folder / "again", *asked[-4:]]
        again = run("hub-export", "create", *twice, env={"SOURCE_DATE_EPOCH": "1767225600"}, fresh=True)
        assert again.status == 0, again.stderr
    for path in (folder / "out").iterdir():
        assert path.read_bytes() == (folder / "again" / path.name).read_bytes(), f"{path.name}: same content, same bytes"
    return folder / "out"


def test_a_plan_says_the_room_with_parity(tmp_path):
    """The free space is checked before anything is fetched: a disk that has what the plan says has enough."""
    with FakeRegistry() as source:
        source.add_image("org/app", image([noise("layer", 8_000_000)]), tag="v1")
        asked = ["--image", f"{source.host}/org/app:v1", "--insecure", source.host, "--parity", "50%"]
        planned = run("hub-export", "plan", *asked)
        made = run("hub-export", "create", *asked, "--output", tmp_path / "out")
    assert (planned.status, made.status) == (0, 0), planned.stderr + made.stderr
    said = re.search(r"^needs ([0-9.]+) MiB on disk$", planned.stdout, re.MULTILINE)
    there = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert there / 1024**2 <= float(said[1]) <= there / 1024**2 + 4


@pytest.fixture
def archive(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def checksum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def geometry(volume):
    beside = volume.with_name(volume.name + ".parity")
    with beside.open("rb") as file:
        return parity.read_header(file.fileno(), beside.stat().st_size)[0]


def overwrite(volume, indexes, block):
    with volume.open("r+b") as file:
        for index in indexes:
            file.seek(index * block)
            length = min(block, volume.stat().st_size - index * block)
            file.write(os.urandom(length))


def test_volume_and_parity_fit_the_size_together_and_are_listed(whole):
    sums = (whole / "SHA256SUMS").read_text()
    volumes = sorted(whole.glob("volume-*.zst"))
    assert len(volumes) == 2
    for volume in volumes:
        beside = volume.with_name(volume.name + ".parity")
        assert f"{checksum(beside)}  {beside.name}\n" in sums
        assert volume.stat().st_size + beside.stat().st_size <= 16 * 1024 * 1024
        assert 0.05 <= beside.stat().st_size / volume.stat().st_size < 0.065
    assert run("hub-import", "verify", whole).status == 0


@pytest.mark.parametrize("how", ["at random", *more(["one burst"])])
@pytest.mark.parametrize("seed", [0, *more(range(1, 5))])
def test_three_percent_of_the_blocks_are_repaired(whole, archive, how, seed):
    chance = random.Random(seed)
    for volume in sorted(archive.glob("volume-*.zst")):
        cut = geometry(volume)
        count = max(1, cut.count * 3 // 100)
        first = chance.randrange(cut.count - count + 1)
        bad = range(first, first + count) if how == "one burst" else chance.sample(range(cut.count), count)
        overwrite(volume, bad, cut.block)
        assert checksum(volume) != checksum(whole / volume.name)
    told = run("hub-import", "verify", archive)
    assert told.status == 4
    assert "hub-import repair" in told.stdout
    mended = run("hub-import", "repair", archive, "--format", "json")
    assert mended.status == 0, mended.stderr
    assert [one["status"] for one in mended.json["volumes"]] == ["mended", "mended"]
    for volume in archive.glob("volume-*"):
        assert checksum(volume) == checksum(whole / volume.name)
    assert run("hub-import", "verify", archive).status == 0


def test_more_damage_than_parity_says_how_much_is_missing(whole, archive):
    volume = archive / "volume-0001.tar.zst"
    cut = geometry(volume)
    assert cut.groups == 1
    overwrite(volume, range(10, 10 + cut.parity + 3), cut.block)
    before = checksum(volume)
    done = run("hub-import", "repair", archive)
    assert done.status == 4
    assert f"{cut.parity + 3} of {cut.count} blocks" in done.stdout
    assert "3 good blocks" in done.stdout
    assert checksum(volume) == before, "nothing is changed that cannot be repaired"
    told = run("hub-import", "repair", archive, "--format", "json").json
    assert [one["lacking"] for one in told["volumes"]] == [3, 0]


def test_read_only_media_are_repaired_in_a_copy(whole, archive, tmp_path):
    volume = archive / "volume-0001.tar.zst"
    overwrite(volume, [3], geometry(volume).block)
    before = checksum(volume)
    done = run("hub-import", "repair", volume, "--output", tmp_path / "mended")
    assert done.status == 0, done.stderr
    assert checksum(tmp_path / "mended" / volume.name) == checksum(whole / volume.name)
    assert checksum(volume) == before
    assert run("hub-import", "repair", volume, "--output", tmp_path / "mended").status == 2, "nothing is replaced"


def test_a_truncated_volume_or_one_with_a_damaged_tail_is_repaired(whole, archive):
    volume = archive / "volume-0002.tar.zst"
    os.truncate(volume, volume.stat().st_size - 70_000)
    assert run("hub-import", "repair", archive).status == 0
    assert checksum(volume) == checksum(whole / volume.name)
    with volume.open("ab") as file:
        file.write(b"more")
    assert run("hub-import", "repair", archive).status == 0
    assert checksum(volume) == checksum(whole / volume.name)


@pytest.mark.parametrize("part", ["block", *more(["head", "tail"])])
def test_a_damaged_parity_file_still_repairs(whole, archive, part):
    volume = archive / "volume-0001.tar.zst"
    beside = volume.with_name(volume.name + ".parity")
    cut = geometry(volume)
    where = {"head": 20, "tail": beside.stat().st_size - 20, "block": cut.place(0, 0) + 5}[part]
    with beside.open("r+b") as file:
        file.seek(where)
        file.write(b"\xff\x00\xff")
    overwrite(volume, [7, 30], cut.block)
    done = run("hub-import", "repair", archive)
    assert done.status == 0, done.stderr
    assert checksum(volume) == checksum(whole / volume.name)


def test_parity_of_another_volume_or_of_no_use_is_refused(whole, archive):
    one, two = (archive / f"volume-000{number}.tar.zst.parity" for number in (1, 2))
    before = checksum(archive / "volume-0001.tar.zst")
    shutil.copy(whole / two.name, one)
    other = run("hub-import", "repair", archive)
    assert other.status == 4
    assert "the parity of another volume" in other.stderr
    one.write_bytes(b"HUBPAR\x00\x01" + bytes(500))
    broken = run("hub-import", "repair", archive)
    assert broken.status == 4
    assert "both of its headers are of no use" in broken.stderr
    assert checksum(archive / "volume-0001.tar.zst") == before
    for path in archive.glob("*.parity"):
        path.unlink()
    assert run("hub-import", "repair", archive).status == 2


@pytest.mark.parametrize("text", ["0", "101", "five", "-5%"])
def test_a_share_that_makes_no_sense_is_a_usage_error(tmp_path, text):
    done = run("hub-export", "create", "--image", "registry.test/a/b:v1", "--output", tmp_path / "x", f"--parity={text}")
    assert done.status == 2
    assert "not a percentage" in done.stderr


@pytest.mark.parametrize("percent", [1, 5, 10, 50, 100])
@pytest.mark.parametrize("size", [1, 4096, 600_000, 16 << 20, (4 << 30) - 1, 25_000_000_000, 1 << 42])
def test_the_geometry_keeps_its_promises(size, percent):
    share = Fraction(percent, 100)
    cut = Geometry.of(size, share)
    assert cut.data + cut.parity <= 256
    assert cut.data * cut.groups >= cut.count
    assert cut.parity >= cut.data * share
    assert cut.file_size <= parity.bound(size, share)
    assert cut.step * (cut.data + cut.parity) <= 64 << 20
    fits = room(size, share)
    assert fits + parity.bound(fits, share) <= size or fits == 0
    if size > 1 << 20:
        assert fits >= size / (1 + share) * 0.93
