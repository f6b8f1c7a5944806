"""Connections of clients that send no request (slowloris), or read no response, are closed."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn
from starlette.responses import Response, StreamingResponse
from uvicorn.server import ServerState

from importer.serving.server import TimeoutProtocol

_WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class ShortTimeouts(TimeoutProtocol):
    head_timeout_s = stall_timeout_s = 0.2


async def _plenty():
    """Give far more than socket buffers hold, but not without end: after an abort, sending does not block."""
    for _ in range(1000):
        yield b"x" * 100_000
        await asyncio.sleep(0)


async def _closed(app, *sent: bytes, deadline_s: float = 20) -> bool:
    """Say whether the server closes a connection on which `sent` arrives in parts, and from which nothing is read."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_keep_alive=3600)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ShortTimeouts(config, state, {}), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1)
    for part in sent:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.02)
    end = loop.time() + deadline_s
    while not state.connections:  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.01)
    while state.connections and loop.time() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    ended = not state.connections
    writer.transport.abort()
    server.close()
    await asyncio.gather(*state.tasks, return_exceptions=True)
    return ended


@pytest.mark.parametrize("sent", [[], [b"G", b"E", b"T"], [_WHOLE, b"GET /"]], ids=["nothing", "half", "half of the second"])
def test_a_request_that_is_not_completed_times_out(sent):
    assert asyncio.run(_closed(Response(b"done"), *sent))


def test_a_client_that_reads_nothing_times_out_even_when_it_sends_requests():
    assert asyncio.run(_closed(StreamingResponse(_plenty()), _WHOLE, _WHOLE, _WHOLE[:9]))


def test_a_client_that_waits_for_a_response_does_not_time_out():
    async def slow(scope, receive, send):
        await asyncio.sleep(1)
        await Response(b"done")(scope, receive, send)

    assert not asyncio.run(_closed(slow, _WHOLE, deadline_s=0.8))
