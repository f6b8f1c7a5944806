from __future__ import annotations

import os

import pytest

from common.content import Written
from common.errors import AuthenticationError, NotFoundError, RegistryRefusedError, RegistryUnreachableError
from common.oci.image import Descriptor, digest_of
from common.registry.source_sink import Counts, RegistrySink, RegistrySource
from common.transfer import copy
from tests.fakes.registry import FakeRegistry
from tests.samples import more


def test_next_repository_is_tried(connect):
    with FakeRegistry() as registry:
        blob = registry.add_blob("org/b", b"content")
        places = {blob.digest: [registry.reference("org/a"), registry.reference("org/b")]}
        assert b"".join(map(bytes, RegistrySource(connect(registry), places).read(blob))) == b"content"


def test_first_error_is_told(connect):
    with FakeRegistry() as registry:
        blob = Descriptor("a/b", digest_of(b"x"), 1)
        registry.fault("GET", "org/a", status=403)
        places = {blob.digest: [registry.reference("org/a"), registry.reference("org/b")]}
        with pytest.raises(AuthenticationError, match="org/a"):
            list(RegistrySource(connect(registry), places).read(blob))


def test_blob_without_a_place(connect):
    with FakeRegistry() as registry:
        blob = Descriptor("a/b", digest_of(b"x"), 1)
        with pytest.raises(NotFoundError, match="no repository is known"):
            list(RegistrySource(connect(registry), {}).read(blob))
        with pytest.raises(NotFoundError, match="no repository was chosen"):
            RegistrySink(connect(registry), {}).write(blob, lambda _s: iter([b"x"]))


def test_one_write_fills_all_repositories(connect):
    blob = Descriptor("a/b", digest_of(b"content"), 7)
    reads = []

    def read(start):
        reads.append(start)
        yield b"content"

    with FakeRegistry() as registry:
        names = [f"org/{letter}" for letter in "abc"]
        sink = RegistrySink(connect(registry), {blob.digest: [registry.reference(name) for name in names]})
        assert sink.write(blob, read) is Written.COPIED
        assert sink.counts == Counts(uploaded=1, mounted=2, present=0)
        assert reads == [0]
        assert all(registry.repositories[name].blobs == {blob.digest: b"content"} for name in names)
        assert sink.write(blob, read) is Written.PRESENT
        assert sink.counts == Counts(uploaded=1, mounted=2, present=3)


def test_present_blob_is_mounted(connect):
    with FakeRegistry() as registry:
        blob = registry.add_blob("org/b", b"content")
        sink = RegistrySink(connect(registry), {blob.digest: [registry.reference("org/a"), registry.reference("org/b")]})
        assert sink.write(blob, lambda _s: iter([])) is Written.MOUNTED
        assert sink.counts == Counts(mounted=1, present=1)


def test_where_nothing_mounts_every_repository_gets_the_bytes(connect):
    with FakeRegistry(mounts=False) as registry:
        blob = Descriptor("a/b", digest_of(b"content"), 7)
        sink = RegistrySink(connect(registry), {blob.digest: [registry.reference(f"org/{letter}") for letter in "abc"]})
        assert sink.write(blob, lambda _s: iter([b"content"])) is Written.COPIED
        assert sink.counts == Counts(uploaded=3)


@pytest.mark.parametrize("status", [500, *more([404, 410])])
def test_a_repository_that_does_not_say_whether_it_has_a_blob_costs_no_other_one(connect, status):
    """404 and 410 are of a redirect target here: storage that has lost the blob."""
    blob = Descriptor("a/b", digest_of(b"content"), 7)
    with FakeRegistry() as registry:
        places = [registry.reference(f"org/{letter}") for letter in "abc"]
        target = {"headers": {"Location": f"http://{registry.elsewhere_host}/lost"}} if status != 500 else {}
        registry.fault("HEAD", "org/a/", times=100, status=307 if target else status, **target)
        registry.fault("HEAD", "/lost", times=100, status=status)
        sink = RegistrySink(connect(registry, pushes=True), {blob.digest: places})
        assert sink.write(blob, lambda _s: iter([b"content"])) is Written.COPIED
        assert list(sink.refused(blob.digest)) == places[:1]
        assert sink.counts == Counts(uploaded=1, mounted=1)


