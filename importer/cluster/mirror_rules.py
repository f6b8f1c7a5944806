"""Which source is found at which mirror, as rules for the nodes. Pure. What of them is in force already: `mirror_merge.py`.

Repository scope names every repository; namespace and registry scope name what is above it, where the mirror's path ends like
the source's, so that fewer rules, and fewer changes of the nodes, do for more images (docs/facts/openshift.md §5.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from importer.mapping import MappedImage


class Scope(StrEnum):
    """How much of a reference a rule names."""

    REPOSITORY = "repository"
    NAMESPACE = "namespace"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True, order=True)
class MirrorRule:
    """`source` and `mirror`: a registry, a namespace or a repository."""

    source: str
    mirror: str


def rules_of(images: Iterable[MappedImage], scope: Scope) -> tuple[MirrorRule, ...]:
    """Return the rules that lead every image to its mirror, each once, sorted."""
    return tuple(sorted({_rule(image, scope) for image in images if image.source is not None}))


def _rule(image: MappedImage, scope: Scope) -> MirrorRule:
    assert image.source is not None
    source, mirror = image.source.name, image.repository.name
    host, _, path = source.partition("/")
    if scope is Scope.REPOSITORY or not mirror.endswith(f"/{path}"):
        return MirrorRule(source, mirror)
    if scope is Scope.REGISTRY:
        return MirrorRule(host, mirror.removesuffix(f"/{path}"))
    last = path.rpartition("/")[2]
    return MirrorRule(source.removesuffix(f"/{last}"), mirror.removesuffix(f"/{last}"))
