"""Answers that no API server gives: a ClusterError, a finding or a state; nothing else is raised."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest

from common.archive.inventory import CatalogRecord
from common.errors import ClusterError
from common.oci.image import Digest
from common.olm.catalog_names import Identity
from importer.cluster import preflight
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import identify, mirror_rules
from importer.cluster.apply import apply
from importer.cluster.preflight import Intent
from importer.cluster.readiness.readiness import ExpectedCatalog, offers
from importer.cluster.readiness.wait import wait_healthy
from importer.cluster.record import Recorder, expected_catalogs, load, record_namespace
from importer.cluster.release import Release
from importer.cluster.removal.namespaces import what_is_in
from importer.cluster.undo import undo
from importer.cluster.writing import Writer
from importer.diagnose.collect import collect
from importer.diagnose.rules import diagnose
from importer.install.planning import plan
from importer.install.progress import Progress
from importer.install.reading import offered
from importer.install.wanted import How, Wanted
from importer.install.writing import write
from importer.operators.findings import Allowed, findings
from importer.operators.outlook import Offering, Outlook
from importer.operators.reading import read
from importer.operators.table import make
from tests.fakes import wanted
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fuzz.mutation import mutated, mutated_json
from tests.fuzz.running import fuzz

NAME = "hub-redhat-operators"
RELEASE = Release(4, 18)
PACKAGES = (wanted.package("alpha"), wanted.package("beta"))
RULES = tuple((f"registry.redhat.io/{name}", f"mirror.example:5000/{name}") for name in ("ubi", "web"))
EXPECTED = ExpectedCatalog(NAME, MARKETPLACE, wanted.IMAGE, offers(PACKAGES), RULES)
RESOURCES = [
    wanted.operator_hub(),
    wanted.mirror_rules("ImageDigestMirrorSet"),
    wanted.cluster_catalog(),
    *wanted.default_catalogs_off(),
    wanted.catalog_source(),
]
IDENTITY = Identity("index", "redhat/index", "v4.18", "registry.redhat.io", "registry.redhat.io/redhat/index:v4.18")
CARRIED = CatalogRecord("index", None, Digest(wanted.DIGEST), "index", "file-based", filtered=True, packages=PACKAGES[:1])
OFFERED = Offering("index", (MARKETPLACE, NAME), CARRIED, IDENTITY)
INTENT = Intent(RESOURCES, RELEASE, "mirror.example:5000", (wanted.IMAGE,), (wanted.IMAGE,))


class Quiet:
    """A display of a wait that shows nothing."""

    def rows(self, rows, now_s):
        assert all(row.check.text for row in rows)

    def finding(self, finding):
        assert finding.lines

    def end(self):
        pass


def waiting(client):
    clock = itertools.count(0.0, 10.0)
    wait_healthy(
        client,
        [EXPECTED],
        release=RELEASE,
        timeout_s=20.0,
        display=Quiet(),
        clock=lambda: next(clock),
        sleep=lambda _seconds: None,
    )


def diagnosing(client):
    identity = identify(client)
    expected = expected_catalogs(client, record_namespace(client))
    for finding in diagnose(collect(client, MARKETPLACE, expected or [EXPECTED], identity.release)):
        assert finding.lines


def checking(client):
    list(preflight.permissions(client, INTENT))
    preflight.circumstances(client, INTENT)
    seen = read(client, MARKETPLACE, RELEASE)
    outlook = Outlook([OFFERED], MARKETPLACE, seen.sources, seen.sources.bodies)
    list(findings(seen, outlook, make(seen, outlook), Allowed()))
    changes = apply(client, RESOURCES, release=RELEASE, dry_run=True, tell=str, recorder=None).changes
    preflight.rollout(client, INTENT, changes)
    mirror_rules(client, RELEASE)


def undoing(client):
    load(client, "openshift-config")
    undo(client, "openshift-config", dry_run=True, tell=str)


def installing(client):
    """Choose places, foresee the writes, and look at how far operators are, by OLM and by OLM v1."""
    offers_ = offered(client, RELEASE, None)
    for how in (How(), How(olm_v1=True)):
        installation, said = plan(client, RELEASE, [Wanted("alpha")], how, offers_)
        assert all(each.lines for each in said)
        write(Writer(client, server_side=True, dry_run=True, tell=str), installation)
        for check in Progress(client, installation).checks().values():
            assert all(each.text for each in check())
    what_is_in(client, MARKETPLACE)


VERBS = [diagnosing, waiting, checking, undoing, installing]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A cluster on which an import has ended, with a paused pool, a Subscription and a story of a pod."""
    with (
        FakeCluster("4.18", tls=False) as cluster,
        connect(cluster.kubeconfig(tmp_path_factory.mktemp("site")), None) as client,
    ):
        cluster.catalog_contents[wanted.DIGEST] = PACKAGES
        cluster.ready_reads = 0
        recorder = Recorder(client, record_namespace(client))
        apply(client, RESOURCES, release=RELEASE, dry_run=False, tell=str, recorder=recorder)
        recorder.expect([EXPECTED])
        metadata = {"name": "global-operators", "namespace": "openshift-operators"}
        cluster._ensure_namespace("openshift-operators")
        group = {"metadata": metadata, "spec": {"selector": {"matchLabels": {"a": "b"}}}, "status": {"namespaces": [""]}}
        cluster.put({"kind": "OperatorGroup", **group}, "someone")
        yield cluster, client


@pytest.mark.parametrize("verb", VERBS)
def test_answers_of_another_shape(site, verb):
    cluster, client = site
    before = len(cluster.log)
    cluster.changed_answer = None
    with suppress(ClusterError):  # of a cluster that is not healthy; what counts is the number of requests
        verb(client)
    requests = len(cluster.log) - before

    def check(chance):
        chosen, seen = chance.randrange(requests), itertools.count()

        def change(_request, body):
            if next(seen) != chosen:
                return body
            return mutated_json(body, chance) if chance.random() < 0.9 else mutated(body, chance)

        cluster.changed_answer = change
        try:
            verb(client)
        finally:
            cluster.changed_answer = None

    fuzz(verb.__name__, 12, check)
