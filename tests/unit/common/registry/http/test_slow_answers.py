"""A byte at a time: heads and small bodies end in time, blobs take as long as they take (CWE-400, a slow read)."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading

import pytest

from common.errors import RegistryUnreachableError
from common.oci.image import Descriptor, digest_of
from common.oci.reference import Reference
from common.registry.http.pace import MAX_HEAD, MAX_INTERIM, PacedResponse, SlowAnswerError
from common.registry.settings import Timeouts
from tests.fakes.dripping import DrippingServer
from tests.fakes.registry import FakeRegistry

TIMES = Timeouts(connect_s=5.0, read_s=5.0, small_s=0.1)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SLOW = "does not end in time"


def _client(connect, registry, *insecure, **changes):
    return connect(registry, insecure=frozenset({registry.host, *insecure}), timeouts=TIMES, **changes)


def _manifest(server, connect, tmp_path):
    with FakeRegistry() as registry:  # for the settings alone
        client = _client(connect, registry, server.host)
    return client.document(Reference(server.host, "org/a", tag="v1"))


HOSTILE = {
    "status line": (b"HTTP/1.1 200", b" "),
    "header": (OK + b"X: ", b"x"),
    "headers without an end": (OK, b"X: x\r\n"),
    "body": (OK + b"Content-Length: 100000\r\n\r\n{", b" "),
    "body without a length": (OK + b"\r\n{", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "extension of a chunk": (CHUNKED + b"1;", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X: x\r\n"),
    "body of an error": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\n", b" "),
    "body of a redirect": (b"HTTP/1.1 307 Elsewhere\r\nLocation: /v2/b\r\nContent-Length: 100000\r\n\r\n", b" "),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_small_answer_ends_in_time(kind, connect, tmp_path):
    """Only silence was bounded: more than 75 s of one head were seen, and nothing would have ended it."""
    with DrippingServer(*HOSTILE[kind]) as server, pytest.raises(RegistryUnreachableError, match=SLOW) as caught:
        _manifest(server, connect, tmp_path)
    assert "a few bytes at a time" in caught.value.hint


def test_interim_answers_have_an_end(connect, tmp_path):
    """Each 100 (Continue) is an answer of its own, and the final one may take its time (RFC 9110, section 15.2)."""
    with (
        DrippingServer(b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_INTERIM, b"") as server,
        pytest.raises(RegistryUnreachableError, match="interim"),
    ):
        _manifest(server, connect, tmp_path)


def test_a_head_has_an_end(connect, tmp_path):
    quick = OK + (b"X: " + b"x" * 60_000 + b"\r\n") * 30
    with DrippingServer(quick, b"") as server, pytest.raises(RegistryUnreachableError, match="a head of more than"):
        _manifest(server, connect, tmp_path)


@pytest.mark.parametrize("kind", ["a head of 1 MiB", "15 interim answers"])
def test_what_is_within_the_limits_is_read(kind, connect, tmp_path):
    body = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    end = f"Content-Type: application/vnd.oci.image.index.v1+json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    if kind == "15 interim answers":
        answer = b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM - 1) + OK + end
    else:
        lines = (b"X: " + b"x" * 60_000 + b"\r\n") * 17
        answer = OK + lines + b"Y: " + b"y" * (MAX_HEAD - len(OK) - len(lines) - len(end) - len(body) - 5) + b"\r\n" + end
        assert len(answer + body) == MAX_HEAD  # of what is read ahead, nothing is known to be a body
    with DrippingServer(answer + body, b"", endless=False) as server:
        assert _manifest(server, connect, tmp_path).raw == body


def test_a_token_ends_in_time(connect):
    with FakeRegistry() as registry, DrippingServer(OK + b'Content-Length: 100\r\n\r\n{"token": ', b" ") as server:
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token",service="x"'}
        registry.fault("GET", "/manifests/", times=9, status=401, headers=challenge)
        client = _client(connect, registry, server.host)
        with pytest.raises(RegistryUnreachableError, match=SLOW) as caught:
            client.document(registry.reference("org/a", "v1"))
    assert server.host in caught.value.message


def test_the_answer_of_a_proxy_to_connect_ends_in_time(connect, tmp_path):
    for quick, slow in ((b"HTTP/1.1 200", b" "), (b"HTTP/1.1 200 OK\r\n", b"X: x\r\n")):
        with FakeRegistry(tls=True) as registry, DrippingServer(quick, slow) as proxy:
            environ = {"HOME": str(tmp_path), "HTTPS_PROXY": f"http://{proxy.host}"}
            client = connect(registry, timeouts=TIMES, environ=environ)
            with pytest.raises(RegistryUnreachableError, match=SLOW):
                client.document(registry.reference("org/a", "v1"))


def test_the_answer_to_a_head_ends_in_time(connect):
    with FakeRegistry() as registry, DrippingServer(OK + b"Docker-Content-Digest: ", b"x") as server:
        client = _client(connect, registry, server.host)
        with pytest.raises(RegistryUnreachableError, match=SLOW):
            client.head(Reference(server.host, "org/a", tag="v1"))


def _answered(*parts, pause_s=0.0):
    """Return an answer whose parts arrive with a pause between them; its bound is 0.1 s."""
    near, far = socket.socketpair()
    near.settimeout(5)

    def send():
        with far, contextlib.suppress(OSError):
            for part in parts:
                far.sendall(part)
                threading.Event().wait(pause_s)

    threading.Thread(target=send, daemon=True).start()
    answer = PacedResponse(near, method="GET", small_s=0.1)
    near.close()  # its file keeps the socket open
    return answer


def test_the_time_of_an_interim_answer_is_its_own():
    """A proxy may say 100 (Continue) at once, and the registry takes minutes for a closing PUT (RFC 9110, section 15.2)."""
    answer = _answered(b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"Content-Length: 2\r\n\r\nok", pause_s=0.2)
    answer.begin()
    assert (answer.status, answer.read()) == (200, b"ok")


def test_the_trailers_of_a_blob_end_in_time():
    """The chunks of a blob may take any time, and http.client reads its trailers without an end (RFC 9112, section 7.1.2)."""
    answer = _answered(CHUNKED, b"2\r\nok\r\n", b"0;x=y\r\n", *[b"X: x\r\n"] * 60, pause_s=0.01)
    answer.begin()
    with pytest.raises(SlowAnswerError):
        answer.read()
    whole = _answered(CHUNKED, b"2\r\nok\r\n", b"0\r\nX: x\r\n\r\n")
    whole.begin()
    assert whole.read() == b"ok"


@pytest.mark.parametrize("size", [b"x\r\n", b"\r\n", b"-1\r\n", b"0x\r\n", b";\r\n"])
def test_a_size_of_a_chunk_that_is_none_is_an_error_of_the_answer(size):
    answer = _answered(CHUNKED, size)
    answer.begin()
    with pytest.raises(http.client.HTTPException):
        answer.read()


def test_a_blob_takes_as_long_as_it_takes(connect):
    content = b"0123456789" * 4
    blob = Descriptor("a/b", digest_of(content), len(content))
    quick = OK + f"Content-Length: {len(content)}\r\n\r\n".encode()
    with FakeRegistry() as registry, DrippingServer(quick, content, endless=False) as server:
        client = _client(connect, registry, server.host)
        assert b"".join(client.blob(Reference(server.host, "org/a"), blob)) == content
        assert len([request for request in server.requests if b"/blobs/" in request]) == 1


def test_a_registry_may_think_before_it_answers(connect):
    """The closing PUT of a large blob takes minutes (distribution hashes it again): the time of a head begins with its first byte."""
    with FakeRegistry() as registry:
        registry.add_manifest("org/a", json.dumps({"schemaVersion": 2}).encode(), "a/b", tag="v1")
        registry.fault("HEAD", "/manifests/", action=lambda: threading.Event().wait(0.25))
        client = _client(connect, registry)
        assert client.head(registry.reference("org/a", "v1")) is not None
        assert len(registry.log("HEAD", "/manifests/")) == 1
