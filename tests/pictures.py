"""Pictures of the report and of the page of a deploy for the documentation: `make pictures` writes them into docs/pictures.

Operators are those of a real catalog (tests/data), hosts and people are made up; clock, key and sizes are fixed, so that the same
browser draws the same pictures.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.sync_api import Browser

from common.archive import inventory_file
from common.archive.inventory import Inventory
from common.archive.signature import Signer
from common.errors import ExitCode
from exporter.imageset.model import ImageSet
from exporter.report.facts import facts_of
from exporter.report.page import Report
from importer.cluster.api.discovery import ClusterIdentity
from importer.cluster.apply import ApplyResult
from importer.cluster.finding import Finding, Severity
from importer.cluster.readiness.readiness import Check
from importer.cluster.readiness.wait import Row as Waited
from importer.cluster.writing import Action, Change
from importer.configure.applied import Applied
from importer.configure.apply import Interaction
from importer.operators.table import Result, Row
from importer.push.result import PushResult
from importer.report.page import DeployReport
from importer.report.record import Author
from importer.settings import ClusterSettings
from tests.fakes import reports
from tests.fakes.browser import Visit, browser
from tests.fakes.catalogs import real
from tests.fakes.png import with_palette

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
SIZE = {"width": 1280, "height": 1240}
PACKAGES = ("aws-load-balancer-operator", "openshift-cert-manager-operator", "rhtpa-operator")
MADE, BEGAN = "2026-11-27T16:40:00Z", datetime(2026, 11, 30, 9, 14, 10, tzinfo=UTC)
CLUSTER = ClusterIdentity("https://api.prod.example.com:6443", "prod-admin", "4.18.20")
INDEX = "redhat-operator-index"
_REQUEST = {
    "apiVersion": "mirror.openshift.io/v2alpha1",
    "kind": "ImageSetConfiguration",
    "mirror": {"operators": [{"catalog": reports.SOURCE, "packages": [{"name": name} for name in PACKAGES]}]},
}
_CERT_MANAGER = Row(
    "Subscription",
    "openshift-cert-manager-operator",
    "cert-manager-operator",
    "openshift-cert-manager-operator",
    "cert-manager-operator.v1.18.1",
    "1.18.1",
    "Succeeded",
    "",
    "Automatic",
    "redhat-operators",
    INDEX,
    "stable-v1",
    "cert-manager-operator.v1.20.0",
    ("cert-manager-operator.v1.19.1", "cert-manager-operator.v1.20.0"),
    Result.UPDATES,
    well=True,
)
_ANALYZER = replace(
    _CERT_MANAGER,
    operator="rhtpa-operator",
    namespace="trusted-profile-analyzer",
    name="rhtpa-operator",
    installed="rhtpa-operator.v3.1.0",
    version="3.1.0",
    approval="Manual",
    channel="stable-v3",
    head="rhtpa-operator.v3.1.0",
    path=(),
    result=Result.UNCHANGED,
)


def archive(home: Path) -> tuple[Inventory, bytes]:
    """Return the inventory of an archive of three operators, and its report; the files are as large as they would be."""
    changes: dict[str, Any] = {
        "created": MADE,
        "image_set": ImageSet(as_read=_REQUEST),
        "name": "week-48",
        "requested_by": "Anna Weber, platform team",
        "purpose": "CHG-2217: update cert-manager on the production cluster",
        "signer": Signer(Ed25519PrivateKey.from_private_bytes(b"pictures".ljust(32, b"."))),  # signs nothing else
    }
    made = reports.planned(real("fbc/redhat"), PACKAGES)
    told = reports.reported(made, home, **changes)
    sizes = {volume.name: volume.data_size for volume in told.inventory.volumes} | {"inventory.json": 48_213}
    for name, size in sizes.items():
        with (home / name).open("wb") as file:
            file.truncate(size)  # sparse
    sums = {name: hashlib.sha256(name.encode()).hexdigest() for name in sizes}
    sums["inventory.json"] = _identity(told.inventory).removeprefix("sha256:")  # the page states it as the identity too
    page = Report(facts_of(made), told.settings.making, home).render(told.inventory, sums)
    return told.inventory, page


def _identity(inventory: Inventory) -> str:
    return f"sha256:{hashlib.sha256(inventory_file.encode(inventory)).hexdigest()}"


def deploy(home: Path, inventory: Inventory) -> bytes:
    """Return the page of a deploy that updated one of two operators."""
    applied = _applied()
    times = iter((BEGAN, BEGAN + timedelta(minutes=11, seconds=48)))
    report = DeployReport(
        SimpleNamespace(inventory=inventory, digest=_identity(inventory)),  # type: ignore[arg-type]
        SimpleNamespace(mirror="registry.prod.example.com:5000/ocp"),  # type: ignore[arg-type]
        home,
        lambda _line: None,
        author=Author("anna", "bastion-1"),
        place=ClusterSettings(),
        now=lambda: next(times),
    )
    with report:
        report.met(CLUSTER, "anna@example.com")
        report.previewed(applied)
        interaction = report.recording(Interaction(lambda _line: None, lambda _would: True, None))
        for change in applied.result.changes:
            interaction.tell(str(change))
        report.pushed = PushResult(69, 3, 0, 0, 1_803_886_264, (), (), ExitCode.DONE, 40, 0, 0)
        assert interaction.changed is not None
        assert interaction.operators is not None
        assert interaction.display is not None
        interaction.changed(applied.result)
        interaction.operators(applied.operators_after or ())
        checks = (
            Check(f"CatalogSource openshift-marketplace/{INDEX}", ok=True, state="READY"),
            Check(f"packages of {INDEX}", ok=True, state="3 of 3 are listed"),
        )
        interaction.display.rows([Waited(check, 4.0) for check in checks], 12.0)
        report.applied = applied
    (page,) = home.glob("hub-deploy-*.html")
    return page.read_bytes()


def _applied() -> Applied:
    changes = (
        Change(
            Action.CHANGED,
            "OperatorHub",
            "cluster",
            "",
            "default sources are switched off",
            diff=("-  disableAllDefaultSources: false", "+  disableAllDefaultSources: true"),
        ),
        Change(Action.CREATED, "ImageDigestMirrorSet", f"hub-{INDEX}", ""),
        Change(Action.CREATED, "CatalogSource", INDEX, "openshift-marketplace"),
    )
    finding = Finding(
        "pool-paused",
        "MachineConfigPool infra",
        "The pool is paused: its nodes do not get the mirror rules.",
        ("spec.paused: true",),
        'oc patch machineconfigpool infra --type merge -p \'{"spec":{"paused":false}}\'',
        severity=Severity.WARNING,
    )
    updated = replace(
        _CERT_MANAGER,
        installed="cert-manager-operator.v1.20.0",
        version="1.20.0",
        catalog_now=INDEX,
        path=(),
        result=Result.UNCHANGED,
    )
    return Applied(
        ApplyResult(changes),
        (),
        done=True,
        cluster=CLUSTER,
        findings=(finding,),
        drain="6 nodes take the mirror rules over; none is drained, none reboots",
        operators=(_CERT_MANAGER, _ANALYZER),
        operators_after=(updated, replace(_ANALYZER, catalog_now=INDEX)),
        packages=PACKAGES,
    )


def take(started: Browser, page: bytes, target: Path, scheme: str) -> None:
    """Write the upper part of a page as a PNG."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "page.html"
        path.write_bytes(page)
        visit = Visit(started, path, SIZE)
        visit.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        visit.page.wait_for_function("[...document.images].every((one) => one.complete)")
        target.write_bytes(with_palette(visit.page.screenshot(clip={"x": 0, "y": 0, **SIZE})))
        visit.context.close()


def main(target: Path = PICTURES) -> None:
    """Write all pictures."""
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, browser() as started:
        inventory, report = archive(Path(home))
        pages = {"report": report, "deploy": deploy(Path(home), inventory)}
        for name, page in pages.items():
            take(started, page, target / f"{name}.png", "light")
            take(started, page, target / f"{name}-dark.png", "dark")
    for path in sorted(target.glob("*.png")):
        sys.stdout.write(f"{path}: {path.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
