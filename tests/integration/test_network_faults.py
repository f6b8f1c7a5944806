"""Faults of the network (no answer, resets, truncation, damage, throttling), at the level of the commands.

Each ends with a complete and verified result, or with the right problem and exit status and nothing lost.
"""

from __future__ import annotations

import email.utils
import json
import random
import time
from contextlib import contextmanager

import pytest

from common.oci.image import digest_of
from tests.fakes.commands import run
from tests.fakes.factories import image, index
from tests.fakes.registry import PASSWORD, USER, FakeRegistry

pytestmark = pytest.mark.integration
LARGE = random.Random(7).randbytes(1_500_000)
APP = index([image([b"base", LARGE], platform="linux/amd64"), image([b"base", b"arm"], platform="linux/arm64")])
PLAIN = image([b"base", b"plain"], docker=True)
BLOB = f"/blobs/{digest_of(LARGE)}"
CUT = 700_000
FORGOTTEN = b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN", "message": "blob upload unknown to registry"}]}'


def soon() -> str:
    return email.utils.formatdate(time.time() + 2, usegmt=True)


def auth(folder, host):
    file = folder / "auth.json"
    file.write_text(json.dumps({"auths": {host: {"username": USER, "password": PASSWORD}}}))
    return file


@contextmanager
def full():
    with FakeRegistry(tls=True, auth="token") as registry:
        registry.add_image("org/app", APP, tag="v1")
        registry.add_image("org/plain", PLAIN, tag="v1")
        yield registry


@pytest.fixture
def source():
    with full() as registry:
        yield registry


BRIEF = {"HUB_REGISTRY_PATIENCE": "2"}  # seconds, where a registry is out for good


def create(registry, folder, env=None):
    return run(
        *("hub-export", "create", "--image", f"{registry.host}/org/app:v1", "--image", f"{registry.host}/org/plain:v1"),
        *("--ca", registry.ca, "--authfile", auth(folder, registry.host), "--output", folder / "out"),
        *("--format", "json", "--signatures", "ignore"),
        env=env,
    )


def push(registry, folder, *arguments, env=None):
    return run(
        *("hub-import", "push", folder / "out", "--registry", registry.host, "--ca", registry.ca),
        *("--authfile", auth(folder, registry.host), "--format", "json", *arguments),
        env=env,
    )


def whole(archive):
    checked = run("hub-import", "verify", archive, "--format", "json")
    assert checked.status == 0, checked.stderr
    inventory = json.loads((archive / "inventory.json").read_bytes())
    assert {each["digest"] for each in inventory["images"]} == {APP.digest, PLAIN.digest}
    assert all(each["complete"] for each in inventory["images"])
    assert set(inventory["blobs"]) == {digest for parts in (*APP.manifests, PLAIN) for digest in parts.blobs}


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        pytest.param(BLOB, {"cut_after": CUT}, id="cut mid-blob"),
        pytest.param(BLOB, {"drop": True}, id="connection reset"),
        pytest.param(BLOB, {"end_after": CUT}, id="truncated body", marks=pytest.mark.more),
        pytest.param(BLOB, {"flip": True}, id="wrong bytes of the right length, once"),
        pytest.param(BLOB, {"status": 401}, id="401 at a blob"),
        pytest.param(f"/manifests/{APP.manifests[1].digest}", {"status": 401}, id="401 at a manifest"),
        pytest.param("/blobs/", {"status": 429, "headers": {"Retry-After": "1"}, "times": 2}, id="429 with seconds"),
        pytest.param(
            "/blobs/", {"status": 503, "headers": {"Retry-After": "date"}}, id="503 with a date", marks=pytest.mark.more
        ),
        pytest.param(
            "/manifests/", {"status": 429, "headers": {"Retry-After": "1"}}, id="429 while looking up", marks=pytest.mark.more
        ),
        pytest.param("/blobs/", {"status": 500, "times": 2}, id="500", marks=pytest.mark.more),
        pytest.param("/token", {"status": 503}, id="token server down for a moment"),
        pytest.param("/manifests/", {"end_after": 20}, id="truncated manifest"),
    ],
)
def test_create_survives(source, tmp_path, part, fault):
    if fault.get("headers") == {"Retry-After": "date"}:
        fault = {**fault, "headers": {"Retry-After": soon()}}
    injected = source.fault("GET", part, **fault)
    done = create(source, tmp_path)
    assert injected.times == 0, "the fault happened"
    assert done.status == 0, done.stderr + done.stdout
    assert done.json["problems"] == []
    whole(tmp_path / "out")


def test_create_goes_on_by_range_and_fetches_nothing_twice(source, tmp_path):
    source.fault("GET", BLOB, cut_after=CUT)
    assert create(source, tmp_path).status == 0
    first, second = source.log("GET", BLOB)
    assert (first.status, second.status) == (200, 206)
    assert second.headers["Range"] == f"bytes={CUT}-"


