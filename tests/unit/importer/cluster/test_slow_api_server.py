from __future__ import annotations

import httpx
import pytest

from importer.cluster.client import _Transport
from tests.fakes.dripping import DrippingServer


@pytest.mark.parametrize(("head", "slow"), [("Content-Length: 100000", b" "), ("Transfer-Encoding: chunked", b"1\r\n \r\n")])
def test_a_body_of_the_api_server_ends_in_time(head, slow):
    """Only silence was bounded, as httpx documents its read timeout: a byte a second never ended."""
    quick = f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode()
    with (
        DrippingServer(quick, slow) as server,
        _Transport(small_s=0.2) as transport,
        httpx.Client(transport=transport) as client,
    ):
        with pytest.raises(httpx.ReadTimeout, match="takes too long"):
            client.get(f"http://{server.host}/api/v1/namespaces")
        assert len(server.requests) == 1


def test_a_body_that_is_slow_and_ends():
    quick, rest = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{", b'"kind": ""}'
    with (
        DrippingServer(quick, rest, endless=False) as server,
        _Transport(small_s=5.0) as transport,
        httpx.Client(transport=transport) as client,
    ):
        assert client.get(f"http://{server.host}/api/v1/namespaces").json() == {"kind": ""}
