"""What a cluster has to serve according to an archive, where no record of an import says so. Reads only.

Specification: docs/reference/cluster.md.

Files of `render` that others applied leave no record. The live CatalogSource has what the archive does not know: the name, and
the mirror, which is found from its image.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from common.mapping import PAYLOADS
from importer.cluster.api.discovery import has_icsp, mirror_rules, own_sources
from importer.cluster.kinds import CATALOG_SOURCE, DEPLOYMENT
from importer.cluster.nodes import configures_nodes
from importer.cluster.readiness.readiness import ExpectedCatalog, images_of, offers
from importer.cluster.record import record_namespace
from importer.cluster.resources.build import ResourceOptions, build, can_serve
from importer.cluster.resources.catalog_source import address, namespace_for, service_name
from importer.cluster.resources.mirror_rules import Pair, Scope
from importer.cluster.resources.names import name_catalogs
from importer.cluster.updates.expected import ExpectedRelease, releases_of
from importer.mapping import Mirror, map_catalog, map_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.archive.inventory import CatalogRecord, Inventory
    from importer.cluster.api.client import ClusterClient
    from importer.cluster.release import Release
    from importer.cluster.resources.names import Named


def expected_of(client: ClusterClient, inventory: Inventory, release: Release | None) -> list[ExpectedCatalog]:
    """Return what the cluster has to serve of an archive. Raises ClusterError, UsageError."""
    namespace = namespace_for(release)
    served = dict(_served(client, namespace))
    named = name_catalogs(inventory, release, {}, own_sources(client, record_namespace(client), namespace))
    rules: dict[Mirror, tuple[Pair, ...]] = {}
    found = []
    for each in named:
        if not can_serve(release, each.catalog):
            continue
        held = sorted(name for name, image in served.items() if image.partition("@")[2] == each.catalog.image)
        name = each.name if each.name in held or not held else held[0]
        mirror = _mirror_of(served[name], each.catalog, inventory) if name in held else None
        if mirror is not None and mirror not in rules:
            rules[mirror] = _rules(client, inventory, mirror, release, named)
        # Without its CatalogSource only the digest is known, which no image of the cluster is equal to.
        image, known = served.get(name) if name in held else None, rules[mirror] if mirror is not None else ()
        packages = offers(each.catalog.packages)
        at = str(mirror) if mirror is not None else ""
        found.append(
            ExpectedCatalog(name, namespace, image or f"@{each.catalog.image}", packages, known, at, str(each.identity))
        )
    return found


def releases_in(client: ClusterClient, inventory: Inventory, release: Release | None) -> tuple[ExpectedRelease, ...]:
    """Return the releases of an archive, on the mirror that the cluster's rules lead their payloads to. Raises ClusterError."""
    if not inventory.carried_releases or not configures_nodes(release):
        return ()
    live = {(each.source, each.mirror) for each in mirror_rules(client, release)}
    for source, place in sorted(live):
        for mirror in _mirrors_of_payloads(source, place):
            images = map_images(inventory, mirror)
            if found := releases_of(inventory, images):
                known = {rule for each in found for rule in each.rules}
                if (source, place) in known:
                    return found
    # Nowhere yet: what does not depend on the mirror is compared.
    found = releases_of(inventory, map_images(inventory, Mirror("unknown.invalid")))
    return tuple(msgspec.structs.replace(each, place="", rules=()) for each in found)


def _mirrors_of_payloads(source: str, place: str) -> Iterator[Mirror]:
    """Yield the mirrors on which payloads of a repository would have a place, in both layouts."""
    path = source.partition("/")[2]
    for end, by_source in ((PAYLOADS, False), (path, True)):
        if end and place.endswith(f"/{end}"):
            host, _, prefix = place.removesuffix(f"/{end}").partition("/")
            yield Mirror(host, prefix, releases_by_source=by_source)


def _served(client: ClusterClient, namespace: str) -> Iterator[tuple[str, str]]:
    """Yield the CatalogSources, each with the image that it serves."""
    for body in client.list(CATALOG_SOURCE, namespace) or []:
        name, spec = str(body["metadata"]["name"]), body.get("spec") or {}
        image = str(spec.get("image") or "")
        if not image and spec.get("address") == address(name, namespace):
            deployment = client.get(DEPLOYMENT, service_name(name), namespace) or {}
            images = images_of(((deployment.get("spec") or {}).get("template")) or {})
            image = next(iter(sorted(images)), "")
        yield name, image


def _mirror_of(image: str, catalog: CatalogRecord, inventory: Inventory) -> Mirror | None:
    """Return the mirror on which a catalog has this image; None for one with joined paths, or that others copied."""
    host, _, path = image.partition("@")[0].partition("/")
    parts = path.split("/")
    # The host of the source first: without it, the same path is that of a longer prefix.
    for kept in (True, False):
        for count in range(len(parts)):
            mirror = Mirror(host, "/".join(parts[:count]), keep_source_host=kept)
            if str(map_catalog(catalog, map_images(inventory, mirror)).pinned) == image:
                return mirror
    return None


def _rules(
    client: ClusterClient, inventory: Inventory, mirror: Mirror, release: Release | None, named: Sequence[Named]
) -> tuple[Pair, ...]:
    """Return the mirror rules of an archive, in the scope and layout in which the cluster has them; else the usual ones."""
    if release is None or release.hosted or not configures_nodes(release):
        return ()
    icsp = has_icsp(client)
    live = {(each.source, each.mirror) for each in mirror_rules(client, release)}
    layouts = (False, True) if inventory.carried_releases else (False,)
    made = [
        build(inventory, images, mirror, release, ResourceOptions(mirror_scope=scope), existing_icsp=icsp, named=named).rules
        for by_source in layouts
        for images in (map_images(inventory, replace(mirror, releases_by_source=by_source)),)
        for scope in Scope
    ]
    return next((rules for rules in made if live.issuperset(rules)), made[0])
