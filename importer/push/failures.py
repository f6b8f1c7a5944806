"""Images that a mirror did not take, as problems: what one setting of the mirror would repair is one problem."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, TypeGuard

from common.errors import AuthenticationError, NotFoundError, NotTakenError, RegistryError
from common.registry.http.errors import NAME_INVALID
from importer.push.tagging import explained

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from common.errors import HubError, NotWritableError
    from common.oci.image import Digest
    from common.oci.reference import Reference
    from importer.mapping import MappedImage
    from importer.push.result import Tally
    from importer.push.tagging import Tagger


_NOT_FOUND = 404
_QUOTA = 412  # Harbor's, for a project (goharbor/harbor, src/server/middleware/quota)
_NO_SPACE = 507
_CREATED = 200  # repositories that a problem names for a person who creates them


def is_shared(error: HubError) -> TypeGuard[RegistryError]:
    """Say whether the refusal of a blob is about its repository or host, so that others are refused for the same reason."""
    return isinstance(error, NotTakenError) or (isinstance(error, RegistryError) and error.status in (_QUOTA, _NO_SPACE))


def note_blobs(
    failed: Iterable[tuple[Digest, Reference | None, HubError]],
    users: Mapping[Digest, Sequence[MappedImage]],
    tally: Tally,
) -> None:
    """Note the blobs that were refused, by one repository or (None) as a whole; one reason for many is one problem."""
    shared: dict[tuple[str, int, str], tuple[RegistryError, list[MappedImage], set[Digest]]] = {}
    for digest, place, error in failed:
        needing = [image for image in users[digest] if place in (None, image.repository)]
        if place is None or not is_shared(error):
            tally.fail_blob(digest, error, needing)
            continue
        subject = place.registry if error.status == _NO_SPACE else place.name
        _, images, digests = shared.setdefault((subject, error.status, error.code), (error, [], set()))
        images += needing
        digests.add(digest)
    for (subject, _, _), (error, images, digests) in shared.items():
        tally.fail_blobs(subject, error, list(dict.fromkeys(images)), len(digests))


def note_images(
    todo: Sequence[MappedImage],
    failed: Iterable[tuple[MappedImage, HubError]],
    not_writable: Mapping[Reference, NotWritableError],
    tagger: Tagger,
    tally: Tally,
) -> None:
    """Note the images that were not tagged; once for each namespace those that this account may not write."""
    # One right is missing for a namespace, not one for each of its hundreds of repositories (ADR 0031).
    denied: dict[Reference, RegistryError] = {**not_writable}
    full: dict[MappedImage, RegistryError] = {}
    for image, error in failed:
        if isinstance(error, AuthenticationError) or _repository_is_missing(error):
            denied.setdefault(image.repository, error)
        elif isinstance(error, RegistryError) and error.status == _NO_SPACE:
            full[image] = error
        elif tagger.type_error(image) is None:
            tally.fail_image(image, explained(image, error))
    if full:  # a mirror is one host
        first = next(iter(full))
        tally.fail_images(first.repository.registry, full[first], list(full))
    for refused in tagger.refused.values():
        tally.fail_type(refused, [image for image in todo if tagger.type_error(image) is refused])
    missing = {place: error for place, error in denied.items() if error.status == _NOT_FOUND and error.code != NAME_INVALID}
    _note_missing(todo, missing, tally)
    for namespace, places in groupby(sorted(denied.keys() - missing.keys()), key=_namespace):
        repositories = list(places)
        # A repository of few components that is refused too shows that their number is not the reason.
        shortest = min(repositories, key=lambda place: place.repository.count("/"))
        tally.fail_namespace(namespace, repositories, denied[shortest], _images_of(todo, repositories))


def _note_missing(todo: Sequence[MappedImage], missing: Mapping[Reference, RegistryError], tally: Tally) -> None:
    """Note the repositories that have to be created first, as one problem: they are all known after one push."""
    repositories = sorted(missing)
    if repositories:
        subject = repositories[0].name if len(repositories) == 1 else repositories[0].registry
        images = _images_of(todo, repositories)
        tally.fail_namespace(subject, repositories, missing[repositories[0]], images, named=_CREATED)


def _images_of(todo: Sequence[MappedImage], repositories: Collection[Reference]) -> list[MappedImage]:
    return [image for image in todo if image.repository in repositories]


def _repository_is_missing(error: HubError) -> TypeGuard[RegistryError]:
    """Say whether a manifest was refused because its repository does not exist."""
    # Other codes of 404 are about the content of the manifest (distribution specification, *Error codes*).
    return isinstance(error, NotFoundError) and error.code in ("NAME_UNKNOWN", "NOT_FOUND", "RepositoryNotFoundException")


def _namespace(repository: Reference) -> str:
    """Return the organization (Quay), project (Harbor) or group (GitLab) in which an account may create repositories."""
    return f"{repository.registry}/{repository.repository.partition('/')[0]}"
