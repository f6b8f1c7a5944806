"""Documents of hosts that are no registries: update services, signature stores."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
import trustme

from common.errors import (
    AuthenticationError,
    ContentError,
    HubError,
    NotFoundError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
    UsageError,
)
from tests.fakes.registry import FakeRegistry
from tests.fakes.release_hosts import GRAPH_PATHS, ReleaseHosts
from tests.fakes.tls_proxy import TlsProxy
from tests.samples import more
from tests.unit.common.registry.conftest import auth_file

PATH = GRAPH_PATHS[0]
BODY = b'{"version": 1, "nodes": [], "edges": []}'


@pytest.fixture
def hosts() -> Iterator[ReleaseHosts]:
    with ReleaseHosts() as hosts:
        yield hosts


@pytest.fixture
def fetch(connect):
    with FakeRegistry() as registry:
        client = connect(registry)
        yield lambda url, **more: client.fetch(url, **{"what": "update graph", "limit": 1000, **more})


def test_a_document_comes_by_its_query_with_one_request(hosts, fetch):
    hosts.graphs["stable-4.18", "s390x"] = BODY
    assert fetch(f"{hosts.update_service}?channel=stable-4.18&arch=s390x", accept="application/json") == BODY
    (request,) = hosts.log()
    assert request.query == {"channel": "stable-4.18", "arch": "s390x"}
    assert request.headers["Accept"] == "application/json"


def test_accept_is_anything_unless_said(hosts, fetch):
    fetch(f"{hosts.update_service}?channel=a")
    assert hosts.log()[0].headers["Accept"] == "*/*"


def test_credentials_of_the_host_are_not_sent(hosts, connect, tmp_path):
    with FakeRegistry() as registry:
        name = hosts.url.removeprefix("http://")
        client = connect(registry, authfile=auth_file(tmp_path / "other.json", name))
        client.fetch(f"{hosts.update_service}?channel=a", what="update graph", limit=1000)
        hosts.fault("GET", PATH, status=401, headers={"WWW-Authenticate": f'Bearer realm="{hosts.url}/token",service="x"'})
        with pytest.raises(AuthenticationError, match="HTTP 401") as caught:
            client.fetch(f"{hosts.update_service}?channel=a", what="update graph", limit=1000)
    assert "No credentials are sent" in caught.value.hint
    assert "login" not in caught.value.hint
    assert [request.path for request in hosts.log()] == [PATH, PATH]
    assert all("Authorization" not in request.headers for request in hosts.log())


STATUSES = [(404, NotFoundError), (406, RegistryRefusedError), (403, AuthenticationError), (400, RegistryRefusedError)]


@pytest.mark.parametrize(("status", "kind"), STATUSES)
@pytest.mark.parametrize("redirected", [False, *more([True])])
def test_refusals_are_final_also_where_a_redirect_leads(hosts, fetch, status, kind, redirected):
    """mirror.openshift.com sends its clients to object storage: a signature that is not there is a 404 from there."""
    with ReleaseHosts() as other:
        there = other if redirected else hosts
        if redirected:
            hosts.fault("GET", PATH, status=302, headers={"Location": other.update_service})
        there.fault("GET", PATH, status=status, body=b'{"kind":"invalid_params","value":"no \\u001b[31m such"}')
        with pytest.raises(kind) as caught:
            fetch(f"{hosts.update_service}?channel=a")
        assert len(there.log()) == 1
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert f"GET update graph at localhost:{there.port}" in caught.value.message
    assert "invalid_params (no [31m such)" in caught.value.message
    assert "egistry" not in caught.value.hint


@pytest.mark.parametrize("status", [503, *more([429, 500, 502, 504])])
def test_trouble_that_passes_is_retried(hosts, fetch, clock, status):
    hosts.graphs["a", "amd64"] = BODY
    hosts.fault("GET", PATH, times=2, status=status, headers={"Retry-After": "2"})
    assert fetch(f"{hosts.update_service}?channel=a") == BODY
    assert len(hosts.log()) == 3
    assert clock.slept


def test_trouble_that_stays_ends(hosts, fetch):
    hosts.fault("GET", PATH, times=100_000, status=503)
    with pytest.raises(RegistryError, match="503") as caught:
        fetch(f"{hosts.update_service}?channel=a")
    assert "egistry" not in caught.value.hint


def test_pauses_are_part_of_the_time_of_a_host_among_several(hosts, fetch, clock):
    """Of one of several signature stores: another one has the same, and need not wait for 15 minutes of pauses."""
    hosts.fault("GET", PATH, times=100_000, status=429, headers={"Retry-After": "30"})
    with pytest.raises(RegistryError, match="429") as caught:
        fetch(f"{hosts.update_service}?channel=a", within_s=20)
    assert caught.value.was_cut_short
    assert sum(clock.slept) <= 30
    assert len(hosts.log()) == 1


def test_a_body_that_breaks_is_asked_for_again(hosts, fetch):
    hosts.graphs["a", "amd64"] = BODY
    hosts.fault("GET", PATH, cut_after=5)
    assert fetch(f"{hosts.update_service}?channel=a") == BODY


def test_a_body_has_a_limit(hosts, fetch):
    hosts.graphs["a", "amd64"] = b"0" * 1000
    assert len(fetch(f"{hosts.update_service}?channel=a")) == 1000
    hosts.graphs["a", "amd64"] = b"0" * 1001
    with pytest.raises(ContentError, match="more than 1000 bytes"):
        fetch(f"{hosts.update_service}?channel=a")


def test_a_coding_that_was_not_asked_for_is_undone_within_the_limit(hosts, fetch):
    hosts.fault("GET", PATH, status=200, headers={"Content-Encoding": "gzip"}, body=gzip.compress(BODY))
    assert fetch(f"{hosts.update_service}?channel=a") == BODY
    hosts.fault("GET", PATH, status=200, headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"0" * 1001))
    with pytest.raises(ContentError):
        fetch(f"{hosts.update_service}?channel=a")
    packed = gzip.compress(BODY)
    hosts.fault("GET", PATH, status=200, headers={"Content-Encoding": "x-gzip"}, body=packed)
    assert fetch(f"{hosts.update_service}?channel=a", is_right=lambda raw: raw == packed) == packed


def test_redirects_are_followed_with_their_query_and_bounded(hosts, fetch):
    hosts.graphs["b", "amd64"] = BODY
    hosts.fault("GET", PATH, status=307, headers={"Location": f"{PATH}?channel=b", "Set-Cookie": "a=b"})
    assert fetch(f"{hosts.update_service}?channel=a") == BODY
    assert "Cookie" not in hosts.log()[1].headers
    hosts.fault("GET", PATH, times=100, status=302, headers={"Location": PATH})
    with pytest.raises(RegistryRefusedError, match="more than 10 redirects"):
        fetch(f"{hosts.update_service}?channel=a")


PLACES = ["http://192.0.2.1/x", "ftp://localhost/x", "file:///etc/passwd", "http://[::1", "https://a b/"]


@pytest.mark.parametrize("place", [PLACES[0], *more(PLACES[1:])])
def test_redirects_to_what_is_not_safe_are_refused(hosts, fetch, place):
    hosts.fault("GET", PATH, status=302, headers={"Location": place})
    with pytest.raises(RegistryRefusedError, match="not safe"):
        fetch(f"{hosts.update_service}?channel=a")


URLS = [
    ("http://192.0.2.1/graph", "say --insecure 192.0.2.1"),
    ("https://user:secret-word@localhost/", "no credentials"),
    ("ftp://localhost/", "Wanted: https://"),
    ("localhost/graph", "Wanted: https://"),
    ("https:///graph", "Wanted: https://"),
    ("https://localhost:99999/", "Wanted: https://"),
    ("https://localhost/\x1b[31m", "Wanted: https://"),
    ("https://localhost/" + "a" * 9000, "Wanted: https://"),
    ("", "Wanted: https://"),
]


@pytest.mark.parametrize(("url", "hint"), URLS, ids=range(len(URLS)))
def test_urls_that_cannot_be_meant_are_errors_of_usage(fetch, url, hint):
    with pytest.raises(UsageError) as caught:
        fetch(url)
    assert hint in caught.value.hint
    assert "secret-word" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert "\x1b" not in str(caught.value)


def test_plain_http_is_for_hosts_of_insecure_too(connect):
    with FakeRegistry() as registry:
        client = connect(registry, insecure=frozenset({"invalid.example.invalid"}))
        with pytest.raises(RegistryUnreachableError) as caught:
            client.fetch("http://invalid.example.invalid/", what="graph", limit=10)
    assert "DNS, firewall and proxy" in caught.value.hint


def test_a_published_host_is_reached_through_the_proxy_and_with_ca(connect, tmp_path):
    """oc-mirror asked for signatures past the proxy (OCPBUGS-37055)."""
    authority = trustme.CA()
    with ReleaseHosts(tls=True, authority=authority) as hosts, FakeRegistry() as registry:
        hosts.graphs["a", "amd64"] = BODY
        with TlsProxy(None, routes={"api.openshift.com:443": f"localhost:{hosts.port}"}) as proxy:
            environ = {"HOME": str(tmp_path), "HTTPS_PROXY": proxy.url}
            url = f"https://api.openshift.com{PATH}?channel=a"
            client = connect(registry, environ=environ, ca=hosts.ca)
            assert client.fetch(url, what="update graph", limit=1000) == BODY
            assert proxy.asked == ["api.openshift.com:443"]
            with pytest.raises(HubError, match="certificate"):
                connect(registry, environ=environ, ca=None).fetch(url, what="update graph", limit=1000)
            fallen = connect(registry, environ=environ, ca=hosts.ca)
            for place in ("http://192.0.2.1/", "http://localhost:1/"):  # not to this machine either
                hosts.fault("GET", PATH, status=302, headers={"Location": place})
                with pytest.raises(RegistryRefusedError, match="not safe"):
                    fallen.fetch(url, what="update graph", limit=1000)


def test_tls_with_a_plain_host_says_what_to_write(hosts, fetch):
    with pytest.raises(RegistryUnreachableError) as caught:
        fetch(f"https://localhost:{hosts.port}/")
    assert "write http://" in caught.value.hint
