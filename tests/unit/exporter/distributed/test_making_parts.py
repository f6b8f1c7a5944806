"""Parts with the plan that made them: made where nobody else does, joined once, and done again it does nothing."""

from __future__ import annotations

import itertools
import logging
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replaced

from common.archive.layout import PlannedBlob
from common.content import DirectoryStore
from common.errors import ArchiveIncompleteError, InUseError, UsageError
from common.files import locked
from common.oci import media_types
from common.oci.image import encode, hex_of, parse
from common.progress import Silent
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from common.serialization import pretty_json
from exporter.archive.output import JOINING, LOCK
from exporter.catalog.readers import file_based
from exporter.cli import listing
from exporter.context import ExportContext
from exporter.distributed import part, part_directory, plan_file
from exporter.imageset.model import ImageSet
from exporter.settings import ExportSettings, Making
from tests.fakes import reports
from tests.fakes.archives import described, noise
from tests.fakes.catalogs import CATALOGS
from tests.fakes.kills import killed_after

BLOBS = [noise(f"blob {number}", 300_000) for number in range(6)]
LOST = described(BLOBS[0]).digest


@pytest.fixture
def tmp_path():
    """A directory in memory: much is made durable here."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def elsewhere(tmp_path_factory):
    """A directory on another file system."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(params=["moved", "copied"])
def work(request, tmp_path, elsewhere):
    """Where parts lie: beside the archive, or on another file system."""
    return tmp_path / "work" if request.param == "moved" else elsewhere


@pytest.fixture
def out(tmp_path):
    """Where the archive is to be."""
    return tmp_path / "out"


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Two plans of the same blobs, which differ in their time only."""
    made = reports.planned(file_based.load_directory(CATALOGS / "fbc" / "redhat"), ["openshift-cert-manager-operator"])
    blobs = [described(blob) for blob in BLOBS]
    config, *layers = ({"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size} for blob in blobs)
    content = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": layers}
    document = parse(encode(content), media_types.OCI_MANIFEST)
    catalogs = tuple(replaced(catalog, image=document.digest) for catalog in made.plan.catalogs)
    carried = {"documents": {document.digest: document}, "blobs": tuple(map(PlannedBlob, blobs))}
    made = replace(made, plan=replace(made.plan, catalogs=catalogs, images=(), places={}, held={}, **carried))
    return [planned_at(made, created) for created in ("2026-01-31T12:00:00Z", "2026-01-31T13:00:00Z")]


def planned_at(made, created):
    settings = ExportSettings(ImageSet(), RegistrySettings(), created, output=Path(), volume_size=900_000)
    whole = listing.plan_document(made, settings, explain=False) | listing.making_document(made, settings)
    return plan_file.decode(pretty_json(whole), "plan")


@pytest.fixture
def create(tmp_path):
    """Make a part; `lost`: the first blob cannot be had."""
    with RegistryClient(RegistrySettings()) as client:

        def made(plan, output, first, last, *, lost=False):
            root = Path(tempfile.mkdtemp(dir=tmp_path))
            (root / "sha256").mkdir()
            for blob in BLOBS[lost:]:
                (root / "sha256" / hex_of(described(blob).digest)).write_bytes(blob)
            media = ExportContext(client, DirectoryStore(root), Silent())
            return part_directory.make(plan, Making(output), range(first, last + 1), media)

        yield made


def finish(*directories, output):
    return part_directory.join(directories, Making(output), Silent())


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def volumes(found):
    return {name: raw for name, raw in found.items() if name.startswith("volume")}


def missing(inventory):
    return {digest for digest, blob in inventory.blobs.items() if blob.missing is not None}


def test_there_are_volumes_enough(plans):
    """The first blob lies in the first of three."""
    layout = plans[0].drawn.layout
    assert len(layout.volumes) == 3
    assert {piece.volume for piece in layout.blobs[LOST].pieces} == {1}
    assert layout == plans[1].drawn.layout


@pytest.mark.parametrize("lost", [False, True], ids=["whole", "with a loss"])
def test_done_again_it_does_nothing(lost, work, plans, create, out):
    create(plans[0], work, 1, 2, lost=lost)
    create(plans[0], work, 3, 3)
    first = finish(work, output=out)
    before = contents(out), contents(work)
    assert missing(first) == ({LOST} if lost else set())
    assert finish(work, output=out) == first
    assert (contents(out), contents(work)) == before


def test_what_overlaps_stays_and_is_named(work, out, plans, create, caplog):
    """The part with the loss gives the volume that only it has."""
    more = out.with_name("more")
    create(plans[0], work, 1, 2, lost=True)
    create(plans[0], work, 2, 3)
    caplog.set_level(logging.WARNING, "hub")
    first = finish(work, output=out)
    assert missing(first) == {LOST}
    assert f"{work / 'volumes-0001-0002'}: its volumes are in {out} now" in caplog.text
    create(plans[0], more, 2, 2)
    left = contents(work), contents(more)
    assert finish(work, more, output=out) == first
    assert f"{more / 'volumes-0002-0002'}: its volumes are in {out} now" in caplog.text
    assert (contents(work), contents(more)) == left


def test_a_finished_archive_does_not_become_better(plans, create, tmp_path, elsewhere):
    """Parts that have what it lacks are not taken for those it was made of."""
    out = tmp_path / "out"
    create(plans[0], elsewhere, 1, 3, lost=True)
    finish(elsewhere, output=out)
    before = contents(out)
    create(plans[0], elsewhere, 1, 3)
    with pytest.raises(UsageError, match="out holds a finished archive"):
        finish(elsewhere, output=out)
    assert contents(out) == before
    assert missing(finish(elsewhere, output=tmp_path / "better")) == set()


def test_tidying_up_goes_on_at_any_instant(plans, create, tmp_path):
    """Nothing of a part is left when the next run is done, and the archive is what it was."""
    work, out = tmp_path / "work", tmp_path / "out"
    create(plans[0], tmp_path / "kept", 1, 2, lost=True)
    create(plans[0], tmp_path / "kept", 3, 3)
    shutil.copytree(tmp_path / "kept", work)
    made, whole = finish(work, output=out), contents(out)
    for changes in itertools.count(40, 3):
        shutil.rmtree(out)
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(tmp_path / "kept", work)
        with killed_after(changes, tmp_path) as died:
            finish(work, output=out)
        assert finish(work, output=out) == made
        assert contents(out) == whole
        assert not contents(work)
        if not died:
            break


def test_whenever_a_joining_was_killed_another_plan_leaves_its_volumes_alone(plans, create, out, tmp_path):
    """Its parts lie where the first plan's lay, whose volumes are in the output directory and nowhere else."""
    work, refused = tmp_path / "work", 0
    for number, plan in enumerate(plans):
        create(plan, tmp_path / f"kept-{number}", 1, 3)
    for changes in itertools.count(0, 2):
        shutil.copytree(tmp_path / "kept-0", work)
        with killed_after(changes, tmp_path) as died:
            finish(work, output=out)
        if not died:
            break
        shutil.rmtree(work)
        shutil.copytree(tmp_path / "kept-1", work)
        before = contents(out) if out.is_dir() else {}
        if (out / "SHA256SUMS").exists() or (out / JOINING).exists():
            refused += 1
            with pytest.raises(UsageError, match=r"another plan's parts|holds a finished archive"):
                finish(work, output=out)
            assert volumes(contents(out)) == volumes(before)
        else:
            assert not volumes(before)
            assert finish(work, output=out).created == plans[1].drawn.terms.created
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(out)
    assert refused > 3


