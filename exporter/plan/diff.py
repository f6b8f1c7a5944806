"""The difference of two archives or plans, for those who approve a transfer and those who receive it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from common.archive import inventory_file, location
from common.archive.discover import find
from common.archive.inventory import (
    MAX_SIZE,
    MEDIA_TYPE,
    BlobRecord,
    BundleRecord,
    CatalogRecord,
    ChannelRecord,
    Inventory,
    PackageRecord,
)
from common.archive.naming import left_out_images, title
from common.errors import UsageError
from common.files import size_text
from common.olm.catalog_names import identities_of
from common.serialization import UNDECODABLE
from common.table import columns
from common.text import counted, paragraphs, shortened
from exporter.plan import release_diff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from common.archive.location import Place
    from common.oci.image import Digest
    from common.olm.catalog_names import Identity


Document = dict[str, Any]


class _Totals(msgspec.Struct):
    totals: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_TOTALS = msgspec.json.Decoder(_Totals)
_SHOWN = 40  # images named for people; JSON has all


def load(path: Place) -> Inventory:
    """Return the inventory of an archive, an inventory file or a plan. Raises the errors of opening an archive."""
    planned = _planned(path) if location.is_file(path) else None
    return planned or find([path]).inventory


def _planned(path: Place) -> Inventory | None:
    """Return a plan that `plan --output` wrote; None for any other file."""
    if path.suffix != ".json" or location.size_of(path) > MAX_SIZE:
        return None
    try:
        raw = location.read(path, MAX_SIZE)
        if not _has_totals(raw):
            return None
        # Unchecked: the blobs of a plan have no positions in volumes yet, which the checks of inventories require.
        inventory = inventory_file.decode_unchecked(raw)
    except UNDECODABLE as error:
        raise UsageError(f"{path}: no plan and no inventory: {error}", hint="hub-export plan --output makes one.") from error
    # A plan is a document of this version only; archives of earlier ones are readable.
    if inventory.media_type != MEDIA_TYPE:
        raise UsageError(f"{path}: a plan of another version: {inventory.media_type[:80]!r}", hint="Make it again.")
    return inventory


def _has_totals(raw: bytes) -> bool:
    """Return whether JSON is a document of `plan`, by its `totals`. Raises UNDECODABLE for invalid JSON."""
    try:
        return _TOTALS.decode(raw).totals is not msgspec.UNSET
    except msgspec.ValidationError:
        return False


def between(old: Inventory, new: Inventory) -> Document:
    """Return the JSON of `diff`: packages, releases, images and blobs added, removed and changed from `old` to `new`.

    With the name and the date of both.
    """
    # An archive of before ADR 0056 has no update graph, and would differ in every package.
    edges = all(each.update_graph for each in (*old.catalogs, *new.catalogs))
    before = _packages(old.catalogs, _continued(old, new), edges=edges)
    after = _packages(new.catalogs, {}, edges=edges)
    # Keys are catalog and package: two catalogs may have a package of one name.
    both = [key for key in after if key in before]
    images = {name: {i.source: i.digest for i in each.images} for name, each in (("old", old), ("new", new))}
    return {
        **{word: {"name": each.name or None, "created": each.created} for word, each in (("from", old), ("to", new))},
        "packages": {
            "added": [_named(key) for key in after if key not in before],
            "removed": [_named(key) for key in before if key not in after],
            "changed": [change for key in both if (change := _changed(key, before[key], after[key]))],
        },
        "releases": release_diff.between(old.carried_releases, new.carried_releases),
        "images": {
            "added": sorted(images["new"].keys() - images["old"].keys()),
            "removed": sorted(images["old"].keys() - images["new"].keys()),
            "changed": [
                {"source": source, "from": images["old"][source], "to": digest}
                for source, digest in sorted(images["new"].items())
                if source in images["old"] and images["old"][source] != digest
            ],
        },
        "blobs": {"added": _sum(new, old), "removed": _sum(old, new)},
    }


def compared(one: Inventory) -> Inventory:
    """Return the parts of an inventory that `between` reads: without manifests and places of blobs, most of its memory."""
    blobs = {digest: BlobRecord(record.size, "") for digest, record in one.blobs.items()}
    images = tuple(msgspec.structs.replace(image, platforms=(), needed_by=()) for image in one.images)
    return msgspec.structs.replace(one, images=images, manifests={}, blobs=blobs, volumes=(), problems=())


def lacking(one: Inventory) -> frozenset[str]:
    """Return the sources of the images that could not be fetched."""
    complete = {image.source for image in one.images if image.complete}
    return frozenset(image.source for image in left_out_images(one)) - complete


def table(found: Document, lacked: frozenset[str] = frozenset(), lacks: frozenset[str] = frozenset()) -> list[str]:
    """Return `diff` for people; `lacked` and `lacks`: images that the first and the second one list and do not have."""
    packages, images, blobs = found["packages"], found["images"], found["blobs"]
    rows = [("", "CATALOG", "PACKAGE", "CHANGE")]
    rows += [("+", one["catalog"], one["package"], "new") for one in packages["added"]]
    rows += [("-", one["catalog"], one["package"], "gone") for one in packages["removed"]]
    rows += [("~", one["catalog"], one["package"], line) for one in packages["changed"] for line in _lines(one)]
    # An image that is listed and not carried is the reason to refuse an archive, and is no new image.
    listed = [f"! {source}: not in it: it could not be fetched" for source in sorted(lacks)]
    listed += [f"+ {source}" for source in sorted({*images["added"], *(lacked - set(images["removed"]))} - lacks)]
    listed += [f"- {source}" for source in images["removed"]]
    # A changed image is one source with another digest: a tag that moved, or a rebuilt catalog.
    listed += [f"~ {one['source']}: {one['from']} → {one['to']}" for one in images["changed"]]
    sums = [
        f"{sign} {counted(blobs[word]['count'], 'blob')}, {size_text(blobs[word]['bytes'])}"
        for sign, word in (("+", "added"), ("-", "removed"))
    ]
    operators = columns(rows) if len(rows) > 1 else ["the same packages, channels and versions"]
    changed = shortened(listed, _SHOWN, " images (--format json lists all)")
    releases = release_diff.rows(found["releases"])
    named = columns([("", "ARCHITECTURE", "RELEASE", "CHANGE"), *releases]) if releases else []
    ends = [f"{word}: {title(found[word]['name'] or '', found[word]['created'])}" for word in ("from", "to")]
    return paragraphs(ends, operators, named, changed or ["the same images"], sums)


def _packages(
    catalogs: Iterable[CatalogRecord], names: Mapping[str, str], *, edges: bool
) -> dict[tuple[str, str], PackageRecord]:
    return {
        (names.get(catalog.name, catalog.name), package.name): _compared(package, edges=edges)
        for catalog in catalogs
        for package in catalog.packages
    }


def _compared(package: PackageRecord, *, edges: bool) -> PackageRecord:
    """Return the compared parts of a package: channels, versions, with `edges` the update graph; not what its heads state."""
    channels = (
        ChannelRecord(
            channel.name,
            channel.head,
            # A deprecation changes no version, and archives of before ADR 0063 have none.
            tuple(
                msgspec.structs.replace(one, deprecated=False) if edges else BundleRecord(one.name, one.version)
                for one in channel.bundles
            ),
        )
        for channel in package.channels
    )
    return PackageRecord(package.name, package.default_channel, tuple(channels))


def _continued(old: Inventory, new: Inventory) -> dict[str, str]:
    """Return the name in `new` of each catalog of `old`: that of the same catalog, else of the one with its bare name."""
    # A catalog has a longer name where another one of its bare name is in the archive (ADR 0051).
    identities = [identities_of(each) for each in (old, new)]
    found: dict[str, str] = {}
    used: set[str] = set()
    ways: tuple[Callable[[Identity], str], ...] = (str, lambda identity: identity.bare)
    for same in ways:
        left, right = (
            _unique((same(identity), catalog.name) for identity, catalog in zip(each, one.catalogs, strict=True))
            for each, one in zip(identities, (old, new), strict=True)
        )
        for key in left.keys() & right.keys():
            if left[key] not in found and right[key] not in used:
                found[left[key]] = right[key]
        used = set(found.values())
    # Archives of older versions have other names: one that is another catalog's in `new` is spelled out.
    lost = zip(identities[0], old.catalogs, strict=True)
    return found | {each.name: str(own) for own, each in lost if each.name not in found and each.name in used}


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return key → name for the keys that one catalog has."""
    listed = list(pairs)
    counts = Counter(key for key, _ in listed)
    return {key: name for key, name in listed if counts[key] == 1}


