"""The files of a release payload: the contents of `release-manifests/` in its last layer, read from the top layer down.

Sources: openshift/oc, pkg/cli/admin/release/new.go (how payloads are made: one layer on the cluster-version-operator);
openshift/cincinnati, release_scrape_dockerv2/registry/mod.rs (the first layer from the top counts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from common.errors import PayloadError
from common.files import size_text
from common.oci.compression import decompressed
from common.oci.tar_reader import OPAQUE, WHITEOUT, Entry, LayerTars, TarReader
from common.serialization import UNDECODABLE, decode_bounded, is_json, load_yaml_documents

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from common.oci.image import Descriptor, Manifest
    from exporter.images.stored import Stored


FOLDER = "release-manifests"
REFERENCES = "image-references"
METADATA = "release-metadata"
BOOTIMAGES = "0000_50_installer_coreos-bootimages.yaml"
REQUIRED = (REFERENCES, METADATA)
# The last layer of a payload has one to four MB; another image, named by mistake, is not fetched as a whole.
MAX_SIZE = 64 * 1024**2  # compressed bytes of the layers that are read
MAX_UNPACKED = 256 * 1024**2  # of them; a quarter of a second of CPU
MAX_FILE = 4 * 1024**2  # the largest file that is read has 120 KB
MAX_HEADERS = 100_000  # the layer has about a thousand files
_MAX_EXTENDED = 16 * 1024**2
_NO_RELEASE = (
    "Payloads are for example quay.io/openshift-release-dev/ocp-release:4.18.3-x86_64; other images are carried with --image."
)

_ANY = msgspec.json.Decoder(Any)


def read(manifest: Manifest, stored: Stored, names: Collection[str]) -> dict[str, bytes]:
    """Return those of `names` that the payload has; REQUIRED are among them, whether they are named or not.

    `stored` returns the contents of a layer. Raises PayloadError for an image that is no payload and beyond the limits,
    ContentError for a layer that cannot be decompressed.
    """
    layers = _Layers(stored, frozenset((*names, *REQUIRED)))
    files: dict[str, bytes] = {}
    for layer in _from_the_top(manifest.layers):
        found, hidden = layers.read(layer)
        files = found | files  # those of an upper layer count
        if any(name in found for name in REQUIRED):
            return _complete(files)
        # A cluster sees all layers together: what an upper one hides is not there for it.
        if hidden:
            raise PayloadError(f"its layer {layer.digest} hides the {FOLDER} of those below it ({hidden[:200]!r})")
    raise _not_a_payload("none of its layers has such files")


def only_document(raw: bytes, where: str) -> object:
    """Return the only document of a file, JSON or YAML. Raises PayloadError, DocumentError."""
    # JSON is one value, as clusters read it: a stream of objects takes a second of CPU for each megabyte.
    if is_json(raw):
        try:
            return decode_bounded(raw, _ANY)
        except UNDECODABLE as error:
            raise PayloadError(f"{where}: {error}") from error
    documents = load_yaml_documents(raw, where, forgiving=True)
    first, second = next(documents, None), next(documents, None)
    if first is None or second is not None:
        raise PayloadError(f"{where}: {'empty' if first is None else 'more than one document'}")
    return first


def _from_the_top(layers: Sequence[Descriptor]) -> Iterator[Descriptor]:
    """Yield layers, the last one first. Raises PayloadError before more than MAX_SIZE are fetched."""
    size = 0
    for layer in reversed(layers):
        size += layer.size
        if size > MAX_SIZE:
            raise _not_a_payload(f"its upper {size_text(size)} have no such files")
        yield layer


def _complete(found: dict[str, bytes]) -> dict[str, bytes]:
    for name in REQUIRED:
        if name not in found:
            raise PayloadError(f"its layer with {FOLDER} has no {name}")
    return found


def _not_a_payload(why: str) -> PayloadError:
    return PayloadError(f"not the payload of a release: no {FOLDER}/{REFERENCES}; {why}", hint=_NO_RELEASE)


class _Layers:
    """Reader of the wanted files of layers."""

    def __init__(self, stored: Stored, wanted: frozenset[str]) -> None:
        self._stored = stored
        self._wanted = wanted
        self._tars = LayerTars(PayloadError, MAX_UNPACKED, _MAX_EXTENDED, MAX_HEADERS)

    def read(self, layer: Descriptor) -> tuple[dict[str, bytes], str]:
        """Return the wanted files of a layer, and the name of a whiteout that hides those of lower layers."""
        content = decompressed(self._stored(layer), MAX_UNPACKED)
        found: dict[str, bytes] = {}
        hidden = ""
        with self._tars.opened(content, f"its layer {layer.digest}") as tar:
            for entry in tar:
                path = tuple(part for part in entry.name.split("/") if part not in ("", "."))
                if _hides(path, self._wanted):
                    hidden = entry.name
                elif path[:-1] == (FOLDER,) and path[-1] in self._wanted:
                    found[path[-1]] = _content(tar, entry)  # a second entry replaces the first one, as unpacking does
        return found, hidden


def _content(tar: TarReader, entry: Entry) -> bytes:
    # Only files: a link would be followed by some readers, and not by others.
    if not entry.is_file or entry.sparse:
        raise PayloadError(f"{entry.name[:200]!r} is no plain file")
    if entry.size > MAX_FILE:
        raise PayloadError(f"{entry.name[:200]!r} has {size_text(entry.size)}; the limit is {size_text(MAX_FILE)}")
    return tar.read()


def _hides(path: tuple[str, ...], wanted: frozenset[str]) -> bool:
    """Return whether a path is a whiteout of the folder, or of a file in it that is read (image-spec 1.1, layer.md)."""
    match path:
        case (name,):
            return name in (OPAQUE, WHITEOUT + FOLDER)
        case (folder, name) if folder == FOLDER:
            return name == OPAQUE or (name.startswith(WHITEOUT) and name.removeprefix(WHITEOUT) in wanted)
    return False
