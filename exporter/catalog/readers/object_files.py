"""Files that an `olm.bundle.object` refers to, as `{"ref": "objects/csv.yaml"}`, which catalogs of earlier opm have. Pure.

A filtered catalog has no such files, and their ClusterServiceVersions name images, so their contents take the place of the
reference. One that cannot be resolved stays as it is, and `validation.py` refuses it, as those releases of opm do.
"""

from __future__ import annotations

import base64
import posixpath
import re
from typing import TYPE_CHECKING, Any

import msgspec

from common.errors import CatalogError
from common.files import size_text
from exporter.catalog.go_json import GoError, decode
from exporter.catalog.model import BUNDLE, BUNDLE_OBJECT, Blob, Property
from exporter.catalog.properties import BundleObject
from exporter.catalog.readers.assembly import Fields, blob_of

if TYPE_CHECKING:
    from collections.abc import Mapping


_REFERENCE = re.compile(rb'"ref"\s*:')


class ObjectFiles:
    """The files of a catalog directory, also those that `.indexignore` hides."""

    def __init__(self, files: Mapping[str, bytes], limit: int) -> None:
        self._files = files
        self._limit = self._left = limit  # bytes: any number of bundles may name one file

    def inlined(self, path: str, blob: Blob, fields: Fields) -> tuple[Blob, Fields]:
        """Return a blob of the file `path` with the contents of the files that its objects refer to. Raises CatalogError."""
        listed = fields.get("properties")
        if blob.schema != BUNDLE or listed is None or _REFERENCE.search(memoryview(listed)) is None:
            return blob, fields
        try:
            properties = decode(listed, tuple[Property, ...])
        except GoError:
            return blob, fields  # reported when the bundle is read
        changed = msgspec.Raw(msgspec.json.encode([self._inlined(path, one) for one in properties]))
        written = msgspec.json.decode(blob.view, type=dict[str, msgspec.Raw])
        name = next(name for name in written if name.casefold() == "properties")
        return blob_of(memoryview(msgspec.json.encode(written | {name: changed})))

    def _inlined(self, path: str, one: Property) -> dict[str, Any]:
        content = self._content(path, one) if one.type == BUNDLE_OBJECT else None
        if content is not None:
            return {"type": one.type, "value": {"data": base64.b64encode(content).decode()}}
        return {"type": one.type, "value": one.value} if memoryview(one.value) else {"type": one.type}

    def _content(self, path: str, one: Property) -> bytes | None:
        try:
            value = decode(one.value, BundleObject)
        except GoError:
            return None
        if not value.ref or value.data or value.ref.startswith("/"):
            return None
        # Relative to the file of the blob (operator-registry before 2023, alpha/property/property.go, File.GetData).
        found = self._files.get(posixpath.normpath(posixpath.join(posixpath.dirname(path), value.ref)))
        self._left -= len(found or b"")
        if self._left < 0:
            raise CatalogError(f"objects by reference: more than {size_text(self._limit)} in all bundles together")
        return found
