"""What the report says beyond the inventory: known when it is planned, and kept in the plan for whoever completes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from common.archive.inventory import Inventory
from exporter.plan import diff
from exporter.report.contents import Background, Presentation, Purpose, changes_of, presentation_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.plan.planning import Planned
    from exporter.settings import ExportSettings

_ROOM_OF_ALL = 256 * 1024
_ROOM_OF_ONE = 3 * 1024  # for an image, or for a bundle


class Presented(msgspec.Struct, frozen=True, rename="camel"):
    """How an operator is presented."""

    catalog: str
    package: str
    presentation: Presentation


class Reason(msgspec.Struct, frozen=True, rename="camel"):
    """Why a bundle is carried."""

    catalog: str
    package: str
    bundle: str
    reason: str


class Facts(msgspec.Struct, frozen=True, rename="camel"):
    """All of it. `asked`: packages by catalog; `last`: the newest earlier archive; `room`: bytes of the page, at most or so."""

    presented: tuple[Presented, ...] = ()
    reasons: tuple[Reason, ...] = ()
    asked: dict[str, tuple[str, ...]] = {}
    last: Inventory | None = None
    room: int = _ROOM_OF_ALL

    def background(self, news: Mapping[str, Any] | None) -> Background:
        """Return what the page says beyond the inventory; `news`: what is new since `last` (`differences.between`)."""
        return Background(
            presentations={Purpose(one.catalog, one.package): one.presentation for one in self.presented},
            reasons={(one.catalog, one.package, one.bundle): one.reason for one in self.reasons},
            asked={catalog: frozenset(packages) for catalog, packages in self.asked.items()},
            changes=changes_of(news) if news else {},
        )


def facts_of(planned: Planned, settings: ExportSettings) -> Facts:
    """Return the facts of a plan. Raises what opening an earlier archive raises."""
    earlier = [diff.load(path) for path in settings.since]
    presented = tuple(_presented(planned))
    bundles = sum(1 for one in planned.chosen for _ in one.selection.catalog.bundles)
    icons = sum(len(one.presentation.icon) for one in presented)
    return Facts(
        presented=presented,
        reasons=tuple(
            Reason(one.name, reason.package, reason.bundle, reason.reason)
            for one in planned.chosen
            for reason in one.selection.reasons
            if reason.kept
        ),
        asked={one.name: tuple(package.name for package in one.request.packages) for one in planned.chosen},
        last=max(earlier, key=lambda inventory: inventory.created, default=None),
        room=_ROOM_OF_ALL + icons + _ROOM_OF_ONE * (len(planned.plan.images) + bundles),
    )


def _presented(planned: Planned) -> Iterator[Presented]:
    """Give how each operator is presented, by the head of its default channel."""
    for record, one in zip(planned.plan.catalogs, planned.chosen, strict=bool(planned.chosen)):
        for package in record.packages:
            head = next((channel.head for channel in package.channels if channel.name == package.default_channel), "")
            found = one.selection.catalog.packages.get(package.name)
            if found is not None:
                yield Presented(record.name, package.name, presentation_of(found, head))
