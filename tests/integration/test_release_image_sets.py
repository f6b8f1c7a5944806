"""`mirror.platform` as public files have it (tests/data/imagesets), planned: what is carried, or why it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.fakes import releases
from tests.fakes.commands import run
from tests.fakes.openpgp import armored, signer
from tests.fakes.registry import FakeRegistry
from tests.fakes.release_hosts import CI_STORE, ReleaseHosts
from tests.samples import more

pytestmark = pytest.mark.integration
FILES = Path("tests/data/imagesets")
SEVERAL = ("amd64", "arm64", "s390x")


@dataclass(frozen=True)
class Shape:
    """What is published for a file, by channel, and what a plan of it has: releases, else words of the error."""

    channels: Mapping[str, Sequence[str]]
    planned: Sequence[str] = ()
    refused: Sequence[str] = ()
    architectures: Sequence[str] = ("amd64",)
    edges: Sequence[tuple[str, str]] = ()
    problems: Sequence[str] = ()
    graph: bool = False
    status: int = 0


def one(name: str, *versions: str, **more_of_it) -> Shape:
    """Return a shape that carries the last version, on amd64."""
    return Shape({name: versions}, [f"{versions[-1]} amd64"], **more_of_it)


THEN = ("4.14.1", "4.14.2", "4.14.4")
SHAPES = {
    "releases-alone": one("stable-4.15", "4.15.46", "4.15.47", graph=True),
    "template-of-init": one("stable-4.16", "4.16.1", "4.16.2"),
    "windows-lines": one("stable-4.16", "4.16.1", "4.16.2"),
    "package-twice": Shape({}, refused=["package foo-operator is there twice"], status=2),
    "pinned-channels": Shape(
        {"stable-4.14": ["4.14.3", "4.14.4", "4.14.5", "4.14.6", "4.14.7"]},
        ["4.14.4 amd64", "4.14.5 amd64", "4.14.6 amd64"],
        edges=[("4.14.4", "4.14.6")],
        graph=True,
    ),
    "quoted-keys": Shape(
        {"stable-4.16": ["4.16.1", "4.16.9"]},
        ["4.16.1 amd64", "4.16.9 amd64"],
        edges=[("4.16.1", "4.16.9")],
        graph=True,
        problems=["release-bound", "release-bound"],
    ),
    "okd": Shape(
        {"4-scos-stable": ["4.18.0-okd-scos.4", "4.18.0-okd-scos.8"]},
        ["4.18.0-okd-scos.8 amd64"],
        edges=[("4.18.0-okd-scos.4", "4.18.0-okd-scos.8")],
    ),
    "releases-okd": Shape(
        {"stable-scos-4": ["4.18.0-okd-scos.4", "4.18.0-okd-scos.8"]},
        ["4.18.0-okd-scos.4 amd64", "4.18.0-okd-scos.8 amd64"],
        edges=[("4.18.0-okd-scos.4", "4.18.0-okd-scos.8")],
    ),
    "kubevirt-container": Shape(
        {"stable-4.18": ["4.18.19"], "stable-4.19": ["4.18.19", "4.19.20"]},
        ["4.18.19 multi", "4.18.19 amd64", "4.19.20 multi", "4.19.20 amd64"],
        architectures=["multi", "amd64"],
        edges=[("4.18.19", "4.19.20")],
        problems=["sparse-index"],
    ),
    "releases-kubevirt": one("stable-4.18", "4.18.2"),
    "releases-shortest-path": Shape(
        {"stable-4.14": ["4.14.1", "4.14.2", "4.14.3", "4.14.4"]},
        [f"{version} amd64" for version in THEN],
        edges=[("4.14.1", "4.14.2"), ("4.14.2", "4.14.4"), ("4.14.3", "4.14.4")],
        graph=True,
    ),
    "releases-architectures": Shape(
        {"stable-4.16": ["4.16.2"]}, [f"4.16.2 {name}" for name in SEVERAL], architectures=SEVERAL, graph=True
    ),
    "releases-by-image": one("candidate-4.16", "4.16.2"),
    "releases-platforms": Shape(
        {"stable-4.18": ["4.18.2"]}, ["4.18.2 multi"], architectures=["multi"], problems=["sparse-index"]
    ),
    "releases-eus": Shape(
        {"eus-4.16": ["4.16.3"], "stable-4.17": ["4.16.3", "4.17.5"], "eus-4.18": ["4.16.3", "4.17.5", "4.18.2"]},
        ["4.16.3 amd64", "4.17.5 amd64", "4.18.2 amd64"],
        edges=[("4.16.3", "4.17.5"), ("4.17.5", "4.18.2")],
        graph=True,
    ),
    "releases-full": Shape({"fast-4.12": ["4.11.9", "4.12.1"]}, ["4.11.9 amd64", "4.12.1 amd64"], edges=[("4.11.9", "4.12.1")]),
    "releases-maximum-alone": Shape(
        {"stable-4.12": ["4.11.9", "4.12.2", "4.12.3"]}, ["4.11.9 amd64", "4.12.2 amd64"], problems=["update-path"]
    ),
    "releases-bounds-swapped": Shape(
        {"stable-4.12": ["4.12.2"]}, refused=["minVersion 4.12.9 is above maxVersion 4.12.2", "'4.13' is no version"], status=2
    ),
    "releases-mistyped": Shape({}, refused=["'x86_64' is no architecture", "Write amd64", "ocpp"], status=2),
    "releases-graph-alone": Shape({}, refused=["the graph data needs an image with a shell"], graph=True, status=2),
    "releases-unknown-channel": Shape(
        {"stable-4.18": ["4.18.1"]}, refused=["channel stable-4.81 has no releases for amd64"], status=2
    ),
    "releases-no-path": Shape(
        {"stable-4.14": ["4.14.1", "4.15.3"]}, refused=["no update path from 4.14.1 to 4.15.3"], status=2
    ),
    "charts": Shape({}, refused=["unknown field 'releases'", "One release is named by its image"], status=2),
    "callouts": Shape({}, refused=["is a placeholder"], status=2),
    "jinja-blocks": Shape({}, refused=["is a placeholder"], status=2),
}
EMPTY = {"empty-inside"}  # a section that asks for nothing


def test_each_file_with_the_section_is_planned():
    having = {path.stem for path in FILES.glob("*.yaml") if "platform:" in path.read_text(encoding="utf-8-sig")}
    assert having - EMPTY <= SHAPES.keys()


def published(shape: Shape, registry: FakeRegistry, hosts: ReleaseHosts):
    """Publish the releases of a shape; return one of them for each registry that is used, and the key."""
    key, made = signer(), {}
    for channel, versions in shape.channels.items():
        for version in versions:
            okd = "okd" in version
            where = {"payloads": releases.OKD_PAYLOADS, "pool": releases.OKD_COMPONENTS} if okd else {}
            for architecture in shape.architectures:
                if (version, architecture) not in made:
                    made[version, architecture] = (
                        releases.multi(version, names=("cli",), kubevirt=True, **where)
                        if architecture == "multi"
                        else releases.release(version, architecture, names=("cli",), kubevirt=True, **where)
                    )
                    made[version, architecture].put(registry)
                    store = {"store": CI_STORE} if okd else {}
                    hosts.add(made[version, architecture], signer=key, **store)
                hosts.add(made[version, architecture], channel)
    for old, new in shape.edges:
        hosts.connect(old, new)
    return list(made.values()), key


CHEAP = ("releases-shortest-path", "releases-mistyped")


@pytest.mark.parametrize("name", [*CHEAP, *more(name for name in SHAPES if name not in CHEAP)])
def test_a_public_shape_is_planned_or_refused_with_the_reason(name, tmp_path):
    shape = SHAPES[name]
    text = (FILES / f"{name}.yaml").read_text(encoding="utf-8-sig")
    file = tmp_path / "set.yaml"
    file.write_text(text)
    if not shape.refused:  # operators and images are the subject of other tests
        document = yaml.safe_load(text)
        document["mirror"] = {"platform": document["mirror"]["platform"]}
        file.write_text(yaml.safe_dump(document))
    with FakeRegistry() as registry, ReleaseHosts() as hosts:
        hosts.graph_data = releases.graph_data()
        made, key = published(shape, registry, hosts)
        (tmp_path / "key.asc").write_bytes(armored(key.key()))
        (tmp_path / "registries.conf").write_text(releases.registries_conf(registry.host, *made))
        arguments: list[object] = ["--registries-conf", tmp_path / "registries.conf"]
        if shape.channels:
            arguments += [] if name == "releases-by-image" else ["--update-service", hosts.update_service]
            arguments += ["--release-key", tmp_path / "key.asc"]
            arguments += [part for store in (*hosts.stores, hosts.ci_store) for part in ("--signature-store", store)]
        arguments += ["--graph-data", hosts.graph_data_url] if shape.graph else []
        done = run("hub-export", "plan", file, *arguments, "--format", "json")
    assert done.status == shape.status, done.stderr
    for words in shape.refused:
        assert words in done.stderr
    if not shape.refused:
        planned = done.json
        assert [f"{one['version']} {one['architecture']}" for one in planned["releases"]] == list(shape.planned)
        assert sorted(one["code"] for one in planned["problems"]) == sorted(shape.problems)
        assert ("graphData" in planned.get("updateGraph", {})) is shape.graph
