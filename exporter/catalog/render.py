"""Catalog → catalog files, validated. `catalog_image.py` puts them into an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from common.errors import CatalogError
from exporter.catalog.model import Blob, Catalog, Package
from exporter.catalog.validation import validate

_SHOWN = 10


def catalog_files(catalog: Catalog) -> dict[str, bytes]:
    """Return the files of a catalog by path relative to the configs directory; the same catalog gives the same bytes.

    `<package>/catalog.json` for each package, package-less blobs in `catalog.json`, every blob as it was read. Raises
    CatalogError when OLM would refuse to serve it (facts/openshift.md §2.3), naming each rule.
    """
    if faults := [str(finding) for finding in validate(catalog) if finding.fatal]:
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        listed = "\n  ".join(faults[:_SHOWN])
        raise CatalogError(f"OLM would refuse the catalog:\n  {listed}{more}")
    files = {f"{name}/catalog.json": _stream(_blobs(package)) for name, package in sorted(catalog.packages.items())}
    if catalog.others:
        files["catalog.json"] = _stream(catalog.others)
    return dict(sorted(files.items()))


def _blobs(package: Package) -> Iterator[Blob]:
    yield package.blob
    yield from (channel.blob for _, channel in sorted(package.channels.items()))
    yield from (bundle.blob for _, bundle in sorted(package.bundles.items()))
    if package.deprecations:
        yield package.deprecations.blob
    yield from package.others


def _stream(blobs: Iterable[Blob]) -> bytes:
    return b"".join(blob.raw.strip() + b"\n" for blob in blobs)
