"""The lock file of the release agrees with pyproject.toml; `make lock` renews it."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.pylock import Pylock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from exporter.kit.lock_file import LockFile
from exporter.kit.settings import RELEASE_LOCK
from tests.kit_lock import RUNTIMES

TEXT = RELEASE_LOCK.read_text()
LOCK = Pylock.from_dict(tomllib.loads(TEXT))
ROOT = Path(__file__).parents[4]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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


LOCKS = [*sorted((ROOT / "deploy").glob("*.lock")), ROOT / "tests" / "requirements.lock"]


def pinned(path):
    """Return the versions in a file of requirements, and check that each has a hash."""
    found = {}
    for entry in re.findall(r"^[^ #\n].*\n(?: .*\n)*", path.read_text(), re.MULTILINE):
        requirement = Requirement(entry.partition("\\")[0].strip())
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry)
        (exact,) = requirement.specifier
        assert exact.operator == "=="
        found[canonicalize_name(requirement.name)] = exact.version
    return found


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_what_the_image_and_the_tests_install_is_that_of_the_kit(path):
    kit = {each.name: str(each.version) for each in LOCK.packages}
    found = pinned(path)
    assert all(kit.get(name, version) == version for name, version in found.items())
    assert "://" not in path.read_text()
    assert not re.search(r"^(?!#)\s*-(?!-hash)", path.read_text(), re.MULTILINE)  # no option of pip


def test_every_requirement_is_locked_in_a_version_that_it_accepts():
    extras = PROJECT["optional-dependencies"]
    image = (
        pinned(LOCKS[-2])
        | pinned(ROOT / "deploy" / "requirements-s3.lock")
        | pinned(ROOT / "deploy" / "requirements-parity.lock")
    )
    for found, texts in (
        (image, [*PROJECT["dependencies"], *extras["s3"], *extras["parity"], "hatchling"]),
        (pinned(LOCKS[-1]), [*PROJECT["dependencies"], *extras["dev"], "hatchling", "editables", "pip"]),
    ):
        for requirement in map(Requirement, texts):
            if requirement.name != "hub-airgap":
                assert found[canonicalize_name(requirement.name)] in requirement.specifier
