"""Reader of untrusted tar archives, from front to back, in time linear in their bytes and in bounded memory.

The rules are those of Go's archive/tar, with which container engines unpack layers: an archive that is refused here could not
be unpacked there either. Sources: POSIX.1-2017, pax, *pax Interchange Format*; GNU tar manual, *Basic Tar Format*; Go,
archive/tar/reader.go.
"""

from __future__ import annotations

import io
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

from common.errors import ContentError
from common.files import size_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from common.errors import HubError


MAX_EXTENDED = 1024 * 1024  # bytes of one extended header, as in Go (maxSpecialFileSize)
MAX_ALL_EXTENDED = 256 * 1024 * 1024  # bytes of all of them: a quarter of a second of CPU for each MiB at the worst
MAX_HEADERS = 3_000_000  # with the records of extended ones: half a minute of CPU, which a megabyte of gzip can ask for
MAX_RUN = 16  # extended headers before one entry; writers make one of each type at most
# Entries by which a layer hides a file of lower layers, or all files of a directory (image-spec 1.1, layer.md, *Whiteouts*).
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_MAX_SIZE = 1 << 62  # of an entry: positions stay below 2**63, as off_t and Go's int64 have them
_MAX_DIGITS = 20  # of 2**64; int() of a megabyte of digits takes seconds (CVE-2020-10735)
_BLOCK = tarfile.BLOCKSIZE
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
# A size in the header of one of these is to be ignored (POSIX.1-2017, pax, *ustar Interchange Format*, size).
_WITHOUT_CONTENT = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)
_SPARSE = b"GNU.sparse."
_SPARSE_NAME = b"GNU.sparse.name"
_KNOWN = (b"path", b"linkpath", b"size", _SPARSE_NAME)
_GNU = b"ustar  \0"  # magic and version of GNU tar
_MAGIC, _PREFIX = slice(257, 265), slice(345, 500)
_TIMES = (slice(345, 357), slice(357, 369))  # of access and change, where ustar has the prefix of a name
_HAS_MORE, _MORE = 482, 504  # the flags of an old GNU sparse header, and of the blocks that continue it
_JOINED = 1024 * 1024
_ENCODING = ("utf-8", "surrogateescape")  # names are bytes; those that are not UTF-8 must differ from each other too


class TarFormatError(ContentError):
    """The bytes are not a tar, or one with an extended header that no writer makes."""


class Source(Protocol):
    """A source of bytes, read once from front to back."""

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        ...

    def skip(self, size: int) -> bool:
        """Skip the next `size` bytes; False where there are fewer."""
        ...


class ChunkSource:
    """A source over chunks of any size."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._pending = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, joined from the chunks."""
        if size <= _JOINED:
            return b"".join(self._take(size))
        joined = io.BytesIO()  # join() would hold all chunks, and so a large file twice
        for part in self._take(size):
            joined.write(part)
        return joined.getvalue()

    def skip(self, size: int) -> bool:
        """Skip the next `size` bytes; the chunks are consumed, and not joined."""
        return sum(map(len, self._take(size))) == size

    def _take(self, size: int) -> Iterator[memoryview]:
        while size > 0:
            if not self._pending:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return
                self._pending = memoryview(chunk)
            part = self._pending[:size]
            self._pending = self._pending[size:]
            size -= len(part)
            yield part


