"""`SHA256SUMS`: checksums of the archive's files, for `sha256sum -c`. It is written last, so its presence means complete."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from common.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Mapping


NAME = "SHA256SUMS"
SIGNATURE_NAME = "SHA256SUMS.sig"
MAX_SIZE = 64 * 1024 * 1024  # of 100,000 volumes with parity: two lines of some hundred bytes each, and room
# No slash and no leading dot: a name never leaves the directory of the archive.
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9][A-Za-z0-9._-]{0,200})", re.ASCII)


def render(checksums: Mapping[str, str]) -> bytes:
    """Return the file for checksums (64 hex digits) by file name, sorted by name."""
    return "".join(f"{checksums[name]}  {name}\n" for name in sorted(checksums)).encode("ascii")


def parse(raw: bytes) -> dict[str, str]:
    """Return the checksums by file name. Raises ContentError for anything but lines of the form, and for names that repeat."""
    found: dict[str, str] = {}
    if len(raw) > MAX_SIZE:
        raise ContentError(f"{NAME}: {len(raw)} bytes; the limit is {MAX_SIZE}")
    if not raw.endswith(b"\n"):  # a copy that broke off; sha256sum -c would accept it
        raise ContentError(f"{NAME}: cut off in its last line")
    for number, line in enumerate(raw.decode("ascii", "replace").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found:
            raise ContentError(f"{NAME}: line {number} is no checksum, or its file stands there twice: {line[:100]!r}")
        found[match[2]] = match[1]
    return found
