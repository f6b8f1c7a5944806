"""Parts of the results that both programs print: totals, problems, and who requested a transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.inventory import ImageKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from common.archive.inventory import Inventory, Problem


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


def request_lines(requested_by: str, purpose: str) -> list[str]:
    """Return who requested a transfer and for what, in lines of a terminal; none for what is not known."""
    return [f"{label}: {text}" for label, text in (("requested by", requested_by), ("purpose", purpose)) if text]


def signed_by(keys: Iterable[str]) -> str:
    """Return the keys that signed a release, from their fingerprints; empty ones are signatures that were not verified."""
    return ", ".join(sorted({key[-_KEY_ID:] for key in keys if key})) or "not verified"
