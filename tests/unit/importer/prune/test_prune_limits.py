"""Limits of records and of prune: at the limit, and one beyond."""

from __future__ import annotations

import json

import pytest

from common.archive import inventory_file
from common.archive.volume import entry_header, padded
from common.errors import ClusterError, ContentError, UsageError
from common.mapping import Mirror
from common.oci import media_types
from common.oci.compression import gzip
from common.oci.image import MAX_DOCUMENTS, digest_of
from common.progress import Silent
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from importer.cluster.api.client import Query, Scanned
from importer.prune import plan as plans
from importer.prune.reading import MirrorReader
from importer.prune.usage import OBJECTS, read
from importer.records import document
from importer.records.store import MAX_RECORDS, RecordStore
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry


@pytest.fixture(name="client")
def _client(tmp_path):
    with FakeRegistry(page=20_000) as registry:
        settings = RegistrySettings(insecure=frozenset({registry.host}), environ={"HOME": str(tmp_path)}, system_root=tmp_path)
        yield registry, RegistryClient(settings, clock=FakeClock().clock)


def test_records_of_a_mirror(client):
    registry, asked = client
    tags = registry.repositories["ocp/hub-airgap-archives"].tags
    tags |= {f"archive-{number:064x}": digest_of(b"x") for number in range(MAX_RECORDS)}
    store = RecordStore(asked, Mirror.parse(f"{registry.host}/ocp"))
    assert len(store.tags()) == MAX_RECORDS
    tags["archive-" + "f" * 64] = digest_of(b"x")
    with pytest.raises(ContentError, match="more than 10000 records"):
        store.tags()


def layer(**files):
    return gzip(b"".join(entry_header(name, len(each)) + padded(each) for name, each in files.items()) + bytes(1024))


def refusal(content):
    with pytest.raises(ContentError) as caught:
        document.decode("archive-" + "0" * 64, content)
    return caught.value.message


def test_the_head_of_a_record():
    limit = document._MAX_HEAD
    assert "cannot be read" in refusal(layer(**{"record.json": b" " * limit}))
    assert "larger than" in refusal(layer(**{"record.json": b" " * (limit + 1)}))


def test_files_of_a_record():
    count = document._MAX_FILES
    assert "cannot be read" in refusal(layer(**{f"{number}": b"" for number in range(count - 1)}))
    assert "more headers" in refusal(layer(**{f"{number}": b"" for number in range(count + 1)}))


def test_a_signature_of_a_record():
    big = {"record.json": b"{}", inventory_file.SIGNATURE_NAME: b" " * 513}
    assert "larger than 512 bytes" in refusal(layer(**big))


def test_a_plan(tmp_path):
    (tmp_path / "plan.json").touch()
    with (tmp_path / "plan.json").open("r+b") as file:
        file.truncate(plans.MAX_SIZE + 1)
    with pytest.raises(UsageError, match="larger than"):
        plans.load(tmp_path / "plan.json")


def test_manifests_below_a_tag_of_others(client):
    registry, asked = client

    def index(count):
        children = [
            {"mediaType": media_types.OCI_MANIFEST, "digest": f"sha256:{each:064x}", "size": 1} for each in range(count)
        ]
        raw = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": children}).encode()
        registry.add_manifest("ocp/a", raw, media_types.OCI_INDEX, "theirs")
        return asked.document(registry.reference("ocp/a", "theirs"))

    class Counting(MirrorReader):
        """Without the requests for each: they are not there."""

        def _document(self, _name, _digest):
            return None

    reader = Counting(asked, registry.host, 1, Silent())
    reader._note("ocp/a", index(MAX_DOCUMENTS - 1), {}, {})
    with pytest.raises(ContentError, match="more than 10000 manifests below"):
        reader._note("ocp/a", index(MAX_DOCUMENTS), {}, {})


class Cluster:
    """A cluster that says whether its lists are whole."""

    server = "https://api.example"

    def __init__(self, *, whole):
        self.whole = whole

    def scan(self, _kind, _keep, query: Query):
        assert query.most == OBJECTS
        return Scanned([], self.whole)


def test_objects_of_a_kind():
    assert read(Cluster(whole=True)).digests == {}  # type: ignore[arg-type]
    with pytest.raises(ClusterError, match="more than 50000 pods"):
        read(Cluster(whole=False))  # type: ignore[arg-type]
