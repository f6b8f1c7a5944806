"""A cluster whose nodes pull, with pull tests on it: in one process, by a clock that waiting moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from importer.cluster.api.client import connect
from importer.cluster.record import PullImage
from importer.cluster.release import Release
from importer.diagnose.collect import collect
from importer.pulls.objects import NAME, Owner
from importer.pulls.testing import Patience, run
from tests.fakes.cluster import FakeCluster

DIGEST = f"sha256:{'a' * 64}"
IMAGE = f"registry.redhat.io/ubi/tiny@{DIGEST}"
IMAGES = (PullImage("amd64", IMAGE, 10), PullImage("arm64", IMAGE, 10))
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Killed(BaseException):
    """Where the process would have ended."""


class Dying:
    """A client whose process is killed before a request, or after it; from then on it makes no request."""

    def __init__(self, client, left, *, after=False):
        self._client, self._left, self._after = client, left, after

    def __getattr__(self, name):
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def request(*args, **kwargs):
            self._left -= 1
            if self._left < 0 and not (self._after and self._left == -1):
                raise Killed
            answer = found(*args, **kwargs)
            if self._left < 0:
                raise Killed
            return answer

        return request


class Site:
    """A cluster whose nodes have a mirror rule for IMAGE, and pull tests on it with a clock that waiting moves."""

    def __init__(self, folder, release="4.18", policy="", rules=True):
        self.cluster = FakeCluster(release, tls=False)
        self.cluster.mco_reads = self.cluster.pool_reads = 0
        self.release = Release.parse(release) if release else None
        self.folder, self.now = folder, 0.0
        self.on_sleep = lambda: None
        if release and rules:
            self.rule(policy)

    def rule(self, policy=""):
        newer = any(each.kind == "ImageDigestMirrorSet" for each in self.cluster.kinds)
        kind, field = (
            ("ImageDigestMirrorSet", "imageDigestMirrors") if newer else ("ImageContentSourcePolicy", "repositoryDigestMirrors")
        )
        rule = {"source": "registry.redhat.io/ubi", "mirrors": ["mirror.example.com:5000/x/ubi"]}
        rule |= {"mirrorSourcePolicy": policy} if policy else {}
        self.cluster.put({"kind": kind, "metadata": {"name": "hub-x"}, "spec": {field: [rule]}}, "hub-import")
        self.cluster.simulator.wrote(kind)

    def __enter__(self):
        self.cluster.__enter__()
        self.kubeconfig = self.cluster.kubeconfig(self.folder)
        return self

    def __exit__(self, *what):
        self.cluster.__exit__(*what)

    def owner(self, run="r1", host="here", alive=lambda _process: False, now=NOW):
        return Owner(run, host, 7, lambda: now + timedelta(seconds=self.now), alive)

    def sleep(self, seconds):
        self.now += seconds
        self.on_sleep()

    def test(self, images=IMAGES, owner=None, client=None):
        with connect(self.kubeconfig, None) as own:
            patience = Patience(poll_s=10.0, clock=lambda: self.now, sleep=self.sleep)
            place = "openshift-marketplace" if self.release else "olm"
            look = lambda: collect(own, place, (), self.release, workloads=False)  # noqa: E731
            return run(
                client(own) if client else own, self.release, images, look, owner=owner or self.owner(), patience=patience
            )

    @property
    def left(self):
        """What is left of pull tests."""
        pods = [key for key in self.cluster.store.all_keys() if key.kind.kind == "Pod" and key.namespace == NAME]
        return [key.name for key in pods], NAME in self.cluster.namespaces()
