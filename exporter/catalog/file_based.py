"""File-based catalogs: a directory of JSON streams and YAML documents → `Catalog` (facts/openshift.md §2.1).

Owns files and streams; what the blobs mean is `assembly.py`'s. A file that is no catalog file stops the reading with its name
and line, as it would stop OLM; what is wrong inside a blob becomes a problem of the catalog.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from common.errors import CatalogError, NotACatalogError
from common.files import size_text
from common.serialization import DocumentError, load_yaml_documents
from exporter.catalog.assembly import BlobError, Fields, assemble, blob_of
from exporter.catalog.index_ignore import NAME as INDEX_IGNORE
from exporter.catalog.index_ignore import IgnoreRules
from exporter.catalog.model import Blob, Catalog

_HINT = f"Every file of a catalog directory must be a catalog file, or be named in {INDEX_IGNORE}."


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what is read."""

    files: int = 200_000
    size: int = 2 * 1024**3
    """Bytes, of all files together."""
    blobs: int = 2_000_000


DEFAULT_LIMITS = Limits()


def load(files: Iterable[tuple[str, bytes]], limits: Limits = DEFAULT_LIMITS) -> Catalog:
    """Read a catalog from its files: paths relative to the configs directory, with `/`; read in sorted order.

    Raises CatalogError for a file that cannot be read, with name and line, and beyond the limits.
    """
    sources = dict(files)
    _require_within(len(sources), sum(map(len, sources.values())), limits)
    ignore = IgnoreRules({path: raw for path, raw in sources.items() if _file_name(path) == INDEX_IGNORE})
    wanted = [path for path in sorted(sources) if _file_name(path) != INDEX_IGNORE and not ignore.ignores(path)]
    return assemble(_bounded((one for path in wanted for one in blobs_of(path, sources[path])), limits))


def load_directory(path: Path, limits: Limits = DEFAULT_LIMITS) -> Catalog:
    """Read the catalog files below a directory. Links to directories are not followed.

    Raises NotACatalogError when there is no such directory or nothing in it, else as `load`.
    """
    if not path.is_dir():
        raise NotACatalogError(f"{path}: no such directory", hint="Wanted: a directory of catalog files.")
    found = sorted(each for each in path.rglob("*") if each.is_file())
    _require_within(len(found), sum(each.stat().st_size for each in found), limits)
    if not found:
        raise NotACatalogError(f"{path}: the directory is empty", hint="Wanted: a directory of catalog files.")
    return load(((each.relative_to(path).as_posix(), each.read_bytes()) for each in found), limits)


def blobs_of(path: str, content: bytes) -> Iterator[tuple[Blob, Fields]]:
    """Give each blob of one file, JSON or YAML told apart by its first character. Raises CatalogError."""
    if content[:64].lstrip()[:1] == b"{":
        yield from _json_blobs(path, content)
    else:
        yield from _yaml_blobs(path, content)


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _require_within(files: int, size: int, limits: Limits) -> None:
    if files > limits.files:
        raise CatalogError(f"the catalog has {files} files; the limit is {limits.files}")
    if size > limits.size:
        raise CatalogError(f"the catalog has {size_text(size)}; the limit is {size_text(limits.size)}")


def _bounded(blobs: Iterable[tuple[Blob, Fields]], limits: Limits) -> Iterator[tuple[Blob, Fields]]:
    for number, one in enumerate(blobs, 1):
        if number > limits.blobs:
            raise CatalogError(f"the catalog has more than {limits.blobs} blobs")
        yield one


def _json_blobs(path: str, content: bytes) -> Iterator[tuple[Blob, Fields]]:
    """Cut the stream where a line ends an object and the next begins one: no JSON value has that inside.

    (A raw newline cannot stand in a string, and between `}` and `{` a value has a comma.) Whatever does not come out whole that
    way, such as a stream on one line, is cut by counting braces.
    """
    view = memoryview(content)
    start, end = 0, 0
    while end < len(content):
        cut = content.find(b"}\n{", start)
        end = cut + 1 if cut >= 0 else len(content)
        if end < len(content) or content[start:end].strip():
            yield from _json_segment(path, content, view, start, end)
        start = end


def _json_segment(path: str, content: bytes, view: memoryview, start: int, end: int) -> Iterator[tuple[Blob, Fields]]:
    try:
        yield blob_of(view[start:end])
    except (msgspec.DecodeError, BlobError, RecursionError, UnicodeDecodeError):
        for first, last in _objects(content, start, end):
            try:
                yield blob_of(view[first:last])
            except (msgspec.DecodeError, BlobError, RecursionError, UnicodeDecodeError) as error:
                raise _unreadable(path, content, first, last, error) from error


_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{}]', re.DOTALL)


def _objects(content: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Give begin and end of each object; anything between objects goes with the next one, to be refused there."""
    depth, first = 0, start
    for token in _TOKENS.finditer(content, start, end):
        mark = content[token.start()]
        if mark == ord('"'):
            continue
        depth += 1 if mark == ord("{") else -1
        if depth <= 0:
            yield first, token.end()
            depth, first = 0, token.end()
    if content[first:end].strip():
        yield first, end


def _unreadable(path: str, content: bytes, start: int, end: int, error: Exception) -> CatalogError:
    """Say where: the line of the fault for broken JSON, else the line on which the object begins."""
    place = start + len(content[start:end]) - len(content[start:end].lstrip())
    reason = str(error)
    try:
        json.loads(content[start:end])
    except json.JSONDecodeError as fault:
        place = start + len(fault.doc[: fault.pos].encode())
        reason = fault.msg
    except (ValueError, RecursionError):
        pass  # broken in another way: `error` says how
    line = content.count(b"\n", 0, place) + 1
    return CatalogError(f"{path}:{line}: not a catalog blob: {reason}", hint=_HINT)


def _yaml_blobs(path: str, content: bytes) -> Iterator[tuple[Blob, Fields]]:
    try:
        for number, document in enumerate(load_yaml_documents(content, path), 1):
            yield _yaml_blob(f"{path}: document {number}", document)
    except DocumentError as error:
        raise CatalogError(error.message, hint=_HINT) from error


def _yaml_blob(where: str, document: Any) -> tuple[Blob, Fields]:
    if not isinstance(document, dict):
        raise CatalogError(f"{where}: not a catalog blob: a {type(document).__name__}, wanted an object", hint=_HINT)
    try:
        return blob_of(memoryview(msgspec.json.encode(document)))
    except (BlobError, msgspec.DecodeError, RecursionError, TypeError, OverflowError) as error:
        raise CatalogError(f"{where}: not a catalog blob: {error}", hint=_HINT) from error
