"""The simulation keeps to what no site can outrun, and the document shows what it says."""

from __future__ import annotations

import dataclasses
import re

import pytest

from tests.bench import terabytes
from tests.bench.__main__ import DOCUMENT
from tests.bench.terabytes import GB, GIGABIT, SITES, SIZES, Site

TEXT = DOCUMENT.read_text()
RATES = terabytes.measured(TEXT)


def test_the_document_shows_what_is_simulated():
    shown = TEXT.partition("<!-- bench: terabytes -->\n")[2].partition("\n<!-- /bench -->")[0]
    assert shown == terabytes.section(TEXT), "python -m tests.bench terabytes"


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_faster_than_the_lines_the_disks_and_the_registry(site, size):
    disks = site.disk * (1 if site.shared else site.machines)
    lines = min(site.uplink, site.line * site.machines)
    cpu = site.cores * site.machines / (RATES.create_s / GB)
    made = terabytes.create(site, size, RATES).seconds
    assert made >= size / min(lines, disks / 2, cpu) * 0.999
    alone = size / min(site.line, site.uplink, site.disk / 2) + (size / min(site.line, site.disk, site.objects or GB))
    assert made <= alone * 1.001 or site.shared, "one machine alone is never faster"
    pushed = terabytes.push(site, size, RATES).seconds
    registry = min(site.door, site.uplink, site.store, site.mirror / (RATES.mirror_s / GB))
    assert pushed >= size / min(registry, site.line * site.machines, disks) * 0.999


def test_a_part_that_was_killed_reads_its_volumes_once():
    one = Site("one", 1, 64, line=GIGABIT, uplink=GIGABIT, disk=0.1 * GB, mirror=64, store=GB, door=GIGABIT)
    assert terabytes.again(one, 1000 * GB, RATES).seconds == pytest.approx(10_000)
    fast = dataclasses.replace(one, disk=100 * GB)
    assert terabytes.again(fast, 1000 * GB, RATES).bottleneck == "hashing"


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_finishing_is_never_faster_than_what_one_process_reads(site):
    joined, closed = (terabytes.finish(site, 1000 * GB, RATES, lost=lost).seconds for lost in (False, True))
    apart = site.machines > 1 and not site.shared and not site.objects
    assert joined == 0 or (apart and joined >= 1000 * GB * 2 / site.disk)
    assert closed - joined >= 1000 * (GB / site.disk + RATES.hash_s) * (2 if site.objects else 1) * 0.999


def test_limits_that_are_nearly_the_same_are_named_together():
    site = Site("even", 1, 64, line=GB, uplink=10 * GB, disk=100 * GB, mirror=64, store=1.05 * GB, door=10 * GB)
    assert terabytes.push(site, GB, RATES).bottleneck == "its line and the registry's disks"


def test_figures_in_the_how_to_are_the_measured_ones():
    """Of its table: what a core makes, pushes, and takes."""
    text = (DOCUMENT.parent / "how-to" / "several-machines.md").read_text()
    for said, seconds in (
        ("`create`: processor", RATES.create_s),
        ("`push`: processor", RATES.push_s),
        ("mirror registry", RATES.mirror_s),
    ):
        (line,) = [each for each in text.splitlines() if each.startswith(f"| {said} ")]
        shown = re.search(r"([\d.]+) GB/s for each", line)
        assert shown, line
        assert float(shown[1]) == pytest.approx(1 / seconds, rel=0.06), line


def test_machines_with_lines_and_disks_of_their_own_divide_the_time():
    one = Site("one", 1, 64, line=GIGABIT, uplink=100 * GIGABIT, disk=10 * GB, mirror=64, store=9 * GB, door=100 * GIGABIT)
    ten = dataclasses.replace(one, machines=10)
    assert terabytes.create(one, 1000 * GB, RATES).seconds == pytest.approx(
        10 * terabytes.create(ten, 1000 * GB, RATES).seconds
    )
    assert terabytes.create(one, 1000 * GB, RATES).bottleneck == "its line"


def test_a_shard_that_has_more_volumes_than_others_is_the_last():
    """Three volumes for two machines on their own lines: as long as two volumes on one."""
    two = Site("two", 2, 64, line=GIGABIT, uplink=100 * GIGABIT, disk=10 * GB, mirror=64, store=9 * GB, door=100 * GIGABIT)
    assert terabytes.create(two, 150 * GB, RATES).seconds == pytest.approx(100 * GB / GIGABIT)
