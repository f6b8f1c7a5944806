"""The plan for one cluster: its release, the resources that it needs, and the state that OLM has to reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from importer.cluster import apply as applying
from importer.cluster import node_size
from importer.cluster.api.discovery import ClusterIdentity, has_icsp, identify, mirror_rules, served_by_us
from importer.cluster.apply import ApplyResult
from importer.cluster.record import ImportedArchive, PullImage, Recorder, record_namespace
from importer.cluster.resources.build import Built, build
from importer.cluster.resources.catalog_source import namespace_for
from importer.cluster.resources.mirror_rules import Scope
from importer.cluster.trust import merge_pull_secret
from importer.configure.credentials import node_credential
from importer.configure.intents import expected_of, intent_of
from importer.configure.listed import ListedPlan, listed_of
from importer.configure.operators import OperatorPlan, foresee, name
from importer.configure.releases import NOTHING, ReleasePlan, plan_releases
from importer.pulls.images import smallest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from common.archive.reader import Archive
    from importer.cluster.api.client import ClusterClient
    from importer.cluster.finding import Finding
    from importer.cluster.kinds import Resource
    from importer.cluster.preflight import Intent
    from importer.cluster.readiness.readiness import ExpectedCatalog
    from importer.cluster.release import Release
    from importer.cluster.resources.build import ResourceOptions
    from importer.cluster.resources.mirror_rules import MirrorRule
    from importer.cluster.resources.node_configuration import NodeSize
    from importer.cluster.updates.outlook import Update
    from importer.cluster.writing import Change
    from importer.mapping import MappedImage
    from importer.operators.installed import Installed
    from importer.settings import ClusterSettings, ImportSettings


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Everything that one cluster gets. `credential`: a key of the global pull secret, and base64 of `user:password`.

    `operators_now` judges the operators that are read after the change; `pulls`: what a pull test pulls. `scope`: that of the
    mirror rules; `scoped` returns the objects with another one, by the rules of the cluster.
    """

    client: ClusterClient
    cluster: ClusterIdentity
    recorder: Recorder
    built: Built
    intent: Intent
    expected: tuple[ExpectedCatalog, ...]
    credential: tuple[str, str] | None
    operators: OperatorPlan
    operators_now: Callable[[Installed], OperatorPlan]
    installs: ListedPlan
    releases: ReleasePlan = NOTHING
    replace_credential: bool = False
    archive: ImportedArchive | None = None
    pulls: tuple[PullImage, ...] = ()
    scope: Scope = Scope.REPOSITORY
    scoped: Callable[[Scope, Collection[MirrorRule]], Sequence[Resource]] = lambda _scope, _existing: ()

    @property
    def namespace(self) -> str:
        """The namespace of the CatalogSources."""
        return namespace_for(self.intent.release)

    def change(self, *, dry_run: bool, tell: Callable[[str], None]) -> ApplyResult:
        """Apply the plan; with `dry_run` return what would change. Raises ClusterError."""
        # The pull secret comes first: a CatalogSource that arrives before it starts with ImagePullBackOff, whose pauses grow.
        secret = []
        recorder = self.recorder.rehearsal() if dry_run else self.recorder
        if self.credential:
            key, auth = self.credential
            replaces = self.replace_credential
            secret = [
                merge_pull_secret(self.client, key, auth, replace=replaces, dry_run=dry_run, tell=tell, recorder=recorder)
            ]
        applied = applying.apply(
            self.client,
            self.built.resources,
            release=self.intent.release,
            dry_run=dry_run,
            tell=tell,
            recorder=recorder,
            registries=self.built.registries,
        )
        promised: tuple[Change, ...] = ()
        if dry_run:
            promised = (*self.releases.promised, *self.installs.foresee())
            self.record(recorder)
        for change in promised:
            tell(f"would be {change}")
        return ApplyResult((*secret, *applied.changes, *promised))

    def record(self, recorder: Recorder | None = None) -> None:
        """Record what the cluster has to serve, and the archive. Raises ClusterError."""
        (recorder or self.recorder).expect(self.expected, self.releases.expected, self.archive, self.pulls)

    def follow(self, *, tell: Callable[[str], None]) -> ApplyResult:
        """Let the cluster ask its UpdateService for updates, where that was wanted and had to be waited for."""
        return self.releases.follow(self.client, self.intent.release, self.recorder, tell)

    def node_size(self) -> tuple[NodeSize | None, list[Finding]]:
        """Return the size of the configuration that nodes get of the mirror rules, None where none are written; findings."""
        found = node_size.foresee(self.client, self.intent.release, self.built.resources, self.scope, self.scoped)
        return found, list(node_size.findings(found))

    def updates(self) -> tuple[Update, ...]:
        """Return the releases of the archive that the cluster can go to, as it is now. Raises ClusterError."""
        return self.releases.possible(self.client, self.intent.release)


