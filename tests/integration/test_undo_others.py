"""`undo` and foreign content of own objects: it stays, it is named, and the entry stays in the record; exit 6."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from importer.cluster import record
from importer.cluster.api.client import ConflictError, connect, unchanged
from importer.cluster.api.discovery import release_of, running_version
from importer.cluster.apply import apply
from importer.cluster.kinds import CATALOG_SOURCE, CLUSTER_CATALOG, CONFIG_MAP, DEPLOYMENT, IDMS, OPERATOR_HUB, SERVICE
from importer.cluster.record import Recorder
from importer.cluster.release import Release
from importer.cluster.resources.catalog_source import serving
from importer.cluster.trust import merge_pull_secret
from importer.cluster.undo import Outcome, undo
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run as command
from tests.fakes.wanted import CA, HOST_KEY, IMAGE, MARKETPLACE, trust, wanted
from tests.samples import more

SPACE = "openshift-config"
NAME = "hub-redhat-operators"
SERVING = f"{NAME}-serving"
SERVED = serving(NAME, MARKETPLACE, IMAGE, Release(4, 18))


def bring(client, resources):
    release = release_of(running_version(client))
    recorder = Recorder(client, SPACE)
    return apply(client, resources, release=release, dry_run=False, tell=str, recorder=recorder)


def undone(client):
    return {(one.kind, one.name): one for one in undo(client, SPACE, dry_run=False, tell=str)}


@pytest.mark.parametrize("release", ["4.18", *more(["4.3"])])
def test_the_ca_of_another_registry_stays_and_is_still_trusted(tmp_path: Path, release):
    with FakeCluster(release) as cluster:
        cluster.store.keeps_owners = release != "4.3"
        config = cluster.kubeconfig(tmp_path)
        with connect(config, None) as client:
            bring(client, trust())
        theirs = {
            "kind": "ConfigMap",
            "metadata": {"name": "hub-registry-ca", "namespace": SPACE},
            "data": {"other.example": CA},
        }
        cluster.put(theirs)
        dry = command("hub-import", "undo", "--kubeconfig", config, "--dry-run", "--format", "json")
        assert dry.status == 6
        done = command("hub-import", "undo", "--kubeconfig", config, "--yes", "--format", "json")
        assert done.status == 6, done.stderr
        assert dry.json["objects"] == done.json["objects"]
        outcomes = {each["kind"]: (each["outcome"], each["fields"]) for each in done.json["objects"]}
        assert outcomes == {
            "ConfigMap": ("restored", ["data.other.example"]),
            "Image": ("refused", ["spec.additionalTrustedCA"]),
        }
        assert cluster.get("ConfigMap", "hub-registry-ca", SPACE)["data"] == {"other.example": CA}
        assert cluster.get("Image", "cluster")["spec"]["additionalTrustedCA"] == {"name": "hub-registry-ca"}
        again = command("hub-import", "undo", "--kubeconfig", config, "--yes", "--format", "json")
        assert (again.status, {each["outcome"] for each in again.json["objects"]}) == (6, {"refused"})
        cluster.put({**theirs, "data": {"other.example": None}})
        last = command("hub-import", "undo", "--kubeconfig", config, "--yes")
        assert last.status == 0, last.stderr
        assert cluster.names("ConfigMap") == []
        assert "additionalTrustedCA" not in cluster.get("Image", "cluster")["spec"]


def test_a_foreign_ca_under_the_own_key_stays_too(tmp_path: Path):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        bring(client, trust())
        place = {"name": "hub-registry-ca", "namespace": SPACE}
        cluster.put({"kind": "ConfigMap", "metadata": place, "data": {HOST_KEY: CA + CA}})
        done = undone(client)
        assert done["ConfigMap", "hub-registry-ca"].outcome is Outcome.REFUSED
        assert done["Image", "cluster"].fields == ("spec.additionalTrustedCA",)
        assert cluster.get("Image", "cluster")["spec"]["additionalTrustedCA"]


THEIRS = [
    (CATALOG_SOURCE, NAME, {"spec": {"priority": 5}}, "spec.priority"),
    (
        CATALOG_SOURCE,
        NAME,
        {"metadata": {"annotations": {"example.com/owner": "team"}}},
        "metadata.annotations.example.com/owner",
    ),
    (CLUSTER_CATALOG, NAME, {"metadata": {"labels": {"team": "a"}}}, "metadata.labels.team"),
    (IDMS, NAME, {"spec": {"imageDigestMirrors": [{"source": "a/b", "mirrors": ["c/d"]}]}}, "spec.imageDigestMirrors"),
    (DEPLOYMENT, SERVING, {"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}, "spec.template.spec.nodeSelector.a"),
    (SERVICE, SERVING, {"metadata": {"labels": {"team": "a"}}}, "metadata.labels.team"),
]


@pytest.mark.parametrize(
    ("kind", "name", "patch", "field"),
    [
        pytest.param(*each, id=f"{each[0].name}-{each[3]}", marks=[] if each in (THEIRS[0], THEIRS[4]) else pytest.mark.more)
        for each in THEIRS
    ],
)
def test_an_own_object_with_a_foreign_field_stays_and_the_field_is_named(tmp_path: Path, kind, name, patch, field):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        bring(client, [*wanted("4.18"), *SERVED])
        place = {"name": name, **({"namespace": MARKETPLACE} if kind.namespaced else {})}
        cluster.put({"kind": kind.name, **patch, "metadata": {**patch.get("metadata", {}), **place}})
        done = undone(client)
        refused = {key: one.fields for key, one in done.items() if one.outcome is Outcome.REFUSED}
        assert refused == {(kind.name, name): (field,)}
        assert name in cluster.names(kind.name)
        assert [(one.kind, one.name) for one in record.load(client, SPACE)] == [(kind.name, name)]


@pytest.mark.parametrize(
    "kind", [CATALOG_SOURCE, CONFIG_MAP, *more([CLUSTER_CATALOG, IDMS, DEPLOYMENT])], ids=lambda each: each.name
)
def test_an_object_that_another_manager_recreated_stays(tmp_path: Path, kind):
    """The same content: from `apply` to `render` and GitOps."""
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        bring(client, [*wanted("4.18"), *SERVED, *trust()])
        name = {DEPLOYMENT: SERVING, CONFIG_MAP: "hub-registry-ca"}.get(kind, NAME)
        space = {CATALOG_SOURCE: MARKETPLACE, DEPLOYMENT: MARKETPLACE, CONFIG_MAP: SPACE}.get(kind, "")
        body = cluster.get(kind.name, name, space)
        client.delete(kind, name, space)
        metadata = {
            key: body["metadata"][key] for key in ("name", "namespace", "labels", "annotations") if key in body["metadata"]
        }
        made = {key: value for key, value in body.items() if key != "status"} | {"metadata": metadata}
        cluster.put(made, manager="argocd")
        done = undone(client)
        refused = {key: one for key, one in done.items() if one.outcome is Outcome.REFUSED and key[0] == kind.name}
        assert set(refused) == {(kind.name, name)}
        assert refused[kind.name, name].fields
        assert name in cluster.names(kind.name)


@pytest.mark.parametrize("release", ["4.3", "4.20", *more(["4.5", "4.12", "4.18"])])
def test_additions_of_the_api_server_and_controllers_are_not_foreign(tmp_path: Path, release):
    with FakeCluster(release) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        cluster.store.keeps_owners = release != "4.3"
        served = serving(NAME, MARKETPLACE, IMAGE, Release.parse(release))
        bring(client, [*wanted(release), *served])
        client.list(DEPLOYMENT, MARKETPLACE)  # its controller has seen it
        live = cluster.get("Deployment", SERVING, MARKETPLACE)
        assert live["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "1"}
        versions = cluster.versions()
        again = bring(client, [*wanted(release), *served])
        assert [str(each) for each in again.changed] == []
        assert cluster.versions() == versions
        assert {one.outcome for one in undone(client).values()} <= {Outcome.DELETED, Outcome.RESTORED}
        assert cluster.names("Deployment") == cluster.names("Service") == []
        assert set(cluster.names("NetworkPolicy")) <= {"default-deny-all"}


def test_without_server_side_apply_a_changed_container_keeps_foreign_fields(tmp_path: Path):
    with FakeCluster("4.3") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        cluster.store.keeps_owners = False
        bring(client, serving(NAME, MARKETPLACE, IMAGE, Release(4, 3)))
        live = cluster.get("Deployment", SERVING, MARKETPLACE)
        (container,) = live["spec"]["template"]["spec"]["containers"]
        containers = [{**container, "env": [{"name": "A", "value": "b"}]}, {"name": "sidecar", "image": "x/y:1"}]
        place = {"name": SERVING, "namespace": MARKETPLACE}
        cluster.put({"kind": "Deployment", "metadata": place, "spec": {"template": {"spec": {"containers": containers}}}})
        bring(client, serving(NAME, MARKETPLACE, "mirror.example:5000/other@sha256:" + "cd" * 32, Release(4, 3)))
        first, second = cluster.get("Deployment", SERVING, MARKETPLACE)["spec"]["template"]["spec"]["containers"]
        assert (first["image"][-4:], first["env"], second["name"]) == ("cdcd", [{"name": "A", "value": "b"}], "sidecar")
        done = undone(client)["Deployment", SERVING]
        assert (done.outcome, done.fields) == (Outcome.REFUSED, ("spec.template.spec.containers",))


def test_a_shared_object_keeps_foreign_additions_to_a_new_field(tmp_path: Path):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        key = cluster._key({"kind": "OperatorHub", "metadata": {"name": "cluster"}})
        cluster.store.delete(key)
        cluster.put({"kind": "OperatorHub", "metadata": {"name": "cluster"}})
        bring(client, wanted("4.18"))
        sources = [{"name": "redhat-operators", "disabled": True}]
        client.merge_patch(OPERATOR_HUB, "cluster", "", {"spec": {"sources": sources}})
        assert undone(client)["OperatorHub", "cluster"].outcome is Outcome.RESTORED
        assert cluster.get("OperatorHub", "cluster")["spec"] == {"sources": sources}


def test_a_delete_applies_to_the_object_that_was_read(tmp_path: Path):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        bring(client, trust())
        seen = client.get(CONFIG_MAP, "hub-registry-ca", SPACE)
        place = {"name": "hub-registry-ca", "namespace": SPACE}
        cluster.put({"kind": "ConfigMap", "metadata": place, "data": {"other.example": CA}})
        with pytest.raises(ConflictError):
            client.delete(CONFIG_MAP, "hub-registry-ca", SPACE, only=unchanged(seen))
        cluster.log.clear()
        cluster.put({"kind": "ConfigMap", "metadata": place, "data": {"other.example": None}})
        undone(client)
        deletes = [each for each in cluster.log if each.method == "DELETE"]
        assert len(deletes) == 2  # the ConfigMap, and the record
        assert all(b"resourceVersion" in each.body and b"uid" in each.body for each in deletes)


def test_a_write_between_the_read_and_the_delete_is_noticed(tmp_path: Path):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        bring(client, trust())
        delete, place = cluster.store.delete, {"name": "hub-registry-ca", "namespace": SPACE}

        def late(key, preconditions=None):
            """Write into the ConfigMap when the request to delete it has arrived already."""
            if key.name == "hub-registry-ca":
                cluster.put({"kind": "ConfigMap", "metadata": place, "data": {"other.example": CA}})
            return delete(key, preconditions)

        cluster.store.delete = late
        done = undone(client)["ConfigMap", "hub-registry-ca"]
        assert (done.outcome, done.fields) == (Outcome.RESTORED, ("data.other.example",))
        assert cluster.get("ConfigMap", "hub-registry-ca", SPACE)["data"] == {"other.example": CA}


def pull_secret(cluster, change):
    """Change the pull secret as a person does; return what it is then."""
    live = cluster.get("Secret", "pull-secret", SPACE)
    document = json.loads(base64.b64decode(live["data"][".dockerconfigjson"]))
    change(document)
    data = {".dockerconfigjson": base64.b64encode(json.dumps(document, indent=3).encode()).decode()}
    cluster.put({"kind": "Secret", "metadata": {"name": "pull-secret", "namespace": SPACE}, "data": data})
    return document


def credentials(cluster):
    return json.loads(base64.b64decode(cluster.get("Secret", "pull-secret", SPACE)["data"][".dockerconfigjson"]))


@pytest.mark.parametrize("release", ["4.18", *more(["4.3", "4.8"])])
def test_a_registry_that_others_log_in_to_afterwards_stays_and_the_own_credential_goes(tmp_path: Path, release):
    """A merge of `oc set data` is the way to add a registry (openshift-docs#35639)."""
    with FakeCluster(release) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        merge_pull_secret(client, "mirror.example:5000/ocp", "b3Vycw==", tell=str, recorder=Recorder(client, SPACE))

        def others(document):
            document["auths"]["team.example"] = {"auth": "dGVhbQ==", "email": "a@b"}
            del document["auths"]["cloud.openshift.com"]

        wanted = pull_secret(cluster, others)
        del wanted["auths"]["mirror.example:5000/ocp"]
        assert undone(client)["Secret", "pull-secret"].outcome is Outcome.RESTORED
        assert credentials(cluster) == wanted
        assert record.load(client, SPACE) == []


def test_an_own_credential_that_others_replaced_is_named(tmp_path: Path):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        merge_pull_secret(client, "mirror.example:5000/ocp", "b3Vycw==", tell=str, recorder=Recorder(client, SPACE))
        theirs = pull_secret(
            cluster, lambda document: document["auths"].update({"mirror.example:5000/ocp": {"auth": "dGhlaXJz"}, "x": {}})
        )
        one = undone(client)["Secret", "pull-secret"]
        assert (one.outcome, one.fields) == (Outcome.REFUSED, ("data..dockerconfigjson.auths.mirror.example:5000/ocp",))
        assert credentials(cluster) == theirs


@pytest.mark.parametrize(
    ("theirs", "left"),
    [
        (["quay.io", "mirror.example:5000", "team.example"], ["quay.io", "team.example"]),
        (["mirror.example:5000"], []),
        (["quay.io", "team.example"], None),
    ],
)
def test_a_list_that_others_extended_loses_the_own_items_alone(tmp_path: Path, theirs, left):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        place = {"kind": "Image", "metadata": {"name": "cluster"}}

        def registries(names):
            cluster.put({**place, "spec": {"registrySources": {"allowedRegistries": names}}})

        registries(["quay.io"])
        recorder = Recorder(client, SPACE)
        apply(
            client, [], release=Release(4, 18), dry_run=False, tell=str, recorder=recorder, registries=["mirror.example:5000"]
        )
        registries(theirs)
        one = undone(client)["Image", "cluster"]
        now = cluster.get("Image", "cluster")["spec"]["registrySources"]["allowedRegistries"]
        if left is None:
            assert (one.fields, now) == (("spec.registrySources.allowedRegistries",), theirs)
        else:
            assert (one.outcome, now) == (Outcome.RESTORED, left)


def test_the_field_of_a_mirror_rule_is_named_with_its_source(tmp_path: Path):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        bring(client, wanted("4.18"))
        rules = cluster.get(IDMS.name, NAME)["spec"]["imageDigestMirrors"]
        rules[0]["mirrors"] = ["cache.example/team"]
        cluster.put({"kind": IDMS.name, "metadata": {"name": NAME}, "spec": {"imageDigestMirrors": rules}})
        named = undone(client)[IDMS.name, NAME].fields
        assert f"spec.imageDigestMirrors[{rules[0]['source']}].mirrors" in named
