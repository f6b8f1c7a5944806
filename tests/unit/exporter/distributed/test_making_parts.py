"""Parts with the plan that made them: made, finished into an archive, and finished again without any change."""

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
from common.archive.signature import Algorithm, Signer, make_keys
from common.content import DirectoryStore
from common.errors import ArchiveDamagedError, ArchiveIncompleteError, InUseError, UsageError
from common.files import locked
from common.oci import media_types
from common.oci.image import encode, hex_of, parse
from common.progress import Silent
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from exporter.archive.fetch import fetch
from exporter.archive.output import JOINING, LOCK
from exporter.catalog.readers import file_based
from exporter.cli import listing
from exporter.context import ExportContext
from exporter.distributed import finishing, part, part_directory, plan_file
from exporter.imageset.model import ImageSet
from exporter.plan.plan import manifest_records
from exporter.report.page import Report
from exporter.report.preview import Preview
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
    """The directory of parts: on the file system of the archive, or on another."""
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
    records = manifest_records([document], {document.digest}, {})
    carried = {"manifests": records, "documents": {document.digest: document.raw}, "blobs": tuple(map(PlannedBlob, blobs))}
    made = replace(made, plan=replace(made.plan, catalogs=catalogs, images=(), places={}, held={}, **carried))
    return [planned_at(made, created) for created in ("2026-01-31T12:00:00Z", "2026-01-31T13:00:00Z")]


def planned_at(made, created):
    settings = ExportSettings(ImageSet(), RegistrySettings(), created, output=Path(), volume_size=900_000)
    whole = listing.plan_document(Preview(made, settings), explain=False) | listing.making_document(Preview(made, settings))
    return plan_file.decode(b"".join(plan_file.encode(whole)), "plan")


@pytest.fixture
def create(tmp_path):
    """Make a part; `lost`: the first blob is missing."""
    with RegistryClient(RegistrySettings()) as client:

        def made(plan, output, first, last, *, lost=False, signer=None):
            root = Path(tempfile.mkdtemp(dir=tmp_path))
            (root / "sha256").mkdir()
            for blob in BLOBS[lost:]:
                (root / "sha256" / hex_of(described(blob).digest)).write_bytes(blob)
            media = ExportContext(client, DirectoryStore(root), Silent())
            return part_directory.make(plan, Making(output, signer=signer), range(first, last + 1), media)

        yield made


def finish(*directories, output, accept=False, signer=None):
    return finishing.join(directories, Making(output, signer=signer), Silent(), accept_missing=accept)


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def volumes(found):
    return {name: raw for name, raw in found.items() if name.startswith("volume")}


def missing(inventory):
    return {digest for digest, blob in inventory.blobs.items() if blob.missing is not None}


def test_there_are_volumes_enough(plans):
    """The first blob is in the first of three."""
    layout = plans[0].spec.layout
    assert len(layout.volumes) == 3
    assert {piece.volume for piece in layout.blobs[LOST].pieces} == {1}
    assert layout == plans[1].spec.layout


def test_done_again_it_does_nothing(work, plans, create, out):
    create(plans[0], work, 1, 2)
    create(plans[0], work, 3, 3)
    first = finish(work, output=out)
    before = contents(out), contents(work)
    assert finish(work, output=out) == first
    assert (contents(out), contents(work)) == before


@pytest.fixture
def whole(plans, create, tmp_path):
    """The archive of one part, with all blobs."""
    create(plans[0], tmp_path / "for-whole", 1, 3)
    finish(tmp_path / "for-whole", output=tmp_path / "whole")
    return contents(tmp_path / "whole")


def test_an_unfinished_part_is_named_and_refused(work, plans, create, out):
    bad = create(plans[0], work, 1, 2, lost=True)
    assert (bad.record.lost.keys(), bad.record.inventory) == ({LOST}, None)
    create(plans[0], work, 3, 3)
    before = contents(work)
    with pytest.raises(UsageError) as raised:
        finish(work, output=out)
    assert raised.value.exit_code == 2
    assert f"unfinished, without 1 blob: {bad.directory}; missing: {LOST} (" in raised.value.message
    assert "--accept-missing" in raised.value.hint
    assert contents(work) == before
    assert not out.exists()


def test_an_unfinished_part_continues(work, plans, create, out, whole):
    """Only the blob that was missing is read from its source again."""
    made = create(plans[0], work, 1, 2, lost=True)
    create(plans[0], work, 3, 3)
    inode = (made.directory / "volume-0001.tar.zst").stat().st_ino
    assert create(plans[0], work, 1, 2).record.lost == {}
    assert (made.directory / "volume-0001.tar.zst").stat().st_ino == inode
    finish(work, output=out)
    assert contents(out) == whole


def one_process(plan, work, signer=None):
    """Return the files of the archive that one process makes without the lost blob."""
    media = work.with_name(f"{work.name}-media")
    (media / "sha256").mkdir(parents=True)
    for blob in BLOBS[1:]:
        (media / "sha256" / hex_of(described(blob).digest)).write_bytes(blob)
    with RegistryClient(RegistrySettings()) as client:
        making = Making(work, signer=signer)
        fetch(plan.spec, making, ExportContext(client, DirectoryStore(media), Silent()), Report(plan.facts, making))
    return contents(work)


def test_a_missing_blob_that_is_accepted_is_a_problem_of_the_archive(work, plans, create, out, tmp_path):
    """The archive is the one of one process; the volumes of the parts are not changed."""
    create(plans[0], work, 1, 2, lost=True)
    create(plans[0], work, 3, 3)
    before = contents(work)
    made = finish(work, output=out, accept=True)
    assert missing(made.inventory) == {LOST}
    assert {problem.code for problem in made.inventory.problems} <= {"blob-unavailable"}
    assert contents(out) == one_process(plans[0], tmp_path / "by-one")
    assert contents(work) == before
    assert finish(work, output=out) == made
    assert (contents(work), missing(made.inventory)) == (before, {LOST})


