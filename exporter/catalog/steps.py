"""The catalog steps of a plan: open the catalogs of an image set, select from them, inline manifests, rebuild their images."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from common.archive.inventory import ImageKind
from common.errors import CatalogError, FaultsError, UsageError, each_fault, one_error
from common.olm.catalog_names import Identity, distinct, packages_of_several
from common.text import enumeration
from exporter.catalog.dependencies import Selected, close
from exporter.catalog.installed import Asked, with_installed
from exporter.catalog.model import Catalog, without_bytes
from exporter.catalog.presentation import presentation_of
from exporter.catalog.readers.catalog_image import database_layer
from exporter.catalog.readers.opening import CatalogOpener, OpenedCatalog, of_package_manifests
from exporter.catalog.rebuild import CarriedCatalog, carry, filtered, rebuild
from exporter.catalog.selection import Selection, filled, select
from exporter.catalog.update_graph import UpdateGraph
from exporter.images.resolve import ResolvedImage, WantedImage
from exporter.imageset.model import OperatorRequest, PackageRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from common.oci.image import Platform
    from common.oci.reference import Reference
    from exporter.catalog.model import Bundle, Package
    from exporter.catalog.presentation import Presentation
    from exporter.catalog.readers.package_manifests import PackageManifests
    from exporter.catalog.selection import Reason
    from exporter.context import ExportContext
    from exporter.settings import ExportSettings


_LOG = logging.getLogger(__name__)
# OLM unpacks bundle images from 0.14.2 on, which came with OpenShift 4.4; before, all manifests are in the database.
_NO_BUNDLE_IMAGES = (4, 3)
_SHOWN = 5  # packages that a note names
_NOTHING_INSTALLED = "Name the catalogs that the cluster's operators come from, or what to carry with --package."
_LONGEST = 300  # characters of names in a message


@dataclass(frozen=True, slots=True)
class Chosen:
    """A catalog, the request for it, and its selection. `name` is unique in the archive; no `platforms` stands for all.

    `inline_all`: every bundle needs its manifests in the catalog, because OLM of the target release reads them there.
    """

    name: str
    request: OperatorRequest
    opened: OpenedCatalog
    selection: Selection
    platforms: tuple[Platform, ...] = ()
    inline_all: bool = False

    @property
    def carried(self) -> bool:
        """Whether there is anything to carry; not, where all requested packages are optional and absent."""
        return bool(self.selection.catalog.packages or not self.request.packages)

    @property
    def bundles(self) -> Iterator[Bundle]:
        """The selected bundles."""
        return self.selection.catalog.bundles

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why bundles are kept or not."""
        return self.selection.reasons


@dataclass(frozen=True, slots=True)
class Choice:
    """What a plan keeps of a chosen catalog, which would take more memory than the plan (ADR 0091).

    `presentations`: of each package by the head of its default channel.
    """

    name: str
    request: OperatorRequest
    reasons: tuple[Reason, ...]
    presentations: Mapping[str, Presentation]


def choose(settings: ExportSettings, context: ExportContext, *, dependencies: bool = True) -> tuple[Chosen, ...]:
    """Open the catalogs of the image set and select from them, with `dependencies` the packages and APIs that bundles require.

    Fetches catalog images only. Raises CatalogError, RegistryError, and UsageError with all that is wrong with the requests.
    """
    catalogs, requests, notes = _opened(settings, CatalogOpener(context.client, context.store, progress=context.progress))
    names = _names(catalogs, requests)
    # All catalogs are open before the first selection: dependencies are resolved across them.
    selections = _selected(catalogs, requests)
    if dependencies:
        selections = close(
            [
                Selected(one.catalog, kept, not request.skip_dependencies, request.excluded(one.catalog.packages))
                for one, kept, request in zip(catalogs, selections, requests, strict=True)
            ]
        )
    # File-based catalogs refer to bundle images only, and no release up to 4.8 serves them.
    old = settings.release is not None and settings.release <= _NO_BUNDLE_IMAGES
    chosen = tuple(
        Chosen(name, request, one, kept, request.platforms or settings.platforms, old and one.location.format == "sqlite")
        for name, request, one, kept in zip(names, requests, catalogs, selections, strict=True)
    )
    shared = _shared_packages(chosen) if dependencies else ()
    for note in (*settings.image_set.notes, *notes, *(note for item in chosen for note in item.selection.notes), *shared):
        _LOG.warning("%s", note)
    return chosen


