"""Clients without an account wait for each other, and known accounts for no one; time shows no names."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from importer.serving.authentication import Authentication
from importer.serving.htpasswd import Htpasswd

RIGHT, WRONG = b"right", b"wrong"


class Checks:
    """bcrypt in which a wrong password waits until `release`; `work` is the sum of 2^cost."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.work = 0

    def checkpw(self, password: bytes, hashed_password: bytes) -> bool:
        self.work += 2 ** int(hashed_password[4:6])
        if password == WRONG:
            assert self.release.wait(60)
        return password == RIGHT and b"CCCC" not in hashed_password


def hashed(cost: int) -> str:
    return f"$2b${cost:02d}$" + "a" * 53


def basic(name: str, password: bytes) -> str:
    return "Basic " + base64.b64encode(name.encode() + b":" + password).decode()


async def nothing(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def ask(app: Authentication, header: str, address: str = "10.0.0.1", method: str = "GET") -> tuple[int, dict[str, str]]:
    """Return the status and the headers of a response."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    headers = [(b"authorization", header.encode())] if header else []
    scope = {"type": "http", "method": method, "path": "/v2/", "headers": headers, "client": (address, 1), "query_string": b""}
    await app(scope, receive, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def test_strangers_do_not_starve_known_accounts() -> None:
    checks = Checks()
    app = Authentication(nothing, Htpasswd({"reader": hashed(5)}, checks))

    async def play() -> None:
        assert (await ask(app, basic("reader", RIGHT)))[0] == 200
        waiting = [asyncio.create_task(ask(app, basic("reader", WRONG))) for _ in range(4)]
        await asyncio.sleep(0)
        status, headers = await ask(app, basic("reader", WRONG))  # the fifth of one address
        assert (status, headers["retry-after"]) == (429, "1")
        assert "docker-distribution-api-version" in headers
        waiting += [asyncio.create_task(ask(app, basic("x", WRONG), f"10.0.1.{number}")) for number in range(12)]
        await asyncio.sleep(0)
        assert (await ask(app, basic("x", WRONG), "10.0.2.1"))[0] == 429  # the seventeenth of all
        assert (await ask(app, basic("reader", RIGHT)))[0] == 200  # at once, while all of those wait
        assert (await ask(app, ""))[0] == 401
        assert (await ask(app, "Bearer x"))[0] == 401
        checks.release.set()
        assert {status for status, _ in await asyncio.gather(*waiting)} == {401}
        assert (await ask(app, basic("x", WRONG)))[0] == 401  # the queue is empty again

    asyncio.run(play())


def test_writes_are_left_to_the_application() -> None:
    app = Authentication(nothing, Htpasswd({"reader": hashed(5)}, Checks()))
    assert asyncio.run(ask(app, "", method="POST"))[0] == 200


@pytest.mark.parametrize("name", ["cheap", "middle", "dear", "unknown"])
def test_a_wrong_password_takes_the_same_work_for_every_name(name: str) -> None:
    checks = Checks()
    checks.release.set()
    accounts = Htpasswd({"cheap": hashed(5), "middle": hashed(8), "dear": hashed(12)}, checks)
    assert not accounts.accepts(basic(name, WRONG))
    assert checks.work == 2**12
