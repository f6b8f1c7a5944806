"""Reads the file of `targetCatalogSourceTemplate`: a CatalogSource whose fields the one on the cluster gets."""

from __future__ import annotations

from pathlib import Path

from common.errors import UsageError
from common.serialization import load_yaml_documents

MAX_SIZE = 1024 * 1024  # etcd takes no larger object (etcd, *System limits*)


def load(path: str) -> dict[str, object]:
    """Return the content of a template. Raises UsageError."""
    where = f"targetCatalogSourceTemplate {path[:200]}"
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{where}: cannot be read: {why}", hint="It is looked for from where the command runs: write the whole path."
        ) from error
    if len(text) > MAX_SIZE:
        raise UsageError(f"{where}: larger than {MAX_SIZE} bytes", hint="Wanted: one YAML document, `kind: CatalogSource`.")
    template = next(load_yaml_documents(text, where), None)
    if not isinstance(template, dict) or template.get("kind") != "CatalogSource":
        raise UsageError(f"{where}: not a CatalogSource", hint="Wanted: one YAML document, `kind: CatalogSource`.")
    return template
