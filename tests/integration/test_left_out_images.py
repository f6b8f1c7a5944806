"""An archive without an image of an operator: who verifies, approves or deploys it reads so before anything is changed."""

from __future__ import annotations

import json

import pytest

from exporter.plan import diff as differences
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import CATALOG, Site, add_catalog
from tests.samples import more

pytestmark = pytest.mark.integration

LEFT_OUT = (
    "1 image, of beta: not in the archive, because it could not be fetched when it was made "
    "(hub-import inspect has the details)"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    output = tmp_path_factory.mktemp("archive") / "out"
    with FakeRegistry() as source:
        add_catalog(source)
        del source.repositories["example/beta-operand"]
        selected = [
            "--catalog",
            f"{source.host}/{CATALOG}:v1",
            "--package",
            "alpha",
            "--package",
            "beta",
            "--skip-dependencies",
        ]
        options = ["--insecure", source.host, "--signatures", "ignore", "--output", output]
        made = run("hub-export", "create", *selected, *options)
    assert made.status == 3
    assert f"warning: {LEFT_OUT}" in made.stdout.splitlines()
    return output


def test_it_is_said_by_verify_and_before_the_question(archive, tmp_path):
    lines = run("hub-import", "verify", archive).stdout.splitlines()
    whole = next(number for number, line in enumerate(lines) if line.endswith("the archive is whole"))
    assert lines[whole + 1] == f"warning: {LEFT_OUT}"
    with FakeRegistry() as mirror, FakeCluster("4.18") as cluster:
        site = Site(cluster, mirror, archive, tmp_path)
        place = ["--registry", f"{mirror.host}/ocp", "--insecure", mirror.host]
        shown = site.text("deploy", archive, *place, *site.trust, "--dry-run").stdout.splitlines()
        (asked,) = [number for number, line in enumerate(shown) if line.endswith("no drain.")]
        assert shown[asked - 1] == f"warning: {LEFT_OUT}"


def test_diff_does_not_call_it_new(archive):
    nothing = json.loads((archive / "inventory.json").read_bytes())
    (image,) = [each["source"] for each in nothing["images"] if not each["complete"]]
    lines = run("hub-export", "diff", archive, archive).stdout.splitlines()
    assert f"! {image}: not in it: it could not be fetched" in lines
    assert "the same images" not in lines
    # The next archive has it: nothing else differs.
    found = differences.between(one := differences.load(archive), one)
    assert f"+ {image}" in differences.table(found, differences.lacking(one), frozenset())


@pytest.mark.parametrize("command", more(["deploy", "apply"]))
def test_it_is_the_last_word_after_a_change(archive, tmp_path, command):
    with FakeRegistry() as mirror, FakeCluster("4.18") as cluster:
        site = Site(cluster, mirror, archive, tmp_path)
        place = ["--registry", f"{mirror.host}/ocp", "--insecure", mirror.host]
        if command == "apply":
            assert run("hub-import", "push", archive, *place).status == 3
        page = ["--report", tmp_path] if command == "deploy" else []
        done = site.text(command, archive, *place, *site.trust, "--yes", *page)
        assert f"warning: {LEFT_OUT}" in done.stderr.splitlines()
        for made in tmp_path.glob("hub-deploy-*.html"):
            assert f"{LEFT_OUT}." in made.read_text()
        ending = f"OLM lists what the archive carries: alpha, beta. Warning: {LEFT_OUT}."
        assert ending in done.stdout.splitlines()[-2:]
