"""Clients without an account hold connections, and accounts are served; real sockets, no clock."""

from __future__ import annotations

import asyncio
import base64
import logging
import resource
import ssl

import pytest
import uvicorn
from starlette.responses import Response
from uvicorn.server import ServerState

from importer.serving.app import logged
from importer.serving.authentication import Authentication
from importer.serving.htpasswd import Htpasswd
from importer.serving.server import (
    MAX_HEAD,
    ImpatientLoop,
    ServerLogFilter,
    TimeoutProtocol,
    configuration,
    raise_file_limit,
    self_signed,
)

HELD = 8
BASIC = base64.b64encode(b"reader:right").decode()
REQUEST = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n%b\r\n"
KNOWN = REQUEST % f"Authorization: Basic {BASIC}\r\n".encode()


class Accepting:
    """bcrypt that takes no time."""

    def checkpw(self, password: bytes, hashed_password: bytes) -> bool:
        return password == b"right"


class Small(TimeoutProtocol):
    held = HELD


class Clients:
    """The clients of a server with room for HELD connections, which answers 503 from the third above on."""

    def __init__(self, app):
        config = uvicorn.Config(app, lifespan="off", log_config=None, limit_concurrency=HELD + 3, timeout_keep_alive=3600)
        config.load()
        self.state = ServerState()
        self._make = lambda: Small(config, self.state, {})
        self._writers = []

    async def __aenter__(self):
        self._server = await asyncio.get_running_loop().create_server(self._make, "127.0.0.1", 0)
        return self

    async def open(self, sent: bytes = b""):
        """Open a connection and send something."""
        reader, writer = await asyncio.open_connection(*self._server.sockets[0].getsockname())
        self._writers.append(writer)
        writer.write(sent)
        return reader, writer

    async def __aexit__(self, *_error):
        self._server.close()
        for connection in list(self.state.connections):
            connection.transport.abort()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self.state.tasks, return_exceptions=True)
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


async def status(stream, request: bytes) -> int:
    """Send a request on a connection, and read its whole answer."""
    reader, writer = stream
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    await reader.readexactly(length)
    return int(head.split()[1])


@pytest.mark.parametrize("sent", [b"", b"GET /v2/ HT", REQUEST % b""], ids=["nothing", "half a head", "no credentials"])
def test_connections_that_strangers_hold_make_room(sent):
    async def play():
        accounts = Htpasswd({"reader": "$2b$05$" + "a" * 53}, Accepting())
        async with Clients(Authentication(Response(b"{}"), accounts)) as clients:
            account = await clients.open()
            assert await status(account, KNOWN) == 200
            for _ in range(5 * HELD):
                await clients.open(sent)
                assert len(clients.state.connections) <= HELD + 1
            assert await status(account, KNOWN) == 200  # on its connection, which is the oldest
            assert await status(await clients.open(), KNOWN) == 200  # and on a new one

    asyncio.run(play())


def test_requests_that_are_answered_are_not_ended_for_new_connections():
    """Without accounts every client may send requests: each keeps its connection until it has its answer."""

    async def play():
        go_on, running = asyncio.Event(), asyncio.Semaphore(0)

        async def app(scope, receive, send):
            running.release()
            await go_on.wait()
            await Response(b"{}")(scope, receive, send)

        async with Clients(app) as clients:
            busy = [await clients.open() for _ in range(HELD)]
            answers = [asyncio.create_task(status(one, REQUEST % b"")) for one in busy]
            for _ in busy:
                await running.acquire()
            for _ in range(2):  # up to the limit at which uvicorn refuses requests
                await clients.open()
            go_on.set()
            assert await asyncio.gather(*answers) == [200] * HELD

    asyncio.run(play())


def test_a_tls_handshake_that_never_ends_is_ended(tmp_path):
    class Hasty(ImpatientLoop):
        handshake_timeout_s = 0.05

    async def play():
        made = self_signed(tmp_path, ["127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.certificate, made.key)
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        server.close()

    with asyncio.Runner(loop_factory=Hasty) as runner:
        runner.run(play())


def test_what_any_client_can_cause_is_logged_once_a_minute():
    now = [0.0]
    chosen = ServerLogFilter(lambda: now[0])

    def record(level: int, message: str) -> bool:
        return chosen.filter(logging.LogRecord("uvicorn.error", level, "", 0, message, (), None))

    assert [record(logging.WARNING, "Invalid HTTP request received.") for _ in range(3)] == [True, False, False]
    assert record(logging.WARNING, "Exceeded concurrency limit.")
    assert record(logging.ERROR, "Invalid HTTP request received.")
    now[0] = 60.0
    assert record(logging.WARNING, "Invalid HTTP request received.")


@pytest.mark.parametrize(("size", "answer"), [(MAX_HEAD, 200), (MAX_HEAD + 1, 400)])
def test_the_head_of_a_request_at_its_limit_and_beyond(size, answer):
    """h11 refuses a head that has more bytes and still no end."""
    config = configuration(Response(b"done"))
    config.load()

    async def play():
        connection, transport = TimeoutProtocol(config, ServerState(), {}), Written()
        connection.connection_made(transport)
        connection.data_received(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ".ljust(size, b"x"))
        if not transport.content:
            connection.data_received(b"\r\n\r\n")
        await asyncio.gather(*connection.tasks)
        connection.connection_lost(None)
        return transport.content

    assert asyncio.run(play()).startswith(b"HTTP/1.1 %d " % answer)


class Written(asyncio.Transport):
    """A transport that keeps what is written."""

    content = b""

    def write(self, data):
        self.content += data

    def is_closing(self):
        return False

    def close(self):
        pass

    abort = pause_reading = resume_reading = close


def test_open_files_are_raised_to_4096_where_the_system_allows_it():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 4096 if before[1] == resource.RLIM_INFINITY else min(4096, before[1])
    try:
        for soft, after in ((most - 1, most), (most, most)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
            raise_file_limit()
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (after, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_paths_are_cut_in_the_log():
    assert logged("/v2/" + "a" * 296) == "/v2/" + "a" * 296
    assert logged("/v2/" + "a" * 297) == "/v2/" + "a" * 296 + "..."
    assert logged("/v2/\r\n") == "/v2/%0D%0A"
