"""A HEAD that calls a blob empty: its file is, or a proxy counted the bytes of the answer (yusing/godoxy#169)."""

from __future__ import annotations

import pytest

from common.oci.image import Descriptor, digest_of
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_profile import Profile

CONTENT = b"content of a layer"
BLOB = Descriptor("a/b", digest_of(CONTENT), len(CONTENT))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_blob_behind_such_a_proxy_is_there(connect, ranges):
    with FakeRegistry(profile=Profile(head_zero=True), ranges=ranges) as registry:
        registry.add_blob("org/app", CONTENT)
        assert connect(registry).has_blob(registry.reference("org/app"), BLOB.digest, BLOB.size)
        assert [each.status for each in registry.log("GET", "/blobs/")] == [206 if ranges else 200]


def test_an_empty_file_is_still_found(connect):
    """distribution/distribution#2788."""
    with FakeRegistry() as registry:
        registry.repositories["org/app"].blobs[BLOB.digest] = b""
        assert not connect(registry).has_blob(registry.reference("org/app"), BLOB.digest, BLOB.size)


def test_a_registry_that_gives_nothing_to_get_keeps_the_word_of_its_head(connect):
    with FakeRegistry(profile=Profile(head_zero=True)) as registry:
        registry.add_blob("org/app", CONTENT)
        registry.fault("GET", "/blobs/", status=403, times=99)
        assert not connect(registry).has_blob(registry.reference("org/app"), BLOB.digest, BLOB.size)
