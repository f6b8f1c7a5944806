"""Makes a kit, step by step. Start reading here.

    the base of the image, if one is wanted ─► our own wheel ─► wheels for each runtime (pip) ─► images ─► the folder

What no wheel is there for is left out, and said; the kit is made of the rest.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Self

from common.archive import checksums
from common.content import DirectoryStore
from common.distribution import VERSION
from common.errors import HubError, UsageError
from common.files import locked, sync_directory, write_atomic
from common.oci.image import Platform, digest_of
from common.registry.client import RegistryClient
from common.text import counted
from exporter.context import ExportContext
from exporter.kit import importer_image, wheel_file, wheels
from exporter.kit.settings import KitSettings, Runtime
from exporter.kit.wheels import Pip, WheelSet
from exporter.settings import FAT32_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from common.progress import Progress
    from exporter.kit.importer_image import Base

# The folder that a kit is made in: whose it is, and how a new kit takes the place of an old one.
#
# Everything is fetched into a folder of its own in it, so that an interrupted run goes on and an old kit stays whole meanwhile.
# Then the files are moved into place; SHA256SUMS goes first and comes last: with it the kit is complete.

STAGING = "hub-export.kit"
LOCK = "hub-export.kit.lock"
WHEELS = "wheels"
INSTALL, README, RUNTIMES = "install.sh", "README.txt", "platforms.txt"
_REQUEST = "request"
_OURS = re.compile(
    r"wheels|install\.sh|readme\.txt|platforms\.txt|sha256sums|hub-import-linux-[a-z0-9]+\.oci\.tar", re.IGNORECASE
)
_LINE = re.compile(r"[0-9a-f]{64}  ((?:wheels/)?[A-Za-z0-9][A-Za-z0-9._+-]*)")
_CHUNK = 1024 * 1024


class KitFolder:
    """Holds a folder while a kit is made in it. Nothing of others is touched.

    `request` says what the kit is made of; what an interrupted run fetched for another is thrown away. Raises UsageError for a
    folder that is in use, cannot be made, or has files named like ours that are not ours.
    """

    def __init__(self, path: Path, request: str) -> None:
        self.path = path
        self.staging = path / STAGING
        self._request = request
        self._stack = ExitStack()
        self._existed = path.is_dir()

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be made: {error.strerror}", hint="Choose another --output.") from error
        if self._existed:
            self._require_ours()
        try:
            self._stack.enter_context(locked(self.path / LOCK, f"the folder {self.path}"))
        except PermissionError as error:
            raise UsageError(f"{self.path}: {error.strerror}", hint="Choose another --output.") from error
        request = self.staging / _REQUEST
        if self.staging.is_dir() and not (request.is_file() and request.read_text() == self._request):
            shutil.rmtree(self.staging)
        self.staging.mkdir(exist_ok=True)
        write_atomic(request, self._request.encode())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        (self.path / LOCK).unlink(missing_ok=True)
        if not self._existed:
            with suppress(OSError):  # it holds something
                self.path.rmdir()

    def abandon(self) -> None:
        """Take away what was fetched: it would not help another run."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def finish(self, wheels: Mapping[str, Path], files: Mapping[str, bytes], images: Mapping[str, Path]) -> int:
        """Move all into place, in the stead of an older kit; return the size of the kit.

        `wheels` and `images`: where they lie now, by name; `files`: what to write.
        """
        (self.path / WHEELS).mkdir(exist_ok=True)
        moved = {**{f"{WHEELS}/{name}": path for name, path in wheels.items()}, **images}
        sums = {name: _checksum(path) for name, path in moved.items()}
        sums |= {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        size = sum(path.stat().st_size for path in moved.values()) + sum(map(len, files.values()))
        stale = self._ours() - set(sums)
        (self.path / checksums.NAME).unlink(missing_ok=True)  # from here on this is no kit until the last line
        for name in stale:
            (self.path / name).unlink(missing_ok=True)
        for name, path in moved.items():
            path.replace(self.path / name)
        for name, content in files.items():
            write_atomic(self.path / name, content, 0o755 if name == INSTALL else 0o644)
        sync_directory(self.path / WHEELS)
        listed = checksums.render(sums)
        write_atomic(self.path / checksums.NAME, listed)
        shutil.rmtree(self.staging)
        return size + len(listed)

    def _require_ours(self) -> None:
        """Raise UsageError for files named like ours in a folder where no kit was made, or begun."""
        try:
            found = sorted(entry.name for entry in self.path.iterdir() if _OURS.fullmatch(entry.name))
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}", hint="Choose another --output.") from error
        link = next((name for name in (*found, STAGING) if (self.path / name).is_symlink()), None)
        ours = (self.staging / _REQUEST).is_file() or INSTALL in self._made_earlier()
        if link or (found and not ours):
            raise UsageError(
                f"{self.path} holds {link or found[0]}, which this command did not make",
                hint="Choose another folder with --output, or move the file away.",
            )

    def _ours(self) -> set[str]:
        """Return the names of what a kit has here, or a run that was interrupted while it moved its files."""
        wheels = {f"{WHEELS}/{path.name}" for path in (self.path / WHEELS).glob("*.whl")}
        return wheels | {path.name for path in self.path.glob("hub-import-*.oci.tar") if _OURS.fullmatch(path.name)}

    def _made_earlier(self) -> set[str]:
        """Return the names of the files of a kit that is here."""
        sums = self.path / checksums.NAME
        if sums.is_symlink() or not sums.is_file():
            return set()
        matches = map(_LINE.fullmatch, sums.read_text(encoding="ascii", errors="replace").splitlines())
        return {match[1] for match in matches if match}


