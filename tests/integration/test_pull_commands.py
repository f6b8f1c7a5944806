"""`status --pull`, `deploy` and `apply --pull-test` as commands: what is said before, the exit status, JSON, page, roles."""

from __future__ import annotations

import os
import signal
import time

import pytest
import yaml

from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_rbac import Roles
from tests.fakes.commands import killed_when, run
from tests.fakes.link import Link, redirect
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import Site, shared_both
from tests.samples import more

pytestmark = pytest.mark.integration
NAME = "hub-import-pull-test"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return shared_both(tmp_path_factory)["file-based"]


@pytest.fixture
def site(archive, tmp_path):
    with FakeCluster("4.18", tls=False) as cluster, FakeRegistry() as mirror:
        cluster.kubelets.two_pools()
        cluster.kubelets.fast = True
        yield Site(cluster, mirror, archive, tmp_path)


def groups(result):
    return {(each["pool"], each["architecture"]): each["outcome"] for each in result["groups"]}


ALL = {("master", "amd64"): "pulled", ("worker", "amd64"): "pulled", ("worker", "arm64"): "pulled"}


def test_a_deploy_proves_that_nodes_pull_and_status_repeats_it(site):
    page = site.folder / "page.html"
    would = site.run("deploy", "--dry-run")
    assert would.status == 0, would.stderr
    assert would.json["apply"]["pulls"] is None
    done = site.run("deploy", "--report", page)
    assert done.status == 0, done.stderr
    assert "would do a pull test: 3 pods in namespace hub-import-pull-test" in done.stderr
    assert groups(done.json["apply"]["pulls"]) == ALL
    assert "Pulls by nodes" in page.read_text()
    assert NAME not in site.cluster.namespaces()
    again = site.ask("status", "--pull")
    assert again.status == 0, again.stderr
    assert groups(again.json["pulls"]) == ALL
    assert site.ask("status").json["pulls"] is None
    site.cluster.kubelets.nodes["worker-1"].fault = "present"
    shown = site.text("status", "--pull")
    assert shown.status == 0
    assert "pull-not-tested" in shown.stdout
    assert "worker/arm64" in shown.stdout
    # apply changes nothing, and tests nothing, unless asked.
    writes = len(site.cluster.writes)
    assert site.run("apply").json["pulls"] is None
    assert not [each for each in site.cluster.writes[writes:] if NAME in each.path or each.path.endswith("/namespaces")]
    assert groups(site.run("apply", "--pull-test").json["pulls"])[("worker", "amd64")] == "pulled"


def pods(site):
    return [key.name for key in site.cluster.store.all_keys() if key.kind.kind == "Pod" and key.namespace == NAME]


@pytest.mark.parametrize("killed", [False, *more([True])])  # tests/integration/test_pull_test.py has killed runs in one process
def test_what_kill_9_and_ctrl_c_leave_is_deleted_by_the_next_run(site, killed):
    done = site.run("deploy", "--no-pull-test")
    assert done.status == 0, done.stderr
    interrupted(site, stalls=True)
    assert len(pods(site)) == 3
    if killed:
        first = set(pods(site))
        killed_when(lambda: len({*pods(site)} - first) == 3, "hub-import", "status", "--kubeconfig", site.kubeconfig, "--pull")
        assert len(pods(site)) == 3  # those of the first were deleted by the second
    site.cluster.kubelets.nodes["worker-1"].fault = ""
    assert groups(site.ask("status", "--pull").json["pulls"]) == ALL
    assert NAME not in site.cluster.namespaces()
    assert not pods(site)


@pytest.mark.parametrize("number", more([signal.SIGINT, signal.SIGTERM]))
def test_ctrl_c_deletes_the_pods(site, number):
    done = site.run("deploy", "--no-pull-test")
    assert done.status == 0, done.stderr
    interrupted(site, number, stalls=False)
    assert NAME not in site.cluster.namespaces()


def interrupted(site, number=signal.SIGINT, *, stalls):
    """Interrupt a pull test; with `stalls`, while the API server does not answer."""
    site.cluster.kubelets.nodes["worker-1"].fault = "hangs"
    began = []

    def interrupt(process):
        while len(pods(site)) < 3:
            time.sleep(0.01)
        if stalls:
            link.hold()
            assert link.held.wait(60)
        began.append(time.monotonic())
        os.kill(process, number)

    before = site.kubeconfig.read_text()
    with Link(site.cluster.url.partition("://")[2], rate=100_000_000) as link:
        redirect(site.kubeconfig, link)
        done = run("hub-import", "status", "--kubeconfig", site.kubeconfig, "--pull", started=interrupt)
    assert time.monotonic() - began[0] < 30
    assert done.status == 130, done.stderr
    assert "error: interrupted\n" in done.stderr
    assert ("left behind: Namespace hub-import-pull-test: " in done.stderr) is stalls
    site.kubeconfig.write_text(before)


def test_the_roles_of_render_are_what_the_test_needs(site):
    done = site.run("deploy", "--no-pull-test")
    assert done.status == 0, done.stderr
    assert done.json["apply"]["pulls"] is None
    output = site.folder / "roles"
    release = ["--openshift-release", "4.18", "--rbac", "--output", output]
    place = ["--registry", f"{site.mirror.host}/ocp", "--insecure", site.mirror.host]
    made = run("hub-import", "render", site.archive, *place, *release)
    assert made.status == 0, made.stderr
    pull = list(yaml.safe_load_all((output / "rbac-pull-test.yaml").read_text()))
    basic = list(yaml.safe_load_all((output / "rbac.yaml").read_text()))
    site.cluster.roles = Roles(basic)
    refused = site.ask("status", "--pull")
    assert refused.status == 0, refused.stderr
    assert [each["code"] for each in refused.json["pulls"]["findings"]] == ["pull-not-tested"]
    site.cluster.put(pull[0], "admin")
    site.cluster.roles = Roles([*basic, *pull[1:]])
    assert groups(site.ask("status", "--pull").json["pulls"]) == ALL
    assert NAME in site.cluster.namespaces()  # an administrator has created it
