"""How an index lists a manifest that refers to another (OCI distribution specification 1.1, *Listing Referrers*). No I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from common.digest import digest_of
from common.oci.manifest import Document, Manifest


def artifact_type(document: Document) -> str:
    """Return what kind of artifact a document is: what it says itself, else its config's media type; empty for neither."""
    return document.artifact_type or (document.config.media_type if isinstance(document, Manifest) else "")


def described(document: Document) -> dict[str, Any]:
    """Return the descriptor that lists a referrer: with its artifact type and its annotations."""
    kind = artifact_type(document)
    notes = msgspec.json.decode(document.raw).get("annotations")
    plain = {"mediaType": document.media_type, "digest": digest_of(document.raw), "size": len(document.raw)}
    return plain | ({"artifactType": kind} if kind else {}) | ({"annotations": notes} if notes else {})
