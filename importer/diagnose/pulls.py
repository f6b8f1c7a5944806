"""Rules about containers that wait for images, in any namespace: which rule, archive or registry is missing. No I/O.

A node pulls an image from the mirrors of the most specific rule, and then from its own registry. So the cause is found in this
order: the name, the rule, the archive (by the record of what was imported), and what the mirror answered. There is one finding
for each cause and registry, with the pods as evidence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from common.errors import UsageError
from common.oci.reference import Reference
from common.text import counted, shortened
from importer.cluster.finding import UNKNOWN, Finding, Severity
from importer.cluster.kinds import short
from importer.cluster.resources.mirror_rules import Precedence
from importer.diagnose.symptoms import IMAGE_ARCHITECTURE, PROXY, PULLS, SLOW, Symptom, match
from importer.diagnose.workloads import gives_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from importer.diagnose.snapshot import Snapshot
    from importer.diagnose.workloads import WaitingImage


WITHOUT_RULE, BY_TAG, NOT_CARRIED, NOT_IN_MIRROR = (
    "image-without-rule",
    "image-by-tag",
    "image-not-carried",
    "image-not-in-mirror",
)
_IMAGES_SHOWN, _PODS_SHOWN, _LINES_SHOWN = 5, 3, 10
_LONGEST = 400
_ASK = "See the evidence; `oc describe pod` and the log of the kubelet on that node say more."
# containers/image, docker/docker_image_src.go: every attempt but the last is in brackets; the last is the registry itself, also
# where the policy forbids it (`registry … is blocked in …`). CRI-O says all of it twice: for the image, and as an artifact.
_ATTEMPTS = re.compile(r"\(Mirrors also failed: (?P<mirrors>.*?)(?:\]\): (?P<last>\S+): (?P<error>.*))?$")
# Names that CRI-O cannot make a reference of (containers/image, pkg/shortnames).
_SHORT_NAME = re.compile(r"short.name|invalid reference format|couldn't parse image|InvalidImageName", re.IGNORECASE)
_BLOCKED = re.compile(r"is blocked in \S*registries\.conf")
# Symptoms of a registry that does not have an image, or cannot be asked.
_ABSENT = frozenset(("registry-unreachable", PROXY, NOT_IN_MIRROR))
# Symptoms of the node itself, whose words name no registry.
_OF_NODE = frozenset(("image-rejected-by-policy", "node-disk", IMAGE_ARCHITECTURE, SLOW))
# After the manifest: words that name no registry, since the one that gave it is asked for all else (containers/image, copy).
_OF_CONTENT = re.compile(r"\b(?:reading blob|fetching blob|writing blob|copying config|parsing image configuration)\b")
_PLATFORM = ("openshift-", "kube-")
_OF_OLM = frozenset(("olm", "operators"))


@dataclass(frozen=True, slots=True)
class _Cause:
    """Why images cannot be pulled. Images with the same code and registry have one finding."""

    code: str
    cause: str
    fix: str
    registry: str = ""
    about_registry: bool = False  # the registry is the subject, not the images
    fixable: bool = False


@dataclass(slots=True)
class _Group:
    cause: _Cause
    waiting: list[WaitingImage] = field(default_factory=list)


def waiting_pods(snapshot: Snapshot) -> Iterator[Finding]:
    """Give a finding for each cause for which containers wait for images."""
    rules = _Rules(snapshot)
    groups: dict[tuple[str, str], _Group] = {}
    for each in unexplained(snapshot):
        cause = rules.cause(each)
        groups.setdefault((cause.code, cause.registry), _Group(cause)).waiting.append(each)
    namespaces = operator_namespaces(snapshot)
    for group in groups.values():
        yield _finding(group, namespaces)


def cause_of(snapshot: Snapshot, waiting: WaitingImage) -> Finding:
    """Return why one container waits for its image."""
    return _finding(_Group(_Rules(snapshot).cause(waiting), [waiting]), frozenset())


def unexplained(snapshot: Snapshot) -> list[WaitingImage]:
    """Return the waiting containers, without those of catalogs that have findings of their own, or that are gone."""
    pods = {(source.namespace, pod.name) for source in snapshot.sources for pod in source.pods}
    here = {(source.namespace, source.name) for source in snapshot.sources}
    sources = snapshot.all_sources
    # The pods of a CatalogSource that was deleted are deleted a moment later.
    foreign = sources.bodies.keys() - here if sources is not None else frozenset[tuple[str, str]]()
    return [
        each
        for each in snapshot.waiting
        if (each.namespace, each.pod) not in pods and (not each.catalog or (each.namespace, each.catalog) in foreign)
    ]


def operator_namespaces(snapshot: Snapshot) -> frozenset[str]:
    """Return the namespaces with a Subscription or a ClusterServiceVersion."""
    subscribed = (str(each["metadata"].get("namespace") or "") for each in snapshot.subscriptions)
    # An operator runs on when its Subscription was deleted; copies of its ClusterServiceVersion are not read.
    return frozenset((*subscribed, *(version.namespace for version in snapshot.versions)))


def _concerns_operators(each: WaitingImage, namespaces: frozenset[str]) -> bool:
    here = each.namespace
    return each.of_operator or here in namespaces or here in _OF_OLM or here.startswith(_PLATFORM)


def _finding(group: _Group, namespaces: frozenset[str]) -> Finding:
    cause, waiting = group.cause, group.waiting
    images: dict[str, list[WaitingImage]] = {}
    for each in waiting:
        images.setdefault(each.image, []).append(each)
    shown = [f"{image}: {_pods(found)}" for image, found in images.items()]
    texts = list(dict.fromkeys(short(each.message, _LONGEST) for each in waiting if each.message))
    if cause.about_registry:
        subject = f"registry {cause.registry}"
    else:
        subject = f"image {waiting[0].image}" if len(images) == 1 else f"{counted(len(images), 'image')} of {cause.registry}"
    # A pod of an application is no reason to call the operators of a cluster unwell.
    ours = any(_concerns_operators(each, namespaces) for each in waiting)
    lines = [_line(image) for image in images] if "{lines}" in cause.fix else []
    return Finding(
        cause.code,
        subject,
        cause.cause,
        (*shortened(shown, _IMAGES_SHOWN), *(texts[:_PODS_SHOWN] or ["the kubelet gives no reason"])),
        cause.fix.replace("{lines}", ", ".join(shortened(lines, _LINES_SHOWN))),
        fixable=cause.fixable,
        severity=Severity.ERROR if ours else Severity.WARNING,
    )


def _pods(found: Sequence[WaitingImage]) -> str:
    return "; ".join(shortened([each.where for each in found], _PODS_SHOWN))


def _line(image: str) -> str:
    """Return the line of an image set that carries an image; both parts of its name where it has a tag and a digest."""
    return f"`- name: {image}`"


class _Rules:
    """The mirror rules of a cluster and what was imported, as far as they are known."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._known = snapshot.mirror_rules is not None
        self._precedence = Precedence(snapshot.mirror_rules or ())
        self._carried = {source for each in snapshot.expected for source, _ in each.rules}
        self._has_record = bool(snapshot.expected)
        self._mirrors = {each.mirror.partition("/")[0] for each in snapshot.expected if each.mirror}
        self._mirrors |= {each.image.partition("/")[0] for each in snapshot.expected}
        self._tag_rules = snapshot.release is None or len(snapshot.release.rule_kinds) > 1

    def cause(self, each: WaitingImage) -> _Cause:
        """Return why a container waits; `unknown` where nothing says it."""
        if each.reason == "InvalidImageName" or _SHORT_NAME.search(each.message):
            return _invalid(each.image)
        if each.reason == "ErrImageNeverPull":
            return _never_pulled(each.image)
        try:
            return self._of_reference(Reference.parse(each.image), each)
        except UsageError:
            return _unknown(each.image.partition("/")[0])

    def _of_reference(self, reference: Reference, each: WaitingImage) -> _Cause:
        host, by_tag = reference.registry, reference.digest is None
        # A pull from the mirror by its own name, or from a registry inside of the cluster, needs no rule.
        if not self._known or host in self._mirrors or _is_inside(host):
            return self._answered(host, each.message, carry="") or _unknown(host)
        rules = self._precedence.followed(reference.name)
        mirrors = [mirror for rule in rules if rule.by_tag is by_tag for mirror in rule.rule.mirrors]
        if mirrors:
            return self._with_rule(host, mirrors, each)
        if by_tag and (rules or self._is_carried(reference.name)):
            return self._by_tag(host)
        return self._without_rule(reference, each)

    def _is_carried(self, name: str) -> bool:
        while name not in self._carried and "/" in name:
            name = name.rpartition("/")[0]
        return name in self._carried

    def _with_rule(self, host: str, mirrors: Sequence[str], each: WaitingImage) -> _Cause:
        hosts = [mirror.partition("/")[0] for mirror in mirrors]
        text = _of_mirrors(each.message, hosts)
        if text:
            named = next((one for one in hosts if one in text), hosts[0])
            return self._answered(named, text, carry="{lines}") or _unknown(named)
        found = match(PULLS, (each.message,))
        if found and found[0].code in _OF_NODE:
            return _Cause(found[0].code, found[0].cause, found[0].fix, host)
        if _OF_CONTENT.search(each.message):
            return self._answered(hosts[0], each.message, carry="{lines}") or _unknown(hosts[0])
        # The mirror is not mentioned at all: the node asked the registry itself, alone.
        if host in each.message and (_BLOCKED.search(each.message) or (found and found[0].code in _ABSENT)):
            return _Cause(
                WITHOUT_RULE,
                "the cluster has a mirror rule for it, and the node asked the image's own registry: it does not have the rule",
                "Wait until the pool of that node has its new configuration: oc get machineconfigpool.",
                host,
            )
        return _unknown(host)

    def _answered(self, registry: str, text: str, *, carry: str) -> _Cause | None:
        """Return the cause that a registry's answer, or the way to it, shows; None for an unknown text."""
        found = match(PULLS, (text,))
        if found is None:
            return None
        symptom = found[0]
        if symptom.code == NOT_IN_MIRROR:
            more = f" An archive that does not have it yet: {carry} under additionalImages of the image set." if carry else ""
            cause = f"the mirror {registry} does not have the image under the name and digest that the rule leads to"
            return _Cause(NOT_IN_MIRROR, cause if carry else symptom.cause, f"{symptom.fix}{more}", registry)
        if symptom.code == IMAGE_ARCHITECTURE:
            return _Cause(symptom.code, symptom.cause, symptom.fix, registry)
        fixable = registry in self._mirrors and symptom.code in {"registry-untrusted", "pull-unauthorized"}
        return _Cause(symptom.code, _at(symptom, registry), symptom.fix, registry, about_registry=True, fixable=fixable)

    def _by_tag(self, host: str) -> _Cause:
        fix = "Carry it by that tag, which writes the rule: {lines} under additionalImages of the image set."
        if not self._tag_rules:
            fix = "This release has no rule for tags: let the custom resource or the operator name the image by digest."
        return _Cause(BY_TAG, "it is named by tag, and the mirror rule of its repository is for digests alone", fix, host)

    def _without_rule(self, reference: Reference, each: WaitingImage) -> _Cause:
        host = reference.registry
        if self._is_carried(reference.name):
            cause = "its repository was imported, and no mirror rule of the cluster covers it"
            return _Cause(
                WITHOUT_RULE, cause, "Run hub-import apply again with the archive: it writes the missing rules.", host
            )
        carry = "Carry it, or correct its name: {lines} under additionalImages of the image set; then push and apply."
        if not self._has_record:
            cause = "no mirror rule of the cluster covers it, so the node asks its own registry"
            return _Cause(WITHOUT_RULE, cause, f"Apply the archive that has it. Otherwise: {carry[0].lower()}{carry[1:]}", host)
        found = match(PULLS, (each.message,))
        if found and found[0].code not in _ABSENT:
            cause = f"no mirror rule covers the image, and its own registry is asked: {found[0].cause}"
            return _Cause(found[0].code, cause, f"{carry} Or, where nodes are to use {host}: {found[0].fix}", host)
        if gives_reason(each.message) and not found and not _BLOCKED.search(each.message):
            return _unknown(host)
        return _Cause(
            NOT_CARRIED, "it is in no archive so far, by the record of imports, and no mirror rule covers it", carry, host
        )


