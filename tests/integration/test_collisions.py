"""Images that would get one name on the mirror: what `push` refuses on every mirror is refused before anything is carried."""

from __future__ import annotations

import json

import pytest

from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.sources import LABEL

pytestmark = pytest.mark.integration
CONFIG = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
APP, OTHER = image([b"app"]), image([b"other"])


@pytest.fixture(scope="module")
def source():
    """A registry with two catalogs of one package each, and two images of one tag in different repositories."""
    with FakeRegistry() as registry:
        for name in ("foo", "bar"):
            blob = bundle_blob(f"{name}.v1.0.0", "1.0.0", name) | {"image": f"{registry.host}/org/app:v1"}
            blob["relatedImages"] = [{"name": "operand", "image": f"{registry.host}/org/operand:v1"}]
            files = stream(
                package_blob(name), channel_blob("stable", [entry(f"{name}.v1.0.0")], name), blob, package_blob("rest")
            )
            layers = ({"bin/opm": b"opm"}, {"configs/catalog.json": files})
            registry.add_image(f"org/{name}-index", image(layers, labels={LABEL: "/configs"}, config=CONFIG), tag="v1")
        registry.add_image("org/app", APP, tag="v1")
        registry.add_image("org/other", OTHER, tag="v1")
        registry.add_image("org/operand", OTHER, tag="v1")
        registry.add_image("my/index", OTHER, tag="v1")
        yield registry


def image_set(folder, **mirror):
    file = folder / "imageset.yaml"
    document = {"apiVersion": "mirror.openshift.io/v2alpha1", "kind": "ImageSetConfiguration", "mirror": mirror}
    file.write_text(json.dumps(document))
    return file


def export(source, command, *more):
    return run("hub-export", command, *more, "--insecure", source.host, "--signatures", "ignore", "--format", "json")


def operator(source, name, **target):
    return {"catalog": f"{source.host}/org/{name}-index:v1", "packages": [{"name": name}], **target}


def test_two_catalogs_with_one_target_are_refused_by_every_command_that_plans(source, tmp_path):
    """oc-mirror#827 (CLID-47): the second catalog replaced the first on the mirror."""
    target = {"targetCatalog": "my/index", "targetTag": "x"}
    file = image_set(tmp_path, operators=[operator(source, "foo", **target), operator(source, "bar", **target)])
    for command in (
        ["plan"],
        ["create", "--output", tmp_path / "a"],
        ["create", "--manifests-only", "--output", tmp_path / "b"],
    ):
        done = export(source, *command[:1], file, *command[1:])
        assert done.status == 2, (command, done.stderr)
        first, hint = done.stderr.strip().splitlines()[-2:]
        assert f"the catalog {source.host}/org/foo-index:v1 and the catalog {source.host}/org/bar-index:v1" in first
        assert "would both become my/index:x on the mirror, with different content" in first
        assert hint == "  Give one of them another targetCatalog or targetTag."
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def additional(source, name, **target):
    return {"name": f"{source.host}/{name}", **target}


TO = {"targetRepo": "my/index"}


@pytest.mark.parametrize(
    ("operators", "images", "place", "fields"),
    [
        ({"foo": {"targetCatalog": "my/index"}}, {"org/other:v1": TO}, "my/index:v1", "targetCatalog, targetRepo or targetTag"),
        ({}, {"org/app:v1": TO, "org/other:v1": TO}, "my/index:v1", "targetRepo or targetTag"),
        ({"foo": {}}, {"org/foo-index:v1": {}}, "org/foo-index:v1", "targetCatalog, targetRepo or targetTag"),
    ],
    ids=["catalog and image", "two images", "catalog and its original"],
)
def test_names_of_catalogs_and_images_are_compared(source, tmp_path, operators, images, place, fields):  # noqa: PLR0917
    file = image_set(
        tmp_path,
        operators=[operator(source, name, **target) for name, target in operators.items()],
        additionalImages=[additional(source, name, **target) for name, target in images.items()],
    )
    done = export(source, "plan", file)
    assert done.status == 2, done.stderr
    first, hint = done.stderr.strip().splitlines()[-2:]
    assert all(f"{source.host}/{name}" in first for name in images)
    assert f"would both become {place} on the mirror" in first
    assert hint == f"  Give one of them another {fields}."


