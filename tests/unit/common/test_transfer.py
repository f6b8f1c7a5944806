import errno
import os
import threading

import pytest

from common.content import DirectoryStore, Written, verified
from common.errors import (
    ContentError,
    HubError,
    MediumGoneError,
    NotFoundError,
    RegistryRefusedError,
    RegistryUnreachableError,
    SpaceError,
    StorageError,
    StorageUnreachableError,
)
from common.oci.image import Descriptor, digest_of
from common.transfer import GIVE_UP, copy
from tests.samples import more


class Memory:
    """A source of bytes in memory that can lie."""

    def __init__(self, contents):
        self.contents = contents

    def read(self, blob, start=0):
        content = self.contents.get(blob.digest)
        if content is None:
            raise NotFoundError(f"{blob.digest}: gone")
        for i in range(start, len(content), 7):
            yield content[i : i + 7]


class Counting:
    def __init__(self):
        self.lock, self.total, self.lost, self.items = threading.Lock(), 0, 0, set()

    def begin(self, what, total): ...

    def end(self): ...

    def waiting(self, what): ...

    def item(self, name, size, label=""):
        with self.lock:
            self.items.add(name)

    def failed(self, size):
        with self.lock:
            self.lost += size

    def item_end(self, name):
        with self.lock:
            self.items.discard(name)

    def advance(self, size, item="", *, moved=True):
        with self.lock:
            self.total += size


def blob(content, size=None):
    return Descriptor("application/octet-stream", digest_of(content), len(content) if size is None else size)


def test_copies_all_and_counts_every_byte_once(tmp_path):
    contents = [bytes([i]) * (i * 11) for i in range(30)]
    source = Memory({digest_of(c): c for c in contents})
    progress = Counting()
    outcomes = list(copy([blob(c) for c in contents], source, DirectoryStore(tmp_path), jobs=4, progress=progress))
    assert {o.blob.digest for o in outcomes if o.written is Written.COPIED} == {digest_of(c) for c in contents}
    assert progress.total == sum(len(c) for c in contents)
    assert not progress.items
    again = list(copy([blob(c) for c in contents], source, DirectoryStore(tmp_path), jobs=4))
    assert {o.written for o in again} == {Written.PRESENT}


def test_one_bad_blob_does_not_stop_the_others(tmp_path):
    good, bad, gone = b"good" * 100, b"bad!" * 100, b"gone"
    source = Memory({digest_of(good): good, digest_of(bad): b"BAD!" * 100})
    progress, blobs = Counting(), [blob(gone), blob(bad), blob(good)]
    outcomes = {o.blob.digest: o for o in copy(blobs, source, DirectoryStore(tmp_path), jobs=2, progress=progress)}
    assert progress.total + progress.lost == sum(each.size for each in blobs), "what failed does not look stopped"
    assert isinstance(outcomes[digest_of(gone)].error, NotFoundError)
    assert isinstance(outcomes[digest_of(bad)].error, ContentError)
    assert outcomes[digest_of(good)].written is Written.COPIED
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [digest_of(good)[7:]]


class Gone:
    """A source that fails in one way."""

    def __init__(self, error):
        self.error, self.asked = error, 0

    def read(self, blob, start=0):
        self.asked += 1
        raise self.error


@pytest.mark.parametrize("kind", [RegistryUnreachableError, StorageUnreachableError])
def test_a_source_that_is_gone_ends_the_loop(kind, tmp_path):
    source = Gone(kind("no answer"))
    with pytest.raises(kind, match=f"given up after {GIVE_UP} blobs in a row: no answer"):
        list(copy([blob(bytes([i])) for i in range(100)], source, DirectoryStore(tmp_path), jobs=1))
    assert source.asked < 20


@pytest.mark.parametrize("status", [503, *more([429, 500, 502, 504, 522])])
def test_a_source_that_is_out_ends_the_loop(status, tmp_path):
    """The run ends, and can be continued: an archive without these blobs would have to be made again."""
    source = Gone(RegistryRefusedError("GET blob: busy", status=status))
    with pytest.raises(RegistryUnreachableError, match=f"given up after {GIVE_UP} blobs in a row: GET blob: busy"):
        list(copy([blob(bytes([i])) for i in range(100)], source, DirectoryStore(tmp_path), jobs=1))
    assert source.asked < 20


def test_one_repository_that_is_out_ends_nothing_where_others_work(tmp_path):
    """Twenty blobs of one repository in a row answered 500: eight ended the run, and the next one ended at the same place."""
    blobs = [blob(bytes([i])) for i in range(24)]
    bad = {each.digest for each in blobs[2:22]}

    class Partly:
        def read(self, blob, start=0):
            if blob.digest in bad:
                raise RegistryRefusedError("busy", status=500)
            return iter([bytes([blobs.index(blob)])])

    outcomes = copy(
        blobs, Partly(), DirectoryStore(tmp_path), jobs=1, places=lambda digest: ("bad" if digest in bad else "good",)
    )
    assert sum(outcome.error is not None for outcome in outcomes) == 20


