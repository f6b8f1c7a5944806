"""Prefixes that name a transport, as the container tools write them: `file://`, `docker://`, `oci:` (containers-transports(5)).

A path may be written as a file URL (RFC 8089), a reference with `docker://`. Every other prefix is refused with the value that
is wanted: taken as a path it would be a directory named `docker:`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from common.errors import UsageError

DOCKER = "docker://"
_FILE = re.compile(r"file:(?://(?:localhost(?=/))?)?(?=/(?!/))", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/{1,2}(?P<rest>.*)", re.DOTALL)
_LAYOUT = re.compile(r"(file|oci|oci-archive|docker-archive|dir|containers-storage|docker-daemon):(?P<rest>.*)", re.DOTALL)
_SHOWN = 200


def local_path(text: str) -> Path:
    """Return the path of a text, which may be a file URL. Raises UsageError for another transport or another host."""
    plain = plain_path(text)
    refuse_transport(plain)
    return Path(plain)


def plain_path(text: str) -> str:
    """Return the path of a file URL on this host, `file:///path` or `file://localhost/path`, without its %-escapes.

    Everything else is returned as it is, also a URL with `%00`: neither `os.environ` nor `open` takes a NUL.
    """
    found = _FILE.match(text)
    path = unquote(text[found.end() :], errors="surrogateescape") if found else text
    return text if "\0" in path else path


def rejoined(parts: Sequence[str]) -> list[str]:
    """Return the paths of a variable that was split at each colon, with file URLs whole again."""
    whole: list[str] = []
    for part in parts:
        if whole and whole[-1].lower() == "file" and part.startswith("/"):
            whole[-1] += f":{part}"
        else:
            whole.append(part)
    return whole


def refuse_transport(text: str) -> None:
    """Raise UsageError for a path that begins with a transport; `text` is as it was typed, for a Path loses slashes."""
    found = _SCHEME.fullmatch(text) or _LAYOUT.fullmatch(text)
    if found is None:
        return
    shown, rest = text[:_SHOWN], found["rest"].lstrip("/")[:_SHOWN]
    match found[1].lower():
        case "file":
            raise UsageError(
                f"{shown}: a file URL names a path of this machine from its root: file:///PATH",
                hint=f"Wanted: {rest or 'PATH'}, or file:///PATH.",
            )
        case "docker" | "docker-daemon" | "containers-storage":
            raise UsageError(
                f"{shown}: names an image, where a path of this machine is wanted",
                hint=f"Name a directory or a file. A registry to push to is named with --registry {rest or 'HOST'}.",
            )
        case "http" | "https" | "ftp":
            raise UsageError(
                f"{shown}: an address, where a path of this machine is wanted", hint="Download it first, and name the file."
            )
        case "s3":
            raise UsageError(
                f"{shown}: has to be a path of this machine",
                hint="Archives and plans may lie in object storage; copy other files here first.",
            )
        case "oci" | "oci-archive" | "docker-archive" | "dir":
            raise UsageError(
                f"{shown}: a transport of skopeo, where a path is wanted",
                hint=f"Wanted: {found['rest'][:_SHOWN] or 'PATH'}. Only --catalog takes oci: and oci-archive:.",
            )
        case _:
            raise UsageError(
                f"{shown}: an unknown kind of address, where a path of this machine is wanted",
                hint="Name a path; for one that really has a colon in it, an absolute one.",
            )


def without_docker(text: str) -> str:
    """Return a reference or a registry as it was typed, without `docker://`."""
    return text[len(DOCKER) :] if text[: len(DOCKER)].lower() == DOCKER else text


def scheme_of(text: str) -> tuple[str, str] | None:
    """Return the `scheme://` that a reference wrongly begins with, and the rest of it; None where it has none."""
    head, mark, rest = text.partition("://")
    return (f"{head}://", rest.rstrip("/")) if mark and head.replace("-", "").isalnum() else None
