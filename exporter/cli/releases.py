"""OpenShift releases as `list` and `plan` print them, with the update paths between them: JSON and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from common.cli.results import signed_by
from common.errors import UsageError, one_error
from common.files import size_text
from common.table import columns
from common.text import counted, enumeration, paragraphs, sanitize
from exporter.releases.selection import missing, path_between
from exporter.releases.updates.graph import order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.archive.inventory import UpdateGraphRecord, UpdatePathRecord
    from exporter.imageset.releases import PlatformRequest, ReleaseChannel
    from exporter.releases.selection import Selection
    from exporter.releases.updates.update_service import GraphSource

_WIDTH = 200  # characters of a risk's message
_CHANNELS = 3  # that a row names: a release is in those of the next minors too
Document = dict[str, Any]


def channels_document(request: PlatformRequest, graphs: GraphSource) -> Document:
    """Return the JSON of `list --release`. Raises UsageError with the faults of all channels."""
    found: list[Document] = []
    faults: list[UsageError] = []
    for channel in request.channels:
        for architecture in request.architectures:
            try:
                found.append(_channel(channel, architecture, graphs))
            except UsageError as fault:
                faults.append(fault)
    if faults:
        raise one_error("--release", list({fault.message: fault for fault in faults}.values()))
    return {"channels": found}


def _channel(channel: ReleaseChannel, architecture: str, graphs: GraphSource) -> Document:
    graph = graphs.graph(channel.name, architecture, okd=channel.okd)
    if not graph.nodes:
        raise graphs.unknown(channel.name, architecture, okd=channel.okd)
    low, high = channel.min_version, channel.max_version
    inside = [
        graph.nodes[name]
        for name in graph.versions
        if (not low or order(name)[0] >= order(low)[0]) and (not high or order(name)[0] <= order(high)[0])
    ]
    if not inside:
        fault = missing(low or high, graph, f"{channel.name}, {architecture}")
        raise fault or UsageError(f"{channel.name}, {architecture}: no release from {low} to {high}", hint="Widen the range.")
    found: Document = {
        "channel": channel.name,
        "architecture": architecture,
        "releases": [
            {"version": node.version, "payload": str(node.payload), "errata": node.url or None, "channels": list(node.channels)}
            for node in inside
        ],
    }
    if low and high and low != high:
        where = f"{channel.name}, {architecture}"
        found["path"] = msgspec.to_builtins(path_between(graph, where, low, high))
    return found


def channels_table(listed: Document) -> list[str]:
    """Return the same for people: a line a release, then the steps of the path with their risks."""
    parts = []
    for each in listed["channels"]:
        parts.append([f"{each['channel']}, {each['architecture']}: {counted(len(each['releases']), 'release')}"])
        rows = [("VERSION", "ERRATA", "PAYLOAD")]
        rows += [(one["version"], one["errata"] or "-", one["payload"].rpartition("@")[2]) for one in each["releases"]]
        parts.append(columns(rows))
        if "path" in each:
            parts.append(_path(each["path"]))
    return paragraphs(*parts)


def selected_document(found: Selection) -> Document:
    """Return what `list` of an image set says of its releases: their JSON, nothing where it asks for none."""
    if not found.releases:
        return {}
    listed = [
        {
            "version": each.version or None,
            "architecture": each.architecture or None,
            "payload": str(each.payload),
            "channels": list(each.channels),
            "errata": each.errata or None,
        }
        for each in found.releases
    ]
    return {"releases": listed, "paths": msgspec.to_builtins(found.paths)}


def selected_table(found: Selection) -> list[str]:
    """Return the same for people: a line a release, then the update paths with their risks."""
    rows = [("RELEASE", "ARCH", "CHANNELS", "ERRATA", "PAYLOAD")]
    rows += [
        (
            each.version or "-",
            each.architecture or "-",
            ", ".join(each.channels) or "-",
            each.errata or "-",
            each.payload.digest or str(each.payload),
        )
        for each in found.releases
    ]
    return paragraphs(columns(rows) if found.releases else [], *(list(path_lines(path)) for path in found.paths))


def _path(steps: list[Document]) -> list[str]:
    rows = [("FROM", "TO", "RISKS")]
    rows += [(step["from"], step["to"], ", ".join(risk["name"] for risk in step.get("risks", ())) or "-") for step in steps]
    lines = columns(rows)
    known = {risk["name"]: risk for step in steps for risk in step.get("risks", ())}
    for name, risk in sorted(known.items()):
        lines.append(f"{name}: {sanitize(risk.get('message', ''), _WIDTH)}")
        if risk.get("url"):
            lines.append(f"  {risk['url']}")
    return lines


def planned_table(releases: Sequence[Document], graph: UpdateGraphRecord) -> list[list[str]]:
    """Return the releases of a plan with their bytes, their paths, and whether graph data is carried; empty without any."""
    rows = [("RELEASE", "ARCH", "IMAGES", "ADDS", "TOTAL", "SIGNED BY", "CHANNELS")]
    rows += [
        (
            one["version"],
            one["architecture"],
            str(len(one.get("components", ()))),
            size_text(one["ownBytes"]),
            size_text(one["totalBytes"]),
            signed_by(one["signedBy"]),
            enumeration(one.get("channels", ()), _CHANNELS),
        )
        for one in releases
    ]
    parts = [columns(rows)] if releases else []
    parts += [list(path_lines(path)) for path in graph.paths if path.steps]
    return [*parts, [f"graph data: {graph.graph_data}"]] if graph.graph_data else parts


def path_lines(path: UpdatePathRecord) -> Iterator[str]:
    """Yield an update path, and the risks of its steps."""
    yield f"update path, {path.architecture}: {' → '.join((path.steps[0].from_, *(step.to for step in path.steps)))}"
    for step in path.steps:
        for risk in step.risks:
            yield f"  {step.from_} → {step.to}: risk {risk.name}{f', {risk.url}' if risk.url else ''}"
