"""The command `build-catalog`: package manifests of a directory or an app registry as a catalog image for old clusters.

The result is that of `oc adm catalog build` until 2021 (openshift/oc, pkg/cli/admin/catalog/build.go): a database of schema 5
in a layer on an image that serves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.archive.inventory import Problem, ProblemCode
from common.errors import HubError, InterruptedByUserError, UsageError
from common.oci.image import Digest, Index, Platform
from common.oci.reference import Reference
from common.progress import step
from common.registry.cnr import DEFAULT_ENDPOINT, AppRegistry, split_endpoint
from common.registry.credentials import Credentials
from common.registry.source_sink import RegistrySink
from common.text import counted
from common.transfer import copy
from exporter.archive.fetch import PlannedSource
from exporter.catalog import steps
from exporter.catalog.readers import package_manifests
from exporter.context import opened
from exporter.plan.plan import make_plan

if TYPE_CHECKING:
    from pathlib import Path

    from common.progress import Progress
    from common.registry.settings import RegistrySettings
    from exporter.catalog.model import Catalog
    from exporter.catalog.rebuild import CarriedCatalog
    from exporter.context import ExportContext


_SHUT_DOWN = "quay.io"  # its app registry, on 15 June 2022; Quay lost the code in 2023 (PROJQUAY-4992)


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """One build. Exactly one of `directory` and `organization` is given."""

    registry: RegistrySettings
    base: Reference
    target: Reference
    directory: Path | None = None
    organization: str = ""
    endpoint: str = DEFAULT_ENDPOINT
    token: str = ""
    platforms: tuple[Platform, ...] = ()
    jobs: int = 6


@dataclass(frozen=True, slots=True)
class BuiltCatalog:
    """A pushed catalog image: its digest and its packages."""

    target: Reference
    digest: Digest
    catalog: Catalog
    problems: tuple[Problem, ...]


def build(settings: BuildSettings, progress: Progress) -> BuiltCatalog:
    """Make the catalog image and push it. Faults of single packages become problems; the other packages are built.

    Raises UsageError, CatalogError when there is nothing to build, RegistryError.
    """
    with opened(settings.registry, progress, pushes_to=frozenset({settings.target.name})) as media:
        return _build(settings, media)


def _build(settings: BuildSettings, media: ExportContext) -> BuiltCatalog:
    files, problems = _files(settings, media)
    found = package_manifests.read(files, str(settings.directory or f"{settings.endpoint} {settings.organization}"))
    carried = steps.from_package_manifests(found, settings.base, settings.platforms, media)
    _push(carried, settings, media)
    return BuiltCatalog(settings.target, carried.root.digest, carried.catalog, (*problems, *carried.catalog.problems))


def _files(settings: BuildSettings, media: ExportContext) -> tuple[dict[str, bytes], list[Problem]]:
    if settings.directory is not None:
        if not settings.directory.is_dir():
            raise UsageError(f"--manifest-dir {settings.directory}: no such directory", hint="Wanted: package manifests.")
        return package_manifests.files_of_directory(settings.directory), []
    # Known beforehand, so that the message can name what to use instead.
    host, _ = split_endpoint(settings.endpoint)
    if host == _SHUT_DOWN:
        raise UsageError(
            "quay.io shut its app registry down in June 2022; nothing can be built from it any more",
            hint="Today's catalogs are images, such as registry.redhat.io/redhat/redhat-operator-index:v4.18, and hub-export "
            "create carries them; for manifests that were kept use --manifest-dir, for your own Quay --appregistry-endpoint.",
        )
    registry = media.client.app_registry(settings.endpoint, settings.token)
    # A token is the result of an earlier login; credentials are only exchanged for one without it.
    found = None if settings.token else Credentials(settings.registry).find(host, settings.organization)
    if found is not None:
        registry.login(found.username, found.password)
    return _download(registry, settings.organization, media.progress)


def _download(registry: AppRegistry, organization: str, progress: Progress) -> tuple[dict[str, bytes], list[Problem]]:
    """Fetch every package of an organization; one that cannot be fetched is a problem."""
    packages = registry.packages(organization)
    if not packages:
        raise UsageError(f"the app registry has no packages of {organization!r}", hint="Check --appregistry-org.")
    files: dict[str, bytes] = {}
    problems: list[Problem] = []
    with step(progress, f"reading {counted(len(packages), 'package')}", len(packages), "packages"):
        for package in packages:
            name = package.name.rpartition("/")[2]  # `namespace/package`: the folder is named by the package alone
            try:
                files |= package_manifests.files_of_archive(registry.archive(package), name)
            except InterruptedByUserError:
                raise  # a HubError, too
            except HubError as error:
                message = error.about(package.name)
                problems.append(Problem("error", ProblemCode.CATALOG_INVALID, package.name, message))
            progress.advance(1)
    return files, problems


def _push(carried: CarriedCatalog, settings: BuildSettings, media: ExportContext) -> None:
    """Push the image to its target: blobs, then manifests, the tag last. Raises the first error."""
    tree = carried.resolved.tree
    assert tree is not None
    # The plan of an export, without an archive: the same order and the same sources of blobs.
    plan = make_plan((), [carried.resolved], carried.held, ())
    target = Reference(settings.target.registry, settings.target.repository)
    sink = RegistrySink(media.client, {blob.descriptor.digest: (target,) for blob in plan.blobs})
    blobs, source, progress = (blob.descriptor for blob in plan.blobs), PlannedSource(plan, media), media.progress
    with step(progress, f"pushing {counted(len(plan.blobs), 'blob')}", plan.size, kept=True):
        for outcome in copy(blobs, source, sink, jobs=settings.jobs, progress=progress):
            if outcome.error is not None:
                raise outcome.error
    # A registry refuses a manifest whose blobs, and an index whose manifests, it does not have (distribution-spec 1.1, Push).
    documents = [one for one in tree.documents if one.digest != carried.root.digest]
    for document in sorted(documents, key=lambda one: isinstance(one, Index)):
        media.client.put_manifest(target.pinned(document.digest), document.raw, document.media_type)
    media.client.put_manifest(settings.target, carried.root.raw, carried.root.media_type)
