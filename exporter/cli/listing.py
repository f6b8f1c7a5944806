"""What `list`, `plan` and `create` print: the JSON documents of docs/reference/cli.md, and the tables that people read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from common.archive.inventory import BaseRecord, BlobRecord, ImageKind, ImageRecord, PackageRecord, Problem, ProblemCode
from common.archive.naming import base_labels, heading_of, left_out_text, title
from common.archive.volume import REPORT_NAME
from common.cli import terminal
from common.cli.results import label_lines, problem_lines, request_lines, totals
from common.cli.summary import indented_command, lasted, next_command, same_command
from common.files import size_text
from common.table import columns
from common.text import counted, enumeration, indented, numbered, paragraphs
from exporter.catalog import records
from exporter.catalog.presentation import names_of, presentation_of
from exporter.cli import kit, releases
from exporter.distributed import plan_file
from exporter.plan.installed import left_behind, unsupported
from exporter.report.markdown import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from common.archive.inventory import Inventory
    from common.cli.summary import Measured
    from common.oci.image import Digest
    from common.target_profile import TargetProfile
    from exporter.catalog.steps import Choice, Chosen
    from exporter.distributed.part_directory import MadePart
    from exporter.report.preview import Preview
    from exporter.settings import ArchiveTerms
    from exporter.workflow import Exported


_SUMMARY = 300  # characters of what an operator is for; descriptions have pages
_SHARING = 4  # operators that are named as sharing the most


Document = dict[str, Any]
_NOTHING = ["no packages"]  # in place of a table that has a header only


def list_document(
    chosen: Sequence[Chosen], target: TargetProfile | None, *, explain: bool, asked: Sequence[Problem] = ()
) -> Document:
    """Return the JSON of `list`.

    `target`: whose operators should not be left behind; `asked`: problems of the image set and of the release.
    """
    catalogs = [
        {
            "catalog": item.opened.source,
            # Catalog tags move daily: the digest is the only proof of which catalog was read.
            "digest": item.opened.digest,
            "packages": list(_listed(item)),
        }
        for item in chosen
    ]
    document: Document = {"catalogs": catalogs, "problems": [*asked, *_problems(chosen, target)]}
    # Reasons are one entry for each bundle, tens of thousands for an index: only on request.
    return document | ({"reasons": _reasons(chosen)} if explain else {})


def list_table(
    chosen: Sequence[Chosen],
    packages: Sequence[str],
    target: TargetProfile | None,
    *,
    explain: bool,
    asked: Sequence[Problem] = (),
) -> list[str]:
    """Return `list` for people: a line a channel; of named packages, a line a version with its update edges."""
    parts = []
    for item in chosen:
        parts.append([f"{item.opened.source}" + (f"  {item.opened.digest}" if item.opened.digest else "")])
        # Named packages: a person looks for a version and its update edges. Otherwise an overview of channels.
        offered = records.package_records(item.selection.catalog)
        parts += [_names(item, offered), _versions(item)] if packages else [channel_lines(offered, _presented(item, offered))]
    if explain:
        parts.append(_explained(chosen))
    return paragraphs(*parts, problem_lines([*asked, *_problems(chosen, target)]))


def _listed(item: Chosen) -> Iterator[Document]:
    """Yield the packages of a catalog with their names in OperatorHub, null where the catalog has none."""
    for record in records.package_records(item.selection.catalog):
        name, _ = names_of(item.selection.catalog.packages[record.name], _head(record))
        yield {"name": record.name, "displayName": name or None, **msgspec.to_builtins(record)}


def _presented(item: Chosen, offered: Iterable[PackageRecord]) -> dict[str, tuple[str, str]]:
    """Return the name in OperatorHub and the provider of each package, empty where the catalog has none."""
    packages = item.selection.catalog.packages
    return {record.name: names_of(packages[record.name], _head(record)) for record in offered}


def _names(item: Chosen, offered: Iterable[PackageRecord]) -> list[str]:
    """Return the name in OperatorHub of each package that has one, with the provider, and what it is for."""
    lines = []
    for record in offered:
        found = presentation_of(item.selection.catalog.packages[record.name], _head(record))
        provider = f" ({found.publisher})" if found.publisher else ""
        lines += [f"{record.name}: {found.title}{provider}"] if found.title else []
        about = plain(found.summary, _SUMMARY)
        lines += [f"  {about}"] if about else []
    return lines


def _head(record: PackageRecord) -> str:
    return next((channel.head for channel in record.channels if channel.name == record.default_channel), "")


def mapping_table(written: Path, problems: Sequence[Problem]) -> list[str]:
    """Return `create --manifests-only` for people: the file, and the images that are missing in it."""
    return paragraphs(problem_lines(problems), [str(written)])


def plan_document(preview: Preview, *, explain: bool) -> Document:
    """Return the JSON of `plan`: the inventory's fields without places, totals, sizes by operator, and the reasons."""
    plan = preview.planned.plan
    # The JSON of a plan is the inventory as it would be: one format for plan, archive and diff.
    inventory = preview.spec.planned_inventory
    # Encoded when it is printed: as Python's values, all records would take twice the memory of the plan.
    fields = {each.encode_name: getattr(inventory, each.name) for each in msgspec.structs.fields(inventory)}
    document: Document = {name: value for name, value in fields.items() if value is not msgspec.UNSET}
    document["totals"] = totals(inventory)
    document |= {"operators": preview.operator_records(), "sizes": preview.size_record()}
    if plan.releases:
        document["releases"] = preview.release_records()
    return document | ({"reasons": _reasons(preview.planned.chosen)} if explain else {})


