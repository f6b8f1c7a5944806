"""File format of a plan: the output of `plan --output` for people and `diff`, and the input of `create --plan` on any machine.

The document is that of `plan` (docs/reference/cli.md, *JSON*), with the rest in `making`: manifests, blobs that exist nowhere
else, the repositories of each blob, the terms, and the facts of the report. Carrying out a plan contacts no catalog.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import replace as replaced

from common.archive import frames, inventory_file
from common.archive.frames import Packed
from common.archive.inventory import MEDIA_TYPE, Encoding, Inventory, UpdateGraphRecord
from common.archive.layout import PlannedBlob
from common.errors import ContentError, HubError, UsageError
from common.files import read_limited
from common.oci.image import Descriptor, Digest, Document, Manifest, digest_of, parse
from common.oci.reference import Reference
from common.serialization import UNDECODABLE, json_parts
from common.text import visible_json
from exporter.archive.archive_spec import ArchiveSpec
from exporter.catalog.readers.opening import LOCAL
from exporter.plan.packed import PackedManifests
from exporter.plan.plan import ExportPlan, manifest_records
from exporter.report.facts import Facts
from exporter.settings import ArchiveTerms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from common.archive.location import Place
    from common.content import DirectoryStore
    from exporter.plan.planning import Planned


T = TypeVar("T")
MAX_SIZE = 2 * 1024 * 1024 * 1024
_SHARE = re.compile(r"\d{1,9}(?:/[1-9]\d{0,8})?", re.ASCII)
# The plan may come from another machine or a bucket, so all of it is checked like foreign input.
_AGAIN = "Make it again: hub-export plan --output FILE."


class _Raw(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    raw: bytes


class _Blob(msgspec.Struct, frozen=True, rename="camel"):
    descriptor: Descriptor
    encoding: Encoding
    stored: int | None
    places: tuple[str, ...]


class _Making(msgspec.Struct, frozen=True, rename="camel"):
    """The field `making`: all that is not in the inventory."""

    volume_size: int
    parity: str
    documents: tuple[_Raw, ...]
    blobs: tuple[_Blob, ...]
    held: dict[Digest, bytes]
    facts: Facts


class _Planned(msgspec.Struct, frozen=True):
    making: _Making


_PLANNED = msgspec.json.Decoder(_Planned)


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan that was read from a file of the digest `identity`; `packed`: its bytes, which parts keep."""

    spec: ArchiveSpec
    facts: Facts
    identity: Digest
    packed: Packed


def making_of(spec: ArchiveSpec, facts: Facts) -> dict[str, Any]:
    """Return the field `making` of a plan's document; its long lists are iterators."""
    plan = spec.plan
    return {
        "volumeSize": spec.terms.volume_size,
        "parity": str(spec.terms.parity),
        "documents": (_Raw(plan.manifests[digest].media_type, raw) for digest, raw in plan.documents.items()),
        "blobs": (_blob(blob, plan) for blob in plan.blobs),
        "held": dict(plan.held),
        "facts": facts,
    }


