"""From an inventory to a cluster: the objects for a release are accepted by it, to the last field."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.archive.inventory import CatalogRecord, ImageKind, ImageRecord, Inventory
from common.oci.image import Digest
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import has_icsp, release_of, running_version
from importer.cluster.apply import apply
from importer.cluster.readiness.readiness import ExpectedCatalog, offers
from importer.cluster.readiness.wait import Lines, wait_healthy
from importer.cluster.resources.build import ResourceOptions, build
from importer.cluster.resources.names import name_catalogs
from importer.mapping import Mirror, map_catalog, map_images
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.wanted import CA, mirror_rules, package
from tests.samples import RELEASES

MIRROR = Mirror.parse("mirror.example:5000/hub")
OPTIONS = ResourceOptions(registry_ca=CA, image_registry_emptydir=True)
PACKAGES = (package("alpha"), package("beta"))
INDEX = "registry.redhat.io/redhat/redhat-operator-index:v4.18"


def digest(letter: str) -> Digest:
    return Digest("sha256:" + letter * 64)


def image(source: str, content: Digest, kind: ImageKind, *needed_by: str) -> ImageRecord:
    media_type = "application/vnd.oci.image.manifest.v1+json"
    return ImageRecord(source, content, media_type, kind, ("linux/amd64",), complete=True, needed_by=needed_by, size=1)


def inventory(*related: str) -> Inventory:
    """Return what an archive with one catalog carries."""
    catalog = CatalogRecord(INDEX, digest("a"), digest("b"), "redhat-operators", "sqlite", filtered=True, packages=PACKAGES)
    needed = "redhat-operators/alpha/alpha.v1.0.0"
    images = [image(INDEX, digest("b"), ImageKind.CATALOG)]
    images += [image(f"{name}@{digest('c')}", digest("c"), ImageKind.RELATED, needed) for name in related]
    return Inventory("", "", "", {}, (), (catalog,), tuple(images), {}, {}, (), ())


class Import:
    """An archive, and the cluster that it comes to."""

    def __init__(self, cluster: FakeCluster, folder: Path) -> None:
        self.cluster = cluster
        self.client = connect(cluster.kubeconfig(folder), None)
        self.release = release_of(running_version(self.client))

    def apply(self, carried: Inventory):
        images = map_images(carried, MIRROR)
        built = build(carried, images, MIRROR, self.release, OPTIONS, existing_icsp=has_icsp(self.client))
        assert [problem.message for problem in built.problems if problem.severity == "error"] == []
        return apply(self.client, built.resources, release=self.release, dry_run=False, tell=lambda _line: None)

    def wait(self, carried: Inventory) -> None:
        (catalog,) = carried.catalogs
        pinned = str(map_catalog(catalog, map_images(carried, MIRROR)).pinned)
        namespace = MARKETPLACE if self.release else "olm"
        expected = ExpectedCatalog(
            name_catalogs(carried, self.release, {})[0].name, namespace, pinned, offers(catalog.packages)
        )
        clock = FakeClock().clock
        how = {"timeout_s": 60, "display": Lines(lambda _line: None), "clock": clock.monotonic_s, "sleep": clock.sleep}
        wait_healthy(self.client, [expected], release=self.release, **how)


@pytest.fixture(params=[*RELEASES, None])
def imported(request, tmp_path: Path):
    with FakeCluster(request.param) as cluster:
        importing = Import(cluster, tmp_path)
        with importing.client:
            yield importing


def test_a_release_knows_every_field_and_becomes_healthy(imported):
    carried = inventory("registry.redhat.io/ubi9/ubi", "quay.io/x/y")
    imported.cluster.catalog_contents[digest("b")] = PACKAGES
    imported.apply(carried)
    imported.wait(carried)
    assert imported.cluster.pruned == []
    before = imported.cluster.versions()
    assert imported.apply(carried).changed == ()
    assert imported.cluster.versions() == before


def test_a_later_archive_adds_its_rules_and_takes_none(imported):
    imported.apply(inventory("registry.redhat.io/ubi9/ubi"))
    imported.apply(inventory("registry.redhat.io/ubi9/other"))
    rules = [
        rule["source"]
        for kind, field in (
            ("ImageContentSourcePolicy", "repositoryDigestMirrors"),
            ("ImageDigestMirrorSet", "imageDigestMirrors"),
        )
        for name in imported.cluster.names(kind)
        for rule in imported.cluster.get(kind, name)["spec"][field]
    ]
    wanted = ["registry.redhat.io/ubi9/ubi", "registry.redhat.io/ubi9/other"]
    assert rules == (wanted if imported.release else [])


@pytest.mark.parametrize(("release", "kind"), [("4.14", "ImageContentSourcePolicy"), ("4.15", "ImageDigestMirrorSet")])
def test_a_policy_that_exists_decides_the_kind_before_4_15(tmp_path, release, kind):
    with FakeCluster(release) as cluster:
        cluster.put(dict(mirror_rules("ImageContentSourcePolicy", "theirs", old="old").body))
        importing = Import(cluster, tmp_path)
        with importing.client:
            importing.apply(inventory("registry.redhat.io/ubi9/ubi"))
        assert "hub-redhat-operators" in cluster.names(kind)
        assert cluster.names("ImageDigestMirrorSet") == (["hub-redhat-operators"] if release == "4.15" else [])
