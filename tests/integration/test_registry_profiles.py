"""Every main flow on every profile of a registry; the table in docs/registry.md says what ran."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.cluster import FakeCluster
from tests.fakes.registry_flows import FLOWS, Mirror, World, world
from tests.fakes.registry_profiles import PRODUCTS, Product

pytestmark = pytest.mark.integration
PAGE = Path(__file__).resolve().parents[2] / "docs/registry.md"


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with FakeCluster("4.18") as cluster:
        yield world(tmp_path_factory.mktemp("world"), cluster)


def row(product: str) -> list[str]:
    """Return the cells of a product's row in the page's table."""
    table = PAGE.read_text(encoding="utf-8").partition("<!-- matrix -->")[2].partition("<!-- end of matrix -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    assert rows[0][1:] == list(FLOWS)
    return next((cells[1:] for cells in rows if cells[0] == f"**{product}**"), [])


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_every_flow(product: Product, made: World, tmp_path: Path) -> None:
    with product.registry() as registry:
        did = Mirror(product, registry, made, tmp_path).run_all()
    assert list(did.values()) == row(product.name), f"|**{product.name}**|{'|'.join(did.values())}|"
