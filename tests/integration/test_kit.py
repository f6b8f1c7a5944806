"""Kits: made of the wheels of this environment, installed without a network, upgraded, refused when damaged."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tarfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from common.archive.signature import Algorithm, Signer, Verifier, make_keys
from exporter.kit.settings import MACHINES, PYTHONS
from exporter.kit.wheel_file import rebuilt
from tests.docs.reading import ROOT
from tests.fakes import factories
from tests.fakes.archives import CUT, write
from tests.fakes.commands import BIN, run
from tests.fakes.registry import FakeRegistry
from tests.fakes.secrets import REAL_PASSWORD, REAL_USER
from tests.fakes.servers import docker_registry, free_port, require
from tests.fakes.wheelhouse import fill, offer
from tests.samples import more

PYTHON = "{}.{}".format(*sys.version_info)
ARCHITECTURE = next((name for name, machine in MACHINES.items() if machine == platform.machine()), "")
HERE = ["--platform", f"linux/{ARCHITECTURE}", "--python", PYTHON]
ELSEWHERE = "linux/s390x" if ARCHITECTURE != "s390x" else "linux/amd64"
INTERPRETER = str(Path(sys._base_executable).resolve())
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not ARCHITECTURE or PYTHON not in PYTHONS, reason="no kit for this machine and its Python"),
]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheelhouse")
    fill(directory)
    return directory


@pytest.fixture(scope="module")
def kit(wheels, tmp_path_factory):
    """A kit for this machine. Read only."""
    path = tmp_path_factory.mktemp("made") / "kit"
    done = run("hub-export", "kit", "--output", path, *HERE, "--format", "json", env=offer(wheels))
    assert done.status == 0, done.stderr
    assert done.json["runtimes"] == [{"platform": f"linux/{ARCHITECTURE}", "python": PYTHON, "installs": True, "lacks": []}]
    assert done.json["bytes"] == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert done.json["wheels"] == len(list((path / "wheels").iterdir())) > 20
    return path


@pytest.fixture
def copy(kit, tmp_path):
    return shutil.copytree(kit, tmp_path / "kit")


def offline(script, **words):
    """Run a shell script where there is no network at all; return its process."""
    if subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    return subprocess.run(
        ["unshare", "-rn", "sh", "-c", script],
        capture_output=True,
        text=True,
        env={**environment, **{name: str(value) for name, value in words.items()}},
        check=False,
        timeout=240,
    )


def install(kit, tmp_path, *more):
    """Install a kit, offline; return its process."""
    words = " ".join(map(str, ["--prefix", tmp_path / "opt", "--bin", tmp_path / "bin", "--python", INTERPRETER, *more]))
    return offline(f"sh {kit}/install.sh {words}")


def test_a_kit_installs_without_a_network_works_and_is_uninstalled(kit, tmp_path):
    write(tmp_path / "archive", CUT)
    shutil.copytree(tmp_path / "archive", tmp_path / "damaged")
    volume = min((tmp_path / "damaged").glob("volume-*.tar.zst"))
    content = bytearray(volume.read_bytes())
    content[len(content) // 2] ^= 1
    volume.write_bytes(content)

    assert len(offline("cat /proc/net/route").stdout.splitlines()) <= 1  # at most a heading: no way leads out
    first = install(kit, tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert f"{tmp_path}/bin is not on PATH" in first.stdout
    program = tmp_path / "bin" / "hub-import"
    assert [offline(f"{program} verify {tmp_path}/{name}").returncode for name in ("archive", "damaged")] == [0, 4]
    assert offline(f"{program} --version").stdout == run("hub-import", "--version").stdout

    gone = offline(f"sh {kit}/install.sh --uninstall --prefix {tmp_path}/opt")
    assert gone.returncode == 0, gone.stderr
    assert not (tmp_path / "opt").exists()
    assert list((tmp_path / "bin").iterdir()) == []


@pytest.mark.more
@pytest.mark.parametrize(("folder", "whole"), [("kit", True), ("carried/week-47", True), ("kit", False)])
def test_the_container_file_builds_behind_the_gap_from_a_kit(kit, tmp_path, folder, whole):
    """Its command is run in the same layout of directories: `COPY . /src`, and no network."""
    source = tmp_path / "src"
    shutil.copytree(ROOT / "deploy", source / "deploy")
    shutil.copytree(kit, source / folder)
    if not whole:
        wheel = min((source / folder / "wheels").glob("hub_airgap-*.whl"))
        wheel.write_bytes(wheel.read_bytes()[:-1])
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Containerfile").read_text()).replace("\\\n", " ")
    (command,) = re.findall(r"(?m)^RUN (.*)$", text)
    command = command.replace("/opt/hub-airgap", f"{tmp_path}/opt").replace("/src", str(source))
    done = offline(command.replace("python3 -m venv", f"{INTERPRETER} -m venv"), KIT=folder, EXTRAS="", PIP_ARGS="")
    assert (done.returncode == 0) is whole, done.stderr
    if whole:
        shown = offline(f"{tmp_path}/opt/bin/hub-import --version")
        assert shown.stdout == run("hub-import", "--version").stdout, shown.stderr
    else:
        assert "hub_airgap" in done.stdout + done.stderr
        assert not (tmp_path / "opt/bin/hub-import").exists()


@pytest.mark.more
def test_a_kit_replaces_what_an_earlier_one_installed(kit, tmp_path):
    assert install(kit, tmp_path).returncode == 0
    before = (tmp_path / "opt/current").resolve()
    second = install(kit, tmp_path)
    assert second.returncode == 0, second.stderr
    after = (tmp_path / "opt/current").resolve()
    assert after != before
    assert not before.exists()
    assert sorted(path.name for path in (tmp_path / "opt").iterdir()) == ["current", after.name, "hub-airgap.links"]
    assert offline(f"{tmp_path}/bin/hub-import --version").stdout == run("hub-import", "--version").stdout


@pytest.mark.more
def test_the_kit_checks_itself_and_what_it_installs_is_what_was_built(kit, tmp_path):
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=kit, check=False).returncode == 0
    listed = {line.split("  ", 1)[1] for line in (kit / "SHA256SUMS").read_text().splitlines()}
    found = {str(file.relative_to(kit)) for file in kit.rglob("*") if file.is_file()}
    assert found == {*listed, "SHA256SUMS"}
    assert all(re.fullmatch(r"[A-Za-z0-9._+/-]+", name) for name in found)  # any file system takes them
    assert f"linux/{ARCHITECTURE} with Python {PYTHON}" in (kit / "README.txt").read_text()
    assert install(kit, tmp_path).returncode == 0
    folder = next((tmp_path / "opt").glob("current/lib/python*/site-packages/hub_airgap-*.dist-info"))
    name, content = rebuilt(Distribution.at(folder))  # an installation that is no editable one gives the same wheel
    assert (kit / "wheels" / name).read_bytes() == content
    without_pip = run("hub-import", "--version").stdout and subprocess.run(
        [tmp_path / "bin/hub-export", "kit", "--output", tmp_path / "again"], capture_output=True, text=True, check=False
    )
    assert without_pip.returncode == 2
    assert "has no pip" in without_pip.stderr
    assert not (tmp_path / "again").exists()


def damaged(kit):
    wheel = sorted((kit / "wheels").iterdir())[3]
    content = bytearray(wheel.read_bytes())
    content[100] ^= 4
    wheel.write_bytes(content)
    return wheel.name


def foreign(kit):
    (kit / "wheels" / "rich-99.0-py3-none-any.whl").write_bytes(b"evil")
    return "rich-99.0-py3-none-any.whl is not in SHA256SUMS"


def cut_off(kit):
    (kit / "SHA256SUMS").unlink()
    return "not complete"


def incomplete(kit):
    wheel = max((kit / "wheels").iterdir())
    wheel.unlink()
    return wheel.name


@pytest.mark.parametrize("harm", [damaged, foreign, cut_off, incomplete])
def test_a_kit_that_is_not_whole_is_refused(copy, tmp_path, harm):
    message = harm(copy)
    done = install(copy, tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "opt").exists()
    assert not (tmp_path / "bin").exists()


def summed(kit):
    """Make the checksums of a changed kit right again."""
    files = [file for file in sorted(kit.rglob("*")) if file.is_file() and file.name != "SHA256SUMS"]
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(kit)}\n" for file in files]
    (kit / "SHA256SUMS").write_text("".join(lines))


@pytest.mark.more
def test_a_failed_upgrade_leaves_the_installed_version(copy, tmp_path):
    assert install(copy, tmp_path).returncode == 0
    before = (tmp_path / "opt/current").resolve()
    next((copy / "wheels").glob("httpx-*")).unlink()
    summed(copy)
    done = install(copy, tmp_path)
    assert done.returncode == 1
    assert "pip could not install" in done.stderr
    assert "The version that was installed before is unchanged" in done.stderr
    assert (tmp_path / "opt/current").resolve() == before
    assert len(list((tmp_path / "opt").glob("env.*"))) == 1
    assert offline(f"{tmp_path}/bin/hub-import --version").returncode == 0


@pytest.mark.more
def test_the_installer_names_the_obstacle(copy, tmp_path):
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\necho x86_64 3.6\n")
    old.chmod(0o755)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("mine")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/hub-import").write_text("of another program")
    sh = f"sh {copy}/install.sh --bin {tmp_path}/bin"
    cases = {
        f"{sh} --prefix {tmp_path}/opt --python {old}": (1, "Python 3.6 on x86_64"),
        f"{sh} --prefix {tmp_path}/opt --python {tmp_path}/none": (1, "no such program"),
        f"PATH={tmp_path}; export PATH; /bin/sh {copy}/install.sh": (1, "error: "),
        f"{sh} --prefix {other} --python {INTERPRETER}": (1, "holds something else"),
        f"{sh} --prefix /proc/x --python {INTERPRETER}": (1, "cannot be made"),
        f"{sh} --uninstall --prefix {tmp_path}/opt": (1, "nothing is installed"),
        f"{sh} --what": (2, "unknown option"),
    }
    for command, (status, said) in cases.items():
        done = offline(command)
        assert (done.returncode, said in done.stderr) == (status, True), (command, done.stderr)
    assert not (tmp_path / "opt").exists()
    assert [path.name for path in other.iterdir()] == ["mine"]
    done = install(copy, tmp_path)
    assert done.returncode == 0
    assert "is something else, and stays" in done.stdout
    assert (tmp_path / "bin/hub-import").read_text() == "of another program"
    lines = (copy / "platforms.txt").read_text().replace(f" {PYTHON} ", " 3.99 ")
    (copy / "platforms.txt").write_text(lines)
    summed(copy)
    assert "The kit has wheels for" in install(copy, tmp_path).stderr


def test_a_folder_mounted_noexec_is_reported(copy, tmp_path):
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    (tmp_path / "noexec").mkdir()
    script = f"""mount -t tmpfs -o noexec none {tmp_path}/noexec
    sh {copy}/install.sh --prefix {tmp_path}/noexec/opt --bin {tmp_path}/bin --python {INTERPRETER}; echo status $?; ls {tmp_path}/noexec"""
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert "noexec?" in done.stderr, done.stderr
    assert done.stdout == "status 1\n"


@pytest.mark.more
def test_a_runtime_without_wheels_is_left_out_and_reported(wheels, tmp_path):
    path = tmp_path / "kit"
    done = run(*("hub-export", "kit", "--output", path, *HERE, "--platform", ELSEWHERE, "--format", "json"), env=offer(wheels))
    assert done.status == 3, done.stderr
    here, elsewhere = done.json["runtimes"] if done.json["runtimes"][0]["installs"] else done.json["runtimes"][::-1]
    assert here["lacks"] == []
    assert not elsewhere["installs"]
    assert {"msgspec", "zstandard", "cffi"} < set(elsewhere["lacks"])
    assert "rich" not in elsewhere["lacks"]
    assert [problem["subject"] for problem in done.json["problems"]] == [f"{ELSEWHERE} with Python {PYTHON}"]
    assert f"{ELSEWHERE} with Python {PYTHON}: no wheel of" in (path / "README.txt").read_text()
    again = run("hub-export", "kit", "--output", path, "--platform", ELSEWHERE, "--python", PYTHON, env=offer(wheels))
    assert again.status == 2
    assert "msgspec" in again.stderr
    assert "--platform linux/amd64" in again.stderr
    assert (
        subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=path, check=False).returncode == 0
    )  # the old one stays
    assert sorted(file.name for file in path.iterdir()) == [
        "README.txt", "SHA256SUMS", "install.sh", "platforms.txt", "wheels"
    ]  # fmt: skip


def test_a_kit_replaces_an_older_one_and_no_foreign_files(wheels, copy, tmp_path):
    (copy / "wheels" / "rich-1.0-py3-none-any.whl").write_bytes(b"of the last release")
    (copy / "notes.txt").write_text("mine")
    before = {file.name: file.read_bytes() for file in (copy / "wheels").iterdir()}
    done = run("hub-export", "kit", "--output", copy, *HERE, env=offer(wheels))
    assert done.status == 0, done.stderr
    after = {file.name: file.read_bytes() for file in (copy / "wheels").iterdir()}
    assert after == {name: content for name, content in before.items() if not name.startswith("rich-1.0")}
    assert (copy / "notes.txt").read_text() == "mine"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "install.sh").write_text("mine")
    done = run("hub-export", "kit", "--output", foreign, *HERE, env=offer(wheels))
    assert done.status == 2
    assert "did not make" in done.stderr
    assert [(file.name, file.read_text()) for file in foreign.iterdir()] == [("install.sh", "mine")]


def test_an_interrupted_kit_is_continued(wheels, kit, tmp_path):
    path, staging = tmp_path / "kit", tmp_path / "kit/hub-export.kit"
    refused = run("hub-export", "kit", "--output", path, *HERE, env=offer(tmp_path, wheels))
    assert refused.status == 1, refused.stderr
    shutil.copytree(kit / "wheels", staging / "wheels", dirs_exist_ok=True)
    damaged = next((staging / "wheels").glob("semver-*"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(wheels / damaged.name, one)
    # The wheels of the interrupted run are not asked for again; the damaged one is, and pip finds no other here.
    done = run("hub-export", "kit", "--output", path, *HERE, env=offer(one, wheels))
    assert done.status == 0, done.stderr
    assert (path / "SHA256SUMS").read_bytes() == (kit / "SHA256SUMS").read_bytes()
    assert not staging.exists()


def test_an_unreachable_index_is_reported_without_its_credentials(tmp_path):
    index = f"http://{REAL_USER}:{REAL_PASSWORD.replace(':', '%3A')}@localhost:{free_port()}/simple"
    environment = {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": index, "PIP_RETRIES": "0"}
    done = run("hub-export", "kit", "--output", tmp_path / "kit", *HERE, env=environment)
    assert done.status == 1, done.stderr
    assert "pip could not fetch the wheels" in done.stderr
    assert "No matching distribution found for" in done.stderr
    assert "PIP_INDEX_URL" in done.stderr
    assert REAL_USER not in done.stderr


def test_a_full_disk_is_exit_status_7(wheels, tmp_path):
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    small = tmp_path / "small"
    small.mkdir()
    words = " ".join(HERE)
    script = f"mount -t tmpfs -o size=4m none {small}; {BIN}/hub-export kit {words} --output {small}/kit; echo status $?"
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/nonexistent", **offer(wheels)}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=120, env=environment
    )
    assert done.stdout == "status 7\n", done.stdout + done.stderr
    assert "the wheels of the kit needs" in done.stderr


@pytest.fixture
def base(tmp_path):
    """An image with Python's own variable, on a real registry; gives the reference."""
    image = factories.image(
        ({"usr/bin/python3": b"not really"},),
        labels={"vendor": "x"},
        platform=f"linux/{ARCHITECTURE}",
        docker=True,
        config={"Env": ["PATH=/usr/bin", f"PYTHON_VERSION={PYTHON}.7", "LANG=C"], "Cmd": ["python3"]},
    )
    with docker_registry(tmp_path) as server:
        factories.seed(f"http://{server.host}", "library/python", image, tag="3")
        yield server.host


