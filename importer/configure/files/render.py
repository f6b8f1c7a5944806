"""Resources as files, for GitOps or `oc apply -f`: sorted, stable between runs (docs/reference/cluster.md, *render*). Pure."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from common.errors import UsageError
from common.serialization import dump_yaml
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    CLUSTER_EXTENSION,
    CLUSTER_ROLE_BINDING,
    CONFIG_MAP,
    DEPLOYMENT,
    ICSP,
    IDMS,
    IMAGE_CONFIG,
    IMAGE_REGISTRY,
    ITMS,
    NAMESPACE,
    NETWORK_POLICY,
    OPERATOR_GROUP,
    OPERATOR_HUB,
    ROLE,
    ROLE_BINDING,
    SERVICE,
    SERVICE_ACCOUNT,
    SUBSCRIPTION,
    UPDATE_SERVICE,
    Resource,
)
from importer.cluster.nodes import configures_nodes
from importer.cluster.resources.build import (
    UPDATE_CA_KEY,
    Built,
    ResourceOptions,
    build,
    certificates_of,
    unsupported_operators,
)
from importer.cluster.resources.openshift_release import is_signatures
from importer.configure.files.additions import with_additions
from importer.configure.files.earlier import KUSTOMIZATION, NONE, Earlier, Shape
from importer.configure.files.hosted import hosted_files, too_many
from importer.configure.files.node_files import Access, node_files, unredirected
from importer.configure.files.rule_files import by_scope, near, node_size, rule_objects
from importer.configure.files.subscriptions import NO_SUBSCRIPTIONS, Subscriptions, with_subscriptions
from importer.configure.files.update_files import require_uri, update_files, with_earlier_signatures
from importer.mapping import MappedImage, Mirror, map_images, mapping_lines, pushed_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from common.archive.inventory import Inventory
    from importer.cluster.release import Release
    from importer.configure.files.hosted import HostedCluster


MAPPING = "mapping.txt"
_FILES = {
    OPERATOR_HUB.name: "operatorhub.yaml",
    ICSP.name: "imagecontentsourcepolicy.yaml",
    IDMS.name: "imagedigestmirrorset.yaml",
    ITMS.name: "imagetagmirrorset.yaml",
    CONFIG_MAP.name: "registry-ca.yaml",
    IMAGE_CONFIG.name: "registry-ca.yaml",
    IMAGE_REGISTRY.name: "image-registry.yaml",
}
_BY_NAME = {
    CATALOG_SOURCE.name: "catalogsource",
    CLUSTER_CATALOG.name: "clustercatalog",
    DEPLOYMENT.name: "catalog",
    NETWORK_POLICY.name: "catalog",
    SERVICE.name: "catalog",
}
_INSTALLS = {
    NAMESPACE.name: "namespace",
    OPERATOR_GROUP.name: "operatorgroup",
    SUBSCRIPTION.name: "subscription",
    CLUSTER_EXTENSION.name: "clusterextension",
    SERVICE_ACCOUNT.name: "serviceaccount",
    CLUSTER_ROLE_BINDING.name: "clusterrolebinding",
    ROLE.name: "role",
    ROLE_BINDING.name: "rolebinding",
}


def render_archive(
    inventory: Inventory,
    mirror: Mirror,
    release: Release | None,
    options: ResourceOptions,
    earlier: Earlier = NONE,
    *,
    insecure: bool = False,
    hosted: HostedCluster | None = None,
    updates_from: str = "",
    subscriptions: Subscriptions = NO_SUBSCRIPTIONS,
) -> tuple[dict[str, bytes], Built]:
    """Return the files for a cluster of `release`, and the resources in them. Raises UsageError.

    What `earlier` has, and this archive does not need, is kept. `insecure`: of the mirror, for files of nodes.
    `hosted`: the HostedCluster of a guest, where it is known; `updates_from`: the address that an UpdateService reports;
    `subscriptions`: operators to install.
    """
    _require_shape(earlier, release, options)
    images = map_images(inventory, mirror)
    icsp = any(body["kind"] == ICSP.name for body in earlier.rules)
    make = partial(build, inventory, images, mirror, release, existing_icsp=icsp, existing_rules=earlier.existing)
    built = make(options)
    if updates_from:
        require_uri(updates_from, images, release, options)
    built = with_subscriptions(built, release, subscriptions, earlier, inventory.installs)
    files = render((*built.resources, *built.installs), pushed_images(inventory, images), earlier) | update_files(
        built.resources, updates_from
    )
    problems = [*built.problems, *unsupported_operators(inventory, release)]
    rules = (*built.node_rules, *earlier.node_rules)
    if options.hosted:
        off = bool(earlier.defaults) or any(each.kind == OPERATOR_HUB.name for each in built.resources)
        files |= hosted_files(rules, _united(earlier.bundle, options.registry_ca), hosted, defaults_off=off)
        problems += too_many(rules, hosted, by_scope(make, options, earlier))
    elif release is None or not configures_nodes(release):
        files |= node_files(rules, _access(mirror.host, options.registry_ca, earlier, insecure), containerd=release is None)
        problems += unredirected(rules) if release is None else ()
    else:
        built = replace(built, node_size=node_size(built.resources, make, options, earlier, release))
        problems += near(built.node_size)
    return files, replace(built, problems=tuple(problems))


def _require_shape(earlier: Earlier, release: Release | None, options: ResourceOptions) -> None:
    """Raise UsageError for an earlier render for another kind of cluster, whose rules would be lost, or of no effect."""
    own = Shape.HOSTED if options.hosted else Shape.OBJECTS if configures_nodes(release) else Shape.NODES
    if earlier.shape not in (None, own):
        raise UsageError(
            f"--merge: the earlier render has mirror rules for {earlier.shape}, and this one is for {own}",
            hint="Give the options of the earlier render, or another directory.",
        )


def _united(earlier: str, ca: str | None) -> str | None:
    """Return the certificates of an earlier bundle and of --ca; None without any. Raises UsageError."""
    fresh = certificates_of(ca) if ca is not None else ""
    return certificates_of(earlier if fresh in earlier else earlier + fresh) if earlier or fresh else None


def _access(host: str, ca: str | None, earlier: Earlier, insecure: bool) -> dict[str, Access]:
    """Return how nodes reach each mirror: that of this render by its options, those of earlier ones as before."""
    before = earlier.access.get(host, Access())
    found = Access(certificates_of(ca) if ca is not None else before.ca, insecure)
    return dict(sorted({**earlier.access, host: found}.items()))


def render(resources: Iterable[Resource], images: Sequence[MappedImage], earlier: Earlier = NONE) -> dict[str, bytes]:
    """Return file name → content: the mapping, a file for each kind or catalog, and the kustomization that lists them."""
    documents: dict[str, list[str]] = {}
    given = list(resources)
    kept = earlier.files if _has_catalogs(given) else {**earlier.files, **earlier.defaults}
    for resource in _ordered(given, earlier):
        documents.setdefault(_file(resource), []).append(dump_yaml(resource.body))
    texts = {name: "---\n".join(texts) for name, texts in documents.items()}
    texts |= {name: raw.decode() for name, raw in kept.items() if name not in texts}
    files = dict(sorted(texts.items()))
    kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(files)}
    # `mapping.txt` is for `oc image mirror -f` and no manifest: the kustomization, made before, does not list it.
    files |= {KUSTOMIZATION: dump_yaml(kustomization), MAPPING: mapping_file(images)}
    return {name: text.encode() for name, text in sorted(files.items())}


def mapping_file(images: Sequence[MappedImage]) -> str:
    """Return every source with its place on the mirror, as `oc image mirror -f` reads it."""
    return "".join(f"{line}\n" for line in mapping_lines(images))


def _has_catalogs(resources: Iterable[Resource]) -> bool:
    return any(each.kind in (OPERATOR_HUB.name, CATALOG_SOURCE.name) for each in resources)


def _ordered(resources: Sequence[Resource], earlier: Earlier) -> list[Resource]:
    """Return the objects, with the rules of one name together, in parts below the size limit, and all earlier rules."""
    # `apply` merges with the rules of the cluster; `render` reads no cluster, and merges with those of an earlier render.
    rules = rule_objects(resources, earlier)
    apart = {ICSP.name, IDMS.name, ITMS.name, UPDATE_SERVICE.name}
    others = [_with_earlier(each, earlier) for each in resources if each.kind not in apart]
    complete = (with_additions(each, earlier.objects.get((each.kind, each.name))) for each in (*rules, *others))
    return sorted(complete, key=lambda resource: (resource.kind, resource.name))


def _with_earlier(resource: Resource, earlier: Earlier) -> Resource:
    """Return a ConfigMap with what the earlier render has in it: CAs, whose mirrors are still in its rules, or signatures."""
    if resource.kind != CONFIG_MAP.name:
        return resource
    if is_signatures(resource):
        return with_earlier_signatures(resource, earlier.objects)
    data = {**earlier.authorities, **resource.body["data"]}
    # One key for all mirrors: releases of the earlier one may still be asked for.
    if UPDATE_CA_KEY in resource.body["data"]:
        data[UPDATE_CA_KEY] = _united(earlier.authorities.get(UPDATE_CA_KEY, ""), resource.body["data"][UPDATE_CA_KEY])
    return Resource.of({**resource.body, "data": dict(sorted(data.items()))})


def _file(resource: Resource) -> str:
    # The default ClusterCatalogs belong to the cluster; one file of their own, so that GitOps can leave them out.
    if resource.shared and resource.kind == CLUSTER_CATALOG.name:
        return "clustercatalogs-default.yaml"
    if is_signatures(resource):
        return f"release-signature-{resource.name}.yaml"
    if resource.kind in _INSTALLS:
        return f"{_INSTALLS[resource.kind]}-{_owner(resource)}.yaml"
    prefix = _BY_NAME.get(resource.kind)
    return f"{prefix}-{resource.name}.yaml" if prefix else _FILES[resource.kind]


def _owner(resource: Resource) -> str:
    """Return what tells the file of an object of an installation from others of its kind."""
    if resource.kind == SUBSCRIPTION.name:
        return f"{resource.namespace}-{resource.name}"
    return resource.name if resource.kind != OPERATOR_GROUP.name else resource.namespace
