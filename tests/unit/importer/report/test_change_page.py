"""The page of a deploy: who changed which cluster, when, what became of its operators, and how to go back."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import ClusterError
from common.log import SECRETS
from importer.cluster.api.account import account_of
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import ClusterIdentity
from importer.cluster.apply import ApplyResult
from importer.cluster.finding import Finding
from importer.cluster.undo import Outcome, Undone
from importer.cluster.writing import Action, Change
from importer.configure.applied import Applied
from importer.configure.apply import Interaction
from importer.configure.asking import NotAgreedError
from importer.configure.undo import UndoResult
from importer.operators.table import Result, Row
from importer.report.changes import FixRecord, UndoRecord
from importer.report.operators import BAD, GOOD, WARN, compare
from importer.report.page import DeployReport
from importer.report.record import Author
from importer.settings import ClusterSettings
from tests.fakes.cluster import FakeCluster
from tests.fakes.inventories import inventory
from tests.samples import more

BEGAN = datetime(2026, 11, 30, 22, 0, tzinfo=UTC)
HERE = ClusterIdentity("https://api.example:6443", "production", "4.18.7")
ALPHA = Row(
    "Subscription",
    "alpha",
    "team",
    "a",
    "alpha.v1",
    "1.0.0",
    "Succeeded",
    "",
    "Automatic",
    "redhat-operators",
    "index",
    "stable",
    "alpha.v2",
    ("alpha.v2",),
    Result.UPDATES,
    well=True,
)
UPDATED = replace(
    ALPHA, installed="alpha.v2", version="2.0.0", catalog_now="index", path=(), result=Result.UNCHANGED
)  # fmt: skip


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)


def page(tmp_path, *, before=(ALPHA,), after=(UPDATED,), error=None, identity=HERE, lines=(), changes=(), kubeconfig=None):
    """Return the text of the page of a deploy that ended so."""
    planned = Applied(ApplyResult(changes), (), done=False, cluster=identity, drain="no drain", operators=before)
    times = iter((BEGAN, BEGAN + timedelta(minutes=12, seconds=5)))
    told = []
    report = DeployReport(
        SimpleNamespace(inventory=inventory(), digest="sha256:" + "ab" * 32),
        SimpleNamespace(mirror="registry.example:5000/ocp"),
        tmp_path,
        told.append,
        author=Author("root (sudo by anna)", "bastion"),
        place=ClusterSettings(kubeconfig=kubeconfig),
        now=lambda: next(times),
    )
    try:
        with report:
            report.met(identity, "system:serviceaccount:ops:hub-import")
            report.previewed(planned)
            with_page = report.recording(Interaction(told.append, lambda _would: True, None))
            for line in lines:
                with_page.tell(line)
            if after is not None:
                with_page.operators(after)
            if error is not None:
                raise error
            with_page.changed(planned.result)
            report.applied = replace(planned, done=True)
    except ClusterError:
        pass
    (file,) = tmp_path.iterdir()
    assert file.name == "hub-deploy-20261130T220000Z-abababababab.html"
    return file.read_text()


def words(text):
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text[text.index("<body>") :])))


def test_the_page_says_who_where_when_and_on_which_cluster(tmp_path):
    seen = words(page(tmp_path))
    assert "Run by root (sudo by anna) on bastion, as system:serviceaccount:ops:hub-import of the cluster" in seen
    assert "Cluster https://api.example:6443 (context production, OpenShift 4.18.7)" in seen
    assert "30 November 2026, 22:00:00 UTC to 30 November 2026, 22:12:05 UTC (12:05)" in seen
    assert "Nodes no drain" in seen


def test_the_page_lists_operators_before_and_after(tmp_path):
    seen = words(page(tmp_path))
    assert "alpha Subscription team/a 1.0.0 Succeeded 2.0.0 Succeeded redhat-operators → index stable Automatic" in seen
    assert "updates now: alpha.v2 updated from 1.0.0" in seen
    assert "Operators installed 1 " in seen


def test_a_deploy_that_failed_shows_what_was_foreseen(tmp_path):
    seen = words(page(tmp_path, after=None, error=ClusterError("the pool is stuck", hint="Look.")))
    assert "They were not read again" in seen
    assert "predicted: updates now" in seen


def test_an_operator_that_is_not_well_afterwards_is_in_the_verdict(tmp_path):
    failed = replace(UPDATED, phase="Failed", well=False)
    seen = page(tmp_path, after=(failed,))
    assert 'class="verdict warn"' in seen
    assert "Not healthy afterwards: 1 of 1 operator of the cluster." in seen
    assert "was healthy, and is Failed now" in seen


def test_what_was_changed_before_an_error_is_on_the_page(tmp_path):
    """A change that ended half-way is recorded no less: the lines of the objects that were written until then."""
    lines = ("created ImageDigestMirrorSet hub-index", "warning of the API server: unknown field")
    text = page(tmp_path, error=ClusterError("refused", hint="Look."), lines=lines)
    assert all(line in words(text) for line in lines)
    assert "<details open>" in text


def test_a_warning_that_comes_with_the_write_is_at_its_object(tmp_path):
    changes = (Change(Action.CREATED, "Deployment", "index-serving", "m", warnings=("would violate PodSecurity",)),)
    assert "warning of the API server: would violate PodSecurity" in words(page(tmp_path, changes=changes))


@pytest.mark.parametrize(
    ("kubeconfig", "context", "said"),
    [
        (None, "production", "hub-import undo --context production"),
        (Path("/etc/kube config"), "a;b", "hub-import undo --kubeconfig '/etc/kube config' --context 'a;b'"),
        (None, None, "hub-import undo "),
    ],
)
def test_the_way_back_is_a_whole_command(tmp_path, kubeconfig, context, said):
    """The current context of a kubeconfig changes with every `oc project`; the page is read days later."""
    seen = words(page(tmp_path, identity=replace(HERE, context=context), kubeconfig=kubeconfig))
    assert f"{said} " in f"{seen} " if context else "--context" not in seen


def test_the_way_back_names_the_kubeconfig_of_the_environment(tmp_path, monkeypatch):
    """Neighbour: the next shift has another environment."""
    monkeypatch.setenv("KUBECONFIG", "/home/anna/site.config")
    assert "hub-import undo --kubeconfig /home/anna/site.config --context production" in page(tmp_path)
    several = tmp_path / "several"
    several.mkdir()
    monkeypatch.setenv("KUBECONFIG", "/home/anna/site.config:/home/anna/other.config")
    assert "hub-import undo --context production" in page(several)


@pytest.mark.parametrize("count", [2_000, 2_001])
def test_the_output_on_a_page_is_bounded(tmp_path, count):
    text = page(tmp_path, lines=[f"line {number}" for number in range(1, count + 1)])
    assert "\nline 2000</pre>" in text
    assert "line 2001" not in text


def test_texts_of_strangers_are_escaped_and_have_no_secrets(tmp_path):
    SECRETS.add("s3cret-of-the-mirror")
    hostile = "<script>alert(1)</script>\u202e\nforged line"
    text = page(
        tmp_path,
        before=(replace(ALPHA, operator=hostile, reason="login with s3cret-of-the-mirror"),),
        after=None,
        identity=replace(HERE, context=hostile),
        lines=("pulled with s3cret-of-the-mirror", f"created Thing {hostile}"),
        error=ClusterError(f"it said s3cret-of-the-mirror, {hostile}"),
    )
    assert "<script>alert" not in text
    assert "s3cret" not in text
    assert "\u202e" not in text
    assert "created Thing &lt;script&gt;alert(1)&lt;/script&gt;\\u202e\\nforged line" in text


@pytest.mark.parametrize(
    ("before", "after", "kind", "verdict"),
    [
        (ALPHA, ALPHA, WARN, "OLM updates it"),
        (ALPHA, replace(ALPHA, result=Result.UNCHANGED), GOOD, "as before"),
        (
            ALPHA,
            replace(ALPHA, result=Result.WAITS, reason="InstallPlan x"),
            WARN,
            "an update waits for approval: InstallPlan x",
        ),
        (ALPHA, replace(ALPHA, result=Result.ORPHANED, well=False, phase=""), BAD, "was healthy, and is not installed now"),
        # It still runs: what is wrong is its next update.
        (
            ALPHA,
            replace(ALPHA, result=Result.UNRESOLVED, well=False, phase="Succeeded", reason="no operators found"),
            BAD,
            "was healthy; now OLM cannot resolve it: no operators found",
        ),
        (
            ALPHA,
            replace(ALPHA, result=Result.ORPHANED, well=False, phase="Succeeded"),
            BAD,
            "was healthy; now it has no catalog",
        ),
        (
            ALPHA,
            replace(ALPHA, result=Result.UNKNOWN, well=False, phase="Succeeded"),
            WARN,
            "was healthy; now OLM reports a failure",
        ),
        (ALPHA, replace(UPDATED, phase="Installing", well=False), WARN, "was healthy, and is Installing now"),
        (replace(ALPHA, well=False), replace(ALPHA, well=False, result=Result.UNKNOWN), WARN, "as before, and not healthy"),
        (ALPHA, None, BAD, "gone"),
        (None, UPDATED, GOOD, "new"),
    ],
)
def test_how_an_operator_is_afterwards(before, after, kind, verdict):
    (state,) = compare([before] if before else [], [after] if after else [])
    assert (state.kind, state.verdict) == (kind, verdict)


@pytest.mark.parametrize("release", ["4.18", "4.12", *more(["4.3", None])])
def test_the_account_is_the_one_that_the_cluster_knows(tmp_path, release):
    """Kubernetes 1.28 and later answer a SelfSubjectReview, OpenShift the user `~`; older Kubernetes has neither."""
    with FakeCluster(release, tls=False) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        cluster.account = "system:serviceaccount:ops:hub-import"
        assert account_of(client) == "system:serviceaccount:ops:hub-import"
        assert not cluster.writes


def test_an_account_that_is_a_secret_or_hostile_is_not_shown_as_it_is(tmp_path):
    """Neighbour: a proxy that authenticates by the token may take it for the name."""
    with FakeCluster("4.18", tls=False) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        cluster.account = f"x\n\u202e{cluster.token}"
        assert account_of(client) == "x ***"


def test_an_account_that_is_not_known_is_left_out(tmp_path):
    """Neighbour: roles of `system:authenticated` were taken away; a page without the name is still a record."""
    with FakeCluster("4.18", tls=False) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        cluster.account = ""
        assert account_of(client) == ""
    assert str(Author("anna", "bastion")) == "anna on bastion"


def change_page(tmp_path, record, *, agree=True, error=None, done=None):
    """Return the text of the page of an undo, or of repairs, that ended so; empty without a page."""
    changes = record(tmp_path, lambda _line: None, author=Author("anna", "bastion"), place=ClusterSettings(), now=lambda: BEGAN)
    try:
        with changes:
            changes.met(HERE, "anna@example.com")
            if agree:
                changes.agreed(2, "every node is drained, one after another; none reboots")
            changes.tell("deleted ImageDigestMirrorSet hub-index")
            if error is not None:
                raise error
            changes.done(done)
    except (ClusterError, NotAgreedError):
        pass
    files = list(tmp_path.iterdir())
    assert [file.name for file in files] in ([], [f"hub-{record.stem}-20261130T220000Z.html"])
    return files[0].read_text() if files else ""


GONE = Undone(Outcome.DELETED, "CatalogSource", "index", "openshift-marketplace")
RESTORED = Undone(Outcome.RESTORED, "OperatorHub", "cluster", "", former=("spec.disableAllDefaultSources",))
KEPT = Undone(Outcome.REFUSED, "ImageDigestMirrorSet", "hub-index", "", ("spec.imageDigestMirrors",))


def test_an_undo_has_a_page_where_one_is_wanted(tmp_path):
    text = change_page(tmp_path, UndoRecord, done=UndoResult(HERE, [GONE, RESTORED]))
    seen = words(text)
    assert 'class="verdict good">The cluster is as it was before the first import.' in text
    assert "Run by anna on bastion, as anna@example.com of the cluster" in seen
    assert "Nodes every node is drained, one after another; none reboots" in seen
    assert "deleted CatalogSource openshift-marketplace/index" in seen
    assert "restored OperatorHub cluster former values of spec.disableAllDefaultSources" in seen


def test_what_others_changed_is_on_the_page_of_an_undo(tmp_path):
    text = change_page(tmp_path, UndoRecord, done=UndoResult(HERE, [GONE, KEPT]))
    assert 'class="verdict warn"' in text
    assert "which stays: 1 of 2 objects." in text
    assert "changed by others since: spec.imageDigestMirrors" in text


def test_an_undo_that_was_refused_leaves_no_page_and_one_that_failed_does(tmp_path):
    assert change_page(tmp_path, UndoRecord, agree=False, error=NotAgreedError()) == ""
    text = change_page(tmp_path, UndoRecord, error=ClusterError("the API server went away"))
    assert 'class="verdict bad">the API server went away' in text
    assert "<details open><summary>Output</summary><pre>deleted ImageDigestMirrorSet hub-index" in text


def test_repairs_have_a_page_with_what_is_left(tmp_path):
    fixed = Finding("pod-security", "CatalogSource <b>", "no", ("it said <i>",), "yes", fixable=True)
    left = Finding("catalog-empty", "CatalogSource two", "it is empty", (), "export again")
    done = SimpleNamespace(findings=(fixed, left), fixed=(fixed,))
    text = change_page(tmp_path, FixRecord, done=done)
    assert "1 fixed, 1 left." in text
    assert "fixed CatalogSource <b> no it said <i>" in words(text)
    assert "<i>" not in text[text.index("<h2>") :].replace('<i class="tag', "")
    assert "left CatalogSource two it is empty What to do: export again" in words(text)
