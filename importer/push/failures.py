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
_SAME = 3  # blobs of a repository with one server error: as many as get all tries (common/registry/upload/failing.py)
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
    shared: dict[tuple[str, int, str], list[tuple[Digest, RegistryError, list[MappedImage]]]] = {}
    for digest, place, error in failed:
        needing = [image for image in users[digest] if place in (None, image.repository)]
        at = place or _only_repository(needing)
        if at is not None and (_is_server_error(error) or (place is not None and is_shared(error))):
            subject = at.registry if error.status == _NO_SPACE else at.name
            shared.setdefault((subject, error.status, error.code), []).append((digest, error, needing))
        else:
            tally.fail_blob(digest, error, needing)
    for (subject, _, _), refusals in shared.items():
        _, first, _ = refusals[0]
        if is_shared(first) or len(refusals) >= _SAME:
            images = dict.fromkeys(image for _, _, needing in refusals for image in needing)
            tally.fail_blobs(subject, first, list(images), len(refusals))
        else:
            for digest, error, needing in refusals:
                tally.fail_blob(digest, error, needing)


def _is_server_error(error: HubError) -> TypeGuard[RegistryError]:
    """Say whether a host answered with trouble of its own, which may be about one blob, or about its repository."""
    return isinstance(error, RegistryError) and bool(error.status) and error.is_host_failure


def _only_repository(images: Sequence[MappedImage]) -> Reference | None:
    """Return the repository of images that are all in one."""
    places = {image.repository for image in images}
    return places.pop() if len(places) == 1 else None


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
