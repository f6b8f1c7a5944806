"""Reader of file-based catalogs: a directory of JSON streams and YAML documents.

A file that is not a catalog file stops reading with its name and line, as it stops OLM (operator-registry,
alpha/declcfg/load.go); a fault inside a blob becomes a problem of the catalog (`assembly.py`).
"""

from __future__ import annotations

import fnmatch
import json
import posixpath
import re
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from common.archive.inventory import Problem, ProblemCode
from common.errors import CatalogError, NotACatalogError, boundary
from common.files import size_text
from common.serialization import DocumentError, is_json, load_yaml_documents, require_bounded_values, without_mark
from common.text import counted
from exporter.catalog.readers.assembly import MAX_BLOB, BlobError, Fields, assemble, blob_of
from exporter.catalog.readers.object_files import ObjectFiles
from exporter.catalog.readers.templates import command_of, kind_of, only_templates

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping
    from pathlib import Path

    from exporter.catalog.model import Blob, Catalog


# `.indexignore`: the files of a catalog directory that are not catalog files, in gitignore syntax (operator-registry,
# alpha/declcfg/load.go; git, gitignore(5)).

NAME = ".indexignore"
MAX_RULES = 10_000  # each is tried for each file and each directory above it
MAX_PATTERN = 1024  # characters of one line
MAX_STEPS = 2_000_000  # of matching all lines with all files: two seconds; 7,000 files take 36,000 for `*.md`


@dataclass(frozen=True, slots=True)
class _Rule:
    """One line. None among `segments` stands for `**`."""

    segments: tuple[re.Pattern[str] | None, ...]
    directories_only: bool
    again: bool
    """A line with `!`: files that it matches are included again."""

    def matches(self, parts: tuple[str, ...], is_directory: bool) -> tuple[bool, int]:
        return _match(self.segments, parts) if is_directory or not self.directories_only else (False, 1)


class IgnoreRules:
    """The rules of all `.indexignore` files of a tree."""

    def __init__(self, files: Mapping[str, bytes], steps: int = MAX_STEPS) -> None:
        """Read `files`, path of each `.indexignore` relative to the root. Raises CatalogError beyond the limits."""
        self._rules = {_parts(path)[:-1]: tuple(_rules(path, content)) for path, content in files.items()}
        if sum(map(len, self._rules.values())) > MAX_RULES:
            raise CatalogError(f"more than {MAX_RULES} lines in {NAME} files")
        self._directories: dict[tuple[str, ...], bool] = {(): False}
        self._steps = steps

    def ignores(self, path: str) -> bool:
        """Return whether a file is ignored, itself or by a directory above it. Raises CatalogError beyond MAX_STEPS."""
        parts = _parts(path)
        # Within an ignored directory no line with `!` includes a file again (gitignore(5), *Pattern format*).
        return (self._is_in_ignored(parts[:-1]) or self._hit(parts, is_directory=False)) if self._rules else False

    def _is_in_ignored(self, directory: tuple[str, ...]) -> bool:
        """Return whether a directory is ignored, or one above it."""
        if (known := self._directories.get(directory)) is None:
            known = self._is_in_ignored(directory[:-1]) or self._hit(directory, is_directory=True)
            self._directories[directory] = known
        return known

    def _hit(self, parts: tuple[str, ...], *, is_directory: bool) -> bool:
        ignored = False
        for depth in range(len(parts)):  # the rules nearest to the file are decisive, and of one file the last line
            for rule in self._rules.get(parts[:depth], ()):
                matches, steps = rule.matches(parts[depth:], is_directory)
                self._steps -= steps
                if matches:
                    ignored = not rule.again
            if self._steps < 0:
                raise CatalogError(f"{NAME} has more lines and wildcards than can be matched with all files in reasonable time")
        return ignored


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("/"))


def _rules(path: str, content: bytes) -> Iterator[_Rule]:
    for number, raw in enumerate(content.decode(errors="replace").splitlines(), 1):
        # Trailing spaces do not count, unless they are escaped.
        line = re.sub(r"(?<!\\) +$", "", raw)
        if len(line) > MAX_PATTERN:
            raise CatalogError(f"{path}:{number}: a pattern of {len(line)} characters; the limit is {MAX_PATTERN}")
        if line and not line.startswith("#"):
            yield _rule(line)


