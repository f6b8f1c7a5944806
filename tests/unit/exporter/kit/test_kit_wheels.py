"""What a runtime requires, whatever Python this is; wheels made again; what pip may say aloud."""

import io
import zipfile
from importlib.metadata import Distribution, distribution

import pytest

from common.errors import ContentError, HubError, SpaceError, UsageError
from common.oci.image import Platform
from exporter.kit import wheels
from exporter.kit.settings import PLATFORMS, PYTHONS, Runtime, checked_platforms, checked_pythons
from exporter.kit.wheel_file import rebuilt
from exporter.kit.wheels import fetch

ARM_311, AMD_313 = Runtime(Platform("linux", "arm64"), "3.11"), Runtime(Platform("linux", "amd64"), "3.13")


def wheel(name, *requires, tag="py3-none-any"):
    """Return the file name and content of a wheel that requires others."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {one}" for one in requires)]
        archive.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(lines) + "\n")
    return f"{name}-1.0-{tag}.whl", output.getvalue()


class Index:
    """A pip that gives what it was told to, and follows requirements as Python 3.12 on amd64 would: those without a marker."""

    def __init__(self, *offered):
        self.offered = dict(offered)
        self.asked = []

    def download(self, requirements, runtime, directory, *, dependencies=True):
        self.asked.append(tuple(requirements))
        directory.mkdir(parents=True, exist_ok=True)
        for requirement in requirements:
            name = requirement.rpartition("/")[2].partition("[")[0].partition("-1.0")[0].partition("=")[0].partition(">")[0]
            file = next((file for file in self.offered if file.startswith(f"{name}-")), None)
            if file is None:
                raise wheels.NoWheelError(name)
            (directory / file).write_bytes(self.offered[file])


def fetched(tmp_path, runtime, *offered):
    own = wheel("hub_airgap", "everywhere", 'old; python_version < "3.12"', 'arm; platform_machine == "aarch64"', "fat[extra]")
    common = (wheel("everywhere"), wheel("pip"), wheel("fat", 'more; extra == "extra"'), wheel("more"))
    index = Index(own, *common, *offered)
    return fetch(tmp_path / own[0], runtime, tmp_path / "to", index, parity=False), index


def test_what_is_required_only_there_is_fetched_and_what_is_not_is_left_out(tmp_path):
    found, index = fetched(tmp_path, ARM_311, wheel("old"), wheel("arm"))
    assert set(found.wheels) == {"hub-airgap", "pip", "everywhere", "fat", "more", "old", "arm"}
    assert index.asked[-1][2:] == ("arm", "everywhere", "fat[extra]", "old", "more")
    assert {path.name for path in (tmp_path / "to").iterdir()} == {path.name for path in found.wheels.values()}
    found, index = fetched(tmp_path, AMD_313)
    assert set(found.wheels) == {"hub-airgap", "pip", "everywhere", "fat", "more"}
    assert found.requirement == "hub-airgap"


def test_a_set_that_lacks_something_is_none(tmp_path):
    found, _ = fetched(tmp_path, ARM_311, wheel("arm"))
    assert not found.usable
    assert found.lacks
    assert not (tmp_path / "to").exists()


def test_a_broken_wheel_is_no_wheel(tmp_path):
    own = ("hub_airgap-1.0-py3-none-any.whl", b"not a zip")
    with pytest.raises(ContentError, match="not a wheel"):
        fetch(tmp_path / own[0], AMD_313, tmp_path / "to", Index(own, wheel("pip")), parity=False)


def changed(content, **fields):
    """Return a zip whose entry says something else of itself, in its header and in the directory."""
    raw = bytearray(content)
    for magic, flags, method in ((b"PK\3\4", 6, 8), (b"PK\1\2", 8, 10)):
        at = raw.index(magic)
        raw[at + flags] |= fields.get("flags", 0)
        raw[at + method] = fields.get("method", raw[at + method])
    return bytes(raw)


def large(name):
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}-1.0.dist-info/METADATA", bytes(64 << 20))
    return output.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (changed(wheel("pip")[1], flags=1), "encrypted"),
        (changed(wheel("pip")[1], method=99), "compression"),
        (changed(large("pip"), method=8)[:-60], "not a zip"),
        (changed(wheel("pip")[1], method=8), "not a wheel"),
        (large("pip"), "METADATA takes 67108864 bytes; the limit is 4194304"),
    ],
)
def test_a_wheel_that_cannot_be_unpacked_is_none(tmp_path, content, why):
    own = ("hub_airgap-1.0-py3-none-any.whl", content)
    with pytest.raises(ContentError, match=why):
        fetch(tmp_path / own[0], AMD_313, tmp_path / "to", Index(own, wheel("pip")), parity=False)


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
    assert {line.partition(",")[0] for line in record} == names
    assert not any(name.endswith((".pyc", ".pth", "INSTALLER", "direct_url.json")) for name in names)


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
    ("said", "kind", "shown"),
    [
        ("WARNING: x\nERROR: No matching distribution found for msgspec<0.23,>=0.20", wheels.NoWheelError, "msgspec"),
        ("ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/", wheels.NoWheelError, ""),
        (
            "WARNING: Retrying after connection broken by 'x': /simple/\nERROR: No matching distribution found for a",
            HubError,
            "reach",
        ),
        ("WARNING: 401 Error, Credentials not correct for https://u:p@x/simple\nERROR: No matching", HubError, "cannot reach"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", SpaceError, "no space"),
        (
            "ERROR: https://user:secret@index.example/simple/a went away, user:secret@index.example",
            HubError,
            "(address) went away",
        ),
    ],
)
def test_what_pip_says_becomes_an_error_without_addresses(said, kind, shown):
    error = wheels._error(said, ARM_311)
    assert type(error) is kind
    assert shown in error.message
    assert "secret" not in str(error)
    assert "u:p@" not in str(error)
