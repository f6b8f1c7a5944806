"""Answers of update services: real ones, and hostile ones."""

from __future__ import annotations

import json
import time

import pytest

from common.errors import ContentError
from exporter.releases.updates import graph as graphs
from exporter.releases.updates.graph import decode, united
from tests.fakes.graphs import DERIVED, REAL, answer, graph, made, read
from tests.samples import more

# Nodes, plain and conditional edges. An edge that is in both lists counts as conditional: 136 in stable-4.13.
COUNTS = {
    "amd64-stable-4.13": (98, 1171 - 136, 2394),
    "amd64-stable-4.7": (102, 3244, 13),
    "amd64-stable-4.8": (101, 3168, 4),
    "amd64-stable-4.9": (90, 2544, 0),
    "s390x-stable-4.8": (101, 3168, 4),
    "multi-candidate-4.12": (5, 10, 0),
    "amd64-stable-4.16": (161, 4148, 1332),
    "amd64-stable-4.17": (110, 2403, 2335),
    "amd64-stable-4.18": (162, 4542, 3159),
    "amd64-eus-4.18": (174, 5311, 3218),
}


@pytest.mark.parametrize("name", REAL + DERIVED)
def test_answers_are_read(name):
    found = graph(name)
    counts = len(found.nodes), sum(map(len, found.plain.values())), sum(map(len, found.conditional.values()))
    assert counts == COUNTS[name]
    assert all(node.payload.digest and node.payload.tag is None for node in found.nodes.values())
    assert all(name.partition("-")[2] in node.channels for node in found.nodes.values())
    assert {node.architecture for node in found.nodes.values()} == {name.partition("-")[0]}
    assert found.versions[0] == min(found.versions, key=graphs.order)


def test_a_release_has_payload_channels_and_erratum():
    node = graph("s390x-stable-4.8").nodes["4.8.50"]
    assert str(node.payload) == (
        "quay.io/openshift-release-dev/ocp-release@sha256:90dfe3942da1e6df6f5697f8276d23777153d3650e30dd5e8ba6c93ba3902129"
    )
    assert node.url == "https://access.redhat.com/errata/RHBA-2022:6511"
    assert "eus-4.10" in node.channels


def test_a_conditional_edge_has_its_risks():
    risks = graph("amd64-stable-4.13").conditional["4.12.17"]["4.13.0"]
    assert "SeccompFilterErrno524" in [risk.name for risk in risks]
    assert all(risk.url.startswith("https://") and risk.message for risk in risks)


def test_an_edge_in_both_lists_is_conditional():
    """openshift/cluster-version-operator, pkg/cincinnati/cincinnati.go: conditional updates are taken out of the others."""
    found = read(made(["4.1.0", "4.1.1"], [("4.1.0", "4.1.1")], {("4.1.0", "4.1.1"): ["Risk"]}))
    assert not found.plain
    assert [risk.name for risk in found.conditional["4.1.0"]["4.1.1"]] == ["Risk"]


def test_prereleases_are_before_their_release_and_names_of_okd_are_read():
    found = read(made(["4.18.0", "4.18.0-okd-scos.8", "4.18.0-okd-scos.10", "4.7.0-0.okd-2021-03-07-090821", "4.18.0-rc.1"]))
    assert found.versions == (
        "4.7.0-0.okd-2021-03-07-090821",
        "4.18.0-okd-scos.8",
        "4.18.0-okd-scos.10",
        "4.18.0-rc.1",
        "4.18.0",
    )


def without_metadata(document):
    for node in document["nodes"]:
        del node["metadata"]
    return document


def test_everything_but_nodes_may_be_missing():
    document = without_metadata(made(["4.1.0"]))
    found = read({"nodes": document["nodes"], "edges": None, "conditionalEdges": None})
    assert found.versions == ("4.1.0",)
    assert read({"nodes": []}).versions == ()


@pytest.mark.parametrize(
    "payload",
    ["mirror.example:5000/a/b@sha256:" + "1" * 64, "registry.ci.openshift.org/origin/release-scos@sha256:" + "1" * 64],
)
def test_payloads_may_be_anywhere(payload):
    document = made(["4.1.0"])
    document["nodes"][0]["payload"] = payload
    assert str(read(document).nodes["4.1.0"].payload) == payload


