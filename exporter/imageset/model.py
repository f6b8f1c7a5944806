"""The image set: catalogs, packages and images requested by an ImageSetConfiguration file (`file.py`) or by flags.

Rules: docs/reference/selection.md, *Input*. The fields are those of oc-mirror v2 (openshift/oc-mirror, v2alpha1), with a few of
v1alpha2 and of the project (ADR 0050).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from common.errors import UsageError
from common.oci.reference import Reference, without_docker
from common.version import Bounds
from exporter.imageset.fields import OWN, V2ALPHA1
from exporter.imageset.releases import NO_RELEASES, PlatformRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from common.archive.inventory import Problem
    from common.oci.image import Platform


KIND = "ImageSetConfiguration"
_WILDCARD = re.compile(r"[*?\[]")
MAX_PATTERNS = 100  # of `exclude`: each is compared with every package of the catalog
MAX_ITEMS = 100_000  # of one list of the file; also the largest archiveSize, 100 TB
_PACKAGE = re.compile(r"([^:@\s]+)(?::([^@\s]*))?(?:@(\S*))?")


@dataclass(frozen=True, slots=True)
class ChannelRequest:
    """A channel of a package; without versions its head is requested."""

    name: str
    min_version: str = ""
    max_version: str = ""
    min_bundle: str = ""  # of v1alpha2: the bundle whose version is the minimum

    @property
    def bounds(self) -> Bounds:
        """The requested range, without `min_bundle`."""
        return Bounds.of(self.min_version, self.max_version)


@dataclass(frozen=True, slots=True)
class PackageRequest:
    """A package; no channels means all of them."""

    name: str
    default_channel: str = ""
    min_version: str = ""
    max_version: str = ""
    channels: tuple[ChannelRequest, ...] = ()
    min_bundle: str = ""
    optional: bool = False  # a catalog without it is no error
    install: bool = False  # the import is to install it

    @property
    def bounds(self) -> Bounds:
        """The requested range of every channel, without `min_bundle`."""
        return Bounds.of(self.min_version, self.max_version)


@dataclass(frozen=True, slots=True)
class OperatorRequest:
    """The request for one catalog: all of it (`full`), some packages, or with neither the head of every channel."""

    catalog: str
    full: bool = False
    packages: tuple[PackageRequest, ...] = ()
    target_catalog: str | None = None
    target_tag: str | None = None
    target_catalog_source_template: str | None = None  # a path; its content goes into the inventory
    platforms: tuple[Platform, ...] = ()
    skip_dependencies: bool = False
    exclude: tuple[str, ...] = ()
    """Names of packages that are left out, also of those that others require; with the wildcards of shells."""
    installed_only: bool = False  # no packages but those that the target has installed

    def excluded(self, packages: Iterable[str]) -> frozenset[str]:
        """Return those of `packages` that are left out."""
        names = set(self.exclude)
        patterns = [one for one in self.exclude if _WILDCARD.search(one)]
        # With regard to case, as names of packages have it (fnmatch() has that of the platform).
        return frozenset(one for one in packages if one in names or any(fnmatchcase(one, pattern) for pattern in patterns))


@dataclass(frozen=True, slots=True)
class AdditionalImage:
    """An image that belongs to no catalog. `name` is a reference that parses."""

    name: str
    target_repo: str | None = None
    target_tag: str | None = None
    platforms: tuple[Platform, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The whole request. `as_read` is the same as JSON values, for the inventory."""

    operators: tuple[OperatorRequest, ...] = ()
    additional_images: tuple[AdditionalImage, ...] = ()
    blocked_images: tuple[str, ...] = ()
    """Regular expressions, searched for in references."""
    platform: PlatformRequest = NO_RELEASES
    archive_size_gib: int | None = None
    # For the inventory: the importer and a re-request read the image set from there, with fields that this version ignores.
    as_read: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """Warnings about the file, such as fields without a meaning here."""
    problems: tuple[Problem, ...] = ()
    """Sections of the file that hub-export does not carry."""

    @property
    def archive_size_bytes(self) -> int | None:
        """The volume size of the file, in bytes."""
        return None if self.archive_size_gib is None else self.archive_size_gib * 1024**3


