"""Update graphs from an update service (openshift/cincinnati, docs/design/openshift.md), or from answers that were saved.

A service answers an unknown channel with an empty graph (OCPBUGS-51157): `unknown` looks for the channel that may be meant.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from common.errors import HubError, RegistryRefusedError, UsageError
from common.log import SECRETS
from exporter.releases.hosts import GRAPH_PATH, OKD_UPDATE_SERVICE, UPDATE_SERVICE
from exporter.releases.updates.graph import MAX_SIZE, Graph, decode, without_nightlies
from exporter.releases.updates.graph_files import GraphFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.registry.client import RegistryClient
    from exporter.settings import ReleaseSettings

PREFIXES = ("stable", "fast", "eus", "candidate")
OKD_CHANNELS = ("stable-scos-4", "stable-4", "next-scos-4")  # openshift/release-controller, http_upgrade_graph.go
_BAD_REQUEST = 400
_MINOR = re.compile(r"(\d{1,3})\.(\d{1,4})")
MAX_LOOKUPS = 16


class GraphSource(Protocol):
    """From where graphs come."""

    def graph(self, channel: str, architecture: str, *, okd: bool = False) -> Graph:
        """Return the graph of a channel, without releases where the channel is not known. Raises HubError."""
        ...

    def unknown(self, channel: str, architecture: str, *, okd: bool = False) -> UsageError:
        """Return the error for a channel without releases, which names others."""
        ...


class UpdateService:
    """One update service. `url`: of its graph; where the path does not end so, the standard path is added."""

    def __init__(self, client: RegistryClient, url: str) -> None:
        self._client = client
        bare = url.rstrip("/")
        self.url = url if "?" in url else bare if bare.endswith("/graph") else bare + GRAPH_PATH

    def graph(self, channel: str, architecture: str) -> Graph:
        """Return the graph of a channel; without releases where the service does not know it.

        Raises RegistryError, ContentError for an answer that is no graph.
        """
        query = urlencode({"channel": channel, "arch": architecture})
        url = f"{self.url}{'&' if '?' in self.url else '?'}{query}"
        # The service refuses any other media type with 406 (openshift/cincinnati, commons/src/lib.rs).
        raw = self._client.fetch(url, what="update graph", limit=MAX_SIZE, accept="application/json")
        return decode(raw, SECRETS.mask(url), architecture)


class UpdateServices:
    """The services of OpenShift and OKD, each channel requested once. `url`: one in place of both."""

    def __init__(self, client: RegistryClient, url: str | None = None) -> None:
        self._services = {okd: UpdateService(client, url or _standard(okd=okd)) for okd in (False, True)}
        self._graphs: dict[tuple[str, str, bool], Graph] = {}

    def graph(self, channel: str, architecture: str, *, okd: bool = False) -> Graph:
        """Return the graph of a channel; see `GraphSource`."""
        asked = (channel, architecture, okd)
        if asked not in self._graphs:
            self._graphs[asked] = (
                self._of_okd(channel, architecture) if okd else self._services[okd].graph(channel, architecture)
            )
        return self._graphs[asked]

    def _of_okd(self, channel: str, architecture: str) -> Graph:
        try:
            graph = self._services[True].graph(channel, architecture)
        except RegistryRefusedError as error:
            if error.status == _BAD_REQUEST:  # the release controller's answer for a channel that it does not know
                return Graph()
            raise
        return without_nightlies(graph) if channel.startswith("stable") else graph

    def unknown(self, channel: str, architecture: str, *, okd: bool = False) -> UsageError:
        """Return the error for a channel without releases; looks up which of those with similar names have some."""
        is_known = _Lookups(lambda name: bool(self.graph(name, architecture, okd=okd).nodes))
        names = [each for each in OKD_CHANNELS if is_known(each)] if okd else neighbours(channel, is_known)
        hint = f"Channels that have some: {', '.join(names)}." if names else "Check the channel and the architecture."
        if not okd and channel in OKD_CHANNELS:
            hint = "A channel of OKD needs type: okd."
        return UsageError(f"{self._services[okd].url}: channel {channel} has no releases for {architecture}", hint=hint)


def graph_source(client: RegistryClient, settings: ReleaseSettings) -> GraphSource:
    """Return where graphs come from by the settings. Raises UsageError for files that cannot be used."""
    if settings.graph_files:
        return GraphFiles(settings.graph_files)
    return UpdateServices(client, settings.update_service)


def _standard(*, okd: bool) -> str:
    return OKD_UPDATE_SERVICE if okd else UPDATE_SERVICE


class _Lookups:
    """Asks which channels exist, a bounded number of times; after an error none does."""

    def __init__(self, ask: Callable[[str], bool]) -> None:
        self._ask = ask
        self._left = MAX_LOOKUPS

    def __call__(self, channel: str) -> bool:
        if not self._left:
            return False
        self._left -= 1
        try:
            return self._ask(channel)
        except HubError:
            self._left = 0
            return False


def neighbours(channel: str, is_known: Callable[[str], bool]) -> list[str]:
    """Return channels that exist and have a similar name: another prefix, another minor version."""
    match = _MINOR.search(channel)
    if match is None:
        return []
    prefix, major, minor = channel[: match.start()].strip("-."), match[1], int(match[2])
    near = [prefix] if prefix in PREFIXES else difflib.get_close_matches(prefix, PREFIXES, 1)
    ordered = list(dict.fromkeys([*near, *PREFIXES]))
    found = [name for each in ordered if (name := f"{each}-{major}.{minor}") != channel and is_known(name)]
    step = 2 if ordered[0] == "eus" else 1  # only even minor versions have extended update support
    near_minors = (minor - step, minor + step) if not minor % step else (minor - 1, minor + 1)
    found += [name for each in near_minors if each >= 0 and is_known(name := f"{ordered[0]}-{major}.{each}")]
    return found or _highest(ordered[0], major, minor, is_known)


def _highest(prefix: str, major: str, minor: int, is_known: Callable[[str], bool]) -> list[str]:
    """Return the highest channel below `minor`; they exist up to some minor version."""
    prefix = "stable" if prefix == "eus" else prefix
    low, high = 0, minor
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_known(f"{prefix}-{major}.{middle}") else (low, middle)
    return [f"{prefix}-{major}.{low}"] if low else []
