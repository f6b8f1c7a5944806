"""Selection of a smaller catalog by a request, with the reason for every bundle. Pure.

A requested package, channel or version that is missing is an error; a package that OLM would refuse is a problem, and others
are kept. Rules: docs/reference/selection.md, *Rules*; they are those of oc-mirror v2 except where that page names a difference.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from common.archive.inventory import Problem, ProblemCode
from common.errors import CatalogError, UsageError, each_fault, one_error
from exporter.catalog.go_json import GoError, decode
from exporter.catalog.model import (
    BUNDLE_OBJECT,
    CHANNEL,
    CSV_METADATA,
    Blob,
    Bundle,
    Catalog,
    Channel,
    Package,
    Property,
    narrowed,
    with_entries,
    with_objects,
)
from exporter.catalog.properties import ChannelPriority, decoded
from exporter.catalog.update_graph import (
    CUT_OFF,
    OUT_OF_REACH,
    STRANDED,
    Kept,
    UpdateGraph,
    everything,
    head_only,
    in_range,
    names,
    one_version,
)
from exporter.catalog.validation import blob_fault, validate_package
from exporter.imageset.model import ChannelRequest, OperatorRequest, PackageRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from common.version import Bounds, Version


_NEAR = 3  # similar names that an error suggests
_SHOWN = 20  # known names that an error lists
_MAX_FAULTS = 100  # of one catalog; for each of them all names are searched for similar ones


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a bundle is kept or not."""

    package: str
    bundle: str
    kept: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The kept part of a catalog. `reasons` has every bundle of the kept packages, by package and bundle name.

    `unmodified`: the whole catalog was requested, so the original image is carried unchanged. `notes` are sentences for people:
    a default channel that was chosen, a channel that became empty.
    """

    catalog: Catalog
    reasons: tuple[Reason, ...]
    problems: tuple[Problem, ...]
    unmodified: bool = False
    notes: tuple[str, ...] = ()

    def with_problems(self, more: Iterable[Problem]) -> Selection:
        """Return a copy with more problems."""
        return replace(self, problems=(*self.problems, *more))


@dataclass(slots=True)
class _Found:
    """The state of a selection."""

    packages: dict[str, Package] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)  # optional packages that the catalog does not have


def select(catalog: Catalog, request: OperatorRequest) -> Selection:
    """Return the selection of `request` from `catalog`.

    Raises UsageError for an unknown package, channel or version, naming near ones, and for a default channel that would be
    dropped while several others remain, all in one error; CatalogError when no requested package could be served. The result is
    empty when all packages of the request are optional and absent.
    """
    left_out = request.excluded(catalog.packages)
    whole = request.full and not request.packages and not left_out
    # No packages means all of them: with `full` entirely, else the head of each channel.
    wanted = request.packages or tuple(PackageRequest(name) for name in catalog.packages if name not in left_out)
    if not wanted and left_out:
        raise UsageError(f"catalog {request.catalog}: exclude leaves out all of its packages", hint="Exclude fewer of them.")
    found = _Found(problems=_problems_of(catalog, request), notes=list(_unmatched(catalog, request)))
    found.problems += catalog.unread
    if faults := _add_all(found, catalog, replace(request, packages=wanted), whole):
        raise one_error(f"catalog {request.catalog}", faults, cut=len(each_fault(faults)) >= _MAX_FAULTS)
    if not catalog.packages:
        found.problems.append(_problem(request.catalog, "the catalog has no packages", "warning"))
    allowed = (whole and not catalog.packages) or (request.packages and found.absent.issuperset(one.name for one in wanted))
    if not found.packages and not allowed:  # an image without packages would start, and offer nothing
        raise _nothing_left(request, found)
    kept = Catalog(found.packages, tuple(_readable(catalog.others, found.problems)))
    return Selection(kept, tuple(found.reasons), tuple(found.problems), whole, tuple(found.notes))


def extended(
    selection: Selection, package: Package, channel: str, entries: Mapping[str, str]
) -> tuple[Selection, tuple[str, ...]]:
    """Add entries of a channel, of a package that may be kept partly or not at all; return the names of added bundles too.

    `package` is the whole package of the catalog; `entries`: the reason for each. Raises CatalogError when OLM would refuse the
    result.
    """
    old = selection.catalog.packages.get(package.name)
    kept = {name: {entry.name for entry in one.entries} for name, one in old.channels.items()} if old else {}
    kept[channel] = kept.get(channel, set()) | set(entries)
    # A package added for a dependency is kept with one channel, which then must be the default.
    default = old.default_channel if old else package.default_channel if package.default_channel in kept else channel
    channels = {name: with_entries(package.channels[name], kept[name]) for name in sorted(kept)}
    chosen = narrowed(package, channels, default)
    # Checked for each addition, so that the caller can try another bundle; a broken package would stop the whole catalog.
    if fatal := [finding for finding in validate_package(chosen) if finding.fatal]:
        raise CatalogError(f"{package.name}: {fatal[0].message}")
    added = tuple(name for name in chosen.bundles if old is None or name not in old.bundles)
    known = [one for one in selection.reasons if (one.package, one.bundle) not in {(package.name, name) for name in added}]
    known += [Reason(package.name, name, kept=True, reason=entries[name]) for name in added]
    if old is None:
        known += [Reason(package.name, n, kept=False, reason="nothing requires it") for n in package.bundles if n not in added]
    packages = dict(sorted((dict(selection.catalog.packages) | {package.name: chosen}).items()))
    catalog = replace(selection.catalog, packages=packages)
    reasons = tuple(sorted(known, key=lambda one: (one.package, one.bundle)))
    return replace(selection, catalog=catalog, reasons=reasons), added


def _add_all(found: _Found, catalog: Catalog, request: OperatorRequest, whole: bool) -> list[UsageError]:
    """Select from each package of the request; return the faults."""
    faults: list[UsageError] = []
    for one in sorted(request.packages, key=lambda one: one.name):
        if len(faults) >= _MAX_FAULTS:
            break
        package = catalog.packages.get(one.name)
        if package is None and one.optional:
            found.absent.add(one.name)
            found.problems.append(_absent(one.name, request, catalog))
            continue
        if package is None and catalog.unread:  # it may be in a file that cannot be read, and a mistyped name is no worse
            if not any(problem.subject == one.name for problem in catalog.problems):
                near = _unknown("package", one.name, "", catalog.packages).hint
                found.problems.append(_problem(one.name, f"left out: not in the files that can be read. {near}"))
            continue
        if package is None:
            faults.append(_unknown("package", one.name, f"catalog {request.catalog}", catalog.packages))
            continue
        try:
            _add(found, package, _with_versions(package, one), request.full, whole)
        except UsageError as error:
            faults.append(error)
    return faults


def _add(found: _Found, package: Package, request: PackageRequest, full: bool, whole: bool) -> None:
    """Select from one package; one that OLM would refuse is left out, with a problem."""
    try:
        chosen, outcomes, notes = _select_package(package, request, full)
    except CatalogError as error:
        found.problems.append(_problem(package.name, f"left out: {error.message}"))
        return
    findings = list(validate_package(chosen))
    if fatal := [finding for finding in findings if finding.fatal]:
        found.problems += [_problem(one.subject, f"package left out, for OLM would refuse it: {one.message}") for one in fatal]
        return
    # References that cannot be parsed are reported by `related_images.py`, with the name of the image.
    found.problems += [_problem(one.subject, one.message) for one in findings if "image reference" not in one.message]
    found.packages[package.name] = package if whole else chosen
    found.reasons += _reasons(package, chosen, outcomes, whole)
    found.problems += _unreachable(package, outcomes)
    found.notes += notes


def _select_package(package: Package, request: PackageRequest, full: bool) -> tuple[Package, Mapping[str, Kept], list[str]]:
    """Return the smaller package, the outcome of each of its requested channels, and notes."""
    outcomes = {channel.name: kept for channel, kept in _channels(package, request, full)}
    channels = {name: with_entries(package.channels[name], kept.kept) for name, kept in outcomes.items() if kept.kept}
    cut = _cut_off(package, request, outcomes)
    notes = [
        f"{package.name}: channel {name} is left out: {_why_empty(package, cut.get(name, {}))}"
        for name in outcomes
        if name not in channels
    ]
    if not channels:
        raise _nothing_in_range(package, request, cut)
    default, why = _default_channel(package, request, tuple(channels))
    return narrowed(package, channels, default), outcomes, [*notes, *why]


def _channels(package: Package, request: PackageRequest, full: bool) -> Iterator[tuple[Channel, Kept]]:
    # Bundles without a SemVer version are in no range, and are kept only where they connect others.
    versions = {name: bundle.version for name, bundle in package.bundles.items() if bundle.version is not None}
    if not package.channels:
        raise CatalogError(f"package {package.name} has no channels")
    faults: list[UsageError] = []
    for name, bounds in _wanted_channels(package, request, faults):
        channel = package.channels[name]
        graph = UpdateGraph.of(channel.entries, f"package {package.name}, channel {name}")
        kept = _of_channel(graph, versions, bounds, name, full)
        # An exact version of a named channel is a request for one bundle; a range may well be empty in a channel.
        if not kept.kept and bounds.exact and request.channels:
            faults.append(_unknown_version(package, name, bounds.exact, graph, versions))
        yield channel, kept
    if faults:
        raise one_error(f"package {package.name}", faults)


def _wanted_channels(package: Package, request: PackageRequest, faults: list[UsageError]) -> Iterator[tuple[str, Bounds]]:
    """Yield the requested channels with their ranges, their own or that of the package. Unknown ones go into `faults`."""
    if not request.channels:
        yield from ((name, request.bounds) for name in package.channels)
    for one in sorted(request.channels, key=lambda one: one.name):
        if one.name in package.channels:
            # The package's range applies to channels that are named without one (oc-mirror v2 does the same).
            yield one.name, request.bounds if one.bounds.open else one.bounds
        elif len(faults) < _MAX_FAULTS:
            faults.append(_unknown("channel", one.name, f"package {package.name}", package.channels))


def _of_channel(graph: UpdateGraph, versions: Mapping[str, Version], bounds: Bounds, name: str, full: bool) -> Kept:
    if full:
        return everything(graph, name)
    if bounds.open:
        return head_only(graph, name)
    if bounds.exact:
        return one_version(graph, versions, bounds.exact)
    return in_range(graph, versions, bounds, name)


def _default_channel(package: Package, request: PackageRequest, kept: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return the default channel of the selection, and a note when it is not that of the catalog."""
    wanted = request.default_channel
    if wanted and wanted not in kept:
        raise UsageError(
            f"package {package.name}: defaultChannel {wanted!r} is not among the channels kept: {', '.join(kept)}",
            hint="Keep that channel too, or name one of those.",
        )
    if wanted or package.default_channel in kept:
        return wanted or package.default_channel, []
    # A fault of the catalog, not of the request: a problem of the package, and no error.
    if len(kept) > 1 and package.default_channel not in package.channels:
        raise CatalogError(
            f"its default channel {package.default_channel!r} does not exist; set defaultChannel to one of: {', '.join(kept)}"
        )
    # Subscriptions without a channel follow the default one, so it is not chosen for the user among several, except by their
    # publisher.
    if len(kept) > 1 and (first := _first_by_priority(package, kept)):
        name, priority = first
        dropped = f"{package.default_channel!r} is not kept"
        return name, [
            f"{package.name}: {name} becomes the default channel, for {dropped} and its priority {priority} is highest"
        ]
    if len(kept) > 1:
        raise UsageError(
            f"package {package.name}: the selection drops its default channel {package.default_channel!r}",
            hint=f"Keep that channel too, or set defaultChannel to one of: {', '.join(kept)}",
        )
    return kept[0], [f"{package.name}: {kept[0]} becomes the default channel, for {package.default_channel!r} is not kept"]


