"""The lock file of the release agrees with pyproject.toml; `make lock` renews it."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.pylock import Pylock
from packaging.requirements import Requirement

from exporter.kit.lock_file import LockFile
from exporter.kit.settings import RELEASE_LOCK
from tests.kit_lock import RUNTIMES

TEXT = RELEASE_LOCK.read_text()
LOCK = Pylock.from_dict(tomllib.loads(TEXT))
PROJECT = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
# What the documentation says there are no wheels for (docs/how-to/install-offline.md).
LACKS = {
    "amd64": set(),
    "arm64": set(),
    "ppc64le": {"msgspec", "pyyaml"},
    "s390x": {"cryptography", "markupsafe", "msgspec"},
}


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["parity"], "pip"])
def test_every_dependency_of_the_importer_is_locked_in_a_version_that_it_accepts(text):
    requirement = Requirement(text)
    versions = [each.version for each in LOCK.packages if each.name == requirement.name.lower()]
    assert versions
    assert all(version in requirement.specifier for version in versions)


@pytest.mark.parametrize("runtime", RUNTIMES, ids=str)
def test_each_runtime_has_its_wheels_or_lacks_what_is_documented(runtime):
    own = [*PROJECT["dependencies"], *(f'{each}; extra == "parity"' for each in PROJECT["optional-dependencies"]["parity"])]
    lock, architecture = LockFile(RELEASE_LOCK, own), runtime.platform.architecture
    assert set(lock.select(runtime, parity=False).lacks) == LACKS[architecture]
    assert set(lock.select(runtime, parity=True).lacks) == LACKS[architecture] | (
        set() if architecture == "amd64" else {"zfec"}
    )


def test_the_lock_file_is_valid_and_names_files_and_checksums_but_no_index():
    LOCK.validate()
    assert "://" not in TEXT
    wheels = [wheel for package in LOCK.packages for wheel in package.wheels or ()]
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.whl", wheel.path or "") for wheel in wheels)
    assert all(re.fullmatch(r"[0-9a-f]{64}", wheel.hashes["sha256"]) for wheel in wheels)
    assert all(wheel.size for wheel in wheels)
