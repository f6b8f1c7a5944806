"""Images that a mirror did not take, as problems: what one setting of the mirror would repair is one problem."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, TypeGuard

from common.errors import AuthenticationError, NotFoundError, RegistryError
from common.registry.http.errors import NAME_INVALID
from importer.push.tagging import explained

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from common.errors import HubError, NotWritableError
    from common.oci.reference import Reference
    from importer.mapping import MappedImage
    from importer.push.result import Tally
    from importer.push.tagging import Tagger


_NOT_FOUND = 404
_CREATED = 200  # repositories that a problem names for a person who creates them


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
    for image, error in failed:
        if isinstance(error, AuthenticationError) or _repository_is_missing(error):
            denied.setdefault(image.repository, error)
        elif tagger.type_error(image) is None:
            tally.fail_image(image, explained(image, error))
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
