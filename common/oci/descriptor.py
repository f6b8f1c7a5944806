"""Descriptors: media type, digest, size (OCI content descriptors)."""

from __future__ import annotations

import msgspec

from common.digest import Digest
from common.oci.platform import Platform

# Larger than any layer, small enough that sums of two million of them stay exact and far from 2^63.
MAX_SIZE = 1 << 42


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a manifest says of other content. Unknown fields are left out; the raw manifest keeps them."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    artifact_type: str = ""
    urls: tuple[str, ...] = ()
