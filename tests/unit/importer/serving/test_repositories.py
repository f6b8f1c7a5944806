"""The repositories that are served."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from importer.mapping import Mirror
from importer.serving.app import count_pullable, served_repositories
from tests.fakes.archives import CUT
from tests.fakes.inventories import A


@pytest.fixture
def inventory():
    """The inventory of three images, and of two without content; of one even the digest is unknown."""
    made = CUT.inventory(CUT.layout())
    known, unknown = (
        replace(made.images[0], source="registry.test/missing:v1", digest=digest, complete=False) for digest in (A, None)
    )
    return replace(made, images=(*made.images, known, unknown))


def test_an_image_without_content_is_not_served(inventory):
    assert list(served_repositories(inventory, Mirror("localhost"))) == ["after", "large", "small"]


def test_an_image_without_content_does_not_count_as_pullable(inventory):
    assert count_pullable(inventory, Mirror("localhost"), lambda _blob: True) == (3, 4)