@pytest.mark.parametrize("other", [{"name": "org/app:v1"}, None], ids=["two images", "bundle and image"])
def test_what_the_source_host_parts_on_the_mirror_is_a_warning(source, tmp_path, other):
    images = [additional(source, "org/other:v1", targetRepo="org/app"), *([additional(source, **other)] if other else [])]
    operators = [] if other else [operator(source, "foo")]
    done = export(source, "plan", image_set(tmp_path, operators=operators, additionalImages=images))
    assert done.status == 0, done.stderr
    (problem,) = [one for one in done.json["problems"] if one["code"] == "reference-collision"]
    assert (problem["severity"], problem["subject"]) == ("warning", "org/app:v1")
    assert "Push with --keep-source-host, or give one of them another targetRepo or targetTag." in problem["message"]


def test_every_collision_is_named(source, tmp_path):
    names = ("org/app:v1", "org/other:v1", "my/index:v1")
    images = [
        additional(source, name, targetRepo=f"to/{number // 2}") for number, name in enumerate((*names, "org/foo-index:v1"))
    ]
    done = export(source, "plan", image_set(tmp_path, additionalImages=images))
    assert done.status == 2
    assert "2 names on the mirror for images of different content" in done.stderr
    assert all(f"{source.host}/{name}" in done.stderr for name in names)
    assert all(f"would both become to/{number}:v1" in done.stderr for number in (0, 1))


def test_the_same_content_under_one_name_is_no_collision(source, tmp_path):
    images = [additional(source, "org/app:v1", targetRepo="a/b"), additional(source, "my/index:v1", targetRepo="a/c")]
    done = export(
        source, "plan", image_set(tmp_path, additionalImages=[*images, additional(source, "org/other:v1", targetRepo="a/c")])
    )
    assert done.status == 0, done.stderr
    assert done.json["problems"] == []


def planned(source, tmp_path, *names):
    """Plan images that are given as source and target repository."""
    images = [additional(source, name, **({"targetRepo": target} if target else {})) for name, target in names]
    return export(source, "plan", image_set(tmp_path, additionalImages=images))


def test_what_no_option_of_push_can_part_is_refused_with_all_names(source, tmp_path):
    """One pair meets without the source hosts, another with them, so every push would be refused (oc-mirror#827)."""
    host = source.host.replace(":", "-")
    without = [("org/app:v1", ""), ("org/other:v1", "org/app")]
    done = planned(source, tmp_path, *without, ("my/index:v1", ""), ("org/bar-index:v1", f"{host}/my/index"))
    assert done.status == 2, done.stderr
    assert all(f"{source.host}/{name}" in done.stderr for name in ("org/app:v1", "org/other:v1", "my/index:v1"))
    assert f"{host}/my/index:v1" in done.stderr
    hint = done.stderr.strip().splitlines()[-1]
    assert hint == "  Give one of them another targetRepo or targetTag."
    # Each pair alone leaves a way.
    assert planned(source, tmp_path, *without).status == 0
    assert planned(source, tmp_path, ("my/index:v1", ""), ("org/bar-index:v1", f"{host}/my/index")).status == 0


@pytest.mark.more
def test_a_target_tag_may_be_the_stable_tag_of_another_image(source, tmp_path):
    """docs/reference/registry.md: every image has a tag by its digest, which an image set can name for another one as well."""
    tag = f"hub-{APP.digest.replace(':', '-')}"
    images = [additional(source, "org/app:v1"), additional(source, "org/other:v1", targetRepo="org/app", targetTag=tag)]
    done = export(source, "plan", image_set(tmp_path, additionalImages=images))
    assert [one["subject"] for one in done.json["problems"]] == [f"org/app:{tag}"]


@pytest.mark.more
def test_hosts_that_differ_in_case_alone_are_one_prefix_on_the_mirror(source, tmp_path):
    upper = source.host.replace("localhost", "LOCALHOST")
    images = [{"name": f"{source.host}/org/app:v1"}, {"name": f"{upper}/org/app:v1"}]
    done = export(source, "plan", image_set(tmp_path, additionalImages=images), "--insecure", upper)
    assert [one["code"] for one in done.json["problems"] if one["code"] == "reference-collision"] == []