Opened = tuple[Sequence[OpenedCatalog], "Sequence[OperatorRequest]", Sequence[str]]  # with notes for people


def _opened(settings: ExportSettings, opener: CatalogOpener) -> Opened:
    """Open the catalogs of the image set; return them with their requests, and with what the target has installed."""
    requests = settings.image_set.operators
    catalogs = [
        # Of named packages, the files of others do not matter; a selection of everything needs every file.
        opener.open(one.catalog, one.platforms or settings.platforms, partial=bool(one.packages or one.installed_only))
        for one in requests
    ]
    if not settings.installed:
        return catalogs, requests, ()
    asked = [Asked(one.name, one.catalog, request) for one, request in zip(catalogs, requests, strict=True)]
    target = settings.target
    found = with_installed(asked, target.operators or (), target.minor_release) if target else with_installed(asked, ())
    kept = [(one, request) for one, request in zip(catalogs, found.requests, strict=True) if request is not None]
    empty = [
        f"catalog {one.source} is left out: nothing of it is installed"
        for one, request in zip(catalogs, found.requests, strict=True)
        if request is None
    ]
    if not kept and not settings.image_set.additional_images:
        named = "; ".join(found.notes) or "no Subscription of it has installed an operator"
        raise UsageError(f"nothing that the target profile has installed is in the catalogs: {named}", hint=_NOTHING_INSTALLED)
    return [one for one, _ in kept], [request for _, request in kept], (*found.notes, *empty)


def _names(catalogs: Sequence[OpenedCatalog], requests: Sequence[OperatorRequest]) -> list[str]:
    """Return the name of each catalog in the archive, in any order of the image set (ADR 0051). Raises UsageError."""
    identities = [
        Identity.of(
            one.name,
            one.source,
            pulled=one.digest is not None,
            repository=request.target_catalog,
            tag=request.target_tag,
        )
        for one, request in zip(catalogs, requests, strict=True)
    ]
    names = distinct(identities, [False] * len(identities))
    for name, count in Counter(names).items():
        if count > 1:
            # The image set has it in two spellings, such as `a` and `./a`; in one spelling it is refused before.
            spelled = " and ".join(sorted(one.catalog for one, each in zip(requests, names, strict=True) if each == name))
            raise UsageError(f"{spelled[:_LONGEST]}: one catalog is there twice", hint="Put all its packages under one entry.")
    return names


def _shared_packages(chosen: Sequence[Chosen]) -> Iterator[str]:
    """Yield a note for packages that several catalogs carry."""
    for names, packages in packages_of_several([(item.name, item.selection.catalog.packages) for item in chosen]):
        listed = enumeration(packages, _SHOWN)
        # operator-lifecycle-manager#3161: a get of such a PackageManifest returns one of them at random.
        yield (
            f"the catalogs {', '.join(names)} have the same {'packages' if len(packages) > 1 else 'package'} {listed}: "
            "a cluster lists each of them once for each catalog; only spec.source of a Subscription says which one it follows"
        )


def _selected(catalogs: Sequence[OpenedCatalog], requests: Sequence[OperatorRequest]) -> list[Selection]:
    """Return the selection from each catalog. Raises UsageError with the faults of all requests, then CatalogError."""
    selections: list[Selection] = []
    faults: list[UsageError] = []
    broken: list[CatalogError] = []
    for catalog, request in zip(catalogs, requests, strict=True):
        try:
            selections.append(select(catalog.catalog, request))
        except UsageError as error:
            faults.append(error if len(requests) == 1 else _with_catalog(error, request))
        except CatalogError as error:
            broken.append(error)
    # What the user can correct comes first, all of it at once; a broken catalog can only be reported to its publisher.
    if faults:
        raise faults[0] if len(requests) == 1 else one_error("the image set", faults)
    if broken:
        raise broken[0]
    return selections


