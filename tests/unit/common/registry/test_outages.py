"""Outages of a host: waited for by elapsed time, by all calls together, and told. No test sleeps: the clock is a fake one.

Registries answer 429, 502, 503 and 504 without Retry-After for a minute or two, while quay.io is busy, or the pod of a registry
restarts: openshift/oc-mirror#1107, google/go-containerregistry#1569, containers/image#618.
"""

from __future__ import annotations

import os
import random
import re
import threading
from types import SimpleNamespace

import pytest

from common.errors import RegistryError, RegistryRefusedError, RegistryUnreachableError
from common.oci.image import Descriptor, digest_of
from common.oci.reference import Reference
from common.registry.settings import RegistrySettings
from common.registry.source_sink import RegistrySink, RegistrySource
from common.retry import MAX_RETRY_AFTER_S
from common.transfer import copy
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Fault
from tests.fakes.servers import free_port
from tests.samples import more

CONTENT = os.urandom(300_000)
BLOB = Descriptor("a/b", digest_of(CONTENT), len(CONTENT))
APP = image()
FOREVER = 100_000


def out_for(clock, registry, seconds, part="", method="*", **what):
    """Let the registry fail until the clock has moved by `seconds`."""
    fault = registry.fault(method, part, times=FOREVER, **what)
    until = clock.clock.monotonic_s() + seconds

    def slept(_seconds):
        if clock.clock.monotonic_s() >= until:
            fault.times = 0

    clock.on_sleep = slept
    return fault


def read(client, registry):
    return b"".join(bytes(chunk) for chunk in client.blob(registry.reference("org/app"), BLOB))


CALLS = {
    "ping": lambda client, registry: client.ping(registry.host),
    "document": lambda client, registry: client.document(registry.reference("org/app", "v1")),
    "head": lambda client, registry: client.head(registry.reference("org/app", "v1")),
    "has_blob": lambda client, registry: client.has_blob(registry.reference("org/app"), BLOB.digest, BLOB.size),
    "blob": read,
    "referrers": lambda client, registry: client.referrers(registry.reference("org/app").pinned(APP.digest)),
    "tags": lambda client, registry: list(client.tags(registry.reference("org/app"))),
    "upload": lambda client, registry: client.upload(
        registry.reference("org/new"), BLOB, lambda start: iter([CONTENT[start:]]), []
    ),
    "mount": lambda client, registry: client.upload(
        registry.reference("org/new"), BLOB, lambda start: iter([CONTENT[start:]]), [registry.reference("org/app")]
    ),
    "manifest": lambda client, registry: client.put_manifest(registry.reference("org/app", "v2"), APP.raw, APP.media_type),
    "delete": lambda client, registry: client.delete(registry.reference("org/app").pinned(APP.digest)),
}


def filled(registry):
    registry.add_image("org/app", APP, tag="v1")
    registry.add_blob("org/app", CONTENT)
    return registry


@pytest.mark.parametrize("call", CALLS)
def test_every_call_survives_an_outage_from_the_first_request_on(connect, clock, call):
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        out_for(clock, registry, 120.0, status=503)
        CALLS[call](client, registry)
        assert 120 <= sum(clock.slept) < 150


@pytest.mark.parametrize(
    "outage",
    [(429, 45.0), (502, 60.0), *more([(status, s) for status in (429, 502, 503, 504, 522, 524) for s in (45.0, 60.0, 120.0)])],
)
def test_every_such_status_is_waited_for(connect, clock, outage):
    status, seconds = outage
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        out_for(clock, registry, seconds, status=status)
        CALLS["document"](client, registry)


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_an_outage_with_a_login(connect, clock, auth):
    with FakeRegistry(auth=auth) as registry:
        client = connect(filled(registry), login=True)
        out_for(clock, registry, 100.0, status=503)
        assert read(client, registry) == CONTENT


@pytest.mark.parametrize("status", [503, *more([429, 502, 504])])
def test_a_token_server_that_is_out(connect, clock, status):
    with FakeRegistry(auth="token") as registry:
        client = connect(filled(registry), login=True)
        out_for(clock, registry, 100.0, "/token", status=status)
        CALLS["document"](client, registry)


