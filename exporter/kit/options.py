"""The options of `hub-export kit`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from common.cli import RegistryOptions, source_epoch
from common.errors import UsageError
from common.reference import Reference
from common.transports import without_docker
from exporter.kit.settings import ImageSettings, KitSettings, checked_platforms, checked_pythons


@dataclass(frozen=True, slots=True)
class KitOptions:
    """What a kit is made for."""

    platform: Annotated[
        list[str], typer.Option("--platform", metavar="OS/ARCH", help="Machines to install on; repeatable. All unless told.")
    ] = field(default_factory=list)
    python: Annotated[
        list[str], typer.Option("--python", metavar="3.N", help="Pythons to install with; repeatable. All unless told.")
    ] = field(default_factory=list)
    parity: Annotated[bool, typer.Option("--parity", help="With what repair needs, for archives with parity.")] = False
    image_base: Annotated[
        str | None, typer.Option(metavar="REF", help="Also make container images, on this image, which has Python.")
    ] = None
    image_python: Annotated[
        str | None, typer.Option(metavar="3.N", help="The Python of --image-base, where its PYTHON_VERSION does not say.")
    ] = None

    def settings(self, output: Path, registry: RegistryOptions) -> KitSettings:
        """Return the settings of a kit, with this process's environment. Raises UsageError."""
        if self.image_python and not self.image_base:
            raise UsageError("--image-python without --image-base", hint="Name the image to build on.")
        return KitSettings(
            output=output,
            environ=dict(os.environ),
            platforms=checked_platforms(self.platform),
            pythons=checked_pythons(self.python),
            parity=self.parity,
            image=self._image(registry),
            epoch=source_epoch(),
        )

    def _image(self, registry: RegistryOptions) -> ImageSettings | None:
        if self.image_base is None:
            return None
        python = checked_pythons([self.image_python], "--image-python")[0] if self.image_python else None
        return ImageSettings(Reference.parse(without_docker(self.image_base)), registry.settings(), python, registry.jobs)
