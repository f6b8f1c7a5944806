"""Bounded decompression of gzip and zstd layers, and reproducible gzip."""

from __future__ import annotations

import zlib
from itertools import chain
from typing import TYPE_CHECKING, Any

import zstandard

from common.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


MAX_WINDOW = 8 * 1024 * 1024  # the window that decoders have to support (RFC 8878, 3.1.1.1.2)
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_STEP = 1024 * 1024
# decompressobj() of zstandard has no limit of output. A block of 128 KiB may take 4 bytes, so a slice gives at most 32 MiB.
_ZSTD_SLICE = 1024


def decompressed(chunks: Iterable[bytes | memoryview], limit: int) -> Iterator[bytes]:
    """Yield the content of an uncompressed, gzip or zstd stream.

    Raises ContentError when there are more than `limit` bytes, when the stream is broken, or when it ends early.
    """
    # By its first bytes, as container engines do (containers/image, pkg/compression): media types of layers are often wrong.
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
    """Yield the content of every member of a gzip stream (RFC 1952, 2.2); zero bytes between and after members are padding."""
    inflater: Any = None
    try:
        for pending in _slices(head, source, _STEP):
            while pending and (inflater is not None or pending.strip(b"\0")):
                inflater = inflater or zlib.decompressobj(wbits=31)  # 16 + 15: a gzip header, and the largest window
                yield inflater.decompress(pending, _STEP)
                pending = inflater.unconsumed_tail or inflater.unused_data  # noqa: PLW2901 - the rest of this slice
                inflater = None if inflater.eof else inflater
    except zlib.error as error:
        raise ContentError(f"broken gzip stream: {error}") from error
    if inflater is not None:  # a member has begun, and its checksum has not been seen
        raise ContentError("gzip stream ends early")


def _unzstd(head: bytes, source: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    """Yield the content of every frame of a zstd stream."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    frame: Any = None
    try:
        for pending in _slices(head, source, _ZSTD_SLICE):
            while pending:
                frame = frame or decompressor.decompressobj()
                yield frame.decompress(pending)
                pending = frame.unused_data if frame.eof else b""  # noqa: PLW2901 - the rest of this slice
                frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise ContentError(f"broken zstd stream: {error}") from error
    if frame is not None:
        raise ContentError("zstd stream ends early")


def _slices(head: bytes, source: Iterator[bytes | memoryview], size: int) -> Iterator[bytes]:
    """Yield the stream in slices of at most `size` bytes."""
    for chunk in chain((head,), source):
        view = memoryview(chunk)
        for start in range(0, len(view), size):
            yield bytes(view[start : start + size])


def gzip(content: bytes) -> bytes:
    """Compress with a fixed header (no time, no name), so that the same content gives the same digest."""
    deflater = zlib.compressobj(level=9, wbits=31)
    return deflater.compress(content) + deflater.flush()
