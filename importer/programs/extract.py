"""A program out of the images of a carried release, as `oc adm release extract` takes it from a registry.

The layer is streamed out of the archive, each of its bytes verified; besides the program nothing is unpacked.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from common.archive.inventory import Problem, ProblemCode
from common.archive.naming import holder_of
from common.errors import ArchiveIncompleteError, ExitCode, UsageError, of_problems
from common.files import replacing, require_space, write_atomic, writing
from common.mapping import map_images
from common.oci.image import MAX_DEPTH, Descriptor, Digest, Hasher, Index, Manifest, hex_of
from common.oci.image_file import ImageFile
from common.oci.reference import Reference
from importer.programs.choosing import (
    ARCHITECTURES,
    MULTI,
    Place,
    Program,
    architecture_of,
    place_of,
    release_for,
    releases_named,
)
from importer.programs.stamp import IMAGE, VERSION, Stamp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import BinaryIO

    from common.archive.inventory import ReleaseRecord
    from common.archive.reader import Archive
    from common.content import Chunks
    from common.mapping import Mirror
    from importer.programs.choosing import Command, System


CHECKSUM = ".sha256"
_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asks for. `release`: a version, else the newest; `architecture`: of the machine that it runs on."""

    command: Command
    system: System = "linux"
    release: str | None = None
    architecture: str | None = None
    mirror: Mirror | None = None


@dataclass(frozen=True, slots=True)
class Extracted:
    """A program that was written.

    `source`: the component's image, and `file` the path there; `original`: the digest of that file, before values were
    written into it; `payload`: the release that an installer installs, empty for other programs.
    """

    path: Path
    program: Program
    release: ReleaseRecord
    source: str
    layer: Digest
    file: str
    original: Digest
    digest: Digest
    size: int
    payload: str = ""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """3 when an installer does not have the release written into it."""
        return of_problems(self.problems)


def extract(archive: Archive, wanted: Wanted, directory: Path, earlier: Sequence[Archive] = ()) -> Extracted:
    """Write a program and its checksum into `directory`.

    `earlier`: archives that have layers which this one leaves to them. Raises UsageError, ImageFileError, and the errors of an
    archive whose layers are missing or damaged.
    """
    machine = None if wanted.architecture is None else architecture_of(wanted.architecture)
    release = release_for(releases_named(archive.inventory, wanted.release), machine)
    program = Program(wanted.command, wanted.system, machine or _usual(release))
    place = place_of(program, release)
    payload = _payload(archive, release, wanted.mirror) if wanted.command == "openshift-install" else ""
    values = {**({IMAGE: payload} if payload else {}), VERSION: release.version}
    source, manifest = _image(archive, release, place)
    image = ImageFile(
        manifest.layers, partial(_stored, (archive, *earlier), f"{place.component} of OpenShift {release.version}")
    )
    path = directory / program.file
    with writing(directory, "Choose another --output."):
        directory.mkdir(parents=True, exist_ok=True)
        with replacing(path, _MODE) as file:
            copy = _Copy(file, directory, values)
            layer = image.copy(place.path, copy)
            copy.finish()
            # Before the program gets its name: a reader that finds it finds its checksum too.
            line = f"{hex_of(copy.written.digest())}  {program.file}\n"
            write_atomic(path.with_name(path.name + CHECKSUM), line.encode())
    return Extracted(
        path,
        program,
        release,
        source,
        layer.digest,
        place.path,
        copy.original.digest(),
        copy.written.digest(),
        copy.size,
        payload,
        tuple(_unmarked(path.name, name, payload) for name in copy.missing),
        _notes(program, copy.missing),
    )


def _usual(release: ReleaseRecord) -> str:
    """Return the architecture of a release; for one of several that of this machine."""
    if release.architecture != MULTI:
        return release.architecture
    here = platform.machine().lower()
    try:
        return architecture_of(here)
    except UsageError:
        raise UsageError(
            f"OpenShift {release.version} is for several architectures, and none is that of this machine ({here})",
            hint=f"Say where the program is to run: --arch {', '.join(ARCHITECTURES)}.",
        ) from None


def _payload(archive: Archive, release: ReleaseRecord, mirror: Mirror | None) -> str:
    """Return the payload by digest, on the mirror or at its source; of several architectures the list of all."""
    # As oc does, which writes the list's digest, so that the installer serves every architecture (extract_tools.go).
    if mirror is None:
        return str(Reference.parse(release.source).pinned(release.digest))
    images = map_images(archive.inventory, mirror)
    found = (image.pinned for image in images if (image.record.source, image.digest) == (release.source, release.digest))
    if (pinned := next(found, None)) is None:
        raise ArchiveIncompleteError(f"the archive has no payload of OpenShift {release.version}: {release.source}")
    return str(pinned)