def _first_by_priority(package: Package, kept: Collection[str]) -> tuple[str, int] | None:
    """Return the channel of the highest priority, with it; None where no channel has one, or several the same."""
    found = {name: max(values) for name in kept if (values := _priorities(package.channels[name]))}
    highest = [name for name, priority in found.items() if priority == max(found.values())]
    # oc-mirror v1 takes any of several (pkg/operator/diff/internal/diff.go, setDefaultChannel), which changes between two runs.
    return (highest[0], found[highest[0]]) if len(highest) == 1 else None


def _priorities(channel: Channel) -> list[int]:
    """Return the values of the `olm.channel` properties of a channel that opm can read."""
    fields = msgspec.json.decode(channel.blob.view, type=dict[str, msgspec.Raw])
    listed = next((value for name, value in fields.items() if name.casefold() == "properties"), msgspec.Raw(b"null"))
    try:
        properties = decode(listed, tuple[Property, ...])
    except GoError:
        return []
    return [one.priority for one in decoded(properties, CHANNEL, ChannelPriority) if one is not None]


def _reasons(package: Package, chosen: Package, outcomes: Mapping[str, Kept], whole: bool) -> Iterator[Reason]:
    # The default channel first, so that its reason is the first that users read.
    order = sorted(outcomes, key=lambda name: (name != chosen.default_channel, name))
    not_requested: dict[str, list[str]] = {name: [] for name in package.bundles}
    for channel, entry in package.entries:
        if channel.name not in outcomes and entry.name in not_requested:
            not_requested[entry.name].append(channel.name)
    for name in package.bundles:
        kept = [why for channel in order if (why := outcomes[channel].kept.get(name))]
        dropped = [why for channel in order if (why := outcomes[channel].dropped.get(name))]
        if whole:
            yield Reason(package.name, name, kept=True, reason="whole catalog")
        elif kept:
            yield Reason(package.name, name, kept=True, reason=_joined(kept))
        else:
            elsewhere = [f"in channel {', '.join(not_requested[name])}, which was not asked for"] if not_requested[name] else []
            reason = _joined([*dropped, *elsewhere]) or "in no channel"
            yield Reason(package.name, name, kept=False, reason=reason)


