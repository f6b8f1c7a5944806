"""A plan as people approve it before a blob is fetched: sizes by operator, what was added because it is needed, the page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace as replaced

from common.archive.inventory import RELEASE_GROUP
from exporter.archive.archive_spec import ArchiveSpec
from exporter.report import contents
from exporter.report.contents import ADDITIONAL, ATTACHMENTS, CATALOGS, SHARED, OperatorSizes, Purpose
from exporter.report.facts import Facts, facts_of
from exporter.report.page import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.archive.inventory import Inventory
    from exporter.plan.planning import Planned
    from exporter.report.contents import CatalogPart, Operator
    from exporter.settings import ExportSettings


MAX_GROUPS = 20  # of operators that share blobs; an index has hundreds, most of them small


@dataclass(frozen=True)
class Preview:
    """The archive of a plan as it would be if everything could be fetched."""

    planned: Planned
    settings: ExportSettings

    @cached_property
    def spec(self) -> ArchiveSpec:
        """The specification of the archive."""
        return ArchiveSpec(self.planned.plan, self.planned.terms(self.settings))

    @cached_property
    def facts(self) -> Facts:
        """The facts of the report."""
        return facts_of(self.planned)

    @property
    def room(self) -> int:
        """The bytes on disk that the archive needs at most, without the layers of catalogs."""
        return self.spec.room(self.facts.room)

    @cached_property
    def inventory(self) -> Inventory:
        """The inventory, with the place of every blob."""
        return self.spec.inventory({})

    @cached_property
    def sizes(self) -> OperatorSizes:
        """The bytes by operator."""
        return contents.sizes_by_operator(self.inventory)

    @cached_property
    def parts(self) -> tuple[CatalogPart, ...]:
        """The catalogs with their operators."""
        return contents.catalogs(self.inventory, self.sizes, self.facts.background(None))

    def _operators(self) -> Iterator[tuple[str, Operator]]:
        """Yield each operator with the name of its catalog, in the order of the catalogs and packages."""
        for part in self.parts:
            yield from ((part.record.name, one) for one in sorted(part.operators, key=lambda one: one.package))

    def operator_records(self) -> list[dict[str, Any]]:
        """Return `operators` of the JSON of `plan` (docs/reference/cli.md)."""
        return [
            {
                "catalog": catalog,
                "package": one.package,
                "displayName": one.presentation.title or None,
                "ownBytes": one.size - one.shared,
                "totalBytes": one.size,
                "because": one.because or None,
            }
            for catalog, one in self._operators()
        ]

    def release_records(self, *, whole: bool = False) -> list[dict[str, Any]]:
        """Return `releases` of the JSON of `plan`: as in the inventory, with bytes; only with `whole` with the signatures."""
        parts = contents.releases(self.inventory, self.sizes)
        return [
            {
                **msgspec.to_builtins(part.record if whole else replaced(part.record, signatures=())),
                "signedBy": list(part.signed_by),
                "ownBytes": part.size - part.shared,
                "totalBytes": part.size,
            }
            for part in parts
        ]

    def size_record(self) -> dict[str, Any]:
        """Return `sizes` of the JSON of `plan`: each byte is counted once, so that they sum to `totals.bytes`."""
        total = self.sizes.total
        return {
            "operators": sum(size for purpose, size in total.items() if purpose.package and purpose.group != RELEASE_GROUP),
            "releases": sum(size for purpose, size in total.items() if purpose.group == RELEASE_GROUP),
            "catalogs": total[CATALOGS],
            "additionalImages": total[ADDITIONAL],
            "attachments": total[ATTACHMENTS],
            "shared": total[SHARED],
            "sharedBy": [{"names": names, "bytes": size} for names, size in self._shared_by()],
        }

    def _shared_by(self) -> Iterator[tuple[list[str], int]]:
        """Yield what shares blobs, and how many bytes, the largest group first; at most MAX_GROUPS."""
        ordered = sorted(((size, sorted(map(_name, group))) for group, size in self.sizes.together.items()), reverse=True)
        yield from ((names, size) for size, names in ordered[:MAX_GROUPS])

    def page(self) -> bytes:
        """Return the report, without the fields that are known only when the archive is written: checksums and identity."""
        return Report(self.facts, self.settings.making).planned(self.inventory)


def _name(purpose: Purpose) -> str:
    return f"{purpose.group}/{purpose.package}" if purpose.package else purpose.group
