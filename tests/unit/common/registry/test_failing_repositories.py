"""A repository whose uploads fail for ever, on a mirror that works: its blobs cost few tries, and no other one is held up.

A volume of Harbor's or Quay's object storage may be out for one path alone; docker-registry answers 500 UNKNOWN to each upload
into a directory that it may not write (distribution/distribution#769).
"""

from __future__ import annotations

import tracemalloc

import pytest

from common.content import Written
from common.errors import RegistryError
from common.oci.image import Descriptor, digest_of
from common.oci.reference import Reference
from common.registry.upload.failing import FailingRepositories
from tests.fakes.registry import FakeRegistry
from tests.samples import more

FOREVER = 100_000
CONTENTS = [b"blob %d" % number for number in range(12)]


def upload(client, registry, repository, content):
    blob = Descriptor("a/b", digest_of(content), len(content))
    return client.upload(registry.reference(repository), blob, lambda start: iter([content[start:]]))


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("status", [500, *more([502, 503, 408])])
def test_blobs_of_a_repository_that_fails_for_ever_get_one_try_after_a_few(connect, clock, method, status):
    with FakeRegistry() as registry:
        client = connect(registry)
        registry.fault(method, "/org/down/", status=status, times=FOREVER)
        clock.on_sleep = lambda _seconds: client.ping(registry.host)  # the rest of the host works
        counts = []
        for content in CONTENTS:
            before = len(registry.log(method, "/org/down/"))
            with pytest.raises(RegistryError, match=f"HTTP {status}"):
                upload(client, registry, "org/down", content)
            counts.append(len(registry.log(method, "/org/down/")) - before)
        assert min(counts[:3]) > 1
        assert set(counts[3:]) == {1}
        assert upload(client, registry, "org/up", CONTENTS[0]) is Written.COPIED


def test_other_repositories_keep_their_tries_and_one_success_brings_them_back(connect, clock):
    with FakeRegistry() as registry:
        client = connect(registry)
        fault = registry.fault("POST", "/org/down/", status=500, times=FOREVER)
        for content in CONTENTS[:5]:
            with pytest.raises(RegistryError, match="HTTP 500"):
                upload(client, registry, "org/down", content)
        registry.fault("POST", "/org/up/", status=500, times=4)
        assert upload(client, registry, "org/up", CONTENTS[0]) is Written.COPIED
        fault.times = 0
        assert upload(client, registry, "org/down", CONTENTS[0]) is Written.COPIED
        registry.fault("POST", "/org/down/", status=500, times=4)
        assert upload(client, registry, "org/down", CONTENTS[1]) is Written.COPIED


class Answering:
    """An exchange whose calls all succeed."""

    def retried(self, _registry, action):
        return action()


def test_repositories_that_answer_leave_nothing_behind():
    """A catalog has thousands; 10,000 counters of 0 took 2 MB."""
    failing = FailingRepositories(Answering())
    failing.retried(Reference("registry.example", "org/first"), "presence", str)
    tracemalloc.start()
    try:
        for number in range(10_000):
            failing.retried(Reference("registry.example", f"org/app-{number}"), "presence", str)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


def test_a_refusal_is_no_such_failure(connect, clock):
    """A quota or a rule is about what is sent; the next blob may be small enough."""
    with FakeRegistry() as registry:
        client = connect(registry)
        registry.fault("PUT", "/org/app/", status=507, times=6)
        for content in CONTENTS[:4]:
            with pytest.raises(RegistryError, match="HTTP 507"):
                upload(client, registry, "org/app", content)
        registry.drop_faults()
        registry.fault("POST", "/org/app/", status=500, times=4)
        assert upload(client, registry, "org/app", CONTENTS[5]) is Written.COPIED


def test_questions_for_blobs_of_such_a_repository_get_one_try_too(connect, clock):
    with FakeRegistry() as registry:
        client = connect(registry)
        registry.fault("*", "/org/down/", status=500, times=FOREVER)
        counts = []
        for content in CONTENTS:
            before = len(registry.log("", "/org/down/"))
            with pytest.raises(RegistryError, match="HTTP 500"):
                client.has_blob(registry.reference("org/down"), digest_of(content), len(content))
            counts.append(len(registry.log("", "/org/down/")) - before)
        assert counts[0] > 1
        assert set(counts[3:]) == {1}
