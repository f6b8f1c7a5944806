"""The mirror's CA and credential, beside those that are there."""

from __future__ import annotations

import base64
import json

import pytest

from common.errors import ClusterError
from common.log import SECRETS
from importer.cluster.apply import apply
from importer.cluster.discovery import discover_release
from importer.cluster.trust import merge_pull_secret
from tests.fakes.cluster_seed import PULL_SECRET
from tests.fakes.wanted import CA, HOST_KEY, trust

AUTH = base64.b64encode(b"puller:a-secret-nobody-may-read").decode()
NAMESPACE = "openshift-config"
OTHER = CA.replace("AAAA", "BBBB")


def run(client, resources):
    return apply(client, resources, release=discover_release(client), dry_run=False, tell=lambda _line: None)


def secret(cluster) -> dict:
    data = cluster.get("Secret", "pull-secret", NAMESPACE)["data"]
    return json.loads(base64.b64decode(data[".dockerconfigjson"]))


def config_map(name: str, data: dict[str, str]) -> dict:
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data}


def test_the_ca_comes_into_a_config_map_of_its_own(start):
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
    assert str(change) == "changed Secret pull-secret in openshift-config: data..dockerconfigjson"
    assert secret(cluster) == {"auths": {**PULL_SECRET["auths"], "mirror.example:5000": {"auth": AUTH}}}
    assert AUTH not in "".join(lines)
    assert SECRETS.mask(AUTH) == "***"


def test_a_credential_that_is_there_is_not_written(start):
    cluster, client = start()
    merge_pull_secret(client, "mirror.example:5000", AUTH)
    before = cluster.versions()
    assert merge_pull_secret(client, "mirror.example:5000", AUTH).action == "unchanged"
    assert cluster.versions() == before


def test_a_dry_run_leaves_the_pull_secret(start):
    cluster, client = start()
    assert merge_pull_secret(client, "mirror.example:5000", AUTH, dry_run=True).action == "changed"
    assert secret(cluster) == PULL_SECRET


def test_without_a_pull_secret_none_is_made(start):
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
