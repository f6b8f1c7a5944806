"""Signatures and attachments travel with their images: cosign tags and referrers, from one registry to another."""

from __future__ import annotations

import json
import subprocess

import pytest

from common.oci.image import hex_of, parse
from common.oci.reference import Reference
from common.registry.client import RegistryClient
from common.registry.referrers import fallback_tag
from common.registry.settings import RegistrySettings
from tests.fakes.commands import run
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import docker_registry, require
from tests.samples import more

pytestmark = pytest.mark.integration
NOTARY, SBOM = "application/vnd.cncf.notary.signature", "application/spdx+json"
RECORDS = "hub-airgap-archives"  # the repository of a mirror with the records of its archives (ADR 0080)
CHILDREN = [image([b"base", platform.encode()], platform=platform) for platform in ("linux/amd64", "linux/arm64")]
APP = index(CHILDREN)
PLAIN = image([b"plain"])
COSIGN = {digest: image([b"cosign " + digest.encode()]) for digest in (APP.digest, CHILDREN[0].digest)}
ATTESTATION = image([b"attestation"])
BOM = image([b"sbom"], subject=APP.descriptor, artifact_type=SBOM, annotations={"made": "today"})
BOM_SIGNATURE = image([b"signature of the sbom"], subject=BOM.descriptor, artifact_type=NOTARY)


@pytest.fixture
def source():
    with FakeRegistry() as registry:
        registry.add_image("org/app", APP, "v1")
        registry.add_image("org/plain", PLAIN, "v1")
        for digest, signature in COSIGN.items():
            registry.add_image("org/app", signature, f"sha256-{hex_of(digest)}.sig")
        registry.add_image("org/app", ATTESTATION, f"sha256-{hex_of(APP.digest)}.att")
        for referrer in (BOM, BOM_SIGNATURE):
            registry.add_image("org/app", referrer)
        yield registry


def create(source, output, *arguments, app="org/app:v1"):
    return run(
        *("hub-export", "create", "--image", f"{source.host}/{app}", "--insecure", source.host),
        *("--output", output, "--format", "json", *arguments),
    )


def push(archive, host, *arguments):
    return run("hub-import", "push", archive, "--registry", host, "--insecure", host, "--format", "json", *arguments)


def inventory_of(archive):
    return json.loads((archive / "inventory.json").read_bytes())


def by_kind(archive):
    found: dict[str, set[str]] = {}
    for record in inventory_of(archive)["images"]:
        found.setdefault(record["kind"], set()).add(record["digest"])
    return found


def test_everything_that_refers_to_an_image_is_carried_and_listed(source, tmp_path):
    done = create(source, tmp_path / "out")
    assert done.status == 0, done.stderr
    assert by_kind(tmp_path / "out") == {
        "additional": {APP.digest},
        "signature": {*(each.digest for each in COSIGN.values()), BOM_SIGNATURE.digest},
        "attachment": {ATTESTATION.digest, BOM.digest},
    }
    assert inventory_of(tmp_path / "out")["manifests"][BOM.digest]["subject"] == APP.digest
    assert run("hub-import", "verify", tmp_path / "out").status == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert [record["digest"] for record in inventory_of(tmp_path / "out")["images"] if record["digest"] not in page] == []


@pytest.mark.parametrize("api", [True, "page", *more([False])])
def test_a_source_without_the_api_lists_them_under_the_fallback_tag(source, tmp_path, api):
    """`page`: HTTP 200 with a page, as registry.k8s.io answers after a redirect (oras-project/oras-go#633)."""
    source.referrers = api is True
    if api == "page":
        source.fault("GET", "/referrers/", times=1000, status=200, body=b"<!doctype html><title>Sign in</title>")
    if api is not True:
        for subject, referrer in ((APP, BOM), (BOM, BOM_SIGNATURE)):
            listed = index([referrer])
            source.add_manifest("org/app", listed.raw, listed.media_type, fallback_tag(subject.digest))
    done = create(source, tmp_path / "out")
    assert (done.status, done.json["problems"]) == (0, [])
    assert {BOM.digest} < by_kind(tmp_path / "out")["attachment"]
    assert BOM_SIGNATURE.digest in by_kind(tmp_path / "out")["signature"]


def test_a_mirror_without_the_api_gets_the_fallback_tag(source, tmp_path):
    create(source, tmp_path / "out")
    with docker_registry(tmp_path) as mirror:
        pushed = push(tmp_path / "out", mirror.host)
        assert pushed.status == 0, pushed.stderr
        with RegistryClient(RegistrySettings(insecure=frozenset({mirror.host}))) as client:
            repository = Reference(mirror.host, "org/app")
            assert f"sha256-{hex_of(APP.digest)}.att" in set(client.tags(repository))
            (bom,) = client.referrers(repository.pinned(APP.digest))
            assert (bom.digest, bom.artifact_type, bom.annotations) == (BOM.digest, SBOM, {"made": "today"})
            assert [each.digest for each in client.referrers(repository.pinned(BOM.digest))] == [BOM_SIGNATURE.digest]
            for digest, signature in COSIGN.items():
                found = client.document(Reference(mirror.host, "org/app", f"sha256-{hex_of(digest)}.sig"))
                assert found == parse(signature.raw, signature.media_type)
        asked = len(mirror.log.read_text().splitlines())
        again = push(tmp_path / "out", mirror.host)
        assert again.json["uploaded"] == again.json["mounted"] == 0
        later = [line for line in mirror.log.read_text().splitlines()[asked:] if '"' in line and "HTTP/1.1" in line]
        assert later
        # The images, and the record of the archive (ADR 0080): it is there, too.
        known = ('"HEAD /v2/org/app/manifests/', f'"HEAD /v2/{RECORDS}/manifests/')
        assert all(any(each in line for each in known) for line in later if "/v2/ " not in line)