def _with_catalog(error: UsageError, request: OperatorRequest) -> UsageError:
    """Return the error with the catalog's name in each fault."""
    where = f"catalog {request.catalog}"
    faults = [
        fault if fault.message.startswith(f"{where} ") else UsageError(f"{where}: {fault.message}", hint=fault.hint)
        for fault in each_fault([error])
    ]
    return one_error(where, faults, cut=isinstance(error, FaultsError) and error.cut)


def inlined(item: Chosen, objects: Callable[[Bundle], tuple[Any, ...]]) -> Chosen:
    """Return the same with the manifests in the catalog that OLM of the target release reads there."""
    return replace(item, selection=filled(item.selection, objects, every=item.inline_all))


def bare(item: Chosen) -> Chosen:
    """Return the same with the names of images alone, without the bytes of the catalog."""
    opened = replace(item.opened, catalog=Catalog({}), database=None)
    return replace(item, opened=opened, selection=replace(item.selection, catalog=without_bytes(item.selection.catalog)))


def choice(item: Chosen) -> Choice:
    """Return what a plan keeps. Raises CatalogError for a default channel with a broken graph."""
    packages = item.selection.catalog.packages
    shown = {name: presentation_of(package, _default_head(package)) for name, package in packages.items()}
    return Choice(item.name, item.request, item.reasons, shown)


def _default_head(package: Package) -> str:
    channel = package.channels.get(package.default_channel)
    return UpdateGraph.of(channel.entries, f"{package.name}/{channel.name}").head if channel else ""


def rebuilt(item: Chosen, settings: ExportSettings, context: ExportContext) -> CarriedCatalog:
    """Return the catalog's image: the original where nothing was selected from it, else rebuilt."""
    # An unchanged image is carried as it is, with any base option. Otherwise the base option goes first: the image of the
    # catalog may have no opm, or one that is too old for the format.
    base = item.opened.base
    if settings.catalog_base is not None and not (item.selection.unmodified and base):
        opener = CatalogOpener(context.client, context.store)
        base = opener.base(settings.catalog_base, item.platforms)
    if base is None:
        raise UsageError(
            f"{item.opened.source}: a directory has no image that could serve it",
            hint="Name the image to build on with --catalog-base, for example the operator-registry image of your release.",
        )
    return carry(item.opened, item.request, item.selection, base, settings.catalog_format)


def from_package_manifests(
    found: PackageManifests, reference: Reference, platforms: Sequence[Platform], context: ExportContext
) -> CarriedCatalog:
    """Return the image of a catalog of package manifests: a layer with its database on the image at `reference`.

    Packages that OLM would refuse are left out, with a problem each. Raises CatalogError, RegistryError, and UsageError for an
    image without the platforms.
    """
    made = of_package_manifests(found, "", "catalog")
    assert made.database is not None
    catalog = _served(made.catalog)
    same = catalog.packages == made.catalog.packages
    database = made.database if same else filtered(made.database, catalog, "the database of the package manifests")
    base = CatalogOpener(context.client, context.store).base(reference, platforms)
    tree, held = rebuild(database_layer(database, made.location.path), base, made.location)
    image = ResolvedImage(WantedImage(reference, ImageKind.CATALOG), tree)
    return CarriedCatalog(image, held, catalog, made.location.format)


def _served(catalog: Catalog) -> Catalog:
    """Return a whole catalog without what OLM would refuse, which is among its problems. Raises CatalogError."""
    # By name: a request for everything would leave each package as it is (ADR 0053).
    every = tuple(PackageRequest(name) for name in catalog.packages)
    selection = select(catalog, OperatorRequest("made of the package manifests", packages=every, full=True))
    return replace(selection.catalog, problems=tuple(dict.fromkeys((*catalog.problems, *selection.problems))))
