"""Volumes in object storage: made there by several processes, read from there, byte for byte those of a directory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import count

import pytest

from tests.fakes import sources
from tests.fakes.commands import BIN, run
from tests.fakes.object_store import BUCKET, object_store
from tests.fakes.planned import PACKAGE, contents, planned_world
from tests.fakes.secrets import STORAGE_KEY
from tests.fakes.servers import docker_registry, free_port

pytestmark = pytest.mark.integration
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Volumes of three parts each, with parity."""
    with planned_world(tmp_path_factory.mktemp("stored"), layer=4_000_000, volume="40MiB", more=("--parity", "5")) as made:
        yield made


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    with object_store(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def store(stores):
    """The one server, with nothing noted yet and no faults."""
    stores.reset()
    return stores


def made_in(store, world, scratch, name):
    """Make a finished archive in object storage, by one process; return its URL."""
    place = f"s3://{BUCKET}/{name}"
    done = world.hub(*world.create(place, "--scratch", scratch), env=store.environment)
    assert "On the other side: hub-import deploy s3://" in done.stdout
    assert not [path for path in scratch.rglob("*") if path.is_file()], "nothing stays on the scratch disk"
    return place


@pytest.fixture(scope="module")
def finished(world, stores, tmp_path_factory):
    return made_in(stores, world, tmp_path_factory.mktemp("scratch"), "finished")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Small volumes, for what does not depend on their parts."""
    with planned_world(tmp_path_factory.mktemp("small"), layer=200_000, volume="2MiB") as made:
        yield made


@pytest.fixture(scope="module")
def finished_small(small, stores, tmp_path_factory):
    return made_in(stores, small, tmp_path_factory.mktemp("small-scratch"), "small")


@pytest.mark.more
def test_what_one_process_makes_is_the_archive_of_a_directory(world, finished, store):
    assert contents(store.root / BUCKET / "finished") == world.whole
    again = world.hub(*world.finish(finished), env=store.environment)
    assert "On the other side" in again.stdout
    assert contents(store.root / BUCKET / "finished") == world.whole


@pytest.mark.more
def test_three_processes_one_killed_while_it_uploads_make_the_archive_of_one(world, store, tmp_path):
    """The part that was being sent is sent again, those before it are not."""
    place, count = f"s3://{BUCKET}/three/of them", world.count
    assert count >= 3
    ranges = ["1", f"2-{count - 1}", f"{count}"]
    reached, dead = threading.Event(), threading.Event()

    def lose(request):
        if request.part == 3 and "volume-0002" in request.path and not reached.is_set():
            reached.set()
            dead.wait(100)
            return True
        return False

    store.lose = lose
    started = [
        subprocess.Popen(
            [BIN / "hub-export", *world.create(place, "--scratch", tmp_path / each, "--volumes", each)],
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **world.env, **store.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for each in ranges
    ]
    assert reached.wait(120)
    end = time.monotonic() + 100
    while store.asked(lambda each: each.part in (1, 2) and "volume-0002" in each.path and each.answered) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    started[1].send_signal(signal.SIGKILL)
    started[1].wait(120)
    dead.set()
    ends = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, -signal.SIGKILL, 0], ends
    unfinished = run("hub-import", "verify", place, env=store.environment)
    assert (unfinished.status, "never finished" in unfinished.stderr) == (4, True)
    early = world.hub(*world.finish(place), env=store.environment, status=4)
    assert "in none of the parts" in early.stderr
    store.reset()
    world.hub(*world.create(place, "--scratch", tmp_path / ranges[1], "--volumes", ranges[1]), env=store.environment)
    sent = sorted(each.part for each in store.requests if each.part and each.path.rpartition("/")[2] == "volume-0002.tar.zst")
    assert sent == [3], "what was there was sent again"
    world.hub(*world.finish(place), env=store.environment)
    assert contents(store.root / BUCKET / "three/of them") == world.whole


def test_an_archive_is_read_where_it_is(small, finished_small, store, tmp_path):
    world, finished = small, finished_small
    verified = run("hub-import", "verify", finished, "--key", world.home / "key.pub", "--format", "json", env=store.environment)
    assert (verified.status, verified.json["ok"], verified.json["signature"]) == (0, True, "valid"), verified.stderr
    shown = run("hub-import", "inspect", finished, env=store.environment)
    local = run("hub-import", "inspect", world.home / "whole")
    assert shown.stdout.replace(finished, str(world.home / "whole")) == local.stdout
    with docker_registry(tmp_path, name="mirror") as mirror:
        pushed = run(
            *("hub-import", "push", finished, "--registry", mirror.host, "--insecure", mirror.host, "--format", "json"),
            env=store.environment,
        )
        assert pushed.status == 0, pushed.stderr
        again = run(
            *("hub-import", "push", world.home / "whole", "--registry", mirror.host, "--insecure", mirror.host),
            *("--format", "json"),
        )
    assert pushed.json["uploaded"]
    assert again.json["uploaded"] == 0, "the registry has all of it, whole"


@pytest.mark.more
def test_a_check_reads_every_byte_about_once(world, finished, store):
    run("hub-import", "verify", finished, env=store.environment)
    size = sum(path.stat().st_size for path in (store.root / BUCKET / "finished").glob("*"))
    assert size <= store.given <= 1.25 * size


@pytest.mark.more
def test_single_volumes_are_read_too(world, finished, store):
    names = [f"{finished}/volume-0001.tar.zst", f"{finished}/inventory.json"]
    shown = run("hub-import", "verify", *names, "--format", "json", env=store.environment)
    assert shown.status == 4
    assert [volume["status"] for volume in shown.json["volumes"]] == ["ok"] + ["missing"] * (world.count - 1)


@pytest.mark.more
def test_damage_is_found(world, finished, store):
    path = store.root / BUCKET / "finished" / "volume-0002.tar.zst"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: 20 * MIB] + bytes([whole[20 * MIB] ^ 1]) + whole[20 * MIB + 1 :])
        done = run("hub-import", "verify", finished, "--format", "json", env=store.environment)
    finally:
        path.write_bytes(whole)
    assert done.status == 4
    assert [bad["volume"] for bad in done.json["blobs"]["bad"]] == ["volume-0002.tar.zst"]


@pytest.mark.more
def test_missing_blobs_are_accepted_when_that_is_asked_for(world, store, tmp_path):
    """Every volume carries the inventory, so each is written again on the scratch disk, from the objects."""
    place = f"s3://{BUCKET}/lossy"
    with world.without_the_largest_blob() as lost:
        world.hub(*world.create(tmp_path / "local"), status=3)
        made = world.hub(
            *world.create(place, "--scratch", tmp_path / "s", "--volumes", f"1-{world.count}"), env=store.environment, status=3
        )
    assert lost in made.stdout
    refused = world.hub(*world.finish(place, "--scratch", tmp_path / "s"), env=store.environment, status=2)
    assert "unfinished, without 1 blob" in refused.stderr
    assert lost in refused.stderr
    assert "--accept-missing" in refused.stderr
    refused = world.hub(*world.finish(place, "--accept-missing"), env=store.environment, status=2)
    assert "--scratch" in refused.stderr
    accepted = world.finish(place, "--scratch", tmp_path / "s", "--accept-missing")
    made = world.hub(*accepted, "--format", "json", env=store.environment, status=3)
    assert {problem["code"] for problem in made.json["problems"]} == {"blob-unavailable"}
    assert contents(store.root / BUCKET / "lossy") == contents(tmp_path / "local")
    assert not [path for path in (tmp_path / "s").rglob("*") if path.is_file()]


@pytest.mark.more
def test_what_was_lost_is_asked_for_again(world, store, tmp_path):
    place = f"s3://{BUCKET}/again"
    with world.without_the_largest_blob():
        first = world.hub(
            *world.create(place, "--scratch", tmp_path, "--volumes", f"1-{world.count}"), env=store.environment, status=3
        )
    assert "the same command asks for them again" in first.stdout
    store.reset()
    world.hub(*world.create(place, "--scratch", tmp_path), env=store.environment)
    assert contents(store.root / BUCKET / "again") == world.whole


@pytest.mark.more
def test_a_place_with_anything_else_is_left_alone(world, finished, store, tmp_path):
    create = world.create(finished, "--scratch", tmp_path)
    assert "holds a finished archive" in world.hub(*create, env=store.environment, status=2).stderr
    strange = store.root / BUCKET / "strange"
    strange.mkdir()
    (strange / "volume-0001.tar.zst").write_bytes(b"somebody's own")
    done = world.hub(*world.create(f"s3://{BUCKET}/strange", "--scratch", tmp_path), env=store.environment, status=2)
    assert "which this export did not make" in done.stderr
    other = store.root / BUCKET / "other"
    other.mkdir()
    (other / "hub-export.plan").write_bytes(b"{}")
    done = world.hub(*world.create(f"s3://{BUCKET}/other", "--scratch", tmp_path), env=store.environment, status=2)
    assert "holds parts of another plan" in done.stderr
    assert contents(store.root / BUCKET / "finished") == world.whole
    assert store.names("strange") == {"volume-0001.tar.zst"}


@pytest.mark.more
def test_parity_mends_files(finished, store):
    done = run("hub-import", "repair", finished, env=store.environment)
    assert (done.status, "has to be a path of this machine" in done.stderr) == (2, True)


def test_what_the_service_refuses_is_said(store, tmp_path):
    def look(place, **env):
        return run("hub-import", "verify", place, env={**store.environment, **env})

    nowhere = look("s3://no-such-bucket/x")
    assert (nowhere.status, "NoSuchBucket" in nowhere.stderr, "Make the bucket first" in nowhere.stderr) == (1, True, True)
    empty = look(f"s3://{BUCKET}/nothing")
    assert (empty.status, "no such file or directory" in empty.stderr) == (2, True)
    wrong = look(f"s3://{BUCKET}/x", AWS_SECRET_ACCESS_KEY="another")
    assert (wrong.status, "AWS_SECRET_ACCESS_KEY" in wrong.stderr) == (1, True), wrong.stderr
    gone = look(f"s3://{BUCKET}/x", AWS_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
    assert (gone.status, "AWS_ENDPOINT_URL" in gone.stderr) == (1, True), gone.stderr
    anonymous = look(f"s3://{BUCKET}/x", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert (anonymous.status, "no credentials for S3" in anonymous.stderr) == (1, True), anonymous.stderr
    profile = look(f"s3://{BUCKET}/x", AWS_PROFILE="nobody")
    assert (profile.status, "~/.aws/config" in profile.stderr) == (2, True), profile.stderr


def test_without_the_library_it_is_named(store):
    # None in sys.modules is how Python itself marks a module that cannot be imported (the import system, *The module cache*).
    start = "import sys; sys.modules['boto3'] = None; import hub_airgap; hub_airgap.import_main()"
    command = [sys.executable, "-c", start, "verify", f"s3://{BUCKET}/x"]
    done = subprocess.run(
        command, env={**os.environ, **store.environment}, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, f"{sys.executable} -m pip install 'boto3" in done.stderr) == (2, True), done.stderr


def test_no_secret_is_logged(finished_small, store, tmp_path):
    log = tmp_path / "log"
    run("hub-import", "verify", finished_small, "--quick", "--log-level", "debug", "--log-file", log, env=store.environment)
    text = log.read_text()
    assert store.environment["AWS_SECRET_ACCESS_KEY"] not in text
    assert STORAGE_KEY not in text


@pytest.mark.more
def test_earlier_archives_and_plans_are_read_there_too(world, finished, store, tmp_path):
    same = world.hub("diff", finished, world.home / "whole", "--format", "json", env=store.environment)
    assert same.json["packages"] == {"added": [], "removed": [], "changed": []}
    planned = f"s3://{BUCKET}/plans/next.json"
    asked = ("--catalog", sources.CATALOG, "--package", PACKAGE, "--signatures", "ignore")
    shown = world.hub("plan", *asked, "--since", finished, "--output", planned, "--format", "json", env=store.environment)
    assert shown.json["totals"]["blobs"] == 0, "everything is in the earlier archive"
    diff = world.hub("diff", finished, planned, "--format", "json", env=store.environment)
    assert diff.json["images"] == {"added": [], "removed": [], "changed": []}
    bucket = world.hub("plan", *asked, "--output", f"s3://{BUCKET}", env=store.environment, status=2)
    assert "is a bucket" in bucket.stderr
    nowhere = world.hub("plan", *asked, "--output", "s3://no-such-bucket/p", env=store.environment, status=1)
    assert ("Make the bucket first" in nowhere.stderr, "looking up" in nowhere.stderr) == (True, False)


@pytest.mark.more
def test_writing_volumes_again_continues_after_a_kill(world, store, tmp_path):
    """Killed between the upload of a volume and that of its record."""
    place, scratch = f"s3://{BUCKET}/cut", tmp_path / "s"
    with world.without_the_largest_blob():
        world.hub(*world.create(tmp_path / "local"), status=3)
        world.hub(*world.create(place, "--scratch", scratch, "--volumes", f"1-{world.count}"), env=store.environment, status=3)
    records = count(1)  # that come for the second volume: what is known no more, and what it was closed with
    store.fault = lambda request: (
        403 if request.method == "PUT" and request.path.endswith("part-0002") and next(records) > 1 else 0
    )
    world.hub(*world.finish(place, "--scratch", scratch, "--accept-missing"), env=store.environment, status=1)
    store.reset()
    world.hub(*world.finish(place, "--scratch", scratch, "--accept-missing"), env=store.environment, status=3)
    assert contents(store.root / BUCKET / "cut") == contents(tmp_path / "local")


@pytest.mark.more
def test_what_an_interrupted_run_left_on_the_scratch_disk_goes(world, store, tmp_path):
    place, scratch = f"s3://{BUCKET}/left", tmp_path / "s"
    store.fault = lambda request: 403 if request.method == "PUT" and request.path.endswith("part-0001") else 0
    world.hub(*world.create(place, "--scratch", scratch, "--volumes", "1"), env=store.environment, status=1)
    (left,) = [path for path in scratch.iterdir() if path.is_dir()]
    shutil.copytree(left, tmp_path / "left")
    store.reset()
    world.hub(*world.create(place, "--scratch", scratch, "--volumes", "1"), env=store.environment)
    assert not left.exists()
    shutil.copytree(tmp_path / "left", left)
    store.reset()
    world.hub(*world.create(place, "--scratch", scratch, "--volumes", "1"), env=store.environment)
    assert not left.exists()
    assert store.asked(lambda request: request.method == "PUT") == 0
