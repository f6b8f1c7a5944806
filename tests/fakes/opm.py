"""A model of how opm loads a file-based catalog, written from the Go sources; it shares no code with the product.

Sources: operator-framework/operator-registry, alpha/declcfg/declcfg.go (Meta.UnmarshalJSON, extractUniqueMetaKeys), load.go
(LoadReader, readBundleObjects), declcfg_to_model.go (ConvertToModel), alpha/model/model.go (Validate), alpha/property/property.go
(Parse) and pkg/api (ConvertModelBundleToAPIBundle); operator-framework/api, pkg/operators/v1alpha1; Go, encoding/json; and
k8s.io/apimachinery, pkg/util/yaml (ToJSON). Rules that only opm of 2026 has are left out (ADR 0053).
"""

from __future__ import annotations

import base64
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import yaml


class RefusedError(Exception):
    """opm would not serve the catalog."""


def refuse(why: str) -> NoReturn:
    raise RefusedError(why)


def load(files: Mapping[str, bytes]) -> None:
    """Load the files of a catalog, JSON streams. Raises RefusedError."""
    config: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, content in files.items():
        for blob in stream(name, content.decode(errors="replace")):
            schema = meta(blob)
            if schema in BLOBS:
                config[schema].append(typed(BLOBS[schema], blob))
    convert(config)


def stream(name: str, text: str) -> list[dict[str, Any]]:
    """Return the objects of a file, as map[string]interface{}: numbers are float64, of equal keys the last counts."""
    decoder = json.JSONDecoder(parse_int=number, parse_float=number, parse_constant=refuse)
    found, at = [], 0
    while at < len(text.rstrip()):
        at = re.compile(r"\s*").match(text, at).end()  # type: ignore[union-attr]
        try:
            one, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            refuse(f"{name}: {error}")
        if not isinstance(one, dict):
            refuse(f"{name}: no object")
        found.append(one)
    return found


def number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        refuse(f"number {text} is no float64")
    return value


def meta(blob: dict[str, Any]) -> str:
    keys: dict[str, str] = {}
    for key in blob:
        if keys.setdefault(key.casefold(), key) != key:
            refuse(f"two keys {key!r}")
    for wanted in ("schema", "package", "name"):
        if wanted in keys and not isinstance(blob[keys[wanted]], str):
            refuse(f"{wanted} is no string")
    schema = blob.get(keys.get("schema", "")) or refuse("no schema")
    assert isinstance(schema, str)
    return schema


# Types of Go: a function for a scalar, a list of one for a slice, ("map", T), a dict of fields for a struct, ("pointer", T).


