"""Who may read: a file of `name:bcrypt` lines, as `htpasswd -B` writes it and docker-registry reads it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
from typing import TYPE_CHECKING, Protocol, cast

from common.distribution import how_to_install
from common.errors import UsageError
from common.files import read_limited

if TYPE_CHECKING:
    from pathlib import Path

_MAX_FILE = 1024 * 1024
_MAX_KNOWN = 1000
_MAX_PASSWORD = 72  # bytes; bcrypt knows no more
_LINE = re.compile(r"([^:\s]{1,256}):(\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53})")
_NOBODY = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"  # takes as long as the hash of somebody
_HINT = "Make it with: htpasswd -Bbn NAME PASSWORD > FILE"


class _Bcrypt(Protocol):
    def checkpw(self, password: bytes, hashed_password: bytes) -> bool: ...


class Htpasswd:
    """The accounts of a file. Shared by threads."""

    def __init__(self, accounts: dict[str, str], check: _Bcrypt) -> None:
        self._accounts = accounts
        self._check = check
        self._secret = secrets.token_bytes(32)
        self._known: set[bytes] = set()
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path) -> Htpasswd:
        """Read the file. Raises UsageError, also where this platform has no bcrypt."""
        try:
            import bcrypt  # noqa: PLC0415 - not everywhere, and only for those who want it
        except ImportError as error:
            raise UsageError(
                "--htpasswd needs the package bcrypt, which is not installed",
                hint=f"{how_to_install('bcrypt', 'python3-bcrypt')} "
                "Where PyPI has no wheel for this platform: serve on 127.0.0.1 behind a web server that asks for passwords.",
            ) from error
        raw = read_limited(path, _MAX_FILE, _HINT)
        lines = [line.strip() for line in raw.decode("utf-8", "replace").splitlines()]
        accounts: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            if line and not line.startswith("#"):
                match = _LINE.fullmatch(line)
                if match is None:
                    raise UsageError(f"{path}: line {number} is no account with a bcrypt hash", hint=_HINT)
                accounts[match[1]] = match[2]
        if not accounts:
            raise UsageError(f"{path}: holds no account", hint=_HINT)
        return cls(accounts, cast("_Bcrypt", bcrypt))

    def accepts(self, header: str) -> bool:
        """Say whether an Authorization header is that of an account. What was right once is known again at no cost."""
        mark = hmac.digest(self._secret, header.encode(), hashlib.sha256)
        with self._lock:
            if mark in self._known:
                return True
        if not self._is_right(header):
            return False
        with self._lock:
            if len(self._known) < _MAX_KNOWN:
                self._known.add(mark)
        return True

    def _is_right(self, header: str) -> bool:
        scheme, _, encoded = header.partition(" ")
        try:
            name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except ValueError:  # neither base64 nor ASCII, or not UTF-8 in it
            return False
        if scheme.lower() != "basic" or not colon or len(password.encode()) > _MAX_PASSWORD or "\0" in password:
            return False
        hashed = self._accounts.get(name, _NOBODY)
        return self._check.checkpw(password.encode(), hashed.encode()) and name in self._accounts
