"""The Jobs of deploy/several: valid, and their commands run as Kubernetes would run them, next to each other."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from common.errors import ExitCode
from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import BIN, run
from tests.fakes.object_store import object_store
from tests.fakes.servers import PASSWORD, USER, docker_registry
from tests.samples import more

pytestmark = pytest.mark.integration
FOLDERS = [Path(__file__).parents[2] / "deploy" / name for name in ("several", "several-s3")]
PACKAGE = "openshift-cert-manager-operator"
UNSIGNED = {"HUB_EXPORT_SIGNATURES": "ignore"}
EPOCH = {"SOURCE_DATE_EPOCH": "1767225600"}


def documents(name="*", folders=FOLDERS):
    paths = [path for folder in folders for path in sorted(folder.glob(f"{name}.yaml"))]
    return [each for path in paths for each in yaml.load_all(path.read_text(), yaml.CSafeLoader)]


def job(name, folder=FOLDERS[0]):
    (found,) = [each for each in documents(name, [folder]) if each["kind"] == "Job"]
    return found


@pytest.mark.parametrize("kubernetes", ["1.29", "1.33"])
@pytest.mark.parametrize("each", documents(), ids=lambda each: each["metadata"]["name"])
def test_objects_are_what_kubernetes_takes(each, kubernetes):
    kubernetes_validate.validate(each, kubernetes, strict=True)


@pytest.mark.parametrize("kubernetes", ["1.28", *more(["1.26"])])
def test_what_the_how_to_changes_for_earlier_kubernetes_is_enough(kubernetes):
    """No limit for each index, and conditions of pods in every rule."""
    for each in documents():
        spec = each["spec"]
        if spec.pop("backoffLimitPerIndex", None):
            del spec["maxFailedIndexes"]
            spec["backoffLimit"] = 15
        for rule in spec.get("podFailurePolicy", {"rules": []})["rules"]:
            if rule["action"] == "FailJob":
                rule["onPodConditions"] = []
        kubernetes_validate.validate(each, kubernetes, strict=True)


def test_a_group_for_fresh_volumes_is_a_comment_away():
    for name in ("1-plan", "2-volumes", "3-finish"):
        text = (FOLDERS[0] / f"{name}.yaml").read_text().replace("# fsGroup:", "fsGroup:")
        (found,) = [each for each in yaml.safe_load_all(text) if each["kind"] == "Job"]
        kubernetes_validate.validate(found, "1.33", strict=True)
        assert found["spec"]["template"]["spec"]["securityContext"]["fsGroup"] == 1001
        assert "fsGroup" not in job(name)["spec"]["template"]["spec"]["securityContext"], "OpenShift refuses it"


@pytest.mark.parametrize(
    ("ends", "last"),
    [(["Complete"] * 3, "finish"), (["Complete", "FailureTarget Failed"], "volumes")],
    ids=["complete", "failed"],
)
def test_the_how_to_waits_for_the_end_of_each_job_whichever_it_is(ends, last, tmp_path):
    """Each Job is asked for twice: there is no condition at first."""
    script = (FOLDERS[0].parents[1] / "docs/how-to/several-machines.md").read_text()
    script = script.partition("```text a cluster with shared storage\n")[2].partition("```")[0]
    answers = [answer for end in ends for answer in ("", end)]
    (tmp_path / "answers").write_text("".join(f"{answer}\n" for answer in answers))
    (tmp_path / "oc").write_text(
        '#!/bin/sh\ncase $1 in get) head -n 1 answers; sed -i 1d answers; echo "$4" >>asked;; apply) ls "$root/$3";; esac\n'
    )
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    for name in ("oc", "sleep"):
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "root": str(FOLDERS[0].parents[1])}
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, env=env, check=False, timeout=120, stdout=sys.stderr)
    assert (tmp_path / "answers").read_text() == ""
    assert (tmp_path / "asked").read_text().split()[-1] == f"job/export-{last}"


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


@pytest.mark.parametrize("folder", [FOLDERS[0].parent, *FOLDERS], ids=lambda folder: folder.name)
def test_claims_are_for_as_many_pods_as_mount_them(folder):
    claims = {each["metadata"]["name"]: each for each in documents(folders=[folder]) if each["kind"] == "PersistentVolumeClaim"}
    for each in documents(folders=[folder]):
        pod = each["spec"]["template"]["spec"] if each["kind"] == "Job" else {"volumes": []}
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                (mode,) = claims[volume["persistentVolumeClaim"]["claimName"]]["spec"]["accessModes"]
                assert mode == "ReadWriteMany" or "completions" not in each["spec"]


def test_one_pod_reads_the_claim_that_many_read():
    """push.yaml is followed by job.yaml, which is for either claim."""
    (one,), (many,) = (documents("archive", [folder]) for folder in (FOLDERS[0].parent, FOLDERS[0]))
    (claim, *_) = job("job", FOLDERS[0].parent)["spec"]["template"]["spec"]["volumes"]
    assert {each["metadata"]["name"] for each in (one, many)} == {claim["persistentVolumeClaim"]["claimName"]}


def start(found, index, places, env, programs=BIN):
    """Start the pod of an index: command, arguments and environment of the Job, its mounts led to folders here."""
    spec = found["spec"]["template"]["spec"]["containers"][0]

    def here(text):
        for shown, real in places.items():
            text = text.replace(shown, str(real))
        return text

    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": "/tmp", **env}
    if index is not None:
        environment["JOB_COMPLETION_INDEX"] = str(index)
    command = [here(word) for word in (*spec["command"], *spec["args"])]
    return subprocess.Popen(command, env=environment, stdout=sys.stderr, stderr=sys.stderr)


def pods(name, places, env, folder=FOLDERS[0]):
    """Run all pods of a Job at the same time; return their exit statuses."""
    found = job(name, folder)
    count = found["spec"].get("completions")
    started = [start(found, index, places, env) for index in (range(count) if count else [None])]
    return [process.wait(180) for process in started]


@pytest.fixture(params=["dash", "bash"])
def programs(request, tmp_path):
    """Where a hub-export is found that does what it is told, and the shell of Debian or of the image."""
    (tmp_path / "sh").symlink_to(shutil.which(request.param))
    (tmp_path / "hub-export").write_text('#!/bin/dash\neval "$DO"\n')
    (tmp_path / "hub-export").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", ["1-plan", "3-finish"])
def test_the_policy_of_a_pod_sees_how_its_command_ended(name, folder, programs):
    """But 3, which is done with problems: what FailJob is for would else be tried again."""
    statuses = (*ExitCode, 137)
    pods = [start(job(name, folder), None, {}, {"DO": f"exit {status:d}"}, programs) for status in statuses]
    assert [pod.wait(120) for pod in pods] == [0 if status == ExitCode.PROBLEMS else status for status in statuses]


@pytest.mark.parametrize("name", ["1-plan", "3-finish"])
def test_a_pod_that_is_told_to_stop_tells_its_command_and_waits_for_it(name, programs, tmp_path):
    begun, done = tmp_path / "begun", tmp_path / "done"
    endless = f"trap 'sleep 0.1; touch {done}; exit 130' TERM; touch {begun}; while :; do sleep 0.01; done"
    pod = start(job(name), None, {}, {"DO": endless}, programs)
    while not begun.exists():
        time.sleep(0.01)
    pod.send_signal(signal.SIGTERM)
    assert (pod.wait(120), done.exists()) == (130, True)


def test_what_no_further_try_can_mend_ends_the_job(tmp_path):
    """Nothing was asked for, nothing is there to be finished."""
    places = {"/archives": tmp_path, "/request": tmp_path, "/secrets": tmp_path}
    for name in ("1-plan", "3-finish"):
        rules = job(name)["spec"]["podFailurePolicy"]["rules"]
        (codes,) = [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob"]
        assert pods(name, places, {})[0] in codes


def contents(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


@dataclass(frozen=True)
class World:
    """What a site puts into ConfigMap and Secret, and the environment that leads to a source registry."""

    home: Path
    env: dict[str, str]

    @property
    def places(self):
        asked = {f"/{name}": self.home / name for name in ("request", "secrets")}
        return {"/archives": self.home / "work", "50GB": "4MiB", **asked}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The plan is made: work/plan.json."""
    home = tmp_path_factory.mktemp("jobs")
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE], size=1_000_000, level=0)
    for name in ("work", "request", "secrets"):
        (home / name).mkdir()
    (home / "request" / "imageset.yaml").write_text(
        "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  operators:\n"
        f"  - catalog: {sources.CATALOG}\n    full: true\n    packages:\n    - name: {PACKAGE}\n"
    )
    with docker_registry(home, name="source", htpasswd=True) as source:
        content.seed(f"http://{source.host}", login=(USER, PASSWORD))
        (home / "registries.conf").write_text(content.registries_conf(source.host, insecure=True))
        login(source, home / "secrets" / "auth.json", "hub-export", "--insecure")
        env = {"HUB_EXPORT_REGISTRIES_CONF": str(home / "registries.conf"), **EPOCH}
        made = World(home, env)
        assert pods("1-plan", made.places, env | UNSIGNED) == [0]
        yield made


