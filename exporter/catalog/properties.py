"""Properties, and the types that opm decodes their values into (operator-registry, alpha/property/property.go). Pure.

opm decodes each of them when it loads a catalog, and gives up on the whole catalog for one that it cannot decode
(operator-framework/operator-registry#966). Other types of properties need a value of any kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from common.serialization import DocumentError, load_yaml_documents
from exporter.catalog.go_json import GoError, GoStruct, decode
from exporter.catalog.model import BUNDLE_OBJECT, CHANNEL, CSV_METADATA, PACKAGE, Property

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


PACKAGE_REQUIRED = "olm.package.required"
GVK = "olm.gvk"
GVK_REQUIRED = "olm.gvk.required"
SEARCH_METADATA = "olm.search.metadata"
T = TypeVar("T")
# Exact in a float64, as which opm reads it; larger ones are checked by their value.
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
_Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class PackageValue(GoStruct, frozen=True, rename="camel"):
    """The value of an `olm.package` property."""

    package_name: str = ""
    version: str = ""
    release: str = ""  # since 2026


class PackageRequired(GoStruct, frozen=True, rename="camel"):
    """The value of an `olm.package.required` property."""

    package_name: str = ""
    version_range: str = ""


class GroupVersionKind(GoStruct, frozen=True):
    """The value of an `olm.gvk` or `olm.gvk.required` property."""

    group: str = ""
    version: str = ""
    kind: str = ""


class ChannelPriority(GoStruct, frozen=True, rename="camel"):
    """The value of an `olm.channel` property."""

    channel_name: str = ""
    priority: _Int64 = 0


class BundleObject(GoStruct, frozen=True):
    """The value of an `olm.bundle.object` property; `ref` is a file of the catalog, for earlier versions of opm."""

    data: bytes = b""
    ref: str = ""


class SearchItem(GoStruct, frozen=True):
    """An item of an `olm.search.metadata` property."""

    name: str = ""
    type: str = ""
    value: Any = None


class Icon(GoStruct, frozen=True):
    """The icon of a package."""

    base64data: bytes = b""
    mediatype: str = ""


# `olm.csv.metadata`: the types are those of operator-framework/api, pkg/operators/v1alpha1/clusterserviceversion_types.go.


class _Link(GoStruct, frozen=True):
    name: str = ""
    url: str = ""


class _Maintainer(GoStruct, frozen=True):
    name: str = ""
    email: str = ""


class _InstallMode(GoStruct, frozen=True):
    type: str = ""
    supported: bool = False


class _Resource(GoStruct, frozen=True):
    name: str = ""
    kind: str = ""
    version: str = ""


class _Descriptor(GoStruct, frozen=True, rename="camel"):
    path: str = ""
    display_name: str = ""
    description: str = ""
    x_descriptors: tuple[str, ...] = msgspec.field(name="x-descriptors", default=())
    value: msgspec.Raw = msgspec.Raw(b"null")


class _Api(GoStruct, frozen=True, rename="camel"):
    name: str = ""
    version: str = ""
    kind: str = ""
    display_name: str = ""
    description: str = ""
    resources: tuple[_Resource, ...] = ()
    status_descriptors: tuple[_Descriptor, ...] = ()
    spec_descriptors: tuple[_Descriptor, ...] = ()
    action_descriptors: tuple[_Descriptor, ...] = ()


class _ApiService(_Api, frozen=True, rename="camel"):
    group: str = ""
    deployment_name: str = ""
    container_port: _Int32 = 0


class _Crds(GoStruct, frozen=True):
    owned: tuple[_Api, ...] = ()
    required: tuple[_Api, ...] = ()


class _ApiServices(GoStruct, frozen=True):
    owned: tuple[_ApiService, ...] = ()
    required: tuple[_ApiService, ...] = ()


class CsvMetadata(GoStruct, frozen=True, rename="camel"):
    """The value of an `olm.csv.metadata` property."""

    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    api_service_definitions: _ApiServices = _ApiServices()
    crd_descriptions: _Crds = _Crds()
    description: str = ""
    display_name: str = ""
    install_modes: tuple[_InstallMode, ...] = ()
    keywords: tuple[str, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    links: tuple[_Link, ...] = ()
    maintainers: tuple[_Maintainer, ...] = ()
    maturity: str = ""
    min_kube_version: str = ""
    native_apis: tuple[GroupVersionKind, ...] = msgspec.field(name="nativeAPIs", default=())
    provider: _Link = _Link()


TYPES: Mapping[str, Any] = {
    PACKAGE: PackageValue,
    PACKAGE_REQUIRED: PackageRequired,
    GVK: GroupVersionKind,
    GVK_REQUIRED: GroupVersionKind,
    CHANNEL: ChannelPriority,
    BUNDLE_OBJECT: BundleObject,
    CSV_METADATA: CsvMetadata,
    SEARCH_METADATA: tuple[SearchItem, ...],
}


def decoded(properties: Iterable[Property], name: str, kind: type[T]) -> Iterator[T | None]:
    """Yield the value of each property of a type; None for one that opm could not decode."""
    for one in properties:
        if one.type == name:
            try:
                yield decode(one.value, kind)
            except GoError:
                yield None


def csv_metadata(properties: Iterable[Property]) -> Iterator[CsvMetadata]:
    """Yield what the `olm.csv.metadata` properties hold, without those that opm could not decode."""
    return (one for one in decoded(properties, CSV_METADATA, CsvMetadata) if one is not None)


def fault(one: Property) -> str:
    """Return why opm would refuse a property of a bundle; empty where it would not."""
    if not bytes(memoryview(one.value)[:1]):
        return "has no value"
    kind = TYPES.get(one.type)
    if kind is None:
        return ""
    try:
        value = decode(one.value, kind)
    except GoError as error:
        return str(error)
    if isinstance(value, BundleObject):
        return _object_fault(value)
    return _search_fault(value) if one.type == SEARCH_METADATA else ""


def _object_fault(value: BundleObject) -> str:
    if value.ref:
        what = "data as well" if value.data else "a filtered catalog does not have it"
        return f"refers to the file {value.ref[:200]!r}, and {what}"
    # opm takes what begins as JSON without reading it, and reads anything else as YAML (k8s.io/apimachinery,
    # pkg/util/yaml/decoder.go, ToJSON); the cache of `opm serve` has texts in UTF-8 only.
    try:
        if value.data.lstrip()[:1] == b"{":
            value.data.decode()
        else:
            next(iter(load_yaml_documents(value.data, BUNDLE_OBJECT, forgiving=True)), None)
    except (UnicodeDecodeError, DocumentError) as error:
        return f"holds neither JSON nor YAML: {error.message if isinstance(error, DocumentError) else error}"
    return ""


def _search_fault(items: tuple[SearchItem, ...]) -> str:
    """Return which rule of SearchMetadata.UnmarshalJSON an item breaks."""
    seen: set[str] = set()
    for number, one in enumerate(items, 1):
        if not one.name or not one.type or one.value is None:
            return f"item {number} has no name, type or value"
        if not _is_search_value(one.type, one.value):
            return f"item {number} ({one.name[:80]!r}): its value is no {one.type[:80]!r}"
        if one.name in seen:
            return f"two items are named {one.name[:80]!r}"
        seen.add(one.name)
    return ""


def _is_search_value(kind: str, value: Any) -> bool:
    match kind, value:
        case "String", str():
            return bool(value)
        case "ListString", list():
            return all(isinstance(each, str) and each for each in value)
        case "MapStringBoolean", dict():
            return all(key and isinstance(each, bool) for key, each in value.items())
    return False
