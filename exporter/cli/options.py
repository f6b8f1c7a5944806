"""Groups of options of hub-export that several commands have: selection and archive."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli.options import RegistryOptions, created_now
from common.errors import UsageError
from common.oci.image import Platform
from common.oci.reference import Reference, without_docker
from common.text import is_visible, sanitize
from exporter.cli.release_options import ReleaseOptions
from exporter.settings import FAT32_BYTES, NAMED_SIZES, ExportSettings, SignaturePolicy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from common.target_profile import TargetProfile
    from exporter.imageset.model import ImageSet


# Panels of --help, see common/cli/options.py.
CATALOGS = "Catalogs and targets"
ARCHIVE = "Archive"
INCREMENTS = "Increments and repairs"

# Both families of units: media are sold in GB (powers of 1000), file systems report GiB (powers of 1024).
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([kmgt]?)(i?)b?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_WHOLE = 100
_SHOWN = 40  # characters of a refused name
_PROBE = "hub-import probe lists them, with permission to list Subscriptions (hub-import render --rbac)."


def parse_size(text: str) -> int:
    """Return bytes: `4GiB`, `4.7GB`, `fat32`, `dvd`, `bd25`, or a plain number. Raises UsageError."""
    if text.lower() in NAMED_SIZES:
        return NAMED_SIZES[text.lower()]
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"not a size: {text[:40]!r}", hint="Wanted: a number with a unit (4GiB, 4.7GB), fat32, dvd or bd25.")
    # IEC 80000-13: only the infix `i` means powers of 1024.
    step = 1024 if match[3] else 1000
    return int(Fraction(match[1]) * step ** _POWERS[match[2].lower()])


# A header, a footer and the metadata of one image take more; `10` is meant to be 10 GiB.
_SMALLEST_VOLUME = 4096


def _volume_size(text: str) -> int:
    """Return bytes of --volume-size. Raises UsageError for a size that no archive has, before anything is looked up."""
    size = parse_size(text)
    if size < _SMALLEST_VOLUME:
        unit = f", such as {text.strip()}GiB" if text.strip().isdecimal() and size else ""
        raise UsageError(
            f"--volume-size {text[:40]}: {size} bytes are too few for a volume",
            hint=f"Wanted: a size with a unit{unit or ', such as 4GiB'}.",
        )
    return size


class CatalogFormat(StrEnum):
    """What a carried catalog is."""

    FILE_BASED = "file-based"
    SQLITE = "sqlite"


@dataclass(frozen=True, slots=True)
class SelectionOptions:
    """The selection: an image set, or options with the same meaning."""

    imageset: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGESET", help="ImageSetConfiguration (YAML) that says what to carry; - is standard input."),
    ] = None
    catalog: Annotated[
        list[str],
        typer.Option("--catalog", metavar="REF", help="A catalog image, also on disk (oci:PATH), or catalog files."),
    ] = field(default_factory=list)
    package: Annotated[
        list[str],
        typer.Option("--package", metavar="NAME[:CHANNEL,…][@MIN..MAX]", help="A package of the catalog; repeatable."),
    ] = field(default_factory=list)
    optional: Annotated[
        list[str],
        typer.Option(
            "--optional",
            metavar="NAME[:CHANNEL,…][@MIN..MAX]",
            help="A package as with --package; a catalog without it is no error.",
            rich_help_panel=CATALOGS,
        ),
    ] = field(default_factory=list)
    install: Annotated[
        list[str],
        typer.Option(
            "--install",
            metavar="NAME[:CHANNEL,…][@MIN..MAX]",
            help="A package as with --package, which hub-import deploy installs; repeatable.",
            rich_help_panel=CATALOGS,
        ),
    ] = field(default_factory=list)
    exclude: Annotated[
        list[str],
        typer.Option(
            "--exclude",
            metavar="NAME",
            help="A package to leave out, also if others require it; with * and ?; repeatable.",
            rich_help_panel=CATALOGS,
        ),
    ] = field(default_factory=list)
    image: Annotated[list[str], typer.Option("--image", metavar="REF", help="A further image; repeatable.")] = field(
        default_factory=list
    )
    full: Annotated[bool, typer.Option("--full", help="Every version of every channel of the selection.")] = False
    heads: Annotated[bool, typer.Option("--heads", help="The head of every channel of the catalogs.")] = False
    skip_dependencies: Annotated[
        bool, typer.Option("--skip-dependencies", help="Leave out what the bundles require of other packages.")
    ] = False
    platform: Annotated[
        list[str],
        typer.Option("--platform", "--filter-by-os", metavar="OS/ARCH", help="Carry only these platforms; repeatable."),
    ] = field(default_factory=list)
    catalog_base: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="Build the filtered catalog on this image instead of its own.", rich_help_panel=CATALOGS
        ),
    ] = None
    catalog_format: Annotated[
        CatalogFormat | None,
        typer.Option(help="What a filtered catalog becomes; an SQLite catalog stays one by default.", rich_help_panel=CATALOGS),
    ] = None
    openshift_release: Annotated[
        str | None,
        typer.Option(
            metavar="4.N",
            help="The release that it is for: 4.3 gets the contents of bundles into SQLite.",
            rich_help_panel=CATALOGS,
        ),
    ] = None
    target: Annotated[
        Path | None,
        typer.Option(
            "--target",
            metavar="FILE",
            help="What hub-import probe wrote: its release and platforms, its operators.",
            rich_help_panel=CATALOGS,
        ),
    ] = None
    installed: Annotated[
        bool,
        typer.Option(
            "--installed",
            help="With --target: also what the cluster has installed, from its versions on.",
            rich_help_panel=CATALOGS,
        ),
    ] = False
    strict: Annotated[bool, typer.Option("--strict", help="Fail when there is any problem.")] = False
    signatures: Annotated[
        SignaturePolicy,
        typer.Option(
            help="Signatures and attachments of images: carry those that exist, require them, or ignore them.",
            rich_help_panel=CATALOGS,
        ),
    ] = SignaturePolicy.CARRY

    def offered(self) -> SelectionOptions:
        """Return the same with everything that the catalogs offer, unless ranges or heads were asked for."""
        # Versions are narrowed by `@RANGE` of a package, and by nothing else.
        # A channel limits the channels that are shown, not their versions.
        narrowed = (
            self.imageset
            or self.heads
            or self.installed
            or any("@" in text for text in [*self.package, *self.optional, *self.install])
        )
        return self if narrowed else replace(self, full=True)

    def settings(self, registry: RegistryOptions, releases: ReleaseOptions | None = None) -> ExportSettings:
        """Return the settings of an export, to which ArchiveOptions may add. Raises UsageError."""
        releases = releases or ReleaseOptions()
        image_set = self._image_set(releases)
        if self.platform and (image_set.platform.channels or image_set.platform.release):
            note = "--platform has no effect on releases: --release-arch, or architectures, says which are carried"
            image_set = replace(image_set, notes=(*image_set.notes, note))
        return replace(self._settings(registry, image_set), releases=releases.settings(image_set.platform))

    @property
    def inputs(self) -> list[Path]:
        """The files and directories that are read."""
        from exporter.imageset import source_name

        named = [Path(one) for one in self.catalog if source_name.exists(one)]
        return [*(path for path in (self.imageset, self.target) if path is not None), *named]

    @property
    def given(self) -> bool:
        """Whether anything of it is said, but for `--strict`."""
        return replace(self, strict=False) != SelectionOptions()

    def healing(self, registry: RegistryOptions, only: Path, releases: ReleaseOptions) -> ExportSettings:
        """Return the settings of an export that heals an archive; its image set is the re-request's. Raises UsageError."""
        from common.archive import rerequest
        from exporter.imageset.model import ImageSet

        # The re-request carries the image set of the archive that it repairs; another one would select other images.
        if self.imageset is not None or self._flagged or self.installed:
            raise UsageError("--only and an image set at once", hint="The re-request names the content.")
        wanted = rerequest.load(only)
        settings = self._settings(registry, ImageSet(as_read=wanted.image_set))
        return replace(settings, only=wanted, releases=releases.healing())

    @property
    def _flagged(self) -> bool:
        named = self.catalog or self.package or self.optional or self.install or self.exclude or self.image
        return bool(named or self.full or self.heads or self.skip_dependencies)

    @property
    def _platforms(self) -> tuple[Platform, ...]:
        return platforms_of(self.platform)

    def _image_set(self, releases: ReleaseOptions) -> ImageSet:
        from exporter.imageset import file, model

        if self.imageset is not None and (self._flagged or releases.requested):
            raise UsageError(
                "an image set file and selection flags at once", hint="Put everything into the file, or into flags."
            )
        if self.imageset is not None:
            return file.read(self.imageset)
        return model.from_flags(
            catalogs=self.catalog,
            packages=self.package,
            optional=self.optional,
            install=self.install,
            exclude=self.exclude,
            images=self.image,
            full=self.full,
            heads=self.heads,
            platforms=self._platforms,
            skip_dependencies=self.skip_dependencies,
            installed=self.installed,
            platform=releases.request(),
        )

    def _settings(self, registry: RegistryOptions, image_set: ImageSet) -> ExportSettings:
        from common import target_profile
        from common.openshift import openshift_release

        target = target_profile.load(self.target) if self.target else None
        if self.installed:
            _require_installed(image_set, target)
        release = target.minor_release if target else None  # a z-stream or a nightly build has the same catalogs
        if self.openshift_release is not None:
            release = openshift_release.parse_release(self.openshift_release)[:2]
        return ExportSettings(
            image_set=image_set,
            registry=registry.settings(),
            created=created_now(),
            platforms=self._platforms or (_platforms_of(target) if target and not self.platform else ()),
            target=target,
            installed=self.installed,
            catalog_base=Reference.parse(without_docker(self.catalog_base)) if self.catalog_base else None,
            jobs=registry.jobs,
            strict=self.strict,
            release=release,
            catalog_format=self.catalog_format.value if self.catalog_format else None,
            signatures=self.signatures,
        )