def plan_table(preview: Preview, document: Document, *, explain: bool) -> list[str]:
    """Return `plan` for people; `document`: its JSON."""
    plan = preview.planned.plan
    parts = [channel_lines(catalog.packages) for catalog in plan.catalogs]
    parts += releases.planned_table(document.get("releases", []), plan.update_graph)
    more = ", plus the catalogs' layers while it works" if plan.catalogs else ""
    needs = f"needs {size_text(preview.room)} on disk{more}"
    # Tables and JSON take their numbers from one place, so that they cannot disagree.
    parts.append([_sums(document["totals"]), *_attached(plan.images), *_elsewhere(plan.elsewhere.values(), plan.bases), needs])
    parts += _sizes(document["operators"], document["sizes"], several=len(plan.catalogs) > 1)
    if explain:
        parts.append(_explained(preview.planned.chosen))
    terms = preview.settings
    named = [f"name of the archive: {terms.name}"] if terms.name else []
    return paragraphs(*parts, [*named, *request_lines(terms.requested_by, terms.purpose)], problem_lines(plan.problems))


def _sizes(operators: Sequence[Document], sizes: Document, *, several: bool) -> list[list[str]]:
    """Return the operators with their sizes, those that were not requested in a table of their own, and what they share."""
    # The name of the catalog only where there are several: two of them can have the same package.
    named = [(f"{one['catalog']}/{one['package']}" if several else one["package"], one) for one in operators]
    requested = [("OPERATOR", "ADDS", "TOTAL"), *(_size_row(name, one) for name, one in named if not one["because"])]
    needed = [("ADDED BECAUSE NEEDED", "ADDS", "TOTAL", "WHY")]
    needed += [(*_size_row(name, one), one["because"]) for name, one in named if one["because"]]
    others = {"catalogs": "catalogs", "additionalImages": "additional images", "attachments": "signatures and attachments"}
    notes = [f"{what}: {size_text(sizes[key])}" for key, what in others.items() if sizes[key]]
    if sizes["shared"]:
        largest = sizes["sharedBy"][0]
        names = [name if several else name.rpartition("/")[2] for name in largest["names"]]
        most = f"{size_text(largest['bytes'])} of it by {enumeration(names, _SHARING)}"
        notes.append(f"shared by several, counted once: {size_text(sizes['shared'])}, {most}")
    return [columns(rows) for rows in (requested, needed) if len(rows) > 1] + ([notes] if operators else [])


def _size_row(name: str, one: Document) -> tuple[str, str, str]:
    return name, size_text(one["ownBytes"]), size_text(one["totalBytes"])


def created_document(made: Exported, directory: Path | str) -> Document:
    """Return the JSON of `create`."""
    inventory = made.inventory
    return {
        "archive": str(directory),
        "digest": made.digest,
        "name": inventory.name or None,
        "created": inventory.created,
        "totals": totals(inventory),
        "requires": inventory.requires,
        "bases": inventory.known_bases,
        "problems": inventory.problems,
        **({"kit": kit.document(made.kit)} if made.kit else {}),
    }