def _joined(reasons: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(reasons))


def _readable(blobs: Iterable[Blob], problems: list[Problem]) -> Iterator[Blob]:
    """Yield the package-less blobs without those for which opm would refuse the catalog; these go into `problems`."""
    for blob in blobs:
        if why := blob_fault(blob):
            problems.append(_problem(blob.name, f"the {blob.schema} blob is left out, for OLM would refuse it: {why}"))
        else:
            yield blob


def _unreachable(package: Package, outcomes: Mapping[str, Kept]) -> Iterator[Problem]:
    """Yield a problem for each bundle that cannot be installed: stranded, or in no channel."""
    placed = {entry.name for _, entry in package.entries}
    for name in package.bundles:
        if name not in placed:
            yield _problem(f"{package.name}/{name}", "is in no channel, so it cannot be installed", "warning")
    for channel, kept in outcomes.items():
        for name, why in kept.dropped.items():
            if why in {STRANDED, CUT_OFF}:
                yield _problem(f"{package.name}/{name}", f"{why} (channel {channel})", "warning")


def _problems_of(catalog: Catalog, request: OperatorRequest) -> list[Problem]:
    """Return the problems of the reader; those of the requested packages where some are named, and none of excluded ones."""
    subjects = {one.subject.partition("/")[0] for one in catalog.problems}
    subjects -= request.excluded(subjects)
    if request.packages:
        subjects &= {one.name for one in request.packages}
    return [one for one in catalog.problems if one.subject.partition("/")[0] in subjects]


