"""Make a kit, step by step. Start reading here.

    the base of the image, if one is asked for ─► the importer's own wheel ─► the locked wheels (pip) ─► images ─► the folder

A runtime for which a package has no wheel is left out and reported as a problem; the kit is made for the others.
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
from common.registry.client import RegistryClient
from exporter.archive.output import make_directory
from exporter.context import ExportContext
from exporter.kit import importer_image, wheel_file
from exporter.kit.settings import KitSettings, Runtime
from exporter.kit.wheels import WheelFetcher, WheelSet
from exporter.settings import FAT32_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from common.archive.signature import Signer
    from common.oci.image import Platform
    from common.progress import Progress
    from exporter.kit.importer_image import Base
    from exporter.kit.lock_file import Selection


# The folder in which a kit is made.
#
# Everything is fetched into a staging folder inside it, so that an interrupted run can continue and an older kit stays whole
# meanwhile. Then the files are moved to their places. SHA256SUMS is removed first and written last, which marks a
# complete kit.

STAGING = "hub-export.kit"
LOCK = "hub-export.kit.lock"
WHEELS = "wheels"
INSTALL, README, RUNTIMES = "install.sh", "README.txt", "platforms.txt"
_MARK = "request"  # in the staging folder: this command made it
# Case is ignored: on FAT and NTFS `README.TXT` is the same file.
_NAMES = re.compile(
    r"wheels|install\.sh|readme\.txt|platforms\.txt|sha256sums(?:\.sig)?|hub-import-linux-[a-z0-9]+\.oci\.tar", re.IGNORECASE
)
# The names in a SHA256SUMS are untrusted: none leads out of the folder.
_LINE = re.compile(r"[0-9a-f]{64}  ((?:wheels/)?[A-Za-z0-9][A-Za-z0-9._+-]*)")


class KitFolder:
    """The folder of a kit, locked while a kit is made in it. Foreign files in it are left alone.

    Raises UsageError for a folder that is in use or cannot be made, and for one with files that are named like those of a kit
    but were not made by this command.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.staging = path / STAGING
        self._stack = ExitStack()
        self._existed = path.is_dir()

    def __enter__(self) -> Self:
        make_directory(self.path, "--output")
        if self._existed:
            self._require_own()
        try:
            self._stack.enter_context(locked(self.path / LOCK, f"the folder {self.path}"))
        except PermissionError as error:
            raise UsageError(f"{self.path}: {error.strerror}", hint="Choose another --output.") from error
        # An interrupted run can have left files here. They are used where their checksums fit, and no other way.
        self.staging.mkdir(exist_ok=True)
        (self.staging / _MARK).touch()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        (self.path / LOCK).unlink(missing_ok=True)
        if not self._existed:
            with suppress(OSError):  # not empty: fetched files, for the next run
                self.path.rmdir()

    def finish(
        self, wheels: Mapping[str, Path], files: Mapping[str, bytes], images: Mapping[str, Path], signer: Signer | None
    ) -> int:
        """Move everything into place, replacing an older kit; return the size of the kit.

        `wheels` and `images`: their present paths, by name; `files`: contents to write; `signer` signs the checksums.
        """
        (self.path / WHEELS).mkdir(exist_ok=True)
        moved = {**{f"{WHEELS}/{name}": path for name, path in wheels.items()}, **images}
        sums = {name: _checksum(path) for name, path in moved.items()}
        sums |= {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        size = sum(path.stat().st_size for path in moved.values()) + sum(map(len, files.values()))
        stale = self._present() - set(sums)
        for name in (checksums.NAME, checksums.SIGNATURE_NAME):  # install.sh refuses a kit without the first
            (self.path / name).unlink(missing_ok=True)
        # install.sh refuses a kit with wheels that SHA256SUMS does not list, such as those of the last release.
        for name in stale:
            (self.path / name).unlink(missing_ok=True)
        for name, path in moved.items():
            path.replace(self.path / name)
        for name, content in files.items():
            write_atomic(self.path / name, content, 0o755 if name == INSTALL else 0o644)
        sync_directory(self.path / WHEELS)
        listed = checksums.render(sums)
        signed = signer.sign(listed) if signer else b""
        if signed:
            write_atomic(self.path / checksums.SIGNATURE_NAME, signed)
        write_atomic(self.path / checksums.NAME, listed)
        shutil.rmtree(self.staging)
        return size + len(listed) + len(signed)

    def _require_own(self) -> None:
        """Raise UsageError for files with the names of a kit in a folder where no kit was made or begun."""
        try:
            found = sorted(entry.name for entry in self.path.iterdir() if _NAMES.fullmatch(entry.name))
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}", hint="Choose another --output.") from error
        link = next((name for name in (*found, STAGING) if (self.path / name).is_symlink()), None)
        own = (self.staging / _MARK).is_file() or INSTALL in self._listed()
        # A link could lead this command to write or remove files outside of the folder.
        if link or (found and not own):
            raise UsageError(
                f"{self.path} holds {link or found[0]}, which this command did not make",
                hint="Choose another folder with --output, or move the file away.",
            )

    def _present(self) -> set[str]:
        """Return the names of wheels and images in the folder, of a complete kit or of a run that was interrupted."""
        wheels = {f"{WHEELS}/{path.name}" for path in (self.path / WHEELS).glob("*.whl")}
        return wheels | {path.name for path in self.path.glob("hub-import-*.oci.tar") if _NAMES.fullmatch(path.name)}

    def _listed(self) -> set[str]:
        """Return the names in SHA256SUMS, none without one."""
        sums = self.path / checksums.NAME
        if sums.is_symlink() or not sums.is_file():
            return set()
        matches = map(_LINE.fullmatch, sums.read_text(encoding="ascii", errors="replace").splitlines())
        return {match[1] for match in matches if match}


