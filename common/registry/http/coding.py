"""Content codings of responses. `identity` is asked for, and some registries and proxies compress nevertheless.

registry.access.redhat.com does (quay/quay#1310), and proxies before Harbor (oras-project/oras-go#1177). Other servers name a
coding for content that is stored compressed: Apache calls layers `x-gzip` (moby/moby#17595). So bytes that are right as they
are stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from common.errors import RegistryRefusedError
from common.oci.compression import CODINGS, without_codings
from common.serialization import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Callable


_MOST = 3  # codings of one response


def is_json(body: bytes) -> bool:
    """Say whether bytes are a JSON document."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except UNDECODABLE:
        return False
    return True


def codings(value: str, subject: str) -> tuple[str, ...]:
    """Return the names in a Content-Encoding, all of which can be undone. Raises RegistryRefusedError for others."""
    names = tuple(name for each in value[:200].split(",") if (name := each.strip().lower()) not in ("", "identity"))
    if len(names) <= _MOST and CODINGS.issuperset(names):
        return names
    raise RegistryRefusedError(
        f"{subject}: the answer has Content-Encoding {value[:80]!r}, and identity was asked for",
        hint=f"Turn off compression in the registry, or in the proxy before it; {', '.join(sorted(CODINGS))} can be read.",
        status=200,
    )


def plain_body(body: bytes, value: str, subject: str, limit: int, is_right: Callable[[bytes], bool] = is_json) -> bytes:
    """Return a body without the codings of its Content-Encoding; as it is where it has none, or `is_right` accepts it so.

    Raises ContentError past `limit` bytes and for a broken stream, RegistryRefusedError for a coding that cannot be undone.
    """
    if not value or is_right(body):
        return body
    return b"".join(without_codings([body], codings(value, subject), limit))