def _named(key: tuple[str, str]) -> Document:
    return {"catalog": key[0], "package": key[1]}


def _changed(key: tuple[str, str], old: PackageRecord, new: PackageRecord) -> Document:
    """Return the changes of a package; empty when it is the same."""
    if old == new:
        return {}
    heads = ({c.name: c.head for c in one.channels} for one in (old, new))
    bundles = ({b.name for c in one.channels for b in c.bundles} for one in (old, new))
    before, after = bundles
    default = {"defaultChannel": {"from": old.default_channel, "to": new.default_channel}}
    return {
        **_named(key),
        **(default if old.default_channel != new.default_channel else {}),
        "heads": _heads(*heads),
        "added": sorted(after - before),
        "removed": sorted(before - after),
    }


def _heads(old: Mapping[str, str], new: Mapping[str, str]) -> list[Document]:
    """Return the channels whose head changed; null in place of the head of a missing channel."""
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return [{"channel": name, "from": old.get(name), "to": new.get(name)} for name in names]


def _lines(change: Document) -> list[str]:
    lines = [f"{one['channel']}: {one['from'] or 'no channel'} → {one['to'] or 'no channel'}" for one in change["heads"]]
    if "defaultChannel" in change:
        lines.append(f"default channel: {change['defaultChannel']['from']} → {change['defaultChannel']['to']}")
    lines += [f"+ {name}" for name in change["added"]] + [f"- {name}" for name in change["removed"]]
    return lines or [
        "the order of its versions, or what updates them"
    ]  # all else that a record of a package has is compared above


def _sum(one: Inventory, other: Inventory) -> Document:
    """Return how many blobs `one` lists that `other` does not, and their bytes."""
    # By digest: a blob that several images share is counted once, as it is transferred once.
    digests: set[Digest] = set(one.blobs) - set(other.blobs)
    return {"count": len(digests), "bytes": sum(one.blobs[digest].size for digest in digests)}
