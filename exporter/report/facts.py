"""Facts of the report that are not in the inventory: known at planning, and kept in the plan file for `finish`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from common.archive.inventory import ATTACHED, Inventory
from common.sbom.envelope import STATEMENT
from exporter.catalog.presentation import Presentation
from exporter.report.contents import Background, Purpose, changes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.plan.plan import ExportPlan
    from exporter.plan.planning import Planned


# The page is written last, but the check of free space before the first layer counts it: too small an estimate would end a long
# export with a full disk.
_ROOM_OF_ALL = 256 * 1024  # style, script, pictures
_ROOM_OF_ONE = 3 * 1024  # a row of an image or of a bundle
_ROOM_OF_SOFTWARE = 1024 * 1024  # packages and licences of SBOMs
_ESCAPED = 20  # bytes of HTML for a character of Markdown: an address is written twice, and `"` takes five bytes


class Presented(msgspec.Struct, frozen=True, rename="camel"):
    """The presentation of an operator."""

    catalog: str
    package: str
    presentation: Presentation


class Reason(msgspec.Struct, frozen=True, rename="camel"):
    """The reason for which a bundle is carried."""

    catalog: str
    package: str
    bundle: str
    reason: str


class Facts(msgspec.Struct, frozen=True, rename="camel"):
    """The facts of a plan, in the form of the plan file.

    `asked`: the requested packages by catalog; `last`: the newest earlier archive; `room`: an estimate of the page in bytes.
    """

    presented: tuple[Presented, ...] = ()
    reasons: tuple[Reason, ...] = ()
    asked: dict[str, tuple[str, ...]] = {}
    last: Inventory | None = None
    room: int = _ROOM_OF_ALL

    def background(self, news: Mapping[str, Any] | None) -> Background:
        """Return the facts by operator and bundle. `news`: the changes since `last` (`diff.between`), None without one."""
        return Background(
            presentations={Purpose(one.catalog, one.package): one.presentation for one in self.presented},
            reasons={(one.catalog, one.package, one.bundle): one.reason for one in self.reasons},
            asked={catalog: frozenset(packages) for catalog, packages in self.asked.items()},
            changes=changes_of(news) if news else {},
        )


def facts_of(planned: Planned) -> Facts:
    """Return the facts of a plan."""
    presented = tuple(_presented(planned))
    packages = (package for record in planned.plan.catalogs for package in record.packages)
    bundles = sum(len({each.name for channel in package.channels for each in channel.bundles}) for package in packages)
    icons = sum(len(one.presentation.icon) + _ESCAPED * len(one.presentation.summary) for one in presented)
    return Facts(
        presented=presented,
        reasons=tuple(
            Reason(one.name, reason.package, reason.bundle, reason.reason)
            for one in planned.chosen
            for reason in one.reasons
            if reason.kept  # the others say why a bundle is left out
        ),
        asked={one.name: tuple(package.name for package in one.request.packages) for one in planned.chosen},
        last=planned.last,
        room=_ROOM_OF_ALL + icons + _ROOM_OF_ONE * (len(planned.plan.images) + bundles) + _room_of_software(planned.plan),
    )


def _room_of_software(plan: ExportPlan) -> int:
    attached = any(image.kind in ATTACHED for image in plan.images)
    return _ROOM_OF_SOFTWARE if attached or any(blob.descriptor.media_type == STATEMENT for blob in plan.blobs) else 0


def _presented(planned: Planned) -> Iterator[Presented]:
    """Give the presentation of each operator, by the head of its default channel."""
    # Not strict without selections: there the records have nothing to be paired with.
    for record, one in zip(planned.plan.catalogs, planned.chosen, strict=bool(planned.chosen)):
        yield from (Presented(record.name, name, found) for name, found in one.presentations.items())
