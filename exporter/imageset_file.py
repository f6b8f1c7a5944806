"""Reads an ImageSetConfiguration file into `ImageSet`, every complaint with its line.

Unknown fields and duplicate keys are errors: a misspelt `minVersion` must not silently mean "head only". What hub-export does
not carry is refused by name. Source: facts/oc-mirror.md §1.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from common.errors import HubError, UsageError
from common.files import read_limited
from common.oci.platform import Platform
from common.reference import Reference, is_repository, is_tag
from common.serialization import Placed, load_placed_yaml
from exporter.imageset import (
    API_VERSION,
    KIND,
    MAX_ITEMS,
    AdditionalImage,
    ChannelRequest,
    ImageSet,
    OperatorRequest,
    PackageRequest,
    check,
)

MAX_SIZE = 16 * 1024 * 1024
API_VERSIONS = (API_VERSION, "mirror.openshift.io/v1alpha2")
# Fields of the peer that mean something there and nothing here: refused unless empty, never silently dropped.
_REFUSED = {
    "platform": "hub-export carries operators and images; releases of OpenShift itself are not among them",
    "helm": "hub-export carries operators and images; for charts list their images under additionalImages",
    "samples": "hub-export carries operators and images; list the samples' images under additionalImages",
}
T = TypeVar("T")


def read(path: Path) -> ImageSet:
    """See `imageset.load`."""
    return parse(read_limited(path, MAX_SIZE, "Wanted: an ImageSetConfiguration file."), str(path))


def parse(text: bytes, where: str) -> ImageSet:
    """Read an image set, YAML or JSON; `where` names it in errors. Raises UsageError."""
    return _Reader(where).image_set(load_placed_yaml(text, where))


class _Reader:
    """Walks the placed values; `where` of each complaint is `file:line`."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._notes: list[str] = []

    def image_set(self, root: Placed) -> ImageSet:
        fields = self._fields(root, "the file", "apiVersion kind metadata mirror archiveSize storageConfig")
        self._require_kind(root, fields)
        self._note_storage(fields.get("storageConfig"))
        mirror_at = fields.get("mirror", Placed({}, root.line))
        mirror = self._fields(mirror_at, "mirror", "operators additionalImages blockedImages platform helm samples")
        for name, why in _REFUSED.items():
            if name in mirror and mirror[name].plain():
                raise self._error(mirror[name], f"mirror.{name}: {why}", "Remove it from the file.")
        operators = tuple(self._each(mirror.get("operators"), "operators", self._operator))
        self._require_unique(mirror.get("operators"), operators)
        return ImageSet(
            operators,
            tuple(self._each(mirror.get("additionalImages"), "additionalImages", self._additional)),
            tuple(self._each(mirror.get("blockedImages"), "blockedImages", self._blocked)),
            self._archive_size(fields.get("archiveSize")),
            root.plain(),
            tuple(self._notes),
        )

    def _require_kind(self, root: Placed, fields: dict[str, Placed]) -> None:
        for name, wanted in (("kind", (KIND,)), ("apiVersion", API_VERSIONS)):
            got = self._text(fields, name)
            if got not in wanted:
                raise self._error(fields.get(name, root), f"{name} is {got!r}", f"Wanted: {' or '.join(wanted)}")

    def _note_storage(self, at: Placed | None) -> None:
        if at is not None:
            self._notes.append(
                f"{self._file}:{at.line}: storageConfig means nothing here: there is no state beside the archive"
            )

    def _operator(self, at: Placed) -> OperatorRequest:
        fields = self._fields(
            at,
            "an operator",
            "catalog full packages targetCatalog targetTag targetCatalogSourceTemplate platforms skipDependencies",
        )
        request = OperatorRequest(
            self._needed(at, fields, "catalog"),
            self._flag(fields, "full"),
            tuple(self._each(fields.get("packages"), "packages", self._package)),
            self._text(fields, "targetCatalog") or None,
            self._text(fields, "targetTag") or None,
            self._text(fields, "targetCatalogSourceTemplate") or None,
            tuple(self._each(fields.get("platforms"), "platforms", self._platform)),
            self._flag(fields, "skipDependencies"),
        )
        self._require_path(fields, "targetCatalog")
        self._require_tag(fields, "targetTag")
        return replace(request, catalog=request.catalog.removeprefix("docker://"))

    def _package(self, at: Placed) -> PackageRequest:
        fields = self._fields(at, "a package", "name defaultChannel minVersion maxVersion channels")
        package = PackageRequest(
            self._needed(at, fields, "name"),
            self._text(fields, "defaultChannel"),
            self._text(fields, "minVersion"),
            self._text(fields, "maxVersion"),
            tuple(self._each(fields.get("channels"), "channels", self._channel)),
        )
        check(OperatorRequest("", packages=(package,)), f"{self._file}:{at.line}")
        return package

    def _channel(self, at: Placed) -> ChannelRequest:
        fields = self._fields(at, "a channel", "name minVersion maxVersion")
        return ChannelRequest(
            self._needed(at, fields, "name"), self._text(fields, "minVersion"), self._text(fields, "maxVersion")
        )

    def _additional(self, at: Placed) -> AdditionalImage:
        fields = self._fields(at, "an additional image", "name targetRepo targetTag platforms")
        name = self._needed(at, fields, "name")
        self._require_path(fields, "targetRepo")
        self._require_tag(fields, "targetTag")
        return AdditionalImage(
            self._placed(fields["name"], lambda: str(Reference.parse(name.removeprefix("docker://")))),
            self._text(fields, "targetRepo") or None,
            self._text(fields, "targetTag") or None,
            tuple(self._each(fields.get("platforms"), "platforms", self._platform)),
        )

    def _blocked(self, at: Placed) -> str:
        fields = self._fields(at, "a blocked image", "name")
        pattern = self._needed(at, fields, "name")
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise self._error(fields["name"], f"blockedImages: not a regular expression: {error}") from None
        return pattern

    def _platform(self, at: Placed) -> Platform:
        fields = self._fields(at, "a platform", "os architecture variant")
        parts = [self._needed(at, fields, "os"), self._needed(at, fields, "architecture"), self._text(fields, "variant")]
        return self._placed(at, lambda: Platform.parse("/".join(part for part in parts if part)))

    def _archive_size(self, at: Placed | None) -> int | None:
        if at is None or at.value is None:
            return None
        if not isinstance(at.value, int) or isinstance(at.value, bool) or not 0 < at.value <= MAX_ITEMS:
            raise self._error(at, f"archiveSize is {at.plain()!r}, wanted a number of GiB")
        return at.value

    def _require_unique(self, at: Placed | None, operators: tuple[OperatorRequest, ...]) -> None:
        """Refuse a catalog that is there twice, by source and by the name it would get, and contradictions with `full`."""
        seen: set[tuple[str, str | None, str | None]] = set()
        for place, one in zip(at.value or () if at else (), operators, strict=True):
            check(one, f"{self._file}:{place.line}")
            key = (one.catalog, one.target_catalog, one.target_tag)
            if key in seen:
                raise self._error(place, f"catalog {one.catalog} is there twice", "Put all its packages under one entry.")
            seen.add(key)

    def _require_path(self, fields: dict[str, Placed], name: str) -> None:
        text = self._text(fields, name)
        if text and not is_repository(text):
            raise self._error(fields[name], f"{name}: {text!r} is no repository path")

    def _require_tag(self, fields: dict[str, Placed], name: str) -> None:
        text = self._text(fields, name)
        if text and not is_tag(text):
            raise self._error(fields[name], f"{name}: {text!r} is no tag")

    def _fields(self, at: Placed, what: str, known: str) -> dict[str, Placed]:
        names = known.split()
        if at.value is None:
            return {}
        if not isinstance(at.value, dict):
            raise self._error(at, f"{what}: wanted fields ({', '.join(names)}), got {_kind(at.value)}")
        for name, child in at.value.items():
            if name not in names:
                raise self._error(child, f"{what}: unknown field {name!r}", f"Known fields: {', '.join(names)}")
        return at.value

    def _each(self, at: Placed | None, what: str, read: Callable[[Placed], T]) -> Iterator[T]:
        if at is None or at.value is None:
            return
        if not isinstance(at.value, list):
            raise self._error(at, f"{what}: wanted a list, got {_kind(at.value)}")
        if len(at.value) > MAX_ITEMS:
            raise self._error(at, f"{what}: {len(at.value)} entries; the limit is {MAX_ITEMS}")
        for child in at.value:
            yield read(child)

    def _text(self, fields: dict[str, Placed], name: str) -> str:
        at = fields.get(name)
        if at is None or at.value is None:
            return ""
        if not isinstance(at.value, str):
            raise self._error(
                at, f"{name}: wanted text, got {_kind(at.value)}", "Put it in quotes: 1.10 without is the number 1.1."
            )
        return at.value.strip()

    def _needed(self, at: Placed, fields: dict[str, Placed], name: str) -> str:
        text = self._text(fields, name)
        if not text:
            raise self._error(fields.get(name, at), f"{name} is missing or empty")
        return text

    def _flag(self, fields: dict[str, Placed], name: str) -> bool:
        at = fields.get(name)
        if at is None or at.value is None:
            return False
        if not isinstance(at.value, bool):
            raise self._error(at, f"{name}: wanted true or false, got {_kind(at.value)}")
        return at.value

    def _placed(self, at: Placed, read: Callable[[], T]) -> T:
        """Give an error that knows no file its line."""
        try:
            return read()
        except HubError as error:
            raise self._error(at, error.message, error.hint) from None

    def _error(self, at: Placed, message: str, hint: str = "") -> UsageError:
        return UsageError(f"{self._file}:{at.line}: {message}", hint=hint)


def _kind(value: Any) -> str:
    names = {dict: "fields", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
