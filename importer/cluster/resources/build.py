"""The Kubernetes objects for an archive, by release (docs/reference/cluster.md, *apply* and *render*). Pure.

Shared singletons (OperatorHub, Image `cluster`) have only the fields to set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from common.archive.inventory import CatalogRecord, ImageKind, Inventory, Problem, ProblemCode
from common.errors import ExitCode, UsageError, of_problems
from common.openshift.supported_releases import unsupported
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    CONFIG_MAP,
    CONFIG_NAMESPACE,
    IDMS,
    IMAGE_CONFIG,
    IMAGE_REGISTRY,
    OPERATOR_HUB,
    OWN_LABELS,
    Kind,
    Resource,
)
from importer.cluster.resources.catalog_source import (
    DEFAULT_NAMES,
    FILE_BASED,
    catalog_source,
    cluster_catalog,
    namespace_for,
    serving,
    source_name,
)
from importer.cluster.resources.mirror_rules import FIELD, MirrorRule, Pair, RuledImage, Scope, rules_for
from importer.cluster.resources.names import Named, name_catalogs
from importer.cluster.resources.openshift_release import (
    RULES,
    UpdatePlace,
    carries_updates,
    has_graph,
    notes,
    refused,
    signatures,
    update_service,
)
from importer.mapping import MappedImage, Mirror, map_catalog

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from importer.cluster.release import Release
    from importer.cluster.resources.node_configuration import NodeSize


# The mirror's CA for the nodes: a ConfigMap, and the Image `cluster` that names it (openshift/api, config/v1, Image).

# Used where images.config names no ConfigMap yet; otherwise the key is added to the one in use (`trust.py`).
NAME = "hub-registry-ca"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_LARGEST = 900_000  # bytes; Kubernetes limits an object to 1 MiB, and others may have CAs in the same ConfigMap
# The only key that the OpenShift Update Service looks at (openshift/cincinnati-operator, controllers/names.go).
UPDATE_CA_KEY = "updateservice-registry"
# Kubernetes, api/core/v1, ConfigMap.Data.
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def trust(host: str, pem: str, *, serves_updates: bool = False) -> tuple[Resource, ...]:
    """Return the objects that let nodes trust the registry `host` (with its port). `pem`: one certificate or several.

    `serves_updates`: the OpenShift Update Service reads releases from that registry.

    Raises UsageError for a text without certificates, or a host that no key can name.
    """
    config_map = {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.name,
        "metadata": {"name": NAME, "namespace": CONFIG_NAMESPACE, "labels": OWN_LABELS},
        "data": dict.fromkeys([_key(host), *([UPDATE_CA_KEY] if serves_updates else [])], certificates_of(pem)),
    }
    image = {
        "apiVersion": IMAGE_CONFIG.api_version,
        "kind": IMAGE_CONFIG.name,
        "metadata": {"name": "cluster"},
        "spec": {"additionalTrustedCA": {"name": NAME}},
    }
    return Resource.of(config_map), Resource.of(image, shared=True)


def _key(host: str) -> str:
    """Return the key of a host: OpenShift reads `..` as a colon, which a key of a ConfigMap cannot have."""
    key = host.replace(":", "..")
    if not _KEY.fullmatch(key):
        raise UsageError(
            f"--ca: nodes cannot be given a CA for {host}: OpenShift has no key for such an address",
            hint="Give the registry a host name and use that in --registry.",
        )
    return key


def certificates_of(pem: str, origin: str = "--ca") -> str:
    """Return the certificates of a PEM text. Raises UsageError where there is none, or too many."""
    # Only certificates: a private key in the same file must not leave the machine.
    found = _CERTIFICATE.findall(pem)
    if not found:
        raise UsageError(
            f"{origin}: the file has no certificate",
            hint="Expected: PEM, which starts with -----BEGIN CERTIFICATE-----.",
        )
    certificates = "".join(f"{certificate}\n" for certificate in found)
    if len(certificates) > _LARGEST:
        raise UsageError(
            f"{origin}: {len(found)} certificates of {len(certificates)} bytes, more than the {_LARGEST} that a cluster keeps",
            hint="Give the one that signs the mirror's certificate.",
        )
    return certificates


ADDITIONAL = "additional"  # the owner of images that no catalog needs


@dataclass(frozen=True, slots=True)
class ResourceOptions:
    """The options of a person. `catalog_names`: catalog → name of its CatalogSource; `registry_ca`: PEM.

    `serve_catalog`: catalogs run in own Deployments, found by address; `by_address`: those that do already.
    `image_registry_emptydir`: where the image registry has to be Managed (4.2 to 4.4), it may get emptyDir as its storage.
    `hosted`: for the guest of a hosted control plane; `catalogs_only`: rules, trust and default sources are in place already.
    """

    catalog_names: Mapping[str, str] = field(default_factory=dict)
    mirror_scope: Scope = Scope.REPOSITORY
    registry_ca: str | None = None
    serve_catalog: bool = False
    by_address: frozenset[str] = frozenset()
    image_registry_emptydir: bool = False
    hosted: bool = False
    catalogs_only: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """The objects, and a problem for each one that cannot be made.

    `registries`: the hosts for the list of allowed registries, where the cluster has one. `rules`: the mirror rules that the
    nodes need in the end. `served`: the catalogs that got a CatalogSource, with its name. `node_rules`: mirror rules that nodes
    need and that none of the objects has: files on the nodes have them, or with `catalogs_only` other objects. `notes`: the
    steps that are left to the administrator. `installs`: the objects that install operators. `node_size`: that of files, where
    objects configure the nodes.
    """

    resources: tuple[Resource, ...]
    problems: tuple[Problem, ...] = ()
    registries: tuple[str, ...] = ()
    rules: tuple[Pair, ...] = ()
    served: tuple[Named, ...] = ()
    node_rules: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = ()
    installs: tuple[Resource, ...] = ()
    node_size: NodeSize | None = None

    @property
    def exit_code(self) -> ExitCode:
        """3 when a catalog could not be given to the cluster."""
        return of_problems(self.problems)


def catalog_names(texts: Iterable[str]) -> dict[str, str]:
    """Read `--catalog-name`: `CATALOG=NAME`, or a name alone for the only catalog (under the key ""). Raises UsageError."""
    names: dict[str, str] = {}
    for text in texts:
        catalog, equals, name = text.rpartition("=")
        if not name or source_name(name) != name:
            raise UsageError(
                f"--catalog-name {text[:80]!r}: {name[:80]!r} is not a name for a CatalogSource",
                hint="Wanted: lower-case letters, digits and -, for example redhat-operators.",
            )
        names[catalog if equals else ""] = name
    return names


def scope(text: str) -> Scope:
    """Read `--mirror-scope`. Raises UsageError."""
    try:
        return Scope(text)
    except ValueError:
        raise UsageError(f"--mirror-scope {text[:40]!r}: unknown", hint=f"Wanted: {', '.join(Scope)}.") from None


def build(
    inventory: Inventory,
    images: Sequence[MappedImage],
    mirror: Mirror,
    release: Release | None,
    options: ResourceOptions,
    *,
    existing_icsp: bool = False,
    existing_rules: Collection[MirrorRule] = (),
    named: Sequence[Named] | None = None,
    updates: UpdatePlace | None = UpdatePlace(),  # noqa: B008 - frozen
) -> Built:
    """Return the objects for a release; for None, a Kubernetes with OLM, only the CatalogSources.

    `existing_rules`: the mirror rules of the cluster, where they are known; `named`: the catalogs with the names that they
    have there (None: those of a cluster without earlier imports); `updates`: the place of the UpdateService, None where the
    cluster cannot have one.
    """
    named = name_catalogs(inventory, release, options.catalog_names) if named is None else named
    servable = tuple(each for each in named if can_serve(release, each.catalog))
    unservable = [_unservable(each.catalog, release) for each in named if not can_serve(release, each.catalog)]
    served = [made for each in servable for made in _served(each, map_catalog(each.catalog, images), release, options)]
    # An archive of releases or images alone takes the place of no default source, and operators may depend on these.
    hub = (_operator_hub(),) if named else ()
    ruled = rules_for(images, _scope(mirror, options), existing_rules)
    # Other clusters have no objects for mirror rules: their container runtimes are configured on the nodes.
    if release is None or release.microshift or options.catalogs_only:
        made = Built(tuple(served), tuple(unservable), served=servable, node_rules=_pairs(ruled))
        return replace(made, notes=notes(inventory, images, release) or (_left_out(images) if options.catalogs_only else ()))
    if options.hosted:
        made = _hosted([*hub, *served], servable, [*unservable, *_unmirrorable(ruled, release, _HOSTED)], ruled)
        return replace(made, notes=notes(inventory, images, replace(release, hosted=True)))
    kinds = _RuleKinds(release.digest_rules(existing_icsp=existing_icsp), release.tag_rules(existing_icsp=existing_icsp))
    trusted = _trusted(mirror.host, release, options, serves_updates=has_graph(images))
    # By the bare name, so that the objects of rules are the same whatever else is in the archive.
    rules = _mirror_rules({each.catalog.name: each.identity.bare for each in named}, ruled, kinds)
    problems = (*_unmirrorable(ruled, release, kinds), *unservable, *refused(inventory))
    off = _default_cluster_catalogs(release, {each.name for each in served}) if named else ()
    # The sources too: a policy of allowed registries is checked against the name in the pod, before mirrors apply.
    registries = sorted({mirror.host, *(each.rule.source.partition("/")[0] for each in ruled)})
    pairs = _pairs(each for each in ruled if kinds.of(each.rule) is not None)
    updating = (*signatures(inventory), *update_service(images, mirror, updates))
    return Built((*trusted, *hub, *rules, *updating, *off, *served), problems, tuple(registries), pairs, servable)


def _scope(mirror: Mirror, options: ResourceOptions) -> Scope:
    # A mirror that joins paths into one repository has no scope above it that the paths of two images share.
    # Foreign rules may have any scope, so that with `catalogs_only` each repository is looked for.
    return Scope.REPOSITORY if mirror.joins_paths or options.catalogs_only else options.mirror_scope


def _left_out(images: Sequence[MappedImage]) -> tuple[str, ...]:
    note = "releases: --catalogs-only writes no rules, signatures and update service for them"
    return (note,) if carries_updates(images) else ()


def _hosted(
    made: Sequence[Resource], servable: tuple[Named, ...], problems: Sequence[Problem], ruled: Sequence[RuledImage]
) -> Built:
    """Return the objects for the guest of a hosted control plane; its rules are those of the HostedCluster."""
    if taken := sorted(reserved_names(made)):
        raise UsageError(f"{taken[0]} cannot be a CatalogSource of a hosted cluster: {DELETED_IN_GUESTS}", hint=OTHER_NAME)
    # OLM v1 is not in every guest, and `oc apply` refuses a file of a kind that is not served.
    guest = tuple(each for each in made if each.kind != CLUSTER_CATALOG.name)
    rules = _pairs(each for each in ruled if _HOSTED.of(each.rule) is not None)
    return Built(guest, tuple(problems), served=servable, node_rules=rules)


DELETED_IN_GUESTS = "the operator of hosted clusters deletes every one with the name of a default that is disabled"
OTHER_NAME = "Give it another name with --catalog-name; apply --repoint lets the Subscriptions follow."


def reserved_names(resources: Iterable[Resource]) -> set[str]:
    """Return the names of CatalogSources that are deleted, or overwritten, in a hosted cluster."""
    # openshift/hypershift, hostedclusterconfigoperator, resources.go, reconcileOLM: by name, whoever made it.
    return {each.name for each in resources if each.kind == CATALOG_SOURCE.name and each.name in DEFAULT_NAMES}


def _pairs(ruled: Iterable[RuledImage]) -> tuple[Pair, ...]:
    return tuple(sorted({(each.rule.source, each.rule.mirror) for each in ruled}))


def can_serve(release: Release | None, catalog: CatalogRecord) -> bool:
    """Return whether OLM of a release reads the format of a catalog."""
    if release is not None and not release.classic:
        return catalog.format == FILE_BASED
    return release is None or release.serves_file_based or catalog.format != FILE_BASED


def unsupported_operators(inventory: Inventory, release: Release | None) -> Iterator[Problem]:
    """Yield what the preflight of an import finds: operators that are not meant for the release."""
    if release is None:
        return
    for catalog in inventory.catalogs:
        for name, message in unsupported(catalog.packages, (release.major, release.minor)):
            yield Problem("warning", ProblemCode.RELEASE_UNSUPPORTED, name, message)


def _unservable(catalog: CatalogRecord, release: Release | None) -> Problem:
    if release is not None and not release.classic:
        message = "OLM v1 serves file-based catalogs alone, and the cluster has no OLM (Classic)"
        return Problem("error", ProblemCode.CATALOG_UNSERVABLE, catalog.name, message)
    message = (
        f"OpenShift {release} cannot serve a file-based catalog, so there is no CatalogSource for it; "
        f"it needs an SQLite catalog: export the catalog image of {release} instead"
    )
    return Problem("error", ProblemCode.CATALOG_UNSERVABLE, catalog.name, message)


def _served(named: Named, image: MappedImage, release: Release | None, options: ResourceOptions) -> Iterator[Resource]:
    """Yield the objects that serve a catalog."""
    catalog, name = named.catalog, named.name
    # No field of a CatalogSource raises the limit of OLM 4.3, so its catalogs run by address without being asked for.
    limited = release is not None and release.limits_catalog_memory
    by_address = options.serve_catalog or limited or name in options.by_address
    if release is None or release.classic:
        if by_address:
            yield from serving(name, namespace_for(release), str(image.pinned), release)
        yield catalog_source(catalog, image, name, release, served=by_address, title=named.title)
    # OLM v1 (catalogd) reads only file-based catalogs.
    if release is not None and release.has_cluster_catalog and catalog.format == FILE_BASED:
        yield cluster_catalog(image, name)


def _operator_hub() -> Resource:
    return Resource.of(
        {
            "apiVersion": OPERATOR_HUB.api_version,
            "kind": OPERATOR_HUB.name,
            "metadata": {"name": "cluster"},
            "spec": {"disableAllDefaultSources": True},
        },
        shared=True,
    )


def _default_cluster_catalogs(release: Release, ours: Collection[str]) -> Iterator[Resource]:
    """Yield the default ClusterCatalogs, switched off; the operator that creates them does not reset the field."""
    for name, index in release.default_cluster_catalogs.items():
        if name not in ours:
            body = {"apiVersion": CLUSTER_CATALOG.api_version, "kind": CLUSTER_CATALOG.name, "metadata": {"name": name}}
            source = {"type": "Image", "image": {"ref": index}}
            yield Resource.of({**body, "spec": {"availabilityMode": "Unavailable", "source": source}}, shared=True)


def _trusted(host: str, release: Release, options: ResourceOptions, *, serves_updates: bool) -> Iterator[Resource]:
    """Yield the objects by which nodes trust the mirror; up to 4.4 the image registry has to be Managed for it."""
    if options.registry_ca is None:
        return
    yield from trust(host, options.registry_ca, serves_updates=serves_updates)
    if not release.trusts_without_registry:
        storage: dict[str, Any] = {"storage": {"emptyDir": {}}} if options.image_registry_emptydir else {}
        yield Resource.of(
            {
                "apiVersion": IMAGE_REGISTRY.api_version,
                "kind": IMAGE_REGISTRY.name,
                "metadata": {"name": "cluster"},
                # One replica: emptyDir is not shared between pods.
                "spec": {"managementState": "Managed", "replicas": 1, **storage},
            },
            shared=True,
        )


_OF_RELEASES = frozenset((ImageKind.RELEASE, ImageKind.COMPONENT))


@dataclass(frozen=True, slots=True)
class _RuleKinds:
    """The kinds of mirror rules. `by_tag` None: no kind redirects pulls by tag."""

    by_digest: Kind
    by_tag: Kind | None

    def of(self, rule: MirrorRule) -> Kind | None:
        return self.by_digest if rule.by_digest else self.by_tag


# HyperShift makes ImageDigestMirrorSets of imageContentSources, and has no field for pulls by tag.
_HOSTED = _RuleKinds(IDMS, None)


def _mirror_rules(catalogs: Mapping[str, str], ruled: Sequence[RuledImage], kinds: _RuleKinds) -> Iterator[Resource]:
    """Yield one object of rules for each catalog and kind; a rule that two catalogs need is in that of the first.

    `catalogs`: the bare name by the name in the inventory; catalogs of one bare name share an object.
    """
    seen: set[MirrorRule] = set()
    for bare in (*dict.fromkeys(catalogs.values()), RULES, ADDITIONAL):
        owners = {name for name, each in catalogs.items() if each == bare} | ({bare} & {RULES, ADDITIONAL})
        owned = {each.rule for each in ruled if owners & _owners(each.image, catalogs)} - seen
        seen |= owned
        for kind in (kinds.by_digest, kinds.by_tag):
            rules = sorted(rule for rule in owned if kind is not None and kinds.of(rule) is kind)
            if kind is not None and rules:
                yield _rule_object(kind, f"hub-{source_name(bare)}", rules)


def _rule_object(kind: Kind, name: str, rules: Iterable[MirrorRule]) -> Resource:
    listed = [{"source": rule.source, "mirrors": [rule.mirror]} for rule in rules]
    metadata = {"name": name, "labels": OWN_LABELS}
    spec = {FIELD[kind.name]: listed}
    return Resource.of({"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": spec})


def _owners(image: MappedImage, catalogs: Collection[str]) -> set[str]:
    """Return the catalogs of the archive that need an image; for images without one, RULES or ADDITIONAL."""
    other = RULES if image.record.kind in _OF_RELEASES else ADDITIONAL
    return {needed.partition("/")[0] for needed in image.record.needed_by}.intersection(catalogs) or {other}


def _unmirrorable(ruled: Iterable[RuledImage], release: Release, kinds: _RuleKinds) -> Iterator[Problem]:
    """Yield a problem for every image that is pulled by tag where no rule redirects tags."""
    for image in (each.image for each in ruled if kinds.of(each.rule) is None):
        needed = f"; needed by {', '.join(image.record.needed_by[:3])}" if image.record.needed_by else ""
        message = f"is pulled by tag, and no mirror rule of OpenShift {release} redirects tags{needed}"
        yield Problem("warning", ProblemCode.TAG_UNMIRRORABLE, image.name, message)
