"""Foreign configuration for the same registries stays effective: credentials in the pull secret, mirror rules."""

from __future__ import annotations

import base64
import json

import pytest

from tests.fakes.cluster import FakeCluster
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import Site, shared_both

pytestmark = pytest.mark.integration
INSTALLER = base64.b64encode(b"installer:pulls-the-release").decode()
ROBOT = base64.b64encode(b"robot:pulls-operators").decode()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return shared_both(tmp_path_factory)


@pytest.fixture
def site(archives, tmp_path):
    """Return what makes a site of a release, with an authfile for the mirror's prefix alone."""
    opened = []

    def make(release) -> Site:
        old = int(release.partition(".")[2]) < 9
        cluster, mirror = FakeCluster(release), FakeRegistry()
        opened.extend([cluster, mirror])
        here = Site(cluster.__enter__(), mirror.__enter__(), archives["sqlite" if old else "file-based"], tmp_path)
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {f"{mirror.host}/ocp": {"auth": ROBOT}}}))
        return here

    yield make
    for each in reversed(opened):
        each.__exit__(None, None, None)


def credentials(here):
    data = here.cluster.get("Secret", "pull-secret", "openshift-config")["data"]
    return json.loads(base64.b64decode(data[".dockerconfigjson"]))["auths"]


def give(here, **auths):
    data = {".dockerconfigjson": base64.b64encode(json.dumps({"auths": auths}).encode()).decode()}
    here.cluster.put({"kind": "Secret", "metadata": {"name": "pull-secret", "namespace": "openshift-config"}, "data": data})


def test_the_credential_of_the_prefix_is_added_to_that_of_the_registry(site):
    here = site("4.18")
    give(here, **{here.mirror.host: {"auth": INSTALLER}})
    before = here.state()
    given = ["--cluster-authfile", here.folder / "auth.json"]
    dry = here.run("deploy", "--dry-run", *given)
    (secret,) = [each for each in dry.json["apply"]["changes"] if each["kind"] == "Secret"]
    assert f"+      {here.mirror.host}/ocp: (credential, not shown)" in secret["diff"]
    assert not {INSTALLER, ROBOT} & set("\n".join(secret["diff"]).split())
    assert here.run("deploy", *given).status == 0
    assert credentials(here) == {here.mirror.host: {"auth": INSTALLER}, f"{here.mirror.host}/ocp": {"auth": ROBOT}}
    versions = here.cluster.versions()
    assert here.run("apply", *given, yes=False).status == 0
    assert here.cluster.versions() == versions
    assert here.ask("undo", "--yes").status == 0
    assert here.state() == before


def test_nodes_that_know_one_credential_for_a_registry_keep_it(site):
    here = site("4.8")
    give(here, **{here.mirror.host: {"auth": INSTALLER}})
    before = here.state()
    given = ["--cluster-authfile", here.folder / "auth.json"]
    done = here.run("deploy", *given)
    assert done.status == 6
    assert "--replace-credential" in done.stderr
    assert here.state() == before
    assert here.mirror.repositories == {}
    assert here.run("deploy", *given, "--replace-credential").status == 0
    assert credentials(here) == {here.mirror.host: {"auth": ROBOT}}
    assert here.ask("undo", "--yes").status == 0
    assert here.state() == before


def test_a_broader_foreign_rule_keeps_its_mirrors_and_its_policy(site):
    here = site("4.18")
    host = next(image.source.partition("/")[0] for image in here.inventory.images if "/example/alpha@" in image.source)
    rules = [{"source": host, "mirrors": ["cache.example/all"], "mirrorSourcePolicy": "NeverContactSource"}]
    foreign = {"kind": "ImageDigestMirrorSet", "metadata": {"name": "foreign"}, "spec": {"imageDigestMirrors": rules}}
    here.cluster.put(foreign, "another-manager")
    before = here.state()
    done = here.run("deploy")
    assert done.status == 0, done.stderr
    written = here.cluster.get("ImageDigestMirrorSet", "hub-index")["spec"]["imageDigestMirrors"]
    assert {rule["source"]: (rule["mirrors"], rule["mirrorSourcePolicy"]) for rule in written} == {
        f"{host}/example/{name}": (
            [f"{here.mirror.host}/ocp/example/{name}", f"cache.example/all/example/{name}"],
            "NeverContactSource",
        )
        for name in ("alpha", "alpha-operand", "beta", "beta-operand")
    }
    versions = here.cluster.versions()
    again = here.run("deploy", yes=False)
    assert again.status == 0, again.stderr
    assert here.cluster.versions() == versions
    assert here.ask("status").status == 0
    assert here.ask("undo", "--yes").status == 0
    assert here.state() == before


