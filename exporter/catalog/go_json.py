"""JSON decoded into structs by the rules of Go's encoding/json, which opm and OLM read catalogs with. Pure.

Field names match in any case, unknown fields are ignored, `null` is the zero value, and a value of another type is an error
(Go, package encoding/json, *Unmarshal*). Numbers are those that are left after operator-registry has encoded the blob again
(alpha/declcfg/declcfg.go, Meta.UnmarshalJSON): `1e2` and `1.0` are integers, and the blob of one beyond a float64 is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, cast

import msgspec
from msgspec import inspect

from common.go_yaml import fold
from common.serialization import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

T = TypeVar("T")
# Every number beyond a float64 has three digits of an exponent, or two hundred digits, and most numbers have neither.
_LONG_NUMBER = re.compile(rb"[0-9](?:[eE]\+?[0-9]{3}|[0-9]{199})")
_INTEGRAL = 1e21  # from here on Go writes a float64 with an exponent, which no integer may have


class GoStruct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A struct whose fields are declared by their JSON names in Go."""

    # Unknown fields leave the fast way of msgspec, because one may be the name of a known field in another case.
    CLOSED: ClassVar[bool] = False
    """Whether an unknown field is an error, as after json.Decoder.DisallowUnknownFields."""


class GoError(ValueError):
    """A value that Go would not decode; the message says where and why."""


def decode(raw: bytes | memoryview | msgspec.Raw, kind: type[T]) -> T:
    """Return the value as a `kind`, a GoStruct or another type of msgspec. Raises GoError."""
    # Nearly all values are what they should be, and msgspec is thirty times as fast; what it refuses is looked at closely.
    try:
        found: T = _decoder(cast("Hashable", kind)).decode(raw)
    except UNDECODABLE:
        found = _into(values(raw), _shape(cast("Hashable", kind)))
    return found


def values(raw: bytes | memoryview | msgspec.Raw) -> Any:
    """Return JSON as Python values, with U+FFFD in place of bytes that are no Unicode, as Go has it. Raises GoError."""
    data = bytes(raw)
    if not data:
        raise GoError("there is no value")
    try:
        return msgspec.json.decode(data)
    except msgspec.ValidationError as error:
        raise GoError(f"a number is too large: {error}") from None
    except UNDECODABLE:
        pass
    try:
        # Escapes of half a character (`\ud800`) are valid for the standard library, and cannot be encoded again.
        plain = json.dumps(json.loads(data.decode(errors="replace"), parse_constant=_not_json), ensure_ascii=False)
        return msgspec.json.decode(plain.encode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise GoError(f"it is not JSON: {error}") from None


def number_fault(blob: bytes | memoryview) -> str:
    """Return why a blob, which is JSON, has a number that Go cannot represent; empty where it has none."""
    if _LONG_NUMBER.search(blob) is None:
        return ""
    try:
        waiting = [values(blob)]
        while waiting:
            value = waiting.pop()
            if isinstance(value, (dict, list)):
                waiting += value.values() if isinstance(value, dict) else value
            elif type(value) is int:
                float(value)
    except OverflowError:
        return "a number is too large: an integer beyond a float64"
    except GoError as error:
        return str(error)
    return ""


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


@cache
def _shape(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


@cache
def _fields(kind: Any) -> Mapping[str, tuple[str, str, inspect.Type]]:
    shape = _shape(kind)
    assert isinstance(shape, inspect.StructType)
    return {fold(one.encode_name): (one.name, one.encode_name, one.type) for one in shape.fields}


def _not_json(name: str) -> NoReturn:
    raise ValueError(name)


def _into(value: Any, shape: inspect.Type) -> Any:  # noqa: PLR0911 - one return for each type of Go
    match shape:
        case inspect.UnionType():  # of a type and None: a pointer
            return None if value is None else _into(value, next(one for one in shape.types if one != inspect.NoneType()))
        case inspect.StructType():
            return _struct({} if value is None else _typed(value, dict, "an object"), shape.cls)
        case inspect.StrType():
            return "" if value is None else _typed(value, str, "text")
        case inspect.BoolType():
            return False if value is None else _typed(value, bool, "true or false")
        case inspect.IntType():
            return 0 if value is None else _integer(value, shape)
        case inspect.BytesType():
            return b"" if value is None else _bytes(value)
        case inspect.VarTupleType():
            return tuple(_items(value, shape.item_type))
        case inspect.DictType():
            listed = {} if value is None else _typed(value, dict, "an object")
            return {key: _at(key, each, shape.value_type) for key, each in listed.items()}
        case inspect.RawType():
            return msgspec.Raw(msgspec.json.encode(value))
    return value


def _struct(value: dict[str, Any], kind: Any) -> Any:
    known = _fields(kind)
    found: dict[str, Any] = {}
    # Of several spellings of one name each must be right; the last counts, in the order in which opm wrote them again.
    for key in sorted(value):
        if (field := known.get(fold(key))) is not None:
            found[field[0]] = _at(field[1], value[key], field[2])
        elif kind.CLOSED:
            raise GoError(f"unknown field {key[:80]!r}")
    return kind(**found)


def _items(value: Any, shape: inspect.Type) -> list[Any]:
    listed = [] if value is None else _typed(value, list, "a list")
    return [_at(str(number), each, shape) for number, each in enumerate(listed, 1)]


def _at(name: str, value: Any, shape: inspect.Type) -> Any:
    """Decode a part of a value; an error begins with its name."""
    try:
        return _into(value, shape)
    except GoError as error:
        raise GoError(f"{name[:80]!r}: {error}") from None


def _typed(value: Any, kind: type[T], wanted: str) -> T:
    if type(value) is not kind:
        raise GoError(f"{_NAMES.get(type(value), 'another value')}, wanted {wanted}")
    return value


_NAMES: Mapping[type, str] = {
    dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number",
    type(None): "null",
}  # fmt: skip


def _integer(value: Any, shape: inspect.IntType) -> int:
    if type(value) not in (int, float):
        _typed(value, int, "a number")
    encoded = float(value)
    low, high = (-(2**63) if shape.ge is None else shape.ge), (2**63 - 1 if shape.le is None else shape.le)
    if not encoded.is_integer() or abs(encoded) >= _INTEGRAL or not low <= int(encoded) <= high:
        raise GoError(f"the number {value}, wanted an integer from {low} to {high}")
    return int(encoded)


def _bytes(value: Any) -> bytes:
    if isinstance(value, list):  # encoding/json reads a []byte from base64 or from a list of numbers
        return bytes(_items(value, inspect.IntType(ge=0, le=255)))
    # Go's decoder skips line breaks and no other characters (package encoding/base64).
    text = _typed(value, str, "base64").replace("\r", "").replace("\n", "")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise GoError(f"not base64: {error}") from None
