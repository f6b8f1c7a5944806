"""How long a call to object storage is retried, on a clock that only its own pauses move."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from botocore import exceptions

from common.errors import InterruptedByUserError, StorageError
from common.storage.client import Storage


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
