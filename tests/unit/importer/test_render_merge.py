"""`render --merge`: files of GitOps only grow, as the rules do that `apply` writes.

Nodes follow exactly the rules of the objects (machine-config-operator, container-runtime-config/helpers.go), and Argo CD replaces
a list of rules by the rendered one: an operator that is still installed, and in no rule any more, cannot be pulled again.
"""

from __future__ import annotations

import os

import pytest
import yaml

from common.errors import UsageError
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions
from importer.configure.files.earlier import MAX_FILE, MAX_FILES, NONE, read_earlier
from importer.configure.files.render import render_archive
from importer.mapping import Mirror
from tests.fakes.inventories import A, catalog, image, inventory
from tests.fakes.wanted import CA

MIRROR = Mirror.parse("mirror.example:5000/hub")
ALPHA, BETA = f"quay.io/x/alpha@{A}", f"quay.io/x/beta@{A}"
RULES, DIGESTS = "imagedigestmirrorset.yaml", "imageDigestMirrors"
OTHER = catalog("community", "quay.io/community/index:v1", image=A)


def render(folder, *images, release="4.18", merge=True, mirror=MIRROR, catalogs=(), ca=None):
    carried = inventory(*map(image, images), catalogs=catalogs or (catalog(),))
    earlier = read_earlier(folder) if merge else NONE
    files, built = render_archive(carried, mirror, Release.parse(release), ResourceOptions(registry_ca=ca), earlier)
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert not [one for one in built.problems if one.severity == "error"]
    return files


def documents(folder, name):
    return list(yaml.safe_load_all((folder / name).read_text()))


def rules(folder, name=RULES, field=DIGESTS):
    return {each["source"]: each["mirrors"] for body in documents(folder, name) for each in body["spec"][field]}


def test_rules_of_operators_that_are_not_carried_any_more_stay(tmp_path):
    render(tmp_path, ALPHA, BETA, merge=False)
    first = rules(tmp_path)
    render(tmp_path, ALPHA)
    assert rules(tmp_path) == first == {f"quay.io/x/{n}": [f"mirror.example:5000/hub/x/{n}"] for n in ("alpha", "beta")}
    # A third archive adds its own, and rendering it again changes no byte.
    third = render(tmp_path, "quay.io/x/gamma:v1")
    assert rules(tmp_path) == first
    assert set(rules(tmp_path, "imagetagmirrorset.yaml", "imageTagMirrors")) == {"quay.io/x/gamma"}
    assert render(tmp_path, "quay.io/x/gamma:v1") == third


def test_catalogs_and_authorities_of_earlier_archives_stay(tmp_path):
    """Neighbours: an Application with `prune` deletes what the kustomization does not list any more."""
    render(tmp_path, ALPHA, merge=False, ca=CA, catalogs=(OTHER,))
    kept = (tmp_path / "catalogsource-community.yaml").read_bytes()
    moved = Mirror.parse("new.example/hub")
    render(tmp_path, ALPHA, mirror=moved)
    listed = documents(tmp_path, "kustomization.yaml")[0]["resources"]
    assert {"catalogsource-community.yaml", "catalogsource-redhat-operators.yaml", "registry-ca.yaml"} <= set(listed)
    assert (tmp_path / "catalogsource-community.yaml").read_bytes() == kept
    # Two objects: rules are named by catalogs. The machine config operator joins those of one source.
    pairs = [(each["source"], each["mirrors"]) for body in documents(tmp_path, RULES) for each in body["spec"][DIGESTS]]
    assert pairs == [("quay.io/x/alpha", [f"{m}/hub/x/alpha"]) for m in ("mirror.example:5000", "new.example")]
    render(tmp_path, ALPHA, mirror=moved, ca=CA)
    assert list(documents(tmp_path, "registry-ca.yaml")[0]["data"]) == ["mirror.example..5000", "new.example"]


def test_an_archive_without_catalogs_keeps_the_default_sources_off(tmp_path):
    """Neighbour: without an earlier render it does not switch them off."""
    alone = inventory(image(ALPHA, needed_by=()), catalogs=())
    off = {"operatorhub.yaml", "clustercatalogs-default.yaml"}
    fresh, _ = render_archive(alone, MIRROR, Release(4, 18), ResourceOptions())
    assert not off & set(fresh)
    first = render(tmp_path, BETA, merge=False)
    merged, _ = render_archive(alone, MIRROR, Release(4, 18), ResourceOptions(), read_earlier(tmp_path))
    assert {name: merged[name] for name in off} == {name: first[name] for name in off}
    assert off <= set(yaml.safe_load(merged["kustomization.yaml"])["resources"])


@pytest.mark.parametrize(("release", "fresh"), [("4.14", "imagecontentsourcepolicy"), ("4.18", "imagedigestmirrorset")])
def test_policies_of_a_release_before_4_13_stay_after_an_update(tmp_path, release, fresh):
    """Neighbour: 4.13 and 4.14 refuse both kinds on one cluster; later ones take them (OCPNODE-1258)."""
    render(tmp_path, ALPHA, release="4.12", merge=False)
    render(tmp_path, BETA, release=release)
    old = rules(tmp_path, "imagecontentsourcepolicy.yaml", "repositoryDigestMirrors")
    assert "quay.io/x/alpha" in old
    field = "imageDigestMirrors" if release == "4.18" else "repositoryDigestMirrors"
    assert "quay.io/x/beta" in rules(tmp_path, f"{fresh}.yaml", field)
    assert {p.name for p in tmp_path.glob("image*.yaml")} == {"imagecontentsourcepolicy.yaml", f"{fresh}.yaml"}


