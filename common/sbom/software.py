"""The software of an archive: the packages and licences that the SBOMs of its images state.

An SBOM that is damaged, hostile or of another format is a problem, and the others are read. What SBOMs state is not verified,
and neither are the signatures of attestations.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from common.archive.inventory import ImageRecord, Problem, ProblemCode, packages_of
from common.errors import ArchiveDamagedError, ArchiveError, ContentError, MediumGoneError
from common.files import size_text
from common.oci.compression import decompressed
from common.progress import step
from common.sbom.document import MAX_SIZE, Document, Package, identifiers, read
from common.sbom.envelope import unwrapped
from common.sbom.find import Images, carried
from common.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from common.archive.reader import ArchiveReader
    from common.oci.image import Digest
    from common.progress import Progress
    from common.sbom.find import Carried

# Limits, see docs/reference/limits.md.
MAX_WRAPPED = MAX_SIZE // 3 * 4 + 1024 * 1024  # bytes of one document in base64, with signatures
MAX_DISTINCT = 500_000  # packages of a result
MAX_LICENCES = 50_000  # licences of a result
MAX_PAIRS = 2_000_000  # of a package, as often as it has licences, and an image that has it, of a result
MAX_HELD = 256 * 1024 * 1024  # memory of the texts of all packages of a result
MAX_LISTED = 300_000  # of an SBOM and an image that it is for, of a result


@dataclass(frozen=True, slots=True)
class Selection:
    """Which packages of which images are wanted. `operators`: packages of catalogs; `text`: in the name or the package URL.

    `licence`: an identifier, or a pattern such as `GPL-*`. `size`, `largest`: bytes, decompressed, that are read at most of
    all SBOMs and of one, 0 for any number.
    """

    operators: tuple[str, ...] = ()
    text: str = ""
    licence: str = ""
    size: int = 0
    largest: int = 0

    def takes(self, size: int, done: int) -> bool:
        """Say whether an SBOM is read; `done`: the bytes of all before it."""
        return (not self.size or done + size <= self.size) and (not self.largest or size <= self.largest)

    def has_image(self, image: ImageRecord) -> bool:
        """Say whether an image is one of a wanted operator."""
        return not self.operators or not packages_of(image.needed_by).isdisjoint(self.operators)

    def has_package(self, package: Package) -> bool:
        """Say whether a package is wanted."""
        text = self.text.lower()
        if text and text not in package.name.lower() and text not in package.purl.lower():
            return False
        # Each licence of an expression, so that GPL-* finds `MIT OR GPL-2.0-only`.
        wanted = self.licence.lower()
        return not wanted or any(fnmatchcase(each.lower(), wanted) for each in identifiers(package.licence))


@dataclass(slots=True)
class ReadSbom:
    """An SBOM of an image. `names_image`: whether it names the image's digest, None where it names none."""

    carried: Carried
    format: str = ""
    tool: str = ""
    packages: int = 0
    names_image: bool | None = None
    error: str = ""

    @property
    def document(self) -> dict[str, Any]:
        """The JSON of the command `sbom`."""
        return {
            "digest": self.carried.blob.digest,
            "subject": self.carried.subject,
            "carriedAs": self.carried.carriage,
            "format": self.format or None,
            "tool": self.tool or None,
            "packages": self.packages,
            "namesImage": self.names_image,
            "error": self.error or None,
        }


