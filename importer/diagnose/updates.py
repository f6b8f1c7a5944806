"""The rules of a diagnosis for updates of the cluster to the releases of the archives. Pure.

Conditions of ClusterVersion are those of openshift/cluster-version-operator: pkg/cvo/availableupdates.go (RetrievedUpdates),
upgradeable.go (Upgradeable), updatepayload.go and sync_worker.go (ReleaseAccepted).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from common.text import counted
from common.version import try_parse
from importer.cluster.finding import Finding, Severity
from importer.cluster.kinds import MANAGED_NAMESPACE as MANAGED
from importer.cluster.kinds import short
from importer.cluster.nodes import RULES_MISSING
from importer.cluster.readiness.update_service import failing, untrusted
from importer.cluster.release import Release
from importer.cluster.resources.mirror_rules import Precedence, covers
from importer.cluster.resources.openshift_release import SIGNATURE_LABEL, has_signature, key_prefix
from importer.cluster.updates.outlook import channel_for
from importer.cluster.updates.reading import GATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from importer.cluster.updates.expected import ExpectedRelease
    from importer.cluster.updates.outlook import Update
    from importer.cluster.updates.reading import UpdateState
    from importer.diagnose.snapshot import Snapshot

VERSION = "ClusterVersion version"
UNSIGNED, UNSIGNED_IMAGE, NOT_IN_MIRROR = "release-signature-missing", "release-image-unsigned", "release-not-in-mirror"
INCOMPLETE = "release-incomplete"
SERVICE_FAILED = "update-service-failed"
ACK, NOT_UPGRADEABLE = "update-ack-wanted", "update-not-upgradeable"
_LONGEST = 600  # of a condition's message
_PUBLISHED = "quay.io/openshift-release-dev/"
# The default policy: of the payload from 4.21 on, of components from 4.22 on (cluster-update-keys, manifests.rhel).
_PAYLOAD_SIGNED, _COMPONENTS_SIGNED = Release(4, 21), Release(4, 22)
_UNVERIFIED = re.compile(r"cannot be verified|ImageVerificationFailed")
_SIGSTORE = re.compile(r"SignatureValidationFailed|signature was required", re.IGNORECASE)
_ABSENT = re.compile(r"manifest unknown|name unknown|not found", re.IGNORECASE)
_X509 = re.compile(r"x509:|certificate signed by unknown", re.IGNORECASE)


def subject_of(release: ExpectedRelease) -> str:
    """Return the subject of findings about the update to a release."""
    return f"update to {release.name}"


def updates(snapshot: Snapshot) -> Iterator[Finding]:
    """Yield what keeps the cluster from the releases of the archives, or from an update that was asked for."""
    state = snapshot.updates
    if state is None:
        return
    yield from _accepted(state)
    for update in snapshot.targets:
        yield from _release(state, update.release)
        yield from _rules(snapshot, update.release)
    if not snapshot.targets:
        return
    yield from _acknowledgements(snapshot.targets)
    yield from _upgradeable(state, snapshot.targets)
    services = list(_services(state, snapshot))
    yield from services
    # Without a service the administrator names the payload, and no graph is asked for; one that is not up explains its absence.
    if (state.services or state.upstream) and not any(each.code == SERVICE_FAILED for each in services):
        yield from _graph(state, snapshot.targets)


# The update that the administrator asked for.


def _accepted(state: UpdateState) -> Iterator[Finding]:
    found = state.condition("ReleaseAccepted")
    if found.get("status") != "False":
        return
    message, reason = short(found.get("message"), _LONGEST), str(found.get("reason") or "")
    for pattern, code, cause, fix in _REFUSALS:
        if pattern.search(message) or pattern.search(reason):
            yield Finding(code, VERSION, cause, (message,), fix)
            return
    yield Finding(
        "release-not-accepted",
        VERSION,
        f"the cluster does not take the release that it was asked to update to ({reason or 'no reason'})",
        (message,),
        "See the evidence; oc adm upgrade says more. Do not force the update: that skips the signature and all preconditions.",
    )


_REFUSALS = (
    (
        _UNVERIFIED,
        UNSIGNED,
        "the cluster has no valid signature of the release that it was asked to update to",
        "hub-import apply with the archive of that release writes the signature; the cluster looks again within minutes.",
    ),
    (
        _SIGSTORE,
        UNSIGNED_IMAGE,
        "a ClusterImagePolicy asks for a signature of the release's images, and the mirror has none",
        "Export the release with its signatures (--signatures carry), and push again: they are `.sig` tags on the mirror.",
    ),
    (
        re.compile(r"AdminAckRequired"),
        ACK,
        "the update waits for an acknowledgement by an administrator",
        f"Check what the message asks for; then hub-import apply --acknowledge NAME, a name of ConfigMap {GATES} in {MANAGED}.",
    ),
    (
        re.compile(r"PreconditionChecks|Precondition"),
        NOT_UPGRADEABLE,
        "a precondition of the update is not met",
        "Settle what the message names; oc adm upgrade shows whether it is settled.",
    ),
    (
        _ABSENT,
        NOT_IN_MIRROR,
        "the payload is not where the mirror rules lead to",
        "Push the archive of that release: hub-import push, then apply.",
    ),
)


# The releases that the cluster can go to.


def _release(state: UpdateState, release: ExpectedRelease) -> Iterator[Finding]:
    if release.missing:
        yield Finding(
            INCOMPLETE,
            subject_of(release),
            "the archive had not all images of the release, so that its update would stop half way",
            (f"{counted(release.missing, 'image')} could not be fetched",),
            "Export the release again, push and apply; the report of the export has the reason.",
            severity=Severity.WARNING,
        )
        return  # it gets no signature before
    if not has_signature(state.signatures, release.digest):
        again = "hub-import apply with the archive of the release writes it."
        without = "The archive has none: export the release again without --unverified-release, if it is signed at all."
        yield Finding(
            UNSIGNED,
            subject_of(release),
            "the cluster has no signature of the payload, and would refuse it",
            (f"no ConfigMap with the label {SIGNATURE_LABEL} has a key {key_prefix(release.digest)}…",),
            again if release.signed else without,
            severity=Severity.WARNING,
        )
    if asked := tuple(_unsigned(state, release)):
        yield Finding(
            UNSIGNED_IMAGE,
            subject_of(release),
            "a ClusterImagePolicy asks for signatures of the release's images, and the archive had none",
            asked,
            "Export the release with its signatures (--signatures carry), push and apply again.",
            severity=Severity.WARNING,
        )


def absent_payload(release: ExpectedRelease, fault: str) -> Finding:
    """Return the finding about a payload that the mirror does not have as the cluster and an update service look for it."""
    cause, fix = "the payload is not on the mirror as it was pushed", "Push the archive of the release again: hub-import push."
    return Finding(NOT_IN_MIRROR, subject_of(release), cause, (fault,), fix, severity=Severity.WARNING)


def _rules(snapshot: Snapshot, release: ExpectedRelease) -> Iterator[Finding]:
    """Yield a warning for sources that no mirror rule leads to the mirror; what pools lack is a finding of theirs."""
    if snapshot.mirror_rules is None or any(snapshot.missing_rules.values()):
        return
    precedence = Precedence(snapshot.mirror_rules)
    # Compared with an archive, the place is that of a rule; without one only the source is known.
    missing = [source for source, mirror in release.rules if not precedence.leads(source, mirror)]
    missing += [release.source] if not release.place and not precedence.followed(release.source) else []
    if missing:
        yield Finding(
            RULES_MISSING,
            subject_of(release),
            "no mirror rule of the cluster leads images of the release to the mirror",
            tuple(missing),
            "hub-import apply with the archive of the release writes the rules.",
            severity=Severity.WARNING,
        )


def _unsigned(state: UpdateState, release: ExpectedRelease) -> Iterator[str]:
    """Yield the images without a `.sig` tag that a policy asks for, of this cluster or of the release itself."""
    version = try_parse(release.version)
    target = Release(*version.release[:2]) if version else None
    published = not release.okd and release.source.startswith(_PUBLISHED)
    sources = {source for source, _ in release.rules} - {release.source}
    default = target if published and target is not None else Release(0, 0)
    if not release.sigstore and (policy := _policy(state, [release.source], default >= _PAYLOAD_SIGNED)):
        yield f"{policy}: the payload {release.source} has no .sig tag"
    if release.unsigned and (policy := _policy(state, sorted(sources), default >= _COMPONENTS_SIGNED)):
        yield f"{policy}: {release.unsigned} components have no .sig tag"


def _policy(state: UpdateState, sources: Sequence[str], default: bool) -> str:
    """Return the policy that covers images; that of the release, which the update brings, where `default` is set."""
    for policy in state.policies:
        scopes = (policy.get("spec") or {}).get("scopes") or []
        if any(covers(str(scope), source) for scope in scopes for source in sources):
            return f"ClusterImagePolicy {policy['metadata']['name']}"
    return "ClusterImagePolicy openshift of the release" if default else ""


def _acknowledgements(targets: Sequence[Update]) -> Iterator[Finding]:
    wanted = {name: text for update in targets for name, text in update.acknowledge}
    if wanted:
        releases = ", ".join(update.release.version for update in targets if update.acknowledge)
        yield Finding(
            ACK,
            VERSION,
            f"updates to {releases} wait for an acknowledgement by an administrator",
            tuple(f"{name}: {text}" for name, text in wanted.items()),
            f"Check what it says; then hub-import apply {' '.join(f'--acknowledge {name}' for name in wanted)}.",
            severity=Severity.WARNING,
        )


def _upgradeable(state: UpdateState, targets: Sequence[Update]) -> Iterator[Finding]:
    found, now = state.condition("Upgradeable"), state.current
    versions = [version for each in targets if (version := try_parse(each.release.version)) is not None]
    later = [version for version in versions if now is not None and version.release[:2] > now.release[:2]]
    # An acknowledgement is a finding of its own; Upgradeable keeps only updates to a later minor release back.
    if found.get("status") != "False" or found.get("reason") == "AdminAckRequired" or not later:
        return
    yield Finding(
        NOT_UPGRADEABLE,
        VERSION,
        f"the cluster says that it cannot be updated to {', '.join(map(str, later))} ({found.get('reason')})",
        (short(found.get("message"), _LONGEST),),
        "Settle what the message names. Updates within the present minor release do not need it.",
        severity=Severity.WARNING,
    )


# The update service and its graph.


def _services(state: UpdateState, snapshot: Snapshot) -> Iterator[Finding]:
    hosts = {update.release.place.partition("/")[0] for update in snapshot.targets}
    for service in state.services or ():
        host = str((service.get("spec") or {}).get("releases") or "").partition("/")[0]
        subject = f"UpdateService {service['metadata'].get('namespace')}/{service['metadata']['name']}"
        if host not in hosts:
            continue
        if why := failing(service):
            fix = "See the evidence; a name that is too long for a host is the usual cause of CreateRouteFailed."
            yield _warning(SERVICE_FAILED, subject, "its operator cannot bring it up", why, fix)
        # Without a CA of the mirror on the nodes its certificate is a public one, and no key is needed.
        elif (why := untrusted(service)) and host.replace(":", "..") in snapshot.ca_keys:
            fix = "hub-import apply --ca FILE with an archive that has graph data writes the key."
            cause = "the update service does not trust the mirror: the CA is missing under the key updateservice-registry"
            yield _warning("update-service-untrusted", subject, cause, why, fix)


def _graph(state: UpdateState, targets: Sequence[Update]) -> Iterator[Finding]:
    found = state.condition("RetrievedUpdates")
    if found.get("status") != "False":
        return
    message = short(found.get("message"), _LONGEST)
    code, cause, fix = _of_graph(state, targets, found, message)
    yield _warning(code, VERSION, cause, message, fix)


def _of_graph(state: UpdateState, targets: Sequence[Update], found: Mapping[str, Any], message: str) -> tuple[str, str, str]:
    reason = found.get("reason")
    if reason == "NoChannel":
        fix = f"oc adm upgrade channel {channel_for(targets[0].release)}"
        return "update-channel-missing", "the cluster has no channel, and asks for no updates", fix
    if reason == "VersionNotFound":
        fix = "Choose a channel that has the version (oc adm upgrade channel), or import newer graph data."
        return "update-graph-outdated", f"the update graph does not know the cluster's version in channel {state.channel}", fix
    if _X509.search(message):
        fix = "Add the CA of the cluster's router to the ConfigMap of spec.trustedCA of Proxy cluster, key ca-bundle.crt."
        return "update-graph-untrusted", "the cluster does not trust the certificate of its update service", fix
    cause = f"the cluster gets no update graph ({reason})"
    if not state.follows_service:
        other = "hub-import apply --update-service lets it ask its UpdateService." if state.services else _NAMED
        return "update-graph-unreachable", cause, other
    return "update-graph-unreachable", cause, "Look at the pods and the route of the UpdateService; it reads the mirror first."


_NAMED = "Set spec.upstream to an update service that answers; oc adm upgrade --to-image needs none."


def _warning(code: str, subject: str, cause: str, evidence: str, fix: str) -> Finding:
    return Finding(code, subject, cause, (evidence,), fix, severity=Severity.WARNING)
