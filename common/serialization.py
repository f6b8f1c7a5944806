"""Reading and writing of JSON and YAML, with line and column of every error, and with bounds for hostile input.

YAML is read by the rules of sigs.k8s.io/yaml (`go_yaml.py`); JSON is decoded by msgspec.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import yaml

from common import decoding
from common.errors import ContentError, UsageError, boundary
from common.go_yaml import MAX_DEPTH, MERGE, TOO_DEEP, ForgivingLoader, Loader, is_text
from common.text import is_visible, visible_json

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
# libyaml from 0.2.6 on refuses a thousand levels itself, and reads so far ahead that it does so before any level is counted.
_TOO_DEEP_FOR_LIBYAML = "exceeded maximum nesting depth"
# Below these no document can nest so deep that libyaml's bindings, which recurse in C, run out of stack.
_HARMLESS_BRACKETS = 5_000
_MAX_ALIASED = 100_000  # values that one alias may stand for
_MAX_FAULTS = 1_000  # that are collected of one document
# Keys, values and collections of a document, its aliases written out: each takes about a kilobyte while it is read. The largest
# real document has 12,421 (the CustomResourceDefinition APIManager of 3scale), a stream 15 bytes and more for each.
MAX_NODES = 200_000
MAX_DOCUMENTS = 500_000  # of a stream: catalogs have one for each blob, and the largest real one has some ten thousand
MAX_PLACED_NODES = 500_000  # of a configuration: an image set may list 100,000 images, of three nodes each
_BYTES_PER_NODE = 8
# libyaml compares each %TAG directive with all before it: 2.8 MB of them took more than 96 s of CPU. Real files have none.
_MAX_DIRECTIVES = 1_000
_INDICATORS = (b"-", b":", b"?", b",", b"[", b"{")  # YAML 1.1, 5.3: a node without any is the only one of its document
_NODES_PER_INDICATOR = 3  # at most: `a: b` is a mapping, a key and a value
# By the sign first, so that what stands before it is looked at there alone: megabytes of blanks took half a minute otherwise.
# NEL, LS and PS are line breaks in YAML 1.1 (4.2): in UTF-8 they end in 85, A8 and A9; a byte order mark, which may begin a
# line, in BF.
_ANCHOR = re.compile(rb"&(?<![^\s,\[{:\x85\xa8\xa9\xbf-]&)[^\s,\[\]{}]")
_ALIAS = re.compile(rb"\*(?<![^\s,\[{:\x85\xa8\xa9\xbf-]\*)[^\s,\[\]{}*]")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF_8_MARK = codecs.BOM_UTF8
_MARK_OF_A_DOCUMENT = re.compile(rb"^(---[^\n]*\n)\xef\xbb\xbf", re.MULTILINE)
_SNIFFED = 4096  # bytes, in which operator-registry looks for the first character (alpha/declcfg/load.go)
_BLANKS = re.compile(r"[ \t\r\n]*")
_MARKER = re.compile(rb"^---(?=\s)", re.MULTILINE)
_LONG_INDENT = re.compile(rb"^[ \-?:\t\0]{4000}", re.MULTILINE)
_ALWAYS_ALLOWED_VALUES = 200_000
COMPACT, INDENTED = 8, 20  # bytes for each value, at least; documents as they are written have 10 and more, and 40
UNDECODABLE = decoding.UNDECODABLE
_PART = 250  # entries of a mapping or list that are encoded at once


class DocumentError(UsageError):
    """A document that cannot be read: file, line and column are in the message."""

    usual_hint = "Correct it there, and run it again."


def load_yaml_documents(text: str | bytes, where: str, *, forgiving: bool = False) -> Iterator[Any]:
    """Yield each non-empty document of a YAML stream. Raises DocumentError with `where`, line and column.

    `forgiving`: published files, as YAMLOrJSONDecoder of k8s.io/apimachinery (pkg/util/yaml/decoder.go) reads them. They may be
    JSON, one object after the other; two equal keys are no error, the last counts; the last line may lack its end.
    """
    raw = _utf_8(text, where)
    if forgiving and (objects := _json_objects(raw)) is not None:
        yield from objects
        return
    # A block scalar at the end has its line break then, as in Go.
    raw += b"" if not forgiving or raw.endswith(b"\n") else b"\n"
    with _loading(raw, where, ForgivingLoader if forgiving else Loader) as loader:
        while loader.check_node():
            node = loader.get_node()
            document = None if node is None else loader.document(node)
            if document is not None:
                yield document


def _utf_8(text: str | bytes, where: str) -> bytes:
    with boundary(lambda error: DocumentError(f"{where}: not YAML: {error}")):
        raw = without_mark(text.encode() if isinstance(text, str) else text)
        # Also the marks of files that were joined: libyaml skips them, and counts a column.
        return _MARK_OF_A_DOCUMENT.sub(rb"\1", raw) if _UTF_8_MARK in raw else raw


def without_mark(raw: bytes) -> bytes:
    """Return text as UTF-8 without a byte order mark. Raises UnicodeDecodeError for UTF-16 that is none."""
    return raw.decode("utf-16").encode() if raw.startswith(_UTF_16) else raw.removeprefix(_UTF_8_MARK)


def is_json(raw: bytes) -> bool:
    """Return whether text begins as a JSON object does (k8s.io/apimachinery, pkg/util/yaml/decoder.go, GuessJSONStream)."""
    return raw[:_SNIFFED].lstrip()[:1] == b"{"


def _json_objects(raw: bytes) -> list[Any] | None:
    """Return the values of a JSON stream. None: it is no JSON, or has more values than real files."""
    # YAML 1.1 has no tabs as indentation, no pairs of surrogates (`\ud83d\ude00`), and no two objects in a row.
    if not is_json(raw):
        return None
    try:
        require_bounded_values(raw)
        return [msgspec.json.decode(raw)]
    except UNDECODABLE:
        pass
    objects = []
    try:
        text = raw.decode()
        place = _BLANKS.match(text).end()  # type: ignore[union-attr]
        while place < len(text):
            end = json.JSONDecoder().raw_decode(text, place)[1]
            objects.append(msgspec.json.decode(text[place:end]))  # stricter: no NaN, no number beyond a double
            place = _BLANKS.match(text, end).end()  # type: ignore[union-attr]
    except (ValueError, RecursionError, msgspec.DecodeError):
        return None
    return objects


@contextmanager
def _loading(raw: bytes, where: str, kind: type[Loader], *, most: int = MAX_NODES, column: bool = True) -> Iterator[Loader]:
    """Open a loader. Everything that it, or libyaml, raises within the block becomes a DocumentError."""
    with boundary(lambda error: _unreadable(error, where, column=column)):
        _require_bounded(raw, where, most)
        loader = kind(raw)
        try:
            yield loader
        finally:
            loader.dispose()


def _unreadable(error: Exception, where: str, *, column: bool) -> DocumentError:
    """Return the error for a document that the loader refused, with its line, and with its column where `column` is set."""
    if isinstance(error, RecursionError):
        return DocumentError(f"{where}: {TOO_DEEP}")
    mark = (error.problem_mark or error.context_mark) if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return DocumentError(f"{where}: not YAML: {str(error).partition(chr(10))[0]}")  # the next line names "<byte string>"
    if error.problem in (TOO_DEEP, _TOO_DEEP_FOR_LIBYAML):
        return DocumentError(f"{where}:{mark.line + 1}: {TOO_DEEP}")
    place = f"{mark.line + 1}:{mark.column + 1}" if column else f"{mark.line + 1}"
    return DocumentError(f"{where}:{place}: not YAML: {error.problem or error.context}")


def _require_bounded(raw: bytes, where: str, most: int) -> None:
    """Raise DocumentError for nesting that would crash the C loader, and for more values than any real document has.

    Only suspicious documents cost a pass over their events.
    """
    _require_few_directives(raw, where)
    _require_few_documents(raw, where)
    multiplies = _ANCHOR.search(raw) and _ALIAS.search(raw)
    if not multiplies and not _may_be_dense(raw, most) and not _has_many_brackets(raw) and not _LONG_INDENT.search(raw):
        return
    try:
        counter = _Counter(where, len(raw), most)
        for event in yaml.parse(raw, Loader=yaml.CSafeLoader):
            counter.add(event)
    except yaml.YAMLError:
        return  # the loader meets the same error and reports it with its place


def _require_few_directives(raw: bytes, where: str) -> None:
    # Wherever they are: line breaks of YAML 1.1 are also CR, NEL, LS and PS (4.2).
    if raw.count(b"%TAG") > _MAX_DIRECTIVES:
        raise DocumentError(f"{where}: more than {_MAX_DIRECTIVES} %TAG directives")


def _require_few_documents(raw: bytes, where: str) -> None:
    # Empty ones have no node that would be counted, and take two microseconds for four bytes.
    most = MAX_DOCUMENTS + 1
    # Signs in texts are counted first, such as those of certificates.
    if raw.count(b"---") >= most and len(_MARKER.findall(raw)) >= most:
        raise DocumentError(f"{where}: more than {MAX_DOCUMENTS} documents")


def _may_be_dense(raw: bytes, most: int) -> bool:
    """Return whether a stream may have more nodes than its bytes allow, or one of its documents more than `most`."""
    nodes = _most_nodes(raw)
    if nodes <= most:
        return False
    return nodes > _nodes_of_a_stream(len(raw)) or any(_most_nodes(one) > most for one in _documents(raw))


def _most_nodes(raw: bytes) -> int:
    """Return a number that the nodes of a stream cannot exceed, unless it has aliases."""
    return 1 + _NODES_PER_INDICATOR * sum(map(raw.count, _INDICATORS))


def _nodes_of_a_stream(size: int) -> int:
    return MAX_NODES + size // _BYTES_PER_NODE


def _has_many_brackets(raw: bytes) -> bool:
    """Return whether any document of a stream has enough brackets to be nested too deep."""
    if raw.count(b"[") + raw.count(b"{") <= _HARMLESS_BRACKETS:
        return False
    return any(one.count(b"[") + one.count(b"{") > _HARMLESS_BRACKETS for one in _documents(raw))


def _documents(raw: bytes) -> list[bytes]:
    """Split a stream where a marker ends a document."""
    return _MARKER.split(raw)


class _Counter:
    """Count of nodes of a stream and its current document, with every alias expanded."""

    def __init__(self, where: str, size: int, most: int) -> None:
        self._where = where
        self._most = most
        self._most_of_all = _nodes_of_a_stream(size)
        self._known: dict[str, int] = {}
        self._before = 0  # nodes of the documents before
        self._stack: list[tuple[str | None, int]] = [(None, 0)]

    def add(self, event: Any) -> None:
        """Count an event. Raises DocumentError past the bounds."""
        line = event.start_mark.line + 1 if event.start_mark else 1
        size = 0
        if isinstance(event, yaml.CollectionStartEvent):
            self._stack.append((event.anchor, 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = self._stack.pop()
            self._known.update({anchor: size} if anchor else {})
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            self._known.update({event.anchor: 1} if event.anchor else {})
        elif isinstance(event, yaml.AliasEvent):
            size = self._known.get(event.anchor or "", _MAX_ALIASED + 1)  # an alias inside its own anchor has no end
            if size > _MAX_ALIASED:
                raise DocumentError(f"{self._where}:{line}: its aliases stand for more than {_MAX_ALIASED} values")
        elif isinstance(event, yaml.DocumentEndEvent):
            self._before += self._stack[0][1]
            self._stack[0] = (None, 0)
        self._stack[-1] = (self._stack[-1][0], self._stack[-1][1] + size)
        self._check(line)

    def _check(self, line: int) -> None:
        nodes = self._stack[-1][1]  # the collections around are counted when they end
        if nodes > self._most:
            raise DocumentError(f"{self._where}:{line}: a document of more than {self._most} values")
        if self._before + nodes > self._most_of_all:
            few = self._most_of_all
            raise DocumentError(f"{self._where}:{line}: more than {few} values, which no real file of its size has")
        if len(self._stack) > MAX_DEPTH + 1:
            raise DocumentError(f"{self._where}:{line}: {TOO_DEEP}")


@dataclass(frozen=True, slots=True)
class Placed:
    """A YAML value with its first line. `value` is a scalar, or a dict or list of further `Placed`."""

    value: Any
    line: int

    def plain(self) -> Any:
        """Return the value alone, as `load_yaml_documents` would give it."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        return [child.plain() for child in self.value] if isinstance(self.value, list) else self.value


