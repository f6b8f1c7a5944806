"""Results of the commands that work on an archive or a mirror: JSON documents, and tables for people.

Specification: docs/reference/cli.md, *JSON*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from common.archive.naming import base_labels, heading_of, is_receipt, needed
from common.archive.signature import SignatureState
from common.cli.results import medium_label, problem_lines, request_lines, signed_by, totals
from common.cli.summary import lasted, next_command
from common.files import size_text
from common.table import columns
from common.text import counted, enumeration, indented, numbered, paragraphs, shortened
from importer.archive.repair import Repaired, RepairStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from common.archive.inventory import Inventory, ReleaseRecord, VolumeRecord
    from common.archive.reader import Archive
    from common.archive.receipt import Receipt
    from common.cli.summary import Measured
    from common.target_profile import TargetProfile
    from importer.archive.checksum_files import Neighbours
    from importer.archive.verify import VerifyResult
    from importer.push.result import PushResult
    from importer.records.listing import Remembered


Document = dict[str, Any]
_SHOWN = 20
_SIGNATURES = {
    SignatureState.ABSENT: "none",
    SignatureState.UNCHECKED: "present, not verified (--key PUB verifies it)",
    SignatureState.INVALID: "not valid",
}
_NAMED = 6  # operators of an archive in one line


def inspect_document(archive: Archive, near: Neighbours) -> Document:
    """Return the JSON of `inspect`: the inventory without blobs and manifests, totals, and which volumes are here."""
    document: Document = msgspec.to_builtins(archive.inventory)
    del document["blobs"], document["manifests"]
    sizes = archive.volume_sizes()
    for volume in document["volumes"]:
        volume["size"] = sizes.get(volume["name"])
    return (
        document
        | {"name": archive.inventory.name or None, "bases": archive.inventory.known_bases}
        | {"totals": totals(archive.inventory), "present": archive.present, "missing": archive.missing}
        | {"digest": archive.digest, "signature": archive.found.signature}
        | near.document()
    )


def inspect_table(archive: Archive, near: Neighbours) -> list[str]:
    """Return `inspect` for people."""
    inventory = archive.inventory
    rows = [("CATALOG", "PACKAGE", "DEFAULT CHANNEL", "CHANNEL", "HEAD")]
    rows += [
        (catalog.name, package.name, package.default_channel, channel.name, channel.head)
        for catalog in inventory.catalogs
        for package in catalog.packages
        for channel in package.channels
    ]
    sums = totals(inventory)
    operators = (counted(sums["packages"], "operator"), counted(_versions(inventory), "version"))
    versions = f"{', '.join(operators)}; " if sums["packages"] else ""
    size = size_text(sums["bytes"])
    signed = f"signature: {_signature(archive)}"
    parts = [
        [heading_of(inventory, archive.digest), f"made {inventory.created} by {inventory.tool}", signed],
        request_lines(inventory.requested_by or "", inventory.purpose or ""),
        columns(rows, ((0,), (1, 2))) if inventory.catalogs or not inventory.carried_releases else [],
        _releases(inventory.carried_releases, stated=archive.found.signature is not SignatureState.VALID),
        [f"{versions}{counted(sums['images'], 'image')}, {counted(sums['blobs'], 'blob')}, {size}"],
        _volumes(archive),
        [f"here: {numbered(archive.present) or 'no volume'}"],
    ]
    # An increment is useless without its base: said before anybody carries the media further (ADR 0011).
    if holders := needed(inventory):
        labels = indented(base_labels(holders, inventory.known_bases))
        parts.append(["leaves out content of these, which must be on the mirror first:", *labels])
    if archive.missing:
        parts.append([f"not here: {numbered(archive.missing)}"])
    return paragraphs(*parts, problem_lines(inventory.problems), near.lines())


def _signature(archive: Archive) -> str:
    """Return the state of the signature for people."""
    key = archive.found.key
    if archive.found.signature is SignatureState.VALID and key is not None:
        return f"verified with the key {key.fingerprint}"
    return _SIGNATURES.get(archive.found.signature, archive.found.signature)


def _versions(inventory: Inventory) -> int:
    """Return the number of versions of all operators; one in several channels counts once."""
    packages = (package for catalog in inventory.catalogs for package in catalog.packages)
    return sum(len({one.name for channel in package.channels for one in channel.bundles}) for package in packages)


def _volumes(archive: Archive) -> list[str]:
    """Return the volumes with their sizes, and what is to be written on the medium of each; at most `_SHOWN`."""
    sizes, inventory = archive.volume_sizes(), archive.inventory
    rows = [("VOLUME", "SIZE", "LABEL OF THE MEDIUM")]
    rows += [
        (volume.name, _size(volume, sizes), medium_label(inventory, archive.digest, number))
        for number, volume in enumerate(inventory.volumes, 1)
    ]
    return shortened(columns(rows), 1 + _SHOWN, " volumes (--format json lists all)")


def _size(volume: VolumeRecord, sizes: Mapping[str, int]) -> str:
    # The size of a file that is not here is not known to the byte: its metadata follow the content.
    return size_text(sizes[volume.name]) if volume.name in sizes else f"{size_text(volume.data_size)}, not here"


def _releases(releases: Sequence[ReleaseRecord], *, stated: bool) -> list[str]:
    # The export has verified them; without the signature of the archive anybody can have written so.
    rows = [("RELEASE", "ARCH", "SIGNED BY (not verified)" if stated else "SIGNED BY", "PAYLOAD")]
    rows += [(one.version, one.architecture, signed_by(each.key for each in one.signatures), one.digest) for one in releases]
    return columns(rows) if releases else []


def verify_table(
    result: VerifyResult, words: Sequence[str] = (), taken: Measured | None = None, *, asked: bool = False
) -> list[str]:
    """Return `verify` for people; `words` name the archive in a further command; `asked`: a re-request is written."""
    lines = [result.heading, f"signature: {result.signature}"]
    lines += [f"{name}: {status}" for name, status in result.volumes]
    # A scratched disc gives thousands of lines; the verdict must stay on the screen.
    lines += result.damage[:_SHOWN]
    bad_blobs = [
        f"bad: {bad.digest} in {bad.volume} at offset {bad.offset}, "
        f"needed by {enumeration(bad.needed_by, _SHOWN) or 'no image'}"
        for bad in result.bad
    ]
    lines += shortened(bad_blobs, _SHOWN, " bad blobs (--format json lists all)")
    if result.repairable:
        lines.append(f"parity is present for {', '.join(result.repairable)}: hub-import repair restores them")
    lines += result.neighbours.lines()
    # Capitals, because the line is often read from a distance, in a log of a hundred lines.
    verdict = "whole" if result.ok else "NOT whole"
    return [
        *lines,
        f"{counted(result.checked, 'blob')} checked: the archive is {verdict}",
        # `whole` is said of the files: an officer would take it for all that was asked for.
        *([f"warning: {result.left_out}"] if result.left_out else []),
        *lasted(taken, "checking", "checked"),
        *_after_verify(result, words, asked=asked),
    ]


def _after_verify(result: VerifyResult, words: Sequence[str], *, asked: bool) -> list[str]:
    """Return what to do after a check: the next command, or how to get a whole archive that is signed with the key."""
    if result.ok:
        return [next_command("next", "hub-import", "deploy", *words, "--registry", "HOST:PORT")] if words else []
    if not result.is_trusted:
        return ["do not use it: ask the sender for the right public key, or for an archive that is signed with this one"]
    then: list[str] = []
    if words and result.bad and not (result.repairable or asked):
        then.append(
            next_command("to ask for damaged content again", "hub-import", "verify", *words, "--rerequest", "again.json")
        )
    if result.lacks_volumes:
        then.append(
            "bring the missing volumes, and verify again; hub-import push takes those that are here, and with --rerequest FILE "
            "asks for lost content"
        )
    if result.neighbours.unvouched:
        then.append("copy the files that are not signed again, with SHA256SUMS and SHA256SUMS.sig, or remove them")
    return then


def repair_document(results: Sequence[Repaired]) -> Document:
    """Return the JSON of `repair`; `lacking` counts the good blocks that it would have taken more."""
    volumes = [
        {
            "name": one.path.name,
            "status": one.status.value,
            "blockSize": one.block,
            "blocks": one.blocks,
            "bad": one.bad,
            "mended": one.repaired,
            "lacking": one.missing,
        }
        for one in results
    ]
    return {"ok": all(one.status is not RepairStatus.DAMAGED for one in results), "volumes": volumes}


def repair_table(results: Sequence[Repaired]) -> list[str]:
    """Return `repair` for people."""
    lines = []
    for one in results:
        found = f"{one.bad} of {counted(one.blocks, 'block')} of {size_text(one.block)} bad, {one.repaired} repaired"
        lines.append(f"{one.path}: {one.status}: {found if one.bad else 'no block bad'}")
        if one.status is RepairStatus.DAMAGED:
            missing = f"{counted(one.missing, 'good block')} ({size_text(one.missing * one.block)})"
            lines.append(f"  {missing} too few for the parity. Copy the volume again, or: hub-import verify --rerequest FILE")
    return lines


def push_document(result: PushResult) -> Document:
    """Return the JSON of `push`."""
    return {
        "ok": result.ok,
        "uploaded": result.uploaded,
        "mounted": result.mounted,
        "present": result.present,
        "failed": result.failed,
        "bytes": result.bytes,
        "waitingFor": result.waiting_for,
        "requires": result.requires,
        "imagesLeft": result.images_left,
        "imagesWaiting": result.images_waiting,
        "bases": result.bases,
        "record": result.record,
        "problems": result.problems,
    }


def push_table(result: PushResult, words: Sequence[str] = (), taken: Measured | None = None) -> list[str]:
    """Return `push` for people; `words` name the archive and the mirror in a further command."""
    # Problems come first, the totals last: the end of the output is what a terminal shows.
    lines = problem_lines(result.problems)
    waiting = f", {result.images_waiting} could not be brought yet" if result.images_waiting else ""
    lines.append(
        f"{counted(result.images, 'image')}: {result.images_present} already there{waiting}; "
        f"{counted(result.uploaded, 'blob')} uploaded ({size_text(result.bytes)}), {result.mounted} mounted, "
        f"{result.present} present, {result.failed} failed"
    )
    lines += lasted(taken, "pushing", "pushed", result.bytes)
    # Known since the export, and repeated here: the person at the mirror never saw the output of hub-export.
    if result.images_left_out:
        lines.append(
            f"{counted(result.images_left_out, 'image')} could not be fetched when the archive was made (inspect names them)"
        )
    # Not a problem: another process of the same Job has the blobs that these images still lack.
    if result.images_left:
        lines.append(
            f"{counted(result.images_left, 'image')} left to other shards: the process that pushes its last blob tags it; "
            "what is left when all are done, a push of the whole archive brings"
        )
    if result.waiting_for:
        # Volumes may arrive in any order, so the sentence does not name a next one.
        then = "push it too" if len(result.waiting_for) == 1 else "push them too, in any order"
        lines.append(f"waiting for: {numbered(result.waiting_for)}; {then}")
    after = [next_command("next", "hub-import", "apply", *words)] if result.ok and words else []
    after += [next_command("then again", "hub-import", "push", *words)] if result.failed and words else []
    return [*lines, *_required(result), *after]


def _required(result: PushResult) -> list[str]:
    """Return the archives that must come first, and the receipts that say that the mirror had more."""
    # With digests, because directories and labels of media may be named differently on both sides.
    receipts = [digest for digest in result.requires if is_receipt(digest, result.bases)]
    archives = [digest for digest in result.requires if digest not in receipts]
    lines = ["these archives must come first:", *indented(base_labels(archives, result.bases))] if archives else []
    if archives:
        lines.append("push them, then this one again (hub-import inspect shows name and digest of an archive)")
    if receipts:
        lines += ["the mirror lacks content that was confirmed (another mirror, or deleted since):"]
        lines += indented(base_labels(receipts, result.bases))
        lines.append("push its archives, or ask for it: this push with --rerequest FILE, then hub-export create --only FILE")
    return lines


def receipt_document(receipt: Receipt, file: Path) -> Document:
    """Return the JSON of `receipt`: the file, and what it confirms."""
    said = {"inventories": receipt.inventories, "archives": receipt.archives, "blobs": len(receipt.blobs)}
    return {"receipt": str(file), **said}


def receipt_table(receipt: Receipt, file: Path) -> list[str]:
    """Return `receipt` for people."""
    # Only a receipt for whole inventories lets the next export leave out all of their blobs.
    whole = "everything of" if receipt.inventories else "not everything of the archive"
    archives = indented(base_labels(receipt.inventories, receipt.archives))
    return [f"{file}: {counted(len(receipt.blobs), 'blob is', 'blobs are')} there, {whole}", *archives]


def remembered_document(found: Remembered | None) -> Document:
    """Return what `status` adds about the archives of a mirror; nothing where it was not asked."""
    return (
        {} if found is None else {"mirror": found.mirror, "mirrorArchives": found.archives, "unusableRecords": found.unusable}
    )


def remembered_table(found: Remembered | None) -> list[str]:
    """Return the archives of a mirror for people."""
    if found is None:
        return []
    lines = [f"the mirror {found.mirror} remembers {counted(len(found.archives), 'archive')}"]
    rows = [("ARCHIVE", "NAME", "MADE", "PUSHED", "CONTENT")]
    rows += [(one.short, one.name or "", one.created, one.pushed, enumeration(one.content, _NAMED)) for one in found.archives]
    lines += columns(rows) if found.archives else []
    if found.unusable:
        lines += [f"record {tag}: cannot be used: {why}" for tag, why in sorted(found.unusable.items())]
        lines.append("push the archives of these records again with --heal, which writes them again; other tags can be deleted")
    elif not found.archives:
        lines.append(f"{found.repository} has no record; the next push of an archive stores one")
    return lines


def target_table(profile: TargetProfile, file: Path | None) -> list[str]:
    """Return `probe` for people."""
    registry = profile.registry
    answers = {
        "nested paths": registry.nested_paths,
        "sparse indexes": registry.sparse_indexes,
        "referrers": registry.referrers,
    }
    # An unknown ability is not a missing one: the export then assumes the common case (ADR 0016).
    said = {None: "not known", True: "yes", False: "no"}
    # Null without a note: the cluster was asked, and is none of OpenShift.
    release = "not known" if any(note.startswith("release:") for note in profile.notes) else "no OpenShift"
    lines = [
        f"release: {profile.openshift_release or release}",
        f"platforms: {', '.join(profile.platforms) if profile.platforms else 'not known'}",
        f"mirror {registry.address}: " + ", ".join(f"{what} {said[answer]}" for what, answer in answers.items()),
    ]
    rows = [("OPERATOR", "CHANNEL", "VERSION", "CATALOG", "NAMESPACE")]
    rows += [(o.package, o.channel, o.version or o.csv, o.catalog, o.namespace) for o in profile.operators or ()]
    lines += columns(rows) if profile.operators else ["operators: " + ("none" if profile.operators == () else "not known")]
    lines += [f"not seen: {note}" for note in profile.notes]
    return [*lines, *([f"written: {file}"] if file else [])]
