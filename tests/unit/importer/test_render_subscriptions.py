"""`render --subscriptions`: the files install every head of real catalogs as OLM would take them; `--merge` keeps earlier ones.

The model of OLM is tests/fakes/olm_groups.py.
"""

from __future__ import annotations

import msgspec
import pytest
import yaml

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord
from common.errors import UsageError
from exporter.catalog.records import package_records
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions
from importer.configure.files.earlier import NONE, read_earlier
from importer.configure.files.render import render_archive
from importer.configure.files.roles import render_rbac
from importer.configure.files.subscriptions import Subscriptions
from importer.install.wanted import Approval, How, InstallMode, parse_all
from importer.mapping import Mirror
from tests.fakes.catalogs import real
from tests.fakes.inventories import catalog, inventory
from tests.fakes.olm_groups import verdict
from tests.samples import more

MIRROR = Mirror.parse("mirror.example:5000/hub")
# operator-lifecycle-manager, manifests/0000_50_olm_12-operatorgroup-default.yaml
HOME = {"metadata": {"name": "global-operators", "namespace": "openshift-operators"}, "spec": {}}


def package(name="foo", modes=("AllNamespaces",), **stated):
    head = f"{name}.v1.0.0"
    channel = ChannelRecord("stable", head, (BundleRecord(head, "1.0.0"),), install_modes=modes, **stated)
    return PackageRecord(name, "stable", (channel,))


def render(folder, *texts, packages=None, release="4.18", merge=False, rbac=False, **how):
    carried = inventory(catalogs=(catalog(packages=packages or (package(),)),))
    earlier = read_earlier(folder) if merge else NONE
    asked = Subscriptions(parse_all(texts), how=How(**how))
    found = Release.parse(release) if release else None
    files, built = render_archive(carried, MIRROR, found, ResourceOptions(), earlier, subscriptions=asked)
    files |= render_rbac(found, built.resources, ResourceOptions(), installs=built.installs) if rbac else {}
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content)
    return files, built


def objects(files):
    listed = yaml.safe_load(files["kustomization.yaml"])["resources"]
    bodies = [body for name in listed for body in yaml.safe_load_all(files[name])]
    return {(each["kind"], each["metadata"]["name"]): each for each in bodies}


@pytest.mark.parametrize("name", ["fbc/redhat", *more(["fbc/community-v4.20", "fbc/bundle-object-v4.16"])])
def test_files_for_all_packages_of_a_real_catalog_agree_with_olm(tmp_path, name):
    packages = package_records(real(name))
    ways = {}
    for each in packages:
        channel = next(c for c in each.channels if c.name == each.default_channel)
        if not set(channel.install_modes) & {"AllNamespaces", "OwnNamespace"}:
            continue
        files, built = render(tmp_path, each.name, packages=packages)
        found = objects(files)
        subscription = found["Subscription", each.name]
        namespace = subscription["metadata"]["namespace"]
        ways[each.name] = namespace
        # A cluster has that namespace, and its group; files that own it would delete it with the last operator.
        home = namespace == "openshift-operators"
        assert ("Namespace", namespace) not in found if home else ("Namespace", namespace) in found
        assert subscription["spec"]["startingCSV"] == channel.head
        assert ("CatalogSource", subscription["spec"]["source"]) in found
        groups = [HOME, *(body for (kind, _), body in found.items() if kind == "OperatorGroup")]
        assert verdict(namespace, channel.install_modes, set(channel.provided_apis), groups, {}) == ""
        assert len(built.installs) == (1 if home else 3)
    assert ways


def test_the_files_are_listed_and_stable(tmp_path):
    files, _ = render(tmp_path, "foo", packages=(package(suggested_namespace="foo-system"),), approval=Approval.MANUAL)
    assert {"namespace-foo-system.yaml", "operatorgroup-foo-system.yaml", "subscription-foo-system-foo.yaml"} <= files.keys()
    assert objects(files)["Subscription", "foo"]["spec"]["installPlanApproval"] == "Manual"
    again, _ = render(
        tmp_path, "foo", packages=(package(suggested_namespace="foo-system"),), approval=Approval.MANUAL, merge=True
    )
    assert again == files


