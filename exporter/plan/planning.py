"""The plan of an image set: catalogs opened and selected from, images resolved, everything put into one plan.

image set ─► catalogs ─► selections ─► catalog images ─► related images ─► signatures ─► plan
          └► releases ─► payloads ─► components, graph data ───────────────────┘
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.archive import receipt
from common.archive.inventory import UpdateGraphRecord
from common.errors import UsageError
from exporter.catalog import records, steps
from exporter.images import signatures
from exporter.imageset.model import with_requests
from exporter.plan import images, mapping
from exporter.plan.baseline import Delivered, leave_out
from exporter.plan.installed import left_behind, unsupported
from exporter.plan.plan import ExportPlan, make_plan
from exporter.releases import carrying, graph_carrying
from exporter.settings import ArchiveTerms, ExportSettings, SignaturePolicy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.archive.inventory import CatalogRecord, Inventory, Problem
    from common.oci.image import Digest
    from exporter.catalog.steps import Choice, Chosen
    from exporter.context import ExportContext
    from exporter.images.resolve import ResolvedImage
    from exporter.plan.images import BundleContents


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with the choices that led to it. `last`: the newest earlier archive, `diff.compared`."""

    plan: ExportPlan
    chosen: tuple[Choice, ...]
    last: Inventory | None = None

    def terms(self, settings: ExportSettings) -> ArchiveTerms:
        """Return the settings that are part of the archive, with the packages that were selected for installed operators."""
        if not settings.installed:
            return settings.terms
        # A re-request selects from the image set of the inventory again, without the target profile.
        image_set = with_requests(settings.image_set, (item.request for item in self.chosen))
        return replace(settings.terms, image_set=image_set)


@dataclass(frozen=True, slots=True)
class _Catalogs:
    """The images of catalogs, without the bytes of the catalogs, which take more memory than all the rest.

    `chosen`: `steps.bare`; `choices`, `images`: by record; `held`: their blobs that exist in no registry; `published`: images
    that their publishers may have signed; `contents`: of bundles, where the catalogs needed them; `absent`: problems of
    catalogs of which nothing is carried; `stranded`: those of operators of the target cluster.
    """

    chosen: tuple[Chosen, ...]
    choices: tuple[Choice, ...]
    records: tuple[CatalogRecord, ...]
    images: tuple[ResolvedImage, ...]
    held: Mapping[Digest, bytes]
    published: tuple[ResolvedImage, ...]
    contents: BundleContents | None
    absent: tuple[Problem, ...]
    stranded: tuple[Problem, ...]


def make(settings: ExportSettings, context: ExportContext) -> Planned:
    """Return the plan for an image set. Fetches no layers except those of the catalogs and their bundles."""
    graph_carrying.require_base(settings)
    delivered = _delivered(settings)  # first: a wrong archive or receipt is an error that needs no registry
    releases = carrying.find(settings, context)
    data = graph_carrying.data(settings, context)
    catalogs = _catalogs(settings, context)
    contents = catalogs.contents or images.bundle_contents(catalogs.chosen, settings, context)
    listed = releases.wanted(settings.image_set.platform.platforms)
    wanted, found = images.wanted_images(catalogs.chosen, contents, settings, listed)
    resolved = images.resolved_images(wanted, {**contents.resolved, **releases.payloads}, settings, context)
    attached, unfound = _attached([*catalogs.published, *resolved], settings, context)
    problems = [
        *settings.image_set.problems,
        *releases.problems,
        *catalogs.absent,
        *found,
        *contents.problems,
        *images.sparse_indexes(resolved, settings),
        *images.pulled_by_tag(resolved, settings),
        *catalogs.stranded,
        *unfound,
    ]
    problems += [problem for catalog in catalogs.records for problem in unsupported(catalog.packages, settings.release)]
    graphs, lacking = graph_carrying.images(data, releases.releases, resolved, settings, context)
    held = dict(catalogs.held) | {digest: content for image in graphs for digest, content in image.held.items()}
    resolved += [image.resolved for image in graphs]
    plan = make_plan(catalogs.records, [*catalogs.images, *resolved, *attached], held, [*problems, *lacking])
    graph = UpdateGraphRecord(releases.paths, graphs[0].digest if graphs else None)
    plan = replace(plan, releases=releases.records(resolved), update_graph=graph)
    # Collisions on the mirror depend on the final names and digests of all images.
    plan = leave_out(replace(plan, problems=(*plan.problems, *mapping.find(plan))), delivered)
    _warn_of_nothing_left_out(plan, settings)
    return Planned(plan, catalogs.choices, delivered.last)


