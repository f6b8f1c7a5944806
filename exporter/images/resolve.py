"""Resolve the images of an export: tags to digests, indexes to manifests. Fetches manifests, no layers.

An image that cannot be resolved does not stop the others: it becomes a problem that names image, bundle and package.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

from common.archive.inventory import ImageKind, Problem, ProblemCode
from common.errors import AuthenticationError, ContentError, HubError, NotFoundError, RegistryError, UsageError
from common.interruption import done_for_each
from common.oci.image import ATTESTATION, Descriptor, Document, Index, Platform, Tree, choose, platforms_of, walk
from common.progress import step
from common.text import counted, enumeration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from common.oci.reference import Reference
    from common.progress import Progress
    from common.registry.client import RegistryClient


# Subclasses before their base: the first match counts.
_CODES: tuple[tuple[type[HubError], ProblemCode], ...] = (
    (NotFoundError, ProblemCode.IMAGE_NOT_FOUND),
    (AuthenticationError, ProblemCode.IMAGE_UNAUTHORIZED),
    (RegistryError, ProblemCode.IMAGE_UNREACHABLE),
    (ContentError, ProblemCode.IMAGE_UNSUPPORTED),
)
_MOST_OTHERS = 16  # platforms that are looked at where one is missing; images have up to ten
_NAMED = 3  # bundles that a problem names: a base image can be needed by hundreds


@dataclass(frozen=True, slots=True)
class WantedImage:
    """A top-level image of an export. `needed_by` has the form of the inventory, `catalog/package/bundle`.

    `named` and `tag`: the name that the user gave a catalog, which can be built on an image of another name.
    """

    reference: Reference
    kind: ImageKind
    needed_by: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()
    target_repository: str | None = None
    target_tag: str | None = None
    named: str = ""
    tag: str | None = None

    @property
    def source(self) -> str:
        """The reference in the inventory: by digest where there is one, else by tag."""
        if self.named:
            return self.named
        pinned = self.reference.digest
        return str(self.reference.pinned(pinned) if pinned else self.reference)


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """A wanted image with all its documents, or with the problem for which they are missing."""

    wanted: WantedImage
    tree: Tree | None = None
    problem: Problem | None = None

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms carried, as the image's indexes name them; empty for an image without an index."""
        return tuple(sorted(set(map(str, self._carried))))

    @property
    def _carried(self) -> set[Platform]:
        if self.tree is None:
            return set()
        # An index that is carried lists also the manifests that were left out (sparse index).
        return set(platforms_of(self.tree.documents)) - {child.platform for child in self.tree.left_out}

    @property
    def missing_platforms(self) -> tuple[str, ...]:
        """Platforms of the image that are not carried: its index is sparse on the mirror."""
        left_out = self.tree.left_out if self.tree else ()
        return tuple(sorted({str(child.platform) for child in left_out} - set(self.platforms)))

    @property
    def absent_platforms(self) -> tuple[str, ...]:
        """Requested platforms that the image's index does not have."""
        if self.tree is None or not isinstance(self.tree.root, Index):
            return ()
        return tuple(str(p) for p in self.wanted.platforms if not any(map(p.accepts, self._carried)))


