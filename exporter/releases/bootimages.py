"""The disk images for OpenShift Virtualization that a payload names in its ConfigMap `coreos-bootimages`. Pure.

Sources: openshift/installer, data/data/coreos (the streams); coreos/stream-metadata-go (their form); openshift/hypershift,
support/releaseinfo/fixtures/5.0-installer-coreos-bootimages.yaml (streams of several versions of RHEL in one ConfigMap).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from common.errors import PayloadError, UsageError
from common.oci.reference import Reference
from common.serialization import UNDECODABLE, decode_bounded
from exporter.releases.payload_files import only_document

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from collections.abc import Set as AbstractSet


# Names in streams (RPM architectures); the others are the same.
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
_NAME = "kube-virt-container"  # in tags, as openshift/oc-mirror has it (internal/pkg/release/local_stored_collector.go)
_IMAGE = "kubevirt"
_ANY = msgspec.json.Decoder(Any)
MAX_DEPTH = 16  # of a stream: the deepest value is at 7


@dataclass(frozen=True, slots=True)
class Machine:
    """A disk image: the architecture as the update service names it, the name for tags, and the image by digest."""

    architecture: str
    name: str
    reference: Reference


def machines(raw: bytes, where: str, architectures: Collection[str]) -> tuple[Machine, ...]:
    """Return the disk images for some architectures, each once, sorted by name. Those for other architectures are not read.

    Raises PayloadError for a file that is no such ConfigMap, and for an image of these architectures without a digest;
    DocumentError for text that cannot be read.
    """
    names = {_ARCHITECTURES.get(one, one): one for one in architectures}
    found: dict[tuple[str, Reference], str] = {}
    search = _Search(where, names.keys())
    for stream, text in _streams(raw, where):
        for architecture, kind, reference in search.references(_decoded(text, f"{where}: {stream}"), "", "", 0):
            found.setdefault((names[architecture], reference), kind)
    return _named(found, several=len({architecture for architecture, _ in found}) > 1)


def _streams(raw: bytes, where: str) -> Iterator[tuple[str, str]]:
    """Yield the values of the ConfigMap that are JSON: `stream`, and from 5.0 on `streams` too."""
    document = only_document(raw, where)
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, dict):
        raise PayloadError(f"{where}: no ConfigMap with data")
    yield from ((key, text) for key, text in data.items() if isinstance(text, str) and text.lstrip()[:1] == "{")


def _decoded(text: str, where: str) -> Any:
    try:
        return decode_bounded(text.encode(errors="surrogatepass"), _ANY)
    except UNDECODABLE as error:
        raise PayloadError(f"{where}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Search:
    """The search for disk images of the architectures in `names`."""

    where: str
    names: AbstractSet[str]

    def references(self, node: Any, architecture: str, stream: str, depth: int) -> Iterator[tuple[str, str, Reference]]:
        """Yield architecture, stream and image of each `digest-ref` below `kubevirt`, in streams within streams too."""
        if not isinstance(node, dict):
            return
        if depth > MAX_DEPTH:
            raise PayloadError(f"{self.where}: nested deeper than {MAX_DEPTH}")
        # The first stream has no other one around it; those of `streams` are named by their key.
        for key, value in node.items():
            if key == "architectures" and isinstance(value, dict):
                for name in sorted(self.names & value.keys()):
                    yield from self.references(value[name], name, stream, depth + 2)
            elif key == _IMAGE and architecture and isinstance(value, dict):
                yield architecture, stream, _reference(value.get("digest-ref"), self.where, architecture)
            else:
                yield from self.references(value, architecture, stream if architecture else key, depth + 1)


def _reference(text: Any, where: str, architecture: str) -> Reference:
    try:
        reference = Reference.parse(text if isinstance(text, str) else "")
    except UsageError as error:
        raise PayloadError(f"{where}: the {_IMAGE} image for {architecture}: {error.message}") from error
    if reference.digest is None:
        raise PayloadError(f"{where}: the {_IMAGE} image for {architecture} has no digest: {text[:200]!r}")
    return reference.pinned(reference.digest)


def _named(found: dict[tuple[str, Reference], str], *, several: bool) -> tuple[Machine, ...]:
    """Return the images under names that differ: with the stream where it is not the first, with the architecture."""
    named: dict[str, Machine] = {}
    first: set[str] = set()
    for (architecture, reference), stream in found.items():
        parts = [_NAME]
        if architecture in first:
            parts.append(re.sub(r"[^A-Za-z0-9._]+", "-", stream)[:40].strip("-.") or "other")
        if several:
            parts.append(_ARCHITECTURES.get(architecture, architecture))
        first.add(architecture)
        name = "-".join(parts)
        while name in named:
            name += "-2"
        named[name] = Machine(architecture, name, reference)
    return tuple(named[name] for name in sorted(named))