def test_a_token_server_asks_to_wait(connect, clock):
    told = []
    with FakeRegistry(auth="token") as registry:
        client = connect(filled(registry), login=True, notify=told.append)
        registry.fault("GET", "/token", status=429, headers={"Retry-After": "60"})
        CALLS["document"](client, registry)
        assert clock.slept == [60.0]
        assert told == [f"{registry.host} asked to wait 60 s", ""]


def test_a_part_of_a_registry_that_is_out(connect, clock):
    """Uploads are refused for a while, and all else works."""
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        out_for(clock, registry, 100.0, "/blobs/uploads/", status=503)
        CALLS["upload"](client, registry)
        assert registry.repositories["org/new"].blobs[BLOB.digest] == CONTENT


def test_a_registry_that_restarts(connect, clock):
    """The router answers 503, the pod refuses connections and resets them, and the first answers of the new one are 500."""
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        client.ping(registry.host)
        registry.fault("*", "", times=3, status=503)
        registry.fault("*", "", times=5, drop=True)
        registry.fault("*", "", times=2, status=500)
        CALLS["document"](client, registry)
        assert 30 < sum(clock.slept) < 180


@pytest.mark.parametrize("call", ["document", "upload", "blob", *more(["ping", "head", "has_blob", "tags", "manifest"])])
def test_a_registry_that_has_answered_and_refuses_connections_is_waited_for(connect, clock, call):
    port = free_port()
    with FakeRegistry(address=("127.0.0.1", port)) as registry:
        client, host = connect(registry), registry.host
        client.ping(registry.host)
    back, new = [], FakeRegistry(address=("127.0.0.1", port))

    def slept(_seconds):
        if clock.clock.monotonic_s() >= 1100.0 and not back:
            back.append(filled(new.__enter__()))

    clock.on_sleep = slept
    try:
        CALLS[call](client, SimpleNamespace(host=host, reference=lambda *name: Reference(host, *name)))
        assert back
        assert 100 <= sum(clock.slept) < 150
    finally:
        for each in back:
            each.__exit__(None, None, None)


def test_a_first_contact_that_is_refused_stays_quick(connect, clock, caplog):
    host = f"localhost:{free_port()}"
    with FakeRegistry() as registry:
        client = connect(registry, insecure=frozenset({host}))
        with pytest.raises(RegistryUnreachableError, match="connection refused"):
            client.ping(host)
        assert sum(clock.slept) < 2
    assert [record.message.count("identity is not verified") for record in caplog.records if record.levelname == "WARNING"] == [
        1
    ]


def test_a_content_network_that_was_never_reached_is_not_waited_for(connect, clock):
    """A firewall lets the registry through and not its CDN (quay/quay-docs#149): the registry answered, the CDN never did."""
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        registry.fault("GET", "/blobs/", times=FOREVER, status=307, headers={"Location": f"http://localhost:{free_port()}/x"})
        client.ping(registry.host)
        with pytest.raises(RegistryUnreachableError, match="connection refused"):
            read(client, registry)
        assert sum(clock.slept) < 2


# Longer outages.


def test_five_hundred_images_at_a_dead_host_end_in_minutes(connect, clock):
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        client.ping(registry.host)
        out_for(clock, registry, 1e9, status=503)
        for number in range(500):
            with pytest.raises(RegistryRefusedError, match="503"):
                client.document(registry.reference(f"org/app-{number}", "v1"))
        assert round(sum(clock.slept)) <= 180
        assert len(registry.requests) < 40


def test_a_dead_host_that_answers_late_ends_in_minutes(connect, clock):
    """Each request to a host that drops packets takes a timeout: only one in ten seconds is made."""
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        client.ping(registry.host)
        out_for(clock, registry, 1e9, drop=True)
        take_fault = registry.take_fault

        def late(*request):
            clock.advance(10.0)
            return take_fault(*request)

        registry.take_fault = late
        began = clock.clock.monotonic_s()
        for number in range(500):
            with pytest.raises(RegistryUnreachableError, match=r"reset|has been out for"):
                client.document(registry.reference(f"org/app-{number}", "v1"))
        assert clock.clock.monotonic_s() - began < 300


