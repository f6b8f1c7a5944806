"""Authentication of clients, in front of the application: known accounts at once, the rest a few at a time.

bcrypt takes tenths of a second of CPU for each check, by design. Checks have threads of their own and a bounded queue, so that
clients without an account cannot keep the others from being served.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.requests import Request

from importer.serving.app import READING, STRANGER, VERSION, RequestError, logged

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from importer.serving.htpasswd import Htpasswd


_CHECKS = 2  # at a time: more would only share the cores with the transfers
# Waiting, for all clients and for one address: a node that logs in with several pulls at once stays below it.
_WAITING, _WAITING_OF_ONE = 16, 4
_RETRY_AFTER = {"Retry-After": "1"}
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="hub-airgap", charset="UTF-8"'}
_LOG = logging.getLogger(__name__)


class Authentication:
    """An ASGI application that passes the requests of accounts on to another one, and refuses the rest with 401 or 429."""

    def __init__(self, app: ASGIApp, accounts: Htpasswd) -> None:
        self._app = app
        self._accounts = accounts
        self._checking = ThreadPoolExecutor(_CHECKS, thread_name_prefix="bcrypt")
        self._waiting: Counter[str] = Counter()  # by address; used in the event loop alone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        request = Request(scope)
        scope[STRANGER] = True  # the server may close its connection for that of another client
        # What is not allowed to any client costs no check.
        refused = await self._refusal(request) if request.method in READING else None
        if refused is None:
            del scope[STRANGER]
            await self._app(scope, receive, send)
            return
        response = refused.response()
        response.headers.update(VERSION)
        _LOG.info("%s %s: %s", request.method, logged(scope["path"]), response.status_code)
        await response(scope, receive, send)

    async def _refusal(self, request: Request) -> RequestError | None:
        header = request.headers.get("Authorization", "")
        if self._accounts.is_known(header):
            return None
        if not self._accounts.is_checkable(header):
            return _unauthorized()
        address = request.client.host if request.client else ""
        if self._waiting.total() >= _WAITING or self._waiting[address] >= _WAITING_OF_ONE:
            # RFC 6585, section 4: registries' clients wait and try again.
            message = "too many checks of passwords"
            return RequestError(HTTPStatus.TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message, headers=_RETRY_AFTER)
        self._waiting[address] += 1
        try:
            right = await asyncio.get_running_loop().run_in_executor(self._checking, self._accounts.accepts, header)
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]  # bounded: an address that waits for nothing is not kept
        return None if right else _unauthorized()


def _unauthorized() -> RequestError:
    return RequestError(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "authentication is required", headers=_CHALLENGE)