def node(**what):
    document = made(["4.1.0", "4.1.1"])
    document["nodes"][0] |= what
    return document


HOSTILE = {
    "html": b"<html><body>Log in</body></html>",
    "nothing": b"",
    "words": b"\xff\xfe\x00",
    "a list": b"[]",
    "an error": b'{"kind": "missing_params", "value": "channel"}',
    "depth": b"[" * 100_000,
    "nodes of nothing": b'{"nodes": [' + b"[]," * 100 + b"[]]}",
    "another version": {**made(["4.1.0"]), "version": 2},
    "a version of two numbers": made(["4.1"]),
    "a version with control characters": made(["4.1.0\x1b[31m"]),
    "a version with digits of others": made(["4.1.\u0661"]),
    "a huge number": made(["4.1." + "9" * 400]),
    "a long version": made(["4.1.0-" + "a" * 10_000]),
    "the same version twice": node(version="4.1.1"),
    "a payload by tag": node(payload="quay.io/a/b:4.1.0"),
    "a payload that is none": node(payload="https://quay.io/a/b"),
    "a payload with a wrong digest": node(payload="quay.io/a/b@sha256:12"),
    "another architecture": node(metadata={"release.openshift.io/architecture": "multi"}),
    "metadata of other types": node(metadata={"url": 3}),
    "an index behind the end": {**made(["4.1.0", "4.1.1"]), "edges": [[0, 2]]},
    "a negative index": {**made(["4.1.0", "4.1.1"]), "edges": [[-1, 0]]},
    "a huge index": {**made(["4.1.0", "4.1.1"]), "edges": [[0, 10**30]]},
    "three indexes": {**made(["4.1.0", "4.1.1"]), "edges": [[0, 1, 1]]},
    "too many risks": made(["4.1.0", "4.1.1"], (), {("4.1.0", "4.1.1"): ["Risk"] * (graphs.MAX_RISKS + 1)}),
    "too many releases": made([f"4.1.{n}" for n in range(graphs.MAX_NODES + 1)]),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_graph_is_refused_and_says_where(name):
    raw = HOSTILE[name]
    with pytest.raises(ContentError) as caught:
        decode(raw if isinstance(raw, bytes) else json.dumps(raw).encode(), "the place", "amd64")
    text = str(caught.value)
    assert text.startswith("the place: ")
    assert caught.value.hint
    assert len(text) < 1000
    assert "\x1b" not in text


@pytest.mark.more
def test_limits_are_inclusive():
    assert len(read(made([f"4.1.{n}" for n in range(graphs.MAX_NODES)])).nodes) == graphs.MAX_NODES
    names = [f"Risk{n}" for n in range(graphs.MAX_RISKS)]
    assert (
        len(read(made(["4.1.0", "4.1.1"], (), {("4.1.0", "4.1.1"): names})).conditional["4.1.0"]["4.1.1"]) == graphs.MAX_RISKS
    )


def padded(count: int) -> bytes:
    """Return an answer of about `count` bytes."""
    raw = json.dumps(made(["4.1.0"])).encode()
    return raw + b" " * (count - len(raw))


@pytest.mark.more
def test_an_answer_has_a_size():
    assert decode(padded(graphs.MAX_SIZE), "x").nodes
    with pytest.raises(ContentError, match="the limit is"):
        decode(padded(graphs.MAX_SIZE + 1), "x")


def valued(values: int) -> bytes:
    raw = json.dumps(made(["4.1.0"])).encode()
    have = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    return raw[:-1] + b', "x": "' + b"," * (values - have - 1) + b'"}'


def test_an_answer_has_a_number_of_values():
    assert decode(valued(graphs.MAX_VALUES), "x").nodes
    with pytest.raises(ContentError, match="values; the limit is"):
        decode(valued(graphs.MAX_VALUES + 1), "x")


def conditional_of(count: int) -> bytes:
    document = made(["4.1.0", "4.1.1"])
    edges = ",".join(['{"from":"4.1.0","to":"4.1.1"}'] * count)
    text = json.dumps(document)[:-1].replace('"conditionalEdges": []', '"x": 1')
    return f'{text}, "conditionalEdges": [{{"edges": [{edges}], "risks": [{{"name": "a"}}]}}]}}'.encode()


@pytest.mark.more
def test_conditional_edges_have_a_number():
    assert decode(conditional_of(graphs.MAX_CONDITIONAL), "x").conditional
    with pytest.raises(ContentError, match="conditional edges; the limit is"):
        decode(conditional_of(graphs.MAX_CONDITIONAL + 1), "x")


@pytest.mark.more
def test_a_million_edges_take_seconds_at_most():
    versions = [f"4.{n // 100}.{n % 100}" for n in range(2000)]
    document = made(versions)
    edges = b",".join(b"[%d,%d]" % (n % 2000, (n * 7 + n // 2000) % 2000) for n in range(1_000_000))
    raw = json.dumps(document).encode().replace(b'"edges": []', b'"edges": [' + edges + b"]", 1)
    began = time.process_time()
    found = decode(raw, "x")
    assert time.process_time() - began < 10
    assert sum(map(len, found.plain.values())) > 900_000


def test_edges_of_releases_that_are_not_there_and_loops_are_left_out():
    document = made(["4.1.0", "4.1.1"], [("4.1.0", "4.1.0")])
    document["conditionalEdges"] = [
        {
            "edges": [{"from": "4.1.0", "to": "4.1.9"}, {"from": "4.0.9", "to": "4.1.1"}, {"from": "4.1.0", "to": "4.1.0"}],
            "risks": [{"name": "a"}],
        }
    ]
    found = read(document)
    assert not found.plain
    assert not found.conditional


def test_an_edge_without_risks_is_plain_and_one_in_several_groups_has_all_risks():
    document = made(["4.1.0", "4.1.1", "4.1.2"], (), {("4.1.0", "4.1.1"): []})
    edge = {"from": "4.1.0", "to": "4.1.2"}
    document["conditionalEdges"] += [{"edges": [edge], "risks": [{"name": name}, {"name": "same"}]} for name in ("a", "b")]
    found = read(document)
    assert found.plain == {"4.1.0": frozenset({"4.1.1"})}
    assert [risk.name for risk in found.conditional["4.1.0"]["4.1.2"]] == ["a", "same", "b"]


def test_texts_of_risks_are_one_line_and_urls_are_urls():
    document = made(["4.1.0", "4.1.1"])
    risk = {"name": "\x1b[31m", "url": "javascript:alert(1)", "message": "a\nb\u202e" + "c" * 9000}
    document["conditionalEdges"] = [{"edges": [{"from": "4.1.0", "to": "4.1.1"}], "risks": [risk, {}]}]
    document["nodes"][0]["metadata"] = {
        "url": "file:///x",
        "io.openshift.upgrades.graph.release.channels": "stable-4.1, \x1b,fast-4.1,",
    }
    found = read(document)
    one, other = found.conditional["4.1.0"]["4.1.1"]
    assert (one.name, one.url, other.name) == ("[31m", "", "unnamed")
    assert one.message.startswith("a b")
    assert len(one.message) <= 2000
    assert (found.nodes["4.1.0"].url, found.nodes["4.1.0"].channels) == ("", ("stable-4.1", "fast-4.1"))


def test_several_graphs_are_one():
    one = read(made(["4.1.0", "4.1.1"], [("4.1.0", "4.1.1")], channels="stable-4.1"))
    other = read(made(["4.1.0", "4.1.1"], (), {("4.1.0", "4.1.1"): ["Risk"]}, channels="fast-4.1"))
    for both in (united([one, other]), united([other, one])):
        assert not both.plain["4.1.0"]
        assert both.conditional["4.1.0"]["4.1.1"][0].name == "Risk"
        assert set(both.nodes["4.1.0"].channels) == {"stable-4.1", "fast-4.1"}
    assert one.plain["4.1.0"]  # as it was
    with pytest.raises(ContentError, match=r"version 4\.1\.0 is sha256:"):
        united([one, read(made(["4.0.0", "4.1.0"]))])


@pytest.mark.parametrize("name", [REAL[-1], *more(REAL[:-1])])
def test_an_answer_for_another_architecture_is_refused_where_it_says_so(name):
    says = name.startswith("multi")
    if says:
        with pytest.raises(ContentError, match="is of multi, and arm64 was requested"):
            decode(answer(name), name, "arm64")
    else:
        assert decode(answer(name), name, "arm64").nodes
