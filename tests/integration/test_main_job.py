"""The main job over real servers: docker-registry with TLS and htpasswd on both sides, skopeo as the witness."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from common.oci.reference import Reference
from tests.fakes import image_readers, sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import Result, run
from tests.fakes.servers import PASSWORD, USER, Server, docker_registry, require
from tests.fakes.sources import Sources
from tests.samples import more

pytestmark = pytest.mark.integration

PACKAGE = "openshift-cert-manager-operator"
CHANNEL = "stable-v1"
EPOCH = {"SOURCE_DATE_EPOCH": "1767225600"}


@dataclass(frozen=True)
class World:
    """Both sides of the gap."""

    source: Server
    mirror: Server
    sources: Sources
    home: Path

    @property
    def online(self) -> dict[str, str]:
        return {
            **EPOCH,
            "HUB_EXPORT_AUTHFILE": str(self.home / "source.json"),
            "HUB_EXPORT_CA": str(self.source.ca),
            "HUB_EXPORT_REGISTRIES_CONF": str(self.home / "registries.conf"),
        }

    @property
    def sealed(self) -> dict[str, str]:
        return {"HUB_IMPORT_AUTHFILE": str(self.home / "mirror.json"), "HUB_IMPORT_CA": str(self.mirror.ca)}

    def create(self, output: Path, *arguments: str | Path, fresh: bool = False) -> Result:
        chosen = arguments or ("--catalog", sources.CATALOG, "--package", f"{PACKAGE}:{CHANNEL}")
        return run("hub-export", "create", *chosen, "--output", output, env=self.online, fresh=fresh)

    def push(self, *arguments: str | Path, prefix: str = "") -> Result:
        return run(
            "hub-import", "push", *arguments, "--registry", f"{self.mirror.host}{prefix}", "--format", "json", env=self.sealed
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    home = tmp_path_factory.mktemp("world")
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE, "rhtpa-operator"])
    with (
        docker_registry(home, tls=True, htpasswd=True, name="source") as source,
        docker_registry(home, tls=True, htpasswd=True, name="mirror") as mirror,
    ):
        content.seed(f"https://{source.host}", login=(USER, PASSWORD), ca=source.ca)
        (home / "registries.conf").write_text(content.registries_conf(source.host))
        for server, name in ((source, "source.json"), (mirror, "mirror.json")):
            auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            (home / name).write_text(json.dumps({"auths": {server.host: {"auth": auth}}}))
        yield World(source, mirror, content, home)


@pytest.fixture(scope="module")
def archive(world, tmp_path_factory):
    output = tmp_path_factory.mktemp("archive") / "out"
    result = world.create(output)
    assert result.status == 0, result.stderr
    return output


def inventory_of(archive: Path):
    return json.loads((archive / "inventory.json").read_bytes())


def test_after_push_skopeo_finds_the_same_digests_on_the_mirror(world, archive, tmp_path):
    pushed = world.push(archive, prefix="/ocp")
    assert pushed.status == 0, pushed.stderr
    assert pushed.json["ok"] is True
    images = {image["kind"]: image for image in inventory_of(archive)["images"]}
    indexed = next(i for i in inventory_of(archive)["images"] if len(i["platforms"]) > 1 and i["kind"] == "related")
    for image in (images["bundle"], indexed, images["catalog"]):
        repository = Reference.parse(image["source"]).repository
        copy = tmp_path / image["digest"][7:]
        subprocess.run(
            [
                require("skopeo"),
                "copy",
                "--all",
                "--preserve-digests",
                "--src-cert-dir",
                str(_cert_dir(world.mirror, tmp_path)),
                "--src-creds",
                f"{USER}:{PASSWORD}",
                f"docker://{world.mirror.host}/ocp/{repository}@{image['digest']}",
                f"dir:{copy}",
            ],
            check=True,
            capture_output=True,
        )
        subprocess.run(
            ["sh", "-c", f"echo {image['digest'][7:]}  {copy}/manifest.json | sha256sum -c"], check=True, capture_output=True
        )
    assert images["catalog"]["digest"] == inventory_of(archive)["catalogs"][0]["image"]


@pytest.mark.parametrize("platform", ["amd64", *more(["arm64"])])
def test_the_catalog_on_the_mirror_shows_exactly_the_selection_to_a_runtime_and_to_olm_v1(world, archive, tmp_path, platform):
    assert world.push(archive, prefix="/seen").status == 0
    (catalog,) = inventory_of(archive)["catalogs"]
    reference = f"docker://{world.mirror.host}/seen/redhat/redhat-operator-index@{catalog['image']}"
    skopeo = [require("skopeo"), "--override-arch", platform, "copy", "--src-cert-dir", str(_cert_dir(world.mirror, tmp_path))]
    subprocess.run(
        [*skopeo, "--src-creds", f"{USER}:{PASSWORD}", reference, f"dir:{tmp_path / 'image'}"], check=True, capture_output=True
    )
    layers = image_readers.layers_of(tmp_path / "image")
    runtime = {path: raw for path, raw in image_readers.runtime(layers).items() if path.startswith("configs/")}
    assert runtime == image_readers.olm_v1(layers, "/configs")
    assert set(runtime) == {f"configs/{PACKAGE}/catalog.json"}
    blobs = [msgspec.json.decode(line) for line in _objects(runtime[f"configs/{PACKAGE}/catalog.json"])]
    (package,) = catalog["packages"]
    assert {b["name"] for b in blobs if b["schema"] == "olm.channel"} == {c["name"] for c in package["channels"]} == {CHANNEL}
    carried = {b["name"] for c in package["channels"] for b in c["bundles"]}
    assert {b["name"] for b in blobs if b["schema"] == "olm.bundle"} == carried == {"cert-manager-operator.v1.20.0"}
    assert len(image_readers.olm_v1(layers[:-1], "/configs")) > 3, "the base had more packages than the selection"
    config = json.loads((tmp_path / "image" / _config_of(tmp_path / "image")).read_bytes())
    assert config["config"]["Cmd"] == ["serve", "/configs"]
    assert config["config"]["Entrypoint"] == sources.OPM
    assert config["architecture"] == platform


def _objects(stream: bytes) -> list[bytes]:
    decoder, text, found = json.JSONDecoder(), stream.decode().lstrip(), []
    while text:
        value, end = decoder.raw_decode(text)
        found.append(json.dumps(value).encode())
        text = text[end:].lstrip()
    return found


def _config_of(folder: Path) -> str:
    return json.loads((folder / "manifest.json").read_bytes())["config"]["digest"].partition(":")[2]


def _cert_dir(server: Server, tmp_path: Path) -> Path:
    directory = tmp_path / "certs"
    directory.mkdir(exist_ok=True)
    (directory / "ca.crt").write_bytes(server.ca.read_bytes())
    return directory


def test_a_second_push_asks_for_manifests_only(world, archive):
    assert world.push(archive, prefix="/twice").status == 0
    before = world.mirror.log.stat().st_size
    again = world.push(archive, prefix="/twice")
    assert (again.status, again.json["uploaded"], again.json["bytes"]) == (0, 0, 0)
    log = world.mirror.log.read_text()[before:]
    asked = [line.split('"')[1] for line in log.splitlines() if '"HEAD ' in line or '"GET ' in line or '"P' in line]
    assert len(asked) > len(inventory_of(archive)["images"])
    assert not [request for request in asked if not request.startswith("HEAD ") and not request.startswith("GET /v2/ ")]
    assert not [request for request in asked if "/blobs/" in request]


def test_two_exports_are_identical_files(world, archive, tmp_path):
    assert world.create(tmp_path / "again", fresh=True).status == 0  # with another hash seed
    names = sorted(path.name for path in archive.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in names:
        assert (archive / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_standard_tools_accept_every_volume_and_open_the_layout(world, archive, tmp_path):
    volumes = sorted(archive.glob("volume-*.tar.zst"))
    assert volumes
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=archive, check=True, capture_output=True)
    layout = tmp_path / "layout"
    layout.mkdir()
    for volume in volumes:
        subprocess.run([require("zstd"), "-t", volume], check=True, capture_output=True)
        subprocess.run(["tar", "--zstd", "-tf", volume], check=True, capture_output=True)
        subprocess.run([require("bsdtar"), "-tf", volume], check=True, capture_output=True)
        subprocess.run(["tar", "--zstd", "-xf", volume, "-C", layout], check=True, capture_output=True)
    oci = next(i for i in inventory_of(archive)["images"] if i["mediaType"].startswith("application/vnd.oci.image.manifest"))
    subprocess.run(
        [require("skopeo"), "copy", f"oci:{layout}:{oci['source']}", f"dir:{tmp_path / 'image'}"],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        ["sh", "-c", f"echo {oci['digest'][7:]}  {tmp_path}/image/manifest.json | sha256sum -c"],
        check=True,
        capture_output=True,
    )


def test_small_volumes_load_in_any_order(world, tmp_path):
    everything = (
        "--catalog",
        sources.CATALOG,
        "--package",
        PACKAGE,
        "--package",
        "rhtpa-operator",
        "--full",
        "--volume-size",
        "1MiB",
    )
    result = world.create(tmp_path / "out", *everything)
    assert result.status == 0, result.stderr
    volumes = sorted((tmp_path / "out").glob("volume-*"))
    assert len(volumes) >= 3
    assert all(volume.stat().st_size <= 1 << 20 for volume in volumes)
    for number, volume in enumerate(reversed(volumes), 1):
        pushed = world.push(volume, prefix="/volumes")
        assert pushed.status == (0 if number == len(volumes) else 3), pushed.stderr
        assert bool(pushed.json["waitingFor"]) == (number < len(volumes))
        assert pushed.json["failed"] == 0
    assert world.push(tmp_path / "out", prefix="/volumes").json["uploaded"] == 0


def test_an_image_that_is_gone_does_not_stop_the_export(world, tmp_path):
    gone = next(r for r in world.sources.images if "jetstack-cert-manager-rhel9" in r.repository)
    with docker_registry(tmp_path, name="partial") as partial:
        world.sources.seed(f"http://{partial.host}", without=[gone.repository])
        (tmp_path / "registries.conf").write_text(world.sources.registries_conf(partial.host, insecure=True))
        env = {"HUB_EXPORT_REGISTRIES_CONF": str(tmp_path / "registries.conf")}
        flags = ("--catalog", sources.CATALOG, "--package", f"{PACKAGE}:{CHANNEL}")
        result = run("hub-export", "create", *flags, "--output", tmp_path / "out", env=env)
        strict = run("hub-export", "create", *flags, "--output", tmp_path / "strict", "--strict", env=env)
    assert result.status == 3, result.stderr
    (problem,) = [p for p in inventory_of(tmp_path / "out")["problems"] if p["code"] == "image-not-found"]
    assert gone.repository in problem["subject"]
    bundle = "redhat-operator-index/openshift-cert-manager-operator/cert-manager-operator.v1.20.0"
    assert bundle in problem["message"]
    assert problem["subject"] in result.stdout
    assert bundle in result.stdout
    assert run("hub-import", "verify", tmp_path / "out").status == 0
    assert strict.status == 1  # nothing was fetched: the problem was known before
    assert not (tmp_path / "strict").exists()


def test_layers_that_are_gone_leave_no_lie_behind(world, archive, tmp_path):
    carried = {image["source"] for image in inventory_of(archive)["images"]}
    lost = next(r for r in world.sources.images if "jetstack-cert-manager-rhel9" in r.repository and str(r) in carried)
    with docker_registry(tmp_path, name="partial") as partial:
        world.sources.seed(f"http://{partial.host}")
        parts = world.sources.images[lost]
        victim = (parts.manifests or (parts,))[0].layers[1]
        hexed = hashlib.sha256(victim).hexdigest()
        (partial.root / "docker/registry/v2/blobs/sha256" / hexed[:2] / hexed / "data").unlink()
        (tmp_path / "registries.conf").write_text(world.sources.registries_conf(partial.host, insecure=True))
        env = {"HUB_EXPORT_REGISTRIES_CONF": str(tmp_path / "registries.conf")}
        result = run(
            "hub-export",
            "create",
            "--catalog",
            sources.CATALOG,
            "--package",
            f"{PACKAGE}:{CHANNEL}",
            "--output",
            tmp_path / "out",
            env=env,
        )
    assert result.status == 3, result.stderr
    inventory = inventory_of(tmp_path / "out")
    assert inventory["blobs"][f"sha256:{hexed}"]["missing"] == "blob-unavailable"
    incomplete = [image["source"] for image in inventory["images"] if not image["complete"]]
    assert incomplete == [str(lost.pinned(lost.digest))]
    for volume in (tmp_path / "out").glob("volume-*"):
        subprocess.run([require("zstd"), "-t", volume], check=True, capture_output=True)
        subprocess.run(["tar", "--zstd", "-tf", volume], check=True, capture_output=True)
    pushed = world.push(tmp_path / "out", prefix="/incomplete")
    assert (pushed.status, pushed.json["failed"]) == (3, 0), pushed.stderr


def test_chosen_platforms_warn_at_once_and_a_registry_that_refuses_them_is_named(world, tmp_path):
    result = world.create(
        tmp_path / "out", "--catalog", sources.CATALOG, "--package", f"{PACKAGE}:{CHANNEL}", "--platform", "linux/amd64"
    )
    assert result.status == 0, result.stderr
    assert "[sparse-index]" in result.stdout
    catalog = next(i for i in inventory_of(tmp_path / "out")["images"] if i["kind"] == "catalog")
    assert catalog["platforms"] == ["linux/amd64"]
    assert "missingPlatforms" not in catalog
    sparse = [i["source"] for i in inventory_of(tmp_path / "out")["images"] if "missingPlatforms" in i]
    assert sparse
    pushed = world.push(tmp_path / "out", prefix="/sparse")
    assert pushed.status == 5
    assert {p["subject"] for p in pushed.json["problems"] if p["code"] == "sparse-index"} == set(sparse)
    assert all("--platform" in p["message"] for p in pushed.json["problems"])


def test_a_directory_becomes_an_image_on_a_base_and_is_called_by_its_own_name(world, tmp_path):
    (tmp_path / "mine").mkdir()
    for name, content in world.sources.files.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(content)
    chosen = ("--catalog", tmp_path / "mine", "--package", f"{PACKAGE}:{CHANNEL}", "--catalog-base", sources.CATALOG)
    result = world.create(tmp_path / "out", *chosen)
    assert result.status == 0, result.stderr
    (catalog,) = inventory_of(tmp_path / "out")["catalogs"]
    assert (catalog["name"], catalog["digest"]) == ("mine", None)
    record = next(i for i in inventory_of(tmp_path / "out")["images"] if i["kind"] == "catalog")
    assert "tag" not in record
    assert world.push(tmp_path / "out", prefix="/own").status == 0
    reference = f"docker://{world.mirror.host}/own/hub-airgap/mine@{catalog['image']}"
    flags = ["--creds", f"{USER}:{PASSWORD}", "--cert-dir", str(_cert_dir(world.mirror, tmp_path))]
    subprocess.run([require("skopeo"), "inspect", "--raw", *flags, reference], check=True, capture_output=True)


def test_plan_says_what_create_will_do(world, archive, tmp_path):
    chosen = (
        "--catalog",
        sources.CATALOG,
        "--package",
        f"{PACKAGE}:{CHANNEL}",
        "--explain",
        "--output",
        tmp_path / "plan.json",
    )
    planned = run("hub-export", "plan", *chosen, "--format", "json", env=world.online)
    assert planned.status == 0, planned.stderr
    written = json.loads((tmp_path / "plan.json").read_bytes())
    assert {key: value for key, value in written.items() if key != "making"} == planned.json
    made = inventory_of(archive)
    without_pieces = {digest: {k: v for k, v in blob.items() if k != "pieces"} for digest, blob in made["blobs"].items()}
    assert {**made, "blobs": without_pieces} == {
        k: v for k, v in planned.json.items() if k not in ("totals", "reasons", "operators", "sizes", "sharedBy")
    }
    assert planned.json["totals"]["blobs"] == len(made["blobs"])
    assert {reason["kept"] for reason in planned.json["reasons"]} == {True, False}
