"""ClusterServiceVersions and InstallPlans: which are wrong, which wait on purpose, and which another cause explains.

Sources: operator-framework/api, pkg/operators/v1alpha1 (phases and reasons); operator-lifecycle-manager,
pkg/controller/operators/catalog/operator.go and pkg/controller/bundle/bundle_unpacker.go (messages).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from importer.diagnose.installing import current_plans, unwell
from importer.diagnose.olm_objects import Plan, Version, with_unpacking
from importer.diagnose.rules import diagnose
from importer.diagnose.workloads import WaitingImage
from tests.fakes.snapshots import snapshot, source, subscription
from tests.samples import more

X509 = "rpc error: x509: certificate signed by unknown authority"


def csv(phase, reason="InstallWaiting", since_s=3600.0, name="op.v1", deployments=("op",), **fields):
    return Version("site", name, phase, reason, "said by OLM", deployments, since_s=since_s, **fields)


def plan(phase, failure="", name="install-1", **fields):
    return Plan("site", name, phase, ("op.v2",), failure, **fields)


def found(*versions, plans=(), waiting=(), subscriptions=None, **fields):
    listed = [subscription()] if subscriptions is None else subscriptions
    state = snapshot(*listed, sources=[source()], versions=versions, plans=tuple(plans), waiting=tuple(waiting), **fields)
    return [(each.code, each.severity) for each in diagnose(state)]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (csv("Succeeded", "InstallSucceeded"), []),
        (csv("Replacing", "BeingReplaced"), []),
        (csv("Failed", "InstallCheckFailed"), [("csv-failed", "error")]),
        (csv("Failed", "ComponentUnhealthy", since_s=5.0), [("csv-failed", "error")]),
        (csv("Pending", "RequirementsNotMet"), [("csv-pending", "error")]),
        (csv("Pending", "RequirementsNotMet", since_s=5.0), [("csv-pending", "warning")]),
        (csv("Pending", "RequirementsNotMet", since_s=None), [("csv-pending", "error")]),
        (csv("InstallReady", "AllRequirementsMet", since_s=30.0), []),
        (csv("InstallReady", "AllRequirementsMet"), [("csv-pending", "error")]),
        (csv("Installing", since_s=None), []),
        (csv("Failed", "UnsupportedOperatorGroup"), [("operator-group", "error")]),
        (csv("Failed", "NoOperatorGroup"), [("operator-group", "error")]),
    ],
)
def test_phases_and_reasons(version, expected):
    assert found(version) == expected


@pytest.mark.parametrize(
    ("since_s", "text"),
    [
        (600.0, "10 minutes"),
        (7100.0, "118 minutes"),
        (2 * 3600.0, "2 hours"),
        (47.9 * 3600, "47 hours"),
        (333 * 86400.0, "333 days"),
    ],
)
def test_how_long_an_operator_waits_is_said_in_fitting_units(since_s, text):
    state = snapshot(sources=[source()], versions=(csv("Installing", since_s=since_s),))
    (one,) = diagnose(state)
    assert one.cause.endswith(f"in phase Installing for {text}")


def test_a_version_of_which_olm_says_nothing_yet_has_no_empty_words():
    """OLM makes a ClusterServiceVersion first, and its status afterwards (operator-lifecycle-manager, olm/operator.go)."""
    silent = Version("site", "op.v1", "", "", "", since_s=3600.0)
    (one,) = diagnose(snapshot(sources=[source()], versions=(silent,)))
    assert one.evidence == ("phase none yet",)
    assert Version("site", "op.v1", "Pending", "", "only words").said == "only words"
    assert Version("site", "op.v1", "Pending", "OnlyReason", "").said == "OnlyReason"


def test_an_operand_of_an_operator_without_subscription_is_an_error():
    """A Subscription may be deleted while its ClusterServiceVersion, and so the operator, stays."""
    waiting = [WaitingImage("site", "operand-1", "manager", "nvcr.io/a/b:1", "ImagePullBackOff", "")]
    assert found(csv("Succeeded", "InstallSucceeded"), waiting=waiting, subscriptions=[]) == [("unknown", "error")]
    assert found(waiting=waiting, subscriptions=[]) == [("unknown", "warning")]


def test_two_operators_of_a_namespace_with_two_operator_groups_have_one_cause():
    said = "attenuated service account query failed - more than one operator group(s) are managing this namespace count=2"
    versions = [csv("Failed", "TooManyOperatorGroups", name=name) for name in ("a.v1", "b.v1")]
    assert found(*versions, plans=[plan("Failed", said)]) == [("operator-group", "error")]


def test_an_operator_whose_pod_waits_for_an_image_has_one_finding():
    pod = WaitingImage("site", "op-6f9c-x2", "manager", "nvcr.io/a/b:1", "ImagePullBackOff", "")
    assert found(csv("Failed", "InstallCheckFailed"), waiting=[pod]) == [("unknown", "error")]
    other = WaitingImage("site", "web-6f9c-x2", "manager", "nvcr.io/a/b:1", "ImagePullBackOff", "")
    assert [code for code, _ in found(csv("Failed", "InstallCheckFailed"), waiting=[other])] == ["unknown", "csv-failed"]


def test_what_is_required_is_named_with_its_way_out():
    missing = "CustomResourceDefinition.apiextensions.k8s.io jaegers.jaegertracing.io: NotPresent: CRD is not present"
    (one,) = diagnose(snapshot(versions=(csv("Pending", "RequirementsNotMet", unmet=(missing,)),)))
    assert missing in one.evidence
    assert "jaegers.jaegertracing.io" in one.fix
    old = "ClusterServiceVersion.operators.coreos.com op.v1: PresentNotSatisfied: minKubeVersion (1.99.0) > server version"
    (one,) = diagnose(snapshot(versions=(csv("Pending", "RequirementsNotMet", unmet=(old,)),)))
    assert "Update the cluster" in one.fix


UNPACKING = "bundle unpacking failed. Reason: DeadlineExceeded, and Message: Job was active longer"
FAILURES = [
    'error validating existing CRs against new CRD\'s schema for "x": error validating',
    "risk of data loss updating x: new CRD removes version v1alpha1",
    "api-server resource not found installing VerticalPodAutoscaler x",
    "something else",
]


@pytest.mark.parametrize("failure", [UNPACKING, FAILURES[0], *more(FAILURES[1:])])
def test_failed_plans(failure):
    code = "bundle-unpack-failed" if failure == UNPACKING else "installplan-failed"
    assert found(plans=[plan("Failed", failure)]) == [(code, "error")]


def test_plans_that_wait_for_approval_are_one_warning():
    plans = [plan("RequiresApproval", name=f"install-{number}") for number in range(30)]
    (one,) = diagnose(snapshot(plans=tuple(plans)))
    assert (one.code, one.severity, one.subject) == ("installplan-waits", "warning", "30 InstallPlans")
    assert len(one.evidence) == 21
    assert "approved" in one.fix


def test_a_plan_that_takes_long_is_unknown_unless_its_pod_waits_for_an_image():
    said = "Unpack pod(openshift-marketplace/1f2e-x) container(pull) is pending. Reason: ErrImagePull, Message: x"
    slow = plan("Installing", unpacking=said, since_s=3600.0)
    assert found(plans=[slow]) == [("unknown", "error")]
    pod = WaitingImage(
        "openshift-marketplace", "1f2e-x", "pull", f"registry.redhat.io/a@sha256:{'ab' * 32}", "ErrImagePull", X509
    )
    assert [code for code, _ in found(plans=[slow], waiting=[pod])] == ["registry-untrusted"]
    assert found(plans=[plan("Installing", since_s=60.0), plan("Installing", since_s=None)]) == []


@pytest.mark.parametrize(
    ("approval", "started", "known"), [("Automatic", "", True), ("Manual", "", False), ("Manual", "now", True)]
)
def test_a_plan_begins_when_it_may(approval, started, known):
    now = datetime.now(UTC).isoformat()
    status = {"phase": "Installing", **({"startTime": now} if started else {})}
    body = {
        "metadata": {"name": "i", "namespace": "site", "creationTimestamp": now},
        "spec": {"approval": approval},
        "status": status,
    }
    assert (Plan.of(body).since_s is not None) is known


def test_a_deleted_plan_is_named():
    waits = subscription(InstallPlanMissing="referenced installplan not found")
    assert found(subscriptions=[waits]) == [("installplan-missing", "error")]


def test_what_status_shows():
    state = snapshot(versions=(csv("Installing"), csv("Succeeded")), plans=(plan("Complete"), plan("Installing")))
    assert [each.phase for each in unwell(state)] == ["Installing"]
    assert [each.phase for each in current_plans(state)] == ["Installing"]


def test_the_fields_of_a_version_are_read():
    stamp = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    requirements = [
        {"group": "apiextensions.k8s.io", "kind": "CustomResourceDefinition", "name": "a.b", "status": "NotPresent"},
        {"kind": "ServiceAccount", "name": "op", "status": "PresentNotSatisfied", "message": "Policy rule not satisfied"},
        {"kind": "ServiceAccount", "name": "well", "status": "Present"},
    ]
    status = {
        "phase": "Pending",
        "reason": "RequirementsNotMet",
        "lastTransitionTime": stamp,
        "requirementStatus": requirements,
    }
    deployments = {"install": {"spec": {"deployments": [{"name": "op"}]}}}
    one = Version.of({"metadata": {"name": "op.v1", "namespace": "site"}, "spec": deployments, "status": status})
    assert (one.deployments, 3599 < one.since_s < 3700) == (("op",), True)
    assert one.unmet == (
        "CustomResourceDefinition.apiextensions.k8s.io a.b: NotPresent",
        "ServiceAccount op: PresentNotSatisfied: Policy rule not satisfied",
    )
    assert Version.of({"metadata": {"name": "op.v1", "namespace": "web"}, "status": {"reason": "Copied"}}) is None


def test_pods_that_may_not_be_read_are_known_from_the_message_of_their_unpack_job():
    """Since OLM 0.18 the message of a pending bundle quotes the pods of its job."""
    image = f"registry.redhat.io/a/b-bundle@sha256:{'ab' * 32}"
    said = (
        "unpack job not completed: Unpack pod(openshift-marketplace/1f2e-x) container(pull) is pending. Reason: ImagePullBackOff, "
        f'Message: Back-off pulling image "{image}" | '
    )
    pending = {"identifier": "op.v2", "conditions": [{"type": "BundleLookupPending", "status": "True", "message": said}]}
    body = {"metadata": {"name": "i", "namespace": "site"}, "status": {"phase": "Installing", "bundleLookups": [pending]}}
    (one,) = with_unpacking([], [subscription(BundleUnpacking=said)], [Plan.of(body)])
    assert (one.pod, one.image, one.reason) == ("1f2e-x", image, "ImagePullBackOff")
    known = WaitingImage("openshift-marketplace", "1f2e-x", "pull", image, "ErrImagePull", "x509")
    assert with_unpacking([known], [], [Plan.of(body)]) == (known,)
