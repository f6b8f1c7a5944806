"""The inventory: the list of everything in an archive, and the contract between exporter and importer.

Field names are those of the JSON (docs/reference/archive-format.md, *inventory.json*). Readers ignore unknown fields and
refuse an unknown major version. Content of a volume is accepted only under the digest and size that the inventory gives.
"""

from __future__ import annotations

import threading
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import msgspec

from common.errors import ArchiveDamagedError, ContentError
from common.oci.image import Digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


MEDIA_TYPE = "application/vnd.hub-airgap.inventory.v1+json"
MAX_SIZE = 512 * 1024 * 1024
MAX_BLOBS = 2_000_000
MAX_IMAGES = 500_000
MAX_PROBLEMS = 500_000
MAX_NEEDED_BY = 5_000_000  # of all images
MAX_ENTRIES = 5_000_000  # of all channels, with the names that they skip
MAX_RELEASES = 10_000  # the largest channel has 220
MAX_COMPONENTS = 100_000  # of all releases; one has about 190
MAX_STEPS = 100_000  # of all update paths, with their risks
MAX_RELEASE_SIGNATURES = 9  # of one release; openshift/library-go, pkg/verify/store, reads no more
MAX_SIGNATURE_SIZE = 50 * 1024  # bytes; the same
MAX_NAME = 8192  # characters of a source or an entry of neededBy, which messages and lists repeat for each blob
MAX_REQUESTER = 200  # characters of `requestedBy`
MAX_PURPOSE = 1000  # characters of `purpose`
MAX_BASES = 10_000  # earlier archives and receipts that are described, with the archives that the receipts confirm
MAX_CREATED = 64  # characters of the date of an earlier archive; RFC 3339 with nanoseconds has 35
MAX_FREE_FORM = 500_000  # values of the image set and of the templates, whose schema is not defined by this format

# The shortest digest is sha256 with 64 digits. A list or map of shorter texts would take many times its bytes in memory.
ListedDigest = Annotated[Digest, msgspec.Meta(min_length=71)]


