"""The selection of wheels for a runtime by the lock file, their download by pip, and the rebuilt wheel of the importer."""

import io
import os
import re
import zipfile
from dataclasses import replace
from importlib.metadata import Distribution, distribution

import pytest
from packaging.requirements import Requirement

from common.errors import HubError, SpaceError, UsageError
from common.oci.image import Platform
from common.progress import Silent
from exporter.kit.lock_file import MAX_LOCK, LockFile, Selection
from exporter.kit.settings import PLATFORMS, PYTHONS, KitSettings, Runtime, checked_platforms, checked_pythons
from exporter.kit.wheel_file import rebuilt
from exporter.kit.wheels import WheelFetcher, shown
from tests.fakes import wheelhouse
from tests.fakes.openpgp import SHIPPED

ARM_311, AMD_313 = Runtime(Platform("linux", "arm64"), "3.11"), Runtime(Platform("linux", "amd64"), "3.13")


def wheel(name, version="1.0", tag="py3-none-any"):
    """Return the file name and content of a wheel."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        folder = f"{name}-{version}.dist-info"
        archive.writestr(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{folder}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{folder}/RECORD", "")
    return f"{name}-{version}-{tag}.whl", output.getvalue()


MAC = "{}-1-cp313-cp313-macosx_11_0_arm64.whl"


def lock_of(tmp_path, *packages, own=()):
    """Return the lock file of packages: name, version, marker, and the names of the wheels."""
    text = 'lock-version = "1.0"\ncreated-by = "test"\n'
    for name, version, marker, files in packages:
        text += f'[[packages]]\nname = "{name}"\nversion = "{version}"\n' + (f'marker = "{marker}"\n' if marker else "")
        for file in files:
            text += f'[[packages.wheels]]\nurl = "https://index.example/{file}"\nhashes = {{ sha256 = "{64 * "0"}" }}\n'
    (tmp_path / "pylock.toml").write_text(text)
    return LockFile(tmp_path / "pylock.toml", own)


def test_packages_are_selected_by_their_markers_on_the_runtime(tmp_path):
    lock = lock_of(
        tmp_path,
        ("everywhere", "1", "", ["everywhere-1-py3-none-any.whl"]),
        ("old", "1", "python_version < '3.12'", ["old-1-py3-none-any.whl"]),
        ("arm", "1", "platform_machine == 'aarch64'", ["arm-1-py3-none-any.whl"]),
        ("patched", "1", "python_full_version < '3.13.2'", ["patched-1-py3-none-any.whl"]),
        ("windows", "1", "sys_platform == 'win32'", ["windows-1-py3-none-any.whl"]),
        ("code", "1", "'parity' in extras", ["code-1-py3-none-any.whl"]),
        ("hub-airgap", "1", "", ["hub_airgap-1-py3-none-any.whl"]),
    )
    assert set(lock.select(ARM_311, parity=False).wheels) == {"everywhere", "old", "arm", "patched"}
    assert set(lock.select(AMD_313, parity=False).wheels) == {"everywhere", "patched"}
    assert set(lock.select(AMD_313, parity=True).wheels) == {"everywhere", "patched", "code"}


@pytest.mark.parametrize(
    ("files", "best"),
    [
        (["x-1-py3-none-any.whl", "x-1-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"], 1),
        (["x-1-cp39-abi3-manylinux_2_28_x86_64.whl", "x-1-py3-none-any.whl"], 0),
        (["x-1-cp313-cp313-manylinux_2_17_x86_64.whl", "x-1-cp313-cp313-manylinux_2_28_x86_64.whl"], 1),
        (["x-1-cp313-cp313-linux_x86_64.whl"], 0),  # as pip wheel builds it
        (["x-1-cp313-cp313t-manylinux_2_17_x86_64.whl", "x-1-cp313-cp313-musllinux_1_2_x86_64.whl"], None),
        (["x-1-cp313-cp313-manylinux_2_34_x86_64.whl", "x-1-cp312-cp312-manylinux_2_17_x86_64.whl"], None),
        (["x-1-cp313-cp313-manylinux_2_17_aarch64.whl", "x-1-cp313-cp313-win_amd64.whl"], None),
    ],
)
def test_the_wheel_that_fits_the_runtime_best_is_selected(tmp_path, files, best):
    selected = lock_of(tmp_path, ("x", "1", "", files)).select(AMD_313, parity=False)
    expected = {} if best is None else {"x": files[best]}
    assert {name: each.filename for name, each in selected.wheels.items()} == expected
    assert selected.lacks == (("x",) if best is None else ())


def test_every_package_without_a_wheel_is_named(tmp_path):
    lock = lock_of(
        tmp_path, ("a", "1", "", ["a-1-py3-none-any.whl"]), ("b", "1", "", [MAC.format("b")]), ("c", "1", "", [MAC.format("c")])
    )
    assert lock.select(AMD_313, parity=False) == Selection({}, ("b", "c"))


def test_a_runtime_can_lack_parity_alone(tmp_path):
    lock = lock_of(
        tmp_path, ("a", "1", "", ["a-1-py3-none-any.whl"]), ("code", "1", "'parity' in extras", [MAC.format("code")])
    )
    selected = lock.select(AMD_313, parity=True)
    assert (set(selected.wheels), selected.lacks, selected.parity) == ({"a"}, ("code",), False)
    assert lock.select(AMD_313, parity=False).lacks == ()


def test_a_lock_file_must_satisfy_the_requirements_of_the_importer(tmp_path):
    packages = ("a", "1", "", ["a-1-py3-none-any.whl"]), ("b", "1", "", ["b-1-py3-none-any.whl"])
    own = ["A>=1", "b>=2", "c", 'd; extra == "parity"', 'e; python_version < "3.12"']
    lock = lock_of(tmp_path, *packages, own=own)
    assert lock.select(AMD_313, parity=False).lacks == ("b", "c")
    assert lock.select(AMD_313, parity=True).lacks == ("b", "c", "d")
    assert lock.select(ARM_311, parity=False).lacks == ("b", "c", "e")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("#" * (MAX_LOCK + 1), "larger than"),
        ("a = " + "[" * 5000, "no lock file"),
        ("not toml", "no lock file"),
        ('created-by = "x"', "lock-version"),
        ('lock-version = "2.0"\ncreated-by = "x"\npackages = []', "no lock file"),
        ('lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = 1', "no lock file"),
    ],
)
def test_a_file_that_is_no_lock_file_is_refused(tmp_path, text, message):
    path = tmp_path / "pylock.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message):
        LockFile(path, [])


@pytest.mark.parametrize(
    ("file", "sha256"),
    [
        ("x-1-py3-none-any.whl", r"00\n--index-url https://evil.example"),  # the hash becomes a line of pip's requirements
        ("x-1-py3-none-any.whl", "00"),
    ],
)
def test_an_entry_that_pip_could_read_otherwise_is_refused(tmp_path, file, sha256):
    lock_of(tmp_path, ("x", "1", "", [file]))
    path = tmp_path / "pylock.toml"
    path.write_text(path.read_text().replace(64 * "0", sha256))
    with pytest.raises(UsageError, match="invalid"):
        LockFile(path, []).select(AMD_313, parity=False)


def test_a_wheel_without_a_sha256_is_refused(tmp_path):
    lock_of(tmp_path, ("x", "1", "", ["x-1-py3-none-any.whl"]))
    path = tmp_path / "pylock.toml"
    path.write_text(path.read_text().replace("sha256", "md5"))
    with pytest.raises(UsageError, match="has no sha256"):
        LockFile(path, []).select(AMD_313, parity=False)


def kit_settings(tmp_path, *runtimes):
    """Return the settings of a kit of the wheels in `tmp_path/index`, which are all that pip knows."""
    environ = {**os.environ, "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index")}
    platforms, pythons = tuple({each.platform for each in runtimes}), tuple({each.python for each in runtimes})
    return KitSettings(tmp_path / "kit", environ, platforms, pythons, lock=wheelhouse.lock(tmp_path / "index"))


def offered(tmp_path):
    """Offer a wheel of every requirement of the importer."""
    (tmp_path / "index").mkdir()
    for text in distribution("hub-airgap").requires or ():
        requirement = Requirement(text)
        if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
            low = next((each.version for each in requirement.specifier if each.operator in (">=", "==")), "1")
            name, content = wheel(requirement.name.replace("-", "_"), low.replace("*", "0"))
            (tmp_path / "index" / name).write_bytes(content)


def fetch(tmp_path, settings):
    fetcher = WheelFetcher(settings)
    return fetcher.fetch(tmp_path / "own.whl", fetcher.select(), tmp_path / "wheels", Silent())


def test_pip_fetches_the_locked_wheels_for_another_machine_and_checks_them(tmp_path):
    offered(tmp_path)
    settings = kit_settings(tmp_path, AMD_313)
    (found,) = fetch(tmp_path, settings)
    names = {path.name for path in (tmp_path / "index").glob("*.whl")}
    assert {path.name for path in (tmp_path / "wheels").iterdir()} == names
    assert found.requirement == "hub-airgap"
    assert {path.name for path in found.wheels.values()} == {*names, "own.whl"}

    changed = tmp_path / "index" / wheel("semver", "3.0.4")[0]
    changed.write_bytes(changed.read_bytes() + b"\0")
    settings = replace(settings, environ={**settings.environ, "PIP_FIND_LINKS": str(tmp_path / "index")})
    assert fetch(tmp_path, settings)  # nothing is missing, so pip is not asked
    (tmp_path / "wheels" / changed.name).unlink()
    with pytest.raises(HubError, match=r"exit status 1\): THESE PACKAGES DO NOT MATCH THE HASHES.*semver"):
        fetch(tmp_path, settings)
    assert not (tmp_path / "wheels" / changed.name).exists()


def test_a_kit_that_does_not_fit_is_a_lack_of_space_before_pip_runs(tmp_path):
    offered(tmp_path)
    settings = kit_settings(tmp_path, AMD_313)
    text = re.sub(r"^size = \d+", f"size = {1 << 60}", settings.lock.read_text(), flags=re.MULTILINE)
    settings.lock.write_text(text)
    with pytest.raises(SpaceError, match="the wheels of the kit needs"):
        fetch(tmp_path, settings)


def test_runtimes_say_what_wheels_run_there():
    assert ARM_311.wheel_platforms[0] == "manylinux_2_28_aarch64"
    assert "manylinux2014_aarch64" in ARM_311.wheel_platforms
    assert {one["python_version"] for one in ARM_311.environments} == {"3.11"}
    assert str(AMD_313) == "linux/amd64 with Python 3.13"
    assert checked_platforms([]) == PLATFORMS
    assert checked_platforms(["linux/s390x", "linux/s390x"]) == (Platform("linux", "s390x"),)
    assert checked_pythons([]) == PYTHONS
    for bad in ("linux/riscv64", "windows/amd64", "linux/x86_64", "amd64"):
        with pytest.raises(UsageError):
            checked_platforms([bad])
    with pytest.raises(UsageError):
        checked_pythons(["3.9"])


def test_our_own_wheel_is_the_same_every_time_and_whole():
    own = distribution("hub-airgap")
    name, content = rebuilt(own)
    assert name == f"hub_airgap-{own.version}-py3-none-any.whl"
    assert rebuilt(own) == (name, content)
    assert rebuilt(own, 1_700_000_000)[1] != content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = set(archive.namelist())
        record = archive.read(f"hub_airgap-{own.version}.dist-info/RECORD").decode().splitlines()
    assert {"importer/cli/app.py", "exporter/kit/install.sh", "common/errors.py"} < names
    assert f"hub_airgap-{own.version}.data/data/share/man/man1/hub-import-deploy.1" in names
    assert {line.partition(",")[0] for line in record} == names
    assert not any(name.endswith((".pyc", ".pth", "INSTALLER", "direct_url.json")) for name in names)


def test_the_lock_file_of_the_release_and_the_keys_of_releases_are_part_of_the_wheel():
    with zipfile.ZipFile(io.BytesIO(rebuilt(distribution("hub-airgap"))[1])) as archive:
        names = set(archive.namelist())
    assert "exporter/kit/pylock.toml" in names
    assert {f"exporter/releases/keys/{path.name}" for path in SHIPPED.iterdir()} <= names


def test_a_changed_installation_is_no_source_of_wheels(tmp_path):
    folder = tmp_path / "thing-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    (folder / "WHEEL").write_text("Tag: py3-none-any\n")
    (tmp_path / "thing.py").write_text("x = 1\n")
    records = ["thing.py,,", "thing-1.0.dist-info/METADATA,,", "thing-1.0.dist-info/WHEEL,,", "thing-1.0.dist-info/RECORD,,"]
    (folder / "RECORD").write_text("\n".join(records) + "\n")
    assert rebuilt(Distribution.at(folder))[0] == "thing-1.0-py3-none-any.whl"
    wrong = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    (folder / "RECORD").write_text("\n".join([f"thing.py,sha256={wrong},0", *records[1:]]) + "\n")
    with pytest.raises(HubError, match="was changed"):
        rebuilt(Distribution.at(folder))
    (tmp_path / "thing.py").unlink()
    with pytest.raises(HubError, match=r"thing\.py"):
        rebuilt(Distribution.at(folder))
    (folder / "RECORD").unlink()
    with pytest.raises(HubError, match="not installed from a wheel"):
        rebuilt(Distribution.at(folder))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "WARNING: Retrying\nERROR: Could not find a version of a\nERROR: No matching distribution found for a==1\n",
            "Could not find a version of a ERROR: No matching distribution found for a==1",
        ),
        (
            "ERROR: https://user:secret@index.example/simple/a went away, user:secret@index.example",
            "(address) went away, (address)",
        ),
        ("WARNING: 401 Error for https://user:secret@x/simple", "WARNING: 401 Error for (address)"),
        ("", "no message"),
    ],
)
def test_the_message_of_pip_is_shown_without_addresses(output, message):
    assert shown(output) == message