def test_a_request_that_is_not_sent_says_why(connect, clock):
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        out_for(clock, registry, 1e9, status=503)
        with pytest.raises(RegistryRefusedError):
            client.document(registry.reference("org/app", "v1"))
        with pytest.raises(RegistryRefusedError) as caught:
            client.document(registry.reference("org/app", "v2"))
        assert re.match(
            rf"{registry.host}/org/app:v2: GET manifest not sent: {registry.host} has been out for 3 min: ",
            caught.value.message,
        )
        assert caught.value.status == 503
        assert caught.value.is_host_failure


def test_one_answer_ends_an_outage(connect, clock):
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        fault = out_for(clock, registry, 1e9, status=503)
        with pytest.raises(RegistryRefusedError):
            CALLS["document"](client, registry)
        fault.times = 0
        clock.advance(10.0)
        CALLS["document"](client, registry)
        out_for(clock, registry, 120.0, status=503)
        CALLS["document"](client, registry)


def test_a_404_ends_an_outage_too(connect, clock):
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        for _ in range(3):
            out_for(clock, registry, 100.0, status=503)
            with pytest.raises(RegistryError, match="404"):
                client.document(registry.reference("org/app", "missing"))


def test_a_request_that_fails_for_ever_at_a_host_that_works_costs_the_next_ones_less(connect, clock):
    """A blob that the storage of the registry has lost."""
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        registry.fault("GET", "/manifests/bad", times=FOREVER, status=503)
        clock.on_sleep = lambda _seconds: client.ping(registry.host)
        with pytest.raises(RegistryRefusedError):
            client.document(registry.reference("org/app", "bad"))
        first = sum(clock.slept)
        assert 140 < first <= 180
        with pytest.raises(RegistryRefusedError):
            client.document(registry.reference("org/app", "bad-too"))
        assert sum(clock.slept) - first < 16
        registry.fault("GET", "/manifests/v1", times=3, status=503)
        client.document(registry.reference("org/app", "v1"))  # which shows that waiting helps again
        before = sum(clock.slept)
        with pytest.raises(RegistryRefusedError):
            client.document(registry.reference("org/app", "bad"))
        assert sum(clock.slept) - before > 140


def test_a_repository_that_is_out_alone_keeps_no_other_one_from_the_host(connect, clock):
    """A proxy may have a server for each path, of which one is down; its failures come last where the others are done."""
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        registry.fault("*", "/org/down/", times=FOREVER, status=502)
        sink = RegistrySink(client, {BLOB.digest: [registry.reference(f"org/{name}") for name in ("a", "down", "new", "last")]})
        sink.write(BLOB, lambda start: iter([CONTENT[start:]]))
        assert [place.repository for place in sink.refused(BLOB.digest)] == ["org/down"]
        assert CONTENT in registry.repositories["org/last"].blobs.values()


def test_repositories_of_a_host_that_stays_out_are_asked_once_and_few_of_them(connect, clock):
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        registry.fault("*", "/v2/", times=FOREVER, status=503)
        for number in range(40):
            with pytest.raises(RegistryRefusedError):
                client.document(registry.reference(f"org/app{number}", "v1"))
        assert sum(clock.slept) < 200, "the patience is that of the host"
        assert len(registry.log("GET", "/org/app1/")) == 1
        assert not registry.log("GET", "/org/app30/")


def test_pauses_that_a_host_asks_for_are_no_part_of_the_patience(connect, clock):
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        out_for(clock, registry, 700.0, status=429, headers={"Retry-After": "240"})
        CALLS["document"](client, registry)
        assert clock.slept == [240.0, 240.0, 240.0]


