"""Logging: the package's own loggers, with secrets removed before a handler sees a record.

Owns the redaction; `cli.py` decides where records go.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "hub"
_PATTERNS = (
    re.compile(r"(?i)((?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer)\s+)[^\s'\",]+"),
    re.compile(r"(?i)([?&](?:x-amz-signature|x-amz-credential|signature|sig|token|access_token)=)[^&\s'\"]+"),
    re.compile(r"(://[^/\s:@]+:)[^/\s@]+(?=@)"),
)
_MASK = "***"


class Secrets:
    """The secrets in use; whatever reads one adds it, and no log line shows it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = set()

    def add(self, secret: str) -> None:
        """Remember a secret. Very short ones are ignored: masking them would hide ordinary text."""
        if len(secret) > 3:  # noqa: PLR2004 - see the docstring
            with self._lock:
                self._known.add(secret)

    def mask(self, text: str) -> str:
        """Return `text` with every known secret, and whatever looks like one, replaced."""
        with self._lock:
            known = sorted(self._known, key=len, reverse=True)
        for secret in known:
            text = text.replace(secret, _MASK)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\g<1>{_MASK}", text)
        return text


SECRETS = Secrets()


class _Redacted(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return SECRETS.mask(super().format(record))


def logger(name: str) -> logging.Logger:
    """Return the logger of a module: `logger(__name__)`."""
    return logging.getLogger(f"{_NAME}.{name}")


class Screen(Protocol):
    """Where lines for people go."""

    def write(self, text: str, /) -> object:
        """Write text."""
        ...


def configure(level: str, file: Path | None = None, screen: Screen | None = None) -> None:
    """Send records of `level` and above to `screen` (None: stderr), and all from debug on to `file` when given."""
    root = logging.getLogger(_NAME)
    root.setLevel(logging.DEBUG if file else level.upper())
    root.handlers.clear()
    root.propagate = False
    shown = logging.StreamHandler(sys.stderr if screen is None else screen)
    shown.setLevel(level.upper())
    shown.setFormatter(_Redacted("%(levelname)s %(message)s"))
    root.addHandler(shown)
    if file is not None:
        handler = logging.FileHandler(file, encoding="utf-8")
        handler.setFormatter(_Redacted("%(asctime)s %(levelname)s %(threadName)s %(name)s %(message)s"))
        root.addHandler(handler)
