"""Archives in which many images share what they need: time in proportion to the inventory, not to images times blobs."""

from __future__ import annotations

import hashlib
import json

import pytest

from common.archive.volume import volume_name
from tests.fakes.hostile import compact, inventory, measured
from tests.samples import more

pytestmark = pytest.mark.integration
IMAGES = BLOBS = 20_000
SECONDS = 8.0  # of CPU, for an inventory of 10 MB, of which reading it takes one; each image on its own took minutes
MEMORY = 768 << 20
STEP = 2048  # bytes from one blob to the next: tar header, content, padding
MANIFEST, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"


def digest(name: object) -> str:
    return f"sha256:{hashlib.sha256(str(name).encode()).hexdigest()}"


def image(number: int, root: str, source: str = "registry.test/{0}:v1") -> dict:
    return {
        "source": source.format(number),
        "digest": root,
        "mediaType": MANIFEST,
        "kind": "related",
        "platforms": [],
        "complete": True,
        "neededBy": [f"catalog/package-{number}/bundle"],
        "size": 1,
    }


def shared(count: int = IMAGES, blobs: int = BLOBS, *, indexes: bool = False, source: str = "registry.test/{0}:v1") -> dict:
    """Return an inventory of `count` images of one manifest; with `indexes` each in an index of its own."""
    named = [digest(f"blob {number}") for number in range(blobs)]
    manifest = digest("manifest")
    manifests = {manifest: {"mediaType": MANIFEST, "size": 1, "blobs": named}}
    roots = [digest(f"index {number}") if indexes else manifest for number in range(count)]
    if indexes:
        manifests |= {root: {"mediaType": INDEX, "size": 1, "manifests": [manifest]} for root in roots}
    records = {
        one: {"size": 1, "mediaType": "x", "encoding": "raw", "pieces": [place]}
        for number, one in enumerate(named)
        if (place := {"volume": 1, "offset": STEP * (number + 1), "stored": 18, "size": 1})
    }
    listed = [image(number, root, source) for number, root in enumerate(roots)]
    volumes = [{"name": volume_name(1), "dataSize": STEP * (blobs + 2)}]
    return inventory(images=listed, manifests=manifests, blobs=records, volumes=volumes)


@pytest.fixture
def archive(tmp_path):
    """Return a function that writes an archive of an inventory without the content of its blobs."""

    def write(document: dict):
        (tmp_path / "archive").mkdir()
        (tmp_path / "archive" / "inventory.json").write_bytes(compact(document))
        path = tmp_path / "archive" / volume_name(1)
        with path.open("wb") as file:  # sparse: nothing of the blobs is there
            file.truncate(document["volumes"][0]["dataSize"])
        return path.parent

    return write


def bounded(done):
    assert "internal error" not in done.stderr
    assert (done.memory < MEMORY, done.cpu < SECONDS) == (True, True), (done.memory >> 20, done.cpu)


def test_a_rerequest_of_blobs_that_every_image_needs(archive, tmp_path):
    done = measured(tmp_path, "hub-import", "verify", archive(shared()), "--rerequest", tmp_path / "wanted.json")
    bounded(done)
    assert done.status == 4
    assert len(done.stdout) < 64 * 1024
    assert len(json.loads((tmp_path / "wanted.json").read_bytes())["blobs"]) == BLOBS


@pytest.mark.parametrize(
    "arguments",
    more(
        [
            ["push", "--registry", "localhost:1"],
            ["serve", "--listen", "127.0.0.1:0"],
            ["receipt", "--registry", "localhost:1", "--output", "receipt.json"],
            ["inspect"],
        ]
    ),
    ids=" ".join,
)
def test_commands(archive, tmp_path, arguments):
    arguments = [tmp_path / one if one == "receipt.json" else one for one in arguments]
    done = measured(tmp_path, "hub-import", arguments[0], archive(shared()), *arguments[1:])
    bounded(done)
