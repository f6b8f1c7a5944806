"""Every byte that is carried counts once, for what needs it."""

from __future__ import annotations

from pathlib import Path

from exporter.report.contents import CATALOGS, SHARED, Purpose, sizes_by_operator
from tests.fakes import reports
from tests.fakes.catalogs import real

CATALOG = "fbc/community-v4.20"


def test_the_sums_are_what_is_carried(tmp_path: Path) -> None:
    inventory = reports.reported(reports.planned(real(CATALOG)), tmp_path, volume_size=2 * 1024**3).inventory
    found = sizes_by_operator(inventory)
    assert len(inventory.volumes) > 3
    carried = sum(record.size for record in inventory.blobs.values())
    assert sum(found.total.values()) == carried
    assert sum(sum(one.values()) for one in found.by_volume) == carried
    for number, one in enumerate(found.by_volume, 1):
        pieces = [p.size for record in inventory.blobs.values() for p in record.pieces if p.volume == number]
        assert sum(one.values()) == sum(pieces)


def test_what_several_need_is_shared(tmp_path: Path) -> None:
    names = ("infinispan", "kube-green")
    inventory = reports.reported(reports.planned(real(CATALOG), names), tmp_path).inventory
    found = sizes_by_operator(inventory)
    assert found.total[SHARED] == reports.BASE_SIZE
    for name in names:
        assert found.shared[Purpose(reports.NAME, name)] == reports.BASE_SIZE
        assert found.total[Purpose(reports.NAME, name)] > 0


def test_one_operator_shares_with_the_catalog_alone(tmp_path: Path) -> None:
    inventory = reports.reported(reports.planned(real(CATALOG), ["infinispan"]), tmp_path).inventory
    found = sizes_by_operator(inventory)
    assert set(found.total) == {Purpose(reports.NAME, "infinispan"), SHARED, CATALOGS}