@pytest.mark.parametrize(("status", "words"), [(500, "none of 40 blobs went well"), (0, f"given up after {GIVE_UP} blobs")])
def test_one_repository_alone_that_is_out_ends_the_run(status, words, tmp_path):
    """Without an answer it is the host, or the way to it; with answers it is known when nothing else went well."""
    error = RegistryRefusedError("busy", status=status) if status else RegistryUnreachableError("no answer")
    with pytest.raises(RegistryUnreachableError, match=words):
        list(
            copy([blob(bytes([i])) for i in range(40)], Gone(error), DirectoryStore(tmp_path), jobs=1, places=lambda _: ("a",))
        )


@pytest.mark.parametrize("status", [404, 403, 400])
def test_a_source_that_lacks_blobs_is_asked_for_the_others(status, tmp_path):
    source = Gone(RegistryRefusedError("no", status=status))
    outcomes = list(copy([blob(bytes([i])) for i in range(20)], source, DirectoryStore(tmp_path), jobs=1))
    assert len(outcomes) == source.asked == 20


def test_a_source_that_refuses_is_asked_for_the_others(tmp_path):
    source = Gone(StorageError("denied", code="AccessDenied"))
    outcomes = list(copy([blob(bytes([i])) for i in range(20)], source, DirectoryStore(tmp_path), jobs=1))
    assert len(outcomes) == source.asked == 20


class Retrying:
    """A sink that breaks after some bytes and asks for the rest again."""

    def __init__(self):
        self.content = b""

    def write(self, blob, read):
        self.content = bytes(next(read(0)))
        self.content += b"".join(bytes(chunk) for chunk in read(len(self.content)))
        return Written.COPIED


def test_reading_again_from_the_middle_is_verified_and_counted_once():
    content = b"0123456789" * 50
    sink, progress = Retrying(), Counting()
    (outcome,) = copy([blob(content)], Memory({digest_of(content): content}), sink, jobs=1, progress=progress)
    assert outcome.error is None
    assert sink.content == content
    assert progress.total == len(content)


class Failing:
    def __init__(self, number):
        self._number = number

    def write(self, blob, read):
        raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_everything(number):
    content = b"x" * 10
    with pytest.raises(SpaceError, match="no space left"):
        list(copy([blob(content)] * 3, Memory({digest_of(content): content}), Failing(number), jobs=2))


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
def test_a_disk_that_breaks_stops_everything(number):
    content = b"x" * 10
    with pytest.raises(HubError, match=r"cannot be written: (Input/output error|Read-only file system)") as raised:
        list(copy([blob(content)] * 3, Memory({digest_of(content): content}), Failing(number), jobs=2))
    assert "Look at the disk" in raised.value.hint


@pytest.mark.parametrize("number", [errno.ENOTCONN, *more([errno.ESTALE, errno.ENODEV, errno.ENXIO])])
def test_a_medium_that_is_gone_stops_everything(number, tmp_path):
    """ENOTCONN is what a FUSE file system gives when its program ended, as ntfs-3g does for a stick that is pulled."""
    content = b"x" * 10
    with pytest.raises(HubError, match="cannot be written: the medium is gone: ") as raised:
        list(copy([blob(content)] * 3, Memory({digest_of(content): content}), Failing(number), jobs=2))
    assert "mount it again" in raised.value.hint

    class Pulled:
        reads = 0

        def read(self, blob, start=0):
            self.reads += 1
            raise MediumGoneError("volume-0001.tar.zst: the medium is gone")

    source = Pulled()
    with pytest.raises(MediumGoneError):
        list(copy([blob(content)] * 100, source, DirectoryStore(tmp_path), jobs=1))
    assert source.reads <= 5


@pytest.mark.parametrize(
    ("content", "size", "message"),
    [(b"abc", 4, "ended after 3 of 4"), (b"abcd", 3, "longer than the 3"), (b"", 1, "ended after 0 of 1")],
)
def test_wrong_size_is_found(content, size, message):
    descriptor = Descriptor("x", digest_of(content), size)
    with pytest.raises(ContentError, match=message):
        list(verified(iter([content] if content else []), descriptor))


def test_the_last_chunk_is_held_back_until_the_digest_is_right():
    chunks = verified(iter([b"abc", b"def"]), Descriptor("x", digest_of(b"other."), 6))
    assert next(chunks) == b"abc"
    with pytest.raises(ContentError, match="content has digest"):
        next(chunks)


def test_an_empty_blob_is_verified_too():
    assert list(verified(iter([]), blob(b""))) == []
    with pytest.raises(ContentError):
        list(verified(iter([]), Descriptor("x", digest_of(b"x"), 0)))
