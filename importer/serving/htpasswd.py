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
# The hash without its cost, for names that do not exist, and for padding; no password is known for it.
_STAND_IN = "$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
_HINT = "Make it with: htpasswd -Bbn NAME PASSWORD > FILE"


class _Bcrypt(Protocol):
    def checkpw(self, password: bytes, hashed_password: bytes) -> bool: ...


class Htpasswd:
    """The accounts of a file. Shared by threads."""

    def __init__(self, accounts: dict[str, str], check: _Bcrypt) -> None:
        self._accounts = accounts
        self._check = check
        self._cost = max(map(_cost, accounts.values()))
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

    def is_known(self, header: str) -> bool:
        """Say whether an Authorization header was accepted before. Fast."""
        with self._lock:
            return self._mark(header) in self._known

    def is_checkable(self, header: str) -> bool:
        """Say whether an Authorization header has a name and a password that bcrypt can check. Fast."""
        return _credentials(header) is not None

    def accepts(self, header: str) -> bool:
        """Say whether an Authorization header is that of an account. Slow, unless it is known."""
        if self.is_known(header):
            return True
        credentials = _credentials(header)
        if credentials is None or not self._is_right(*credentials):
            return False
        # Wrong ones are not remembered: an attacker would fill the memory with them.
        with self._lock:
            if len(self._known) < _MAX_KNOWN:
                self._known.add(self._mark(header))
        return True

    def _mark(self, header: str) -> bytes:
        # bcrypt is slow by design, and a pull has hundreds of requests: headers that were right are remembered, as a keyed
        # digest, since memory may end up in a core dump.
        return hmac.digest(self._secret, header.encode(), hashlib.sha256)

    def _is_right(self, name: str, password: bytes) -> bool:
        """Check a password. A wrong one takes the time of the highest cost of the file, whether the name exists or not."""
        hashed = self._accounts.get(name)
        cost = self._cost if hashed is None else _cost(hashed)
        right = self._check.checkpw(password, (hashed or _stand_in(cost)).encode())
        if right and hashed is not None:
            return True
        # Time is 2^cost: 2^c + 2^c + 2^(c+1) + … + 2^(highest-1) is 2^highest, for accounts of a lower cost.
        for lower in range(cost, self._cost):
            self._check.checkpw(password, _stand_in(lower).encode())
        return False


def _credentials(header: str) -> tuple[str, bytes] | None:
    """Return name and password of a Basic header (RFC 7617); None for any other, and for a password that bcrypt would cut."""
    scheme, _, encoded = header.partition(" ")
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:  # neither base64 nor ASCII, or not UTF-8 in it
        return None
    # A NUL ends the password for bcrypt: "secret\0x" would be accepted for "secret".
    if scheme.lower() != "basic" or not colon or len(password.encode()) > _MAX_PASSWORD or "\0" in password:
        return None
    return name, password.encode()


def _cost(hashed: str) -> int:
    return int(hashed[4:6])  # $2b$NN$…


def _stand_in(cost: int) -> str:
    return f"$2b${cost:02d}{_STAND_IN}"