class _OpenEnum(StrEnum):
    """An enumeration that a later writer of the same major version may extend; an unknown value becomes a member."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_, member._value_ = value, value
        return member


class ProblemCode(_OpenEnum):
    """What can be wrong with something that was asked for. Each is explained in docs/reference/problems.md."""

    IMAGE_NOT_FOUND = "image-not-found"  # the registry says that there is no such image
    IMAGE_UNAUTHORIZED = "image-unauthorized"  # the registry wants other credentials
    IMAGE_UNREACHABLE = "image-unreachable"  # the registry did not answer
    IMAGE_UNSUPPORTED = "image-unsupported"  # Docker schema 1, or no image at all
    BLOB_UNAVAILABLE = "blob-unavailable"  # a layer could not be fetched, or was not what its digest says
    PLATFORM_MISSING = "platform-missing"  # the image has none of the platforms asked for
    RELATED_IMAGE_EMPTY = "related-image-empty"  # a bundle lists an image without a reference
    RELATED_IMAGE_INVALID = "related-image-invalid"  # a bundle lists something that is no reference
    RELATED_IMAGE_INTERNAL = "related-image-internal"  # a reference to a registry that only the publisher reaches
    RELATED_IMAGE_RECOVERED = "related-image-recovered"  # `value` in place of `image`; carried nevertheless
    BUNDLE_UNREADABLE = "bundle-unreadable"  # a bundle image that could not be looked into for the images it names
    TAG_UNMIRRORABLE = "tag-unmirrorable"  # pulled by tag, and the target has no rule for tags
    SOURCE_UNREDIRECTABLE = "source-unredirectable"  # containerd cannot be led to a mirror with another path
    CATALOG_INVALID = "catalog-invalid"  # a package or bundle that OLM would refuse; left out or kept, as said
    SECTION_NOT_CARRIED = "section-not-carried"  # a section of the image set that is another tool's, such as mirror.helm
    PACKAGE_ABSENT = "package-absent"  # a package that is optional, and that the catalog does not have
    IMAGE_BLOCKED = "image-blocked"  # left out by blockedImages
    DEPENDENCY_UNSATISFIED = "dependency-unsatisfied"  # a required package or API is not in the catalogs
    OPERATOR_STRANDED = "operator-stranded"  # the cluster has an operator that no carried version updates
    SPARSE_INDEX = "sparse-index"  # platforms left out; some registries refuse that
    REFERENCE_COLLISION = "reference-collision"  # two sources would meet under one name on the mirror
    SIGNATURE_MISSING = "signature-missing"  # --signatures require, and an image has none
    SIGNATURE_UNAVAILABLE = "signature-unavailable"  # a registry would not say which signatures there are
    RELEASE_SIGNATURE = "release-signature"  # a signature of a release is left out, or its key has expired (OKD)
    RELEASE_BOUND = "release-bound"  # a range of releases begins or ends with one that the channel does not have
    UPDATE_PATH = "update-path"  # no update path leads over the releases of several channels
    UPDATE_RISK = "update-risk"  # an update path has a step that is not recommended for every cluster
    RELEASE_UNVERIFIED = "release-unverified"  # a release is carried without a verified signature, as asked
    RELEASE_UNREADABLE = "release-unreadable"  # the payload of a release cannot be read, or contradicts itself
    NODES_LARGE = "node-configuration-large"  # mirror rules near what a MachineConfig can have
    HOSTED_RULES = "hosted-rules"  # more mirror rules than a HostedCluster takes
    CATALOG_UNSERVABLE = "catalog-unservable"  # the cluster's release cannot serve a catalog of this format
    RELEASE_UNSUPPORTED = "release-unsupported"  # the head of a channel is not for the cluster's release
    RELEASE_INCOMPLETE = "release-incomplete"  # images of a release are not in the archive; no cluster is led to it
    PAYLOAD_UNLISTED = "payload-unlisted"  # a release that the OpenShift Update Service, or a cluster, takes for another
    KUBEVIRT_MISSING = "kubevirt-missing"  # a release without the disk image for OpenShift Virtualization
    GRAPH_DATA_MISSING = "graph-data-missing"  # no image of graph data: there is none that it could be put on
    PROGRAM_UNMARKED = "program-unmarked"  # a program of a release without a place for the release or its version
    MIRROR_UNVERIFIED = "mirror-unverified"  # an installation from a mirror whose TLS is not verified
    RECORD_NOT_STORED = "record-not-stored"  # the mirror has the archive, and does not remember it
    SBOM_UNREADABLE = "sbom-unreadable"  # an SBOM that is not read, or packages of one
    SBOM_MISMATCH = "sbom-mismatch"  # an SBOM whose statement is about another image
    PUSH_FAILED = "push-failed"  # the mirror refused an image or a blob
    ARCHIVE_DAMAGED = "archive-damaged"  # bytes of the archive are not the ones that were written


# The records of which there is one for each blob and more have `gc=False`: none refers to an object that could refer to it, and
# each is 16 bytes smaller.


class _Record(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Base of all records: frozen, camelCase in JSON, absent when default."""


class BundleRecord(_Record, frozen=True):
    """An entry of a channel as in the catalog; `version` is null for one without a bundle."""

    name: str
    version: str | None
    replaces: str = ""
    skips: tuple[str, ...] = ()
    skip_range: str = ""
    deprecated: bool = False  # by the bundle's name in olm.deprecations


class RequiredPackageRecord(_Record, frozen=True):
    """A package that a bundle requires, and the range of its versions as written; empty where it has none."""

    package: str
    range: str = ""


