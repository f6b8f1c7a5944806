"""The page of a deploy, however it ends; checked in a real browser."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import browser as browsers
from tests.fakes import secrets
from tests.fakes.browser import DESK, PHONE, Visit
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_operators import InstalledOperator, put_operator
from tests.fakes.commands import BIN, run
from tests.fakes.servers import docker_registry
from tests.fakes.sites import shared_real
from tests.integration.test_deploy import serving, to

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """An archive, and an empty mirror: (directory, host)."""
    home = tmp_path_factory.mktemp("place")
    archive = shared_real(tmp_path_factory)
    with docker_registry(home, name="mirror") as mirror:
        yield archive, mirror.host


def text_of(page: Path) -> str:
    found = page.read_text()
    assert not secrets.leaked(found)
    assert "http://" not in found
    return found


@browsers.needed
def test_the_page_of_a_good_end(place, tmp_path):
    archive, host = place
    page = tmp_path / "deploy.html"
    with FakeCluster("4.18") as cluster:
        inventory = serving(cluster, archive)
        put_operator(cluster, InstalledOperator("team", "web", "web", source="retired"))
        goal = [*to(cluster, tmp_path, host), "--allow-orphaned", "web"]
        result = run("hub-import", "deploy", archive, *goal, "--yes", "--report", page)
    assert result.status == 0, result.stderr
    assert f"{page}: what was done, as a page" in result.stderr
    text_of(page)
    with browsers.browser() as chromium:
        for size in (DESK, PHONE):
            visit = Visit(chromium, page, size)
            assert visit.barriers() == []
            assert visit.heard == []
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        lines = "one => { const range = document.createRange(); range.selectNodeContents(one); return range.getClientRects().length; }"
        assert visit.page.locator("#installed td:nth-child(2)").evaluate(lines) == 2, "0.9.0 and Succeeded: no word is broken"
        seen = visit.page.inner_text
        assert seen("h1") == f"Deploy into {host}/ocp"
        assert seen(".verdict").startswith(
            "OLM lists what the archive carries: openshift-cert-manager-operator. Not healthy afterwards: 1 of 1 operator"
        )
        assert "registries.conf of the nodes: " in seen("header.top")
        assert f"(--mirror-scope {result.json['apply']['nodeConfiguration']['mirrorScope']})" in seen("header.top")
        assert "Subscription team/web" in seen("#installed")
        changed = {change["kind"] for change in result.json["apply"]["changes"]}
        assert changed
        assert all(kind in seen("#applied") for kind in changed)
        assert f"{result.json['push']['uploaded']} sent" in seen("#pushed")
        assert "READY" in seen("#state")
        assert set(visit.shown("#state .tag")) == {"ready"}
        assert inventory.catalogs[0].packages[0].name in seen("#operators")
        visit.page.fill("#find", "CatalogSource")
        assert 0 < len(visit.shown("#applied .row")) < len(result.json["apply"]["changes"])


def test_the_page_of_an_interrupted_deploy_has_the_last_state(place, tmp_path):
    archive, host = place
    page = tmp_path / "deploy.html"
    with FakeCluster("4.18") as cluster:  # whose OLM never lists anything
        command = [BIN / "hub-import", "deploy", archive, *to(cluster, tmp_path, host), "--yes"]
        env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HUB_IMPORT_REPORT": str(page)}
        with subprocess.Popen(
            list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env
        ) as deploy:
            for line in deploy.stderr:
                if "packages of" in line:
                    deploy.send_signal(signal.SIGINT)
            assert deploy.wait(120) == 130
    found = text_of(page)
    assert 'class="verdict bad">Interrupted.' in found
    assert "not yet" in found
    assert "CatalogSource openshift-marketplace/redhat-operator-index" in found, "the changes until then"
    assert "hub-import undo" in found


@pytest.mark.more
def test_the_page_of_a_wait_that_failed_lists_operators_as_they_are(place, tmp_path):
    archive, host = place
    page = tmp_path / "deploy.html"
    with FakeCluster("4.18") as cluster:  # whose OLM never lists anything
        put_operator(cluster, InstalledOperator("team", "web", "web", source="retired"))
        goal = [*to(cluster, tmp_path, host), "--allow-orphaned", "web", "--timeout", "3s"]
        result = run("hub-import", "deploy", archive, *goal, "--yes", "--report", page)
    assert result.status == 6, result.stderr
    found = text_of(page)
    assert 'class="verdict bad"' in found
    assert "Subscription team/web" in found
    assert "They were not read again" not in found


def test_an_unreachable_registry_leaves_a_page_too(place, tmp_path):
    archive, _host = place
    page = tmp_path / "deploy.html"
    with FakeCluster("4.18") as cluster:
        result = run("hub-import", "deploy", archive, *to(cluster, tmp_path, "127.0.0.1:9"), "--yes", "--report", page)
    assert result.status == 5
    found = text_of(page)
    assert "127.0.0.1:9" in found
    assert "<p>Nothing.</p>" in found


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("missing/deploy.html", "there is no directory {home}/missing"),
        ("new/", "there is no directory {home}/new"),
        ("new/.", "there is no directory {home}/new"),
        ("file/", "there is no directory {home}/file"),
        ("file/deploy.html", "there is no directory {home}/file"),
        ("loop/deploy.html", "{home}/loop/deploy.html: "),
        ("x" * 253, "cannot be written: File name too long"),
        ("x" * 300, "cannot be written: File name too long"),
        ("/proc/deploy.html", "directory /proc cannot be written: "),
        ("/proc", "directory /proc cannot be written: "),
    ],
)
@pytest.mark.parametrize("given", ["option", "variable", "dry run"])
def test_a_page_that_could_not_be_written_is_refused_before_anything_else(home, where, said, given):
    """In /proc not even root can make a file."""
    place = where if where.startswith("/") else f"{home}/{where}"
    more = {"option": ["--yes", "--report", place], "variable": ["--yes"], "dry run": ["--dry-run", f"--report=file://{place}"]}
    env = {"HUB_IMPORT_REPORT": place} if given == "variable" else {}
    before = sorted(home.iterdir())
    nothing = ["no-archive", "--registry", "127.0.0.1:9", "--kubeconfig", "no-kubeconfig"]
    result = run("hub-import", "deploy", *nothing, *more[given], cwd=home, env=env)
    assert result.status == 2, result.stderr
    assert said.replace("{home}", str(home)) in result.stderr
    assert "no-archive" not in result.stderr, "nothing was looked at"
    assert sorted(home.iterdir()) == before


@pytest.fixture(name="home")
def _home(tmp_path):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.more
def test_a_directory_that_ends_with_a_slash_takes_the_page(place, tmp_path):
    archive, _host = place
    (tmp_path / "pages").mkdir()
    with FakeCluster("4.18") as cluster:
        goal = [*to(cluster, tmp_path, "127.0.0.1:9"), "--yes", "--report", f"{tmp_path}/pages/"]
        assert run("hub-import", "deploy", archive, *goal).status == 5
    assert [page.name[:11] for page in (tmp_path / "pages").iterdir()] == ["hub-deploy-"]


def test_a_current_directory_that_takes_no_page_is_a_warning_before_the_deploy(place, tmp_path):
    archive, host = place
    with FakeCluster("4.18") as cluster:
        serving(cluster, archive)
        result = run("hub-import", "deploy", archive, *to(cluster, tmp_path, host), "--yes", cwd=Path("/proc"))
    assert result.status == 0, result.stderr
    first, *others = result.stderr.splitlines()
    assert first.startswith("warning: this deploy will leave no page: directory . cannot be written: ")
    assert "--report" in first
    assert not [line for line in others if "page" in line]


def test_a_dry_run_leaves_no_page(place, tmp_path):
    archive, host = place
    page = tmp_path / "deploy.html"
    with FakeCluster("4.18") as cluster:
        result = run("hub-import", "deploy", archive, *to(cluster, tmp_path, host), "--dry-run", "--report", page)
    assert result.status == 0, result.stderr
    assert not page.exists()
