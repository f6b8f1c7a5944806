"""Makes a kit, step by step. Start reading here.

    the base of the image, if one is wanted ─► our own wheel ─► wheels for each runtime (pip) ─► images ─► the folder

What no wheel is there for is left out, and said; the kit is made of the rest.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from common.columns import counted
from common.content import DirectoryStore
from common.digest import digest_of
from common.errors import HubError, UsageError
from common.oci.platform import Platform
from common.progress import Progress
from common.registry.client import RegistryClient
from exporter.fetch import Media
from exporter.kit import importer_image, wheel_file, wheels
from exporter.kit.folder import INSTALL, README, RUNTIMES, KitFolder
from exporter.kit.importer_image import Base
from exporter.kit.pip import Pip
from exporter.kit.readme import readme, runtimes_file
from exporter.kit.settings import KitSettings, Runtime
from exporter.kit.wheels import WheelSet


@dataclass(frozen=True, slots=True)
class Kit:
    """A kit that was made. `size` in bytes; `images` by platform; `problems`: what was asked for and is not in it."""

    path: Path
    sets: tuple[WheelSet, ...]
    images: dict[Platform, str]
    size: int
    problems: tuple[tuple[str, str], ...]

    @property
    def wheels(self) -> int:
        """How many wheels it has."""
        return len({path.name for each in self.sets for path in each.wheels.values()})


def make(settings: KitSettings, progress: Progress) -> Kit:
    """Make the kit in `settings.output`, in the stead of the one that is there.

    Raises UsageError for a folder of others, without pip, and where nothing of what was asked for can be had; HubError with
    pip's own words; SpaceError; RegistryError and ContentError for the base of an image.
    """
    pip = Pip(settings.environ)
    pip.require()
    name, content = wheel_file.rebuilt(distribution(wheel_file.OWN), settings.epoch)
    request = f"{digest_of(content)} {settings.parity}\n"
    with _image_bases(settings, progress) as (client, bases), KitFolder(settings.output, request) as folder:
        own = folder.staging / "own" / name
        own.parent.mkdir(exist_ok=True)
        own.write_bytes(content)
        try:
            sets = _fetch(own, settings, folder.staging, pip, progress)
        except HubError:
            shutil.rmtree(folder.staging / "partial", ignore_errors=True)
            raise
        _require_some(sets, folder)
        media = client and Media(client, DirectoryStore(folder.staging / "blobs"), progress)
        images = _images(settings, sets, bases, media, folder.staging) if media else {}
        problems = (*_lacking(sets), *_without_image(settings, sets, bases, images))
        found = {path.name: path for each in sets for path in each.wheels.values()}
        made = {platform: path.name for platform, path in images.items()}
        files = {
            INSTALL: Path(__file__).with_name(INSTALL).read_bytes(),
            README: readme(sets, made, problems),
            RUNTIMES: runtimes_file(sets),
        }
        size = folder.finish(found, files, {path.name: path for path in images.values()})
        return Kit(settings.output, sets, made, size, problems)


@contextmanager
def _image_bases(settings: KitSettings, progress: Progress) -> Iterator[tuple[RegistryClient | None, dict[Platform, Base]]]:
    """Look at the base of the image before anything is fetched; nothing where no image is wanted."""
    if settings.image is None:
        yield None, {}
        return
    with RegistryClient(settings.image.registry, notify=progress.waiting) as client:
        found = importer_image.bases(settings.image, client, settings.platforms)
        for base in found.values():
            if base.python not in settings.pythons:
                raise UsageError(
                    f"--image-base {base.reference}: has Python {base.python}, and the kit is made for "
                    f"{', '.join(settings.pythons)}",
                    hint=f"Add --python {base.python}.",
                )
        yield client, found


def _fetch(own: Path, settings: KitSettings, staging: Path, pip: Pip, progress: Progress) -> tuple[WheelSet, ...]:
    """Fetch the wheels of every runtime; those that an interrupted run had finished are taken as they are."""
    runtimes, found = settings.runtimes, []
    progress.begin(f"fetching wheels for {counted(len(runtimes), 'combination')}", len(runtimes), "combinations")
    try:
        for number, runtime in enumerate(runtimes, 1):
            progress.item(f"{number} of {len(runtimes)}: {runtime}", 0)
            found.append(_set_of(own, runtime, staging, pip, parity=settings.parity))
            progress.item_end(f"{number} of {len(runtimes)}: {runtime}")
            progress.advance(1)
    finally:
        progress.end()
    return tuple(found)


def _set_of(own: Path, runtime: Runtime, staging: Path, pip: Pip, *, parity: bool) -> WheelSet:
    directory = staging / f"{runtime.platform.architecture}-{runtime.python}"
    if directory.is_dir():
        try:
            return wheels.reread(own, runtime, directory, parity=parity)
        except HubError:
            shutil.rmtree(directory)
    partial = staging / "partial"
    found = wheels.fetch(own, runtime, partial, pip, parity=parity)
    if not found.usable:
        return found
    partial.rename(directory)
    moved = {name: directory / path.name for name, path in found.wheels.items()}
    return WheelSet(runtime, moved, found.lacks, found.parity)


def _require_some(sets: Sequence[WheelSet], folder: KitFolder) -> None:
    if any(each.usable for each in sets):
        return
    folder.abandon()
    lacks = "\n".join(f"  {each.runtime}: {', '.join(each.lacks)}" for each in sets)
    raise UsageError(
        f"no kit can be made: the package index has no wheels of\n{lacks}",
        hint="hub-import need not run on the cluster's own architecture: any machine that reaches the registry and the API "
        "will do, so take --platform linux/amd64. Or build the wheels on a machine of this kind (pip wheel NAME) and name "
        "their directory in PIP_FIND_LINKS; the image of --image-base needs them as well.",
    )


def _lacking(sets: Sequence[WheelSet]) -> Iterator[tuple[str, str]]:
    for each in sets:
        if each.lacks:
            rest = "; installed without parity" if each.usable else ""
            yield str(each.runtime), f"no wheel of {', '.join(each.lacks)}{rest}"


def _images(
    settings: KitSettings,
    sets: Sequence[WheelSet],
    bases: dict[Platform, Base],
    media: Media,
    staging: Path,
) -> dict[Platform, Path]:
    """Make the images of the platforms that have a base and wheels for its Python."""
    assert settings.image is not None
    made = {}
    by_runtime = {each.runtime: each for each in sets if each.usable}
    for platform, base in bases.items():
        found = by_runtime.get(Runtime(platform, base.python))
        if found is not None:
            path = staging / f"hub-import-{platform.os}-{platform.architecture}.oci.tar"
            needed = sorted(each for name, each in found.wheels.items() if name != "pip")
            importer_image.write(base, needed, path, media, settings.image.jobs)
            made[platform] = path
    return made


def _without_image(
    settings: KitSettings, sets: Sequence[WheelSet], bases: dict[Platform, Base], images: dict[Platform, Path]
) -> Iterator[tuple[str, str]]:
    for platform in settings.platforms if settings.image else ():
        if platform not in bases:
            yield f"image for {platform}", f"the base {settings.image and settings.image.base} has no such platform"
        elif platform not in images:
            runtime = Runtime(platform, bases[platform].python)
            lacks = next(each.lacks for each in sets if each.runtime == runtime)
            yield f"image for {platform}", f"no wheel of {', '.join(lacks)} for its Python {runtime.python}"