class ChannelRecord(_Record, frozen=True):
    """A channel as carried; entries head first along the update graph. What follows them is what the head states."""

    name: str
    head: str
    bundles: tuple[BundleRecord, ...]
    max_open_shift_version: str | None = None
    min_kube_version: str | None = None
    install_modes: tuple[str, ...] = ()  # the supported ones, such as OwnNamespace; empty where the catalog has none
    suggested_namespace: str | None = None
    suggested_namespace_template: str | None = None  # JSON of a Namespace, as written
    disconnected: bool | None = None  # whether the head says that it runs in disconnected clusters; None: it says nothing
    cluster_monitoring: bool = False  # whether the head wants its namespace labelled for the cluster's monitoring
    provided_apis: tuple[str, ...] = ()  # `Kind.version.group`, as OLM names them in the annotation `olm.providedAPIs`
    required_apis: tuple[str, ...] = ()
    required_packages: tuple[RequiredPackageRecord, ...] = ()
    constraints: bool = False  # whether the head has properties `olm.constraint`


class PackageRecord(_Record, frozen=True):
    """A package as carried."""

    name: str
    default_channel: str
    channels: tuple[ChannelRecord, ...]
    install: bool = False  # whether an import is to install it (ADR 0079)


class CatalogRecord(_Record, frozen=True):
    """A catalog image that is carried, and what OLM will list from it."""

    source: str
    digest: Digest | None  # as pulled; None for a catalog that was a directory
    image: Digest  # index or manifest of the catalog image carried
    name: str
    format: Literal["file-based", "sqlite"]
    filtered: bool
    packages: tuple[PackageRecord, ...]
    display_name: str | None = None
    publisher: str | None = None
    target_repository: str | None = None
    target_tag: str | None = None
    update_graph: bool = False  # whether entries have `replaces`, `skips` and `skipRange`; False for older archives (ADR 0056)
    catalog_source_template: dict[str, Any] | None = None


class ImageKind(_OpenEnum):
    """Why an image is carried."""

    CATALOG = "catalog"
    BUNDLE = "bundle"
    RELATED = "related"
    ADDITIONAL = "additional"
    RELEASE = "release"  # the payload of an OpenShift release
    COMPONENT = "component"  # an image that a payload lists
    GRAPH_DATA = "graph-data"  # what the OpenShift Update Service needs to know of channels and risks
    SIGNATURE = "signature"
    ATTACHMENT = "attachment"


RELEASE_GROUP = "OpenShift"  # before the release in `neededBy`; no catalog has this name, for theirs have no capital letters
ATTACHED = frozenset((ImageKind.SIGNATURE, ImageKind.ATTACHMENT))  # found through the registry of an image, not asked for


class ImageRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A top-level image. `digest` None: never resolved; `complete` False: something of it is missing."""

    source: str
    digest: Digest | None
    media_type: str | None
    kind: ImageKind
    platforms: tuple[str, ...]
    complete: bool
    needed_by: tuple[str, ...]
    size: int
    tag: str | msgspec.UnsetType = msgspec.UNSET
    missing_platforms: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    target_repository: str | msgspec.UnsetType = msgspec.UNSET
    target_tag: str | msgspec.UnsetType = msgspec.UNSET


class ManifestRecord(_Record, frozen=True, gc=False):
    """A manifest or index in the metadata region: what it needs."""

    media_type: str
    size: int
    manifests: tuple[ListedDigest, ...] = ()
    blobs: tuple[ListedDigest, ...] = ()
    subject: Digest | None = None


class Piece(_Record, frozen=True, gc=False):
    """Location of bytes of a blob: `offset` is that of the content frame's magic, `stored` the length of that frame."""

    volume: int
    offset: int
    stored: int
    size: int


class Encoding(StrEnum):
    """How the content frame of a blob was written."""

    RAW = "raw"
    ZSTD = "zstd"


class BlobRecord(msgspec.Struct, frozen=True, rename={"media_type": "mediaType", "in_": "in"}, omit_defaults=True, gc=False):
    """A blob: in this archive (`encoding`, `pieces`), in an earlier one (`in`), or `missing` with a problem code."""

    size: int
    media_type: str
    encoding: Encoding | None = None
    pieces: tuple[Piece, ...] = ()
    in_: Digest | None = None
    missing: ProblemCode | None = None


