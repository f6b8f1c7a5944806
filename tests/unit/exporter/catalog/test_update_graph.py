"""Update graphs: heads, chains, and each fault of a graph, with the cases of oc-mirror's catalog filter."""

from __future__ import annotations

import pytest

from common.errors import CatalogError
from exporter.catalog import update_graph
from exporter.catalog.model import ChannelEntry
from exporter.catalog.update_graph import UpdateGraph
from tests.fakes.catalogs import entry

GOOD = {
    "single": ([entry("1.0.0")], "1.0.0"),
    "two in a chain": ([entry("1.0.0"), entry("1.1.0", "1.0.0")], "1.1.0"),
    "replaces and skips": (
        [
            entry("1.0.0"), entry("1.1.0"), entry("1.1.1"), entry("1.1.2", "1.0.0", ("1.1.1", "1.1.0")),
            entry("2.0.0"), entry("2.0.1"), entry("2.0.2", "1.1.2", ("2.0.1", "2.0.0")),
        ],
        "2.0.2",
    ),
    "seven in a chain": ([entry("1.0.0"), *(entry(f"1.{n}.0", f"1.{n - 1}.0") for n in range(1, 7))], "1.6.0"),
    "dangling names count for nothing": ([entry("1.1.0", "1.0.0", ("0.9.0",))], "1.1.0"),
    "replaces what it skips": ([entry("1.0.0"), entry("1.1.0", "1.0.0", ("1.0.0",))], "1.1.0"),
}  # fmt: skip

BAD = {
    "no entries": ([], "channel has no entries"),
    "two alone": ([entry("foo.v1.0.0"), entry("foo.v2.0.0")], "multiple channel heads found: foo.v1.0.0, foo.v2.0.0"),
    "two chains": (
        [entry("1.0.0"), entry("1.1.0", "1.0.0"), entry("2.0.0"), entry("2.1.0", "2.0.0")],
        "multiple channel heads found: 1.1.0, 2.1.0",
    ),
    "two replace one": ([entry("1.0.0"), entry("1.1.0", "1.0.0"), entry("1.2.0", "1.0.0")], "multiple channel heads"),
    "duplicates": (
        [entry("1.0.0"), entry("1.0.0"), entry("1.1.0", "1.0.0"), entry("1.1.0", "1.0.0")],
        "duplicate entries: 1.0.0, 1.1.0",
    ),
    "replaces itself": ([entry("1.0.0", "1.0.0")], "1.0.0 replaces itself"),
    "skips itself": ([entry("1.0.0", "", ("1.0.0",))], "1.0.0 skips itself"),
    "each replaces the other": ([entry("b0", "b1"), entry("b1", "b0")], "no channel heads found"),
    "cycle below a head": (
        [entry("1.0.0", "1.2.0"), entry("1.1.0", "1.0.0"), entry("1.2.0", "1.1.0"), entry("1.3.0", "1.2.0")],
        "cycle",
    ),
    "replaces, then skips": ([entry("1.0.0", "1.1.0"), entry("1.1.0", "", ("1.0.0",)), entry("2.0.0")], "cycle"),
    "skips, then replaces": ([entry("1.0.0", "", ("1.1.0",)), entry("1.1.0", "1.0.0"), entry("2.0.0")], "cycle"),
    "mutual skips": ([entry("1.0.0", "", ("1.1.0",)), entry("1.1.0", "", ("1.0.0",)), entry("2.0.0")], "cycle"),
}


@pytest.mark.parametrize(("entries", "head"), GOOD.values(), ids=GOOD)
def test_the_head_is_found(entries: list[ChannelEntry], head: str) -> None:
    graph = UpdateGraph.of(entries, "foo/stable")
    assert graph.head == head
    assert graph.stranded == ()
    assert sorted(graph.order()) == sorted(one.name for one in entries)


@pytest.mark.parametrize(("entries", "message"), BAD.values(), ids=BAD)
def test_what_is_no_graph_is_refused(entries: list[ChannelEntry], message: str) -> None:
    with pytest.raises(CatalogError, match=message) as caught:
        UpdateGraph.of(entries, "package foo, channel stable")
    assert caught.value.message.startswith("package foo, channel stable: ")


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(CatalogError, match=r"1\.0\.0 replaces itself; 2\.0\.0 skips itself; multiple"):
        UpdateGraph.of([entry("1.0.0", "1.0.0"), entry("2.0.0", "", ("2.0.0",))], "x")


def test_order_is_head_first_with_what_is_skipped_behind() -> None:
    entries, _ = GOOD["replaces and skips"]
    order = UpdateGraph.of(entries, "x").order()
    assert order[0] == "2.0.2"
    assert set(order[1:3]) == {"2.0.0", "2.0.1"}
    assert order[3] == "1.1.2"
    assert order[-1] == "1.0.0"


def test_stranded_entries_are_named() -> None:
    """S is skipped and replaces U: no way from the head leads to U."""
    graph = UpdateGraph.of([entry("head", "", ("s",)), entry("s", "u"), entry("u")], "x")
    assert graph.stranded == ("u",)
    assert graph.order() == ("head", "s", "u")


def test_a_channel_has_a_limit() -> None:
    names = [str(n) for n in range(update_graph.MAX_ENTRIES + 1)]
    chain = [entry(name, before) for name, before in zip(names, ["", *names], strict=False)]
    assert UpdateGraph.of(chain[:-1], "x").head == names[-2]
    with pytest.raises(CatalogError, match="100001 entries; the limit is 100000"):
        UpdateGraph.of(chain, "x")


def test_work_grows_with_edges_not_with_paths() -> None:
    """Each of 400 entries skips all before it: 80,000 edges, and more paths than atoms."""
    listed = [f"1.{n}.0" for n in range(400)]
    entries = [entry(name, listed[n - 1] if n else "", tuple(listed[:n])) for n, name in enumerate(listed)]
    graph = UpdateGraph.of(entries, "x")
    assert graph.head == "1.399.0"
    assert graph.order()[0] == "1.399.0"
    assert len(graph.order()) == 400
