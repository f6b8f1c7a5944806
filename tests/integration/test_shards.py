"""Several processes push one archive, partitioned by volumes: the result is that of one process, and nothing is uploaded twice."""

from __future__ import annotations

import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import killed_when, run
from tests.fakes.servers import docker_registry

pytestmark = pytest.mark.integration
PACKAGE = "openshift-cert-manager-operator"
_WRITTEN = re.compile(r'"PUT /v2/(\S+)/blobs/uploads/\S*digest=sha256%3A([0-9a-f]{64})\S* HTTP/1\.1" 201')


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive of many small volumes; a base layer is in nearly all images."""
    home = tmp_path_factory.mktemp("shared")
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE], size=1_000_000, level=0)
    with docker_registry(home, name="source") as source:
        content.seed(f"http://{source.host}")
        (home / "registries.conf").write_text(content.registries_conf(source.host, insecure=True))
        done = run(
            *("hub-export", "create", "--catalog", sources.CATALOG, "--package", PACKAGE, "--full", "--volume-size", "4MiB"),
            *("--signatures", "ignore", "--registries-conf", home / "registries.conf", "--output", home / "out"),
        )
    assert done.status == 0, done.stderr
    return home / "out"


def push(archive, mirror, *shard):
    return ["push", str(archive), "--registry", mirror.host, "--insecure", mirror.host, "--format", "json", *shard]


def held(mirror):
    """Return what the registry keeps: the names of all of its files but those of unfinished uploads."""
    names = (str(path.relative_to(mirror.root)) for path in mirror.root.rglob("*") if path.is_file())
    return {name for name in names if "/_uploads/" not in name}


def written(mirror):
    """Return how often each blob was written into each repository."""
    return Counter(_WRITTEN.findall(mirror.log.read_text()))


@pytest.fixture(scope="module")
def by_one(archive, tmp_path_factory):
    with docker_registry(tmp_path_factory.mktemp("one"), name="mirror") as mirror:
        # All volumes by one process, which leaves the record to the push of the archive, as each shard does (ADR 0080).
        done = run("hub-import", *push(archive, mirror, "--volumes", "1-"))
        assert done.status == 0, done.stderr
        return held(mirror), written(mirror)


def test_three_processes_of_which_one_is_killed_equal_one(archive, by_one, tmp_path):
    with docker_registry(tmp_path, name="mirror") as mirror:
        moments = [lambda: False, lambda: len(written(mirror)) >= 3, lambda: False]
        with ThreadPoolExecutor(3) as pool:
            started = [
                pool.submit(
                    *(killed_when, moment, "hub-import", *push(archive, mirror, "--shards", "3")),
                    env={"JOB_COMPLETION_INDEX": str(index)},
                )
                for index, moment in enumerate(moments)
            ]
            assert [process.result(120).status for process in started][::2] == [0, 0]
        again = run("hub-import", *push(archive, mirror, "--shards", "3"), env={"JOB_COMPLETION_INDEX": "1"})
        assert again.status == 0, again.stderr
        assert held(mirror) == by_one[0]
        assert max(written(mirror).values()) == 1
        last = run("hub-import", *push(archive, mirror)).json
        assert (last["ok"], last["uploaded"], last["mounted"]) == (True, 0, 0)


def test_images_with_missing_blobs_of_other_processes_are_left(archive, by_one, tmp_path):
    """One after another: only the last one finds everything."""
    count = len(json.loads((archive / "inventory.json").read_text())["volumes"])
    ranges = [f"1-{count // 2}", f"{count // 2 + 1}-"]
    with docker_registry(tmp_path, name="mirror") as mirror:
        first, second = (run("hub-import", *push(archive, mirror, "--volumes", each)).json for each in ranges)
        assert first["imagesLeft"] > 0
        assert (second["imagesLeft"], second["problems"]) == (0, [])
        assert first["uploaded"] + second["uploaded"] == sum(by_one[1].values())
        assert held(mirror) == by_one[0]


def test_more_shards_than_volumes(archive, tmp_path):
    with docker_registry(tmp_path, name="mirror") as mirror:
        done = run("hub-import", *push(archive, mirror, "--shards", "10000"), env={"JOB_COMPLETION_INDEX": "0"})
        assert done.status == 0, done.stderr
        assert done.json["uploaded"] == 0