class VolumeRecord(_Record, frozen=True):
    """A volume; `data_size` is the offset of its metadata region."""

    name: str
    data_size: int


class Problem(_Record, frozen=True):
    """An error or a warning about the content, for plan, inventory and report."""

    severity: Literal["error", "warning"]
    code: ProblemCode
    subject: str
    message: str


class ComponentRecord(_Record, frozen=True):
    """An image that a release needs, under the name that the payload gives it; several names may have one digest."""

    name: str
    source: str  # of its ImageRecord


class ReleaseSignatureRecord(_Record, frozen=True):
    """A signature of a payload: an OpenPGP message in base64, as the signature store has it.

    `key`: the fingerprint of the key that it was verified with, in upper case; empty where it was not verified.
    """

    content: str
    url: str
    key: str = ""


class ReleaseRecord(_Record, frozen=True):
    """An OpenShift release that is carried. `source` is that of its payload's ImageRecord (ADR 0066).

    `architecture` is one of the update service: amd64, arm64, ppc64le, s390x or multi. `errata`: a URL. `unverified`: it was
    asked for by name without a signature.
    """

    version: str
    architecture: str
    source: str
    digest: Digest
    okd: bool = False
    channels: tuple[str, ...] = ()
    errata: str = ""
    components: tuple[ComponentRecord, ...] = ()
    signatures: tuple[ReleaseSignatureRecord, ...] = ()
    unverified: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of its images, that of the payload first."""
        return self.source, *(component.source for component in self.components)


class RiskRecord(_Record, frozen=True):
    """A known issue of an update, which the update service gives as a condition."""

    name: str
    url: str = ""
    message: str = ""


class UpdateStepRecord(msgspec.Struct, frozen=True, rename={"from_": "from"}, omit_defaults=True):
    """An update from one release to another; without `risks` it is recommended for every cluster."""

    from_: str
    to: str
    risks: tuple[RiskRecord, ...] = ()


class UpdatePathRecord(_Record, frozen=True):
    """A way through the update graph over carried releases, in the order of the updates."""

    architecture: str
    steps: tuple[UpdateStepRecord, ...]


class UpdateGraphRecord(_Record, frozen=True):
    """What the update service says of the carried releases. `graph_data`: the digest of the graph-data image, if carried."""

    paths: tuple[UpdatePathRecord, ...] = ()
    graph_data: Digest | None = None


class BaseRecord(_Record, frozen=True):
    """An earlier archive, as people name it, or a receipt with the archives that it `confirms`, None for an archive.

    It describes a digest that messages name. Nothing is decided by it (ADR 0076).
    """

    created: str = ""
    name: str = ""
    confirms: tuple[ListedDigest, ...] | None = None


class Inventory(msgspec.Struct, frozen=True, rename="camel"):
    """The whole list. Its digest, over the exact bytes of the file, is the archive's identity.

    `releases` and `update_graph` are there only where releases are carried, so that other archives keep their bytes;
    `requested_by` and `purpose`, for the person who approves the transfer, only where they were given (ADR 0073).
    So is `name`; `bases` describes the holders of blobs that are left out, where there are any (ADR 0076).
    """

    media_type: str
    created: str
    tool: str
    image_set: dict[str, Any]
    requires: tuple[ListedDigest, ...]
    catalogs: tuple[CatalogRecord, ...]
    images: tuple[ImageRecord, ...]
    manifests: dict[Digest, ManifestRecord]
    blobs: dict[Digest, BlobRecord]
    volumes: tuple[VolumeRecord, ...]
    problems: tuple[Problem, ...]
    releases: tuple[ReleaseRecord, ...] | msgspec.UnsetType = msgspec.UNSET
    update_graph: UpdateGraphRecord | msgspec.UnsetType = msgspec.UNSET
    requested_by: str | msgspec.UnsetType = msgspec.UNSET
    purpose: str | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType = msgspec.UNSET
    bases: dict[Digest, BaseRecord] | msgspec.UnsetType = msgspec.UNSET

    @property
    def installs(self) -> tuple[str, ...]:
        """The packages that an import is to install, each once."""
        found = (package.name for catalog in self.catalogs for package in catalog.packages if package.install)
        return tuple(dict.fromkeys(found))

    @property
    def known_bases(self) -> dict[Digest, BaseRecord]:
        """The holders that are described; none in archives of earlier versions."""
        return self.bases or {}

    @property
    def carried_releases(self) -> tuple[ReleaseRecord, ...]:
        """The OpenShift releases; none in most archives."""
        return self.releases or ()


def packages_of(needed_by: Iterable[str]) -> set[str]:
    """Return the packages, or releases, in entries of `neededBy`: the second part of `CATALOG/PACKAGE/BUNDLE`."""
    return {parts[1] for name in needed_by if len(parts := name.split("/", 2)) > 1}


def lacking_images(inventory: Inventory) -> dict[str, int]:
    """Return how many images each incomplete release lacks, by the source of its payload."""
    whole = {image.source for image in inventory.images if image.complete}
    found = {}
    for release in inventory.carried_releases:
        if lacking := len(set(release.sources) - whole):
            found[release.source] = lacking
    return found


# The closure of an image: its documents and blobs.


def blobs_of(inventory: Inventory, root: Digest | None) -> frozenset[Digest]:
    """Return the blobs of an image, over all of its platforms; none for an image that was never resolved."""
    return frozenset(
        blob for digest in documents_of(inventory, root) for record in (inventory.manifests[digest],) for blob in record.blobs
    )


def documents_of(inventory: Inventory, root: Digest | None) -> list[Digest]:
    """Return the manifests and indexes of an image, each once, children before parents; none for one that is not listed."""
    found: dict[Digest, None] = {}

    # Recursion is bounded: `inventory_file.decode` refuses manifests that are nested deeper than MAX_DEPTH.
    def visit(digest: Digest) -> None:
        for child in inventory.manifests[digest].manifests:
            if child not in found:
                visit(child)
        found[digest] = None

    if root in inventory.manifests:
        visit(root)
    return list(found)


def repository_of(image: ImageRecord, fixed: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the repository that decides an image's place on any mirror: the one chosen for it, or that of its source.

    `fixed`: the paths that repositories of releases have instead (`common.mapping.fixed_paths`).
    """
    if image.target_repository:
        return image.target_repository
    folder, slash, name = image.source.partition("@")[0].rpartition("/")
    repository = f"{folder}{slash}{name.partition(':')[0]}"
    return fixed.get(repository, repository)


