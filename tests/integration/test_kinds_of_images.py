"""What registries hold besides plain images: nested indexes, artifacts, foreign layers, and what is refused by name."""

from __future__ import annotations

import json

import pytest

from common.oci import media_types
from common.oci.image import digest_of
from tests.fakes.commands import run
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import docker_registry

pytestmark = pytest.mark.integration
LEAF = image([b"base", b"leaf"])
NESTED = index([index([LEAF, image([b"base", b"arm"], platform="linux/arm64")]), image([b"docker"], docker=True)])
ARTIFACT = image([b'{"a": "model"}'], artifact_type="application/vnd.example.model")
SCHEMA_1 = json.dumps({"schemaVersion": 1, "name": "org/old", "tag": "v1", "fsLayers": [], "history": []}).encode()


def create(source, output, *names):
    images = [part for name in names for part in ("--image", f"{source.host}/{name}")]
    return run("hub-export", "create", *images, "--insecure", source.host, "--output", output, "--format", "json")


def push(archive, host):
    return run("hub-import", "push", archive, "--registry", host, "--insecure", host, "--format", "json")


def test_nested_indexes_and_artifacts_arrive_byte_for_byte_on_a_real_registry(tmp_path):
    with FakeRegistry() as source, docker_registry(tmp_path) as mirror, FakeRegistry() as other:
        source.add_image("org/nested", NESTED, tag="v1")
        source.add_image("org/model", ARTIFACT, tag="v1")
        done = create(source, tmp_path / "out", "org/nested:v1", "org/model:v1")
        assert done.status == 0, done.stderr
        for host in (mirror.host, other.host):
            pushed = push(tmp_path / "out", host)
            assert pushed.status == 0, pushed.stderr + pushed.stdout
        back = create(mirror, tmp_path / "back", "org/nested:v1", "org/model:v1")
        assert back.status == 0, back.stderr
        held = other.repositories["org/nested"].manifests
        assert {NESTED.digest, NESTED.manifests[0].digest, LEAF.digest, NESTED.manifests[1].digest} <= set(held)
    first, second = (json.loads((tmp_path / name / "inventory.json").read_bytes()) for name in ("out", "back"))
    assert first["manifests"] == second["manifests"]
    assert set(first["blobs"]) == set(second["blobs"])


def test_a_layer_that_its_registry_does_not_hold_comes_from_its_url(tmp_path):
    content = b"a layer that may not be distributed"
    with FakeRegistry() as source, FakeRegistry(tls=False) as outside, FakeRegistry() as mirror:
        outside.add_blob("org/foreign", content)
        plain = image([content])
        document = json.loads(plain.raw)
        document["layers"][0]["urls"] = [f"http://{outside.host}/v2/org/foreign/blobs/{digest_of(content)}"]
        raw = json.dumps(document).encode()
        source.add_blob("org/app", plain.config)
        source.add_manifest("org/app", raw, media_types.OCI_MANIFEST, "v1")
        done = run(
            *("hub-export", "create", "--image", f"{source.host}/org/app:v1", "--output", tmp_path / "out"),
            *("--insecure", source.host, "--insecure", outside.host),
        )
        assert done.status == 0, done.stderr
        assert push(tmp_path / "out", mirror.host).status == 0
        assert mirror.find_blob("org/app", digest_of(content)) == content


@pytest.mark.parametrize("subject", ["sha512:" + "a" * 128, "sha256:x", "../../etc"])
def test_an_image_whose_subject_is_no_digest_costs_itself_alone(tmp_path, subject):
    """It got into the inventory, and no import could open the archive."""
    document = json.loads(LEAF.raw)
    document["subject"] = {"mediaType": media_types.OCI_MANIFEST, "digest": subject, "size": 1}
    with FakeRegistry() as source:
        source.add_image("org/new", LEAF, tag="v1")
        source.add_image("org/odd", LEAF)
        source.add_manifest("org/odd", json.dumps(document).encode(), media_types.OCI_MANIFEST, "v1")
        done = create(source, tmp_path / "out", "org/odd:v1", "org/new:v1")
    assert done.status == 3, done.stderr
    (problem,) = done.json["problems"]
    assert (problem["code"], problem["subject"]) == ("image-unsupported", f"{source.host}/org/odd:v1")
    assert "its subject: " in problem["message"]
    assert "blockedImages" in problem["message"]
    verified = run("hub-import", "verify", tmp_path / "out", "--format", "json")
    assert verified.json["ok"], verified.stderr


def test_an_index_of_the_dotnet_sdk_is_carried(tmp_path):
    """It writes null for the variant that it does not know (dotnet/sdk#43085, ImageIndexGenerator.cs)."""
    unknown = {"variant": None, "features": None, "os.version": None}
    listed = json.loads(index([LEAF]).raw)
    listed["manifests"][0]["platform"] |= unknown
    with FakeRegistry() as source:
        source.add_image("org/net", LEAF)
        source.add_manifest("org/net", json.dumps(listed).encode(), media_types.OCI_INDEX, "v1")
        done = create(source, tmp_path / "out", "org/net:v1")
    assert (done.status, done.json["problems"]) == (0, []), done.stderr
    (carried,) = json.loads((tmp_path / "out" / "inventory.json").read_bytes())["images"]
    assert carried["platforms"] == ["linux/amd64"]


def test_schema_1_is_refused_by_name_and_the_rest_goes_on(tmp_path):
    with FakeRegistry() as source:
        source.add_manifest("org/old", SCHEMA_1, media_types.DOCKER_SCHEMA_1, "v1")
        source.add_image("org/new", LEAF, tag="v1")
        done = create(source, tmp_path / "out", "org/old:v1", "org/new:v1")
        assert done.status == 3
        (problem,) = done.json["problems"]
        assert (problem["code"], problem["subject"]) == ("image-unsupported", f"{source.host}/org/old:v1")
        assert "Docker schema 1 manifests are not supported" in problem["message"]
        assert "blockedImages" in problem["message"]


def test_indexes_that_list_each_other_without_end_are_refused(tmp_path):
    deep = index([LEAF])
    for _ in range(12):
        deep = index([deep])
    with FakeRegistry() as source:
        source.add_image("org/deep", deep, tag="v1")
        done = create(source, tmp_path / "out", "org/deep:v1")
        assert done.status == 5
        assert "indexes nested deeper than 8" in done.stderr


def test_a_registry_that_lists_referrers_without_end_is_one_warning(tmp_path):
    app = image([b"app"])
    with FakeRegistry() as source:
        source.add_image("org/app", app, tag="v1")
        listed = [image([b"%d" % number], subject=app.descriptor, artifact_type="a/b") for number in range(20)]
        for each in listed:
            source.add_image("org/app", each)
        body = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": _endless(listed)}).encode()
        source.fault("GET", "/referrers/", status=200, body=body, times=10_000)
        done = create(source, tmp_path / "out", "org/app:v1")
        assert done.status == 0, done.stderr
        (problem,) = done.json["problems"]
        assert problem["code"] == "signature-unavailable"
        assert "more than 1000 signatures and attachments" in problem["message"]


def _endless(listed):
    return [{"mediaType": each.media_type, "digest": each.digest, "size": len(each.raw)} for each in listed]
