"""The rules of `opm validate` for a catalog, and one more of OLM's package server.

A *fatal* finding makes opm refuse the whole catalog, so no catalog with one is written. Others affect one bundle or package.
Sources: operator-registry, alpha/model/model.go (Validate) and alpha/declcfg/declcfg_to_model.go.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from common.errors import CatalogError, UsageError
from common.oci.reference import Reference
from common.text import counted
from common.version import OlmRange
from exporter.catalog.go_json import GoError, GoStruct, decode, number_fault
from exporter.catalog.model import (
    BUNDLE,
    BUNDLE_OBJECT,
    CHANNEL,
    CSV_METADATA,
    PACKAGE,
    Blob,
    Bundle,
    Catalog,
    Channel,
    Package,
    Property,
)
from exporter.catalog.properties import Icon, PackageValue, decoded, fault
from exporter.catalog.update_graph import UpdateGraph, names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that does not hold. `subject` is `package` or `package/bundle`."""

    subject: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"


# What opm decodes of blobs beyond the fields that this package reads (operator-registry, alpha/declcfg/declcfg.go). A fault of
# one makes it give up on the whole catalog.
_META = ("schema", "package", "name")


class _PackageBlob(GoStruct, frozen=True):
    icon: Icon | None = None
    description: str = ""
    properties: tuple[Property, ...] = ()


class _ChannelBlob(GoStruct, frozen=True):
    properties: tuple[Property, ...] = ()


def validate(catalog: Catalog) -> list[Finding]:
    """Return a finding for each rule that a catalog breaks, packages in order."""
    found = [finding for package in catalog.packages.values() for finding in validate_package(package)]
    others = ((blob, blob_fault(blob)) for blob in catalog.others)
    return [
        *found,
        *(Finding(blob.name, f"the {blob.schema} blob cannot be read by opm: {why}") for blob, why in others if why),
    ]


def validate_package(package: Package) -> Iterator[Finding]:
    """Yield a finding for each rule that a package breaks."""
    rules: tuple[Callable[[Package], Iterable[tuple[str, bool]]], ...] = (_blob_rules, _package_rules, _deprecation_rules)
    for rule in rules:
        for message, fatal in rule(package):
            yield Finding(package.name, message, fatal)
    for channel in package.channels.values():
        for message, fatal in _channel_rules(package, channel):
            yield Finding(package.name, f"channel {channel.name}: {message}", fatal)
    for bundle in package.bundles.values():
        for message, fatal in _bundle_rules(package, bundle):
            yield Finding(f"{package.name}/{bundle.name}", message, fatal)


def blob_fault(blob: Blob, kind: type[GoStruct] | None = None) -> str:
    """Return why opm cannot read a blob, its own fields or, with `kind`, some of its contents; empty where it can."""
    fields = {key.casefold(): value for key, value in msgspec.json.decode(blob.view, type=dict[str, msgspec.Raw]).items()}
    for key in _META:
        # `null` is no text either, other than for fields that Go decodes (extractUniqueMetaKeys).
        if key in fields and bytes(memoryview(fields[key])[:1]) != b'"':
            return f"its {key} is no text"
    if fault := number_fault(blob.view):
        return fault
    try:
        if kind is not None:
            known = {name: value for name, value in fields.items() if name in kind.__struct_fields__}
            decode(msgspec.json.encode(known), kind)
    except GoError as error:
        return str(error)
    return ""


def _blob_rules(package: Package) -> Iterator[tuple[str, bool]]:
    blobs: list[tuple[Blob, type[GoStruct] | None]] = [(package.blob, _PackageBlob)]
    blobs += [(channel.blob, _ChannelBlob) for channel in package.channels.values()]
    blobs += [(one, None) for one in package.others]
    blobs += [(bundle.blob, None) for bundle in package.bundles.values()]
    if package.deprecations:
        blobs.append((package.deprecations.blob, None))
    for blob, kind in blobs:
        if why := blob_fault(blob, kind):
            yield f"the {blob.schema} blob {blob.name!r} cannot be read by opm: {why}", True


def _package_rules(package: Package) -> Iterator[tuple[str, bool]]:
    # As opm, by k8s.io/apimachinery, IsDNS1123Label.
    if not _DNS_LABEL.fullmatch(package.name):
        yield f"{package.name!r} is no DNS label (RFC 1123)", True
    if not package.channels:
        yield "has no channels", True
    if not package.default_channel:
        yield "has no default channel", True
    elif package.default_channel not in package.channels:
        yield f"the default channel {package.default_channel!r} does not exist", True
    # opm of 2026 allows several releases of a version.
    releases = Counter((value.version, value.release) for bundle in package.bundles.values() for value in _values(bundle))
    for (version, release), count in releases.items():
        if count > 1:
            yield f"version {version}{release and f' release {release}'} is there {count} times", True
    # opm refuses such a bundle; a selection never keeps one, but a whole catalog may have it.
    placed = {entry.name for _, entry in package.entries}
    if homeless := [name for name in package.bundles if name not in placed]:
        yield f"bundles in no channel: {names(homeless)}", True