def test_server_errors_of_every_repository_end_soon(connect):
    blob = Descriptor("a/b", digest_of(b"content"), 7)
    with FakeRegistry() as registry:
        registry.fault("HEAD", "/blobs/", times=1000, status=500)
        sink = RegistrySink(connect(registry, pushes=True), {blob.digest: [registry.reference(f"org/{n}") for n in range(40)]})
        with pytest.raises(RegistryRefusedError, match="HTTP 500"):
            sink.write(blob, lambda _s: iter([b"content"]))
        assert len(registry.log("HEAD")) == 12


@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_a_repository_whose_connections_break_costs_no_other_one(connect, method):
    """A proxy has a server, or a filter, for each path (F5 and Palo Alto reset what they refuse): only `org/a` is out."""
    blob = Descriptor("a/b", digest_of(b"content"), 7)
    with FakeRegistry() as registry:
        places = [registry.reference(f"org/{letter}") for letter in "abc"]
        registry.fault(method, "org/a/", times=100_000, drop=True)
        client = connect(registry, pushes=True)
        client.ping(registry.host)
        sink = RegistrySink(client, {blob.digest: places})
        assert sink.write(blob, lambda _s: iter([b"content"])) is Written.COPIED
        assert list(sink.refused(blob.digest)) == places[:1]
        assert isinstance(sink.refused(blob.digest)[places[0]], RegistryUnreachableError)
        assert sink.counts == Counts(uploaded=1, mounted=1)


@pytest.mark.parametrize("part", ["HEAD", *more(["POST"])])
def test_a_host_whose_connections_break_ends_the_blob(connect, clock, part):
    blob = Descriptor("a/b", digest_of(b"content"), 7)
    with FakeRegistry() as registry:
        client = connect(registry, pushes=True)
        client.ping(registry.host)
        registry.fault(part, "/blobs/", times=100_000, drop=True)
        sink = RegistrySink(client, {blob.digest: [registry.reference(f"org/{n}") for n in range(40)]})
        with pytest.raises(RegistryUnreachableError):
            sink.write(blob, lambda _s: iter([b"content"]))
        asked = {request.path for request in registry.log(part, "/blobs/")}
        assert len(asked) <= 2
        assert sum(clock.slept) < 400


def test_registry_to_registry_in_parallel_with_faults(connect):
    contents = [os.urandom(600_000) for _ in range(30)]
    with FakeRegistry(tls=True, auth="token", redirect=True) as source, FakeRegistry(auth="basic") as mirror:
        blobs = [source.add_blob("org/a", content) for content in contents]
        source.fault("GET", "/blobs/", times=5, skip=3, status=503)
        source.fault("GET", "/signed/", times=5, skip=2, cut_after=300_000)
        mirror.fault("PUT", "/blobs/", times=3, skip=4, drop=True)
        mirror.fault("POST", "/blobs/", times=3, skip=6, status=429)
        reading = RegistrySource(connect(source, login=True), {blob.digest: [source.reference("org/a")] for blob in blobs})
        places = {blob.digest: [mirror.reference(name) for name in ("org/a", "org/b")] for blob in blobs}
        sink = RegistrySink(connect(mirror, login=True), places)
        outcomes = list(copy(blobs, reading, sink, jobs=6))
        assert [outcome.error for outcome in outcomes] == [None] * 30
        for name in ("org/a", "org/b"):
            assert set(mirror.repositories[name].blobs.values()) == set(contents)
        assert sink.counts.uploaded + sink.counts.mounted == 60
