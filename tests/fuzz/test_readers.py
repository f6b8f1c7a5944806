"""Readers of untrusted bytes meet mutated input: a HubError, or a result that keeps the reader's promises.

By default each target gets a fixed number of inputs, the same ones in every run. `HUB_FUZZ_SECONDS=60` runs each target for so
long, with inputs that differ from run to run (`make test-all`); `HUB_FUZZ_SEED=N` repeats one input.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import time
import tracemalloc
from fractions import Fraction

import pytest

from common.archive import checksums, frames, inventory_file, parity, receipt, rerequest
from common.errors import HubError
from common.oci.image import digest_of
from exporter.archive import output
from exporter.catalog.readers import file_based
from exporter.catalog.selection import select
from exporter.catalog.validation import validate
from exporter.imageset.model import OperatorRequest
from importer.archive.reader import Archive
from importer.archive.repair import Repair
from importer.archive.verify import verify
from tests.fakes.archives import CUT, Content, noise, write
from tests.fakes.catalogs import CATALOGS
from tests.fuzz.mutation import mutated, mutated_json

MEMORY = 256 << 20
SLOWEST_S = 10.0  # of CPU, for one input
SMALL = Content({"registry.test/one:v1": [noise("one", 3000)], "registry.test/two:v1": [noise("two", 140_000)]})
PACKAGE = "openshift-cert-manager-operator"


def fuzz(name, inputs, check):
    """Call `check` with a source of randomness for each input; anything raised but a HubError is a defect."""
    for seed in _seeds(inputs):
        began = time.process_time()
        try:
            check(random.Random(seed))
        except HubError:
            pass
        except BaseException as error:
            raise AssertionError(f"{name}: HUB_FUZZ_SEED={seed}: {type(error).__name__}: {error}") from error
        took = time.process_time() - began
        assert took < SLOWEST_S, f"{name}: HUB_FUZZ_SEED={seed} took {took:.0f} s of CPU"


def _seeds(inputs):
    """Yield the seeds of one target's inputs, as the environment asks for."""
    if seed := os.environ.get("HUB_FUZZ_SEED"):
        yield int(seed)
        return
    seconds = float(os.environ.get("HUB_FUZZ_SECONDS", "0"))
    yield from range(0 if seconds else inputs)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield secrets.randbits(48)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "archive"
    write(folder, SMALL)
    for volume in folder.glob("volume-*"):
        parity.make(volume, Fraction(1, 10), digest_of(volume.read_bytes()).removeprefix("sha256:"), lambda _size: None)
    return folder


def test_inventories():
    raw = inventory_file.encode(CUT.inventory(CUT.layout()))

    def check(chance):
        content = (mutated_json if chance.random() < 0.8 else mutated)(raw, chance)
        inventory = inventory_file.decode(content, "fuzz")
        for blob in inventory.blobs.values():  # what was let through keeps the reader's promises
            assert sum(piece.size for piece in blob.pieces) in (0, blob.size)

    fuzz("inventory", 200, check)


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


def test_frames_and_lists(tmp_path):
    frame = frames.compress(noise("frame", 5000) + bytes(5000))
    inventory = CUT.inventory(CUT.layout())
    some = tuple(inventory.blobs)[:2]
    made = receipt.encode(receipt.make((digest_of(b"x"),), {"registry.test/one": frozenset(some)}, "mirror.test"))
    wanted = rerequest.encode(rerequest.make(inventory, digest_of(b"x"), some))
    path = tmp_path / "file.json"
    output.write_journal(tmp_path / "journal", CUT.layout())
    begun = (tmp_path / "journal").read_bytes()

    def check(chance):
        kind = chance.randrange(5)
        if kind == 0:
            assert len(frames.decompress(mutated(frame, chance), 20_000)) <= 20_000
        elif kind == 1:
            checksums.parse(mutated(checksums.render({"inventory.json": "0" * 64, "volume-0001.tar.zst": "1" * 64}), chance))
        elif kind == 4:
            path.write_bytes((mutated_json if chance.random() < 0.8 else mutated)(begun, chance))
            output.read_journal(path)
        else:
            raw, load = ((made, receipt.load), (wanted, rerequest.load))[kind - 2]
            path.write_bytes((mutated_json if chance.random() < 0.8 else mutated)(raw, chance))
            load(path)

    fuzz("frames and lists", 300, check)


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


def test_catalogs():
    files = {}
    for path in sorted((CATALOGS / "fbc" / "redhat" / PACKAGE).rglob("*")):
        if path.is_file():
            files[f"{PACKAGE}/{path.name}"] = path.read_bytes()
    assert files

    def check(chance):
        name = chance.choice(sorted(files))
        changed = dict(files) | {name: mutated(files[name], chance)}
        catalog = file_based.load(sorted(changed.items()))
        validate(catalog)
        select(catalog, OperatorRequest("registry.test/catalog:v1", full=chance.random() < 0.5))

    fuzz("catalog", 10, check)


def test_the_fuzzer_notices():
    def broken(chance):
        if chance.random() < 0.5:
            raise KeyError("not a HubError")

    with pytest.raises(AssertionError, match="HUB_FUZZ_SEED"):
        fuzz("broken", 100, broken)


def test_mutations_change_something():
    chance, raw = random.Random(1), noise("mutation", 300)
    assert sum(mutated(raw, chance) != raw for _ in range(200)) > 190
