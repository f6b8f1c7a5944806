"""Errors of a mirror between the last blob and the tag, and retries."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.fakes.commands import BIN, run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.samples import more

pytestmark = pytest.mark.integration
APP = image([b"base", b"own"])


def archive_of(tmp_path, *images):
    with FakeRegistry() as source:
        names = []
        for number, each in enumerate(images):
            source.add_image(f"org/app{number}", each, tag="v1")
            names += ["--image", f"{source.host}/org/app{number}:v1"]
        done = run("hub-export", "create", *names, "--insecure", source.host, "--output", tmp_path / "out")
        assert done.status == 0, done.stderr
    return tmp_path / "out"


def push(archive, host):
    return run("hub-import", "push", archive, "--registry", host, "--insecure", host, "--format", "json")


def test_a_manifest_whose_blobs_the_registry_does_not_see_is_written_once_more(tmp_path):
    archive = archive_of(tmp_path, APP)
    with FakeRegistry() as mirror:
        unknown = b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"}]}'
        mirror.fault("PUT", "/manifests/", status=404, body=unknown)
        pushed = push(archive, mirror.host)
        assert pushed.status == 0, pushed.stderr
        assert mirror.repositories["org/app0"].tags["v1"] == APP.digest
        assert len(mirror.log("HEAD", "/org/app0/blobs/")) == 3 * len(APP.blobs), "before it was sent, after, and again"
        assert len(mirror.log("POST", "/org/app0/blobs/uploads/")) == len(APP.blobs), "none was sent again"


def test_a_missing_blob_is_uploaded_again(tmp_path):
    archive = archive_of(tmp_path, APP)
    with FakeRegistry() as mirror:
        lost = next(iter(APP.blobs))
        mirror.add_blob("org/app0", APP.blobs[lost])
        mirror.fault("HEAD", f"/org/app0/blobs/{lost}", status=200)  # it says that it has the blob
        del mirror.repositories["org/app0"].blobs[lost]
        pushed = push(archive, mirror.host)
        assert pushed.status == 0, pushed.stderr
        assert mirror.find_blob("org/app0", lost) == APP.blobs[lost]


def half_written(mirror, times):
    body = b'{"errors": [{"code": "DIGEST_INVALID", "message": "provided digest did not match uploaded content"}]}'
    mirror.fault("PUT", "/manifests/", status=400, body=body, times=times)


def test_a_manifest_that_is_written_concurrently_is_retried(tmp_path):
    """A registry of files looks into what another process writes at that moment."""
    archive = archive_of(tmp_path, APP)
    with FakeRegistry() as mirror:
        half_written(mirror, 1)
        pushed = push(archive, mirror.host)
        assert pushed.status == 0, pushed.stderr
        assert mirror.repositories["org/app0"].tags["v1"] == APP.digest


def test_digest_invalid_on_every_retry_is_an_error(tmp_path):
    archive = archive_of(tmp_path, APP)
    with FakeRegistry() as mirror:
        half_written(mirror, 99)
        pushed = push(archive, mirror.host)
        assert pushed.status == 5
        assert "DIGEST_INVALID" in pushed.json["problems"][0]["message"]
        assert len(mirror.log("PUT", "/manifests/")) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, *more([signal.SIGINT])])
def test_a_signal_ends_a_long_retry_after(tmp_path, number):
    with FakeRegistry() as source:
        source.add_image("org/app", APP, tag="v1")
        source.fault("GET", "/blobs/", times=99, status=429, headers={"Retry-After": "600"})
        command = [str(BIN / "hub-export"), "create", "--image", f"{source.host}/org/app:v1", "--insecure", source.host]
        process = subprocess.Popen(
            [*command, "--output", str(tmp_path / "out"), "--progress", "plain"],
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        )
        for line in process.stderr:
            if "asked to wait" in line:
                break
        process.send_signal(number)
        _, rest = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert "run the same command again" in rest
    assert "Traceback" not in rest


def test_a_reference_collision_is_a_warning_of_plan_and_an_error_of_push(tmp_path):
    with FakeRegistry() as one, FakeRegistry() as other, FakeRegistry() as mirror:
        one.add_image("org/app", APP, tag="v1")
        other.add_image("org/app", image([b"another"]), tag="v1")
        images = [f"{registry.host}/org/app:v1" for registry in (one, other)]
        done = run(
            *("hub-export", "create", "--image", images[0], "--image", images[1], "--format", "json"),
            *("--insecure", one.host, "--insecure", other.host, "--output", tmp_path / "out"),
        )
        assert done.status == 0, done.stderr
        (problem,) = done.json["problems"]
        assert (problem["severity"], problem["code"], problem["subject"]) == ("warning", "reference-collision", "org/app:v1")
        assert all(name in problem["message"] for name in images)
        assert "--keep-source-host" in problem["message"]
        refused = push(tmp_path / "out", mirror.host)
        assert refused.status == 2
        assert "would both become" in refused.stderr
        assert mirror.log() == []
        apart = run(
            *("hub-import", "push", tmp_path / "out", "--registry", mirror.host, "--insecure", mirror.host),
            "--keep-source-host",
        )
        assert apart.status == 0, apart.stderr


def test_a_tag_that_moves_after_the_plan_does_not_mix_two_versions(tmp_path):
    with FakeRegistry() as source:
        source.add_image("org/app", APP, tag="v1")
        newer = image([b"base", b"newer"])
        for content in newer.blobs.values():
            source.add_blob("org/app", content)
        source.fault("GET", "/blobs/", status=503, headers={"Retry-After": "1"})
        process = subprocess.Popen(
            [
                *(str(BIN / "hub-export"), "create", "--image", f"{source.host}/org/app:v1", "--insecure", source.host),
                *("--output", str(tmp_path / "out"), "--progress", "plain"),
            ],
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        )
        for line in process.stderr:
            if "asked to wait" in line:
                source.add_manifest("org/app", newer.raw, newer.media_type, "v1")
                break
        _, rest = process.communicate(timeout=120)
        assert process.returncode == 0, rest
    with FakeRegistry() as mirror:
        assert push(tmp_path / "out", mirror.host).status == 0
        assert mirror.repositories["org/app"].tags["v1"] == APP.digest