def _absent(name: str, request: OperatorRequest, catalog: Catalog) -> Problem:
    # Its near names, because a misspelt name is absent in every catalog.
    near = difflib.get_close_matches(name, sorted(catalog.packages), _NEAR)
    more = f"; near it: {', '.join(near)}" if near else ""
    message = f"optional, and catalog {request.catalog} does not have it{more}"
    return Problem("warning", ProblemCode.PACKAGE_ABSENT, name, message)


def _unmatched(catalog: Catalog, request: OperatorRequest) -> Iterator[str]:
    """Yield a note for each excluded name that the catalog does not have."""
    # No problem: one list of names serves several releases, and a misspelt name leaves out too little.
    known = {*catalog.packages, *(one.subject.partition("/")[0] for one in catalog.problems)}
    for name in request.exclude[:_MAX_FAULTS]:
        if name not in known and not replace(request, exclude=(name,)).excluded(known):
            near = difflib.get_close_matches(name, sorted(known), _NEAR)
            more = f"; near it: {', '.join(near)}" if near else ""
            yield f"catalog {request.catalog} has no package {name!r} to exclude{more}"


def _with_versions(package: Package, request: PackageRequest) -> PackageRequest:
    """Return the request with the version of each bundle that `minBundle` of v1alpha2 names as the minimum."""

    def minimum(one: PackageRequest | ChannelRequest) -> str:
        if not one.min_bundle:
            return one.min_version
        bundle = package.bundles.get(one.min_bundle)
        if bundle is None:
            raise _unknown("bundle", one.min_bundle, f"package {package.name}", package.bundles)
        if bundle.version is None:
            raise UsageError(f"package {package.name}: minBundle {bundle.name} has no version", hint="Write minVersion.")
        return str(bundle.version)

    channels = tuple(replace(one, min_version=minimum(one)) for one in request.channels)
    return replace(request, min_version=minimum(request), channels=channels)


