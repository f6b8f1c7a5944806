"""What is cut of a cluster's texts, and how much the record and the objects of hub-import may have."""

from __future__ import annotations

import base64
import json
import zlib

import msgspec
import pytest

from common.errors import ClusterError
from importer.cluster.api.client import _LONGEST, connect
from importer.cluster.api.kubeconfig import MAX_KUBECONFIG
from importer.cluster.kinds import CATALOG_SOURCE, IDMS, SECRET
from importer.cluster.readiness.readiness import ExpectedCatalog, Offer
from importer.cluster.record import (
    _EXPECTED,
    _MAX_CATALOG,
    _MAX_UNPACKED,
    COMPRESSED_FROM,
    MAX_SIZE,
    NAME,
    Entry,
    Recorder,
    expected_catalogs,
    keep,
    load,
)
from importer.cluster.resources.mirror_rules import MAX_OBJECT_SIZE, merge_rules
from importer.diagnose import collect, reading
from tests.fakes.cluster import Fault
from tests.fakes.wanted import mirror_rules

SPACE = "openshift-config"


@pytest.mark.parametrize(("length", "shown"), [(_LONGEST, _LONGEST), (_LONGEST + 1, _LONGEST)])
def test_messages_of_the_server_are_cut(start, length, shown):
    cluster, client = start()
    body = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "x" * length}).encode()
    cluster.faults.append(Fault("GET", "catalogsources", 400, 1, body, "application/json"))
    with pytest.raises(ClusterError) as caught:
        client.get(CATALOG_SOURCE, "a", "b")
    assert caught.value.message.count("x" * shown) == 1
    assert "x" * (shown + 1) not in caught.value.message


def _event(number: int, message: str = "m") -> dict[str, object]:
    seen = f"2026-01-01T00:{number:02}:00Z"
    return {
        "involvedObject": {"name": "p"},
        "type": "Warning",
        "reason": f"r{number}",
        "message": message,
        "lastTimestamp": seen,
    }


def test_events_of_an_object_are_the_newest_and_their_messages_are_cut():
    most, longest = collect._EVENTS, collect._LONGEST
    found = collect._events([_event(number) for number in range(most)])["p"]
    assert found == [f"r{number}: m" for number in reversed(range(most))]
    found = collect._events([_event(number) for number in range(most + 1)])["p"]
    assert (len(found), found[0], found[-1]) == (most, f"r{most}: m", "r1: m")
    assert collect._events([_event(1, "x" * longest)])["p"] == ["r1: " + "x" * longest]
    assert collect._events([_event(1, "x" * longest + "y")])["p"] == ["r1: " + "x" * longest + "…"]


def test_lines_of_a_log_are_the_last_ones(start):
    cluster, client = start()
    cluster.put({"kind": "Pod", "metadata": {"name": "p", "namespace": "olm"}, "spec": {"containers": [{"name": "c"}]}})
    for lines in (reading.LOG_LINES, reading.LOG_LINES + 1):
        cluster.logs["olm/p/c"] = "".join(f"{number}\n" for number in range(lines))
        found = client.log("p", "olm", "c", lines=reading.LOG_LINES).split()
        assert (found[-1], len(found)) == (str(lines - 1), reading.LOG_LINES)


class OneSecret:
    """A cluster of one Secret."""

    def __init__(self, data: dict[str, str]) -> None:
        self.data = data

    def get(self, kind, name, namespace):
        assert (kind, name, namespace) == (SECRET, NAME, SPACE)
        return {"data": dict(self.data)}

    def merge_patch(self, _kind, _name, _namespace, body):
        self.data |= body["data"]


def catalog(name: str, **fields) -> ExpectedCatalog:
    return ExpectedCatalog(name, "openshift-marketplace", "mirror.test/a@sha256:" + "0" * 64, {}, **fields)