def _warn_of_nothing_left_out(plan: ExportPlan, settings: ExportSettings) -> None:
    """Warn of archives and receipts that have nothing of the plan: the archive is not the small one that was meant."""
    named = [name for name, given in (("--since", settings.since), ("--receipt", settings.receipts)) if given]
    if named and plan.blobs and not plan.elsewhere:
        _LOG.warning(
            "%s: nothing of the plan is there, so nothing is left out; is it of the same catalogs and images?",
            " and ".join(named),
        )


def _catalogs(settings: ExportSettings, context: ExportContext) -> _Catalogs:
    """Open the catalogs, select from them and build their images."""
    opened = steps.choose(settings, context)
    chosen = tuple(item for item in opened if item.carried)
    _require_any(opened, settings)
    contents = None
    if images.inlines(chosen):
        contents = images.bundle_contents(chosen, settings, context)
        chosen = tuple(steps.inlined(item, contents.objects) for item in chosen)
    carried = [steps.rebuilt(item, settings, context) for item in chosen]
    both = list(zip(chosen, carried, strict=True))
    return _Catalogs(
        chosen=tuple(map(steps.bare, chosen)),
        choices=tuple(map(steps.choice, chosen)),
        records=tuple(records.catalog_record(item, image) for item, image in both),
        images=tuple(image.resolved for image in carried),
        held={digest: content for image in carried for digest, content in image.held.items()},
        # A rebuilt catalog and one from a file exist in no registry, so there are no signatures of them to look for.
        published=tuple(image.resolved for item, image in both if not image.held and item.opened.digest is not None),
        contents=contents,
        absent=tuple(problem for item in opened if not item.carried for problem in item.selection.problems),
        stranded=tuple(left_behind(chosen, settings.target)),
    )


def _require_any(opened: Sequence[Chosen], settings: ExportSettings) -> None:
    """Raise UsageError where no catalog is carried, and nothing else is requested."""
    else_wanted = settings.image_set.additional_images or settings.image_set.platform.asks
    if opened and not else_wanted and not any(item.carried for item in opened):
        raise UsageError(
            "nothing is left to carry: all packages are optional, and the catalogs have none of them",
            hint="hub-export list --catalog REF shows the packages of a catalog.",
        )


def _delivered(settings: ExportSettings) -> Delivered:
    """Return the blobs of earlier archives and receipts. Raises UsageError, and the errors of opening them."""
    delivered = Delivered.of_archives(settings.since)
    for path in settings.receipts:
        delivered.add_receipt(*receipt.load(path, settings.receipt_key))
    return delivered


def _attached(
    images: Sequence[ResolvedImage], settings: ExportSettings, context: ExportContext
) -> tuple[list[ResolvedImage], list[Problem]]:
    """Return the signatures and attachments of images that exist at their source, by the policy."""
    if settings.signatures is SignaturePolicy.IGNORE:
        return [], []
    found, problems = signatures.find(images, context.client, jobs=settings.jobs, progress=context.progress)
    named = {image.wanted.source for image in images}  # a signature that was asked for by name is carried as such
    found = [image for image in found if image.wanted.source not in named]
    # Problems here; `checks.check` turns them into one error before anything is fetched, and `plan` lists them.
    if settings.signatures is SignaturePolicy.REQUIRE:
        problems += signatures.unsigned(images, found)
    return found, problems
