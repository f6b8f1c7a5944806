"""Files for a hosted control plane: the patch of its HostedCluster (docs/reference/cluster.md, *Hosted control planes*).

Nodes of a guest get mirror rules and CAs from `spec` of the HostedCluster (openshift/hypershift, api/hypershift/v1beta1,
hostedcluster_types.go), and no object in the guest changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.archive.inventory import Problem, ProblemCode
from common.errors import UsageError
from common.files import read_limited
from common.serialization import dump_yaml, load_yaml_documents
from importer.cluster.kinds import CONFIG_MAP, IDMS, OWN_LABELS, Resource
from importer.cluster.resources.build import NAME, certificates_of
from importer.cluster.resources.mirror_rules import FIELD, merge_rules, rules_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from importer.cluster.resources.mirror_rules import Pair, Rule, Scope


FOLDER = "hosting"
PATCH = f"{FOLDER}/hostedcluster-patch.yaml"
BUNDLE = f"{FOLDER}/trust-bundle.yaml"
MAX_FILE = 4 * 1024 * 1024  # bytes; a HostedCluster is an object of the API, of at most 1.5 MiB in etcd
# openshift/hypershift#6101 limited the lists of a HostedCluster, to 25 for a short time; #6166 and #6325 made it 255.
MAX_SOURCES = 255
_GROUP = "hypershift.openshift.io/"
_NOTE = """# oc patch hostedcluster NAME -n NAMESPACE --type merge --patch-file {patch}
# A merge patch replaces lists: {lists}.
# Every node pool of the cluster rolls out.
"""


@dataclass(frozen=True, slots=True)
class HostedCluster:
    """What a HostedCluster has: its mirror rules, the ConfigMap of its CAs, and the default sources that it names."""

    rules: tuple[Rule, ...] = ()
    bundle: str = ""
    sources: tuple[str, ...] = ()


def read_hosted_cluster(path: Path) -> HostedCluster:
    """Read a HostedCluster, as `oc get hostedcluster NAME -o yaml` prints it. Raises UsageError."""
    hint = "Wanted: the output of oc get hostedcluster NAME -n NAMESPACE -o yaml."
    documents = list(load_yaml_documents(read_limited(path, MAX_FILE, hint), f"--hosted-cluster {path}"))
    body = documents[0] if len(documents) == 1 and isinstance(documents[0], dict) else {}
    if body.get("kind") != "HostedCluster" or not str(body.get("apiVersion")).startswith(_GROUP):
        raise UsageError(f"--hosted-cluster {path}: not one HostedCluster of {_GROUP.rstrip('/')}", hint=hint)
    try:
        spec = body.get("spec") or {}
        listed = {"kind": IDMS.name, "spec": {FIELD[IDMS.name]: spec.get("imageContentSources") or []}}
        hub = (spec.get("configuration") or {}).get("operatorhub") or {}
        sources = tuple(str(each["name"]) for each in hub.get("sources") or [])
        return HostedCluster(tuple(rules_of(listed)), str((spec.get("additionalTrustBundle") or {}).get("name") or ""), sources)
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"--hosted-cluster {path}: a field has another type than in the API", hint=hint) from error


def hosted_files(rules: Iterable[Pair], ca: str | None, known: HostedCluster | None, *, defaults_off: bool) -> dict[str, bytes]:
    """Return the patch of the HostedCluster, and the ConfigMap with the CAs of the mirrors.

    `known` None: the object could not be read, and its lists have to be added to the patch by hand. `defaults_off`: catalogs
    take the place of the default sources.
    """
    live = known or HostedCluster()
    spec: dict[str, Any] = {"configuration": {"operatorhub": _defaults_off(live)}} if defaults_off else {}
    if sources := _sources(rules, live):
        spec["imageContentSources"] = sources
    texts: dict[str, str] = {}
    if ca is not None:
        name = live.bundle or NAME
        spec["additionalTrustBundle"] = {"name": name}
        note = (
            f"# Add this to ca-bundle.crt of the ConfigMap {name}, which the HostedCluster names already.\n"
            if live.bundle
            else ""
        )
        metadata = {"name": name, "labels": OWN_LABELS}
        body = {
            "apiVersion": CONFIG_MAP.api_version,
            "kind": CONFIG_MAP.name,
            "metadata": metadata,
            "data": {"ca-bundle.crt": ca},
        }
        texts[BUNDLE] = note + dump_yaml(body)
    lists = "those of the cluster are in it" if known else "add the imageContentSources that the cluster has"
    texts[PATCH] = _NOTE.format(patch=PATCH, lists=lists) + dump_yaml({"spec": spec})
    return {name: text.encode() for name, text in texts.items()}


def too_many(rules: Iterable[Pair], known: HostedCluster | None, by_scope: Mapping[Scope, Iterable[Pair]]) -> Iterator[Problem]:
    """Yield a problem for more sources than a HostedCluster takes. `by_scope`: the rules that each scope would have."""
    live = known or HostedCluster()
    if (number := len(_sources(rules, live))) <= MAX_SOURCES:
        return
    counts = [(scope, len(_sources(made, live))) for scope, made in by_scope.items()]
    smaller = ", ".join(f"--mirror-scope {scope}: {count}" for scope, count in counts if count < number)
    message = (
        f"the patch has {number} imageContentSources, and HyperShift takes at most {MAX_SOURCES} since July 2025; "
        f"{smaller or 'no other --mirror-scope has fewer: import fewer operators'}"
    )
    yield Problem("error", ProblemCode.HOSTED_RULES, PATCH, message)


def _defaults_off(live: HostedCluster) -> dict[str, Any]:
    # Disables the defaults of both placements; `sources` win over it (operator-marketplace, README.md).
    named = {"sources": [{"name": name, "disabled": True} for name in live.sources]} if live.sources else {}
    return {"disableAllDefaultSources": True, **named}


def _sources(rules: Iterable[Pair], live: HostedCluster) -> list[dict[str, Any]]:
    """Return the list of the HostedCluster, with the wanted rules merged as into those of a cluster."""
    by_source: dict[str, list[str]] = {}
    for source, mirror in rules:
        by_source.setdefault(source, []).append(mirror)
    wanted = _digest_set("hub", ({"source": source, "mirrors": mirrors} for source, mirrors in sorted(by_source.items())))
    present = _digest_set("foreign", (each.to_builtins() for each in live.rules))
    found: dict[str, list[str]] = {each.source: list(each.mirrors) for each in live.rules}
    # The rules of one source are one entry here: its own mirror first, then those that nodes followed before.
    for resource in merge_rules([wanted], [present.body]).write:
        # A rule for pulls by tag, with which a broader one is kept on OpenShift, has no field here.
        for rule in rules_of(resource.body) if resource.kind == IDMS.name else ():
            found[rule.source] = list(dict.fromkeys((*rule.mirrors, *found.get(rule.source, ()))))
    return [{"source": source, "mirrors": mirrors} for source, mirrors in found.items()]


def _digest_set(name: str, rules: Iterable[dict[str, Any]]) -> Resource:
    spec = {FIELD[IDMS.name]: list(rules)}
    return Resource.of({"apiVersion": IDMS.api_version, "kind": IDMS.name, "metadata": {"name": name}, "spec": spec})


def read_bundle(path: Path, raw: bytes) -> str:
    """Return the CAs of an earlier ConfigMap. Raises UsageError."""
    origin = f"--merge {path}"
    try:
        texts = [str(each["data"]["ca-bundle.crt"]) for each in load_yaml_documents(raw, origin)]
        return certificates_of("".join(texts), origin)
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"--merge {path}: not a ConfigMap of CAs: {str(error)[:200]}",
            hint="Restore the file, or remove it: its CAs are then lost.",
        ) from error


def read_patch(path: Path, raw: bytes) -> Iterator[Pair]:
    """Yield the rules of an earlier patch. Raises UsageError."""
    try:
        for document in load_yaml_documents(raw, f"--merge {path}"):
            for each in document["spec"].get("imageContentSources") or []:
                yield from ((str(each["source"]), str(mirror)) for mirror in each["mirrors"])
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(
            f"--merge {path}: not a patch of hub-import: {str(error)[:200]}",
            hint="Restore the file, or remove it: its rules are then lost.",
        ) from error
