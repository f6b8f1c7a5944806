"""What of a push is this process's, where several share it by volumes: no two ever write the same blob into a repository.

A blob is brought, into all of its repositories, by whoever has the volume that it begins in. An image is tagged by whoever
finds all of it there after its own blobs; of all that look after their last blob, the last one does. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from common.archive.inventory import Inventory
from common.digest import Digest
from importer.contents import Contents
from importer.mapping import MappedImage


@dataclass(frozen=True, slots=True)
class Shard:
    """The shard of one process: that of `volumes`, counted from 1; None: everything."""

    inventory: Inventory
    contents: Contents
    volumes: Collection[int] | None = None

    @property
    def whole(self) -> bool:
        """Whether nobody else works on the same archive."""
        return self.volumes is None

    def brings(self, digest: Digest) -> bool:
        """Say whether a blob is brought here. What lies in an earlier archive is the first volume's."""
        pieces = self.inventory.blobs[digest].pieces
        return self.volumes is None or (pieces[0].volume if pieces else 1) in self.volumes

    def takes(self, image: MappedImage) -> bool:
        """Say whether an image concerns this shard: one of its blobs is brought here. One without any is the first volume's."""
        needs = self.contents.needs(image)
        return self.volumes is None or any(map(self.brings, needs)) or (not needs and 1 in self.volumes)

    def tags(self, image: MappedImage) -> bool:
        """Say whether an image may be tagged here at all.

        What refers to another image may have to be entered into a list, which two processes could tear from each other's
        hands (distribution specification, *Referrers tag schema*): that is for a push of the whole archive, afterwards.
        """
        record = self.inventory.manifests[image.digest]
        return self.volumes is None or record.subject is None

    def of_others(self, images: Iterable[MappedImage]) -> list[Digest]:
        """Return the blobs of images that others bring."""
        needed = dict.fromkeys(digest for image in images for digest in self.contents.needs(image))
        return sorted(digest for digest in needed if not self.brings(digest))