def tell_finished(made: Exported, directory: Path | str) -> None:
    """Report on stderr that an archive was there already."""
    if made.earlier:
        terminal.tell(f"{directory} is already complete: the same request made it, and nothing was fetched")


def created_table(made: Exported, directory: Path | str, taken: Measured | None = None) -> list[str]:
    """Return `create` for people: the content of the archive, what is missing, and the next step."""
    document, inventory = created_document(made, directory), made.inventory
    names = numbered([volume.name for volume in inventory.volumes])
    notes = [*_attached(inventory.images), *_elsewhere(inventory.blobs.values(), inventory.known_bases)]
    archive = heading_of(inventory, document["digest"])
    # The problems are many lines above, and the totals count all requested images.
    lacking = left_out_text(inventory)
    notes += [f"warning: {lacking}"] if lacking else []
    return paragraphs(
        problem_lines(inventory.problems),
        kit.table(made.kit) if made.kit else [],
        [archive, f"{directory}: {_sums(document['totals'])}", *notes, f"volumes: {names}"],
        label_lines(inventory, document["digest"]),
        [f"report: {_inside(directory, REPORT_NAME)}", *lasted(taken, "fetching", "fetched")],
        _once_more(inventory, str(directory)),
        # The next step is the command itself: the person with the media rarely has the documentation.
        [next_command("On the other side", "hub-import", "deploy", str(directory), "--registry", "HOST:PORT")],
    )


def _once_more(inventory: Inventory, directory: str) -> list[str]:
    """Return the command that fetches again, where the archive lacks blobs: it is finished, and is not changed any more."""
    lacking = sum(each.code == ProblemCode.BLOB_UNAVAILABLE for each in inventory.problems if each.severity == "error")
    if not lacking:
        return []
    typed = same_command()
    words = [f"{word}-again" if word.removeprefix("--output=") == directory else word for word in typed]
    said = f"{counted(lacking, 'image')} of the archive incomplete; to fetch again, into another directory"
    if words == typed:
        return [f"{said}, run the same command with another --output."]
    return [f"{said}:", indented_command(words)]


def _inside(directory: Path | str, name: str) -> str:
    return f"{str(directory).rstrip('/')}/{name}"


def making_document(preview: Preview) -> Document:
    """Return what a plan that is written to a file says beyond that: all that making the archive needs."""
    made: Document = {"making": plan_file.making_of(preview.spec, preview.facts)}
    # A disconnected cluster updates only with the signatures of the archive, so a plan in a file has them.
    return made | ({"releases": preview.release_records(whole=True)} if preview.planned.plan.releases else {})


def part_document(made: MadePart | None) -> Document:
    """Return the JSON of `create` with --volumes or --shards; None: there is no volume left for this shard."""
    if made is None:
        # More shards than volumes is normal for a Job with a fixed number of completions: status 0.
        return {"part": None, "volumes": [], "lost": {}}
    return {"part": str(made.directory), "volumes": list(made.volumes), "lost": made.record.lost}


def part_table(made: MadePart | None, terms: ArchiveTerms) -> list[str]:
    """Return the same for people; `terms`: those of the whole archive."""
    if made is None:
        return ["nothing to do: the archive has fewer volumes than there are shards"]
    lost = [f"{digest}: {each.error.about(digest)}" for digest, each in made.record.lost.items()]
    lost += [f"{counted(len(lost), 'blob')} could not be fetched; the same command asks for them again"] if lost else []
    # A part is always a range, so two numbers name it.
    names = f"volumes {made.volumes[0]} to {made.volumes[-1]}" if len(made.volumes) > 1 else f"volume {made.volumes[0]}"
    done = ", ".join(filter(None, (f"{made.directory}: {names} of {made.count}", title(terms.name, terms.created))))
    joins = "DIR… --output DIR" if isinstance(made.directory, Path) else f"{made.directory} --output {made.directory}"
    joins += " --scratch DIR" if made.record.lost and not isinstance(made.directory, Path) else ""
    return paragraphs(lost, [done], [f"When all parts are there: hub-export finish {joins}"])