def load_placed_yaml(text: str | bytes, where: str, faults: list[DocumentError] | None = None) -> Placed:
    """Read the only document of a configuration file, with lines; empty ones count for nothing. Raises DocumentError.

    Keys that are not text are errors. Aliases and merge keys (`<<`) are resolved: each value has the line where it was written.
    With `faults`, errors of single keys and values are appended to it, and the rest is read; an error of the structure, and the
    error after a thousand, is raised.
    """
    raw = _utf_8(text, where)
    with _loading(raw, where, Loader, most=MAX_PLACED_NODES, column=False) as loader:
        node = _only_document(loader, raw, where)
        return Placed(None, 1) if node is None else _Placing(loader, where, faults).value(node, 0)


def _only_document(loader: Loader, raw: bytes, where: str) -> yaml.Node | None:
    """Return the document of a file that has content."""
    found = None
    while loader.check_node():
        node = loader.get_node()
        if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):  # what a `---` at the end begins
            continue
        if found is not None:
            # Go's YAML reads the first document and passes over the others: what they ask for would be missing without a word.
            raise DocumentError(
                f"{where}:{_separator(raw, node.start_mark.line + 1)}: a second document (after ---)",
                hint="Write each document into a file of its own.",
            )
        found = node
    return found


def _separator(raw: bytes, line: int) -> int:
    """Return the line of the `---` before the content at `line`, which the parser does not keep."""
    lines = raw.split(b"\n", line)[:line]
    return next((number for number in range(len(lines), 0, -1) if lines[number - 1].startswith(b"---")), line)


