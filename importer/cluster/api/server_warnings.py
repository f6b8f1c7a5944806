"""Warnings of an API server: its `Warning` headers, each text once, bounded and on one line.

KEP-1693: PodSecurity, deprecated versions, unknown fields and admission webhooks warn this way, also in a dry run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from common.text import sanitize
from importer.cluster.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from importer.cluster.writing import Change

# RFC 7234, 5.5: `299 agent "text"`, several of them separated by commas. Kubernetes writes the code 299 alone, and client-go
# ignores all others (client-go, rest/warnings.go); those of caches and proxies are not about the object.
_VALUE = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
MAX_WARNINGS = 20  # of one command
LONGEST = 400  # characters; PodSecurity lists every container
CODE = "server-warning"


def texts_of(headers: Iterable[str]) -> Iterator[str]:
    """Yield the texts of `Warning` headers, each on one line."""
    for header in headers:
        for match in _VALUE.finditer(header):
            if text := sanitize(_ESCAPED.sub(r"\1", match[1]), LONGEST):
                yield text


class WarningLog:
    """The warnings of one cluster. A text is given out once: the dry run before a change has the same ones."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._fresh: list[str] = []

    def hear(self, headers: Iterable[str]) -> None:
        """Take the `Warning` headers of an answer to a write."""
        for text in texts_of(headers):
            if text not in self._known and len(self._known) < MAX_WARNINGS:
                self._known.add(text)
                self._fresh.append(text)

    def take(self) -> tuple[str, ...]:
        """Return the warnings that nothing has taken so far."""
        fresh, self._fresh = tuple(self._fresh), []
        return fresh


def warned(changes: Iterable[Change]) -> Iterator[Finding]:
    """Yield a finding for each object about which the API server warns."""
    for change in changes:
        if change.warnings:
            place = f"{change.namespace}/{change.name}" if change.namespace else change.name
            cause = "the API server accepts it with a warning"
            fix = "The message is the cluster's own: see whether what it names can work there, then agree."
            yield Finding(CODE, f"{change.kind} {place}", cause, change.warnings, fix, severity=Severity.WARNING)