@pytest.fixture(scope="module")
def by_one(world):
    """What one process makes of the plan."""
    options = ("--authfile", world.home / "secrets" / "auth.json", "--output", world.home / "one")
    done = run("hub-export", "create", "--plan", world.home / "work" / "plan.json", *options, env=world.env)
    assert done.status == 0, done.stderr
    assert len(contents(world.home / "one")) > 3 + 3, "three shards have something to do"
    return contents(world.home / "one")


def make(world, places, env, folder):
    """Run the Jobs that follow the plan."""
    assert pods("2-volumes", places, env, folder) == [0, 0, 0]
    assert pods("3-finish", places, env, folder) == [0]
    assert pods("3-finish", places, env, folder) == [0], "a Job may be started twice"


def push(archive, places, env, folder, home):
    """Run the Job that pushes, into a registry that has everything then."""
    with docker_registry(home, name="mirror", tls=True, htpasswd=True) as mirror:
        (home / "ca.pem").write_bytes(mirror.ca.read_bytes())
        login(mirror, home / "push.json", "hub-import", "--ca", mirror.ca)
        places = {**places, "/secrets": home, "mirror.example:5000": mirror.host}
        assert pods("push", places, env, folder) == [0, 0, 0]
        options = ["--registry", f"{mirror.host}/ocp", "--authfile", home / "push.json", "--ca", mirror.ca]
        last = run("hub-import", "push", archive, *options, "--format", "json", env=env).json
        assert (last["ok"], last["uploaded"], last["mounted"]) == (True, 0, 0)


