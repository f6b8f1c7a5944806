"""Update graphs for tests: the answers in tests/data/releases, small ones made here, and a source that gives them by channel."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from common.errors import UsageError
from exporter.releases.updates.graph import Graph, decode
from exporter.releases.updates.update_service import neighbours
from tests.fakes.releases import DATA, PAYLOADS

REAL = (
    "amd64-stable-4.7",
    "amd64-stable-4.8",
    "amd64-stable-4.9",
    "amd64-stable-4.13",
    "s390x-stable-4.8",
    "multi-candidate-4.12",
)
DERIVED = ("amd64-stable-4.16", "amd64-stable-4.17", "amd64-stable-4.18", "amd64-eus-4.18")


@cache
def answer(name: str) -> bytes:
    """Return an answer by `ARCH-CHANNEL`."""
    folder = "graphs" if name in REAL else "graphs-derived"
    return gzip.decompress((DATA / folder / f"{name}.json.gz").read_bytes())


@cache
def graph(name: str) -> Graph:
    return decode(answer(name), name, name.partition("-")[0])


def made(
    versions: Sequence[str],
    plain: Iterable[tuple[str, str]] = (),
    conditional: Mapping[tuple[str, str], Sequence[str]] | None = None,
    channels: str = "",
) -> dict[str, Any]:
    """Return an answer; `conditional`: names of risks by edge."""
    places = {version: place for place, version in enumerate(versions)}
    nodes = [
        {
            "version": version,
            "payload": f"{PAYLOADS}@sha256:{place:064x}",
            "metadata": {"io.openshift.upgrades.graph.release.channels": channels} if channels else {},
        }
        for version, place in places.items()
    ]
    return {
        "version": 1,
        "nodes": nodes,
        "edges": [[places[one], places[other]] for one, other in plain],
        "conditionalEdges": [
            {
                "edges": [{"from": one, "to": other}],
                "risks": [
                    {"name": name, "url": f"https://risks.example/{name}", "message": f"{name} happens."} for name in names
                ],
            }
            for (one, other), names in (conditional or {}).items()
        ],
    }


def read(document: Any, architecture: str = "amd64") -> Graph:
    return decode(json.dumps(document).encode(), "test", architecture)


class Source:
    """A GraphSource of `ARCH-CHANNEL` names in the data, and of graphs given here; `asked`: the channels in order."""

    def __init__(self, **given: Graph) -> None:
        self.given = given
        self.asked: list[str] = []

    def graph(self, channel: str, architecture: str, *, okd: bool = False) -> Graph:
        name = f"{architecture}-{channel}"
        self.asked.append(channel)
        if channel in self.given:
            return self.given[channel]
        return graph(name) if name in REAL + DERIVED else Graph()

    def unknown(self, channel: str, architecture: str, *, okd: bool = False) -> UsageError:
        names = neighbours(channel, lambda name: bool(self.graph(name, architecture).nodes))
        return UsageError(f"channel {channel} has no releases for {architecture}", hint=", ".join(names))
