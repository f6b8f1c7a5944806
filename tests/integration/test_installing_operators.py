"""`install` on the fake cluster: objects, wait, causes, approval, what is in the way, interruption, undo, OLM v1.

OLM's side is tests/fakes/cluster_installs.py, which cites operator-lifecycle-manager and operator-controller.
"""

from __future__ import annotations

import json

import pytest

from common.archive.inventory import RequiredPackageRecord
from common.errors import ClusterError, ExitCode
from importer.cluster.api.client import connect
from importer.cluster.release import Release
from importer.cluster.resources.permissions import for_installation, helpful, roles
from importer.cluster.undo import Outcome
from importer.configure.asking import NotAgreedError
from importer.configure.listed import plan_listed
from importer.install.offers import of_packages
from importer.install.wanted import Approval
from tests.fakes.cluster import Fault
from tests.fakes.cluster_kinds import Served
from tests.fakes.cluster_operators import InstalledOperator, put_operator
from tests.fakes.cluster_rbac import Roles
from tests.fakes.install_sites import package, sites
from tests.fakes.inventories import catalog, inventory
from tests.samples import more

pytestmark = pytest.mark.integration


@pytest.fixture
def site(tmp_path):
    with sites(tmp_path) as make:
        yield make


@pytest.mark.parametrize("release", ["4.18", *more(["4.3", "4.12", "4.20", None])])
def test_an_operator_runs_after_one_command_and_a_second_one_changes_nothing(site, release):
    here = site(release)
    done = here.install("foo")
    assert (done.done, done.exit_code) == (True, ExitCode.DONE)
    assert done.outcomes == (("foo", "foo.v2.0.0 is installed", ""),)
    assert [(each.action, each.kind, each.name) for each in done.result.changes] == [
        ("created", "Namespace", "foo-system"),
        ("created", "OperatorGroup", "foo-system"),
        ("created", "Subscription", "foo"),
    ]
    body = here.cluster.get("Subscription", "foo", "foo-system")
    assert body["spec"]["startingCSV"] == "foo.v2.0.0"
    assert body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "hub-import"
    assert here.cluster.get("ClusterServiceVersion", "foo.v2.0.0", "foo-system")["status"]["phase"] == "Succeeded"
    (asked,) = here.questions
    assert len(asked.result.changed) == 3
    versions = here.versions()
    again = here.install("foo")
    assert (again.outcomes, len(here.questions)) == (done.outcomes, 1)
    assert here.versions() == versions


def test_a_dry_run_and_a_no_change_nothing(site):
    here = site()
    before = here.versions()
    would = here.install("foo", dry_run=True)
    assert not would.done
    assert [each.name for each in would.result.changed] == ["foo-system", "foo-system", "foo"]
    here.agrees = False
    with pytest.raises(NotAgreedError):
        here.install("foo")
    assert here.versions() == before


@pytest.mark.more
def test_several_operators_share_the_namespace_that_was_asked_for(site):
    here = site(packages=(package(), package("bar", ("OwnNamespace",))))
    done = here.install("foo", "bar", namespace="team")
    assert {each.group.targets for each in done.installation.placements} == {("team",)}
    assert [each[:2] for each in done.outcomes] == [("foo", "foo.v2.0.0 is installed"), ("bar", "bar.v2.0.0 is installed")]
    assert len([each for each in done.result.changes if each.kind == "OperatorGroup"]) == 1


def test_an_operator_group_in_the_way_refuses_all_before_the_first_change(site):
    here = site(packages=(package(), package("bar")))
    here.cluster._ensure_namespace("foo-system")
    spec = {"targetNamespaces": ["elsewhere"]}
    metadata = {"name": "theirs", "namespace": "foo-system"}
    here.cluster.put({"kind": "OperatorGroup", "metadata": metadata, "spec": spec}, "someone")
    before = here.versions()
    with pytest.raises(ClusterError) as error:
        here.install("foo", "bar")
    assert "OperatorGroup foo-system/theirs" in "\n".join(error.value.details)
    assert here.versions() == before
    assert here.install("foo", dry_run=True).exit_code is ExitCode.CLUSTER
    # Another namespace is a way out.
    assert here.install("foo", namespace="other").outcomes == (("foo", "foo.v2.0.0 is installed", ""),)


