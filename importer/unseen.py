"""What could not be seen, in words that may leave the site: what was tried, and never what the other end said to it.

An API server names the user in its refusals, and errors name its address; neither is anybody's business on the other side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from common.errors import ClusterError, HubError

T = TypeVar("T")


@dataclass(slots=True)
class Unseen:
    """Collects notes. `server` is the address of the cluster, which no note shows."""

    server: str = ""
    notes: list[str] = field(default_factory=list)
    errors: list[HubError] = field(default_factory=list)

    def seen(self, what: str, look: Callable[[], T]) -> T | None:
        """Return what `look` finds; None, and a note, when it may not or cannot."""
        try:
            return look()
        except HubError as error:
            self.note(what, error)
            return None

    def note(self, what: str, error: HubError) -> None:
        """Note why something is not known."""
        self.errors.append(error)
        self.notes.append(f"{what}: {self._why(error)}")

    def _why(self, error: HubError) -> str:
        """Return our own words of a message: of the cluster's its first clause, of a registry's what is outside of brackets."""
        message = error.message.replace(self.server, "the cluster") if self.server else error.message
        return message.partition(": " if isinstance(error, ClusterError) else " (")[0]
