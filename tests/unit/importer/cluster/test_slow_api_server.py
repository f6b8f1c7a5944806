from __future__ import annotations

import threading

import httpx
import pytest

from importer.cluster.api.transport import Transport
from tests.fakes.dripping import DrippingServer


@pytest.mark.parametrize(("head", "slow"), [("Content-Length: 100000", b" "), ("Transfer-Encoding: chunked", b"1\r\n \r\n")])
def test_a_body_of_the_api_server_ends_in_time(head, slow):
    """Only silence was bounded, as httpx documents its read timeout: a byte a second never ended."""
    quick = f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode()
    with (
        DrippingServer(quick, slow) as server,
        Transport(small_s=0.2) as transport,
        httpx.Client(transport=transport) as client,
    ):
        with pytest.raises(httpx.ReadTimeout, match="takes too long"):
            client.get(f"http://{server.host}/api/v1/namespaces")
        assert len(server.requests) == 1


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HEADS = {
    "status line": (b"HTTP/1.1 200", b" "),
    "header": (OK + b"X: ", b"x"),
    "headers without an end": (OK, b"X: x\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "extension of a chunk": (CHUNKED + b"1;", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X: x\r\n"),
}


WAYS = ("direct", "behind a proxy", "of a proxy to CONNECT")
BODIES = ("extension of a chunk", "trailers")  # the answer to CONNECT is a head alone (RFC 9110, section 9.3.6)


@pytest.mark.parametrize(
    ("way", "kind"), [(way, kind) for way in WAYS for kind in HEADS if way != WAYS[2] or kind not in BODIES]
)
def test_a_head_of_the_api_server_ends_in_time(way, kind):
    """Silence alone bounded it: a server, or a proxy on the way, could hold `apply` for days with a byte a minute (CWE-400)."""
    with DrippingServer(*HEADS[kind]) as server:
        proxy = None if way == "direct" else httpx.Proxy(f"http://{server.host}")
        scheme = "https" if way == "of a proxy to CONNECT" else "http"
        host = server.host if proxy is None else "api.example:6443"
        with (
            Transport(small_s=0.2, proxy=proxy) as transport,
            httpx.Client(transport=transport) as client,
            pytest.raises(httpx.ReadTimeout, match="takes too long"),
        ):
            client.get(f"{scheme}://{host}/api/v1/namespaces")
        assert len(server.requests) == 1


def test_a_server_may_think_before_its_head():
    """The list of a large kind takes an API server some time: the time of a head begins with its first byte."""

    class Slow(DrippingServer):
        def _serve(self, client):
            threading.Event().wait(0.4)
            super()._serve(client)

    with (
        Slow(OK + b"Content-Length: 2\r\n\r\n{}", b"", endless=False) as server,
        Transport(small_s=0.2) as transport,
        httpx.Client(transport=transport) as client,
    ):
        assert client.get(f"http://{server.host}/api").json() == {}


def test_a_body_that_is_slow_and_ends():
    quick, rest = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{", b'"kind": ""}'
    with (
        DrippingServer(quick, rest, endless=False) as server,
        Transport(small_s=5.0) as transport,
        httpx.Client(transport=transport) as client,
    ):
        assert client.get(f"http://{server.host}/api/v1/namespaces").json() == {"kind": ""}
