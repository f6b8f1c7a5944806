"""The mirror's CA and credential, merged into those of the cluster."""

from __future__ import annotations

import base64
import json

import pytest

from common.errors import ClusterError, UsageError
from common.log import SECRETS
from importer.cluster.api.discovery import release_of, running_version
from importer.cluster.apply import apply
from importer.cluster.record import Recorder
from importer.cluster.release import Release
from importer.cluster.trust import allow, merge_pull_secret, pull_credential, pull_secret_key
from importer.cluster.undo import undo
from importer.cluster.writing import Writer
from tests.fakes.cluster import Fault
from tests.fakes.cluster_seed import PULL_SECRET
from tests.fakes.wanted import CA, HOST_KEY, trust

AUTH = base64.b64encode(b"puller:a-secret-nobody-may-read").decode()
NAMESPACE = "openshift-config"
OTHER = CA.replace("AAAA", "BBBB")


def run(client, resources):
    return apply(client, resources, release=release_of(running_version(client)), dry_run=False, tell=lambda _line: None)


def secret(cluster) -> dict:
    data = cluster.get("Secret", "pull-secret", NAMESPACE)["data"]
    return json.loads(base64.b64decode(data[".dockerconfigjson"]))


def config_map(name: str, data: dict[str, str]) -> dict:
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data}


def test_the_ca_is_written_to_its_own_config_map(start):
    cluster, client = start()
    result = run(client, trust())
    assert [str(change) for change in result.changes] == [
        "created ConfigMap hub-registry-ca in openshift-config",
        "changed Image cluster: spec.additionalTrustedCA",
    ]
    assert cluster.get("ConfigMap", "hub-registry-ca", NAMESPACE)["data"] == {HOST_KEY: CA}
    assert cluster.get("Image", "cluster")["spec"] == {"additionalTrustedCA": {"name": "hub-registry-ca"}}


def test_the_config_map_in_use_is_extended_and_stays_in_use(start):
    cluster, client = start()
    cluster.put(config_map("user-ca", {"other.example": OTHER}))
    spec = {"additionalTrustedCA": {"name": "user-ca"}, "registrySources": {"insecureRegistries": ["x.example"]}}
    cluster.put({"kind": "Image", "metadata": {"name": "cluster"}, "spec": spec})
    run(client, trust())
    assert cluster.get("ConfigMap", "user-ca", NAMESPACE)["data"] == {"other.example": OTHER, HOST_KEY: CA}
    assert cluster.get("Image", "cluster")["spec"] == spec
    assert cluster.names("ConfigMap") == ["user-ca"]


def test_while_a_registry_changes_its_ca_both_are_trusted(start):
    cluster, client = start()
    run(client, trust(pem=OTHER))
    run(client, trust())
    assert cluster.get("ConfigMap", "hub-registry-ca", NAMESPACE)["data"][HOST_KEY] == OTHER + CA
    assert not run(client, trust()).changed


def test_a_credential_is_added_and_all_others_stay(start):
    cluster, client = start()
    lines: list[str] = []
    change = merge_pull_secret(client, "mirror.example:5000", AUTH, tell=lines.append)
    assert str(change) == ("changed Secret pull-secret in openshift-config: data..dockerconfigjson.auths.mirror.example:5000")
    assert [line for line in change.diff if line.startswith("+ ")] == ["+      mirror.example:5000: (credential, not shown)"]
    assert secret(cluster) == {"auths": {**PULL_SECRET["auths"], "mirror.example:5000": {"auth": AUTH}}}
    assert AUTH not in "".join(lines)
    assert SECRETS.mask(AUTH) == "***"


def test_an_existing_credential_is_not_written(start):
    cluster, client = start()
    merge_pull_secret(client, "mirror.example:5000", AUTH)
    before = cluster.versions()
    assert merge_pull_secret(client, "mirror.example:5000", AUTH).action == "unchanged"
    assert cluster.versions() == before


def test_a_dry_run_leaves_the_pull_secret(start):
    cluster, client = start()
    assert merge_pull_secret(client, "mirror.example:5000", AUTH, dry_run=True).action == "changed"
    assert secret(cluster) == PULL_SECRET


def test_without_a_pull_secret_none_is_created(start):
    cluster, client = start()
    cluster.store.delete(
        cluster._key({"kind": "Secret", "metadata": {"name": "pull-secret", "namespace": NAMESPACE}}),
    )
    with pytest.raises(ClusterError, match="no pull secret") as caught:
        merge_pull_secret(client, "mirror.example:5000", AUTH)
    assert "--cluster-authfile" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b'{"auths": []}', b'{"auths"' + b"[" * 100_000])
def test_an_unreadable_pull_secret_is_not_replaced(start, content):
    cluster, client = start()
    data = {".dockerconfigjson": base64.b64encode(content).decode()}
    metadata = {"name": "pull-secret", "namespace": NAMESPACE}
    cluster.put({"kind": "Secret", "metadata": metadata, "data": data})
    with pytest.raises(ClusterError, match="no readable") as caught:
        merge_pull_secret(client, "mirror.example:5000", AUTH)
    assert caught.value.__suppress_context__
    assert cluster.get("Secret", "pull-secret", NAMESPACE)["data"] == data