def test_merge_keeps_earlier_operators_and_their_groups(tmp_path):
    own = package("first", ("OwnNamespace",))
    render(tmp_path, "first", packages=(own,), namespace="team")
    both = package("second", ("AllNamespaces", "OwnNamespace"))
    files, built = render(tmp_path, "second", packages=(both,), namespace="team", merge=True)
    found = objects(files)
    assert found["OperatorGroup", "team"]["spec"] == {"targetNamespaces": ["team"]}
    assert {("Subscription", "first"), ("Subscription", "second")} <= found.keys()
    # One whose group does not fit is refused by name, and nothing is written.
    with pytest.raises(UsageError, match="OperatorGroup team/team"):
        render(tmp_path, "third", packages=(package("third"),), namespace="team", merge=True)
    # A later archive gives the same operator its own version.
    head = package("second", ("OwnNamespace",))
    (channel,) = head.channels
    newer = PackageRecord(
        "second",
        "stable",
        (
            ChannelRecord(
                "stable", "second.v2.0.0", (BundleRecord("second.v2.0.0", "2.0.0"),), install_modes=channel.install_modes
            ),
        ),
    )
    files, _ = render(tmp_path, "second", packages=(newer,), namespace="team", merge=True)
    assert objects(files)["Subscription", "second"]["spec"]["startingCSV"] == "second.v2.0.0"
    # Elsewhere it would be there twice.
    _, built = render(tmp_path, "second", packages=(newer,), merge=True)
    assert built.installs == ()
    assert "left alone" in built.notes[0]


@pytest.mark.parametrize(
    ("texts", "how", "said"),
    [
        (("lost",), {}, "no catalog that is served has the package"),
        (("foo:fast",), {}, "no channel fast"),
        (("foo",), {"mode": InstallMode.OWN}, "OwnNamespace, which is not supported"),
    ],
)
def test_what_cannot_be_installed_is_refused_by_name(tmp_path, texts, how, said):
    with pytest.raises(UsageError, match=said):
        render(tmp_path, *texts, **how)
    assert list(tmp_path.iterdir()) == []


def test_what_the_archive_lists_is_rendered_unless_it_is_left_out(tmp_path):
    listed = msgspec.structs.replace(package(), install=True)
    files, _ = render(tmp_path, packages=(listed, package("bar")))
    assert [name for kind, name in objects(files) if kind == "Subscription"] == ["foo"]
    carried = inventory(catalogs=(catalog(packages=(listed,)),))
    none = Subscriptions(listed=False)
    _, built = render_archive(carried, MIRROR, Release.parse("4.18"), ResourceOptions(), subscriptions=none)
    assert built.installs == ()


def test_olm_v1_has_an_extension_with_its_account(tmp_path):
    files, built = render(tmp_path, "foo", olm_v1=True)
    found = objects(files)
    spec = found["ClusterExtension", "foo"]["spec"]
    assert (spec["namespace"], spec["serviceAccount"]) == ("foo", {"name": "foo-installer"})
    assert found["ClusterRoleBinding", "foo-foo-installer"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "foo-installer", "namespace": "foo"}
    ]
    assert "cluster-admin" in built.notes[0]
    with pytest.raises(UsageError, match="has no OLM v1"):
        render(tmp_path, "foo", olm_v1=True, release="4.16")


@pytest.mark.parametrize("release", ["4.18", *more(["4.12", None])])
def test_roles_for_the_installation_are_a_file_of_their_own(tmp_path, release):
    files, _ = render(tmp_path, "foo", release=release, rbac=True, namespace="team")
    roles = list(yaml.safe_load_all(files["rbac-install.yaml"]))
    own = next(each for each in roles if each["metadata"].get("namespace") == "team")
    named = {
        resource: rule.get("resourceNames")
        for rule in own["rules"]
        for resource in rule["resources"]
        if "create" not in rule["verbs"]
    }
    assert own["metadata"]["name"] == "hub-import-install"
    assert named["operatorgroups"] == ["team"]
    assert b"operatorgroups" not in files["rbac.yaml"]
