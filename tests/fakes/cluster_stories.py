"""The stories of tests/data/stories, and when they end: what goes wrong on a cluster, and what mends it.

Knows the facts alone, and nothing of how the importer finds out.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.fakes.cluster_store import Body, Key

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster

STORIES = Path(__file__).parents[1] / "data" / "stories"
DEFAULT_OF = "operatorframework.io/managed-by"


@dataclass
class Story:
    """One of them, as its file has it; `over` once what it waits for has happened."""

    name: str
    cites: str
    releases: tuple[str, ...]
    cause: str
    fixable: bool
    plays: Mapping[str, Any]
    over: bool = False
    words: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> Mapping[str, Any]:
        return self.plays.get("source") or {}

    @property
    def pool(self) -> Mapping[str, Any]:
        return self.plays.get("pool") or {}

    @property
    def cluster_catalog(self) -> Mapping[str, Any]:
        return self.plays.get("cluster_catalog") or {}

    def concerns(self, source: Body) -> bool:
        """Say whether the story is about a CatalogSource: ours are those that no operator of the cluster manages."""
        if not self.source or not (source.get("spec") or {}).get("image"):
            return False
        default = DEFAULT_OF in (source["metadata"].get("annotations") or {})
        return {"ours": not default, "defaults": default}.get(
            self.source["of"], source["metadata"]["name"] == self.source["of"]
        )


def story(name: str) -> Story:
    """Load one."""
    document = yaml.load((STORIES / f"{name}.yaml").read_text(), yaml.CSafeLoader)
    keys = ("cites", "cause", "fixable")
    return Story(name=name, releases=tuple(document["releases"]), plays=document, **{key: document[key] for key in keys})


def stories() -> list[Story]:
    """Load all."""
    return [story(path.stem) for path in sorted(STORIES.glob("*.yaml"))]


def filled(value: Any, words: Mapping[str, str]) -> Any:
    """Return a part of a story with its placeholders filled."""
    if isinstance(value, str):
        for name, word in words.items():
            value = value.replace("{" + name + "}", word)
        return value
    if isinstance(value, dict):
        return {filled(name, words): filled(each, words) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, words) for each in value]
    return value


def words_of(source: Body) -> dict[str, str]:
    """Return what the placeholders stand for where a CatalogSource is played."""
    image = str(source["spec"].get("image", ""))
    host = image.partition("/")[0]
    return {"name": source["metadata"]["name"], "image": image, "host": host, "key": host.replace(":", "..")}


def has_ended(told: Story, cluster: FakeCluster) -> bool:
    """Say whether what the story waits for is there; once over it stays over."""
    until = filled(told.plays.get("until") or {}, told.words)
    if told.over or not until:
        return told.over
    texts = [_text(body) for body in _found(until, cluster)]
    if "gone" in until:
        told.over = bool(told.words) and not texts
    elif "says" in until:
        told.over = any(until["says"] in text for text in texts)
    else:
        told.over = bool(texts) and not any(until["lacks"] in text for text in texts)
    return told.over


def _found(until: Mapping[str, Any], cluster: FakeCluster) -> Iterator[Body]:
    for kind in (each for each in cluster.kinds if each.kind == until["kind"]):
        for key in cluster.store.keys(kind, until.get("namespace", "")):
            body = cluster.store.get(key)
            if until.get("name", key.name) == key.name and not _is_default(body):
                yield body


def _is_default(body: Body) -> bool:
    return DEFAULT_OF in (body["metadata"].get("annotations") or {})


def _text(body: Body) -> str:
    """Return what an object says, a Secret's data decoded."""
    spec = {name: value for name, value in body.items() if name not in {"metadata", "status"}}
    if body["kind"] == "Secret":
        spec["data"] = {name: _decoded(value) for name, value in (body.get("data") or {}).items()}
    return json.dumps(spec)


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return value


def pod_status(play: Mapping[str, Any], image: str) -> Body:
    """Return the status of a pod whose container does what a story says; without one it is well."""
    ready = bool(play.get("ready", not play))
    state: Body = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
    if "waiting" in play:
        state = {"waiting": play["waiting"]}
    container: Body = {
        "name": "registry-server",
        "image": image,
        "imageID": play.get("imageID", image if ready or play.get("running") else ""),
        "ready": ready,
        "restartCount": play.get("restarts", 0),
        "state": state,
    }
    if "terminated" in play:
        container["lastState"] = {"terminated": play["terminated"]}
    conditions = [{"type": "Ready", "status": str(ready)}]
    if "condition" in play:
        return {"phase": play.get("phase", "Pending"), "conditions": [*conditions, play["condition"]]}
    return {"phase": play.get("phase", "Running"), "conditions": conditions, "containerStatuses": [container]}


def event(about: Key, number: int, told: Mapping[str, Any]) -> Body:
    """Return an Event about a pod."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name}.{number:04}", "namespace": about.namespace},
        "involvedObject": {"kind": about.kind.kind, "name": about.name, "namespace": about.namespace},
        "count": 3,
        "lastTimestamp": "2026-01-02T03:04:05Z",
        **told,
    }