HOST = "mirror.example:5000"
OTHER_AUTH = base64.b64encode(b"installer:another-secret").decode()


def put_credentials(cluster, **auths) -> None:
    document = {"auths": {**PULL_SECRET["auths"], **auths}}
    data = {".dockerconfigjson": base64.b64encode(json.dumps(document).encode()).decode()}
    cluster.put({"kind": "Secret", "metadata": {"name": "pull-secret", "namespace": NAMESPACE}, "data": data})


@pytest.mark.parametrize("entry", [{"auth": OTHER_AUTH}, {"username": "installer", "password": "x"}, {"identitytoken": "x"}])
@pytest.mark.parametrize("key", [HOST, f"https://{HOST}/v1/"])
def test_another_credential_of_the_host_is_replaced_only_on_request(start, key, entry):
    cluster, client = start()
    put_credentials(cluster, **{key: entry})
    before = cluster.versions()
    for dry_run in (True, False):
        with pytest.raises(ClusterError, match=f"another credential for {HOST}") as caught:
            merge_pull_secret(client, HOST, AUTH, dry_run=dry_run)
        assert "--replace-credential" in caught.value.hint
    assert cluster.versions() == before
    change = merge_pull_secret(client, HOST, AUTH, replace=True)
    assert secret(cluster)["auths"][HOST] == {"auth": AUTH}
    assert ("-      mirror.example:5000: (former credential, not shown)" in change.diff) == (key == HOST)
    assert OTHER_AUTH not in "".join(change.diff)


def test_a_namespaced_credential_is_added_next_to_that_of_the_host(start):
    cluster, client = start()
    put_credentials(cluster, **{HOST: {"auth": OTHER_AUTH}})
    change = merge_pull_secret(client, f"{HOST}/ocp", AUTH)
    assert secret(cluster)["auths"][HOST] == {"auth": OTHER_AUTH}
    assert secret(cluster)["auths"][f"{HOST}/ocp"] == {"auth": AUTH}
    assert [line for line in change.diff if line[:2] in ("+ ", "- ")] == [
        "+      mirror.example:5000/ocp: (credential, not shown)"
    ]
    renewed = merge_pull_secret(client, f"{HOST}/ocp", OTHER_AUTH, replace=True)
    assert [line for line in renewed.diff if line[:2] in ("+ ", "- ")] == [
        "-      mirror.example:5000/ocp: (former credential, not shown)",
        "+      mirror.example:5000/ocp: (new credential, not shown)",
    ]


@pytest.mark.parametrize("key", [HOST, f"{HOST}/ocp", f"https://{HOST}"])
def test_a_credential_that_nodes_find_already_is_not_written_again(start, key):
    cluster, client = start()
    put_credentials(cluster, **{key: {"auth": AUTH}})
    before = cluster.versions()
    assert merge_pull_secret(client, f"{HOST}/ocp/more", AUTH).action == "unchanged"
    assert cluster.versions() == before


def test_an_entry_without_a_credential_is_none(start):
    cluster, client = start()
    put_credentials(cluster, **{HOST: {}, f"{HOST}/ocp": None})
    merge_pull_secret(client, HOST, AUTH)
    assert secret(cluster)["auths"][HOST] == {"auth": AUTH}


def encoded(password: str) -> str:
    return base64.b64encode(f"robot:{password}".encode()).decode()


def give(client, key: str, password: str, **options):
    return merge_pull_secret(client, key, encoded(password), recorder=Recorder(client, NAMESPACE), **options)


@pytest.mark.parametrize("replaced", [False, True], ids=["added", "replaced"])
def test_a_recorded_credential_is_renewed_without_the_option(start, replaced):
    cluster, client = start("4.8")
    if replaced:
        put_credentials(cluster, **{HOST: {"auth": OTHER_AUTH}})
    before = secret(cluster)
    give(client, HOST, "one", replace=replaced)
    assert give(client, HOST, "two", dry_run=True).action == "changed"
    conflict = json.dumps({"kind": "Status", "reason": "Conflict", "code": 409, "message": "changed"}).encode()
    cluster.faults.append(Fault("PATCH", "/secrets/pull-secret", 409, 1, conflict, "application/json"))
    give(client, HOST, "two")
    assert secret(cluster)["auths"][HOST] == {"auth": encoded("two")}
    (done,) = undo(client, NAMESPACE, dry_run=False, tell=str)
    assert (done.outcome, secret(cluster)) == ("restored", before)


