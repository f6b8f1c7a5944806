"""What one more blob costs: memory of an export and a push, and the requests of a push, a second one among them.

The bound is that of a whole index within 400 MiB (ADR 0088). Measured as the peak of what Python allocates, without processes
and registries; tests/bench/scaling.py measures whole processes.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from common.archive import inventory_file
from common.archive.location import parse
from common.archive.reader import Archive
from common.mapping import Mirror
from common.oci.image import digest_of
from exporter.archive.archive_spec import ArchiveSpec
from exporter.distributed import plan_file
from exporter.plan.baseline import Delivered
from exporter.report.facts import Facts
from exporter.settings import ArchiveTerms
from importer.prune.known import Known
from importer.records.document import Record, head_of
from tests.bench.many_blobs import Source, confirmed, create, plan_of, pushed
from tests.samples import more

FEW, MANY = 420, 600  # images; below, buffers of a MiB are not full
KIB = 1024


def peak_of(action: Callable[[], object]) -> int:
    """Return the most memory that an action takes at once."""
    gc.collect()
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(name="archives", scope="module")
def _archives(tmp_path_factory):
    """Two archives, with the blobs of each and the most memory that making it took."""
    home = tmp_path_factory.mktemp("many-blobs")
    found = {}
    source = Source()
    create(plan_of(4, source), source, home / "loads-modules")
    for images in (FEW, MANY):
        source = Source()
        plan = plan_of(images, source)
        peak = peak_of(lambda plan=plan, source=source, images=images: create(plan, source, home / str(images)))
        found[images] = home / str(images), len(plan.blobs), peak
    return found


def growth(archives, few: float, many: float) -> float:
    """Return bytes for each blob more, given two sizes."""
    return (many - few) / (archives[MANY][1] - archives[FEW][1])


def test_a_further_blob_takes_two_kib_of_an_export(archives):
    # Other threads of the process are counted, too: the least of three.
    few, many = (min(held_by(images) for _ in range(3)) for images in (FEW, MANY))
    held = growth(archives, few, many)
    made = growth(archives, archives[FEW][2], archives[MANY][2])
    assert held <= KIB, "what a plan holds"
    assert held + made <= 2 * KIB


def held_by(images: int) -> int:
    """Return the memory of a plan, after what made it is gone."""
    gc.collect()
    tracemalloc.start()
    try:
        plan = plan_of(images, Source())
        gc.collect()
        return tracemalloc.get_traced_memory()[0] + len(plan.requires)
    finally:
        tracemalloc.stop()


def test_a_further_blob_of_an_earlier_archive_takes_half_a_kib_of_an_increment(archives):
    """From the beginning of a plan to its end: what each repository has, and what the report compares."""
    held = {}
    for images in (FEW, MANY):
        place = parse(str(archives[images][0]))
        gc.collect()
        tracemalloc.start()
        delivered = Delivered.of_archives([place])
        gc.collect()
        held[images] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert delivered.last is not None
    assert growth(archives, held[FEW], held[MANY]) <= KIB / 2


def test_a_later_archive_of_the_same_images_takes_a_quarter_of_a_kib_for_each_of_a_prune(archives):
    """A year of increments of a whole index are a million images, nearly all of them those of the week before."""
    raw = (archives[FEW][0] / "inventory.json").read_bytes()
    mirror, known, held = Mirror.parse("mirror.example/a"), Known("mirror.example"), []
    tracemalloc.start()
    for week in range(3):
        inventory = raw.replace(b"2026-11-30T00", b"2026-11-30T%02d" % week)
        head = head_of(digest_of(inventory), mirror, "2026-11-30T00:00:00Z")
        known.add(Record(head, inventory_file.decode(inventory, ""), b""), mirror)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert len(list(known.images())) == 3 * FEW
    assert (held[2] - held[1]) / FEW <= KIB / 4


def test_what_a_further_blob_takes_of_the_file_of_a_plan():
    """`plan --output` and `create --plan`: written in parts, read with one text for each name, and kept compressed."""
    written, read, held = {}, {}, {}
    for images in (FEW, MANY):
        document, blobs = document_of(images)
        raw = b"".join(plan_file.encode(document()))
        written[blobs] = peak_of(lambda document=document: [None for _ in plan_file.encode(document())])
        gc.collect()
        tracemalloc.start()
        found = plan_file.decode(raw, "")
        read[blobs] = tracemalloc.get_traced_memory()[1]
        gc.collect()
        held[blobs] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert found.packed.content() == raw
    few, many = written
    for taken, limit in ((written, KIB / 4), (read, 2.5 * KIB), (held, 1.2 * KIB)):
        assert (taken[many] - taken[few]) / (many - few) <= limit


def document_of(images: int) -> tuple[Callable[[], dict[str, object]], int]:
    """Return what makes the document of a plan, and the number of its blobs."""
    spec = ArchiveSpec(plan_of(images, Source()), ArchiveTerms("2026-11-30T00:00:00Z", {}))
    inventory = spec.planned_inventory
    fields = ((each.encode_name, getattr(inventory, each.name)) for each in msgspec.structs.fields(inventory))
    listed = {name: value for name, value in fields if value is not msgspec.UNSET}
    return lambda: listed | {"making": plan_file.making_of(spec, Facts())}, len(spec.plan.blobs)


# The bytes of the inventory are 0.7 KiB of what opening takes: they are there until the last entry is decoded. Of a first push, a
# third are manifests in the cache of frames, which is bounded (`MAX_CACHED`).
IMPORTS: dict[str, tuple[Callable[[Path], object], float]] = {
    "push": (pushed, 1.8 * KIB),
    "push again": (lambda output: pushed(output, full=True), 1.4 * KIB),
    "receipt": (confirmed, 2 * KIB),
    "open": (lambda output: Archive.open([output]), 1.4 * KIB),
}


@pytest.mark.parametrize("what", ["push", *more(["push again", "receipt", "open"])])
def test_what_a_further_blob_takes_of_an_import(archives, what):
    action, limit = IMPORTS[what]
    few = many = float("inf")
    for _ in range(3):
        # A file that is not in the page cache takes buffers of some MiB, and other threads of the process are counted: the least.
        few = min(few, peak_of(lambda: action(archives[FEW][0])))
        many = min(many, peak_of(lambda: action(archives[MANY][0])))
        if growth(archives, few, many) <= limit:
            return
    pytest.fail(f"{growth(archives, few, many):.0f} bytes")


def test_requests_of_a_push_and_of_a_second_one(archives):
    """One HEAD for an image; for a blob one HEAD and one POST in each repository, and a PUT and a HEAD where it is sent."""
    output, blobs, _ = archives[MANY]
    first, requests = pushed(output)
    assert not first.problems
    assert requests["PUT blobs"] == blobs
    pairs = requests["POST blobs"]
    assert requests["HEAD blobs"] == pairs + blobs
    assert requests["HEAD manifests"] == first.images + requests["PUT manifests"], "each is read back"
    second, again = pushed(output, full=True)
    assert second.images_present == second.images == MANY
    assert again == {"HEAD manifests": MANY, "record": 1}, "one for each image, and nothing else"
