"""A token server for docker-registry (token authentication of distribution): signs what it grants as JSON Web Tokens.

docker-registry goes on to accept a token for a minute after its end, so that clocks may differ; a token that shall live three
seconds ends 57 seconds before it is made. It knows whole seconds only: tokens live as long as told, or up to one second longer.
"""

from __future__ import annotations

import base64
import json
import math
import ssl
import threading
import time
import urllib.parse
import uuid
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jwt
import trustme

from tests.fakes.registry import Quay

LEEWAY_S = 60
SERVICE = "real registry"


@dataclass(frozen=True)
class Grant:
    """What the server was asked for, by whom, and whether it gave it."""

    user: str | None
    scopes: tuple[str, ...]
    method: str
    status: int


class TokenServer:
    """See the module. `life_s`: how long tokens live; `told_s`: what the answer says of that (None: nothing)."""

    def __init__(
        self,
        folder: Path,
        passwords: dict[str, str],
        *,
        life_s: float = 300,
        told_s: float | None = 300,
        anonymous: bool = False,
        identity_tokens: frozenset[str] = frozenset(),
    ) -> None:
        self.passwords, self.identity_tokens = passwords, identity_tokens
        self.life_s, self.told_s, self.anonymous = life_s, told_s, anonymous
        self.quay: Quay | None = None  # grants as Quay does
        self.repositories: set[str] = set()  # that exist, for Quay
        self.grants: list[Grant] = []
        authority = trustme.CA(key_type=trustme.KeyType.RSA)
        self._leaf = authority.issue_cert("tokens.example", key_type=trustme.KeyType.RSA)
        self.bundle = folder / "token-ca.pem"
        authority.cert_pem.write_to_path(self.bundle)

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args: Any) -> None:
                pass

            def do_GET(self) -> None:
                query = urllib.parse.parse_qs(self.path.partition("?")[2])
                self._reply(*outer.answer("GET", self.headers.get("Authorization", ""), query, {}))

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                form = {key: values[0] for key, values in urllib.parse.parse_qs(raw.decode()).items()}
                self._reply(*outer.answer("POST", "", {"scope": form.get("scope", "").split()}, form))

            def _reply(self, status: int, document: dict[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def config(self) -> str:
        """What docker-registry has to be told."""
        realm = f"http://localhost:{self._server.server_address[1]}/token"
        return f"auth: {{token: {{realm: '{realm}', service: '{SERVICE}', issuer: tests, rootcertbundle: '{self.bundle}'}}}}"

    def answer(self, method: str, authorization: str, query: dict[str, list[str]], form: dict[str, str]) -> tuple[int, Any]:
        """Decide on one request."""
        scopes = tuple(query.get("scope", []))
        if method == "POST":
            user = "identity" if form.get("refresh_token") in self.identity_tokens else None
        else:
            user = self._user(authorization)
        if user is None and (authorization or method == "POST" or not self.anonymous):
            self.grants.append(Grant(user, scopes, method, 401))
            return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]}
        self.grants.append(Grant(user, scopes, method, 200))
        token = self._token(user, scopes)
        told = {} if self.told_s is None else {"expires_in": self.told_s}
        return 200, {"access_token" if method == "POST" else "token": token, **told}

    def _user(self, authorization: str) -> str | None:
        if not authorization.startswith("Basic "):
            return None
        user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return user if self.passwords.get(user) == password else None

    def _granted(self, user: str | None, name: str, actions: list[str]) -> list[str]:
        if self.quay is None:
            return [action for action in actions if user or action == "pull"]
        granted = self.quay.actions(user, name, set(actions), name in self.repositories)
        self.repositories |= {name} if "push" in granted else set()
        return sorted(granted)

    def _token(self, user: str | None, scopes: tuple[str, ...]) -> str:
        now = time.time()
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            granted = self._granted(user, name, actions.split(","))
            access.append({"type": kind, "name": name, "actions": granted})
        claims = {
            "iss": "tests",
            "sub": user or "",
            "aud": SERVICE,
            "iat": int(now - 3600),
            "nbf": int(now - 3600),
            "exp": math.ceil(now + self.life_s - LEEWAY_S),
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        key = self._leaf.private_key_pem.bytes()
        chain = [
            base64.b64encode(ssl.PEM_cert_to_DER_cert(pem.bytes().decode())).decode() for pem in self._leaf.cert_chain_pems
        ]
        return jwt.encode(claims, key, algorithm="RS256", headers={"x5c": chain})