class FileSource:
    """A source over a seekable file: skipped content is not read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes of the file."""
        return self._file.read(size)

    def skip(self, size: int) -> bool:
        """Skip the next `size` bytes with a seek."""
        if size <= 0:
            return True
        self._file.seek(size - 1, 1)
        return len(self._file.read(1)) == 1  # a file can be positioned beyond its end


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, directory or link; `size` bytes of content are at `offset` in the archive.

    `sparse`: the content is a file without its holes, in a format of GNU tar; its real size has no relation to its bytes.
    """

    name: str
    type: bytes
    link: str
    size: int
    offset: int
    sparse: bool = False

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.type in tarfile.REGULAR_TYPES

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.type == tarfile.DIRTYPE

    @property
    def is_symbolic_link(self) -> bool:
        """Whether it is a symbolic link, to `link`."""
        return self.type == tarfile.SYMTYPE

    @property
    def is_hard_link(self) -> bool:
        """Whether it is a hard link, to the entry named `link`."""
        return self.type == tarfile.LNKTYPE


class TarReader:
    """The entries of an uncompressed tar, in order: iterate once. Raises TarFormatError, and what the source raises.

    `limit` bounds the bytes of all extended headers, `headers` the number of all headers and their records; `extended` and
    `counted` are those read so far.
    """

    def __init__(self, source: Source, limit: int = MAX_ALL_EXTENDED, headers: int = MAX_HEADERS) -> None:
        self.extended = 0
        self.counted = 0
        self._headers = headers
        self._source = source
        self._limit = limit
        self._position = 0
        self._left = 0  # bytes of the current entry that were not read
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        pending = _Pending()
        while (block := self._header()) is not None:
            header = _parsed(block)
            # Extended headers are read here, not by tarfile: before Python 3.11.10 and 3.12.6 its regular expressions take
            # quadratic time for them (CVE-2024-6232), and it recurses once for each.
            if header.type not in _EXTENDED:
                yield self._entry(header, block, pending)
                pending = _Pending()
                self._skip_rest()
            else:
                self._count(pending.add(header, self._extended(header)))

    def read(self, size: int | None = None) -> bytes:
        """Return the next bytes of the current entry: all that are left, or at most `size`."""
        wanted = self._left if size is None else min(size, self._left)
        content = self._bytes(wanted)
        self._left -= wanted
        return content

    def _header(self) -> bytes | None:
        """Return the next header block; None at the end of the archive."""
        block = self._source.read(_BLOCK)
        if not block and self._position:
            return None  # the two blocks of zeros at the end are often missing, and readers accept that
        if len(block) < _BLOCK:
            raise TarFormatError("it ends within a header" if self._position else "it is empty")
        self._position += _BLOCK
        self._count(1)
        return block if any(block) else None

    def _count(self, headers: int) -> None:
        self.counted += headers
        if self.counted > self._headers:
            raise TarFormatError("more headers than any real image has")

    def _extended(self, header: tarfile.TarInfo) -> bytes:
        """Return the content of an extended header."""
        if not 0 <= header.size <= MAX_EXTENDED:
            raise TarFormatError(f"an extended header of {header.size} bytes; the limit is {MAX_EXTENDED}")
        self.extended += header.size
        if self.extended > self._limit:
            raise TarFormatError("more extended headers than any real image has")
        content = self._bytes(header.size)
        self._skip_padding(_padding(header.size))
        return content

    def _entry(self, header: tarfile.TarInfo, block: bytes, pending: _Pending) -> Entry:
        size = header.size if pending.size is None else pending.size
        if not 0 <= size <= _MAX_SIZE:
            raise TarFormatError(f"an entry of {size} bytes")
        sparse = pending.sparse or header.type == tarfile.GNUTYPE_SPARSE
        # The map of an old GNU sparse file may continue in further blocks, which the size does not count.
        if header.type == tarfile.GNUTYPE_SPARSE and block[_HAS_MORE]:
            while self._bytes(_BLOCK)[_MORE]:
                pass
        # Values of extended headers go before those of the header itself, which may be cut.
        name, link = pending.name or header.name, pending.link or header.linkname
        old_directory = header.type == tarfile.AREGTYPE and name.endswith("/")  # before POSIX.1-1988
        kind = tarfile.DIRTYPE if old_directory else header.type
        self._left = 0 if kind in _WITHOUT_CONTENT else size
        self._padding = _padding(self._left)
        return Entry(name, kind, link, self._left, self._position, sparse)

    def _skip_rest(self) -> None:
        """Skip to the end of the current entry."""
        if not self._source.skip(self._left):
            raise TarFormatError("it ends within the content of an entry")
        self._position += self._left
        self._left = 0
        self._skip_padding(self._padding)

    def _bytes(self, size: int) -> bytes:
        content = self._source.read(size)
        if len(content) != size:
            raise TarFormatError(f"it ends after {len(content)} of {size} bytes")
        self._position += size
        return content

    def _skip_padding(self, size: int) -> None:
        self._source.skip(size)  # at the very end it may be missing, as Go allows
        self._position += size


class LayerTars:
    """Reader of the tars of an image's layers, with limits for all of them: a manifest may name a layer thousands of times.

    `error` is raised for a broken tar, and for more than `unpacked` bytes.
    """

    def __init__(
        self, error: type[HubError], unpacked: int, extended: int = MAX_ALL_EXTENDED, headers: int = MAX_HEADERS
    ) -> None:
        self._error = error
        self._limit = unpacked
        self._unpacked = 0
        self._extended = extended
        self._headers = headers

    @contextmanager
    def opened(self, layer: Iterable[bytes], what: str) -> Iterator[TarReader]:
        """Give the tar of a decompressed layer, which is read to its end; `what` it is, for messages."""
        chunks = self._counted(layer)
        tar = TarReader(ChunkSource(chunks), self._extended, self._headers)
        try:
            yield tar
        except TarFormatError as error:
            raise self._error(f"{what} is no readable tar: {error.message}") from error
        for _ in chunks:
            pass  # a layer is verified when its last byte was read, and a tar may end before its layer
        self._extended -= tar.extended
        self._headers -= tar.counted

    def _counted(self, layer: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in layer:
            self._unpacked += len(chunk)
            if self._unpacked > self._limit:
                raise self._error(f"its layers have more than {size_text(self._limit)}")
            yield chunk


class _Pending:
    """The values of the extended headers before an entry."""

    def __init__(self) -> None:
        self._count = 0
        self._pax: dict[bytes, bytes] = {}
        self._long: dict[bytes, bytes] = {}
        self.sparse = False

    def add(self, header: tarfile.TarInfo, content: bytes) -> int:
        """Add an extended header, and return its records. Raises TarFormatError for a broken one, and beyond MAX_RUN."""
        records = 0
        self._count += 1
        if self._count > MAX_RUN:
            raise TarFormatError(f"more than {MAX_RUN} extended headers before one entry")
        if header.type in _PAX:
            self._pax, self.sparse, records = _pax(content)  # the last one counts, as for Go
        elif header.type == tarfile.XGLTYPE:
            # Must be valid, but container engines use none of its values (Go: TypeXGlobalHeader).
            _, _, records = _pax(content)
        else:
            self._long[header.type] = content.partition(b"\0")[0]
        return records

    @property
    def name(self) -> str:
        """The name of the entry; empty when its own header has it."""
        found = self._long.get(tarfile.GNUTYPE_LONGNAME) or self._pax.get(_SPARSE_NAME) or self._pax.get(b"path")
        return (found or b"").decode(*_ENCODING)

    @property
    def link(self) -> str:
        """The target of a link; empty when the header of the entry has it."""
        return (self._long.get(tarfile.GNUTYPE_LONGLINK) or self._pax.get(b"linkpath") or b"").decode(*_ENCODING)

    @property
    def size(self) -> int | None:
        """The size of the entry; None when its own header has it."""
        digits = self._pax.get(b"size")
        if not digits:
            return None
        if not digits.isdigit() or len(digits) > _MAX_DIGITS:
            raise TarFormatError(f"a size of {digits[:40]!r}")
        return int(digits)


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, *_ENCODING)
    except tarfile.HeaderError as error:
        raise TarFormatError(f"a block that is not a header: {error}") from error
    if block[_MAGIC] == _GNU and block[_PREFIX.start] and not _has_prefix(block):
        # tarfile takes the times for a directory: it would be another file than the one that engines unpack.
        prefix = block[_PREFIX].partition(b"\0")[0].decode(*_ENCODING)
        header.name = header.name.removeprefix(f"{prefix}/")
    return header


def _has_prefix(block: bytes) -> bool:
    """Return whether a header of GNU tar has the prefix of a name in place of times, as Go wrote it before 1.8."""
    return block[_PREFIX].partition(b"\0")[0].isascii() and not all(_is_number(block[place]) for place in _TIMES)


def _is_number(field: bytes) -> bool:
    """Return whether a field is a number, octal or (by its first bit) binary, or unused."""
    digits = field.strip(b" \0").partition(b"\0")[0]
    return not field[0] or field[0] >= 0x80 or not digits or (digits.isdigit() and not digits.strip(b"01234567"))  # noqa: PLR2004


def _pax(content: bytes) -> tuple[dict[bytes, bytes], bool, int]:
    """Return the relevant values of a pax header, whether it makes its entry a sparse file, and the number of records."""
    found: dict[bytes, bytes] = {}
    sparse = False
    number = 0
    for key, value in _records(content):
        number += 1
        if key in _KNOWN:
            found[key] = value
        sparse = sparse or key.startswith(_SPARSE)
    return found, sparse, number


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records of a pax header: length, blank, key, `=`, value, newline. Reads each byte once."""
    start = 0
    while start < len(content):
        # Bounded, so that a header without blanks is not searched to its end for each record.
        space = content.find(b" ", start, start + _MAX_DIGITS)
        digits = content[start:space]
        if space < 0 or not digits.isdigit():
            raise TarFormatError("an extended header without the length of a record")
        end = start + int(digits)
        equals = content.find(b"=", space + 1, end)
        # The length counts itself and the newline (POSIX.1-2017, pax Extended Header); a wrong one shifts the rest.
        if not space + 1 < equals < end <= len(content) or content[end - 1 : end] != b"\n":
            raise TarFormatError("an extended header with a record that is not as long as it says")
        yield content[space + 1 : equals], content[equals + 1 : end - 1]
        start = end


def _padding(size: int) -> int:
    return -size % _BLOCK
