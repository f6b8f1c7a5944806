"""The operators that catalogs offer: of an archive's inventory, or of a cluster's PackageManifests. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord
from common.serialization import UNDECODABLE
from common.text import enumeration
from importer.cluster.finding import Finding
from importer.cluster.kinds import map_of, maps_of, status_of
from importer.install.wanted import is_namespace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from importer.cluster.api.client import Body
    from importer.install.wanted import Wanted
    from importer.operators.installed import SourceKey

_SHOWN = 8
NOT_SERVED, SEVERAL = "package-not-served", "package-in-several-catalogs"
# The annotations that the console reads (openshift/console, operator-hub-subscribe.tsx).
_NAMESPACE = "operatorframework.io/suggested-namespace"
_TEMPLATE = "operatorframework.io/suggested-namespace-template"
_MONITORING = "operatorframework.io/cluster-monitoring"
_TEMPLATES = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class Offered:
    """A package of one CatalogSource. `file_based`: OLM v1 can serve its catalog, too.

    `whole`: heads state all that they require.
    """

    package: PackageRecord
    source: SourceKey
    file_based: bool = True
    whole: bool = True


@dataclass(frozen=True)
class Chosen:
    """The version of a package that is to be installed, and what the head of its channel states.

    `asked_channel`: the channel was named; `modes` None: which install modes it has is not known.
    """

    offered: Offered
    channel: ChannelRecord
    entry: BundleRecord
    asked_channel: bool = False

    @property
    def package(self) -> str:
        """The name of the package."""
        return self.offered.package.name

    @property
    def source(self) -> SourceKey:
        """Namespace and name of the CatalogSource."""
        return self.offered.source

    @property
    def is_head(self) -> bool:
        """Whether the version is the head of its channel."""
        return self.entry.name == self.channel.head

    @property
    def modes(self) -> frozenset[str] | None:
        """The install modes of the head; None where they are not known."""
        return frozenset(self.channel.install_modes) or None

    @property
    def entries(self) -> frozenset[str]:
        """The names of all versions in all channels."""
        return frozenset(one.name for channel in self.offered.package.channels for one in channel.bundles)

    @cached_property
    def template(self) -> Mapping[str, Any]:
        """The template of its namespace; empty without a usable one."""
        # The console ignores a template that is no JSON, or has no name (operator-hub-utils.ts, isK8sResource).
        try:
            found = _TEMPLATES.decode(self.channel.suggested_namespace_template or "{}")
        except (*UNDECODABLE, RecursionError):
            return {}
        metadata = found.get("metadata")
        return found if isinstance(metadata, dict) and is_namespace(str(metadata.get("name") or "")) else {}

    @property
    def suggested(self) -> str:
        """The suggested namespace; empty without one. The template counts before the annotation, as in the console."""
        named = self.channel.suggested_namespace or ""
        return str(self.template["metadata"]["name"]) if self.template else named if is_namespace(named) else ""

    @property
    def requires(self) -> tuple[str, ...]:
        """What the head requires, as text."""
        packages = (f"package {each.package} {each.range}".strip() for each in self.channel.required_packages)
        apis = (f"API {each}" for each in self.channel.required_apis)
        return (*packages, *apis, *(("a constraint",) if self.channel.constraints else ()))

    def __str__(self) -> str:
        return f"operator {self.package}"


def of_packages(packages: Iterable[PackageRecord], source: SourceKey, *, file_based: bool = True) -> list[Offered]:
    """Return the packages of an archive's catalog that is served by a CatalogSource."""
    return [Offered(each, source, file_based) for each in packages]


def of_manifest(body: Body, *, file_based: bool = True) -> Offered:
    """Return the package that a PackageManifest lists (operator-lifecycle-manager, pkg/package-server/apis/operators/v1)."""
    status = status_of(body)
    labels = body["metadata"].get("labels") or {}
    name = str(status.get("packageName") or body["metadata"]["name"])
    record = PackageRecord(
        name,
        str(status.get("defaultChannel") or ""),
        tuple(_channel(each, deprecated=bool(status.get("deprecation"))) for each in status.get("channels") or []),
    )
    source = (
        str(labels.get("catalog-namespace") or status.get("catalogSourceNamespace") or ""),
        str(labels.get("catalog") or ""),
    )
    return Offered(record, source, file_based, whole=False)


