"""An archive made by several processes is, byte for byte, the one that a single process makes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import BIN, run
from tests.fakes.servers import docker_registry

pytestmark = pytest.mark.integration
PACKAGE = "openshift-cert-manager-operator"
EPOCH = {"SOURCE_DATE_EPOCH": "1767225600"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A source registry, a plan for eight volumes or so, and the archive that one process makes without a plan."""
    home = tmp_path_factory.mktemp("parts")
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE], size=2_000_000)
    with docker_registry(home, name="source") as source:
        content.seed(f"http://{source.host}")
        (home / "registries.conf").write_text(content.registries_conf(source.host, insecure=True))
        asked = (
            "--catalog",
            sources.CATALOG,
            "--package",
            PACKAGE,
            "--full",
            "--volume-size",
            "8MiB",
            "--signatures",
            "ignore",
        )
        key = home / "key"
        assert run("hub-export", "keygen", key).status == 0
        hub(home, "create", *asked, "--sign", f"{key}.key", "--output", home / "whole")
        hub(home, "plan", *asked, "--output", home / "plan.json")
        yield home, source


def hub(home, *arguments, status=0, env=None):
    done = run(
        "hub-export", *arguments, env={"HUB_EXPORT_REGISTRIES_CONF": str(home / "registries.conf"), **EPOCH, **(env or {})}
    )
    assert done.status == status, done.stderr
    return done


