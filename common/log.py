"""Logging, with redaction of secrets in every record that is shown.

Modules log with `logging.getLogger(__name__)`; `configure` gives the loggers of our packages their handlers.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from common.table import folded, width_of
from common.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
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


_SHORTEST = 4  # characters of a secret that is replaced: shorter ones would garble ordinary text
_URL_SAFE = str.maketrans("+/", "-_")
# Bearer tokens have some KiB, and a long push gets thousands: further forms of them would take memory. No server sends them.
_LONGEST_ENCODED = 512
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*", re.ASCII)  # RFC 3986, 2.3: never encoded
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class Secrets:
    """Registry of the secrets in use, for redaction. Code that reads a secret adds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._sorted: tuple[str, ...] = ()
        self._encoded: tuple[re.Pattern[str], ...] = ()

    def add(self, secret: str) -> None:
        """Register a secret for redaction, with the forms in which a server may send it back."""
        if len(secret) < _SHORTEST or secret in self._known:
            return
        with self._lock:
            self._known.update(form for form in _forms(secret) if len(form) >= _SHORTEST)
            # Longest first: a secret may contain another one, and its rest would stay readable.
            self._sorted = tuple(sorted(self._known, key=len, reverse=True))
            if len(secret) <= _LONGEST_ENCODED and not _UNRESERVED.fullmatch(secret):
                self._encoded = (_percent_encoded(secret), *self._encoded)

    def clear(self) -> None:
        """Forget all secrets: the secret of one command may be a word in the output of the next one of this process."""
        with self._lock:
            self._known, self._sorted, self._encoded = set(), (), ()

    def mask(self, text: str) -> str:
        """Return `text` with every registered secret, and all that matches the patterns, replaced."""
        for secret in self._sorted:
            text = text.replace(secret, _MASK)
        for pattern in self._encoded if "%" in text else ():
            text = pattern.sub(_MASK, text)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\g<1>{_MASK}", text)
        return text


def _forms(secret: str) -> set[str]:
    """Return a secret as it is, and encoded in base64, JSON or HTML."""
    forms = {*_base64_forms(secret), *_json_forms(secret), *_html_forms(secret)}
    if len(secret) <= _LONGEST_ENCODED:
        raw = secret.encode("utf-8", "surrogatepass")
        forms.update(_base64_forms(base64.b64encode(raw).decode()))
        forms.add(secret.replace(" ", "+"))
    return forms


def _base64_forms(packed: str) -> set[str]:
    """Return base64 (RFC 4648) with and without padding, in both of its alphabets; the user and password of a header are it."""
    forms = {packed, packed.translate(_URL_SAFE)}
    return forms | {form.rstrip("=") for form in forms}


def _percent_encoded(secret: str) -> re.Pattern[str]:
    """Return an expression for a secret of which any character may be %-encoded (RFC 3986, 2.1), or a blank be a plus."""
    # One expression, for encoders differ in what they keep: url.QueryEscape and url.PathEscape of Go, encodeURIComponent,
    # Python's quote with its slash; and digits are of either case.
    return re.compile("".join(map(_either, secret)))


def _either(sign: str) -> str:
    # A server that encodes a URL again writes %25 for the sign.
    encoded = "".join(f"%(?:25){{0,3}}{each:02x}" for each in sign.encode("utf-8", "surrogatepass"))
    return f"(?:{re.escape(sign)}|(?i:{encoded}){'|[+]' if sign == ' ' else ''})"


def _json_forms(secret: str) -> Iterator[str]:
    for ascii_only in (True, False):
        form = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield form
        yield form.replace("/", r"\/")  # PHP and older Java libraries
        # Go escapes these so that JSON can stand in HTML (encoding/json, HTMLEscape).
        yield form.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _html_forms(secret: str) -> Iterator[str]:
    form = "".join(_NAMED.get(sign, sign) for sign in secret)
    yield form
    # Python and Java write quotes so, Go and Jinja so; others leave the single one.
    for double, single in (("&quot;", "&#x27;"), ("&#34;", "&#39;"), ("&quot;", "&#39;"), ("&quot;", "'")):
        yield form.replace('"', double).replace("'", single)


SECRETS = Secrets()


class _Redacted(logging.Formatter):
    """One line for each record, without secrets and hidden characters; lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging.Formatter
        return visible(SECRETS.mask(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(f"  {visible(line)}" for line in SECRETS.mask(super().formatException(ei)).splitlines())


class _Shown(_Redacted):
    """The same on a terminal: a long line is folded, and no word is broken."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line, width = super().formatMessage(record), width_of(sys.stderr)
        return "\n".join(folded(line, width)) if width else line


class _LogFile(logging.FileHandler):
    """A log file. When it cannot be written any more, `shown` says so once, and the command continues without it."""

    def __init__(self, file: Path, shown: logging.Handler) -> None:
        super().__init__(file, encoding="utf-8", errors="backslashreplace")
        self._shown = shown
        self._is_lost = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if not self._is_lost:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in logging.Handler
        """Give the file up where the disk is full, or the medium is gone."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        # Closed here, where it may fail: the buffer would be written again at exit, and end the process with 120.
        self._is_lost = True
        with suppress(OSError):
            if self.stream is not None:
                self.stream.close()
        said = f"{self.baseFilename}: the log file cannot be written, and ends here: {error.strerror or error}"
        # At any --log-level: the file that the user asked for is not complete.
        self._shown.handle(logging.LogRecord(__name__, logging.WARNING, __file__, 0, said, None, None))


class Screen(Protocol):
    """Output for messages, such as a terminal with a progress display."""

    def write(self, text: str, /) -> object:
        """Write text."""
        ...


def configure(level: str, file: Path | None = None, screen: Screen | None = None) -> None:
    """Send records of `level` and above to `screen` (None: stderr), and all from debug on to `file` when given."""
    shown = logging.StreamHandler(sys.stderr if screen is None else screen)
    shown.setLevel(level.upper())
    shown.setFormatter(_Shown("%(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [shown]
    if file is not None:
        everything = _LogFile(file, shown)
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
