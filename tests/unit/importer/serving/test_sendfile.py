"""Blobs that were verified are sent from their files: nothing is hashed or read again, and no file is trusted that changed."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
import uvicorn
from uvicorn.server import ServerState

from common.archive import frames
from common.archive.discover import find
from common.archive.reader import Archive
from common.content import reported
from common.errors import ContentError, StorageError
from common.oci.image import digest_of
from common.storage.client import Stat
from common.storage.location import S3Location
from importer.mapping import Mirror
from importer.serving.app import RegistryApp, served_repositories
from importer.serving.sendfile import FileSender, Progress
from importer.serving.server import TimeoutProtocol, self_signed
from tests.fakes.archives import CONFIG, CUT, Content, noise, write
from tests.samples import more

SPLIT = noise("large", 900_000)  # of CUT, in three volumes
WHOLE = noise("whole", 5_000_000)
HUGE = noise("huge", 9_000_000)  # more than the buffers of both sides hold
OLD = (1_000_000_000, 1_000_000_000)


class CountingArchive(Archive):
    """An archive that counts the bytes of blobs that this process read, and those that it hashed."""

    hashed = passed = 0

    def read(self, blob, start=0):
        chunks = super().read(blob, start)
        for chunk in chunks:
            self.passed += len(chunk)
            try:
                yield chunk
            except ContentError as error:
                raise reported(chunks, error) from error

    def content(self, digest):
        for chunk in super().content(digest):
            self.hashed += len(chunk)
            yield chunk

    def counted(self) -> tuple[int, int]:
        """Return the bytes hashed and read since the last call."""
        found = (self.hashed, self.passed)
        self.hashed = self.passed = 0
        return found


class ShortTimeouts(TimeoutProtocol):
    stall_timeout_s = 0.3


def archive_of(folder: Path, content: Content, times: tuple[int, int] = OLD) -> CountingArchive:
    write(folder, content)
    for volume in folder.glob("volume-*"):
        os.utime(volume, times)
    return CountingArchive(find([folder], None))


@pytest.fixture(name="cut")
def _cut(tmp_path):
    return archive_of(tmp_path / "out", CUT)


@pytest.fixture(name="whole")
def _whole(tmp_path):
    return archive_of(tmp_path / "out", Content({"registry.test/whole:v1": [WHOLE]}))


@pytest.fixture(name="huge")
def _huge(tmp_path):
    return archive_of(tmp_path / "out", Content({"registry.test/whole:v1": [HUGE]}))


class Client:
    """A client on one connection."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, receive_buffer: int = 0) -> None:
        self.line = socket.socket()
        self.line.settimeout(20)
        if receive_buffer:
            self.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.line.connect(("127.0.0.1", port))
        if context is not None:
            self.line = context.wrap_socket(self.line, server_hostname="localhost")
        self._held = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def ask(self, blob: bytes, name: str = "whole", method: str = "GET", header: str = "") -> None:
        head = f"{method} /v2/{name}/blobs/{digest_of(blob)} HTTP/1.1\r\nHost: x\r\n{header}\r\n"
        self.line.sendall(head.encode())

    def head(self) -> tuple[int, int]:
        """Read the head of a response; return its status and length."""
        while b"\r\n\r\n" not in self._held:
            part = self._more()
            assert part, "the connection ended"
            self._held += part
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None
        return int(head.split()[1]), int(length[1])

    def body(self, length: int) -> bytes:
        """Return so many bytes, fewer where the connection ends."""
        parts, self._held = [self._held[:length]], self._held[length:]  # some may have come with the head
        left = length - len(parts[0])
        while left > 0 and (part := self._more(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def get(self, blob: bytes, name: str = "whole", header: str = "") -> bytes:
        self.ask(blob, name, header=header)
        return self.body(self.head()[1])

    def _more(self, size: int = 1 << 20) -> bytes:
        with suppress(ConnectionError):
            return self.line.recv(min(size, 1 << 20))
        return b""


Connect = Callable[..., Client]


@contextmanager
def served(archive: Archive, context: ssl.SSLContext | None = None, protocol=TimeoutProtocol) -> Iterator[Connect]:
    """Serve an archive in a thread; give what connects to it."""
    app = RegistryApp(archive, served_repositories(archive.inventory, Mirror("localhost")))
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    state, loop, ready = ServerState(), asyncio.new_event_loop(), threading.Event()
    ports: list[int] = []
    ended = asyncio.Event()

    async def run() -> None:
        server = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0, ssl=context)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await ended.wait()
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.gather(*state.tasks, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert ready.wait(20)
        with ExitStack() as clients:
            yield lambda *how, **more_of_it: clients.enter_context(Client(ports[0], *how, **more_of_it))
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def test_a_blob_is_hashed_once_and_then_not_even_read(cut):
    """It is in three volumes, and so are the smallest blobs, and an empty one, beside it."""
    blobs = {"small": [noise("small", 1000)], "large": [SPLIT, b""], "after": [noise("after", 131_072)]}
    with served(cut) as connect:
        client = connect()
        for name, layers in blobs.items():
            for blob in layers:
                assert client.get(blob, name) == blob
                assert cut.counted() == (len(blob), len(blob))
                for _ in range(2):
                    assert client.get(blob, name) == blob
                    assert cut.counted() == (0, 0)


def test_a_compressed_blob_is_read_but_not_hashed_again(cut):
    with served(cut) as connect:
        client = connect()
        assert [(client.get(CONFIG, "small"), cut.counted()) for _ in range(2)] == [
            (CONFIG, (len(CONFIG), len(CONFIG))),
            (CONFIG, (0, len(CONFIG))),
        ]


PARTS = [(0, 1), (131_071, 131_073), (400_000, 800_001), (899_999, 900_000), *more([(0, 899_999), (262_144, 393_216)])]


@pytest.mark.parametrize("part", PARTS)
def test_a_range_of_a_verified_blob_comes_from_its_files(cut, part):
    first, end = part
    with served(cut) as connect:
        client = connect()
        client.get(SPLIT, "large")
        cut.counted()
        client.ask(SPLIT, "large", "HEAD", f"Range: bytes={first}-{end - 1}\r\n")
        assert client.head() == (206, end - first)
        assert client.get(SPLIT, "large", f"Range: bytes={first}-{end - 1}\r\n") == SPLIT[first:end]
        assert cut.counted() == (0, 0)


def test_a_range_does_not_verify_a_blob(cut):
    with served(cut) as connect:
        client = connect()
        client.get(SPLIT, "large", "Range: bytes=1-899999\r\n")
        assert client.get(SPLIT, "large") == SPLIT
        assert cut.counted()[0] == len(SPLIT)


def test_requests_that_are_sent_before_the_answer_are_answered_in_turn(whole):
    with served(whole) as connect:
        client = connect()
        client.get(WHOLE)
        for _ in range(3):
            client.ask(WHOLE, header="Range: bytes=10-4999999\r\n")
        client.ask(WHOLE, method="HEAD")
        for _ in range(3):
            assert client.head() == (206, 4_999_990)
            assert client.body(4_999_990) == WHOLE[10:]
        assert client.head() == (200, len(WHOLE))


def test_many_clients_at_once(whole):
    got: list[bool] = []
    with served(whole) as connect:
        connect().get(WHOLE)
        whole.counted()

        def pull() -> None:
            client = connect()
            got.extend(client.get(WHOLE, header="Range: bytes=0-299999\r\n") == WHOLE[:300_000] for _ in range(2))

        clients = [threading.Thread(target=pull) for _ in range(50)]  # more than there are threads in the server's pool
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert whole.counted() == (0, 0)
    assert got == [True] * 100


def volume(archive: Archive, number: int = 1) -> Path:
    return archive.found.volumes[number].path


def flip(path: Path, position: int) -> None:
    """Change a byte in place, and put the time of the file back, as far as that goes."""
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def middle(archive: Archive, blob: bytes) -> int:
    return archive.inventory.blobs[digest_of(blob)].pieces[-1].offset + frames.position(100)


@pytest.mark.parametrize("tls", [False, True])
def test_a_volume_that_is_changed_is_not_trusted_any_more(whole, tmp_path, caplog, tls):
    """Its size and time are as before. Today's contract: the last bytes of a damaged blob do not come."""
    server, client_side = contexts(tmp_path) if tls else (None, None)
    with served(whole, server) as connect:
        assert connect(client_side).get(WHOLE) == WHOLE
        flip(volume(whole), middle(whole, WHOLE))
        for _ in range(2):
            assert len(connect(client_side).get(WHOLE)) < len(WHOLE)
        flip(volume(whole), middle(whole, WHOLE))
        whole.counted()
        assert connect(client_side).get(WHOLE) == WHOLE
        assert whole.counted()[0] == len(WHOLE)
    assert "damaged in volume-0001.tar.zst at offset" in caplog.text


def test_a_volume_that_is_replaced_or_touched_is_hashed_again(whole):
    path = volume(whole)
    with served(whole) as connect:
        client = connect()
        client.get(WHOLE)
        whole.counted()
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())
        os.utime(copy, OLD)
        copy.replace(path)
        assert (client.get(WHOLE), whole.counted()) == (WHOLE, (len(WHOLE), len(WHOLE)))
        assert (client.get(WHOLE), whole.counted()) == (WHOLE, (0, 0))
        os.utime(path, (1, 1))
        assert (client.get(WHOLE), whole.counted()[0]) == (WHOLE, len(WHOLE))


def test_a_volume_that_is_taken_away_is_served_again_once_it_is_back(whole):
    """A stick that was unmounted: the runtime asks the next mirror, and nobody has to start the server again."""
    path = volume(whole)
    with served(whole) as connect:
        clients = connect(), connect()
        clients[0].get(WHOLE)
        path.rename(path.with_name("away"))
        for client in clients:
            client.ask(WHOLE)
            status, length = client.head()
            assert (status, b"is in volume-0001.tar.zst, which was taken away" in client.body(length)) == (404, True)
            client.ask(WHOLE, method="HEAD")
            assert client.head()[0] == 404
        path.with_name("away").rename(path)
        assert [client.get(WHOLE) for client in clients] == [WHOLE] * 2


def test_one_changed_volume_of_a_split_blob_is_enough(cut):
    with served(cut) as connect:
        client = connect()
        client.get(SPLIT, "large")
        os.utime(volume(cut, 2), (1, 1))
        cut.counted()
        assert (client.get(SPLIT, "large"), cut.counted()[0]) == (SPLIT, len(SPLIT))


def test_a_volume_that_was_changed_just_now_is_hashed_each_time(tmp_path):
    """Another change within the step of the file system's clock (2 s with FAT) would leave all times as they are."""
    archive = archive_of(tmp_path / "out", Content({"registry.test/whole:v1": [b"layer"]}))
    os.utime(volume(archive))
    with served(archive) as connect:
        client = connect()
        assert [(client.get(b"layer"), archive.counted()[0]) for _ in range(2)] == [(b"layer", 5)] * 2


@contextmanager
def sending(archive: Archive) -> Iterator[Client]:
    """Serve a verified blob to a client that has read the head of the answer."""
    with served(archive) as connect:
        connect().get(HUGE)
        client = connect(receive_buffer=65536)
        client.ask(HUGE)
        assert client.head() == (200, len(HUGE))
        yield client


def test_a_volume_that_changes_while_it_is_sent_ends_the_connection(huge, caplog):
    with sending(huge) as client:
        flip(volume(huge), middle(huge, HUGE))
        assert len(client.body(len(HUGE))) < len(HUGE)
    assert "its file was changed or replaced while it was sent" in caplog.text


def test_a_volume_that_is_cut_while_it_is_sent_ends_the_connection(huge, caplog):
    with sending(huge) as client:
        os.truncate(volume(huge), 8_000_000)
        assert len(client.body(len(HUGE))) < 8_000_000
    assert "the file ends at byte 8000000" in caplog.text


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_clients_that_read_nothing_or_go_away_leave_nothing_open(huge):
    with served(huge, protocol=ShortTimeouts) as connect:
        connect().get(HUGE)
        before = open_files()
        silent, gone = connect(receive_buffer=65536), connect(receive_buffer=65536)
        for client in (silent, gone):
            client.ask(HUGE)
            client.head()
        gone.line.close()
        assert len(silent.body(1)) == 1
        never = threading.Event()
        while open_files() > before + 1:  # that of the silent client itself
            never.wait(0.01)
        assert len(silent.body(len(HUGE))) < len(HUGE), "it was dropped after the stall timeout"
        assert connect().get(HUGE) == HUGE


def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    made = self_signed(tmp_path / "tls", ["localhost"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.certificate, made.key)
    return server, ssl.create_default_context(cafile=made.ca)


def test_with_tls_a_blob_is_read_and_encrypted_here_but_not_hashed_again(whole, tmp_path):
    server, client_side = contexts(tmp_path)
    with served(whole, server) as connect:
        client = connect(client_side)
        assert (client.get(WHOLE), whole.counted()) == (WHOLE, (len(WHOLE), len(WHOLE)))
        assert (client.get(WHOLE), whole.counted()) == (WHOLE, (0, len(WHOLE)))


class Objects:
    """Object storage whose objects are files."""

    def __init__(self, folder: Path, tag: str) -> None:
        self._folder, self._tag = folder, tag

    def known(self, _bucket: str, key: str) -> Stat:
        return Stat((self._folder / key).stat().st_size, self._tag)

    def read(self, _bucket: str, key: str, start: int, end: int, tag: str) -> bytes:
        if tag != self._tag:
            raise StorageError("another object")
        return (self._folder / key).read_bytes()[start:end]


@pytest.mark.parametrize(("tag", "again"), [('"abc"', 0), ("", len(WHOLE))], ids=["tag", "no tag"])
def test_in_object_storage_a_blob_is_read_and_hashed_again_only_without_a_tag(whole, tmp_path, tag, again):
    place = S3Location("b", volume(whole).name, Objects(tmp_path / "out", tag))
    found = whole.found
    archive = CountingArchive(replace(found, volumes={1: replace(found.volumes[1], path=place)}))
    with served(archive) as connect:
        client = connect()
        assert (client.get(WHOLE), archive.counted()) == (WHOLE, (len(WHOLE), len(WHOLE)))
        assert (client.get(WHOLE), archive.counted()) == (WHOLE, (again, len(WHOLE)))


def stopped() -> float:
    """A clock by which a turn takes no time."""
    return 0.0


def test_where_the_kernel_cannot_the_bytes_are_copied(tmp_path):
    """sendfile(2) refuses to append (EINVAL), as it refuses some file systems."""
    (tmp_path / "in").write_bytes(WHOLE)
    source, line = os.open(tmp_path / "in", os.O_RDONLY), os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sender = FileSender(line, iter([(source, 10, 600_000), (source, 0, 5)]), stopped)
    assert sender.turn() is Progress.DONE
    os.close(line)
    os.close(source)
    assert (tmp_path / "out").read_bytes() == WHOLE[10:600_010] + WHOLE[:5]


def test_errors_of_files_are_told_from_those_of_connections(tmp_path):
    (tmp_path / "in").write_bytes(b"short")
    folder, source = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path / "in", os.O_RDONLY)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(IsADirectoryError):
            FileSender(ours.fileno(), iter([(folder, 0, 1)])).turn()
        with pytest.raises(ContentError, match="ends at byte 5, wanted 9"):
            FileSender(ours.fileno(), iter([(source, 0, 9)])).turn()
        theirs.close()
        assert FileSender(ours.fileno(), iter([(source, 0, 5)]), stopped).turn() is Progress.GONE
    os.close(folder)
    os.close(source)


def test_a_transfer_gives_its_thread_back(tmp_path):
    """After 16 MiB, and at once where the client takes nothing."""
    (tmp_path / "in").write_bytes(WHOLE)
    source = os.open(tmp_path / "in", os.O_RDONLY)
    sink = os.open("/dev/null", os.O_WRONLY)
    sender = FileSender(sink, iter([(source, at, 1 << 20) for at in range(17)]), stopped)
    assert [sender.turn(), sender.turn()] == [Progress.MORE, Progress.DONE]
    os.close(sink)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        sender = FileSender(ours.fileno(), iter([(source, 0, len(WHOLE))]), stopped)
        assert [sender.turn(), sender.turn()] == [Progress.BLOCKED] * 2
        theirs.recv(1 << 20)
        theirs.close()
        assert sender.turn() is Progress.GONE
    os.close(source)


def test_a_client_that_takes_a_little_all_the_time_has_a_thread_for_a_tenth_of_a_second(tmp_path):
    """It is never waited for long, and 16 MiB may take it a minute: 40 such clients would have all threads of the process."""
    (tmp_path / "in").write_bytes(WHOLE)
    source, sink = os.open(tmp_path / "in", os.O_RDONLY), os.open("/dev/null", os.O_WRONLY)
    now = itertools.count()
    sender = FileSender(sink, iter([(source, at, 1000) for at in range(17)]), lambda: next(now) * 0.03)
    assert [sender.turn() for _ in range(6)] == [Progress.MORE] * 5 + [Progress.DONE]  # three sends in each turn
    os.close(sink)
    os.close(source)


@pytest.mark.parametrize(("start", "end"), [(0, 400_000), (0, 0), (5, 6), (131_072, 262_144), (131_000, 131_073), (1, 399_999)])
def test_spans_of_a_frame_are_its_content(start, end):
    content = noise("spans", 400_000)
    frame = b"before" + frames.long_raw_frame(content)
    spans = list(frames.raw_spans(6, start, end))
    assert b"".join(frame[at : at + length] for at, length in spans) == content[start:end]
    assert all(0 < length <= frames.BLOCK for _, length in spans)
