"""What the documents tell people to type is typed, in a place where the names are real; what they say is printed is printed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.docs.reading import DOCUMENTS, ROOT, Command, matches, read
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


# The first commands that a person types, export and deploy; the other pages run in `make test-all`.
FIRST = [path for path in PLAYED if path.name == "README.md"]


@pytest.mark.parametrize(
    "path", [*FIRST, *more(path for path in PLAYED if path not in FIRST)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_document_does_what_it_says(path, apart, tmp_path):
    wheels = read(path).site.get("wheels", "")
    if wheels and wheels != "{}.{}".format(*sys.version_info):
        pytest.skip(f"the wheels that are here are not for Python {wheels}")
    done = subprocess.run(
        [*apart, sys.executable, "-m", "tests.docs.stage", path, tmp_path],
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
