"""Real catalogs through the commands: malformed ones completely, random selections with every image that they need."""

from __future__ import annotations

import io
import json
import lzma
import random
import tarfile
from dataclasses import replace

import pytest

from common.oci.reference import Reference
from common.serialization import load_yaml_documents
from exporter.catalog.readers import file_based
from exporter.catalog.related_images import csvs_of, images_in_csv, images_of
from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS, bundle_blob, catalog_of, channel_blob, entry, expected, package_blob
from tests.fakes.commands import run
from tests.fakes.registry import FakeRegistry
from tests.samples import more

pytestmark = pytest.mark.integration
PACKAGES = ["openshift-cert-manager-operator", "aws-load-balancer-operator"]


@pytest.fixture(scope="module")
def folders():
    """The files of the real bundle folders, by bundle."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress((CATALOGS / "bundles.tar.xz").read_bytes()))) as tar:
        for member in tar:
            if member.isreg():
                _, package, version, *rest = member.name.split("/")
                found.setdefault(f"{package}/{version}", {})["/".join(rest)] = tar.extractfile(member).read()
    return found


def whole(text):
    """Return a reference as the inventory writes it."""
    reference = Reference.parse(text.strip())
    return str(reference if reference.tag or reference.digest else replace(reference, tag="latest"))


@pytest.mark.parametrize("name", sorted(expected("bundles.json")))
def test_the_images_of_real_bundles(folders, name):
    """All that opm finds, and the ones that it does not look at: those in environment variables."""
    wanted = expected("bundles.json")[name]
    resources = [
        one
        for path, raw in sorted(folders[name].items())
        if path.startswith("manifests/")
        for one in load_yaml_documents(raw, path, forgiving=True)
    ]
    bundle = catalog_of(
        package_blob("p"), channel_blob("stable", [entry("p.v1")], "p"), bundle_blob("p.v1", "1.0.0", "p", image="x.y/p:v1")
    )
    named = [one for csv in csvs_of(resources) for one in images_in_csv(csv)]
    found, problems = images_of(bundle.packages["p"].bundles["p.v1"], named)
    ours = {str(image.reference) for image in found} - {"x.y/p:v1"}
    listed = {one["image"] for one in wanted["opm_related_images"]} - {""}
    theirs = {whole(one) for one in listed if "community-operator-pipeline-prod" not in one}  # without the bundle image itself
    variables = {whole(one) for each in ("related_image_env", "other_env_images") for one in wanted[each].values()}
    assert theirs <= ours
    assert variables <= ours
    recovered = {whole(p.message.rpartition(" ")[2]) for p in problems if p.code == "related-image-recovered"}
    assert ours - theirs - variables == recovered, "no image without a source, except those under `value`"


def test_a_catalog_with_images_under_value_exports_completely(tmp_path):
    content = sources.from_directory(CATALOGS / "fbc" / "malformed-bundle-object", size=2_000)
    with FakeRegistry() as registry:
        content.seed(f"http://{registry.host}")
        (tmp_path / "registries.conf").write_text(content.registries_conf(registry.host, insecure=True))
        done = run(
            *(
                "hub-export",
                "create",
                "--catalog",
                sources.CATALOG,
                "--full",
                "--registries-conf",
                tmp_path / "registries.conf",
            ),
            *("--signatures", "ignore", "--output", tmp_path / "out", "--format", "json"),
        )
    recovered = [one for one in done.json["problems"] if one["code"] == "related-image-recovered"]
    assert recovered
    assert all("is under `value`, not `image`; carried nevertheless: " in one["message"] for one in recovered)
    inventory = json.loads((tmp_path / "out/inventory.json").read_bytes())
    sources_of = {one["source"] for one in inventory["images"]}
    assert {whole(one["message"].rpartition(" ")[2]) for one in recovered} <= sources_of
    assert not [one for one in inventory["images"] if not one["source"].strip()]


@pytest.fixture(scope="module")
def community(tmp_path_factory):
    home = tmp_path_factory.mktemp("community")
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=PACKAGES, size=500)
    with FakeRegistry() as registry:
        content.seed(f"http://{registry.host}")
        (home / "registries.conf").write_text(content.registries_conf(registry.host, insecure=True))
        yield home, content


@pytest.mark.parametrize("seed", [0, *more(range(1, 8))])
def test_every_image_that_a_kept_bundle_needs_is_in_the_plan(community, seed):
    home, content = community
    catalog = file_based.load(sorted(content.files.items()))
    chance = random.Random(seed)
    asked = []
    for name in chance.sample(PACKAGES, chance.randint(1, 2)):
        package = catalog.packages[name]
        versions = sorted({b.version for b in package.bundles.values() if b.version}, key=lambda v: v.key)
        channel = chance.choice([package.default_channel, ""])
        asked += ["--package", f"{name}{':' + channel if channel else ''}@{chance.choice(versions)}.."]
    done = run(
        *("hub-export", "plan", "--catalog", sources.CATALOG, *asked, "--registries-conf", home / "registries.conf"),
        *("--signatures", "ignore", "--format", "json", "--explain"),
    )
    if done.status == 2:
        assert "nothing is in the range" in done.stderr or "default channel" in done.stderr
        return
    assert done.status in (0, 3), done.stderr  # images by tag are not in this registry: in the plan, with a problem
    carried = {one["source"] for one in done.json["images"]}
    kept = {(one["package"], one["bundle"]) for one in done.json["reasons"] if one["kept"]}
    assert kept
    for package, name in kept:
        for image in images_of(catalog.packages[package].bundles[name])[0]:
            assert str(image.reference) in carried, f"{package}/{name}"
    listed = {b["name"] for c in done.json["catalogs"] for p in c["packages"] for ch in p["channels"] for b in ch["bundles"]}
    assert listed == {name for _, name in kept}
