"""Catalog templates, which `opm` renders to a catalog, recognised by the schema of their blobs.

Sources: operator-registry, alpha/template (its directories basic, semver, substitutes, composite) and cmd/opm/alpha/template.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import NotACatalogError

if TYPE_CHECKING:
    from collections.abc import Iterable


_RENDER = "opm alpha render-template"
_COMPOSITE = f"{_RENDER} composite --composite-config FILE --catalog-config FILE"
_PREFIX = "olm.template."
_KINDS = {
    "olm.semver": "semver",
    "olm.composite": "composite",
    "olm.composite.catalogs": "composite",
    # Named in the components of a composite template.
    "olm.builder.basic": "composite",
    "olm.builder.semver": "composite",
    "olm.builder.raw": "composite",
    "olm.builder.custom": "composite",
}


def kind_of(schema: str) -> str:
    """Return the type of template that has a blob of this schema; empty for none."""
    # A later opm may have further types below the prefix.
    return _KINDS.get(schema) or (schema.removeprefix(_PREFIX)[:40] if schema.startswith(_PREFIX) else "")


def command_of(kind: str, path: str) -> str:
    """Return the command that renders a template."""
    return _COMPOSITE if kind == "composite" else f"{_RENDER} {kind} {path} > DIRECTORY/catalog.json"


def only_templates(found: Iterable[tuple[str, str]]) -> NotACatalogError:
    """Return the error for a catalog that has templates, as path and type, and no package."""
    path, kind = next(iter(found))
    return NotACatalogError(
        f"{path}: a {kind} template of a catalog, not a catalog",
        hint=f"Render it first: {command_of(kind, path)}, and name the directory with the result.",
    )