@dataclass(slots=True)
class ImageSoftware:
    """An image, under all its sources, with its SBOMs and the number of its packages that were selected."""

    digest: Digest
    records: Sequence[ImageRecord]
    sboms: list[ReadSbom] = field(default_factory=list)
    packages: int = 0
    is_read: bool = False

    @property
    def state(self) -> str:
        """`read`, `unread` where none of its SBOMs could be read, or `none` where it has none."""
        if not self.sboms:
            return "none"
        return "read" if self.is_read else "unread"

    def add(self, sbom: ReadSbom) -> None:
        """Add one of its SBOMs."""
        self.sboms.append(sbom)
        self.is_read = self.is_read or not sbom.error

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators, or releases, that need it."""
        return tuple(sorted(set().union(*(packages_of(record.needed_by) for record in self.records))))


@dataclass(frozen=True, slots=True)
class LicenceCount:
    """A licence with the packages that have it, and the images and operators that these are in."""

    licence: str
    packages: int
    images: int
    operators: tuple[str, ...]


@dataclass(slots=True)
class Software:
    """The result. `packages`: with the numbers of their images in `images`; `unread`: SBOMs that were not looked into.

    `pairs`: of a package, as often as it has licences, and an image; `names`: the licences; `size`: bytes that were read;
    `held`: memory of the texts of the packages; `listed`: of an SBOM and an image, and `unlisted` those that were left out.
    """

    images: list[ImageSoftware]
    packages: dict[Package, list[int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unread: int = 0
    pairs: int = 0
    names: set[str] = field(default_factory=set)
    size: int = 0
    held: int = 0
    listed: int = 0
    unlisted: int = 0

    def has_room(self, pairs: int, new: int = 1, held: int = 0) -> bool:
        """Say whether so many packages of images can be added, `new` ones of them, with `held` bytes of text."""
        return (
            self.pairs + pairs <= MAX_PAIRS
            and len(self.packages) + new <= MAX_DISTINCT
            and self.held + held <= MAX_HELD
            and len(self.names) <= MAX_LICENCES
        )

    def takes(self, packages: Iterable[Package], images: int) -> bool:
        """Say whether packages of so many images can be added."""
        pairs = count = held = 0
        new: set[str] = set()
        for package in packages:
            licences = identifiers(package.licence)
            pairs += len(licences) * images
            new.update(each for each in licences if each not in self.names)
            if package not in self.packages:
                count += 1
                held += _memory(package)
            # One document may name 160 licences for each of its packages, and a licence takes more memory than a package.
            if len(self.names) + len(new) > MAX_LICENCES or not self.has_room(pairs, count, held):
                return False
        return True

    def attach(self, sbom: ReadSbom, number: int) -> bool:
        """Add an SBOM to an image; return False where it is left out, since the result lists enough of them."""
        image = self.images[number]
        # The first one, and the first that was read, decide the state of the image: they are always listed.
        if self.listed >= MAX_LISTED and image.sboms and (sbom.error or image.is_read):
            self.unlisted += 1
            return False
        self.listed += 1
        image.add(sbom)
        return True

    def ordered(self) -> list[tuple[Package, list[int]]]:
        """Return the packages by name, version, package URL and licence."""
        return sorted(self.packages.items(), key=lambda each: (each[0].name.lower(), each[0]))

    def count(self, state: str) -> int:
        """Return the number of images in a state."""
        return sum(1 for image in self.images if image.state == state)

    def licences(self) -> list[LicenceCount]:
        """Return the licences, the one of the most packages first."""
        packages: defaultdict[str, int] = defaultdict(int)
        within: defaultdict[str, set[int]] = defaultdict(set)
        operators = [image.operators for image in self.images]  # once: a base image is needed by thousands
        for package, numbers in self.packages.items():
            for licence in identifiers(package.licence):
                packages[licence] += 1
                within[licence].update(numbers)
        found = [
            LicenceCount(
                licence,
                count,
                len(within[licence]),
                tuple(sorted({name for number in within[licence] for name in operators[number]})),
            )
            for licence, count in packages.items()
        ]
        return sorted(found, key=lambda each: (-each.packages, each.licence))


def software(archive: ArchiveReader, selection: Selection, progress: Progress) -> Software:
    """Read the SBOMs of an archive. Raises MediumGoneError; any other failure is a problem of the result."""
    inventory = archive.inventory
    images = Images(inventory, filter(selection.has_image, inventory.images))
    result = Software([ImageSoftware(digest, records) for digest, records in images.records.items()])
    numbers = {image.digest: number for number, image in enumerate(result.images)}
    found, broken = carried(archive, images)
    for each in broken:
        result.problems.append(_problem(each.subject, each.error, "its attachments cannot be read"))
    by_blob: defaultdict[Digest, list[Carried]] = defaultdict(list)
    for one in found:
        by_blob[one.blob.digest].append(one)
    with step(progress, f"reading {counted(len(by_blob), 'SBOM')}", sum(same[0].blob.size for same in by_blob.values())):
        # Each is read once, also one that is attached to an index and to its manifests; one after the other: the memory of two
        # large ones would be twice as much.
        for same in by_blob.values():
            targets = [(one, [numbers[root] for root in one.images]) for one in same]
            size = same[0].blob.size
            if not result.has_room(1) or not selection.takes(size, result.size):
                _leave(result, targets)
            else:
                _take(result, targets, archive, selection)
            progress.advance(size)
    for package, listed in result.packages.items():
        # An image has a package in the SBOMs of all its platforms.
        result.packages[package] = sorted(set(listed))
        for number in result.packages[package]:
            result.images[number].packages += 1
    if (result.unread or result.unlisted) and not selection.size:
        result.problems.append(_too_many(archive.digest, result))
    return result


def _memory(package: Package) -> int:
    # As Python holds them: one character that is not ASCII makes the whole text two or four times as large.
    return sum(map(sys.getsizeof, package))


Targets = list[tuple["Carried", list[int]]]


def _take(result: Software, targets: Targets, archive: ArchiveReader, selection: Selection) -> None:
    """Read one SBOM into the result."""
    try:
        raw = _content(result, archive, targets[0][0], selection.largest)
        if raw is None:
            _leave(result, targets)
            return
        opened = _opened(raw)
    except MediumGoneError:
        raise  # no fault of the SBOM: the medium comes back
    except (ArchiveError, ContentError) as error:
        for one, numbers in targets:
            _refuse(result, one, numbers, error)
        return
    if opened is None:  # a statement of another kind
        return
    _spread(result, targets, *opened, selection)
    if unreadable := opened[0].unreadable:
        source = result.images[targets[0][1][0]].records[0].source
        message = f"{counted(unreadable, 'package')} of its SBOM {targets[0][0].blob.digest} cannot be read"
        result.problems.append(Problem("warning", ProblemCode.SBOM_UNREADABLE, source, message))


def _spread(
    result: Software, targets: Targets, document: Document, subjects: frozenset[Digest] | None, selection: Selection
) -> None:
    """Add the packages of an SBOM to the images that it is for."""
    packages = [package for package in dict.fromkeys(document.packages) if selection.has_package(package)]
    added: set[int] = set()
    for one, numbers in targets:
        if subjects is not None and not subjects & one.manifests:
            why = ContentError("its statement is about another image" if subjects else "its statement names no image")
            _refuse(result, one, numbers, why, ProblemCode.SBOM_MISMATCH)
            continue
        # Before it is added: the same blob may be attached to thousands of images, and to thousands of manifests of one image.
        new = [number for number in numbers if number not in added]
        if new and not result.takes(packages, len(new)):
            _leave(result, [(one, numbers)])
            continue
        sbom = _sbom(one, document, stated=subjects is not None)
        for number in numbers:
            result.attach(sbom, number)
        for number in new:
            _add(result, packages, number)
        added.update(new)


def _content(result: Software, archive: ArchiveReader, one: Carried, largest: int) -> bytes | None:
    """Return an SBOM as it is in its envelope, decompressed; None for one of more than `largest` bytes."""
    # Before it is read: the inventory states the size of each blob.
    if one.blob.size > MAX_WRAPPED:
        raise ContentError(f"{one.blob.size} bytes; the limit is {MAX_WRAPPED}")
    parts: list[bytes] = []
    size = 0
    for part in decompressed(archive.content(one.blob.digest), MAX_WRAPPED):
        # Counted here: a thousandth of it may be in the archive.
        size += len(part)
        result.size += len(part)
        if largest and size > largest:
            return None
        parts.append(part)
    return b"".join(parts)


def _opened(raw: bytes) -> tuple[Document, frozenset[Digest] | None] | None:
    inner = unwrapped(raw)
    return (read(inner.document), inner.subjects) if inner is not None else None


def _sbom(one: Carried, document: Document, *, stated: bool) -> ReadSbom:
    # A statement was compared with the image already, else the SBOM is not used.
    names = True if stated or document.named & one.manifests else (False if document.named else None)
    return ReadSbom(one, document.format, document.tool, len(document.packages), names)


def _add(result: Software, packages: Iterable[Package], number: int) -> None:
    for package in packages:
        numbers = result.packages.get(package)
        if numbers is None:
            numbers = result.packages[package] = []
            result.held += _memory(package)
        # An image may have the package in several of its SBOMs.
        if numbers[-1:] != [number]:
            licences = identifiers(package.licence)
            numbers.append(number)
            result.pairs += len(licences)
            result.names.update(licences)


def _refuse(
    result: Software,
    one: Carried,
    numbers: Iterable[int],
    error: ArchiveError | ContentError,
    code: ProblemCode = ProblemCode.SBOM_UNREADABLE,
) -> None:
    sbom = ReadSbom(one, error=error.message)
    for number in numbers:
        if result.attach(sbom, number):
            source = result.images[number].records[0].source
            result.problems.append(_problem(source, error, f"its SBOM {one.blob.digest} is not used", code))


def _leave(result: Software, targets: Targets) -> None:
    result.unread += 1
    for one, numbers in targets:
        for number in numbers:
            result.attach(ReadSbom(one, error="not read: too large, or too many of them"), number)


def _problem(
    source: str,
    error: ArchiveError | ContentError,
    what: str,
    code: ProblemCode = ProblemCode.SBOM_UNREADABLE,
) -> Problem:
    # Damage of the archive has to be cured; an SBOM that its publisher made badly does not.
    if isinstance(error, ArchiveDamagedError):
        return Problem("error", ProblemCode.ARCHIVE_DAMAGED, source, f"{what}: {error.message}")
    return Problem("warning", code, source, f"{what}: {error.message}")


def _too_many(archive: Digest, result: Software) -> Problem:
    # An error: the answer lacks software that the archive has, and a person may approve the archive by it.
    left = [f"{counted(result.unread, 'SBOM')} not read"] if result.unread else []
    left += [f"{counted(result.unlisted, 'SBOM')} of images not listed"] if result.unlisted else []
    message = (
        f"the result is not whole: {', '.join(left)}. It has at most {MAX_DISTINCT} packages ({size_text(MAX_HELD)} of text), "
        f"{MAX_LICENCES} licences, {MAX_PAIRS} times a package in an image, and {MAX_LISTED} times an SBOM of an image. "
        "Ask for less with --operator, --package or --licence"
    )
    return Problem("error", ProblemCode.SBOM_UNREADABLE, archive, message)


def document_of(found: Software, archive: ArchiveReader) -> dict[str, Any]:
    """Return the JSON of the command `sbom`."""
    return {
        "archive": archive.digest,
        "name": archive.inventory.name or None,
        "created": archive.inventory.created,
        "verified": False,  # neither the signatures of attestations nor the contents of images
        "images": [
            {
                "digest": image.digest,
                "sources": [record.source for record in image.records],
                "operators": image.operators,
                "state": image.state,
                "packages": image.packages,
                "sboms": [sbom.document for sbom in image.sboms],
            }
            for image in found.images
        ],
        "licences": [
            {"licence": one.licence, "packages": one.packages, "images": one.images, "operators": one.operators}
            for one in found.licences()
        ],
        "packages": list(_packages(found)),
        "problems": found.problems,
    }


def _packages(found: Software) -> Iterator[dict[str, Any]]:
    for package, numbers in found.ordered():
        yield {
            "name": package.name,
            "version": package.version,
            "type": package.kind or None,
            "licence": package.licence,
            "licences": identifiers(package.licence),
            "purl": package.purl or None,
            "images": [found.images[number].digest for number in numbers],
        }