def _at(symptom: Symptom, registry: str) -> str:
    return f"{symptom.cause} ({registry})"


def _of_mirrors(message: str, hosts: Iterable[str]) -> str:
    """Return the part of an error that is about mirrors; empty where it mentions none."""
    found = _ATTEMPTS.search(message)
    if found is None:
        return message if any(host in message for host in hosts) else ""
    last = str(found["last"] or "")
    # An image can be named by the host of a mirror.
    return f"{found['mirrors']} {found['error']}" if any(last.startswith(f"{host}/") for host in hosts) else found["mirrors"]


def _is_inside(host: str) -> bool:
    name = host.partition(":")[0]
    return name.endswith((".svc", ".svc.cluster.local")) or name == "localhost"


def _invalid(image: str) -> _Cause:
    cause = "the name of the image is none that a node can pull"
    fix = "Correct it where it comes from: the custom resource, or a variable such as RELATED_IMAGE_… of the operator."
    return _Cause("image-name-invalid", cause, fix, image.partition("/")[0] or "no registry")


def _never_pulled(image: str) -> _Cause:
    cause = "its pull policy is Never, and the node does not have the image"
    return _Cause("image-never-pulled", cause, "Set imagePullPolicy to IfNotPresent.", image.partition("/")[0])


def _unknown(host: str) -> _Cause:
    return _Cause(UNKNOWN, "containers wait for the image, for an unknown reason", _ASK, host)


def merged(found: Sequence[Finding], snapshot: Snapshot) -> list[Finding]:
    """Return the findings, with the pods of a registry's finding as evidence of the catalog's that has the same cause."""
    images = {f"CatalogSource {source.name}": source.image.partition("/")[0] for source in snapshot.sources}
    by_registry = {(each.code, each.subject): each for each in found if each.subject.startswith("registry ")}
    kept = []
    for each in found:
        same = by_registry.pop((each.code, f"registry {images.get(each.subject)}"), None)
        kept.append(replace(each, evidence=(*each.evidence, *same.evidence)) if same else each)
    left = set(by_registry.values())
    return [each for each in kept if not each.subject.startswith("registry ") or each in left]
