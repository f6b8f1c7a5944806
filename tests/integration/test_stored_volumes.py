"""Volumes in object storage that are interrupted, lost, late, or somebody else's: what is finished is right, or nothing is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.archive.signature import Signer
from common.errors import ArchiveDamagedError, ArchiveIncompleteError, HubError, StorageError, UsageError
from common.progress import Silent
from common.registry.settings import RegistrySettings
from common.storage.client import Storage
from common.storage.location import S3Location
from exporter import planned_workflow
from exporter.distributed import plan_file
from exporter.distributed.s3_volumes import S3Settings
from tests.fakes.commands import run
from tests.fakes.object_store import BUCKET, ObjectStore, Request, object_store
from tests.fakes.planned import PACKAGE, World, contents, planned_world
from tests.samples import more

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Blobs that are cut over two volumes and more, with parity."""
    package, more = f"{PACKAGE}:stable-v1@1.18.0..1.18.0", ("--parity", "5")
    with planned_world(tmp_path_factory.mktemp("cut"), layer=700_000, volume="1MiB", package=package, more=more) as made:
        made.hub("keygen", made.home / "other")
        yield made


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    with object_store(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="module")
def connected(stores):
    """One connection for all tests: botocore reads its description of S3 for each, which takes a quarter of a second."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in stores.environment.items():
            environment.setenv(name, value)
        return Storage.connect()


@dataclass
class Site:
    """An archive that is made at one place, by one key."""

    world: World
    store: ObjectStore
    connected: Storage
    name: str
    scratch: Path
    key: str = "key"

    def work(self, *, scratch: bool = True) -> S3Settings:
        place = S3Location(BUCKET, self.name, self.connected)
        return S3Settings(place, self.scratch if scratch else None, 2, Signer.load(self.world.home / f"{self.key}.key"))

    def create(self, *numbers: int):
        """Make volumes, all of them when none is named; return what `create` makes."""
        plan = plan_file.load(self.world.home / "plan.json")
        settings = RegistrySettings(registries_conf=self.world.home / "registries.conf", environ=dict(os.environ))
        wanted = range(numbers[0], numbers[-1] + 1) if numbers else None
        return planned_workflow.export_to_s3(plan, self.work(), wanted, settings, Silent(), strict=False)

    def finish(self, *, scratch: bool = True, accept: bool = False):
        return planned_workflow.finish_s3(self.work(scratch=scratch), Silent(), accept_missing=accept)

    @property
    def contents(self) -> dict[str, str]:
        return contents(self.store.root / BUCKET / self.name)

    def volume(self, number: int) -> Path:
        return self.store.root / BUCKET / self.name / f"volume-{number:04d}.tar.zst"

    def refuse(self, name: str) -> None:
        """Let nobody write objects of a name."""
        self.store.fault = lambda request: 403 if request.method in ("PUT", "POST") and request.path.endswith(name) else 0


@pytest.fixture
def store(stores, world, monkeypatch):
    stores.reset()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", world.env["SOURCE_DATE_EPOCH"])
    for name, value in stores.environment.items():
        monkeypatch.setenv(name, value)
    return stores


@pytest.fixture
def site(world, store, connected, request, tmp_path):
    return Site(world, store, connected, request.node.name.replace("[", "-").strip("]"), tmp_path / "scratch")


@contextmanager
def lost_and_cut(world):
    """Take a blob away that is cut; give the volumes that it lies in."""
    with world.without_the_largest_blob() as digest:
        yield [piece.volume for piece in inventory(world).blobs[digest].pieces]


def inventory(world):
    return plan_file.load(world.home / "plan.json").spec.inventory({})


def test_an_archive_with_unfinished_volumes_waits_for_a_person(site):
    with lost_and_cut(site.world) as volumes:
        made = site.create()
    assert len(volumes) > 1
    assert made.record.lost
    assert "SHA256SUMS" not in site.store.names(site.name)
    with pytest.raises(UsageError, match=rf"without 1 blob: .*volume-000{volumes[0]}.*, .*volume-000{volumes[1]}") as raised:
        site.finish()
    assert "--accept-missing" in raised.value.advice
    with pytest.raises(UsageError, match="written again on a scratch disk: 1 blob missing") as raised:
        site.finish(scratch=False, accept=True)
    assert "--scratch" in raised.value.advice
    begun = site.world.source.log.stat().st_size
    site.create()
    asked = site.world.source.log.read_text(errors="replace")[begun:]
    fetched = {line.partition("/blobs/")[2][:71] for line in asked.splitlines() if "GET" in line and "/blobs/" in line}
    cut = {digest for digest, blob in inventory(site.world).blobs.items() if len(blob.pieces) > 1}
    again = {digest for digest, blob in inventory(site.world).blobs.items() if {p.volume for p in blob.pieces} & {*volumes}}
    assert fetched - {""} <= cut & again, "what had come whole was asked for again"
    assert again - cut, "and something had"
    assert site.contents == site.world.whole


@pytest.mark.more
def test_a_volume_without_an_accepted_blob_never_counts_as_finished_again(site):
    """A blob cut over two volumes, missing for one of the processes, cleared in one; then it is available again."""
    first, second, *_ = volumes_of_the_lost(site.world)
    site.create(1, first)
    with lost_and_cut(site.world):
        site.create(second, site.world.count)
    site.refuse(f"volume-{second:04d}.tar.zst")  # interrupted between the two
    with pytest.raises(StorageError):
        site.finish(accept=True)
    site.store.reset()
    site.create(second, site.world.count)
    with pytest.raises(UsageError, match=rf"without 1 blob: [^,]*volume-000{first}[^,]*; missing"):
        site.finish()
    site.create(first)
    site.finish()
    assert site.contents == site.world.whole


def volumes_of_the_lost(world):
    with lost_and_cut(world) as volumes:
        return volumes


@contextmanager
def held(site: Site, wanted: Callable[[Request], bool], work: Callable[[], object]):
    """Run `work` elsewhere until it asks for what is `wanted`; on leaving it goes on, to its end, which is given then."""
    reached, go = threading.Event(), threading.Event()
    ended: list[object] = []

    def hold(request):
        if wanted(request) and not reached.is_set():
            reached.set()
            go.wait(60)

    def target():
        try:
            ended.append(work())
        except HubError as error:
            ended.append(error)

    site.store.hold = hold
    thread = threading.Thread(target=target)
    thread.start()
    assert reached.wait(120)
    site.store.hold = lambda _request: None
    try:
        yield ended
    finally:
        go.set()
        thread.join(60)
        assert ended


def last_look(request):
    """Right before a volume is replaced."""
    return request.method == "HEAD" and request.path.endswith("SHA256SUMS")


@pytest.mark.more
def test_who_comes_late_and_lost_something_gives_way(site, tmp_path):
    """A process that its scheduler lost sight of, cut off from the source."""
    first, *_ = volumes_of_the_lost(site.world)
    late = Site(site.world, site.store, site.connected, site.name, tmp_path / "late")
    with lost_and_cut(site.world) as _volumes:
        began = held(site, last_look, lambda: late.create(first))
        ended = began.__enter__()
    site.create(first)
    whole = site.volume(first).read_bytes()
    began.__exit__(None, None, None)
    assert not ended[0].record.lost, "what somebody else made counts"
    assert site.volume(first).read_bytes() == whole
    site.create()
    assert site.contents == site.world.whole


def test_who_comes_late_leaves_a_finished_archive_alone(site, tmp_path):
    site.create(1)
    late = Site(site.world, site.store, site.connected, site.name, tmp_path / "late", "other")
    with held(site, last_look, lambda: late.create(2)) as ended:
        site.create(2, site.world.count)
        site.finish()
    assert "was finished meanwhile" in str(ended[0])
    assert site.contents == site.world.whole


@pytest.mark.more
def test_a_volume_that_was_signed_with_another_key_is_written_again(site, tmp_path):
    site.create(1, site.world.count)
    late = Site(site.world, site.store, site.connected, site.name, tmp_path / "late", "other")
    late.create(1)
    with pytest.raises(UsageError, match="another --sign"):
        site.finish(scratch=False)
    site.finish()
    assert site.contents == site.world.whole


def test_a_volume_without_its_record_is_made_again(site):
    """Replaced by one of another key, and killed before that was noted."""
    site.create(1, site.world.count)
    other = Site(site.world, site.store, site.connected, site.name, site.scratch, "other")
    site.refuse("hub-export.part-0001")
    with pytest.raises(StorageError):
        other.create(1)
    site.store.reset()
    with pytest.raises(ArchiveIncompleteError, match=r"volume-0001\.tar\.zst"):
        site.finish()
    site.create(1)
    site.finish()
    assert site.contents == site.world.whole


@pytest.mark.parametrize("name", ["volume-0001.tar.zst", *more(["volume-0002.tar.zst.parity"])])
def test_what_somebody_changed_is_not_signed(name, site):
    site.create(1, site.world.count)
    path = site.store.root / BUCKET / site.name / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArchiveDamagedError, match="not the object that was uploaded") as raised:
        site.finish()
    assert f"--volumes {name[10]}" in raised.value.advice
    path.unlink()
    with pytest.raises(ArchiveDamagedError):
        site.finish()
    site.create(int(name[10]))
    site.finish()
    assert site.contents == site.world.whole


@pytest.mark.more
def test_archives_share_a_scratch_disk(site):
    """The same plan at two places, at the same moment."""
    twin = Site(site.world, site.store, site.connected, f"{site.name}-twin", site.scratch)
    with held(site, last_look, lambda: twin.create(1)) as ended:
        site.create(1)
        site.create(1)
        with pytest.raises(HubError, match="in use by another process"):
            twin.create(1)
    assert not isinstance(ended[0], HubError), ended[0]
    assert twin.volume(1).read_bytes() == site.volume(1).read_bytes()
    assert list(site.scratch.iterdir()) == []


@pytest.mark.more
def test_a_signature_of_an_interrupted_run_does_not_stay(site):
    site.create(1, site.world.count)
    site.refuse("SHA256SUMS")
    with pytest.raises(StorageError):
        site.finish()
    site.store.reset()
    assert "inventory.json.sig" in site.store.names(site.name)
    work = site.work()
    planned_workflow.finish_s3(S3Settings(work.place, work.scratch), Silent())
    assert {name for name in site.store.names(site.name) if name.endswith(".sig")} == set()
    done = run("hub-import", "verify", f"s3://{BUCKET}/{site.name}", "--format", "json", env=site.store.environment)
    assert (done.status, done.json["signature"]) == (0, "absent")


def test_a_scratch_disk_that_is_none_is_said(site):
    site.scratch.write_text("a file")
    with pytest.raises(UsageError, match="cannot be made") as raised:
        site.create(1)
    assert "--scratch" in raised.value.advice


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b'"volumes":[1]', b'"volumes":[1],"lost":{"sha256:' + b"0" * 64 + b'":{"message":"x"}}'),
        *more([lambda raw: raw.replace(b'"volumes":[1]', b'"volumes":[2]'), lambda raw: raw[:-10]]),
    ],
    ids=["of an unknown blob", "of another volume", "cut"],
)
def test_a_record_that_cannot_be_is_said(change, site):
    site.create(1)
    path = site.store.root / BUCKET / site.name / "hub-export.part-0001"
    raw = path.read_bytes()
    changed = change(raw)
    assert changed != raw
    path.write_bytes(changed)
    with pytest.raises(UsageError, match=r"record of another volume or plan|not the record of a part"):
        site.create(1)
