"""The requirements of a bundle and the APIs that it provides. Pure.

From its properties and constraints, and from its ClusterServiceVersion where it has no properties of that kind. Sources:
operator-registry, alpha/property/property.go; OLM, pkg/controller/registry/resolver and enhancements, *compound constraints*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.version import OlmRange
from exporter.catalog.go_json import GoError, GoStruct, decode
from exporter.catalog.properties import GVK, GVK_REQUIRED, PACKAGE_REQUIRED, GroupVersionKind, PackageRequired, decoded
from exporter.catalog.related_images import inline_csvs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import msgspec

    from exporter.catalog.model import Bundle


CONSTRAINT = "olm.constraint"  # its property type
MAX_DEPTH = 32  # of nested constraints, which are read by recursion
_MAX_CONSTRAINT = 128 * 1024  # bytes; OLM refuses larger ones (operator-framework/api, pkg/constraints/constraint.go, Parse)
_UNREADABLE = "a constraint that OLM would not read"


class _Closed(GoStruct, frozen=True):
    """A part of a constraint; that Parse refuses unknown fields (DisallowUnknownFields)."""

    CLOSED = True


class _ClosedPackage(PackageRequired, frozen=True):
    CLOSED = True


class _ClosedApi(GroupVersionKind, frozen=True):
    CLOSED = True


class _Cel(_Closed, frozen=True):
    rule: str = ""


class _Compound(_Closed, frozen=True):
    constraints: tuple[Constraint, ...] = ()


class Constraint(_Closed, frozen=True, rename={"failure_message": "failureMessage", "not_": "not"}):
    """The value of an `olm.constraint` property: exactly one of its kinds, and a message."""

    failure_message: str = ""
    gvk: _ClosedApi | None = None
    package: _ClosedPackage | None = None
    all: _Compound | None = None
    any: _Compound | None = None
    not_: _Compound | None = None
    none: _Compound | None = None  # the former name of `not`
    cel: _Cel | None = None


_KINDS = ("gvk", "package", "all", "any", "not_", "none", "cel")


@dataclass(frozen=True, slots=True)
class Api:
    """A group, version and kind."""

    group: str
    version: str
    kind: str

    def __str__(self) -> str:
        return f"API {self.group}/{self.version} {self.kind}"


@dataclass(frozen=True, slots=True)
class NeedsPackage:
    """A bundle of a package in a version range; `range` is None for a text that OLM cannot parse."""

    package: str
    text: str
    range: OlmRange | None

    def __str__(self) -> str:
        return f"package {self.package} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class NeedsApi:
    """A bundle that provides an API."""

    api: Api

    def __str__(self) -> str:
        return str(self.api)


@dataclass(frozen=True, slots=True)
class NeedsAny:
    """One of several alternatives."""

    options: tuple[Requirement, ...]

    def __str__(self) -> str:
        return f"any of: {', '.join(map(str, self.options))}"


@dataclass(frozen=True, slots=True)
class NeedsAll:
    """All of several parts; only within an alternative, since others are resolved one by one."""

    parts: tuple[Requirement, ...]

    def __str__(self) -> str:
        return f"all of: {', '.join(map(str, self.parts))}"


@dataclass(frozen=True, slots=True)
class Unclear:
    """A requirement that only the resolver on a cluster can decide."""

    what: str

    def __str__(self) -> str:
        return self.what


Requirement = NeedsPackage | NeedsApi | NeedsAny | NeedsAll | Unclear


def provided(bundle: Bundle) -> frozenset[Api]:
    """Return the APIs that a bundle provides."""
    values = decoded(bundle.properties, GVK, GroupVersionKind)
    return frozenset(api for value in values if (api := _api(value)) is not None)


def required(bundle: Bundle) -> tuple[Requirement, ...]:
    """Return the requirements of a bundle, each once. Never raises for the contents of a bundle."""
    found: list[Requirement] = [_package(one) for one in decoded(bundle.properties, PACKAGE_REQUIRED, PackageRequired)]
    found += [_needs_api(one) for one in decoded(bundle.properties, GVK_REQUIRED, GroupVersionKind)]
    for one in bundle.properties:
        if one.type == CONSTRAINT:
            found += _flat(_read(one.value))
    # opm derives these properties when it renders; old databases have them in the ClusterServiceVersion only.
    if not bundle.has(GVK_REQUIRED):
        found += [NeedsApi(api) for csv in inline_csvs(bundle) for api in apis_of_csv(csv, "required")]
    return tuple(dict.fromkeys(found))


def _package(value: PackageRequired | None) -> Requirement:
    name, text = (value.package_name, value.version_range) if value else ("", "")
    if not name:
        return Unclear("a required package without a name")
    try:
        return NeedsPackage(name, text, OlmRange.parse(text))
    except ValueError:  # kept with its text, so that the problem can show it
        return NeedsPackage(name, text, None)


def _needs_api(value: GroupVersionKind | None) -> Requirement:
    api = _api(value)
    return NeedsApi(api) if api else Unclear("a required API without group, version or kind")


def _api(value: GroupVersionKind | None) -> Api | None:
    # The group may be empty: that of the core API.
    return Api(value.group, value.version, value.kind) if value and value.version and value.kind else None


def _constraint(one: Constraint, depth: int) -> Requirement:
    """Read an `olm.constraint`: exactly one of its kinds."""
    kinds = {name: body for name in _KINDS if (body := getattr(one, name)) is not None}
    if depth > MAX_DEPTH or len(kinds) != 1:
        return Unclear(f"{_UNREADABLE}: {', '.join(name.rstrip('_') for name in kinds) or 'empty'}")
    ((name, body),) = kinds.items()
    if isinstance(body, PackageRequired):
        return _package(body)
    if isinstance(body, GroupVersionKind):
        return _needs_api(body)
    # `not` forbids bundles, and `cel` is a program over their properties: both depend on the contents of the cluster.
    if name not in ("all", "any"):
        message = one.failure_message
        kind = name.rstrip("_")
        return Unclear(f"a constraint `{kind}`, which only the cluster can decide" + (f": {message}" if message else ""))
    parts = tuple(_constraint(part, depth + 1) for part in body.constraints)
    return NeedsAll(parts) if name == "all" else NeedsAny(parts)


def _read(value: msgspec.Raw) -> Requirement:
    if len(memoryview(value)) > _MAX_CONSTRAINT:
        return Unclear(f"{_UNREADABLE}: it has more than {_MAX_CONSTRAINT} bytes")
    try:
        return _constraint(decode(value, Constraint), 0)
    except GoError as error:
        return Unclear(f"{_UNREADABLE}: {error}"[:200])


def _flat(requirement: Requirement) -> Sequence[Requirement]:
    # At the top level all parts are required anyway, so each is resolved, and reported, on its own.
    return [one for part in requirement.parts for one in _flat(part)] if isinstance(requirement, NeedsAll) else [requirement]


def apis_of_csv(
    csv: Any, relation: str, sections: Sequence[str] = ("customresourcedefinitions", "apiservicedefinitions")
) -> Iterator[Api]:
    """Yield the APIs that a ClusterServiceVersion says it has (`owned`) or needs (`required`)."""
    spec = csv.get("spec") if isinstance(csv, dict) else None
    for section in sections:
        part = spec.get(section) if isinstance(spec, dict) else None
        listed = part.get(relation) if isinstance(part, dict) else None
        for one in listed if isinstance(listed, list) else ():
            # CustomResourceDefinitions are listed by their name, PLURAL.GROUP; API services have the group on its own.
            group = _text(one, "group") or _text(one, "name").partition(".")[2]
            if (api := _api(GroupVersionKind(group, _text(one, "version"), _text(one, "kind")))) is not None:
                yield api


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
