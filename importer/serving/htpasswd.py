"""Accounts: a file of `name:bcrypt` lines, as `htpasswd -B` writes it and docker-registry reads it."""

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
_MAX_KNOWN = 1000  # headers that were right; bounds memory, and further ones only cost the time of bcrypt
_MAX_PASSWORD = 72  # bytes: bcrypt ignores the rest, and version 5 of the package raises ValueError for it
# Costs from 04 to 31, the range of bcrypt. Other schemes of htpasswd (MD5, SHA-1, crypt) are weak, and docker-registry refuses
# them too.
_LINE = re.compile(r"([^:\s]{1,256}):(\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53})")
# The hash for unknown names: their check takes as long as that of an account, so that time does not reveal which names exist.
_UNKNOWN = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
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
        """Say whether an Authorization header is that of an account."""
        # bcrypt is slow by design, and a pull has hundreds of requests: headers that were right are remembered, as a keyed
        # digest, since memory may end up in a core dump.
        mark = hmac.digest(self._secret, header.encode(), hashlib.sha256)
        with self._lock:
            if mark in self._known:
                return True
        if not self._is_right(header):
            return False
        # Wrong ones are not remembered: an attacker would fill the memory with them.
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
        # A NUL ends the password for bcrypt: without the check above "secret\0x" would be accepted for "secret".
        hashed = self._accounts.get(name, _UNKNOWN)
        return self._check.checkpw(password.encode(), hashed.encode()) and name in self._accounts
