"""Every Kubernetes object that an archive asks for, by release. Pure: `render.py` writes files, `apply.py` applies.

Sources: docs/cluster.md *apply*, docs/facts/openshift.md §5, §10. Shared singletons (OperatorHub, Image `cluster`) hold the
fields that we want in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from common.archive.inventory import CatalogRecord, Inventory, Problem, ProblemCode
from common.errors import ExitCode, UsageError
from importer.cluster.catalog_source import LABELS, catalog_source, cluster_catalog, source_name
from importer.cluster.kinds import CONFIG_MAP, CONFIG_NAMESPACE, IMAGE_CONFIG, OPERATOR_HUB, Kind
from importer.cluster.mirror_merge import FIELD
from importer.cluster.mirror_rules import MirrorRule, Scope, rules_of
from importer.cluster.release import Release
from importer.cluster.resource import Resource
from importer.mapping import MappedImage, Mirror, map_catalog

CA_NAME = "hub-registry-ca"
ADDITIONAL = "additional"  # the owner of images that no catalog needs


@dataclass(frozen=True, slots=True)
class ResourceOptions:
    """What a person may choose. `catalog_names`: catalog → name of its CatalogSource; `registry_ca`: PEM."""

    catalog_names: Mapping[str, str] = field(default_factory=dict)
    mirror_scope: Scope = Scope.REPOSITORY
    registry_ca: str | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """The objects, and what could not be made: each problem says what to do instead."""

    resources: tuple[Resource, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """3 when a catalog could not be given to the cluster."""
        return ExitCode.PROBLEMS if any(problem.severity == "error" for problem in self.problems) else ExitCode.DONE


def catalog_names(texts: Iterable[str]) -> dict[str, str]:
    """Read `--catalog-name`: `CATALOG=NAME`, or a name alone for the only catalog (under the key ""). Raises UsageError."""
    names: dict[str, str] = {}
    for text in texts:
        catalog, equals, name = text.rpartition("=")
        if not name or source_name(name) != name:
            raise UsageError(
                f"--catalog-name {text[:80]!r}: {name[:80]!r} is no name for a CatalogSource",
                hint="Wanted: lower-case letters, digits and -, for example redhat-operators.",
            )
        names[catalog if equals else ""] = name
    return names


def scope(text: str) -> Scope:
    """Read `--mirror-scope`. Raises UsageError."""
    try:
        return Scope(text)
    except ValueError:
        raise UsageError(f"--mirror-scope {text[:40]!r}", hint=f"Wanted: {', '.join(Scope)}.") from None


def build(
    inventory: Inventory,
    images: Sequence[MappedImage],
    mirror: Mirror,
    release: Release | None,
    options: ResourceOptions,
    *,
    existing_icsp: bool = False,
) -> Built:
    """Return the objects for a release; for None, a Kubernetes with OLM, the CatalogSources alone."""
    _check_names(inventory, options)
    problems: list[Problem] = []
    resources: list[Resource] = []
    if release is not None:
        resources += _trust(mirror, options)
        resources.append(_operator_hub())
        resources += _mirror_rules(inventory, images, release, options, existing_icsp=existing_icsp)
        problems += _unmirrorable(images, release, existing_icsp=existing_icsp)
    for catalog in inventory.catalogs:
        resources += _catalog(catalog, map_catalog(catalog, images), release, options, problems)
    return Built(tuple(resources), tuple(problems))


def name_of(catalog: CatalogRecord, options: ResourceOptions) -> str:
    """Return the name of a catalog's CatalogSource; the same in every import."""
    return options.catalog_names.get(catalog.name) or options.catalog_names.get("") or source_name(catalog.name)


def _check_names(inventory: Inventory, options: ResourceOptions) -> None:
    """Check that every name given is for a catalog that is there, and that no two catalogs get one name."""
    known = {catalog.name for catalog in inventory.catalogs}
    for catalog in options.catalog_names.keys() - known - {""}:
        raise UsageError(f"--catalog-name: the archive has no catalog {catalog!r}", hint=f"It has: {', '.join(sorted(known))}")
    named = [name_of(catalog, options) for catalog in inventory.catalogs]
    if len(set(named)) < len(named):
        raise UsageError(
            f"two catalogs would get the same CatalogSource: {', '.join(sorted(named))}",
            hint="Use --catalog-name CATALOG=NAME.",
        )