def _checksum(path: Path) -> str:
    """Return the checksum of a file, which is durable when this returns."""
    # Only an image on a large base can exceed it. Copying to a stick would fail much later.
    if path.stat().st_size > FAT32_BYTES:
        raise HubError(f"{path.name} is too large for FAT32: {path.stat().st_size} bytes", hint="Use a smaller --image-base.")
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return checksum


# The texts of a kit: README.txt for the person on the other side, platforms.txt for install.sh.

_TEXT = """\
hub-airgap {version}: the importer, to be installed without a network.

1. Check that everything arrived:       sha256sum -c SHA256SUMS
{signed}2. Install:                             sh install.sh
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
_SIGNED = """\
   SHA256SUMS is signed. With the public key that came over a trusted channel, before install.sh is run:
       openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
       (ECDSA P-256: openssl dgst -sha256 -verify KEY.pub -signature SHA256SUMS.sig SHA256SUMS)
"""
_IMAGES = """
As a container image, where there is no such Python (its name is then localhost/hub-import:{version}):
{lines}
    podman run --rm -v /media/stick:/archive:ro,Z hub-import:{version} verify /archive
"""


def readme(
    sets: Sequence[WheelSet], images: Mapping[Platform, str], problems: Sequence[tuple[str, str]], *, signed: bool = False
) -> bytes:
    """Return README.txt."""
    lines = "\n".join(f"    podman load -i {name}" for name in images.values())
    missing = "".join(f"  {subject}: {message}\n" for subject, message in problems)
    text = _TEXT.format(
        version=VERSION,
        images=_IMAGES.format(version=VERSION, lines=lines) if images else "",
        runtimes="\n".join(f"  {each.runtime}" for each in sets if each.usable),
        signed=_SIGNED if signed else "",
        problems=f"\nNot in this kit, for there is no wheel of it:\n{missing}" if missing else "",
    )
    # ASCII: the console on the other side can have any encoding.
    return text.encode("ascii", "replace")


def runtimes_file(sets: Sequence[WheelSet]) -> bytes:
    """Return platforms.txt: machine, Python and the requirement to install there, a line each."""
    lines = ["# machine python requirement"]
    lines += [f"{each.runtime.machine} {each.runtime.python} {each.requirement}=={VERSION}" for each in sets if each.usable]
    lines += [f"# {each.runtime.machine} {each.runtime.python} lacks {' '.join(each.lacks)}" for each in sets if each.lacks]
    return ("\n".join(lines) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Kit:
    """A kit that was made. `size` in bytes; `images` by platform; `problems`: subject and message of each missing item."""

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
    """Make the kit in `settings.output`, replacing an older one.

    Raises UsageError for a folder with foreign files, without pip, and where no runtime has all wheels; HubError with pip's
    message; SpaceError; RegistryError and ContentError for the base of an image.
    """
    fetcher = WheelFetcher(settings)
    selections = fetcher.select()
    # Before the folder is touched and anything is fetched: the lock file knows which wheels exist.
    _require_some(selections)
    name, content = wheel_file.rebuilt(distribution(wheel_file.OWN), settings.epoch)
    with _image_bases(settings, progress) as (client, bases), KitFolder(settings.output) as folder:
        own = folder.staging / "own" / name
        own.parent.mkdir(exist_ok=True)
        own.write_bytes(content)
        sets = fetcher.fetch(own, selections, folder.staging / WHEELS, progress)
        media = client and ExportContext(client, DirectoryStore(folder.staging / "blobs"), progress)
        images = _images(settings, sets, bases, media, folder.staging) if media else {}
        problems = (*_lacking(sets), *_without_image(settings, sets, bases, images))
        found = {path.name: path for each in sets for path in each.wheels.values()}
        made = {platform: path.name for platform, path in images.items()}
        files = {
            INSTALL: Path(__file__).with_name(INSTALL).read_bytes(),
            README: readme(sets, made, problems, signed=settings.signer is not None),
            RUNTIMES: runtimes_file(sets),
        }
        size = folder.finish(found, files, {path.name: path for path in images.values()}, settings.signer)
        return Kit(settings.output, tuple(sets), made, size, problems)


@contextmanager
def _image_bases(settings: KitSettings, progress: Progress) -> Iterator[tuple[RegistryClient | None, dict[Platform, Base]]]:
    """Give the base image of each platform, before anything is fetched; none where no image is asked for."""
    if settings.image is None:
        yield None, {}
        return
    with RegistryClient(settings.image.registry, notify=progress.waiting) as client:
        found = importer_image.bases(settings.image, client, settings.platforms)
        # Checked here, since otherwise the wheels would be fetched before the image is refused.
        for base in found.values():
            if base.python not in settings.pythons:
                raise UsageError(
                    f"--image-base {base.reference}: has Python {base.python}, and the kit is made for "
                    f"{', '.join(settings.pythons)}",
                    hint=f"Add --python {base.python}.",
                )
        yield client, found


def _require_some(selections: Mapping[Runtime, Selection]) -> None:
    if any(each.wheels for each in selections.values()):
        return
    raise UsageError(
        "no kit can be made: the lock file has no wheels of",
        details=[f"{runtime}: {', '.join(each.lacks)}" for runtime, each in selections.items()],
        hint="hub-import need not run on the cluster's own architecture: any machine that reaches the registry and the API "
        "will do, so take --platform linux/amd64. Or build the wheels on a machine of this kind (pip wheel NAME==VERSION); "
        "name their directory in PIP_FIND_LINKS, and with --lock a lock file that has them.",
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
            # pip is in a kit for install.sh alone.
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