class _Placing:
    """Conversion of the nodes of one document. Errors are raised, or collected in `faults`."""

    def __init__(self, loader: Loader, where: str, faults: list[DocumentError] | None) -> None:
        self._loader = loader
        self._where = where
        self._faults = faults
        self._open: set[int] = set()  # nodes around the current one
        self._count = 0

    def value(self, node: yaml.Node, depth: int) -> Placed:
        line = node.start_mark.line + 1
        # Counted here too, with every alias written out: `_Counter` looks at documents where it finds an anchor in their bytes.
        self._count += 1
        if self._count > MAX_PLACED_NODES:
            raise DocumentError(f"{self._where}:{line}: a document of more than {MAX_PLACED_NODES} values")
        if depth > MAX_DEPTH:
            raise DocumentError(f"{self._where}:{line}: {TOO_DEEP}")
        if not isinstance(node, yaml.SequenceNode | yaml.MappingNode):
            return Placed(self._scalar(node), line)
        if id(node) in self._open:
            raise DocumentError(f"{self._where}:{line}: an alias within its own anchor")
        self._open.add(id(node))
        value: Any
        if isinstance(node, yaml.SequenceNode):
            value = [self.value(child, depth + 1) for child in node.value]
        else:
            value = self._fields(node, depth)
        self._open.remove(id(node))
        return Placed(value, line)

    def _fields(self, node: yaml.MappingNode, depth: int) -> dict[str, Placed]:
        fields: dict[str, Placed] = {}
        merged: dict[str, Placed] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == MERGE:
                self._merge(child, line, depth, merged)
                continue
            # A collection as a key is not constructed: its text may be very long, with aliases in it.
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            value = Placed(self.value(child, depth + 1).value, line)
            if not isinstance(key, str):
                self._fault(
                    line,
                    "a key must be text"
                    + (f", got {'null' if key is None else repr(key)}" if isinstance(key_node, yaml.ScalarNode) else ""),
                )
            elif key in fields:
                self._fault(line, f"duplicate key {key!r}, first on line {fields[key].line}")
            else:
                fields[key] = value
        return merged | fields

    def _merge(self, node: yaml.Node, line: int, depth: int, merged: dict[str, Placed]) -> None:
        """Add the fields of a merge key to `merged`; those of an earlier mapping count (yaml.org/type/merge.html)."""
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(one, yaml.MappingNode):
                self._fault(line, "`<<` takes the fields of a mapping, or of a list of mappings")
                continue
            for key, value in self.value(one, depth + 1).value.items():
                merged.setdefault(key, value)

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._loader.value(node)
        except yaml.YAMLError as error:
            self._collect(_unreadable(error, self._where, column=False))
            return None

    def _fault(self, line: int, message: str) -> None:
        self._collect(DocumentError(f"{self._where}:{line}: {message}"))

    def _collect(self, error: DocumentError) -> None:
        if self._faults is None or len(self._faults) >= _MAX_FAULTS:
            raise error
        self._faults.append(error)


