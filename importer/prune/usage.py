"""What a cluster uses of a mirror: every image that its objects name, in all namespaces. Reads only (ADR 0081).

Whatever is not read could be what is needed: an object, a namespace or a kind that may not be read is an error.
"""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from common.errors import ClusterError, ContentError
from common.oci.compression import decompressed
from common.oci.image import PREFIX, Digest
from importer.cluster.api.client import Body, ForbiddenError, Query, connect
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    CLUSTER_EXTENSION,
    CLUSTER_SERVICE_VERSION,
    COPIED_LABEL,
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    IMAGE_STREAM,
    IMAGE_USERS,
    INSTALL_PLAN,
    ITMS,
    JOB,
    MACHINE_CONFIG,
    OLD_CRON_JOB,
    POD,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    STATEFUL_SET,
    SUBSCRIPTION,
    Kind,
    has_own_label,
    map_of,
    status_of,
)
from importer.cluster.resources.mirror_rules import Precedence, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from importer.cluster.api.client import ClusterClient
    from importer.cluster.resources.mirror_rules import Listed


OBJECTS = 50_000  # of one kind: the pages of a list have a limit, too (importer/cluster/api/transport.py)
_PAGE = 500
_LARGE_PAGE = 50  # ClusterServiceVersions, InstallPlans, MachineConfigs and ImageStreams have some hundred KB each
_LONGEST = 512  # characters of a name of an image
_DEPTH = 64
_COMPLETE = "Complete"  # of an InstallPlan (operator-framework/api, pkg/operators/v1alpha1, InstallPlanPhase)
_MAX_FILE = 16 * 1024 * 1024  # of a MachineConfig, unpacked
# Each cluster has them: that one is not found is no answer.
_EVERYWHERE = frozenset((POD, DEPLOYMENT, DAEMON_SET, STATEFUL_SET, REPLICA_SET, JOB, REPLICATION_CONTROLLER, OLD_CRON_JOB))
_LARGE = frozenset((CLUSTER_SERVICE_VERSION, INSTALL_PLAN, MACHINE_CONFIG, IMAGE_STREAM))
# A managed field repeats names of fields; the icon of a ClusterServiceVersion is a picture in base64.
_LEFT_OUT = frozenset(("managedFields", "icon", "base64data"))
# After `sha256:`, in a tag such as `sha256-…`, or alone, as engines name what they have without a repository.
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", re.ASCII)
# In front of a name: `docker://`, `oci-archive://`, and `ostree-unverified-registry:`; `registry:5000` is a host with a port.
_TRANSPORT = re.compile(r"//|(?<=registry):(?![0-9])", re.ASCII)
# `host[:port]/path:tag` anywhere in a text, such as an annotation with an example in JSON; each begins where no name goes on,
# so that the search takes linear time.
_NAME = re.compile(
    r"(?<![\w./:@\[\]-])[A-Za-z0-9\[][A-Za-z0-9.\-\[\]]{0,253}(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9][a-z0-9._\-]{0,127}){1,16}:[\w][\w.\-]{0,127}(?![\w./:@-])",
    re.ASCII,
)
_END_TAG = re.compile(r":[\w.\-]+\Z", re.ASCII)
_IMAGES = frozenset(("image", "imageID", "ref", "osImageURL", "dockerImageReference", "containerImage"))


@dataclass(frozen=True, slots=True)
class CatalogNote:
    """A catalog of a cluster that could be removed. `own`: hub-import made it; else oc-mirror did."""

    cluster: str
    kind: str
    namespace: str
    name: str
    image: str
    own: bool


