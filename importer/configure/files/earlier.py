"""Files of an earlier `render`, of which a later one takes nothing away (docs/reference/cluster.md, *render*; ADR 0060).

`apply` extends the mirror rules of the cluster, and deletes nothing. Files that replace each other in a repository would: an
operator that is still installed loses its rules with the first archive that does not carry it, and an Application that prunes
deletes its catalog.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from common.errors import UsageError
from common.files import read_limited
from common.serialization import load_yaml_documents
from importer.cluster.kinds import CONFIG_MAP, IMAGE_CONFIG, IMAGE_REGISTRY, OWN_LABELS
from importer.cluster.resources.build import certificates_of
from importer.cluster.resources.mirror_rules import FIELD, MIRROR_KINDS, MirrorRule, listed
from importer.configure.files.hosted import BUNDLE, PATCH, read_bundle, read_patch
from importer.configure.files.node_files import REGISTRIES_CONF, Access, ca_file, read_rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from importer.cluster.api.client import Body
    from importer.cluster.resources.mirror_rules import Pair


KUSTOMIZATION = "kustomization.yaml"
_FIELDS = {"apiVersion", "kind", "resources"}
MAX_FILE = 32 * 1024 * 1024  # bytes; a hundred objects of rules, of 250 kB each
MAX_FILES = 1_000  # that a kustomization lists
_RULE_FILES = {f"{kind.name.lower()}.yaml" for kind in MIRROR_KINDS}
# One file for each catalog and kind, and those that options of the earlier render made.
_KEPT = re.compile(
    r"(?:catalogsource|clustercatalog|catalog|release-signature|namespace|operatorgroup|subscription|clusterextension|serviceaccount"
    r"|clusterrolebinding|role|rolebinding)-[A-Za-z0-9.-]{1,317}\.yaml|registry-ca\.yaml|image-registry\.yaml"
)
_REPLACED = re.compile(r"operatorhub\.yaml|clustercatalogs-default\.yaml")
_SHARED = frozenset((IMAGE_CONFIG.name, IMAGE_REGISTRY.name))
_API_VERSIONS = {kind.name: kind.api_version for kind in MIRROR_KINDS}


class Shape(StrEnum):
    """Where a cluster has its mirror rules."""

    OBJECTS = "objects of OpenShift"
    NODES = "files on the nodes (--kubernetes, --microshift)"
    HOSTED = "a HostedCluster (--hosted)"


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier render: its objects of mirror `rules`, its other `files`, and the CAs of its ConfigMap by key.

    `defaults`: its files that switch the default sources off, which a render without catalogs has none of.
    `node_rules` and `access`: of its files for nodes, or of the patch of a HostedCluster; `bundle`: the CAs of such a one.
    `objects`: all, by kind and name.
    """

    rules: tuple[Body, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    defaults: Mapping[str, bytes] = field(default_factory=dict)
    authorities: Mapping[str, str] = field(default_factory=dict)
    node_rules: tuple[Pair, ...] = ()
    access: Mapping[str, Access] = field(default_factory=dict)
    bundle: str = ""
    objects: Mapping[tuple[str, str], Body] = field(default_factory=dict)

    @property
    def shape(self) -> Shape | None:
        """The kind of cluster that its rules are for; None without rules."""
        if self.rules:
            return Shape.OBJECTS
        if not self.node_rules:
            return None
        return Shape.NODES if self.access else Shape.HOSTED

    @property
    def existing(self) -> frozenset[MirrorRule]:
        """All mirror rules, each mirror apart."""
        found = (each for body in self.rules for each in listed(body))
        rules = {MirrorRule(each.rule.source, mirror, not each.by_tag) for each in found for mirror in each.rule.mirrors}
        return frozenset(rules | {MirrorRule(source, mirror, by_digest=True) for source, mirror in self.node_rules})


NONE = Earlier()


def read_earlier(directory: Path) -> Earlier:
    """Read the files of an earlier render. Raises UsageError for a file that cannot be read, or that is not of hub-import."""
    rules: list[Body] = []
    found: list[Body] = []
    files: dict[str, bytes] = {}
    defaults: dict[str, bytes] = {}
    authorities: dict[str, str] = {}
    for name in _listed(directory):
        path = directory / name
        if name in _RULE_FILES:
            rules += [_rule_object(path, each) for each in _documents(path, read_limited(path, MAX_FILE, _HINT))]
        elif _KEPT.fullmatch(name):
            files[name] = read_limited(path, MAX_FILE, _HINT)
            for body in _documents(path, files[name]):
                _require_own(path, body)
                authorities |= _authorities(body)
                found.append(body)
        elif _REPLACED.fullmatch(name):
            defaults[name] = read_limited(path, MAX_FILE, _HINT)
            found += _documents(path, defaults[name])
        else:
            raise UsageError(
                f"--merge {directory / KUSTOMIZATION}: it lists {name[:80]!r}, which hub-import does not write",
                hint="Keep additions in an overlay: every render replaces this file as a whole.",
            )
    _require_unique(directory, rules)
    objects = {(str(each.get("kind")), _name(dict(each))): each for each in (*rules, *found)}
    return _with_nodes(directory, Earlier(tuple(rules), files, defaults, authorities, objects=objects))


_HINT = "--merge names the directory of an earlier hub-import render; leave the option out for the first one."


def _listed(directory: Path) -> list[str]:
    """Return the files that the kustomization of a render lists."""
    path = directory / KUSTOMIZATION
    documents = list(_documents(path, read_limited(path, MAX_FILE, _HINT)))
    listed = documents[0].get("resources") if len(documents) == 1 else None
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise UsageError(f"--merge {path}: no kustomization with a list of resources", hint=_HINT)
    if other := sorted(str(each)[:80] for each in documents[0].keys() - _FIELDS):
        raise UsageError(
            f"--merge {path}: it has {other[0]}, which hub-import does not write",
            hint="Keep additions in an overlay: every render replaces this file as a whole.",
        )
    if len(listed) > MAX_FILES:
        raise UsageError(f"--merge {path}: lists more than {MAX_FILES} files", hint=_HINT)
    return listed


def _with_nodes(directory: Path, earlier: Earlier) -> Earlier:
    """Return an earlier render with its files for nodes, or those of a HostedCluster; unchanged without such files."""
    dropin, patch, bundle = (directory / name for name in (REGISTRIES_CONF, PATCH, BUNDLE))
    if dropin.exists():
        found = read_rules(str(dropin), read_limited(dropin, MAX_FILE, _HINT))
        access = {host: Access(_ca(directory / ca_file(host)), host in found.insecure) for host in sorted(found.hosts)}
        return replace(earlier, node_rules=found.rules, access=access)
    if patch.exists():
        earlier = replace(earlier, node_rules=tuple(read_patch(patch, read_limited(patch, MAX_FILE, _HINT))))
    if bundle.exists():
        earlier = replace(earlier, bundle=read_bundle(bundle, read_limited(bundle, MAX_FILE, _HINT)))
    return earlier


def _ca(path: Path) -> str | None:
    """Return the certificates of a file of an earlier render; None without one. Raises UsageError."""
    if not path.exists():
        return None
    return certificates_of(read_limited(path, MAX_FILE, _HINT).decode(errors="replace"), f"--merge {path}")


def _documents(path: Path, raw: bytes) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file. Raises UsageError for what is no object."""
    for document in load_yaml_documents(raw, f"--merge {path}"):
        if not isinstance(document, dict):
            raise UsageError(f"--merge {path}: not a Kubernetes object: {str(document)[:40]!r}", hint=_HINT)
        yield document


def _rule_object(path: Path, body: dict[str, Any]) -> Body:
    """Return an object of mirror rules of hub-import. Raises UsageError for any other."""
    kind = str(body.get("kind"))
    if _API_VERSIONS.get(kind) != body.get("apiVersion"):
        raise UsageError(f"--merge {path}: no mirror rules: {kind[:40]!r} of {str(body.get('apiVersion'))[:80]!r}", hint=_HINT)
    _require_own(path, body)
    spec = body.get("spec")
    rules = spec.get(FIELD[kind]) if isinstance(spec, dict) else None
    if not isinstance(rules, list) or not all(map(_is_rule, rules)):
        raise UsageError(f"--merge {path}: the rules of {kind} {_name(body)} cannot be read", hint=_HINT)
    return body


def _is_rule(rule: Any) -> bool:
    if not isinstance(rule, dict) or not isinstance(rule.get("source"), str):
        return False
    mirrors, policy = rule.get("mirrors"), rule.get("mirrorSourcePolicy", "")
    return isinstance(mirrors, list) and all(isinstance(each, str) for each in mirrors) and isinstance(policy, str)


def _require_own(path: Path, body: dict[str, Any]) -> None:
    """Raise UsageError for an object that hub-import did not render."""
    metadata = body.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    owned = isinstance(labels, dict) and labels.items() >= OWN_LABELS.items()
    # Singletons of the cluster have no label of hub-import: they are not its own.
    if not _name(body) or not (owned or body.get("kind") in _SHARED):
        label = "{}={}".format(*next(iter(OWN_LABELS.items())))
        raise UsageError(
            f"--merge {path}: {str(body.get('kind'))[:40]} {_name(body) or '(without a name)'} is not of hub-import",
            hint=f"Its objects have the label {label}. Keep other objects in an overlay.",
        )


def _name(body: dict[str, Any]) -> str:
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name[:253] if isinstance(name, str) else ""


def _authorities(body: dict[str, Any]) -> dict[str, str]:
    data = body.get("data") if body.get("kind") == CONFIG_MAP.name else None
    return {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}


def _require_unique(directory: Path, rules: list[Body]) -> None:
    names = [(body["kind"], _name(dict(body))) for body in rules]
    if twice := sorted({f"{kind} {name}" for kind, name in names if names.count((kind, name)) > 1}):
        raise UsageError(
            f"--merge {directory}: {twice[0]} is there twice", hint="Remove one of them, or render without --merge."
        )