def from_flags(
    *,
    catalogs: Sequence[str] = (),
    packages: Sequence[str] = (),
    optional: Sequence[str] = (),
    install: Sequence[str] = (),
    exclude: Sequence[str] = (),
    images: Sequence[str] = (),
    full: bool = False,
    heads: bool = False,
    platforms: Iterable[Platform] = (),
    skip_dependencies: bool = False,
    installed: bool = False,
    platform: PlatformRequest = NO_RELEASES,
) -> ImageSet:
    """Return the image set of flags: `NAME[:CHANNEL[,CHANNEL]][@MIN..MAX]` for a package. Raises UsageError.

    `platform`: the releases. `optional` and `install` are packages too. `platforms` and `exclude` are put on every catalog,
    `platforms` on every image. With `installed` a catalog may have no packages but those that the target has installed.
    """
    named = [*packages, *optional, *install]
    alone = _installed_alone(catalogs, installed=installed, more=bool(named) or full or heads)
    if catalogs or named or images or not platform.asks:
        _require_valid_flags(catalogs, named, images, full=full, heads=heads or alone)
    wanted = tuple(platforms)
    chosen = _packages_of_flags(packages, optional, install)
    left_out = tuple(_excluded_by_flag(text, catalogs) for text in exclude)
    operators = tuple(
        OperatorRequest(
            without_docker(name),
            full,
            chosen,
            platforms=wanted,
            skip_dependencies=skip_dependencies,
            exclude=left_out,
            installed_only=alone,
        )
        for name in catalogs
    )
    additional = tuple(_image_of_flag(name, wanted) for name in images)
    for operator in operators:
        check(operator, "--package")  # the same rules as for a file
    return ImageSet(operators, additional, platform=platform, as_read=_as_read(operators, additional, platform))


def _installed_alone(catalogs: Sequence[str], *, installed: bool, more: bool) -> bool:
    """Return whether only what the target has installed is asked for. Raises UsageError without a catalog to find it in."""
    if installed and not catalogs:
        raise UsageError("--installed without --catalog", hint="Name the catalogs that have the operators, or an image set.")
    return installed and not more


def _image_of_flag(name: str, platforms: tuple[Platform, ...]) -> AdditionalImage:
    # `docker://` is how oc-mirror and skopeo spell a registry; without it the name is a reference.
    return AdditionalImage(str(Reference.parse(without_docker(name))), platforms=platforms)


def _packages_of_flags(packages: Iterable[str], optional: Iterable[str], install: Iterable[str]) -> tuple[PackageRequest, ...]:
    left_to_catalog = (replace(package_of_flag(text, "--optional"), optional=True) for text in optional)
    to_install = (replace(package_of_flag(text, "--install"), install=True) for text in install)
    return (*map(package_of_flag, packages), *left_to_catalog, *to_install)


def _excluded_by_flag(text: str, catalogs: Sequence[str]) -> str:
    if not catalogs:
        raise UsageError("--exclude without --catalog", hint="Name the catalog whose packages are left out.")
    if not text.strip():
        raise UsageError("--exclude is empty", hint="Name a package; an empty variable of a script is a usual cause.")
    return text.strip()


def package_of_flag(text: str, flag: str = "--package") -> PackageRequest:
    """Read `NAME[:CHANNEL[,CHANNEL]][@MIN..MAX]`; one version alone is both minimum and maximum. Raises UsageError."""
    match = _PACKAGE.fullmatch(text)
    channels = match[2].split(",") if match and match[2] is not None else []
    if not match or not all(channels) or match[3] in ("", ".."):
        raise UsageError(
            f"{flag} {text[:200]!r} cannot be read",
            hint="Wanted: NAME[:CHANNEL[,CHANNEL]][@MIN..MAX], for example odf-operator:stable-4.18@4.18.0..4.18.5",
        )
    # `@1.2.3` is one version, `@1.2.3..` a minimum, `@..1.2.3` a maximum.
    low, dots, high = (match[3] or "").partition("..")
    return PackageRequest(match[1], "", low, high if dots else low, tuple(ChannelRequest(name) for name in channels))


