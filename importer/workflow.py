"""The import, step by step. Start reading here.

    archive (verified) ─► mirror registry ─► resources ─► cluster (applied, waited for)

The inventory vouches for everything that is used of an archive, and nothing is unpacked to disk.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from common import target_profile
from common.archive import receipt as receipts
from common.archive import rerequest as rerequests
from common.archive.inventory import Problem, ProblemCode
from common.errors import ExitCode, HubError, UsageError
from common.files import write_all_atomic, write_atomic, writing
from common.registry.client import RegistryClient
from importer import mapping
from importer import probe as probing
from importer.archive import verify as verifying
from importer.configure import apply as applying
from importer.configure import undo as undoing
from importer.push import confirmation
from importer.push import push as pushing
from importer.push.confirmation import Content
from importer.records.store import RecordStore, not_stored, required

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from common.archive.inventory import Inventory
    from common.archive.reader import Archive, ArchiveReader
    from common.archive.receipt import Receipt
    from common.archive.signature import Signer, Verifier
    from common.mapping import Mirror
    from common.oci.image import Digest
    from common.progress import Progress
    from common.target_profile import TargetProfile
    from importer.archive.verify import VerifyResult
    from importer.cluster.api.discovery import ClusterIdentity
    from importer.configure.applied import Applied
    from importer.configure.apply import Interaction, Tell
    from importer.configure.undo import UndoResult
    from importer.push.result import PushResult
    from importer.report.page import DeployReport
    from importer.settings import ClusterSettings, ImportSettings

    # Given the archive and the names of missing volumes, returns the next medium's part of the archive; None: there is none.
    Following = Callable[[Archive, Sequence[str]], Archive | None]


def nothing_follows(_archive: Archive, _missing: Sequence[str]) -> None:
    """Return None: there is no other medium, and no person to insert one."""


def check(archive: ArchiveReader, *, quick: bool, jobs: int, progress: Progress) -> VerifyResult:
    """Verify an archive: completeness and structure, and every byte unless `quick`."""
    return verifying.verify(archive, quick=quick, jobs=jobs, progress=progress)


def push(archive: Archive, settings: ImportSettings, progress: Progress, following: Following = nothing_follows) -> PushResult:
    """Push all available volumes to the mirror, medium after medium as long as `following` returns another.

    Raises UsageError before the first byte when two sources would get one name, RegistryError when the mirror cannot be
    reached or refuses the credentials; later failures are in the result.
    """
    images = mapping.map_images(archive.inventory, settings.mirror)
    # A medium whose content did not arrive is not asked for twice: its errors are in the result, and it would never end.
    tried = set(archive.present)
    mirror = str(settings.mirror)
    # `pushes_to`: tokens are requested with `pull,push` from the first question on, because Quay creates a repository when
    # such a token is requested and answers 401 until then (ADR 0031).
    with RegistryClient(settings.registry, notify=progress.waiting, pushes_to=frozenset({mirror})) as client:
        # Wrong credentials or a missing CA show here, once, instead of at each of thousands of blobs.
        client.ping(mirror)
        push_part = partial(pushing.push, jobs=settings.jobs, progress=progress, heal=settings.heal, volumes=settings.volumes)
        result = push_part(archive, images, client)
        while (missing := [name for name in result.waiting_for if name not in tried]) and (more := following(archive, missing)):
            tried.update(more.present)
            result = push_part(more, images, client).after(result)
        # Several processes would each find the archive incomplete, or write the same record: the push of all of it does.
        if result.complete and settings.volumes is None:
            result = _remembered(result, archive, settings, client)
    return result


def _remembered(result: PushResult, archive: Archive, settings: ImportSettings, client: RegistryClient) -> PushResult:
    """Store the record of an archive that is in the mirror (ADR 0080). What fails is a warning: the archive has arrived."""
    try:
        place = RecordStore(client, settings.mirror).remember(archive, heal=settings.heal)
    except HubError as error:
        problem = Problem("warning", ProblemCode.RECORD_NOT_STORED, str(settings.mirror), not_stored(error))
        return replace(result, problems=(*result.problems, problem))
    return replace(result, record=str(place))


def rerequest(archive: ArchiveReader, blobs: Collection[Digest], file: Path) -> int:
    """Write a re-request for blobs of the archive into `file`; return how many it asks for. Nothing is written for none."""
    request = rerequests.make(archive.inventory, archive.digest, blobs)
    if request.blobs:
        write_file(file, rerequests.encode(request))
    return len(request.blobs)


def receipt(
    archive: Archive | None,
    settings: ImportSettings,
    progress: Progress,
    *,
    file: Path,
    signer: Signer | None,
    redact: bool,
    key: Verifier | None = None,
) -> Receipt:
    """Write a receipt into `file`: the blobs of the archive that the mirror has; with `signer` its signature next to it.

    Without an archive, of all archives that the mirror remembers; with `key`, of those that it signed.
    Raises RegistryError, UsageError where the mirror remembers none.
    """
    # Without `pushes_to`, tokens are requested with `pull` alone: a receipt must not create repositories (ADR 0031).
    with RegistryClient(settings.registry, notify=progress.waiting) as client:
        client.ping(str(settings.mirror), may_be_closed=True)
        if archive is not None:
            contents: Iterable[Content] = [_content(archive.inventory, archive.digest, settings.mirror)]
        else:
            contents = _recorded(RecordStore(client, settings.mirror, key))
        found = confirmation.confirm(contents, client, jobs=settings.jobs, progress=progress)
    made = receipts.make(found.inventories, found.repositories, None if redact else str(settings.mirror), found.archives)
    content = receipts.encode(made)
    # The signature first: a reader that finds the receipt finds its signature too.
    signature = {file.with_name(file.name + receipts.SIGNATURE_SUFFIX): signer.sign(content)} if signer is not None else {}
    with writing(file, "Choose another place."):
        write_all_atomic({**signature, file: content})
    return made


def _content(inventory: Inventory, digest: Digest, mirror: Mirror) -> Content:
    return Content(inventory, digest, mapping.map_images(inventory, mirror))


def _recorded(store: RecordStore) -> Iterator[Content]:
    """Give the content of each archive that a mirror remembers, at the paths of its push. Raises UsageError for none."""
    found = False
    for record in required(store):
        found = True
        yield _content(record.inventory, record.digest, record.head.mirror(store.mirror))
    if not found:
        raise UsageError(
            f"{store.repository.name} has no record that can be used: this mirror remembers no archive",
            hint="Name the archive: hub-import receipt ARCHIVE. The next push of an archive stores its record.",
        )


def probe(settings: ImportSettings, cluster: ClusterSettings | None, file: Path | None) -> TargetProfile:
    """Return the target profile for the online side, and write it into `file`; see `probe.probe`."""
    profile = probing.probe(settings, cluster)
    if file is not None:
        write_file(file, target_profile.encode(profile))
    return profile


def write_file(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Raises SpaceError, UsageError."""
    with writing(file, "Choose another place."):
        write_atomic(file, content)


