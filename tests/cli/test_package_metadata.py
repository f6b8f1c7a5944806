"""What a package index, a clone and a build of the container image see of the project."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import metadata

import pytest

from tests.docs.reading import DOCUMENTS, ROOT


def test_the_package_says_what_it_is_for_whom_and_where_it_runs():
    found = metadata("hub-airgap")
    kinds = {each.partition(" :: ")[0] for each in found.get_all("Classifier")}
    assert {"Development Status", "Environment", "Intended Audience", "Operating System", "Topic"} < kinds
    assert found["Keywords"]
    assert found["Author"]


def test_no_link_on_a_package_index_is_relative():
    """An index shows the text of the metadata without the files that it links (PyPA, *Core metadata*, Description)."""
    text = str(metadata("hub-airgap").get_payload() or metadata("hub-airgap")["Description"])
    assert "hub-export create" in text
    links = re.findall(r"\]\(([^)]+)\)|(?:href|src)=\"([^\"]+)\"", text)
    assert [link for pair in links for link in pair if link and not link.startswith("https://")] == []
    assert "<!--" not in text


@pytest.mark.parametrize("name", ["hub/bin/python", ".venv-3.12/pyvenv.cfg", "dist/hub_airgap.whl", "build/lib/common"])
def test_environments_and_builds_in_a_clone_are_ignored(tmp_path, name):
    """`python3 -m venv hub` in the clone has 122 MB, which `COPY . /src` would take into the image."""
    for ignore in (".gitignore", ".containerignore"):
        folder = tmp_path / ignore.strip(".")
        folder.mkdir()
        shutil.copy(ROOT / ignore, folder / ".gitignore")  # their grammars agree on plain names of directories
        subprocess.run(["git", "init", "-q", folder], check=True)
        done = subprocess.run(["git", "-C", folder, "check-ignore", "-q", name], check=False)
        assert done.returncode == 0, ignore
    for kept in ("common/archive/layout.py", "exporter/kit/install.sh", "kit/wheels/x.whl"):
        assert (
            subprocess.run(["git", "-C", tmp_path / "containerignore", "check-ignore", "-q", kept], check=False).returncode == 1
        )


@pytest.mark.more
def test_the_source_of_a_release_has_its_pages_and_what_the_image_is_built_of(tmp_path):
    pytest.importorskip("hatchling")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path], cwd=ROOT, check=True)
    (source,) = tmp_path.glob("hub_airgap-*.tar.gz")
    with tarfile.open(source) as tar:
        there = {name.partition("/")[2] for name in tar.getnames()}
    assert {str(path.relative_to(ROOT)) for path in DOCUMENTS} <= there
    copied = {
        "Containerfile",
        ".containerignore",
        "pyproject.toml",
        "LICENSE",
        "deploy/requirements.lock",
        "docs/man/hub-export.1",
    }
    assert copied <= there