def _checksum(path: Path) -> str:
    """Return the checksum of a file that is durable when this returns."""
    if path.stat().st_size > FAT32_BYTES:
        raise HubError(f"{path.name} is too large for FAT32: {path.stat().st_size} bytes", hint="Use a smaller --image-base.")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        os.fsync(file.fileno())
    return digest.hexdigest()


# What the kit tells: README.txt for the person on the other side, platforms.txt for install.sh.

_TEXT = """\
hub-airgap {version}: the importer, to be installed without a network.

1. Check that everything arrived:       sha256sum -c SHA256SUMS
2. Install:                             sh install.sh
   It needs Python 3.11, 3.12 or 3.13 with its standard library, and nothing else. It installs into
   ~/.local/share/hub-airgap (root: /opt/hub-airgap) and links hub-import into ~/.local/bin
   (root: /usr/local/bin); --prefix DIR, --bin DIR and --python PATH say otherwise.
3. Then:                                hub-import verify ARCHIVE

Run install.sh of a newer kit to upgrade: the installed one stays until the new one works.
To remove it: sh install.sh --uninstall
{images}
This kit installs on:
{runtimes}
{problems}"""
_IMAGES = """
As a container image, where there is no such Python (its name is then localhost/hub-import:{version}):
{lines}
    podman run --rm -v /media/stick:/archive:ro,Z hub-import:{version} verify /archive
"""


def readme(sets: Sequence[WheelSet], images: Mapping[Platform, str], problems: Sequence[tuple[str, str]]) -> bytes:
    """Return README.txt."""
    lines = "\n".join(f"    podman load -i {name}" for name in images.values())
    missing = "".join(f"  {subject}: {message}\n" for subject, message in problems)
    text = _TEXT.format(
        version=VERSION,
        images=_IMAGES.format(version=VERSION, lines=lines) if images else "",
        runtimes="\n".join(f"  {each.runtime}" for each in sets if each.usable),
        problems=f"\nNot in this kit, for the package index did not have it:\n{missing}" if missing else "",
    )
    return text.encode("ascii", "replace")


def runtimes_file(sets: Sequence[WheelSet]) -> bytes:
    """Return platforms.txt: machine, Python, and what to install there, a line each."""
    lines = ["# machine python requirement"]
    lines += [f"{each.runtime.machine} {each.runtime.python} {each.requirement}=={VERSION}" for each in sets if each.usable]
    lines += [f"# {each.runtime.machine} {each.runtime.python} lacks {' '.join(each.lacks)}" for each in sets if each.lacks]
    return ("\n".join(lines) + "\n").encode()


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
        media = client and ExportContext(client, DirectoryStore(folder.staging / "blobs"), progress)
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
    media: ExportContext,
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
