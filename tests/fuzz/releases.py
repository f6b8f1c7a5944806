"""Targets of releases: the files of a payload, its last layer, and graph data."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

from common.oci.image import digest_of
from common.oci.reference import is_tag
from exporter.releases import bootimages, graph_data, graph_image, payload
from tests.fakes import factories, releases
from tests.fakes.releases import BOOTIMAGES, DATA
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import JSON, TEXT, Target

_FILES = releases.release("4.18.3", names=("cli", "pod"), kubevirt=True).files
_REFERENCES, _METADATA = "release-manifests/image-references", "release-manifests/release-metadata"


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
    assert data.channels
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
    Target("graph data", _tarballs, _graph_data, (mutated,), 0.3),
)
