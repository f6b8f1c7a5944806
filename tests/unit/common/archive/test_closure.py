"""Closures that share what they need: lists of names, limits, and the same result as one image after another."""

from __future__ import annotations

import pytest

from common.archive import inventory as closure
from common.archive import inventory_file, rerequest
from common.archive.inventory import MAX_NAME, Users, needed_by, require_bounded_images
from common.errors import ArchiveDamagedError
from exporter.plan.baseline import Delivered
from exporter.report.contents import image_rows, sizes_by_operator
from importer.mapping import Closure, Mirror, map_images
from tests.fakes.hostile import compact
from tests.integration.test_shared_manifests import digest, shared


def decoded(*arguments, **fields):
    return inventory_file.decode(compact(shared(*arguments, **fields)), "x")


def test_names_of_blobs_that_several_manifests_need():
    inventory = decoded(3, 4)
    blobs = [digest("blob 0"), digest("blob 3")]
    names = tuple(f"catalog/package-{number}/bundle" for number in range(3))
    assert needed_by(inventory, blobs) == dict.fromkeys(blobs, names)
    assert Users(inventory).names(digest("none")) == ()


def test_closures_of_indexes_that_share_a_manifest_have_a_limit():
    """At the limit of 1,000,000 entries and 16 for each listed one, and beyond it."""
    assert decoded(1000, 1000, indexes=True).images
    with pytest.raises(ArchiveDamagedError, match=r"4006000 blobs and manifests .* the limit is"):
        decoded(2000, 2000, indexes=True)


def test_pairs_of_image_and_blob_have_a_limit_where_each_is_visited():
    few, many = decoded(1000, 1000), decoded(2000, 2000)
    Closure(few)
    require_bounded_images(few)
    for use in (Closure, require_bounded_images, lambda one: Delivered().add_inventory(digest("x"), one)):
        with pytest.raises(ArchiveDamagedError, match="the archive cannot be used"):
            use(many)
    # What visits each manifest once works all the same.
    wanted = [digest("blob 1")]
    assert len(rerequest.make(many, digest("x"), wanted).images) == 2000
    assert len(sizes_by_operator(many).shared) == 2000
    assert len(image_rows(many, {})) == 2000


def test_images_of_each_blob_are_found_in_one_pass():
    inventory = decoded(3, 2)
    images = map_images(inventory, Mirror("mirror.test"))
    assert Closure(inventory).users(images) == {digest(f"blob {number}"): list(images) for number in range(2)}


def test_lists_of_names_are_cut_after_64_mib():
    """A thousand blobs that 1,500 images need have lists of 130 MB; the first ones are whole."""
    inventory = decoded(1500, 1000)
    found = needed_by(inventory, inventory.blobs)
    lengths = [len(found[blob]) for blob in sorted(found)]
    assert lengths[0] == 1500
    assert 1 <= lengths[-1] < 20
    assert sum(map(len, (name for names in found.values() for name in names))) < closure._NAMES_ROOM


def test_the_length_of_a_name_has_a_limit():
    """Lists and messages repeat a name for each blob. References have 500 characters, and paths of catalogs 4,096."""
    document = shared(1, 1)
    for field in ("source", "neededBy"):
        for length, fits in ((MAX_NAME, True), (MAX_NAME + 1, False)):
            document["images"][0][field] = "a" * length if field == "source" else ["a" * length]
            if fits:
                inventory_file.decode(compact(document), "x")
                continue
            with pytest.raises(ArchiveDamagedError, match="a name of more than 8192 characters"):
                inventory_file.decode(compact(document), "x")
        document = shared(1, 1)


def test_a_compressed_blob_holds_at_most_1024_times_its_size():
    """Blocks of one repeated byte decompress to 32,768 times their size (RFC 8878, 3.1.1.2.4)."""
    document = shared(1, 1)
    record = next(iter(document["blobs"].values()))
    record["encoding"] = "zstd"
    limit = 64 * 1024 + 1024 * 18
    for size in (limit, limit + 1):
        record["size"] = record["pieces"][0]["size"] = size
        if size == limit:
            inventory_file.decode(compact(document), "x")
            continue
        with pytest.raises(ArchiveDamagedError, match="stored length"):
            inventory_file.decode(compact(document), "x")
