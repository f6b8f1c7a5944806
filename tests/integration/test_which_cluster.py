"""Which cluster is changed: named in every question, result and page; and the page of each deploy is kept."""

from __future__ import annotations

import base64
import fcntl
import getpass
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import termios
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from msgspec import structs

from common.archive.reader import Archive
from common.errors import UsageError
from common.oci.image import digest_of
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import ClusterIdentity
from importer.prune.plan import Deletion, encode, load
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_operators import InstalledOperator, put_operator
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.commands import BIN, run
from tests.fakes.registry import FakeRegistry
from tests.fakes.secrets import leaked
from tests.fakes.sites import Site, shared_both
from tests.samples import more

pytestmark = pytest.mark.integration
CTRL_C = b"\x03"


@pytest.fixture(name="archives", scope="module")
def _archives(tmp_path_factory):
    return shared_both(tmp_path_factory)


@pytest.fixture(name="here")
def _here(archives, tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        yield Site(cluster, mirror, archives["file-based"], tmp_path)


def version_of(here):
    return here.cluster.get("ClusterVersion", "version")["status"]["history"][0]["version"]


def named(here, context="fake"):
    return f"Cluster {here.cluster.url} (context {context}, OpenShift {version_of(here)})"


def place(here):
    mirror = ["--registry", f"{here.mirror.host}/ocp", "--insecure", here.mirror.host]
    return list(map(str, [here.archive, *mirror, "--kubeconfig", here.kubeconfig]))


def on_terminal(here, arguments, answer, until="[y/N]"):
    """Run a command on a terminal, and answer its question; return the exit status and the lines that were shown.

    Ctrl-C is given again every two seconds: Python notices a signal that comes between its last look and the `read` of
    `input()` only at the next one (https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers).
    """
    terminal, side = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 300, 0, 0))
    env = {"PATH": os.environ["PATH"], "HOME": str(here.folder), "TERM": "dumb", "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", str(BIN / "hub-import"), *arguments],
        stdin=side,
        stdout=side,
        stderr=side,
        env=env,
        cwd=here.folder,
    )
    os.close(side)
    seen, asked = "", False
    while True:
        try:
            if asked and answer == CTRL_C and not select.select([terminal], [], [], 2)[0]:
                os.write(terminal, answer)
                continue
            data = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        seen += data.decode(errors="replace")
        if not data:
            break
        if not asked and until in seen:
            os.write(terminal, answer)
            asked = True
    os.close(terminal)
    assert asked, seen
    assert not leaked(seen)
    return process.wait(60), seen.replace("\r", "").splitlines()


def pages(folder):
    return sorted(path for path in folder.iterdir() if path.suffix == ".html")


def question(lines):
    """Return the line before the question."""
    return lines[next(number for number, line in enumerate(lines) if "[y/N]" in line) - 1]


def test_the_question_of_a_deploy_names_the_cluster_and_how_much_changes(here):
    status, lines = on_terminal(here, ["deploy", *place(here)], b"n\n")
    assert status == 1
    assert re.fullmatch(re.escape(named(here)) + r": \d+ changes, no drain\.", question(lines)), question(lines)
    assert not [line for line in lines if line.startswith(("+++", "@@"))], "no diff unless it is asked for"
    assert pages(here.folder) == [], "nothing was done, so there is nothing to record"
    assert here.mirror.log("PUT", "/manifests/") == []


def test_the_diff_is_shown_where_it_is_asked_for(here):
    _, lines = on_terminal(here, ["deploy", *place(here), "--diff"], b"n\n")
    assert [line for line in lines if line.startswith("+") and "sourceType" in line]
    assert question(lines).startswith(named(here))
    dry = here.run("apply", "--dry-run", yes=False)
    assert any(change["diff"] for change in dry.json["changes"])


def test_ctrl_c_at_the_question_is_an_interruption(here):
    push(here)
    status, lines = on_terminal(here, ["apply", *place(here)], CTRL_C)
    assert status == 130
    assert "error: interrupted" in "\n".join(lines)
    assert "Traceback" not in "\n".join(lines)


def push(here):
    mirror = ["--registry", f"{here.mirror.host}/ocp", "--insecure", here.mirror.host]
    done = run("hub-import", "push", here.archive, *mirror)
    assert done.status == 0, done.stderr


