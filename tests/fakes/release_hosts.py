"""The hosts that releases are found by, on one loopback server: update service, signature stores, graph data.

    with ReleaseHosts() as hosts:
        hosts.add(first, "stable-4.12", signer=signer())        # a node of the graph, and a signature in the first store
        # (openpgp.signer(); its public key for --release-key is openpgp.armored(signer().key()))
        hosts.add(then, "stable-4.12", signer=signer())
        hosts.connect(first, then)                              # an edge; with `risks` a conditional one
        hosts.graphs["stable-4.13", "amd64"] = real_file        # or an answer as it is
        hosts.graph_data = releases.graph_data()
        ... hosts.update_service, hosts.stores, hosts.graph_data_url ...
        assert hosts.log("/graph")[0].query == {"channel": "stable-4.12", "arch": "amd64"}

`fault` is that of the fake registry: statuses, HTML, cut answers. With `tls` it has a certificate of `authority` for `names`, such
as api.openshift.com; `TlsProxy(routes=…)` leads the published names to it.

Sources: openshift/cincinnati, docs/design/openshift.md, policy-engine/src/graph.rs, commons/src/errors.rs (statuses and `kind`),
cincinnati/src/plugins/internal/channel_filter.rs (an unknown channel is an empty graph); openshift/library-go,
pkg/verify/store/sigstore (names of signature files).
"""

from __future__ import annotations

import json
import re
import ssl
import tempfile
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import trustme

from common.oci.image import hex_of
from tests.fakes.openpgp import Signer, payload
from tests.fakes.registry_server import Fault, Handler, Request, Server
from tests.fakes.releases import Release

GRAPH_PATHS = ("/api/upgrades_info/v1/graph", "/api/upgrades_info/graph", "/graph")
GRAPH_DATA_PATH = "/api/upgrades_info/graph-data"
# mirror.openshift.com, storage.googleapis.com for the first two; the last is that of CI and OKD.
STORES = ("/pub/openshift-v4/signatures/openshift/release", "/openshift-release/official/signatures/openshift/release")
CI_STORE = "/openshift-ci-release/releases/signatures/openshift/release"
NAMES = ("localhost", "api.openshift.com", "mirror.openshift.com", "storage.googleapis.com", "origin-release.ci.openshift.org")
_CHANNEL = re.compile(r"[0-9a-z\-.]+")
_CHANNELS = "io.openshift.upgrades.graph.release.channels"
_V1 = "application/vnd.redhat.cincinnati.v1+json"