def test_the_record_of_changes_at_its_limit_and_beyond():
    added = OneSecret({})
    Recorder(added, SPACE).expect([catalog("a")])
    (size,) = map(len, added.data.values())
    for beyond in (0, 1):
        secret = OneSecret({"entry": "x" * (MAX_SIZE - size + beyond)})
        if not beyond:
            Recorder(secret, SPACE).expect([catalog("a")])
            assert len(secret.data) == 2
            continue
        with pytest.raises(ClusterError, match=f"has {MAX_SIZE + 1} bytes; the limit is {MAX_SIZE}") as caught:
            Recorder(secret, SPACE).expect([catalog("a")])
        assert "Save Secret" in caught.value.hint
        assert len(secret.data) == 1  # unchanged


@pytest.mark.parametrize("beyond", [0, 1])
def test_an_expected_catalog_at_its_limit_and_beyond(beyond):
    """Compressed, some kilobytes of an edited Secret may be terabytes."""
    raw = msgspec.json.encode(ExpectedCatalog("a", "b", "c", {"p": Offer("stable", {"stable": "p.v1"})}))
    packed = base64.b64encode(zlib.compress(raw.ljust(_MAX_CATALOG + beyond), 1)).decode()
    secret = OneSecret({f"{_EXPECTED}a": packed, f"{_EXPECTED}b": base64.b64encode(zlib.compress(raw)).decode()})
    assert len(expected_catalogs(secret, SPACE)) == 2 - beyond


def test_a_kubeconfig_at_its_limit(start, tmp_path):
    cluster, _client = start()
    path = cluster.kubeconfig(tmp_path)
    path.write_bytes(path.read_bytes() + b"\n#")
    path.write_bytes(path.read_bytes().ljust(MAX_KUBECONFIG, b"#"))
    with connect(path, None) as client:
        assert client.get(CATALOG_SOURCE, "a", "b") is None


def test_mirror_rules_of_an_object_at_their_limit_and_beyond():
    """The sum of the sizes of two rules decides whether the second one starts an object of its own."""
    frame = len(json.dumps(merge_rules([mirror_rules(a="m")], []).write[0].body))
    second = len(json.dumps(merge_rules([mirror_rules(a="m", b="m")], []).write[0].body)) - frame
    room = MAX_OBJECT_SIZE - frame - second - len(", ")  # which is counted for the first one, too
    for length, objects in ((room, 1), (room + 1, 2)):
        written = merge_rules([mirror_rules(a="m" * (length + 1), b="m")], []).write
        assert len(written) == objects
        assert all(len(json.dumps(each.body)) <= MAX_OBJECT_SIZE for each in written)


def test_the_record_has_room_for_the_mirror_rules_of_whole_indexes():
    """Four catalogs of 1,300 repositories by digest and by tag; uncompressed, the third object filled the Secret (ADR 0087)."""
    secret = OneSecret({})
    bodies = []
    for number in range(8):
        many = {f"vendor-{n % 320}/image-{n}-of-catalog-{number}": f"mirror/vendor-{n % 320}/{n}" for n in range(1300)}
        bodies.append(mirror_rules(name=f"hub-catalog-{number}", **many).body)
    for body in bodies:
        Recorder(secret, SPACE).note(IDMS, body["metadata"]["name"], "", None, body)
    assert sum(map(len, secret.data.values())) < MAX_SIZE // 2
    assert [entry.written["spec"] for entry in load(secret, SPACE)] == [body["spec"] for body in bodies]


def test_expected_catalogs_that_are_a_bomb_together_are_left_out():
    secret = OneSecret({})
    Recorder(secret, SPACE).expect([catalog("a")])
    ((key, value),) = ((key, value) for key, value in secret.data.items() if key.startswith(_EXPECTED))
    raw = zlib.decompress(base64.b64decode(value)).ljust(_MAX_CATALOG)
    packed = base64.b64encode(zlib.compress(raw, 1)).decode()
    secret.data = {f"{key}{number}": packed for number in range(3)}
    assert [each.name for each in expected_catalogs(secret, SPACE)] == ["a", "a"]


