"""The internals of uvicorn that `TimeoutProtocol` uses: the pin in pyproject.toml names the version that has them."""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path

import h11
import pytest
import uvicorn
from packaging.requirements import Requirement
from packaging.version import Version
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from importer.serving.server import TimeoutProtocol

_PYPROJECT = Path(__file__).parents[4] / "pyproject.toml"
_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class _Transport(asyncio.Transport):
    """A transport that goes nowhere."""

    def get_extra_info(self, name, default=None):
        return default

    def write(self, data):
        pass

    def is_closing(self):
        return False


def _pin() -> Requirement:
    listed = map(Requirement, tomllib.loads(_PYPROJECT.read_text())["project"]["dependencies"])
    return next(each for each in listed if each.name == "uvicorn")


def test_one_minor_version_is_pinned_and_it_is_the_one_tested_here():
    installed, pin = Version(version("uvicorn")), _pin().specifier
    assert installed in pin
    assert installed.major == 0, "from 1.0 on, the major version is what may break"
    assert Version(f"0.{installed.minor - 1}.9999") not in pin
    assert Version(f"0.{installed.minor + 1}") not in pin


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("connection_made", ["transport"]),
        ("data_received", ["data"]),
        ("pause_writing", []),
        ("resume_writing", []),
        ("connection_lost", ["exc"]),
    ],
)
def test_the_methods_that_are_extended_belong_to_the_protocol_itself(method, parameters):
    assert list(inspect.signature(getattr(H11Protocol, method)).parameters) == ["self", *parameters]
    assert method in vars(H11Protocol), "inherited: asyncio alone would call it"
    assert method in vars(TimeoutProtocol)


def test_cycle_is_the_request_that_is_answered_from_its_last_byte_on():
    async def answer_never(_scope, _receive, _send):
        await asyncio.Event().wait()

    async def check():
        config = uvicorn.Config(answer_never, lifespan="off", log_config=None)
        state = ServerState()
        protocol = H11Protocol(config, state, {})
        transport = _Transport()
        protocol.connection_made(transport)
        assert protocol.transport is transport
        assert protocol.loop is asyncio.get_running_loop()
        protocol.data_received(_REQUEST[:-1])
        assert protocol.cycle is None
        protocol.data_received(_REQUEST[-1:])
        assert protocol.cycle.response_complete is False
        for task in state.tasks:
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)

    asyncio.run(check())


def test_a_server_ends_when_it_is_asked_to_before_it_runs():
    server = uvicorn.Server(uvicorn.Config(lambda: None, lifespan="off", log_config=None))
    assert server.should_exit is False
    assert "sockets" in inspect.signature(server.run).parameters


def test_a_body_is_sent_beside_the_transport_when_its_length_was_said():
    """`send_file`: `app` is looked up for each request, and h11 counts what has a length."""

    class Protocol(H11Protocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.app = answer_beside

    async def answer_beside(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        protocols[0].conn.send_with_data_passthrough(h11.Data(data=range(5)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    protocols: list[Protocol] = []

    async def check():
        config = uvicorn.Config(lambda: None, lifespan="off", log_config=None)
        protocols.append(Protocol(config, ServerState(), {}))
        transport = _Transport()
        protocols[0].connection_made(transport)
        protocols[0].data_received(_REQUEST)
        await asyncio.gather(*protocols[0].tasks)
        assert protocols[0].cycle.response_complete
        assert protocols[0].flow.write_paused is False
        assert inspect.iscoroutinefunction(protocols[0].flow.drain)
        protocols[0].timeout_keep_alive_task.cancel()

    asyncio.run(check())
