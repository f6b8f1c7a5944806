"""Layers whose manifest says that they lie elsewhere."""

from __future__ import annotations

import pytest

from common.digest import digest_of
from common.errors import NotFoundError, RegistryRefusedError
from common.oci.descriptor import Descriptor
from tests.fakes.registry import FakeRegistry

CONTENT = b"a layer that may not be distributed"


def blob(*urls: str) -> Descriptor:
    return Descriptor("a/b", digest_of(CONTENT), len(CONTENT), urls=urls)


def test_the_registry_comes_first_then_the_urls_without_credentials(connect):
    with FakeRegistry(auth="basic") as registry, FakeRegistry() as outside:
        outside.add_blob("org/app", CONTENT)
        client = connect(registry, login=True, insecure=frozenset({registry.host, outside.host}))
        url = f"http://{outside.host}/v2/org/app/blobs/{digest_of(CONTENT)}"
        chunks = client.blob(registry.reference("org/app"), blob("http://localhost:1/no", url))
        assert b"".join(map(bytes, chunks)) == CONTENT
        assert registry.log("GET", "/blobs/")
        assert ["Authorization" in request.headers for request in outside.log()] == [False]


def test_not_even_the_registrys_own_origin_gets_credentials_by_an_url(connect):
    with FakeRegistry(auth="basic") as registry:
        registry.add_blob("other/app", CONTENT)
        client = connect(registry, login=True)
        url = f"http://{registry.host}/v2/other/app/blobs/{digest_of(CONTENT)}"
        with pytest.raises(NotFoundError):
            b"".join(map(bytes, client.blob(registry.reference("org/app"), blob(url))))
        assert all("Authorization" not in r.headers for r in registry.log("GET", "/other/app/"))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://localhost/x", "http://", "//x y", "/v2/"])
def test_other_urls_are_not_followed(connect, url):
    with FakeRegistry() as registry:
        client = connect(registry)
        with pytest.raises((NotFoundError, RegistryRefusedError)):
            b"".join(map(bytes, client.blob(registry.reference("org/app"), blob(url))))
