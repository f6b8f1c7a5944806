"""The catalogs that a cluster has after an import, as its operators see them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from common.archive.inventory import CatalogRecord, ChannelRecord, PackageRecord
from common.oci.image import Digest
from common.olm.catalog_names import Identity
from common.olm.update_path import CarriedPaths

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from common.openshift.supported_releases import Kubernetes
    from importer.cluster.readiness.readiness import ExpectedCatalog
    from importer.cluster.resources.names import ServedCatalog
    from importer.operators.installed import SourceKey, Sources, Subscribed


@dataclass(frozen=True)
class Offering:
    """A catalog that the cluster gets or has: its name, its CatalogSource and its content; `identity`: repository and tag."""

    catalog: str
    source: SourceKey
    record: CatalogRecord
    identity: Identity
    in_olm_v1: bool = False
    release: tuple[int, int] | None = None  # of the cluster, whose OLM follows the updates

    @cached_property
    def packages(self) -> frozenset[str]:
        """The names of the packages that it has."""
        return frozenset(package.name for package in self.record.packages)

    @cached_property
    def paths(self) -> CarriedPaths:
        """The update paths through it."""
        return CarriedPaths(self.record, self.release)

    def channels(self, package: str, channel: str) -> list[ChannelRecord]:
        """Return the channels that a Subscription follows: all where it names none."""
        found = (each for one in self.record.packages if one.name == package for each in one.channels)
        return [each for each in found if channel in ("", each.name)]

    def channel(self, package: str, channel: str) -> ChannelRecord | None:
        """Return a channel of a package, the default one where none is named."""
        found = next((each for each in self.record.packages if each.name == package), None)
        wanted = channel or (found.default_channel if found else "")
        return next((each for each in (found.channels if found else ()) if each.name == wanted), None)


@dataclass(frozen=True, slots=True)
class Outlook:
    """The catalogs after an import. `going`: the default CatalogSources that are removed with it.

    `served`: the CatalogSources of earlier imports. `repointed`: the CatalogSource that a Subscription, by namespace and name,
    gets in place of its present one. `kept`: the CatalogSources whose names catalogs take without an option.
    `switched_off`: the default ClusterCatalogs that become unavailable. `kubernetes`: the version of the
    cluster, empty where it is not known.
    """

    offerings: Sequence[Offering]
    namespace: str
    sources: Sources
    going: Collection[SourceKey] = frozenset()
    served: Sequence[ServedCatalog] = ()
    repointed: Mapping[tuple[str, str], SourceKey] = field(default_factory=dict)
    kept: Collection[SourceKey] = frozenset()
    switched_off: Collection[str] = frozenset()
    kubernetes: Kubernetes = ()

    def source_of(self, one: Subscribed) -> SourceKey:
        """Return the CatalogSource that a Subscription names after the import."""
        return self.repointed.get((one.namespace, one.name), one.source)

    def offering(self, source: SourceKey) -> Offering | None:
        """Return the catalog of a CatalogSource; None for one that the import does not write."""
        return next((each for each in self.offerings if each.source == source), None)

    def lacks(self, source: SourceKey) -> bool:
        """Return whether a CatalogSource is missing after the import."""
        return self.offering(source) is None and (source in self.going or self.sources.lack(source))

    def changes(self, one: Subscribed) -> bool:
        """Return whether the import gives a Subscription another catalog, or another content of it."""
        offering = self.offering(self.source_of(one))
        return offering is not None and self._digest(one.source) != offering.record.image

    def _digest(self, source: SourceKey) -> str:
        """Return the digest of the image that a CatalogSource serves now; empty where that is not known."""
        # A catalog by address has no image in its spec.
        image = self.sources.image(source)
        if not image and source in self.sources.bodies and source[0] == self.namespace:
            image = next((each.image for each in self.served if each.name == source[1]), "")
        return image.rpartition("@")[2]


def recorded(expected: Iterable[ExpectedCatalog]) -> list[Offering]:
    """Return the catalogs that earlier imports left, from their record: heads of channels, without an update graph."""
    return [
        Offering(each.name, (each.namespace, each.name), _record(each), _identity(each), in_olm_v1=True) for each in expected
    ]


def _identity(expected: ExpectedCatalog) -> Identity:
    path, _, tag = expected.catalog.rpartition(":")
    return Identity(expected.name, path, tag, "", "")


def _record(expected: ExpectedCatalog) -> CatalogRecord:
    packages = tuple(
        PackageRecord(name, offer.default_channel, tuple(ChannelRecord(*each, ()) for each in sorted(offer.heads.items())))
        for name, offer in sorted(expected.packages.items())
    )
    image = Digest(expected.image.rpartition("@")[2])
    return CatalogRecord(expected.catalog, None, image, expected.name, "file-based", filtered=False, packages=packages)