def test_a_redirect_to_another_origin_takes_no_credentials_along_and_expired_urls_are_asked_for_again(source, tmp_path):
    source.redirect = True
    source.fault("GET", "/signed/", status=403, skip=1)
    source.fault("GET", f"/signed/org/app/{digest_of(LARGE)}", cut_after=CUT)
    done = create(source, tmp_path)
    assert done.status == 0, done.stderr
    assert source.elsewhere
    assert not [each for each in source.elsewhere if "Authorization" in each.headers or "Cookie" in each.headers]
    assert {403, 206} <= {each.status for each in source.elsewhere}
    whole(tmp_path / "out")


def test_wrong_bytes_for_ever_are_a_problem_and_never_reach_the_archive(source, tmp_path):
    source.fault("GET", BLOB, flip=True, times=99)
    done = create(source, tmp_path, BRIEF)
    assert done.status == 3
    (problem,) = done.json["problems"]
    assert (problem["code"], problem["subject"]) == ("blob-unavailable", f"{source.host}/org/app:v1")
    assert "wanted" in problem["message"]
    assert str(digest_of(LARGE)) in problem["message"]
    assert run("hub-import", "verify", tmp_path / "out").status == 0
    inventory = json.loads((tmp_path / "out/inventory.json").read_bytes())
    assert {each["source"]: each["complete"] for each in inventory["images"]} == {
        f"{source.host}/org/app:v1": False,
        f"{source.host}/org/plain:v1": True,
    }
    with FakeRegistry(tls=True, auth="basic") as mirror:
        pushed = push(mirror, tmp_path)
        assert pushed.status == 3, pushed.stderr
        assert set(mirror.repositories) == {"org/plain", "hub-airgap-archives"}


def test_a_blob_that_cannot_be_had_does_not_stop_the_others(source, tmp_path):
    source.fault("GET", BLOB, status=404, times=99)
    done = create(source, tmp_path)
    assert done.status == 3
    (problem,) = done.json["problems"]
    assert problem["code"] == "blob-unavailable"
    assert "HTTP 404" in problem["message"]


