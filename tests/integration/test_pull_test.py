"""The pull test on the fake cluster: verdicts of two pools and two architectures, what it leaves, and what refuses it.

The kubelets' side is tests/fakes/cluster_kubelets.py, which cites Kubernetes, CRI-O and containers/image.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest

from importer.cluster.api.client import connect
from importer.cluster.kinds import NAMESPACE, OWN_LABELS, POD
from importer.cluster.record import PullImage
from importer.pulls.objects import NAME, TEMPORARY_LABEL, namespace
from tests.fakes.cluster import Fault
from tests.fakes.cluster_kubelets import WORDS
from tests.fakes.pull_sites import IMAGE, IMAGES, NOW, Dying, Killed, Site
from tests.samples import more

pytestmark = pytest.mark.integration


@pytest.fixture
def site(tmp_path):
    with Site(tmp_path) as found:
        found.cluster.kubelets.two_pools()
        yield found


def by_group(found):
    return {each.group.name: each for each in found.verdicts}


def test_each_pool_and_architecture_pulls_through_the_mirror(site):
    found = by_group(site.test())
    assert list(found) == ["master/amd64", "worker/amd64", "worker/arm64"]
    assert {each.outcome for each in found.values()} == {"pulled"}
    assert {each.seconds for each in found.values()} == {1.234567}
    assert {each.through for each in found.values()} == {"mirror-first"}  # AllowContactingSource: the source is not excluded
    assert found["worker/arm64"].node == "worker-1"
    assert site.left == ([], False)
    assert {host for _, host in site.cluster.kubelets.asked} == {"mirror.example.com:5000"}
    created = [json.loads(each.body) for each in site.cluster.writes if each.method == "POST"]
    labels = next(each for each in created if each["kind"] == "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = created[-1]["spec"]
    assert pod["containers"][0]["imagePullPolicy"] == "Always"
    assert pod["containers"][0]["image"] == IMAGE
    assert pod["automountServiceAccountToken"] is False


def test_only_a_source_that_must_not_be_contacted_proves_the_mirror(tmp_path):
    with Site(tmp_path, policy="NeverContactSource") as site:
        site.cluster.kubelets.two_pools()
        assert {each.through for each in site.test().verdicts} == {"mirror"}


CAUSES = [
    ("x509", "registry-untrusted"),
    ("unauthorized", "pull-unauthorized"),
    ("missing", "image-not-in-mirror"),
    ("proxy-forbids", "registry-proxy"),
    *more(
        [
            ("forbidden", "pull-unauthorized"),
            ("denied", "pull-unauthorized"),
            ("name", "registry-certificate-name"),
            ("absent", "image-not-in-mirror"),
            ("timeout", "registry-unreachable"),
            ("deadline", "registry-unreachable"),
            ("dns", "registry-unreachable"),
            ("http", "registry-plain-http"),
            ("disk", "node-disk"),
            ("refused", "registry-unreachable"),
            ("silent", "registry-unreachable"),
            ("resolver", "registry-unreachable"),
            ("misbehaving", "registry-unreachable"),
            ("hangs-up", "registry-failing"),
            ("busy", "registry-busy"),
            ("busy-ping", "registry-busy"),
            ("limit", "registry-busy"),
            ("failing", "registry-failing"),
            ("failing-ping", "registry-failing"),
            ("stalls", "registry-slow"),
            ("failing-token", "registry-failing"),
            ("blob", "registry-failing"),
            ("proxy", "registry-proxy"),
            ("proxy-login", "registry-proxy"),
            ("proxy-fails", "registry-proxy"),
            ("architecture", "image-architecture"),
            ("odd", "unknown"),
        ]
    ),
]


@pytest.mark.parametrize("case", CAUSES)
@pytest.mark.parametrize("place", [("4.20", ""), *more([("4.8", ""), ("4.14", "NeverContactSource"), ("4.18", "")])])
def test_the_words_of_the_kubelet_have_the_cause_of_doctor(tmp_path, case, place):
    (fault, code), (release, policy) = case, place
    with Site(tmp_path, release, policy) as site:
        site.cluster.kubelets.two_pools()
        site.cluster.kubelets.nodes["worker-1"].fault = fault
        found = site.test()
        verdicts = by_group(found)
        assert found.failed
        assert [each.outcome for each in verdicts.values()] == ["pulled", "pulled", "failed"]
        bad = verdicts["worker/arm64"].finding
        assert bad.code == code
        assert bad.severity == "error"
        assert "worker/arm64" in bad.subject
        assert any("worker-1" in line for line in bad.evidence)
        own_words = max(re.split(r"\{\w+\}", WORDS[fault]), key=len)
        assert any(own_words in line for line in bad.evidence)
        assert site.left == ([], False)


@pytest.mark.parametrize("release", ["4.18", *more(["4.8", "4.14", "4.20"])])
@pytest.mark.parametrize("fault", ["x509", *more(["refused", "busy", "proxy"])])
def test_a_source_that_refuses_connections_hides_no_answer_of_the_mirror(tmp_path, release, fault):
    """CRI-O calls the pull RegistryUnavailable then, by its last attempt (cri-o/cri-o#6842)."""
    with Site(tmp_path, release) as site:
        site.cluster.kubelets.two_pools()
        site.cluster.kubelets.nodes["worker-1"].fault = fault
        site.cluster.kubelets.nodes["worker-1"].source = "refused"
        bad = by_group(site.test())["worker/arm64"].finding
        assert bad.code == {"x509": "registry-untrusted", "busy": "registry-busy", "proxy": "registry-proxy"}.get(
            fault, "registry-unreachable"
        )
        assert "mirror.example.com:5000" in bad.cause


def test_a_pool_whose_rollout_is_not_over_lacks_the_rule(tmp_path):
    with Site(tmp_path, rules=False) as site:
        site.cluster.kubelets.two_pools()
        for name in ("worker-0", "worker-1"):
            site.cluster.kubelets.nodes[name].config = "rendered-worker-1"
        site.rule()
        found = by_group(site.test())
        assert found["master/amd64"].outcome == "pulled"
        bad = found["worker/amd64"].finding
        assert bad.code == "image-without-rule"
        assert any("currentConfig rendered-worker-1, its pool has rendered-worker-2" in line for line in bad.evidence)
        assert "machineconfigpool worker" in bad.fix


def test_a_paused_pool_is_to_be_unpaused(tmp_path):
    with Site(tmp_path, rules=False) as site:
        site.cluster.kubelets.two_pools()
        pool = {"kind": "MachineConfigPool", "metadata": {"name": "worker"}, "spec": {"paused": True}}
        site.cluster.put(pool, "someone")
        site.cluster.simulator.machines.show()
        site.rule()
        bad = by_group(site.test())["worker/amd64"].finding
        assert bad.code == "image-without-rule"
        assert "paused" in bad.fix


def test_a_cluster_without_a_rule_says_so(tmp_path):
    with Site(tmp_path, rules=False) as site:
        site.cluster.kubelets.two_pools()
        assert {each.finding.code for each in site.test().verdicts} == {"image-without-rule"}


def test_a_failure_that_passes_is_none(site):
    site.cluster.kubelets.nodes["worker-0"].fault = "timeout"
    site.cluster.kubelets.nodes["worker-0"].passes = 3
    assert not site.test().failed


@pytest.mark.parametrize(
    "case",
    [
        ("unscheduled", "Insufficient memory"),
        ("evicted", "low on resource"),
        *more([("present", "asked no registry"), ("sandbox", "network plugin is not ready"), ("pressure", "DiskPressure")]),
    ],
)
def test_a_pod_that_does_not_get_to_the_pull_proves_nothing(site, case):
    fault, words = case
    site.cluster.kubelets.nodes["worker-1"].fault = fault
    found = site.test()
    one = by_group(found)["worker/arm64"]
    assert not found.failed
    assert one.outcome == "not-tested"
    assert one.finding.code == "pull-not-tested"
    assert one.finding.severity == "warning"
    assert words in one.finding.text
    assert site.left == ([], False)


def test_a_pull_that_does_not_end_has_failed(site):
    site.cluster.kubelets.nodes["worker-1"].fault = "hangs"
    found = site.test()
    assert by_group(found)["worker/arm64"].finding.code == "pull-timeout"
    assert site.now >= 300
    assert site.left == ([], False)


def test_groups_without_a_ready_node_or_an_image_are_said(site):
    site.cluster.kubelets.add("infra-0", pool="infra", ready=False)
    site.cluster.kubelets.add("worker-2", pool="worker", architecture="s390x")
    site.cluster.add("MachineConfigPool", "infra", spec={"configuration": {"name": "rendered-infra-1"}})
    found = by_group(site.test())
    assert "ready" in found["infra/amd64"].finding.cause
    assert "s390x" in found["worker/s390x"].finding.cause
    assert found["worker/amd64"].outcome == "pulled"


def taint(key, effect="NoSchedule", **value):
    return {"taints": [{"key": key, "effect": effect, **value}]}


PERMANENT = [
    taint("node-role.kubernetes.io/infra", value="reserved"),
    *more(
        [
            taint("node-role.kubernetes.io/control-plane"),
            taint("node.ocs.openshift.io/storage", value="true"),
            taint("example.com/dedicated", "NoExecute", value="gpu"),
            taint("UpdateInProgress", "PreferNoSchedule"),
        ]
    ),
]


@pytest.mark.parametrize("spec", PERMANENT)
def test_nodes_that_are_kept_for_something_are_tested(site, spec):
    site.cluster.kubelets.add("infra-0", pool="infra", **spec)
    site.cluster.add("MachineConfigPool", "infra", spec={"configuration": {"name": "rendered-infra-1"}})
    site.cluster.simulator.machines.texts["rendered-infra-1"] = site.cluster.simulator.machines.texts["rendered-worker-2"]
    assert by_group(site.test())["infra/amd64"].outcome == "pulled"


PASSING = [
    (taint("node.cloudprovider.kubernetes.io/uninitialized", value="true"), "cloudprovider.kubernetes.io/uninitialized"),
    *more(
        [
            (taint("node.kubernetes.io/not-ready"), "node.kubernetes.io/not-ready"),
            (taint("node.kubernetes.io/disk-pressure"), "node.kubernetes.io/disk-pressure"),
            (taint("node.kubernetes.io/unreachable", "NoExecute"), "node.kubernetes.io/unreachable"),
            (taint("node.cluster.x-k8s.io/uninitialized"), "node.cluster.x-k8s.io/uninitialized"),
            (taint("node.cilium.io/agent-not-ready", "NoExecute"), "node.cilium.io/agent-not-ready"),
            (taint("karpenter.sh/unregistered", "NoExecute"), "karpenter.sh/unregistered"),
            (taint("ToBeDeletedByClusterAutoscaler"), "ToBeDeletedByClusterAutoscaler"),
            ({"ready": False}, "node odd-0: not ready"),
            ({"unschedulable": True}, "node odd-0: cordoned"),
        ]
    ),
]


@pytest.mark.parametrize("case", PASSING)
def test_nodes_that_take_no_pods_for_now_are_said_at_once(site, case):
    spec, words = case
    site.cluster.kubelets.add("odd-0", architecture="ppc64le", **spec)
    found = by_group(site.test((*IMAGES, PullImage("ppc64le", IMAGE, 10))))
    odd = found["ppc64le"]
    assert odd.outcome == "not-tested"
    assert words in odd.finding.text
    assert found["worker/amd64"].outcome == "pulled"
    assert site.now < 60


@pytest.mark.parametrize("case", [("dies", "Kubelet stopped posting"), *more([("leaves", "no longer there")])])
def test_a_node_that_stops_during_the_test_is_said_soon(site, case):
    fault, words = case
    site.cluster.kubelets.nodes["worker-1"].fault = fault
    found = by_group(site.test())
    one = found["worker/arm64"]
    assert one.outcome == "not-tested"
    assert "its node is not ready" in one.finding.cause
    assert words in one.finding.text
    assert "worker-1" in one.finding.text
    assert site.now < 150
    assert site.left == ([], False)


def test_an_image_that_states_no_architecture_stands_in(site):
    found = by_group(site.test((PullImage("amd64", IMAGE, 10), PullImage("", IMAGE, 5))))
    assert {each.outcome for each in found.values()} == {"pulled"}


def test_other_kubernetes_has_groups_by_architecture(tmp_path):
    with Site(tmp_path, None) as site:
        site.cluster.kubelets.add("one")
        site.cluster.kubelets.add("two", architecture="arm64", fault="x509")
        found = by_group(site.test())
        assert found["amd64"].outcome == "pulled"
        assert found["amd64"].through == "unknown"
        assert found["arm64"].outcome == "failed"
        assert site.left == ([], False)


@pytest.mark.parametrize(
    "forbidden",
    [("create", "pods"), *more([("create", "namespaces"), ("list", "nodes"), ("delete", "pods"), ("get", "namespaces")])],
)
def test_without_permission_nothing_is_created(site, forbidden):
    site.cluster.forbidden.add(forbidden)
    found = site.test()
    assert found.refused.code == "pull-not-tested"
    assert not found.failed
    assert "rbac-pull-test.yaml" in found.refused.fix
    assert not [each for each in site.cluster.writes if "review" not in each.path]


def refusing(message, times=1, reason="Forbidden", code=403):
    body = json.dumps({"kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": message})
    return Fault("POST", f"/namespaces/{NAME}/pods", code, times, body.encode(), "application/json")


QUOTA = 'pods "pull" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0'
REFUSALS = [
    QUOTA,
    *more(
        [
            'pods "pull" is forbidden: minimum cpu usage per Container is 100m, but request is 10m',
            'admission webhook "policy.example.com" denied the request: images come from mirror.example.com alone',
            'pods "pull" is forbidden: unable to validate against any security context constraint: []',
        ]
    ),
]


@pytest.mark.parametrize("words", REFUSALS)
def test_a_pod_that_admission_refuses_is_said_and_the_others_are_tested(site, words):
    site.cluster.faults.append(refusing(words))
    found = site.test()
    first, *others = found.verdicts
    assert words in first.finding.text
    assert [each.outcome for each in (first, *others)] == ["not-tested", "pulled", "pulled"]
    assert site.left == ([], False)


@pytest.mark.parametrize(
    "words",
    [
        'pods "pull" is forbidden: error looking up service account hub-import-pull-test/default: serviceaccount "default" not found',
        *more(['pods "pull" is forbidden: unable to create new content in namespace x because it is being terminated']),
    ],
)
def test_a_namespace_that_is_too_new_is_waited_for(site, words):
    site.cluster.faults.append(refusing(words, 3))
    assert {each.outcome for each in site.test().verdicts} == {"pulled"}
    assert site.now >= 15


def test_a_namespace_that_is_being_deleted_is_waited_for(site):
    site.cluster.put({**namespace(), "status": {"phase": "Terminating"}}, "hub-import")

    def gone():
        if site.now > 5 and NAME in site.cluster.namespaces() and site.cluster.get("Namespace", NAME).get("status"):
            site.cluster.store.delete(
                next(k for k in site.cluster.store.all_keys() if k.kind.kind == "Namespace" and k.name == NAME)
            )

    site.on_sleep = gone
    assert {each.outcome for each in site.test().verdicts} == {"pulled"}
    assert site.left == ([], False)


def test_a_namespace_whose_deletion_does_not_end_is_said(site):
    site.cluster.put({**namespace(), "status": {"phase": "Terminating"}}, "hub-import")
    assert "being deleted" in site.test().verdicts[0].finding.text


def test_a_namespace_of_others_is_not_touched(site):
    site.cluster.add("Namespace", NAME)
    before = {name for name in site.cluster.versions() if "nodes" not in name}
    found = site.test()
    assert "not one of hub-import" in found.verdicts[0].finding.text
    assert not found.failed
    assert {name for name in site.cluster.versions() if "nodes" not in name} == before
    assert not [each for each in site.cluster.writes if "review" not in each.path]


def test_a_namespace_that_an_administrator_prepared_stays_with_its_foreign_pods(site):
    metadata = {"name": NAME, "labels": OWN_LABELS}
    site.cluster.put({"kind": "Namespace", "metadata": metadata}, "admin")
    site.cluster.put({"kind": "Pod", "metadata": {"name": "other", "namespace": NAME}, "spec": {"containers": []}}, "admin")
    site.cluster.forbidden |= {("create", "namespaces"), ("delete", "namespaces")}
    assert {each.outcome for each in site.test().verdicts} == {"pulled"}
    assert site.left == (["other"], True)


def test_a_temporary_namespace_with_a_pod_of_others_stays(site):
    site.cluster.put(namespace(), "hub-import")
    site.cluster.put({"kind": "Pod", "metadata": {"name": "other", "namespace": NAME}, "spec": {"containers": []}}, "admin")
    site.test()
    assert site.left == (["other"], True)


def requests_of_a_run(folder):
    with Site(folder) as site:
        site.cluster.kubelets.two_pools()
        counted = []

        def counting(client):
            counted.append(Dying(client, 10_000))
            return counted[0]

        site.test(client=counting)
        return 10_000 - counted[0]._left


@pytest.mark.parametrize("case", [(False, 9), *more([(False, 1), (True, 1)])])
def test_what_a_killed_run_leaves_is_deleted_by_the_next(tmp_path, case):
    after, step = case
    total = requests_of_a_run(tmp_path)
    assert total > 20
    with Site(tmp_path) as site:
        site.cluster.kubelets.two_pools()
        for number in range(0, total, step):
            dying = lambda client, number=number: Dying(client, number, after=after)  # noqa: E731
            with pytest.raises(Killed):
                site.test(owner=site.owner(f"k{number}"), client=dying)
            found = site.test(owner=site.owner(f"s{number}"))
            assert {each.outcome for each in found.verdicts} == {"pulled"}
            assert site.left == ([], False)


def test_a_killed_run_of_another_host_is_left_until_its_time_is_over(site):
    with pytest.raises(Killed):
        site.test(owner=site.owner("other", "there"), client=lambda client: Dying(client, 17))
    assert site.left[0]
    left = site.left
    site.test(owner=site.owner("second"))
    assert site.left == left
    site.test(owner=site.owner("third", now=NOW + timedelta(hours=1)))
    assert site.left == ([], False)


def test_a_run_of_this_host_that_is_alive_keeps_its_pods(site):
    with pytest.raises(Killed):
        site.test(owner=site.owner("first"), client=lambda client: Dying(client, 17))
    left = site.left
    assert left[0]
    site.test(owner=site.owner("second", alive=lambda process: process == 7))
    assert site.left == left


WEBHOOK = 'admission webhook "keep.example.com" denied the request: nothing is deleted today'


def keeping(part, times):
    body = {"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": WEBHOOK}
    return Fault("DELETE", part, 403, times, json.dumps(body).encode(), "application/json")


def test_pods_whose_deletion_is_refused_go_with_their_namespace(site):
    site.cluster.faults.append(keeping(f"/{NAME}/pods/", 9))
    found = site.test()
    assert {each.outcome for each in found.verdicts} == {"pulled"}
    assert found.left == ()
    assert site.left == ([], False)


def test_what_the_api_server_deletes_not_is_said_and_the_next_test_deletes_it(site):
    site.cluster.faults.append(keeping(f"/namespaces/{NAME}", 4))  # three pods, and the namespace
    found = site.test()
    assert {each.outcome for each in found.verdicts} == {"pulled"}
    assert [each.partition(" ")[0] for each in found.left] == ["Pod", "Pod", "Pod", "Namespace"]
    assert all(WEBHOOK in each for each in found.left)
    assert [len(site.left[0]), site.left[1]] == [3, True]
    assert site.test(owner=site.owner("second")).left == ()
    assert site.left == ([], False)


def test_pods_that_cannot_be_deleted_keep_no_test_from_its_work(site):
    """In a namespace of an administrator, which stays: one refusal leaves the other pods deleted."""
    site.cluster.put({"kind": "Namespace", "metadata": {"name": NAME, "labels": OWN_LABELS}}, "admin")
    site.cluster.faults.append(keeping(f"/{NAME}/pods/", 1))
    first = site.test()
    [left] = first.left
    assert left.startswith("Pod pull-r1-master-amd64 ")
    assert site.left == (["pull-r1-master-amd64"], True)
    site.cluster.faults.append(keeping(f"/{NAME}/pods/pull-r1-", 2))
    again = site.test(owner=site.owner("second"))
    assert {each.outcome for each in again.verdicts} == {"pulled"}
    assert again.left == first.left
    assert site.test(owner=site.owner("third")).left == ()
    assert site.left == ([], True)


def test_two_runs_at_once_do_not_disturb_each_other(site):
    """The second begins and ends while the first waits; and the namespace goes with the last one."""
    inner = []

    def second():
        site.on_sleep = lambda: None
        inner.append(site.test(owner=site.owner("two", alive=lambda _process: True)))

    site.on_sleep = second
    outer = site.test(owner=site.owner("one", alive=lambda _process: True))
    assert {each.outcome for each in (*outer.verdicts, *inner[0].verdicts)} == {"pulled"}
    assert site.left == ([], False)


def test_a_namespace_that_another_run_took_along_is_created_again(site):
    def deleted():
        site.on_sleep = lambda: None
        with connect(site.kubeconfig, None) as client:
            client.delete(NAMESPACE, NAME)

    site.on_sleep = deleted
    assert {each.outcome for each in site.test().verdicts} == {"pulled"}
    assert site.left == ([], False)


def test_pods_that_others_delete_again_and_again_are_said(site):
    def deleted():
        with connect(site.kubeconfig, None) as client:
            for each in client.list(POD, NAME) or []:
                client.delete(POD, each["metadata"]["name"], NAME)

    site.on_sleep = deleted
    assert "deleted by others" in site.test().verdicts[0].finding.text


def test_an_image_that_a_webhook_changed_proves_no_rule(site):
    site.cluster.kubelets.rewrites = "mirror.example.com:5000/x/ubi/tiny:latest"
    assert "webhook" in site.test().verdicts[0].finding.text


def test_events_that_may_not_be_read_cost_the_duration_alone(site):
    site.cluster.forbidden_everywhere.add(("list", "pods"))
    found = site.test()
    assert {each.outcome for each in found.verdicts} == {"pulled"}


def test_the_label_of_a_temporary_namespace_is_its_only_reason_to_go():
    assert namespace()["metadata"]["labels"][TEMPORARY_LABEL] == "true"
