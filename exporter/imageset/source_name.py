"""The names of catalogs in an image set: a path or an image of this machine, or a reference that begins with a registry."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from common.errors import NotACatalogError
from common.oci.reference import Reference, refuse_transport

_SHOWN = 200  # characters of a name in a message
# Transports of files (containers-transports(5)), as oc-mirror and skopeo take them. What is there is known by its content.
_LAYOUT_PREFIXES = ("oci:", "oci-archive:", "dir:", "docker-archive:")
# Transports of a container engine's own store, whose format is that of the engine.
_STORES = ("containers-storage:", "docker-daemon:", "ostree:", "sif:", "tarball:")
_DIGEST = re.compile(r"(.+?):?@(sha(?:256|512):[0-9a-f]+)", re.ASCII | re.DOTALL)
_WANTED = "Wanted: oci:DIRECTORY[:NAME], oci-archive:FILE[:NAME] or dir:DIRECTORY; NAME may be a digest, sha256:…"


def split_layout(name: str) -> tuple[Path, str] | None:
    """Return path and image of `oci:PATH[:NAME]`, of another transport of files, or of PATH:NAME; None for anything else."""
    prefix = next((one for one in _LAYOUT_PREFIXES if name.startswith(one)), None)
    if prefix is None:
        return _named_image(name)
    # oc-mirror writes `oci://PATH`, where PATH may be relative (openshift/oc-mirror, v2/internal/pkg/consts: OciProtocol).
    rest = name.removeprefix(prefix).removeprefix("//")
    return _split(rest)


def _split(text: str) -> tuple[Path, str]:
    # PATH@DIGEST, as references have it; skopeo knows only PATH:@INDEX and PATH:NAME.
    if (found := _DIGEST.fullmatch(text)) and not exists(text):
        return Path(found[1] if exists(found[1]) else found[1].partition(":")[0]), found[2]
    path, _, image = text.partition(":")
    return (Path(text), "") if image and exists(text) else (Path(path), image)


def _named_image(name: str) -> tuple[Path, str] | None:
    """Return path and image of PATH:NAME, the transport left out, where PATH is a layout of this machine."""
    if ":" not in name or _names_a_host(name) or exists(name):
        return None
    path, image = _split(name)
    return (path, image) if exists(str(path / "oci-layout")) else None


def require_source(name: str) -> None:
    """Raise UsageError for a name of no catalog: no path of this machine, and no reference. Opens nothing."""
    layout = split_layout(name)
    if layout is None:
        if not exists(name):
            reference_of(name)
    elif not exists(str(layout[0])):
        raise NotACatalogError(f"{name[:_SHOWN]}: no such file or directory", hint=_WANTED)


def reference_of(name: str) -> Reference:
    """Return the reference of a name that is no path. Raises UsageError; a name without a registry is a mistyped path."""
    if name.startswith(_STORES):
        raise NotACatalogError(
            f"{name[:_SHOWN]}: an image in the store of a container engine, which is not read here",
            hint=f"Make a layout of it: skopeo copy {name[:_SHOWN]} oci:DIRECTORY, and name oci:DIRECTORY.",
        )
    if name.lower().startswith("file:"):
        refuse_transport(name)
    if not _names_a_host(name):
        raise not_named(name, "no such directory")
    return Reference.parse(name)


def not_named(name: str, what: str) -> NotACatalogError:
    """Return the error for a name that is neither a catalog on this machine nor a reference."""
    return NotACatalogError(
        f"{name[:_SHOWN]}: {what}, and no image reference with a registry",
        hint="Name a catalog image (registry/repository:tag), a directory of catalog files, an OCI layout, or an SQLite file.",
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
