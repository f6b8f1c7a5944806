"""The plan for one cluster: its release, the resources that it needs, and the state that OLM has to reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from importer import mapping
from importer.cluster import apply as applying
from importer.cluster.apply import ApplyResult
from importer.cluster.discovery import ClusterIdentity, has_icsp, identify, mirror_rules, served_by_us
from importer.cluster.kinds import CATALOG_SOURCE, OPERATOR_HUB
from importer.cluster.preflight import Intent
from importer.cluster.readiness.readiness import ExpectedCatalog, offers
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.resources.build import Built, build, name_of
from importer.cluster.resources.catalog_source import namespace_for
from importer.cluster.resources.mirror_rules import Scope
from importer.cluster.subscriptions import CatalogChange, Offering
from importer.cluster.trust import merge_pull_secret, pull_credential, pull_secret_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from importer.archive.reader import Archive
    from importer.cluster.client import ClusterClient
    from importer.cluster.release import Release
    from importer.mapping import MappedImage, Mirror
    from importer.settings import ClusterSettings, ImportSettings


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Everything that one cluster gets. `credential`: a key of the global pull secret, and base64 of `user:password`."""

    client: ClusterClient
    cluster: ClusterIdentity
    recorder: Recorder
    built: Built
    intent: Intent
    expected: tuple[ExpectedCatalog, ...]
    credential: tuple[str, str] | None
    replace_credential: bool = False

    @property
    def namespace(self) -> str:
        """The namespace of the CatalogSources."""
        return namespace_for(self.intent.release)

    def change(self, *, dry_run: bool, tell: Callable[[str], None]) -> ApplyResult:
        """Apply the plan; with `dry_run` return what would change. Raises ClusterError."""
        # The pull secret comes first: a CatalogSource that arrives before it starts with ImagePullBackOff, whose pauses grow.
        secret = []
        if self.credential:
            key, auth = self.credential
            recorder, replaces = self.recorder, self.replace_credential
            secret = [
                merge_pull_secret(self.client, key, auth, replace=replaces, dry_run=dry_run, tell=tell, recorder=recorder)
            ]
        applied = applying.apply(
            self.client,
            self.built.resources,
            release=self.intent.release,
            dry_run=dry_run,
            tell=tell,
            recorder=self.recorder,
            registries=self.built.registries,
        )
        return ApplyResult((*secret, *applied.changes))


def make_plan(
    client: ClusterClient,
    archive: Archive,
    images: Sequence[MappedImage],
    settings: ImportSettings,
    cluster: ClusterSettings,
) -> ClusterPlan:
    """Identify the cluster, and build the resources that it needs. Changes nothing. Raises ClusterError, UsageError."""
    identity = identify(client, cluster.release)
    release = cluster.release or identity.release
    icsp = release is not None and has_icsp(client)
    names = [name_of(catalog, cluster.resources) for catalog in archive.inventory.catalogs]
    # A catalog that `doctor --fix` serves from a Deployment stays so: the next archive must not undo that fix (ADR 0015).
    kept = served_by_us(client, names, namespace_for(release))
    options = replace(cluster.resources, served=frozenset(kept))
    # CRI-O takes the most specific matching rule, so rules for single repositories win over all existing ones; only those for
    # namespaces and hosts can be overridden, and have to be compared.
    narrow = release is None or options.mirror_scope is Scope.REPOSITORY
    existing = frozenset() if narrow else mirror_rules(client, release)
    built = build(archive.inventory, images, settings.mirror, release, options, existing_icsp=icsp, existing_rules=existing)
    placed = [(catalog, mapping.map_catalog(catalog, images)) for catalog in archive.inventory.catalogs]
    intent = Intent(
        built.resources,
        release,
        settings.mirror.host,
        catalogs=[str(image.pinned) for _, image in placed],
        # A filtered catalog is a new image: its publisher never signed it, and a signature policy may refuse it.
        unsigned=[str(image.pinned) for catalog, image in placed if catalog.filtered],
        terms=_terms(archive, built, cluster, release),
    )
    return ClusterPlan(
        client,
        identity,
        Recorder(client, record_namespace(client)),
        built,
        intent,
        _expected(archive, images, built, replace(cluster, release=release), settings.mirror),
        _credential(settings.mirror, release, cluster),
        cluster.replace_credential,
    )


def _credential(mirror: Mirror, release: Release | None, cluster: ClusterSettings) -> tuple[str, str] | None:
    if cluster.authfile is None:
        return None
    # Before 4.9, CRI-O looks up credentials by host only; the key depends on the release (ADR 0026).
    key = pull_secret_key(mirror.host, mirror.prefix, release)
    return key, pull_credential(cluster.authfile, mirror.host, mirror.prefix)


def _terms(archive: Archive, built: Built, cluster: ClusterSettings, release: Release | None) -> CatalogChange:
    """Return what the import means for Subscriptions: the catalogs that the cluster gets, and the default sources."""
    namespace = namespace_for(release)
    offerings = [
        Offering(catalog.name, (namespace, name), frozenset(package.name for package in catalog.packages))
        for catalog in archive.inventory.catalogs
        if (name := name_of(catalog, cluster.resources)) in _catalog_sources(built)
    ]
    defaults_off = any(resource.kind == OPERATOR_HUB.name for resource in built.resources)
    return CatalogChange(offerings, namespace, defaults_off, cluster.allowed_orphans)


def _expected(
    archive: Archive, images: Sequence[MappedImage], built: Built, cluster: ClusterSettings, mirror: Mirror
) -> tuple[ExpectedCatalog, ...]:
    """Return what OLM has to list, for every catalog that got a CatalogSource, with the mirror rules of the archive."""
    return tuple(
        ExpectedCatalog(
            name,
            namespace_for(cluster.release),
            str(mapping.map_catalog(catalog, images).pinned),
            offers(catalog.packages),
            built.rules,
            str(mirror),
        )
        for catalog in archive.inventory.catalogs
        if (name := name_of(catalog, cluster.resources)) in _catalog_sources(built)
    )


def _catalog_sources(built: Built) -> set[str]:
    # `build` leaves catalogs out that it has to report as problems; their Subscriptions and heads must not be waited for.
    return {resource.name for resource in built.resources if resource.kind == CATALOG_SOURCE.name}
