"""`create` of an interrupted archive: its volumes are read while registries are asked for the plan, and a stop ends both."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from common.archive.volume import JOURNAL_NAME
from common.oci.image import digest_of
from tests.fakes.archives import noise
from tests.fakes.commands import killed_when, run
from tests.fakes.factories import image
from tests.fakes.link import Link
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.integration
LARGE = noise("resumed", 40_000_000)
THERE = 20_000_000  # bytes of it that the first run has fetched; its buffers may hold a few of them
EPOCH = {"SOURCE_DATE_EPOCH": "1767225600"}


def create(host, output, *more):
    return ["hub-export", "create", "--image", f"{host}/org/app:v1", "--insecure", host, "--output", output, *more]


@pytest.fixture
def source(tmp_path):
    """A registry, and in `out` what a killed `create` left of an archive."""
    with FakeRegistry(tls=False) as registry:
        registry.add_image("org/app", image([LARGE]), tag="v1")
        # The line goes before the name of the host, which is part of the archive: both runs go through it.
        with Link(registry.host, rate=1_000_000_000, hold_after=THERE) as link:
            killed = killed_when(link.held.is_set, *create(link.host, tmp_path / "out"), env=EPOCH)
            assert killed.status == -signal.SIGKILL
            assert (tmp_path / "out" / JOURNAL_NAME).exists()
            link.release()
            registry.link, registry.large = link, digest_of(LARGE)
            yield registry


def bytes_read(process):
    lines = Path(f"/proc/{process}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))


def test_ctrl_c_while_it_is_planned_and_read(source, tmp_path):
    asked = threading.Event()
    source.fault("GET", "/manifests/", times=1000, status=429, headers={"Retry-After": "600"}, action=asked.set)

    def interrupt(process):
        assert asked.wait(60)
        while bytes_read(process) < THERE // 2:  # by the reading alone: the plan waits for the registry
            time.sleep(0.01)
        os.kill(process, signal.SIGINT)

    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("volume-*")}
    done = run(*create(source.link.host, tmp_path / "out"), env=EPOCH, started=interrupt)
    assert done.status == 130, done.stderr
    assert "error: interrupted\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("volume-*")} == before
    source.drop_faults()
    finish(source, tmp_path)


def test_a_plan_that_fails_has_its_own_status_and_the_next_run_continues(source, tmp_path):
    source.fault("GET", "/manifests/", times=1000, status=404)
    done = run(*create(source.link.host, tmp_path / "out", "--strict"), env=EPOCH)
    assert done.status == 1, done.stderr
    assert "Traceback" not in done.stderr
    source.drop_faults()
    finish(source, tmp_path)


def finish(source, tmp_path):
    """Continue, with progress for programs: it starts at what was read before, and never goes back."""
    before = len(source.requests)
    done = run(*create(source.link.host, tmp_path / "out", "--progress", "json"), env=EPOCH)
    assert done.status == 0, done.stderr
    (request,) = [each for each in source.requests[before:] if each.method == "GET" and source.large in each.path]
    assert int(request.headers["Range"].removeprefix("bytes=").rstrip("-")) > THERE // 2, "it was continued"
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    reading = [event for event in events if event["step"] == "reading what an interrupted export wrote"]
    assert [reading[0]["event"], reading[-1]["event"]] == ["begin", "end"]
    amounts = [event["done"] for event in reading]
    assert amounts == sorted(amounts)
    assert amounts[-1] == reading[-1]["total"]
    assert run("hub-import", "verify", tmp_path / "out").status == 0


def test_an_output_directory_that_is_in_use_is_told_before_anything_is_asked_for(source, tmp_path):
    asked = threading.Event()
    source.fault("GET", "/manifests/", times=1000, status=429, headers={"Retry-After": "600"}, action=asked.set)
    status = []

    def meanwhile(process):
        assert asked.wait(60)
        second = run(*create(source.link.host, tmp_path / "out"), env=EPOCH)
        status.append((second.status, "is in use by another process" in second.stderr))
        os.kill(process, signal.SIGINT)

    assert run(*create(source.link.host, tmp_path / "out"), env=EPOCH, started=meanwhile).status == 130
    assert status == [(1, True)]