@pytest.mark.more
def test_the_jobs_make_and_push_the_archive_of_one_process(world, by_one, tmp_path):
    made = world.home / "work" / "archive"
    make(world, world.places, world.env, FOLDERS[0])
    assert contents(made) == by_one
    push(made, {"/archive": made}, {}, FOLDERS[0], tmp_path)


@pytest.mark.more
def test_the_jobs_make_and_push_the_archive_of_one_process_in_object_storage(world, by_one, tmp_path):
    with object_store(tmp_path, bucket="operators") as store:
        env = world.env | store.environment
        scratch = {"=/scratch": f"={tmp_path}/scratch", "--scratch /scratch": f"--scratch {tmp_path}/scratch"}
        assert pods("1-plan", world.places, env | UNSIGNED, FOLDERS[1]) == [0]
        make(world, world.places | scratch, env, FOLDERS[1])
        assert contents(store.root / "operators" / "archive") == by_one
        push("s3://operators/archive", {}, store.environment, FOLDERS[1], tmp_path)


def login(server, authfile, program, *options):
    done = run(
        *(program, "login", server.host, "--username", USER, "--password-stdin", "--authfile", authfile, *options),
        stdin=PASSWORD,
    )
    assert done.status == 0, done.stderr
    assert authfile.stat().st_mode & 0o777 == 0o600
