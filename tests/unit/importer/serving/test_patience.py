"""Clients that ask for nothing, or take nothing, do not keep a connection for ever."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn
from starlette.responses import Response, StreamingResponse
from uvicorn.server import ServerState

from importer.serving.server import PatientProtocol

_WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Hasty(PatientProtocol):
    head_s = stall_s = 0.2


async def _plenty():
    """Give far more than sockets keep, but not without end: once nobody listens, sending waits for nothing."""
    for _ in range(1000):
        yield b"x" * 100_000
        await asyncio.sleep(0)


async def _ended(app, *sent: bytes, patience_s: float = 20) -> bool:
    """Say whether the server ends a connection on which `sent` comes bit by bit, and of which nothing is read."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_keep_alive=3600)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Hasty(config, state, {}), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1)
    for part in sent:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.02)
    end = loop.time() + patience_s
    while not state.connections:  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.01)
    while state.connections and loop.time() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    ended = not state.connections
    writer.transport.abort()
    server.close()
    await asyncio.gather(*state.tasks, return_exceptions=True)
    return ended


@pytest.mark.parametrize("sent", [[], [b"G", b"E", b"T"], [_WHOLE, b"GET /"]], ids=["nothing", "half", "half of the second"])
def test_who_finishes_no_request_is_let_go(sent):
    assert asyncio.run(_ended(Response(b"done"), *sent))


def test_who_takes_nothing_is_let_go_even_when_more_is_asked_for():
    assert asyncio.run(_ended(StreamingResponse(_plenty()), _WHOLE, _WHOLE, _WHOLE[:9]))


def test_who_waits_for_an_answer_is_not():
    async def slow(scope, receive, send):
        await asyncio.sleep(1)
        await Response(b"done")(scope, receive, send)

    assert not asyncio.run(_ended(slow, _WHOLE, patience_s=0.8))