_BMP = 0xFFFF


def dump_yaml(document: Any) -> str:
    """Return a document as YAML: keys in the given order, no aliases, blocks for texts of several lines; always the same."""
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    if text.isascii():
        return text
    # PyYAML leaves some of them, such as U+202E, which turns the text that follows. All are inside of double quotes.
    return "".join(sign if sign == "\n" or is_visible(sign) else _yaml_escape(sign) for sign in text)


def _yaml_escape(sign: str) -> str:
    """Return an escape of YAML's double quotes (YAML 1.2, 5.7)."""
    return f"\\u{ord(sign):04x}" if ord(sign) <= _BMP else f"\\U{ord(sign):08x}"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True

    def text(self, data: str) -> yaml.ScalarNode:
        is_plain = data.isprintable() or all(sign in "\n\t" or is_visible(sign) for sign in data)
        style = ("|" if "\n" in data else None) if is_plain else '"'  # only double quotes have escapes
        if style is None and not is_text(data):
            style = "'"  # `y`, `1e3` and `0o17` are plain text for PyYAML, and not for Kubernetes
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.text)


def convert(document: Any, kind: type[T], where: str) -> T:
    """Convert a loaded document to a msgspec type. Raises DocumentError with the path inside the document."""
    try:
        return msgspec.convert(document, type=kind)
    except msgspec.ValidationError as error:
        raise DocumentError(f"{where}: {error}") from error