def test_a_narrower_foreign_rule_does_not_hide_the_images_of_the_archive(site):
    here = site("4.18")
    host = next(image.source.partition("/")[0] for image in here.inventory.images if "/example/alpha@" in image.source)
    rules = [{"source": f"{host}/example/alpha", "mirrors": ["cache.example/alpha"]}]
    foreign = {"kind": "ImageDigestMirrorSet", "metadata": {"name": "foreign"}, "spec": {"imageDigestMirrors": rules}}
    here.cluster.put(foreign, "another-manager")
    done = here.run("deploy", "--mirror-scope", "registry")
    assert done.status == 0, done.stderr
    written = here.cluster.get("ImageDigestMirrorSet", "hub-index")["spec"]["imageDigestMirrors"]
    assert [(rule["source"], rule["mirrors"]) for rule in written] == [
        (host, [f"{here.mirror.host}/ocp"]),
        (f"{host}/example/alpha", [f"{here.mirror.host}/ocp/example/alpha"]),
    ]
    versions = here.cluster.versions()
    assert here.run("deploy", "--mirror-scope", "registry", yes=False).status == 0
    assert here.cluster.versions() == versions


def test_doctor_writes_the_credential_where_apply_does(site):
    here = site("4.18")
    give(here, **{here.mirror.host: {"auth": INSTALLER}})
    assert here.run("deploy").status == 0
    story = here.cluster.play("pull-unauthorized")
    story.plays = {**story.plays, "until": {**story.plays["until"], "says": f"{here.mirror.host}/ocp"}}
    for _ in range(3):
        found = here.ask("doctor")
    assert [each["code"] for each in found.json["findings"]] == ["pull-unauthorized"]
    fixed = here.ask("doctor", "--fix", "--yes", "--cluster-authfile", here.folder / "auth.json")
    assert fixed.status == 0, fixed.stderr
    assert credentials(here) == {here.mirror.host: {"auth": INSTALLER}, f"{here.mirror.host}/ocp": {"auth": ROBOT}}
    assert here.ask("undo", "--yes").status == 0
    assert credentials(here) == {here.mirror.host: {"auth": INSTALLER}}


def test_foreign_rules_that_contradict_each_other_are_reported_before_and_after(site):
    """The machine config operator renders no rules at all then (container-runtime-config/helpers.go)."""
    here = site("4.18")
    for kind, field, policy in (
        ("ImageDigestMirrorSet", "imageDigestMirrors", "NeverContactSource"),
        ("ImageTagMirrorSet", "imageTagMirrors", "AllowContactingSource"),
    ):
        rule = {"source": "quay.io/other", "mirrors": ["cache.example/other"], "mirrorSourcePolicy": policy}
        body = {"kind": kind, "metadata": {"name": f"foreign-{policy[:5].lower()}"}, "spec": {field: [rule]}}
        here.cluster.put(body, "another-manager")
    seen = here.run("deploy", "--dry-run")
    expected = [
        "ImageDigestMirrorSet foreign-never: NeverContactSource",
        "ImageTagMirrorSet foreign-allow: AllowContactingSource",
    ]
    (found,) = [each for each in seen.json["apply"]["findings"] if each["code"] == "mirror-rules-conflict"]
    assert (found["severity"], found["subject"], found["evidence"]) == ("warning", "mirror source quay.io/other", expected)
    doctor = here.ask("doctor")
    assert doctor.status == 6
    (found,) = [each for each in doctor.json["findings"] if each["code"] == "mirror-rules-conflict"]
    assert (found["severity"], found["evidence"]) == ("error", expected)
