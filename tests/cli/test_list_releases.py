"""`hub-export list --release`: releases of a channel, and the update path between two of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.commands import run
from tests.fakes.graphs import answer, graph
from tests.fakes.release_hosts import ReleaseHosts
from tests.samples import more


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "amd64-stable-4.13.json"
    path.write_bytes(answer("amd64-stable-4.13"))
    return path


def listed(*arguments, **options):
    return run("hub-export", "list", *arguments, **options)


def test_the_releases_of_a_channel_with_their_payloads(file):
    done = listed("--release", "stable-4.13", "--graph-file", file, "--format", "json")
    assert done.status == 0, done.stderr
    (found,) = json.loads(done.stdout)["channels"]
    assert (found["channel"], found["architecture"]) == ("stable-4.13", "amd64")
    assert [each["version"] for each in found["releases"]] == list(graph("amd64-stable-4.13").versions)
    first = found["releases"][0]
    assert first["payload"].startswith("quay.io/openshift-release-dev/ocp-release@sha256:")
    assert first["errata"].startswith("https://access.redhat.com/errata/")
    assert "stable-4.13" in first["channels"]
    assert "path" not in found


def test_the_path_between_two_with_its_risks(file):
    arguments = ("--release", "stable-4.13@4.12.0..4.13.0", "--graph-file", file)
    (found,) = json.loads(listed(*arguments, "--format", "json").stdout)["channels"]
    assert [(step["from"], step["to"]) for step in found["path"]] == [("4.12.0", "4.12.17"), ("4.12.17", "4.13.0")]
    assert "risks" not in found["path"][0]
    assert {"name", "url", "message"} == found["path"][1]["risks"][0].keys()
    assert {each["version"] for each in found["releases"]} >= {"4.12.0", "4.13.0"}
    done = listed(*arguments)
    assert done.status == 0
    assert "VERSION" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["4.12.0", "4.12.17", "-"] in rows
    assert "SeccompFilterErrno524: Pods scheduled to nodes" in done.stdout
    assert "  https://issues.redhat.com/browse/COS-2437" in done.stdout


def test_a_service_is_asked_for_each_architecture():
    with ReleaseHosts() as hosts:
        for name in ("amd64", "s390x"):
            hosts.graphs["stable-4.8", name] = answer(f"{name}-stable-4.8")
        place = ("--update-service", hosts.update_service, "--format", "json")
        done = listed("--release", "stable-4.8@4.8.50..4.8.50", "--release-arch", "amd64", "--release-arch", "s390x", *place)
        assert done.status == 0, done.stderr
        one, other = json.loads(done.stdout)["channels"]
        assert (one["architecture"], other["architecture"]) == ("amd64", "s390x")
        assert one["releases"][0]["payload"] != other["releases"][0]["payload"]
        assert [request.query["arch"] for request in hosts.log()] == ["amd64", "s390x"]
        bad = listed("--release", "stable-4.9", "--update-service", hosts.update_service)
        assert (bad.status, bad.stdout) == (2, "")
        assert "stable-4.8" in bad.stderr
        hosts.fault("GET", "/graph", status=406)
        assert listed("--release", "stable-4.8", "--update-service", hosts.update_service).status == 5
        hosts.fault("GET", "/graph", status=200, body=b"<html>")
        assert listed("--release", "stable-4.8", "--update-service", hosts.update_service).status == 1


FAULTS = [
    (("--release", "stable-4.13@4.12.0..4.13.99"), "release 4.13.99 is not in stable-4.13", "The nearest: 4.13.43."),
    (("--release", "stable-4.14"), "no answer for channel stable-4.14", "curl -fo amd64-stable-4.14.json"),
    (("--release", "stable-4.13@4.99.0"), "release 4.99.0 is not in stable-4.13", "The nearest: 4.13.43."),
    (("--release", "stable-4.13@4.13.0..4.12.0"), "minVersion 4.13.0 is above maxVersion 4.12.0", "Swap"),
    (("--release", "stable-4.13@4.13"), "'4.13' is no version", "three numbers"),
    (("--release", "stable-4.13", "--release-arch", "x86_64"), "'x86_64' is no architecture", "Write amd64."),
    (("--release", "stable-4.13", "--update-service", "http://192.0.2.1/"), "exclude each other", "Leave one"),
    (("--release", "stable-4.13", "--catalog", "quay.io/a/b"), "--release and a catalog at once", "List one"),
    (("--release", "stable-4.13", "--explain"), "--release and a catalog at once", "List one"),
    ((), "options for releases, and no release is requested", "Add --release"),
]


@pytest.mark.parametrize("number", [0, 7, 9, *more(number for number in range(len(FAULTS)) if number not in (0, 7, 9))])
def test_what_cannot_be_meant_is_an_error_of_usage(file, number):
    arguments, said, hint = FAULTS[number]
    done = listed(*arguments, "--graph-file", file)
    assert (done.status, done.stdout) == (2, "")
    assert said in done.stderr
    assert hint in done.stderr


def test_an_image_set_is_listed_with_the_releases_that_it_selects(file, tmp_path):
    image_set = tmp_path / "set.yaml"
    image_set.write_text(
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  platform:\n    channels:\n"
        "    - {name: stable-4.13, minVersion: 4.12.0, maxVersion: 4.13.0, shortestPath: true}\n"
    )
    done = listed(image_set, "--graph-file", file, "--format", "json")
    assert done.status == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["catalogs"] == []
    assert [(one["version"], one["architecture"]) for one in found["releases"]] == [
        (version, "amd64") for version in ("4.12.0", "4.12.17", "4.13.0")
    ]
    assert found["releases"][0]["channels"] == ["stable-4.13"]
    assert found["releases"][0]["payload"].startswith("quay.io/openshift-release-dev/ocp-release@sha256:")
    (path,) = found["paths"]
    assert [step["to"] for step in path["steps"]] == ["4.12.17", "4.13.0"]
    assert [problem["code"] for problem in found["problems"]] == ["update-risk"]
    shown = listed(image_set, "--graph-file", file).stdout
    assert "update path, amd64: 4.12.0 → 4.12.17 → 4.13.0" in shown
    assert "RELEASE" in shown
    refused = listed(image_set, "--graph-file", file, "--release-arch", "arm64")
    assert (refused.status, "--release-arch and an image set file" in refused.stderr) == (2, True)


def test_a_release_by_its_image_is_listed_without_a_request(tmp_path):
    image_set = tmp_path / "set.yaml"
    image = "quay.example/ocp-release@sha256:" + "a" * 64
    image_set.write_text(
        f"apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  platform:\n    release: {image}\n"
    )
    (found,) = json.loads(listed(image_set, "--format", "json").stdout)["releases"]
    assert found == {"version": None, "architecture": None, "payload": image, "channels": [], "errata": None}