def make_image(base, wheels, path, *more, reference="library/python:3"):
    asked = ["--image-base", f"{base}/{reference}", "--insecure", base, *more]
    return run("hub-export", "kit", "--output", path, *HERE, *asked, "--format", "json", env=offer(wheels))


@pytest.mark.more
def test_the_image_is_its_base_and_the_importer(base, wheels, tmp_path):
    skopeo, path = require("skopeo"), tmp_path / "kit"
    done = make_image(base, wheels, path)
    assert done.status == 0, done.stderr
    name = f"hub-import-linux-{ARCHITECTURE}.oci.tar"
    assert done.json["images"] == [{"platform": f"linux/{ARCHITECTURE}", "file": name}]
    assert f"podman load -i {name}" in (path / "README.txt").read_text()
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=path, check=False).returncode == 0

    def inspect(*more):
        shown = subprocess.run([skopeo, "inspect", *more, f"oci-archive:{path / name}"], capture_output=True, check=True)
        return json.loads(shown.stdout)

    settings = inspect("--config")["config"]
    assert settings["Entrypoint"] == ["/opt/hub-airgap/bin/hub-import"]
    assert settings["User"] == "1001"
    assert "Cmd" not in settings
    assert {"PATH=/opt/hub-airgap/bin:/usr/bin", "LANG=C", "HOME=/tmp"} < set(settings["Env"])
    assert settings["Labels"]["vendor"] == "x"
    assert settings["Labels"]["org.opencontainers.image.title"] == "hub-import"
    assert len(inspect()["Layers"]) == 2
    target = tmp_path / "copied"
    copied = subprocess.run(
        [skopeo, "--insecure-policy", "copy", f"oci-archive:{path / name}", f"dir:{target}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert copied.returncode == 0, copied.stderr
    manifest = json.loads((target / "manifest.json").read_text())
    stored = (target / manifest["layers"][-1]["digest"].removeprefix("sha256:")).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(stored))) as tar:
        members = {member.name: member for member in tar}
        tar.extractall(tmp_path / "root", filter="data")
    assert all((m.uid, m.gid, m.mtime) == (0, 0, 0) for m in members.values())
    assert all(
        stat.S_IMODE(m.mode) == (0o755 if m.isdir() or m.name.endswith("bin/hub-import") else 0o644) for m in members.values()
    )
    assert {"opt", "opt/hub-airgap/bin/hub-import", "opt/hub-airgap/lib/importer/cli/app.py"} < set(members)
    assert not any(part in name for name in members for part in ("/pip/", ".pyc", ".data/"))
    program = (tmp_path / "root/opt/hub-airgap/bin/hub-import").read_text()
    assert program.startswith(f"#!/usr/bin/env python{PYTHON}\n")
    run_here = program.replace('"/opt/', f'"{tmp_path}/root/opt/')
    shown = subprocess.run([INTERPRETER, "-I", "-c", run_here, "--version"], capture_output=True, text=True, check=False)
    assert shown.stdout == run("hub-import", "--version").stdout, shown.stderr

    again = tmp_path / "again"
    assert make_image(base, wheels, again).status == 0
    assert (again / name).read_bytes() == (path / name).read_bytes()
    assert (again / "SHA256SUMS").read_bytes() == (path / "SHA256SUMS").read_bytes()


