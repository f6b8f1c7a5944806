"""What nodes need besides the objects of the API (docs/reference/cluster.md, *Preflight* and *Nodes*). Reads only.

Images for their platform; mirror rules that the machine config operator accepts; and, where no object has mirror rules, files
for their container runtime.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from common.archive.inventory import ATTACHED, ImageKind, packages_of
from common.errors import ClusterError
from common.text import counted, enumeration, shortened
from importer.cluster.api.client import UnavailableError
from importer.cluster.finding import Finding, Severity
from importer.cluster.kinds import NODE, short, status_of
from importer.cluster.resources.mirror_rules import Precedence, refused_sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from common.archive.inventory import ImageRecord
    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.release import Release
    from importer.cluster.resources.mirror_rules import Listed, Pair


_NAMED = 10  # packages that a line lists
_SHOWN = 10  # platforms that a finding lists
_LONGEST = 40


UNSEEN_RULES = "node-mirrors-unseen"
RULES_MISSING = "mirror-rules-missing"
REFUSED_RULES = "mirror-rules-conflict"


def configures_nodes(release: Release | None) -> bool:
    """Return whether objects of the API configure the nodes: on OpenShift, and not on MicroShift or another Kubernetes."""
    return release is not None and not release.microshift


def unseen_rules(release: Release | None) -> Finding:
    """Return the warning that nodes need files which the API does not show."""
    options = "--kubernetes" if release is None else f"--openshift-release {release} --microshift"
    return Finding(
        UNSEEN_RULES,
        "nodes",
        "nodes can pull operators only with the mirror configuration that hub-import render writes; the API does not show it",
        (),
        f"hub-import render {options} … --output DIR, then copy DIR/nodes/etc to /etc of every node.",
        severity=Severity.WARNING,
    )


def not_led(release: Release, pairs: Iterable[Pair], rules: Sequence[Listed]) -> Iterator[Finding]:
    """Yield a warning for sources that the rules of the cluster do not lead to their place on the mirror.

    `pairs`: source and mirror of each repository or namespace that the import does not write rules for.
    """
    precedence = Precedence(rules)
    rendered = f"Patch the HostedCluster: hub-import render --openshift-release {release} --hosted writes the patch."
    by = rendered if release.hosted else "Apply without --catalogs-only, which writes them."
    if missing := [f"{source} → {mirror}" for source, mirror in pairs if not precedence.leads(source, mirror)]:
        yield Finding(
            RULES_MISSING,
            "nodes",
            f"no mirror rule of the cluster leads {counted(len(missing), 'source')} of the archive to the mirror, and nodes "
            "cannot pull these images from it",
            tuple(shortened(missing, _NAMED)),
            f"{by} Nothing, if a MachineConfig has these rules.",
            severity=Severity.WARNING,
        )


def refused_rules(rules: Iterable[Listed], severity: Severity) -> Iterator[Finding]:
    """Yield a finding for each source whose rules keep the machine config operator from writing any configuration."""
    for source, found in refused_sources(rules).items():
        shown = (f"{each.kind} {each.name}: {each.rule.policy or 'AllowContactingSource'}" for each in found)
        yield Finding(
            REFUSED_RULES,
            f"mirror source {source}",
            "its mirror rules contradict each other, and the machine config operator writes no mirror rules to nodes meanwhile",
            tuple(shortened(list(dict.fromkeys(shown)), _NAMED)),
            "Give all of them one mirrorSourcePolicy (an ImageContentSourcePolicy has AllowContactingSource); with "
            "NeverContactSource the source must not be one of its own mirrors.",
            severity=severity,
        )


def lacking(client: ClusterClient, images: Sequence[ImageRecord]) -> Iterator[Finding]:
    """Yield a warning for nodes that cannot run images of the archive: their platform is not in the images' indexes.

    Raises UnavailableError; without permission to list nodes, a warning where the archive left platforms out.
    """
    try:
        nodes = client.list(NODE) or []
    except UnavailableError:
        raise
    except ClusterError as error:
        if left_out := sorted({each for image in images for each in image.missing_platforms or ()}):
            yield _unseen(left_out, error)
        return
    counts = Counter(platform for node in nodes if (platform := _of_node(node)))
    found = [line for platform, count in sorted(counts.items())[:_SHOWN] if (line := _line(platform, count, images))]
    if found:
        yield Finding(
            "platform-not-carried",
            "nodes",
            "the archive has no images for the platform of some nodes; pods fail there with `no image found in manifest list`",
            tuple(found),
            "Export with --platform for each of these (or without the option); operators that are not published for a "
            "platform need a node selector.",
            severity=Severity.WARNING,
        )


def _unseen(left_out: Sequence[str], error: ClusterError) -> Finding:
    return Finding(
        "nodes-unseen",
        "nodes",
        f"the archive lacks {enumeration(left_out, _NAMED)}, and nodes may not be listed: whether one has it is not known",
        (short(error.message),),
        "hub-import render --rbac has the permission: list nodes.",
        severity=Severity.WARNING,
    )


def _of_node(node: Body) -> str:
    """Return `linux/amd64`; empty for a node that does not say it, or that runs Windows."""
    info = status_of(node).get("nodeInfo") or {}
    # Operators and catalogs are scheduled on Linux alone: OLM sets the node selector kubernetes.io/os of catalog pods.
    return f"linux/{info['architecture']}"[:_LONGEST] if _runs_linux(info) and info.get("architecture") else ""


def _runs_linux(info: Body) -> bool:
    return (info.get("operatingSystem") or "linux") == "linux"


def _line(platform: str, count: int, images: Iterable[ImageRecord]) -> str:
    """Return a line about the nodes of a platform: what they cannot run, by cause; empty when that is nothing."""
    left_out: set[str] = set()
    unpublished: set[str] = set()
    for image in images:
        # An image without an index has no platform in the inventory, and may run anywhere, such as most bundles.
        if image.kind not in ATTACHED and image.platforms and not _has(image.platforms, platform):
            cause = left_out if _has(image.missing_platforms or (), platform) else unpublished
            cause.update(_users(image))
    causes = (("left out of the export", left_out), ("not published for it", unpublished - left_out))
    parts = [f"{text}: {enumeration(sorted(names), _NAMED)}" for text, names in causes if names]
    return f"{platform} ({counted(count, 'node')}): {'; '.join(parts)}" if parts else ""


def _has(platforms: Iterable[str], platform: str) -> bool:
    # A node says no variant; an index may say `linux/arm64/v8`, and runtimes take that on arm64.
    return any("/".join(each.split("/")[:2]) == platform for each in platforms)


def _users(image: ImageRecord) -> set[str]:
    """Return the packages that need an image; the image itself where none does."""
    if packages := packages_of(image.needed_by):
        return packages
    return {f"the catalog {image.source}" if image.kind is ImageKind.CATALOG else image.source}
