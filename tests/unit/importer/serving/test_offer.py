"""What is offered is what is there."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from importer.mapping import Mirror
from importer.serving.app import count_whole, offer_of
from tests.fakes.archives import CUT
from tests.fakes.inventories import A


@pytest.fixture
def inventory():
    """The inventory of three images, and of two more of which nothing was fetched; of one not even the digest is known."""
    made = CUT.inventory(CUT.layout())
    known, unknown = (
        replace(made.images[0], source="registry.test/lost:v1", digest=digest, complete=False) for digest in (A, None)
    )
    return replace(made, images=(*made.images, known, unknown))


def test_an_image_of_which_nothing_came_is_not_offered(inventory):
    assert list(offer_of(inventory, Mirror("localhost"))) == ["after", "large", "small"]


def test_an_image_of_which_nothing_came_is_not_whole(inventory):
    assert count_whole(inventory, Mirror("localhost"), lambda _blob: True) == (3, 4)
