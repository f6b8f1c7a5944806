"""What keeps a cluster from the releases of the archives: rules of a diagnosis on states made by hand."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from common.archive.inventory import RiskRecord, UpdateStepRecord
from common.oci.image import digest_of
from importer.cluster.release import Release
from importer.cluster.updates.expected import ExpectedRelease
from importer.cluster.updates.outlook import updates as possible
from importer.cluster.updates.reading import UpdateState
from importer.diagnose.rules import diagnose
from importer.diagnose.snapshot import Snapshot
from importer.diagnose.state import Health
from importer.diagnose.updates import subject_of
from tests.samples import more

LABELLED = {"metadata": {"name": "x"}, "binaryData": {}}
PAYLOADS, POOL = "quay.io/openshift-release-dev/ocp-release", "quay.io/openshift-release-dev/ocp-v4.0-art-dev"
PRECONDITION = 'Preconditions failed: Precondition "ClusterVersionUpgradeable" failed because of'
# openshift/cluster-version-operator, pkg/cvo/sync_worker.go, syncPayload.
LOADED = 'Payload loaded version="4.18.40" image="quay.io/x@sha256:0" architecture="{}"'
RULES = ((PAYLOADS, "mirror.example/openshift/release-images"), (POOL, "mirror.example/openshift/release"))


def release(version="4.18.45", architecture="amd64", **fields):
    told = {"signed": True, "sigstore": True, "channels": ("stable-4.18",), "rules": RULES, **fields}
    place = f"mirror.example/openshift/release-images:{version}-x86_64"
    return ExpectedRelease(version, architecture, digest_of(f"{version} {architecture}".encode()), PAYLOADS, place, **told)


def state(*signed, version="4.18.40", conditions=(), spec=None, **fields):
    status = {"desired": {"version": version, **fields.pop("desired", {})}, "conditions": list(conditions)}
    keys = {f"sha256-{each.digest.partition(':')[2]}-1": "eA==" for each in signed}
    given = {"architectures": frozenset(("amd64",)), **fields}
    return UpdateState({"spec": spec or {}, "status": status}, signatures=({**LABELLED, "binaryData": keys},), **given)


def condition(kind, reason, message="why", status="False"):
    return {"type": kind, "status": status, "reason": reason, "message": message}


def snapshot(told, *releases, **fields):
    given = {
        "missing_rules": {},
        "ca_keys": frozenset(),
        "registry_state": "",
        "package_log": "",
        "rule_kinds": frozenset(),
        **fields,
    }
    empty = dict.fromkeys(("sources", "pools", "subscriptions", "jobs", "cluster_catalogs"), ())
    return Snapshot(release=Release(4, 18), updates=told, targets=possible(told, releases), **empty, **given)


def findings(told, *releases, **fields):
    return diagnose(snapshot(told, *releases, **fields))


def codes(told, *releases, **fields):
    return [(each.code, str(each.severity)) for each in findings(told, *releases, **fields)]


def test_a_cluster_that_has_everything_has_no_finding():
    target = release()
    assert codes(state(target), target) == []
    # Nor one that updates by digest, and whose public update service is out of reach as in every disconnected cluster.
    failed = condition("RetrievedUpdates", "RemoteFailed", "lookup api.openshift.com: no such host")
    assert codes(state(target, conditions=[failed]), target) == []


def test_a_key_in_data_or_of_another_payload_is_no_signature():
    """openshift/library-go, pkg/verify/store/configmap: `binaryData` alone, by the whole digest."""
    target, other = release(), release("4.18.44")
    assert codes(state(other), target) == [("release-signature-missing", "warning")]
    (found,) = findings(state(other), target)
    assert found.subject == subject_of(target)
    assert "hub-import apply" in found.fix
    (found,) = findings(state(other), release(signed=False))
    assert "--unverified-release" in found.fix


def test_releases_that_the_cluster_has_passed_or_cannot_reach_are_not_looked_at():
    for each in (
        release("4.18.40"),
        release("4.17.9"),
        release("4.20.1"),
        release("4.18.45", "arm64"),
        release("4.18.45", "multi"),
    ):
        assert codes(state(), each) == [], each.version
    multi = release("4.18.45", "multi")
    assert codes(state(desired={"architecture": "Multi"}), multi) == [("release-signature-missing", "warning")]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("failure=The update cannot be verified: unable to verify sha256:0 against keyrings: x", "release-signature-missing"),
        ('reason "SignatureValidationFailed" and message "Source image rejected"', "release-image-unsigned"),
        ("image pull failed: A signature was required, but no signature exists", "release-image-unsigned"),
        ('reason "ErrImagePull" and message "reading manifest: manifest unknown"', "release-not-in-mirror"),
        (f'{PRECONDITION} "AdminAckRequired": read this', "update-ack-wanted"),
        (f'{PRECONDITION} "PoolUpdating": x', "update-not-upgradeable"),
        ("failure=context deadline exceeded", "release-not-accepted"),
    ],
)
def test_an_update_that_was_asked_for_and_is_refused_is_an_error(message, code):
    """openshift/cluster-version-operator, pkg/cvo/updatepayload.go, sync_worker.go; pkg/payload/precondition."""
    refused = condition("ReleaseAccepted", "RetrievePayload", message)
    (found,) = findings(state(conditions=[refused]))
    assert (found.code, found.severity) == (code, "error")
    assert found.evidence == (message,)
    assert "force" not in found.fix.replace("Do not force", "")


def test_accepted_and_missing_conditions_are_no_finding():
    accepted = condition("ReleaseAccepted", "PayloadLoaded", status="True")
    assert codes(state(conditions=[accepted])) == []


def policy(*scopes, name="openshift"):
    return {"metadata": {"name": name}, "spec": {"scopes": list(scopes)}}


@pytest.mark.parametrize(
    ("target", "policies", "expected"),
    [
        (release("4.20.45", sigstore=False), (), None),
        (release("4.21.3", sigstore=False), (), "payload"),
        (release("4.21.3", unsigned=3), (), None),
        (release("4.20.45", sigstore=False), (policy("quay.io/openshift-release-dev"),), "payload"),
        (release("4.20.45", unsigned=3), (policy(POOL, name="ours"),), "3 components"),
        (release("4.21.3", sigstore=False, okd=True), (), None),
    ],
)
def test_sigstore_signatures_are_wanted_where_a_policy_asks(target, policies, expected):
    """openshift/cluster-update-keys, manifests.rhel: payloads from 4.21 on, components from 4.22 on."""
    told = state(target, version="4.20.40", policies=policies)
    found = [each for each in findings(told, target) if each.code == "release-image-unsigned"]
    assert bool(found) == (expected is not None)
    assert all(expected in " ".join(each.evidence) for each in found)


def test_components_of_4_22_need_their_signatures_too():
    target = release("4.22.1", unsigned=2)
    (found,) = findings(state(target, version="4.21.9"), target)
    assert found.evidence == ("ClusterImagePolicy openshift of the release: 2 components have no .sig tag",)


def test_gates_count_for_the_present_minor_release_and_later_targets():
    gates = {
        "ack-4.18-one-in-4.19": "Read one.",
        "ack-4.17-old-in-4.18": "Old.",
        "ack-4.18-two-in-4.19": "Read two.",
        "bad": "x",
    }
    same, later = release(), release("4.19.3")
    told = state(same, later, gates=gates, acks={"ack-4.18-two-in-4.19": "true"})
    (found,) = findings(told, same, later)
    assert found.evidence == ("ack-4.18-one-in-4.19: Read one.",)
    assert "4.19.3" in found.cause
    assert "--acknowledge ack-4.18-one-in-4.19" in found.fix
    assert codes(told, same) == []
    # Any other value than "true" acknowledges nothing (upgradeable.go, checkAdminGate).
    denied = state(same, later, gates=gates, acks={"ack-4.18-two-in-4.19": "false", "ack-4.18-one-in-4.19": "yes"})
    assert len(findings(denied, later)[0].evidence) == 2


def test_upgradeable_false_concerns_later_minor_releases():
    told = [condition("Upgradeable", "PoolUpdating")]
    same, later = release(), release("4.19.3")
    assert codes(state(same, conditions=told), same) == []
    found = snapshot(state(same, later, conditions=told), same, later)
    health = Health(found, (), tuple(diagnose(found)), None)
    assert [health.obstacles(each) for each in found.targets] == [(), ("update-not-upgradeable",)]
    assert health.healthy


def test_an_update_service_of_another_mirror_is_not_looked_at():
    failed = {"conditions": [condition("ReconcileCompleted", "CreateRouteFailed")]}
    service = {"metadata": {"name": "s", "namespace": "n"}, "spec": {"releases": "other.example/x"}, "status": failed}
    target = release()
    assert codes(state(target, services=(service,)), target) == []
    ours = {**service, "spec": {"releases": "mirror.example/openshift/release-images"}}
    assert codes(state(target, services=(ours,)), target) == [("update-service-failed", "warning")]


def test_a_public_certificate_needs_no_key():
    """RegistryCACertFound is False for good there (cincinnati-operator, findTrustedCAConfig)."""
    status = {
        "conditions": [condition("RegistryCACertFound", "NotConfigured"), condition("ReconcileCompleted", "", status="True")]
    }
    service = {"metadata": {"name": "s", "namespace": "n"}, "spec": {"releases": "mirror.example/x"}, "status": status}
    target = release()
    told = state(target, services=(service,))
    assert codes(told, target) == []
    assert codes(told, target, ca_keys=frozenset(("mirror.example",))) == [("update-service-untrusted", "warning")]


def test_rules_that_lead_nowhere_are_named():
    target = release()
    assert codes(state(target), target, mirror_rules=()) == [("mirror-rules-missing", "warning")]


def test_the_commands_and_the_way():
    served = {"metadata": {"name": "s", "namespace": "n"}, "status": {"policyEngineURI": "https://u.example/"}}
    asks = {"upstream": "https://u.example/api/upgrades_info/v1/graph", "channel": "stable-4.18"}
    target = release("4.19.3", channels=("eus-4.20", "stable-4.19", "stable-4.20"))
    (update,) = possible(state(services=(served,), spec=asks), [target])
    assert update.commands == ("oc adm upgrade channel stable-4.19", "oc adm upgrade --to=4.19.3")
    (update,) = possible(state(services=(served,)), [target])
    assert update.commands == (f"oc adm upgrade --allow-explicit-upgrade --to-image {PAYLOADS}@{target.digest}",)
    # Cycles and strange versions in an inventory end.
    loop = (UpdateStepRecord("4.18.45", "4.18.44"), UpdateStepRecord("4.18.40", "4.18.45", (RiskRecord("R"),)))
    there, back = release("4.18.45", steps=loop), release("4.18.44", steps=(UpdateStepRecord("4.18.44", "4.18.45"),))
    found = possible(state(), [there, back, release("not a version")])
    assert [(each.release.version, each.via) for each in found] == [("4.18.44", ("4.18.45",)), ("4.18.45", ())]
    assert possible(state(version="strange"), [target]) == ()


def test_5_0_comes_after_4_22():
    assert [each.release.version for each in possible(state(version="4.22.9"), [release("5.0.1"), release("5.1.1")])] == [
        "5.0.1"
    ]


def test_a_long_way_of_a_strange_inventory_is_cut():
    """An inventory may list 10 000 releases and 100 000 steps; the way to each is bounded."""
    versions = ["4.18.40", *(f"4.18.{number}" for number in range(41, 400))]
    chain = [release(to, steps=(UpdateStepRecord(from_, to),)) for from_, to in pairwise(versions)]
    found = possible(state(), chain)
    assert len(found) == len(chain)
    assert max(len(each.via) for each in found) < 100


def test_a_range_has_releases_beside_its_path():
    """The archive of a range has the shortest path over it, for information: the releases in between can be chosen too."""
    last = release("4.18.45", steps=(UpdateStepRecord("4.18.40", "4.18.45"),))
    between, elsewhere = release("4.18.43"), release("4.20.1")
    found = possible(state(last), (release("4.18.40"), between, last, elsewhere))
    assert [(each.release.version, each.via) for each in found] == [("4.18.43", ()), ("4.18.45", ())]
    # A path of another cluster says where it begins: that release is none beside a path.
    other = (release("4.18.42"), release("4.18.44", steps=(UpdateStepRecord("4.18.42", "4.18.44"),)))
    assert [each.release.version for each in possible(state(last), (release("4.18.40"), last, *other))] == ["4.18.45"]


def test_releases_beside_a_long_path_take_no_longer_than_the_inventory():
    """An inventory may list 10 000 releases and 100 000 steps: each pair of both would take minutes."""
    steps = tuple(UpdateStepRecord("4.18.40", f"4.18.{number}") for number in range(100_000, 109_000))
    last = release("4.18.99999", steps=(UpdateStepRecord("4.18.40", "4.18.99999"), *steps))
    between = [release(f"4.18.{number}") for number in range(41, 1041)]
    started = time.process_time()
    assert len(possible(state(), [*between, last])) == 1001
    assert time.process_time() - started < 0.5  # 30 ms; 1.2 s for each pair


@pytest.mark.parametrize(
    "told",
    [
        {"architectures": frozenset(("amd64", "arm64"))},  # no payload of one architecture runs on both
        {"conditions": [condition("ReleaseAccepted", "PayloadLoaded", LOADED.format("Multi"), "True")]},
        {"spec": {"desiredUpdate": {"version": "4.18.40", "architecture": "Multi"}}},
        *more([{"desired": {"architecture": "Multi"}}]),
    ],
)
def test_a_cluster_of_a_multi_architecture_release_stays_one(told):
    """`desired.architecture` is younger than such clusters (openshift/api, config/v1, Release); their operator says it in a text.

    A cluster cannot go back to the payload of one architecture (openshift-docs, *Migrating to a cluster with multi-architecture
    compute machines*).
    """
    carried = (release("4.18.45"), release("4.18.45", "arm64"), release("4.18.45", "multi"))
    assert [each.release.architecture for each in possible(state(**told), carried)] == ["multi"]


def test_the_loaded_payload_of_one_architecture_is_none_of_several():
    told = [condition("ReleaseAccepted", "PayloadLoaded", LOADED.format("amd64"), "True")]
    carried = (release("4.18.45"), release("4.18.45", "multi"))
    assert [each.release.architecture for each in possible(state(conditions=told), carried)] == ["amd64"]


@pytest.mark.parametrize(
    ("channels", "chosen"),
    [(("candidate-4.18", "stable-4.18"), "stable-4.18"), (("eus-4.20", "fast-4.18"), "fast-4.18"), ((), "stable-4.18")],
)
def test_the_channel_that_is_suggested_is_that_of_the_command(channels, chosen):
    target = release(channels=channels)
    service = {"metadata": {"namespace": "n", "name": "hub"}, "status": {"policyEngineURI": "https://hub"}}
    told = state(
        target,
        spec={"upstream": "https://hub/api/upgrades_info/v1/graph"},
        services=(service,),
        conditions=[condition("RetrievedUpdates", "NoChannel")],
    )
    (found,) = [each for each in findings(told, target) if each.code == "update-channel-missing"]
    assert found.fix == f"oc adm upgrade channel {chosen}"
    assert possible(told, [target])[0].commands[0] == found.fix