_PLATFORMS = tuple(f"linux/{name}" for name in ("amd64", "arm64", "ppc64le", "s390x"))  # of OpenShift
_EXPRESSION = re.compile(r"(?:\(\?:|\)(?![*+?])|[a-z0-9_./|(*^$,+?-]){1,80}")
_REPETITIONS = 4
_OTHER_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}


def platforms_of(texts: Iterable[str]) -> tuple[Platform, ...]:
    """Return the platforms of --platform; empty for all. Raises UsageError for a text that is none."""
    # `--filter-by-os '.*'` is how `oc adm catalog mirror` asks for all platforms.
    return tuple(_platform_of(text) for text in texts if text != ".*")


def _platform_of(text: str) -> Platform:
    try:
        return Platform.parse(text)
    except UsageError as error:
        meant = _platforms_meant(text)
        if not meant:
            raise
        each = " ".join(f"--platform {name}" for name in meant)
        if len(meant) == len(_PLATFORMS):
            error.hint = f"Leave it out for all platforms, or name each: {each}"
        else:
            error.hint = f"Once for each: {each}" if len(meant) > 1 else f"Wanted: {each}"
        raise


def _platforms_meant(text: str) -> list[str]:
    """Return the platforms that `oc adm catalog mirror --filter-by-os` takes by an expression; also by a machine's name."""
    plain = text.lower()
    for name, usual in _OTHER_NAMES.items():
        plain = plain.replace(name, usual)
    # Repetitions in repetitions take a search the power of their number.
    if not _EXPRESSION.fullmatch(plain) or sum(map(plain.count, "*+?")) > _REPETITIONS:
        return []
    try:
        # oc searches os/architecture for it (openshift/oc, pkg/cli/image/manifest/manifest.go, FilterOptions).
        return [name for name in _PLATFORMS if any(re.search(each, name) for each in plain.split(",") if each)]
    except re.error:
        return []


