"""Reports of archives that were never fetched: a real catalog, selected from as ever, and images that have only sizes."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from common.archive.inventory import CatalogRecord, ImageKind, Inventory, Problem, ProblemCode
from common.oci import media_types
from common.oci.image import Tree, digest_of, parse
from common.oci.reference import Reference
from common.registry.settings import RegistrySettings
from exporter.archive.archive_spec import ArchiveSpec
from exporter.catalog.dependencies import Selected, close
from exporter.catalog.model import Catalog
from exporter.catalog.readers.opening import OpenedCatalog
from exporter.catalog.records import package_records
from exporter.catalog.related_images import images_of
from exporter.catalog.selection import select
from exporter.catalog.steps import Chosen, choice
from exporter.images.resolve import ResolvedImage, WantedImage, merged
from exporter.imageset.model import ImageSet, OperatorRequest, PackageRequest
from exporter.plan import diff
from exporter.plan.plan import make_plan
from exporter.plan.planning import Planned
from exporter.report.facts import facts_of
from exporter.report.page import Report
from exporter.settings import ExportSettings

NAME = "redhat-operator-index"
BASE_SIZE = 90_000_000
SOURCE = "registry.redhat.io/redhat/redhat-operator-index:v4.18"


@dataclass(frozen=True)
class Reported:
    """A page, and what it was made of."""

    page: bytes
    inventory: Inventory
    settings: ExportSettings


def chosen(catalog: Catalog, packages: Sequence[str] = (), *, full: bool = False) -> Chosen:
    """Return packages of a catalog, or all of it, as `hub-export` chooses them."""
    request = OperatorRequest(SOURCE, full=full, packages=tuple(PackageRequest(name) for name in packages))
    selection = close([Selected(catalog, select(catalog, request))])[0]
    return Chosen(NAME, request, OpenedCatalog(SOURCE, NAME, catalog, digest_of(b"catalog")), selection)


def planned(catalog: Catalog, packages: Sequence[str] = (), *, lost: Sequence[str] = (), full: bool = False) -> Planned:
    """Return the plan for packages of a catalog, or for all of it; images of the repositories in `lost` could not be had."""
    item = chosen(catalog, packages, full=full)
    selection, opened = item.selection, item.opened
    wanted = [
        image
        for bundle in selection.catalog.bundles
        for image in images_of(bundle, needed_by=(f"{NAME}/{bundle.package}/{bundle.name}",))[0]
    ]
    images = [_resolved(image, lost) for image in merged(wanted)]
    root = _resolved(WantedImage(Reference.parse(SOURCE), ImageKind.CATALOG), ())
    images += [root, *(_signature(image) for image in images if image.wanted.kind is ImageKind.BUNDLE and image.tree)]
    assert root.tree is not None
    record = CatalogRecord(
        SOURCE, opened.digest, root.tree.root.digest, NAME, "file-based", not full, package_records(selection.catalog)
    )
    return Planned(make_plan([record], images, {}, selection.problems), (choice(item),))


def reported(made: Planned, output: Path, **changes: object) -> Reported:
    """Return the report of a plan as if all of it had been fetched into `output`."""
    settings = replace(ExportSettings(ImageSet(), RegistrySettings(), "2026-01-31T12:00:00Z", output=output), **changes)
    inventory = ArchiveSpec(made.plan, settings.terms).inventory({})
    names = ["inventory.json", *(volume.name for volume in inventory.volumes)]
    for name in names:
        (output / name).write_bytes(name.encode())
    sums = {name: f"{number:064x}" for number, name in enumerate(names, 1)}
    return Reported(Report(facts_of(made), settings.making).render(inventory, sums), inventory, settings)


def _resolved(image: WantedImage, lost: Sequence[str]) -> ResolvedImage:
    if image.reference.repository in lost:
        return ResolvedImage(image, problem=Problem("error", ProblemCode.IMAGE_NOT_FOUND, image.source, "HTTP 404"))
    chance = random.Random(image.reference.repository)
    size = int(chance.lognormvariate(17.5, 1.2))
    layers = [_descriptor("base of all", BASE_SIZE), _descriptor(image.source, size)]
    return ResolvedImage(image, _tree({"config": _descriptor(f"config {image.source}", 3000), "layers": layers}))


def _signature(image: ResolvedImage) -> ResolvedImage:
    assert image.tree is not None
    digest = image.tree.root.digest
    reference = Reference(image.wanted.reference.registry, image.wanted.reference.repository, f"{digest.replace(':', '-')}.sig")
    tree = _tree({"config": _descriptor(f"config {reference}", 300), "layers": [_descriptor(f"signature {reference}", 400)]})
    return ResolvedImage(WantedImage(reference, ImageKind.SIGNATURE, image.wanted.needed_by), tree)


def _tree(content: dict[str, object]) -> Tree:
    document = parse(json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, **content}).encode())
    return Tree(document, (document,), ())


def _descriptor(seed: str, size: int) -> dict[str, object]:
    return {"mediaType": media_types.OCI_LAYER_GZIP, "digest": digest_of(seed.encode()), "size": size}


def increment(
    catalog: Catalog,
    before: Sequence[str],
    packages: Sequence[str],
    output: Path,
    *,
    lost: Sequence[str] = (),
    **changes: object,
) -> Reported:
    """Return the report of packages after an archive of `before`; images of the repositories in `lost` could not be had."""
    first, earlier = reported(planned(catalog, before), output), output / "earlier.json"
    # As `plan --output` writes it.
    earlier.write_bytes(msgspec.json.encode(msgspec.to_builtins(first.inventory) | {"totals": {}}))
    last = diff.compared(diff.load(earlier))
    return reported(replace(planned(catalog, packages, lost=lost), last=last), output, **changes)


def asked(text: str) -> ImageSet:
    """Return an image set that says something."""
    return ImageSet(as_read={"mirror": {"additionalImages": [{"name": text}]}})