def _channel_rules(package: Package, channel: Channel) -> Iterator[tuple[str, bool]]:
    if not channel.name:
        yield "has no name", True
    if missing := [entry.name for entry in channel.entries if entry.name not in package.bundles]:
        yield f"entries without a bundle: {names(missing)}", True
    for entry in channel.entries:
        # A missing `skips` is valid, an empty name in it is not.
        if "" in entry.skips:
            yield f"{entry.name} skips an empty name", True
        # Not fatal: only opm of 2026 checks it, and an older one of the publisher may serve the catalog.
        if fault := _range_fault(entry.skip_range):
            yield f"{entry.name}: skipRange: {fault}", False
    try:
        graph = UpdateGraph.of(channel.entries, "")
    except CatalogError as error:
        yield error.message.removeprefix(": "), True
        return
    if stranded := _stranded(graph):
        yield f"stranded entries, neither replaced on the way from the head nor skipped: {names(stranded)}", True
    # The package server lists a channel only with the metadata of its head (OLM, pkg/package-server/provider/registry.go).
    head = package.bundles.get(graph.head)
    if head is not None and not head.has(CSV_METADATA, BUNDLE_OBJECT):
        yield f"its head {head.name} has neither {CSV_METADATA} nor {BUNDLE_OBJECT}: OLM will not list it", False


def _stranded(graph: UpdateGraph) -> list[str]:
    """Return the entries that opm calls stranded."""
    # Stricter than `UpdateGraph.stranded`: the walk of Channel.validateReplacesChain ends at a replaced entry that is skipped.
    walked: set[str] = set()
    for name in graph.chain:
        walked.add(name)
        if name in graph.skipped_by:
            break
    return [name for name in graph.entries if name not in walked and name not in graph.skipped_by]


def _range_fault(text: str) -> str:
    try:
        if text:
            OlmRange.parse(text)
    except ValueError as error:
        return str(error)
    return ""


def _bundle_rules(package: Package, bundle: Bundle) -> Iterator[tuple[str, bool]]:
    if not bundle.name:
        yield "has no name", True
    if bad := _property_fault(bundle):
        yield bad, True
        return  # neither does opm look any further
    values = list(_values(bundle))
    if len(values) != 1:
        yield f"has {len(values)} readable {PACKAGE} properties, wanted one", True
    elif values[0].package_name != package.name:
        yield f"its {PACKAGE} property names package {values[0].package_name!r}", True
    yield from _version_rules(bundle, values)
    if sum(one.type == CSV_METADATA for one in bundle.properties) > 1:
        yield f"has more than one {CSV_METADATA}", True
    # OLM unpacks the image, or installs the objects from the catalog.
    if not bundle.image and not bundle.has(BUNDLE_OBJECT):
        yield "has neither an image nor bundle objects", True
    # Empty references are valid for opm, on purpose; others it parses since 2026.
    for image in (bundle.image, *(related.image for related in bundle.related_images)):
        if fault := _reference_fault(image):
            yield fault, False


def _version_rules(bundle: Bundle, values: list[PackageValue]) -> Iterator[tuple[str, bool]]:
    if len(values) == 1 and bundle.version is None:
        yield f"version {bundle.version_text!r} is no semantic version", True
    # A rule of opm of 2026 only, so not fatal.
    if len(values) == 1 and values[0].release and bundle.name != _released_name(values[0]):
        yield f"has a release, so its name should be {_released_name(values[0])}", False


def _values(bundle: Bundle) -> Iterator[PackageValue]:
    return (value for value in decoded(bundle.properties, PACKAGE, PackageValue) if value is not None)


def _property_fault(bundle: Bundle) -> str:
    """Return the fault of the first property that opm could not decode, and how many more there are."""
    found = ((number, one.type, fault(one)) for number, one in enumerate(bundle.properties, 1))
    bad = [f"property {number} ({kind[:80]}): {why}" for number, kind, why in found if why]
    return bad[0] + (f" (and {counted(len(bad) - 1, 'more property', 'more properties')})" if bad[1:] else "") if bad else ""


def _released_name(value: PackageValue) -> str:
    return f"{value.package_name}-v{value.version}-{value.release}"


def _reference_fault(image: str) -> str:
    try:
        if image:
            Reference.parse(image)
    except UsageError as error:
        return error.message
    return ""


def _deprecation_rules(package: Package) -> Iterator[tuple[str, bool]]:
    entries = package.deprecations.entries if package.deprecations else ()
    # opm refuses references to missing channels and bundles, and two entries for one reference.
    known = {CHANNEL: package.channels, BUNDLE: package.bundles}
    for one in entries:
        of, name = one.reference.schema, one.reference.name
        if not one.message:
            yield f"deprecation of {of} {name!r} without a message", True
        if of == PACKAGE and name:
            yield f"deprecation of the package itself names {name!r}", True
        elif of in known and name not in known[of]:
            yield f"deprecation of a missing {of}: {name!r}", True
        elif of not in (PACKAGE, CHANNEL, BUNDLE):
            yield f"deprecation of something unknown: {of!r}", True
    for (of, name), count in Counter((one.reference.schema, one.reference.name) for one in entries).items():
        if count > 1:
            yield f"{count} deprecations of {of} {name!r}", True
