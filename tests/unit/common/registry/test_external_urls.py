"""Layers whose manifest says that they lie elsewhere."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from common.errors import AuthenticationError, ContentError, HubError, NotFoundError, RegistryRefusedError
from common.oci.image import Descriptor, digest_of
from tests.fakes.factories import image
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


def test_pauses_and_outages_of_a_url_are_not_those_of_the_registry(connect, clock):
    """The publisher of one image of a shared registry must not hold up all other images from there."""
    with FakeRegistry() as registry, FakeRegistry() as outside:
        other = registry.add_image("org/other", image(), tag="v1")
        client = connect(registry, insecure=frozenset({registry.host, outside.host}))
        outside.fault("GET", "", times=100_000, status=503, headers={"Retry-After": "900"})
        paused_s = []

        def ask_the_registry(_seconds):
            clock.on_sleep = lambda _seconds: None
            began_s = clock.clock.monotonic_s()
            client.document(other)
            paused_s.append(clock.clock.monotonic_s() - began_s)

        clock.on_sleep = ask_the_registry
        with pytest.raises(NotFoundError):
            b"".join(map(bytes, client.blob(registry.reference("org/app"), blob(f"http://{outside.host}/layer"))))
        ask_the_registry(0)
        assert paused_s == [0, 0]
        assert outside.log("GET", "/layer")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://localhost/x", "http://", "//x y", "/v2/"])
def test_other_urls_are_not_followed(connect, url):
    with FakeRegistry() as registry:
        client = connect(registry)
        with pytest.raises((NotFoundError, RegistryRefusedError)):
            b"".join(map(bytes, client.blob(registry.reference("org/app"), blob(url))))


NO_URLS = [
    "\u0000\n",
    "http://☃.example/x",
    "http://[::1",
    "http://x:port/",
    "http://x:99999999/",
    "http://localhost:0/x",
    "http://a\u2100b/",
    "https://" + "a" * 70_000,
    "http://a b/",
    "\ud800",
    "http://user@:80/",
    "",
]


@pytest.mark.parametrize("url", NO_URLS, ids=range(len(NO_URLS)))
def test_what_is_no_url_is_an_error_of_ours_and_the_next_one_is_tried(connect, url):
    with FakeRegistry() as registry, FakeRegistry() as outside:
        outside.add_blob("org/app", CONTENT)
        client = connect(registry, insecure=frozenset({registry.host, outside.host}))
        with pytest.raises(NotFoundError):
            b"".join(map(bytes, client.blob(registry.reference("org/app"), blob(url))))
        right = f"http://{outside.host}/v2/org/app/blobs/{digest_of(CONTENT)}"
        chunks = client.blob(registry.reference("org/app"), blob(url, right))
        assert b"".join(map(bytes, chunks)) == CONTENT


HEADERS = [url.encode("utf-8", "replace").decode("latin-1") for url in NO_URLS if url.isprintable() and url]


# All forms in one header, and two forms in all: one that urllib refuses, and a port beyond the last one.
PLACES = ["redirect", "manifest", "upload", "tags", "referrers", "realm"]
PAIRS = [(where, each) for where in PLACES for each in range(len(HEADERS))]
FEW = [(where, each) for where, each in PAIRS if where == "redirect" or HEADERS[each] in ("http://[::1", "http://x:99999999/")]


@pytest.mark.parametrize(
    ("where", "number"), [*FEW, *(pytest.param(*pair, marks=pytest.mark.more) for pair in PAIRS if pair not in FEW)]
)
def test_headers_that_hold_no_url_are_errors_of_ours(connect, where, number):
    with FakeRegistry() as registry:
        client = connect(registry)
        there = registry.add_image("org/app", image([CONTENT]), tag="v1")
        absent = Descriptor("a/b", digest_of(b"absent"), 6)
        location = HEADERS[number][:60_000]  # http.client takes no longer line
        asks = {
            "redirect": ("GET", "/blobs/", lambda: b"".join(map(bytes, client.blob(there, blob())))),
            "manifest": ("GET", "/manifests/", lambda: client.document(there)),
            "upload": ("POST", "/uploads/", lambda: client.upload(there, absent, lambda start: iter([b"absent"[start:]]))),
            "tags": ("GET", "/tags/", lambda: list(client.tags(there))),
            "referrers": ("GET", "/referrers/", lambda: client.referrers(there.pinned(digest_of(b"x")))),
            "realm": ("GET", "/v2/", lambda: client.ping(registry.host)),
        }
        method, part, ask = asks[where]
        status, headers, body = {
            "upload": (202, {"Location": location}, b""),
            "tags": (200, {"Link": f'<{location}>; rel="next"'}, b'{"tags": []}'),
            "referrers": (200, {"Link": f'<{location}>; rel="next"'}, b'{"schemaVersion": 2, "manifests": []}'),
            "realm": (401, {"WWW-Authenticate": f'Bearer realm="{location}",service="x"'}, b""),
        }.get(where, (307, {"Location": location}, b""))
        registry.fault(method, part, times=100, status=status, headers=headers, body=body)
        if where == "referrers":  # a page that is not there ends the list: the fallback tag is asked instead
            with suppress(HubError):
                ask()
        else:
            with pytest.raises(HubError) as caught:
                ask()
            assert caught.value.advice


def test_a_page_that_leads_to_another_host_goes_on_at_the_registry(connect):
    with FakeRegistry(page=1) as registry:
        for tag in ("a", "b"):
            registry.add_image("org/app", image([CONTENT]), tag=tag)
        link = '<http://other.example/v2/org/app/tags/list?last=a>; rel="next"'
        registry.fault("GET", "/tags/", status=200, headers={"Link": link}, body=b'{"tags": ["a"]}')
        assert list(connect(registry).tags(registry.reference("org/app"))) == ["a", "b"]
        registry.fault("GET", "/tags/", status=200, headers={"Link": "<//other.example//x>; rel=next"}, body=b'{"tags": ["a"]}')
        with pytest.raises(HubError):
            list(connect(registry).tags(registry.reference("org/app")))


HOSTILE = "\x1b[2J\u009b31m"  # what clears a terminal, and what colours it (ECMA-48, CSI in 7 and in 8 bits)


@pytest.mark.parametrize("method", ["PUT", "HEAD"])
def test_a_digest_in_a_header_is_shown_without_control_characters(connect, method):
    with FakeRegistry() as registry:
        app = image()
        there = registry.add_image("org/app", app, tag="v1")
        headers = {"Docker-Content-Digest": f"sha256:{HOSTILE}", "Content-Type": app.media_type}
        registry.fault(method, "/manifests/", times=9, status=201 if method == "PUT" else 200, body=b"x", headers=headers)
        client = connect(registry)
        with pytest.raises(ContentError, match=r"sha256:\[2J31m") as caught:
            client.put_manifest(there, app.raw, app.media_type) if method == "PUT" else client.head(there.pinned(app.digest))
        assert caught.value.message.isprintable()


def test_words_of_a_registry_do_not_change_the_direction_of_text(connect):
    """CVE-2021-42574: U+202E shows what follows from right to left, U+200B hides."""
    with FakeRegistry() as registry:
        body = json.dumps({"errors": [{"code": "DENIED", "message": "not\u202e yours\u200b\n, \x1b[1mat all"}]}).encode()
        registry.fault("GET", "/manifests/", times=9, status=403, body=body)
        with pytest.raises(AuthenticationError, match=r"DENIED \(not yours , \[1mat all\)") as caught:
            connect(registry).document(registry.reference("org/app", "v1"))
        assert caught.value.message.isprintable()


def test_a_realm_too_long_for_a_url_is_an_error_of_ours(connect):
    with FakeRegistry() as registry:
        challenge = f'Bearer realm="http://{registry.host}/{"a" * 30_000}",service="{"b" * 30_000}",scope="{"é" * 2_000}"'
        registry.fault("GET", "/v2/", times=9, status=401, headers={"WWW-Authenticate": challenge.encode().decode("latin-1")})
        with pytest.raises(HubError):
            connect(registry).ping(registry.host)
