"""`extract`: installer and client out of a carried release, as `oc adm release extract` takes them (extract_tools.go)."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from common.archive.reader import Archive
from common.errors import ArchiveIncompleteError, ExitCode
from common.oci.image import digest_of
from importer.mapping import Mirror
from importer.programs.extract import Wanted, extract
from tests.fakes import factories, releases
from tests.fakes.commands import run
from tests.fakes.install_config import check_fragment, check_registries_conf, mirror_of_release
from tests.fakes.openpgp import armored, signer
from tests.fakes.registry import FakeRegistry
from tests.fakes.release_hosts import ReleaseHosts
from tests.fakes.releases import IMAGE_MARKER, VERSION_MARKER

pytestmark = pytest.mark.integration
NAMES = ("cli", "cli-artifacts", "installer", "installer-artifacts")
MIRROR = Mirror.parse("mirror.example:5000/hub")


@dataclass
class Exports:
    """Archives of one publisher, and what it published."""

    folder: Path
    first: releases.Release
    then: releases.Release
    many: releases.Release

    def open(self, name: str) -> Archive:
        return Archive.open([self.folder / name])


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Three archives: a release; the next one, which leaves to it what did not change; one of several architectures, in volumes."""
    folder, key = tmp_path_factory.mktemp("exports"), signer()
    first = releases.release("4.12.0", names=NAMES)
    then = releases.release("4.12.1", names=NAMES, before=first, changed=("cli",))
    many = releases.multi("4.12.3", names=NAMES, architectures=("amd64", "arm64"))
    (folder / "key.asc").write_bytes(armored(key.key()))
    with FakeRegistry() as registry, ReleaseHosts() as hosts:
        (folder / "registries.conf").write_text(releases.registries_conf(registry.host, first))
        for each in (first, then, many):
            each.put(registry, signed=False)
            hosts.add(each, "stable-4.12", signer=key)
        access = ["--registries-conf", folder / "registries.conf", "--release-key", folder / "key.asc"]
        access += [part for store in hosts.stores for part in ("--signature-store", store)]

        def create(release, name, *more):
            source = f"{releases.PAYLOADS}@{release.digest}"
            done = run("hub-export", "create", *access, "--release-image", source, "--output", folder / name, *more)
            assert done.status == 0, done.stderr

        create(first, "first")
        create(then, "then", "--since", folder / "first")
        create(many, "many", "--volume-size", "331000")
        return Exports(folder, first, then, many)


def original(release, component, path, architecture="amd64"):
    """Return a file as its image has it."""
    parts = release.components[component]
    if isinstance(parts, factories.IndexParts):
        parts = next(each for each in parts.manifests if each.platform.endswith(architecture))
    return releases._files(component, release.version, architecture)[path] if parts else b""


def test_the_installer_names_the_payload_on_the_mirror_and_is_else_the_file_of_its_layer(exports, tmp_path):
    """`installer`, usr/bin/openshift-install: the payload by digest, and the version, in place of their markers."""
    archive = exports.folder / "first"
    done = run(
        "hub-import",
        "extract",
        "openshift-install",
        archive,
        "--registry",
        "mirror.example:5000/hub",
        "--output",
        tmp_path / "bin",
    )
    assert done.status == 0, done.stderr
    program = tmp_path / "bin" / "openshift-install"
    content = program.read_bytes()
    before = original(exports.first, "installer", "usr/bin/openshift-install")
    payload = f"mirror.example:5000/hub/openshift/release-images@{exports.first.digest}"
    assert content == before.replace(IMAGE_MARKER, payload.encode() + b"\0" + IMAGE_MARKER[len(payload) + 1 :]).replace(
        VERSION_MARKER, b"4.12.0\0" + VERSION_MARKER[7:]
    )
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert (
        tmp_path / "bin" / "openshift-install.sha256"
    ).read_text() == f"{hashlib.sha256(content).hexdigest()}  openshift-install\n"
    assert sorted(each.name for each in program.parent.iterdir()) == ["openshift-install", "openshift-install.sha256"]
    for shown in (payload, digest_of(content), f"in the image {digest_of(before)}", exports.first.component("installer")):
        assert shown in done.stdout
    again = run("hub-import", "extract", "openshift-install", archive, "--output", tmp_path / "bin", "--format", "json").json
    assert again["installs"] == exports.first.source
    assert again["unchangedSha256"] == digest_of(before)
    assert again["from"]["path"] == "usr/bin/openshift-install"
    assert (again["os"], again["arch"], again["problems"]) == ("linux", "amd64", [])


