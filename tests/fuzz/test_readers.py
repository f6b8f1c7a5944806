"""Readers of untrusted bytes meet mutated input: a HubError, or a result that keeps the reader's promises.

By default each target gets a fixed number of inputs, the same ones in every run. `HUB_FUZZ_SECONDS=10` runs each target for so
long, with inputs that differ from run to run (`make test-all`); `HUB_FUZZ_SEED=N` repeats one input. The table of targets is in
`targets.py` and `wire.py`; `python -m tests.fuzz --inputs 200000` shares so many inputs among all of them.
"""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from common.errors import HubError
from tests.fakes.archives import Content, noise
from tests.fuzz import releases, several, targets, wire
from tests.fuzz.mutation import mutated, mutated_text
from tests.fuzz.running import fuzz, no_hang

MEMORY = 256 << 20
INPUTS = 100  # of a target whose share is 1
SMALL = Content({"registry.test/one:v1": [noise("one", 3000)], "registry.test/two:v1": [noise("two", 140_000)]})
ALL = {target.name: target for target in (*targets.TARGETS, *several.TARGETS, *wire.TARGETS, *releases.TARGETS)}
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


def test_the_memory_of_volumes(tmp_path):
    target = ALL["volume"]
    tracemalloc.start()
    try:
        fuzz("volume", 30, lambda chance: target.read(target.input(chance), tmp_path))
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


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
