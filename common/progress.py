"""Progress: what long work tells, and the ways of showing it. Silent unless a command says otherwise.

Workers call `Progress`; what a person sees of it on stderr is made here (docs/cli.md, *Progress*). Nothing else knows tqdm.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What long work tells. Every method may be called from any thread."""

    def begin(self, what: str, total: int) -> None:
        """A step begins: `what` for people ("fetching 12 blobs"), `total` bytes."""
        ...

    def advance(self, size: int) -> None:
        """`size` more bytes of the current step are done."""
        ...

    def waiting(self, what: str) -> None:
        """Nothing moves now, and this is why ("quay.io asked to wait 30 s"). Empty: it moves again."""
        ...

    def end(self) -> None:
        """The current step is done."""
        ...


class Silent:
    """The progress of a program that nobody watches."""

    def begin(self, what: str, total: int) -> None:
        """Say nothing."""

    def advance(self, size: int) -> None:
        """Say nothing."""

    def waiting(self, what: str) -> None:
        """Say nothing."""

    def end(self) -> None:
        """Say nothing."""
