"""What makes an archive whole once its places are filled: the end of every volume, and the files beside them.

The order is that of docs/archive-format.md, *Writing*: volumes, inventory, further files, SHA256SUMS last, each durable before
the next begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from common.archive import checksums, inventory_file, media, metadata
from common.archive.inventory import Inventory
from common.archive.media import Place
from common.digest import Digest, digest_of, hex_of

Sign = Callable[[bytes], bytes]
Further = Callable[[Mapping[str, str]], Mapping[str, bytes]]


@dataclass(frozen=True)
class Closing:
    """The bytes that close an archive: its inventory, the signature over it, and the metadata of every volume."""

    inventory: Inventory
    manifests: Mapping[Digest, bytes]
    index_json: bytes
    sign: Sign | None = None

    @cached_property
    def content(self) -> bytes:
        """The inventory as it is written."""
        return inventory_file.encode(self.inventory)

    @cached_property
    def identity(self) -> Digest:
        """The archive's identity."""
        return digest_of(self.content)

    @cached_property
    def signature(self) -> bytes | None:
        """The signature over the inventory."""
        return self.sign(self.content) if self.sign else None

    @cached_property
    def region(self) -> metadata.Region:
        """The metadata region of every volume."""
        return metadata.build(self.index_json, self.manifests, self.content, self.signature)

    def complete(self, place: Place, volumes: Mapping[str, str], further: Further | None = None) -> tuple[str, ...]:
        """Write what stands beside the closed `volumes` (checksums by file name), SHA256SUMS last; return the names written.

        `further` gives name and content of more files (the report), for the checksums of all others.
        """
        signed = {metadata.SIGNATURE_NAME: self.signature} if self.signature is not None else {}
        files = {inventory_file.NAME: self.content, **signed}
        sums = {**volumes, **_written(place, files)}
        beside = further(sums) if further else {}
        listed = checksums.render(sums | _written(place, beside))
        last = {checksums.SIGNATURE_NAME: self.sign(listed)} if self.sign else {}
        _written(place, last | {checksums.NAME: listed})
        return (*files, *volumes, *beside, *last, checksums.NAME)


def _written(place: Place, files: Mapping[str, bytes]) -> dict[str, str]:
    """Write files; return their checksums by name."""
    for name, raw in files.items():
        media.write(place / name, raw)
    return {name: hex_of(digest_of(raw)) for name, raw in files.items()}
