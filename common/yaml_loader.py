"""From the nodes of a YAML document to JSON values: the meaning of scalars, tags and keys.

Kubernetes and OLM read YAML with sigs.k8s.io/yaml (go-yaml), so that is followed where it differs from YAML 1.1:
`_AS_TEXT` lists the implicit types that go-yaml leaves as text, `_VALUES` the tags with constructors of our own. Every
exception of a constructor is raised as a `yaml.MarkedYAMLError` with the place of its node.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml

Constructor = Callable[["Loader", yaml.Node], Any]
_TAG = "tag:yaml.org,2002:"
# go-yaml keeps a date as text (resolve.go: "for backward compatibility reasons we set it as a string"), and has no type "value"
# (YAML 1.1, a plain `=`): CustomResourceDefinitions have `enum: ["!=", =, =~]` (prometheus-operator#4955).
_AS_TEXT = ("timestamp", "value")
_MAX_NUMBER = 400  # characters: the time for numbers of base 60, and for their text, grows with the square of the length


class Loader(yaml.CSafeLoader):
    """The C loader, with the rules of this module. Gives text, numbers, booleans, None, lists, and dicts whose keys are text.

    Two equal keys of a mapping are an error, unless `last_counts`.
    """

    last_counts = False

    def text_of_key(self, node: yaml.Node) -> str:
        """Return a key as JSON has it: a number or a boolean becomes text, as in sigs.k8s.io/yaml."""
        key = self.construct_object(node, deep=True)
        if isinstance(key, list | dict):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", node.start_mark)
        return key if isinstance(key, str) else json.dumps(key)


class ForgivingLoader(Loader):
    """The same for what others published: of two equal keys the last counts, as for Kubernetes."""

    last_counts = True


def _mapping(loader: Loader, node: yaml.MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.text_of_key(key_node)
        if key in mapping and not loader.last_counts:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


def _sequence(loader: Loader, node: yaml.SequenceNode) -> list[Any]:
    return [loader.construct_object(child, deep=True) for child in node.value]


def _collection(loader: Loader, node: yaml.Node) -> Any:
    """Give a collection by its kind: go-yaml does not look at the tags of collections."""
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node)
    if isinstance(node, yaml.SequenceNode):
        return _sequence(loader, node)
    raise yaml.constructor.ConstructorError(None, None, f"the value is not valid for its tag {_short(node)}", node.start_mark)


def _number(construct: Any) -> Constructor:
    def bounded(loader: Loader, node: yaml.Node) -> Any:
        if len(node.value) > _MAX_NUMBER:
            problem = f"a number of {len(node.value)} characters; the limit is {_MAX_NUMBER}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return construct(loader, node)

    return bounded


def _binary(loader: Loader, node: yaml.ScalarNode) -> str:
    return str(yaml.CSafeLoader.construct_yaml_binary(loader, node).decode())


def _timestamp(loader: Loader, node: yaml.ScalarNode) -> str:
    yaml.CSafeLoader.construct_yaml_timestamp(loader, node)  # raises for what is no date
    return str(node.value)


def _placing(construct: Any) -> Constructor:
    """Give every exception of a constructor the place of its node: PyYAML's raise IndexError, KeyError and others.

    The value is not shown: a kubeconfig is YAML too.
    """

    def placed(loader: Loader, node: yaml.Node) -> Any:
        try:
            return construct(loader, node)
        except (yaml.YAMLError, RecursionError):
            raise  # the first knows its place, the second has none
        except Exception as error:
            problem = f"the value is not valid for its tag {_short(node)}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    return placed


def _short(node: yaml.Node) -> str:
    return str(node.tag).replace(_TAG, "!!")


_VALUES: dict[str, Any] = {
    "int": _number(yaml.CSafeLoader.construct_yaml_int),
    "float": _number(yaml.CSafeLoader.construct_yaml_float),
    "binary": _binary,
    "timestamp": _timestamp,
    "merge": yaml.CSafeLoader.construct_yaml_str,  # `<<` that is not a key
    **dict.fromkeys(("map", "seq", "set", "omap", "pairs"), _collection),
}


def _prepare() -> None:
    """Register the constructors, and the implicit types but those that stay text."""
    for tag, construct in yaml.CSafeLoader.yaml_constructors.items():
        Loader.add_constructor(tag, _placing(construct))
    for name, construct in _VALUES.items():
        Loader.add_constructor(_TAG + name, construct if construct is _collection else _placing(construct))
    text = {_TAG + name for name in _AS_TEXT}
    resolvers = yaml.CSafeLoader.yaml_implicit_resolvers.items()
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in listed if tag not in text] for first, listed in resolvers
    }
    ForgivingLoader.yaml_constructors = Loader.yaml_constructors
    ForgivingLoader.yaml_implicit_resolvers = Loader.yaml_implicit_resolvers


_prepare()