class BlockedImages:
    """The images that a pattern of `blockedImages` matches."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [re.compile(pattern) for pattern in patterns]

    def __contains__(self, image: WantedImage) -> bool:
        # In the source of the inventory and in the reference itself, which may have a tag as well.
        return any(pattern.search(name) for pattern in self._patterns for name in (image.source, str(image.reference)))


def merged(wanted: Iterable[WantedImage]) -> list[WantedImage]:
    """Return each source once, with the bundles and platforms of all its occurrences, sorted by source.

    Raises UsageError for a source with two targets.
    """
    found: dict[str, WantedImage] = {}
    for image in wanted:
        known = found.get(image.source)
        found[image.source] = _united(known, image) if known else image
    return [found[source] for source in sorted(found)]


def _united(one: WantedImage, other: WantedImage) -> WantedImage:
    targets = [(each.target_repository, each.target_tag) for each in (one, other)]
    given = {target for target in targets if target != (None, None)}
    if len(given) > 1:
        raise UsageError(f"{one.source} is to go to two places: {targets[0]} and {targets[1]}", hint="List it once.")
    repository, tag = given.pop() if given else (None, None)
    every = not one.platforms or not other.platforms  # no platforms means all of them
    return replace(
        one,
        needed_by=tuple(sorted({*one.needed_by, *other.needed_by})),
        platforms=() if every else tuple(sorted({*one.platforms, *other.platforms})),
        target_repository=repository,
        target_tag=tag,
    )


def resolve(wanted: Sequence[WantedImage], client: RegistryClient, *, jobs: int, progress: Progress) -> list[ResolvedImage]:
    """Fetch the manifests of every image, `jobs` at a time; the result is in the order of `wanted`."""
    if not wanted:
        return []

    def one(image: WantedImage) -> ResolvedImage:
        resolved = _resolve(image, client)
        if resolved.tree is None:
            progress.failed(1)
        else:
            progress.advance(1)
        return resolved

    # Hundreds of small requests: their time is latency, which threads share.
    order = _spread(wanted, jobs)
    with step(progress, f"looking up {counted(len(wanted), 'image')}", len(wanted), "images"):
        found = dict(zip(order, done_for_each(lambda position: one(wanted[position]), order, jobs, "resolve"), strict=True))
    return [found[position] for position in range(len(wanted))]


def _spread(wanted: Sequence[WantedImage], jobs: int) -> list[int]:
    """Return the positions in an order in which neighbours are of different repositories, `jobs` of them in turns.

    A token is for one repository: in the order of the names, all threads would wait for that of the next one. Not in turns over
    all repositories, because a token may live for a minute.
    """
    within: dict[tuple[str, str], list[int]] = {}
    for position, image in enumerate(wanted):
        within.setdefault((image.reference.registry, image.reference.repository), []).append(position)
    groups = list(within.values())
    turns = (turn for start in range(0, len(groups), jobs) for turn in zip_longest(*groups[start : start + jobs]))
    return [position for turn in turns for position in turn if position is not None]


def _platform_options(platforms: Sequence[Platform]) -> str:
    return " ".join(f"--platform {platform}" for platform in platforms)


def platform_entries(platforms: Sequence[Platform]) -> str:
    """Return how an image set asks for platforms of a multi-architecture release, which no option does."""
    variants = [f", variant: {each.variant}" if each.variant else "" for each in platforms]
    named = zip(platforms, variants, strict=True)
    entries = ", ".join(f"{{os: {each.os}, architecture: {each.architecture}{variant}}}" for each, variant in named)
    return f"platforms: [{entries}] under mirror.platform"


def fetch_tree(
    reference: Reference,
    client: RegistryClient,
    platforms: Sequence[Platform],
    advise: Callable[[Sequence[Platform]], str] = _platform_options,
) -> Tree:
    """Return the documents of an image for these platforms (none: all). Raises RegistryError, ContentError.

    `advise`: how to ask for other platforms, where the manifest of one cannot be fetched.
    """

    # By digest from here on: a tag that moves meanwhile cannot mix two images.
    def fetch(child: Descriptor) -> Document:
        return client.document(reference.pinned(child.digest))

    def fetch_child(child: Descriptor) -> Document:
        try:
            return fetch(child)
        except (NotFoundError, AuthenticationError, ContentError) as error:
            others = _usable_platforms(root, child, platforms, fetch)
            raise _without_child(reference, child, advise(others) if others else "", error) from error

    root = client.document(reference)
    return walk(root, fetch_child, platforms)


def _usable_platforms(
    root: Document, missing: Descriptor, platforms: Sequence[Platform], fetch: Callable[[Descriptor], Document]
) -> list[Platform]:
    """Return the other requested platforms of an index whose manifests can be fetched; the first _MOST_OTHERS are tried."""
    others: dict[Platform, Descriptor] = {}
    for child in choose(root.manifests, platforms)[0] if isinstance(root, Index) else ():
        if child.platform not in (None, missing.platform, ATTESTATION):
            others.setdefault(child.platform, child)
    usable = []
    for platform, child in islice(others.items(), _MOST_OTHERS):
        with suppress(RegistryError, ContentError):
            fetch(child)
            usable.append(platform)
    return usable


def _without_child(reference: Reference, child: Descriptor, others: str, error: HubError) -> HubError:
    """Return the error for an image of which one manifest cannot be fetched, of the kind of `error`."""
    which = f"the manifest for {child.platform}" if child.platform else "a manifest of its index"
    message = f"{reference}: {which} cannot be fetched: {error.message}"
    # The index could be read: where its manifest is not there, no other name or account brings it.
    hint = (not isinstance(error, NotFoundError) and error.hint) or "Ask the publisher for it."
    if others:
        hint += f" {others} carries the others."
    if isinstance(error, RegistryError):
        return type(error)(message, hint=hint, status=error.status, code=error.code)
    return ContentError(message, hint=hint)


def _resolve(image: WantedImage, client: RegistryClient) -> ResolvedImage:
    try:
        advise = platform_entries if image.kind is ImageKind.COMPONENT else _platform_options
        resolved = ResolvedImage(image, fetch_tree(image.reference, client, image.platforms, advise))
    except UsageError:
        raise  # a wrong setting, such as an unreadable CA file, concerns every image
    except HubError as error:
        return ResolvedImage(image, problem=problem_of(image, error))
    if (problem := _not_an_image(resolved)) is not None:
        return replace(resolved, problem=problem)
    # An image with only some of the requested platforms is carried with these: operators rarely have all of them.
    if resolved.absent_platforms and not resolved.platforms:
        message = f"has none of the platforms {', '.join(resolved.absent_platforms)}{needed(image)}"
        return replace(resolved, problem=Problem("error", ProblemCode.PLATFORM_MISSING, image.source, message))
    return resolved


def _not_an_image(image: ResolvedImage) -> Problem | None:
    """Return the problem of a bundle that is no image, and of an index that lists none."""
    # Other artifacts are carried as they are: Helm charts and signatures have manifests without a runnable image, too.
    tree, wanted = image.tree, image.wanted
    assert tree is not None
    if not tree.is_hollow and (wanted.kind is not ImageKind.BUNDLE or tree.images or tree.left_out):
        return None
    message = f"no image that runs: {tree.kinds}{needed(wanted)}"
    return Problem("error", ProblemCode.IMAGE_UNSUPPORTED, wanted.source, message)


def problem_of(image: WantedImage, error: HubError) -> Problem:
    """Return an error as the problem of an image."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), ProblemCode.IMAGE_UNREACHABLE)
    return Problem("error", code, image.source, error.about(image.source, needed(image)))


def needed(image: WantedImage) -> str:
    """Return `; needed by …` for messages, or nothing."""
    return f"; needed by {enumeration(image.needed_by, _NAMED)}" if image.needed_by else ""
