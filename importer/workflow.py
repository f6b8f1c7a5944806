"""The import, step by step. Start reading here.

    archive (verified) ─► mirror registry ─► resources ─► cluster (applied, waited for)

Nothing of the archive is believed that its inventory does not vouch for, and nothing is unpacked to disk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from common import target_profile
from common.archive import receipt as receipts
from common.archive import rerequest as asking
from common.errors import ArchiveDamagedError, ExitCode, UsageError, first_of
from common.files import write_atomic
from common.registry.client import RegistryClient
from importer import apply_steps, mapping
from importer import probe as probing
from importer import render as rendering
from importer.apply_steps import Applied, NotAgreedError, Tell, Voice
from importer.archive.reader import Archive, ArchiveReader
from importer.archive.verify import VerifyResult, verify
from importer.cluster import undo as undoing
from importer.cluster.client import connect
from importer.cluster.discovery import ClusterIdentity, identify
from importer.cluster.record import record_namespace
from importer.cluster.resources.build import Built, ResourceOptions, build
from importer.push import confirmation
from importer.push import push as pushing

if TYPE_CHECKING:
    from pathlib import Path

    from common.archive.receipt import Receipt
    from common.archive.signature import Signer
    from common.oci.image import Digest
    from common.progress import Progress
    from common.target_profile import TargetProfile
    from importer.cluster.release import Release
    from importer.cluster.undo import Undone
    from importer.mapping import MappedImage, Mirror
    from importer.push.result import PushResult
    from importer.report.page import DeployReport
    from importer.settings import ClusterSettings, ImportSettings

# Given the archive and the names of volumes that are still wanted, returns the next medium's part of it; None: there is none.
Following = Callable[[Archive, Sequence[str]], Archive | None]


def nothing_follows(_archive: Archive, _wanted: Sequence[str]) -> None:
    """Say that there is no other medium: nobody is here to put one in."""


def check(archive: ArchiveReader, *, quick: bool, jobs: int, progress: Progress) -> VerifyResult:
    """Verify an archive: completeness and structure, and every byte unless `quick`."""
    return verify(archive, quick=quick, jobs=jobs, progress=progress)


def push(archive: Archive, settings: ImportSettings, progress: Progress, following: Following = nothing_follows) -> PushResult:
    """Bring everything that is at hand into the mirror, medium after medium as long as `following` gives another.

    Raises UsageError before the first byte when two sources would meet under one name, RegistryError when the mirror cannot
    be reached or refuses the credentials; what fails later is in the result.
    """
    images = mapping.map_images(archive.inventory, settings.mirror)
    tried = set(archive.present)
    mirror = str(settings.mirror)
    with RegistryClient(settings.registry, notify=progress.waiting, pushes_to=frozenset({mirror})) as client:
        client.ping(mirror)
        bring = partial(pushing.push, jobs=settings.jobs, progress=progress, heal=settings.heal, volumes=settings.volumes)
        result = bring(archive, images, client)
        while (wanted := [name for name in result.waiting_for if name not in tried]) and (more := following(archive, wanted)):
            tried.update(more.present)
            result = bring(more, images, client).after(result)
    return result


def rerequest(archive: ArchiveReader, blobs: Collection[Digest], file: Path) -> int:
    """Write a re-request for blobs of the archive into `file`; return how many it asks for. Nothing is written for none."""
    wanted = asking.make(archive.inventory, archive.digest, blobs)
    if wanted.blobs:
        _write(file, asking.encode(wanted))
    return len(wanted.blobs)


def receipt(
    archive: Archive, settings: ImportSettings, progress: Progress, *, file: Path, signer: Signer | None, redact: bool
) -> Receipt:
    """Write into `file` what the mirror really has of the archive, and beside it the signature. Raises RegistryError."""
    images = mapping.map_images(archive.inventory, settings.mirror)
    with RegistryClient(settings.registry, notify=progress.waiting) as client:
        client.ping(str(settings.mirror))
        found = confirmation.take(archive, images, client, jobs=settings.jobs, progress=progress)
    made = receipts.make(found.inventories, found.repositories, None if redact else str(settings.mirror))
    content = receipts.encode(made)
    if signer is not None:
        _write(file.with_name(file.name + receipts.SIGNATURE_SUFFIX), signer.sign(content))
    _write(file, content)
    return made


def probe(settings: ImportSettings, cluster: ClusterSettings, file: Path | None) -> TargetProfile:
    """Return what the other side has to know of this one, and write it into `file`. Raises ClusterError, UsageError."""
    profile = probing.probe(settings, cluster)
    if file is not None:
        _write(file, target_profile.encode(profile))
    return profile


def _write(file: Path, content: bytes) -> None:
    try:
        write_atomic(file, content)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}", hint="Choose another place.") from error


def render(
    archive: Archive, mirror: Mirror, release: Release | None, options: ResourceOptions
) -> tuple[dict[str, bytes], Built]:
    """Return the files for the cluster, and what they were made of. Contacts nothing."""
    images = mapping.map_images(archive.inventory, mirror)
    built = build(archive.inventory, images, mirror, release, options)
    return rendering.render(built.resources, images), built


def render_rbac(release: Release | None) -> dict[str, bytes]:
    """Return the file that says what the importer has to be allowed to do."""
    return rendering.render_rbac(release)


def write_files(directory: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write rendered files; return their paths. A file that is there already is replaced as a whole."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomic(directory / name, content)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written: {error.strerror}", hint="Choose another --output.") from error
    return [directory / name for name in files]


def apply(archive: Archive, settings: ImportSettings, cluster: ClusterSettings, progress: Progress, *, voice: Voice) -> Applied:
    """Bring the cluster to use the mirror, and wait until OLM lists what the archive carries; see `applying.py`."""

    def lacking(images: Sequence[MappedImage]) -> Sequence[str]:
        with RegistryClient(settings.registry, notify=progress.waiting) as client:
            client.ping(str(settings.mirror))
            return confirmation.lacking(images, client, jobs=settings.jobs, progress=progress)

    return apply_steps.apply(archive, settings, cluster, voice, lacking)


@dataclass(frozen=True, slots=True)
class UndoResult:
    """What became of each object that an import had changed, or would become of it; and on which cluster."""

    cluster: ClusterIdentity
    objects: list[Undone]


def undo(cluster: ClusterSettings, tell: Tell, agree: Callable[[UndoResult], bool]) -> UndoResult:
    """Bring the cluster back to how it was before the first apply; return what became of each object.

    `agree` gets what would be done first. Raises ClusterError, UsageError when nothing was recorded.
    """
    with connect(cluster.kubeconfig, cluster.context) as client:
        namespace = record_namespace(client)
        identity = identify(client)
        would = UndoResult(identity, undoing.undo(client, namespace, dry_run=True, tell=_silently))
        if not would.objects:
            raise UsageError(
                f"nothing to undo: there is no record in {namespace}. {identity}",
                hint="Is it the right cluster? See --context.",
            )
        if cluster.dry_run:
            return would
        if not agree(would):
            raise NotAgreedError(
                "the cluster was not changed: not agreed", hint="Run it again to be asked again; --dry-run only shows."
            )
        return UndoResult(identity, undoing.undo(client, namespace, dry_run=False, tell=tell))


def _silently(_line: str) -> None:
    """Tell nobody."""


def deploy(
    archive: Archive,
    settings: ImportSettings,
    cluster: ClusterSettings,
    progress: Progress,
    report: DeployReport,
    *,
    voice: Voice,
    following: Following = nothing_follows,
) -> tuple[PushResult | None, Applied | None]:
    """Verify, look at the cluster, push, apply, wait. Whatever speaks against it is told, and agreed to, before the first byte.

    `report` gets to know each step as it is done.

    The cluster is not touched unless every byte that it will need is in the mirror. In a dry run nothing is pushed either, and
    the result is what would become of the cluster.

    The bytes are verified while they are pushed, each once; before that the archive's structure and completeness are.
    Raises ArchiveDamagedError, and what push and apply raise.
    """
    checked = check(archive, quick=True, jobs=settings.jobs, progress=progress)
    if checked.damage or not (checked.ok or following is not nothing_follows):
        raise ArchiveDamagedError(
            f"archive {checked.inventory} is not whole: {'; '.join(checked.damage) or 'volumes are missing'}",
            hint="Bring the missing volumes, or copy the archive again. hub-import push takes what is there.",
        )
    foreseen = apply_steps.foresee(archive, settings, cluster, voice, seen=report.looked)
    if cluster.dry_run:
        return None, foreseen
    report.pushed = push(archive, settings, progress, following)
    if report.pushed.exit_code in (ExitCode.DONE, ExitCode.PROBLEMS) and not cluster_must_wait(report.pushed, settings):
        report.applied = apply_steps.apply(archive, settings, cluster, report.heard(voice))
    return report.pushed, report.applied


def cluster_must_wait(pushed: PushResult, settings: ImportSettings) -> bool:
    """Say whether what was pushed is too little to let the cluster use it."""
    return pushed.waits or (settings.strict and not pushed.ok)


def strictly(codes: Sequence[ExitCode], settings: ImportSettings) -> ExitCode:
    """Return the exit code that counts; under `strict`, `done, with problems` is a failure."""
    code = first_of(codes)
    return ExitCode.FAILED if settings.strict and code is ExitCode.PROBLEMS else code
