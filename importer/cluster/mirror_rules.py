"""Which source is found at which mirror, as rules for the nodes. Pure. What of them is in force already: `mirror_merge.py`.

Repository scope names every repository; namespace and registry scope name what is above it, where the mirror's path ends like
the source's, so that fewer rules, and fewer changes of the nodes, do for more images (docs/facts/openshift.md §5.3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.archive.inventory import ATTACHED, ImageKind
from importer.mapping import MappedImage

# The mirror itself names a catalog image, and runtimes look for signatures where they find the image: neither needs a rule.
_WITHOUT_RULES = frozenset((ImageKind.CATALOG, *ATTACHED))


class Scope(StrEnum):
    """How much of a reference a rule names."""

    REPOSITORY = "repository"
    NAMESPACE = "namespace"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True, order=True)
class MirrorRule:
    """`source` and `mirror`: a registry, a namespace or a repository. A rule acts on pulls by digest, or on pulls by tag."""

    source: str
    mirror: str
    by_digest: bool


@dataclass(frozen=True, slots=True)
class RuledImage:
    """An image that nodes pull under its source's name, and the rule that leads them to the mirror."""

    image: MappedImage
    rule: MirrorRule


def rules_for(images: Sequence[MappedImage], scope: Scope, there: Collection[MirrorRule] = ()) -> tuple[RuledImage, ...]:
    """Return the images that need a rule, each with one that leads to its mirror, in the order given.

    Nodes follow the most specific source alone, whether or not its mirrors serve pulls of that kind. An image that another
    rule, wanted or `there` on the cluster, would lead elsewhere gets a rule for its own repository in every scope.
    """
    ruled = [RuledImage(image, _rule(image, scope)) for image in images if _needs_rule(image)]
    while astray := _astray(ruled, there):
        for position in astray:
            image = ruled[position].image
            ruled[position] = RuledImage(image, _rule(image, Scope.REPOSITORY))
    return tuple(ruled)


def _needs_rule(image: MappedImage) -> bool:
    at_home = image.source is not None and image.source.name == image.repository.name
    return image.source is not None and not at_home and image.record.kind not in _WITHOUT_RULES


def _rule(image: MappedImage, scope: Scope) -> MirrorRule:
    assert image.source is not None
    source, mirror, by_digest = image.source.name, image.repository.name, image.source.digest is not None
    host, _, path = source.partition("/")
    if scope is Scope.REPOSITORY or not mirror.endswith(f"/{path}"):
        return MirrorRule(source, mirror, by_digest)
    if scope is Scope.REGISTRY:
        return MirrorRule(host, mirror.removesuffix(f"/{path}"), by_digest)
    last = path.rpartition("/")[2]
    return MirrorRule(source.removesuffix(f"/{last}"), mirror.removesuffix(f"/{last}"), by_digest)


def _astray(ruled: Sequence[RuledImage], there: Collection[MirrorRule]) -> list[int]:
    """Return the positions of images whose most specific rules lead elsewhere.

    A rule for an image's own repository leads it right, so that there are ever fewer.
    """
    by_source: dict[str, set[MirrorRule]] = {}
    for rule in (*(each.rule for each in ruled), *there):
        by_source.setdefault(rule.source, set()).add(rule)
    return [position for position, each in enumerate(ruled) if each.rule not in _most_specific(each.image, by_source)]


def _most_specific(image: MappedImage, by_source: Mapping[str, set[MirrorRule]]) -> set[MirrorRule]:
    assert image.source is not None
    return next((by_source[source] for source in _scopes(image.source.name) if source in by_source), set())


def _scopes(name: str) -> Iterator[str]:
    """Give a repository's name and what is above it, up to its registry."""
    yield name
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
