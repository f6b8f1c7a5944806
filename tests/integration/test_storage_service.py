"""Objects of a real S3 server that are uploaded, interrupted, changed, and read while the service misbehaves."""

from __future__ import annotations

import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme

from common.archive import location
from common.archive.direct_io import read_exactly
from common.errors import ContentError, StorageError, StorageUnreachableError
from common.retry import RetryPolicy
from common.storage.client import Storage, UploadedPart
from common.storage.location import S3File, S3Location
from common.storage.upload import MAX_PARTS, PART, part_size, upload
from tests.fakes.object_store import BUCKET, object_store
from tests.fakes.servers import free_port
from tests.samples import more

pytestmark = pytest.mark.integration
MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]
SIZE = 2 * PART + 12_345  # three parts: sent before, the one that is being sent, and a short one at the end
QUICK = RetryPolicy(within_s=60.0, first_s=0.01, longest_s=0.05)
BRIEF = RetryPolicy(within_s=3.0, first_s=0.01, longest_s=0.1)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    with object_store(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def store(stores, monkeypatch):
    stores.reset()
    for name, value in stores.environment.items():
        monkeypatch.setenv(name, value)
    return stores


@pytest.fixture(scope="module")
def connected(stores):
    """One connection for all tests: botocore reads its description of S3 for each, which takes a quarter of a second."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in stores.environment.items():
            environment.setenv(name, value)
        return Storage.connect(known=QUICK)


@pytest.fixture
def place(store, connected, request):
    return S3Location(BUCKET, request.node.name.replace("[", "-").strip("]"), connected)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "volume"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


def stored(store, place):
    return (store.root / place.bucket / place.key).read_bytes()


def interrupted(store, file, place, after):
    """Upload until so many parts are there."""
    store.fault = lambda request: 403 if request.part > after else 0
    with pytest.raises(StorageError):
        upload(file, place, jobs=1, advance=lambda _size: None)
    store.reset()


@contextmanager
def answering(context, answer):
    """Serve one answer to every connection, with TLS where there is a context; gives host, and how many connections came."""
    listening = socket.create_server(("127.0.0.1", 0))
    came = []

    def serve():
        with suppress(OSError):
            while True:
                came.append(listening.accept()[0])
                with (
                    suppress(OSError),
                    came[-1] if context is None else context.wrap_socket(came[-1], server_side=True) as line,
                ):
                    line.recv(1 << 16)
                    line.sendall(answer)
                    line.recv(1 << 16)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}", lambda: len(came)
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def sent(store):
    return sorted(request.part for request in store.requests if request.part)


def test_an_upload_goes_on_with_the_parts_that_are_there(store, place, file):
    interrupted(store, file, place, after=1)
    done = []
    upload(file, place, jobs=2, advance=done.append)
    assert sent(store) == [2, 3]
    assert store.asked(lambda request: request.is_beginning) == 0
    assert sum(done) == SIZE
    assert stored(store, place) == file.read_bytes()


def aged(hours):
    """Let uploads have begun so long ago."""
    began = (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return lambda _request, content: re.sub(rb"(?<=<Initiated>)[^<]*", began, content)


@pytest.mark.parametrize(("hours", "left"), [(23, 1), (25, 0)])
def test_parts_of_other_bytes_are_left_to_who_sends_them_for_a_day(hours, left, store, place, file):
    interrupted(store, file, place, after=1)
    file.write_bytes(random.Random(2).randbytes(SIZE))
    store.alter = aged(hours)
    upload(file, place, jobs=2, advance=lambda _size: None)
    assert sent(store) == [1, 2, 3]
    assert store.asked(lambda request: request.is_beginning) == 1
    assert stored(store, place) == file.read_bytes()
    assert len(place.storage.uploads(place.bucket, place.key)) == left


def test_an_old_upload_of_the_same_bytes_goes_on(store, place, file):
    interrupted(store, file, place, after=1)
    store.alter = aged(1000)
    upload(file, place, jobs=2, advance=lambda _size: None)
    assert sent(store) == [2, 3]


def encrypted(request, content):
    """Tags of parts as of a service that encrypts with keys of its own."""
    return (
        re.sub(rb"(?<=<ETag>)[^<]*", b"&quot;" + b"e" * 32 + b"&quot;", content) if request.query.get("uploadId") else content
    )


@pytest.mark.parametrize("alter", [encrypted, *more([lambda _request, content: content])], ids=["encrypted", "plain"])
@pytest.mark.parametrize("lead", [1, *more([0])])
def test_two_processes_that_bring_the_same_file_both_succeed(lead, alter, store, place, file):
    """The second begins at once, or when the first has sent some parts."""
    store.alter = alter
    began = threading.Event()

    def hold(request):
        if request.part > lead:
            began.set()
            time.sleep(0.3)

    store.hold = hold
    tags, errors = [], []

    def bring(storage):
        try:
            tags.append(upload(file, S3Location(place.bucket, place.key, storage), jobs=2, advance=lambda _size: None))
        except Exception as error:
            errors.append(error)

    twins = [threading.Thread(target=bring, args=(Storage.connect(known=BRIEF),)) for _ in range(2)]
    twins[0].start()
    assert began.wait(120)
    twins[1].start()
    for twin in twins:
        twin.join(60)
    assert (errors, len(tags)) == ([], 2)
    assert stored(store, place) == file.read_bytes()
    assert store.asked(lambda request: request.method == "DELETE") == 0


def test_an_object_whose_answer_was_lost_is_there(store, place, file):
    """What put the parts together is heard as an error, and asked again there is no such upload."""
    lost = iter([True])
    store.cut = lambda request: request.method == "POST" and "uploadId" in request.query and next(lost, False)
    assert upload(file, place, jobs=2, advance=lambda _size: None) == place.stat().tag
    assert stored(store, place) == file.read_bytes()


@pytest.mark.parametrize("size", [PART + 1, *more([0, 1])])
def test_the_caller_hears_of_an_object_before_it_is_seen(size, store, place, tmp_path):
    (tmp_path / "volume").write_bytes(b"x" * size)
    heard = []

    def bring():
        tag = upload(
            tmp_path / "volume", place, jobs=2, advance=lambda _size: None, before_complete=lambda: heard.append(place.stat())
        )
        assert tag == place.stat().tag

    bring()
    assert heard == [None]
    bring()
    assert heard == [None], "it is there already"


def test_an_object_that_is_there_already_is_not_sent_again(store, place, file):
    upload(file, place, jobs=2, advance=lambda _size: None)
    store.reset()
    done = []
    upload(file, place, jobs=2, advance=done.append)
    assert (sent(store), sum(done)) == ([], SIZE)
    file.write_bytes(random.Random(2).randbytes(SIZE))
    upload(file, place, jobs=2, advance=lambda _size: None)
    assert stored(store, place) == file.read_bytes()


@pytest.mark.parametrize("size", [0, 1, PART])
def test_what_fits_one_part_goes_in_one_request(size, store, place, tmp_path):
    (tmp_path / "small").write_bytes(b"x" * size)
    upload(tmp_path / "small", place, jobs=2, advance=lambda _size: None)
    assert (stored(store, place), sent(store)) == (b"x" * size, [])


def test_what_fails_for_a_moment_is_tried_again(store, place, file):
    failing = {"PUT": 2, "POST": 1}

    def fault(request):
        failing[request.method] = failing.get(request.method, 0) - 1
        return 503 if failing[request.method] >= 0 else 0

    store.fault = fault
    upload(file, place, jobs=1, advance=lambda _size: None)
    assert stored(store, place) == file.read_bytes()


def test_an_outage_is_waited_for_once_the_service_has_answered(store, place, file):
    place.write(b"")
    failing = iter(range(12))
    store.fault = lambda request: 503 if request.part == 2 and next(failing, None) is not None else 0
    upload(file, place, jobs=1, advance=lambda _size: None)
    assert stored(store, place) == file.read_bytes()
    assert store.asked(lambda request: request.part == 2) == 13


def test_a_service_that_stays_away_is_given_up(store):
    place = S3Location(BUCKET, "away", Storage.connect(known=BRIEF))
    place.write(b"")
    asked = []

    def stay_away(request):
        asked.append(request)
        return 503

    store.fault = stay_away
    with pytest.raises(StorageError, match="503"):
        place.write(b"x")
    assert len(asked) > 10  # of pauses of at most 0.1 s, for three seconds


@pytest.mark.parametrize("scheme", ["https", *more(["http"])])
def test_where_nobody_is_is_said_soon(scheme, store, monkeypatch):
    """Also with the patience that there is outside of tests."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{scheme}://127.0.0.1:{free_port()}")
    began = time.monotonic()
    with pytest.raises(StorageUnreachableError, match="Could not connect") as raised:
        S3Location(BUCKET, "x", Storage.connect()).write(b"x")
    assert "AWS_ENDPOINT_URL" in raised.value.advice
    assert time.monotonic() - began < 60, "the patience for a service that has answered is ten minutes"


