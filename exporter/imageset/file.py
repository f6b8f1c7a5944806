"""Reader of ImageSetConfiguration files; all faults of a file are in one error, each with its line.

Source: openshift/oc-mirror, v2alpha1 and v1alpha2, and the project's own extension of v2alpha1 (ADR 0050). Sections that
hub-export does not carry become problems (ADR 0029).
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from common.archive.inventory import Problem, ProblemCode
from common.errors import HubError, UsageError, boundary, one_error
from common.files import read_limited
from common.oci.image import Platform
from common.oci.reference import Reference, is_repository, is_tag, plain_path, without_docker
from common.serialization import DocumentError, Placed, load_placed_yaml
from exporter.imageset import fields as field_names
from exporter.imageset import placeholders, releases, sections, source_name, template
from exporter.imageset.model import (
    KIND,
    MAX_ITEMS,
    AdditionalImage,
    ChannelRequest,
    ImageSet,
    OperatorRequest,
    PackageRequest,
    operator_faults,
    package_faults,
)
from exporter.imageset.releases import NO_RELEASES, PlatformRequest, ReleaseChannel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


MAX_SIZE = 16 * 1024 * 1024  # of the file; values with their lines take many times that in memory
_MAX_FAULTS = 1_000  # the rest of the file is not read then
_KINDS: dict[type, str] = {dict: "fields", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
T = TypeVar("T")


def read(path: Path) -> ImageSet:
    """Read an ImageSetConfiguration. Raises UsageError with file and line for everything that is wrong with it."""
    text = read_limited(path, MAX_SIZE, "Wanted: an ImageSetConfiguration file.")
    return _parsed(text, str(path), asking=True)


def parse(text: bytes, where: str) -> ImageSet:
    """Read an image set, YAML or JSON; `where` names it in errors. Raises UsageError with all that is wrong with it."""
    return _parsed(text, where, asking=False)


def of_document(document: dict[str, Any], where: str) -> ImageSet:
    """Read the image set that an inventory recorded; `where` names it in errors. Raises UsageError."""
    with boundary(lambda error: UsageError(f"{where}: cannot be read: {error}")):  # surrogates, for example
        text = json.dumps(document, ensure_ascii=False).encode()
    return parse(text, where)


def _parsed(text: bytes, where: str, *, asking: bool) -> ImageSet:
    """Read an image set. `asking`: it is a request, so files that it names must exist, and it must not be empty."""
    # Inventories have image sets too, which come from elsewhere.
    with boundary(lambda error: UsageError(f"{where}: cannot be read: {error}", hint="Wanted: an ImageSetConfiguration.")):
        return _read(text, where, asking=asking)


def _read(text: bytes, where: str, *, asking: bool) -> ImageSet:
    faults: list[UsageError] = []
    reader = _Reader(where, faults, asking=asking)
    image_set = ImageSet()
    try:
        root = reader.named(load_placed_yaml(text, where, reader.unreadable))
        image_set = reader.image_set(root)
        if asking:
            reader.require_content(root)
    except UsageError as error:
        faults.append(error)
    except _TooManyFaultsError:
        pass
    faults += reader.unreadable
    if asking and (faults or reader.templated):
        faults = _with_placeholders(where, text, faults)
    if faults:
        raise _of_all(where, faults)
    return image_set


def _with_placeholders(where: str, text: bytes, faults: Sequence[UsageError]) -> list[UsageError]:
    """Return the faults, without those that follow from a placeholder of a template, which is a fault itself."""
    found = dict(placeholders.lines(text.decode(errors="replace")))
    named = [UsageError(f"{where}:{line}: {each!r} is a placeholder", hint=placeholders.HINT) for line, each in found.items()]
    others = (fault for fault in faults if _line(where, fault) not in found)
    # An error of the syntax quotes no value: libyaml's `expected <document start>` is no placeholder of the file.
    kept = (
        one for one in others if isinstance(one, DocumentError) or not placeholders.found_in(one.message.removeprefix(where))
    )
    # A file with a fault is never accepted: the lines of a placeholder are not found where it goes over two, or in UTF-16.
    return [*named, *kept] or list(faults)


def _of_all(where: str, faults: list[UsageError]) -> UsageError:
    """Return one error for all faults of a file, in the order of their lines."""
    # The order of reading is that of fields, which is not the order of the file.
    faults.sort(key=lambda fault: _line(where, fault))
    return one_error(where, faults, cut=len(faults) >= _MAX_FAULTS)


def _line(where: str, fault: UsageError) -> int:
    number = fault.message.removeprefix(f"{where}:").partition(":")[0]
    return int(number) if number.isdecimal() else 0


class _FaultError(UsageError):
    """A fault with file and line."""

    usual_hint = "Correct it there, and run it again."


class _TooManyFaultsError(Exception):
    """More faults than are reported."""


class _Reader:
    """Reader of values with their lines.

    Faults are collected, so that one run reports all of them. A raised error ends the item that is being read.
    """

    def __init__(self, file: str, faults: list[UsageError], *, asking: bool) -> None:
        self._file = file
        self._asking = asking
        self._faults = faults
        self._reported: set[str] = set()  # messages: some fields are read twice
        self.unreadable: list[DocumentError] = []
        self._notes: list[str] = []
        self.templated = False  # a value has a placeholder
        self._selecting = False  # a package has label selectors
        self._known = field_names.of_version("")

    def named(self, root: Placed) -> Placed:
        """Return the document with the names of fields as they are spelled here. Raises UsageError for another kind of file."""
        faults: list[UsageError] = []
        self._known = field_names.of_version(field_names.api_version(root))
        named = field_names.canonical(root, self._known, lambda *fault: faults.append(self._error(*fault)), asking=self._asking)
        self._require_kind(named)
        self._collect(faults)
        return named

    def image_set(self, root: Placed) -> ImageSet:
        fields = self._fields(root, "the file")
        self._require_version(root, fields)
        self._note(fields, "storageConfig", "is not needed: each archive has the list of its content (--since ARCHIVE)")
        mirror = self._mirror(root, fields)
        operators = list(self._each(mirror.get("operators"), "operators", lambda at: (at, self._operator(at))))
        self._require_unique(operators)
        return ImageSet(
            tuple(operator for _, operator in operators),
            tuple(self._each(mirror.get("additionalImages"), "additionalImages", self._additional)),
            tuple(self._each(mirror.get("blockedImages"), "blockedImages", self._blocked)),
            self._releases(mirror.get("platform")),
            self._archive_size(fields.get("archiveSize")),
            root.plain(),
            tuple(self._notes),
            tuple(
                Problem("error", ProblemCode.SECTION_NOT_CARRIED, f"mirror.{name}", f"{self._name}:{at.line}: left out: {why}")
                for name, at, why in sections.left_out(mirror)
            ),
        )

    def require_content(self, root: Placed) -> None:
        """Record a fault for a file that requests nothing, or only sections that are not carried."""
        mirror = self._mirror(root, root.value if isinstance(root.value, dict) else {})
        if any(name in mirror and mirror[name].value not in (None, []) for name in ("operators", "additionalImages")):
            return
        if "platform" in mirror and self._releases(mirror["platform"]).asks:
            return
        hint = "List mirror.operators, mirror.platform or mirror.additionalImages."
        reasons = {name: f"{why}, and the file asks for nothing else" for name, _, why in sections.left_out(mirror)}
        named = [name for name in ("platform", *sections.LEFT_OUT) if name in mirror]
        for name in named:
            self._fault(
                mirror[name], f"mirror.{name}: {reasons.get(name, 'it asks for nothing, nor does the rest of the file')}", hint
            )
        # Generators write `spec`, as for other kinds: that unknown field is the fault.
        if not named and not (isinstance(root.value, dict) and "spec" in root.value):
            self._faults.append(UsageError(f"{self._file}: asks for nothing", hint=hint))

    @property
    def _name(self) -> str:
        """The name of the file for the inventory, which must not show directories of this machine."""
        return Path(self._file).name

    def _mirror(self, root: Placed, fields: dict[str, Placed]) -> dict[str, Placed]:
        at = fields.get("mirror", Placed({}, root.line))  # a missing `mirror` is an empty one; `require_content` reports it
        if at.value is not None and not isinstance(at.value, dict):
            self._fault(at, f"mirror: wanted fields, got {_kind(at.value)}")
            return {}
        fields = self._fields(at, "mirror")
        return {name: child for name, child in fields.items() if name not in sections.LEFT_OUT or self._is_section(name, child)}

    def _is_section(self, name: str, at: Placed) -> bool:
        """Return whether a section that is not carried has the type of oc-mirror."""
        well_formed = self._has_type(at, f"mirror.{name}", sections.TYPES[name])
        for field in sections.LISTS[name] if well_formed and at.value else ():
            if field in at.value:
                self._has_type(at.value[field], f"mirror.{name}.{field}", list)
        return well_formed

    def _has_type(self, at: Placed, what: str, wanted: type) -> bool:
        if at.value is None or isinstance(at.value, wanted):
            return True
        if self._asking:
            self._fault(at, f"{what}: wanted {_KINDS[wanted]}, got {_kind(at.value)}", "Correct it, or take it out.")
        return False

    def _require_kind(self, root: Placed) -> None:
        """Raise UsageError for a file of another kind, whose other faults would be no help."""
        fields = root.value if isinstance(root.value, dict) else self._fields(root, "the file")
        if not fields:  # truncated, or written by a pipe that failed
            raise UsageError(f"{self._file}: the file is empty", hint=f"Wanted: an {KIND}.")
        if (got := self._text(fields, "kind")) != KIND:
            # A DeleteImageSetConfiguration for example, with which oc-mirror deletes images.
            raise self._error(fields.get("kind", root), f"kind is {got!r}", f"Wanted: {KIND}")

    def _require_version(self, root: Placed, fields: dict[str, Placed]) -> None:
        if (got := self._text(fields, "apiVersion")) not in field_names.API_VERSIONS:
            at = fields.get("apiVersion", root)
            is_there = f"is {got!r}" if got else "is missing"
            self._fault(at, f"apiVersion {is_there}", f"Wanted: {' or '.join(field_names.API_VERSIONS)}")

    def _note(self, fields: dict[str, Placed], name: str, why: str) -> None:
        """Note a field that is left out, or deprecated."""
        at = fields.get(name)
        if at is not None and at.value is not None:
            self._notes.append(f"{self._file}:{at.line}: {name} {why}")

    def _note_empty(self, fields: dict[str, Placed], request: OperatorRequest) -> None:
        """Note a list of packages that is there and empty, after its entries were commented out for example."""
        if "packages" in fields and not fields["packages"].value and not request.full:
            place = f"{self._file}:{fields['packages'].line}"
            self._notes.append(f"{place}: packages is empty, which asks for the head of every channel of {request.catalog}")

    def _operator(self, at: Placed) -> OperatorRequest:
        fields = self._fields(at, "an operator")
        by_name = self._target_name(fields)
        request = OperatorRequest(
            self._needed(at, fields, "catalog"),
            self._flag(fields, "full"),
            tuple(self._each(fields.get("packages"), "packages", self._package)),
            self._text(fields, "targetCatalog") or by_name or None,
            self._text(fields, "targetTag") or None,
            self._text(fields, "targetCatalogSourceTemplate") or None,
            tuple(self._each(fields.get("platforms"), "platforms", self._platform)),
            self._flag(fields, "skipDependencies"),
            tuple(self._each(fields.get("exclude"), "exclude", self._excluded)),
        )
        self._require_path(fields, "targetCatalog")
        self._note_empty(fields, request)
        self._note(fields, "originalRef", "has no meaning since oc-mirror 4.13")
        self._require_tag(fields, "targetTag")
        # Before the name is normalized, so that messages show it as written.
        self._collect(operator_faults(request, f"{self._file}:{at.line}"))
        request = replace(request, catalog=plain_path(without_docker(request.catalog)))
        # An inventory's image set is read on other machines too, which do not have its files.
        if self._asking:
            self._require(fields, "catalog", request.catalog, source_name.require_source)
            self._require(fields, "targetCatalogSourceTemplate", request.target_catalog_source_template, template.load)
        return request

    def _target_name(self, fields: dict[str, Placed]) -> str:
        """Return the target that `targetName` of v1alpha2 stands for: the path of the catalog with another last component."""
        name = self._text(fields, "targetName")
        if not name:
            return ""
        self._require_path(fields, "targetName")
        catalog = plain_path(without_docker(self._text(fields, "catalog")))
        try:
            path = source_name.reference_of(catalog).repository
        except HubError:  # a file of this machine, or a fault that is reported where the catalog is read
            path = ""
        target = f"{path.rpartition('/')[0]}/{name}".removeprefix("/")
        other = "has no effect next to targetCatalog" if self._text(fields, "targetCatalog") else ""
        self._note(fields, "targetName", other or f"is deprecated in oc-mirror: write targetCatalog: {target}")
        return target

    def _excluded(self, at: Placed) -> str:
        name = at.value.strip() if isinstance(at.value, str) else ""
        if not name:
            got = "empty text" if isinstance(at.value, str) else _kind(at.value)
            raise self._error(at, f"exclude: wanted the name of a package, got {got}", "For example: odf-*")
        return name

    def _package(self, at: Placed) -> PackageRequest:
        fields = self._fields(at, "a package")
        package = PackageRequest(
            self._needed(at, fields, "name"),
            self._text(fields, "defaultChannel"),
            self._text(fields, "minVersion"),
            self._text(fields, "maxVersion"),
            tuple(self._each(fields.get("channels"), "channels", self._channel)),
            self._text(fields, "minBundle"),
            self._flag(fields, "optional"),
            self._flag(fields, "install"),
        )
        if not self._selecting:  # one note for all packages
            self._note(
                fields,
                "selectors",
                "is not applied: related images are carried with any labels, so there are more",
            )
            self._selecting = "selectors" in fields
        self._collect(package_faults(package, f"{self._file}:{at.line}"))
        return package

    def _channel(self, at: Placed) -> ChannelRequest:
        fields = self._fields(at, "a channel")
        return ChannelRequest(
            self._needed(at, fields, "name"),
            self._text(fields, "minVersion"),
            self._text(fields, "maxVersion"),
            self._text(fields, "minBundle"),
        )

    def _additional(self, at: Placed) -> AdditionalImage:
        fields = self._fields(at, "an additional image")
        name = self._needed(at, fields, "name")
        self._require_path(fields, "targetRepo")
        self._require_tag(fields, "targetTag")
        image = AdditionalImage(
            name,
            self._text(fields, "targetRepo") or None,
            self._text(fields, "targetTag") or None,
            tuple(self._each(fields.get("platforms"), "platforms", self._platform)),
        )
        if not name:
            return image  # the fault is recorded already
        # In full form, so that two spellings of one image are merged.
        reference = self._placed(fields["name"], lambda: str(Reference.parse(without_docker(name))))
        return replace(image, name=reference)

    def _blocked(self, at: Placed) -> str:
        fields = self._fields(at, "a blocked image")
        pattern = self._needed(at, fields, "name")
        try:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of sets that may nest one day
                re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:  # nested groups, and counts above 2**32
            raise self._error(fields["name"], f"blockedImages: not a regular expression: {error}") from None
        return pattern

    def _releases(self, at: Placed | None) -> PlatformRequest:
        """Return what `mirror.platform` asks for; nothing for the image set of an inventory, which lists its releases."""
        if at is None or not self._asking or not self._has_type(at, "mirror.platform", dict):
            return NO_RELEASES
        fields = self._fields(at, "mirror.platform")
        architectures = tuple(self._each(fields.get("architectures"), "mirror.platform.architectures", self._architecture))
        platforms = tuple(self._each(fields.get("platforms"), "platforms", self._platform))
        request = PlatformRequest(
            tuple(self._each(fields.get("channels"), "mirror.platform.channels", self._release_channel)),
            # With `platforms` the payload of all architectures is carried, with these of them only.
            tuple(dict.fromkeys(architectures)) or ((releases.MULTI,) if platforms else ("amd64",)),
            self._flag(fields, "graph"),
            self._release_image(fields),
            self._flag(fields, "kubeVirtContainer"),
            platforms,
        )
        if request.release and request.channels:  # as oc-mirror (internal/pkg/release/local_stored_collector.go)
            self._note(fields, "channels", "has no effect next to release")
        if request.release:  # an image has the architecture that it has
            self._note(fields, "architectures", "has no effect next to release: the payload says its architecture")
        if request.kubevirt and not (request.release or request.channels):
            self._note(fields, "kubeVirtContainer", "has no effect without a release")
        return request

    def _release_image(self, fields: dict[str, Placed]) -> str:
        text = self._text(fields, "release")
        return self._placed(fields["release"], lambda: str(Reference.parse(without_docker(text)))) if text else ""

    def _architecture(self, at: Placed) -> str:
        if not isinstance(at.value, str):
            raise self._error(
                at, f"architectures: wanted text, got {_kind(at.value)}", f"For example: {releases.ARCHITECTURES[0]}"
            )
        name = at.value.strip()
        if fault := releases.architecture_fault(name, "architectures"):
            raise self._error(at, fault.message, fault.hint)
        return name

    def _release_channel(self, at: Placed) -> ReleaseChannel:
        fields = self._fields(at, "a release channel")
        kind = self._text(fields, "type")
        if kind and kind not in releases.TYPES:  # any other text is ocp for oc-mirror, which asks the wrong service then
            self._fault(
                fields["type"], f"type: {kind[:40]!r} is no type of a channel", f"Wanted: {' or '.join(releases.TYPES)}."
            )
        channel = ReleaseChannel(
            self._needed(at, fields, "name"),
            kind == "okd",
            self._text(fields, "minVersion"),
            self._text(fields, "maxVersion"),
            self._flag(fields, "shortestPath"),
            self._flag(fields, "full"),
        )
        if channel.name:  # else the fault is recorded already
            self._collect(releases.channel_faults(channel, f"{self._file}:{at.line}"))
        return channel

    def _platform(self, at: Placed) -> Platform:
        fields = self._fields(at, "a platform")
        parts = [self._needed(at, fields, "os"), self._needed(at, fields, "architecture"), self._text(fields, "variant")]
        if not all(parts[:2]):
            return Platform("", "")  # the fault is recorded already
        return self._placed(at, lambda: Platform.parse("/".join(part for part in parts if part)))

    def _archive_size(self, at: Placed | None) -> int | None:
        if at is None or at.value is None:
            return None
        # bool is a subclass of int, and YAML reads `yes` as true.
        if not isinstance(at.value, int) or isinstance(at.value, bool) or not 0 < at.value <= MAX_ITEMS:
            self._fault(at, f"archiveSize is {at.plain()!r}, wanted a number of GiB")
            return None
        return at.value

    def _require_unique(self, operators: list[tuple[Placed, OperatorRequest]]) -> None:
        """Record a fault for each catalog that is listed twice with the same target."""
        seen: set[tuple[str, str | None, str | None]] = set()
        for place, one in operators:
            key = (one.catalog, one.target_catalog, one.target_tag)
            if key in seen and one.catalog:
                self._fault(place, f"catalog {one.catalog} is there twice", "Put all its packages under one entry.")
            seen.add(key)

    def _require_path(self, fields: dict[str, Placed], name: str) -> None:
        text = self._text(fields, name)
        if text and not is_repository(text):
            self._fault(fields[name], f"{name}: {text!r} is no repository path")

    def _require_tag(self, fields: dict[str, Placed], name: str) -> None:
        text = self._text(fields, name)
        if text and not is_tag(text):
            self._fault(fields[name], f"{name}: {text!r} is no tag")

    def _require(self, fields: dict[str, Placed], name: str, text: str | None, check: Callable[[str], object]) -> None:
        """Record the error that `check` raises for the text of a field."""
        if not text:
            return
        try:
            check(text)
        except UsageError as error:
            self._fault(fields[name], f"{name}: {error.message.removeprefix(f'{name} ')}", error.hint)

    def _fields(self, at: Placed, what: str) -> dict[str, Placed]:
        if at.value is None:
            return {}
        if not isinstance(at.value, dict):
            hint = "Write `- name: …`." if isinstance(at.value, str) and "name" in self._known[what] else ""
            raise self._error(at, f"{what}: wanted fields ({', '.join(self._known[what])}), got {_kind(at.value)}", hint)
        return at.value

    def _each(self, at: Placed | None, what: str, read: Callable[[Placed], T]) -> Iterator[T]:
        """Yield the result of `read` for each element; the fault of an element is recorded, and the next is read."""
        if at is None or at.value is None:
            return
        if not isinstance(at.value, list):
            self._fault(at, f"{what}: wanted a list, got {_kind(at.value)}", "Begin each entry with `- `.")
            return
        if len(at.value) > MAX_ITEMS:
            self._fault(at, f"{what}: {len(at.value)} entries; the limit is {MAX_ITEMS}")
            return
        # A fault in one element must not hide those of the others.
        for child in at.value:
            try:
                yield read(child)
            except UsageError as error:
                self._collect([error])

    def _text(self, fields: dict[str, Placed], name: str) -> str:
        at = fields.get(name)
        if at is None or at.value is None:
            return ""
        # Versions and tags look like numbers to YAML, which drops trailing zeros.
        if not isinstance(at.value, str):
            nested = isinstance(at.value, list | dict)
            hint = "" if nested else "Put it in quotes: 1.10 without is the number 1.1."
            self._fault(at, f"{name}: wanted text, got {_kind(at.value)}", hint)
            return ""
        self.templated = self.templated or placeholders.found_in(at.value)
        return at.value.strip()

    def _needed(self, at: Placed, fields: dict[str, Placed], name: str) -> str:
        text = self._text(fields, name)
        found = fields.get(name)
        if not text and (found is None or found.value is None or isinstance(found.value, str)):
            self._fault(found or at, f"{name} is missing or empty")
        return text

    def _flag(self, fields: dict[str, Placed], name: str) -> bool:
        at = fields.get(name)
        if at is None or at.value is None:
            return False
        if not isinstance(at.value, bool):
            self._fault(at, f"{name}: wanted true or false, got {_kind(at.value)}")
            return False
        return at.value

    def _placed(self, at: Placed, read: Callable[[], T]) -> T:
        """Return the result of `read`, with the line added to its error."""
        try:
            return read()
        except HubError as error:
            raise self._error(at, error.message, error.hint) from None

    def _fault(self, at: Placed, message: str, hint: str = "") -> None:
        self._collect([self._error(at, message, hint)])

    def _collect(self, faults: Iterable[UsageError]) -> None:
        for fault in faults:
            if fault.message not in self._reported:
                self._reported.add(fault.message)
                self._faults.append(fault)
            if len(self._faults) >= _MAX_FAULTS:
                raise _TooManyFaultsError

    def _error(self, at: Placed, message: str, hint: str = "") -> UsageError:
        return _FaultError(f"{self._file}:{at.line}: {message}", hint=hint)


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")
