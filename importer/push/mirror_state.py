"""The state of the mirror before a push: which blobs it has that the available volumes do not hold."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import RegistryError, RegistryUnreachableError
from common.interruption import in_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from common.archive.inventory import BlobRecord
    from common.oci.image import Digest
    from common.oci.reference import Reference
    from common.registry.client import RegistryClient
    from common.registry.source_sink import Places


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MirrorState:
    """Blobs that no available volume holds: `whole` are in all repositories that need them, `absent` in none."""

    whole: frozenset[Digest]
    partly: Mapping[Digest, tuple[Reference, ...]]
    absent: frozenset[Digest]


def query_mirror(
    blobs: Sequence[Digest],
    needed: Places,
    known: Places,
    *,
    records: Mapping[Digest, BlobRecord],
    client: RegistryClient,
    pool: ThreadPoolExecutor,
) -> MirrorState:
    """Ask the mirror for blobs that no available volume holds.

    `needed`: the repositories that need each blob; `known`: all that may have it, these among them; `records`: their sizes.
    Raises RegistryUnreachableError.
    """

    def has(repository: Reference, digest: Digest) -> bool:
        try:
            # With the size: after a power cut docker-registry may keep a short file and answer 200 for it
            # (distribution/distribution#2788). Such a blob counts as absent, and nothing is mounted from there.
            return client.has_blob(repository, digest, records[digest].size)
        except RegistryUnreachableError:
            raise
        except RegistryError as error:
            # A repository that gives no answer counts as one without the blob: an upload too many costs less than a
            # manifest that is refused.
            _LOG.info("%s: %s", repository, error.message)
            return False

    def holders(digest: Digest) -> tuple[Reference, ...]:
        return tuple(repository for repository in known[digest] if has(repository, digest))

    found = dict(in_order(pool, holders, blobs))
    whole = frozenset(digest for digest, here in found.items() if set(here) >= set(needed[digest]))
    absent = frozenset(digest for digest, here in found.items() if not here)
    partly = {digest: here for digest, here in found.items() if digest not in whole and here}
    return MirrorState(whole, partly, absent)
