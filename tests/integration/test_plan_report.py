"""`plan --report`: the page for approval, before any layer is fetched."""

from __future__ import annotations

import json

import pytest

from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.sources import LABEL

pytestmark = pytest.mark.integration


# A bundle that runs nothing: one of which no image is known would be a problem.
CSV = b"kind: ClusterServiceVersion\nspec: {install: {spec: {deployments: []}}}\n"


@pytest.fixture(scope="module")
def source():
    with FakeRegistry() as registry:
        registry.add_image("org/app", image(({"manifests/csv.yaml": CSV},)), tag="v1")
        blob = bundle_blob("foo.v1.0.0", "1.0.0") | {"image": f"{registry.host}/org/app:v1", "relatedImages": []}
        files = stream(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), blob)
        config = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
        layers = ({"bin/opm": b"opm"}, {"configs/catalog.json": files})
        registry.add_image("org/index", image(layers, labels={LABEL: "/configs"}, config=config), tag="v1")
        yield registry


def plan(source, *more, image=()):
    asked = [part for name in image for part in ("--image", f"{source.host}/{name}")]
    options = ("--insecure", source.host, "--signatures", "ignore", *asked)
    return run("hub-export", "plan", "--catalog", f"{source.host}/org/index:v1", "--package", "foo", *options, *more)


def test_the_page_is_written_and_replaced(source, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("a former page")
    done = plan(source, "--report", page)
    assert done.status == 0, done.stderr
    assert "OPERATOR" in done.stdout
    text = page.read_text()
    assert "Planned on" in text
    assert f"{source.host}/org/app:v1" in text
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


def test_with_problems_the_page_is_there_too(source, tmp_path):
    for status, more in ((3, ()), (1, ("--strict",))):
        page = tmp_path / f"page-{status}.html"
        done = plan(source, "--report", page, *more, image=("org/gone:v1",))
        assert done.status == status, done.stderr
        assert "Not complete: 1 problem" in page.read_text()


@pytest.mark.parametrize("option", ["--report", "--output"])
@pytest.mark.parametrize("name", ["set.yaml", "./set.yaml", "link.yaml"])
def test_an_image_set_is_never_replaced(source, tmp_path, option, name):
    mirror = {"operators": [{"catalog": f"{source.host}/org/index:v1"}]}
    document = {"apiVersion": "mirror.openshift.io/v2alpha1", "kind": "ImageSetConfiguration", "mirror": mirror}
    text = json.dumps(document)
    (tmp_path / "set.yaml").write_text(text)
    (tmp_path / "link.yaml").symlink_to("set.yaml")
    done = run("hub-export", "plan", tmp_path / "set.yaml", option, name, "--insecure", source.host, cwd=tmp_path)
    assert done.status == 2, done.stderr
    assert f"{option} would replace {tmp_path / 'set.yaml'}, which this command reads" in done.stderr
    assert (tmp_path / "set.yaml").read_text() == text


def test_an_answer_of_the_update_service_is_never_replaced(tmp_path):
    (tmp_path / "graph.json").write_text("{}")
    arguments = ["--release", "stable-4.18", "--graph-file", "graph.json", "--output", "./graph.json"]
    done = run("hub-export", "plan", *arguments, cwd=tmp_path)
    assert done.status == 2, done.stderr
    assert "--output would replace graph.json, which this command reads" in done.stderr


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("page.html", "page.html"), "--output and --report name the same file"),
        (("plan.json", "missing/page.html"), "there is no directory"),
        (("plan.json", "."), "is a directory"),
    ],
)
def test_a_wrong_name_fails_before_any_request(source, tmp_path, names, said):
    before = len(source.requests)
    done = plan(source, "--output", tmp_path / names[0], "--report", tmp_path / names[1])
    assert done.status == 2
    assert said in done.stderr
    assert len(source.requests) == before
    assert not list(tmp_path.iterdir())
