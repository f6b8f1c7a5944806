"""The registry client, the store of catalog layers and the progress display that the steps of an export share."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.content import DirectoryStore
from common.files import scratch_directory
from common.registry.client import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from common.progress import Progress
    from common.registry.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class ExportContext:
    """The registry client, the local store of layers that were already read, and the progress display of one export."""

    client: RegistryClient
    store: DirectoryStore
    progress: Progress


@contextmanager
def opened(
    registry: RegistrySettings, progress: Progress, store: Path | None = None, pushes_to: frozenset[str] = frozenset()
) -> Iterator[ExportContext]:
    """Open the registries, with `store` as the directory of catalog layers, or else a temporary one.

    `pushes_to`: the repositories for which push access is requested.
    """
    with ExitStack() as stack:
        # A token is requested for pull only unless a repository is listed: many accounts may not push to their sources.
        client = stack.enter_context(RegistryClient(registry, notify=progress.waiting, pushes_to=pushes_to))
        # Layers of catalogs are read for the plan and again for the archive. Without an archive nothing may stay behind.
        root = store or stack.enter_context(scratch_directory("hub-export-"))
        yield ExportContext(client, DirectoryStore(root, durable=store is not None), progress)
