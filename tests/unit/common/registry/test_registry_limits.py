"""Lists and small answers of registries, at their limits and beyond."""

from __future__ import annotations

import json

import pytest

from common.errors import ContentError, RegistryRefusedError, UsageError
from common.registry import manifests
from common.registry.auth_file import MAX_FILE
from common.registry.http.errors import MAX_ERROR_BODY
from common.registry.http.exchange import MAX_REDIRECTS
from tests.fakes.registry import FakeRegistry
from tests.samples import more


def in_pages(registry, *pages):
    """Have the registry list tags in pages, once."""
    for number, tags in enumerate(pages, 1):
        headers = {"Link": f'</v2/org/app/tags/list?page={number + 1}>; rel="next"'} if number < len(pages) else {}
        body = json.dumps({"name": "org/app", "tags": tags}).encode()
        registry.fault("GET", "/tags/list", status=200, body=body, headers=headers)


@pytest.mark.parametrize("beyond", more([0, 1]))
def test_tags_of_a_repository_are_bounded_over_all_pages(connect, beyond):
    with FakeRegistry() as registry:
        half = manifests.MAX_TAGS // 2
        in_pages(registry, *[["a"] * (half // 5)] * 10, ["a"] * beyond)
        tags = connect(registry).tags(registry.reference("org/app"))
        if not beyond:
            assert sum(1 for _ in tags) == manifests.MAX_TAGS
            return
        with pytest.raises(ContentError, match=f"more than {manifests.MAX_TAGS} tags"):
            list(tags)


@pytest.mark.more
def test_a_page_of_tags_is_bounded_in_bytes(connect):
    with FakeRegistry() as registry:
        raw = json.dumps({"name": "org/app", "tags": ["v1"]}).encode()
        for size, fits in ((manifests._MAX_PAGE, True), (manifests._MAX_PAGE + 1, False)):
            registry.fault("GET", "/tags/list", status=200, body=raw.ljust(size))
            tags = connect(registry).tags(registry.reference("org/app"))
            if fits:
                assert list(tags) == ["v1"]
                continue
            with pytest.raises(ContentError, match=str(manifests._MAX_PAGE)):
                list(tags)


def test_values_of_a_page_of_tags_are_bounded(connect):
    """`"",` takes three bytes of a page, and dozens in memory; a page of a thousand tags has a value for every 8 bytes or more."""
    with FakeRegistry() as registry:
        for count, fits in ((200_000, True), (400_000, False)):
            registry.fault("GET", "/tags/list", status=200, body=b'{"tags":[' + b'"",' * count + b'"v1"]}')
            tags = connect(registry).tags(registry.reference("org/app"))
            if fits:
                assert list(tags) == ["v1"]
                continue
            with pytest.raises(ContentError, match="not a list of tags: about 4"):
                list(tags)


@pytest.mark.parametrize("hops", [MAX_REDIRECTS, MAX_REDIRECTS + 1])
def test_redirects_are_bounded(connect, hops):
    with FakeRegistry() as registry:
        registry.add_manifest(
            "org/app", b'{"schemaVersion":2,"manifests":[]}', "application/vnd.oci.image.index.v1+json", tag="v1"
        )
        target = f"http://{registry.host}/v2/org/app/manifests/v1"
        registry.fault("GET", "/manifests/", times=hops, status=307, headers={"Location": target})
        if hops == MAX_REDIRECTS:
            assert connect(registry).document(registry.reference("org/app", "v1"))
            return
        with pytest.raises(RegistryRefusedError, match=f"more than {MAX_REDIRECTS} redirects"):
            connect(registry).document(registry.reference("org/app", "v1"))


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_text_of_an_error_is_read_up_to_a_limit(connect, beyond):
    with FakeRegistry() as registry:
        body = json.dumps({"errors": [{"code": "DENIED", "message": "because of a rule"}]}).encode()
        registry.fault("GET", "/manifests/", status=400, body=body.ljust(MAX_ERROR_BODY + beyond))
        with pytest.raises(RegistryRefusedError) as caught:
            connect(registry).document(registry.reference("org/app", "v1"))
        assert ("because of a rule" in caught.value.message) == (not beyond)


def test_a_login_file_at_its_limit(connect, tmp_path):
    path = tmp_path / "auth.json"
    path.write_bytes(b'{"auths": {}}'.ljust(MAX_FILE))
    with FakeRegistry() as registry:
        registry.add_manifest(
            "org/app", b'{"schemaVersion":2,"manifests":[]}', "application/vnd.oci.image.index.v1+json", tag="v1"
        )
        for size in (MAX_FILE, MAX_FILE + 1):
            path.write_bytes(b'{"auths": {}}'.ljust(size))
            settings = {"environ": {"HOME": str(tmp_path), "REGISTRY_AUTH_FILE": str(path)}}
            if size == MAX_FILE:
                assert connect(registry, **settings).document(registry.reference("org/app", "v1"))
                continue
            with pytest.raises(UsageError, match=f"{MAX_FILE}"):
                connect(registry, **settings).document(registry.reference("org/app", "v1"))
