"""Names of archives, and how messages name one: name, date and the first digits of the digest (ADR 0076).

Also the names of blobs for progress, and of images that an archive lacks.

A name is a value of a Kubernetes label: ASCII letters and digits, with `-`, `_` and `.` between them. So it is safe in the name
of a file, on a terminal and in a command line, and no two names look the same.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from common.archive.inventory import ATTACHED, packages_of
from common.text import counted, enumeration, sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from common.archive.inventory import BaseRecord, ImageRecord, Inventory
    from common.oci.image import Digest
    from common.oci.reference import Reference


MAX_LENGTH = 63  # characters; of a value of a label (Kubernetes, Labels and Selectors, Syntax and character set)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DIGITS = 12  # of a digest, as podman and docker shorten image IDs
_PRINTED = 22  # characters of a name at the foot of a page, next to a digest and a time in 6.5 points
_CONFIRMED = 3  # archives that the label of a receipt names
_OPERATORS = 5  # named in one line about images that an archive lacks


def is_name(text: str) -> bool:
    """Say whether a text is a name of an archive."""
    return len(text) <= MAX_LENGTH and _NAME.fullmatch(text) is not None


def suggestion(text: str) -> str:
    """Return the name that is nearest to a text; empty where nothing of it is usable."""
    # Bounded before it is normalized: one character can become eighteen (Unicode, UAX #15).
    plain = unicodedata.normalize("NFKD", text[: 8 * MAX_LENGTH]).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:MAX_LENGTH].rstrip("-._")


def short(digest: str) -> str:
    """Return a digest with its first digits only."""
    return f"{digest.partition(':')[0]}:{digits(digest)}…"


def digits(digest: str) -> str:
    """Return the first hexadecimal digits of a digest."""
    return digest.partition(":")[2][:_DIGITS]


def title(name: str, created: str) -> str:
    """Return `week-47 of 2026-11-23`, without a name `archive of 2026-11-23`; empty where neither is known."""
    # The archive may be untrusted: its date may be any text.
    date = created[:10] if _DATE.match(created) else ""
    return " of ".join(filter(None, (name or ("archive" if date else ""), date)))


def label(digest: Digest, name: str, created: str) -> str:
    """Return title and short digest of an archive; the whole digest where nothing else is known."""
    known = title(name, created)
    return f"{known} ({short(digest)})" if known else digest


def title_of(inventory: Inventory) -> str:
    """Return name and date of an archive, or of a plan; `archive` for one without both."""
    return title(inventory.name or "", inventory.created) or "archive"


def heading(digest: Digest, name: str, created: str) -> str:
    """Return the first line of a result about an archive: name, date and the whole digest."""
    return _heading(name, ", ".join(filter(None, (title(name, created), digest))))


def heading_of(inventory: Inventory, digest: Digest) -> str:
    """Return the same of an inventory."""
    return heading(digest, inventory.name or "", inventory.created)


def _heading(name: str, text: str) -> str:
    # Without a name a title begins with `archive`; with neither name nor date the text is a digest.
    return text if not name and text.startswith("archive") else f"archive {text}"


def label_of(inventory: Inventory, digest: Digest) -> str:
    """Return the label of the archive that an inventory lists."""
    return label(digest, inventory.name or "", inventory.created)


def is_receipt(digest: Digest, bases: Mapping[Digest, BaseRecord]) -> bool:
    """Say whether a holder of blobs is known to be a receipt."""
    return digest in bases and bases[digest].confirms is not None


def base_label(digest: Digest, bases: Mapping[Digest, BaseRecord]) -> str:
    """Return the label of an earlier archive, or of a receipt with the archives that it confirms."""
    # Archives of earlier versions describe no bases: the digest is all that is known.
    known = bases.get(digest)
    if known is None:
        return digest
    if known.confirms is None:
        return label(digest, known.name, known.created)
    return f"receipt {short(digest)}{_confirmed(known, bases)}"


def _confirmed(receipt: BaseRecord, bases: Mapping[Digest, BaseRecord]) -> str:
    """Return the archives that a receipt confirms, after `receipt`; empty where it confirms none as a whole."""
    listed = [(digest, bases.get(digest)) for digest in _ordered(receipt.confirms or (), bases)]
    titles = [(title(one.name, one.created) if one else "") or short(digest) for digest, one in listed]
    return f" of {enumeration(titles, _CONFIRMED)}" if titles else ""


class Titled(NamedTuple):
    """An archive in a page, which has room for the whole digest."""

    digest: Digest
    title: str


def titled(digests: Iterable[Digest], bases: Mapping[Digest, BaseRecord]) -> list[Titled]:
    """Return name and date of earlier archives and receipts, by date, for a page."""
    return [
        Titled(digest, _title_of_base(bases[digest], bases) if digest in bases else "") for digest in _ordered(digests, bases)
    ]


def _title_of_base(base: BaseRecord, bases: Mapping[Digest, BaseRecord]) -> str:
    return title(base.name, base.created) if base.confirms is None else f"receipt{_confirmed(base, bases)}"


def needed(inventory: Inventory) -> list[Digest]:
    """Return the holders of what an archive leaves out: `requires`, and receipts."""
    bases = inventory.known_bases
    return [*inventory.requires, *(digest for digest in bases if is_receipt(digest, bases))]


def printed(subject: str, name: str, moment: str) -> str:
    """Return the foot of a printed page: digest, time, and as much of the name as fits a line of A4 with them."""
    return "  ".join(filter(None, (subject, moment, sanitize(name, _PRINTED))))


def holder_of(inventory: Inventory, digest: Digest) -> str:
    """Return where blobs are that an archive leaves out, for `is in …`."""
    bases = inventory.known_bases
    if is_receipt(digest, bases):
        return f"the content confirmed by {base_label(digest, bases)}"
    known = bases.get(digest)
    return f"the earlier {_heading(known.name if known else '', base_label(digest, bases))}"


def base_labels(digests: Iterable[Digest], bases: Mapping[Digest, BaseRecord]) -> list[str]:
    """Return the labels of several, by date, so that they are in the order in which they are to be imported."""
    return [base_label(digest, bases) for digest in _ordered(digests, bases)]


def _ordered(digests: Iterable[Digest], bases: Mapping[Digest, BaseRecord]) -> list[Digest]:
    # Those without a date first: they are of an earlier version.
    return sorted(digests, key=lambda digest: (bases[digest].created if digest in bases else "", digest))


def left_out_images(inventory: Inventory) -> list[ImageRecord]:
    """Return the images that are listed, and not or only partly there."""
    # Signatures and attachments do not count: operators run without them, and their absence is a warning
    # (docs/reference/registry.md).
    return [image for image in inventory.images if not image.complete and image.kind not in ATTACHED]


def left_out_text(inventory: Inventory) -> str:
    """Return how many images the archive lacks, and the operators that need them; empty where it lacks none."""
    images = left_out_images(inventory)
    if not images:
        return ""
    packages = {package.name for catalog in inventory.catalogs for package in catalog.packages}
    # Without the releases; other images are needed by the image set itself.
    named = packages_of(name for image in images for name in image.needed_by) & packages
    operators = f", of {enumeration(sorted(named), _OPERATORS)}" if named else ""
    fetched = "it" if len(images) == 1 else "they"
    return (
        f"{counted(len(images), 'image')}{operators}: not in the archive, because {fetched} could not be fetched "
        "when it was made (hub-import inspect has the details)"
    )


class BlobNames:
    """Names a blob as `cert-manager: cert-manager-operator-bundle`: the package that needs its image, and the image.

    An image that several packages need, or none, is named by the last two components of its repository.

    `places`: the repositories of each blob; `users`: repositories with what needs their images (`catalog/package/bundle`).
    """

    def __init__(
        self, places: Callable[[Digest], Sequence[Reference]], users: Iterable[tuple[Reference, Iterable[str]]]
    ) -> None:
        self._places = places
        found: dict[tuple[str, str], set[str]] = {}
        for place, needed_by in users:
            # All versions of one operator have the images of one repository.
            found.setdefault((place.registry, place.repository), set()).update(packages_of(needed_by))
        self._packages = {place: next(iter(packages)) for place, packages in found.items() if len(packages) == 1}

    def name(self, digest: Digest) -> str:
        """Return the name of a blob; empty where no repository of it is known."""
        place = next(iter(self._places(digest)), None)
        if place is None:
            return ""
        package = self._packages.get((place.registry, place.repository))
        return f"{package}: {place.image.rpartition('/')[2]}" if package else place.image
