"""How often 300 images with shared layers ask: told by the registries' own logs."""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from urllib.parse import unquote

import pytest

from tests.fakes.commands import run
from tests.fakes.factories import image, seed
from tests.fakes.servers import docker_registry

pytestmark = pytest.mark.integration
REPOSITORIES, EACH = 60, 5
RECORDS = "/hub-airgap-archives/"
_LINE = re.compile(r'"(\w+) (/v2/\S*) HTTP/1\.1" (\d+) \d+ "[^"]*" "hub-airgap"')
_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})")
_MOUNT = re.compile(r"/v2/(.+)/blobs/uploads/\?.*mount=(sha256:[0-9a-f]{64})")
_PUT = re.compile(r"/v2/(.+)/blobs/uploads/[^?]+\?.*digest=(sha256:[0-9a-f]{64})")


def content(name: str) -> bytes:
    return random.Random(name).randbytes(3000)


def images():
    """Give repository, tag and image: a base that all share, a layer that ten repositories share, one of its own."""
    for number in range(REPOSITORIES):
        for version in range(EACH):
            layers = [content("base"), content(f"group {number % 6}"), content(f"own {number} {version}")]
            yield f"team{number % 4}/app{number}", f"v{version}", image(layers, labels={"version": str(version)})


def lines(server, since=0):
    found = [_LINE.search(line) for line in server.log.read_text().splitlines()]
    return [(match[1], unquote(match[2]), int(match[3])) for match in found if match][since:]


def test_300_images_ask_for_each_blob_once(tmp_path):
    needed = defaultdict(set)
    with docker_registry(tmp_path, name="source") as source, docker_registry(tmp_path, name="mirror") as mirror:
        names = []
        for repository, tag, parts in images():
            seed(f"http://{source.host}", repository, parts, tag=tag)
            names.append(f"  - name: {source.host}/{repository}:{tag}")
            for digest in parts.blobs:
                needed[digest].add(repository)
        assert len(names) == 300
        (tmp_path / "set.yaml").write_text(
            "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n"
            + "\n".join(names)
        )
        done = run("hub-export", "create", tmp_path / "set.yaml", "--insecure", source.host, "--output", tmp_path / "out")
        assert done.status == 0, done.stderr
        asked = lines(source)

        fetched = Counter(match[2] for method, path, _ in asked if method == "GET" and (match := _BLOB.fullmatch(path)))
        assert fetched == Counter(dict.fromkeys(needed, 1)), "each blob once, wherever it is shared"
        manifests = Counter(path for method, path, status in asked if "/manifests/" in path and status == 200)
        assert manifests == Counter(f"/v2/{name}/manifests/{tag}" for name, tag, _ in images()), (
            "each manifest once, by its tag"
        )
        assert max(Counter(path for _, path, _ in asked if path != "/v2/").values()) == 1, "no question is asked twice"
        assert {method for method, _, _ in asked} == {"GET"}

        pushed = run(
            *("hub-import", "push", tmp_path / "out", "--registry", mirror.host, "--insecure", mirror.host, "--format", "json")
        )
        assert pushed.status == 0, pushed.stderr
        # The record of the archive, which a mirror has once (ADR 0080), in a repository of its own.
        written = [line for line in lines(mirror) if RECORDS not in line[1]]
        pairs = {(repository, digest) for digest, places in needed.items() for repository in places}
        heads = Counter(match.groups() for m, path, _ in written if m == "HEAD" and (match := _BLOB.fullmatch(path)))
        mounts = Counter(match.groups() for m, p, s in written if m == "POST" and s == 201 and (match := _MOUNT.match(p)))
        puts = Counter(match.groups() for m, path, _ in written if m == "PUT" and (match := _PUT.match(path)))
        assert heads == Counter(dict.fromkeys(pairs, 1)) + puts, (
            "one HEAD for each blob in each repository, one after it was sent"
        )
        posts = [path for method, path, _ in written if method == "POST"]
        assert mounts + puts == Counter(dict.fromkeys(pairs, 1)), "mounted or sent, once"
        assert Counter(digest for _, digest in puts) == Counter(dict.fromkeys(needed, 1)), "sent to its first place alone"
        assert len(posts) == len(mounts) + len(puts), "no session for nothing"
        assert not [path for method, path, _ in written if method in ("GET", "PATCH", "DELETE") and path != "/v2/"]

        before = len(lines(mirror))
        again = run(
            *("hub-import", "push", tmp_path / "out", "--registry", mirror.host, "--insecure", mirror.host, "--format", "json")
        )
        assert again.json["ok"] is True
        later = [(method, path) for method, path, _ in lines(mirror, before) if path != "/v2/"]
        assert {method for method, _ in later} == {"HEAD"}
        assert all("/manifests/" in path for _, path in later)
        assert len([path for _, path in later if RECORDS not in path]) == 600, "each image under its tag and its stable tag"
        assert len(later) == 601, "and the record of the archive"
        inventory = json.loads((tmp_path / "out/inventory.json").read_bytes())
        assert len(inventory["images"]) == 300
