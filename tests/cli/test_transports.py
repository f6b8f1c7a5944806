"""`file://`, `docker://`, `https://`, `oci:` where a path or a reference is wanted: accepted, or refused with the wanted value.

oc-mirror writes `file://DIR` and `docker://REGISTRY`, skopeo the rest (containers-transports(5)).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.errors import UsageError
from common.oci.reference import Reference, local_path, plain_path, rejoined
from importer.mapping import Mirror
from tests.fakes.archives import Content, write
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.samples import more


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a stick") / "archive"
    write(folder, Content({"quay.io/org/app:v1": [b"content"]}))
    return folder


@pytest.mark.parametrize("prefix", ["file://", *more(["FILE://", "file://localhost", "file:"])])
def test_a_file_url_is_its_path_everywhere(archive, tmp_path, prefix):
    escaped = str(archive).replace(" ", "%20")
    assert run("hub-import", "verify", f"{prefix}{escaped}", cwd=tmp_path).status == 0
    assert run("hub-export", "diff", f"{prefix}{escaped}", archive, cwd=tmp_path).status == 0
    with FakeRegistry() as source:
        source.add_image("org/app", image([b"content"]), tag="v1")
        place = ["--image", f"docker://{source.host}/org/app:v1", "--insecure", source.host]
        made = run(
            *("hub-export", "create", *place, f"--output={prefix}{tmp_path}/out", "--log-file", f"{prefix}{tmp_path}/log"),
            cwd=tmp_path,
        )
        assert made.status == 0, made.stderr
        assert prefix not in made.stdout, "the next command is shown with the path"
        plan = run("hub-export", "plan", *place, cwd=tmp_path, env={"HUB_EXPORT_OUTPUT": f"{prefix}{tmp_path}/plan.json"})
        assert plan.status == 0, plan.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"out", "log", "plan.json"}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("hub-export create --image {host}/org/app:v1 --output file://out", "Wanted: out, or file:///PATH."),
        ("hub-export create --image {host}/org/app:v1 --output docker://{host}/x", "--registry {host}/x"),
        ("hub-export create --image {host}/org/app:v1 --output oci:out", "Wanted: out."),
        ("hub-export create --image {host}/org/app:v1 --output https://disk.example/x", "Download it first"),
        ("hub-export create --image {host}/org/app:v1 --output webdav://disk/x", "Name a path"),
        ("hub-export kit --output docker://{host}/kit", "--registry {host}/kit"),
        ("hub-export list --catalog {host}/a/b -adocker://{host}/a.yaml", "error: docker://{host}/a.yaml: names an image"),
        ("hub-export list --catalog {host}/a/b -afile://a.json", "Wanted: a.json, or file:///PATH."),
        ("hub-export plan https://disk.example/a.yaml", "error: https://disk.example/a.yaml: an address"),
        ("hub-export plan https://disk.example/a//b/", "error: https://disk.example/a//b/: an address"),
        ("hub-export plan --image {host}/a/b --ca file:////srv/ca.pem", "error: file:////srv/ca.pem: a file URL"),
        (
            "hub-export create --image {host}/a/b --output o --receipt S3://bucket/r.json",
            "error: S3://bucket/r.json: has to be",
        ),
        ("hub-import inspect {archive} --key https://disk.example/hub.pub", "error: https://disk.example/hub.pub: an address"),
        ("hub-import repair /nowhere oci:/srv/disc", "error: oci:/srv/disc: a transport"),
        ("hub-import deploy {archive} --registry {host} --report https://disk.example/x", "error: https://disk.example/x: an"),
        ("hub-export keygen file://hub", "Wanted: hub, or file:///PATH."),
        ("hub-export diff oci:one two", "Wanted: one."),
        ("hub-export plan file://set.yaml", "Wanted: set.yaml, or file:///PATH."),
        ("hub-export create --catalog https://quay.io/org/index:v1 --full --output out", "for example quay.io/org/index:v1"),
        ("hub-export create --image http://quay.io/org/app:v1 --output out", "for example quay.io/org/app:v1"),
        ("hub-export build-catalog --from https://quay.io/a/b --to quay.io/c/d --manifest-dir .", "for example quay.io/a/b"),
        ("hub-export build-catalog --from quay.io/a/b --to https://quay.io/c/d --manifest-dir .", "for example quay.io/c/d"),
        ("hub-export kit --output kit --image-base https://quay.io/a/b", "for example quay.io/a/b"),
        ("hub-export login https://quay.io/org --username me --password-stdin", "for example quay.io/org"),
        ("hub-export list --catalog quay.io/a/b --insecure https://quay.io", "for example quay.io"),
        ("hub-import push file://archive --registry {host}", "Wanted: archive, or file:///PATH."),
        ("hub-import push docker://{host}/x --registry {host}", "--registry {host}/x"),
        ("hub-import push {archive} --registry https://{host}/ocp/", "for example {host}/ocp"),
        ("hub-import push {archive} --registry oci://{host}", "for example {host}"),
        ("hub-import repair file://disc", "Wanted: disc, or file:///PATH."),
        ("hub-import render {archive} --registry {host} --openshift-release 4.18 --output dir:gitops", "Wanted: gitops."),
    ],
)
def test_what_cannot_be_taken_is_refused_with_the_wanted_value(command, said, archive, tmp_path):
    with FakeRegistry() as source:
        arguments = [each.replace("{host}", source.host).replace("{archive}", str(archive)) for each in command.split()]
        done = run(*arguments, cwd=tmp_path, stdin="secret")
        assert done.status == 2, done.stderr
        assert said.replace("{host}", source.host) in done.stderr
        assert source.requests == []
    assert list(tmp_path.iterdir()) == [], "nothing is written under a name that was not meant"


def test_a_nul_in_a_file_url_is_refused_also_in_the_environment(archive, tmp_path):
    url, output = f"file://{tmp_path}/a%00b", f"file://{tmp_path}/%00"
    for arguments, environment in (
        (["hub-import", "verify", url], {}),
        (["hub-import", "verify", archive, f"--key={url}"], {}),
        (["hub-import", "verify", archive], {"HUB_IMPORT_KEY": url}),
        (["hub-export", "create", "--image", "localhost:1/org/app:v1", "--output", output], {}),
        (["hub-export", "create", "--image", "localhost:1/org/app:v1"], {"HUB_EXPORT_OUTPUT": output}),
    ):
        done = run(*arguments, cwd=tmp_path, env=environment)
        assert done.status == 2, done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_values_of_a_variable_are_split_before_file_urls_are_decoded(archive, tmp_path):
    """click splits the variable of a repeatable option: at blanks, and of paths at `os.pathsep`."""
    escaped = str(archive).replace(" ", "%20")
    with FakeRegistry() as source:
        source.add_image("org/app", image([b"content"]), tag="v1")
        place = ["plan", "--image", f"{source.host}/org/app:v1", "--insecure", source.host]
        since = {"HUB_EXPORT_SINCE": f"file://{escaped}  FILE://localhost{escaped}/inventory.json"}
        done = run("hub-export", *place, "--format", "json", cwd=tmp_path, env=since)
        assert done.status == 0, done.stderr
        first, second = tmp_path / "one receipt", tmp_path / "a:b"
        for value, missing in (
            (f"file://{tmp_path}/one%20receipt", first),
            (f"file://{tmp_path}/a%3Ab:/nowhere", second),
            (f"{archive}/inventory.json:file:{tmp_path}/one%20receipt", archive / "inventory.json"),
        ):
            done = run("hub-export", *place, cwd=tmp_path, env={"HUB_EXPORT_RECEIPT": value})
            assert done.status == 2, done.stderr
            assert f"error: {missing}: " in done.stderr
    catalog = tmp_path / "a catalog"
    catalog.mkdir()
    named = f"file://{str(catalog).replace(' ', '%20')}"
    done = run("hub-export", "list", cwd=tmp_path, env={"HUB_EXPORT_CATALOG": named})
    assert f"{catalog}" in done.stderr, done.stderr


@pytest.mark.parametrize("option", [["-afile://{}"], ["-a", "file://{}"], ["--authfile", "file:{}"], ["-afile://localhost{}"]])
def test_an_option_takes_a_file_url_however_its_value_is_attached(tmp_path, option):
    missing = [each.format(f"{tmp_path}/nope%20x.json") for each in option]
    with FakeRegistry() as source:
        done = run("hub-export", "list", "--catalog", f"{source.host}/a/b", *missing, cwd=tmp_path)
    assert done.status == 2, done.stderr
    assert f"{tmp_path}/nope x.json" in done.stderr


@pytest.mark.parametrize("place", ["new/", "new/.", "/proc/plan.json", "y" * 254])
def test_a_plan_that_could_not_be_written_is_refused_before_the_source_is_asked(tmp_path, place):
    with FakeRegistry() as source:
        done = run("hub-export", "plan", "--image", f"{source.host}/a/b:v1", "--output", place, cwd=tmp_path)
        assert done.status == 2, done.stderr
        assert f"error: {place}" in done.stderr
        assert source.requests == []
    assert list(tmp_path.iterdir()) == []


def test_docker_is_taken_off_where_only_a_registry_can_be_meant():
    assert str(Mirror.parse("docker://registry.example:5000/ocp")) == "registry.example:5000/ocp"
    assert str(Mirror.parse("DOCKER://registry.example")) == "registry.example"


@pytest.mark.parametrize("scheme", ["https://", "oci://", "docker-archive://", "docker://"])
def test_references_in_catalogs_stay_without_transports(scheme):
    with pytest.raises(UsageError, match=f"{scheme} is no host name"):
        Reference.parse(f"{scheme}quay.io/org/app:v1")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("file:///a%20b/100%", "/a b/100%"),
        ("--output=s3://bucket/x", "--output=s3://bucket/x"),
        ("file://relative", "file://relative"),
        ("file:////x", "file:////x"),
        ("file:///a%00b", "file:///a%00b"),
        ("file:///a%FFb", os.fsdecode(b"/a\xffb")),
        ("name=file:///x", "name=file:///x"),
        ("https://quay.io/cnr", "https://quay.io/cnr"),
    ],
)
def test_only_file_urls_of_this_machine_are_rewritten(text, path):
    assert plain_path(text) == path


@pytest.mark.parametrize("text", ["volume-0001.tar.zst", "/media/stick", "./oci:dir", "a:b", "C", "weeks:47"])
def test_paths_stay_paths(text):
    assert local_path(text) == Path(text)


def test_a_variable_split_at_colons_has_its_file_urls_again():
    assert rejoined(["a", "file", "///b", "FILE", "/c", "file", "d", "file"]) == [
        "a",
        "file:///b",
        "FILE:/c",
        "file",
        "d",
        "file",
    ]
