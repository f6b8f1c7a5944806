"""Wrong input gets a clear error and the right exit code; nothing is left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes import factories, sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import BIN, run
from tests.fakes.servers import Server, docker_registry

HEAD = "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\n"
PACKAGE = "openshift-cert-manager-operator"


@dataclass(frozen=True)
class Side:
    """An open registry with a catalog, a closed one, and a finished archive."""

    open: Server
    closed: Server
    home: Path
    archive: Path

    @property
    def env(self) -> dict[str, str]:
        return {"HUB_EXPORT_REGISTRIES_CONF": str(self.home / "registries.conf")}

    def create(self, *arguments: str | Path, output: Path | None = None):
        return run("hub-export", "create", *arguments, "--output", output or self.home / "never", env=self.env)


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    home = tmp_path_factory.mktemp("side")
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE])
    with (
        docker_registry(home, name="open") as opened,
        docker_registry(home, tls=True, htpasswd=True, name="closed") as closed,
    ):
        content.seed(f"http://{opened.host}")
        factories.seed(f"http://{opened.host}", "some/image", factories.image(), tag="v1")
        (home / "registries.conf").write_text(content.registries_conf(opened.host, insecure=True))
        made = Side(opened, closed, home, home / "archive")
        chosen = ("--catalog", sources.CATALOG, "--package", PACKAGE, "--volume-size", "550kB")
        result = made.create(*chosen, output=made.archive)
        assert result.status == 0, result.stderr
        yield made
        assert not (home / "never").exists(), "a command that failed left its output directory behind"


def refused(result, status: int, *words: str) -> None:
    assert result.status == status, result.stderr
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_unreadable_yaml_names_file_and_line(side, tmp_path):
    (tmp_path / "set.yaml").write_text(HEAD + "mirror:\n  operators: [\n")
    refused(side.create(tmp_path / "set.yaml"), 2, "set.yaml:5", "not YAML")


def test_unknown_field_names_file_and_line(side, tmp_path):
    (tmp_path / "set.yaml").write_text(HEAD + "mirror:\n  operators:\n  - catalog: a.b/c\n    packagez: []\n")
    refused(side.create(tmp_path / "set.yaml"), 2, "set.yaml:6", "packagez", "packages")


def test_duplicate_key_names_file_and_line(side, tmp_path):
    (tmp_path / "set.yaml").write_text(HEAD + "mirror:\n  operators: []\n  operators: []\n")
    refused(side.create(tmp_path / "set.yaml"), 2, "set.yaml:5", "operators")


def test_a_platform_section_is_refused_by_line(side, tmp_path):
    (tmp_path / "set.yaml").write_text(
        HEAD + "mirror:\n  platform:\n    channels:\n    - {name: stable-4.18, minVersion: '4.18'}\n"
    )
    refused(side.create(tmp_path / "set.yaml"), 2, "set.yaml:6", "'4.18' is no version of a release")


def test_nothing_asked_for(side):
    refused(side.create(), 2, "--catalog")


def test_a_whole_catalog_wants_to_be_meant(side):
    refused(side.create("--catalog", sources.CATALOG), 2, "--heads", "--full")


def test_unknown_package_names_near_ones(side):
    refused(
        side.create("--catalog", sources.CATALOG, "--package", "cert-manager-operator"), 2, "cert-manager-operator", PACKAGE
    )


def test_unknown_channel_names_near_ones(side):
    refused(side.create("--catalog", sources.CATALOG, "--package", f"{PACKAGE}:stable"), 2, "stable-v1")


def test_unknown_version_lists_those_there_are(side):
    refused(side.create("--catalog", sources.CATALOG, "--package", f"{PACKAGE}@9.9.9"), 2, "9.9.9", "1.20.0")


def test_all_faults_of_a_selection_are_named_at_once(side, tmp_path):
    first = [{"name": "cert-manager-operator"}, {"name": PACKAGE, "channels": [{"name": "stable"}, {"name": "beta"}]}]
    second = [{"name": PACKAGE, "minVersion": "9.9.9"}, {"name": "nothing-like-it"}]
    operators = [
        {"catalog": sources.CATALOG, "packages": first},
        {"catalog": sources.CATALOG, "packages": second, "targetTag": "other"},
    ]
    document = {
        "apiVersion": "mirror.openshift.io/v2alpha1",
        "kind": "ImageSetConfiguration",
        "mirror": {"operators": operators},
    }
    (tmp_path / "set.yaml").write_text(json.dumps(document))
    words = (
        "the image set: 5 faults",
        f"catalog {sources.CATALOG}: package {PACKAGE}",
        "'cert-manager-operator'",
        "'stable'",
        "'beta'",
        "9.9.9",
        "'nothing-like-it'",
        "Correct them",
    )
    refused(side.create(tmp_path / "set.yaml"), 2, *words)
    for command in ("list", "plan"):
        refused(run("hub-export", command, tmp_path / "set.yaml", env=side.env), 2, *words)


def test_missing_credentials(side):
    result = side.create("--catalog", f"{side.closed.host}/a/b:v1", "--full", "--ca", side.closed.ca)
    refused(result, 5, "401", f"podman login {side.closed.host}", "--authfile")


def test_unknown_host(side):
    refused(side.create("--catalog", "registry.invalid/a/b:v1", "--full"), 5, "registry.invalid", "unknown host name")


def test_certificate_not_trusted(side):
    refused(side.create("--catalog", f"{side.closed.host}/a/b:v1", "--full"), 5, "certificate is not trusted", "--ca")


def test_catalog_image_without_catalog(side):
    result = side.create("--catalog", f"{side.open.host}/some/image:v1", "--full", "--insecure", side.open.host)
    refused(result, 2, "some/image:v1", "no catalog")


def test_mistyped_directory(side):
    refused(side.create("--catalog", "catalogs/redhat", "--full"), 2, "no such directory")


def test_directory_without_a_base_image(side):
    result = side.create("--catalog", CATALOGS / "fbc" / "redhat", "--package", PACKAGE)
    refused(result, 2, "--catalog-base")


CHOSEN = ("--catalog", sources.CATALOG, "--package", PACKAGE)


def test_a_finished_create_that_is_run_again_is_done(side):
    """A script that lost its connection in the last second has a whole archive."""
    before = {path.name: path.read_bytes() for path in side.archive.iterdir()}
    again = side.create(*CHOSEN, "--volume-size", "550kB", "--jobs", "2", output=side.archive)
    assert again.status == 0, again.stderr
    assert f"{side.archive} is already complete: the same request made it, and nothing was fetched\n" in again.stderr
    assert f"hub-import deploy {side.archive} " in again.stdout
    assert {path.name: path.read_bytes() for path in side.archive.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "difference"),
    [
        ((*CHOSEN, "--volume-size", "700kB"), "with volumes of another size"),
        *(
            pytest.param(*row, marks=pytest.mark.more)
            for row in [
                ((*CHOSEN, "--volume-size", "550kB", "--purpose", "x"), "with another --purpose"),
                ((*CHOSEN, "--volume-size", "550kB", "--name", "week-47"), "with another --name"),
                ((*CHOSEN, "--volume-size", "550kB", "--skip-dependencies"), "of another request"),
                ((*CHOSEN, "--volume-size", "550kB", "--parity", "5%"), "with "),
                ((*CHOSEN, "--volume-size", "550kB", "--sign", "KEY"), "not signed with this key"),
            ]
        ),
    ],
)
def test_a_finished_archive_is_not_taken_for_that_of_another_request(side, tmp_path, arguments, difference):
    before = {path.name: path.read_bytes() for path in side.archive.iterdir()}
    if "KEY" in arguments:
        assert run("hub-export", "keygen", tmp_path / "KEY").status == 0
        arguments = [tmp_path / "KEY.key" if each == "KEY" else each for each in arguments]
    refused(side.create(*arguments, output=side.archive), 2, f"holds a finished archive: {difference}", "--output")
    assert {path.name: path.read_bytes() for path in side.archive.iterdir()} == before


@pytest.mark.more
def test_a_finished_archive_without_one_of_its_volumes_is_not_complete(side, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(side.archive, copy)
    (copy / "volume-0002.tar.zst").unlink()
    refused(side.create(*CHOSEN, "--volume-size", "550kB", output=copy), 2, "volume-0002.tar.zst is no longer here")


def test_output_directory_with_another_archive(side):
    before = {path.name: path.read_bytes() for path in side.archive.iterdir()}
    result = side.create("--catalog", sources.CATALOG, "--package", PACKAGE, output=side.archive)
    refused(result, 2, "finished archive", "--output")
    assert {path.name: path.read_bytes() for path in side.archive.iterdir()} == before


def test_volumes_too_small_names_the_smallest_that_works(side):
    chosen = ("--catalog", sources.CATALOG, "--package", PACKAGE)
    result = side.create(*chosen, "--volume-size", "20kB")
    refused(result, 2, "too small", "--volume-size that works is")
    smallest = result.stderr.rpartition(" ")[2].strip().rstrip(".")
    assert side.create(*chosen, "--volume-size", smallest, output=side.home / "smallest").status == 0


def test_not_a_size(side):
    refused(side.create("--catalog", sources.CATALOG, "--package", PACKAGE, "--volume-size", "large"), 2, "not a size", "4GiB")


@pytest.mark.more
def test_too_little_space(side, tmp_path):
    mounted = "mount -t tmpfs -o size=768k none {0} && exec {1} create --catalog {2} --package {3} --output {0}/out"
    script = mounted.format(tmp_path, BIN / "hub-export", sources.CATALOG, PACKAGE)
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **side.env}
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 7, done.stderr
    assert "are free" in done.stderr
    assert "needs" in done.stderr


def damaged(side, tmp_path, name, change):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in side.archive.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    return copy


def test_truncated_volume(side, tmp_path):
    copy = damaged(side, tmp_path, "volume-0001.tar.zst", lambda raw: raw[: len(raw) // 2])
    result = run("hub-import", "verify", copy, "--format", "json")
    assert result.status == 4
    assert {"name": "volume-0001.tar.zst", "status": "damaged"} in result.json["volumes"]


def test_truncated_volume_alone(side, tmp_path):
    copy = damaged(side, tmp_path, "volume-0001.tar.zst", lambda raw: raw[: len(raw) // 2])
    refused(run("hub-import", "inspect", copy / "volume-0001.tar.zst"), 4, "volume-0001.tar.zst")


def test_missing_volume(side, tmp_path):
    copy = damaged(side, tmp_path, "SHA256SUMS", lambda raw: raw)
    (copy / "volume-0002.tar.zst").unlink()
    result = run("hub-import", "verify", copy, "--format", "json")
    assert result.status == 4
    assert {"name": "volume-0002.tar.zst", "status": "missing"} in result.json["volumes"]
    assert run("hub-import", "inspect", copy, "--format", "json").json["missing"] == ["volume-0002.tar.zst"]


def test_inventory_of_an_unknown_major_version(side, tmp_path):
    copy = damaged(side, tmp_path, "inventory.json", lambda raw: raw.replace(b"inventory.v1+json", b"inventory.v7+json"))
    refused(run("hub-import", "inspect", copy), 4, "format version 7")


def test_a_flipped_bit_is_found_and_named(side, tmp_path):
    inventory = json.loads((side.archive / "inventory.json").read_bytes())
    digest, blob = max(inventory["blobs"].items(), key=lambda item: item[1]["size"])
    piece = blob["pieces"][0]
    place = piece["offset"] + 14 + 3 + 100

    def flip(raw: bytes) -> bytes:
        return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]

    name = inventory["volumes"][piece["volume"] - 1]["name"]
    copy = damaged(side, tmp_path, name, flip)
    result = run("hub-import", "verify", copy, "--format", "json")
    assert result.status == 4
    (bad,) = result.json["blobs"]["bad"]
    assert (bad["digest"], bad["volume"], bad["offset"]) == (digest, name, piece["offset"])
    pushed = run(
        "hub-import", "push", copy, "--registry", f"{side.open.host}/mirror", "--insecure", side.open.host, "--format", "json"
    )
    assert pushed.status == 4
    assert any(digest in problem["message"] for problem in pushed.json["problems"])


def test_a_registry_that_is_no_name(side):
    refused(run("hub-import", "push", side.archive, "--registry", "BAD HOST"), 2, "not a registry", "HOST")


def test_a_mirror_that_is_not_there(side):
    refused(run("hub-import", "push", side.archive, "--registry", "localhost:1"), 5, "connection refused")


def test_no_archive(tmp_path):
    refused(run("hub-import", "verify", tmp_path), 2, "no archive")
    refused(run("hub-import", "verify", tmp_path / "nothing"), 2, "no such file")


def test_unknown_flag_and_missing_flag(side):
    assert run("hub-import", "push", side.archive).status == 2
    assert run("hub-import", "push", "--nonsense").status == 2


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("hub-export", "plan", "--image", "registry.test/a/b:v1", "--output", "-"), "--output"),
        (("hub-export", "plan", "--image", "registry.test/a/b:v1", "--report", "-"), "--report"),
        (("hub-export", "create", "--image", "registry.test/a/b:v1", "--output", "-"), "--output"),
        (("hub-import", "verify", ".", "--rerequest", "-"), "--rerequest"),
        (("hub-import", "probe", "--registry", "registry.test", "--output", "-"), "--output"),
        (("hub-import", "deploy", ".", "--registry", "registry.test", "--report", "-"), "--report"),
    ],
)
def test_standard_output_in_place_of_a_file_is_refused(tmp_path, arguments, option):
    done = run(*arguments, cwd=tmp_path)
    assert (done.status, f"{option} -: standard output is no file" in done.stderr) == (2, True), done.stderr
    assert not list(tmp_path.iterdir())
