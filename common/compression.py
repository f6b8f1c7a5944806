"""Compressed streams with limits: gzip and zstd layers, read and written.

Owns the bound on what a compressed stream may become; the frames of a volume are `archive/frames.py`'s.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator

import zstandard

from common.errors import ContentError

MAX_WINDOW = 8 * 1024 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_STEP = 1024 * 1024


def decompressed(chunks: Iterable[bytes | memoryview], limit: int) -> Iterator[bytes]:
    """Give the content of a plain, gzip or zstd stream, told apart by its first bytes.

    Raises ContentError when more than `limit` bytes come out, when the stream is broken, or when it ends early.
    """
    source = iter(chunks)
    head = b""
    while len(head) < len(_ZSTD) and (chunk := next(source, None)) is not None:
        head += bytes(chunk)
    if head.startswith(_GZIP):
        stream = _gunzip(head, source)
    elif head.startswith(_ZSTD):
        stream = _unzstd(head, source)
    else:
        stream = _plain(head, source)
    yield from _limited(stream, limit)


def _limited(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise ContentError(f"compressed content grows past its limit of {limit} bytes")
        yield chunk


def _plain(head: bytes, source: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    if head:
        yield head
    for chunk in source:
        yield bytes(chunk)


def _gunzip(head: bytes, source: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=31)
    pending = head
    try:
        while True:
            if inflater.eof and pending.strip(b"\0"):
                inflater = zlib.decompressobj(wbits=31)  # a further member of the same stream
            while pending and not inflater.eof:
                yield inflater.decompress(pending, _STEP)
                pending = inflater.unconsumed_tail or inflater.unused_data
            chunk = next(source, None)
            if chunk is None:
                break
            pending += bytes(chunk)
        yield inflater.flush()
    except zlib.error as error:
        raise ContentError(f"broken gzip stream: {error}") from error
    if not inflater.eof:
        raise ContentError("gzip stream ends early")


class _Pull(io.BytesIO):
    """A `read()` over chunks, for zstandard's stream reader."""

    def __init__(self, head: bytes, source: Iterator[bytes | memoryview]) -> None:
        super().__init__()
        self._pending = head
        self._source = source

    def read(self, _size: int | None = -1) -> bytes:
        pending, self._pending = self._pending, b""
        return pending or bytes(next(self._source, b""))


def _unzstd(head: bytes, source: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(_Pull(head, source), read_across_frames=True)
    try:
        while chunk := reader.read(_STEP):
            yield chunk
    except zstandard.ZstdError as error:
        raise ContentError(f"broken zstd stream: {error}") from error


def gzip(content: bytes) -> bytes:
    """Compress with a fixed header (no time, no name): same bytes in, same bytes out."""
    deflater = zlib.compressobj(level=9, wbits=31)
    return deflater.compress(content) + deflater.flush()