def _catalog(
    catalog: CatalogRecord, image: MappedImage, release: Release | None, options: ResourceOptions, problems: list[Problem]
) -> Iterator[Resource]:
    if release is not None and catalog.format == "file-based" and not release.serves_file_based:
        message = (
            f"OpenShift {release} cannot serve a file-based catalog, so there is no CatalogSource for it; "
            "it needs an SQLite catalog (hub-export create --catalog-format sqlite)"
        )
        problems.append(Problem("error", ProblemCode.CATALOG_UNSERVABLE, catalog.name, message))
        return
    name = name_of(catalog, options)
    yield catalog_source(catalog, image, name, release)
    if release is not None and release.has_cluster_catalog:
        yield cluster_catalog(image, name)


def _trust(mirror: Mirror, options: ResourceOptions) -> Iterator[Resource]:
    """Give the registry's CA, where the nodes look for it: `host..port`, for a colon is no part of a key."""
    if options.registry_ca is None:
        return
    yield Resource.of(
        {
            "apiVersion": CONFIG_MAP.api_version,
            "kind": CONFIG_MAP.name,
            "metadata": {"name": CA_NAME, "namespace": CONFIG_NAMESPACE, "labels": LABELS},
            "data": {mirror.host.replace(":", ".."): options.registry_ca},
        }
    )
    yield _singleton(IMAGE_CONFIG, {"additionalTrustedCA": {"name": CA_NAME}})


def _operator_hub() -> Resource:
    return _singleton(OPERATOR_HUB, {"disableAllDefaultSources": True})


def _singleton(kind: Kind, spec: Mapping[str, object]) -> Resource:
    metadata = {"name": "cluster"}
    return Resource.of({"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": dict(spec)})


def _mirror_rules(
    inventory: Inventory,
    images: Sequence[MappedImage],
    release: Release,
    options: ResourceOptions,
    *,
    existing_icsp: bool,
) -> Iterator[Resource]:
    """Give one object of rules for each catalog and kind; a rule that two catalogs need is the first one's."""
    seen: set[tuple[str, MirrorRule]] = set()
    kinds = {
        True: release.digest_rules(existing_icsp=existing_icsp),
        False: release.tag_rules(existing_icsp=existing_icsp),
    }
    for owner in (*(catalog.name for catalog in inventory.catalogs), ADDITIONAL):
        for by_digest, kind in kinds.items():
            if kind is None:
                continue
            chosen = [image for image in images if owner in _owners(image) and _pulled_by_digest(image) is by_digest]
            rules = [rule for rule in rules_of(chosen, options.mirror_scope) if (kind.name, rule) not in seen]
            seen.update((kind.name, rule) for rule in rules)
            if rules:
                yield _rule_object(kind, f"hub-{source_name(owner)}", rules)


def _rule_object(kind: Kind, name: str, rules: Iterable[MirrorRule]) -> Resource:
    listed = [{"source": rule.source, "mirrors": [rule.mirror]} for rule in rules]
    metadata = {"name": name, "labels": LABELS}
    spec = {FIELD[kind.name]: listed}
    return Resource.of({"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": spec})


def _owners(image: MappedImage) -> set[str]:
    """Return the catalogs that need an image. A catalog image is named by the mirror itself and needs no rule."""
    if image.record.kind == "catalog":
        return set()
    return {needed.partition("/")[0] for needed in image.record.needed_by} or {ADDITIONAL}


def _pulled_by_digest(image: MappedImage) -> bool:
    return image.source is not None and image.source.digest is not None


def _unmirrorable(images: Iterable[MappedImage], release: Release, *, existing_icsp: bool) -> Iterator[Problem]:
    """Give a problem for every image that is pulled by tag where no rule redirects tags."""
    if release.tag_rules(existing_icsp=existing_icsp) is not None:
        return
    for image in images:
        if _owners(image) and image.source is not None and not _pulled_by_digest(image):
            hurt = f"; needed by {', '.join(image.record.needed_by[:3])}" if image.record.needed_by else ""
            message = f"is pulled by tag, and no mirror rule of OpenShift {release} redirects tags{hurt}"
            yield Problem("warning", ProblemCode.TAG_UNMIRRORABLE, image.name, message)
