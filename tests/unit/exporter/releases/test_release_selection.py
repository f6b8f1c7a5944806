"""Which releases a request means: one channel as oc-mirror reads it, and what it leaves out without a word."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from common.archive.inventory import ProblemCode
from common.errors import ContentError, UsageError
from exporter.imageset.releases import PlatformRequest, ReleaseChannel
from exporter.releases.selection import choose
from exporter.releases.updates.graph import Graph
from tests.fakes.graphs import Source, graph, made, read
from tests.samples import more


def channel(text: str, **what) -> ReleaseChannel:
    """Return a channel by `NAME[@MIN..MAX]`."""
    name, _, bounds = text.partition("@")
    low, _, high = bounds.partition("..")
    return ReleaseChannel(name, min_version=low, max_version=high, **what)


def chosen(*texts: str, source=None, architectures=("amd64",), **what):
    request = PlatformRequest(tuple(channel(text, **what) for text in texts), architectures)
    return choose(request, source or Source())


def versions(selection):
    return [each.version for each in selection.releases]


def routes(selection):
    return [[path.steps[0].from_, *(step.to for step in path.steps)] for path in selection.paths]


def codes(selection):
    return [problem.code for problem in selection.problems]


def every(name: str, low: str = "", high: str = ""):
    found = list(graph(name).versions)
    return found[found.index(low) if low else 0 : found.index(high) + 1 if high else None]


ALL = "amd64-stable-4.18"
# openshift/oc-mirror, internal/pkg/release/cincinnati.go, getChannelMinOrMax and GetUpdatesInRange.
RULES = [
    ("stable-4.18", {}, ["4.18.52"]),
    ("stable-4.18", {"shortest_path": True}, ["4.18.52"]),
    ("stable-4.18", {"full": True}, every(ALL)),
    ("stable-4.18@4.18.30", {}, every(ALL, "4.18.30")),
    ("stable-4.18@..4.16.4", {}, every(ALL, "", "4.16.4")),
    ("stable-4.18@4.17.50..4.18.2", {}, every(ALL, "4.17.50", "4.18.2")),
    ("stable-4.18@4.18.30..4.18.30", {}, ["4.18.30"]),
    ("stable-4.18@4.18.30..4.18.30", {"shortest_path": True}, ["4.18.30"]),
    ("stable-4.13@4.12.0..4.13.43", {"shortest_path": True}, ["4.12.0", "4.12.58", "4.13.43"]),
]


@pytest.mark.parametrize(("text", "what", "wanted"), RULES)
def test_the_rules_of_one_channel(text, what, wanted):
    found = chosen(text, **what)
    assert versions(found) == wanted
    assert not [problem for problem in found.problems if problem.code != ProblemCode.UPDATE_PATH]
    name = text.partition("@")[0]
    for each in found.releases:
        node = graph(f"amd64-{name}").nodes[each.version]
        assert (each.payload, each.errata, each.channels, each.okd) == (node.payload, node.url, (name,), False)
    if what.get("shortest_path"):
        assert [(step.from_, step.to) for path in found.paths for step in path.steps] == list(pairwise(wanted))


def test_a_range_comes_with_the_shortest_path_over_it_for_information():
    """It selects nothing, and its known issues are no problems of the request."""
    found = chosen("stable-4.18@4.17.48..4.18.30")
    assert routes(found) == [["4.17.48", "4.18.30"]]
    assert versions(found) == every(ALL, "4.17.48", "4.18.30")
    risky = chosen("stable-4.18@..4.16.4")
    assert routes(risky) == [["4.16.0", "4.16.4"]]
    assert risky.paths[0].steps[0].risks
    assert not risky.problems
    assert not chosen("stable-4.18@4.18.30..4.18.30").paths
    # Two architectures have a path each.
    source = Source(**{"stable-4.8": graph("amd64-stable-4.8")})
    both = chosen("stable-4.8@4.8.2..4.8.12", source=source, architectures=("amd64", "s390x"))
    assert [path.architecture for path in both.paths] == ["amd64", "s390x"]


def test_a_range_without_a_path_is_a_warning():
    found = chosen("stable-4.18@4.17.50..4.18.2")
    assert not found.paths
    (problem,) = found.problems
    assert (problem.severity, problem.code, problem.subject) == ("warning", ProblemCode.UPDATE_PATH, "4.18.2-amd64")
    assert "no update path from 4.17.50 to 4.18.2 over the selected releases" in problem.message
    assert "updates lead to 4.17.56 at most" in problem.message


def test_the_path_of_a_range_leads_over_releases_of_the_range():
    """An update to a version above the range, and back, is no way for a cluster that has the range only."""
    answer = made(("4.1.1", "4.1.2", "4.1.3"), [("4.1.1", "4.1.3"), ("4.1.3", "4.1.2")])
    found = chosen("stable-4.1@4.1.1..4.1.2", source=Source(**{"stable-4.1": read(answer)}))
    assert versions(found) == ["4.1.1", "4.1.2"]
    assert (found.paths, codes(found)) == ((), [ProblemCode.UPDATE_PATH])


def test_missing_ends_of_a_path_are_the_first_and_the_newest():
    for text, what in (("stable-4.18@4.18.30", {}), ("stable-4.18@..4.18.30", {}), ("stable-4.18", {"full": True})):
        found = chosen(text, shortest_path=True, **what)
        low, _, high = text.partition("@")[2].partition("..")
        assert versions(found)[0] == (low or "4.16.0")
        assert versions(found)[-1] == (high or "4.18.52")
        assert len(versions(found)) < 6


def test_prereleases_inside_a_range_are_selected():
    source = Source(**{"candidate-4.12": graph("multi-candidate-4.12")})
    found = chosen("candidate-4.12@4.12.0-rc.1..4.12.0-rc.9", source=source, architectures=("multi",))
    assert versions(found)
    assert all("-rc." in version for version in versions(found))


@pytest.mark.parametrize(("text", "what"), [("stable-4.18@..4.18.30", {}), ("stable-4.18", {"full": True})])
def test_without_a_minimum_the_number_of_releases_is_said(text, what):
    """The channel begins two minor versions below its own."""
    found = chosen(text, **what)
    assert found.notes == (
        f"stable-4.18, amd64: no minVersion, so all {len(found.releases)} releases from 4.16.0 to {versions(found)[-1]} are selected",
    )
    assert not chosen("stable-4.18").notes
    assert not chosen("stable-4.18@4.18.1..4.18.30").notes


def test_bounds_that_do_not_exist_are_a_problem_with_what_is_selected():
    found = chosen("stable-4.18@4.18.0..4.18.999")
    assert versions(found) == every(ALL, "4.18.1")
    assert codes(found) == [ProblemCode.RELEASE_BOUND] * 2
    low, high = found.problems
    assert low.severity == "warning"
    assert (
        low.message == "release 4.18.0 is not in stable-4.18; 4.18.1 to 4.18.52 are selected. The nearest: 4.17.56 and 4.18.1."
    )
    assert "release 4.18.999 is not in stable-4.18" in high.message
    assert "The nearest: 4.18.52." in high.message


FAULTS = [
    ("stable-4.18@4.18.0..4.18.0", {}, ("release 4.18.0 is not in stable-4.18", "4.17.56 and 4.18.1")),
    ("stable-4.18@4.18.0..4.18.30", {"shortest_path": True}, ("release 4.18.0 is not in stable-4.18", "4.17.56 and 4.18.1")),
    ("stable-4.18@4.18.1..4.18.99", {"shortest_path": True}, ("release 4.18.99 is not in stable-4.18", "4.18.52")),
    ("stable-4.18@4.16.60..4.18.30", {"shortest_path": True}, ("release 4.16.60 is not in stable-4.18", "It is in eus-4.18.")),
    ("stable-4.18@4.19.1", {}, ("no release from 4.19.1 to 4.18.52", "4.16.0 to 4.18.52")),
    ("stable-4.18@..4.15.9", {}, ("no release from 4.16.0 to 4.15.9", "4.16.0 to 4.18.52")),
    ("stable-4.18@4.18.30..4.18.2", {}, ("minVersion 4.18.30 is above maxVersion 4.18.2", "Swap")),
    ("stable-4.18@4.18..4.18.30", {}, ("'4.18' is no version of a release", "three numbers")),
    ("stable-4.18@4.18..4.18.30", {"shortest_path": True}, ("'4.18' is no version of a release", "three numbers")),
    ("stable-4.18@4.18.2", {"full": True}, ("full and a version range exclude each other", "")),
    ("stable-4.19", {}, ("channel stable-4.19 has no releases for amd64", "stable-4.18")),
    ("stabel-4.18", {}, ("channel stabel-4.18 has no releases for amd64", "stable-4.18")),
    ("Stable-4.18", {}, ("'Stable-4.18' is no channel", "")),
    (
        "stable-4.9@4.8.14..4.9.10",
        {"shortest_path": True},
        ("no update path from 4.8.14 to 4.9.10", "From 4.8.14 updates lead to"),
    ),
]


@pytest.mark.parametrize(("text", "what", "said"), FAULTS)
def test_what_cannot_be_meant_is_an_error_with_the_nearest(text, what, said):
    with pytest.raises(UsageError) as caught:
        chosen(text, **what)
    assert said[0] in caught.value.message
    assert said[1] in caught.value.hint


def test_all_faults_are_named_at_once():
    with pytest.raises(UsageError) as caught:
        chosen("stable-4.19", "stable-4.18@4.18.0..4.18.0", "stable-4.17@4.20.0", architectures=("amd64", "arm64"))
    text = str(caught.value)
    for said in (
        "stable-4.19 has no releases for amd64",
        "release 4.18.0",
        "no release from 4.20.0",
        "stable-4.18 has no releases for arm64",
    ):
        assert said in text


def test_each_step_with_risks_is_a_problem_that_names_them():
    found = chosen("stable-4.13@4.12.0..4.13.0", shortest_path=True)
    assert routes(found) == [["4.12.0", "4.12.17", "4.13.0"]]
    (problem,) = found.problems
    assert (problem.severity, problem.code, problem.subject) == ("warning", ProblemCode.UPDATE_RISK, "4.13.0-amd64")
    assert "4.12.17 to 4.13.0 is not recommended for every cluster" in problem.message
    assert "SeccompFilterErrno524 (https://" in problem.message
    assert [bool(step.risks) for step in found.paths[0].steps] == [False, True]


# Several channels: on the published graphs oc-mirror's walk has steps that no cluster can take.
TABLE = [
    (("stable-4.7@4.7.2", "stable-4.9@..4.9.40"), ["4.7.2", "4.7.53", "4.8.45", "4.9.40"]),
    (("stable-4.7@4.7.19", "stable-4.9@..4.9.53"), ["4.7.19", "4.7.60", "4.8.54", "4.9.53"]),
    (("stable-4.16@4.16.20", "stable-4.18@..4.18.30"), ["4.16.20", "4.17.48", "4.18.30"]),
]


@pytest.mark.parametrize(("texts", "wanted"), TABLE)
@pytest.mark.parametrize("swapped", [False, *more([True])])
def test_several_channels_are_connected_over_the_channels_between(texts, wanted, swapped):
    """openshift/oc-mirror#752 (OCPBUGS-19429): the channel in between is not in the image set."""
    one, other = texts
    low, high = one.partition("@")[2], other.partition("..")[2]
    ends = [f"{one}..{low}", f"{other.partition('@')[0]}@{high}..{high}"]
    source = Source()
    found = chosen(*(reversed(ends) if swapped else ends), source=source)
    assert routes(found) == [wanted]
    assert versions(found) == wanted
    named = {each.version: each.channels for each in found.releases}
    assert named[wanted[0]] == (one.partition("@")[0],)
    assert named[wanted[1]] == ()
    assert len(set(source.asked)) == 3


