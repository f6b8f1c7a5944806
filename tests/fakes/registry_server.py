"""The sockets of the fake registry: connections, log and faults, and the second origin that redirects lead to."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import struct
import sys
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.registry import FakeRegistry


@dataclass
class Request:
    """One line of the log. `status` 0: the connection was dropped without an answer."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    status: int = 0
    target: str = ""  # path and query as they came


@dataclass
class Fault:
    """What goes wrong with requests of `method` whose path contains `part`, the next `times` times after `skip` more."""

    method: str
    part: str
    times: int = 1
    skip: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    drop: bool = False  # no answer at all
    read_before_drop: int = 0  # of the request's body; requests with less of it pass
    cut_after: int | None = None  # of the body, then the connection is reset
    end_after: int | None = None  # of the body, which is all there is: a truthful, short answer
    flip: bool = False  # right length, wrong bytes
    lose_answer: bool = False  # the request is carried out, its answer is lost
    action: Callable[[], None] | None = None  # what else happens when the request comes


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        handler: type[Handler],
        registry: FakeRegistry,
        context: ssl.SSLContext | None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.registry = registry
        self._context = context
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)
        self.port = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(120)
        if self._context:
            with self.registry.lock:
                self.registry.handshakes += 1
            request = self._context.wrap_socket(request, server_side=True)
        self._open.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self._open.discard(request)
            if self._context:
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.registry.errors.append(error)

    def stop(self) -> None:
        self.shutdown()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join(120)


class Handler(BaseHTTPRequestHandler):
    """Log, faults and answers; what is answered is the subclasses'."""

    protocol_version = "HTTP/1.1"
    server: Server
    fault: Fault | None
    entry: Request

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def registry(self) -> FakeRegistry:
        return self.server.registry

    def log_message(self, *_args: Any) -> None:
        """Say nothing: the log is in memory."""

    def _handle(self) -> None:
        self.fault = None
        path, _, query = self.path.partition("?")
        self.entry = Request(
            self.command, urllib.parse.unquote(path), dict(urllib.parse.parse_qsl(query)), dict(self.headers.items())
        )
        self.entry.target = self.path
        with self.registry.lock:
            self._log().append(self.entry)
            self.registry.asked += 1
        length = int(self.headers.get("Content-Length") or 0)
        limit = self.registry.max_body
        if limit is not None and length > limit:
            self.close_connection = True
            self.answer(413, b"<html>too large</html>")
            self._linger(length)
            return
        self.fault = self.registry.take_fault(self.command, self.entry.path, length)
        if self.fault and self.fault.drop:
            self.rfile.read(self.fault.read_before_drop)
        if self.fault and self.fault.action:
            self.fault.action()
        if self.fault and self.fault.drop:
            self._reset()
            return
        self.entry.body = self.rfile.read(length)
        if len(self.entry.body) < length:
            self.close_connection = True
            return
        if self.fault and self.fault.status:
            self.answer(self.fault.status, self.fault.body, self.fault.headers)
            return
        self.respond()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - http.server's names

    def respond(self) -> None:
        raise NotImplementedError

    def _log(self) -> list[Request]:
        raise NotImplementedError

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send an answer, spoilt as the fault says."""
        fault = self.fault
        if fault and fault.lose_answer:
            self._reset()
            return
        self.entry.status = status
        sent = bytes(byte ^ 0xFF for byte in body[:1]) + body[1:] if fault and fault.flip else body
        if fault and fault.end_after is not None:
            sent = sent[: fault.end_after]
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if not {"Content-Length", "Transfer-Encoding"} & set(headers or {}):
            self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.cut_after is not None and len(sent) > fault.cut_after:
            self.wfile.write(sent[: fault.cut_after])
            self.wfile.flush()
            self._close()
            return
        self.wfile.write(sent)

    def refuse(self, status: int, code: str, message: str = "", headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message or code.lower().replace("_", " ")}]}).encode()
        self.answer(status, body, {"Content-Type": "application/json", **(headers or {})})

    def _linger(self, length: int) -> None:
        """Read what is still sent, as nginx does (`lingering_close`): closing at once would destroy the answer on its way."""
        self.wfile.flush()
        with contextlib.suppress(OSError):
            while length > 0 and (got := self.rfile.read(min(length, 1 << 16))):
                length -= len(got)

    def _close(self) -> None:
        """End the connection where it is; what was sent arrives."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _reset(self) -> None:
        """End the connection with RST."""
        self.close_connection = True
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        self.connection.close()

    def send_content(self, content: bytes, headers: Mapping[str, str]) -> None:
        """Send content, or the range that was asked for."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if self.registry.ranges else None
        if not match:
            self.answer(200, content, headers)
            return
        first, last = int(match[1]), min(int(match[2] or len(content) - 1), len(content) - 1)
        if first >= len(content) or first > last:
            self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        self.answer(206, content[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"})


class ElsewhereHandler(Handler):
    """The second origin: blobs under signed URLs, as content networks serve them. Any Authorization is an error there."""

    def _log(self) -> list[Request]:
        return self.registry.elsewhere

    def respond(self) -> None:
        repository, _, digest = self.entry.path.removeprefix("/signed/").rpartition("/")
        content = self.registry.find_blob(repository, digest)
        if "Authorization" in self.headers or "Cookie" in self.headers:
            self.answer(400, b"<Error><Code>InvalidArgument</Code></Error>")
        elif self.entry.query.get("sig") not in self.registry.signatures:
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif content is None:
            self.answer(404)
        else:
            self.send_content(content, {"Content-Type": "binary/octet-stream"})