def test_the_client_gets_the_version_alone_and_programs_for_other_machines_are_those_of_the_artifacts(exports, tmp_path):
    archive = exports.open("first")
    done = extract(archive, Wanted("oc", mirror=MIRROR), tmp_path)
    content = (tmp_path / "oc").read_bytes()
    assert IMAGE_MARKER in content
    assert content.count(b"4.12.0\0") == 1
    assert (done.payload, done.exit_code) == ("", ExitCode.DONE)
    other = extract(archive, Wanted("oc", architecture="aarch64"), tmp_path)
    expected = original(exports.first, "cli-artifacts", "usr/share/openshift/linux_arm64/oc")
    assert (tmp_path / "oc").read_bytes() == expected
    # oc warns too where a program has no place for the version.
    assert [(each.severity, each.code) for each in other.problems] == [("warning", "program-unmarked")]
    mac = extract(archive, Wanted("openshift-install", "mac", mirror=MIRROR), tmp_path)
    assert mac.file == "usr/share/openshift/mac/openshift-install"
    assert mac.payload.encode() in (tmp_path / "openshift-install").read_bytes()


def test_of_a_release_for_several_architectures_the_list_is_installed(exports, tmp_path):
    """The digest of the list, so that the installer serves all of them."""
    archive = exports.open("many")
    for architecture in ("amd64", "arm64"):
        done = extract(archive, Wanted("openshift-install", architecture=architecture, mirror=MIRROR), tmp_path)
        assert done.payload == f"{MIRROR}/openshift/release-images@{exports.many.digest}"
        assert done.original == digest_of(original(exports.many, "installer", "usr/bin/openshift-install", architecture))
    with pytest.raises(ArchiveIncompleteError, match="does not have its image for s390x"):
        extract(archive, Wanted("openshift-install", architecture="s390x"), tmp_path)


def test_layers_of_an_earlier_archive_are_named_or_read_there(exports, tmp_path):
    archive = exports.open("then")
    extract(archive, Wanted("oc"), tmp_path)  # its layer is new
    with pytest.raises(
        ArchiveIncompleteError, match=r"installer of OpenShift 4.12.1: .* is in the earlier archive of .* \(sha256:"
    ) as caught:
        extract(archive, Wanted("openshift-install"), tmp_path)
    assert "--earlier" in caught.value.hint
    assert not (tmp_path / "openshift-install").exists()
    done = run(
        "hub-import",
        "extract",
        "openshift-install",
        exports.folder / "then",
        "--earlier",
        exports.folder / "first",
        "--output",
        tmp_path,
    )
    assert done.status == 0, done.stderr
    # The program of the first release, which is unchanged, installs the second one.
    assert f"{releases.PAYLOADS}@{exports.then.digest}\0".encode() in (tmp_path / "openshift-install").read_bytes()