def test_a_mirror_with_the_api_needs_no_fallback_tag(source, tmp_path):
    create(source, tmp_path / "out")
    with FakeRegistry() as mirror:
        assert push(tmp_path / "out", mirror.host).status == 0
        assert fallback_tag(APP.digest) not in mirror.repositories["org/app"].tags
        with RegistryClient(RegistrySettings(insecure=frozenset({mirror.host}))) as client:
            (bom,) = client.referrers(Reference(mirror.host, "org/app").pinned(APP.digest))
        assert bom.digest == BOM.digest


def test_signatures_follow_their_image_to_another_repository(source, tmp_path):
    (tmp_path / "set.yaml").write_text(
        "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n"
        f"  - {{name: '{source.host}/org/app:v1', targetRepo: moved/app, targetTag: v9}}\n"
    )
    done = run("hub-export", "create", tmp_path / "set.yaml", "--insecure", source.host, "--output", tmp_path / "out")
    assert done.status == 0, done.stderr
    with FakeRegistry() as mirror:
        assert push(tmp_path / "out", mirror.host).status == 0
        assert set(mirror.repositories) == {"moved/app", RECORDS}
        assert {"v9", f"sha256-{hex_of(APP.digest)}.sig"} < set(mirror.repositories["moved/app"].tags)


def test_skopeo_copies_a_signature_out_of_the_mirror(source, tmp_path):
    create(source, tmp_path / "out")
    with docker_registry(tmp_path) as mirror:
        push(tmp_path / "out", mirror.host)
        tag = f"sha256-{hex_of(APP.digest)}.sig"
        subprocess.run(
            [
                require("skopeo"),
                "copy",
                "--src-tls-verify=false",
                f"docker://{mirror.host}/org/app:{tag}",
                f"dir:{tmp_path / 'x'}",
            ],
            check=True,
            capture_output=True,
        )
    assert (tmp_path / "x/manifest.json").read_bytes() == COSIGN[APP.digest].raw


def test_ignore_asks_for_nothing(source, tmp_path):
    assert create(source, tmp_path / "out", "--signatures", "ignore").status == 0
    assert set(by_kind(tmp_path / "out")) == {"additional"}
    assert not source.log("GET", "/referrers/")
    assert not [r for r in source.log() if r.path.endswith((".sig", ".att", ".sbom"))]


def test_require_stops_before_the_first_layer_and_names_the_image(source, tmp_path):
    both = create(source, tmp_path / "out", "--image", f"{source.host}/org/plain:v1", "--signatures", "require")
    assert both.status == 1
    assert "1 image without a signature, and --signatures require was given" in both.stderr
    assert f"{source.host}/org/plain:v1: no signature was found" in both.stderr
    assert "--signatures carry" in both.stderr
    assert not source.log("GET", "/blobs/")
    assert not (tmp_path / "out").exists()
    assert create(source, tmp_path / "out", "--signatures", "require").status == 0


def test_a_registry_that_forbids_the_lookup_is_one_warning(source, tmp_path):
    source.fault("GET", ".sig", times=99, status=403)
    done = create(source, tmp_path / "out")
    assert done.status == 0, done.stderr
    (problem,) = done.json["problems"]
    assert (problem["severity"], problem["code"], problem["subject"]) == ("warning", "signature-unavailable", source.host)
    assert "2 manifests" in problem["message"], "the list of tags has none for the third"
    required = create(source, tmp_path / "strict", "--signatures", "require")
    assert required.status == 1


def test_a_signature_whose_layer_is_gone_is_a_warning_on_both_sides(source, tmp_path):
    (lost,) = set(COSIGN[APP.digest].blobs) - set(APP.manifests[0].blobs) - {parse(COSIGN[APP.digest].raw).config.digest}
    del source.repositories["org/app"].blobs[lost]
    done = create(source, tmp_path / "out")
    assert done.status == 0, done.stderr
    (problem,) = done.json["problems"]
    assert (problem["severity"], problem["code"]) == ("warning", "blob-unavailable")
    with FakeRegistry() as mirror:
        pushed = push(tmp_path / "out", mirror.host)
    assert pushed.status == 0, pushed.stderr
    assert [each["severity"] for each in pushed.json["problems"]] == ["warning"]


def test_a_mirror_that_takes_no_signatures_gets_the_operators_all_the_same(source, tmp_path):
    create(source, tmp_path / "out")
    with FakeRegistry() as mirror:
        mirror.fault("PUT", ".sig", times=99, status=400, body=b'{"errors": [{"code": "UNSUPPORTED"}]}')
        pushed = push(tmp_path / "out", mirror.host)
        assert pushed.status == 3
        assert {each["severity"] for each in pushed.json["problems"]} == {"warning"}
        assert mirror.repositories["org/app"].tags["v1"] == APP.digest


def test_a_platform_that_is_left_out_leaves_its_signatures_out(source, tmp_path):
    assert create(source, tmp_path / "out", "--platform", "linux/arm64").status == 0
    assert COSIGN[CHILDREN[0].digest].digest not in by_kind(tmp_path / "out")["signature"]