def test_a_certificate_that_nobody_trusts_is_said_at_once(store, place, monkeypatch, tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with answering(context, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (host, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://{host}")
        with pytest.raises(StorageUnreachableError, match="certificate") as raised:
            S3Location(BUCKET, "x", Storage.connect()).write(b"x")
        assert "AWS_CA_BUNDLE" in raised.value.advice
        assert asked() <= 2, "one look at the certificate, one request, and no retry"
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        S3Location(BUCKET, "x", Storage.connect()).write(b"x")


UPLOADING = """
import sys
from pathlib import Path
from common.interruption import listen
from common.storage.location import S3Location
from common.storage.upload import upload
listen()
place = S3Location.parse(sys.argv[1])
place.stat()
try:
    upload(Path(sys.argv[2]), place, jobs=int(sys.argv[3]), advance=lambda _size: None)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("jobs", [3, *more([1])])
@pytest.mark.parametrize(
    "hangs", [lambda request: request.part > 1, *more([lambda request: request.is_beginning])], ids=["parts", "begin"]
)
def test_a_stop_is_heard_while_the_service_hangs(hangs, jobs, store, place, file):
    reached, over = threading.Event(), threading.Event()

    def hold(request):
        if hangs(request):
            reached.set()
            over.wait(120)

    store.hold = hold
    command = [sys.executable, "-c", UPLOADING, str(place), str(file), str(jobs)]
    with subprocess.Popen(command, env={**store.environment, "HOME": "/nonexistent"}, cwd=ROOT) as process:
        try:
            assert reached.wait(120)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130, "the service hangs for 120 s"
        finally:
            over.set()
            process.kill()


@pytest.mark.parametrize("size", [1, PART, PART * MAX_PARTS, PART * MAX_PARTS + 1, 50 * 10**9, 5 * 1024**4, 50 * 1024**4])
def test_parts_are_never_more_than_a_service_takes(size):
    assert -(-size // part_size(size)) <= MAX_PARTS
    assert part_size(size) % MIB == 0
    assert part_size(size) >= PART


def test_ranges_are_those_of_the_file(store, place, file):
    upload(file, place, jobs=2, advance=lambda _size: None)
    content, chance = file.read_bytes(), random.Random(3)
    opened = S3File(place)
    for _ in range(60):
        start = chance.randrange(SIZE)
        size = chance.choice([0, 1, 14, 300_000, 9 * MIB])
        assert opened.read(size, start) == content[start : start + size]
    with pytest.raises(ContentError, match="the file ends"):
        read_exactly(opened, 2, SIZE - 1)
    assert opened.read(10, SIZE + 5) == b""


def test_reading_on_takes_few_requests(store, place, file):
    upload(file, place, jobs=2, advance=lambda _size: None)
    store.reset()
    opened = S3File(place)
    for start in range(0, SIZE, 100_000):
        opened.read(100_000, start)
    assert store.asked(lambda request: request.method == "GET") <= 5 + SIZE // (4 * MIB) + 1, "they grow up to 4 MiB"
    assert store.given == SIZE, "nothing is read twice"


def test_an_object_that_is_replaced_meanwhile_is_noticed(store, place, file):
    upload(file, place, jobs=2, advance=lambda _size: None)
    opened = S3File(place)
    opened.read(10, 0)
    place.write(b"z" * SIZE)
    with pytest.raises(StorageError) as raised:
        opened.read(10, 20 * MIB)
    assert "replaced it meanwhile" in raised.value.advice


@pytest.mark.parametrize("answer", [b"", b"x", b"x" * (MIB + 7)], ids=len)
def test_a_service_that_gives_other_sizes_is_not_believed(answer, store, place):
    place.write(b"y" * MIB)
    store.alter = lambda request, content: answer if request.method == "GET" else content
    with pytest.raises(StorageError):
        S3File(place).read(MIB, 0)


def test_an_answer_that_breaks_off_is_asked_for_again(store, place):
    place.write(b"y" * MIB)
    broken = iter([True, True])
    store.cut = lambda request: request.method == "GET" and next(broken, False)
    assert S3File(place).read(MIB, 0) == b"y" * MIB
    assert store.asked(lambda request: request.method == "GET") == 3


def test_places_are_walked_like_paths(store, place):
    (place / "b").write(b"2")
    (place / "a").write(b"1")
    (place / "below/c").write(b"3")
    assert location.files_in(place) == [place / "a", place / "b"]
    assert [size for _, size in place.children()] == [1, 1]
    assert location.read(place / "a", 1) == b"1"
    with pytest.raises(StorageError, match="the limit is 0"):
        location.read(place / "a", 0)
    (place / "a").delete()
    (place / "a").delete()
    assert not location.is_file(place / "a")
    assert location.files_in(place / "nothing") is None
    assert str((place / "b").with_name("c")) == f"{place}/c"
    assert ((place / "x.tar.zst").suffix, (place / "x").suffix) == (".zst", "")


def http(body, status="200 OK", length=True):
    told = f"Content-Length: {len(body)}\r\n" if length else ""
    return f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\n{told}Connection: close\r\n\r\n".encode() + body


def listing(inner):
    return f"<ListBucketResult><Name>hub</Name>{inner}</ListBucketResult>".encode()


@contextmanager
def strange(monkeypatch, answer):
    """A place at a service that answers everything with the same."""
    with answering(None, answer) as (host, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}")
        yield S3Location(BUCKET, "a", Storage.connect(known=QUICK))


ONE = "<Contents><Key>a/b</Key><Size>1</Size></Contents>"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (listing(f"{ONE}<IsTruncated>true</IsTruncated>"), "does not say where"),
        (
            listing(f"{ONE}<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"),
            "does not say where",
        ),
        (listing("<Contents><Key>a/b</Key></Contents>"), "lacks Size"),
        (listing("<Contents><Size>1</Size></Contents>"), "lacks Key"),
        (listing("<Contents><Key>a/b</Key><Size>-1</Size></Contents>"), "Size is -1"),
        (listing("<Contents><Key>a/b</Key><Size>many</Size></Contents>"), "makes no sense"),
        (listing("<Contents><Key>a/b</Key><LastModified>never</LastModified></Contents>"), "makes no sense"),
        (b"<html>Welcome", "HTTP 500"),
    ],
    ids=["no token", "same token", "no size", "no key", "negative", "no number", "no date", "no XML"],
)
def test_listings_that_make_no_sense_are_said_so(body, why, store, monkeypatch):
    with strange(monkeypatch, http(body)) as place, pytest.raises(StorageError, match=why) as raised:
        list(place.children())
    assert str(raised.value).startswith("s3://hub/a")


def test_an_object_without_a_size_is_none(store, monkeypatch):
    with strange(monkeypatch, http(b"", length=False)) as place, pytest.raises(StorageError, match="lacks ContentLength"):
        place.stat()


@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.begin(BUCKET, "a"),
        lambda storage: storage.write_part(BUCKET, "a", "u", 1, b"x"),
        lambda storage: storage.complete(BUCKET, "a", "u", {1: "x"}),
        lambda storage: storage.parts(BUCKET, "a", "u"),
        lambda storage: storage.uploads(BUCKET, "a"),
    ],
    ids=["begin", "part", "complete", "parts", "uploads"],
)
def test_answers_to_uploads_that_make_no_sense_are_said_so(call, store, monkeypatch):
    body = b"<A><Part><Size>1</Size></Part><Upload><Key>a</Key></Upload></A>" if "lambda" in call.__name__ else b""
    with strange(monkeypatch, http(body)) as place:
        try:
            call(place.storage)
        except StorageError:
            return
    assert call.__code__.co_names[0] == "complete", "it says nothing that is needed"


def test_what_a_service_says_is_one_line_of_signs_that_are_seen(store, monkeypatch):
    body = f"<Error><Code>Odd\nCode</Code><Message>\u202eturned\n\n\nround {'x' * 10_000}</Message></Error>".encode()
    with strange(monkeypatch, http(body, "400 Bad Request")) as place, pytest.raises(StorageError) as raised:
        list(place.children())
    assert "HTTP 400 Odd Code (turned round xxx" in raised.value.message
    assert len(raised.value.message) < 500
    assert raised.value.message.isprintable()


def test_an_endless_object_is_not_read(store, monkeypatch):
    """A service that sends more than the range that was requested."""
    answer = http(b"x" * 5 * MIB, "206 Partial Content")
    with strange(monkeypatch, answer) as place, pytest.raises(StorageError, match="more than bytes 0 to 10"):
        place.storage.read(BUCKET, "a", 0, 10, "")


def test_a_service_that_lists_more_than_was_asked_for_is_not_believed(store, monkeypatch):
    names = ["a/b", "a/c/d", "other", "a/", "a/\u202ee", "a/&#10;f", "a/" + "x" * 2000, "a/g"]
    body = listing("".join(f"<Contents><Key>{name}</Key><Size>1</Size></Contents>" for name in names))
    with strange(monkeypatch, http(body)) as place:
        assert [child.name for child, _ in place.children()] == ["b", "g"]


def test_a_small_object_that_comes_short_is_not_believed(store, place):
    place.write(b"y" * 100)
    store.alter = lambda request, content: content[:50] if request.method == "GET" else content
    with pytest.raises(StorageError, match="50 bytes came of 100"):
        place.read(100)


def test_every_call_is_logged_without_what_signs_it(store, place, caplog):
    caplog.set_level("DEBUG")
    place.write(b"x")
    store.fault = lambda request: 403 if request.method == "GET" else 0
    with pytest.raises(StorageError):
        place.read(10)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("common.")]
    assert lines[:2] == [f"put_object: {place}: HTTP 200", f"head_object: {place}: HTTP 200"]
    assert lines[2].startswith(f"get_object Range bytes=0-0: {place}: GetObject: HTTP 403 Told")
    assert len(lines) == 3
    said = "\n".join(lines)
    assert not [secret for secret in (*store.account, "Signature", "Authorization", "x-amz") if secret in said]


@contextmanager
def paged(monkeypatch, cursor, pages):
    """A place at a service whose listings go on: `pages` by the value of the parameter `cursor`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # a thousand pages come over one connection

        def log_message(self, *_):
            pass

        def do_GET(self):
            query = parse_qs(urlsplit(self.path).query)
            asked.append({name: query.get(name, [""])[0] for name in cursor})
            answer = http(f"<A>{pages[asked[-1][cursor[0]]]}</A>".encode())
            self.wfile.write(answer.replace(b"Connection: close\r\n", b""))

    asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    try:
        yield S3Location(BUCKET, "a", Storage.connect(known=QUICK)), asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(120)


def goes_on(inner, **cursors):
    return f"{inner}<IsTruncated>true</IsTruncated>" + "".join(f"<{name}>{value}</{name}>" for name, value in cursors.items())


def test_a_listing_of_several_pages_is_read_to_its_end(store, monkeypatch):
    def page(*names):
        return "".join(f"<Contents><Key>a/{name}</Key><Size>{len(name)}</Size></Contents>" for name in names)

    pages = {
        "": goes_on(page("b", "cc"), NextContinuationToken="one+/="),
        "one+/=": goes_on("", NextContinuationToken="two"),
        "two": page("ddd"),
    }
    with paged(monkeypatch, ["continuation-token"], pages) as (place, asked):
        assert [(child.name, size) for child, size in place.children()] == [("b", 1), ("cc", 2), ("ddd", 3)]
    assert len(asked) == 3


def test_uploads_of_several_pages_are_found(store, monkeypatch):
    def page(key, name, day):
        told = f"<Key>{key}</Key><UploadId>{name}</UploadId><Initiated>2026-01-{day}T00:00:00.000Z</Initiated>"
        return f"<Upload>{told}</Upload>"

    pages = {
        "": goes_on(page("a", "u1", "02") + page("a-other", "u0", "09"), NextKeyMarker="a", NextUploadIdMarker="u1"),
        "a": page("a", "u2", "03") + page("a", "u3", "01"),
    }
    with paged(monkeypatch, ["key-marker", "upload-id-marker"], pages) as (place, asked):
        found = place.storage.uploads(BUCKET, "a")
    assert [each.name for each in found] == ["u2", "u1", "u3"], "the latest first"
    assert found[0].began == datetime(2026, 1, 3, tzinfo=UTC)
    assert asked == [{"key-marker": "", "upload-id-marker": ""}, {"key-marker": "a", "upload-id-marker": "u1"}]


def test_an_upload_that_began_nobody_knows_when_is_not_old(store, monkeypatch):
    told = ["", "<Initiated>2020-01-01T00:00:00</Initiated>"]
    pages = {"": "".join(f"<Upload><Key>a</Key><UploadId>u</UploadId>{when}</Upload>" for when in told)}
    with paged(monkeypatch, ["key-marker"], pages) as (place, _):
        assert [each.began for each in place.storage.uploads(BUCKET, "a")] == [None, None]


def test_parts_of_several_pages_are_all_known(store, monkeypatch):
    def page(*numbers):
        told = "<Part><PartNumber>{0}</PartNumber><Size>{0}</Size><ETag>&quot;e{0}&quot;</ETag></Part>"
        return "".join(told.format(number) for number in numbers)

    pages = {"": goes_on(page(1, 2), NextPartNumberMarker=2), "2": goes_on(page(3), NextPartNumberMarker=3), "3": page(4)}
    with paged(monkeypatch, ["part-number-marker"], pages) as (place, _):
        found = place.storage.parts(BUCKET, "a", "u")
    assert found == {number: UploadedPart(number, f"e{number}") for number in (1, 2, 3, 4)}


@pytest.mark.parametrize("again", ["2", "1"])
def test_a_listing_that_goes_in_circles_ends(again, store, monkeypatch):
    part = "<Part><PartNumber>1</PartNumber><Size>1</Size><ETag>e</ETag></Part>"
    pages = {"": goes_on(part, NextPartNumberMarker=1)} | {
        "1": goes_on(part, NextPartNumberMarker=2),
        "2": goes_on(part, NextPartNumberMarker=again),
    }
    with paged(monkeypatch, ["part-number-marker"], pages) as (place, asked), pytest.raises(StorageError):
        place.storage.parts(BUCKET, "a", "u")
    assert len(asked) <= 1000
