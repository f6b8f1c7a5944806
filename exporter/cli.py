"""hub-export: flags → settings, error → exit code, result → stdout."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from common.cli import OutputOptions, RegistryOptions, command, created_now, start, version_option
from common.errors import ExitCode, UsageError
from common.files import write_atomic
from common.login_command import add_login
from common.oci.platform import Platform
from common.reference import Reference
from common.serialization import pretty_json
from exporter.settings import FAT32_BYTES, NAMED_SIZES, ExportSettings, SignaturePolicy

app = typer.Typer(
    help="Carry OperatorHub catalogs and their images out of a connected network, in an archive for media.",
    no_args_is_help=True,
)
app.callback()(version_option)


class Algorithm(StrEnum):
    """How keys sign; a copy of the words, for --help has no time for cryptography."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """Return bytes: `4GiB`, `4.7GB`, `fat32`, `dvd`, `bd25`, or a plain number. Raises UsageError."""
    if text.lower() in NAMED_SIZES:
        return NAMED_SIZES[text.lower()]
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"not a size: {text[:40]!r}", hint="Wanted: a number with a unit (4GiB, 4.7GB), fat32, dvd or bd25.")
    step = 1024 if match[3] else 1000
    return int(float(match[1]) * step ** _POWERS[match[2].lower()])


@dataclass(frozen=True, slots=True)
class SelectionOptions:
    """What is asked for: an image set, or flags that say the same."""

    imageset: Annotated[
        Path | None, typer.Argument(metavar="[IMAGESET]", help="ImageSetConfiguration (YAML) that says what to carry.")
    ] = None
    catalog: Annotated[
        list[str], typer.Option("--catalog", metavar="REF", help="A catalog image, or a directory of catalog files.")
    ] = field(default_factory=list)
    package: Annotated[
        list[str],
        typer.Option("--package", metavar="NAME[:CHANNEL,…][@MIN..MAX]", help="A package of the catalog; repeatable."),
    ] = field(default_factory=list)
    image: Annotated[list[str], typer.Option("--image", metavar="REF", help="A further image; repeatable.")] = field(
        default_factory=list
    )
    full: Annotated[bool, typer.Option("--full", help="Every version of every channel of what is selected.")] = False
    heads: Annotated[bool, typer.Option("--heads", help="The head of every channel of the catalogs.")] = False
    platform: Annotated[
        list[str],
        typer.Option("--platform", "--filter-by-os", metavar="OS/ARCH", help="Carry only these platforms; repeatable."),
    ] = field(default_factory=list)
    catalog_base: Annotated[
        str | None, typer.Option(metavar="REF", help="Build the filtered catalog on this image instead of its own.")
    ] = None
    strict: Annotated[bool, typer.Option("--strict", help="Fail when there is any problem.")] = False
    signatures: Annotated[
        SignaturePolicy, typer.Option(help="Signatures and attachments of images: carry what is there, require, or ignore.")
    ] = SignaturePolicy.CARRY

    def offered(self) -> SelectionOptions:
        """Return the same with everything that the catalogs offer, unless channels, ranges or heads were asked for."""
        narrowed = self.imageset or self.heads or any(mark in text for text in self.package for mark in ":@")
        return self if narrowed else replace(self, full=True)

    def settings(self, registry: RegistryOptions, output: Path = Path(), volume_size: str | None = None) -> ExportSettings:
        """Return the settings of an export. Raises UsageError."""
        from exporter import imageset

        platforms = tuple(Platform.parse(text) for text in self.platform if text != ".*")
        if self.imageset is not None and (self.catalog or self.package or self.image or self.full or self.heads):
            raise UsageError(
                "an image set file and selection flags at once", hint="Put everything into the file, or into flags."
            )
        if self.imageset is not None:
            wanted = imageset.load(self.imageset)
        else:
            wanted = imageset.from_flags(
                catalogs=self.catalog,
                packages=self.package,
                images=self.image,
                full=self.full,
                heads=self.heads,
                platforms=platforms,
            )
        asked = parse_size(volume_size) if volume_size else (wanted.archive_size_bytes or FAT32_BYTES)
        return ExportSettings(
            image_set=wanted,
            registry=registry.settings(),
            created=created_now(),
            platforms=platforms,
            catalog_base=Reference.parse(self.catalog_base) if self.catalog_base else None,
            volume_size=asked,
            output=output,
            jobs=registry.jobs,
            strict=self.strict,
            signatures=self.signatures,
        )


@command(app, "list")
def list_(
    selection: SelectionOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    explain: Annotated[bool, typer.Option("--explain", help="Say for every bundle why it is kept or not.")] = False,
) -> ExitCode:
    """What a catalog offers, or what an image set keeps of it.

    With --package: the versions and update edges of these packages. Contacts nothing but the catalog.
    """
    from exporter import listing, workflow

    chosen = workflow.look(selection.offered().settings(registry), output.begin())
    document = listing.list_document(chosen, explain=explain)
    output.emit(document, lambda: listing.list_table(chosen, selection.package, explain=explain))
    return workflow.outcome(document["problems"], strict=selection.strict)


@command(app)
def plan(
    selection: SelectionOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    explain: Annotated[bool, typer.Option("--explain", help="Say for every bundle why it is kept or not.")] = False,
    volume_size: Annotated[str | None, typer.Option(metavar="SIZE", help="As for create.")] = None,
    file: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write the plan as JSON into a file too.")
    ] = None,
) -> ExitCode:
    """What would be carried, why, and how large it is; fetches no layer."""
    from exporter import listing, workflow

    settings = selection.settings(registry, volume_size=volume_size)
    planned = workflow.plan(settings, output.begin())
    document = listing.plan_document(planned, settings, explain=explain)
    if file is not None:
        write_atomic(file, pretty_json(document))
    output.emit(document, lambda: listing.plan_table(planned, settings, explain=explain))
    return workflow.outcome(planned.plan.problems, strict=settings.strict)


@command(app)
def create(
    selection: SelectionOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    directory: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the archive is made.")],
    volume_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Largest volume: 4GiB, 4.7GB, fat32 (default), dvd, bd25.")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Private key (PEM) to sign the archive with; keygen makes one.")
    ] = None,
) -> ExitCode:
    """Make the archive: catalog, images, inventory and checksums, in volumes that fit on media."""
    from common.archive.signature import Signer
    from exporter import listing, workflow

    settings = replace(selection.settings(registry, directory, volume_size), signer=Signer.load(sign) if sign else None)
    inventory = workflow.export(settings, output.begin())
    output.emit(listing.created_document(inventory, directory), lambda: listing.created_table(inventory, directory))
    return workflow.outcome(inventory.problems, strict=settings.strict)


@command(app)
def keygen(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="NAME.key and NAME.pub are made.")],
    algorithm: Annotated[Algorithm, typer.Option(help="ecdsa-p256 for hosts in FIPS mode.")] = Algorithm.ED25519,
) -> ExitCode:
    """Make a key pair: the private key signs archives here, the public one goes to the other side by a way that is trusted."""
    from common.archive import signature

    private, public = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    made = signature.make_keys(private, public, signature.Algorithm(algorithm))
    print(f"{private}: keep it, and keep it secret\n{public}: {made.fingerprint}")
    return ExitCode.DONE


add_login(app)


def main() -> None:
    """Run hub-export."""
    start(app, "hub-export")
