"""An archive made by several processes is, byte for byte, the one that a single process makes."""

from __future__ import annotations

import json
import random
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.commands import killed_when, run
from tests.fakes.link import Link
from tests.fakes.planned import contents, planned_world

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Eight volumes or so."""
    with planned_world(tmp_path_factory.mktemp("parts")) as made:
        yield made


def test_a_plan_makes_the_archive_that_its_image_set_makes(world, tmp_path):
    world.hub(*world.create(tmp_path / "out"))
    assert contents(tmp_path / "out") == world.whole


def test_three_processes_one_killed_make_the_archive_of_one(world, tmp_path):
    output, count = tmp_path / "out", world.count
    assert count >= 6
    ranges = [f"1-{count // 3}", f"{count // 3 + 1}-{2 * count // 3}", f"{2 * count // 3 + 1}-"]
    # The second one gets its content through a link that stops in the middle of its volumes, and is killed there.
    with Link(world.source.host, rate=40_000_000, hold_after=3_000_000) as link:
        slow = tmp_path / "slow.conf"
        slow.write_text((world.home / "registries.conf").read_text().replace(world.source.host, link.host))
        with ThreadPoolExecutor(3) as pool:
            started = [pool.submit(_part, world, output, each) for each in ranges[::2]]
            killed = pool.submit(_part, world, output, ranges[1], link.held.is_set, {"HUB_EXPORT_REGISTRIES_CONF": str(slow)})
            assert [process.result(120).status for process in (*started, killed)] == [0, 0, -signal.SIGKILL]
    assert len(list(output.glob("volumes-*"))) == 3
    assert len(list(output.glob("volumes-*/hub-export.part"))) == 2, "the killed one had more to do"
    early = world.hub("finish", output, "--output", output, status=4)
    assert "in none of the parts" in early.stderr
    world.hub(*world.create(output, "--volumes", ranges[1]))
    done = world.hub(*world.finish(output), "--format", "json").stdout
    assert contents(output) == world.whole
    assert json.loads(done)["totals"]["volumes"] == count
    again = world.hub(*world.finish(output))
    assert "On the other side" in again.stdout
    assert contents(output) == world.whole


def _part(world, output, volumes, killed=lambda: False, env=None):
    return killed_when(killed, "hub-export", *world.create(output, "--volumes", volumes), env={**world.env, **(env or {})})


def test_shards_of_an_indexed_job_in_directories_of_their_own(world, tmp_path):
    """More shards than volumes: those that are left over have nothing to do."""
    shards = world.count + 2
    said = [
        world.hub(
            *world.create(tmp_path / f"{index}", "--shards", str(shards)), env={"JOB_COMPLETION_INDEX": str(index)}
        ).stdout
        for index in range(shards)
    ]
    assert sum("nothing to do" in each for each in said) == 2
    places = [tmp_path / f"{index}" for index in range(shards) if (tmp_path / f"{index}").is_dir()]
    random.Random(1).shuffle(places)
    world.hub("finish", *places, "--sign", world.home / "key.key", "--output", tmp_path / "out")
    assert contents(tmp_path / "out") == world.whole


def test_a_part_without_a_blob_is_unfinished_and_continues(world, tmp_path):
    out, accepted, half = tmp_path / "out", tmp_path / "accepted", world.count // 2
    halves = (f"1-{half}", f"{half + 1}-")
    with world.without_the_largest_blob() as digest:
        world.hub(*world.create(tmp_path / "by-one"), status=3)
        ends = [run_part(world, out, each) for each in halves]
        assert sorted(done.status for done in ends) == [0, 3]
        (bad,) = [each for each, done in zip(halves, ends, strict=True) if done.status == 3]
        assert digest in "".join(done.stdout for done in ends)
        refused = world.hub(*world.finish(out), status=2)
        assert "unfinished, without 1 blob" in refused.stderr
        assert digest in refused.stderr
        assert "--accept-missing" in refused.stderr
        assert not (out / "SHA256SUMS").exists()
        made = world.hub("finish", out, *world.finish(accepted)[2:], "--accept-missing", "--format", "json", status=3)
    assert {problem["code"] for problem in json.loads(made.stdout)["problems"]} == {"blob-unavailable"}
    assert contents(accepted) == contents(tmp_path / "by-one")
    verified = run("hub-import", "verify", accepted, "--key", world.home / "key.pub")
    assert verified.status == 0, verified.stdout
    assert run_part(world, out, bad).status == 0
    world.hub(*world.finish(out))
    assert contents(out) == world.whole


def test_a_joining_that_was_interrupted_while_it_tidied_up_is_done(world, tmp_path):
    out, half = tmp_path / "out", world.count // 2
    assert {run_part(world, out, each).status for each in (f"1-{half}", f"{half + 1}-")} == {0}
    first, second = sorted(out.glob("volumes-*"))
    (first / "notes.txt").write_text("a file of the user")
    shutil.copytree(second, tmp_path / "left", ignore=shutil.ignore_patterns("volume-*"))
    world.hub(*world.finish(out))
    assert [path.name for path in first.iterdir()] == ["notes.txt"], "files of others are not removed"
    assert not second.exists()
    (first / "notes.txt").unlink()
    first.rmdir()
    assert contents(out) == world.whole
    shutil.copytree(tmp_path / "left", second)
    world.hub(*world.finish(out))
    assert contents(out) == world.whole
    assert not second.exists()


def run_part(world, output, volumes):
    return run("hub-export", *world.create(output, "--volumes", volumes), env=world.env)


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
        (["create", "--plan", "PLAN", "--with-kit"], "--plan and --manifests-only, or --with-kit"),
        (["create", "--plan", "NOWHERE"], "cannot be read"),
        (["finish", "NOWHERE"], "is no directory"),
        (["finish", "EMPTY"], "no part of an archive in"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_said(arguments, said, world, tmp_path):
    (tmp_path / "empty").mkdir()
    names = {"PLAN": world.home / "plan.json", "NOWHERE": tmp_path / "nowhere", "EMPTY": tmp_path / "empty"}
    done = world.hub(*(names.get(each, each) for each in arguments), "--output", tmp_path / "out", status=2)
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--image", "quay.invalid/a/b:c", "--output", "S3"], "is made of a plan"),
        (["create", "--plan", "PLAN", "--output", "S3"], "needs --scratch DIR"),
        (["create", "--plan", "PLAN", "--output", "DIR", "--scratch", "DIR"], "--scratch and a directory"),
        (["create", "--plan", "PLAN", "--output", "s3:///x", "--scratch", "DIR"], "not a place in object storage"),
        (
            ["create", "--plan", "PLAN", "--output", "s3://hub/a/../b", "--scratch", "DIR"],
            "not a place in object storage",
        ),
        (["create", "--plan", "PLAN", "--output", "s3:/hub/a", "--scratch", "DIR"], "not a place in object storage"),
        (["create", "--plan", "PLAN", "--output", "S3://hub/a", "--scratch", "DIR"], "not a place in object storage"),
        (["create", "--plan", "PLAN", "--output", "S3", "--scratch", "S3"], "has to be a path of this machine"),
        (["kit", "--output", "S3"], "has to be a path of this machine"),
        (["finish", "S3", "--output", "DIR"], "stay where they are"),
        (["finish", "DIR", "--output", "S3"], "stay where they are"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_of_object_storage_is_said(arguments, said, world, tmp_path):
    """Before anybody is asked."""
    names = {"PLAN": world.home / "plan.json", "S3": "s3://hub/nothing", "DIR": tmp_path / "dir"}
    done = world.hub(*(names.get(each, each) for each in arguments), status=2)
    assert said in done.stderr


@pytest.mark.parametrize(("file", "said"), [("none/plan.json", "there is no directory"), (".", "is a directory")])
def test_a_plan_that_could_not_be_written_is_not_begun(file, said, tmp_path):
    done = run("hub-export", "plan", "--image", "quay.invalid/a/b:c", "--output", tmp_path / file)
    assert (done.status, said in done.stderr) == (2, True)
    assert "looking up" not in done.stderr


def test_a_shard_that_is_none_is_said(world, tmp_path):
    done = world.hub(*world.create(tmp_path / "out", "--shards", "2"), status=2, env={"JOB_COMPLETION_INDEX": "2"})
    assert "shards are counted from 0 to 1" in done.stderr


@pytest.mark.parametrize("volumes", [[], ["--volumes", "1"]], ids=" ".join)
def test_a_file_is_no_place_for_an_archive_or_a_part(volumes, world, tmp_path):
    (tmp_path / "file").write_text("somebody's own")
    done = world.hub(*world.create(tmp_path / "file", *volumes), status=2)
    assert f"{tmp_path / 'file'}: cannot be made" in done.stderr


def test_a_part_does_not_go_into_a_finished_archive(world):
    done = world.hub(*world.create(world.home / "whole", "--volumes", "1"), status=2)
    assert "holds a finished archive" in done.stderr
    assert not list((world.home / "whole").glob("volumes-*"))