def test_no_path_between_stated_ends_is_an_error():
    with pytest.raises(UsageError, match=r"no update path from 4\.7\.19 to 4\.9\.10") as caught:
        chosen("stable-4.7@4.7.19..4.7.19", "stable-4.9@4.9.10..4.9.10")
    assert "From 4.7.19 updates lead to 4.8.54 at most" in caught.value.hint
    assert "is the lowest version after it that can be updated to 4.9.10" in caught.value.hint


def test_no_path_between_newest_releases_is_a_problem():
    source = Source(**{"stable-4.1": read(made(["4.1.0", "4.1.9"])), "stable-4.2": read(made(["4.2.0"]))})
    source.given["stable-4.2"] = Graph({"4.2.0": source.given["stable-4.2"].nodes["4.2.0"]})
    found = chosen("stable-4.1", "stable-4.2", source=source)
    assert versions(found) == ["4.1.9", "4.2.0"]
    assert codes(found) == [ProblemCode.UPDATE_PATH]
    assert "no update path from 4.1.9 to 4.2.0" in found.problems[0].message
    assert not found.paths


def test_a_channel_between_that_does_not_exist_is_left_out():
    """openshift/oc-mirror#292: an empty channel ended the run. There is no eus channel of an odd minor version."""
    whole = read(made(["4.1.0", "4.3.0"], [("4.1.0", "4.3.0")]))
    source = Source(**{"fast-4.1": whole, "fast-4.3": whole})
    assert routes(chosen("fast-4.1@4.1.0..4.1.0", "fast-4.3", source=source)) == [["4.1.0", "4.3.0"]]
    assert {"fast-4.2", "stable-4.2"} <= set(source.asked)
    eus = Source(**{"eus-4.16": graph("amd64-stable-4.16")})
    found = chosen("eus-4.16@4.16.20..4.16.20", "eus-4.18@4.18.30..4.18.30", source=eus)
    assert routes(found) == [["4.16.20", "4.17.48", "4.18.30"]]
    assert "stable-4.17" in eus.asked


