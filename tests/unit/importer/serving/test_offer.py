"""What is offered is what is there."""

from __future__ import annotations

from msgspec.structs import replace

from importer.mapping import Mirror
from importer.serving.app import offer_of
from tests.fakes.archives import CUT
from tests.fakes.inventories import A


def test_an_image_of_which_nothing_came_is_not_offered() -> None:
    inventory = CUT.inventory(CUT.layout())
    known, lost = (
        replace(inventory.images[0], source="registry.test/lost:v1", digest=digest, complete=False) for digest in (A, None)
    )
    offer = offer_of(replace(inventory, images=(*inventory.images, known, lost)), Mirror("localhost"))
    assert list(offer) == ["after", "large", "small"]