def test_a_part_is_not_changed_before_it_is_locked(plans, create, tmp_path):
    made = create(plans[0], tmp_path, 1, 2, lost=True)
    before = contents(made.directory)
    with locked(made.directory / LOCK, "it"):
        for plan in plans:
            with pytest.raises(InUseError, match="is in use"):
                create(plan, tmp_path, 1, 2)
        create(plans[0], tmp_path, 3, 3)
        with pytest.raises(InUseError, match="is in use"):
            finish(tmp_path, output=tmp_path / "out")
    assert contents(made.directory) == before


def test_a_part_is_no_place_for_the_archive(plans, create, tmp_path):
    made = create(plans[0], tmp_path, 1, 3)
    before = contents(made.directory)
    for place in (tmp_path, made.directory):
        with pytest.raises(UsageError, match="is a part of an archive"):
            finish(place, output=made.directory)
    assert contents(made.directory) == before


@pytest.mark.parametrize("name", ["volume-0001.tar.zst", "volume-0002.tar.zst"])
def test_a_part_that_lacks_a_file_is_not_whole(name, plans, create, tmp_path):
    made = create(plans[0], tmp_path, 1, 2)
    before, stamp = contents(made.directory), (made.directory / part.NAME).stat().st_ino
    create(plans[0], tmp_path, 1, 2)
    assert (made.directory / part.NAME).stat().st_ino == stamp
    (made.directory / name).unlink()
    create(plans[0], tmp_path, 1, 2)
    assert contents(made.directory) == before


def test_volumes_that_no_part_has_are_named(plans, create, tmp_path):
    create(plans[0], tmp_path, 1, 1)
    with pytest.raises(ArchiveIncompleteError, match=r"volume-0002\.tar\.zst, volume-0003"):
        finish(tmp_path, output=tmp_path / "out")
