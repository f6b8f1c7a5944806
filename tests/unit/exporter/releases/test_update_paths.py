"""Paths through update graphs: the real ones by name, and random ones against a model."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.releases.updates import paths
from exporter.releases.updates.graph import Graph, order, united, without_nightlies
from tests.fakes.graphs import graph, made, read

OLD = ("amd64-stable-4.7", "amd64-stable-4.8", "amd64-stable-4.9")
NEW = ("amd64-stable-4.16", "amd64-stable-4.17", "amd64-stable-4.18")
# oc-mirror goes over the newest version of each channel in between: 4.7.60, 4.8.54 and 4.17.56, which have no such edges
# (openshift/oc-mirror, internal/pkg/release/cincinnati.go). On stable-4.13 it knows plain edges alone (CLID-135).
TABLE = [
    (OLD, "4.7.2 4.7.53 4.8.45 4.9.40", False),
    (OLD, "4.7.19 4.7.60 4.8.54 4.9.53", False),
    (NEW, "4.16.20 4.17.48 4.18.30", False),
    (("amd64-stable-4.13",), "4.12.0 4.12.17 4.13.0", True),
    (("amd64-stable-4.13",), "4.12.0 4.12.58 4.13.43", False),
]


def names(steps):
    return [steps[0].from_, *(step.to for step in steps)] if steps else steps


def test_a_risky_update_to_a_nightly_build_is_none_of_a_stable_channel():
    nightly = "4.17.0-0.okd-scos-2025-03-01-000000"
    risky = {("4.17.0", nightly): ["A"], (nightly, "4.18.0"): ["A"], ("4.17.0", "4.18.0"): ["B"]}
    found = without_nightlies(read(made(["4.17.0", "4.18.0", nightly], conditional=risky)))
    assert names(paths.shortest(found, "4.17.0", "4.18.0")) == ["4.17.0", "4.18.0"]
    assert found.conditional.keys() == {"4.17.0"}


@pytest.mark.parametrize(("channels", "path", "risks"), TABLE)
def test_known_paths(channels, path, risks):
    whole = united(map(graph, channels))
    wanted = path.split()
    steps = paths.shortest(whole, wanted[0], wanted[-1])
    assert names(steps) == wanted
    assert any(step.risks for step in steps) == risks


def test_no_path_and_how_far_updates_lead():
    whole = united(map(graph, OLD))
    assert paths.shortest(whole, "4.7.19", "4.9.10") is None
    assert paths.nearest(whole, "4.7.19", "4.9.10") == "4.8.54"
    leading = paths.leading_to(whole, "4.9.10")
    assert leading.isdisjoint(paths.reachable(whole, "4.7.19"))
    assert "4.9.9" in leading
    assert "4.8.54" not in leading


def test_plain_edges_go_before_fewer_steps():
    versions = ["4.1.0", "4.1.1", "4.1.2", "4.1.3"]
    plain = list(itertools.pairwise(versions))
    found = read(made(versions, plain, {("4.1.0", "4.1.3"): ["Risk"]}))
    assert names(paths.shortest(found, "4.1.0", "4.1.3")) == versions


def test_of_equal_paths_the_highest_versions_win_from_the_first_step_on():
    versions = ["4.1.0", "4.1.1", "4.1.2", "4.1.3", "4.1.4", "4.1.5"]
    plain = [
        ("4.1.0", "4.1.1"),
        ("4.1.0", "4.1.2"),
        ("4.1.1", "4.1.4"),
        ("4.1.2", "4.1.3"),
        ("4.1.4", "4.1.5"),
        ("4.1.3", "4.1.5"),
    ]
    assert names(paths.shortest(read(made(versions, plain)), "4.1.0", "4.1.5")) == ["4.1.0", "4.1.2", "4.1.3", "4.1.5"]


def test_ends():
    found = read(made(["4.1.0", "4.1.1"], [("4.1.0", "4.1.1"), ("4.1.1", "4.1.0")]))  # a cycle
    assert paths.shortest(found, "4.1.0", "4.1.0") == ()
    assert names(paths.shortest(found, "4.1.1", "4.1.0")) == ["4.1.1", "4.1.0"]
    assert paths.shortest(found, "4.1.0", "9.9.9") is None
    assert paths.shortest(found, "9.9.9", "4.1.0") is None
    assert paths.reachable(found, "4.1.0") == {"4.1.1"}
    assert paths.nearest(read(made(["4.1.0"])), "4.1.0", "4.1.1") == ""


VERSIONS = [f"4.{minor}.{patch}{pre}" for minor in (1, 2) for patch in (0, 1, 2) for pre in ("-rc.1", "")][:9]
PAIRS = list(itertools.permutations(VERSIONS, 2))


def model(edges, start, goal):
    """Return the best path by trying all of a length, from short to long."""
    found = [[start]]
    for _ in VERSIONS:
        ends = [path for path in found if path[-1] == goal]
        if ends:
            return max(ends, key=lambda path: [order(version) for version in path])
        found = [[*path, to] for path in found for one, to in edges if one == path[-1] and to not in path]
        # Of paths to one version the best is enough, for what follows is the same for all.
        best = {}
        for path in found:
            last = best.get(path[-1])
            best[path[-1]] = path if last is None else max(last, path, key=lambda each: [order(version) for version in each])
        found = list(best.values())
    return None


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.sampled_from(PAIRS), max_size=16),
    st.sets(st.sampled_from(PAIRS), max_size=10),
    st.sampled_from(PAIRS),
    st.integers(0, 99),
)
def test_paths_are_those_of_a_model_whatever_the_order(plain, conditional, ends, seed):
    chance = random.Random(seed)
    shuffled = [sorted(each) for each in (VERSIONS, plain, conditional)]
    for each in shuffled:
        chance.shuffle(each)
    found = read(made(shuffled[0], shuffled[1], {edge: ["Risk"] for edge in shuffled[2]}))
    steps = paths.shortest(found, *ends)
    certain = plain - conditional
    wanted = model(certain, *ends) or model(plain | conditional, *ends)
    assert names(steps) == wanted
    for step in steps or ():
        assert bool(step.risks) == ((step.from_, step.to) in conditional)
        assert (step.from_, step.to) in plain | conditional
    there = paths.reachable(found, ends[0])
    assert (ends[1] in there) == (wanted is not None)
    assert (ends[0] in paths.leading_to(found, ends[1])) == (wanted is not None)


@pytest.mark.more
def test_a_graph_with_every_edge_is_searched_in_seconds():
    import time

    versions = [f"4.{n // 50}.{n % 50}" for n in range(1400)]
    every = frozenset(versions)
    nodes = read(made(versions)).nodes
    whole = Graph(nodes, dict.fromkeys(versions, every))  # cycles between all of them
    alone = {**dict.fromkeys(versions, every - {versions[-1]})}
    began = time.process_time()
    assert len(paths.shortest(whole, versions[0], versions[-1])) == 1
    assert paths.shortest(Graph(nodes, alone), versions[0], versions[-1]) is None
    assert paths.nearest(Graph(nodes, alone), versions[0], versions[-1]) == versions[-2]
    assert time.process_time() - began < 10