# Bounds on what images need together, and the images that need a blob, in time proportional to the inventory.
#
# Any number of images may name one manifest, and any number of indexes may list it. So a few megabytes of inventory can stand
# for billions of pairs of image and blob, and every loop over the blobs of all images would go through them.

# An image index and its manifests are usually listed once each, so a real closure has one or two entries for each of these.
_MAX_SHARING = 16  # entries of all closures for each listed one
_FREE = 1_000_000  # entries that any inventory may have
_NAMES_ROOM = 64 * 1024 * 1024  # bytes of names, before lists of names are cut short
_SHORT = 1024  # bytes of names of one blob after that
_NAME = 64  # bytes that a name takes besides its text


def check_documents(inventory: Inventory) -> None:
    """Raise ContentError when the closures of different images have too many entries. Nesting must have been checked."""
    _require(inventory, {image.digest for image in inventory.images if image.digest in inventory.manifests}, "its images need")


def require_bounded_images(inventory: Inventory) -> None:
    """Raise ArchiveDamagedError when there are too many pairs of an image and something that it needs."""
    try:
        _require(
            inventory,
            [image.digest for image in inventory.images if image.digest in inventory.manifests],
            "to bring its images,",
        )
    except ContentError as error:
        raise ArchiveDamagedError(
            f"the archive cannot be used: {error}", hint="Images that share that much need archives of their own: make several."
        ) from error