class ReleaseHosts:
    """See the module. `nodes` and `edges` are by channel and architecture; all attributes may be changed while it runs."""

    def __init__(
        self,
        *,
        tls: bool = False,
        names: Sequence[str] = NAMES,
        authority: trustme.CA | None = None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._address = address
        self.graphs: dict[tuple[str, str], bytes] = {}  # answers as they are, which go before the nodes
        self.nodes: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self.edges: list[tuple[str, str, tuple[Mapping[str, Any], ...]]] = []
        self.signatures: dict[str, list[bytes]] = {}  # by `<path of a store>/sha256=<hex>`
        self.graph_data: bytes | None = None
        self.requests: list[Request] = []
        self.errors: list[BaseException] = []
        self.lock = threading.RLock()
        # What the handler of the fake registry uses.
        self.max_body: int | None = None
        self.asked = self.handshakes = 0
        self.ranges = False
        self._faults: list[Fault] = []
        self._tls, self._names, self._authority = tls, names, authority or trustme.CA()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        context = None
        if self._tls:
            self._authority.cert_pem.write_to_path(str(self.ca))
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._authority.issue_cert(*self._names).configure_cert(context)
        self._server = Server(_Handler, cast("Any", self), context, self._address)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop()
        self._folder.cleanup()
        if self.errors and error is None:
            raise self.errors[0]

    @property
    def ca(self) -> Path:
        return Path(self._folder.name) / "ca.pem"

    @property
    def port(self) -> int:
        return int(self._server.port)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}"

    @property
    def update_service(self) -> str:
        return self.url + GRAPH_PATHS[0]

    @property
    def okd_update_service(self) -> str:
        return self.url + GRAPH_PATHS[2]

    @property
    def graph_data_url(self) -> str:
        return self.url + GRAPH_DATA_PATH

    @property
    def stores(self) -> tuple[str, ...]:
        return tuple(self.url + path for path in STORES)

    @property
    def ci_store(self) -> str:
        return self.url + CI_STORE

    # Content.

    def add(self, release: Release, *channels: str, signer: Signer | None = None, store: str = STORES[0]) -> None:
        """Add a release as a node of channels, and its signature by `signer` to a store; None: without a signature."""
        metadata = {
            _CHANNELS: ",".join(sorted(channels)),
            "io.openshift.upgrades.graph.release.manifestref": release.digest,
            "url": f"https://access.redhat.com/errata/RHBA-{release.version}",
        }
        if release.architecture == "multi":
            metadata["release.openshift.io/architecture"] = "multi"
        node = {"version": release.version, "payload": release.source, "metadata": metadata}
        for channel in channels:
            self.nodes[channel, release.architecture].append(node)
        if signer is not None:
            self.sign(release.digest, signer.message(payload(release.digest, f"{release.payloads}:{release.tag}")), store=store)

    def sign(self, digest: str, *contents: bytes, store: str = STORES[0]) -> None:
        """Add signature files of a digest to a store: signature-1, signature-2 and so on."""
        self.signatures.setdefault(f"{store}/sha256={hex_of(cast('Any', digest))}", []).extend(contents)

    def connect(self, older: Release | str, newer: Release | str, *risks: Mapping[str, Any]) -> None:
        """Add an edge between versions, in every channel that has both; a conditional one with `risks`."""
        names = [each if isinstance(each, str) else each.version for each in (older, newer)]
        self.edges.append((names[0], names[1], risks))

    def graph(self, channel: str, architecture: str) -> bytes:
        """Return the answer for a channel; an unknown one has no nodes (OCPBUGS-51157)."""
        if (channel, architecture) in self.graphs:
            return self.graphs[channel, architecture]
        nodes = self.nodes.get((channel, architecture), [])
        places = {node["version"]: place for place, node in enumerate(nodes)}
        inside = [edge for edge in self.edges if edge[0] in places and edge[1] in places]
        conditional = [{"edges": [{"from": old, "to": new}], "risks": list(risks)} for old, new, risks in inside if risks]
        plain = [[places[old], places[new]] for old, new, risks in inside if not risks]
        return json.dumps({"version": 1, "nodes": nodes, "edges": plain, "conditionalEdges": conditional}).encode()

    # Behaviour.

    def fault(self, method: str, part: str, **what: Any) -> Fault:
        """Let something go wrong; see `Fault`. Earlier faults go first."""
        fault = Fault(method, part, **what)
        with self.lock:
            self._faults.append(fault)
        return fault

    def take_fault(self, method: str, path: str, length: int = 0) -> Fault | None:
        with self.lock:
            for fault in self._faults:
                if fault.times > 0 and fault.method in ("*", method) and fault.part in path:
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def log(self, part: str = "") -> list[Request]:
        """Return the requests so far whose path contains `part`."""
        with self.lock:
            return [request for request in self.requests if part in request.path]


def risk(name: str, message: str = "It may fail.", promql: str = "") -> dict[str, Any]:
    """Return a risk of a conditional edge, which is always there, or where a query says so."""
    rule = {"type": "PromQL", "promql": {"promql": promql}} if promql else {"type": "Always"}
    return {"url": f"https://issues.example/{name}", "name": name, "message": message, "matchingRules": [rule]}


class _Handler(Handler):
    def _log(self) -> list[Request]:
        return self.registry.requests

    def respond(self) -> None:
        path = self.entry.path
        hosts = cast("ReleaseHosts", self.registry)
        if self.command not in ("GET", "HEAD"):
            self.answer(405)
        elif path in GRAPH_PATHS:
            self._graph(hosts)
        elif path == GRAPH_DATA_PATH and hosts.graph_data is not None:
            self.answer(200, hosts.graph_data, {"Content-Type": "application/gzip"})
        elif (found := re.fullmatch(r"(.*/sha256=[0-9a-f]{64})/signature-([0-9]+)", path)) and int(found[2]) > 0:
            files = hosts.signatures.get(found[1], [])
            number = int(found[2])
            self.answer(200, files[number - 1]) if number <= len(files) else self.answer(404, b"<html>Not Found</html>")
        else:
            self.answer(404, b"<html>Not Found</html>", {"Content-Type": "text/html"})

    def _graph(self, hosts: ReleaseHosts) -> None:
        wanted = [each.partition(";")[0].strip() for each in self.entry.headers.get("Accept", "").split(",")]
        # The path without a version answers to the media type of the version too.
        accepted = {"application/json", "*/*", "application/*"} | ({_V1} if self.entry.path == GRAPH_PATHS[1] else set())
        channel = self.entry.query.get("channel")
        if not accepted & set(wanted):
            self._refuse(406, "invalid_content_type", "invalid Content-Type requested")
        elif channel is None:
            self._refuse(400, "missing_params", "mandatory client parameters missing: channel")
        elif not _CHANNEL.fullmatch(channel):
            self._refuse(400, "invalid_params", f"invalid client parameters: channel '{channel}' does not match regex")
        else:
            body = hosts.graph(channel, self.entry.query.get("arch", "amd64"))
            self.answer(200, body, {"Content-Type": "application/json"})

    def _refuse(self, status: int, kind: str, value: str) -> None:
        self.answer(status, json.dumps({"kind": kind, "value": value}).encode(), {"Content-Type": "application/json"})
