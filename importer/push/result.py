"""The result of a push, and the tally that it is made of; the JSON of docs/reference/cli.md."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from common.archive.inventory import ATTACHED, BaseRecord, Problem, ProblemCode
from common.errors import ArchiveDamagedError, ArchiveError, ExitCode, HubError, first_of
from common.text import counted, enumeration
from importer.push.tagging import SparseIndexError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from common.archive.reader import Archive
    from common.errors import RegistryError
    from common.oci.image import Digest
    from common.oci.reference import Reference
    from common.registry.manifest_writer import UnsupportedTypeError
    from common.registry.source_sink import Counts
    from importer.mapping import MappedImage


_NAMED = 3  # how many images, or repositories, a problem names


@dataclass(frozen=True, slots=True)
class PushResult:
    """The result of a push; the JSON of docs/reference/cli.md.

    `uploaded`, `mounted`, `present` count blobs in repositories; `bytes` are those that were sent to the mirror. An image whose
    manifests were there already counts in `images_present` alone. `waiting_for` names volumes, `requires` earlier archives (or
    receipts) whose content must come first; `missing` are the blobs that neither the mirror nor the available volumes have;
    `images_left` are images of which other processes have yet to upload a part, `images_waiting` those that need one of
    `missing`; `bases` describes the archives in `requires`. `complete`: the mirror has all that the
    archive holds; `record`: where it remembers the archive (ADR 0080).
    """

    uploaded: int
    mounted: int
    present: int
    failed: int
    bytes: int
    waiting_for: tuple[str, ...]
    problems: tuple[Problem, ...]
    exit_code: ExitCode
    images: int
    images_present: int
    images_left_out: int
    requires: tuple[Digest, ...] = ()
    missing: frozenset[Digest] = frozenset()
    images_left: int = 0
    images_waiting: int = 0
    bases: Mapping[Digest, BaseRecord] = field(default_factory=dict)
    complete: bool = False
    record: str | None = None

    @property
    def ok(self) -> bool:
        """Everything that the archive lists is in the mirror."""
        return self.exit_code is ExitCode.DONE

    @property
    def waits(self) -> bool:
        """Something must come first: other volumes, or earlier archives."""
        return bool(self.waiting_for or self.requires)

    def after(self, before: PushResult) -> PushResult:
        """Return the sum of two pushes of one archive, this one after `before`; only this one's waits remain."""
        # Problems of the first may only mean that a volume was missing, which this push had: its own exit code says so again
        # where something is still missing.
        codes = (before.exit_code if before.exit_code is not ExitCode.PROBLEMS else ExitCode.DONE, self.exit_code)
        return replace(
            self,
            uploaded=self.uploaded + before.uploaded,
            mounted=self.mounted + before.mounted,
            present=self.present + before.present,
            failed=self.failed + before.failed,
            bytes=self.bytes + before.bytes,
            problems=tuple(dict.fromkeys((*before.problems, *self.problems))),
            exit_code=first_of(codes),
            images_present=before.images_present,  # this push finds those present that the first one has pushed
        )


