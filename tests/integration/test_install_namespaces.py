"""`install` and the namespaces of a cluster: rights for its Prometheus, pods that nothing restricts, names that do not exist."""

from __future__ import annotations

import json

import pytest
import yaml

from common.errors import ClusterError
from importer.cluster.release import Release
from importer.cluster.resources.permissions import for_installation, helpful, roles
from importer.cluster.undo import Outcome
from importer.install.wanted import InstallMode
from tests.fakes.cluster_rbac import Roles
from tests.fakes.install_sites import package, sites
from tests.samples import more

pytestmark = pytest.mark.integration
MONITORING = "openshift.io/cluster-monitoring"
ENFORCE = "pod-security.kubernetes.io/enforce"


@pytest.fixture
def site(tmp_path):
    with sites(tmp_path) as make:
        yield make


def monitored(where="openshift-foo", **stated):
    return package(suggested_namespace=where, cluster_monitoring=True, **stated)


def found(done, code):
    return [each for each in done.findings if each.code == code]


def lie(here, name, **labels):
    here.cluster.put({"kind": "Namespace", "metadata": {"name": name, "labels": labels}}, "someone")


@pytest.mark.parametrize("release", ["4.18", *more(["4.3", "4.20"])])
def test_the_prometheus_of_the_platform_may_read_a_monitored_namespace(site, release):
    """openshift/console, operator-hub-subscribe.tsx: the label, and `prometheusRole` with its binding."""
    here = site(release, packages=(monitored(),))
    would = here.install("foo", dry_run=True)
    before = here.state()
    (said,) = found(would, "namespace-monitored")
    assert (said.subject, said.evidence) == ("Namespace openshift-foo", (f"{MONITORING}=true",))
    assert [(each.kind, each.name) for each in would.result.changed][:3] == [
        ("Namespace", "openshift-foo"),
        ("Role", "openshift-foo-prometheus"),
        ("RoleBinding", "openshift-foo-prometheus"),
    ]
    here.install("foo")
    role = here.cluster.get("Role", "openshift-foo-prometheus", "openshift-foo")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["services", "endpoints", "pods"], "verbs": ["get", "list", "watch"]}
    ]
    binding = here.cluster.get("RoleBinding", "openshift-foo-prometheus", "openshift-foo")
    assert binding["roleRef"]["name"] == "openshift-foo-prometheus"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "prometheus-k8s", "namespace": "openshift-monitoring"}]
    assert here.install("foo").result.changed == ()
    assert {one.outcome for one in here.undo()} == {Outcome.DELETED}
    assert here.state() == before


@pytest.mark.more
def test_a_namespace_of_others_gets_no_rights(site):
    """The console creates the Role with the namespace alone."""
    here = site(packages=(monitored(),))
    lie(here, "openshift-foo")
    done = here.install("foo")
    assert {each.kind for each in done.result.changed} == {"OperatorGroup", "Subscription"}
    (said,) = found(done, "namespace-labels")
    assert "prometheus-k8s" in said.fix


def test_the_rights_are_given_by_an_account_with_the_roles_of_render(site):
    """kubernetes, pkg/registry/rbac/role/policybased/storage.go: an account grants what it has."""
    here = site(packages=(monitored(),))
    release = Release.parse("4.18")
    planned = here.install("foo", dry_run=True).installation
    rights = [*for_installation(release, [*planned.namespaces, *planned.resources]), *helpful(release)]
    here.cluster.roles = granted = Roles(roles(rights))
    here.install("foo")
    assert granted.denied == []
    lacking = [each for each in rights if each.resource != "endpoints"]
    here.undo()
    here.cluster.roles = Roles(roles(lacking))
    with pytest.raises(ClusterError) as error:
        here.install("foo")
    assert "list endpoints in openshift-foo" in "\n".join(error.value.details)


@pytest.mark.parametrize("name", ["default", *more(["kube-system", "openshift"])])
def test_a_namespace_that_openshift_does_not_guard_is_said(site, name):
    """Documentation of OpenShift, *Managing security context constraints*: default projects are highly privileged."""
    here = site()
    lie(here, name)
    (said,) = found(here.install("foo", namespace=name, dry_run=True), "namespace-privileged")
    assert (said.subject, said.severity) == (f"Namespace {name}", "warning")
    assert "SecurityContextConstraints" in said.cause