def make_plan(
    client: ClusterClient,
    archive: Archive,
    images: Sequence[MappedImage],
    settings: ImportSettings,
    cluster: ClusterSettings,
    *,
    identity: ClusterIdentity | None = None,
) -> ClusterPlan:
    """Identify the cluster, and build the resources that it needs. Changes nothing. Raises ClusterError, UsageError."""
    identity = identity or identify(client, cluster.release)
    seen, naming = name(client, archive.inventory, identity, identity.release, cluster)
    release = _with_classic(identity.release, seen)
    # A catalog that `doctor --fix` serves from a Deployment stays so: the next archive must not undo that fix (ADR 0015).
    kept = served_by_us(client, [each.name for each in naming.named], namespace_for(release))
    options = replace(cluster.resources, by_address=frozenset(kept))
    releases = plan_releases(client, archive.inventory, images, settings.mirror, release=release, cluster=cluster)
    known = partial(build, archive.inventory, images, settings.mirror, release, named=naming.named, updates=releases.place)
    make = partial(known, existing_icsp=release is not None and has_icsp(client))
    built = make(options, existing_rules=_compared_rules(client, release, options))
    operators = foresee(seen, naming, release, cluster)
    resources = (*built.resources, *releases.resources, *operators.resources)
    built = replace(built, resources=resources, notes=(*built.notes, *releases.notes))
    wanted = replace(built, resources=(*resources, *releases.later))
    return ClusterPlan(
        client,
        identity,
        Recorder(client, record_namespace(client)),
        built,
        intent_of(
            archive, images, wanted, release, settings.mirror.host, only=options.catalogs_only, kubernetes=naming.kubernetes
        ),
        expected_of(images, built, release, settings.mirror),
        node_credential(settings.mirror, release, cluster),
        operators,
        lambda seen: foresee(seen, naming, release, cluster),
        listed_of(client, archive, built, release, cluster),
        releases,
        cluster.replace_credential,
        ImportedArchive(archive.digest, archive.inventory.name or "", archive.inventory.created),
        smallest(archive.inventory),
        options.mirror_scope,
        lambda scope, existing: make(replace(options, mirror_scope=scope), existing_rules=existing).resources,
    )


def _with_classic(release: Release | None, seen: Installed) -> Release | None:
    """Return the release, without OLM (Classic) where the cluster has OLM v1 alone."""
    # A release without OLM v1 has nothing that could serve a catalog then, which the write reports.
    if release is not None and release.has_cluster_catalog and not seen.sources.classic:
        return replace(release, classic=False)
    return release


def _compared_rules(client: ClusterClient, release: Release | None, options: ResourceOptions) -> frozenset[MirrorRule]:
    """Return the rules of the cluster that can override those of the import. Raises ClusterError."""
    # CRI-O takes the most specific matching rule, so rules for single repositories win over all existing ones; only those for
    # namespaces and hosts can be overridden, and have to be compared.
    narrow = release is None or options.mirror_scope is Scope.REPOSITORY
    return frozenset() if narrow else mirror_rules(client, release)