ADDED = {"argocd.argoproj.io/sync-wave": "-1"}


def edited(path, change):
    bodies = list(yaml.safe_load_all(path.read_text()))
    for body in bodies:
        change(body)
    path.write_text("---\n".join(map(yaml.safe_dump, bodies)))


def test_what_people_added_to_an_object_stays(tmp_path):
    """As fields of other managers do on a cluster. Seen before: annotations went away with the next archive.

    Neighbours: an object that is not written again, one that is, the catalog, and the objects of the cluster.
    """
    render(tmp_path, ALPHA, merge=False, ca=CA)
    names = (
        RULES,
        "catalogsource-redhat-operators.yaml",
        "operatorhub.yaml",
        "registry-ca.yaml",
        "clustercatalogs-default.yaml",
    )
    for name in names:
        edited(tmp_path / name, lambda body: body["metadata"].update(annotations=dict(ADDED)))
    sources = [{"name": "community-operators", "disabled": False}, {"name": "certified-operators", "disabled": True}]
    edited(tmp_path / "operatorhub.yaml", lambda body: body["spec"].update(sources=sources))
    allowed = {"allowedRegistries": ["mirror.example:5000"]}
    edited(
        tmp_path / "registry-ca.yaml",
        lambda body: body["kind"] == "Image" and body["spec"].update(registrySources=dict(allowed)),
    )
    for sources_of in ((ALPHA,), (BETA,)):
        again = render(tmp_path, *sources_of, ca=CA)
        for name in names:
            assert all(body["metadata"]["annotations"] == ADDED for body in documents(tmp_path, name)), name
        (hub,) = documents(tmp_path, "operatorhub.yaml")
        # An entry that enables a default wins over disableAllDefaultSources, so that `apply` disables it too.
        assert hub["spec"] == {"disableAllDefaultSources": True, "sources": [{**each, "disabled": True} for each in sources]}
        (image_config,) = [body for body in documents(tmp_path, "registry-ca.yaml") if body["kind"] == "Image"]
        assert image_config["spec"] == {"additionalTrustedCA": {"name": "hub-registry-ca"}, "registrySources": allowed}
    assert render(tmp_path, BETA, ca=CA) == again


def test_sources_of_operatorhub_that_cannot_be_read_are_named(tmp_path):
    render(tmp_path, ALPHA, merge=False)
    edited(tmp_path / "operatorhub.yaml", lambda body: body["spec"].update(sources=["community-operators"]))
    with pytest.raises(UsageError, match="the sources of OperatorHub cluster cannot be read"):
        render(tmp_path, ALPHA)


def foreign(path):
    path.write_text(path.read_text().replace("hub-import", "argocd"))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("imagedigestmirrorset.yaml", foreign, "is not of hub-import"),
        ("catalogsource-redhat-operators.yaml", foreign, "CatalogSource redhat-operators is not of hub-import"),
        ("imagedigestmirrorset.yaml", lambda path: path.unlink(), "cannot be read"),
        ("imagedigestmirrorset.yaml", lambda path: path.write_text("a: [\n"), "imagedigestmirrorset.yaml"),
        ("imagedigestmirrorset.yaml", lambda path: path.write_text("- a\n"), "not a Kubernetes object"),
        ("imagedigestmirrorset.yaml", lambda path: path.write_text("kind: Pod\napiVersion: v1\n"), "no mirror rules"),
        (
            "imagedigestmirrorset.yaml",
            lambda path: path.write_text(path.read_text().replace("mirrors:", "x:")),
            "cannot be read",
        ),
        ("imagedigestmirrorset.yaml", lambda path: path.write_text(path.read_text() + "---\n" + path.read_text()), "twice"),
        ("kustomization.yaml", lambda path: path.unlink(), "cannot be read"),
        ("kustomization.yaml", lambda path: path.write_text("kind: Kustomization\n"), "no kustomization with a list"),
        ("kustomization.yaml", lambda path: path.write_text("resources: [../secret.yaml]\n"), "does not write"),
        ("kustomization.yaml", lambda path: path.write_text(path.read_text() + "patches: []\n"), "has patches, which"),
        ("operatorhub.yaml", lambda path: path.write_text("<<<<<<< HEAD\na: b\n"), "operatorhub.yaml"),
        ("kustomization.yaml", lambda path: path.write_text("resources: [catalogsource-../../x.yaml]\n"), "does not write"),
        ("kustomization.yaml", lambda path: os.truncate(path, MAX_FILE + 1), "larger than"),
        ("kustomization.yaml", lambda path: path.write_text(f"resources: [{'a, ' * MAX_FILES}b]\n"), "more than 1000 files"),
    ],
)
def test_what_is_not_an_earlier_render_is_refused_by_name(tmp_path, name, change, words):
    render(tmp_path, ALPHA, merge=False)
    change(tmp_path / name)
    with pytest.raises(UsageError) as raised:
        read_earlier(tmp_path)
    assert words in raised.value.message
    assert raised.value.hint or "yaml" in raised.value.message


def test_as_many_files_as_are_allowed(tmp_path):
    text = "apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\nmetadata:\n  name: a\n"
    text += "  labels: {app.kubernetes.io/managed-by: hub-import}\n"
    (tmp_path / "catalogsource-a.yaml").write_text(text)
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{', '.join(['catalogsource-a.yaml'] * MAX_FILES)}]\n")
    assert list(read_earlier(tmp_path).files) == ["catalogsource-a.yaml"]
