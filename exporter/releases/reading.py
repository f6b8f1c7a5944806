"""One release of an export: its signature verified, then its payload read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.archive.inventory import RELEASE_GROUP, ComponentRecord, ImageKind, Problem, ProblemCode, ReleaseRecord
from common.errors import HubError, InterruptedByUserError, PayloadError, SpaceError, UsageError
from common.mapping import release_tag
from exporter.images.resolve import BlockedImages, ResolvedImage, WantedImage, fetch_tree, platform_entries
from exporter.images.stored import StoredBlobs
from exporter.releases import hosts, payload
from exporter.releases.signing.signatures import ReleaseSignatures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.archive.inventory import ReleaseSignatureRecord
    from common.oci.image import Digest, Platform
    from exporter.context import ExportContext
    from exporter.releases.payload import Payload
    from exporter.releases.selection import SelectedRelease
    from exporter.settings import ExportSettings


@dataclass(frozen=True, slots=True)
class ReadRelease:
    """A selected release with its payload and signatures."""

    selected: SelectedRelease
    image: ResolvedImage
    payload: Payload
    signatures: tuple[ReleaseSignatureRecord, ...]
    unverified: bool

    @property
    def digest(self) -> Digest:
        """The digest of the payload."""
        assert self.image.tree is not None
        return self.image.tree.root.digest

    @property
    def needed_by(self) -> tuple[str, ...]:
        """The entry of `neededBy` for the images of the release."""
        return (f"{RELEASE_GROUP}/{release_tag(self.payload.version, self.payload.architecture)}",)

    def components(self, platforms: tuple[Platform, ...]) -> Iterator[WantedImage]:
        """Yield the images that the payload lists, by the platforms of those that are indexes (none: all of them)."""
        for reference in dict.fromkeys(one.reference for one in self.payload.images):
            yield WantedImage(reference, ImageKind.COMPONENT, self.needed_by, platforms)

    @property
    def record(self) -> ReleaseRecord:
        """The release in the inventory."""
        listed = (
            ComponentRecord(one.name, WantedImage(one.reference, ImageKind.COMPONENT).source) for one in self.payload.images
        )
        return ReleaseRecord(
            self.payload.version,
            self.payload.architecture,
            self.image.wanted.source,
            self.digest,
            self.selected.okd,
            self.selected.channels,
            self.payload.errata,
            tuple(listed),
            self.signatures,
            self.unverified,
        )


class ReleaseReader:
    """Reader of releases, shared by threads."""

    def __init__(self, settings: ExportSettings, context: ExportContext) -> None:
        self._request = settings.image_set.platform
        self._blocked = BlockedImages(settings.image_set.blocked_images)
        self._settings = settings.releases
        self._client = context.client
        self._progress = context.progress
        self._blobs = StoredBlobs(context.client, context.store)
        self.problems: list[Problem] = []
        stores = settings.releases.signature_stores
        self._signatures = ReleaseSignatures(
            context.client,
            keys=settings.releases.keys,
            warn=self.problems.append,
            stores=stores or hosts.SIGNATURE_STORES,
            okd_stores=stores or hosts.OKD_SIGNATURE_STORES,
        )

    def read(self, selected: SelectedRelease) -> ReadRelease | HubError | None:
        """Return a release, or why it cannot be carried; None for one that `blockedImages` leaves out."""
        try:
            return self._read(selected)
        except (SpaceError, InterruptedByUserError, UsageError):
            raise  # no fault of this release: the next one would fail as well
        except HubError as error:
            return error
        finally:
            self._progress.advance(1)

    def _read(self, selected: SelectedRelease) -> ReadRelease | None:
        # A release by a tag is pinned here, so that the digest that is verified is the one that is pulled.
        digest = selected.payload.digest or self._client.document(selected.payload).digest
        reference = selected.payload.pinned(digest)
        wanted = WantedImage(reference, ImageKind.RELEASE, platforms=self._request.platforms)
        if wanted in self._blocked or WantedImage(selected.payload, ImageKind.RELEASE) in self._blocked:
            message = f"left out by blockedImages, and so are the components of release {named(selected)}"
            self.problems.append(Problem("warning", ProblemCode.IMAGE_BLOCKED, wanted.source, message))
            return None
        unverified = not self._settings.unverified.isdisjoint((*names_of(selected), digest))
        signatures = self._signatures.find(digest, named(selected), okd=selected.okd, unverified=unverified)
        tree = fetch_tree(reference, self._client, wanted.platforms, platform_entries)
        read = lambda blob: self._blobs.read(reference, blob)  # noqa: E731 - a reader of this image's blobs
        found = payload.read(tree, read, wanted.source, version=selected.version, kubevirt=self._request.kubevirt)
        if selected.architecture and found.architecture != selected.architecture:
            differs = f"the payload is for {found.architecture}, and the update service names it {selected.architecture}"
            hint = "Does the update service answer for another architecture? A release by its image needs none."
            raise PayloadError(f"{wanted.source}: {differs}", hint=hint)
        return ReadRelease(selected, ResolvedImage(wanted, tree), found, signatures, not any(one.key for one in signatures))


def named(selected: SelectedRelease) -> str:
    """Return the version of a release, else its reference, for messages."""
    return f"{selected.version}-{selected.architecture}" if selected.version else str(selected.payload)


def names_of(one: SelectedRelease | ReadRelease) -> tuple[str, ...]:
    """Return how --unverified-release may name a release: by its version, for one architecture, by its digest."""
    if isinstance(one, ReadRelease):
        version, architecture, digest = one.payload.version, one.payload.architecture, str(one.digest)
    else:
        version, architecture, digest = one.version, one.architecture, one.payload.digest or ""
    names = (version, f"{version}-{architecture}", release_tag(version, architecture)) if version else ()
    return (*names, digest) if digest else names