def decode_json(raw: bytes, decoder: msgspec.json.Decoder[T], where: str) -> T:
    """Decode JSON with a decoder. Raises DocumentError."""
    # Decoders are made when modules are imported: msgspec inspects a type when it is first used, and two threads that do so at
    # the same time crash the process.
    try:
        return decoder.decode(raw)
    except UNDECODABLE as error:
        raise DocumentError(f"{where}: {error}") from error


def decode_bounded(raw: bytes, decoder: msgspec.json.Decoder[T], bytes_per_value: int = COMPACT) -> T:
    """Decode hostile JSON into at most a small multiple of its bytes. Raises UNDECODABLE, also for too many values."""
    # Values of two or three bytes, such as `[],`, take dozens in memory (ADR 0030).
    require_bounded_values(raw, bytes_per_value)
    return decoder.decode(raw)


def require_bounded_values(raw: bytes, bytes_per_value: int = COMPACT) -> None:
    """Raise ValidationError for JSON that `decode_bounded` refuses."""
    require_bounded_number(values_in(raw), len(raw), bytes_per_value)


def require_bounded_number(values: int, size: int, bytes_per_value: int = COMPACT) -> None:
    """Raise ValidationError for more `values` than `decode_bounded` accepts in JSON of `size` bytes."""
    if values > _ALWAYS_ALLOWED_VALUES + size // bytes_per_value:
        raise msgspec.ValidationError(f"about {values} values in {size} bytes, more than any real document has")


def values_in(raw: bytes) -> int:
    """Return the approximate number of values in JSON: its commas and opening brackets, also those inside of texts."""
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def pretty_json(document: Any) -> bytes:
    """Return JSON for files that a person opens: UTF-8, keys sorted, two-space indent, hidden characters as escapes."""
    plain = msgspec.to_builtins(document)
    return visible_json(json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def json_parts(document: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield JSON in parts: UTF-8, keys sorted, two-space indent, a line break at the end. Iterators in it become lists.

    As one text it would be there several times: encoded, indented, and as the result.
    """
    yield from _value_parts(dict(document), b"\n")
    yield b"\n"


def _value_parts(value: Any, line: bytes) -> Iterator[bytes]:
    """Yield the JSON of a value; `line`: a line break, and the indentation of the value."""
    if isinstance(value, dict) and len(value) <= _PART and any(map(_is_long, value.values())):
        lead = b"{"
        for key in sorted(value):
            yield lead + line + b"  " + msgspec.json.encode(key) + b": "
            yield from _value_parts(value[key], line + b"  ")
            lead = b","
        yield line + b"}"
    elif _is_long(value):
        yield from _long_parts(value, line)
    else:
        yield _indented(value, line)


def _is_long(value: Any) -> bool:
    if isinstance(value, dict):
        return len(value) > _PART or any(map(_is_long, value.values()))
    return isinstance(value, Iterator) or (isinstance(value, list | tuple) and len(value) > _PART)


def _long_parts(value: Any, line: bytes) -> Iterator[bytes]:
    """Yield the JSON of a long list or mapping, some hundred entries at a time."""
    entries = iter(sorted(value) if isinstance(value, dict) else value)
    lead, end = (b"{", line + b"}") if isinstance(value, dict) else (b"[", line + b"]")
    is_empty = True
    while some := list(islice(entries, _PART)):
        inner = _indented({key: value[key] for key in some} if isinstance(value, dict) else some, line)
        yield lead
        yield inner[1 : -len(end)]
        lead, is_empty = b",", False
    yield b"[]" if is_empty else end


def _indented(value: Any, line: bytes) -> bytes:
    # JSON has no line breaks inside of texts.
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2).replace(b"\n", line)


def bounded_json(document: Any, limit: int, what: str, hint: str) -> bytes:
    """Return `pretty_json` of what is read again within `limit` bytes. Raises ContentError above it, before it is written."""
    raw = pretty_json(document)
    if len(raw) > limit:
        raise ContentError(f"the {what} would have {len(raw)} bytes; the limit for reading it is {limit}", hint=hint)
    return raw