@pytest.mark.more
def test_a_base_has_to_be_one(base, wheels, tmp_path):
    silent = factories.image(platform=f"linux/{ARCHITECTURE}")
    factories.seed(f"http://{base}", "library/silent", silent, tag="1")
    other = next(each for each in PYTHONS if each != PYTHON)
    cases = [
        (["--platform", ELSEWHERE], "library/silent:1", 2, "has no PYTHON_VERSION"),
        (["--image-python", "3.7"], "library/silent:1", 2, "no kit for this Python"),
        (["--image-python", other], "library/silent:1", 2, f"Add --python {other}"),
        ([], "library/none:1", 5, "library/none:1"),
        (["--image-python", PYTHON], "library/silent:1", 0, ""),
    ]
    for number, (options, reference, status, said) in enumerate(cases):
        path = tmp_path / f"kit{number}"
        done = make_image(base, wheels, path, *options, reference=reference)
        assert (done.status, said in done.stderr) == (status, True), (options, done.stderr)
        assert path.exists() == (status == 0)


@pytest.mark.more
def test_a_kit_next_to_an_archive_disturbs_neither(tmp_path):
    output = tmp_path / "out"
    with FakeRegistry() as source:
        source.add_image("org/app", factories.image(), tag="v1")
        asked = ["--image", f"{source.host}/org/app:v1", "--insecure", source.host, "--output", output, "--with-kit"]
        nowhere = {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": f"http://localhost:{free_port()}", "PIP_RETRIES": "0"}
        refused = run("hub-export", "create", *asked, env=nowhere)
        assert refused.status == 1, refused.stderr
        assert source.log("GET", "/blobs/") == []  # refused before the first layer
        fill(tmp_path / "everywhere", everywhere=True)
        done = run("hub-export", "create", *asked, "--format", "json", env=offer(tmp_path / "everywhere"))
    assert done.status == 0, done.stderr
    assert done.json["problems"] == []
    assert len(done.json["kit"]["runtimes"]) == 12
    assert done.json["kit"]["bytes"] > 1_000_000
    assert {"platform": f"linux/{ARCHITECTURE}", "python": PYTHON, "installs": True, "lacks": []} in done.json["kit"][
        "runtimes"
    ]
    for folder in (output, output / "kit"):
        assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=False).returncode == 0
    assert "kit" not in (output / "SHA256SUMS").read_text()
    assert run("hub-import", "inspect", output).status == 0
    assert run("hub-import", "verify", output).status == 0
    with FakeRegistry() as mirror:
        assert run("hub-import", "push", output, "--registry", mirror.host, "--insecure", mirror.host).status == 0