@pytest.mark.parametrize(
    "case",
    [
        ("openshift-monitoring", {ENFORCE: "privileged"}, [f"{ENFORCE}=privileged"]),  # of the platform: never synchronized
        ("team", {ENFORCE: "privileged"}, []),  # synchronized with what its accounts may do
        *more(
            [
                (
                    "team",
                    {ENFORCE: "privileged", "security.openshift.io/scc.podSecurityLabelSync": "false"},
                    [f"{ENFORCE}=privileged"],
                ),
                ("openshift-a", {ENFORCE: "baseline", "security.openshift.io/scc.podSecurityLabelSync": "true"}, []),
                ("openshift-a", {ENFORCE: "restricted"}, []),
                ("team", {"openshift.io/run-level": "0"}, ["openshift.io/run-level=0"]),
            ]
        ),
    ],
)
def test_lax_labels_of_a_namespace_that_exists_are_said(site, case):
    """openshift/cluster-policy-controller, pkg/psalabelsyncer/podsecurity_label_sync_controller.go, isNSControlled."""
    name, labels, lax = case
    here = site()
    lie(here, name, **labels)
    said = found(here.install("foo", namespace=name, dry_run=True), "namespace-privileged")
    assert [each.evidence for each in said] == ([tuple(lax)] if lax else [])


@pytest.mark.more
def test_another_kubernetes_guards_no_namespace_by_its_name(site):
    here = site(None)
    lie(here, "default", **{ENFORCE: "privileged"})
    assert found(here.install("foo", namespace="default", dry_run=True), "namespace-privileged") == []


@pytest.mark.parametrize("watch", [("team",), *more([("other", "team"), ("foo-system", "team")])])
def test_a_namespace_to_watch_that_does_not_exist_is_said(site, watch):
    """operator-lifecycle-manager, operatorgroup.go, ensureTenantRBAC: OLM creates Roles in each namespace that is watched."""
    here = site(packages=(package(modes=tuple(InstallMode)),))
    lie(here, "other")
    (said,) = found(here.install("foo", watch=watch, dry_run=True), "namespace-missing")
    assert (said.subject, said.severity) == ("Namespace team", "warning")
    assert "operator foo" in said.cause
    assert said.fix.endswith("oc create namespace team.")


@pytest.mark.more
def test_a_group_that_selects_a_namespace_that_does_not_exist_is_said(site):
    here = site(packages=(package(modes=tuple(InstallMode)),))
    lie(here, "foo-system")
    metadata = {"name": "theirs", "namespace": "foo-system"}
    here.cluster.put({"kind": "OperatorGroup", "metadata": metadata, "spec": {"targetNamespaces": ["gone"]}}, "someone")
    (said,) = found(here.install("foo", dry_run=True), "namespace-missing")
    assert (said.subject, "OperatorGroup foo-system/theirs" in said.cause) == ("Namespace gone", True)


@pytest.mark.more
def test_olm_v1_is_to_watch_a_namespace_that_does_not_exist(site):
    here = site(packages=(package(modes=("SingleNamespace",)),))
    here.cluster.watches_one = True
    here.cluster.add("FeatureGate", "cluster", status={"featureGates": [{"enabled": [{"name": "NewOLMOwnSingleNamespace"}]}]})
    (said,) = found(here.install("foo", watch=("team",), olm_v1=True, dry_run=True), "namespace-missing")
    assert said.subject == "Namespace team"


@pytest.mark.more
def test_what_may_not_be_read_is_not_said_to_be_missing(site):
    here = site(packages=(package(modes=tuple(InstallMode)),))
    here.cluster.forbidden.add(("get", "namespaces"))
    with pytest.raises(ClusterError) as error:
        here.install("foo", watch=("team",))
    text = "\n".join(error.value.details)
    assert ("get namespaces team" in text, "does not exist" in text) == (True, False)


def test_rendered_files_have_the_same_rights_and_say_the_same(tmp_path):
    from tests.unit.importer.test_render_subscriptions import objects, render

    template = json.dumps({"metadata": {"name": "openshift-foo", "labels": {ENFORCE: "privileged"}}})
    stated = {"cluster_monitoring": True, "suggested_namespace_template": template}
    files, built = render(tmp_path / "a", "foo", packages=(package(**stated),), rbac=True)
    role = objects(files)["Role", "openshift-foo-prometheus"]
    assert role["rules"][0]["resources"] == ["services", "endpoints", "pods"]
    assert objects(files)["RoleBinding", "openshift-foo-prometheus"]["subjects"][0]["name"] == "prometheus-k8s"
    rights = [rule for body in yaml.safe_load_all(files["rbac-install.yaml"]) for rule in body["rules"]]
    assert any(rule["resources"] == ["endpoints"] for rule in rights)
    assert [note.partition(":")[0] for note in built.notes] == ["Namespace openshift-foo"] * 2
    _, built = render(tmp_path / "b", "foo", packages=(package(),), namespace="default")
    assert "SecurityContextConstraints" in "".join(built.notes)