def test_without_a_terminal_the_refusal_names_the_cluster_and_leaves_no_page(here):
    kept = here.folder / "hub-deploy.html"
    kept.write_text("the page of last week")
    done = run("hub-import", "deploy", *place(here), cwd=here.folder)
    assert done.status == 2
    last = done.stderr.rpartition("error: ")[2]
    assert named(here) in last
    assert "Pass --yes" in last
    assert "as above" not in done.stderr
    assert pages(here.folder) == [kept]
    assert kept.read_text() == "the page of last week"


def test_every_result_names_the_cluster(here):
    whole = {"server": here.cluster.url, "context": "fake", "release": version_of(here)}
    deployed = here.run("deploy")
    assert deployed.status == 0, deployed.stderr
    assert deployed.json["cluster"] == deployed.json["apply"]["cluster"] == whole
    assert f"{named(here)}: " in deployed.stderr, "also where nobody is asked"
    applied = here.run("apply")
    assert applied.json["cluster"] == whole
    for command in ("status", "doctor"):
        assert here.ask(command).json["cluster"] == whole
        shown = run("hub-import", command, "--kubeconfig", here.kubeconfig)
        assert shown.stdout.splitlines()[0] == f"{named(here)}."
    dry = here.ask("undo", "--dry-run")
    assert dry.json["cluster"] == whole
    assert f"{named(here)}." in run("hub-import", "undo", "--dry-run", "--kubeconfig", here.kubeconfig).stdout
    status, lines = on_terminal(here, ["undo", "--kubeconfig", str(here.kubeconfig)], b"n\n")
    assert status == 1
    # Mirror rules that are taken away drain, where added ones do not.
    drained = r": \d+ changes, every node is drained, one after another; none reboots\."
    assert re.fullmatch(re.escape(named(here)) + drained, question(lines)), question(lines)
    undone = here.ask("undo", "--yes", "--report", here.folder / "undone.html")
    assert undone.json["cluster"] == whole
    text = (here.folder / "undone.html").read_text()
    seen = " ".join(re.sub("<[^>]+>", " ", text).split())
    assert named(here) in seen
    assert f"Run by {getpass.getuser()} on {socket.gethostname()}, as tester of the cluster" in seen
    assert "CatalogSource openshift-marketplace/index</b>" in text
    nothing = here.ask("undo", "--yes", "--report", f"{here.folder}/")
    assert not [path for path in pages(here.folder) if path.name.startswith("hub-undo-")], "nothing was done"
    assert nothing.status == 2
    assert named(here) in nothing.stderr


def test_the_question_of_doctor_names_the_cluster(here):
    assert here.run("deploy").status == 0
    drift(here)
    done = run("hub-import", "doctor", "--fix", "--kubeconfig", here.kubeconfig)
    assert done.status == 2, done.stdout + done.stderr
    assert f"{named(here)}: 1 change, no drain." in done.stderr
    fixed = here.ask("doctor", "--fix", "--yes", "--report", f"{here.folder}/")
    (page,) = [path for path in pages(here.folder) if path.name.startswith("hub-doctor-")]
    assert fixed.json["findings"][0]["fixed"], fixed.stderr
    assert "OperatorHub cluster" in page.read_text()


def test_a_page_about_changes_needs_changes(tmp_path):
    done = run("hub-import", "doctor", "--report", tmp_path / "page.html")
    assert (done.status, "--report without --fix" in done.stderr) == (2, True)


def test_no_is_an_error_whatever_is_asked(here):
    """ADR 0098: a script tells `done` from `not agreed`; findings are shown all the same."""
    assert here.run("deploy").status == 0
    drift(here)
    versions, place = here.cluster.versions(), ["--kubeconfig", str(here.kubeconfig)]
    for words in (["doctor", "--fix"], ["undo"]):
        status, lines = on_terminal(here, [*words, *place], b"n\n")
        assert (status, "error: the cluster was not changed: not agreed" in lines) == (1, True), lines
        assert lines[-1].split() == ["hub-import", *words, *place]
        assert any("OperatorHub" in line for line in lines), lines
    assert here.cluster.versions() == versions


def test_no_to_a_deletion_is_an_error_and_an_empty_plan_asks_nothing(here):
    push(here)
    there = ["--insecure", here.mirror.host, "--no-cluster"]
    plan = here.folder / "plan.json"
    made = run("hub-import", "prune", "--registry", f"{here.mirror.host}/ocp", *there, "--output", plan)
    assert made.status == 0, made.stderr
    nothing = run("hub-import", "prune", "--plan", plan, *there, "--format", "json")
    assert (nothing.status, nothing.json["deleted"]) == (0, []), nothing.stderr
    one = Deletion("ocp/a", digest_of(b"a"), (), (), (), (), 1)
    plan.write_bytes(encode(structs.replace(load(plan), deletions=(one,))))
    status, lines = on_terminal(here, ["prune", "--plan", str(plan), *there], b"n\n")
    # The terminal may echo the answer within the question, whose end is then in the line of the error.
    said = f"error: nothing was deleted from {here.mirror.host}/ocp: not agreed"
    assert (status, any(line.endswith(said) for line in lines)) == (1, True), lines
    assert here.mirror.log("DELETE", f"/{one.repository}/") == []