def test_a_token_server_that_is_gone(source, tmp_path):
    with FakeRegistry() as gone:
        source.realm = f"http://{gone.host}/token"
    source.realm = source.realm.replace("http:", "https:")
    done = create(source, tmp_path)
    assert done.status == 5
    assert "connection refused" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_registry_that_goes_away_for_good_costs_its_own_images_alone(source, tmp_path):
    """Its blobs break off and then every connection is reset; what comes from elsewhere is complete."""
    with FakeRegistry(tls=False) as other:
        reference = other.add_image("org/else", PLAIN, tag="v1")
        source.fault("GET", BLOB, cut_after=CUT)
        source.fault("*", "/blobs/", drop=True, times=10_000, skip=1)
        done = run(
            *("hub-export", "create", "--image", f"{source.host}/org/app:v1", "--image", str(reference), "--ca", source.ca),
            *("--insecure", other.host, "--authfile", auth(tmp_path, source.host), "--output", tmp_path / "out"),
            *("--format", "json", "--signatures", "ignore"),
            env=BRIEF,
        )
    assert done.status == 3, done.stderr
    (problem,) = done.json["problems"]
    assert (problem["code"], problem["subject"]) == ("blob-unavailable", f"{source.host}/org/app:v1")
    assert "connection reset" in problem["message"]
    inventory = json.loads((tmp_path / "out/inventory.json").read_bytes())
    assert {each["source"]: each["complete"] for each in inventory["images"]} == {
        f"{source.host}/org/app:v1": False,
        str(reference): True,
    }
    assert run("hub-import", "verify", tmp_path / "out").status == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An archive. Read only: where no source stays, it lies in `out`."""
    home = tmp_path_factory.mktemp("made")
    with full() as registry:
        assert create(registry, home).status == 0
    return home / "out"


@pytest.fixture
def archive(made, tmp_path):
    (tmp_path / "out").symlink_to(made)
    return tmp_path / "out"


def arrived(mirror):
    for repository, parts in (("org/app", APP), ("org/plain", PLAIN)):
        held = mirror.repositories[repository]
        assert held.tags["v1"] == parts.digest
        assert held.manifests[parts.digest][1] == parts.raw
        for each in (*parts.manifests, parts):
            for digest, content in each.blobs.items():
                assert held.blobs[digest] == content


@pytest.mark.parametrize(
    ("method", "part", "fault"),
    [
        pytest.param("PUT", "/blobs/uploads/", {"drop": True, "read_before_drop": CUT}, id="cut mid-upload"),
        pytest.param("PUT", "/blobs/uploads/", {"drop": True}, id="closing PUT lost"),
        pytest.param("PUT", "/blobs/uploads/", {"lose_answer": True, "times": 2}, id="closing PUT done, answer lost"),
        pytest.param("POST", "/blobs/uploads/", {"lose_answer": True}, id="session opened, answer lost"),
        pytest.param("PUT", "/blobs/uploads/", {"status": 401}, id="401 at the closing PUT"),
        pytest.param("HEAD", "/blobs/", {"status": 401}, id="401 at a HEAD", marks=pytest.mark.more),
        pytest.param("PUT", "/manifests/", {"status": 401, "skip": 1}, id="401 at a manifest"),
        pytest.param(
            "POST", "/blobs/uploads/", {"status": 429, "headers": {"Retry-After": "1"}}, id="429", marks=pytest.mark.more
        ),
        pytest.param("PUT", "/blobs/uploads/", {"status": 503, "headers": {"Retry-After": "date"}}, id="503 with a date"),
        pytest.param("PUT", "/manifests/", {"status": 502, "times": 2}, id="502 at a manifest"),
        pytest.param("PUT", "/manifests/", {"lose_answer": True}, id="manifest written, answer lost"),
        pytest.param("HEAD", "/manifests/", {"drop": True}, id="reset while looking"),
        pytest.param("PUT", "/blobs/uploads/", {"status": 404, "body": FORGOTTEN}, id="upload forgotten"),
        pytest.param("PUT", "/blobs/uploads/", {"status": 413}, id="413"),
        pytest.param("PUT", "/blobs/uploads/", {"status": 411}, id="411", marks=pytest.mark.more),
        pytest.param("PUT", "/blobs/uploads/", {"status": 405}, id="405", marks=pytest.mark.more),
    ],
)
def test_push_survives(archive, tmp_path, method, part, fault):
    if fault.get("headers") == {"Retry-After": "date"}:
        fault = {**fault, "headers": {"Retry-After": soon()}}
    with FakeRegistry(tls=True, auth="token") as mirror:
        injected = mirror.fault(method, part, **fault)
        pushed = push(mirror, tmp_path)
        assert injected.times == 0, "the fault happened"
        assert pushed.status == 0, pushed.stderr + pushed.stdout
        assert pushed.json["ok"] is True
        arrived(mirror)


def test_a_mirror_that_limits_the_size_of_requests(archive, tmp_path):
    with FakeRegistry(tls=True, auth="token", max_body=1_000_000) as mirror:
        pushed = push(mirror, tmp_path)
        assert pushed.status == 0, pushed.stderr
        assert [each for each in mirror.log("PATCH") if each.status == 202]
        arrived(mirror)


def test_a_mirror_that_does_not_mount(archive, tmp_path):
    with FakeRegistry(tls=True, auth="token", mounts=False) as mirror:
        assert push(mirror, tmp_path).status == 0
        arrived(mirror)


def test_tokens_that_live_a_second(archive, tmp_path):
    with FakeRegistry(tls=True, auth="token", token_life_s=1) as mirror:
        assert push(mirror, tmp_path).status == 0
        arrived(mirror)


def test_a_repository_that_refuses_does_not_stop_the_others_and_the_next_push_brings_the_rest(archive, tmp_path):
    with FakeRegistry(tls=True, auth="basic") as mirror:
        fault = mirror.fault("POST", "/org/app/blobs/uploads/", status=403, times=99)
        pushed = push(mirror, tmp_path)
        assert pushed.status == 5
        assert "org/plain" in mirror.repositories
        assert "v1" not in mirror.repositories["org/app"].tags
        assert any("may not write" in each["message"] for each in pushed.json["problems"])
        fault.times = 0
        assert push(mirror, tmp_path).status == 0
        arrived(mirror)


def test_a_mirror_that_goes_away_for_good_gets_no_tag_and_the_next_push_brings_all(archive, tmp_path):
    with FakeRegistry(tls=True, auth="basic") as mirror:
        gone = mirror.fault("*", "/blobs/", drop=True, times=10_000)
        pushed = push(mirror, tmp_path, "--jobs", "16", env=BRIEF)
        assert pushed.status == 5, pushed.stderr
        assert pushed.json["ok"] is False
        assert {problem["code"] for problem in pushed.json["problems"]} == {"push-failed"}
        assert all("connection reset" in problem["message"] for problem in pushed.json["problems"])
        assert not any(held.tags for held in mirror.repositories.values()), "no image without its blobs"
        gone.times = 0
        assert push(mirror, tmp_path).status == 0
        arrived(mirror)


def test_a_layer_whose_urls_are_none_is_a_problem_and_the_others_are_carried(tmp_path):
    """The registry does not have the layer, and its descriptor names no place that could."""
    parts, good = image([b"one layer", b"another layer"]), image([b"a third layer"])
    document = json.loads(parts.raw)
    document["layers"][0]["urls"] = ["\u0000\n", "http://\u2603.example/x"]
    with FakeRegistry() as registry:
        registry.add_image("org/good", good, tag="v1")
        registry.add_image("org/app", parts)
        registry.add_manifest("org/app", json.dumps(document).encode(), parts.media_type, "v1")
        del registry.repositories["org/app"].blobs[document["layers"][0]["digest"]]
        names = [part for name in ("app", "good") for part in ("--image", f"{registry.host}/org/{name}:v1")]
        done = run(
            *("hub-export", "create", *names, "--insecure", registry.host, "--output", tmp_path / "out", "--format", "json")
        )
    assert done.status == 3, done.stderr
    (problem,) = done.json["problems"]
    assert (problem["code"], problem["subject"]) == ("blob-unavailable", f"{registry.host}/org/app:v1")
