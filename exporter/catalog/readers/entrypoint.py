"""The entrypoint with which a catalog image serves file-based catalogs: opm, however the image starts it.

A runtime appends `Cmd` to `Entrypoint`, so the same words may be divided between the two in any way (OCI image configuration).
"""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import TYPE_CHECKING

import msgspec

from common.errors import ContentError, UsageError
from common.serialization import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.oci.image import Manifest
    from exporter.images.layered_image import Fields


_WORDS = msgspec.json.Decoder(list[str] | None)
_SHELLS = ("sh", "bash", "dash", "ash")
_SCRIPT = re.compile(r"-[a-z]*c")
# Characters with a meaning for the shell beyond words and quotes: such a script does more than to start opm.
_MORE_THAN_WORDS = re.compile(r"[$`;|&<>(){}*?~#!\n]")
_REGISTRY_SERVER = "registry-server"
# Of the operator-registry images of OpenShift, which have opm next to their own server, the entrypoint
# (openshift/operator-framework-olm, operator-registry.Dockerfile).
_TITLE = b"operator registry"


def words_of(settings: Fields, name: str) -> list[str]:
    """Return `Entrypoint` or `Cmd` of an image's settings. Raises ContentError."""
    try:
        return _WORDS.decode(settings.get(name, b"null")) or []
    except UNDECODABLE as error:
        raise ContentError(f"image's {name} cannot be read: {error}") from error


def entrypoint_of(manifest: Manifest, settings: Fields, labels: Fields) -> list[str]:
    """Return the words before `serve` with which an image serves a directory of files. Raises UsageError when it cannot."""
    entrypoint = words_of(settings, "Entrypoint")
    if found := _up_to_opm([*entrypoint, *words_of(settings, "Cmd")]) or _of_another(entrypoint, labels):
        return found
    # A base without opm as its entrypoint (built FROM scratch, for extractContent) would start nothing on releases before 4.20.
    why = f"its entrypoint is {' '.join(entrypoint)!r}" if entrypoint else "it has no entrypoint"
    raise UsageError(
        f"catalog image {manifest.digest} cannot serve a filtered catalog: {why}",
        hint="Name an image to build on that has opm as its entrypoint, with --catalog-base.",
    )


def _up_to_opm(words: Sequence[str]) -> list[str]:
    """Return the words up to opm; none where opm is not started."""
    if len(words) > 2 and posixpath.basename(words[0]) in _SHELLS and _SCRIPT.fullmatch(words[1]):  # noqa: PLR2004
        return _of_script(words[2])
    # What follows is left out, also flags of `serve`: that of the cache belongs to the old files.
    return next((list(words[: place + 1]) for place, word in enumerate(words) if posixpath.basename(word) == "opm"), [])


def _of_script(script: str) -> list[str]:
    """Return the path of opm in a script that only starts it (the shell form of a Dockerfile)."""
    try:
        words = [] if _MORE_THAN_WORDS.search(script) else shlex.split(script)
    except ValueError:  # a quote without its end
        return []
    words = words[1:] if words[:1] == ["exec"] else words
    return words[:1] if words and posixpath.basename(words[0]) == "opm" else []


def _of_another(entrypoint: Sequence[str], labels: Fields) -> list[str]:
    """Return the entrypoint of an image that does not start opm by name: a script, which may; none for other programs."""
    program = posixpath.basename(entrypoint[0]) if entrypoint else ""
    if program == _REGISTRY_SERVER and _TITLE in bytes(labels.get("io.k8s.display-name", b"")).lower():
        return [posixpath.join(posixpath.dirname(entrypoint[0]), "opm")]
    if program in (*_SHELLS, _REGISTRY_SERVER) or "serve" in entrypoint[1:]:
        return []
    return list(entrypoint)
