"""Blobs that are read for the plan: fetched once, kept next to the archive, which is filled from there later (ADR 0007)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from common.content import Chunks, DirectoryStore, verified
from common.errors import ContentError
from common.files import size_text
from common.oci.image import Descriptor

if TYPE_CHECKING:
    from common.oci.image import Digest, Manifest
    from common.oci.reference import Reference
    from common.registry.client import RegistryClient


Stored = Callable[[Descriptor], Chunks]  # returns the contents of a blob
MAX_CONFIG_SIZE = 8 * 1024**2  # held in memory; real configs have some KB


def config_of(manifest: Manifest, stored: Stored) -> bytes:
    """Return the config of an image. Raises ContentError for a larger one than MAX_CONFIG_SIZE; errors of `stored` pass."""
    config = manifest.config
    if config.size > MAX_CONFIG_SIZE:
        raise ContentError(f"a config of {size_text(config.size)}; the limit is {size_text(MAX_CONFIG_SIZE)}")
    return b"".join(bytes(chunk) for chunk in stored(config))


class StoredBlobs:
    """Blobs of registries through a store, shared by threads: each blob is fetched once."""

    def __init__(self, client: RegistryClient, store: DirectoryStore) -> None:
        self._client = client
        self._store = store
        self._lock = threading.Lock()
        self._locks: dict[Digest, threading.Lock] = {}

    def read(self, reference: Reference, blob: Descriptor) -> Chunks:
        """Return the contents of a blob from the store, where it is written first. Raises RegistryError, ContentError."""
        # A lock for each digest: two threads that fetch one layer wait for each other, all others run at the same time.
        with self._lock:
            lock = self._locks.setdefault(blob.digest, threading.Lock())
        with lock:
            self._store.write(blob, lambda _start: verified(self._client.blob(reference, blob), blob))
        return self._store.read(blob)
