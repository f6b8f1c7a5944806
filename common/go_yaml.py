"""YAML as Kubernetes reads it: the C loader of PyYAML, with the scalars, tags, keys and merge keys of sigs.k8s.io/yaml.

Sources: kubernetes-sigs/yaml, goyaml.v2/resolve.go (scalars), goyaml.v2/decode.go (tags, merge keys), yaml.go (keys, JSON).
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import string
import struct
from calendar import monthrange
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
MERGE = _TAG + "merge"
MAX_DEPTH = 200
TOO_DEEP = f"nested deeper than {MAX_DEPTH}"
_STR, _NULL, _BOOL, _INT, _FLOAT = (_TAG + name for name in ("str", "null", "bool", "int", "float"))
_BINARY, _TIMESTAMP = _TAG + "binary", _TAG + "timestamp"

# resolve.go, resolveMap. It has no type "value" (YAML 1.1, a plain `=`): CustomResourceDefinitions have `enum: ["!=", =, =~]`
# (prometheus-operator#4955).
_WORDS: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], (_BOOL, True)),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], (_BOOL, False)),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], (_NULL, None)),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], (_FLOAT, math.nan)),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"], (_FLOAT, math.inf)),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], (_FLOAT, -math.inf)),
}
_OF_NUMBERS = frozenset("+-.0123456789")
# What strconv.ParseInt reads with base 0; digits after a zero are octal. Base 60 (`1:59:59`, YAML 1.1) is none of it.
_INTEGER = re.compile(r"([-+]?)(?:0[bB]([01]+)|0[oO]?([0-7]+)|0[xX]([0-9a-fA-F]+)|(0|[1-9][0-9]*))")
_BASES = (2, 8, 16, 10)  # of the groups above, after the sign
_FLOATING = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_FRACTION = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?")  # strconv.ParseFloat, with `_` between digits
_SIGNED_BINARY = re.compile(r"0b([-+][01]{1,63})")  # resolve.go cuts `0b` off, and ParseInt takes a sign
_LONGEST_DECIMAL = 20  # digits of 2**64 - 1
_LEAST, _MOST, _MOST_UNSIGNED, _BEYOND_DOUBLE = -(2**63), 2**63 - 1, 2**64 - 1, 2**1024


# Go's simple case folding (unicode.SimpleFold) has two letters beyond ASCII that are equal to one of ASCII: U+017F and U+212A.
_FOLD = str.maketrans(string.ascii_uppercase + "\u017f\u212a", string.ascii_lowercase + "sk")


def fold(name: str) -> str:
    """Return a name in the form in which encoding/json compares it with the names of fields, which are ASCII."""
    return name.lower() if name.isascii() else name.translate(_FOLD)


def number(text: str) -> int | float | None:
    """Return the number that a plain scalar is, None for text."""
    if text[:1] == ".":
        return _finite(text) if _FRACTION.fullmatch(text) else None
    plain = text.replace("_", "")
    if (found := _INTEGER.fullmatch(plain)) and (value := _integer(found)) is not None:
        return value
    if _FLOATING.fullmatch(plain) and (real := _finite(plain)) is not None:
        return real
    if found := _SIGNED_BINARY.fullmatch(plain):
        return int(found[1], 2)
    return _beyond_64_bits(plain)


def _integer(found: re.Match[str]) -> int | None:
    """Return an integer of 64 bits: with a sign as strconv.ParseInt has it, without up to that of ParseUint."""
    base, digits = _digits(found)
    if base == _BASES[-1] and len(digits) > _LONGEST_DECIMAL:
        return None  # the time for them grows with the square of their number (CVE-2020-10735)
    value = -int(digits, base) if found[1] == "-" else int(digits, base)
    return value if _LEAST <= value <= (_MOST if found[1] else _MOST_UNSIGNED) else None


def _finite(text: str) -> float | None:
    value = float(text)
    return None if math.isinf(value) else value  # text: ParseFloat returns an error


def _beyond_64_bits(plain: str) -> int | None:
    """Return an unsigned integer that is no double either, or has the prefix of a base (resolve.go, big.Int)."""
    found = _INTEGER.fullmatch(plain)
    if found is None or found[1]:
        return None  # with a sign it is text: ParseUint has another error for it
    base, digits = _digits(found)
    return int(digits, base) if base != _BASES[-1] else _BEYOND_DOUBLE


def _digits(found: re.Match[str]) -> tuple[int, str]:
    return next((base, digits) for base, digits in zip(_BASES, found.groups()[1:], strict=True) if digits is not None)


def _resolved(text: str) -> tuple[str, Any]:
    """Return tag and value of a plain scalar (resolve.go, resolve)."""
    if word := _WORDS.get(text):
        return word
    found = number(text) if text[0] in _OF_NUMBERS else None
    if found is None:
        return _STR, text  # a date too: "for backward compatibility reasons we set it as a string" (decode.go, scalar)
    return (_INT if isinstance(found, int) else _FLOAT), found


def is_text(text: str) -> bool:
    """Return whether a plain scalar is text, also as a key."""
    return text != "<<" and ((bool(text) and text[0] not in _HINTS) or _resolved(text)[0] == _STR)


def _tagged(tag: str, text: str) -> Any:
    """Return the value of a scalar with a tag. Raises ValueError for text that the tag does not allow."""
    if tag == _BINARY:
        return _from_base64(text)
    if tag == _TIMESTAMP and _is_timestamp(text):
        return text
    if tag not in (_NULL, _BOOL, _INT, _FLOAT, _TIMESTAMP):
        return text  # of other tags the text counts, also of local ones such as `!foo`
    kind, value = _resolved(text)
    if kind == tag:
        return value
    if tag == _FLOAT and kind == _INT and value <= _MOST:
        return float(value)
    raise ValueError(f"the value is not valid for its tag {tag.replace(_TAG, '!!')}")  # it may be a secret of a kubeconfig


def _from_base64(text: str) -> str:
    try:
        raw = base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the value is not valid for its tag !!binary") from None
    # encoding/json writes U+FFFD for each byte that is not UTF-8.
    return re.sub("[\udc80-\udcff]", "\ufffd", raw.decode(errors="surrogateescape"))


# resolve.go, allowedTimestampFormats, as time.Parse reads them: one or two digits, a fraction of any length.
_TIME = r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:[.,]\d+)?"
_DATE_TIME = re.compile(rf"(\d{{4}})-(\d{{1,2}})-(\d{{1,2}})(?:[Tt]{_TIME}(?:Z|[-+]\d\d:\d\d)| {_TIME})?", re.ASCII)


def _is_timestamp(text: str) -> bool:
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return False
    year, month, day, hour, minute, second = (int(part) for part in [*found.groups("")[:3], *_clock(found)])
    months, hours, minutes = 12, 24, 60
    return (
        0 < month <= months
        and 0 < day <= monthrange(year or 400, month)[1]  # the year 0 is a leap year, as 400
        and hour < hours
        and max(minute, second) < minutes
    )


def _clock(found: re.Match[str]) -> list[str]:
    return [part for part in found.groups()[3:] if part] or ["0"] * 3


def text_of(value: Any) -> str:
    """Return the text of a scalar where a field of text is wanted: a number or boolean is converted (yaml.go).

    A float has the shortest digits of 32 bits: `4.10` is `4.1`, and `1000000.0` is `1e+06`.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _text_of_float(value)
    return str(value) if isinstance(value, int | str) else ""