def drift(here):
    """Let somebody switch the default sources on again, which `doctor --fix` mends."""
    spec = {"disableAllDefaultSources": False}
    here.cluster.put({"kind": "OperatorHub", "metadata": {"name": "cluster"}, "spec": spec}, "somebody")
    here.cluster.bring_defaults()


def test_of_several_contexts_the_chosen_one_is_named(here):
    with FakeCluster("4.16") as other:
        document = yaml.safe_load(here.kubeconfig.read_text())
        second = yaml.safe_load(other.kubeconfig(Path(here.folder)).read_text())
        document["clusters"].append({"name": "second", "cluster": second["clusters"][0]["cluster"]})
        document["users"].append({"name": "somebody-else", "user": second["users"][0]["user"]})
        document["contexts"].append({"name": "production", "context": {"cluster": "second", "user": "somebody-else"}})
        config = here.folder / "several"
        config.write_text(yaml.safe_dump(document))
        done = run("hub-import", "status", "--kubeconfig", config, "--context", "production", "--format", "json")
        assert done.json["cluster"]["server"] == other.url
        assert done.json["cluster"]["context"] == "production"
        assert done.json["cluster"]["release"].startswith("4.16.")
        here.kubeconfig = config
        assert here.ask("status").json["cluster"]["context"] == "fake"
        assert "somebody-else" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("server", "shown"),
    [
        ("https://admin:secret@api.example:6443/path?token=secret", "https://api.example:6443/path"),
        ("https://api.example:6443?token=secret", "https://api.example:6443"),
        ("https://api.example:6443/#secret", "https://api.example:6443/"),
        ("https://admin:secret@api.example#secret/x", "https://api.example"),
    ],
)
def test_a_secret_in_the_address_is_not_shown(tmp_path, server, shown):
    with connect(config_of(tmp_path, server), None) as client:
        assert client.server == shown
        assert client.context == "one"


def test_an_address_that_is_no_url_is_not_shown(tmp_path):
    """httpx names the port it cannot read, which is part of a password with a slash."""
    done = run("hub-import", "status", "--kubeconfig", config_of(tmp_path, "https://admin:secret/part@api.example:6443"))
    assert done.status == 2, done.stderr
    assert "the address of its server, or of the proxy, is no URL" in done.stderr
    assert "secret" not in done.stderr


def config_of(folder, server):
    config = {
        "clusters": [{"name": "one", "cluster": {"server": server}}],
        "contexts": [{"name": "one", "context": {"cluster": "one"}}],
        "current-context": "one",
    }
    (folder / "config").write_text(yaml.safe_dump(config))
    return folder / "config"


def test_in_a_pod_there_is_no_context():
    assert str(ClusterIdentity("https://172.30.0.1:443", None, "4.18.7")) == (
        "Cluster https://172.30.0.1:443 (service account of this pod, OpenShift 4.18.7)"
    )


@pytest.mark.parametrize("given", ["service account of this pod", "context fake", *more(["in the home"])])
def test_a_pod_s_service_account_is_told_from_a_kubeconfig(here, given):
    """As for `oc`, a kubeconfig that the environment has comes first: a job in one cluster may be for another one."""
    apart = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no namespaces")
    document = yaml.safe_load(here.kubeconfig.read_text())
    account = here.folder / "account"
    account.mkdir()
    (account / "token").write_text(document["users"][0]["user"]["token"])
    (account / "namespace").write_text("hub-airgap")
    (account / "ca.crt").write_bytes(base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]))
    script = (
        f"mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount && "
        f'cp {account}/* /run/secrets/kubernetes.io/serviceaccount/ && exec "$@"'
    )
    address = urlsplit(here.cluster.url)
    variable = {"KUBECONFIG": str(here.kubeconfig)} if given == "context fake" else {}
    if given == "in the home":
        given = "context fake"
        (here.folder / ".kube").mkdir()
        shutil.copy(here.kubeconfig, here.folder / ".kube" / "config")
    done = subprocess.run(
        [*apart, "sh", "-c", script, "sh", str(BIN / "hub-import"), "status"],
        capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(here.folder), "KUBERNETES_SERVICE_HOST": address.hostname, "KUBERNETES_SERVICE_PORT": str(address.port), **variable},
    )  # fmt: skip
    assert done.stdout.startswith(f"Cluster {here.cluster.url} ({given}, OpenShift {version_of(here)}).\n"), done.stderr
    assert not leaked(done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("4.3", "every node is drained and rebooted, one after another"),
        ("4.18", "no drain"),
        pytest.param("4.12", "no drain", marks=pytest.mark.more),
    ],
)
def test_what_happens_to_nodes_is_said_with_the_number_of_changes(archives, tmp_path, release, said):
    with FakeCluster(release) as cluster, FakeRegistry() as mirror:
        here = Site(cluster, mirror, archives["sqlite"], tmp_path)
        done = run("hub-import", "deploy", *place(here), "--dry-run")
        assert done.status == 0, done.stderr
        assert re.search(rf"^{re.escape(named(here))}: \d+ changes, {said}\.$", done.stdout, re.MULTILINE), done.stdout