def _image(archive: Archive, release: ReleaseRecord, place: Place) -> tuple[str, Manifest]:
    """Return the source of a component, and its manifest for the architecture of a place."""
    named = f"{place.component} of OpenShift {release.version} ({release.architecture})"
    source = next((each.source for each in release.components if each.name == place.component), None)
    if source is None:
        raise UsageError(
            f"the release has no {named}",
            hint="The payload does not list it: choose another --release, --os or --arch.",
        )
    digest = next((each.digest for each in archive.inventory.images if each.source == source and each.digest), None)
    if digest is None:
        raise ArchiveIncompleteError(f"{named}: {source} could not be fetched when the archive was made")
    for _ in range(MAX_DEPTH + 1):
        if digest not in archive.inventory.manifests:
            break
        document = archive.document(digest)
        if isinstance(document, Manifest):
            return source, document
        child = _child(archive, document, place.architecture)
        if child is None:
            break
        digest = child
    wanted = place.architecture or "any architecture"
    raise ArchiveIncompleteError(
        f"{named}: the archive does not have its image for {wanted}",
        hint="Export it with that platform, or choose another --arch.",
    )


def _child(archive: Archive, index: Index, architecture: str | None) -> Digest | None:
    """Return the manifest for an architecture out of those that are carried; for None that of the most usual one."""
    known = [each for each in index.manifests if each.digest in archive.inventory.manifests]
    order = (architecture,) if architecture is not None else ARCHITECTURES
    found = [each.digest for name in order for each in known if each.platform and each.platform.architecture == name]
    return found[0] if found else None


def _stored(archives: Sequence[Archive], named: str, layer: Descriptor) -> Chunks:
    """Return the verified bytes of a layer, out of the first archive that has it."""
    for archive in archives:
        record = archive.inventory.blobs.get(layer.digest)
        if record is not None and record.missing is None and archive.is_available(layer.digest):
            return archive.content(layer.digest)
    record = archives[0].inventory.blobs.get(layer.digest)
    if record is None:
        raise ArchiveIncompleteError(
            f"{named}: layer {layer.digest} is in no archive: it is at {', '.join(layer.urls) or 'its source'}"
        )
    if record.in_ is not None:
        raise ArchiveIncompleteError(
            f"{named}: layer {layer.digest} is in {holder_of(archives[0].inventory, record.in_)}",
            hint="Give that one too: --earlier ARCHIVE.",
        )
    return archives[0].content(layer.digest)  # says which volume is missing


class _Copy:
    """The file that is written: its markers replaced, both digests counted."""

    def __init__(self, file: BinaryIO, directory: Path, values: dict[str, str]) -> None:
        self._file, self._directory, self._values = file, directory, values
        self.begin(0)

    def begin(self, size: int) -> None:
        """See `FileSink.begin`."""
        require_space(self._directory, size, "the program")
        self._file.seek(0)
        self._file.truncate()
        self._stamp = Stamp(self._values)
        self.original, self.written, self.size = Hasher(), Hasher(), size

    def write(self, chunk: bytes) -> None:
        """See `FileSink.write`."""
        self.original.update(chunk)
        for part in self._stamp.feed(chunk):
            self._put(part)

    def finish(self) -> None:
        """Write the rest."""
        self._put(self._stamp.finish())

    @property
    def missing(self) -> tuple[str, ...]:
        """The markers that the program does not have."""
        return self._stamp.missing

    def _put(self, part: bytes) -> None:
        self.written.update(part)
        self._file.write(part)


def _unmarked(file: str, name: str, payload: str) -> Problem:
    # oc writes such a program too, with a warning. An installer that installs another release is more than that.
    if name == IMAGE:
        message = f"has no place for the release: it installs the one that it was built with, not {payload}"
        return Problem("error", ProblemCode.PROGRAM_UNMARKED, file, message)
    return Problem("warning", ProblemCode.PROGRAM_UNMARKED, file, "has no place for the version, and reports its own")


def _notes(program: Program, missing: Sequence[str]) -> tuple[str, ...]:
    changed = len(missing) < (2 if program.command == "openshift-install" else 1)
    # Macs with their own processors end programs whose signature is not that of their bytes; oc signs them again.
    signed = program.system == "mac" and program.architecture == "arm64" and changed
    notes = (
        [f"on the Mac: codesign --force --sign - {program.file}, because its bytes were changed after it was signed"]
        if signed
        else []
    )
    if program.command == "oc":
        notes.append("kubectl is the same program: give it that name by a link or a copy")
    return tuple(notes)
