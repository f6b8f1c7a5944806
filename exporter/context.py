"""What every step of an export works with: registries, the store of the catalogs' layers, progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.content import DirectoryStore
    from common.progress import Progress
    from common.registry.client import RegistryClient


@dataclass(frozen=True, slots=True)
class ExportContext:
    """The registry client, the local store of layers that were already read, and the progress display of one export."""

    client: RegistryClient
    store: DirectoryStore
    progress: Progress
