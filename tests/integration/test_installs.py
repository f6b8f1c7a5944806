"""What an installation has and has not: extras that are missing are named with the command that installs them there."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.docs.reading import DOCUMENTS, ROOT
from tests.fakes import environments, wheel_installs
from tests.fakes.registry import FakeRegistry
from tests.samples import more

ACCOUNTS = "reader:$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n"


@pytest.fixture(name="plain", scope="module")
def _plain(tmp_path_factory):
    """The programs of `pip install .`, without any extra."""
    return environments.make(tmp_path_factory.mktemp("plain"), [])


def ended(programs, *arguments, **options):
    command = [programs / arguments[0], *arguments[1:]]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env={"HOME": "/nonexistent"}, **options
    )
    assert "Traceback" not in done.stderr
    return done


def test_parity_without_its_package_is_refused_before_anything_is_looked_up(plain, tmp_path):
    with FakeRegistry() as source:
        image = f"{source.host}/org/app:v1"
        done = ended(
            plain,
            "hub-export",
            "create",
            "--image",
            image,
            "--insecure",
            source.host,
            "--parity",
            "5%",
            "--output",
            tmp_path / "out",
        )
        assert source.requests == []
    assert done.returncode == 2
    first, advice = done.stderr.splitlines()
    assert first == "error: parity needs the package zfec, which is not installed"
    assert f"{plain}/python -m pip install 'zfec<2,>=1.5.7'" in advice
    assert "python3-zfec" not in advice, "a virtual environment does not see the distribution's packages"
    assert "hub-export kit --parity" in advice
    assert not (tmp_path / "out").exists()


def test_repair_without_its_package_says_how_to_install_it(plain, tmp_path):
    done = ended(plain, "hub-import", "repair", tmp_path)
    assert done.returncode == 2
    assert f"{plain}/python -m pip install 'zfec" in done.stderr


def test_object_storage_without_its_package_says_how_to_install_it(plain):
    done = ended(plain, "hub-import", "inspect", "s3://bucket/archive")
    assert done.returncode == 2
    assert f"{plain}/python -m pip install 'boto3" in done.stderr


def test_an_environment_without_pip_is_not_asked_to_use_it(tmp_path):
    """uv tool install, and install.sh of the kit, make such environments."""
    programs = environments.make(tmp_path, [])
    (tmp_path / f"environment/lib/{_python(programs)}/site-packages/pip").unlink()
    done = ended(programs, "hub-import", "repair", tmp_path)
    assert "-m pip" not in done.stderr
    assert "'zfec<2,>=1.5.7'" in done.stderr
    assert "this environment has no pip" in done.stderr


def test_accounts_without_bcrypt_say_how_to_install_it(tmp_path):
    programs = environments.make(tmp_path, [])
    (tmp_path / f"environment/lib/{_python(programs)}/site-packages/bcrypt").unlink()
    (tmp_path / "archive").mkdir()
    (tmp_path / "accounts").write_text(ACCOUNTS)
    done = ended(programs, "python", "-c", _LOAD, cwd=tmp_path)
    assert f"{programs}/python -m pip install 'bcrypt" in done.stdout


_LOAD = """
from pathlib import Path
from common.errors import UsageError
from importer.serving.htpasswd import Htpasswd
try:
    Htpasswd.load(Path("accounts"))
except UsageError as error:
    print(error)
"""


def _python(programs):
    return next(path.name for path in (programs.parent / "lib").iterdir())


@functools.cache
def require(extras):
    """Require that there are such extras, and that what they need is installed here."""
    list(environments.closure([f"hub-airgap[{','.join(extras)}]"]))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_only_extras_that_exist(path):
    """And only in a form that works: there is no package of this name on PyPI."""
    text = path.read_text(encoding="utf-8")
    require(frozenset(environments.extras_of(text)))
    if "adr" not in path.parts:
        assert "hub-airgap[" not in text


# What a module may import although a plain installation lacks it: it says then how to install it.
BY_EXTRA = {"zfec": "parity", "boto3": "s3", "botocore": "s3"}
_IMPORT = re.compile(r"^ *(?:from|import) (\w+)[\w.]*(?: import | as |$)|import_module\(\"(\w+)", re.MULTILINE)


def test_no_module_imports_what_a_plain_installation_lacks():
    """The environment of the tests has everything, so an import of a development package would pass there (also a late one)."""
    texts = [
        path.read_text() for room in ("common", "exporter", "hub_airgap", "importer") for path in (ROOT / room).rglob("*.py")
    ]
    names = {first or second for text in texts for first, second in _IMPORT.findall(text)}
    foreign = names - sys.stdlib_module_names - {"common", "exporter", "hub_airgap", "importer"}
    assert {"httpx", "zfec", "boto3"} <= foreign
    files = [file for found in environments.closure(["hub-airgap"]) for file in found.files or ()]
    assert foreign - {file.parts[0].partition(".")[0] for file in files} == BY_EXTRA.keys()


@pytest.mark.parametrize("tool", more(["pipx", "uv", "python3"]))
def test_the_readme_installs_from_the_wheel(tool, tmp_path):
    (command,) = (one for one in wheel_installs.commands() if one.startswith(f"{tool} "))
    environment = wheel_installs.release(tmp_path, environments.extras_of(command))
    if shutil.which(tool, path=environment["PATH"]) is None:
        pytest.skip(f"{tool} is not installed")
    wheel_installs.typed(command, tmp_path, environment)
    programs = tmp_path / ("hub/bin" if tool == "python3" else ".local/bin")
    assert ended(programs, "hub-export", "--version").stdout.strip() == version("hub-airgap")
    done = ended(programs, "hub-import", "repair", tmp_path)
    assert "no parity in" in done.stderr, "the extra parity is installed"


def test_file_names_of_a_release_have_the_version():
    texts = [path.read_text() for path in DOCUMENTS if "adr" not in path.parts]
    named = {found for text in texts for found in re.findall(r"(?:hub_airgap-|hub-import:)(\d+(?:\.\d+)+)", text)}
    assert named == {version("hub-airgap")}


def test_what_the_readme_installs_has_what_its_commands_need():
    assert environments.extras_of((ROOT / "README.md").read_text()) >= {"parity"}
