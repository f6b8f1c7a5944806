"""What every medium promises, as source and as sink. A further medium is one more `Medium` in MEDIA."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.content import BlobSink, BlobSource, DirectoryStore, Written, verified
from common.errors import ContentError, HubError, NotFoundError
from common.oci.image import Descriptor, digest_of
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from common.registry.source_sink import RegistrySink, RegistrySource
from tests.fakes.registry import FakeRegistry

CONTENTS = {"empty": b"", "one byte": b"x", "some chunks": os.urandom(700_001)}
BLOBS = {name: Descriptor("application/octet-stream", digest_of(content), len(content)) for name, content in CONTENTS.items()}
MISSING = Descriptor("application/octet-stream", digest_of(b"missing"), 7)


@dataclass
class Medium:
    """A sink, and a source of what that sink was given."""

    sink: BlobSink
    source: BlobSource


@contextmanager
def _directory(tmp_path: Path) -> Iterator[Medium]:
    store = DirectoryStore(tmp_path / "blobs")
    yield Medium(store, store)


@contextmanager
def _registry(_tmp_path: Path, **options) -> Iterator[Medium]:
    with FakeRegistry(**options) as registry:
        settings = RegistrySettings(insecure=frozenset({registry.host, registry.elsewhere_host}))
        with RegistryClient(settings) as client:
            places = {
                blob.digest: [registry.reference("org/a"), registry.reference("org/b")] for blob in (*BLOBS.values(), MISSING)
            }
            yield Medium(RegistrySink(client, places), RegistrySource(client, places))


@contextmanager
def _redirecting(tmp_path: Path) -> Iterator[Medium]:
    with _registry(tmp_path, redirect=True, mounts=False, ranges=False) as medium:
        yield medium


MEDIA: dict[str, Callable[[Path], AbstractContextManager[Medium]]] = {
    "directory": _directory,
    "registry": _registry,
    "registry that redirects, mounts nothing and knows no ranges": _redirecting,
}


@pytest.fixture(params=list(MEDIA))
def medium(request, tmp_path) -> Iterator[Medium]:
    with MEDIA[request.param](tmp_path) as made:
        yield made


def _reader(name: str, opened: list[int] | None = None) -> Callable[[int], Iterator[bytes]]:
    content = CONTENTS[name]

    def read(start: int) -> Iterator[bytes]:
        if opened is not None:
            opened.append(start)
        for position in range(start, len(content), 100_000):
            yield content[position : position + 100_000]

    return read


def _all(chunks) -> bytes:
    return b"".join(bytes(chunk) for chunk in chunks)


@pytest.mark.parametrize("name", CONTENTS)
def test_what_was_written_is_read(medium, name):
    blob = BLOBS[name]
    assert medium.sink.write(blob, _reader(name)) is Written.COPIED
    assert _all(verified(medium.source.read(blob), blob)) == CONTENTS[name]


@pytest.mark.parametrize("start", [0, 1, 262_144, 700_000, 700_001])
def test_reading_begins_where_asked(medium, start):
    medium.sink.write(BLOBS["some chunks"], _reader("some chunks"))
    assert _all(medium.source.read(BLOBS["some chunks"], start)) == CONTENTS["some chunks"][start:]


def test_second_write_reads_nothing(medium):
    opened: list[int] = []
    medium.sink.write(BLOBS["some chunks"], _reader("some chunks"))
    assert medium.sink.write(BLOBS["some chunks"], _reader("some chunks", opened)) is Written.PRESENT
    assert opened == []


def test_missing_blob(medium):
    with pytest.raises(NotFoundError) as caught:
        _all(medium.source.read(MISSING))
    assert MISSING.digest in str(caught.value)


def test_error_of_the_content_passes_and_leaves_nothing(medium):
    blob = BLOBS["some chunks"]

    def broken(_start: int) -> Iterator[bytes]:
        yield CONTENTS["some chunks"][:300_000]
        raise ContentError("the source is broken")

    with pytest.raises(ContentError, match="the source is broken"):
        medium.sink.write(blob, broken)
    with pytest.raises(NotFoundError):
        _all(medium.source.read(blob))
    assert medium.sink.write(blob, _reader("some chunks")) is Written.COPIED
    assert _all(medium.source.read(blob)) == CONTENTS["some chunks"]


def test_wrong_bytes_never_become_visible(medium):
    blob = BLOBS["some chunks"]
    wrong = bytes(len(CONTENTS["some chunks"]))
    with pytest.raises(HubError):
        medium.sink.write(blob, lambda _start: verified(iter([wrong[:400_000], wrong[400_000:]]), blob))
    with pytest.raises(NotFoundError):
        _all(medium.source.read(blob))


def test_closing_early_frees_the_source(medium):
    blob = BLOBS["some chunks"]
    medium.sink.write(blob, _reader("some chunks"))
    for _ in range(30):
        chunks = medium.source.read(blob)
        next(chunks)
        chunks.close()
    assert _all(medium.source.read(blob)) == CONTENTS["some chunks"]
