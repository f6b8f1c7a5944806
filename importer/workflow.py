"""The import, step by step. Start reading here.

    archive (verified) ─► mirror registry ─► resources ─► cluster (applied, waited for)

Nothing of the archive is believed that its inventory does not vouch for, and nothing is unpacked to disk.
"""

from __future__ import annotations

from common.archive.reader import Archive
from common.archive.verification import VerifyResult, verify
from common.errors import ExitCode
from common.progress import Progress
from common.registry.client import RegistryClient
from importer import mapping
from importer import push as pushing
from importer.push import PushResult
from importer.settings import ImportSettings


def check(archive: Archive, *, quick: bool, jobs: int, progress: Progress) -> VerifyResult:
    """Verify an archive: completeness and structure, and every byte unless `quick`."""
    return verify(archive, quick=quick, jobs=jobs, progress=progress)


def push(archive: Archive, settings: ImportSettings, progress: Progress) -> PushResult:
    """Bring everything that is at hand into the mirror.

    Raises UsageError before the first byte when two sources would meet under one name, RegistryError when the mirror cannot
    be reached or refuses the credentials; what fails later is in the result.
    """
    images = mapping.map_images(archive.inventory, settings.mirror)
    with RegistryClient(settings.registry, notify=progress.waiting) as client:
        client.ping(settings.mirror.host)
        return pushing.push(archive, images, client, jobs=settings.jobs, progress=progress)


def strictly(code: ExitCode, settings: ImportSettings) -> ExitCode:
    """Return the exit code, which under `strict` is a failure where it would be `done, with problems`."""
    return ExitCode.FAILED if settings.strict and code is ExitCode.PROBLEMS else code