@pytest.mark.parametrize("beyond", [0, 1])
def test_an_entry_of_the_record_at_the_limits_and_beyond(beyond):
    """A small entry is as earlier versions wrote it; a large one is compressed, and bounded when it is read."""
    secret = OneSecret({})
    Recorder(secret, SPACE).note(CATALOG_SOURCE, "a", "b", None, {"spec": {"image": ""}})
    ((key, value),) = secret.data.items()
    room = COMPRESSED_FROM - len(base64.b64decode(value))
    large = OneSecret({})
    Recorder(large, SPACE).note(CATALOG_SOURCE, "a", "b", None, {"spec": {"image": "x" * (room + beyond)}})
    assert base64.b64decode(large.data[key]).startswith(b"{") is not bool(beyond)
    assert load(large, SPACE)[0].written["spec"]["image"] == "x" * (room + beyond)
    entry = json.loads(base64.b64decode(value))
    secret.data[key] = base64.b64encode(zlib.compress(json.dumps(entry).encode().ljust(_MAX_UNPACKED + beyond), 1)).decode()
    if not beyond:
        assert len(load(secret, SPACE)) == 1
        return
    with pytest.raises(ClusterError, match="cannot be read"):
        load(secret, SPACE)


@pytest.mark.parametrize("filling", [b" " * (_MAX_UNPACKED // 2), b"[" + b"[]," * 300_000 + b"[]]"])
def test_entries_that_are_a_bomb_only_together_or_only_in_memory_are_refused(filling):
    """An account that may write the Secret could fill the memory of a machine that reads it: a MB of zlib is a GB of JSON."""
    secret = OneSecret({})
    Recorder(secret, SPACE).note(CATALOG_SOURCE, "a", "b", None, {"spec": {"image": ""}})
    ((key, value),) = secret.data.items()
    entry = base64.b64decode(value)
    filled = entry[:-1] + b', "more": ' + filling + b"0" * filling.startswith(b" ") + b"}"
    packed = base64.b64encode(zlib.compress(b" " + filled, 1)).decode()
    secret.data |= {f"{key}{number}": packed for number in range(2)}
    with pytest.raises(ClusterError, match="cannot be read"):
        load(secret, SPACE)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(("image", "fits"), [(" " * (_MAX_UNPACKED // 2), 1), ([[]] * 300_000, 0)])
def test_an_entry_that_could_not_be_read_again_is_not_written(image, fits, dry_run):
    """A record beyond the limits of reading would stop undo, and every later apply."""
    secret = OneSecret({})
    recorder = Recorder(secret, SPACE, dry_run=dry_run)
    for number in range(fits):
        recorder.note(CATALOG_SOURCE, f"a{number}", "b", None, {"spec": {"image": image}})
    with pytest.raises(ClusterError, match="too large to be read again") as caught:
        recorder.note(CATALOG_SOURCE, "one-more", "b", None, {"spec": {"image": image}})
    assert "Save Secret" in caught.value.hint
    assert len(load(secret, SPACE)) == (0 if dry_run else fits)


def test_what_undo_adds_to_a_full_record_can_be_read_again():
    """An entry for what OLM brought is kept before a Subscription is deleted; an undo that cannot read it could not go on."""
    secret = OneSecret({})
    recorder = Recorder(secret, SPACE)
    with pytest.raises(ClusterError, match="too large to be read again"):
        recorder.note(CATALOG_SOURCE, "a", "b", None, {"spec": {"image": " " * (_MAX_UNPACKED - 10_000)}})
    recorder.note(CATALOG_SOURCE, "z", "b", None, {"spec": {"image": " " * (_MAX_UNPACKED - MAX_SIZE - 10_000)}})
    for number in range(100):
        keep(secret, SPACE, Entry("v1", "A", f"x{number:03}{'y' * 200}", "b", 1, created=True))
    secret.data = dict(sorted(secret.data.items()))  # as the API server gives them
    assert len(load(secret, SPACE)) == 101
