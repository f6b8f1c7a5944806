"""Bounded decompression of gzip and zstd layers and of HTTP content codings, and reproducible gzip."""

from __future__ import annotations

import io
import zlib
from itertools import chain
from typing import TYPE_CHECKING, Any

import zstandard

from common.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


MAX_WINDOW = 8 * 1024 * 1024  # the window that decoders have to support (RFC 8878, 3.1.1.1.2)
# Of layers: before 1.17.5 the zstd of Go's container tools had windows of 16 and 32 MiB at levels above the default
# (klauspost/compress#247, klauspost/compress#913), and nodes pull such images.
MAX_LAYER_WINDOW = 32 * 1024 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_STEP = 1024 * 1024  # of output
# What follows the end of a member is copied: in large slices, thousands of empty members would take quadratic time.
_INFLATE_SLICE = 16 * 1024
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
        stream = _unzstd(head, source, MAX_LAYER_WINDOW)
    else:
        stream = _plain(head, source)
    yield from _limited(stream, limit)


def without_codings(chunks: Iterable[bytes | memoryview], codings: Sequence[str], limit: int) -> Iterator[bytes]:
    """Undo HTTP content codings of `CODINGS`, in the order of their header: the last one was applied last (RFC 9110, 8.4).

    Raises ContentError when a step gives more than `limit` bytes, and for a broken stream.
    """
    stream: Iterator[bytes | memoryview] = iter(chunks)
    for coding in reversed(codings):
        stream = _limited(_DECODERS[coding](b"", stream), limit)
    return (bytes(chunk) for chunk in stream)


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
    return _inflate("gzip", head, source, lambda _first: 31)  # 16 + 15: a gzip header, and the largest window


def _deflate(head: bytes, source: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    """Yield the content of the coding `deflate`, which is a zlib stream (RFC 9110, 8.4.1.2)."""
    # Some servers send the bare deflate data; a zlib stream begins with the method 8 in its low bits (RFC 1950, 2.2).
    return _inflate("deflate", head, source, lambda first: 15 if first & 0x8F == 0x08 else -15)  # noqa: PLR2004


def _inflate(name: str, head: bytes, source: Iterator[bytes | memoryview], window: Callable[[int], int]) -> Iterator[bytes]:
    inflater: Any = None
    try:
        for pending in _slices(head, source, _INFLATE_SLICE):
            while pending and (inflater is not None or pending.strip(b"\0")):
                inflater = inflater or zlib.decompressobj(wbits=window(pending[0]))
                yield inflater.decompress(pending, _STEP)
                pending = inflater.unconsumed_tail or inflater.unused_data  # noqa: PLW2901 - the rest of this slice
                inflater = None if inflater.eof else inflater
    except zlib.error as error:
        raise ContentError(f"broken {name} stream: {error}") from error
    if inflater is not None:  # a member has begun, and its checksum has not been seen
        raise ContentError(f"{name} stream ends early")


def _unzstd(head: bytes, source: Iterator[bytes | memoryview], window: int = MAX_WINDOW) -> Iterator[bytes]:
    """Yield the content of every frame of a zstd stream."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=window)
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


# Content codings by name (RFC 9110, 8.4.1; RFC 8878 for zstd). `x-gzip` is gzip.
_DECODERS: dict[str, Callable[[bytes, Iterator[bytes | memoryview]], Iterator[bytes]]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _deflate,
    "zstd": _unzstd,
}
CODINGS = frozenset(_DECODERS)


def gzip(content: bytes) -> bytes:
    """Compress with a fixed header (no time, no name), so that the same content gives the same digest."""
    return gzip_parts((content,))


def gzip_parts(parts: Iterable[bytes]) -> bytes:
    """Compress content that comes in parts, to the same bytes as `gzip` gives of all of it."""
    deflater = zlib.compressobj(level=9, wbits=31)
    made = io.BytesIO()  # grows in place, where joining a list would hold the bytes twice
    for part in parts:
        made.write(deflater.compress(part))
    made.write(deflater.flush())
    return made.getvalue()
