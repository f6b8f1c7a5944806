"""Which mirrors a MachineConfig gives the nodes: the registries.conf inside it, however it is packed. Pure.

A pool that says it is done may not have begun; only what stands in its configuration tells (docs/facts/openshift.md §5.3).
"""

from __future__ import annotations

import base64
import binascii
import tomllib
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

_PATH = "/etc/containers/registries.conf"
_LARGEST = 16 * 1024 * 1024  # bytes, unpacked
_GZIP = 31  # zlib's window for gzip
Pair = tuple[str, str]  # source, mirror


def mirrors_of(machine_config: Mapping[str, Any]) -> frozenset[Pair] | None:
    """Return every (source, mirror) that a MachineConfig writes to the nodes; None when it cannot be understood.

    A MachineConfig without the file gives no mirrors.
    """
    try:
        files = ((machine_config["spec"]["config"].get("storage") or {}).get("files")) or []
        texts = [_text(each["contents"]) for each in files if each.get("path") == _PATH]
        return frozenset(pair for text in texts for pair in _pairs(tomllib.loads(text)))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, zlib.error, binascii.Error):
        return None


def _pairs(document: Mapping[str, Any]) -> Iterator[Pair]:
    for registry in document.get("registry") or ():
        source = registry.get("prefix") or registry.get("location") or ""
        for mirror in registry.get("mirror") or ():
            yield str(source), str(mirror.get("location") or "")


def _text(contents: Mapping[str, Any]) -> str:
    """Return the content of an Ignition file: a data URL (RFC 2397), percent-encoded or base64, perhaps compressed."""
    scheme, _, rest = str(contents["source"]).partition(":")
    described, comma, data = rest.partition(",")
    if scheme != "data" or not comma:
        raise ValueError("no data URL")
    raw = urllib.parse.unquote_to_bytes(data)
    if described.endswith(";base64"):
        raw = base64.b64decode(raw, validate=True)
    if contents.get("compression") == "gzip":
        raw = zlib.decompressobj(_GZIP).decompress(raw, _LARGEST)
    return raw.decode()