@dataclass(slots=True)
class Tally:
    """The failures of a push, and the content that is left for later."""

    bytes: int = 0
    waiting_for: set[str] = field(default_factory=set)
    requires: set[Digest] = field(default_factory=set)
    missing: set[Digest] = field(default_factory=set)
    images_waiting: int = 0
    bases: Mapping[Digest, BaseRecord] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    codes: list[ExitCode] = field(default_factory=list)

    def fail(self, subject: str, error: HubError, users: Sequence[MappedImage], note: str = "") -> None:
        """Note an error and its exit code."""
        # Operators run without a signature or attachment that the mirror does not take: a warning (docs/reference/registry.md).
        harmless = all(image.record.kind in ATTACHED for image in users)
        self.codes.append(ExitCode.PROBLEMS if harmless else error.exit_code)
        severity: Literal["error", "warning"] = "warning" if harmless else "error"
        self.problems.append(Problem(severity, _code_of(error), subject, error.about(subject, note)))

    def result(
        self, counts: Counts, *, images: int, present: int, left: int, left_out: int, export_problems: Sequence[Problem]
    ) -> PushResult:
        """Return the result of the push. `export_problems`: those of the `left_out` images, which the archive holds in part."""
        # Not in `failed`, which counts this push's errors; the exit code has to say that the mirror is incomplete.
        waits = left_out or self.waiting_for or self.requires
        failed = any(problem.severity == "error" for problem in self.problems)
        return PushResult(
            uploaded=counts.uploaded,
            mounted=counts.mounted,
            present=counts.present,
            failed=len(self.problems),
            bytes=self.bytes,
            waiting_for=tuple(sorted(self.waiting_for)),
            problems=(*self.problems, *export_problems),
            exit_code=first_of([*self.codes, *([ExitCode.PROBLEMS] if waits else [])]),
            images=images,
            images_present=present,
            images_left_out=left_out,
            images_left=left,
            requires=tuple(sorted(self.requires)),
            missing=frozenset(self.missing),
            images_waiting=self.images_waiting,
            bases=self.bases,
            complete=not (self.waiting_for or self.requires or self.missing or left or failed),
        )

    def note_missing(self, absent: Collection[Digest], images: int, archive: Archive) -> None:
        """Note blobs that neither the mirror nor the available volumes have, and the volumes or archives that have them.

        `images`: how many need one of them.
        """
        self.missing.update(absent)
        self.images_waiting = images
        self.bases = archive.inventory.known_bases
        for digest in absent:
            holder = archive.inventory.blobs[digest].in_
            if holder is not None:
                self.requires.add(holder)
            self.waiting_for.update(archive.missing_volumes(digest))

    def warn_unreadable(self, unreadable: Mapping[str, RegistryError]) -> None:
        """Warn of blobs that arrived and cannot be read; `unreadable`: what the storage of a registry says."""
        for registry, error in unreadable.items():
            said = HubError(
                f"blobs at {error.elsewhere} cannot be read by this account or machine, so nodes may not either: "
                f"{error.message}",
                hint=f"Pull one of the images. If that fails too: {error.elsewhere} has lost the blob (S3 says 403 of it where "
                f"the account of {registry} may not list), or does not let that account read: look at its bucket and rights.",
            )
            self.codes.append(ExitCode.PROBLEMS)
            self.problems.append(Problem("warning", ProblemCode.PUSH_FAILED, registry, said.about(registry)))

    def fail_namespace(
        self,
        namespace: str,
        repositories: Sequence[Reference],
        error: HubError,
        users: Sequence[MappedImage],
        *,
        named: int = _NAMED,
    ) -> None:
        """Note the repositories of a namespace that take nothing, as one problem that names at most `named` of them."""
        if len(repositories) == 1:
            self.fail(repositories[0].name, error, users, _needed_by(users))
            return
        names = enumeration([place.name for place in repositories], named)
        self.fail(namespace, error, users, f"; the same for {len(repositories)} repositories: {names}{_needed_by(users)}")

    def fail_blobs(self, subject: str, error: HubError, users: Sequence[MappedImage], count: int) -> None:
        """Note blobs that a repository, or a host, refused for one reason, as one problem."""
        same = f"; the same for {count} blobs" if count > 1 else ""
        self.fail(subject, error, users, f"{same}{_needed_by(users)}")

    def fail_type(self, error: UnsupportedTypeError, images: Sequence[MappedImage]) -> None:
        """Note the images of a media type that the mirror refuses, as one problem."""
        names = enumeration([image.name for image in images], _NAMED)
        registry = images[0].repository.registry
        self.fail(registry, error, images, f"; {counted(len(images), 'image')} of this type: {names}")

    def fail_images(self, subject: str, error: HubError, images: Sequence[MappedImage]) -> None:
        """Note images that a host refused for one reason, as one problem."""
        names = enumeration([image.name for image in images], _NAMED)
        self.fail(subject, error, images, f"; {counted(len(images), 'image')}: {names}")

    def fail_image(self, image: MappedImage, error: HubError) -> None:
        """Note the failure of an image."""
        self.fail(image.name, error, [image])

    def fail_blob(self, digest: Digest, error: HubError, users: Sequence[MappedImage]) -> None:
        """Note the failure of a blob, and the images that need it."""
        # Damaged in the archive: a re-request asks for it. What the registry refused would not become better by that.
        if isinstance(error, ArchiveError):
            self.missing.add(digest)
        # The error of a damaged one names its operators itself.
        self.fail(digest, error, users, "" if isinstance(error, ArchiveDamagedError) else _needed_by(users))


def _needed_by(users: Sequence[MappedImage]) -> str:
    return f"; needed by {enumeration([image.name for image in users], _NAMED)}"


def _code_of(error: HubError) -> ProblemCode:
    if isinstance(error, SparseIndexError):
        return ProblemCode.SPARSE_INDEX
    return ProblemCode.ARCHIVE_DAMAGED if isinstance(error, ArchiveError) else ProblemCode.PUSH_FAILED