def test_a_foreign_credential_is_not_own_by_the_record(start):
    cluster, client = start()
    give(client, f"{HOST}/ocp", "one")
    there = secret(cluster)["auths"]
    put_credentials(cluster, **{**there, HOST: {"auth": OTHER_AUTH}})
    give(client, f"{HOST}/ocp", "two")
    with pytest.raises(ClusterError, match="another credential"):
        give(client, HOST, "two-of-the-host")
    put_credentials(cluster, **{**there, HOST: {"auth": OTHER_AUTH}, f"{HOST}/ocp": {"auth": OTHER_AUTH}})
    with pytest.raises(ClusterError, match=f"another credential for {HOST}/ocp"):
        give(client, f"{HOST}/ocp", "three")
    assert secret(cluster)["auths"][f"{HOST}/ocp"] == {"auth": OTHER_AUTH}


@pytest.mark.parametrize("entry", [{"auth": OTHER_AUTH, "email": "a@b"}, {"identitytoken": "x"}, {"registrytoken": "x"}])
def test_another_credential_of_the_same_prefix_is_replaced_only_on_request(start, entry):
    """The prefix may hold other images: cri-o#3056, openshift-docs#35639."""
    cluster, client = start()
    put_credentials(cluster, **{f"{HOST}/ocp": entry})
    before = secret(cluster)
    with pytest.raises(ClusterError, match=f"another credential for {HOST}/ocp") as caught:
        give(client, f"{HOST}/ocp", "robot")
    assert "--replace-credential" in caught.value.hint
    assert secret(cluster) == before
    give(client, f"{HOST}/ocp", "robot", replace=True)
    give(client, f"{HOST}/ocp", "renewed")
    undo(client, NAMESPACE, dry_run=False, tell=str)
    assert secret(cluster) == before


def test_undo_keeps_the_credentials_that_others_added_between_two_applies(start):
    cluster, client = start()
    give(client, f"{HOST}/ocp", "one")
    added = {**secret(cluster)["auths"], "team.example": {"auth": OTHER_AUTH}}
    del added["cloud.openshift.com"]
    data = {".dockerconfigjson": base64.b64encode(json.dumps({"auths": added, "credHelpers": {}}).encode()).decode()}
    cluster.put({"kind": "Secret", "metadata": {"name": "pull-secret", "namespace": NAMESPACE}, "data": data})
    give(client, f"{HOST}/ocp", "two")
    undo(client, NAMESPACE, dry_run=False, tell=str)
    left = {key: entry for key, entry in PULL_SECRET["auths"].items() if key != "cloud.openshift.com"}
    assert secret(cluster) == {"auths": {**left, "team.example": {"auth": OTHER_AUTH}}, "credHelpers": {}}


def test_undo_keeps_the_registries_that_others_allowed_between_two_applies(start):
    cluster, client = start()
    recorder = Recorder(client, NAMESPACE)

    def allow_registries(*names):
        cluster.put(
            {"kind": "Image", "metadata": {"name": "cluster"}, "spec": {"registrySources": {"allowedRegistries": list(names)}}}
        )

    def bring(*registries):
        writer = Writer(client, server_side=False, dry_run=False, tell=str, recorder=recorder)
        allow(writer, registries)

    allow_registries("quay.io", "old.example")
    bring(HOST)
    allow_registries("quay.io", HOST, "team.example")
    bring(HOST, "source.example")
    undo(client, NAMESPACE, dry_run=False, tell=str)
    assert cluster.get("Image", "cluster")["spec"]["registrySources"]["allowedRegistries"] == ["quay.io", "team.example"]


@pytest.mark.parametrize(
    ("prefix", "release", "key"),
    [
        ("ocp", "4.9", "HOST/ocp"),
        ("a/b", "4.18", "HOST/a/b"),
        ("ocp", "4.8", "HOST"),
        ("", "4.18", "HOST"),
        ("ocp", None, "HOST"),
    ],
)
def test_nodes_know_keys_with_a_path_since_4_9(prefix, release, key):
    assert pull_secret_key("HOST", prefix, Release.parse(release) if release else None) == key


@pytest.mark.parametrize(
    ("key", "prefix", "found"),
    [
        (f"{HOST}/ocp", "ocp", True),
        (f"{HOST}/ocp", "ocp/deeper", True),
        (HOST, "ocp", True),
        (f"{HOST}/ocp/deeper", "ocp", False),
        (f"{HOST}/oc", "ocp", False),
        (f"{HOST}/ocp", "", False),
    ],
)
def test_the_credential_is_looked_up_by_host_and_prefix(tmp_path, key, prefix, found):
    authfile = tmp_path / "auth.json"
    authfile.write_text(json.dumps({"auths": {key: {"auth": AUTH}}}))
    if found:
        assert pull_credential(authfile, HOST, prefix) == AUTH
        return
    with pytest.raises(UsageError, match=f"no user and password for {HOST}/?{prefix}") as caught:
        pull_credential(authfile, HOST, prefix)
    assert caught.value.hint.endswith(f"{HOST}/{prefix}".rstrip("/"))


def test_a_missing_file_is_reported_with_the_option_that_names_it(tmp_path):
    """--authfile is another option of the same commands."""
    with pytest.raises(UsageError, match=r"^--cluster-authfile: no such file: "):
        pull_credential(tmp_path / "missing.json", HOST)
