"""Requests and calls for an index in small, with its increment: each manifest, list and blob once; a week costs what it changes.

The same source as in the benchmark of the whole index. Requests of `push` are in tests/integration/test_request_counts.py.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

import pytest

from tests.bench import counting, published
from tests.bench.goods import small
from tests.fakes.commands import run

pytestmark = pytest.mark.integration
_REQUEST = re.compile(r'"(\w+) (/v2/[^ ]*) HTTP/1.1" (\d+)')


@dataclass(frozen=True)
class Asked:
    """Requests of one command: how often each path was asked for, and what was not there."""

    paths: Counter[str]
    missing: Counter[str]

    def of(self, kind: str) -> Counter[str]:
        return Counter({path: count for path, count in self.paths.items() if f"/{kind}/" in path})


@dataclass(frozen=True)
class Counted:
    """A plan, an export and one a week later, of the same index."""

    index: published.Index
    plan: Asked
    create: Asked
    later: Asked
    calls: dict[str, int]


@pytest.fixture(name="counted", scope="module")
def _counted(tmp_path_factory):
    home = tmp_path_factory.mktemp("index")
    (home / "source").mkdir()
    index = published.fill(home / "source", Fraction(1, 10), small())
    index.publish(home / "source", 0)
    with published.served(home / "source") as source:
        (home / "registries.conf").write_text(index.registries_conf(source.host))
        options = ("--catalog", published.CATALOG, "--full", "--registries-conf", home / "registries.conf", "--format", "json")
        seen = 0

        def asked():
            nonlocal seen
            lines = [match for match in map(_REQUEST.search, source.log.read_text().splitlines()) if match]
            new, seen = lines[seen:], len(lines)
            assert {match[1] for match in new} == {"GET"}
            return Asked(Counter(match[2] for match in new), Counter(match[2] for match in new if match[3] == "404"))

        assert run("hub-export", "plan", *options).status == 0
        plan = asked()
        calls = counting.counted(home, "exporter.__main__", "create", "--output", home / "out", *options).calls
        create = asked()
        index.publish(home / "source", 1)
        done = run("hub-export", "create", "--since", home / "out", "--output", home / "more", *options)
        assert done.status == 0, done.stderr
        return Counted(index, plan, create, asked(), calls)


def test_no_question_is_asked_twice(counted):
    """But for the config of the catalog, a kibibyte, which is read before anything is planned and fetched with the blobs."""
    for asked in (counted.plan, counted.create, counted.later):
        twice = [path for path, count in asked.paths.items() if count > 1]
        assert len(twice) <= 1
        assert all("/operatorhubio/catalog/blobs/" in path for path in twice)


def test_a_plan_asks_for_manifests_lists_of_tags_and_bundles(counted):
    """No layer of another image; the lists of tags answer for the signatures of all images but a few of each repository."""
    index, plan = counted.index, counted.plan
    repositories = {path.partition("/manifests/")[0] for path in plan.of("manifests")}
    assert 0 < len(plan.of("tags")) <= len(repositories) <= index.images / 3
    found = plan.of("manifests") - plan.missing
    assert index.images < len(found) <= 1.5 * index.images + 2
    assert len(plan.of("manifests") & plan.missing) <= 8 * len(repositories)
    assert index.bundles <= len(plan.of("blobs")) <= 2 * index.bundles + 2


def test_an_export_asks_for_each_blob_once_besides(counted):
    index, plan, create = counted.index, counted.plan, counted.create
    assert create.of("manifests") - create.missing == plan.of("manifests") - plan.missing
    digests = {path.rpartition("/")[2] for path in create.of("blobs")}
    assert len(create.of("blobs")) == len(digests) == index.blobs, "once, wherever it is shared"


def test_a_week_later_only_what_changed_is_fetched(counted):
    index, later = counted.index, counted.later
    assert 0 < index.changed < index.images / 5
    # Bundles are read again to know their images; four blobs for each platform of a changed image, and the catalog's.
    assert len(later.of("blobs")) <= 2 * index.bundles + 8 * index.changed + 2
    assert len(later.of("manifests")) <= len(counted.create.of("manifests")) + 2


def test_small_blobs_take_few_calls_each(counted):
    """One call to send a request, two to read its answer, one to write a blob; a flush for blobs of bundles alone, which the plan keeps."""
    calls, index, requests = counted.calls, counted.index, counted.create.paths.total()
    assert calls["sendto"] <= 1.05 * requests + 10
    assert calls["recvfrom"] <= 2 * requests
    assert calls["pwritev2"] + calls.get("pwritev", 0) + calls.get("pwrite64", 0) <= 1.3 * index.blobs
    assert calls["fsync"] + calls["fdatasync"] <= 2 * index.bundles + 24