def check(operator: OperatorRequest, where: str) -> None:
    """Raise UsageError, beginning with `where`, for a request that contradicts itself."""
    for package in operator.packages:
        for fault in package_faults(package, where):
            raise fault  # the first one: flags are short
    for fault in operator_faults(operator, where):
        raise fault


def operator_faults(operator: OperatorRequest, where: str) -> Iterator[UsageError]:
    """Yield the faults of the packages of a request taken together."""
    yield from _doubled((package.name for package in operator.packages), where, "package")
    patterns = sum(1 for one in operator.exclude if _WILDCARD.search(one))
    if patterns > MAX_PATTERNS:
        yield UsageError(f"{where}: exclude has {patterns} names with wildcards; the limit is {MAX_PATTERNS}")
        return
    for name in sorted(operator.excluded(package.name for package in operator.packages)):
        hint = "Take it out of one of them; without wildcards, exclude names what others require."
        yield UsageError(f"{where}: package {name} is asked for and excluded", hint=hint)
    # As oc-mirror v2: `full` means every version, so a range next to it would be ignored.
    for package in operator.packages:
        if operator.full and _ranged(package):
            yield UsageError(
                f"{where}: package {package.name}: full and a version range exclude each other",
                hint="Take full out, or minVersion and maxVersion.",
            )


def package_faults(package: PackageRequest, where: str) -> Iterator[UsageError]:
    """Yield the faults of one package."""
    yield from _doubled((channel.name for channel in package.channels), f"{where}: package {package.name}", "channel")
    asked: list[PackageRequest | ChannelRequest] = [package, *package.channels]
    for one in asked:
        try:
            Bounds.of(one.min_version, one.max_version)
        except ValueError as error:
            hint = "Versions are as the catalog has them; hub-export list --package shows them."
            yield UsageError(f"{where}: {one.name}: {error}", hint=hint)
    for one in asked:
        if one.min_version and one.min_bundle:  # the same (openshift/oc-mirror, v1alpha2, IncludeBundle.validate)
            yield UsageError(f"{where}: {one.name}: minVersion and minBundle exclude each other", hint="Take one of them out.")
    # Names of channels next to a range of the package are valid; a second range is not (oc-mirror v2 does the same).
    ranged = _ranged(package)
    if package in ranged and len(ranged) > 1:
        yield UsageError(
            f"{where}: package {package.name}: its own range and one of channel {ranged[1].name} exclude each other",
            hint="Give the range either to the package or to its channels.",
        )


def _ranged(package: PackageRequest) -> list[PackageRequest | ChannelRequest]:
    asked: list[PackageRequest | ChannelRequest] = [package, *package.channels]
    return [one for one in asked if one.min_version or one.max_version or one.min_bundle]


def _doubled(names: Iterable[str], where: str, what: str) -> Iterator[UsageError]:
    for name, count in Counter(names).items():
        if count > 1 and name:
            yield UsageError(f"{where}: {what} {name} is there twice", hint="Take one of them out, or make one of both.")


def _require_valid_flags(
    catalogs: Sequence[str], packages: Sequence[str], images: Sequence[str], *, full: bool, heads: bool
) -> None:
    if not catalogs and not images:
        raise UsageError("nothing is asked for", hint="Give an image set file, or --catalog, --image or --release.")
    # Which of the catalogs has the package is not known before they are opened.
    if packages and len(catalogs) != 1:
        raise UsageError(
            f"--package needs one --catalog that has it, got {len(catalogs)}",
            hint="Packages of several catalogs go into an image set file, or into several archives.",
        )
    if full and heads:
        raise UsageError("--full and --heads exclude each other", hint="--full takes every version, --heads the newest.")
    # In a file the same means the head of every channel; on the command line it is mostly a forgotten --package.
    if catalogs and not packages and not full and not heads:
        raise UsageError(
            f"--catalog {catalogs[0]} alone means all its packages: thousands of images",
            hint="Choose with --package NAME, or say --heads (the head of every channel) or --full (everything).",
        )
    for fault in _doubled(catalogs, "--catalog", "catalog"):
        raise fault
    if not all(catalogs):
        raise UsageError("--catalog is empty", hint="Name a catalog image; an empty variable of a script is a usual cause.")


