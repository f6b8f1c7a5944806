"""Documents that travel next to archives, mutated: a HubError, or a document; nothing else is raised."""

from __future__ import annotations

import json

import pytest

from common import target_profile
from common.archive.inventory import Encoding
from common.oci.image import digest_of
from exporter.distributed import part, plan_file
from exporter.distributed.joining import Mark
from importer.serving.htpasswd import Htpasswd
from tests.fuzz.mutation import mutated, mutated_json
from tests.fuzz.running import fuzz
from tests.unit.exporter.distributed.test_plan_file import document  # noqa: F401 - a fixture

PLAN = digest_of(b"plan")
PROFILE = {
    "mediaType": target_profile.MEDIA_TYPE,
    "openshiftRelease": "4.18.7",
    "platforms": ["linux/amd64"],
    "operators": [{"package": "a", "channel": "b", "csv": "c", "version": "1.0.0", "catalog": "d", "namespace": "e"}],
    "registry": {"address": "mirror.example:5000", "nestedPaths": True, "sparseIndexes": None, "referrers": False},
    "notes": ["x"],
}


def changed(raw: bytes, chance) -> bytes:
    return (mutated_json if chance.random() < 0.8 else mutated)(raw, chance)


def test_plans(document):  # noqa: F811
    raw = document[2]

    def check(chance):
        found = plan_file.decode(changed(raw, chance), "plan.json")
        assert found.spec.layout.volumes
        assert {blob.encoding for blob in found.spec.plan.blobs} <= set(Encoding)

    fuzz("plan", 30, check)


def test_target_profiles(tmp_path):
    raw, path = json.dumps(PROFILE).encode(), tmp_path / "target.json"

    def check(chance):
        path.write_bytes(changed(raw, chance))
        assert target_profile.load(path).media_type == target_profile.MEDIA_TYPE

    fuzz("target profile", 40, check)


def test_records_of_parts():
    raw = part.encode(part.Part(part._TYPE, PLAN, (1, 2), {}, PLAN, PLAN, {"volume-0001.tar.zst": "0" * 64}, {"x": "y"}))

    def check(chance):
        assert part.decode(changed(raw, chance), "part").media_type == part._TYPE

    fuzz("part", 40, check)


def test_marks_of_a_joining(tmp_path):
    mark = Mark(tmp_path, PLAN)
    mark.note({"volume-0001.tar.zst": "0" * 64})
    (path,) = tmp_path.iterdir()
    raw = path.read_bytes()

    def check(chance):
        path.write_bytes(changed(raw, chance))
        Mark(tmp_path, PLAN).admit(tmp_path)

    fuzz("mark", 40, check)


@pytest.mark.parametrize("raw", [b"reader:$2b$05$" + b"a" * 53 + b"\n"])
def test_password_files(tmp_path, raw):
    path = tmp_path / "htpasswd"

    def check(chance):
        path.write_bytes(mutated(raw, chance))
        Htpasswd.load(path)

    fuzz("htpasswd", 40, check)