def encode(document: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the file of a plan in parts; `document`: that of `plan`, with `making`. The same bytes as of `pretty_json`."""
    # As one text, the document of a whole index takes more memory than the plan itself.
    return (visible_json(part.decode()).encode() for part in json_parts(document))


def load(place: Place) -> PlanFile:
    """Read a plan. Raises what `decode` raises, UsageError also where there is none; StorageError."""
    if isinstance(place, Path):
        return decode(read_limited(place, MAX_SIZE, _AGAIN), str(place))
    if place.stat() is None:
        raise UsageError(f"{place}: there is no such object", hint=_AGAIN)
    return decode(place.read(MAX_SIZE), str(place))


def decode(raw: bytes, path: str) -> PlanFile:
    """Return the plan in `raw`, which is from `path`.

    Raises UsageError for anything else, and for a plan that this version would not carry out to the byte.
    """
    try:
        inventory, making = inventory_file.decode_unchecked(raw), _PLANNED.decode(raw).making
        spec = _archive_spec(inventory, making) if inventory.media_type == MEDIA_TYPE else None
    except (*UNDECODABLE, HubError, ValueError) as error:
        why = error.message if isinstance(error, HubError) else error
        raise UsageError(f"{path}: not a plan: {why}", hint=_AGAIN) from error
    if spec is None:
        raise UsageError(f"{path}: a plan of another version: {inventory.media_type[:80]!r}", hint=_AGAIN)
    # Parts of two layouts would not fit together, so the layout is computed again and compared.
    if spec.layout.volumes != inventory.volumes:
        raise UsageError(
            f"{path}: made by {inventory.tool}, which lays out volumes in another way",
            hint="Use one version for the plan and all of its parts.",
        )
    return PlanFile(spec, making.facts, digest_of(raw), Packed.of(raw))


def with_local(planned: Planned, store: DirectoryStore) -> Planned:
    """Return the same with the blobs that come from a disk of this machine: no other could read them there."""
    plan = planned.plan
    local = [
        blob.descriptor
        for blob in plan.blobs
        if {place.registry for place in plan.places.get(blob.descriptor.digest, ())} == {LOCAL}
    ]
    held = {blob.digest: b"".join(map(bytes, store.read(blob))) for blob in local if blob.digest not in plan.held}
    return replace(planned, plan=replace(plan, held={**plan.held, **held}))


def _blob(blob: PlannedBlob, plan: ExportPlan) -> _Blob:
    digest = blob.descriptor.digest
    # A held blob is in the plan itself and needs no repository.
    places = () if digest in plan.held else tuple(map(str, plan.places.get(digest, ())))
    return _Blob(blob.descriptor, blob.encoding, blob.stored, places)


def _archive_spec(inventory: Inventory, making: _Making) -> ArchiveSpec:
    """Return the plan, laid out. Raises HubError, ValueError for one whose parts do not fit each other."""
    needed: dict[Digest, tuple[int, ...]] = {}
    plan = _plan(inventory, making, needed)
    # Stated twice in the file, for `diff` and for `create`: both have to agree.
    if plan.manifests != inventory.manifests:
        raise ContentError("it has not just the manifests that it lists")
    if plan.blob_records() != inventory.blobs or len(plan.places) != len(plan.blobs):
        raise ContentError("it has not just the blobs that it lists")
    _check_blobs(plan, needed, {digest: record.size for digest, record in inventory.blobs.items()})
    _check_roots(plan)
    if any(volume.data_size > making.volume_size for volume in inventory.volumes):
        raise ContentError(f"its volumes are larger than {making.volume_size} bytes")  # before the smallest size is searched
    said = (inventory.requested_by or "", inventory.purpose or "", inventory.name or "")
    share = _share(making.parity)
    terms = ArchiveTerms(inventory.created, inventory.image_set, inventory.tool, making.volume_size, share, *said)
    spec = ArchiveSpec(plan, terms)
    inventory_file.check(spec.inventory({}))
    return spec


def _plan(inventory: Inventory, making: _Making, needed: dict[Digest, tuple[int, ...]]) -> ExportPlan:
    """Return the plan, unchecked; `needed` gets the blobs of manifests with their sizes. Raises ContentError, UsageError."""
    # One text for each digest, media type and repository, which is made for each mention of it.
    texts: dict[Any, Any] = {digest: digest for digest in (*inventory.blobs, *inventory.manifests)}
    places: dict[tuple[str, ...], tuple[Reference, ...]] = {}

    def one(value: T) -> T:
        return texts.setdefault(value, value)  # type: ignore[no-any-return]

    def placed(names: tuple[str, ...]) -> tuple[Reference, ...]:
        return places.get(names) or places.setdefault(names, tuple(map(Reference.parse, names)))

    def described(blob: Descriptor) -> Descriptor:
        return replaced(blob, digest=one(blob.digest), media_type=one(blob.media_type))

    documents = [(one(digest_of(raw.raw)), raw.raw) for raw in making.documents]
    blobs = tuple(PlannedBlob(described(blob.descriptor), blob.encoding, blob.stored) for blob in making.blobs)
    return ExportPlan(
        catalogs=inventory.catalogs,
        images=inventory.images,
        manifests=manifest_records(_parsed(making.documents, needed), {digest for digest, _ in documents}, texts),
        documents=PackedManifests(documents),
        blobs=blobs,
        places={one(blob.descriptor.digest): placed(blob.places) for blob in making.blobs},
        held=making.held,
        problems=inventory.problems,
        elsewhere={digest: record for digest, record in inventory.blobs.items() if record.in_ is not None},
        requires=inventory.requires,
        releases=inventory.carried_releases,
        update_graph=inventory.update_graph or UpdateGraphRecord(),
        bases=inventory.known_bases,
    )


def _parsed(documents: Iterable[_Raw], needed: dict[Digest, tuple[int, ...]]) -> Iterator[Document]:
    """Parse documents one at a time: all of them at once would take several times their bytes."""
    for one in documents:
        document = parse(one.raw, one.media_type)
        for blob in document.blobs if isinstance(document, Manifest) else ():
            # Manifests that share a blob may claim different sizes.
            known = needed.get(blob.digest, ())
            if blob.size not in known:
                needed[blob.digest] = (*known, blob.size)
        yield document


def _check_blobs(plan: ExportPlan, needed: Mapping[Digest, Collection[int]], sizes: Mapping[Digest, int]) -> None:
    """Raise ContentError unless blobs and `sizes` are those `needed` by manifests, and the held ones match their digests."""
    if needed.keys() != sizes.keys():
        raise ContentError("it has not just the blobs that its manifests need")
    for digest, size in sizes.items():
        # The true one of two claimed sizes is found when the blob is fetched.
        if size not in needed[digest]:
            raise ContentError(f"{digest}: {size} bytes are not what its manifest says")
    for digest, content in plan.held.items():
        if digest != digest_of(content) or sizes.get(digest, len(content)) != len(content):
            raise ContentError("a blob in it is not what its digest says")
    for blob in plan.blobs:
        # A stored length beyond any compressor's would reserve room without end.
        most = frames.compress_bound(blob.descriptor.size)
        if not (blob.stored is None if blob.encoding is Encoding.RAW else 0 < (blob.stored or 0) <= most):
            raise ContentError(f"{blob.descriptor.digest}: cannot be stored in {blob.stored} bytes")


def _check_roots(plan: ExportPlan) -> None:
    """Raise ContentError for an image or a catalog without its manifest."""
    named = (*(image.digest for image in plan.images), *(catalog.image for catalog in plan.catalogs))
    for digest in named:
        if digest is not None and digest not in plan.documents:
            raise ContentError(f"it lists {digest[:80]!r}, and has no such manifest")


def _share(text: str) -> Fraction:
    """Return the share of parity in a volume. Raises ValueError."""
    # Checked first, since Fraction("1e99999999") computes all its digits.
    if _SHARE.fullmatch(text) is None or not 0 <= Fraction(text) <= 1:
        raise ValueError(f"parity {text[:40]!r}, wanted a part such as 1/20")
    return Fraction(text)