def _text_of_float(value: float) -> str:
    """Return what strconv.FormatFloat(value, 'g', -1, 32) does, with the names of YAML for infinity and NaN."""
    if math.isnan(value):
        return ".nan"
    try:
        single = _single(value)
    except OverflowError:
        return "-.inf" if value < 0 else ".inf"
    most_digits, least_exponent, most_exponent = 9, -4, 6
    text, digits = "", 0
    for digits in range(most_digits):
        text = f"{single:.{digits}e}"
        if _single(float(text)) == single:
            break
    mantissa, _, exponent = text.partition("e")
    if least_exponent <= int(exponent) < most_exponent:
        return f"{single:.{max(digits - int(exponent), 0)}f}"
    return f"{mantissa}e{exponent[0]}{abs(int(exponent)):02d}"


def _single(value: float) -> float:
    """Return the nearest number of 32 bits. Raises OverflowError."""
    if math.isinf(value):
        raise OverflowError
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


class Loader(yaml.CSafeLoader):
    """The C loader with the rules of this module. `value` returns text, numbers, booleans, None, lists, and dicts by text.

    Two equal keys of a mapping are an error, and keys that are merged (`<<`) never replace others (yaml.org/type/merge.html),
    unless `last_counts`.
    """

    last_counts = False
    _depth = 0  # collections around the current value

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._done: dict[int, Any] = {}  # collections by node: aliases are the same node again, and may multiply
        self._nodes: list[yaml.Node] = []  # kept, so that no other node has the same id

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        """Return the tag of a node without one. PyYAML calls this for each node; its own takes longer."""
        if kind is yaml.ScalarNode:
            # An empty value has no first character; `<<` is a merge key, and text in any other place.
            if not implicit[0] or (value and value[0] not in _HINTS):
                return _STR
            return MERGE if value == "<<" else _resolved(value)[0]
        return _TAG + ("seq" if kind is yaml.SequenceNode else "map")

    def value(self, node: yaml.Node) -> Any:
        """Return the value of a node as JSON has it."""
        if isinstance(node, yaml.ScalarNode):
            return node.value if node.tag == _STR else _of_json(self.scalar(node), node)
        # go-yaml ignores the tags of collections.
        known = self._done.get(id(node), _UNKNOWN)
        if known is _OPEN:
            raise _error("an alias within its own anchor", node)
        if known is _UNKNOWN:
            self._done[id(node)] = _OPEN
            known = self._done[id(node)] = self._collection(node)
        return known

    def _collection(self, node: yaml.Node) -> Any:
        # Documents of few brackets are not counted before: without this, Python's limit of recursion would be theirs.
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _error(TOO_DEEP, node)
        self._nodes.append(node)
        found = self._mapping(node) if isinstance(node, yaml.MappingNode) else [self.value(child) for child in node.value]
        self._depth -= 1
        return found

    def document(self, node: yaml.Node) -> Any:
        """Return the value of the root of a document."""
        self._done.clear()
        self._nodes.clear()
        return self.value(node)

    def scalar(self, node: yaml.ScalarNode) -> Any:
        """Return the value of a scalar, which may be a number that JSON does not have. Raises MarkedYAMLError."""
        try:
            return _tagged(node.tag, node.value)
        except ValueError as error:
            raise _error(str(error), node) from None

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        merged: set[str] = set()
        for key_node, child in node.value:
            if key_node.tag == MERGE and key_node.value == "<<":
                self._merge(child, fields, merged)
                continue
            key = key_node.value if key_node.tag == _STR else self._key(key_node)
            if key in fields and not self.last_counts and key not in merged:
                raise _error(f"duplicate key {key!r}", key_node)
            merged.discard(key)
            fields[key] = self.value(child)
        return fields

    def _merge(self, node: yaml.Node, fields: dict[str, Any], merged: set[str]) -> None:
        """Add what a merge key gives. Of several mappings the first counts."""
        for one in reversed(node.value) if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(one, yaml.MappingNode):
                raise _error("`<<` takes the fields of a mapping, or of a list of mappings", one)
            for key, value in self.value(one).items():
                # go-yaml merges where the merge key is, over what stands before it (decode.go, merge).
                if self.last_counts or key not in fields or key in merged:
                    fields[key] = value
                    merged.add(key)

    def _key(self, node: yaml.Node) -> str:
        """Return a key that is not plain text, as JSON has it (yaml.go, convertToJSONableObject)."""
        if not isinstance(node, yaml.ScalarNode):
            raise _error("a key must be text", node)
        key = self.scalar(node)
        if key is None or (isinstance(key, int) and key > _MOST):
            raise _error(f"a key must be text; put {'null' if key is None else 'a number beyond 64 bits'} in quotes", node)
        return text_of(key)


_HINTS = frozenset("yYnNtTfFoO~<") | _OF_NUMBERS
_UNKNOWN, _OPEN = object(), object()


class ForgivingLoader(Loader):
    """Loader for published files: of two equal keys the last one counts, also of a merged one, as for Kubernetes."""

    last_counts = True


def _of_json(value: Any, node: yaml.Node) -> Any:
    """Return the value of a scalar as readers of JSON have it: an integer beyond 64 bits is a double, as `1e20` is."""
    try:
        found = float(value) if isinstance(value, int) and value > _MOST_UNSIGNED else value
    except OverflowError:
        raise _error("a number beyond the range of a double; put it in quotes", node) from None
    if isinstance(found, float) and not math.isfinite(found):
        raise _error("JSON has no infinity and no NaN; put it in quotes", node)
    return found


def _error(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