def _sums(sums: dict[str, int]) -> str:
    """Return the content of an archive in a line: operators and releases, where there are any, then the whole."""
    releases = [counted(sums["releases"], "release")] if sums["releases"] else []
    operators = [counted(sums[key], word) for key, word in (("packages", "package"), ("bundles", "bundle"))]
    parts = [*releases, *(operators if sums["packages"] or not releases else [])]
    parts += [counted(sums[key], word) for key, word in (("images", "image"), ("blobs", "blob"))]
    return ", ".join((*parts, size_text(sums["bytes"]), counted(sums["volumes"], "volume")))


def _attached(images: Iterable[ImageRecord]) -> list[str]:
    """Return a line on signatures and attachments; none where there are none."""
    kinds = Counter(image.kind for image in images)
    named = ((kinds[ImageKind.SIGNATURE], "signature"), (kinds[ImageKind.ATTACHMENT], "attachment"))
    found = " and ".join(counted(number, word) for number, word in named if number)
    # Signatures and attachments have publishers of their own; an approving officer asks where further images come from.
    return [f"among the images: {found}"] if found else []


def _elsewhere(blobs: Iterable[BlobRecord], bases: Mapping[Digest, BaseRecord]) -> list[str]:
    """Return lines about content that was left out, and the archives that have it; none without any."""
    left = [blob for blob in blobs if blob.in_ is not None]
    # The archives that must be on the mirror before this one.
    holders = base_labels({blob.in_ for blob in left if blob.in_}, bases)
    size = size_text(sum(blob.size for blob in left))
    return [f"left out: {counted(len(left), 'blob')}, {size}, which the mirror has from", *indented(holders)] if left else []


def channel_lines(packages: Iterable[PackageRecord], presented: Mapping[str, tuple[str, str]] | None = None) -> list[str]:
    """Return a line for each channel: the head is the version that OLM installs from it.

    `presented`: the name in OperatorHub and the provider of each package, where they are known.
    """
    rows = [("PACKAGE", "DEFAULT CHANNEL", "CHANNEL", "HEAD", "VERSIONS", "NAME", "PROVIDER")]
    rows += [
        (package.name, package.default_channel, channel.name, channel.head, str(len(channel.bundles)), *names)
        for package in packages
        for names in [(presented or {}).get(package.name, ("", ""))]
        for channel in package.channels
    ]
    if not rows[1:]:
        return _NOTHING
    if not presented:
        return columns([row[:5] for row in rows], ((0, 1),))
    return columns(rows, ((0, 1),), (5, 6))


def _versions(item: Chosen) -> list[str]:
    rows = [("PACKAGE", "CHANNEL", "BUNDLE", "VERSION", "REPLACES", "SKIPS", "SKIP RANGE")]
    for package in item.selection.catalog.packages.values():
        for name in sorted(package.channels):
            channel = package.channels[name]
            entries = {entry.name: entry for entry in channel.entries}
            for bundle in records.channel_record(package, channel).bundles:
                entry = entries[bundle.name]
                # Some bundles skip fifty versions; their names would push every other column off the screen.
                skips = str(len(entry.skips)) if len(entry.skips) > 3 else ",".join(entry.skips)  # noqa: PLR2004 - fits a line
                rows.append((package.name, name, bundle.name, bundle.version or "-", entry.replaces, skips, entry.skip_range))
    return columns(rows, ((0, 1),)) if rows[1:] else _NOTHING


def _reasons(chosen: Iterable[Chosen | Choice]) -> list[Document]:
    return [
        {
            "catalog": item.name,
            "package": reason.package,
            "bundle": reason.bundle,
            "kept": reason.kept,
            "reason": reason.reason,
        }
        for item in chosen
        for reason in item.reasons
    ]


def _explained(chosen: Iterable[Chosen | Choice]) -> list[str]:
    rows = [("", "PACKAGE", "BUNDLE", "WHY")]
    rows += [
        ("keep" if reason["kept"] else "drop", reason["package"], reason["bundle"], reason["reason"])
        for reason in _reasons(chosen)
    ]
    return columns(rows, ((1,),))


def release_problems(chosen: Iterable[Chosen], release: tuple[int, int] | None) -> list[Problem]:
    """Return the problems of the selections on the release of the cluster; none where it is not known."""
    if release is None:
        return []
    return [one for item in chosen for one in unsupported(records.package_records(item.selection.catalog), release)]


def _problems(chosen: Sequence[Chosen], target: TargetProfile | None) -> list[Problem]:
    return [*(problem for item in chosen for problem in item.selection.problems), *left_behind(chosen, target)]
