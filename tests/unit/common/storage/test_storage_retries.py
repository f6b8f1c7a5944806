"""How long a call to object storage is retried, on a clock that only its own pauses move."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from botocore import exceptions

from common.errors import InterruptedByUserError, StorageError
from common.retry import RetryPolicy
from common.storage.client import Storage
from tests.fakes.dripping import DrippingServer


@dataclass
class Service:
    """A service and a clock; each call takes `each_s`, and fails from the first outage on until `well_at`."""

    each_s: float = 0.0
    well_at: float = 1e9
    is_out: bool = True
    now: float = 0.0
    tries: int = 0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds):
        self.now += seconds
        self.pauses.append(seconds)

    def put_object(self, **_params):
        if not self.is_out:
            return {}
        self.tries += 1
        self.now += self.each_s
        if self.now < self.well_at:
            raise exceptions.EndpointConnectionError(endpoint_url="http://s3.example")
        return {}

    def write(self, *, known):
        storage = Storage(self, exceptions, sleep=self.sleep, clock=lambda: self.now)
        if known:
            self.is_out = False
            storage.write("bucket", "key", b"")
            self.is_out = True
        storage.write("bucket", "key", b"")


def test_an_outage_of_minutes_is_waited_for():
    service = Service(well_at=300.0)
    service.write(known=True)
    assert service.now < 330
    assert service.tries < 50, "pauses grow"
    assert max(service.pauses) <= 20


def test_a_service_that_stays_away_is_an_error_in_the_end():
    service = Service(each_s=60.0)
    with pytest.raises(StorageError, match="Could not connect"):
        service.write(known=True)
    assert 500 < service.now < 661


@pytest.mark.parametrize(("each_s", "tries", "most_s"), [(0.0, 5, 5.0), (10.0, 2, 25.0), (60.0, 2, 125.0)])
def test_a_service_that_never_answered_is_given_up_soon(each_s, tries, most_s):
    service = Service(each_s=each_s)
    with pytest.raises(StorageError, match="Could not connect"):
        service.write(known=False)
    assert service.tries == tries
    assert service.now < most_s


def test_a_stop_ends_the_waiting():
    def stopped(_seconds):
        raise InterruptedByUserError("stopped")

    service = Service(well_at=300.0)
    with pytest.raises(InterruptedByUserError):
        Storage(service, exceptions, sleep=stopped, clock=lambda: service.now).write("bucket", "key", b"")


class Endless:
    """A service whose answers do not end: the heads of some calls, the bodies of others."""

    def __init__(self):
        self.over = threading.Event()
        self.calls = 0

    def head_object(self, **_params):
        self.calls += 1
        self.over.wait(30)

    put_object = list_objects_v2 = complete_multipart_upload = head_object

    def get_object(self, **_params):
        self.calls += 1
        return {"Body": self}

    def read(self, _size):
        self.over.wait(30)
        return b""

    def close(self):
        pass


CALLS = {
    "stat": lambda storage: storage.stat("bucket", "key"),
    "read": lambda storage: storage.read("bucket", "key", 0, 100, ""),
    "write": lambda storage: storage.write("bucket", "key", b"content"),
    "list": lambda storage: list(storage.below("bucket", "")),
    "complete": lambda storage: storage.complete("bucket", "key", "upload", {1: "tag"}),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_ends_in_time(call):
    """The timeouts of botocore bound silence alone: a head of a byte a minute held a command for days (CWE-400)."""
    service = Endless()
    try:
        twice = RetryPolicy(tries=2, first_s=0.0)
        storage = Storage(service, exceptions, known=twice, unknown=twice, call_s=0.05)
        with pytest.raises(StorageError, match="the answer does not end in 0 s"):
            CALLS[call](storage)
        assert service.calls == 2
    finally:
        service.over.set()


def test_a_head_that_drips_ends_in_time(monkeypatch):
    with DrippingServer(b"HTTP/1.1 200 OK\r\nX: ", b"x") as server:
        for name, value in (("ENDPOINT_URL", f"http://{server.host}"), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
            monkeypatch.setenv(f"AWS_{name}", value)
        storage = Storage.connect(unknown=RetryPolicy(tries=1), call_s=0.3)
        with pytest.raises(StorageError, match="does not end"):
            storage.stat("bucket", "key")
        assert len(server.requests) == 1


ROOT = Path(__file__).parents[4]
_HANGING = """
import threading
from botocore import exceptions
from common import interruption
from common.errors import InterruptedByUserError
from common.storage.client import Storage

reached = threading.Event()

class Hanging:
    def put_object(self, **_params):
        reached.set()
        threading.Event().wait(60)

def stop():
    reached.wait()
    interruption.stop()

threading.Thread(target=stop).start()
try:
    Storage(Hanging(), exceptions).write("bucket", "key", b"")
except InterruptedByUserError:
    print("stopped")
"""


def test_a_stop_ends_a_call_that_hangs():
    """In the thread that called; the call itself is abandoned. A process of its own, for a stop cannot be taken back."""
    done = subprocess.run([sys.executable, "-c", _HANGING], cwd=ROOT, capture_output=True, text=True, timeout=45, check=True)
    assert done.stdout == "stopped\n"