def string(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else refuse(f"{value!r:.40} is no string")


def boolean(value: Any) -> bool:
    return False if value is None else value if isinstance(value, bool) else refuse(f"{value!r:.40} is no bool")


def integer(bits: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if value is None:
            return 0
        if not isinstance(value, float):
            refuse(f"{value!r:.40} is no number")
        # The blob is encoded again: whole numbers without a fraction, from 1e21 on with an exponent.
        if value != int(value) or abs(value) >= 1e21 or not -(2 ** (bits - 1)) <= int(value) < 2 ** (bits - 1):
            refuse(f"{value} is no int{bits}")
        return int(value)

    return read


_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def octets(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, list):
        one = integer(16)
        numbers = [one(each) for each in value]
        return bytes(numbers) if all(0 <= each < 256 for each in numbers) else refuse("no bytes")
    text = string(value).replace("\r", "").replace("\n", "")
    return base64.b64decode(text) if _BASE64.fullmatch(text) else refuse("no base64")


def anything(value: Any) -> Any:
    return value


def typed(shape: Any, value: Any) -> Any:
    """Decode a value as json.Unmarshal does."""
    if callable(shape):
        return shape(value)
    if isinstance(shape, list):
        if value is not None and not isinstance(value, list):
            refuse(f"{value!r:.40} is no array")
        return [typed(shape[0], each) for each in value or []]
    if isinstance(shape, tuple):
        kind, inner = shape
        if kind == "pointer":
            return None if value is None else typed(inner, value)
        if value is not None and not isinstance(value, dict):
            refuse(f"{value!r:.40} is no object")
        return {key: typed(inner, each) for key, each in (value or {}).items()}
    if value is not None and not isinstance(value, dict):
        refuse(f"{value!r:.40} is no object")
    known = {fold(name): name for name in shape}
    found = {}
    for key in sorted(value or {}):  # in the order in which encoding/json wrote them
        if fold(key) in known:
            name = known[fold(key)]
            found[name] = typed(shape[name], value[key])
    # A missing field is the zero value, except for a json.RawMessage, which is empty then.
    return {
        name: found[name] if name in found else MISSING if inner is anything else typed(inner, None)
        for name, inner in shape.items()
    }


MISSING = object()


def fold(key: str) -> str:
    return key.replace("\u017f", "s").replace("\u212a", "k").lower()


LINK = {"name": string, "url": string}
GVK = {"group": string, "kind": string, "version": string}
RESOURCE = {"name": string, "kind": string, "version": string}
DESCRIPTOR = {"path": string, "displayName": string, "description": string, "x-descriptors": [string], "value": anything}
CRD = {
    "name": string,
    "version": string,
    "kind": string,
    "displayName": string,
    "description": string,
    "resources": [RESOURCE],
    "statusDescriptors": [DESCRIPTOR],
    "specDescriptors": [DESCRIPTOR],
    "actionDescriptors": [DESCRIPTOR],
}
SERVICE = CRD | {"group": string, "deploymentName": string, "containerPort": integer(32)}
CSV = {
    "annotations": ("map", string),
    "labels": ("map", string),
    "keywords": [string],
    "links": [LINK],
    "provider": LINK,
    "apiServiceDefinitions": {"owned": [SERVICE], "required": [SERVICE]},
    "crdDescriptions": {"owned": [CRD], "required": [CRD]},
    "description": string,
    "displayName": string,
    "maturity": string,
    "minKubeVersion": string,
    "nativeAPIs": [GVK],
    "installModes": [{"type": string, "supported": boolean}],
    "maintainers": [{"name": string, "email": string}],
}
PROPERTIES: dict[str, Any] = {
    "olm.package": {"packageName": string, "version": string},
    "olm.package.required": {"packageName": string, "versionRange": string},
    "olm.gvk": GVK,
    "olm.gvk.required": GVK,
    "olm.channel": {"channelName": string, "priority": integer(64)},
    "olm.bundle.object": {"data": octets},
    "olm.csv.metadata": CSV,
    "olm.search.metadata": [{"name": string, "type": string, "value": anything}],
}
PROPERTY = {"type": string, "value": anything}
REFERENCE = {"schema": string, "name": string}
BLOBS: dict[str, Any] = {
    "olm.package": {
        "name": string,
        "defaultChannel": string,
        "icon": ("pointer", {"base64data": octets, "mediatype": string}),
        "description": string,
        "properties": [PROPERTY],
    },
    "olm.channel": {
        "name": string,
        "package": string,
        "properties": [PROPERTY],
        "entries": [{"name": string, "replaces": string, "skips": [string], "skipRange": string}],
    },
    "olm.bundle": {
        "name": string,
        "package": string,
        "image": string,
        "properties": [PROPERTY],
        "relatedImages": [{"name": string, "image": string}],
    },
    "olm.deprecations": {"package": string, "entries": [{"reference": REFERENCE, "message": string}]},
}


def parse(properties: list[dict[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for one in properties:
        if one["value"] is MISSING:
            refuse(f"{one['type']}: unexpected end of JSON input")
        if one["type"] in PROPERTIES:
            found[one["type"]].append(typed(PROPERTIES[one["type"]], one["value"]))
    for items in found["olm.search.metadata"]:
        search(items)
    return found


def search(items: list[dict[str, Any]]) -> None:
    names = [one["name"] for one in items]
    if "" in names or len(set(names)) != len(names):
        refuse("search metadata: a name is missing or there twice")
    for one in items:
        match one["type"], one["value"]:
            case "String", str(value) if value:
                continue
            case "ListString", list(value) if all(isinstance(each, str) and each for each in value):
                continue
            case "MapStringBoolean", dict(value) if all(key and isinstance(each, bool) for key, each in value.items()):
                continue
        refuse("search metadata: not of its type")


def objects(found: dict[str, list[Any]]) -> list[str]:
    return [text(one["data"]) for one in found["olm.bundle.object"]]


def text(data: bytes) -> str:
    """yaml.ToJSON, and that protocol buffers take strings of UTF-8 only."""
    try:
        if not data.lstrip().startswith(b"{"):
            next(iter(yaml.compose_all(data, yaml.SafeLoader)), None)
        return data.decode()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        refuse(f"object: {error}")


_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)


def semver(version: str) -> None:
    match = _SEMVER.fullmatch(version)
    parts = [*match.groups()[:3], *(match[4] or "").split(".")] if match else refuse(f"{version!r:.60} is no version")
    if any(part and part.isdigit() and int(part) >= 2**64 for part in parts):
        refuse(f"{version!r:.60} is out of range")


def convert(config: Mapping[str, list[dict[str, Any]]]) -> None:
    packages: dict[str, dict[str, Any]] = {}
    for one in config["olm.package"]:
        if not one["name"] or one["name"] in packages:
            refuse(f"package {one['name']!r} has no name, or is there twice")
        packages[one["name"]] = one | {"channels": {}, "bundles": {}}
    for one in config["olm.channel"]:
        channels = (
            packages[one["package"]]["channels"] if one["package"] in packages else refuse("unknown package of a channel")
        )
        if not one["name"] or one["name"] in channels:
            refuse(f"channel {one['name']!r} has no name, or is there twice")
        channels[one["name"]] = one["entries"]
    for one in config["olm.bundle"]:
        bundle(one, packages)
    deprecated(config["olm.deprecations"], packages)
    for package in packages.values():
        validate(package)


def bundle(one: dict[str, Any], packages: dict[str, dict[str, Any]]) -> None:
    package = packages.get(one["package"]) or refuse(f"unknown package of bundle {one['name']!r}")
    if not one["name"] or one["name"] in package["bundles"]:
        refuse(f"bundle {one['name']!r} has no name, or is there twice")
    found = parse(one["properties"])
    inside = objects(found)
    if len(found["olm.package"]) != 1 or len(found["olm.csv.metadata"]) > 1:
        refuse("olm.package or olm.csv.metadata are there another number of times")
    (value,) = found["olm.package"]
    if value["packageName"] != one["package"]:
        refuse("the package is another one")
    semver(value["version"])
    if not one["image"] and not inside:
        refuse("no image")
    if not any(entry["name"] == one["name"] for entries in package["channels"].values() for entry in entries):
        refuse("in no channel")
    package["bundles"][one["name"]] = value["version"]


def deprecated(blobs: list[dict[str, Any]], packages: dict[str, dict[str, Any]]) -> None:
    seen: set[str] = set()
    for blob in blobs:
        package = packages.get(blob["package"]) or refuse("deprecations of an unknown package")
        if blob["package"] in seen:
            refuse("two deprecations of one package")
        seen.add(blob["package"])
        references = [(one["reference"]["schema"], one["reference"]["name"]) for one in blob["entries"]]
        there = {"olm.bundle": package["bundles"], "olm.channel": package["channels"], "olm.package": {"": None}}
        if len(set(references)) != len(references) or not all(one["message"] for one in blob["entries"]):
            refuse("a deprecation is there twice or has no message")
        if any(schema not in there or name not in there[schema] for schema, name in references):
            refuse("a deprecation of nothing")


def validate(package: dict[str, Any]) -> None:
    if package["defaultChannel"] not in package["channels"]:
        refuse(f"default channel {package['defaultChannel']!r}")
    versions = list(package["bundles"].values())
    if len(set(versions)) != len(versions):
        refuse("a version twice")
    for name, entries in package["channels"].items():
        known = {entry["name"]: entry for entry in entries}
        if not known or len(known) != len(entries) or not set(known) <= set(package["bundles"]):
            refuse(f"channel {name!r} is empty, has an entry twice, or one without a bundle")
        chain(name, known)


def chain(name: str, entries: dict[str, dict[str, Any]]) -> None:
    """Channel.Head and validateReplacesChain."""
    skipped = {each for entry in entries.values() for each in entry["skips"]}
    if "" in skipped:
        refuse("an empty skip")
    heads = set(entries) - skipped - {entry["replaces"] for entry in entries.values()}
    if len(heads) != 1:
        refuse(f"channel {name!r} has {len(heads)} heads")
    (current,) = heads
    walked = {current}
    while current in entries and (following := entries[current]["replaces"]) not in skipped:
        if following in walked:
            refuse(f"channel {name!r} has a cycle")
        walked.add(following)
        current = following
    if set(entries) - walked - skipped:
        refuse(f"channel {name!r} has stranded bundles")
