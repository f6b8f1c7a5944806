"""Readers of untrusted bytes meet mutated input: a HubError, or a result that keeps the reader's promises.

By default each target gets a fixed number of inputs, the same ones in every run. `HUB_FUZZ_SECONDS=60` runs each target for so
long, with inputs that differ from run to run (`make test-all`); `HUB_FUZZ_SEED=N` repeats one input. The table of targets is in
`targets.py` and `wire.py`; `python -m tests.fuzz --inputs 200000` shares so many inputs among all of them.
"""

from __future__ import annotations

import logging
import random
import shutil
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import pytest

from common.archive import parity
from common.errors import HubError
from common.oci.image import digest_of
from importer.archive.reader import Archive
from importer.archive.repair import Repair
from importer.archive.verify import verify
from tests.fakes.archives import Content, noise, write
from tests.fuzz import targets, wire
from tests.fuzz.mutation import mutated, mutated_text
from tests.fuzz.running import fuzz, no_hang

MEMORY = 256 << 20
INPUTS = 100  # of a target whose share is 1
SMALL = Content({"registry.test/one:v1": [noise("one", 3000)], "registry.test/two:v1": [noise("two", 140_000)]})
ALL = {target.name: target for target in (*targets.TARGETS, *wire.TARGETS)}
CASES = sorted(path for path in Path(__file__).with_name("cases").rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def quiet():
    """Warnings about what is left out are logged; of mutated input there are thousands."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", ALL)
def test_a_reader(name, tmp_path):
    target = ALL[name]
    with no_hang() as begun:

        def check(chance):
            begun()
            target.read(target.input(chance), tmp_path)

        fuzz(name, max(int(INPUTS * target.share), 3), check)


@pytest.mark.parametrize("name", ALL)
def test_seeds_are_let_through(name, tmp_path):
    """A seed that is refused at once tests nothing behind the first check."""
    refused = [seed for seed in ALL[name].seeds() if not _is_taken(ALL[name], seed, tmp_path)]
    assert len(refused) == (name == "app registry")  # the archive of a package is not its description


def _is_taken(target, raw, folder):
    try:
        target.read(raw, folder)
    except HubError:
        return False
    return True


@pytest.mark.parametrize("path", CASES, ids=[f"{path.parent.name}/{path.name}" for path in CASES])
def test_an_input_that_broke_a_reader(path, tmp_path):
    """Found by fuzzing, and kept: the folder has the name of the target."""
    assert _is_taken(ALL[path.parent.name], path.read_bytes(), tmp_path) in (True, False)


def test_the_command(tmp_path):
    """`python -m tests.fuzz`: figures for each target, and processes whose memory is bounded."""
    command = [sys.executable, "-m", "tests.fuzz", "--inputs", "150", "--processes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"|{name}|" in done.stdout for name in ALL)


# Targets with several files.


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "archive"
    write(folder, SMALL)
    for volume in folder.glob("volume-*"):
        parity.make(volume, Fraction(1, 10), digest_of(volume.read_bytes()).removeprefix("sha256:"), lambda _size: None)
    return folder


def test_volumes(archive, tmp_path):
    wanted = {digest_of(content): content for content in SMALL.blobs.values()}
    volume = next(archive.glob("volume-*.zst"))
    path = tmp_path / volume.name

    def check(chance):
        path.write_bytes(mutated(volume.read_bytes(), chance))
        opened = Archive.open([path])
        result = verify(opened)
        for digest in opened.inventory.blobs:
            try:
                assert b"".join(bytes(chunk) for chunk in opened.content(digest)) == wanted[digest]
            except HubError:
                assert not result.ok
        for digest in opened.inventory.manifests:
            try:
                assert digest_of(opened.manifest(digest)) == digest
            except HubError:
                assert not result.ok

    tracemalloc.start()
    try:
        fuzz("volume", 40, check)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def test_parity(archive, tmp_path):
    volume = next(archive.glob("volume-*.zst"))
    beside = volume.with_name(volume.name + parity.SUFFIX)
    whole = volume.read_bytes()

    def check(chance):
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        hurt = bytearray(whole)
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(hurt))
            hurt[at : at + 20] = bytes(len(hurt[at : at + 20]))
        (folder / volume.name).write_bytes(hurt)
        (folder / beside.name).write_bytes(mutated(beside.read_bytes(), chance))
        result = Repair(folder / volume.name, lambda _size: None, digest_of(whole).removeprefix("sha256:")).run(None)
        if result.status != "damaged":
            assert (folder / volume.name).read_bytes() == whole

    fuzz("parity", 40, check)


def test_the_fuzzer_notices():
    def broken(chance):
        if chance.random() < 0.5:
            raise KeyError("not a HubError")

    with pytest.raises(AssertionError, match="HUB_FUZZ_SEED"):
        fuzz("broken", 100, broken)


@pytest.mark.parametrize("mutate", [mutated, mutated_text])
def test_mutations_change_something(mutate):
    chance, raw = random.Random(1), b" ".join(noise("mutation", 300).split(b"\0"))
    assert sum(mutate(raw, chance) != raw for _ in range(200)) > 150
