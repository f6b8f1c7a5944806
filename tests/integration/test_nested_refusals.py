"""Registries that take no repositories of more than two components, and say so in many ways.

GitLab and old Quay answer 401 to an account that they know (openshift/oc-mirror#590), Quay's token server 400
(podman-container-tools/skopeo#1180); docker-registry behind rules, and Docker Hub, answer NAME_INVALID.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import PASSWORD, USER, FakeRegistry
from tests.fakes.registry_profile import Refusal
from tests.fakes.sites import export_images
from tests.samples import more
from tests.unit.common.registry.conftest import auth_file

pytestmark = pytest.mark.integration
IMAGES = {f"org/team/{name}": image([b"base", name.encode()]) for name in ("app", "tool", "web")}


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_images(tmp_path_factory.mktemp("nested") / "out", IMAGES)


# Which authentication, what the registry answers, and what its token server does.
REFUSALS = [
    ("basic", 401, 0),
    ("token", 400, 0),
    ("token", 401, 403),
    ("token", 404, 0),
    ("basic", 400, 0),
    ("basic", 403, 0),
    ("basic", 404, 0),
    ("token", 401, 0),
    ("token", 401, 200),
    ("token", 401, 400),
]


@pytest.mark.parametrize("refusal", [REFUSALS[0], *more(REFUSALS[1:])])
def test_nested_repositories_are_refused_once_with_the_option_that_helps(
    archive: Path, tmp_path: Path, refusal: tuple[str, int, int]
) -> None:
    kind, status, token = refusal
    with FakeRegistry(auth="basic" if kind == "basic" else "token") as mirror:
        mirror.max_depth, mirror.deep_token = 2, token
        code = "NAME_INVALID" if status in (400, 404) else "DENIED"
        mirror.profile = replace(mirror.profile, too_deep=Refusal(status, code, "no"))
        login = auth_file(tmp_path / "auth.json", mirror.host, USER, PASSWORD)
        place = ("--registry", mirror.host, "--insecure", mirror.host, "--authfile", login, "--jobs", "1")
        pushed = run("hub-import", "push", archive, *place, "--format", "json")
        assert pushed.status == 5, pushed.stderr
        problems = json.loads(pushed.stdout)["problems"]
        assert len(problems) == 1, problems
        message = problems[0]["message"]
        assert "--max-path-components 2" in message
        assert "3 components" in message
        assert "credentials were refused" not in message
        assert ("right to write" in message) == (status in (401, 403))
        # What it names helps.
        flat = run("hub-import", "push", archive, *place, "--max-path-components", "2")
        assert flat.status == 0, flat.stdout + flat.stderr


def test_a_missing_right_is_not_taken_for_nesting(archive: Path, tmp_path: Path) -> None:
    """Where a repository of two components is refused as well, their number is not the reason."""
    with FakeRegistry(auth="basic") as mirror:
        mirror.max_depth = 1
        mirror.profile = replace(mirror.profile, too_deep=Refusal(401))
        login = auth_file(tmp_path / "auth.json", mirror.host, USER, PASSWORD)
        place = ("--registry", mirror.host, "--insecure", mirror.host, "--authfile", login, "--max-path-components", "2")
        pushed = run("hub-import", "push", archive, *place, "--format", "json")
        problems = json.loads(pushed.stdout)["problems"]
        assert len(problems) == 1, problems
        assert "right to write" in problems[0]["message"]
        assert "--max-path-components" not in problems[0]["message"]
