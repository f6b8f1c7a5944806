"""Graph data: channels, risks and known issues of updates, for the OpenShift Update Service of the disconnected side.

Sources: openshift/cincinnati, openshift_secondary_metadata_parser/plugin.rs (the files that it reads, and their versions);
openshift/cincinnati-operator, docs/graph-data-init-container.md (how the image is used).
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from common.errors import ContentError, boundary
from common.files import read_limited, size_text
from common.oci.compression import decompressed
from common.oci.tar_reader import WHITEOUT, ChunkSource, Entry, TarFormatError, TarReader
from common.serialization import UNDECODABLE, decode_bounded
from exporter.catalog.readers.layer_tree import MAX_LINKS, MAX_NAME
from exporter.releases.hosts import GRAPH_DATA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


CHANNELS, BLOCKED_EDGES, RAW = "channels", "blocked-edges", "raw"
FOLDERS = (BLOCKED_EDGES, CHANNELS, RAW)
METADATA = "raw/metadata.json"
VERSION = "version"
_MAJOR, _MINOR = 1, 2  # openshift/cincinnati reads 1.0.0, 1.1.0 and 1.2.0, and ends at any other
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.\d{1,6}", re.ASCII)
# The published tarball has about 1,900 files of 1 MB in all.
MAX_TARBALL = 64 * 1024**2
MAX_UNPACKED = 256 * 1024**2
MAX_SIZE = 64 * 1024**2  # of all files
MAX_FILE = 8 * 1024**2
MAX_HEADERS = 100_000  # with the records of extended ones; a second of CPU
_MAX_EXTENDED = 16 * 1024**2
_SHOWN = 80
_AGAIN = (
    f"Fetch {GRAPH_DATA} again, and look at what a proxy answers in its place; a file of your own is named with --graph-data."
)
_RAW = msgspec.json.Decoder(dict[str, dict[str, str]])


@dataclass(frozen=True, slots=True)
class GraphData:
    """Checked graph data: its version, and every file by its path."""

    version: str
    files: Mapping[str, bytes] = field(repr=False)  # a directory has a path that ends with `/`, and no content


def _is_channel(path: str) -> bool:
    return path.count("/") == 1 and path.startswith(f"{CHANNELS}/") and path.endswith(".yaml")


def checked(content: bytes, where: str) -> GraphData:
    """Return the graph data of a tarball; `where` names it in messages.

    Raises ContentError for anything else, such as the page of a proxy, for data that the update service would not read, and
    beyond the limits.
    """
    with boundary(lambda error: ContentError(f"{where}: the graph data cannot be read: {error}", hint=_AGAIN)):
        try:
            _require_tarball(content)
            files = _rooted(_Files().read(content))
            return GraphData(_checked(files), files)
        except ContentError as error:
            raise ContentError(f"{where}: {error.message}", hint=_AGAIN) from error


def from_file(path: Path) -> GraphData:
    """Return the graph data of a file. Raises UsageError for one that cannot be read, and what `checked` raises."""
    return checked(read_limited(path, MAX_TARBALL, "Wanted: the graph data, a tar.gz."), str(path))


def _require_tarball(content: bytes) -> None:
    """Raise ContentError for what proxies, portals and the service itself answer in place of a tarball."""
    if len(content) > MAX_TARBALL:
        raise ContentError(f"{size_text(len(content))} of graph data; the limit is {size_text(MAX_TARBALL)}")
    begin = content[:200].lstrip()
    if not begin:
        raise ContentError("no graph data: it is empty")
    if begin.startswith((b"<", b"{")):
        kind = "an HTML page" if begin.startswith(b"<") else "a JSON document"
        raise ContentError(f"no graph data, but {kind}: {begin[:_SHOWN].decode(errors='replace')!r}")


class _Files:
    """Reader of the files of a tarball."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        self._folders: set[str] = set()
        self._size = 0

    def read(self, content: bytes) -> dict[str, bytes]:
        """Return every file by its path, links resolved, and every directory with `/` at its end."""
        chunks = decompressed([content], MAX_UNPACKED)
        tar = TarReader(ChunkSource(chunks), _MAX_EXTENDED, MAX_HEADERS)
        try:
            for entry in tar:
                self._take(tar, entry)
        except TarFormatError as error:
            raise ContentError(f"no readable gzip-compressed tar: {error.message}") from error
        for _ in chunks:
            pass  # the checksum of gzip is at its end, and a tar may end before
        found = dict(self._files)
        for path in self._links:
            found[path] = self._followed(path)
            self._count(len(found[path]))
        return found | {f"{folder}/": b"" for folder in self._folders}

    def _take(self, tar: TarReader, entry: Entry) -> None:
        path = _path(entry.name)
        if not path:
            return
        if entry.is_directory:
            self._folders.add(path)
        elif entry.is_symbolic_link or entry.is_hard_link:
            # The target of a hard link is a name of the archive, that of a symbolic one is relative to its directory.
            base = posixpath.dirname(path) if entry.is_symbolic_link else ""
            self._links[path] = posixpath.normpath(posixpath.join(base, entry.link[:MAX_NAME]))
            self._files.pop(path, None)
        elif not entry.is_file or entry.sparse:
            raise ContentError(f"{path!r} is neither a file, a directory nor a link")
        else:
            if entry.size > MAX_FILE:
                raise ContentError(f"{path!r} has {size_text(entry.size)}; the limit is {size_text(MAX_FILE)}")
            self._count(entry.size)
            self._files[path] = tar.read()
            self._links.pop(path, None)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_SIZE:
            raise ContentError(f"its files have more than {size_text(MAX_SIZE)}")

    def _followed(self, path: str) -> bytes:
        place = path
        for _ in range(MAX_LINKS):
            place = self._links[place]
            if place in self._files:
                return self._files[place]
            if place not in self._links:
                break
        raise ContentError(f"{path!r} is a link that leads to no file of the tarball: {self._links[path][:_SHOWN]!r}")


