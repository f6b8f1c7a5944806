"""A plan as a file: what `plan --output` writes for people and for `diff`, and all that `create --plan` needs anywhere.

The document is that of `plan` (docs/cli.md, *JSON*), and in `making` what the inventory does not say: manifests, blobs that
exist nowhere else, where each blob is to be had, the terms, and the facts of the report. Who has the file contacts no catalog.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from common.archive.inventory import MEDIA_TYPE, Encoding, Inventory
from common.archive.layout import PlannedBlob
from common.archive.media import Place
from common.content import DirectoryStore
from common.digest import Digest, digest_of
from common.errors import ContentError, UsageError
from common.files import read_limited
from common.oci.descriptor import Descriptor
from common.oci.manifest import Document, parse
from common.reference import Reference
from common.serialization import UNDECODABLE
from exporter.blueprint import Blueprint
from exporter.catalog.opening import LOCAL
from exporter.plan import ExportPlan
from exporter.planning import Planned
from exporter.report.facts import Facts
from exporter.settings import Terms

MAX_SIZE = 2 * 1024 * 1024 * 1024
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
    """What the inventory does not say."""

    volume_size: int
    parity: str
    documents: tuple[_Raw, ...]
    blobs: tuple[_Blob, ...]
    held: dict[Digest, bytes]
    facts: Facts


class _Planned(msgspec.Struct, frozen=True):
    making: _Making


_INVENTORY = msgspec.json.Decoder(Inventory)
_PLANNED = msgspec.json.Decoder(_Planned)


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan that was read from a file of the digest `identity`."""

    drawn: Blueprint
    facts: Facts
    identity: Digest
    raw: bytes


def making_of(drawn: Blueprint, facts: Facts) -> dict[str, Any]:
    """Return the field `making` of a plan's document."""
    plan = drawn.plan
    made: dict[str, Any] = msgspec.to_builtins(
        _Making(
            drawn.terms.volume_size,
            str(drawn.terms.parity),
            tuple(_Raw(document.media_type, document.raw) for document in plan.documents.values()),
            tuple(_blob(blob, plan) for blob in plan.blobs),
            dict(plan.held),
            facts,
        )
    )
    return made


def load(place: Place) -> PlanFile:
    """Read a plan. Raises what `decode` raises, StorageError."""
    raw = read_limited(place, MAX_SIZE, _AGAIN) if isinstance(place, Path) else place.read(MAX_SIZE)
    return decode(raw, str(place))


def decode(raw: bytes, path: str) -> PlanFile:
    """Return the plan in `raw`, which is from `path`.

    Raises UsageError for anything else, and for a plan that this version would not carry out to the byte.
    """
    try:
        inventory, making = _INVENTORY.decode(raw), _PLANNED.decode(raw).making
        if inventory.media_type != MEDIA_TYPE:
            raise UsageError(f"{path}: a plan of another version: {inventory.media_type[:80]!r}", hint=_AGAIN)
        drawn = _blueprint(inventory, making)
    except (*UNDECODABLE, ContentError, ValueError, ZeroDivisionError, KeyError) as error:
        raise UsageError(f"{path}: not a plan: {error}", hint=_AGAIN) from error
    if drawn.layout.volumes != inventory.volumes:
        raise UsageError(
            f"{path}: made by {inventory.tool}, which lays out volumes in another way",
            hint="Use one version for the plan and all of its parts.",
        )
    return PlanFile(drawn, making.facts, digest_of(raw), raw)


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
    places = () if digest in plan.held else tuple(map(str, plan.places.get(digest, ())))
    return _Blob(blob.descriptor, blob.encoding, blob.stored, places)


def _blueprint(inventory: Inventory, making: _Making) -> Blueprint:
    """Return the plan. Raises ContentError, ValueError, KeyError for one whose parts do not fit each other."""
    documents: dict[Digest, Document] = {}
    for one in making.documents:
        document = parse(one.raw, one.media_type)
        documents[document.digest] = document
    if documents.keys() != inventory.manifests.keys():
        raise ContentError("it has not just the manifests that it lists")
    if any(digest != digest_of(content) for digest, content in making.held.items()):
        raise ContentError("a blob in it is not what its digest says")
    carried = {digest for digest, record in inventory.blobs.items() if record.in_ is None}
    if carried != {blob.descriptor.digest for blob in making.blobs} or len(carried) != len(making.blobs):
        raise ContentError("it has not just the blobs that it lists")
    plan = ExportPlan(
        catalogs=inventory.catalogs,
        images=inventory.images,
        documents=documents,
        blobs=tuple(PlannedBlob(blob.descriptor, blob.encoding, blob.stored) for blob in making.blobs),
        places={blob.descriptor.digest: tuple(map(Reference.parse, blob.places)) for blob in making.blobs},
        held=making.held,
        problems=inventory.problems,
        elsewhere={digest: record for digest, record in inventory.blobs.items() if record.in_ is not None},
        requires=inventory.requires,
    )
    terms = Terms(inventory.created, inventory.image_set, inventory.tool, making.volume_size, Fraction(making.parity))
    return Blueprint(plan, terms)