def _channel(listed: Mapping[str, Any], *, deprecated: bool) -> ChannelRecord:
    """Return a channel of a PackageManifest. `deprecated`: its package is."""
    head = str(listed.get("currentCSV") or "")
    said = map_of(listed.get("currentCSVDesc"))
    version = str(said.get("version") or "") or None
    # Older releases of package-server list no entries.
    outdated = deprecated or bool(listed.get("deprecation"))
    entries = [
        BundleRecord(
            str(one.get("name")),
            str(one.get("version") or "") or None,
            deprecated=outdated or bool(one.get("deprecation")),
        )
        for one in listed.get("entries") or []
    ]
    notes = map_of(said.get("annotations"))
    return ChannelRecord(
        str(listed.get("name") or ""),
        head,
        tuple(entries) or (BundleRecord(head, version, deprecated=outdated),),
        min_kube_version=str(said.get("minKubeVersion") or "") or None,
        install_modes=tuple(
            str(each.get("type")) for each in maps_of(said.get("installModes")) if each.get("supported") is True
        ),
        suggested_namespace=str(notes.get(_NAMESPACE) or "") or None,
        suggested_namespace_template=str(notes.get(_TEMPLATE) or "") or None,
        cluster_monitoring=notes.get(_MONITORING) == "true",
        provided_apis=tuple(sorted(_apis(said, "owned"))),
        required_apis=tuple(sorted(_apis(said, "required"))),
    )


def _apis(said: Mapping[str, Any], relation: str) -> Iterator[str]:
    for section in ("customresourcedefinitions", "apiservicedefinitions"):
        for one in maps_of(map_of(said.get(section)).get(relation)):
            # CustomResourceDefinitions are listed as PLURAL.GROUP, API services with their group.
            group = one.get("group") or str(one.get("name") or "").partition(".")[2]
            yield f"{one.get('kind')}.{one.get('version')}.{group}"


def choose(wanted: Wanted, offered: Sequence[Offered], catalog: str = "") -> Chosen | Finding:
    """Return the version that is wanted, or why it cannot be had. `catalog`: only of this CatalogSource."""
    subject = f"operator {wanted.package}"
    served = [each for each in offered if not catalog or each.source[1] == catalog]
    found = [each for each in served if each.package.name == wanted.package]
    if not found:
        sources = sorted({each.source[1] for each in served})
        looked = f"looked at: {enumeration(sources, _SHOWN)}" if sources else "no catalog is served"
        fix = "Export it (hub-export create --package), and import the archive. hub-import inspect lists what an archive has."
        return Finding(NOT_SERVED, subject, "no catalog that is served has the package", (looked,), fix)
    if len(found) > 1:
        sources = sorted("/".join(each.source) for each in found)
        fix = f"Name one: --catalog {sources[0].rpartition('/')[2]}."
        return Finding(SEVERAL, subject, "several catalogs have the package", tuple(sources), fix)
    (one,) = found
    name = wanted.channel or one.package.default_channel
    channel = next((each for each in one.package.channels if each.name == name), None)
    if channel is None:
        listed = [each.name for each in one.package.channels]
        evidence = (f"channels: {enumeration(listed, _SHOWN)}",)
        return Finding(
            NOT_SERVED, subject, f"its catalog has no channel {name}", evidence, "Name one of these: PACKAGE:CHANNEL."
        )
    entry = _entry(channel, wanted.version or channel.head)
    if entry is None:
        return _no_version(subject, wanted, one.package, channel)
    return Chosen(one, channel, entry, asked_channel=bool(wanted.channel))


def _entry(channel: ChannelRecord, version: str) -> BundleRecord | None:
    named = next((one for one in channel.bundles if one.name == version), None)
    return named or next((one for one in channel.bundles if one.version == version), None)


def _no_version(subject: str, wanted: Wanted, package: PackageRecord, channel: ChannelRecord) -> Finding:
    listed = [one.version or one.name for one in channel.bundles]
    evidence = [f"versions of channel {channel.name}: {enumeration(listed, _SHOWN)}"]
    others = [each.name for each in package.channels if _entry(each, wanted.version) is not None]
    if others:
        evidence.append(f"channels with {wanted.version}: {enumeration(others, _SHOWN)}")
        fix = f"Name the channel: {wanted.package}:{others[0]}@{wanted.version}."
    else:
        fix = "Export that version (hub-export create, minVersion), import the archive, or name one of these."
    return Finding(NOT_SERVED, subject, f"channel {channel.name} has no version {wanted.version}", tuple(evidence), fix)
