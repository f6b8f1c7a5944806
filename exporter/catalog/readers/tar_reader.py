"""Tar archives from outside, read from front to back in time that grows with their bytes, and in bounded memory.

`TarInfo.frombuf` reads the 512-byte headers. Extended headers are read here: tarfile's expressions take quadratic time for
them before Python 3.11.10 and 3.12.6 (CVE-2024-6232), and it calls itself once for each. The rules are those of Go's
archive/tar, with which container engines unpack layers: what is refused here could not be unpacked there. Sources:
POSIX.1-2017, pax, *pax Interchange Format*; GNU tar manual, *Basic Tar Format*; Go, archive/tar/reader.go.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

from common.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_EXTENDED = 1024 * 1024  # bytes of one extended header, as in Go (maxSpecialFileSize)
MAX_ALL_EXTENDED = 256 * 1024 * 1024  # bytes of all of them: a quarter of a second of CPU for each MiB at the worst
MAX_RUN = 16  # extended headers before one entry; writers make one of each type at most
_MAX_SIZE = 1 << 62
_MAX_DIGITS = 20
_BLOCK = tarfile.BLOCKSIZE
_STEP = 1024 * 1024
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
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
_HAS_MORE, _MORE = 482, 504  # the flags of an old GNU sparse header, and of the blocks that continue it
_ENCODING = ("utf-8", "surrogateescape")


class TarFormatError(ContentError):
    """The bytes are no tar, or one with an extended header that no writer makes."""


class Source(Protocol):
    """Bytes that are read once, from front to back."""

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        ...

    def skip(self, size: int) -> bool:
        """Pass over the next `size` bytes; False where there are fewer."""
        ...


class ChunkSource:
    """A source over chunks of any size."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._pending = memoryview(b"")

    def read(self, size: int) -> bytes:
        """See `Source.read`."""
        return b"".join(self._take(size))

    def skip(self, size: int) -> bool:
        """See `Source.skip`."""
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
    """A source over a file that can seek: content that is passed over is not read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """See `Source.read`."""
        return self._file.read(size)

    def skip(self, size: int) -> bool:
        """See `Source.skip`."""
        if size <= 0:
            return True
        self._file.seek(size - 1, 1)
        return len(self._file.read(1)) == 1  # a file can be positioned beyond its end


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, directory or link; `size` bytes of content are at `offset` in the archive.

    `sparse`: the content is a file with its holes left out, in one of GNU tar's formats, whose size has no bound in its bytes.
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

    `limit` bounds the bytes of all extended headers; `extended` counts them.
    """

    def __init__(self, source: Source, limit: int = MAX_ALL_EXTENDED) -> None:
        self.extended = 0
        self._source = source
        self._limit = limit
        self._position = 0
        self._left = 0  # bytes of the current entry that were not read
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        pending = _Pending()
        while (block := self._header()) is not None:
            header = _parsed(block)
            if header.type not in _EXTENDED:
                yield self._entry(header, block, pending)
                pending = _Pending()
                self._pass_over()
            else:
                pending.add(header, self._extended(header))

    def read(self, size: int | None = None) -> bytes:
        """Return the next bytes of the content of the entry given last: all that is left, or at most `size` bytes."""
        wanted = self._left if size is None else min(size, self._left)
        content = self._bytes(wanted)
        self._left -= wanted
        return content

    def _header(self) -> bytes | None:
        """Return the next header block; None at the end of the archive."""
        block = self._source.read(_BLOCK)
        if not block and self._position:
            return None  # the two blocks of zeros at the end are often missing, and no reader insists on them
        if len(block) < _BLOCK:
            raise TarFormatError("it ends within a header" if self._position else "it is empty")
        self._position += _BLOCK
        return block if any(block) else None

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
        if header.type == tarfile.GNUTYPE_SPARSE and block[_HAS_MORE]:
            while self._bytes(_BLOCK)[_MORE]:
                pass
        name, link = pending.name or header.name, pending.link or header.linkname
        old_directory = header.type == tarfile.AREGTYPE and name.endswith("/")  # before POSIX.1-1988
        kind = tarfile.DIRTYPE if old_directory else header.type
        self._left = 0 if kind in _WITHOUT_CONTENT else size
        self._padding = _padding(self._left)
        return Entry(name, kind, link, self._left, self._position, sparse)

    def _pass_over(self) -> None:
        """Go to the end of the current entry."""
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


class _Pending:
    """What the extended headers read so far say of the entry that follows."""

    def __init__(self) -> None:
        self._count = 0
        self._pax: dict[bytes, bytes] = {}
        self._long: dict[bytes, bytes] = {}
        self.sparse = False

    def add(self, header: tarfile.TarInfo, content: bytes) -> None:
        """Take an extended header. Raises TarFormatError for one that cannot be read, and beyond MAX_RUN."""
        self._count += 1
        if self._count > MAX_RUN:
            raise TarFormatError(f"more than {MAX_RUN} extended headers before one entry")
        if header.type in _PAX:
            self._pax, self.sparse = _pax(content)
        elif header.type == tarfile.XGLTYPE:
            _pax(content)  # has to be readable; container engines go by none of it (Go: TypeXGlobalHeader)
        else:
            self._long[header.type] = content.partition(b"\0")[0]

    @property
    def name(self) -> str:
        """The name, where one is given."""
        found = self._long.get(tarfile.GNUTYPE_LONGNAME) or self._pax.get(_SPARSE_NAME) or self._pax.get(b"path")
        return (found or b"").decode(*_ENCODING)

    @property
    def link(self) -> str:
        """The target of a link, where one is given."""
        return (self._long.get(tarfile.GNUTYPE_LONGLINK) or self._pax.get(b"linkpath") or b"").decode(*_ENCODING)

    @property
    def size(self) -> int | None:
        """The size, where one is given."""
        digits = self._pax.get(b"size")
        if not digits:
            return None
        if not digits.isdigit() or len(digits) > _MAX_DIGITS:
            raise TarFormatError(f"a size of {digits[:40]!r}")
        return int(digits)


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, *_ENCODING)
    except tarfile.HeaderError as error:
        raise TarFormatError(f"a header that is none: {error}") from error


def _pax(content: bytes) -> tuple[dict[bytes, bytes], bool]:
    """Return the values of a pax header that matter here, and whether it makes its entry a sparse file."""
    found: dict[bytes, bytes] = {}
    sparse = False
    for key, value in _records(content):
        if key in _KNOWN:
            found[key] = value
        sparse = sparse or key.startswith(_SPARSE)
    return found, sparse


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give the records of a pax header (length, blank, key, `=`, value, newline), looking once at each byte."""
    start = 0
    while start < len(content):
        space = content.find(b" ", start, start + _MAX_DIGITS)
        digits = content[start:space]
        if space < 0 or not digits.isdigit():
            raise TarFormatError("an extended header without the length of a record")
        end = start + int(digits)
        equals = content.find(b"=", space + 1, end)
        if not space + 1 < equals < end <= len(content) or content[end - 1 : end] != b"\n":
            raise TarFormatError("an extended header with a record that is not as long as it says")
        yield content[space + 1 : equals], content[equals + 1 : end - 1]
        start = end


def _padding(size: int) -> int:
    return -size % _BLOCK
