"""The simulation keeps to what no site can outrun, and the document shows what it says."""

from __future__ import annotations

import dataclasses

import pytest

from tests.bench import terabytes
from tests.bench.__main__ import DOCUMENT
from tests.bench.terabytes import GB, GIGABIT, SITES, SIZES, Site

TEXT = DOCUMENT.read_text()
RATES = terabytes.measured(TEXT)


def test_the_document_shows_what_is_simulated():
    shown = TEXT.partition("<!-- bench: terabytes -->\n")[2].partition("\n<!-- /bench -->")[0]
    assert shown == terabytes.section(TEXT), "python -m tests.bench --only terabytes"


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
    assert terabytes.push(site, size, RATES).seconds >= size * max(RATES.mirror_s / GB / site.mirror, 1 / site.store) * 0.999


def test_machines_with_lines_and_disks_of_their_own_divide_the_time():
    one = Site("one", 1, 64, line=GIGABIT, uplink=100 * GIGABIT, disk=10 * GB, mirror=64, store=9 * GB)
    ten = dataclasses.replace(one, machines=10)
    assert terabytes.create(one, 1000 * GB, RATES).seconds == pytest.approx(
        10 * terabytes.create(ten, 1000 * GB, RATES).seconds
    )
    assert terabytes.create(one, 1000 * GB, RATES).bottleneck == "its line"


def test_a_shard_that_has_more_volumes_than_others_is_the_last():
    """Three volumes for two machines on their own lines: as long as two volumes on one."""
    two = Site("two", 2, 64, line=GIGABIT, uplink=100 * GIGABIT, disk=10 * GB, mirror=64, store=9 * GB)
    assert terabytes.create(two, 150 * GB, RATES).seconds == pytest.approx(100 * GB / GIGABIT)
