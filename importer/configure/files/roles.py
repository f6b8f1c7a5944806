"""The roles that an import needs, as files (docs/reference/cluster.md, *render*). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.serialization import dump_yaml
from importer.cluster.kinds import CATALOG_SOURCE
from importer.cluster.resources.catalog_source import DEFAULT_NAMES
from importer.cluster.resources.permissions import (
    FIX_NAME,
    INSTALL_NAME,
    PRUNE_NAME,
    PULL_NAME,
    fixing,
    for_installation,
    helpful,
    needed,
    pulling,
    reading_images,
    repointing,
    roles,
    updating,
)
from importer.configure.files.update_files import for_updates
from importer.probe import READS
from importer.pulls.objects import namespace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from importer.cluster.kinds import Resource
    from importer.cluster.release import Release
    from importer.cluster.resources.build import ResourceOptions


RBAC, RBAC_FIX, RBAC_INSTALL = "rbac.yaml", "rbac-doctor-fix.yaml", "rbac-install.yaml"
RBAC_PRUNE = "rbac-prune.yaml"
RBAC_PULL = "rbac-pull-test.yaml"


def render_rbac(
    release: Release | None,
    resources: Sequence[Resource],
    options: ResourceOptions,
    *,
    repoint: bool = False,
    installs: Sequence[Resource] = (),
) -> dict[str, bytes]:
    """Return files: what the importer needs for these objects, what `doctor --fix` and the pull test need, what `prune` reads.

    Without the file of the pull test, which has its namespace too, the importer tests no pulls.

    `repoint`: with those of `--repoint`. `installs`: the objects that install operators, whose permissions are a further file.
    """
    names = _names_of_defaults(release, resources, options)
    further = [*(repointing() if repoint else ()), *(updating() if for_updates(resources) else ())]
    # Not in the kustomization: the account that applies those files usually may not grant permissions.
    files = {
        RBAC: roles([*needed(release, resources, names), *helpful(release), *READS, *further]),
        RBAC_FIX: roles(fixing(release), FIX_NAME),
        RBAC_PRUNE: roles(reading_images(), PRUNE_NAME),
        # The namespace exists, so that its Role can; then the importer needs no right to create or delete namespaces.
        RBAC_PULL: [namespace(temporary=False), *roles(pulling(prepared=True), PULL_NAME)],
    }
    if installs:
        files[RBAC_INSTALL] = roles([*for_installation(release, installs), *helpful(release)], INSTALL_NAME)
    return {name: "---\n".join(map(dump_yaml, listed)).encode() for name, listed in files.items()}


def _names_of_defaults(release: Release | None, resources: Sequence[Resource], options: ResourceOptions) -> frozenset[str]:
    """Return the names that catalogs may take by themselves on a cluster, which depends on its Subscriptions."""
    # --catalog-name decides otherwise, and in the guest of a hosted control plane such a CatalogSource is deleted.
    given = set(options.catalog_names.values())
    free = any(each.kind == CATALOG_SOURCE.name and each.name not in given for each in resources)
    return DEFAULT_NAMES if release is not None and not release.hosted and free else frozenset()