def _problem(subject: str, message: str, severity: Literal["error", "warning"] = "error") -> Problem:
    return Problem(severity, ProblemCode.CATALOG_INVALID, subject, message)


def _unknown(what: str, name: str, where: str, known: Iterable[str]) -> UsageError:
    listed = sorted(known)
    near = difflib.get_close_matches(name, listed, _NEAR)
    shown = ", ".join(listed[:_SHOWN]) + (", …" if len(listed) > _SHOWN else "")
    return UsageError(
        f"{where} has no {what} {name!r}",
        hint=f"Near it: {', '.join(near)}" if near else f"It has: {shown}" if shown else f"It has no {what}s.",
    )


def _unknown_version(
    package: Package, channel: str, wanted: Version, graph: UpdateGraph, versions: Mapping[str, Version]
) -> UsageError:
    if any(name in versions and versions[name].key == wanted.key for name in graph.stranded):
        message = f"package {package.name}, channel {channel}: version {wanted} is in range, but {STRANDED}"
        return UsageError(message, hint=_OTHERS)
    known = [str(versions[name]) for name in graph.entries if name in versions]
    return _unknown("version", str(wanted), f"package {package.name}, channel {channel}", known)


_OTHERS = "OLM refuses a channel with such entries: ask for other versions."
_Cut = dict[str, dict[str, str]]
"""Channel → entries that are in range and not kept → why."""


def _cut_off(package: Package, request: PackageRequest, outcomes: Mapping[str, Kept]) -> _Cut:
    """Return the entries in range of the channels of which nothing is kept."""
    found: _Cut = {}
    for name, bounds in _wanted_channels(package, request, []):
        for entry, why in {} if outcomes[name].kept else outcomes[name].dropped.items():
            bundle = package.bundles.get(entry)
            if bundle is not None and bundle.version is not None and bounds.contains(bundle.version):
                found.setdefault(name, {})[entry] = why
    return found


def _why_empty(package: Package, cut: Mapping[str, str]) -> str:
    if not cut:
        return "nothing in it is in range"
    return "; ".join(
        f"{names(some)} {'are' if len(some) > 1 else 'is'} in range, but {why}"
        for why in dict.fromkeys(cut.values())
        if (some := [_numbered(package, name) for name in cut if cut[name] == why])
    )


def _numbered(package: Package, name: str) -> str:
    bundle = package.bundles.get(name)
    return f"{name} ({bundle.version})" if bundle is not None and bundle.version is not None else name