def _as_read(
    operators: Sequence[OperatorRequest], images: Iterable[AdditionalImage], platform: PlatformRequest
) -> dict[str, Any]:
    """Return the document of a file with the same meaning as the flags."""
    mirror: dict[str, Any] = {
        "platform": _release_fields(platform) if platform.asks else {},
        "operators": [_without_empty(_operator_fields(one)) for one in operators],
        "additionalImages": [
            _without_empty({"name": one.name, "platforms": _platform_fields(one.platforms)}) for one in images
        ],
    }
    own = any(one.exclude or any(package.optional or package.install for package in one.packages) for one in operators)
    return {"apiVersion": OWN if own else V2ALPHA1, "kind": KIND, "mirror": _without_empty(mirror)}


def with_requests(image_set: ImageSet, requests: Iterable[OperatorRequest]) -> dict[str, Any]:
    """Return the document of an image set with the packages of other requests for its catalogs.

    A catalog that was asked for by `installed_only` is left out where none of `requests` is for it.
    """
    made = {_identity(one): one for one in requests}
    mirror = image_set.as_read.get("mirror") or {}
    operators = []
    for entry, before in zip(mirror.get("operators") or (), image_set.operators, strict=True):
        after = made.get(_identity(before))
        if after is not None and after.packages != before.packages:
            operators.append({**entry, "packages": list(map(_package_fields, after.packages))})
        elif after is not None or not before.installed_only:
            operators.append(entry)
    return {**image_set.as_read, "mirror": {**mirror, "operators": operators}}


def _identity(one: OperatorRequest) -> tuple[str, str | None, str | None]:
    return one.catalog, one.target_catalog, one.target_tag  # a file has one request for each


def _operator_fields(one: OperatorRequest) -> dict[str, Any]:
    return {
        "catalog": one.catalog,
        "full": one.full,
        "packages": list(map(_package_fields, one.packages)),
        "platforms": _platform_fields(one.platforms),
        "skipDependencies": one.skip_dependencies,
        "exclude": list(one.exclude),
    }


def _package_fields(package: PackageRequest) -> dict[str, Any]:
    fields = {
        **_range_fields(package),
        "defaultChannel": package.default_channel,
        "channels": [_without_empty(_range_fields(channel)) for channel in package.channels],
        "optional": package.optional,
        "install": package.install,
    }
    return _without_empty(fields)


def _release_fields(platform: PlatformRequest) -> dict[str, Any]:
    channels = [
        {
            "name": one.name,
            "minVersion": one.min_version,
            "maxVersion": one.max_version,
            "shortestPath": one.shortest_path,
            "full": one.full,
        }
        for one in platform.channels
    ]
    return _without_empty(
        {
            "channels": list(map(_without_empty, channels)),
            "architectures": list(platform.architectures),
            "graph": platform.graph,
            "release": platform.release,
        }
    )


def _range_fields(one: PackageRequest | ChannelRequest) -> dict[str, Any]:
    return {"name": one.name, "minVersion": one.min_version, "maxVersion": one.max_version, "minBundle": one.min_bundle}


def _platform_fields(platforms: Iterable[Platform]) -> list[dict[str, str]]:
    return [_without_empty({"os": p.os, "architecture": p.architecture, "variant": p.variant}) for p in platforms]


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    # Empty fields are left out, so that an inventory shows the given flags only.
    return {key: value for key, value in fields.items() if value}
