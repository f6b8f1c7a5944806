"""A real S3 server for tests, `rclone serve s3` over a directory, behind a wire that counts, holds, alters and fails requests."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.fakes.commands import BIN
from tests.fakes.secrets import STORAGE_KEY, STORAGE_SECRET
from tests.fakes.servers import THRIFTY, free_port, require

BUCKET = "hub"


@dataclass
class Request:
    """What a client asked for; `answered` once the server's answer is there."""

    method: str
    path: str
    query: dict[str, str]
    answered: bool = False

    @property
    def part(self) -> int:
        """The number of the part that is sent; 0 for other requests."""
        return int(self.query["partNumber"]) if self.method == "PUT" and "partNumber" in self.query else 0

    @property
    def is_beginning(self) -> bool:
        return self.method == "POST" and "uploads" in self.query


Fault = Callable[[Request], int]  # an HTTP status instead of the server's answer; 0: none


@dataclass
class ObjectStore:
    """A running server: `root` has a directory for each bucket; `requests` came in this order, `given` bytes went out."""

    root: Path
    host: str
    account: tuple[str, str] = (STORAGE_KEY, STORAGE_SECRET)
    given: int = 0
    requests: list[Request] = field(default_factory=list)
    fault: Fault = lambda _request: 0
    alter: Callable[[Request, bytes], bytes] = lambda _request, content: content
    hold: Callable[[Request], None] = lambda _request: None
    lose: Callable[[Request], bool] = lambda _request: False  # on its way: neither the server nor the client hears of it
    cut: Callable[[Request], bool] = lambda _request: False

    @property
    def environment(self) -> dict[str, str]:
        """What tells a client of it."""
        return environment_of(self.host, self.account)

    def reset(self) -> None:
        """Forget what was asked, and do nothing but forward."""
        fresh = ObjectStore(self.root, self.host)
        self.requests, self.given = fresh.requests, 0
        self.fault, self.alter, self.hold, self.cut = fresh.fault, fresh.alter, fresh.hold, fresh.cut
        self.lose = fresh.lose

    def asked(self, wanted: Callable[[Request], bool]) -> int:
        """Return how many requests came of a kind."""
        return sum(map(wanted, list(self.requests)))

    def names(self, prefix: str) -> set[str]:
        """Return the names of the objects below a prefix."""
        return {path.name for path in (self.root / BUCKET / prefix).glob("*") if path.is_file()}


def environment_of(host: str, account: tuple[str, str]) -> dict[str, str]:
    """Return what tells a client of a server."""
    return {
        "AWS_ENDPOINT_URL": f"http://{host}",
        "AWS_ACCESS_KEY_ID": account[0],
        "AWS_SECRET_ACCESS_KEY": account[1],
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def object_store(
    home: Path,
    *,
    bucket: str = BUCKET,
    account: tuple[str, str] = (STORAGE_KEY, STORAGE_SECRET),
    address: tuple[str, int] = ("127.0.0.1", 0),
) -> Iterator[ObjectStore]:
    """Start a server with one bucket and one account, its wire at an address. Skips the test where there is no rclone."""
    with served(home, bucket, account) as (root, port), _wire(ObjectStore(root, "", account=account), port, address) as store:
        yield store


@contextmanager
def served(home: Path, bucket: str, account: tuple[str, str]) -> Iterator[tuple[Path, int]]:
    """Start rclone alone; give the directory of its buckets, and its port.

    It tells the MD5 of an object with every answer about it. With `hasher` it keeps them for as long as a file has the same size and
    time; without, it would read the whole file for each request, which is nearly all of the CPU that it takes.
    """
    program = BIN / "rclone"
    root = home / "objects"
    (root / bucket).mkdir(parents=True)
    port = free_port()
    with (home / "rclone.log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(program) if program.exists() else require("rclone"),
                *("serve", "s3", "--addr", f"127.0.0.1:{port}", "--config", "", "--dir-cache-time", "1ms"),
                *("--no-cleanup", "--auth-key", ",".join(account), "--cache-dir", str(home / "cache")),
                f":hasher,remote={root},hashes=md5,max_age=off:",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(home), **THRIFTY},
        )
        try:
            _wait(process, port, home / "rclone.log")
            yield root, port
        finally:
            process.terminate()
            process.wait(120)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(400):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request("GET", "/")
                connection.getresponse().read()
            return
        time.sleep(0.05)
    raise RuntimeError(f"rclone does not start:\n{log.read_text()}")


@contextmanager
def _wire(store: ObjectStore, port: int, address: tuple[str, int]) -> Iterator[ObjectStore]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _forward(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            request = Request(self.command, parts.path, query)
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            store.requests.append(request)
            store.hold(request)
            if store.lose(request):
                self.close_connection = True
                return
            status = store.fault(request)
            if status:
                self._answer(status, {"Content-Type": "application/xml"}, b"<Error><Code>Told</Code></Error>")
                return
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            try:
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                with connection.getresponse() as answer:  # it holds the connection's socket, also where it breaks off
                    content = store.alter(request, answer.read())
                request.answered = True
                store.given += len(content)
                headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
                if self.command == "HEAD":
                    headers["Content-Length"] = answer.getheader("Content-Length", "0")
                if store.cut(request):
                    headers["Content-Length"] = str(len(content))
                    content, self.close_connection = content[: len(content) // 2], True
                self._answer(answer.status, headers, content)
            finally:
                connection.close()

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content)

    for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
        setattr(Handler, f"do_{method}", Handler._forward)
    server = ThreadingHTTPServer(address, Handler)
    server.daemon_threads = True
    server.handle_error = lambda _request, _address: None  # type: ignore[method-assign]
    store.host = f"{address[0]}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join(120)


_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length")