def contents(directory):
    """Return the digest of every file below a directory, by its path."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def part(home, output, **shard):
    arguments = ["create", "--plan", str(home / "plan.json"), "--sign", str(home / "key.key"), "--output", str(output)]
    return [*arguments, *(word for name, value in shard.items() for word in (f"--{name}", value))]


def volumes_of(home):
    return len(json.loads((home / "plan.json").read_text())["volumes"])


def test_a_plan_makes_the_archive_that_its_image_set_makes(world, tmp_path):
    home, _ = world
    hub(home, *part(home, tmp_path / "out"))
    assert contents(tmp_path / "out") == contents(home / "whole")


def test_three_processes_one_killed_make_the_archive_of_one(world, tmp_path):
    home, source = world
    output, count = tmp_path / "out", volumes_of(home)
    assert count >= 6
    ranges = [f"1-{count // 3}", f"{count // 3 + 1}-{2 * count // 3}", f"{2 * count // 3 + 1}-"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "HUB_EXPORT_REGISTRIES_CONF": str(home / "registries.conf"),
    }
    begun = source.log.stat().st_size
    started = [
        subprocess.Popen(
            [BIN / "hub-export", *part(home, output, volumes=each)],
            env={**environment, **EPOCH},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each in ranges
    ]
    while source.log.stat().st_size - begun < 20_000 and started[1].poll() is None:
        time.sleep(0.01)
    started[1].send_signal(signal.SIGKILL)
    assert [process.wait(120) for process in started][::2] == [0, 0]
    early = hub(home, "finish", output, "--output", output, status=4)
    assert "in no part that is here" in early.stderr
    hub(home, *part(home, output, volumes=ranges[1]))
    done = hub(home, "finish", output, "--sign", home / "key.key", "--output", output, "--format", "json").stdout
    assert contents(output) == contents(home / "whole")
    assert json.loads(done)["totals"]["volumes"] == count
    again = hub(home, "finish", output, "--sign", home / "key.key", "--output", output)
    assert "On the other side" in again.stdout
    assert contents(output) == contents(home / "whole")


def test_shards_of_an_indexed_job_in_directories_of_their_own(world, tmp_path):
    """More shards than volumes: those that are left over have nothing to do."""
    home, _ = world
    shards = volumes_of(home) + 2
    said = [
        hub(home, *part(home, tmp_path / f"{index}", shards=str(shards)), env={"JOB_COMPLETION_INDEX": str(index)}).stdout
        for index in range(shards)
    ]
    assert sum("nothing to do" in each for each in said) == 2
    places = [tmp_path / f"{index}" for index in range(shards) if (tmp_path / f"{index}").is_dir()]
    random.Random(1).shuffle(places)
    hub(home, "finish", *places, "--sign", home / "key.key", "--output", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(home / "whole")


def test_what_cannot_be_had_is_missing_in_the_end_and_asked_for_again_before(world, tmp_path):
    home, _ = world
    lost = max(
        (home / "whole").parent.glob("source/data/docker/registry/v2/blobs/sha256/*/*/data"),
        key=lambda path: path.stat().st_size,
    )
    kept = lost.read_bytes()
    digest = f"sha256:{lost.parent.name}"
    out, count = tmp_path / "out", volumes_of(home)
    try:
        lost.unlink()
        halves = (f"1-{count // 2}", f"{count // 2 + 1}-")
        ends = [run_part(home, out, each) for each in halves]
        assert sorted(done.status for done in ends) == [0, 3]
        (bad,) = [each for each, done in zip(halves, ends, strict=True) if done.status == 3]
        assert digest in "".join(done.stdout for done in ends)
        shutil.copytree(out, tmp_path / "later")
        made = hub(home, "finish", out, "--sign", home / "key.key", "--output", out, "--format", "json", status=3)
        assert {problem["code"] for problem in json.loads(made.stdout)["problems"]} == {"blob-unavailable"}
        verified = run("hub-import", "verify", out, "--key", home / "key.pub")
        assert verified.status == 0, verified.stdout
    finally:
        lost.write_bytes(kept)
    assert run_part(home, tmp_path / "later", bad).status == 0
    hub(home, "finish", tmp_path / "later", "--sign", home / "key.key", "--output", tmp_path / "later")
    assert contents(tmp_path / "later") == contents(home / "whole")


@pytest.mark.parametrize("lossy", [False, True], ids=["whole", "with losses"])
def test_a_joining_that_was_cut_while_it_tidied_up_is_done(lossy, world, tmp_path):
    home, source = world
    out, half = tmp_path / "out", volumes_of(home) // 2
    big = max(source.root.glob("docker/registry/v2/blobs/sha256/*/*/data"), key=lambda path: path.stat().st_size)
    kept = big.read_bytes()
    try:
        if lossy:
            big.unlink()
        ends = {run_part(home, out, each).status for each in (f"1-{half}", f"{half + 1}-")}
    finally:
        big.write_bytes(kept)
    assert ends == ({0, 3} if lossy else {0})
    first, second = sorted(out.glob("volumes-*"))
    (first / "notes.txt").write_text("somebody's own")
    shutil.copytree(second, tmp_path / "left", ignore=shutil.ignore_patterns("volume-*"))
    hub(home, "finish", out, "--sign", home / "key.key", "--output", out, status=3 if lossy else 0)
    assert [path.name for path in first.iterdir()] == ["notes.txt"], "what is not ours is not ours to remove"
    made = contents(out)
    assert not second.exists()
    shutil.copytree(tmp_path / "left", second)
    hub(home, "finish", out, "--sign", home / "key.key", "--output", out, status=3 if lossy else 0)
    assert contents(out) == made
    assert not second.exists()


def run_part(home, output, volumes):
    env = {"HUB_EXPORT_REGISTRIES_CONF": str(home / "registries.conf"), **EPOCH}
    return run("hub-export", *part(home, output, volumes=volumes), env=env)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--plan", "PLAN", "--volumes", "0-2"], "the archive has volumes 1 to"),
        (["create", "--plan", "PLAN", "--volumes", "2-1"], "the archive has volumes 1 to"),
        (["create", "--plan", "PLAN", "--volumes", "1-999999"], "the archive has volumes 1 to"),
        (["create", "--plan", "PLAN", "--volumes", "two"], "not a range of volumes"),
        (["create", "--plan", "PLAN", "--volumes", "1", "--shards", "2"], "--volumes and --shards at once"),
        (["create", "--plan", "PLAN", "--shards", "2"], "--shards without JOB_COMPLETION_INDEX"),
        (["create", "--plan", "PLAN", "--full"], "--plan and something that a plan says itself"),
        (["create", "--plan", "PLAN", "--parity", "5"], "--plan and something that a plan says itself"),
        (["create", "--image", "quay.io/a/b:c", "--volumes", "1"], "--plan and something that a plan says itself"),
        (["create", "--volumes", "1"], "need --plan"),
        (["create", "--plan", "PLAN", "--with-kit"], "need --plan, and no"),
        (["create", "--plan", "NOWHERE"], "cannot be read"),
        (["finish", "NOWHERE"], "is no directory"),
        (["finish", "EMPTY"], "no part of an archive in"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_said(arguments, said, world, tmp_path):
    home, _ = world
    (tmp_path / "empty").mkdir()
    names = {"PLAN": home / "plan.json", "NOWHERE": tmp_path / "nowhere", "EMPTY": tmp_path / "empty"}
    done = hub(home, *(names.get(each, each) for each in arguments), "--output", tmp_path / "out", status=2)
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("file", "said"), [("none/plan.json", "there is no directory"), (".", "is a directory")])
def test_a_plan_that_could_not_be_written_is_not_begun(file, said, tmp_path):
    done = run("hub-export", "plan", "--image", "quay.invalid/a/b:c", "--output", tmp_path / file)
    assert (done.status, said in done.stderr) == (2, True)
    assert "looking up" not in done.stderr


def test_a_shard_that_is_none_is_said(world, tmp_path):
    home, _ = world
    done = hub(home, *part(home, tmp_path / "out", shards="2"), status=2, env={"JOB_COMPLETION_INDEX": "2"})
    assert "shards are counted from 0 to 1" in done.stderr


def test_a_part_does_not_go_into_a_finished_archive(world):
    home, _ = world
    done = hub(home, *part(home, home / "whole", volumes="1"), status=2)
    assert "holds a finished archive" in done.stderr
    assert not list((home / "whole").glob("volumes-*"))