def _rule(line: str) -> _Rule:
    again = line.startswith("!")
    pattern = line[again:]
    directories_only = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    # A pattern with a slash, other than at its end, counts from the directory of its file; without one at any depth.
    anchored = "/" in pattern
    segments = tuple(None if part == "**" else _segment(part) for part in pattern.removeprefix("/").split("/"))
    if not anchored:
        segments = (None, *segments)
    if segments[-1] is None:
        segments = (*segments, _segment("*"))  # `a/**` matches everything in `a`, not `a`
    # `**/**` matches what `**` matches; a run of 300 costs 300 times as much for each component of a path.
    single = (segments[0], *(after for before, after in pairwise(segments) if before is not None or after is not None))
    return _Rule(single, directories_only, again)


def _segment(pattern: str) -> re.Pattern[str]:
    """Translate the pattern of one path component."""
    # fnmatch makes expressions with atomic groups, which do not backtrack: no pattern takes exponential time.
    escaped = re.sub(r"\\(.)", lambda match: f"[{match[1]}]" if match[1] in "*?[" else match[1], pattern)
    return re.compile(fnmatch.translate(escaped.replace("[^", "[!")))


def _match(segments: tuple[re.Pattern[str] | None, ...], parts: Iterable[str]) -> tuple[bool, int]:
    """Match by simulating all readings of `**` at once: a set of positions in `segments`, so linear in `parts`.

    Returns also the number of steps.
    """
    steps = 1
    places = _opened({0}, segments)
    for part in parts:
        onward: set[int] = set()
        steps += len(places)
        for place in places:
            segment = segments[place] if place < len(segments) else _NOTHING
            if segment is None:
                onward.add(place)
            elif segment.match(part):
                onward.add(place + 1)
        places = _opened(onward, segments)
    return len(segments) in places, steps


def _opened(places: set[int], segments: tuple[re.Pattern[str] | None, ...]) -> set[int]:
    """Add the positions after each `**`, which may stand for no directory."""
    opened = set(places)
    for place in sorted(places):
        following = place
        while following < len(segments) and segments[following] is None:
            following += 1
            opened.add(following)
    return opened


_NOTHING = re.compile(r"(?!)")


