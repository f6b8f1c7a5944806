"""The update graph of a channel: releases with their payloads, and the updates between them. Pure.

The answer of an update service: openshift/cincinnati, docs/design/openshift.md. What a cluster does with it:
openshift/cluster-version-operator, pkg/cincinnati/cincinnati.go.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import msgspec

from common import version
from common.archive.inventory import RiskRecord
from common.errors import ContentError, HubError
from common.oci.reference import Reference
from common.openshift.openshift_release import is_architecture, is_channel
from common.serialization import UNDECODABLE, values_in
from common.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")
MAX_SIZE = 32 * 1024 * 1024  # bytes of an answer
MAX_VALUES = 6_000_000  # of its JSON, commas and brackets
MAX_NODES = 10_000
MAX_CONDITIONAL = 200_000  # conditional edges, each with MAX_RISKS at most
MAX_RISKS = 64
_MAX_CHANNELS = 200  # of one release
_MAX_NAME, _MAX_TEXT = 200, 2000  # characters of a risk's name; of its message, and of URLs
_URL = re.compile(r"https?://[!-~]{1,2000}")
_NIGHTLY = re.compile(r"0\.(?:ci|nightly|okd-scos)-")  # 4.7.0-0.okd-2021-03-07-090821 was a stable release
_HINT = "Check the address of the update service; does a proxy answer in its place?"


@dataclass(frozen=True, slots=True)
class Node:
    """A release. `payload` by digest; `channels`: all that have it; `url`: its erratum; `architecture`: of the graph."""

    version: str
    payload: Reference
    channels: tuple[str, ...] = ()
    url: str = ""
    architecture: str = ""


@dataclass(frozen=True)
class Graph:
    """Releases by version, and updates by version. An edge is plain or conditional, never both.

    `conditional`: the risks of the updates to each version.
    """

    nodes: Mapping[str, Node] = field(default_factory=dict)
    plain: Mapping[str, frozenset[str]] = field(default_factory=dict)
    conditional: Mapping[str, Mapping[str, tuple[RiskRecord, ...]]] = field(default_factory=dict)

    @cached_property
    def versions(self) -> tuple[str, ...]:
        """All versions, in the order of Semantic Versioning; those that differ in build metadata alone by their text."""
        return tuple(sorted(self.nodes, key=order))

    @cached_property
    def rank(self) -> Mapping[str, int]:
        """The position of each version among all."""
        return {name: number for number, name in enumerate(self.versions)}


def order(text: str) -> tuple[version.Key, str]:
    """Return the sort key of a version of a release, which is valid."""
    return version.parse(text).key, text


class _Metadata(msgspec.Struct):
    url: str = ""
    channels: str = msgspec.field(default="", name="io.openshift.upgrades.graph.release.channels")
    architecture: str = msgspec.field(default="", name="release.openshift.io/architecture")


class _Node(msgspec.Struct):
    version: str
    payload: str
    metadata: _Metadata | None = None


class _Edge(msgspec.Struct, rename={"from_": "from"}):
    from_: str
    to: str


class _Risk(msgspec.Struct):
    name: str = ""
    url: str = ""
    message: str = ""


class _Conditional(msgspec.Struct):
    edges: list[_Edge] = []
    risks: list[_Risk] = []


class _Answer(msgspec.Struct, rename={"conditional": "conditionalEdges"}):
    nodes: list[_Node]
    edges: list[tuple[int, int]] | None = None
    conditional: list[_Conditional] | None = None
    version: int = 1


_ANSWER = msgspec.json.Decoder(_Answer)


def decode(raw: bytes, where: str, architecture: str = "") -> Graph:
    """Read an answer of an update service; `architecture`: of which it is. Raises ContentError that begins with `where`.

    A conditional edge goes before a plain one, as clusters take them. Edges of releases that the answer does not have are left
    out: there is no payload for them.
    """
    answer = _decoded(raw, where)
    if answer.edges is not None and all(node.metadata is None for node in answer.nodes):
        answer = _of_channel(answer)
    nodes: dict[str, Node] = {}
    for each in answer.nodes:
        node = _node(each, where, architecture)
        if node.version in nodes:
            raise ContentError(f"{where}: version {node.version} is there twice", hint=_HINT)
        nodes[node.version] = node
    conditional = _conditional(answer.conditional or [], nodes, where)
    plain: defaultdict[str, set[str]] = defaultdict(set)
    for one, other in _plain(answer, list(nodes)):
        if one != other and other not in conditional.get(one, ()):
            plain[one].add(other)
    return Graph(nodes, {name: frozenset(found) for name, found in plain.items()}, conditional)


def united(graphs: Iterable[Graph], where: str = "the channels") -> Graph:
    """Return one graph of several channels of an architecture. An edge that is conditional in one of them is conditional.

    Raises ContentError where a version has several payloads.
    """
    nodes: dict[str, Node] = {}
    plain: defaultdict[str, set[str]] = defaultdict(set)
    conditional: defaultdict[str, dict[str, tuple[RiskRecord, ...]]] = defaultdict(dict)
    for graph in graphs:
        for name, node in graph.nodes.items():
            known = nodes.setdefault(name, node)
            require_same(name, known.payload, node.payload, where)
            if known.channels != node.channels:
                nodes[name] = replace(known, channels=_union(known.channels, node.channels))
        for name, found in graph.plain.items():
            plain[name] |= found
        for name, edges in graph.conditional.items():
            mine = conditional[name]
            for to, risks in edges.items():
                mine[to] = risks if mine.get(to, risks) == risks else _union(mine[to], risks)
    kept = {name: frozenset(found - conditional.get(name, {}).keys()) for name, found in plain.items()}
    return Graph(nodes, kept, dict(conditional))


def require_same(version: str, one: Reference, other: Reference, where: str = "the channels") -> None:
    """Raise ContentError where two channels name different payloads for a version."""
    if one.digest != other.digest:
        message = f"{where}: version {version} is {one.digest} in one and {other.digest} in another"
        raise ContentError(message, hint="Ask one update service, or give files of one.")


def _union(one: Sequence[T], other: Sequence[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys([*one, *other]))


def _decoded(raw: bytes, where: str) -> _Answer:
    if len(raw) > MAX_SIZE:
        raise ContentError(f"{where}: {len(raw)} bytes; the limit is {MAX_SIZE}", hint=_HINT)
    if values_in(raw) > MAX_VALUES:
        raise ContentError(f"{where}: about {values_in(raw)} values; the limit is {MAX_VALUES}", hint=_HINT)
    try:
        answer = _ANSWER.decode(raw)
    except UNDECODABLE as error:
        begins = sanitize(raw[:80].decode("utf-8", "replace"), 60)
        message = f"{where}: no update graph: {sanitize(str(error), _MAX_NAME)}; it begins with {begins!r}"
        raise ContentError(message, hint=_HINT) from error
    if answer.version != 1:
        raise ContentError(
            f"{where}: an update graph of version {answer.version}; version 1 is wanted",
            hint="Is there a newer release of hub-export?",
        )
    if (count := len(answer.nodes)) > MAX_NODES:
        raise ContentError(f"{where}: {count} releases; the limit is {MAX_NODES}", hint=_HINT)
    for one, other in answer.edges or ():
        if not (0 <= one < count and 0 <= other < count):
            raise ContentError(f"{where}: an edge from {one} to {other}, of {count} releases", hint=_HINT)
    return answer


def _of_channel(answer: _Answer) -> _Answer:
    """Return the answer of a release controller with the releases of its channel alone, as good as that can be known.

    It knows no metadata, and lists every tag of every stream, some without a digest; a channel only chooses the edges
    (openshift/release-controller, cmd/release-controller-api/http_upgrade_graph.go).
    """
    places: dict[int, int] = {}
    kept: list[_Node] = []
    known: set[str] = set()
    for place in sorted({place for edge in answer.edges or () for place in edge}):
        node = answer.nodes[place]
        if "@sha256:" in node.payload and version.try_parse(node.version) is not None and node.version not in known:
            places[place] = len(kept)
            kept.append(node)
            known.add(node.version)
    edges = [(places[one], places[other]) for one, other in answer.edges or () if one in places and other in places]
    return _Answer(kept, edges, answer.conditional)


def without_nightlies(graph: Graph) -> Graph:
    """Return the releases of a stable channel of OKD: its release controller counts nightly and CI builds among them."""
    nodes = {name: node for name, node in graph.nodes.items() if not _NIGHTLY.match(version.parse(name).prerelease)}
    plain = {name: found & nodes.keys() for name, found in graph.plain.items() if name in nodes}
    conditional = {
        name: {to: risks for to, risks in edges.items() if to in nodes}
        for name, edges in graph.conditional.items()
        if name in nodes
    }
    return Graph(nodes, plain, conditional)


def _node(node: _Node, where: str, architecture: str) -> Node:
    if version.try_parse(node.version) is None:
        raise ContentError(f"{where}: {sanitize(node.version, 80)!r} is no version of a release", hint=_HINT)
    try:
        payload = Reference.parse(node.payload)
    except HubError as error:
        raise ContentError(f"{where}: {node.version}: the payload is {error.message}", hint=_HINT) from error
    if payload.digest is None:
        raise ContentError(f"{where}: {node.version}: its payload {payload} has no digest", hint=_HINT)
    metadata = node.metadata or _Metadata()
    says = metadata.architecture
    if architecture and says and says != architecture:
        raise ContentError(
            f"{where}: {node.version} is of {sanitize(says, 40)}, and {architecture} was requested",
            hint="An answer is that of one architecture: the parameter arch of the request.",
        )
    listed = (each.strip() for each in metadata.channels[:20_000].split(","))
    channels = tuple(dict.fromkeys(each for each in listed if is_channel(each)))[:_MAX_CHANNELS]
    url = metadata.url if _URL.fullmatch(metadata.url) else ""
    known = architecture or (says if is_architecture(says) else "")
    return Node(node.version, payload.pinned(payload.digest), channels, url, known)


def _plain(answer: _Answer, names: list[str]) -> Iterator[tuple[str, str]]:
    for one, other in answer.edges or []:
        yield names[one], names[other]
    known = frozenset(names)
    for edge in (edge for group in answer.conditional or [] if not group.risks for edge in group.edges):
        if edge.from_ in known and edge.to in known:
            yield edge.from_, edge.to


def _conditional(
    groups: Sequence[_Conditional], nodes: Mapping[str, Node], where: str
) -> dict[str, dict[str, tuple[RiskRecord, ...]]]:
    """Return the risks by edge. One without risks is recommended for every cluster: it is a plain edge."""
    if (count := sum(len(group.edges) for group in groups)) > MAX_CONDITIONAL:
        raise ContentError(f"{where}: {count} conditional edges; the limit is {MAX_CONDITIONAL}", hint=_HINT)
    found: defaultdict[str, dict[str, tuple[RiskRecord, ...]]] = defaultdict(dict)
    for group in groups:
        if len(group.risks) > MAX_RISKS:
            raise ContentError(f"{where}: {len(group.risks)} risks of one edge; the limit is {MAX_RISKS}", hint=_HINT)
        risks = tuple(dict.fromkeys(map(_risk, group.risks)))
        for edge in group.edges:
            if edge.from_ not in nodes or edge.to not in nodes or edge.from_ == edge.to or not risks:
                continue
            mine = found[edge.from_]
            if (known := mine.get(edge.to)) is None:
                mine[edge.to] = risks
            elif known != risks and len(known) < MAX_RISKS:
                mine[edge.to] = _union(known, risks)[:MAX_RISKS]
    return dict(found)


def _risk(risk: _Risk) -> RiskRecord:
    url = risk.url if _URL.fullmatch(risk.url) else ""
    return RiskRecord(sanitize(risk.name, _MAX_NAME) or "unnamed", url, sanitize(risk.message, _MAX_TEXT))