def test_each_deploy_has_a_page_of_its_own_that_says_who_and_where(here):
    source = {"name": "site-catalog", "namespace": MARKETPLACE}
    here.cluster.put({"kind": "CatalogSource", "metadata": source, "spec": {"sourceType": "grpc", "image": "i"}}, "somebody")
    put_operator(here.cluster, InstalledOperator("team", "web", "web", source="site-catalog"))
    first = run("hub-import", "deploy", *place(here), "--yes", cwd=here.folder)
    assert first.status == 0, first.stderr
    (page,) = pages(here.folder)
    assert re.fullmatch(r"hub-deploy-\d{8}T\d{6}Z-[0-9a-f]{12}\.html", page.name)
    digest = Archive.open([here.archive]).digest
    assert page.name.endswith(f"-{digest.partition(':')[2][:12]}.html")
    assert f"{page.name}: what was done, as a page" in first.stderr
    known = run("hub-import", "status", "--kubeconfig", here.kubeconfig).stdout.splitlines()
    assert any(line.startswith("last import: archive of ") and digest[:19] in line for line in known)
    text = page.read_text()
    seen = " ".join(re.sub("<[^>]+>", " ", text).split())
    assert f"Run by {getpass.getuser()} on {socket.gethostname()}, as tester of the cluster" in seen
    (row,) = re.findall(r"<tr.*team/web.*</tr>", text)
    assert "<td>0.9.0 Succeeded</td><td>0.9.0 Succeeded</td><td>site-catalog</td>" in row
    assert ">as before</i>" in row, "read again after the wait"
    assert f"hub-import undo --kubeconfig {here.kubeconfig} --context fake" in text
    assert named(here) in seen
    again = run("hub-import", "deploy", *place(here), "--yes", cwd=here.folder)
    assert again.status == 0, again.stderr
    assert len(pages(here.folder)) == 2, "two runs in one second have two names"
    assert page.read_text() == text


def paused(here):
    """Let preflight refuse every deploy."""
    here.cluster.put({"kind": "MachineConfigPool", "metadata": {"name": "worker"}, "spec": {"paused": True}}, "somebody")


def test_a_page_that_is_named_is_not_replaced_either(here):
    paused(here)  # a refusal has a page too, and takes no time
    for number in (1, 2, 3):
        done = run("hub-import", "deploy", *place(here), "--yes", "--report", "page.html", cwd=here.folder)
        assert done.status == 6, done.stderr
        name = "page.html" if number == 1 else f"page-{number}.html"
        assert f"{name}: what was done, as a page" in done.stderr
    assert [page.name for page in pages(here.folder)] == ["page-2.html", "page-3.html", "page.html"]
    (here.folder / "pages").mkdir()
    done = run("hub-import", "deploy", *place(here), "--yes", "--report", "pages", cwd=here.folder)
    assert [page.name[:11] for page in pages(here.folder / "pages")] == ["hub-deploy-"]


def test_a_deploy_that_the_cluster_refuses_has_a_page_with_the_cluster(here):
    paused(here)
    done = run("hub-import", "deploy", *place(here), "--yes", cwd=here.folder)
    assert done.status == 6, done.stderr
    (page,) = pages(here.folder)
    assert named(here).removeprefix("Cluster ") in page.read_text()
    assert "paused" in page.read_text()


def test_wrong_contexts_are_named(here):
    with pytest.raises(UsageError, match="nowhere"):
        connect(here.kubeconfig, "nowhere")
