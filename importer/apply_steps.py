"""The cluster's part of an import: look first, show what would change, ask, change, wait (docs/cluster.md, *apply*)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.errors import ClusterError, ExitCode, HubError, RegistryError
from common.text import shortened
from importer import mapping
from importer.cluster import apply as bringing
from importer.cluster import preflight
from importer.cluster.apply import ApplyResult
from importer.cluster.client import ClusterClient, connect
from importer.cluster.discovery import ClusterIdentity, has_icsp, identify, mirror_rules, served_by_us
from importer.cluster.finding import Finding, Severity
from importer.cluster.kinds import CATALOG_SOURCE, OPERATOR_HUB
from importer.cluster.preflight import Intent
from importer.cluster.readiness import expectation
from importer.cluster.readiness.expectation import ExpectedCatalog, offers
from importer.cluster.readiness.wait import Display, wait_healthy
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.resources.build import Built, build, name_of
from importer.cluster.resources.catalog_source import namespace_for
from importer.cluster.resources.mirror_rules import Scope
from importer.cluster.subscriptions import Offering, Terms
from importer.cluster.trust import merge_pull_secret, pull_credential, pull_secret_key
from importer.diagnose.collect import gather
from importer.diagnose.health import diagnose
from importer.mapping import MappedImage, Mirror

if TYPE_CHECKING:
    from common.archive.inventory import Problem
    from importer.archive.reader import Archive
    from importer.cluster.release import Release
    from importer.settings import ClusterSettings, ImportSettings

Tell = Callable[[str], None]
# Given images, returns the names of those that the mirror does not have.
Lacking = Callable[[Sequence[MappedImage]], Sequence[str]]
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of the cluster's objects, or would become of them unless `done`.

    `findings`: what was seen before the first change; `problems`: what cannot be made; `cluster`: which one it is.
    """

    result: ApplyResult
    problems: tuple[Problem, ...]
    done: bool
    cluster: ClusterIdentity
    findings: tuple[Finding, ...] = ()
    drain: str = ""
    """What the change of configuration does to nodes, in words; empty where it is not known."""

    @property
    def exit_code(self) -> ExitCode:
        """3 when a catalog could not be given to the cluster."""
        return ExitCode.PROBLEMS if any(problem.severity == "error" for problem in self.problems) else ExitCode.DONE


class NotAgreedError(HubError):
    """A person was asked whether the cluster may be changed, and did not agree."""


Agree = Callable[[Applied], bool]


@dataclass(frozen=True, slots=True)
class Voice:
    """How an apply speaks: lines, the question whether to go on, what it changed, and the wait."""

    tell: Tell
    agree: Agree
    display: Display
    changed: Callable[[ApplyResult], None] = lambda _result: None


def foresee(
    archive: Archive,
    settings: ImportSettings,
    cluster: ClusterSettings,
    voice: Voice,
    seen: Callable[[Applied], None] = lambda _planned: None,
) -> Applied:
    """Look at everything that speaks against an import, and ask for agreement, before anything is pushed. Changes nothing.

    `seen` gets what was found before anything is refused. Raises ClusterError for what would make it fail, HubError without
    agreement, UsageError.
    """
    images = mapping.map_images(archive.inventory, settings.mirror)
    with connect(cluster.kubeconfig, cluster.context) as client:
        planned = _foreseen(client, _plan(client, archive, images, settings, cluster))
    seen(planned)
    if not cluster.dry_run:
        _warn(planned, voice.tell)
        _require(planned, voice)
    return planned


def apply(
    archive: Archive,
    settings: ImportSettings,
    cluster: ClusterSettings,
    voice: Voice,
    lacking: Lacking | None = None,
) -> Applied:
    """Bring the cluster to use the mirror, and wait until OLM lists what the archive carries.

    Everything is looked at before the first change; nothing changes unless `voice.agree` returns True. `lacking` None: what was
    just pushed is there, and agreed to. Repeatable: a second time changes nothing. Raises ClusterError, also when the cluster
    is not healthy in time; RegistryError when the mirror lacks images, UsageError.
    """
    images = mapping.map_images(archive.inventory, settings.mirror)
    with connect(cluster.kubeconfig, cluster.context) as client:
        job = _plan(client, archive, images, settings, cluster)
        planned = _foreseen(client, job)
        if lacking is not None:
            planned = replace(planned, findings=(*planned.findings, *_in_place(images, lacking)))
        if cluster.dry_run:
            return planned
        if lacking is not None:
            _warn(planned, voice.tell)
        _require(planned, voice if lacking is not None else replace(voice, agree=lambda _planned: True))
        result = job.change(dry_run=False, tell=voice.tell)
        voice.changed(result)
        expectation.keep(job.recorder, job.expected)
        _wait(client, job, cluster, voice)
    return replace(planned, result=result, done=True)


def _foreseen(client: ClusterClient, job: _Job) -> Applied:
    """Return what would change, and what was found on the way. Raises ClusterError, at once for missing permissions."""
    findings = list(preflight.permissions(client, job.intent))
    _refuse(findings)  # without them, nothing more can be found out
    findings += preflight.circumstances(client, job.intent)
    would = job.change(dry_run=True, tell=_silently)
    findings += preflight.rollout(client, job.intent, would.changed)
    drain = preflight.drain(job.intent, would.changed)
    return Applied(would, job.built.problems, done=False, cluster=job.cluster, findings=tuple(findings), drain=drain)


