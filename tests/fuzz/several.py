"""Targets that read more than one document: a volume, a volume with its parity file, and the answers of an API server."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from contextlib import suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from common.archive import parity
from common.archive.reader import Archive
from common.errors import ClusterError, HubError
from common.oci.image import digest_of
from importer.archive.repair import Repair
from importer.archive.verify import verify
from importer.cluster import preflight
from importer.cluster.api.client import Scanned
from importer.cluster.preflight import Intent
from importer.cluster.readiness.readiness import ExpectedCatalog, offers
from importer.cluster.release import Release
from importer.cluster.shape import checked
from importer.cluster.undo import undo
from importer.diagnose.collect import collect
from importer.diagnose.rules import diagnose
from tests.fakes import wanted
from tests.fakes.archives import Content, noise, write
from tests.fuzz.running import scratch
from tests.fuzz.targets import JSON, Target, at

SMALL = Content({"registry.test/one:v1": [noise("one", 3000)], "registry.test/two:v1": [noise("two", 14_000)]})
BLOBS = {digest_of(content): content for content in SMALL.blobs.values()}


@cache
def _archive() -> Path:
    """Return a volume with its parity file."""
    home = tempfile.mkdtemp(dir=scratch())
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    write(Path(home, "archive"), SMALL)
    (volume,) = Path(home, "archive").glob("volume-*.zst")
    parity.make(volume, Fraction(1, 10), digest_of(volume.read_bytes()).removeprefix("sha256:"), lambda _size: None)
    return volume


def _volume(raw, folder):
    opened = Archive.open([at(folder, _archive().name, raw)])
    result = verify(opened)
    for digest in opened.inventory.blobs:
        try:
            assert b"".join(map(bytes, opened.content(digest))) == BLOBS[digest]
        except HubError:
            assert not result.ok
    for digest in opened.inventory.manifests:
        try:
            assert digest_of(opened.manifest(digest)) == digest
        except HubError:
            assert not result.ok


def _beside() -> Path:
    return _archive().with_name(_archive().name + parity.SUFFIX)


def _parity(raw, folder):
    whole = _archive().read_bytes()
    place = folder / "copy"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for damage in (0, 20):
        hurt = whole[: len(whole) // 2] + bytes(damage) + whole[len(whole) // 2 + damage :]
        volume = at(place, _archive().name, hurt)
        at(place, _beside().name, raw)
        result = Repair(volume, lambda _size: None, digest_of(whole).removeprefix("sha256:")).run(None)
        assert result.status == "damaged" or volume.read_bytes() == whole


MARKET, NAME = "openshift-marketplace", "hub-redhat-operators"
PACKAGES = (wanted.package("alpha"), wanted.package("beta"))
EXPECTED = ExpectedCatalog(NAME, MARKET, wanted.IMAGE, offers(PACKAGES), (("registry.redhat.io/ubi", "mirror.test/ubi"),))
INTENT = Intent([wanted.catalog_source()], Release(4, 18), "mirror.example:5000", (wanted.IMAGE,), (wanted.IMAGE,))
_CONDITION = {"type": "Ready", "status": "False", "reason": "x", "message": "y", "lastTransitionTime": "2026-01-31T12:00:00Z"}


def _meta(name: str, **more: Any) -> dict[str, Any]:
    managed = [{"manager": "hub-import", "operation": "Apply", "fieldsV1": {"f:spec": {"f:image": {}}}}]
    return {
        "name": name,
        "namespace": MARKET,
        "uid": "u",
        "resourceVersion": "3",
        "creationTimestamp": "2026-01-31T12:00:00Z",
        "managedFields": managed,
        **more,
    }


_OBJECTS = {
    "ClusterVersion": [{"metadata": _meta("version"), "status": {"desired": {"version": "4.18.7"}, "history": [{"state": "Completed", "version": "4.18.7"}]}}],
    "CatalogSource": [{"metadata": _meta(NAME), "spec": {"image": wanted.IMAGE, "sourceType": "grpc", "displayName": "x"},
                       "status": {"connectionState": {"lastObservedState": "READY", "lastConnect": "2026-01-31T12:00:00Z"}}}],
    "Pod": [{"metadata": _meta("pod", labels={"olm.catalogSource": NAME}), "spec": {"containers": [{"name": "a", "image": wanted.IMAGE, "resources": {"limits": {"memory": "1Gi"}}}]},
             "status": {"phase": "Running", "conditions": [_CONDITION], "containerStatuses": [{"imageID": wanted.IMAGE, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "m"}},
                        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}}],
    "Event": [{"metadata": _meta("event"), "involvedObject": {"name": "pod"}, "type": "Warning", "reason": "BackOff", "message": "m", "lastTimestamp": "2026-01-31T12:00:00Z"}],
    "MachineConfigPool": [{"metadata": _meta("worker"), "spec": {"paused": True, "configuration": {"name": "b"}},
                           "status": {"configuration": {"name": "a"}, "conditions": [{**_CONDITION, "type": "Degraded"}], "machineCount": 3, "updatedMachineCount": 2, "observedGeneration": 1}}],
    "MachineConfig": [{"metadata": _meta("b"), "spec": {"config": {"storage": {"files": [{"path": "/etc/containers/registries.conf", "contents": {"source": "data:,a"}}]}}}}],
    "PackageManifest": [{"metadata": _meta("alpha"), "status": {"packageName": "alpha", "defaultChannel": "stable", "catalogSource": NAME, "channels": [{"name": "stable", "currentCSV": "alpha.v1"}]}}],
    "Subscription": [{"metadata": _meta("alpha"), "spec": {"name": "alpha", "source": NAME, "sourceNamespace": MARKET},
                      "status": {"conditions": [{**_CONDITION, "type": "ResolutionFailed", "status": "True"}], "installedCSV": "alpha.v1"}}],
    "Job": [{"metadata": _meta("job"), "status": {"failed": 1, "conditions": [{**_CONDITION, "type": "Failed", "status": "True"}]}}],
    "ClusterCatalog": [{"metadata": _meta("openshift-redhat-operators"), "spec": {"source": {"type": "Image", "image": {"ref": wanted.IMAGE}}}, "status": {"conditions": [_CONDITION]}}],
    "Image": [{"metadata": _meta("cluster"), "spec": {"additionalTrustedCA": {"name": "ca"}, "registrySources": {"blockedRegistries": ["mirror.example"], "allowedRegistries": ["a"]}}}],
    "ConfigMap": [{"metadata": _meta("ca"), "data": {"mirror.example..5000": "pem"}}],
    "Secret": [{"metadata": _meta("hub-import-record"), "data": {}}],
    "Proxy": [{"metadata": _meta("cluster"), "spec": {"httpsProxy": "http://p"}, "status": {"httpsProxy": "http://p", "noProxy": ".svc,10.0.0.0/8"}}],
    "Infrastructure": [{"metadata": _meta("cluster"), "status": {"controlPlaneTopology": "External"}}],
}  # fmt: skip


class _Cluster:
    """Gives the objects of one input, checked as the client checks answers."""

    server, context = "https://api.cluster.test:6443", "a"

    def __init__(self, objects: dict[str, Any]) -> None:
        self._objects = objects

    def _checked(self, body: Any) -> dict[str, Any]:
        try:
            return checked(body)
        except (ValueError, RecursionError) as error:
            raise ClusterError(f"no object: {error}") from error

    def list(self, kind: Any, namespace: str = "", labels: Any = None) -> Any:
        found = self._objects.get(kind.name, [])
        return [self._checked(each) for each in (found if isinstance(found, list) else [found])]

    def reduce(self, kind: Any, keep: Any, namespace: str = "", labels: Any = None) -> Any:
        return [keep(each) for each in self.list(kind)]

    def scan(self, kind: Any, keep: Any, query: Any) -> Any:
        return Scanned([each for each in map(keep, self.list(kind)[: query.most]) if each is not None], whole=True)

    def get(self, kind: Any, name: str, namespace: str = "") -> Any:
        found = self.list(kind)
        return found[0] if found else None

    def log(self, *_where: str, lines: int = 50) -> str:
        return "failed to verify certificate: x509: certificate signed by unknown authority\n"

    def review(self, kind: Any, body: Any) -> Any:
        return {"status": {"allowed": True}}


def _cluster(raw, _folder):
    try:
        objects = json.loads(raw)
    except (ValueError, RecursionError):
        return
    client: Any = _Cluster(objects if isinstance(objects, dict) else {})
    for finding in diagnose(collect(client, MARKET, [EXPECTED], Release(4, 18))):
        assert finding.lines
    for action in (
        lambda: preflight.circumstances(client, INTENT),
        lambda: preflight.rollout(client, INTENT, ()),
        lambda: undo(client, MARKET, dry_run=True, tell=str),
    ):
        with suppress(HubError):
            action()


TARGETS = (
    Target("volume", lambda: [_archive().read_bytes()], _volume, share=0.3),
    Target("parity", lambda: [_beside().read_bytes()], _parity, share=0.3),
    Target("answers of an API server", lambda: [json.dumps(_OBJECTS).encode()], _cluster, JSON, 0.2),
)