def test_accepting_missing_blobs_changes_nothing_where_none_is_missing(plans, create, out, tmp_path, whole):
    create(plans[0], tmp_path / "work", 1, 3)
    finish(tmp_path / "work", output=out, accept=True)
    assert contents(out) == whole


def test_a_volume_that_is_damaged_is_not_accepted_as_missing(work, plans, create, out):
    made = create(plans[0], work, 1, 3, lost=True)
    with (made.directory / "volume-0002.tar.zst").open("r+b") as file:
        file.seek(200_000)
        file.write(b"damaged")
    with pytest.raises(ArchiveDamagedError, match=r"volume-0002\.tar\.zst: not what its part wrote"):
        finish(work, output=out, accept=True)
    assert not (out / "SHA256SUMS").exists()


@pytest.mark.parametrize("keys", [(None, 0), (0, None), (0, 1)], ids=str)
def test_an_archive_with_another_signature_than_its_parts_is_written_from_them(keys, plans, create, out, tmp_path):
    for name in "01":
        make_keys(tmp_path / name, tmp_path / f"{name}.pub", Algorithm.ECDSA_P256)
    first, second = (None if key is None else Signer.load(tmp_path / str(key)) for key in keys)
    create(plans[0], tmp_path / "work", 1, 2, signer=first)
    create(plans[0], tmp_path / "work", 3, 3, signer=first)
    finish(tmp_path / "work", output=out, signer=second)
    create(plans[0], tmp_path / "more", 1, 3, signer=second)
    finish(tmp_path / "more", output=tmp_path / "one", signer=second)
    assert contents(out) == contents(tmp_path / "one")


def test_writing_from_parts_is_continued_after_a_kill_at_any_instant(plans, create, out, tmp_path):
    """Also when the part was finished meanwhile: then the archive is the whole one."""
    create(plans[0], tmp_path / "lossy", 1, 3, lost=True)
    create(plans[0], tmp_path / "whole", 1, 3)
    wanted = {}
    for kind in ("lossy", "whole"):
        shutil.copytree(tmp_path / kind, tmp_path / f"{kind}-copy")
        finish(tmp_path / f"{kind}-copy", output=tmp_path / f"{kind}-archive", accept=True)
        wanted[kind] = contents(tmp_path / f"{kind}-archive")
    for changes in itertools.count(0, 3):
        kind = ("lossy", "whole")[changes % 2]
        with killed_after(changes, out) as died:
            finish(tmp_path / "lossy", output=out, accept=True)
        if not (out / "SHA256SUMS").exists():
            shutil.copytree(tmp_path / kind, tmp_path / "again")
            finish(tmp_path / "again", output=out, accept=True)
            shutil.rmtree(tmp_path / "again")
        else:
            kind = "lossy"
            finish(tmp_path / "lossy", output=out)
        assert contents(out) == wanted[kind], changes
        shutil.rmtree(out)
        if not died:
            break
    assert changes > 6


def test_what_overlaps_stays_and_is_named(work, out, plans, create, caplog):
    """A blob is not missing where its volume is taken from another part."""
    more = out.with_name("more")
    create(plans[0], work, 2, 3)
    create(plans[0], more, 1, 1)
    create(plans[0], more, 1, 2, lost=True)
    caplog.set_level(logging.WARNING)
    first = finish(work, more, output=out)
    assert missing(first.inventory) == set()
    assert f"{more / 'volumes-0001-0002'}: its volumes are in {out} now" in caplog.text
    left = contents(work), contents(more)
    assert finish(work, more, output=out) == first
    assert (contents(work), contents(more)) == left


def test_a_finished_archive_does_not_become_better(plans, create, tmp_path, elsewhere):
    """Parts that have what it lacks are not taken for those it was made of."""
    out = tmp_path / "out"
    create(plans[0], elsewhere, 1, 3, lost=True)
    finish(elsewhere, output=out, accept=True)
    before = contents(out)
    create(plans[0], elsewhere, 1, 3)
    with pytest.raises(UsageError, match="out holds a finished archive"):
        finish(elsewhere, output=out)
    assert contents(out) == before
    assert missing(finish(elsewhere, output=tmp_path / "better").inventory) == set()


def test_a_joining_of_an_earlier_version_is_named(plans, create, tmp_path):
    create(plans[0], tmp_path / "work", 1, 3)
    out = tmp_path / "out"
    out.mkdir()
    mark = '{"mediaType":"application/vnd.hub-airgap.joining.v1+json","plan":"PLAN","volumes":{"1":{"cleared":["x"]}}}'
    (out / JOINING).write_text(mark.replace("PLAN", plans[0].identity))
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"of another version: .*joining\.v1") as raised:
        finish(tmp_path / "work", output=out)
    assert raised.value.hint == "Finish with the version that began."
    assert contents(tmp_path) == before


def test_tidying_up_goes_on_at_any_instant(plans, create, tmp_path):
    """Nothing of a part is left when the next run is done, and the archive is what it was."""
    work, out = tmp_path / "work", tmp_path / "out"
    create(plans[0], tmp_path / "kept", 1, 2)
    create(plans[0], tmp_path / "kept", 3, 3)
    shutil.copytree(tmp_path / "kept", work)
    made, whole = finish(work, output=out), contents(out)
    for changes in itertools.count(20, 3):
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
    """Its parts are in the directory of the first plan's, whose volumes are in the output directory and nowhere else."""
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
            assert finish(work, output=out).inventory.created == plans[1].spec.terms.created
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
            finish(tmp_path, output=tmp_path / "out", accept=True)
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