def _require(inventory: Inventory, roots: Collection[Digest | None], what: str) -> None:
    sizes = _sizes(inventory)
    listed = sum(len(one.manifests) + len(one.blobs) + 1 for one in inventory.manifests.values()) + len(inventory.images)
    limit = _FREE + _MAX_SHARING * listed
    entries = sum(sizes[root] for root in roots if root is not None)
    if entries > limit:
        raise ContentError(f"{what} {entries} blobs and manifests counted for each image; the limit is {limit} for its size")


def _sizes(inventory: Inventory) -> dict[Digest, int]:
    """Return for each document the entries that a walk through it passes."""
    found: dict[Digest, int] = {}

    # Recursion is bounded, as in `documents_of`.
    def size(digest: Digest) -> int:
        if digest not in found:
            record = inventory.manifests[digest]
            children = (child for child in record.manifests if child in inventory.manifests)
            found[digest] = 1 + len(record.blobs) + len(record.manifests) + sum(map(size, children))
        return found[digest]

    for digest in inventory.manifests:
        size(digest)
    return found


class Users:
    """The operators or images that need a blob. Used from several threads."""

    def __init__(self, inventory: Inventory) -> None:
        self._names: dict[Digest, dict[str, None]] = {}
        for image in inventory.images:
            if image.digest in inventory.manifests and image.digest is not None:
                self._names.setdefault(image.digest, {}).update(dict.fromkeys(image.needed_by or (image.source,)))
        self._roots: dict[Digest, list[Digest]] = {}
        # Once for each manifest or index, not for each image that names it.
        for root in self._names:
            for blob in blobs_of(inventory, root):
                self._roots.setdefault(blob, []).append(root)
        self._known: dict[tuple[Digest, ...], tuple[str, ...]] = {}
        self._room = _NAMES_ROOM
        self._lock = threading.Lock()

    def names(self, blob: Digest) -> tuple[str, ...]:
        """Return the operators (`catalog/package/bundle`) that need a blob, or the images where none does.

        Once all lists have 64 MiB of names, further ones are cut to 1 KiB.
        """
        roots = tuple(self._roots.get(blob, ()))
        with self._lock:
            if roots not in self._known:
                self._known[roots] = self._collected(roots)
            return self._known[roots]

    def _collected(self, roots: Iterable[Digest]) -> tuple[str, ...]:
        found: set[str] = set()
        room = max(self._room, _SHORT)
        for root in roots:
            for name in self._names[root]:
                # Also for a name that is known already: it bounds the time with the memory.
                room -= len(name) + _NAME
                self._room -= len(name) + _NAME
                if found and room < 0:
                    return tuple(sorted(found))
                found.add(name)
        return tuple(sorted(found))


def needed_by(inventory: Inventory, blobs: Collection[Digest]) -> dict[Digest, tuple[str, ...]]:
    """Return for each of `blobs` the operators that need it, or the images where none does; cut as by `Users.names`."""
    users, room = Users(inventory), _NAMES_ROOM
    found: dict[Digest, tuple[str, ...]] = {}
    for blob in sorted(set(blobs)):
        names = users.names(blob)
        # Blobs share one list in memory, but not where the lists are printed.
        found[blob] = _cut(names, max(room, _SHORT))
        room -= sum(map(len, found[blob])) + _NAME * len(found[blob])
    return found


def _cut(names: tuple[str, ...], room: int) -> tuple[str, ...]:
    """Return the first names that `room` bytes hold, at least one."""
    for number, name in enumerate(names):
        room -= len(name) + _NAME
        if room < 0:
            return names[: max(number, 1)]
    return names


def images_by_digest(inventory: Inventory) -> dict[Digest, list[ImageRecord]]:
    """Return the resolved images of each digest that the inventory lists, so that its blobs are collected once."""
    found: dict[Digest, list[ImageRecord]] = {}
    for image in inventory.images:
        if image.digest is not None and image.digest in inventory.manifests:
            found.setdefault(image.digest, []).append(image)
    return found