def test_the_installer_is_clean_for_shellcheck(kit):
    done = subprocess.run([require("shellcheck"), kit / "install.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert os.access(kit / "install.sh", os.X_OK)


def _signed(kit, tmp_path, algorithm):
    """Sign a kit as `kit --sign` does; return the public key."""
    private, public = tmp_path / f"{algorithm}.key", tmp_path / f"{algorithm}.pub"
    make_keys(private, public, Algorithm(algorithm))
    (kit / "SHA256SUMS.sig").write_bytes(Signer.load(private).sign((kit / "SHA256SUMS").read_bytes()))
    return public


@pytest.mark.parametrize("algorithm", ["ed25519", *more(["ecdsa-p256"])])
def test_the_installer_checks_a_signature_before_anything_else(copy, tmp_path, algorithm):
    """A kit whose wheels and checksums were both exchanged: the sums in the same folder say nothing about that."""
    require("openssl")
    public = _signed(copy, tmp_path, algorithm)
    nothing = "--python /nonexistent"  # it ends after the checks of the kit
    good = install(copy, tmp_path, "--key", public, nothing)
    assert "the signature is that of" in good.stdout
    assert "there is no such program" in good.stderr
    assert "the kit is signed" in install(copy, tmp_path, nothing).stdout
    next((copy / "wheels").iterdir()).write_bytes(b"evil")
    signature = (copy / "SHA256SUMS.sig").read_bytes()
    (copy / "SHA256SUMS.sig").unlink()
    summed(copy)
    assert "is not signed" in install(copy, tmp_path, "--key", public).stderr
    (copy / "SHA256SUMS.sig").write_bytes(signature)
    done = install(copy, tmp_path, "--key", public)
    assert done.returncode == 1
    assert "was not made with" in done.stderr
    assert not (tmp_path / "opt").exists()


def test_a_signed_kit(wheels, kit, copy, tmp_path):
    private, public = tmp_path / "hub.key", tmp_path / "hub.pub"
    make_keys(private, public, Algorithm.ED25519)
    done = run("hub-export", "kit", "--output", copy, *HERE, "--sign", private, "--format", "json", env=offer(wheels))
    assert done.status == 0, done.stderr
    assert done.json["bytes"] == sum(file.stat().st_size for file in copy.rglob("*") if file.is_file())
    assert Verifier.load(public).accepts((copy / "SHA256SUMS").read_bytes(), (copy / "SHA256SUMS.sig").read_bytes())
    assert "is signed" in (copy / "README.txt").read_text()
    # Another kit in its place has no signature of the former one.
    done = run("hub-export", "kit", "--output", copy, *HERE, env=offer(wheels))
    assert done.status == 0, done.stderr
    assert not (copy / "SHA256SUMS.sig").exists()
    assert (copy / "SHA256SUMS").read_bytes() == (kit / "SHA256SUMS").read_bytes()


def test_a_key_that_is_none_ends_a_kit_before_anything_is_fetched(wheels, tmp_path):
    (tmp_path / "no.key").write_text("none")
    done = run("hub-export", "kit", "--output", tmp_path / "kit", *HERE, "--sign", tmp_path / "no.key", env=offer(wheels))
    assert done.status == 2
    assert "not a private key" in done.stderr
    assert not (tmp_path / "kit").exists()
