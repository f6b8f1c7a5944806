"""Write an installation, and wait until its operators run: for `install`, and for an import whose archive lists operators."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from importer.cluster.apply import ApplyResult
from importer.cluster.readiness.wait import wait_healthy
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.resources.catalog_source import namespace_for
from importer.cluster.resources.permissions import for_installation, missing
from importer.cluster.writing import Writer
from importer.configure.asking import silent
from importer.diagnose.collect import collect
from importer.diagnose.rules import diagnose
from importer.install.progress import Progress, approval
from importer.install.writing import write

if TYPE_CHECKING:
    from collections.abc import Callable

    from importer.cluster.api.client import ClusterClient
    from importer.cluster.finding import Finding
    from importer.cluster.readiness.wait import Display
    from importer.cluster.release import Release
    from importer.cluster.resources.permissions import Permission
    from importer.configure.installing import Installed
    from importer.install.writing import Installation

    Outcome = tuple[str, str, str]  # package, state in words, and the command that approves its InstallPlan


@dataclass(frozen=True, slots=True)
class Asking:
    """The callbacks of an installation: lines of text, the question before the first change, and the wait.

    `clock` is monotonic, in seconds.
    """

    tell: Callable[[str], None]
    agree: Callable[[Installed], bool]
    display: Display
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def refused(
    client: ClusterClient, release: Release | None, installation: Installation, *, olm_v1: bool = False
) -> list[Permission]:
    """Return the permissions that are missing for an installation; of an empty one, for reading what it depends on."""
    resources = [*installation.namespaces, *installation.resources]
    # An installation deletes nothing: `undo` does, and asks for that itself.
    return missing(client, [each for each in for_installation(release, resources, olm_v1=olm_v1) if each.verb != "delete"])


def rehearse(client: ClusterClient, release: Release | None, installation: Installation) -> ApplyResult:
    """Return what would change, as the server foresees it. Raises ClusterError."""
    writer = _writer(client, release, silent, dry_run=True)
    write(writer, installation)
    return ApplyResult(tuple(writer.changes))


def carry_out(
    client: ClusterClient, release: Release | None, installation: Installation, tell: Callable[[str], None]
) -> ApplyResult:
    """Write the objects of an installation, each recorded before. Raises ClusterError."""
    writer = _writer(client, release, tell, dry_run=False)
    write(writer, installation)
    return ApplyResult(tuple(writer.changes))


def _writer(client: ClusterClient, release: Release | None, tell: Callable[[str], None], *, dry_run: bool) -> Writer:
    # Each object is put into the record before it is written: `undo` finds it, also when the run is killed in between.
    recorder = Recorder(client, record_namespace(client))
    # Up to OpenShift 4.5 the writer merges instead. A cluster without a release is another Kubernetes, which is newer.
    server_side = release is None or release.server_side_apply
    return Writer(client, server_side=server_side, dry_run=dry_run, tell=tell, recorder=recorder)


def watch(
    client: ClusterClient, release: Release | None, installation: Installation, asking: Asking, *, timeout_s: float
) -> Progress:
    """Return when all operators run, or wait for approval. Raises ClusterError with causes after `timeout_s`."""
    progress = Progress(client, installation)
    places, packages = installation.places, installation.packages

    # Called each time that the wait shows causes: pods and events are those of that moment.
    def causes() -> list[Finding]:
        found = diagnose(collect(client, namespace_for(release), (), release))
        return [each for each in found if _concerns(each, places, packages)]

    # All may have been left alone, as they are there otherwise: then there is nothing to wait for.
    if progress.checks():
        wait_healthy(
            client,
            (),  # no catalogs: they are served, or nothing could have been chosen
            release=None,
            timeout_s=timeout_s,
            display=asking.display,
            diagnose=causes,
            further=progress.checks(),
            clock=asking.clock,
            sleep=asking.sleep,
        )
    return progress


def _concerns(finding: Finding, places: set[str], packages: set[str]) -> bool:
    """Return whether a finding is about a namespace or package of the installation; other operators are not its business."""
    text = f"{finding.text} "
    # Findings name their subject in words: `Subscription NAMESPACE/NAME`, `namespace NAME`. Without the separators, a namespace
    # `a` would be found in each word.
    return any(f" {each}/" in text or f"namespace {each}" in text for each in places) or any(each in text for each in packages)


def outcomes(progress: Progress) -> tuple[Outcome, ...]:
    """Return what became of each operator, in the order in which they were asked for."""
    commands = {package: approval(*place) for package, place in progress.approvals.items()}
    return tuple((package, check.text, commands.get(package, "")) for package, check in progress.states.items())