def write_files(directory: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write rendered files, all or none; return their paths. An existing file is replaced as a whole."""
    paths = {directory / name: content for name, content in sorted(files.items())}
    with writing(directory, "Choose another --output."):
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_all_atomic(paths)
    return list(paths)


def apply(
    archive: Archive, settings: ImportSettings, cluster: ClusterSettings, progress: Progress, *, interaction: Interaction
) -> Applied:
    """Make the cluster use the mirror, and wait until OLM lists the content of the archive; see `configure.apply.apply`."""

    def find_missing(images: Sequence[mapping.MappedImage]) -> Sequence[str]:
        # Here, too, without `pushes_to`: `apply` may run with an account that can only pull.
        with RegistryClient(settings.registry, notify=progress.waiting) as client:
            client.ping(str(settings.mirror), may_be_closed=True)
            return confirmation.find_missing(images, client, jobs=settings.jobs, progress=progress)

    return applying.apply(archive, settings, cluster, interaction, find_missing)


def undo(
    cluster: ClusterSettings,
    tell: Tell,
    agree: Callable[[UndoResult], bool],
    met: Callable[[ClusterIdentity, str], None] | None = None,
) -> UndoResult:
    """Bring the cluster back to its state before the first apply; see `configure.undo.undo`."""
    return undoing.undo(cluster, tell, agree, met)


def deploy(
    archive: Archive,
    settings: ImportSettings,
    cluster: ClusterSettings,
    progress: Progress,
    report: DeployReport,
    *,
    interaction: Interaction,
    following: Following = nothing_follows,
) -> tuple[PushResult | None, Applied | None]:
    """Verify, run the preflight, push, apply, wait. Objections are shown, and agreed to, before the first byte.

    `report` gets each step as it is done.

    The cluster is not touched unless every byte that it will need is in the mirror. In a dry run nothing is pushed either, and
    the result is the foreseen state of the cluster.

    The structure and completeness of the archive are verified first, its bytes while they are pushed, so that each is read
    once. Raises ArchiveDamagedError, and the errors of push and apply.
    """
    checked = check(archive, quick=True, jobs=settings.jobs, progress=progress)
    # Missing volumes are an error only where no person can insert the next medium.
    checked.require_usable(archive.label, more_may_follow=following is not nothing_follows)
    # Before the push: a push takes hours of a maintenance window, and an objection of the cluster would come after it.
    foreseen = applying.preview(archive, settings, cluster, interaction, seen=report.previewed, met=report.met)
    if cluster.dry_run:
        return None, foreseen
    report.pushed = push(archive, settings, progress, following)
    if report.pushed.exit_code in (ExitCode.DONE, ExitCode.PROBLEMS) and not cluster_must_wait(report.pushed, settings):
        report.applied = applying.apply(archive, settings, cluster, report.recording(interaction))
    return report.pushed, report.applied


def cluster_must_wait(pushed: PushResult, settings: ImportSettings) -> bool:
    """Say whether too little was pushed to let the cluster use it."""
    return pushed.waits or (settings.strict and not pushed.ok)
