"""The Jobs of deploy/several: valid, and their commands run as Kubernetes would run them, next to each other."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from common.errors import ExitCode
from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import BIN, run
from tests.fakes.servers import PASSWORD, USER, docker_registry

pytestmark = pytest.mark.integration
FOLDER = Path(__file__).parents[2] / "deploy" / "several"
PACKAGE = "openshift-cert-manager-operator"
EPOCH = {"SOURCE_DATE_EPOCH": "1767225600"}


def documents(name="*"):
    return [each for path in sorted(FOLDER.glob(f"{name}.yaml")) for each in yaml.safe_load_all(path.read_text())]


def job(name):
    (found,) = [each for each in documents(name) if each["kind"] == "Job"]
    return found


@pytest.mark.parametrize("kubernetes", ["1.29", "1.33"])
@pytest.mark.parametrize("each", documents(), ids=lambda each: each["metadata"]["name"])
def test_objects_are_what_kubernetes_takes(each, kubernetes):
    kubernetes_validate.validate(each, kubernetes, strict=True)


@pytest.mark.parametrize(
    "each", [each for each in documents() if each["kind"] == "Job"], ids=lambda each: each["metadata"]["name"]
)
def test_pods_need_no_privilege_and_their_mounts_are_there(each):
    pod = each["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    codes = {
        code for rule in each["spec"]["podFailurePolicy"]["rules"] for code in rule.get("onExitCodes", {}).get("values", [])
    }
    assert codes <= {ExitCode.USAGE, ExitCode.ARCHIVE, ExitCode.SPACE}, "what another try cannot mend"
    if each["spec"].get("completionMode") == "Indexed":
        assert f"--shards={each['spec']['completions']}" in container["args"]


def start(name, index, places, env):
    """Start the pod of an index: command, arguments and environment of the Job, its mounts led to folders here."""
    spec = job(name)["spec"]["template"]["spec"]["containers"][0]

    def here(text):
        for shown, real in places.items():
            text = text.replace(shown, str(real))
        return text

    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": "/tmp", **env}
    if index is not None:
        environment["JOB_COMPLETION_INDEX"] = str(index)
    command = [here(word) for word in (*spec["command"], *spec["args"])]
    return subprocess.Popen(command, env=environment, stdout=sys.stderr, stderr=sys.stderr)


def pods(name, places, env):
    """Run all pods of a Job at the same time; return their exit statuses."""
    count = job(name)["spec"].get("completions")
    started = [start(name, index, places, env) for index in (range(count) if count else [None])]
    return [process.wait(180) for process in started]


def contents(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def test_the_jobs_make_and_push_the_archive_of_one_process(tmp_path):
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE], size=1_000_000)
    for name in ("work", "request", "secrets"):
        (tmp_path / name).mkdir()
    work = tmp_path / "work"
    (tmp_path / "request" / "imageset.yaml").write_text(
        "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  operators:\n"
        f"  - catalog: {sources.CATALOG}\n    full: true\n    packages:\n    - name: {PACKAGE}\n"
    )
    with (
        docker_registry(tmp_path, name="source", htpasswd=True) as source,
        docker_registry(tmp_path, name="mirror", tls=True, htpasswd=True) as mirror,
    ):
        content.seed(f"http://{source.host}", login=(USER, PASSWORD))
        (tmp_path / "registries.conf").write_text(content.registries_conf(source.host, insecure=True))
        env = {"HUB_EXPORT_REGISTRIES_CONF": str(tmp_path / "registries.conf"), **EPOCH}
        login(source, tmp_path / "secrets" / "auth.json", "hub-export", "--insecure")
        places = {"/archives": work, "/request": tmp_path / "request", "/secrets": tmp_path / "secrets", "50GB": "4MiB"}
        assert pods("1-plan", places, {**env, "HUB_EXPORT_SIGNATURES": "ignore"}) == [0]
        assert pods("2-volumes", places, env) == [0, 0, 0]
        assert pods("3-finish", places, env) == [0]
        assert pods("3-finish", places, env) == [0], "a Job may be started twice"
        arguments = [
            "--plan",
            work / "plan.json",
            "--authfile",
            tmp_path / "secrets" / "auth.json",
            "--output",
            tmp_path / "one",
        ]
        done = run("hub-export", "create", *arguments, env=env)
        assert done.status == 0, done.stderr
        assert contents(work / "archive") == contents(tmp_path / "one")
        assert len(contents(work / "archive")) > 3 + 3, "three shards have something to do"

        (tmp_path / "secrets" / "ca.pem").write_bytes(mirror.ca.read_bytes())
        login(mirror, tmp_path / "secrets" / "push.json", "hub-import", "--ca", mirror.ca)
        places = {"/archive": work / "archive", "/secrets": tmp_path / "secrets", "mirror.example:5000": mirror.host}
        assert pods("push", places, {}) == [0, 0, 0]
        options = ["--registry", f"{mirror.host}/ocp", "--authfile", tmp_path / "secrets" / "push.json", "--ca", mirror.ca]
        last = run("hub-import", "push", work / "archive", *options, "--format", "json").json
        assert (last["ok"], last["uploaded"], last["mounted"]) == (True, 0, 0)


def login(server, authfile, program, *options):
    done = run(
        *(program, "login", server.host, "--username", USER, "--password-stdin", "--authfile", authfile, *options),
        stdin=PASSWORD,
    )
    assert done.status == 0, done.stderr
    assert authfile.stat().st_mode & 0o777 == 0o600