def _path(name: str) -> str:
    """Return the path of an entry relative to the tarball. Raises ContentError for one that no file of the image may have."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    # `..` leads out of the folder, and engines differ in what they do; a whiteout would delete in place of adding.
    bad = ".." in parts or not name.isprintable() or any(part.startswith(WHITEOUT) for part in parts)
    if bad or len(name) > MAX_NAME or name.startswith("/"):
        raise ContentError(f"a file with the name {name[:_SHOWN]!r}")
    return "/".join(parts)


def _rooted(found: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files below the folder that has the data: the tarball of a git server has all in one folder."""
    if VERSION not in found:
        tops = {path.partition("/")[0] for path in found if path.endswith(f"/{VERSION}") and path.count("/") == 1}
        if len(tops) == 1:
            top = f"{tops.pop()}/"
            below = [path for path in found if path.startswith(top) and path != top]
            found = {path.removeprefix(top): found[path] for path in below}
    # The image copies `*`, which leaves out what begins with a dot, such as .github.
    kept = {path: content for path, content in sorted(found.items()) if not path.startswith(".")}
    folders = {above for path in kept for above in _above(path)}
    for path in kept:
        if path in folders:
            raise ContentError(f"{path!r} is a file and a directory")
    return kept


def _above(path: str) -> Iterator[str]:
    """Yield the directories of a path, and itself for one that is a directory."""
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _checked(files: Mapping[str, bytes]) -> str:
    """Return the version of the data. Raises ContentError where the update service would refuse it, or have no use for it."""
    if VERSION not in files:
        raise ContentError(f"no graph data: the tarball has no file {VERSION!r}")
    version = files[VERSION][:_SHOWN].decode(errors="replace").strip()
    match = _VERSION.fullmatch(version)
    if not match or int(match[1]) != _MAJOR or int(match[2]) > _MINOR:
        raise ContentError(f"graph data of version {version!r}, which is not one from {_MAJOR}.0 to {_MAJOR}.{_MINOR}")
    # A service with an empty tarball lists no release (OCPBUGS-21854).
    if not any(_is_channel(path) and files[path].strip() for path in files):
        raise ContentError(f"graph data without any channel in {CHANNELS}/")
    for folder in (BLOCKED_EDGES, RAW):
        if not any(path.startswith(f"{folder}/") for path in files):
            raise ContentError(f"graph data without {folder}/")
    _require_metadata(files)
    return version


def _require_metadata(files: Mapping[str, bytes]) -> None:
    if METADATA not in files:
        raise ContentError(f"graph data without {METADATA}")
    try:
        decode_bounded(files[METADATA], _RAW)
    except UNDECODABLE as error:
        raise ContentError(f"graph data: {METADATA}: {error}") from error
