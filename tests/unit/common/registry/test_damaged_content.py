"""Content that arrives damaged: asked for again with pauses, past caches, then from the next place."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.content import DirectoryStore, Written
from common.errors import DamagedError
from common.oci.image import Descriptor, digest_of
from common.registry.source_sink import RegistrySink, RegistrySource
from common.transfer import copy
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry

ROOT = Path(__file__).parents[4]
CONTENT = bytes(range(256)) * 8000  # two megabytes: several chunks
BLOB = Descriptor("a/b", digest_of(CONTENT), len(CONTENT))


def brought(client, places, folder, slept=None):
    """Copy BLOB from `places` into a folder; return the outcome. No pause takes time; they are added to `slept`."""
    wait = (slept if slept is not None else []).append
    (outcome,) = copy([BLOB], RegistrySource(client, {BLOB.digest: places}), DirectoryStore(folder), jobs=1, wait=wait)
    return outcome


def conf(path, host, mirrors):
    lines = [f'[[registry]]\nlocation = "{host}"\n', *(f'[[registry.mirror]]\nlocation = "{mirror}"\n' for mirror in mirrors)]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("fault", [{"flip": True}, {"end_after": 100}, {"cut_after": 1_500_000, "flip": True}], ids=str)
def test_four_damaged_copies_are_followed_by_a_good_one(connect, tmp_path, fault):
    with FakeRegistry() as registry:
        registry.add_blob("org/app", CONTENT)
        registry.fault("GET", "/blobs/", times=4, **fault)
        outcome = brought(connect(registry), [registry.reference("org/app")], tmp_path / "store")
        assert outcome.error is None
        asked = registry.log("GET", "/blobs/")
        assert "Cache-Control" not in asked[0].headers
        if "flip" in fault:
            assert asked[-1].headers["Cache-Control"] == "no-cache"


def test_a_bad_beginning_is_not_kept_when_the_rest_comes_by_range(connect, tmp_path):
    with FakeRegistry() as registry:
        registry.add_blob("org/app", CONTENT)
        registry.fault("GET", "/blobs/", flip=True, cut_after=1_500_000)
        outcome = brought(connect(registry), [registry.reference("org/app")], tmp_path / "store")
        assert outcome.written is Written.COPIED
        assert [each.headers.get("Range") for each in registry.log("GET", "/blobs/")] == [None, "bytes=1500000-", None]


def test_what_stays_damaged_says_how_often_and_from_where(connect, tmp_path):
    with FakeRegistry() as registry:
        registry.add_blob("org/app", CONTENT)
        registry.add_blob("org/other", CONTENT)
        registry.fault("GET", "/blobs/", flip=True, times=99)
        places = [registry.reference("org/app"), registry.reference("org/other")]
        slept = []
        outcome = brought(connect(registry), places, tmp_path / "store", slept)
        assert sum(slept) == 0.5 + 1 + 2 + 4 + 8 * 5
        assert isinstance(outcome.error, DamagedError)
        assert f"5 times from {registry.host}/org/other" in outcome.error.message
        assert "wanted" in outcome.error.message
        assert "proxy" in outcome.error.hint
        assert len(registry.log("GET", "/org/app/blobs/")) == len(registry.log("GET", "/org/other/blobs/")) == 5


def test_the_next_mirror_is_asked(connect, tmp_path):
    with FakeRegistry() as origin, FakeRegistry() as bad, FakeRegistry() as good:
        for each in (origin, bad, good):
            each.add_blob("org/app", CONTENT)
        for each in (origin, bad):
            each.fault("GET", "/blobs/", flip=True, times=99)
        file = conf(tmp_path / "r.conf", origin.host, [bad.host, good.host])
        hosts = frozenset(each.host for each in (origin, bad, good))
        client = connect(origin, registries_conf=file, insecure=hosts)
        outcome = brought(client, [origin.reference("org/app")], tmp_path / "store")
        assert outcome.error is None
        assert len(bad.log("GET", "/blobs/")) == 5
        assert len(good.log("GET", "/blobs/")) == 1
        assert origin.log("GET", "/blobs/") == []


def test_every_mirror_is_named(connect, tmp_path):
    with FakeRegistry() as origin, FakeRegistry() as mirror:
        for each in (origin, mirror):
            each.add_blob("org/app", CONTENT)
            each.fault("GET", "/blobs/", flip=True, times=99)
        file = conf(tmp_path / "r.conf", origin.host, [mirror.host])
        client = connect(origin, registries_conf=file, insecure=frozenset({origin.host, mirror.host}))
        error = brought(client, [origin.reference("org/app")], tmp_path / "store").error
        assert f"5 times from {mirror.host}/org/app, 5 times from {origin.host}/org/app" in error.message


def test_an_upload_that_the_line_damages_is_sent_again(connect):
    """A registry answers DIGEST_INVALID to content that is not what its digest says (distribution specification, error codes)."""
    with FakeRegistry() as registry:
        refusal = b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}'
        registry.fault("PUT", "/blobs/uploads/", times=3, status=400, body=refusal)
        client = connect(registry)
        sink = RegistrySink(client, {BLOB.digest: [registry.reference("org/app")]})
        assert sink.write(BLOB, lambda start: iter([CONTENT[start:]])) is Written.COPIED
        assert registry.repositories["org/app"].blobs[BLOB.digest] == CONTENT


ASKING = """
import sys
from pathlib import Path
from common.content import DirectoryStore
from common.interruption import listen
from common.oci.image import Descriptor
from common.oci.reference import Reference
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from common.registry.source_sink import RegistrySource
from common.transfer import copy
host, digest, size, folder = sys.argv[1:]
listen()
blob, place = Descriptor("a/b", digest, int(size)), Reference(host, "org/app")
with RegistryClient(RegistrySettings(insecure=frozenset({host}))) as client:
    try:
        list(copy([blob], RegistrySource(client, {digest: [place]}), DirectoryStore(Path(folder)), jobs=1))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_the_pause_ends_when_the_process_is_told_to_stop(tmp_path):
    with FakeRegistry() as registry:
        registry.add_blob("org/app", CONTENT)
        registry.fault("GET", "/blobs/", flip=True, times=99)
        command = [sys.executable, "-c", ASKING, registry.host, BLOB.digest, str(BLOB.size), tmp_path]
        with subprocess.Popen(command, cwd=ROOT) as process:
            try:
                while len(registry.log("GET", "/blobs/")) < 4:
                    assert process.poll() is None
                    time.sleep(0.02)
                process.send_signal(signal.SIGINT)  # the pause that follows takes four seconds
                assert process.wait(30) == 130
                assert len(registry.log("GET", "/blobs/")) == 4
            finally:
                process.kill()


def test_the_clock_of_the_client_pauses(connect, clock: FakeClock):
    with FakeRegistry() as registry:
        blob = registry.add_blob("org/app", b"small")
        registry.fault("GET", "/blobs/", flip=True, times=99)
        with pytest.raises(DamagedError):
            connect(registry).blob_bytes(registry.reference("org/app"), blob, 100)
        assert clock.slept == sorted(clock.slept)
        assert len(clock.slept) == 4
