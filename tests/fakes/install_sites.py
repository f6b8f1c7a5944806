"""A cluster that serves packages, and `install` on it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord
from importer.cluster import record
from importer.cluster.api.client import connect
from importer.cluster.undo import undo
from importer.configure.installing import install
from importer.configure.running import Asking
from importer.install.wanted import How, parse_all
from importer.settings import ClusterSettings
from tests.fakes.cluster import FakeCluster

SPACE = "openshift-config"


def package(name="foo", modes=("OwnNamespace", "AllNamespaces"), **stated):
    bundles = (BundleRecord(f"{name}.v2.0.0", "2.0.0", f"{name}.v1.0.0"), BundleRecord(f"{name}.v1.0.0", "1.0.0"))
    stated = {"suggested_namespace": f"{name}-system", "provided_apis": (f"{name.title()}.v1.example.com",), **stated}
    channel = ChannelRecord("stable", bundles[0].name, bundles, install_modes=modes, **stated)
    return PackageRecord(name, "stable", (channel,))


class Display:
    """What is shown of a wait: the last state of each operator, and the causes."""

    def __init__(self):
        self.states, self.found = {}, []

    def rows(self, rows, now_s):
        self.states |= {row.check.subject: row.check.text for row in rows}

    def finding(self, finding):
        self.found.append(finding)

    def end(self):
        pass


class Site:
    """A cluster that serves packages, and `install` on it, with a clock that a wait moves."""

    def __init__(self, folder, release="4.18", packages=()):
        self.cluster = FakeCluster(release, tls=False)
        self.cluster.play_installs(*(packages or [package()]))
        self.folder, self.display, self.told, self.questions = folder, Display(), [], []
        self.now = 0.0
        self.agrees = True

    def __enter__(self):
        self.cluster.__enter__()
        self.kubeconfig = self.cluster.kubeconfig(self.folder)
        return self

    def __exit__(self, *what):
        self.cluster.__exit__(*what)

    def install(self, *texts, inventory=None, dry_run=False, **how):
        settings = ClusterSettings(self.kubeconfig, None, dry_run=dry_run, timeout_s=40)
        asking = Asking(self.told.append, self.agree, self.display, clock=lambda: self.now, sleep=self.sleep)
        return install(settings, parse_all(texts), How(**how), inventory, asking)

    def agree(self, would):
        self.questions.append(would)
        return self.agrees

    def sleep(self, seconds):
        self.now += seconds

    def undo(self, *, dry_run=False):
        with connect(self.kubeconfig, None) as client:
            return undo(client, SPACE if self.cluster.release else "olm", dry_run=dry_run, tell=lambda _line: None)

    def versions(self):
        """Return the version of every object, but for the catalog, which OLM starts by itself."""
        return {key: version for key, version in self.cluster.versions().items() if "index" not in key}

    def record(self):
        with connect(self.kubeconfig, None) as client:
            return record.load(client, SPACE)

    def state(self):
        """Return the objects that are not of OLM or the cluster itself."""
        left_out = {"Pod", "Event", "InstallPlan", "Secret", "ClusterServiceVersion", "Service", "ConfigMap"}
        return sorted(
            f"{key.kind.kind} {key.namespace}/{key.name}"
            for key in self.cluster.store.all_keys()
            if key.kind.kind not in left_out and (key.kind.kind, key.name) != ("ServiceAccount", "default")
        )


@contextmanager
def sites(folder):
    """Give what starts sites, all of which end together."""
    with ExitStack() as opened:
        yield lambda *args, **how: opened.enter_context(Site(folder, *args, **how))
