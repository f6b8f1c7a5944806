"""What an import means for a cluster: the intent that the preflight judges, and the catalogs that OLM has to list after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer import mapping
from importer.cluster.preflight import Intent
from importer.cluster.readiness.readiness import ExpectedCatalog, offers
from importer.cluster.resources.catalog_source import namespace_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.archive.reader import Archive
    from common.openshift.supported_releases import Kubernetes
    from importer.cluster.release import Release
    from importer.cluster.resources.build import Built
    from importer.mapping import MappedImage, Mirror


def intent_of(
    archive: Archive,
    images: Sequence[MappedImage],
    built: Built,
    release: Release | None,
    host: str,
    *,
    only: bool,
    kubernetes: Kubernetes,
) -> Intent:
    """Return what the preflight judges. `only`: rules, trust and default sources are in place (`catalogs_only`)."""
    inventory = archive.inventory
    placed = [(catalog, mapping.map_catalog(catalog, images)) for catalog in inventory.catalogs]
    return Intent(
        built.resources,
        release,
        host,
        catalogs=[str(image.pinned) for _, image in placed],
        # A filtered catalog is a new image: its publisher never signed it, and a signature policy may refuse it.
        unsigned=[str(image.pinned) for catalog, image in placed if catalog.filtered],
        packages=[package for catalog in inventory.catalogs for package in catalog.packages],
        images=inventory.images,
        node_rules=built.node_rules,
        catalogs_only=only,
        kubernetes=kubernetes,
    )


def expected_of(
    images: Sequence[MappedImage], built: Built, release: Release | None, mirror: Mirror
) -> tuple[ExpectedCatalog, ...]:
    """Return what OLM has to list, for every catalog that got a CatalogSource, with the mirror rules of the archive."""
    return tuple(
        ExpectedCatalog(
            each.name,
            namespace_for(release),
            str(mapping.map_catalog(each.catalog, images).pinned),
            offers(each.catalog.packages),
            built.rules,
            str(mirror),
            str(each.identity),
        )
        for each in built.served
    )
