"""The export, step by step. Start reading here.

    image set ─► catalogs ─► selections ─► catalog images ─► related images ─► plan ─► archive

Everything before the plan reads only small things; `create` then fills the positions that the plan fixed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.archive.inventory import CatalogRecord, ImageKind, Inventory, Problem, ProblemCode
from common.content import DirectoryStore
from common.errors import UsageError
from common.oci.graph import Tree
from common.progress import Progress, Silent
from common.reference import Reference
from common.registry.client import RegistryClient
from exporter import fetch, records
from exporter.catalog.opening import CatalogBase, CatalogOpener, OpenedCatalog, RebuiltCatalog, rebuild, unique_names
from exporter.catalog.related_images import images_of
from exporter.catalog.selection import Selection, select
from exporter.images import ResolvedImage, WantedImage, merged, resolve
from exporter.imageset import ImageSet, OperatorRequest
from exporter.plan import ExportPlan, make_plan
from exporter.settings import ExportSettings


@dataclass(frozen=True, slots=True)
class Chosen:
    """A catalog, what was asked of it, and what that keeps."""

    name: str
    request: OperatorRequest
    opened: OpenedCatalog
    selection: Selection