def test_manual_approval_ends_with_the_command_that_approves(site):
    here = site()
    done = here.install("foo@1.0.0", approval=Approval.MANUAL)
    ((name, state, command),) = done.outcomes
    assert state.startswith("waits for approval: InstallPlan foo-system/install-")
    assert (name, command.startswith("oc patch installplan install-")) == ("foo", True)
    plan = here.cluster.names("InstallPlan")[0]
    here.cluster.put({"kind": "InstallPlan", "metadata": {"name": plan, "namespace": "foo-system"}, "spec": {"approved": True}})
    again = here.install("foo@1.0.0", approval=Approval.MANUAL)
    assert again.outcomes[0][1] == "foo.v1.0.0 is installed"


def test_a_failed_install_plan_ends_the_wait_at_once(site):
    here = site()
    here.cluster.updates.failing["foo.v2.0.0"] = ("plan", "api-server resource not found installing ServiceMonitor x")
    with pytest.raises(ClusterError) as error:
        here.install("foo")
    assert "has failed" in error.value.message
    assert "ServiceMonitor" in error.value.details[0]
    assert here.now < 30


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        (("csv", "install strategy failed: Deployment is invalid"), "csv-failed"),
        pytest.param(("unpack", "Job was active longer than specified deadline"), "bundle", marks=pytest.mark.more),
    ],
)
def test_causes_are_told_as_by_doctor_when_it_takes_too_long(site, failing, said):
    here = site(packages=(package(), package("bar")))
    here.cluster.updates.failing["foo.v2.0.0"] = failing
    put_operator(here.cluster, InstalledOperator("other-team", "other", "other", phase="Failed"))
    with pytest.raises(ClusterError) as error:
        here.install("foo", "bar")
    text = "\n".join(error.value.details)
    assert "operator foo" in text
    assert "operator bar" not in text
    assert (said in text, "other-team" in text) == (True, False)
    assert here.now >= 40


@pytest.mark.more
def test_a_group_that_is_deleted_meanwhile_fails_the_plan(site):
    here = site()
    here.cluster.put({"kind": "Namespace", "metadata": {"name": "foo-system"}}, "someone")
    here.install("foo", dry_run=True)
    here.agree = lambda _would: here.cluster.put(
        {"kind": "OperatorGroup", "metadata": {"name": "second", "namespace": "foo-system"}, "spec": {}}, "someone"
    )
    with pytest.raises(ClusterError) as error:
        here.install("foo")
    assert "more than one operator group" in error.value.details[0]


def test_what_is_required_is_brought_or_missed(site):
    wants = package(
        required_apis=("Bar.v1.example.com", "Gone.v1.example.com"),
        required_packages=(RequiredPackageRecord("lost", ">=1.0.0"),),
    )
    here = site(packages=(wants, package("bar")))
    done = here.install("foo", dry_run=True)
    found = {each.code: each.evidence for each in done.findings}
    assert found["dependency-installed"] == ("bar",)
    # PackageManifests have no required packages: an archive does.
    assert found["dependency-missing"] == ("API Gone.v1.example.com",)


def test_labels_of_a_namespace_of_others_are_said_and_left(site):
    here = site(packages=(package(suggested_namespace="openshift-foo", cluster_monitoring=True),))
    here.cluster.put({"kind": "Namespace", "metadata": {"name": "openshift-foo", "labels": {"a": "b"}}}, "someone")
    done = here.install("foo")
    (found,) = done.findings
    assert found.evidence == ("openshift.io/cluster-monitoring=true",)
    assert "openshift.io/cluster-monitoring" not in here.cluster.get("Namespace", "openshift-foo")["metadata"]["labels"]


def test_undo_takes_back_what_is_unchanged_with_the_version_that_olm_installed(site):
    """olm.operatorframework.io, *Uninstall your operator*: the Subscription, then its ClusterServiceVersion."""
    here = site()
    before = here.state()
    here.install("foo")
    said = [(one.outcome, one.kind, one.name) for one in here.undo(dry_run=True)]
    assert said == [
        (Outcome.DELETED, "Subscription", "foo"),
        (Outcome.DELETED, "ClusterServiceVersion", "foo.v2.0.0"),
        (Outcome.DELETED, "OperatorGroup", "foo-system"),
        (Outcome.DELETED, "Namespace", "foo-system"),
    ]
    assert [(one.outcome, one.kind, one.name) for one in here.undo()] == said
    assert here.state() == before
    assert here.record() == []


