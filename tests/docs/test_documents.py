"""What the documents tell people to type is typed, in a place where the names are real; what they say is printed is printed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.docs.reading import DOCUMENTS, ROOT, Command, matches, read
from tests.fakes import environments, wheel_installs
from tests.fakes.secrets import leaked
from tests.samples import more

pytestmark = pytest.mark.integration
PLAYED = [path for path in DOCUMENTS if any(isinstance(step, Command) for step in read(path).steps)]
APART = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
PROGRAMS = ("unshare", "bash", "curl", "docker-registry", "git", "htpasswd", "kubectl", "openssl", "skopeo", "zstd")


@pytest.fixture(scope="session")
def apart():
    """The beginning of a command line that puts a program into namespaces of its own."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if subprocess.run([*APART, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine gives no namespaces")
    return APART


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return the programs that the README's command installs from the wheel, with its extras and those of a page."""
    made = {}

    def programs(page):
        texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", page)]
        extras = frozenset().union(*map(environments.extras_of, texts))
        if extras not in made:
            made[extras] = wheel_installs.by_pip(tmp_path_factory.mktemp("installed"), extras)
        return made[extras]

    return programs


def test_the_readme_does_what_it_says(apart, tmp_path):
    """The first commands that a person types, export and deploy, with the packages that its installation has, and no other."""
    play(ROOT / "README.md", apart, tmp_path)


@pytest.mark.parametrize("path", more(PLAYED), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_does_what_it_says(path, apart, installed, tmp_path):
    """With the programs as the README installs them: from the wheel, in an environment of their own."""
    play(path, apart, tmp_path, f"--programs={installed(path)}")


def play(path, apart, tmp_path, *options):
    wheels = read(path).site.get("wheels", "")
    if wheels and wheels != "{}.{}".format(*sys.version_info):
        pytest.skip(f"the wheels that are here are not for Python {wheels}")
    done = subprocess.run(
        [*apart, sys.executable, "-m", "tests.docs.stage", path, tmp_path, *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "result.json").read_text())
    assert len(found) == len([step for step in read(path).steps if isinstance(step, Command)])
    wrong = [each for each in found if not matches(tuple(each["expected"]), each["printed"])]
    assert not wrong, "\n\n".join(map(_difference, wrong[:1]))
    assert not leaked(json.dumps(found))


def _difference(said):
    place = f"line {said['line']}: $ {said['text']}"
    return "\n".join([place, "should print:", *said["expected"], "", "prints:", *said["printed"]])
