"""What a mirror has, by its record alone: `status --registry --no-cluster` on a machine without cluster and archive (ADR 0092)."""

from __future__ import annotations

import re

import pytest

from common.mapping import Mirror
from common.oci import media_types
from common.table import cells
from importer.records.document import head_of
from tests.fakes.archives import noise
from tests.fakes.commands import on_terminal, run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.samples import more

pytestmark = pytest.mark.integration
RECORDS = "ocp/hub-airgap-archives"
BASE = noise("base", 100_000)
NAME = "operators-of-the-forty-seventh-week-for-the-site-in-the-north"


@pytest.fixture(name="source", scope="module")
def _source():
    with FakeRegistry() as registry:
        registry.add_image("org/app", image([BASE, noise("app 1", 30_000)]), tag="v1")
        registry.add_image("org/app", image([BASE, noise("app 2", 30_000)]), tag="v2")
        yield registry


@pytest.fixture(name="mirror")
def _mirror():
    with FakeRegistry() as registry:
        yield registry


def create(source, output, name, *options, day=1):
    made = run(
        *("hub-export", "create", *options, "--insecure", source.host, "--output", output, "--name", name, "--format", "json"),
        env={"SOURCE_DATE_EPOCH": str(1767225600 + day * 86400)},
    )
    assert made.status == 0, made.stderr
    return made.json


@pytest.fixture(name="archive", scope="module")
def _archive(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first") / "archive"
    create(source, folder, NAME, "--image", f"{source.host}/org/app:v1")
    return folder


def place(mirror):
    return ("--registry", f"{mirror.host}/ocp", "--insecure", mirror.host)


def push(archive, mirror):
    done = run("hub-import", "push", archive, *place(mirror), "--format", "json")
    assert done.status == 0, done.stderr


def status(mirror, *options, **environment):
    return run("hub-import", "status", *place(mirror), "--no-cluster", *options, env=environment)


def damage(mirror, tag):
    """Put something else in place of a record. Bytes that are not those of the digest would be asked for again, for seconds."""
    mirror.add_manifest(RECORDS, b'{"schemaVersion":2,"manifests":[]}', media_types.OCI_INDEX, tag)


def test_another_machine_sees_what_is_there_and_the_next_archive_follows_from_it(source, archive, mirror, tmp_path):
    push(archive, mirror)
    mirror.requests.clear()
    home = {"HOME": str(tmp_path)}
    first = status(mirror, "--format", "json", **home)
    assert first.status == 0, first.stderr
    assert {each.method for each in mirror.log()} <= {"GET", "HEAD"}
    (week,) = first.json["mirrorArchives"]
    assert (first.json["mirror"], first.json["healthy"], first.json["cluster"]) == (f"{mirror.host}/ocp", None, None)
    assert (week["name"], week["images"], week["requires"], first.json["unusableRecords"]) == (NAME, 1, [], {})
    taken = run("hub-import", "receipt", *place(mirror), "--output", tmp_path / "receipt.json", "--format", "json", env=home)
    assert taken.json["inventories"] == [week["digest"]], taken.stderr

    names = [word for tag in ("v1", "v2") for word in ("--image", f"{source.host}/org/app:{tag}")]
    made = create(source, tmp_path / "second", "week-2", *names, "--receipt", tmp_path / "receipt.json", day=8)
    assert made["totals"]["blobs"] == 2, "the layer and the config of v2; the base is in the mirror"
    push(tmp_path / "second", mirror)
    both = status(mirror, "--format", "json", **home).json["mirrorArchives"]
    assert [each["name"] for each in both] == ["week-2", NAME]
    shown = status(mirror, **home).stdout.splitlines()
    assert shown[0] == f"the mirror {mirror.host}/ocp remembers 2 archives"
    assert shown[2].split()[:2] == [both[0]["digest"].removeprefix("sha256:")[:12], "week-2"]
    assert shown[2].endswith("  2 images"), "it has neither operators nor releases to name"


def test_a_mirror_without_a_record(mirror):
    empty = status(mirror)
    assert empty.status == 0, empty.stderr
    assert empty.stdout == (
        f"the mirror {mirror.host}/ocp remembers 0 archives\n"
        f"{mirror.host}/{RECORDS} has no record; the next push of an archive stores one\n"
    )
    assert status(mirror, "--format", "json").json["mirrorArchives"] == []


def test_a_damaged_record_is_a_problem(archive, mirror):
    push(archive, mirror)
    (tag,) = mirror.repositories[RECORDS].tags
    damage(mirror, tag)
    done = status(mirror, "--format", "json")
    assert (done.status, done.json["mirrorArchives"], set(done.json["unusableRecords"])) == (3, [], {tag}), done.stderr
    shown = status(mirror)
    assert shown.status == 3
    assert "again with --heal" in shown.stdout
    assert run("hub-import", "push", archive, *place(mirror), "--heal").status == 0
    assert status(mirror).status == 0


@pytest.mark.parametrize("columns", [80, *more([64, 120])])
def test_the_lines_fit_a_terminal(archive, mirror, columns):
    push(archive, mirror)
    other = head_of(f"sha256:{'1' * 64}", Mirror("registry.example", "", 3), "2026-11-30T12:00:00Z")
    damage(mirror, other.tag)
    shown = on_terminal("hub-import", "status", *place(mirror), "--no-cluster", columns=columns, env={"NO_COLOR": "1"})
    assert shown.status == 3, shown.stdout
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rpartition("\r")[2] for line in shown.stdout.split("\n")]
    assert not [line for line in lines if cells(line) > columns and len(line.split()) > 1], shown.stdout
    assert {NAME, f"{other.tag}:"} <= set(shown.stdout.split())


