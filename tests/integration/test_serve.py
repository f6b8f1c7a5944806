"""The archive as a registry, against the conformance list of docs/facts/peers.md §3 (what a read-only registry answers)."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from common.oci import media_types
from common.oci.image import digest_of
from tests.fakes.archives import noise
from tests.fakes.commands import run
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry
from tests.fakes.serving import serving

pytestmark = pytest.mark.integration
LARGE = noise("large", 3_000_000)  # 23 blocks
LEAF = image([LARGE, b"leaf"])
NESTED = index([index([LEAF, image([b"arm"], platform="linux/arm64")]), image([b"docker"], docker=True)])
EMPTY = image([b""])
BARE = image([])
BRACES = image([b"{}"])
ARTIFACT = image([b"model"], artifact_type="application/vnd.example.model")
MANY = 130  # referrers, more than a page
ODD = "org/blobs/manifests/referrers"  # a name of the words that paths are made of


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("served") / "out"
    subject = LEAF.descriptor
    with FakeRegistry() as source:
        for name, parts in (
            ("org/nested", NESTED),
            (ODD, LEAF),
            ("org/empty", EMPTY),
            ("org/bare", BARE),
            ("org/braces", BRACES),
        ):
            source.add_image(name, parts, tag="v1")
        source.add_image("org/nested", ARTIFACT, tag="a.model_1-x")
        source.add_image("org/referred", LEAF, tag="v1")
        for number in range(MANY):
            kind = "application/vnd.example.note" if number % 10 else "application/vnd.example.sbom"
            source.add_image("org/referred", image([b"%d" % number], subject=subject, artifact_type=kind))
        large = json.loads(ARTIFACT.raw) | {"annotations": {"note": "x" * 3_500_000}, "unknown": {"kept": [1, 2.50]}}
        for blob in (ARTIFACT.config, *ARTIFACT.layers):
            source.add_blob("org/large", blob)
        source.add_manifest("org/large", json.dumps(large).encode(), media_types.OCI_MANIFEST, "v1")
        names = ["org/nested:v1", "org/nested:a.model_1-x", f"{ODD}:v1", "org/empty:v1", "org/bare:v1", "org/braces:v1"]
        names += ["org/referred:v1", "org/large:v1"]
        images = [part for name in names for part in ("--image", f"{source.host}/{name}")]
        made = run("hub-export", "create", *images, "--insecure", source.host, "--output", out, "--format", "json")
        assert made.status == 0, made.stdout[-3000:]
    return out


@pytest.fixture(scope="module")
def served(archive, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("log") / "serve.log", archive, "--log-level", "info") as server:
        yield server


@pytest.fixture
def client(served):
    with served.client() as made:
        yield made


def code(answer):
    assert answer.headers["Content-Type"] == "application/json"
    (error,) = answer.json()["errors"]
    assert error["message"]
    return error["code"]


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_the_base(client, path):
    answer = client.get(f"http://{client.base_url.netloc.decode()}{path}")
    assert answer.status_code == 200
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"


@pytest.mark.parametrize(
    ("name", "reference", "parts"),
    [
        ("org/nested", "v1", NESTED),
        ("org/nested", NESTED.digest, NESTED),
        ("org/nested", NESTED.manifests[0].digest, NESTED.manifests[0]),
        ("org/nested", NESTED.manifests[1].digest, NESTED.manifests[1]),
        ("org/nested", "a.model_1-x", ARTIFACT),
        ("org/nested", f"hub-sha256-{NESTED.digest.partition(':')[2]}", NESTED),
        ("org/nested", NESTED.digest.replace(":", "%3A"), NESTED),
        (ODD, "v1", LEAF),
        ("org/bare", "v1", BARE),
    ],
)
def test_manifests_come_as_they_were_pushed(client, name, reference, parts):
    for method in ("GET", "HEAD"):
        answer = client.request(method, f"{name}/manifests/{reference}", params={"ns": "quay.io"})
        assert answer.status_code == 200, answer.text
        assert answer.content == (parts.raw if method == "GET" else b"")
        assert answer.headers["Content-Type"] == parts.media_type
        assert answer.headers["Content-Length"] == str(len(parts.raw))
        assert answer.headers["Docker-Content-Digest"] == parts.digest
        assert answer.headers["ETag"] == f'"{parts.digest}"'


def test_what_is_accepted_does_not_change_what_is_stored(client):
    answer = client.get("org/nested/manifests/v1", headers={"Accept": media_types.DOCKER_MANIFEST})
    assert answer.headers["Content-Type"] == media_types.OCI_INDEX


def test_a_manifest_of_nearly_4_mib_with_unknown_fields(client):
    answer = client.get("org/large/manifests/v1")
    assert len(answer.content) > 3_500_000
    assert digest_of(answer.content) == answer.headers["Docker-Content-Digest"]
    assert b'"unknown": {"kept": [1, 2.5]}' in answer.content


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("org/nested/manifests/v2", 404, "MANIFEST_UNKNOWN"),
        (f"org/nested/manifests/sha256:{'0' * 64}", 404, "MANIFEST_UNKNOWN"),
        (f"org/nested/manifests/sha512:{'0' * 128}", 404, "MANIFEST_UNKNOWN"),
        ("org/nested/manifests/sha256:zz", 400, "DIGEST_INVALID"),
        ("org/other/manifests/v1", 404, "NAME_UNKNOWN"),
        (f"org/nested/blobs/sha256:{'0' * 64}", 404, "BLOB_UNKNOWN"),
        (f"org/other/blobs/sha256:{'0' * 64}", 404, "NAME_UNKNOWN"),
        ("org/nested/blobs/sha256:zz", 400, "DIGEST_INVALID"),
        ("org/nested/blobs/../../etc/passwd", 404, "NAME_UNKNOWN"),
        ("org/nested/referrers/sha256:zz", 400, "DIGEST_INVALID"),
        ("org/other/tags/list", 404, "NAME_UNKNOWN"),
        ("org/nested/tags/other", 404, "NAME_UNKNOWN"),
        ("%00/manifests/v1", 404, "NAME_UNKNOWN"),
    ],
)
def test_missing_resources(client, path, status, expected):
    answer = client.get(path)
    assert (answer.status_code, code(answer)) == (status, expected)


def test_a_blob_belongs_to_the_repositories_whose_manifests_list_it(client):
    assert client.head(f"org/nested/blobs/{digest_of(LARGE)}").status_code == 200
    assert client.head(f"org/empty/blobs/{digest_of(LARGE)}").status_code == 404


@pytest.mark.parametrize(
    ("name", "content"),
    [(ODD, LARGE), (ODD, b"leaf"), ("org/empty", b""), ("org/braces", b"{}"), ("org/bare", BARE.config)],
    ids=["large", "small", "empty", "braces", "config"],
)
def test_blobs(client, name, content):
    path = f"{name}/blobs/{digest_of(content)}"
    for method, body in (("GET", content), ("HEAD", b""), ("GET", content)):  # the second time it is not hashed again
        answer = client.request(method, path)
        assert answer.status_code == 200
        assert answer.content == body
        assert answer.headers["Content-Length"] == str(len(content))
        assert answer.headers["Docker-Content-Digest"] == digest_of(content)
        assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=500-1499", 500, 1500),
        ("bytes=131000-262500", 131000, 262501),  # over the seams of blocks
        ("bytes=2999990-", 2999990, 3000000),
        ("bytes=-500", 2999500, 3000000),
        ("bytes=-99999999", 0, 3000000),
        ("bytes=2999000-99999999999", 2999000, 3000000),
        ("bytes=0-0", 0, 1),
        ("bytes=0-2999999", 0, 3000000),
    ],
)
def test_ranges(client, asked, first, end):
    path = f"{ODD}/blobs/{digest_of(LARGE)}"
    for method in ("GET", "HEAD"):
        answer = client.request(method, path, headers={"Range": asked})
        assert answer.status_code == 206
        assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(LARGE)}"
        assert answer.headers["Content-Length"] == str(end - first)
        assert answer.content == (LARGE[first:end] if method == "GET" else b"")


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=3000000-", "bytes=3000001-3000002", "bytes=-0"])
def test_unsatisfiable_ranges(client, asked):
    answer = client.get(f"{ODD}/blobs/{digest_of(LARGE)}", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == "bytes */3000000"
    assert client.get(f"org/empty/blobs/{digest_of(b'')}", headers={"Range": "bytes=0-"}).status_code == 416


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=a-b", "bytes=-", "bytes=99999999999999999999-"])
def test_an_invalid_range_header_gets_the_whole_blob(client, asked):
    answer = client.get(f"{ODD}/blobs/{digest_of(b'leaf')}", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, b"leaf")


def test_if_range_with_another_etag_gets_the_whole_blob(client):
    headers = {"Range": "bytes=0-1", "If-Range": '"sha256:other"'}
    assert client.get(f"{ODD}/blobs/{digest_of(b'leaf')}", headers=headers).content == b"leaf"


@pytest.mark.parametrize("path", [f"{ODD}/blobs/{digest_of(b'leaf')}", "org/nested/manifests/v1"])
def test_if_none_match_answers_304(client, path):
    known = client.head(path).headers["ETag"]
    answer = client.get(path, headers={"If-None-Match": f'"other", {known}'})
    assert (answer.status_code, answer.content) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_cache_control(client):
    by_tag = client.get("org/nested/manifests/v1")
    assert by_tag.headers["Cache-Control"] == "no-cache"
    digest = by_tag.headers["Docker-Content-Digest"]
    assert "max-age" in client.get(f"org/nested/manifests/{digest}").headers["Cache-Control"]


def test_tags_come_in_order_and_in_pages(client):
    stable = sorted(f"hub-sha256-{each.digest.partition(':')[2]}" for each in (NESTED, ARTIFACT))
    every = sorted(["a.model_1-x", "v1", *stable])
    assert client.get("org/nested/tags/list").json() == {"name": "org/nested", "tags": every}
    assert client.get("org/nested/tags/list?n=0").json()["tags"] == []
    assert "Link" not in client.get("org/nested/tags/list?n=0").headers
    assert client.get("org/nested/tags/list", params={"last": "hub"}).json()["tags"] == every[1:], "`last` need not exist"
    assert _all_pages(client, "org/nested/tags/list?n=1", "tags") == [[tag] for tag in every]
    assert "Link" not in client.get("org/nested/tags/list?n=4").headers
    for bad in ("-1", "many", ""):
        answer = client.get(f"org/nested/tags/list?n={bad}")
        assert (answer.status_code, code(answer)) == (400, "PAGINATION_NUMBER_INVALID")


def test_the_catalog_of_repositories(client):
    every = sorted(["org/bare", ODD, "org/braces", "org/empty", "org/large", "org/nested", "org/referred"])
    assert client.get("_catalog").json() == {"repositories": every}
    assert _all_pages(client, "_catalog?n=3", "repositories") == [every[:3], every[3:6], every[6:]]


def _all_pages(client, path, what):
    pages = []
    while path:
        answer = client.get(path)
        pages.append(answer.json()[what])
        path = answer.links.get("next", {}).get("url", "").removeprefix("/v2/")
    return pages


def test_referrers_in_pages_and_by_kind(client):
    path = f"org/referred/referrers/{LEAF.digest}"
    answer = client.get(path)
    assert answer.headers["Content-Type"] == media_types.OCI_INDEX
    assert "OCI-Filters-Applied" not in answer.headers
    pages = _all_pages(client, path, "manifests")
    assert [len(page) for page in pages] == [100, MANY - 100]
    listed = [each for page in pages for each in page]
    assert len({each["digest"] for each in listed}) == MANY
    for each in listed:
        found = client.get(f"org/referred/manifests/{each['digest']}")
        assert (found.headers["Content-Type"], len(found.content)) == (each["mediaType"], each["size"])
        assert found.json()["artifactType"] == each["artifactType"]
    some = client.get(path, params={"artifactType": "application/vnd.example.sbom"})
    assert some.headers["OCI-Filters-Applied"] == "artifactType"
    assert {each["artifactType"] for each in some.json()["manifests"]} == {"application/vnd.example.sbom"}
    assert len(some.json()["manifests"]) == MANY // 10


def test_a_manifest_without_referrers_has_an_empty_list(client):
    answer = client.get(f"org/nested/referrers/sha256:{'1' * 64}")
    assert (answer.status_code, answer.json()["manifests"]) == (200, [])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "org/nested/blobs/uploads/"),
        ("PUT", "org/nested/manifests/v1"),
        ("PATCH", "org/nested/blobs/uploads/1"),
        ("DELETE", "org/nested/manifests/v1"),
        ("BREW", "org/nested/manifests/v1"),
    ],
)
def test_writes_are_refused(client, method, path):
    answer = client.request(method, path, content=b"x")
    assert (answer.status_code, code(answer)) == (405, "UNSUPPORTED")
    assert answer.headers["Allow"] == "GET, HEAD"
    assert client.head("org/nested/manifests/v1").status_code == 200


def test_an_upload_is_refused_before_the_first_byte(served):
    host, _, port = served.host.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(b"PUT /v2/a/manifests/b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n")
        answer = b""
        while chunk := line.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 405 "), "and the connection ends"


@pytest.mark.parametrize(
    "start", [b"GARBAGE\r\n\r\n", b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"]
)
def test_garbage_ends_a_connection_and_nothing_else(served, client, start):
    host, _, port = served.host.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        answer = b""
        with suppress(OSError):  # the server may have ended it before all was sent
            line.sendall(start)
            line.shutdown(socket.SHUT_WR)
            answer = line.recv(65536)
    assert not answer or answer.startswith(b"HTTP/1.1 400 ")
    assert client.get("").status_code == 200


def test_connections_are_kept(client):
    ports = {client.get("").extensions["network_stream"].get_extra_info("client_addr") for _ in range(3)}
    assert len(ports) == 1


def test_what_was_asked_is_logged_where_wanted(served, client):
    client.get("org/nested/manifests/nowhere")
    client.get("org/nested/manifests/no%0Aforged%3Fline")
    told = served.log.read_text()
    assert "GET /v2/org/nested/manifests/nowhere: 404" in told
    assert "GET /v2/org/nested/manifests/no%0Aforged%3Fline: 404" in told, "one request, one line"