def test_undo_keeps_a_namespace_with_things_of_others(site):
    here = site()
    here.install("foo")
    claim = {"kind": "ConfigMap", "metadata": {"name": "data", "namespace": "foo-system"}, "data": {"a": "b"}}
    here.cluster.put(claim, "someone")
    lease = {"kind": "Lease", "metadata": {"name": "leader", "namespace": "foo-system"}}
    here.cluster.put(lease, "operator")
    *others, last = here.undo()
    assert {one.outcome for one in others} == {Outcome.DELETED}
    assert (last.outcome, last.fields) == (Outcome.REFUSED, ("ConfigMap data",))
    assert "foo-system" in here.cluster.namespaces()
    here.cluster.forbidden.add(("list", "configmaps"))
    assert here.undo()[-1].fields == ("configmaps, which may not be listed",)
    here.cluster.forbidden.clear()
    with connect(here.kubeconfig, None) as client:
        from importer.cluster.kinds import CONFIG_MAP

        client.delete(CONFIG_MAP, "data", "foo-system")
    assert [one.outcome for one in here.undo()] == [Outcome.DELETED]


THEIRS = InstalledOperator("foo-system", "theirs", "other", version="2.0.0", source="index")


@pytest.mark.parametrize("theirs", ["subscription", *more(["changed"])])
def test_undo_keeps_the_operator_group_that_operators_of_others_need(site, theirs):
    """Without it OLM fails them with NoOperatorGroup. When they are gone, undo continues."""
    here = site()
    here.install("foo")
    if theirs == "subscription":
        put_operator(here.cluster, THEIRS)
    else:
        place = {"name": "foo", "namespace": "foo-system"}
        here.cluster.put({"kind": "Subscription", "metadata": place, "spec": {"channel": "fast"}}, "someone")
    name = "theirs" if theirs == "subscription" else "foo"
    would, done = ({one.kind: (one.outcome, one.fields, one.why) for one in here.undo(dry_run=each)} for each in (True, False))
    assert would == done
    assert done["OperatorGroup"] == (Outcome.REFUSED, (f"Subscription {name} needs it",), "it stays")
    assert here.cluster.names("OperatorGroup").count("foo-system") == 1
    assert "foo-system" in here.cluster.namespaces()


def test_undo_keeps_the_operator_group_where_it_may_not_see_who_needs_it(site):
    """An operator may be there without a Subscription. All else is undone, and the rest when the right is there."""
    here = site()
    here.install("foo")
    here.cluster.forbidden.add(("list", "clusterserviceversions"))
    would, done = ({one.kind: (one.outcome, one.fields) for one in here.undo(dry_run=each)} for each in (True, False))
    assert would == done
    assert done["OperatorGroup"] == (Outcome.REFUSED, ("clusterserviceversions, which may not be listed",))
    assert {done[kind][0] for kind in ("Subscription", "ClusterServiceVersion")} == {Outcome.DELETED}
    assert "foo-system" in here.cluster.namespaces()
    here.cluster.forbidden.clear()
    assert {one.outcome for one in here.undo()} == {Outcome.DELETED}
    assert here.record() == []


@pytest.mark.parametrize("kind", ["subscriptions", *more(["clusterextensions"])])
def test_undo_goes_on_where_one_kind_may_not_be_listed(site, kind):
    here = site()
    here.install("foo", olm_v1=kind == "clusterextensions")
    here.cluster.forbidden.add(("list", kind))
    done = here.undo()
    assert f"{kind}, which may not be listed" in {field for one in done for field in one.fields}
    assert {one.kind for one in here.record()} <= {one.kind for one in done if one.fields}


