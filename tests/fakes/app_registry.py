"""An app registry as Quay had it (CNR), over real sockets: packages by namespace, releases, archives, login."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

TOKEN = "basic dXNlcjpoaWRkZW4td29yZA=="


def nested(files: Mapping[str, bytes]) -> bytes:
    """Return the archive of a package with a file for each object."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def flattened(files: Mapping[str, bytes]) -> bytes:
    """Return the archive of the same package in one file."""
    data: dict[str, list[Any]] = {"customResourceDefinitions": [], "clusterServiceVersions": [], "packages": []}
    for content in files.values():
        one = yaml.load(content, yaml.CSafeLoader)
        kind = {"CustomResourceDefinition": "customResourceDefinitions", "ClusterServiceVersion": "clusterServiceVersions"}
        data[kind.get(one.get("kind"), "packages")].append(one)
    document = {"data": {key: yaml.dump(values, Dumper=yaml.CSafeDumper) for key, values in data.items()}}
    return nested({"bundle.yaml": yaml.dump(document, Dumper=yaml.CSafeDumper).encode()})


class AppRegistry:
    """`packages`: archives by `namespace/name`; `private` ones want TOKEN. `broken`: names whose archive is another."""

    def __init__(self, packages: Mapping[str, bytes], *, private: bool = False, broken: frozenset[str] = frozenset()) -> None:
        self.packages = dict(packages)
        self.private, self.broken = private, broken
        self.requests: list[str] = []

    def __enter__(self) -> Self:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.requests.append(self.path)
                if fake.private and self.headers.get("Authorization") != TOKEN:
                    self.answer(401, b'{"error": {"message": "who are you"}}')
                else:
                    status, body = fake.get(urlsplit(self.path))
                    self.answer(status, body)

            def do_POST(self) -> None:
                user = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["user"]
                good = base64.b64encode(f"{user['username']}:{user['password']}".encode()).decode() == TOKEN.partition(" ")[2]
                self.answer(200 if good else 401, json.dumps({"token": TOKEN}).encode() if good else b"{}")

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def get(self, url: Any) -> tuple[int, bytes]:
        """Answer a question."""
        path = url.path.removeprefix("/cnr/api/v1/packages")
        if path == "":
            namespace = parse_qs(url.query)["namespace"][0]
            listed = [{"name": n, "default": "1.0.0", "releases": []} for n in self.packages if n.startswith(f"{namespace}/")]
            return 200, json.dumps(listed).encode()
        name = "/".join(path.split("/")[1:3])
        if name not in self.packages:
            return 404, b'{"error": {"message": "no such package"}}'
        content = self.packages[name]
        digest = hashlib.sha256(content).hexdigest()
        if path.endswith(f"/blobs/sha256/{digest}"):
            return 200, content[:-1] + b"x" if name in self.broken else content
        return 200, json.dumps(
            [{"package": name, "release": "1.0.0", "content": {"digest": digest, "size": len(content)}}]
        ).encode()
