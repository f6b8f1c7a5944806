"""The requirements of a bundle and the APIs that it provides. Pure.

From its properties and constraints, and from its ClusterServiceVersion where it has no properties of that kind. Sources:
operator-registry, alpha/property/property.go; OLM, pkg/controller/registry/resolver and enhancements, *compound constraints*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.version import OlmRange
from exporter.catalog.related_images import inline_csvs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.catalog.model import Bundle


MAX_DEPTH = 32  # of nested constraints, which are read by recursion
# operator-framework/api, pkg/constraints/constraint.go: a constraint has exactly one of these, and a message.
_KINDS = ("gvk", "package", "all", "any", "not", "cel")


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
    return frozenset(api for value in bundle.values("olm.gvk") if (api := _api(value)) is not None)


def required(bundle: Bundle) -> tuple[Requirement, ...]:
    """Return the requirements of a bundle, each once. Never raises for the contents of a bundle."""
    found: list[Requirement] = [_package(value) for value in bundle.values("olm.package.required")]
    found += [_needs_api(value) for value in bundle.values("olm.gvk.required")]
    for value in bundle.values("olm.constraint"):
        found += _flat(_constraint(value, 0))
    # opm derives these properties when it renders; old databases have them in the ClusterServiceVersion only.
    if not bundle.has("olm.gvk.required"):
        found += [NeedsApi(api) for csv in inline_csvs(bundle) for api in apis_of_csv(csv, "required")]
    return tuple(dict.fromkeys(found))


def _package(value: Any) -> Requirement:
    # Values of properties come from publishers, so any field may have any type.
    name, text = _text(value, "packageName"), _text(value, "versionRange")
    if not name:
        return Unclear("a required package without a name")
    try:
        return NeedsPackage(name, text, OlmRange.parse(text))
    except ValueError:  # kept with its text, so that the problem can show it
        return NeedsPackage(name, text, None)


def _needs_api(value: Any) -> Requirement:
    api = _api(value)
    return NeedsApi(api) if api else Unclear("a required API without group, version or kind")


def _api(value: Any) -> Api | None:
    # The group may be empty: that of the core API.
    texts = [_text(value, key) for key in ("group", "version", "kind")]
    return Api(*texts) if texts[1] and texts[2] else None


def _constraint(value: Any, depth: int) -> Requirement:
    """Read an `olm.constraint`: exactly one of its kinds."""
    kinds = [key for key in value if key != "failureMessage"] if isinstance(value, dict) else []
    if depth > MAX_DEPTH or len(kinds) != 1 or kinds[0] not in _KINDS:
        return Unclear(f"a constraint that OLM would not read: {', '.join(map(str, kinds)) or 'empty'}"[:200])
    kind, body = kinds[0], value[kinds[0]]
    if kind == "package":
        return _package(body)
    if kind == "gvk":
        return _needs_api(body)
    # `not` forbids bundles, and `cel` is a program over their properties: both depend on the contents of the cluster.
    if kind in ("not", "cel"):
        message = _text(value, "failureMessage")
        return Unclear(f"a constraint `{kind}`, which only the cluster can decide" + (f": {message}" if message else ""))
    listed = body.get("constraints") if isinstance(body, dict) else None
    parts = tuple(_constraint(one, depth + 1) for one in listed) if isinstance(listed, list) else ()
    return NeedsAll(parts) if kind == "all" else NeedsAny(parts)


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
            if (api := _api({"group": group, "version": _text(one, "version"), "kind": _text(one, "kind")})) is not None:
                yield api


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
