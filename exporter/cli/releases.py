"""Tables of OpenShift releases and of the update paths between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.files import size_text
from common.text import columns, enumeration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.archive.inventory import UpdateGraphRecord, UpdatePathRecord

_CHANNELS = 3  # that a row names: a release is in those of the next minors too
_KEY = 16  # the last digits of a fingerprint, by which signatures name a key


def releases_shown(releases: Sequence[dict[str, Any]], graph: UpdateGraphRecord) -> list[list[str]]:
    """Return the releases of a plan with their bytes, their paths, and whether graph data is carried; empty without any."""
    rows = [("RELEASE", "ARCH", "IMAGES", "ADDS", "TOTAL", "SIGNED BY", "CHANNELS")]
    rows += [
        (
            one["version"],
            one["architecture"],
            str(len(one.get("components", ()))),
            size_text(one["ownBytes"]),
            size_text(one["totalBytes"]),
            ", ".join(key[-_KEY:] for key in one["signedBy"]) or "not verified",
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
