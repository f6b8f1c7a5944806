"""Targets of releases: update graphs, the files of a payload, its last layer, and graph data."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

from common.oci.image import digest_of
from common.oci.reference import is_tag
from common.text import is_visible
from exporter.imageset.releases import PlatformRequest, ReleaseChannel
from exporter.releases import bootimages, graph_data, graph_image, payload
from exporter.releases.selection import choose
from exporter.releases.updates import graph as update_graph
from exporter.releases.updates import paths
from exporter.releases.updates.graph_files import GraphFiles
from tests.fakes import factories, graphs, releases
from tests.fakes.releases import BOOTIMAGES, DATA
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import JSON, TEXT, Target, at

_FILES = releases.release("4.18.3", names=("cli", "pod"), kubevirt=True).files
_REFERENCES, _METADATA = "release-manifests/image-references", "release-manifests/release-metadata"


def _update_graphs():
    versions = ["4.12.0", "4.12.1", "4.13.0-rc.1", "4.13.0"]
    plain = [("4.12.0", "4.12.1"), ("4.12.1", "4.13.0")]
    whole = graphs.made(versions, plain, {("4.12.0", "4.13.0"): ["One", "Two"]}, "stable-4.13,fast-4.13")
    return [json.dumps(each).encode() for each in (whole, graphs.made(versions[:2], plain[:1]))]


def _update_graph(raw, _folder):
    graph = update_graph.decode(raw, "fuzz", "amd64")
    both = update_graph.united([graph, graph])
    assert both.nodes == graph.nodes
    for name, node in graph.nodes.items():
        assert node.payload.digest
        assert name.isprintable()
    for risk in (risk for edges in graph.conditional.values() for risks in edges.values() for risk in risks):
        assert all(map(is_visible, risk.name + risk.message + risk.url))
    for goal in graph.versions[:3]:
        for step in paths.shortest(both, graph.versions[0], goal) or ():
            assert step.to in graph.plain.get(step.from_, ()) or step.risks


def _saved_graphs():
    one, other = _update_graphs()
    return [one, b"[%s, %s]" % (one, other), b'{"amd64-stable-4.13.json": %s, "s390x/eus-4.14": %s}' % (one, other)]


def _saved_graph(raw, folder):
    files = GraphFiles([at(folder, "amd64-stable-4.13.json", raw)])
    request = PlatformRequest((ReleaseChannel("stable-4.13", min_version="4.12.0", shortest_path=True),))
    choose(request, files)


def _read(files):
    return payload.read(*releases.opened(releases.payload(files, {}, "4.18.3")), "fuzz", kubevirt=True)


def _payload(name):
    def read(raw, _folder):
        found = _read({**_FILES, name: raw})
        assert found.version.isprintable()
        assert found.components
        for one in found.images:
            assert is_tag(f"{found.version}-x86_64-{one.name}")
            assert one.reference.digest
        assert len({one.name for one in found.images}) == len(found.images)

    return read


def _references():
    document = json.loads(_FILES[_REFERENCES])
    return [json.dumps(document).encode()]


def _layer(raw, _folder):
    """Read the tar of a layer, as it is when it is uncompressed."""
    image = factories.image((raw,), docker=True)
    payload.read(*releases.opened(image), "fuzz")


def _layers():
    plain = gzip.decompress(releases.manifests_layer({name: _FILES[name] for name in (_METADATA, _REFERENCES)}))
    return [plain]


def _machines(raw, _folder):
    for machine in bootimages.machines(raw, "fuzz", ("amd64", "s390x")):
        assert machine.reference.digest
        assert is_tag(machine.name)


def _graph_data(raw, _folder):
    data = graph_data.checked(raw, "fuzz")
    assert any(path.startswith("channels/") and path.endswith(".yaml") for path in data.files)
    names = [path for path in data.files if not path.endswith("/")]
    with tarfile.open(fileobj=io.BytesIO(graph_image.layer_of(data))) as tar:
        members = tar.getmembers()
    assert all(one.name.startswith("var") and (one.isfile() or one.isdir()) for one in members)
    assert len([one for one in members if one.isfile()]) == len(names)
    assert digest_of(graph_image.layer_of(data)) == digest_of(graph_image.layer_of(data))


def _tarballs():
    small = {
        "version": b"1.1.0\n",
        "channels/stable-4.18.yaml": b"name: stable-4.18\nversions:\n- 4.18.1\n",
        "blocked-edges/4.18.2-Some.yaml": b"to: 4.18.2\nfrom: .*\n",
        "raw/metadata.json": b'{"4.1.0": {"a": "b"}}',
    }
    return [gzip.decompress(releases.graph_data(small)), releases.graph_data(small)]


TARGETS = (
    Target("image-references", _references, _payload(_REFERENCES), JSON, 0.3),
    Target(
        "release-metadata",
        lambda: [
            _FILES[_METADATA],
            (DATA / "release-metadata" / "cvo-arch-multi.json")
            .read_bytes()
            .replace(b"1.0.0-abc", b"4.18.3")
            .replace(b': "multi"', b': "amd64"'),
        ],
        _payload(_METADATA),
        JSON,
        0.3,
    ),
    Target("layer of a payload", _layers, _layer, (mutated,), 0.3),
    Target(
        "boot images",
        lambda: [_FILES[BOOTIMAGES], (DATA / "bootimages" / "4.15-x86_64-only.yaml").read_bytes()],
        _machines,
        TEXT,
        0.5,
    ),
    Target("update graph", _update_graphs, _update_graph, JSON),
    Target("saved update graphs", _saved_graphs, _saved_graph, JSON),
    Target("graph data", _tarballs, _graph_data, (mutated,), 0.3),
)
