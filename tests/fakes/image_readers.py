"""Two ways of looking into an image's layers, written apart from the product: a container runtime's, and OLM v1's.

OLM v1 throws away every entry outside the catalog's directory first, and applies whiteouts to what is left: one that stands
beside the directory is never seen.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


def runtime(layers: Iterable[bytes]) -> dict[str, bytes]:
    """Return every file of the image, by path, as a container would see it."""
    return _apply(layers, lambda _name: True)


def olm_v1(layers: Iterable[bytes], directory: str) -> dict[str, bytes]:
    """Return the files of the catalog's directory as OLM v1 unpacks them."""
    root = directory.strip("/")
    return _apply(layers, lambda name: name == root or name.startswith(f"{root}/"))


def layers_of(folder: Path) -> list[bytes]:
    """Return the layers of an image that skopeo copied to `dir:`, lowest first."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    return [(folder / layer["digest"].partition(":")[2]).read_bytes() for layer in manifest["layers"]]


def _apply(layers: Iterable[bytes], wanted: Callable[[str], bool]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for layer in layers:
        added: dict[str, bytes] = {}
        with tarfile.open(fileobj=io.BytesIO(layer), mode="r:*") as archive:
            for member in archive:
                name = member.name.removeprefix("./").strip("/")
                folder, _, base = name.rpartition("/")
                if not wanted(name):
                    continue
                if base == OPAQUE:
                    files = {path: raw for path, raw in files.items() if not path.startswith(f"{folder}/")}
                elif base.startswith(WHITEOUT):
                    gone = f"{folder}/{base.removeprefix(WHITEOUT)}".strip("/")
                    files = {path: raw for path, raw in files.items() if path != gone and not path.startswith(f"{gone}/")}
                elif member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None
                    added[name] = content.read()
        files |= added
    return files
