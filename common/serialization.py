"""JSON and YAML in and out, with the place of every error.

YAML is read with PyYAML's C loader without its timestamp resolver, so that a date stays the text it is in JSON. Aliases are
refused beyond a bound, duplicate keys are errors (YAML 1.2, 3.2.1.3). Typed decoding is msgspec's.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from typing import Any, TypeVar

import msgspec
import yaml

from common.errors import UsageError

T = TypeVar("T")
_MAX_DEPTH = 200


class DocumentError(UsageError):
    """A document that cannot be read: file, line and column are in the message."""


class _Loader(yaml.CSafeLoader):
    """The C loader, with our two rules about keys and dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = True) -> dict[Hashable, Any]:
    loader.flatten_mapping(node)
    mapping: dict[Hashable, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
        if key in mapping:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
        mapping[key] = loader.construct_object(value_node, deep=deep)
    return mapping


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_yaml_documents(text: str | bytes, where: str) -> Iterator[Any]:
    """Give each non-empty document of a YAML stream. Raises DocumentError with `where`, line and column."""
    loader = _Loader(text)
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]
            document = loader.get_data()
            if document is not None:
                yield document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise DocumentError(f"{place}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DocumentError(f"{where}: not YAML: {error}") from error
    finally:
        loader.dispose()


def dump_yaml(document: Any) -> str:
    """Return a document as YAML: keys in the given order, no aliases, stable between runs."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def convert(document: Any, kind: type[T], where: str) -> T:
    """Turn a loaded document into a msgspec type. Raises DocumentError naming the path inside the document."""
    try:
        return msgspec.convert(document, type=kind)
    except msgspec.ValidationError as error:
        raise DocumentError(f"{where}: {error}") from error


def decode_json(raw: bytes, kind: type[T], where: str) -> T:
    """Decode JSON into a msgspec type. Raises DocumentError."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DocumentError(f"{where}: {error}") from error


def pretty_json(document: Any) -> bytes:
    """Return JSON for files: UTF-8, keys sorted, two-space indent, newline at the end (archive format, inventory)."""
    plain = msgspec.to_builtins(document)
    return (json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
