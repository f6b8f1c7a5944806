"""`status ARCHIVE` on a site made by GitOps: the objects of `render`, applied by others, and no record of an import."""

from __future__ import annotations

import pytest

from importer.cli.cluster_tables import status_table
from importer.cluster.api.client import connect
from importer.cluster.apply import apply
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions, build
from importer.cluster.resources.mirror_rules import Scope
from importer.diagnose.health import examine
from importer.mapping import Mirror, map_images
from importer.settings import ClusterSettings
from tests.fakes.cluster import FakeCluster
from tests.fakes.inventories import A, B, catalog, image, inventory
from tests.fakes.wanted import package
from tests.samples import more

PACKAGES = (package("alpha"), package("beta"))
CARRIED = inventory(image(f"quay.io/x/alpha@{A}"), image(f"quay.io/x/beta@{A}"), catalogs=(catalog(packages=PACKAGES),))
MIRROR = Mirror.parse("mirror.example:5000/deep/hub")
RULES = "ImageDigestMirrorSet"


class Site:
    """A cluster that got the objects of `render` from Argo CD."""

    def __init__(self, folder, release="4.18", mirror=MIRROR, without=(), **options) -> None:
        self.cluster = FakeCluster(release, tls=False)
        self.folder, self.release = folder, Release.parse(release)
        self.cluster.catalog_contents[B] = PACKAGES
        self.cluster.ready_reads = self.cluster.mco_reads = self.cluster.pool_reads = 0
        asked = ResourceOptions(catalog_names={"": "mine"}, **options)
        built = build(CARRIED, map_images(CARRIED, mirror), mirror, self.release, asked)
        self.cluster.__enter__()
        wanted = [each for each in built.resources if each.kind not in without]
        with connect(self.cluster.kubeconfig(folder), None) as client:
            # Without a recorder, as `oc apply` of the files.
            apply(client, wanted, release=self.release, dry_run=False, tell=str, sleep=lambda _seconds: None)

    def health(self, carried=CARRIED):
        settings = ClusterSettings(kubeconfig=self.cluster.kubeconfig(self.folder))
        for _ in range(3):  # reads pass the time of the fake
            found = examine(settings, inventory=carried)
        return found


@pytest.fixture
def site(tmp_path):
    made = []

    def make(**how):
        made.append(Site(tmp_path, **how))
        return made[-1]

    yield make
    for each in made:
        each.cluster.__exit__(None, None, None)


def test_without_a_record_status_says_so_and_with_the_archive_it_compares(site):
    here = site()
    blind = here.health(None)
    assert (blind.healthy, blind.unrecorded) == (True, ["mine"])
    last = status_table(blind)[-1]
    assert last.startswith("healthy, as far as is known: no import recorded what mine should list; hub-import status ARCHIVE")
    seen = here.health()
    (expected,) = seen.expected
    assert (expected.name, expected.mirror) == ("mine", str(MIRROR))
    assert expected.rules == tuple((f"quay.io/x/{n}", f"{MIRROR}/x/{n}") for n in ("alpha", "beta"))
    assert (seen.healthy, seen.unrecorded, status_table(seen)[-1]) == (True, [], "healthy")


def test_what_the_cluster_lacks_of_the_archive_is_named(site):
    here = site()
    here.cluster.catalog_contents[B] = PACKAGES[:1]
    seen = here.health()
    assert not seen.healthy
    assert "missing beta" in "\n".join(status_table(seen))
    lacking = site(without=(RULES,)).health()
    assert {one.code for one in lacking.findings} == {"mirror-rules-missing"}
    absent = site(without=("CatalogSource",)).health()
    assert [each.name for each in absent.absent] == ["redhat-operators"]


@pytest.mark.parametrize(
    "how",
    [
        {"mirror_scope": Scope.NAMESPACE},
        *more(
            [
                {"mirror": Mirror.parse("mirror.example")},
                {"mirror": Mirror.parse("m.example/hub", keep_source_host=True)},
                {"serve_catalog": True},
                {"release": "4.12"},
            ]
        ),
    ],
    ids=str,
)
def test_mirror_scope_and_address_are_found_on_the_cluster(site, how):
    """Neighbours: `status` has no option for what `render` was told."""
    seen = site(**how).health()
    assert seen.healthy, seen.findings
    assert seen.expected[0].rules
    assert seen.expected[0].mirror == str(how.get("mirror", MIRROR))
