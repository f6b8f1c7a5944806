"""The pages of `undo` and `doctor --fix`, where `--report` asks for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from common.text import counted
from importer.cluster.undo import Outcome
from importer.report.record import ChangeRecord, Ending

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from importer.cluster.undo import Undone
    from importer.configure.undo import UndoResult
    from importer.diagnose.state import Health


@dataclass(frozen=True, slots=True)
class Item:
    """One change: `tag` is what happened, `kind` good or warn."""

    kind: str
    tag: str
    subject: str
    text: str = ""
    details: Sequence[str] = ()


class AgreedRecord(ChangeRecord):
    """A change that began when a person agreed to it."""

    template: ClassVar[str] = "change.html.jinja"
    title: ClassVar[str]
    _planned: int | None = None
    _drain = ""
    _items: Sequence[Item] = ()

    def agreed(self, changes: int, drain: str) -> None:
        """Record that the first change comes next: how many there are, and what they do to nodes."""
        self._planned, self._drain = changes, drain

    @property
    def is_agreed(self) -> bool:
        """Whether a person agreed."""
        return self._planned is not None

    def has_begun(self, error: BaseException | None) -> bool:  # noqa: ARG002 - an error afterwards is recorded, too
        """Return whether a person agreed."""
        return self.is_agreed

    def content(self) -> Mapping[str, Any]:
        """Return the changes."""
        return {"title": self.title, "planned": self._planned, "drain": self._drain, "items": self._items}


class UndoRecord(AgreedRecord):
    """The record of one undo."""

    stem: ClassVar[str] = "undo"
    title: ClassVar[str] = "Undo of all imports"

    def done(self, result: UndoResult) -> None:
        """Record the outcome for each object."""
        self._items = [_undone(one) for one in result.objects]

    def ending(self) -> Ending:
        """Return the end: done, or objects that stay since others have changed them."""
        kept = [one for one in self._items if one.kind != "good"]
        if not kept:
            return Ending("good", "The cluster is as it was before the first import.")
        hint = "Settle them by hand, then undo again: they are still in the record."
        count = f"{len(kept)} of {counted(len(self._items), 'object')}"
        return Ending("warn", f"Others have changed something since, which stays: {count}.", hint)


def _undone(one: Undone) -> Item:
    former = f"former values of {', '.join(one.former)}" if one.former else ""
    details = [f"{one.why}: {', '.join(one.fields)}"] if one.fields else []
    kind = "warn" if one.fields or one.outcome is Outcome.REFUSED else "good"
    return Item(kind, one.outcome, f"{one.kind} {one.namespace}/{one.name}".replace(" /", " "), former, details)


class FixRecord(AgreedRecord):
    """The record of one `doctor --fix`."""

    stem: ClassVar[str] = "doctor"
    title: ClassVar[str] = "Repairs by doctor"

    def done(self, health: Health) -> None:
        """Record what was fixed, and what was found besides."""
        left = [each for each in health.findings if each not in health.fixed]
        self._items = [
            *(Item("good", "fixed", each.subject, each.cause, each.evidence) for each in health.fixed),
            *(Item("warn", "left", each.subject, f"{each.cause} What to do: {each.fix}", each.evidence) for each in left),
        ]

    def ending(self) -> Ending:
        """Return the end: all is fixed, or something is left."""
        left = sum(one.kind != "good" for one in self._items)
        if not left:
            return Ending("good", "What was found is fixed; the effect takes a minute or two.")
        return Ending("warn", f"{len(self._items) - left} fixed, {left} left.")
