"""What `oc adm release extract` writes into a program: the payload to install, and the version of the release. Pure.

The places are markers, constants of the program: a name between NULs, X up to their length, and a NUL. A value replaces the
beginning of the first marker of its name, with a NUL after it (openshift/oc, pkg/cli/admin/release/extract_tools.go,
copyAndReplace; openshift/installer, pkg/asset/releaseimage/default.go).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ImageFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


IMAGE = "_RELEASE_IMAGE_LOCATION_"
VERSION = "_RELEASE_VERSION_LOCATION_"
_LONGEST = 1024  # bytes of a marker; those of published programs have 327 and 93
_PADDING = rb"X{16,%d}\0" % (_LONGEST - 64)


@dataclass(slots=True)
class _Marker:
    """A marker that was not found yet, and what replaces it."""

    name: str
    value: bytes

    @property
    def begin(self) -> bytes:
        return b"\0%s\0" % self.name.encode()


class Stamp:
    """Replacement of markers in a stream. `values`: by the name of the marker, IMAGE or VERSION."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._missing = [_Marker(name, value.encode()) for name, value in values.items()]
        self._pending = bytearray()

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the markers that were not found."""
        return tuple(each.name for each in self._missing)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the part of the stream that no marker can change any more; in the end it is as long as the input.

        Raises ImageFileError for a value that is longer than its marker.
        """
        if not self._missing and not self._pending:
            yield chunk
            return
        self._pending += chunk
        self._missing = [each for each in self._missing if not self._replaced(each)]
        # A marker may continue in the next chunk.
        settled = len(self._pending) - _LONGEST if self._missing else len(self._pending)
        if settled > 0:
            yield bytes(self._pending[:settled])
            del self._pending[:settled]

    def finish(self) -> bytes:
        """Return the rest."""
        rest = bytes(self._pending)
        self._pending.clear()
        return rest

    def _replaced(self, marker: _Marker) -> bool:
        position = -1
        # The name alone is another constant of the program, with which it recognises the marker.
        while (position := self._pending.find(marker.begin, position + 1)) >= 0:
            if padding := re.compile(_PADDING).match(self._pending, position + len(marker.begin)):
                self._replace(marker, position, padding.end())
                return True
        return False

    def _replace(self, marker: _Marker, start: int, end: int) -> None:
        if len(marker.value) >= end - start:
            raise ImageFileError(
                f"{marker.value.decode()} has {len(marker.value)} characters; the program has room for {end - start - 1}",
                hint="Choose a shorter --registry, or leave it out: the program then names the release by its source.",
            )
        self._pending[start : start + len(marker.value) + 1] = marker.value + b"\0"