def _warn(planned: Applied, tell: Tell) -> None:
    """Tell what a person should know beforehand."""
    for finding in planned.findings:
        if finding.severity is Severity.WARNING:
            tell(f"warning: {finding.told}")


def _require(planned: Applied, voice: Voice) -> None:
    """Raise what speaks against changing the cluster, the person included."""
    _refuse(planned.findings)
    if planned.result.changed and not voice.agree(planned):
        raise NotAgreedError(
            "the cluster was not changed: not agreed", hint="Run it again to be asked again; --dry-run only shows."
        )


def _wait(client: ClusterClient, job: _Job, cluster: ClusterSettings, voice: Voice) -> None:
    release = job.intent.release
    wait_healthy(
        client,
        job.expected,
        release=release,
        timeout_s=cluster.timeout_s,
        display=voice.display,
        diagnose=lambda: diagnose(gather(client, namespace_for(release), job.expected, release)),
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """All that one cluster gets. `credential`: a key of the pull secret, and base64 of user:password."""

    client: ClusterClient
    cluster: ClusterIdentity
    recorder: Recorder
    built: Built
    intent: Intent
    expected: tuple[ExpectedCatalog, ...]
    credential: tuple[str, str] | None
    replace_credential: bool = False

    def change(self, *, dry_run: bool, tell: Tell) -> ApplyResult:
        """Bring it there; or say what would change."""
        secret = []
        if self.credential:
            key, auth = self.credential
            recorder, replaces = self.recorder, self.replace_credential
            secret = [
                merge_pull_secret(self.client, key, auth, replace=replaces, dry_run=dry_run, tell=tell, recorder=recorder)
            ]
        applied = bringing.apply(
            self.client,
            self.built.resources,
            release=self.intent.release,
            dry_run=dry_run,
            tell=tell,
            recorder=self.recorder,
            registries=self.built.registries,
        )
        return ApplyResult((*secret, *applied.changes))


def _plan(
    client: ClusterClient,
    archive: Archive,
    images: Sequence[MappedImage],
    settings: ImportSettings,
    cluster: ClusterSettings,
) -> _Job:
    """Find out what the cluster is, and build what it needs. A catalog that is served by address already stays so."""
    identity = identify(client, cluster.release)
    release = cluster.release or identity.release
    icsp = release is not None and has_icsp(client)
    names = [name_of(catalog, cluster.resources) for catalog in archive.inventory.catalogs]
    kept = served_by_us(client, names, namespace_for(release))
    options = replace(cluster.resources, served=frozenset(kept))
    # A rule for a repository is followed before all others; only broader ones can be overridden by existing rules.
    narrow = release is None or options.mirror_scope is Scope.REPOSITORY
    existing = frozenset() if narrow else mirror_rules(client, release)
    built = build(archive.inventory, images, settings.mirror, release, options, existing_icsp=icsp, existing_rules=existing)
    placed = [(catalog, mapping.map_catalog(catalog, images)) for catalog in archive.inventory.catalogs]
    intent = Intent(
        built.resources,
        release,
        settings.mirror.host,
        catalogs=[str(image.pinned) for _, image in placed],
        unsigned=[str(image.pinned) for catalog, image in placed if catalog.filtered],
        terms=_terms(archive, built, cluster, release),
    )
    return _Job(
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
    key = pull_secret_key(mirror.host, mirror.prefix, release)
    return key, pull_credential(cluster.authfile, mirror.host, mirror.prefix)


def _terms(archive: Archive, built: Built, cluster: ClusterSettings, release: Release | None) -> Terms:
    """Return what the import means for Subscriptions: the catalogs that the cluster gets, and the default sources."""
    namespace = namespace_for(release)
    names = {resource.name for resource in built.resources if resource.kind == CATALOG_SOURCE.name}
    offerings = [
        Offering(catalog.name, (namespace, name), frozenset(package.name for package in catalog.packages))
        for catalog in archive.inventory.catalogs
        if (name := name_of(catalog, cluster.resources)) in names
    ]
    defaults_off = any(resource.kind == OPERATOR_HUB.name for resource in built.resources)
    return Terms(offerings, namespace, defaults_off, cluster.allowed_orphans)


def _in_place(images: Sequence[MappedImage], lacking: Lacking) -> list[Finding]:
    """Return an error for images that the mirror does not have."""
    missing = lacking(images)
    if not missing:
        return []
    cause = f"the mirror lacks {len(missing)} of {len(images)} images"
    fix = "Push the archive first: hub-import push, or deploy, which does both."
    return [Finding("image-not-in-mirror", "mirror", cause, tuple(shortened(missing, _SHOWN)), fix)]


def _refuse(findings: Sequence[Finding]) -> None:
    """Raise what speaks against changing the cluster."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return
    kind = RegistryError if all(each.code == "image-not-in-mirror" for each in errors) else ClusterError
    told = "\n  ".join(each.told.replace("\n", "\n  ") for each in errors)
    raise kind(f"the cluster was not changed:\n  {told}", hint="Mend that, and run the same command again.")


def _expected(
    archive: Archive, images: Sequence[MappedImage], built: Built, cluster: ClusterSettings, mirror: Mirror
) -> tuple[ExpectedCatalog, ...]:
    """Return what OLM shall list, of every catalog that got a CatalogSource, and the mirror rules of the archive."""
    names = {resource.name for resource in built.resources if resource.kind == CATALOG_SOURCE.name}
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
        if (name := name_of(catalog, cluster.resources)) in names
    )


def _silently(_line: str) -> None:
    """Tell nobody."""
