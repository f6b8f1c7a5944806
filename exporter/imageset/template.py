"""The file of `targetCatalogSourceTemplate`: a CatalogSource with fields for the one on the cluster."""

from __future__ import annotations

from pathlib import Path

from common.errors import UsageError
from common.olm.source_template import Template
from common.serialization import convert, load_yaml_documents

MAX_SIZE = 1024 * 1024  # etcd accepts requests up to 1.5 MiB (etcd, *System limits*)
_WANTED = "Wanted: one YAML document, `kind: CatalogSource`."


def load(path: str) -> dict[str, object]:
    """Return the content of a template. Raises UsageError."""
    where = f"targetCatalogSourceTemplate {path[:200]}"
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_SIZE + 1)  # not by its size: a device or a pipe has none
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{where}: cannot be read: {why}", hint="It is looked for from where the command runs: write the whole path."
        ) from error
    if len(text) > MAX_SIZE:
        raise UsageError(f"{where}: larger than {MAX_SIZE} bytes", hint=_WANTED)
    documents = list(load_yaml_documents(text, where))
    if len(documents) > 1:
        raise UsageError(f"{where}: {len(documents)} documents", hint=_WANTED)
    template = documents[0] if documents else None
    if not isinstance(template, dict) or template.get("kind") != "CatalogSource":
        raise UsageError(f"{where}: not a CatalogSource", hint=_WANTED)
    # As the other side reads it, where it can no longer be corrected.
    convert(template, Template, where)
    return template
