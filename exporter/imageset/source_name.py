"""The names of catalogs in an image set: a path of this machine, an OCI layout, or a reference that begins with a registry."""

from __future__ import annotations

import errno
from pathlib import Path

from common.errors import NotACatalogError
from common.oci.reference import Reference

_SHOWN = 200  # characters of a name in a message
# The transports of containers/image (containers-transports(5)), as oc-mirror and skopeo accept them.
_LAYOUT_PREFIXES = ("oci:", "oci-archive:")


def split_layout(name: str) -> tuple[Path, str] | None:
    """Return path and image of `oci:PATH[:NAME]` or `oci-archive:PATH[:NAME]`; None for anything else."""
    prefix = next((one for one in _LAYOUT_PREFIXES if name.startswith(one)), None)
    if prefix is None:
        return None
    path, _, image = name.removeprefix(prefix).partition(":")
    return Path(path), image


def require_source(name: str) -> None:
    """Raise UsageError for a name of no catalog: no path of this machine, and no reference. Opens nothing."""
    layout = split_layout(name)
    if layout is None:
        if not exists(name):
            reference_of(name)
    elif not exists(str(layout[0])):
        raise NotACatalogError(
            f"{name[:_SHOWN]}: no such file or directory", hint="Wanted: oci:DIRECTORY[:NAME] or oci-archive:FILE[:NAME]."
        )


def reference_of(name: str) -> Reference:
    """Return the reference of a name that is no path. Raises UsageError; a name without a registry is a mistyped path."""
    if not _names_a_host(name):
        raise not_named(name, "no such directory")
    return Reference.parse(name)


def not_named(name: str, what: str) -> NotACatalogError:
    """Return the error for a name that is neither a catalog on this machine nor a reference."""
    return NotACatalogError(
        f"{name[:_SHOWN]}: {what}, and no image reference with a registry",
        hint="Name a catalog image (registry/repository:tag), a directory of catalog files, or an SQLite file.",
    )


def exists(name: str) -> bool:
    """Return whether this machine may have a file of this name, also one in a directory without permission."""
    try:
        return Path(name).exists()
    except OSError as error:
        # Opening then reports the reason. A name that is too long for a file may still be a reference.
        return error.errno != errno.ENAMETOOLONG


def _names_a_host(name: str) -> bool:
    """Return whether a reference begins with a registry."""
    # The rule of docker and podman for the first component. A short name (Docker Hub) is taken for a mistyped path here.
    host, slash, _ = name.partition("/")
    return bool(slash) and (host == "localhost" or ":" in host or "." in host.strip("."))