@dataclass(slots=True)
class ClusterUsage:
    """What a cluster uses, each with the first object that names it, and the catalogs that no Subscription names.

    `versions`: operators that are installed, or are going to be, by the names of their bundles.
    """

    server: str
    digests: dict[Digest, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    catalogs: list[CatalogNote] = field(default_factory=list)

    def note(self, kind: Kind, body: Body) -> None:
        """Note what an object uses."""
        metadata = body["metadata"]
        place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
        where = f"{kind.name} {place}{metadata['name']} of {self.server}"
        for digest, name in images_in(body):
            if digest:
                self.digests.setdefault(digest, where)
            if name:
                self.names.setdefault(name, where)
        for version in versions_in(kind, body):
            self.versions.setdefault(version, where)


def read_cluster(kubeconfig: Path | None, context: str | None = None) -> ClusterUsage:
    """Read everything that a cluster uses. Raises ClusterError where anything of it cannot be read."""
    with connect(kubeconfig, context) as client:
        return read(client)


def read(client: ClusterClient) -> ClusterUsage:
    """Read everything that a cluster uses. Raises ClusterError."""
    found = ClusterUsage(client.server)
    catalogs: list[tuple[Kind, Body]] = []
    subscribed: set[tuple[str, str]] = set()
    extensions = 0
    mirrors: list[Listed] = []
    for kind in IMAGE_USERS:
        for body in _all(client, kind, found):
            if kind in (CATALOG_SOURCE, CLUSTER_CATALOG):
                catalogs.append((kind, body))
            elif kind is SUBSCRIPTION:
                spec = body.get("spec") or {}
                subscribed.add((str(spec.get("sourceNamespace") or ""), str(spec.get("source") or "")))
            elif kind is CLUSTER_EXTENSION:
                extensions += 1
            elif kind is ITMS:
                mirrors += listed({**body, "kind": kind.name})
    # A rule of a mirror may give an image another name; digests need no names.
    rules = Precedence(mirrors)
    for name, where in list(found.names.items()):
        tag = _END_TAG.search(name)
        for place in rules.places(name[: tag.start()] if tag else name):
            found.names.setdefault(f"{place}{tag[0] if tag else ''}", where)
    found.catalogs = list(_unused(found.server, catalogs, subscribed, extensions=extensions))
    return found


def _all(client: ClusterClient, kind: Kind, found: ClusterUsage) -> list[Body]:
    """Note what the objects of a kind name; return those of the kinds that say which catalogs are used."""
    kept = kind in (CATALOG_SOURCE, CLUSTER_CATALOG, SUBSCRIPTION, CLUSTER_EXTENSION, ITMS)

    def note(body: Body) -> Body | None:
        found.note(kind, body)
        return body if kept else None

    # OLM copies a ClusterServiceVersion into every namespace that its operator watches; the original is among them.
    copies = COPIED_LABEL if kind is CLUSTER_SERVICE_VERSION else ""
    query = Query(OBJECTS, absent=copies, page=_LARGE_PAGE if kind in _LARGE else _PAGE, content=kept)
    try:
        scanned = client.scan(kind, note, query)
    except ForbiddenError as error:
        raise ClusterError(
            f"{error.message}; what a cluster uses has to be read as a whole, and nothing was planned",
            hint="Give the account the ClusterRole of rbac-prune.yaml: hub-import render --rbac writes it.",
        ) from error
    if scanned is None and kind is CRON_JOB:
        return _all(client, OLD_CRON_JOB, found)
    if scanned is None:
        if kind in _EVERYWHERE or client.serves(kind):
            raise ClusterError(f"{client.server} does not list its {kind.plural}; nothing was planned")
        return []  # the cluster does not have the kind
    if not scanned.whole:
        raise ClusterError(
            f"{client.server} has more than {OBJECTS} {kind.plural}, which are not read as a whole; nothing was planned"
        )
    return scanned.found


def versions_in(kind: Kind, body: Body) -> Iterator[str]:
    """Yield the versions of operators that an object has installed, or is going to install, by the names of their bundles.

    The status of a ClusterExtension names no image (operator-controller, api/v1/clusterextension_types.go), and the steps of an
    InstallPlan lie in ConfigMaps (operator-lifecycle-manager, pkg/controller/bundle/bundle_unpacker.go).
    """
    spec, status = body.get("spec") or {}, status_of(body)
    if kind is CLUSTER_SERVICE_VERSION:
        yield str(body["metadata"]["name"])
    elif kind is INSTALL_PLAN and status.get("phase") != _COMPLETE:
        yield from map(str, spec.get("clusterServiceVersionNames") or ())
    elif kind is SUBSCRIPTION:
        installed = status.get("installedCSV") or spec.get("startingCSV")
        yield from (str(each) for each in (installed, status.get("currentCSV")) if each)
    elif kind is CLUSTER_EXTENSION:
        name = map_of(map_of(status.get("install")).get("bundle")).get("name")
        yield from (str(each) for each in (name,) if each)


def images_in(body: Mapping[str, Any]) -> Iterator[tuple[Digest | None, str]]:
    """Yield the digests, and the names of images with a tag, in the texts of an object: fields, annotations, examples."""
    waiting: list[tuple[str, Any, int]] = [("", body, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        if isinstance(value, dict) and depth < _DEPTH:
            # ObjectReference of a BuildConfig or ImageStream, whose name may have no tag.
            if value.get("kind") == "DockerImage" and isinstance(value.get("name"), str):
                waiting.append(("image", value["name"], depth + 1))
            waiting += [(str(name), each, depth + 1) for name, each in value.items() if name not in _LEFT_OUT]
        elif isinstance(value, list) and depth < _DEPTH:
            waiting += [(key, each, depth + 1) for each in value]
        elif isinstance(value, str):
            if value.startswith("data:"):
                waiting.append(("", _content_of(value), depth))
            yield from _named_in(key, value)


def _named_in(key: str, value: str) -> Iterator[tuple[Digest | None, str]]:
    """Yield the digests and names in one text, the value of a field."""
    for found in _DIGEST.findall(value):
        yield Digest(PREFIX + found), ""
    for found in _NAME.findall(_TRANSPORT.sub(" ", value)):
        yield None, found
    if value.startswith("docker://"):  # of a data volume
        key, value = "image", value.removeprefix("docker://")
    # `nginx`, or `app:v1`: a name without a host, where the field says that it is an image.
    if key in _IMAGES and value and len(value) <= _LONGEST and "@" not in value:
        yield None, value


def _content_of(url: str) -> str:
    """Return the text in a data URL (RFC 2397): ignition has files so, such as CRI-O's with the pause image; empty in doubt."""
    head, _, content = url.partition(",")
    raw = urllib.parse.unquote_to_bytes(content)
    try:
        if head.endswith(";base64"):
            raw = base64.b64decode(raw)
        raw = b"".join(decompressed(iter([raw]), _MAX_FILE))
    except (binascii.Error, ValueError, ContentError):
        return ""
    return raw.decode("utf-8", "replace")


def _unused(
    server: str, catalogs: Sequence[tuple[Kind, Body]], subscribed: set[tuple[str, str]], *, extensions: int
) -> Iterator[CatalogNote]:
    for kind, body in catalogs:
        name, namespace = str(body["metadata"]["name"]), str(body["metadata"].get("namespace") or "")
        own = has_own_label(body)
        # A ClusterExtension may take its package from any ClusterCatalog.
        used = (namespace, name) in subscribed if kind is CATALOG_SOURCE else extensions > 0
        # oc-mirror names its catalogs cs-… and cc-… (openshift/oc-mirror, internal/pkg/clusterresources).
        if (own and not used) or (not own and name.startswith(("cs-", "cc-"))):
            yield CatalogNote(server, kind.name, namespace, name, _image(body), own)


def _image(body: Mapping[str, Any]) -> str:
    spec = body.get("spec") or {}
    source = spec.get("source")
    nested = (source.get("image") or {}).get("ref") if isinstance(source, dict) else None
    return str(spec.get("image") or nested or "")