def test_undo_deletes_the_version_that_an_update_has_not_replaced_yet(site):
    """While the new version has not succeeded, OLM keeps the former one as Replacing, and it runs on (olm/operator.go)."""
    here = site()
    here.install("foo")
    csv = {"apiVersion": "operators.coreos.com/v1alpha1", "kind": "ClusterServiceVersion"}
    place = {"namespace": "foo-system"}
    old = {"metadata": {**place, "name": "foo.v1.0.0"}, "spec": {"version": "1.0.0"}, "status": {"phase": "Replacing"}}
    new = {"metadata": {**place, "name": "foo.v2.0.0"}, "spec": {"replaces": "foo.v1.0.0"}, "status": {"phase": "Failed"}}
    for body in (old, new):
        here.cluster.put(csv | body, "olm")
    would, done = ([(one.outcome, one.kind, one.name) for one in here.undo(dry_run=each)] for each in (True, False))
    assert would == done
    assert [name for _, kind, name in done if kind == "ClusterServiceVersion"] == ["foo.v2.0.0", "foo.v1.0.0"]
    assert {outcome for outcome, _, _ in done} == {Outcome.DELETED}
    assert here.record() == []


def test_undo_leaves_a_copy_of_the_version_that_was_replaced(site):
    """OLM copies a ClusterServiceVersion into each namespace that its operator watches; the original is of others."""
    here = site()
    here.install("foo")
    csv = {"apiVersion": "operators.coreos.com/v1alpha1", "kind": "ClusterServiceVersion"}
    metadata = {"namespace": "foo-system", "name": "foo.v1.0.0", "labels": {"olm.copiedFrom": "openshift-operators"}}
    here.cluster.put(csv | {"metadata": metadata}, "olm")
    here.cluster.put(
        csv | {"metadata": {**metadata, "name": "foo.v2.0.0", "labels": {}}, "spec": {"replaces": "foo.v1.0.0"}}, "olm"
    )
    assert "foo.v1.0.0" not in {one.name for one in here.undo()}


def serve(cluster, group, version, kind, plural):
    cluster.kinds = (*cluster.kinds, Served(group, version, kind, plural, namespaced=True, has_status=True, schema=None))


def test_undo_reads_kinds_whose_fields_are_of_other_types(site):
    """`data` of a ControllerRevision, which each StatefulSet and DaemonSet has, is an object (kubernetes, api/apps/v1)."""
    here = site()
    here.install("foo")
    serve(here.cluster, "apps", "v1", "ControllerRevision", "controllerrevisions")
    metadata = {"name": "db-6d8f", "namespace": "foo-system"}
    revision = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": 1}
    here.cluster.put(revision | {"data": {"spec": {"template": {}}}}, "kube-controller-manager")
    *others, last = here.undo()
    assert {one.outcome for one in others} == {Outcome.DELETED}
    assert (last.outcome, last.fields) == (Outcome.REFUSED, ("ControllerRevision db-6d8f",))


@pytest.mark.parametrize("status", [400, *more([500])])
def test_undo_goes_on_where_a_kind_cannot_be_listed(site, status):
    """A conversion webhook that went with its operator: the API server cannot list the kind any more, in any namespace."""
    here = site()
    here.install("foo")
    said = {"kind": "Status", "code": status, "message": "conversion webhook for example.com/v1, Kind=Foo failed"}
    fault = Fault("GET", "/namespaces/foo-system/configmaps", status, 100, json.dumps(said).encode(), "application/json")
    here.cluster.faults.append(fault)
    *others, last = here.undo()
    assert {one.outcome for one in others} == {Outcome.DELETED}
    assert (last.kind, last.outcome) == ("Namespace", Outcome.REFUSED)
    assert last.fields[0].startswith("cannot list configmaps")
    assert "conversion webhook" in last.fields[0]


@pytest.mark.more
def test_undo_leaves_what_others_changed(site):
    here = site()
    here.install("foo")
    here.cluster.put(
        {"kind": "Subscription", "metadata": {"name": "foo", "namespace": "foo-system"}, "spec": {"channel": "fast"}}, "someone"
    )
    first, *_ = here.undo(dry_run=True)
    assert (first.outcome, first.fields) == (Outcome.REFUSED, ("spec.channel",))


