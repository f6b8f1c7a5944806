"""The programs run with their own packages, where others of the same names are found too, or they say what is in their place."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

from exporter.kit import wheel_file
from tests.fakes.commands import BIN
from tests.samples import more

PROGRAMS = ("hub-export", "hub-import")
# Modules that the programs or their libraries import: of other distributions, of a project that is worked on, of anybody.
NAMES = ("common", "exporter", "importer", "hub_airgap_helper", "typer", "typing_extensions", "msgspec", "shutil")


def foreign(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('{name} of somebody else')\n")
        (folder / name / "errors.py").write_text("class OtherError(Exception):\n    pass\n")
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the wheel, as pip installs it, and the libraries of this one; gives its bin."""
    folder = tmp_path_factory.mktemp("environment")
    name, content = wheel_file.rebuilt(distribution("hub-airgap"))
    (folder / name).write_bytes(content)
    venv.create(folder / "env", symlinks=True)
    python = folder / "env/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--disable-pip-version-check", folder / name], check=True, capture_output=True)
    (place,) = (folder / "env").glob("lib/python*/site-packages")
    (libraries,) = (BIN.parent).glob("lib/python*/site-packages")
    (place / "libraries.pth").write_text(f"{libraries}\n")
    return folder / "env/bin"


def start(command, **words):
    environ = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin", **words.pop("env", {})}
    return subprocess.run(list(map(str, command)), env=environ, capture_output=True, text=True, check=False, **words)


@pytest.mark.parametrize("arguments", [["inspect", "/nowhere"], *more([["--version"], ["deploy", "--help"], ["undo"]])])
def test_what_is_on_pythonpath_is_not_loaded(installed, tmp_path, arguments):
    """A folder `common` of a project that is worked on: `PYTHONPATH=. hub-import …`."""
    place = foreign(tmp_path, *(name for name in NAMES if name not in ("shutil", "hub_airgap_helper")))
    done = start([installed / "hub-import", *arguments], env={"PYTHONPATH": str(place)}, cwd=place)
    plain = start([installed / "hub-import", *arguments])
    assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("package", "program"), [("exporter", "hub-export"), pytest.param("importer", "hub-import", marks=pytest.mark.more)]
)
def test_what_is_in_the_current_directory_is_not_loaded(installed, tmp_path, package, program):
    """`python -m` puts the current directory in front (Python documentation, *sys.path*)."""
    place = foreign(tmp_path, "common", "typer", "msgspec")
    done = start([installed / "python", "-m", package, "--help"], cwd=place)
    assert done.returncode == 0, done.stderr
    assert f"Usage: {program}" in done.stdout or f"Usage: python -m {package}" in done.stdout


def test_what_was_on_the_path_stays_on_it_behind(installed, tmp_path):
    """An optional package such as zfec can come from PYTHONPATH; and the standard library stays in front of all."""
    ask = "import sys, hub_airgap, os; hub_airgap.prepare(); print(*sys.path, sep='\\n')"
    done = start([installed / "python", "-c", ask], env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    found = done.stdout.split("\n")
    own = found.index(str(next(installed.parent.glob("lib/python*/site-packages"))))
    assert found.index(str(Path(os.__file__).parent)) < own < found.index(str(tmp_path))


@pytest.mark.parametrize(
    ("replaced", "arguments"),
    [
        ("common/errors.py", ["--version"]),
        ("common/cli/options.py", ["status"]),
        pytest.param("common/files.py", ["push", "--help"], marks=pytest.mark.more),
    ],
)
def test_files_of_another_distribution_in_place_of_ours_are_named(installed, replaced, arguments):
    """pip installs a second distribution with a package `common` over the first, without a word (pypa/pip#4625)."""
    (place,) = installed.parent.glob("lib/python*/site-packages")
    (info := place / "kolla_common-1.0.dist-info").mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kolla-common\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"{replaced},,\n")
    path = place / replaced
    before = path.read_text()
    path.write_text("class OtherError(Exception):\n    pass\n# of another distribution\n")
    try:
        done = start([installed / "hub-import", *arguments])
    finally:
        path.write_text(before)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-2:] == [
        f"error: a file of hub-airgap was replaced: {path}; this environment also has the package common of kolla-common",
        "  Give hub-airgap an environment of its own: pipx install, uv tool install, or python3 -m venv; or install it again there.",
    ]
    assert "Traceback" not in done.stderr


def test_a_file_that_went_with_another_distribution_is_named(installed):
    """`pip uninstall` of the other one removes the files that both had."""
    (place,) = installed.parent.glob("lib/python*/site-packages")
    path = place / "common/text.py"
    path.rename(path.with_suffix(".away"))
    try:
        done = start([installed / "hub-export", "--version"])
    finally:
        path.with_suffix(".away").rename(path)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"error: a file of hub-airgap is missing: {path}")


def test_a_package_that_was_loaded_before_is_named(installed, tmp_path):
    """A `sitecustomize`, or a .pth file that imports, runs before any program (Python documentation, *site*)."""
    (tmp_path / "common").mkdir()
    (tmp_path / "common/__init__.py").touch()
    (tmp_path / "sitecustomize.py").write_text("import common\n")
    done = start([installed / "hub-export", "--version"], env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    loaded = tmp_path / "common/__init__.py"
    assert done.stderr.startswith(f"error: the package common of something else was loaded first: {loaded}\n  ")