def _require_installed(image_set: ImageSet, target: TargetProfile | None) -> None:
    """Raise UsageError where the installed operators are not known, or no catalog could have it."""
    if target is None:
        raise UsageError("--installed without --target", hint="Name the profile that hub-import probe wrote.")
    if target.operators is None:
        why = next((note for note in target.notes if note.startswith("installed operators")), "it has none")
        raise UsageError(f"--installed: the operators of the cluster are not in the profile: {why}", hint=_PROBE)
    if not image_set.operators:
        raise UsageError("--installed: the image set has no catalogs", hint="Name them under mirror.operators.")


def _platforms_of(target: TargetProfile) -> tuple[Platform, ...]:
    """Return the platforms that a target needs; all, for a mirror that takes no index without all of its platforms."""
    # Some registries refuse an index whose platforms are not all there (docs/reference/registry.md): all are carried then.
    if target.registry.sparse_indexes is False:
        return ()
    return tuple(Platform.parse(text) for text in target.platforms or ())


def parse_share(text: str) -> Fraction:
    """Return a part of a whole: `5` and `5%` are the same. Raises UsageError outside of 0 to 100 percent."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,3})?)\s*%?", text.strip())
    if not match or not 0 < Fraction(match[1]) <= _WHOLE:
        raise UsageError(f"not a percentage: {text[:40]!r}", hint="Wanted: a number from 1 to 100, such as 5%.")
    return Fraction(match[1]) / _WHOLE


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """What of the selection an archive carries, and in what form."""

    volume_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Largest volume: 4GiB, 4.7GB, fat32 (default), dvd, bd25.",
            rich_help_panel=ARCHIVE,
        ),
    ] = None
    since: Annotated[
        list[str],
        typer.Option(
            "--since",
            metavar="ARCHIVE",
            help="Leave out what this archive or inventory.json carries; repeatable.",
            rich_help_panel=INCREMENTS,
        ),
    ] = field(default_factory=list)
    receipt: Annotated[
        list[Path],
        typer.Option(
            "--receipt",
            metavar="FILE",
            help="Leave out what a receipt of the other side confirms; repeatable.",
            rich_help_panel=INCREMENTS,
        ),
    ] = field(default_factory=list)
    receipt_key: Annotated[
        Path | None,
        typer.Option(
            metavar="PUB",
            help="Public key (PEM) that receipts must be signed with.",
            rich_help_panel=INCREMENTS,
        ),
    ] = None
    parity: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="Parity next to each volume, which repairs damage of up to this percentage.",
            rich_help_panel=ARCHIVE,
        ),
    ] = None
    requested_by: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Who requested the transfer, for the inventory and report.html.", rich_help_panel=ARCHIVE
        ),
    ] = ""
    purpose: Annotated[
        str,
        typer.Option(metavar="TEXT", help="Purpose of the transfer, or a ticket, for the same.", rich_help_panel=ARCHIVE),
    ] = ""
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Name of the archive, such as week-47: shown with its date wherever its digest is.",
            rich_help_panel=ARCHIVE,
        ),
    ] = None

    def applied(self, settings: ExportSettings) -> ExportSettings:
        """Return the settings with these options. Raises UsageError."""
        from common.archive.inventory import MAX_PURPOSE, MAX_REQUESTER
        from common.archive.location import parse
        from common.archive.signature import Verifier

        # Options without an effect are errors: the user believes that a check happens.
        if self.receipt_key and not self.receipt:
            raise UsageError("--receipt-key without --receipt", hint="Name the receipts that it signed.")
        asked = _volume_size(self.volume_size) if self.volume_size else (settings.image_set.archive_size_bytes or FAT32_BYTES)
        return replace(
            settings,
            volume_size=asked,
            since=tuple(map(parse, self.since)),
            receipts=tuple(self.receipt),
            receipt_key=Verifier.load(self.receipt_key) if self.receipt_key else None,
            parity=parse_share(self.parity) if self.parity else Fraction(0),
            requested_by=_line("--requested-by", self.requested_by, MAX_REQUESTER),
            purpose=_line("--purpose", self.purpose, MAX_PURPOSE),
            name="" if self.name is None else _archive_name(self.name),
        )


def _archive_name(text: str) -> str:
    """Return the name of an archive. Raises UsageError for a text that is none."""
    from common.archive import naming

    if naming.is_name(text):
        return text
    # Refused, not corrected: the name on the label and in the archive have to be the same.
    fault = f"{len(text)} characters; the limit is {naming.MAX_LENGTH}" if len(text) > naming.MAX_LENGTH else "not a name"
    nearest = naming.suggestion(text)
    raise UsageError(
        f"--name {sanitize(text, _SHOWN)!r}: {fault if text else 'it is empty'}",
        hint="Wanted: letters (a to z, A to Z) and digits, with - _ . between them, no spaces: "
        + (f"--name {nearest}." if nearest else "--name week-47. Or leave the option out."),
    )


def _line(option: str, text: str, limit: int) -> str:
    """Return a text as one line without hidden characters. Raises UsageError for one longer than `limit`."""
    line = " ".join("".join(" " if sign.isspace() else sign for sign in text if sign.isspace() or is_visible(sign)).split())
    if len(line) > limit:
        raise UsageError(
            f"{option}: {len(line)} characters; the limit is {limit}", hint="Shorten it, or name a ticket or a document."
        )
    return line