_SHOWN = 20  # unreadable files that are named
_FIRST_OF_JSON = re.compile(rb"""\s*+\{\s*+(?:["}]|\Z)""")
_HINT = f"Every file of a catalog directory must be a catalog file, or be named in {NAME}."


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one catalog."""

    files: int = 200_000  # catalogs have a file for each package, at most one for each bundle
    size: int = 1024**3  # held in memory; the largest real catalog has 132 MB, and four times that with inlined objects
    """Bytes, of all files together."""
    blobs: int = 500_000  # the largest real catalog has 7,236


DEFAULT_LIMITS = Limits()


class UnreadableFileError(CatalogError):
    """A file that is no catalog file; it says nothing about the others."""


def load(
    files: Iterable[tuple[str, bytes]], limits: Limits = DEFAULT_LIMITS, *, partial: bool = False, where: str = ""
) -> Catalog:
    """Read a catalog from its files: paths relative to the configs directory, with `/`; read in sorted order.

    Raises CatalogError for a file that cannot be read, with name and line (with `partial`, only if nothing else has a package),
    and beyond the limits; NotACatalogError for templates and layouts, with their path below the directory `where`.
    """
    try:
        return _load(files, limits, partial, where)
    except UnreadableFileError as error:
        raise CatalogError(error.message, hint=error.hint) from error


def _load(files: Iterable[tuple[str, bytes]], limits: Limits, partial: bool, where: str) -> Catalog:
    with boundary(lambda error: CatalogError(f"the catalog cannot be read: {error}", hint=_HINT)):
        return _loaded(dict(files), limits, partial, where)


def _loaded(sources: Mapping[str, bytes], limits: Limits, partial: bool, where: str) -> Catalog:
    _require_within(len(sources), sum(map(len, sources.values())), limits)
    ignore = IgnoreRules({path: raw for path, raw in sources.items() if _file_name(path) == NAME})
    wanted = [path for path in sorted(sources) if _file_name(path) != NAME and not ignore.ignores(path)]
    _require_no_layout(wanted, where)
    files = {path: sources[path] for path in wanted}
    templates: dict[str, str] = {}
    objects = ObjectFiles(sources, limits.size)
    try:
        blobs = (one for path, raw in files.items() for one in _noted(path, blobs_of(path, raw), templates, objects))
        catalog = assemble(_bounded(blobs, limits))
    except UnreadableFileError:
        if not partial:
            raise
        catalog = _readable(files, templates, ObjectFiles(sources, limits.size), limits)
    if not templates:
        return catalog
    if not catalog.packages:
        raise only_templates((posixpath.join(where, path), kind) for path, kind in templates.items())
    # Beside packages it is a blob of another schema, which opm passes on.
    unrendered = [_unrendered(path, kind, where) for path, kind in templates.items()]
    return replace(catalog, problems=(*catalog.problems, *unrendered))


def _require_no_layout(paths: Iterable[str], where: str) -> None:
    # Such as the working directory of oc-mirror, operator-catalogs/NAME/DIGEST/catalog-image.
    if layouts := [posixpath.dirname(path) for path in paths if _file_name(path) == "oci-layout"]:
        raise NotACatalogError(
            f"{where or 'the catalog'}: {counted(len(layouts), 'OCI layout')} in it, where catalog files are wanted",
            hint=f"Name the layout of the catalog, such as oci:{posixpath.join(where, layouts[0])}.",
        )


def _noted(
    path: str, blobs: Iterable[tuple[Blob, Fields]], templates: dict[str, str], objects: ObjectFiles
) -> Iterator[tuple[Blob, Fields]]:
    """Pass blobs on, with their objects inside; note the file in which one is a template."""
    for blob, fields in blobs:
        if kind := kind_of(blob.schema):
            templates.setdefault(path, kind)
        yield objects.inlined(path, blob, fields)


def _readable(files: Mapping[str, bytes], templates: dict[str, str], objects: ObjectFiles, limits: Limits) -> Catalog:
    """Return the catalog of the files that can be read, without the packages that have blobs in another one.

    Raises the error of the first unreadable file when no package is left.
    """
    unread: dict[str, UnreadableFileError] = {}

    def blobs() -> Iterator[tuple[Blob, Fields]]:
        for path, raw in files.items():
            try:
                # All or nothing: a package from the first half of a file would be another one than was published.
                yield from list(_noted(path, blobs_of(path, raw), templates, objects))
            except UnreadableFileError as error:
                unread[path] = error

    catalog = assemble(_bounded(blobs(), limits))
    hit = {name: path for path in unread for name in _packages_in(files[path], catalog.packages)}
    packages = {name: package for name, package in catalog.packages.items() if name not in hit}
    if not packages:
        raise next(iter(unread.values()))
    gone = [_problem(name, f"left out: {path}, which has blobs of it, cannot be read") for name, path in hit.items()]
    faults = [_problem(path, f"cannot be read; left out: {error.message}") for path, error in islice(unread.items(), _SHOWN)]
    if len(unread) > _SHOWN:
        faults.append(_problem(faults[-1].subject, f"{len(unread) - _SHOWN} more files cannot be read"))
    return replace(catalog, packages=packages, problems=(*catalog.problems, *gone), unread=tuple(faults))


# In JSON and YAML. All blobs but olm.package name their package so; a blob of that schema alone makes no package.
_PACKAGE_FIELD = re.compile(rb"""(?:^|[\s{,"'])package["']?\s*:\s*["']?([A-Za-z0-9.-]{1,253})""", re.IGNORECASE)


def _packages_in(raw: bytes, known: Container[str]) -> set[str]:
    """Return the known packages that a file names, which cannot be parsed."""
    return {name for match in _PACKAGE_FIELD.finditer(raw) if (name := match[1].decode()) in known}


def _problem(subject: str, message: str, severity: Literal["error", "warning"] = "error") -> Problem:
    return Problem(severity, ProblemCode.CATALOG_INVALID, subject, message)


def _unrendered(path: str, kind: str, where: str) -> Problem:
    command = command_of(kind, posixpath.join(where, path))
    return _problem(
        path, f"a {kind} template, whose operators are not in the catalog until it is rendered: {command}", "warning"
    )


def load_file(path: Path, limits: Limits = DEFAULT_LIMITS) -> Catalog:
    """Read a catalog of one file. Raises NotACatalogError for a file of another kind, else as `load`."""
    _require_within(1, path.stat().st_size, limits)
    try:
        return _load([(path.name, path.read_bytes())], limits, partial=False, where=str(path.parent))
    except UnreadableFileError as error:
        hint = "Wanted: a catalog image, a directory or file of catalog blobs, an OCI layout, or an SQLite file."
        raise NotACatalogError(f"no catalog: {error.message}", hint=hint) from error


def load_directory(path: Path, limits: Limits = DEFAULT_LIMITS, *, partial: bool = False) -> Catalog:
    """Read the catalog files below a directory. Links to directories are not followed.

    Raises NotACatalogError when there is no such directory or nothing in it, and for layouts in it, else as `load`.
    """
    if not path.is_dir():
        raise NotACatalogError(f"{path}: no such directory", hint="Wanted: a directory of catalog files.")
    found = sorted(each for each in path.rglob("*") if each.is_file())
    _require_within(len(found), sum(each.stat().st_size for each in found), limits)
    if not found:
        raise NotACatalogError(f"{path}: the directory is empty", hint="Wanted: a directory of catalog files.")
    files = ((each.relative_to(path).as_posix(), each.read_bytes()) for each in found)
    return load(files, limits, partial=partial, where=str(path))


def blobs_of(path: str, content: bytes) -> Iterator[tuple[Blob, Fields]]:
    """Yield each blob of one file, JSON or YAML. Raises UnreadableFileError."""
    # A byte order mark, which editors on Windows write: allowed in YAML, ignored in JSON (RFC 8259, 8.1).
    with boundary(lambda error: UnreadableFileError(f"{path}: not text: {error}", hint=_HINT)):
        content = without_mark(content)
    # By the first characters, as opm does (k8s.io/apimachinery, YAMLOrJSONDecoder); the extension does not matter.
    if not is_json(content) or not _FIRST_OF_JSON.match(content):
        yield from _yaml_blobs(path, content)
        return
    read = 0
    try:
        for read, one in enumerate(_json_blobs(path, content), 1):  # noqa: B007 - used below
            yield one
    except UnreadableFileError:
        # No string of JSON has a line break: a line of `---` makes it YAML (kubernetes/kubernetes#130666).
        if b"\n---" not in content:
            raise
        yield from islice(_yaml_blobs(path, content), read, None)


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
    """Split the stream where one line ends with `}` and the next begins with `{`."""
    # No JSON value contains that: a string has no raw newline, and between `}` and `{` a value has a comma. A segment that is
    # not valid on its own, such as a stream on one line, is split by counting braces, which is slower.
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


# Strings as a whole, so that braces in them are not counted. Possessive: an unterminated string is scanned once.
_MAX_BRACES = 1000  # msgspec, which recurses for each, refuses fewer
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{}]', re.DOTALL)


def _objects(content: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each object; text between objects belongs to the next one, which is refused for it.

    An object that is too large or too deep, which is refused as well, is yielded with all that follows.
    """
    depth, first = 0, start
    for token in _TOKENS.finditer(content, start, end):
        if token.end() - first > MAX_BLOB or depth > _MAX_BRACES:
            break
        mark = content[token.start()]
        if mark == ord('"'):
            continue
        depth += 1 if mark == ord("{") else -1
        if depth <= 0:
            yield first, token.end()
            depth, first = 0, token.end()
    if content[first:end].strip():
        yield first, end


def _unreadable(path: str, content: bytes, start: int, end: int, error: Exception) -> UnreadableFileError:
    """Return the error with its line: that of the fault for broken JSON, else that on which the object begins."""
    place = start + len(content[start:end]) - len(content[start:end].lstrip())
    reason = str(error)
    # msgspec names no position in a document; the standard library does, and takes more memory.
    try:
        if end - start <= MAX_BLOB:
            require_bounded_values(content[start:end])
            json.loads(content[start:end])
    except json.JSONDecodeError as fault:
        place = start + len(fault.doc[: fault.pos].encode())
        reason = fault.msg
    except (ValueError, RecursionError, msgspec.DecodeError):
        pass  # another fault, which `error` names
    line = content.count(b"\n", 0, place) + 1
    return UnreadableFileError(f"{path}:{line}: not a catalog blob: {reason}", hint=_HINT)


def _yaml_blobs(path: str, content: bytes) -> Iterator[tuple[Blob, Fields]]:
    try:
        for number, document in enumerate(load_yaml_documents(content, path, forgiving=True), 1):
            yield _yaml_blob(f"{path}: document {number}", document)
    except DocumentError as error:
        raise UnreadableFileError(error.message, hint=_HINT) from error


def _yaml_blob(where: str, document: Any) -> tuple[Blob, Fields]:
    if not isinstance(document, dict):
        raise UnreadableFileError(f"{where}: not a catalog blob: a {type(document).__name__}, wanted an object", hint=_HINT)
    try:
        return blob_of(memoryview(msgspec.json.encode(document)))
    except (BlobError, msgspec.DecodeError, RecursionError, TypeError, OverflowError) as error:
        raise UnreadableFileError(f"{where}: not a catalog blob: {error}", hint=_HINT) from error
