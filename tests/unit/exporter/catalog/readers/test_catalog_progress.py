"""The layers of a catalog are shown as they are fetched: on a slow line they take the first minutes of an export."""

from __future__ import annotations

from common.content import DirectoryStore
from common.progress import Silent
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from exporter.catalog.readers.opening import CatalogOpener
from tests.fakes import sources
from tests.fakes.registry import FakeRegistry

CATALOG = b'{"schema": "olm.package", "name": "foo", "defaultChannel": "a"}{"schema": "olm.channel", "package": "foo", "name": "a", "entries": [{"name": "foo.v1"}]}{"schema": "olm.bundle", "package": "foo", "name": "foo.v1", "image": "quay.io/x/foo:v1", "properties": [{"type": "olm.package", "value": {"packageName": "foo", "version": "1.0.0"}}]}'


class Recorded(Silent):
    """Steps, and bytes that were fetched or were there."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []
        self.fetched = self.present = 0
        self.is_open = False

    def begin(self, what, total, unit="bytes", *, kept=False):
        assert unit == "bytes"
        self.steps.append((what, total))
        self.kept, self.is_open = kept, True

    def advance(self, size, item="", *, moved=True):
        assert self.is_open
        self.fetched += size if moved else 0
        self.present += 0 if moved else size

    def end(self):
        self.is_open = False


def test_what_is_fetched_of_a_catalog_is_counted_once(tmp_path):
    with FakeRegistry() as registry, RegistryClient(RegistrySettings(insecure=frozenset({registry.host}))) as client:
        reference = registry.add_image("org/catalog", sources.catalog_image({"foo/catalog.json": CATALOG}), "v1")
        first, again = Recorded(), Recorded()
        for progress in (first, again):
            opener = CatalogOpener(client, DirectoryStore(tmp_path / "store"), progress=progress)
            assert list(opener.open(str(reference)).catalog.packages) == ["foo"]
    ((step, size),) = first.steps
    assert step == f"reading catalog {reference}"
    assert (first.fetched, first.present) == (size, 0)
    assert (again.fetched, again.present) == (0, size)
    assert again.steps == first.steps
    assert first.kept, "after Ctrl-C, the layers are there for the next run"
    assert not first.is_open


def test_layers_in_a_temporary_store_are_not_kept(tmp_path):
    with FakeRegistry() as registry, RegistryClient(RegistrySettings(insecure=frozenset({registry.host}))) as client:
        reference = registry.add_image("org/catalog", sources.catalog_image({"foo/catalog.json": CATALOG}), "v1")
        progress = Recorded()
        CatalogOpener(client, DirectoryStore(tmp_path, durable=False), progress=progress).open(str(reference))
    assert not progress.kept