def test_a_missing_volume_and_a_damaged_one_leave_the_former_file(exports, tmp_path):
    volumes = sorted((exports.folder / "many").glob("*.tar*"))
    assert len(volumes) > 1
    (tmp_path / "openshift-install").write_bytes(b"former")
    wanted = Wanted("openshift-install", architecture="amd64")
    whole = exports.open("many")
    layer = extract(whole, wanted, tmp_path / "other").layer
    (piece,) = whole.inventory.blobs[layer].pieces
    absent = volumes[piece.volume - 1]
    with pytest.raises(ArchiveIncompleteError, match=f"is in {absent.name}, which is missing"):
        extract(Archive.open([each for each in volumes if each != absent]), wanted, tmp_path)
    damaged = bytearray(absent.read_bytes())
    damaged[piece.offset + 100] ^= 1
    copies = tmp_path / "damaged"
    copies.mkdir()
    for each in volumes:
        (copies / each.name).write_bytes(bytes(damaged) if each == absent else each.read_bytes())
    (copies / "inventory.json").write_bytes((exports.folder / "many" / "inventory.json").read_bytes())
    done = run("hub-import", "extract", "openshift-install", copies, "--arch", "amd64", "--output", tmp_path)
    assert done.status == ExitCode.ARCHIVE, done.stderr
    assert (tmp_path / "openshift-install").read_bytes() == b"former"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("options", "status", "why"),
    [
        (("--release", "4.12.9"), 2, "the archive does not have it"),
        (("--os", "windows"), 2, "there is no openshift-install for windows"),
        (("--arch", "riscv64"), 2, "--arch 'riscv64': unknown"),
        (("--keep-source-host",), 2, "a path on the mirror without a mirror"),
        (("--registry", "mirror.example/" + "p" * 250), 2, "at most 255"),
        (("--registry", "mirror.example/" + "p" * 228), 1, "the program has room for 326"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_file_is_written(exports, tmp_path, options, status, why):
    done = run("hub-import", "extract", "openshift-install", exports.folder / "first", "--output", tmp_path / "bin", *options)
    assert (done.status, why in done.stderr) == (status, True), done.stderr
    assert not list(tmp_path.rglob("openshift-install*"))


def test_the_release_by_the_path_of_its_source(exports, tmp_path):
    """--release-layout source, as push has it."""
    mirror = Mirror.parse("mirror.example/hub", releases_by_source=True, max_path_components=2)
    done = extract(exports.open("first"), Wanted("openshift-install", mirror=mirror), tmp_path)
    assert done.payload == f"mirror.example/hub/openshift-release-dev-ocp-release@{exports.first.digest}"


def test_files_for_an_installation_go_with_the_installer(exports, tmp_path):
    """The rules lead the installer's release, which `extract` writes into it, to the mirror that `push` fills."""
    access = ("--registry", "mirror.example:5000/hub", "--output", tmp_path)
    done = run("hub-import", "render", exports.folder / "first", "--install", *access)
    assert done.status == 0, done.stderr
    rules = check_registries_conf((tmp_path / "mirror" / "registries.conf").read_text())
    assert check_fragment(yaml.safe_load((tmp_path / "install-config.fragment.yaml").read_text()), (4, 12)) == rules
    installer = extract(exports.open("first"), Wanted("openshift-install"), tmp_path)
    place = f"{MIRROR}/openshift/release-images@{exports.first.digest}"
    assert mirror_of_release(installer.payload, rules) == place
    assert extract(exports.open("first"), Wanted("openshift-install", mirror=MIRROR), tmp_path).payload == place
    # The commands of the README are those of the program.
    for line in (tmp_path / "README.md").read_text().splitlines():
        if line.startswith("    hub-import "):
            words = (
                line.replace("ARCHIVE", str(exports.folder / "first")).replace("--output bin", f"--output {tmp_path}").split()
            )
            assert run(*words, "--help").status == 0, line
            if words[1] == "extract":
                assert run(*words).status == 0, line


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--install", "--kubernetes"), "does not install another Kubernetes"),
        (("--install", "--openshift-release", "4.12", "--microshift"), "MicroShift is installed from packages"),
        (("--install", "--hosted"), "is made of its HostedCluster"),
        (("--install", "--rbac"), "not an account of the cluster"),
        (("--install", "--update-service-uri", "https://u.example"), "has no UpdateService"),
        (("--install", "--openshift-release", "4.18"), "the release of the archive is 4.12.0"),
        (("--install", "--release", "4.12.7"), "the archive does not have it"),
        (("--openshift-release", "4.18", "--release", "4.12.0"), "--release without --install"),
        (("--install", "--merge", "/"), "has no earlier render"),
    ],
)
def test_an_installation_has_its_own_options(exports, tmp_path, options, why):
    done = run(
        "hub-import", "render", exports.folder / "first", "--registry", "m.example", "--output", tmp_path / "x", *options
    )
    assert (done.status, why in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "x").exists()
