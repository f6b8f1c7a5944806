"""Update graphs from files: answers of an update service, as curl saves them.

A file has one answer, or several: an array of answers (`jq -s .`), or an object of answers by `CHANNEL`, `ARCH/CHANNEL` or
`ARCH-CHANNEL.json`. An answer says neither its channel nor its architecture: where no name says them, the channels are those
that all its releases are in, and the architecture is the one that is requested.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from common import version
from common.errors import ContentError, UsageError
from common.openshift.openshift_release import is_channel, minor_of_channel
from common.serialization import UNDECODABLE, values_in
from common.text import enumeration, sanitize
from exporter.imageset.releases import ARCHITECTURES, MULTI
from exporter.releases.hosts import OKD_UPDATE_SERVICE, UPDATE_SERVICE
from exporter.releases.updates.graph import MAX_VALUES, Graph, decode, united, without_nightlies

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAX_FILE = 64 * 1024 * 1024
MAX_ANSWERS = 1000  # of one file
_SHOWN = 20
_WANTED = "Wanted: an answer of an update service, as curl -f 'URL?channel=CHANNEL&arch=ARCH' gives it; several: jq -s . FILE…"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Saved:
    """An answer; `channel` and `architecture` are empty where nothing says them."""

    where: str
    graph: Graph
    channel: str
    architecture: str

    @cached_property
    def channels(self) -> frozenset[str]:
        """The channels that it may be of."""
        if self.channel:
            return frozenset({self.channel})
        nodes = list(self.graph.nodes.values())
        common = frozenset(nodes[0].channels).intersection(*(node.channels for node in nodes)) if nodes else frozenset[str]()
        # Releases stay in the channels of later minor versions: all of stable-4.17 may be in stable-4.18, which has more.
        newest = version.parse(self.graph.versions[-1]).release[:2] if nodes else ()
        return frozenset(name for name in common if (minor := minor_of_channel(name)) is None or minor[1:] == newest)

    def serves(self, channel: str, architecture: str) -> bool:
        """Say whether it may be the answer for a channel."""
        is_right = self.architecture == architecture or (not self.architecture and architecture != MULTI)
        return is_right and channel in self.channels


class GraphFiles:
    """Answers from files. Raises UsageError, with a name of the file, for what cannot be used."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._saved = [saved for path in paths for saved in _read(path)]
        self._taken: dict[str, str] = {}  # the architecture that an answer without one was used for

    def graph(self, channel: str, architecture: str, *, okd: bool = False) -> Graph:
        """Return the graph of a channel, united where several answers may be it; without releases where none is."""
        fitting = [each for each in self._saved if each.serves(channel, architecture)]
        if not fitting and okd and len(self._saved) == 1 and not self._saved[0].channels:
            fitting = self._saved  # releases of OKD do not say their channels
        named = [each for each in fitting if each.channel]
        for each in named or fitting:
            if not each.architecture and self._taken.setdefault(each.where, architecture) != architecture:
                raise UsageError(
                    f"{each.where}: it does not say of which architecture it is; {self._taken[each.where]} and {architecture} "
                    "are requested",
                    hint=f"Name the files by ARCH-CHANNEL.json, such as {architecture}-{channel}.json.",
                )
            if not each.channel:
                _LOG.info("%s: read as %s, for %s", each.where, channel, architecture)
        try:
            graph = united((each.graph for each in named or fitting), "--graph-file")
            return without_nightlies(graph) if okd and channel.startswith("stable") else graph
        except ContentError as error:
            hint = f"Name files of several architectures by ARCH-CHANNEL.json, such as {architecture}-{channel}.json."
            raise UsageError(error.message, hint=hint) from error

    def unknown(self, channel: str, architecture: str, *, okd: bool = False) -> UsageError:
        """Return the error for a channel that no file has; says how to save it."""
        listed = sorted(
            {f"{name} ({each.architecture or 'one architecture'})" for each in self._saved for name in each.channels}
        )
        service = OKD_UPDATE_SERVICE if okd else UPDATE_SERVICE
        command = f"curl -fo {architecture}-{channel}.json '{service}?channel={channel}&arch={architecture}'"
        has = f"they have {enumeration(listed, _SHOWN)}" if listed else "they have no releases"
        message = f"--graph-file: no answer for channel {channel}, architecture {architecture}; {has}"
        return UsageError(message, hint=f"Save it: {command}")


def _read(path: Path) -> Iterator[_Saved]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", hint="Name another file with --graph-file.") from error
    if len(raw) > MAX_FILE:
        raise UsageError(f"{path}: more than {MAX_FILE} bytes", hint="Save each answer into a file of its own.")
    for label, answer in _answers(raw, path):
        where = f"{path}: {sanitize(label, 100)}" if label else str(path)
        named = label_of(label) if label and not label.isdigit() else label_of(path.name, is_file=True)
        if named is None:
            raise UsageError(f"{where}: no name of an answer", hint="Wanted: CHANNEL, ARCH/CHANNEL or ARCH-CHANNEL.json.")
        architecture, channel = named
        try:
            graph = decode(answer, where, architecture)
        except ContentError as error:
            raise UsageError(error.message, hint=_WANTED) from error
        says = next(iter({node.architecture for node in graph.nodes.values()} - {""}), "")
        yield _Saved(where, graph, channel, architecture or says)


def _answers(raw: bytes, path: Path) -> list[tuple[str, bytes]]:
    """Return the answers in a file with their names: those of an object, or numbers from an array."""
    if values_in(raw) > MAX_VALUES:
        raise UsageError(f"{path}: about {values_in(raw)} values; the limit is {MAX_VALUES}", hint="Divide the file.")
    try:
        if raw.lstrip()[:1] == b"[":
            parts = msgspec.json.decode(raw, type=list[msgspec.Raw])
            named = [(str(number), bytes(part)) for number, part in enumerate(parts, 1)]
        else:
            fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            named = [("", raw)] if "nodes" in fields else [(name, bytes(part)) for name, part in fields.items()]
    except UNDECODABLE as error:
        begins = sanitize(raw[:80].decode("utf-8", "replace"), 60)
        raise UsageError(
            f"{path}: no JSON: {sanitize(str(error), 200)}; it begins with {begins!r}",
            hint=_WANTED,
        ) from error
    if len(named) > MAX_ANSWERS:
        raise UsageError(f"{path}: {len(named)} answers; the limit is {MAX_ANSWERS}", hint="Divide the file.")
    return named


def label_of(name: str, *, is_file: bool = False) -> tuple[str, str] | None:
    """Return architecture and channel of `CHANNEL`, `ARCH/CHANNEL` or `PATH/ARCH-CHANNEL.json`; None for other texts.

    `is_file`: only a name with an architecture says something; two empty texts for another.
    """
    head, _, tail = name.removesuffix(".json").rpartition("/")
    if head in ARCHITECTURES:
        found = (head, tail)
    else:
        architecture = next((each for each in ARCHITECTURES if tail.startswith(f"{each}-")), "")
        found = (architecture, tail.removeprefix(f"{architecture}-") if architecture else tail)
    if is_file and (not found[0] or not is_channel(found[1])):
        return "", ""
    return found if is_channel(found[1]) else None