@pytest.mark.more
def test_another_subscription_keeps_its_version(site):
    here = site()
    here.install("foo")
    theirs = InstalledOperator("foo-system", "theirs", "foo", csv="foo.v2.0.0", version="2.0.0", source="index")
    put_operator(here.cluster, theirs)
    done = {one.kind: one for one in here.undo()}
    assert done["ClusterServiceVersion"].fields == ("Subscription theirs has it installed",)
    assert "foo.v2.0.0" in here.cluster.names("ClusterServiceVersion")


@pytest.mark.parametrize("left", [3, *more([0, 1, 2, 4, 5])])
def test_interrupted_between_any_two_writes_and_run_again(site, left):
    """A write of `install`, and each of `undo`, is the last one of a first run; a second one ends as if there was none."""
    here = site()
    before = here.state()
    here.cluster.writes_left = left
    with pytest.raises(ClusterError):
        here.install("foo")
    here.cluster.writes_left = None
    here.install("foo")
    kinds = ["Namespace /foo-system", "OperatorGroup foo-system/foo-system", "Subscription foo-system/foo"]
    assert here.state() == sorted([*before, *kinds])
    assert _undone_in_steps(here) == before


def _undone_in_steps(here):
    """Undo with one more write each time, until all is done."""
    for left in range(1, 30):
        here.cluster.writes_left = left
        try:
            here.undo()
        except ClusterError:
            continue
        finally:
            here.cluster.writes_left = None
        break
    assert here.undo() == []
    assert here.cluster.names("ClusterServiceVersion") == []
    return here.state()


def test_olm_v1_gets_an_account_and_undo_leaves_what_it_installed(site):
    """operator-controller deletes CustomResourceDefinitions with the ClusterExtension."""
    here = site(packages=(package(suggested_namespace=None),))
    done = here.install("foo", olm_v1=True)
    assert [(each.kind, each.name) for each in done.result.changes] == [
        ("Namespace", "foo"),
        ("ServiceAccount", "foo-installer"),
        ("ClusterRoleBinding", "foo-foo-installer"),
        ("ClusterExtension", "foo"),
    ]
    assert done.outcomes == (("foo", "foo.v2.0.0 is installed", ""),)
    assert [each.code for each in done.findings] == ["cluster-admin-account"]
    spec = here.cluster.get("ClusterExtension", "foo")["spec"]
    assert spec["source"]["catalog"] == {
        "packageName": "foo",
        "channels": ["stable"],
        "selector": {"matchLabels": {"olm.operatorframework.io/metadata.name": "index"}},
    }
    again = here.install("foo", olm_v1=True)
    assert (again.outcomes, again.result.changed) == (done.outcomes, ())
    found = {one.kind: (one.outcome, one.fields) for one in here.undo()}
    assert found["ClusterExtension"][1][0].startswith("OLM v1 would delete its CustomResourceDefinitions")
    assert {outcome for outcome, _ in found.values()} == {Outcome.REFUSED}
    with connect(here.kubeconfig, None) as client:
        from importer.cluster.kinds import CLUSTER_EXTENSION

        client.delete(CLUSTER_EXTENSION, "foo")
    assert {one.outcome for one in here.undo()} == {Outcome.GONE, Outcome.DELETED}


def test_olm_v1_alone_installs_from_the_catalog_of_an_archive(site):
    """Without the capability OperatorLifecycleManager a cluster has no CatalogSources, Subscriptions and PackageManifests."""
    here = site("4.20", packages=(package(),))
    here.cluster.kinds = tuple(each for each in here.cluster.kinds if not each.group.endswith("operators.coreos.com"))
    carried = inventory(catalogs=(catalog("index", "registry.example/redhat/index:v4.20", packages=(package(),)),))
    with pytest.raises(ClusterError, match=r"no OLM \(Classic\)"):
        here.install("foo", inventory=carried)
    assert here.install("foo", inventory=carried, olm_v1=True).outcomes == (("foo", "foo.v2.0.0 is installed", ""),)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        pytest.param({"modes": ("OwnNamespace",)}, "NewOLMOwnSingleNamespace is off", marks=pytest.mark.more),
        ({"required_apis": ("Gone.v1.example.com",)}, "resolves no requirements"),
    ],
)
def test_olm_v1_refuses_by_name_what_it_does_not_install(site, stated, said):
    here = site(packages=(package(**stated),))
    with pytest.raises(ClusterError) as error:
        here.install("foo", olm_v1=True)
    assert said in "\n".join(error.value.details)
    with pytest.raises(ClusterError, match="not changed"):
        site("4.12").install("foo", olm_v1=True)


