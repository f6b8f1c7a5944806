"""The roles of `render --rbac` allow every request of every flow, and nothing else: the cluster refuses what they do not grant."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_operators import InstalledOperator, put_operator
from tests.fakes.cluster_rbac import Asked, Roles
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import Site, export_images, shared_both
from tests.samples import more

pytestmark = pytest.mark.integration
CONFIG = "openshift-config"
# Their names are not known before: rendered configurations, pods of OLM, operators that run already.
ANY_NAME = {("get", "machineconfigs"), ("get", "pods/log"), ("get", "clusterserviceversions"), ("get", "installplans")}
# Granted, and not used by these flows, with the reason.
RARE = {
    ("create", "namespaces"),  # openshift-marketplace, where the capability of the marketplace is off
    ("get", "clusterserviceversions"),  # `probe` where operators run
    ("get", "installplans"),  # those that Subscriptions wait for
    ("create", "imagetagmirrorsets"),  # images that are pulled by tag
    ("get", "imagetagmirrorsets"),
    ("patch", "imagetagmirrorsets"),
    ("delete", "imagetagmirrorsets"),
    ("create", "imagecontentsourcepolicies"),  # 4.13 and later: a cluster that has some already
    ("get", "imagecontentsourcepolicies"),
    ("patch", "imagecontentsourcepolicies"),
    ("delete", "imagecontentsourcepolicies"),
}
# A cluster without server-side apply: these objects are patched where a later import changes them.
RARE_4_3 = {("patch", "services"), ("patch", "deployments"), ("patch", "configmaps")}


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return shared_both(tmp_path_factory)


@pytest.fixture
def site(archives, tmp_path):
    opened = []

    def make(release: str) -> Site:
        cluster, mirror = FakeCluster(release), FakeRegistry()
        opened.extend((cluster, mirror))
        cluster.__enter__()
        mirror.__enter__()
        old = int(release.partition(".")[2]) < 9
        return Site(cluster, mirror, archives["sqlite" if old else "file-based"], tmp_path)

    yield make
    for each in reversed(opened):
        each.__exit__(None, None, None)


def roles_for(here: Site, release: str, *options: str) -> tuple[list[dict], list[dict]]:
    """Return the roles of an import, and those of `doctor --fix`."""
    place, output = ["--registry", f"{here.mirror.host}/ocp", "--openshift-release", release], here.folder / "rights"
    done = run("hub-import", "render", here.archive, *place, *options, "--rbac", "--output", output)
    assert done.status == 0, done.stderr
    assert yaml.safe_load((output / "kustomization.yaml").read_text())["resources"].count("rbac.yaml") == 0
    return _documents(output / "rbac.yaml"), _documents(output / "rbac-doctor-fix.yaml")


def _documents(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("release", ["4.3", *more(["4.5", "4.8", "4.12", "4.14", "4.18", "4.20"])])
def test_the_roles_allow_every_flow_and_nothing_else(site, release):
    here = site(release)
    rights, _ = roles_for(here, release)
    here.cluster.roles = roles = Roles(rights)
    storage = ["--image-registry-emptydir"] if release == "4.3" else []
    for command in (["deploy", *here.trust, *storage], ["apply", "--serve-catalog"]):
        done = here.run(*command)
        assert done.status == 0, done.stderr
    probed = ["probe", "--registry", f"{here.mirror.host}/ocp", "--insecure", here.mirror.host]
    for command in (["status"], ["doctor"], probed, ["undo", "--yes"]):
        done = here.ask(*command)
        assert done.status == 0, done.stderr
    assert roles.denied == []
    unnamed = {(one.verb, one.resource) for one in roles.granted if one.verb in ("get", "patch", "delete") and not one.name}
    assert unnamed <= ANY_NAME
    used = {(one.verb, one.group, one.resource) for one in roles.used}
    unused = {(one.verb, one.resource) for one in roles.granted if (one.verb, one.group, one.resource) not in used}
    assert unused <= RARE | (RARE_4_3 if release in ("4.3", "4.5") else {("patch", "configmaps")})


@pytest.mark.parametrize("release", ["4.18", *more(["4.5", "4.12"])])
def test_the_roles_allow_the_name_of_a_default_that_a_catalog_takes_by_itself(site, release):
    """Only Subscriptions of the cluster decide it (docs/reference/cluster.md, *Subscriptions*), after the roles were rendered."""
    here = site(release)
    rights, _ = roles_for(here, release)
    package = here.inventory.catalogs[0].packages[0]
    channel = package.channels[0].name
    default = put_operator(here.cluster, InstalledOperator("team", "op", package.name, channel, version=""))
    here.cluster.roles = roles = Roles(rights)
    for command in (["deploy"], ["apply", "--serve-catalog"]):
        done = here.run(*command)
        assert done.status == 0, done.stderr
    assert here.cluster.get("CatalogSource", default.source, MARKETPLACE)["metadata"]["labels"]
    assert here.ask("undo", "--yes").status == 0
    assert roles.denied == []


@pytest.mark.parametrize(
    ("more_options", "taken"),
    [
        ([], True),
        (["--catalog-name", "acme"], False),  # no catalog is free to take one
        (["--hosted"], False),
    ],
)
def test_no_role_has_the_name_of_a_default_that_no_catalog_can_take(site, more_options, taken):
    here = site("4.18")
    rights, _ = roles_for(here, "4.18", *more_options)
    named = Asked("patch", "operators.coreos.com", "catalogsources", MARKETPLACE, "certified-operators")
    assert bool(Roles(rights).matching(named)) is taken


def test_an_archive_without_catalogs_gets_no_rights_on_catalogs(site, tmp_path):
    """A rule without resourceNames allows every name (kubernetes/api, rbac/v1, PolicyRule)."""
    here = site("4.18")
    here.archive = export_images(tmp_path / "images", {"team/app": image((b"app",))})
    rights, _ = roles_for(here, "4.18")
    here.cluster.roles = roles = Roles(rights)
    for command in (here.run("deploy"), here.ask("status"), here.ask("undo", "--yes")):
        assert command.status == 0, command.stderr
    assert roles.denied == []
    kinds = {"catalogsources", "clustercatalogs", "services", "deployments", "networkpolicies"}
    unnamed = {(one.verb, one.resource) for one in roles.granted if one.resource in kinds and not one.name}
    assert {verb for verb, _ in unnamed} <= {"list"}


@pytest.mark.parametrize("release", ["4.18", *more(["4.3"])])
def test_things_of_others_are_out_of_reach(site, release):
    rights, fix = roles_for(site(release), release)
    policies = ("operator.openshift.io", "imagecontentsourcepolicies")
    digests = ("config.openshift.io", "imagedigestmirrorsets")
    asked = [
        *(Asked(verb, "", kind, CONFIG, "theirs") for verb in ("get", "patch", "delete") for kind in ("secrets", "configmaps")),
        Asked("delete", "", "secrets", CONFIG, "pull-secret"),
        Asked("list", "", "secrets", CONFIG),
        Asked("get", "", "secrets", "kube-system", "pull-secret"),
        *(Asked(verb, *kind, "", "theirs") for verb in ("patch", "delete") for kind in (policies, digests)),
        *(Asked(verb, "operators.coreos.com", "catalogsources", MARKETPLACE, "theirs") for verb in ("patch", "delete")),
        Asked("patch", "olm.operatorframework.io", "clustercatalogs", "", "theirs"),
        Asked("delete", "olm.operatorframework.io", "clustercatalogs", "", "openshift-redhat-operators"),
        *(Asked("delete", *kind, MARKETPLACE, "theirs") for kind in (("", "pods"), ("batch", "jobs"), ("", "configmaps"))),
    ]
    roles = Roles(rights)
    assert [each for each in asked if roles.matching(each)] == []
    # `doctor --fix` deletes what OLM has named; in no other namespace.
    assert {(one.verb, one.namespace) for one in Roles(fix).granted} == {("delete", MARKETPLACE)}


def test_fixes_need_their_own_role(site):
    here = site("4.18")
    rights, fix = roles_for(here, "4.18")
    assert here.run("deploy").status == 0
    here.cluster.play("bundle-unpack-failed")
    here.cluster.roles = Roles(rights)
    refused = here.ask("doctor", "--fix", "--yes")
    assert refused.status == 6
    assert "delete jobs.batch" in refused.stderr
    assert "rbac-doctor-fix.yaml" in refused.stderr
    here.cluster.roles = Roles([*rights, *fix])
    here.ask("doctor", "--fix", "--yes")
    assert here.cluster.roles.denied == []
    assert here.cluster.names("Job") == []
    assert {one.resource for one in here.cluster.roles.used if one.verb == "delete"} == {"jobs", "configmaps"}


def test_missing_names_are_listed(site):
    """A role of another archive: permissions by name are asked for name by name."""
    here = site("4.18")
    rights, _ = roles_for(here, "4.18")
    for role in rights:
        for rule in list(role["rules"]):
            if rule["resources"] == ["catalogsources"] and "resourceNames" in rule:
                role["rules"].append({**rule, "verbs": ["patch"], "resourceNames": ["other"]})
                rule["verbs"].remove("patch")
    here.cluster.roles = Roles(rights)
    before = here.cluster.versions()
    done = here.run("apply")
    assert done.status == 6
    assert f"patch catalogsources.operators.coreos.com {here.catalog} in {MARKETPLACE}" in done.stderr
    assert here.cluster.versions() == before
