"""Content that is not at hand, because it lies in an absent volume or an earlier archive: what of it the mirror has already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from common.archive.inventory import BlobRecord
from common.archive.reader import Archive
from common.content import Chunks
from common.digest import Digest
from common.errors import RegistryError, RegistryUnreachableError
from common.log import logger
from common.oci.descriptor import Descriptor
from common.reference import Reference
from common.registry.client import RegistryClient
from common.registry.source_sink import Places, RegistrySource

_LOG = logger(__name__)


@dataclass(frozen=True, slots=True)
class Earlier:
    """Blobs that are not at hand: `whole` are in every repository that needs them, `partly` in others, `absent` in none."""

    whole: frozenset[Digest]
    partly: Mapping[Digest, tuple[Reference, ...]]
    absent: frozenset[Digest]


def look(
    blobs: Sequence[Digest],
    wanted: Places,
    known: Places,
    *,
    records: Mapping[Digest, BlobRecord],
    client: RegistryClient,
    pool: ThreadPoolExecutor,
) -> Earlier:
    """Ask the mirror for blobs that are not at hand; a repository that does not say counts as one that has not got them.

    `wanted`: the repositories that need each blob; `known`: all that may have it, these among them; `records`: how large it is.
    One that is there with another size is damaged: it counts as absent, and nothing is mounted from there.
    Raises RegistryUnreachableError when nobody is there.
    """

    def has(place: Reference, digest: Digest) -> bool:
        try:
            return client.has_blob(place, digest, records[digest].size)
        except RegistryUnreachableError:
            raise
        except RegistryError as error:
            _LOG.info("%s: %s", place, error.message)
            return False

    def held(digest: Digest) -> tuple[Reference, ...]:
        return tuple(place for place in known[digest] if has(place, digest))

    found = dict(zip(blobs, pool.map(held, blobs), strict=True))
    whole = frozenset(digest for digest, here in found.items() if set(here) >= set(wanted[digest]))
    absent = frozenset(digest for digest, here in found.items() if not here)
    partly = {digest: here for digest, here in found.items() if digest not in whole and here}
    return Earlier(whole, partly, absent)


class ArchiveAndMirror:
    """Reads a blob from the archive, or from where the mirror has it already. A BlobSource."""

    def __init__(self, archive: Archive, client: RegistryClient, partly: Places) -> None:
        self._archive = archive
        self._mirror = RegistrySource(client, partly)
        self._partly = partly

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """See `BlobSource.read`."""
        return self._mirror.read(blob, start) if blob.digest in self._partly else self._archive.read(blob, start)
