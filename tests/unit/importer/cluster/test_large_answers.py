"""Answers of an API server without end: an error, in memory of the limit, and no second try."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import httpx
import pytest

from common.errors import ClusterError
from importer.cluster.api.client import Query, Scanned
from importer.cluster.api.transport import (
    FREE_VALUES,
    MAX_LOG,
    MAX_PAGES,
    MAX_SCANNED_PAGES,
    OutOfBoundsError,
    Room,
    Scan,
    Transport,
)
from importer.cluster.kinds import CLUSTER_VERSION, CONFIG_MAP, SUBSCRIPTION
from importer.cluster.readiness import readiness
from importer.cluster.shape import checked
from tests.fakes.cluster import Fault
from tests.fakes.dripping import DrippingServer


def test_an_answer_at_its_limit_and_beyond():
    room = Room(10)
    room.take(b"x" * 10)
    with pytest.raises(OutOfBoundsError, match="an answer of more than 10 bytes"):
        room.take(b"x")


def test_values_of_an_answer_at_their_limit_and_beyond():
    """`[],[],` takes dozens of times its bytes in memory; real answers have a value for every 10 bytes and more."""
    room = Room(1 << 30)
    room.take(b"," * (FREE_VALUES + FREE_VALUES // 7))
    with pytest.raises(OutOfBoundsError, match=r"about .* values"):
        room.take(b"," * 100)
    Room(1 << 30, json=False).take(b"," * (4 * FREE_VALUES))  # a log has no values


def test_a_list_of_pages_without_end(start):
    """An API server gives a list whole; each page here is empty, and names another one."""
    cluster, client = start()
    for pages, fits in ((MAX_PAGES, True), (MAX_PAGES + 1, False)):
        before = len(cluster.log)

        def endless(request, body, last=before + pages):
            document = json.loads(body)
            more = {"continue": "7"} if len(cluster.log) < last else {}
            return json.dumps({**document, "items": [], "metadata": more}).encode()

        cluster.changed_answer = endless
        if fits:
            assert client.list(SUBSCRIPTION) == []
            assert len(cluster.log) - before == MAX_PAGES
            continue
        with pytest.raises(ClusterError, match=f"more than {MAX_PAGES} pages"):
            client.list(SUBSCRIPTION)


def scanned(client, page, most=50_000):
    return client.scan(CONFIG_MAP, lambda body: body["metadata"]["name"], Query(most, "olm", page=page))


def test_a_list_that_is_read_in_pages_has_as_many_as_its_objects_need(start):
    """50,000 objects in pages of 50 are a thousand; these are small ones of one object each."""
    cluster, client = start()
    names = [f"c{number:03}" for number in range(MAX_PAGES + 20)]
    for name in names:
        cluster.put({"kind": "ConfigMap", "metadata": {"name": name, "namespace": "olm"}})
    assert scanned(client, 1) == Scanned(names, whole=True)
    assert scanned(client, 1, most=5) == Scanned(names[:5], whole=False)
    cluster.changed_answer = lambda _request, body: json.dumps({**json.loads(body), "metadata": {"continue": "1"}}).encode()
    with pytest.raises(ClusterError, match=f"more than {MAX_SCANNED_PAGES} pages"):
        scanned(client, 1)


def test_pages_of_a_scan_are_bounded_each_and_together():
    room = Scan(10, 25)
    for _ in range(2):
        room.take_page()
        room.take(b"x" * 10)
    with pytest.raises(OutOfBoundsError, match="an answer of more than 10 bytes"):
        room.take(b"x")
    room.take_page()
    with pytest.raises(OutOfBoundsError, match="a list of more than 25 bytes"):
        room.take(b"x" * 6)


def test_a_list_whose_first_page_is_too_old_is_read_again(start):
    """etcd keeps old revisions for five minutes: 410 with the reason Expired."""
    cluster, client = start()
    for number in range(4):
        cluster.put({"kind": "ConfigMap", "metadata": {"name": f"c{number}", "namespace": "olm"}})
    expired = [Fault("GET", "/configmaps", status=410, body=b'{"message": "The provided continue parameter is too old"}')]

    def keep(body):
        while expired:  # after the first page
            cluster.faults.append(expired.pop())
        return body["metadata"]["name"]

    found = client.scan(CONFIG_MAP, keep, Query(9, "olm", page=2))
    assert found == Scanned(["c0", "c1", "c2", "c3"], whole=True)
    assert [fault.times for fault in cluster.faults] == [0]


def test_a_line_of_a_log_without_end(start):
    cluster, client = start()
    cluster.put({"kind": "Pod", "metadata": {"name": "p", "namespace": "olm"}, "spec": {"containers": [{"name": "c"}]}})
    cluster.logs["olm/p/c"] = "x" * (MAX_LOG - 1)
    assert len(client.log("p", "olm", "c")) == MAX_LOG - 1
    cluster.logs["olm/p/c"] = "x" * MAX_LOG
    with pytest.raises(ClusterError, match="more than 8388608 bytes"):
        client.log("p", "olm", "c")


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[]", b"null", b'{"metadata": []}', b"\xff", b'{"metadata": {"name": 1}}'])
def test_answers_that_are_no_object(start, body):
    cluster, client = start()
    cluster.changed_answer = lambda _request, _body: body
    with pytest.raises(ClusterError, match="does not answer get ClusterVersion version as the Kubernetes API does"):
        client.get(CLUSTER_VERSION, "version")
    assert len(cluster.log) == 1


def answered(body: bytes, encoding: str):
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with (
        DrippingServer(head + body, b"", endless=False) as server,
        Transport() as transport,
        httpx.Client(transport=transport) as client,
    ):
        return client.get(f"http://{server.host}/api/v1/namespaces/x/pods/y/log").content


def test_compressed_answers_are_bounded_by_what_they_decompress_to():
    """Of zeros gzip makes a thousandth; httpx would decompress all of them."""
    assert answered(gzip.compress(b'{"kind": "x"}'), "gzip") == b'{"kind": "x"}'
    stream = zlib.compressobj(wbits=31)
    body = b"".join(stream.compress(bytes(1 << 20)) for _ in range(9)) + stream.flush()
    assert len(body) < 16 * 1024
    with pytest.raises(OutOfBoundsError, match="more than 8388608 bytes"):
        answered(body, "gzip")
    with pytest.raises(OutOfBoundsError, match="not gzip"):
        answered(b"no gzip", "gzip")


def test_null_stands_for_a_missing_field():
    """Clients in Go write `null` for an empty list or map."""
    body = {"metadata": {"name": "x", "labels": None, "managedFields": None}, "spec": None, "status": {"conditions": None}}
    assert checked(body) == body
    for field in (
        {"spec": []},
        {"metadata": {"name": "x", "labels": []}},
        {"status": {"conditions": [None]}},
        {"data": {"a": 1}},
    ):
        with pytest.raises(ValueError, match=r"is no|is null"):
            checked({**body, **field})


def manifests(number: int, values: int) -> bytes:
    """Return a list of PackageManifests; their descriptions have many small values."""
    described = [{"name": f"v{n}", "kind": "Example"} for n in range(values)]
    channels = [
        {"name": "stable", "currentCSV": "a.v1", "currentCSVDesc": {"related": described}, "entries": [{"name": "a.v1"}]}
    ]
    items = [
        {"metadata": {"name": f"p{n}"}, "status": {"packageName": f"p{n}", "defaultChannel": "stable", "channels": channels}}
        for n in range(number)
    ]
    return json.dumps({"kind": "PackageManifestList", "metadata": {}, "items": items}).encode()


def test_package_manifests_are_decoded_one_at_a_time(start):
    """package-server gives the packages of a catalog whole, without pages: some dozen MB, and four times that as objects."""
    cluster, client = start()
    body = manifests(60, 200)
    cluster.changed_answer = lambda _request, _body: body
    readiness.package_manifests(client, "a", "b")  # imports, connections
    tracemalloc.start()
    try:
        found = readiness.package_manifests(client, "a", "b")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(readiness.offered(found)) == 60
    assert readiness.entries(found)["p59", "stable"] == ("a.v1",)
    # The bytes, and once more while httpx joins them; as objects they took nine times as much here.
    assert peak < 2.5 * len(body) + 500_000


@pytest.mark.parametrize(
    "body", [b'{"items": {}}', b'{"items": [1]}', b'{"items": [{}]}', b'{"items": [{"metadata": {}}', b"[]"]
)
def test_a_list_that_is_none(start, body):
    cluster, client = start()
    cluster.changed_answer = lambda _request, _body: body
    with pytest.raises(ClusterError, match="does not answer list packagemanifests as the Kubernetes API does"):
        readiness.package_manifests(client, "a", "b")
    cluster.changed_answer = lambda _request, _body: b'{"items": null}'
    assert readiness.package_manifests(client, "a", "b") == []


def test_a_list_of_packages_in_pages(start):
    cluster, client = start()
    pages = [{"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "7"}}, {"items": [{"metadata": {"name": "b"}}]}]
    answers = iter(pages)
    cluster.changed_answer = lambda _request, _body: json.dumps(next(answers)).encode()
    assert [each.package for each in readiness.package_manifests(client, "a", "b")] == ["a", "b"]
