"""Logging, with redaction of secrets in every record that is shown.

Modules log with `logging.getLogger(__name__)`; `configure` gives the loggers of our packages their handlers.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

from common.text import visible

if TYPE_CHECKING:
    from pathlib import Path


_PACKAGES = ("common", "exporter", "importer")
# Their warnings can have signed URLs; without a handler they would go to stderr unredacted (logging.lastResort).
_LIBRARIES = ("urllib3", "httpx", "httpcore", "botocore", "boto3")
# Second line of defence, for secrets that were not registered: headers, signed URLs, passwords in URLs.
_PATTERNS = (
    re.compile(r"(?i)((?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer)\s+)[^\s'\",]+"),
    re.compile(r"(?i)([?&](?:x-amz-signature|x-amz-credential|signature|sig|token|access_token)=)[^&\s'\"]+"),
    re.compile(r"(://[^/\s:@]+:)[^/\s@]+(?=@)"),
)
_MASK = "***"


class Secrets:
    """Registry of the secrets in use, for redaction. Code that reads a secret adds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = set()

    def add(self, secret: str) -> None:
        """Register a secret for redaction."""
        if len(secret) > 3:  # noqa: PLR2004 - replacing shorter ones would garble ordinary text
            with self._lock:
                self._known.add(secret)

    def mask(self, text: str) -> str:
        """Return `text` with every registered secret, and all that matches the patterns, replaced."""
        with self._lock:
            # Longest first: a secret may contain another one, and its rest would stay readable.
            known = sorted(self._known, key=len, reverse=True)
        for secret in known:
            text = text.replace(secret, _MASK)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\g<1>{_MASK}", text)
        return text


SECRETS = Secrets()


class _Redacted(logging.Formatter):
    """One line for each record, without secrets and hidden characters; lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging.Formatter
        return visible(SECRETS.mask(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(f"  {visible(line)}" for line in SECRETS.mask(super().formatException(ei)).splitlines())


class Screen(Protocol):
    """Output for messages, such as a terminal with a progress display."""

    def write(self, text: str, /) -> object:
        """Write text."""
        ...


def configure(level: str, file: Path | None = None, screen: Screen | None = None) -> None:
    """Send records of `level` and above to `screen` (None: stderr), and all from debug on to `file` when given."""
    shown = logging.StreamHandler(sys.stderr if screen is None else screen)
    shown.setLevel(level.upper())
    shown.setFormatter(_Redacted("%(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [shown]
    if file is not None:
        everything = logging.FileHandler(file, encoding="utf-8")
        everything.setFormatter(_Redacted("%(asctime)s %(levelname)s %(threadName)s %(name)s %(message)s"))
        handlers.append(everything)
    for package in _PACKAGES:
        top = logging.getLogger(package)
        top.setLevel(logging.DEBUG if file else level.upper())
        top.propagate = False  # a handler of the root logger would print records without redaction
        top.handlers[:] = handlers  # replaced, because forked commands configure more than once
    for library in _LIBRARIES:
        top = logging.getLogger(library)
        top.setLevel(logging.WARNING)
        top.propagate = False
        top.handlers[:] = handlers
    _catch_warnings(handlers[1:])


def _catch_warnings(handlers: list[logging.Handler]) -> None:
    """Send warnings of Python (`warnings.warn`) to the log file alone.

    They name lines of libraries and no next step: urllib3 warns at every TLS connection while the clock is years slow. What the
    reader can change is said by an error.
    """
    logging.captureWarnings(capture=True)
    top = logging.getLogger("py.warnings")
    top.propagate = False
    top.handlers[:] = handlers or [logging.NullHandler()]  # without any, logging.lastResort writes to stderr
