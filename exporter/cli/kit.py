"""The command `kit`: its options, and what it prints: as a document for programs, as a table for people."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.cli.options import OutputOptions, RegistryOptions, command, source_epoch
from common.errors import ExitCode, UsageError
from common.files import size_text
from common.oci.reference import Reference, without_docker
from common.table import columns
from common.text import counted, paragraphs
from exporter.kit.settings import RELEASE_LOCK, ImageSettings, KitSettings, checked_platforms, checked_pythons

if TYPE_CHECKING:
    from exporter.kit.making import Kit


@dataclass(frozen=True, slots=True)
class KitOptions:
    """What a kit is made for."""

    platform: Annotated[
        list[str], typer.Option("--platform", metavar="OS/ARCH", help="Machines to install on; repeatable. Default: all.")
    ] = field(default_factory=list)
    python: Annotated[
        list[str], typer.Option("--python", metavar="3.N", help="Pythons to install with; repeatable. Default: all.")
    ] = field(default_factory=list)
    parity: Annotated[bool, typer.Option("--parity", help="With what repair needs, for archives with parity.")] = False
    image_base: Annotated[
        str | None, typer.Option(metavar="REF", help="Also make container images, on this image, which has Python.")
    ] = None
    image_python: Annotated[
        str | None, typer.Option(metavar="3.N", help="The Python of --image-base, where its PYTHON_VERSION does not say.")
    ] = None
    lock: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The wheels to fetch (pylock.toml), instead of those of the release.")
    ] = None

    def settings(self, output: Path, registry: RegistryOptions) -> KitSettings:
        """Return the settings of a kit, with this process's environment. Raises UsageError."""
        if self.image_python and not self.image_base:
            raise UsageError("--image-python without --image-base", hint="Name the image to build on.")
        # create --with-kit has no option for it, but the same variable.
        lock = self.lock or os.environ.get("HUB_EXPORT_LOCK")
        return KitSettings(
            output=output,
            environ=dict(os.environ),
            platforms=checked_platforms(self.platform),
            pythons=checked_pythons(self.python),
            parity=self.parity,
            image=self._image(registry),
            lock=Path(lock) if lock else RELEASE_LOCK,
            # Kits are reproducible: the times in wheels and layers come from the same variable as those of archives.
            epoch=source_epoch(),
        )

    def _image(self, registry: RegistryOptions) -> ImageSettings | None:
        if self.image_base is None:
            return None
        python = checked_pythons([self.image_python], "--image-python")[0] if self.image_python else None
        return ImageSettings(Reference.parse(without_docker(self.image_base)), registry.settings(), python, registry.jobs)


def add_kit(app: typer.Typer) -> None:
    """Add the command to the exporter's."""
    command(app, "kit")(_kit)


def _kit(
    options: KitOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    directory: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the kit is made.")],
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Private key (PEM) to sign the checksums with; keygen makes one.")
    ] = None,
) -> ExitCode:
    """Make the importer itself for the other side: wheels, install.sh, checksums; pip fetches them, as it is configured."""
    from common.archive.signature import Signer
    from exporter.kit import making

    settings = replace(options.settings(directory, registry), signer=Signer.load(sign) if sign else None)
    made = making.make(settings, output.begin())
    output.emit(document(made), lambda: table(made))
    return ExitCode.PROBLEMS if made.problems else ExitCode.DONE


def document(kit: Kit) -> dict[str, Any]:
    """Return the result as docs/reference/cli.md describes it."""
    return {
        "kit": str(kit.path),
        "bytes": kit.size,
        "wheels": kit.wheels,
        # A runtime is a platform with a Python version: wheels are built for such pairs.
        "runtimes": [
            {
                "platform": str(each.runtime.platform),
                "python": each.runtime.python,
                "installs": each.usable,
                "lacks": list(each.lacks),
            }
            for each in kit.sets
        ],
        "images": [{"platform": str(platform), "file": name} for platform, name in kit.images.items()],
        "problems": [{"severity": "error", "subject": subject, "message": message} for subject, message in kit.problems],
    }


def table(kit: Kit) -> list[str]:
    """Return the result for people."""
    # The missing projects are named, so that a site can build these wheels for itself.
    rows = [("PLATFORM", "PYTHON", "INSTALLS", "NO WHEEL OF")]
    rows += [
        (str(each.runtime.platform), each.runtime.python, "yes" if each.usable else "no", ", ".join(each.lacks) or "-")
        for each in kit.sets
    ]
    parts = [columns(rows)]
    if kit.images:
        parts.append(["images: " + ", ".join(kit.images.values())])
    parts.append([f"error: {subject}: {message}" for subject, message in kit.problems])
    parts.append([f"{kit.path}: {counted(kit.wheels, 'wheel')}, {size_text(kit.size)}; on the other side: sh install.sh"])
    return paragraphs(*parts)