def test_without_a_path_the_channels_between_that_do_not_exist_are_named():
    """Updates from 4.14 to 4.16 need a release of 4.15 (openshift/openshift-docs#82375); a graph file may lack that channel."""
    source = Source(**{"stable-4.1": read(made(["4.1.0"])), "stable-4.4": read(made(["4.4.0"]))})
    source.given["stable-4.2"] = read(made(["4.0.9"]))
    with pytest.raises(UsageError, match=r"stable-4\.1, stable-4\.4, stable-4\.2, amd64: no update path") as caught:
        chosen("stable-4.1@4.1.0..4.1.0", "stable-4.4@4.4.0..4.4.0", source=source)
    apart = "Releases for clusters of their own go into an export of each channel."
    assert caught.value.hint == f"There is no update from 4.1.0. There is no channel stable-4.3. {apart}"


def test_channels_between_far_apart_are_bounded():
    found = read(made(["4.1.0", "4.999.0"], [("4.1.0", "4.999.0")]))
    source = Source(**{"stable-4.1": found, "stable-4.999": found})
    assert routes(chosen("stable-4.1@4.1.0..4.1.0", "stable-4.999", source=source))
    assert len(source.asked) < 100


def test_entries_of_the_same_release_are_one():
    found = chosen("stable-4.18@4.18.30..4.18.30", "eus-4.18@4.18.30..4.18.30")
    (release,) = found.releases
    assert release.channels == ("stable-4.18", "eus-4.18")
    assert not found.paths


