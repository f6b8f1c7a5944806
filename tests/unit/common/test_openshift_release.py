"""Releases of OpenShift in options of both programs and in the target profile: one rule."""

from __future__ import annotations

import json

import pytest

from common import target_profile
from common.errors import UsageError
from common.openshift.openshift_release import parse_release
from common.registry.settings import RegistrySettings
from exporter.cli.options import SelectionOptions
from tests.fakes.commands import run

READ = {
    "4.18": (4, 18),
    "v4.18": (4, 18),
    "4.18.3": (4, 18),
    " 4.18": (4, 18),
    "4.3": (4, 3),
    "5.0": (5, 0),
    "4.20.0-rc.1": (4, 20),
}
REFUSED = ("", " ", "3.11", "5", "4", "4.2", "4.", "6.0", "four", "4.18.x", "4.18,4.19", "٤.١٨")


class _Registry:
    jobs = 1

    def settings(self) -> RegistrySettings:
        return RegistrySettings()


def exported(text: str) -> tuple[int, int] | None:
    return SelectionOptions(image=["registry.test/a/b:v1"], openshift_release=text).settings(_Registry()).release  # type: ignore[arg-type]


def profile(tmp_path, text):
    path = tmp_path / "target.json"
    registry = {"address": "m.test", "nestedPaths": None, "sparseIndexes": None, "referrers": None}
    known = {"openshiftRelease": text, "platforms": None, "operators": None, "registry": registry}
    path.write_text(json.dumps({"mediaType": target_profile.MEDIA_TYPE} | known))
    return target_profile.load(path)


@pytest.mark.parametrize(("text", "release"), READ.items())
def test_a_release_is_read_alike_everywhere(tmp_path, text, release):
    assert parse_release(text)[:2] == exported(text) == profile(tmp_path, text).minor_release == release


@pytest.mark.parametrize("text", REFUSED)
def test_another_text_is_refused_with_an_example_everywhere(tmp_path, text):
    for read in (parse_release, exported, lambda one: profile(tmp_path, one)):
        with pytest.raises(UsageError, match=r"OpenShift") as caught:
            read(text)
        assert "4.N" in caught.value.hint


def test_an_empty_release_of_render_is_no_missing_one(tmp_path):
    done = run(
        "hub-import", "render", tmp_path, "--registry", "m.test", "--openshift-release", "", "--output", tmp_path / "out"
    )
    assert (done.status, "--openshift-release is empty" in done.stderr) == (2, True), done.stderr