def test_pauses_that_a_host_asks_for_have_a_bound_together(connect, clock):
    with FakeRegistry() as registry:
        client = connect(filled(registry))
        out_for(clock, registry, 1e9, status=429, headers={"Retry-After": "240"})
        with pytest.raises(RegistryRefusedError, match="429"):
            CALLS["document"](client, registry)
        assert MAX_RETRY_AFTER_S < sum(clock.slept) <= MAX_RETRY_AFTER_S + 181


def test_an_outage_is_told_once_for_all_threads_and_says_where_and_until_when(connect, clock):
    told, lock = [], threading.Lock()

    def notify(what):
        with lock:
            told.append(what)

    with FakeRegistry() as registry:
        client = connect(filled(registry), notify=notify)
        client.ping(registry.host)
        out_for(clock, registry, 60.0, status=503)
        threads = [threading.Thread(target=CALLS["document"], args=(client, registry)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    shown = [what for what in told if what]
    assert shown
    assert all(
        re.fullmatch(
            rf"trying again in \d+ s, until \d\d:\d\d:\d\d \(\d+ s\): {registry.host}/org/app:v1: GET manifest at "
            rf"{registry.host}: HTTP 503",
            what,
        )
        for what in shown
    )
    assert told.count("") == len(shown)


def test_the_patience_is_a_setting(connect, clock, tmp_path):
    with FakeRegistry() as registry:
        client = connect(filled(registry), environ={"HOME": str(tmp_path), "HUB_REGISTRY_PATIENCE": "600"})
        out_for(clock, registry, 500.0, status=503)
        CALLS["document"](client, registry)


@pytest.mark.parametrize("text", ["10d", "-1", "²", "86401", "25h", "000000000086401"])
def test_a_patience_that_is_none_is_refused(text):
    from common.errors import UsageError

    with pytest.raises(UsageError, match="HUB_REGISTRY_PATIENCE"):
        _ = RegistrySettings(environ={"HUB_REGISTRY_PATIENCE": text}).outage_s


def test_an_upload_waits_for_a_registry_that_goes_away_in_its_middle(connect, clock):
    with FakeRegistry() as registry:
        client = connect(registry)
        client.ping(registry.host)
        registry.fault("PUT", "/blobs/uploads/", drop=True)
        out_for(clock, registry, 100.0, "/blobs/", method="HEAD", status=503)
        CALLS["upload"](client, registry)
        assert registry.repositories["org/new"].blobs[BLOB.digest] == CONTENT


# A line that damages, cuts and is throttled, all at the same time.

MIX = [(0.05, {"flip": True}), (0.15, {"cut_after": 500}), (0.05, {"status": 429}), (0.03, {"status": 503})]


class Mixed(FakeRegistry):
    """Answers to blobs fail by chance, as through a bad proxy; the chance is that of a seed."""

    def begin(self, seed):
        self.random, self.failed = random.Random(seed), 0

    def take_fault(self, method, path, length=0):
        if method != "GET" or "/blobs/" not in path:
            return None
        with self.lock:
            chance = self.random.random()
            for share, what in MIX:
                if chance < share:
                    self.failed += 1
                    return Fault(method, path, **what)
                chance -= share
        return None


@pytest.mark.parametrize("seed", [1, *more(range(2, 9))])
def test_hundreds_of_blobs_arrive_over_a_line_with_all_faults_at_once(connect, clock, seed):
    contents = [random.Random(f"{seed} {number}").randbytes(1000) for number in range(60 if seed == 1 else 400)]
    with Mixed() as source, FakeRegistry() as mirror:
        source.begin(seed)
        blobs = [source.add_blob("org/app", content) for content in contents]
        reading = RegistrySource(connect(source), {blob.digest: [source.reference("org/app")] for blob in blobs})
        sink = RegistrySink(connect(mirror), {blob.digest: [mirror.reference("org/app")] for blob in blobs})
        outcomes = list(copy(blobs, reading, sink, jobs=6, wait=clock.clock.sleep))
        assert [outcome.error for outcome in outcomes if outcome.error] == []
        assert set(mirror.repositories["org/app"].blobs.values()) == set(contents)
        assert source.failed > len(contents) / 8