def test_each_architecture_has_its_own_graph_and_payloads():
    """openshift/oc-mirror asks for each architecture too; s390x has the same versions as other payloads."""
    found = chosen("stable-4.8@4.8.20..4.8.22", architectures=("amd64", "s390x"))
    by = {(each.version, each.architecture): each.payload for each in found.releases}
    for (version, architecture), payload in by.items():
        assert payload == graph(f"{architecture}-stable-4.8").nodes[version].payload
    assert len(set(by.values())) == len(by) == 2 * len(every("amd64-stable-4.8", "4.8.20", "4.8.22"))
    both = chosen("stable-4.8@4.8.9..4.8.22", architectures=("amd64", "s390x"), shortest_path=True)
    assert {path.architecture for path in both.paths} == {"amd64", "s390x"}


def test_okd_is_not_connected_with_openshift():
    okd = read(made(["4.18.0-okd-scos.8", "4.19.0-okd-scos.1"]))
    source = Source(**{"stable-scos-4": okd})
    request = PlatformRequest((ReleaseChannel("stable-scos-4", okd=True), channel("stable-4.18")))
    found = choose(request, source)
    assert [(each.version, each.okd) for each in found.releases] == [("4.18.52", False), ("4.19.0-okd-scos.1", True)]
    assert not found.paths
    assert not found.problems


def test_nothing_is_asked_for_a_release_by_its_image_or_without_channels():
    source = Source()
    assert choose(PlatformRequest((channel("stable-4.18"),), release="quay.io/a/b:c"), source) == choose(
        PlatformRequest(graph=True), source
    )
    assert source.asked == []


def test_the_result_does_not_depend_on_the_order_of_the_graph():
    versions_ = [f"4.{minor}.{patch}" for minor in (1, 2, 3) for patch in range(6)]
    chance = random.Random(7)
    edges = [(one, other) for one in versions_ for other in versions_ if one < other and chance.random() < 0.3]
    results = []
    for _ in range(5):
        chance.shuffle(edges)
        order = chance.sample(versions_, len(versions_))
        whole = read(made(versions_, edges))
        mixed = Graph({name: whole.nodes[name] for name in order}, whole.plain, whole.conditional)
        results.append(chosen("stable-4.1@4.1.0..4.3.5", source=Source(**{"stable-4.1": mixed}), shortest_path=True))
    assert all(result == results[0] for result in results)


def test_channels_that_name_one_version_for_two_payloads_are_an_error():
    """Which of them is meant is not known; the first one would be carried without a word."""
    answer = made(["4.1.0"])
    one = read(answer)
    repository = answer["nodes"][0]["payload"].partition("@")[0]
    answer["nodes"][0]["payload"] = f"{repository}@sha256:{'f' * 64}"
    other = read(answer)
    with pytest.raises(ContentError, match=r"version 4\.1\.0 is sha256:\w+ in one and sha256:f"):
        chosen("stable-4.1", "fast-4.1", source=Source(**{"stable-4.1": one, "fast-4.1": other}))