def _how_to_reach(package: Package, cut: _Cut) -> str:
    """Return what would keep the entries that are cut off."""
    missed = {entry for entries in cut.values() for entry, why in entries.items() if why == OUT_OF_REACH}
    skipping = {
        entry.name for channel, entry in package.entries if channel.name in cut and not missed.isdisjoint(entry.skips)
    } - missed
    if not skipping:
        return _OTHERS
    some = names(_numbered(package, name) for name in skipping)
    return f"Widen the range so that it has {some}, over which the update from there leads, or ask for `full: true`."


def _nothing_in_range(package: Package, request: PackageRequest, cut: _Cut) -> UsageError:
    if cut:
        each = "; ".join(f"channel {name}: {_why_empty(package, entries)}" for name, entries in [*cut.items()][:_NEAR])
        return UsageError(f"package {package.name}: nothing of the range can be kept: {each}", hint=_how_to_reach(package, cut))
    known = sorted((bundle.version for bundle in package.bundles.values() if bundle.version), key=lambda one: one.key)
    exact = request.bounds.exact
    if exact:
        return _unknown("version", str(exact), f"package {package.name}", [str(one) for one in known])
    asked = [(request.name, request.bounds), *((one.name, one.bounds) for one in request.channels)]
    ranges = ", ".join(f"{bounds.text} of {name}" for name, bounds in asked if not bounds.open)
    extent = f"Its versions go from {known[0]} to {known[-1]}." if known else "It has no versions."
    return UsageError(f"package {package.name}: nothing is in the range {ranges}", hint=extent)


def _nothing_left(request: OperatorRequest, found: _Found) -> CatalogError:
    first = found.problems[0] if found.problems else None
    subject = f"{first.subject}: " if first and first.subject != request.catalog else ""
    why = f": {subject}{first.message}" if first else ""
    return CatalogError(
        f"nothing of catalog {request.catalog} could be served{why}",
        hint="hub-export list --explain shows what OLM would refuse of it.",
    )


# Bundles that need their manifests in the catalog. Heads, because OLM's package server lists a channel only with the metadata
# of its head, and an SQLite catalog has them only for its own heads. All bundles for OpenShift 4.3, whose OLM 0.13 cannot
# unpack bundle images.

Resources = tuple[Any, ...]


def filled(selection: Selection, resources: Callable[[Bundle], Resources], *, every: bool) -> Selection:
    """Return the selection with objects inlined in every bundle that needs them: heads, or with `every` all.

    A whole catalog stays unchanged, as its image does.
    """
    if selection.unmodified:
        return selection
    catalog, filled_heads = selection.catalog, set[str]()
    packages = {}
    for name, package in catalog.packages.items():
        changes = {one.name: made for one in _without_objects(package, every=every) if (made := _filled(one, resources(one)))}
        # The problem of a head without metadata is solved, so it is removed by its text.
        filled_heads |= {f"its head {bundle} has neither" for bundle in changes}
        packages[name] = replace(package, bundles={**package.bundles, **changes}) if changes else package
    problems = tuple(one for one in selection.problems if not any(mark in one.message for mark in filled_heads))
    return replace(selection, catalog=replace(catalog, packages=packages), problems=problems)


def lacking(selection: Selection, *, every: bool) -> Iterator[Bundle]:
    """Yield the bundles whose objects `filled` needs."""
    for package in () if selection.unmodified else selection.catalog.packages.values():
        yield from _without_objects(package, every=every)


def _filled(bundle: Bundle, resources: Resources) -> Bundle | None:
    return with_objects(bundle, resources) if resources else None


def _without_objects(package: Package, *, every: bool) -> Iterator[Bundle]:
    """Yield the bundles that need their objects in the catalog and do not have them."""
    heads = set(_heads(package))
    for bundle in package.bundles.values():
        if (every and not bundle.has(BUNDLE_OBJECT)) or (bundle.name in heads and not bundle.has(BUNDLE_OBJECT, CSV_METADATA)):
            yield bundle


def _heads(package: Package) -> Iterator[str]:
    for channel in package.channels.values():
        try:
            yield UpdateGraph.of(channel.entries, "").head
        except CatalogError:
            continue  # a channel that OLM refuses has no head; a kept package has none such
