"""Names of blobs for progress: the operator that needs an image, and the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from common.oci.image import Digest
    from common.oci.reference import Reference


class BlobNames:
    """Names a blob as `cert-manager: cert-manager-operator-bundle`: the package that needs its image, and the image.

    An image that several packages need, or none, is named by the last two components of its repository.

    `places`: the repositories of each blob; `users`: repositories with what needs their images (`catalog/package/bundle`).
    """

    def __init__(
        self, places: Callable[[Digest], Sequence[Reference]], users: Iterable[tuple[Reference, Iterable[str]]]
    ) -> None:
        self._places = places
        found: dict[tuple[str, str], set[str]] = {}
        for place, needed_by in users:
            # All versions of one operator have the images of one repository.
            packages = {parts[1] for name in needed_by if len(parts := name.split("/", 2)) > 1}
            found.setdefault((place.registry, place.repository), set()).update(packages)
        self._packages = {place: next(iter(packages)) for place, packages in found.items() if len(packages) == 1}

    def name(self, digest: Digest) -> str:
        """Return the name of a blob; empty where no repository of it is known."""
        place = next(iter(self._places(digest)), None)
        if place is None:
            return ""
        package = self._packages.get((place.registry, place.repository))
        return f"{package}: {place.image.rpartition('/')[2]}" if package else place.image
