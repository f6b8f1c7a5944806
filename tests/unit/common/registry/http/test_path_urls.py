"""URLs of paths that are not parsed again are those that httpx makes."""

from __future__ import annotations

import httpx
import pytest

from common.registry.http.urls import NOWHERE, PathURL, joined, same_origin, target

ORIGINS = ("https://quay.io", "http://localhost:5000", "https://[::1]:5000", "https://quay.io:443")
AS_THEY_ARE = ("/v2/org/app/manifests/sha256:" + "a" * 64, "/v2/org/app/manifests/v1.0_2", "/v2/org/app/tags/list")
OTHERS = (
    "/v2/",
    "/v2/a/../b",
    "/v2/x%20y/z",
    "/v2/a//b",
    "/v2/.a/b",
    "/v2/a/tags/list?n=1",
    "/v2/a b",
)


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_path_is_what_httpx_makes_of_it(origin):
    at = httpx.URL(origin)
    for path in (*AS_THEY_ARE, *OTHERS):
        made, parsed = target(at, path), at.copy_with(raw_path=path.encode())
        assert isinstance(made, PathURL) is (path in AS_THEY_ARE)
        assert (str(made), made.raw_path, made.path, made.query) == (str(parsed), parsed.raw_path, parsed.path, parsed.query)
        assert made == parsed
        assert hash(made) == hash(parsed)
        assert joined(made, "../x?y=1") == joined(parsed, "../x?y=1")
        assert made.copy_add_param("a", "b") == parsed.copy_add_param("a", "b")
        assert same_origin(made, at)
        assert made not in (NOWHERE, at)