@pytest.mark.parametrize("code", [401, *more([403, 503])])
def test_a_registry_that_refuses(mirror, code):
    mirror.fault("GET", "/tags/list", status=code, times=100)
    done = run("hub-import", "status", *place(mirror), "--no-cluster", env={"HUB_REGISTRY_PATIENCE": "1"})
    assert (done.status, done.stdout) == (5, ""), done.stderr
    assert str(code) in done.stderr
    assert mirror.host in done.stderr


REFUSED = {
    "--no-cluster": "--no-cluster without --registry",
    "--no-cluster --registry r.example/ocp --kubeconfig x": "--no-cluster with a cluster",
    "--no-cluster --registry r.example/ocp --context x": "--no-cluster with a cluster",
    "x --no-cluster --registry r.example/ocp": "--no-cluster with an archive",
    "--no-cluster --registry r.example/ocp --pull": "--no-cluster with --pull",
    "--no-cluster --registry r.example/ocp --ask-mirror": "--no-cluster with --ask-mirror",
    "--no-cluster --registry r.example/ocp --key x": "--key without an archive",
    "--no-cluster --registry https://r.example/ocp": "https://r.example/ocp",
}


@pytest.mark.parametrize("words", [*list(REFUSED)[:2], *more(list(REFUSED)[2:])])
def test_options_that_need_a_cluster_or_a_mirror(words):
    done = run("hub-import", "status", *words.split())
    assert (done.status, done.stdout, REFUSED[words] in done.stderr) == (2, "", True), done.stderr


def test_without_a_kubeconfig_the_error_names_the_option(archive, mirror, tmp_path):
    """Never without a cluster by omission, as `prune`: a lost kubeconfig must not look healthy to a script."""
    push(archive, mirror)
    done = run("hub-import", "status", *place(mirror))
    assert (done.status, done.stdout) == (2, "")
    assert "no cluster to talk to" in done.stderr
    assert "With --no-cluster it lists the archives of the mirror alone." in done.stderr
    assert "--no-cluster" not in run("hub-import", "status").stderr, "without a mirror there is nothing else to ask"