@pytest.mark.parametrize(
    "said",
    [
        "unsupported bundle: webhookDefinitions are not supported",
        *more(
            [
                "unsupported bundle: apiServiceDefintions are not supported",
                'bundle "foo.v2.0.0" has a dependency declared via property "olm.constraint" which is currently not supported',
            ]
        ),
    ],
)
def test_a_bundle_that_olm_v1_does_not_support_ends_the_wait_at_once(site, said):
    """operator-controller, applier/provider.go and resolve/validation.go; it says so with the reason Retrying."""
    here = site()
    here.cluster.updates.failing["foo.v2.0.0"] = ("", said)
    with pytest.raises(ClusterError, match="cannot be installed by OLM v1") as error:
        here.install("foo", olm_v1=True)
    assert (list(error.value.details), here.now < 30) == ([said], True)
    assert {one.outcome for one in here.undo()} == {Outcome.DELETED}


def test_an_account_that_was_there_gets_no_cluster_admin(site):
    """Its tokens, and pods that use it, belong to the people of that namespace."""
    here = site()
    here.cluster._ensure_namespace("foo-system")
    metadata = {"name": "foo-installer", "namespace": "foo-system"}
    here.cluster.put({"kind": "ServiceAccount", "metadata": metadata}, "someone")
    before = here.versions()
    for dry_run in (True, False):
        with pytest.raises(ClusterError, match="ServiceAccount foo-system/foo-installer: exists") as error:
            here.install("foo", olm_v1=True, dry_run=dry_run)
        assert "--service-account" in error.value.hint
    assert (here.versions(), here.questions) == (before, [])
    # Another namespace is a way out, and the account that a run created there is no obstacle for the next run.
    for _ in range(2):
        assert here.install("foo", olm_v1=True, namespace="other").outcomes == (("foo", "foo.v2.0.0 is installed", ""),)


@pytest.mark.more
def test_olm_v1_repeats_what_may_pass(site):
    here = site()
    here.cluster.updates.failing["foo.v2.0.0"] = ("", "error pulling image: connection refused")
    with pytest.raises(ClusterError, match="not healthy"):
        here.install("foo", olm_v1=True)
    assert here.now >= 40


def test_the_roles_of_render_let_an_account_give_rights_to_that_of_olm_v1(site):
    """kubernetes, pkg/registry/rbac/clusterrolebinding/policybased/storage.go: it has them, or may bind the role."""
    here = site()
    release = Release.parse("4.18")
    planned = here.install("foo", olm_v1=True, dry_run=True).installation
    rights = [*for_installation(release, [*planned.namespaces, *planned.resources], olm_v1=True), *helpful(release)]
    here.cluster.roles = Roles(roles([each for each in rights if each.verb != "bind"]))
    with pytest.raises(ClusterError) as error:
        here.install("foo", olm_v1=True)
    assert "bind clusterroles.rbac.authorization.k8s.io cluster-admin" in "\n".join(error.value.details)
    here.cluster.roles = granted = Roles(roles(rights))
    assert here.install("foo", olm_v1=True).outcomes[0][1] == "foo.v2.0.0 is installed"
    assert granted.denied == []


@pytest.mark.more
def test_olm_v1_as_the_cluster_has_it(site):
    """A ServiceAccount is not named where the schema no longer requires it; one namespace is watched with its feature gate."""
    here = site(packages=(package(modes=("OwnNamespace",)),))
    here.cluster.needs_account, here.cluster.watches_one = False, True
    schema = {"properties": {"spec": {"required": ["namespace", "source"]}}}
    versions = [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]
    here.cluster.add("CustomResourceDefinition", "clusterextensions.olm.operatorframework.io", spec={"versions": versions})
    gates = [{"version": "4.21.0", "enabled": [{"name": "NewOLMOwnSingleNamespace"}]}]
    here.cluster.add("FeatureGate", "cluster", status={"featureGates": gates})
    done = here.install("foo", olm_v1=True)
    spec = here.cluster.get("ClusterExtension", "foo")["spec"]
    assert "serviceAccount" not in spec
    assert spec["config"] == {"configType": "Inline", "inline": {"watchNamespace": "foo-system"}}
    assert done.outcomes == (("foo", "foo.v2.0.0 is installed", ""),)


