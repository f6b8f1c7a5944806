"""A disconnected site from end to end, on every release: deploy, deploy again, undo; and everything that may be in the way."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.commands import BIN, run
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import require
from tests.fakes.sites import NODE_CA, Site, shared_both
from tests.samples import more

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
DEFAULTS = [f"openshift-{name}-operators" for name in ("certified", "community", "redhat")]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return shared_both(tmp_path_factory)


@pytest.fixture
def site(archives, tmp_path):
    """Return what makes a site of a release; it goes with the test."""
    opened = []

    def make(release: str | None, *, patch: int = 40) -> Site:
        cluster, mirror = FakeCluster(release, patch=patch), FakeRegistry()
        opened.extend((cluster, mirror))
        old = release is not None and int(release.partition(".")[2]) < 9
        cluster.__enter__()
        mirror.__enter__()
        return Site(cluster, mirror, archives["sqlite" if old else "file-based"], tmp_path)

    yield make
    for each in reversed(opened):
        each.__exit__(None, None, None)


def live_in(here: Site) -> None:
    """Give a cluster what people put there over the years."""
    put = here.cluster.put
    put({"kind": "OperatorHub", "metadata": {"name": "cluster"}, "spec": {"sources": [{"name": "x", "disabled": True}]}})
    place = {"name": "site-cas", "namespace": "openshift-config", "labels": {"team": "infra"}}
    put({"kind": "ConfigMap", "metadata": place, "data": {"old.example..5000": "PEM of old", "updateservice-registry": "PEM"}})
    registries = {"allowedRegistries": ["old.example:5000", "quay.io"]}
    spec = {"additionalTrustedCA": {"name": "site-cas"}, "registrySources": registries}
    put({"kind": "Image", "metadata": {"name": "cluster"}, "spec": spec})
    rules = [{"source": "quay.io/theirs/app", "mirrors": ["old.example:5000/theirs/app"]}]
    put({"kind": "ImageContentSourcePolicy", "metadata": {"name": "theirs"}, "spec": {"repositoryDigestMirrors": rules}})
    source = {"sourceType": "grpc", "image": "old.example:5000/theirs/index:v1", "displayName": "Theirs"}
    put({"kind": "CatalogSource", "metadata": {"name": "theirs", "namespace": MARKETPLACE}, "spec": source})


def credentials(cluster: FakeCluster) -> dict:
    secret = cluster.get("Secret", "pull-secret", "openshift-config")
    return json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"]


def objects(here: Site) -> dict[str, list[str]]:
    """Return the names of what an import makes, by kind; the Service of a CatalogSource is made by OLM."""
    kinds = ("CatalogSource", "ClusterCatalog", "ImageContentSourcePolicy", "ImageDigestMirrorSet", "ImageTagMirrorSet")
    return {kind: names for kind in (*kinds, "Deployment", "ConfigMap") if (names := here.cluster.names(kind))}


# The others differ in what apply writes and undo removes: test_cluster.py and test_undo.py have them.
@pytest.mark.parametrize("release", ["4.18", *more(["4.3", "4.5", "4.6", "4.8", "4.12", "4.13", "4.14", "4.15", "4.20"])])
def test_deploy_again_and_undo(site, release):
    here, minor = site(release), int(release.partition(".")[2])
    emptydir = ["--image-registry-emptydir"] if minor < 5 else []
    before = here.state()
    done = here.run("deploy", *here.trust, *emptydir)
    assert done.status == 0, done.stderr
    assert done.json["apply"]["healthy"] is True
    rules = "ImageDigestMirrorSet" if minor >= 13 else "ImageContentSourcePolicy"
    wanted = {"CatalogSource": ["index"], rules: ["hub-index"], "ConfigMap": ["hub-registry-ca"]}
    if minor >= 18:
        wanted["ClusterCatalog"] = sorted(["index", *DEFAULTS])
        assert {here.cluster.get("ClusterCatalog", name)["spec"]["availabilityMode"] for name in DEFAULTS} == {"Unavailable"}
    assert objects(here) == wanted
    spec = here.cluster.get("CatalogSource", "index", MARKETPLACE)["spec"]
    assert spec["image"].startswith(f"{here.mirror.host}/ocp/example/index@sha256:")
    config = spec.get("grpcPodConfig", {})
    assert config.get("securityContextConfig") == (None if minor < 12 else "restricted")
    assert config.get("extractContent") == ({"catalogDir": "/configs"} if minor >= 20 else None)
    registry = here.cluster.get("Config", "cluster")["spec"]
    assert registry["managementState"] == ("Managed" if minor < 5 else "Removed")
    assert here.cluster.get("OperatorHub", "cluster")["spec"] == {"disableAllDefaultSources": True}
    key = here.mirror.host if minor < 9 else f"{here.mirror.host}/ocp"
    assert set(credentials(here.cluster)) == {"registry.redhat.io", "cloud.openshift.com", key}
    assert here.cluster.pruned == []

    versions = here.cluster.versions()
    again = here.run("deploy", *here.trust, *emptydir, yes=False)  # nothing to agree to
    assert again.status == 0, again.stderr
    assert {change["action"] for change in again.json["apply"]["changes"]} == {"unchanged"}
    assert here.cluster.versions() == versions

    undone = here.ask("undo", "--yes")
    assert undone.status == 0, undone.stderr
    assert here.state() == before


def test_nothing_is_pushed_before_it_is_known_that_the_cluster_can_take_it(site):
    here = site("4.18")
    here.cluster.forbidden.add(("patch", "operatorhubs"))
    assert here.run("deploy").status == 6
    here.cluster.forbidden.clear()
    refused = here.run("deploy", yes=False)
    assert refused.status == 2
    assert "--yes" in refused.stderr
    assert here.mirror.repositories == {}


def test_plain_kubernetes(site):
    here = site(None)
    done = here.run("deploy")
    assert done.status == 0, done.stderr
    assert [(change["action"], change["kind"]) for change in done.json["apply"]["changes"]] == [("created", "CatalogSource")]
    assert here.cluster.get("CatalogSource", "index", "olm")["spec"]["image"].startswith(here.mirror.host)
    assert here.ask("status").status == 0
    assert here.ask("undo", "--yes").status == 0
    assert here.cluster.names("CatalogSource") == here.cluster.names("Secret") == []


@pytest.mark.parametrize(
    ("release", "patch", "flags"),
    [
        ("4.3", 5, []),
        pytest.param("4.6", 40, ["--serve-catalog"], marks=pytest.mark.more),
        pytest.param("4.18", 7, ["--serve-catalog"], marks=pytest.mark.more),
        # where the namespace denies all traffic by default
        pytest.param("4.20", 1, ["--serve-catalog"], marks=pytest.mark.more),
    ],
)
def test_a_catalog_that_we_serve_ourselves(site, release, patch, flags):
    here = site(release, patch=patch)
    policies = here.cluster.names("NetworkPolicy")
    done = here.run("deploy", *flags)
    assert done.status == 0, done.stderr
    spec = here.cluster.get("CatalogSource", "index", MARKETPLACE)["spec"]
    assert spec["address"] == f"index-serving.{MARKETPLACE}.svc:50051"
    assert not {"image", "grpcPodConfig"} & spec.keys()
    (container,) = here.cluster.get("Deployment", "index-serving", MARKETPLACE)["spec"]["template"]["spec"]["containers"]
    assert "limits" not in container["resources"]
    assert container["image"].startswith(f"{here.mirror.host}/ocp/example/index@sha256:")
    versions = here.cluster.versions()
    again = here.run("apply", yes=False)  # without the flag: what is served by address stays so
    assert again.status == 0, again.stderr
    assert here.cluster.versions() == versions
    assert here.ask("status").status == 0
    assert here.ask("undo", "--yes").status == 0
    assert here.cluster.names("Deployment") == here.cluster.names("Service") == []
    assert here.cluster.names("NetworkPolicy") == policies


@pytest.mark.more
@pytest.mark.parametrize("release", ["4.15", "4.6"])
def test_from_an_image_to_an_address_and_back_by_undo(site, release):
    here = site(release)
    assert here.run("deploy").status == 0
    done = here.run("apply", "--serve-catalog")
    assert done.status == 0, done.stderr
    assert "image" not in here.cluster.get("CatalogSource", "index", MARKETPLACE)["spec"]
    undone = here.ask("undo", "--yes")
    assert undone.status == 0, undone.stderr
    assert "index" not in here.cluster.names("CatalogSource")


@pytest.mark.more  # in `make test`: test_constellations.py, with most at once
@pytest.mark.parametrize("release", ["4.18", "4.6", "4.12", "4.14"])
def test_what_others_put_there_is_preserved_and_comes_back_as_it_was(site, release):
    here = site(release)
    live_in(here)
    before = here.state()
    done = here.run("deploy", *here.trust)
    assert done.status == 0, done.stderr
    # machine-config-operator, pkg/daemon: policy.json, which has allowedRegistries, reboots up to 4.11 and is reloaded from 4.12 on.
    effect = "every node is drained and rebooted" if release == "4.6" else "nodes take them over without being drained"
    assert f"registries that nodes may pull from: {effect}" in done.stderr
    key = here.mirror.host.replace(":", "..")
    assert here.cluster.get("OperatorHub", "cluster")["spec"] == {
        "disableAllDefaultSources": True,
        "sources": [{"name": "x", "disabled": True}],
    }
    config_map = here.cluster.get("ConfigMap", "site-cas", "openshift-config")
    assert config_map["data"] == {"old.example..5000": "PEM of old", "updateservice-registry": "PEM", key: NODE_CA}
    assert config_map["metadata"]["labels"] == {"team": "infra"}
    assert here.cluster.names("ConfigMap") == ["site-cas"]
    image = here.cluster.get("Image", "cluster")["spec"]
    assert image["additionalTrustedCA"] == {"name": "site-cas"}
    allowed = image["registrySources"]["allowedRegistries"]
    assert allowed[:2] == ["old.example:5000", "quay.io"]
    assert here.mirror.host in allowed
    assert {"registry.redhat.io", "cloud.openshift.com"} < set(credentials(here.cluster))
    assert credentials(here.cluster)["cloud.openshift.com"] == {"auth": "eDp5", "email": "a@b"}
    theirs = [name for name in here.state() if '"theirs"' in name]
    assert {name: here.state()[name] for name in theirs} == {name: before[name] for name in theirs}
    assert ("ImageDigestMirrorSet" in objects(here)) == (int(release[2:]) >= 15), "before 4.15 the kinds cannot stand together"
    versions = here.cluster.versions()
    assert here.run("apply", *here.trust, yes=False).status == 0
    assert here.cluster.versions() == versions
    assert here.ask("undo", "--yes").status == 0
    assert here.state() == before


def test_permissions_that_are_missing_are_listed_before_the_first_change(site):
    here = site("4.18")
    here.cluster.forbidden |= {("patch", "operatorhubs"), ("create", "imagedigestmirrorsets"), ("list", "packagemanifests")}
    versions = here.cluster.versions()
    done = here.run("deploy")
    assert done.status == 6
    for line in (
        "patch operatorhubs.config.openshift.io",
        "create imagedigestmirrorsets.config.openshift.io",
        f"list packagemanifests.packages.operators.coreos.com in {MARKETPLACE}",
    ):
        assert line in done.stderr
    assert "3 permissions are missing" in done.stderr
    assert "render --rbac" in done.stderr
    assert here.cluster.versions() == versions
    asked = kubectl(here, "auth", "can-i", "patch", "operatorhubs.config.openshift.io")
    assert asked.stdout.startswith("no")
    assert kubectl(here, "auth", "can-i", "get", "operatorhubs.config.openshift.io").stdout.strip() == "yes"


def kubectl(here: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [require("kubectl"), "--kubeconfig", str(here.kubeconfig), "--cache-dir", str(here.folder / "cache"), *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": str(here.folder)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


@pytest.mark.more
def test_kubectl_reads_the_log_of_a_catalogs_pod(site):
    here = site("4.18")
    assert here.run("deploy").status == 0
    here.cluster.logs[f"{MARKETPLACE}/index-abcde/registry-server"] = "one\ntwo\n"
    assert kubectl(here, "logs", "-n", MARKETPLACE, "index-abcde", "-c", "registry-server").stdout == "one\ntwo\n"


@pytest.mark.parametrize(
    ("release", "body", "said"),
    [
        (
            "4.18",
            {"kind": "MachineConfigPool", "metadata": {"name": "worker"}, "spec": {"paused": True}},
            "worker: the pool is paused",
        ),
        (
            "4.18",
            {
                "kind": "MachineConfigPool",
                "metadata": {"name": "master"},
                "status": {"conditions": [{"type": "Degraded", "status": "True", "message": "disk of master-2 is full"}]},
            },
            "disk of master-2 is full",
        ),
        (
            "4.18",
            {"kind": "Infrastructure", "metadata": {"name": "cluster"}, "status": {"controlPlaneTopology": "External"}},
            "HostedCluster",
        ),
        (
            "4.18",
            {
                "kind": "Image",
                "metadata": {"name": "cluster"},
                "spec": {"registrySources": {"blockedRegistries": ["{host}"]}},
            },
            "blockedRegistries",
        ),
        (
            "4.20",
            {"kind": "ClusterImagePolicy", "metadata": {"name": "signed"}, "spec": {"scopes": ["{host}/ocp"]}},
            "a filtered catalog has none",
        ),
    ],
)
def test_what_would_make_it_fail_is_told_before_the_first_change(site, release, body, said):
    here = site(release)
    here.cluster.put(yaml.safe_load(yaml.safe_dump(body).replace("{host}", here.mirror.host)))
    if body["kind"] == "MachineConfigPool" and "status" in body:
        here.cluster.simulator.machines.read = lambda: None
    before = here.state()
    done = here.run("deploy")
    assert done.status == 6, done.stderr
    assert "the cluster was not changed" in done.stderr
    assert said in done.stderr
    assert here.state() == before


def test_a_person_is_told_what_the_nodes_will_go_through(site):
    here = site("4.6")
    proxy = {"httpsProxy": "http://proxy.example:3128", "noProxy": "10.0.0.0/8,.cluster.local"}
    here.cluster.put({"kind": "Proxy", "metadata": {"name": "cluster"}, "spec": proxy})
    dry = here.run("deploy", "--dry-run", *here.trust)
    assert dry.status == 0, dry.stderr
    found = {finding["code"]: finding for finding in dry.json["apply"]["findings"]}
    assert found["nodes-roll"]["evidence"] == [
        "mirror rules for pulls by digest: every node is drained and rebooted, one after another",
        "pull secret: every node is drained and rebooted, one after another",
    ]
    assert "add localhost to spec.noProxy" in found["mirror-behind-proxy"]["fix"]
    assert "each node itself" in found["mirror-unknown-to-nodes"]["cause"]
    asked = here.run("deploy", yes=False)
    assert asked.status == 2
    assert "drained and rebooted" in asked.stderr
    assert "mirror-unknown-to-nodes" in asked.stderr


@pytest.mark.parametrize("release", ["4.18", *more(["4.3"])])
def test_a_dry_run_shows_how_every_object_would_differ_and_changes_nothing(site, release):
    here = site(release)
    versions = here.cluster.versions()
    emptydir = ["--image-registry-emptydir"] if release == "4.3" else []
    dry = here.run("apply", "--dry-run", *here.trust, *emptydir)
    assert dry.status == 0, dry.stderr
    diffs = {change["kind"]: "\n".join(change["diff"]) for change in dry.json["changes"]}
    assert "+  disableAllDefaultSources: true" in diffs["OperatorHub"]
    assert f"+  image: {here.mirror.host}/ocp/example/index@sha256:" in diffs["CatalogSource"]
    assert "not shown" in diffs["Secret"]
    assert "cmVhZGVyOnJlYWRz" not in dry.stdout
    assert [finding["code"] for finding in dry.json["findings"] if finding["severity"] == "error"] == ["image-not-in-mirror"]
    assert here.cluster.versions() == versions
    assert here.mirror.repositories == {}


def test_images_that_the_mirror_lacks_are_told_before_the_cluster_is_changed(site):
    here = site("4.18")
    versions = here.cluster.versions()
    done = here.run("apply")
    assert done.status == 5
    assert "the mirror lacks 5 of 5 images" in done.stderr
    assert here.cluster.versions() == versions


def test_the_image_registry_of_4_3_is_not_switched_on_without_agreement(site):
    here = site("4.3")
    versions = here.cluster.versions()
    done = here.run("deploy", "--ca", here.folder / "ca.pem")
    assert done.status == 6
    assert "--image-registry-emptydir" in done.stderr
    assert here.cluster.versions() == versions
    here.cluster.put({"kind": "Config", "metadata": {"name": "cluster"}, "spec": {"storage": {"pvc": {"claim": "registry"}}}})
    kept = here.run("deploy", "--ca", here.folder / "ca.pem")
    assert kept.status == 0, kept.stderr
    spec = here.cluster.get("Config", "cluster")["spec"]
    assert (spec["managementState"], spec["storage"]) == ("Managed", {"pvc": {"claim": "registry"}})


def test_a_cluster_without_the_marketplace(site):
    """The capability can be left out: then there is no OperatorHub, and there are no default sources."""
    here = site("4.15")
    here.cluster.kinds = tuple(kind for kind in here.cluster.kinds if kind.kind != "OperatorHub")
    for kind, place in (("CatalogSource", MARKETPLACE), ("Namespace", "")):
        for name in here.cluster.names(kind):
            if kind == "CatalogSource" or name == MARKETPLACE:
                here.cluster.store.delete(here.cluster._key(here.cluster.get(kind, name, place)))
    done = here.run("deploy")
    assert done.status == 0, done.stderr
    hub = [change for change in done.json["apply"]["changes"] if change["kind"] == "OperatorHub"]
    assert [(change["action"], change["detail"]) for change in hub] == [("unchanged", "the cluster has none")]
    assert MARKETPLACE in here.cluster.names("Namespace")
    assert here.ask("undo", "--yes").status == 0
    assert MARKETPLACE in here.cluster.names("Namespace"), "others may have put something there"


@pytest.mark.more  # in `make test`: test_cluster.py, after every request
@pytest.mark.parametrize(("release", "writes"), [("4.18", 6), ("4.18", 1), ("4.18", 11), ("4.12", 3)])
def test_an_api_server_that_goes_away_mid_way_leaves_what_the_next_run_finishes(site, release, writes):
    here = site(release)
    before = here.state()
    here.cluster.writes_left = writes
    broken = here.run("deploy", *here.trust)
    assert broken.status == 6, broken.stderr
    assert "cannot reach" in broken.stderr
    here.cluster.writes_left = None
    again = here.run("deploy", *here.trust)
    assert again.status == 0, again.stderr
    assert here.ask("status").status == 0
    third = here.run("apply", *here.trust, yes=False)
    assert {change["action"] for change in third.json["changes"]} == {"unchanged"}
    assert here.ask("undo", "--yes").status == 0
    assert here.state() == before


def test_bad_kubeconfigs_and_tokens(site, tmp_path):
    here = site("4.18")
    ended = here.cluster.kubeconfig(tmp_path, token="expired")
    expired = here.run("apply")
    assert expired.status == 6
    assert "does not accept the credentials" in expired.stderr
    assert "oc login" in expired.stderr
    here.kubeconfig = here.cluster.kubeconfig(tmp_path)
    wrong = here.run("apply", "--context", "production")
    assert wrong.status == 2
    assert "--context" in wrong.stderr
    ended.write_text("{not: [yaml")
    garbled = here.run("apply")
    assert garbled.status == 2
    ended.write_text("just a name\n")
    assert "it is no kubeconfig" in here.run("apply").stderr
    ended.unlink()
    assert f"{ended}: No such file or directory\n" in here.run("apply").stderr
    assert "Traceback" not in garbled.stderr
    here.kubeconfig = here.cluster.kubeconfig(tmp_path, trust=False)
    untrusted = here.run("apply")
    assert untrusted.status == 6
    assert "is not trusted" in untrusted.stderr
    long_name = here.run("apply", "--catalog-name", "a" * 64)
    assert long_name.status == 2
    assert "is not a name for a CatalogSource" in long_name.stderr


def test_on_a_terminal_the_wait_is_a_table_of_what_is_waited_for(site):
    here = site("4.18")
    here.cluster.mco_reads = 2
    terminal, side = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 150, 0, 0))
    place = ["--registry", f"{here.mirror.host}/ocp", "--insecure", here.mirror.host, "--kubeconfig", str(here.kubeconfig)]
    command = [str(BIN / "hub-import"), "deploy", str(here.archive), *place]
    environment = {"PATH": os.environ["PATH"], "HOME": str(here.folder), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, close_fds=True, env=environment, cwd=here.folder)
    os.close(side)
    seen, asked = "", False
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        seen += data.decode(errors="replace")
        if not asked and "Change the cluster?" in seen:
            os.write(terminal, b"y\n")
            asked = True
    assert process.wait(120) == 0, seen
    os.close(terminal)
    assert asked, "a person is asked before the first change"
    for word in ("waiting for the cluster", "STATE", "SINCE", "LAST SEEN", "NEXT", "MachineConfigPool worker", "pod of index"):
        assert word in seen, word
    assert "takes a minute or two" in " ".join(seen.split()), "what happens next is said"
    assert "\x1b[" in seen


def manifests(folder: Path) -> list[dict]:
    return [each for path in sorted(folder.glob("*.yaml")) for each in yaml.safe_load_all(path.read_text())]


@pytest.mark.parametrize(("release", "kubernetes"), [("4.20", "1.33"), pytest.param("4.12", "1.25", marks=pytest.mark.more)])
def test_the_objects_of_the_job_are_what_kubernetes_takes(site, release, kubernetes):
    here = site(release)
    target = ["--registry", f"{here.mirror.host}/ocp", "--openshift-release", release, "--rbac"]
    rendered = run("hub-import", "render", here.archive, *target, "--serve-catalog", "--output", here.folder / "files")
    assert rendered.status == 0, rendered.stderr
    core = {"apps/v1", "v1", "batch/v1", "rbac.authorization.k8s.io/v1"}
    documents = manifests(ROOT / "deploy")
    ours = [each for each in manifests(here.folder / "files") if each["apiVersion"] in core]
    assert {"Deployment", "Service", "ClusterRole", "Role"} <= {each["kind"] for each in ours}
    for each in (*documents, *ours):
        kubernetes_validate.validate(each, kubernetes, strict=True)
    (job,) = [each for each in documents if each["kind"] == "Job"]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (container["securityContext"]["readOnlyRootFilesystem"], pod["securityContext"]["runAsNonRoot"]) == (True, True)
    named = [each for each in ours if each["kind"].endswith("Role") and each["metadata"]["name"] == "hub-import"]
    roles = {(each["kind"], each["metadata"].get("namespace")) for each in named}
    bound = {(each["roleRef"]["kind"], each["metadata"].get("namespace")) for each in documents if "roleRef" in each}
    assert bound == roles, "every role that render writes is bound, and no other"
    arguments = container["args"]
    known = run("hub-import", arguments[0], "--help").stdout
    assert all(each.partition("=")[0] in known for each in arguments if each.startswith("--"))


def test_deploy_runs_in_a_pod_whose_root_is_read_only(site):
    """As in the Job: the service account instead of a kubeconfig, nothing to write to but the temporary directory."""
    here = site("4.18")
    account = here.folder / "account"
    account.mkdir()
    cluster = yaml.safe_load(here.kubeconfig.read_text())["clusters"][0]["cluster"]
    (account / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    (account / "token").write_text(here.cluster.token)
    (account / "namespace").write_text("hub-airgap")
    port = here.cluster.url.rpartition(":")[2]
    script = f"""mount -t tmpfs none /run && mkdir -p /run/tmp /run/secrets/kubernetes.io || exit 99
    cp -r {account} /run/secrets/kubernetes.io/serviceaccount && cp -r {here.archive} /run/archive || exit 99
    mount -o remount,bind,ro / || exit 99
    touch /here {here.folder}/here 2>/dev/null && exit 98
    {BIN}/hub-import deploy /run/archive --registry {here.mirror.host}/ocp --insecure {here.mirror.host} --yes --progress plain
    echo status $?"""
    environment = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": port,
        "PATH": "/usr/bin:/bin:/usr/sbin",
        "HOME": "/run/tmp",
        "TMPDIR": "/run/tmp",
    }
    command = ["unshare", "-rm", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    if "unshare failed" in done.stderr:
        pytest.skip("no user namespaces here")
    assert done.stdout.endswith("status 0\n"), done.stdout + done.stderr
    assert here.ask("status").status == 0


def test_the_container_file_starts_what_is_installed():
    lines = [line for line in (ROOT / "Containerfile").read_text().splitlines() if line and not line.startswith("#")]
    steps = [line.partition(" ") for line in lines if not line.startswith(" ")]
    assert next(word for word, _, _ in steps) == "ARG"
    assert ("USER", " ", "1001") in steps
    (entry,) = [json.loads(rest) for word, _, rest in steps if word == "ENTRYPOINT"]
    assert run(Path(entry[0]).name, "--version").status == 0
