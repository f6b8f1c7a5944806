"""Parts of the results that both programs print: totals, problems, and who requested a transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.inventory import ImageKind
from common.archive.naming import digits, title_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from common.archive.inventory import Inventory, Problem
    from common.oci.image import Digest


_LABELS = 12  # volumes whose labels are listed one by one
_KEY_ID = 16  # the last digits of a fingerprint, by which signatures name a key (RFC 4880, 12.2)


def totals(inventory: Inventory) -> dict[str, int]:
    """Return the `totals` of docs/reference/cli.md; sizes in bytes."""
    # An increment lists the blobs of earlier archives without carrying them.
    carried = [blob.size for blob in inventory.blobs.values() if blob.in_ is None]
    return {
        "packages": sum(len(catalog.packages) for catalog in inventory.catalogs),
        "bundles": sum(1 for image in inventory.images if image.kind is ImageKind.BUNDLE),
        "releases": sum(1 for image in inventory.images if image.kind is ImageKind.RELEASE),
        "images": len(inventory.images),
        "blobs": len(carried),
        "bytes": sum(carried),
        "volumes": len(inventory.volumes),
    }


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """Return a line for each problem."""
    return [f"{p.severity}: {p.subject}: {p.message} [{p.code}]" for p in problems]


def label_lines(inventory: Inventory, digest: Digest) -> list[str]:
    """Return the label for the medium of each volume, for a marker pen; at most `_LABELS`."""
    count = len(inventory.volumes)
    labels = [
        f"  {volume.name}: {medium_label(inventory, digest, number)}"
        for number, volume in enumerate(inventory.volumes[:_LABELS], 1)
    ]
    more = [f"  … and so on, to {count} of {count}"] if count > _LABELS else []
    return ["labels for the media:" if count > 1 else "label for the medium:", *labels, *more]


def medium_label(inventory: Inventory, digest: Digest, number: int) -> str:
    """Return the label of the medium with a volume: name, date, number and the first digits of the digest."""
    return f"{title_of(inventory)}, {number} of {len(inventory.volumes)}, {digits(digest)}"


def request_lines(requested_by: str, purpose: str) -> list[str]:
    """Return who requested a transfer and for what, in lines of a terminal; none where neither is known."""
    return [f"{label}: {text}" for label, text in (("requested by", requested_by), ("purpose", purpose)) if text]


def signed_by(keys: Iterable[str]) -> str:
    """Return the keys that signed a release, from their fingerprints; empty ones are signatures that were not verified."""
    return ", ".join(sorted({key[-_KEY_ID:] for key in keys if key})) or "not verified"