def test_missing_permissions_are_listed_with_their_names(site):
    here = site()
    here.cluster.forbidden |= {("create", "subscriptions"), ("create", "namespaces"), ("get", "namespaces")}
    with pytest.raises(ClusterError) as error:
        here.install("foo")
    text = "\n".join(error.value.details)
    assert "create subscriptions.operators.coreos.com in foo-system" in text
    assert "create namespaces" in text
    assert "get namespaces foo-system" in text


def test_what_olm_v1_needs_is_among_the_missing_permissions(site):
    """The catalogs of OLM v1 are read before the objects of an installation are known."""
    here = site()
    here.cluster.forbidden |= {("list", "clustercatalogs"), ("list", "operatorgroups")}
    with pytest.raises(ClusterError) as error:
        here.install("foo", olm_v1=True)
    text = "\n".join(error.value.details)
    assert "list clustercatalogs.olm.operatorframework.io" in text
    assert "list operatorgroups.operators.coreos.com" in text


@pytest.mark.parametrize("release", ["4.18", *more(["4.12"])])
def test_the_roles_of_render_allow_an_installation_and_nothing_else(site, release):
    """`undo` deletes the namespace only for an account that may list everything in it, which these roles do not allow."""
    here = site(release)
    planned = here.install("foo", dry_run=True).installation
    found = Release.parse(release)
    rights = [*for_installation(found, [*planned.namespaces, *planned.resources]), *helpful(found)]
    here.cluster.roles = granted = Roles(roles(rights))
    assert here.install("foo").outcomes[0][1] == "foo.v2.0.0 is installed"
    assert granted.denied == []
    *others, last = here.undo()
    assert {one.outcome for one in others} == {Outcome.DELETED}
    assert (last.kind, last.fields[0].endswith("which may not be listed")) == ("Namespace", True)


def test_a_further_operator_takes_no_label_from_its_namespace(site):
    """Fields that an apply does not name are removed where an earlier one wrote them (Kubernetes, *Server-Side Apply*)."""
    named = {"name": "shared", "labels": {"team": "a", "pod-security.kubernetes.io/enforce": "privileged"}}
    further = {**named, "labels": {"pod-security.kubernetes.io/enforce": "baseline", "more": "b"}, "annotations": {"n": "c"}}
    here = site(
        packages=[
            package("aaa", suggested_namespace_template=json.dumps({"metadata": named})),
            package("bbb", suggested_namespace_template=json.dumps({"metadata": further})),
        ]
    )
    here.install("aaa")
    done = here.install("bbb")
    metadata = here.cluster.get("Namespace", "shared")["metadata"]
    assert metadata["labels"].items() >= {**named["labels"], "more": "b"}.items()
    assert metadata["annotations"] == {"n": "c"}
    (said,) = [each for each in done.findings if each.code == "namespace-labels"]
    assert said.evidence == ("pod-security.kubernetes.io/enforce=baseline",)
    here.undo()
    assert "shared" not in here.cluster.namespaces()


def test_an_import_by_an_account_that_may_not_read_groups_says_what_installing_lacks(site):
    """`deploy` of an archive that lists operators: the permissions are a finding, with the way to import without installing."""
    here = site()
    rights = [each for each in for_installation(Release.parse("4.18"), ()) if each.resource != "operatorgroups"]
    here.cluster.roles = Roles(roles([*rights, *helpful(Release.parse("4.18"))]))
    with connect(here.kubeconfig, None) as client:
        offers = of_packages([package()], ("openshift-marketplace", "index"))
        plan = plan_listed(client, Release.parse("4.18"), ["foo"], offers)
    (found,) = plan.findings
    assert (found.code, "list operatorgroups" in found.text, "--no-install" in found.fix) == ("not-allowed", True, True)
    assert plan.foresee() == ()
