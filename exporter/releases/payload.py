"""The payload of a release: its version, the images that it consists of, and its metadata. No I/O.

Sources: openshift/oc, pkg/cli/admin/release/new.go; openshift/cluster-version-operator, pkg/payload/payload.go (what a cluster
checks); openshift/cincinnati, graph_builder/release.rs (what the OpenShift Update Service checks).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from common.archive.inventory import Problem, ProblemCode
from common.errors import ContentError, PayloadError, UsageError, boundary
from common.mapping import release_tag
from common.oci import media_types
from common.oci.image import ATTESTATION, Index, parse_config
from common.oci.reference import Reference, is_tag
from common.serialization import DocumentError, convert
from common.text import shortened
from common.version import try_parse
from exporter.images.stored import config_of
from exporter.imageset.releases import MULTI
from exporter.releases import bootimages, payload_files
from exporter.releases.payload_files import only_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from common.oci.image import Manifest, Tree
    from exporter.images.stored import Stored
    from exporter.releases.bootimages import Machine


ARCHITECTURE_KEY = "release.openshift.io/architecture"
MAX_COMPONENTS = 10_000  # the largest release has 194
MAX_PREVIOUS = 10_000  # versions that a release updates from; some dozens
MAX_PAYLOADS = 16  # of one index; published ones have four
_SHOWN = 10
_ARCHITECTURE = re.compile(r"[a-z0-9_]{1,20}")
_KIND, _API = "ImageStream", "image.openshift.io/v1"
_METADATA_KIND = "cincinnati-metadata-v0"
# Payloads before may lack the image, or have it (openshift/oc-mirror#904, OCPBUGS-37950).
_KUBEVIRT_SINCE = (4, 15)
_LISTED = frozenset({media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST})


@dataclass(frozen=True, slots=True)
class Component:
    """An image that the payload lists, under its name there, by digest. Several names may have one digest."""

    name: str
    reference: Reference


@dataclass(frozen=True, slots=True)
class Payload:
    """What a payload says. `architecture`: as the update service names it, `multi` for an index of several.

    `machines`: the disk images for OpenShift Virtualization, where they were asked for; `previous`: the versions that it
    updates from; `problems` and `notes` are for the plan.
    """

    version: str
    architecture: str
    components: tuple[Component, ...]
    machines: tuple[Machine, ...] = ()
    previous: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def kubevirt(self) -> tuple[Reference, ...]:
        """The disk images, each once."""
        return tuple(dict.fromkeys(machine.reference for machine in self.machines))

    @property
    def images(self) -> tuple[Component, ...]:
        """Components and disk images, under the names that their tags end with."""
        return (*self.components, *(Component(machine.name, machine.reference) for machine in self.machines))

    @property
    def errata(self) -> str:
        """The URL of the erratum; empty for one without."""
        return dict(self.metadata).get("url", "")

    def component(self, name: str) -> Reference | None:
        """Return the image of a component, or None."""
        return next((one.reference for one in self.components if one.name == name), None)


def read(tree: Tree, stored: Stored, source: str, *, version: str = "", kubevirt: bool = False) -> Payload:
    """Return the payload of an image or index; of an index, those documents that `tree` has must agree with each other.

    `stored` returns the contents of a blob, `source` is the reference for messages, `version` what the update service says
    (empty: nothing), `kubevirt` asks for the disk images. Raises PayloadError; errors of `stored` pass through.
    """
    with boundary(lambda error: PayloadError(f"{source}: the payload cannot be read: {error}")):
        try:
            found = _read(tree, stored, source, kubevirt=kubevirt)
        except (ContentError, DocumentError) as error:
            hint = error.hint if isinstance(error, PayloadError) else ""
            message = error.lines[0].removeprefix(f"{source}: ")  # its details are lines of their own
            raise PayloadError(f"{source}: {message}", hint=hint, details=error.details) from error
    if version and version != found.version:
        raise PayloadError(f"{source}: the payload is release {found.version}, and the update service names it {version}")
    return found


# The fields that are read of the documents; for Go null and absent are the same.


class _From(msgspec.Struct):
    kind: str | None = None
    name: str | None = None


class _Tag(msgspec.Struct, rename={"from_": "from"}):
    name: str | None = None
    from_: _From | None = None


class _Spec(msgspec.Struct):
    tags: list[_Tag] | None = None


class _Meta(msgspec.Struct):
    name: str | None = None


class _ImageStream(msgspec.Struct, rename="camel"):
    kind: str | None = None
    api_version: str | None = None
    metadata: _Meta | None = None
    spec: _Spec | None = None


class _Metadata(msgspec.Struct):
    kind: str | None = None
    version: str | None = None
    previous: list[str] | None = None
    metadata: dict[str, str] | None = None


# Made at import: msgspec inspects a type at its first use, and crashes where two threads do so together.
_INSPECTED = (msgspec.json.Decoder(_Metadata), msgspec.json.Decoder(_ImageStream))


@dataclass(frozen=True, slots=True)
class _One:
    """The payload of one manifest."""

    architecture: str
    version: str
    components: tuple[Component, ...]
    previous: tuple[str, ...]
    metadata: Mapping[str, str]
    bootimages: bytes | None


def _read(tree: Tree, stored: Stored, source: str, *, kubevirt: bool) -> Payload:
    manifests = tree.images
    if not manifests:
        raise PayloadError(f"no image that runs: {tree.kinds}")
    if len(manifests) > MAX_PAYLOADS:
        raise PayloadError(f"an index of {len(manifests)} images; that of a release has at most {MAX_PAYLOADS}")
    names = (payload_files.BOOTIMAGES,) if kubevirt else ()
    listed = tree.root.manifests if isinstance(tree.root, Index) else ()
    several = sum(child.platform != ATTESTATION for child in listed) > 1
    each = [_one(manifest, stored, names, several=several) for manifest in manifests]
    first = each[0]
    for other in each[1:]:
        _require_same(first, other)
    architecture = MULTI if several else first.architecture
    tag = release_tag(first.version, architecture)
    _require_tags(tag, first.components)
    disks = _disks(first, [one.architecture for one in each], tag, source) if kubevirt else _Disks()
    return Payload(
        first.version,
        architecture,
        first.components,
        disks.machines,
        first.previous,
        tuple(sorted(first.metadata.items())),
        (*_unlisted(tree, first, source, several=several), *disks.problems),
        disks.notes,
    )


def _one(manifest: Manifest, stored: Stored, names: Sequence[str], *, several: bool) -> _One:
    files = payload_files.read(manifest, stored, names)
    metadata = _release_metadata(files[payload_files.METADATA])
    version, components = _image_references(files[payload_files.REFERENCES])
    assert metadata.version is not None
    # The cluster-version-operator refuses it: "version from image-references differs from release-metadata".
    if version != metadata.version:
        names_it = f"{payload_files.REFERENCES} names it {version[:80]!r}, {payload_files.METADATA} {metadata.version!r}"
        raise PayloadError(f"it contradicts itself: {names_it}")
    architecture = _architecture(manifest, stored)
    more = metadata.metadata or {}
    if more.get(ARCHITECTURE_KEY) == MULTI and not several:
        # A cluster would take it for the release of all architectures, and the update service leaves it out.
        raise PayloadError(
            f"the payload for {architecture} out of the multi-architecture release {version}",
            hint="Name the index that it belongs to; its tag ends with -multi.",
        )
    boot = files.get(payload_files.BOOTIMAGES)
    return _One(architecture, version, components, tuple(metadata.previous or ()), more, boot)


def _architecture(manifest: Manifest, stored: Stored) -> str:
    name = parse_config(config_of(manifest, stored)).architecture
    if not name:
        return "amd64"  # as oc sets it where the base has none (openshift/oc, pkg/cli/admin/release/new.go)
    if not _ARCHITECTURE.fullmatch(name):
        raise PayloadError(f"its config names the architecture {name[:80]!r}")
    return name


def _release_metadata(raw: bytes) -> _Metadata:
    where = payload_files.METADATA
    found = convert(only_document(raw, where), _Metadata, where)
    if found.kind != _METADATA_KIND:
        raise PayloadError(f"{where}: of the kind {str(found.kind)[:80]!r}, wanted {_METADATA_KIND}")
    # The update service leaves out a release with any version that is none (openshift/cincinnati, release.rs).
    if len(found.previous or ()) > MAX_PREVIOUS:
        raise PayloadError(f"{where}: more than {MAX_PREVIOUS} previous versions")
    for version in (found.version or "", *(found.previous or ())):
        if try_parse(version) is None:
            raise PayloadError(f"{where}: {version[:80]!r} is no version")
    return found


def _image_references(raw: bytes) -> tuple[str, tuple[Component, ...]]:
    """Return the version and the components."""
    where = payload_files.REFERENCES
    stream = convert(only_document(raw, where), _ImageStream, where)
    if (stream.kind, stream.api_version) != (_KIND, _API):
        raise PayloadError(f"{where}: {str(stream.api_version)[:80]!r} {str(stream.kind)[:80]!r}, wanted an {_KIND} of {_API}")
    tags = (stream.spec and stream.spec.tags) or []
    # Other kinds name tags of a cluster, and oc leaves them out too (openshift/oc, pkg/cli/admin/release/mirror.go).
    tags = [tag for tag in tags if tag.from_ is not None and tag.from_.kind == "DockerImage"]
    if not tags:
        raise PayloadError(f"{where}: it lists no image")
    if len(tags) > MAX_COMPONENTS:
        raise PayloadError(f"{where}: {len(tags)} images; the limit is {MAX_COMPONENTS}")
    faults: list[str] = []
    components = tuple(_components(tags, faults))
    if faults:
        raise PayloadError(f"{where}: images that cannot be carried:", details=shortened(faults, _SHOWN))
    return (stream.metadata and stream.metadata.name) or "", components


def _components(tags: Sequence[_Tag], faults: list[str]) -> Iterator[Component]:
    """Yield the components; the faults of the other tags are appended to `faults`."""
    names: set[str] = set()
    for tag in tags:
        name, text = tag.name or "", (tag.from_ and tag.from_.name) or ""
        try:
            reference = Reference.parse(text)
        except UsageError as error:
            faults.append(f"{name[:80]!r}: {error.message}")
            continue
        if not is_tag(name):
            faults.append(f"{name[:80]!r}: no name that a tag can have")
        elif name in names:
            faults.append(f"{name!r}: listed twice")
        elif reference.digest is None:
            faults.append(f"{name!r}: {text[:200]!r} is not by digest")
        else:
            names.add(name)
            yield Component(name, reference.pinned(reference.digest))


def _require_same(one: _One, other: _One) -> None:
    """Raise PayloadError where two payloads of an index are not of the same release."""
    both = f"{one.architecture} and {other.architecture}"
    versions = f"{one.version} for {one.architecture}, {other.version} for {other.architecture}"
    if one.version != other.version:
        raise PayloadError(f"its payloads are of several releases: {versions}")
    if dict(one.metadata) != dict(other.metadata) or set(one.previous) != set(other.previous):
        raise PayloadError(f"its payloads for {both} disagree in {payload_files.METADATA}")
    if set(one.components) != set(other.components):
        names = sorted({component.name for component in set(one.components) ^ set(other.components)})
        raise PayloadError(f"its payloads for {both} have different components:", details=shortened(names, _SHOWN))


def _require_tags(tag: str, components: Sequence[Component]) -> None:
    """Raise PayloadError for images that would have no tag on the mirror (ADR 0066)."""
    for name in (tag, *(f"{tag}-{component.name}" for component in components)):
        if not is_tag(name):
            raise PayloadError(f"no tag can have the name {name[:200]!r}, which it would get on the mirror")


def _unlisted(tree: Tree, one: _One, source: str, *, several: bool) -> Iterator[Problem]:
    """Yield a warning for a payload that the update service, or a cluster, does not take for what it is."""
    if any(document.media_type not in _LISTED for document in tree.documents):
        # openshift/cincinnati, release_scrape_dockerv2/registry/mod.rs, `accepted_types`.
        message = f"release {one.version} has media types of OCI, which the OpenShift Update Service ignores"
        yield Problem("warning", ProblemCode.PAYLOAD_UNLISTED, source, message)
    if several and one.metadata.get(ARCHITECTURE_KEY) != MULTI:
        message = f"release {one.version} is an index without {ARCHITECTURE_KEY}: clusters take it for one of one architecture"
        yield Problem("warning", ProblemCode.PAYLOAD_UNLISTED, source, message)


@dataclass(frozen=True, slots=True)
class _Disks:
    """The disk images for OpenShift Virtualization, with problems and notes about missing ones."""

    machines: tuple[Machine, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def _disks(one: _One, architectures: Sequence[str], tag: str, source: str) -> _Disks:
    """Return the disk images of some architectures. Their faults are problems: the release is complete without them."""
    text = f"release {one.version}: the disk image for OpenShift Virtualization (kubeVirtContainer)"
    try:
        machines = _machines(one, architectures, tag)
    except (PayloadError, DocumentError) as error:
        return _Disks(
            problems=(Problem("error", ProblemCode.KUBEVIRT_MISSING, source, f"{text} is left out: {error.message}"),)
        )
    have = {machine.architecture for machine in machines}
    parsed = try_parse(one.version)
    since = parsed is not None and parsed.release[:2] >= _KUBEVIRT_SINCE
    problems: list[Problem] = []
    notes: list[str] = []
    for architecture in architectures:
        if architecture in have:
            continue
        # Published streams of 4.15 and 5.0 have it for x86_64 alone; s390x came later, and not in every release.
        if architecture == "amd64" and since:
            problems.append(Problem("error", ProblemCode.KUBEVIRT_MISSING, source, f"{text} is not in it for {architecture}"))
        else:
            notes.append(f"{text} is not in it for {architecture}")
    return _Disks(machines, tuple(problems), tuple(notes))


def _machines(one: _One, architectures: Sequence[str], tag: str) -> tuple[Machine, ...]:
    if one.bootimages is None:
        return ()
    machines = bootimages.machines(one.bootimages, payload_files.BOOTIMAGES, architectures)
    names = {component.name for component in one.components}
    for machine in machines:
        if machine.name in names or not is_tag(f"{tag}-{machine.name}"):
            raise PayloadError(f"the name {machine.name!r} is that of a component, or makes no tag")
    return machines
