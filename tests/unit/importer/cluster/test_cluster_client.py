"""The client: choice of the cluster, its errors, retries, and the redaction of secrets."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
from pathlib import Path

import pytest
import yaml

from common.errors import ClusterError, UsageError
from importer.cluster.api.client import ClusterClient, ConflictError, UnavailableError, connect
from importer.cluster.kinds import CATALOG_SOURCE, CONFIG_MAP, IDMS, OPERATOR_HUB, PACKAGE_MANIFEST
from tests.fakes.cluster import TOKEN, FakeCluster, Fault
from tests.fakes.servers import free_port
from tests.fakes.wanted import catalog_source
from tests.samples import more


def hub(client: ClusterClient):
    return client.get(OPERATOR_HUB, "cluster")


def test_the_ca_of_the_kubeconfig_is_trusted(start):
    _, client = start(tls=True)
    assert hub(client)["kind"] == "OperatorHub"


def test_a_certificate_of_another_ca_is_refused_at_once(tmp_path):
    with FakeCluster() as cluster, connect(cluster.kubeconfig(tmp_path, trust=False), None) as client:
        with pytest.raises(ClusterError, match=r"the certificate of https://127\.0\.0\.1:\d+ is not trusted") as caught:
            hub(client)
        assert "certificate-authority-data" in caught.value.hint
        assert cluster.log == []


def test_a_refused_connection_is_unreachable_after_four_tries(tmp_path):
    with FakeCluster(tls=False) as cluster:
        path = cluster.kubeconfig(tmp_path)
    document = yaml.safe_load(path.read_text())
    document["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{free_port()}"
    path.write_text(yaml.safe_dump(document))
    with connect(path, None) as client, pytest.raises(UnavailableError, match=r"cannot reach http://127\.0\.0\.1") as caught:
        hub(client)
    assert "kubeconfig" in caught.value.hint


def test_a_wrong_token_is_reported_and_not_shown(tmp_path):
    with FakeCluster(tls=False) as cluster, connect(cluster.kubeconfig(tmp_path, token="wrong-and-secret"), None) as client:
        with pytest.raises(ClusterError, match="does not accept the credentials") as caught:
            hub(client)
        assert len(cluster.log) == 1
    assert "wrong-and-secret" not in str(caught.value)


def test_no_secret_is_logged(start, caplog):
    _, client = start()
    with caplog.at_level(logging.DEBUG):
        hub(client)
    assert "get OperatorHub cluster" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("verb", "call"),
    [
        ("get", lambda client: client.get(CATALOG_SOURCE, "x", "openshift-marketplace")),
        ("list", lambda client: client.list(CATALOG_SOURCE, "openshift-marketplace")),
        ("patch", lambda client: client.apply(CATALOG_SOURCE, catalog_source().body)),
        ("create", lambda client: client.create(CATALOG_SOURCE, catalog_source().body)),
    ],
)
def test_a_missing_permission_is_named(start, verb, call):
    cluster, client = start()
    cluster.forbidden.add((verb, "catalogsources"))
    with pytest.raises(ClusterError, match=rf"not allowed to {verb} catalogsources\.operators\.coreos\.com") as caught:
        call(client)
    assert "render --rbac" in caught.value.hint


ANSWERS = [(b"", ""), (b"<html>", "text/html"), (b"[]", "application/json"), (b'{"metadata": 3}', "application/json")]
TYPES = ("", "text/html", "application/json")
FURTHER = [(body, each) for body, _ in ANSWERS for each in TYPES if (body, each) not in ANSWERS]


@pytest.mark.parametrize("status", [429, 503, 0, *more([500, 502, 504])])
def test_a_temporary_failure_is_retried(start, status):
    cluster, client = start()
    cluster.faults.append(Fault("GET", "operatorhubs", status=status, times=3))
    assert hub(client)["metadata"]["name"] == "cluster"
    assert len(cluster.log) == 4


def test_a_permanent_failure_ends_the_retries(start):
    cluster, client = start()
    cluster.faults.append(Fault("GET", "packagemanifests", status=503, times=100))
    with pytest.raises(UnavailableError, match="cannot list packagemanifests now: HTTP 503"):
        client.list(PACKAGE_MANIFEST, "openshift-marketplace")
    assert cluster.faults[0].times == 96


@pytest.mark.parametrize(
    ("body", "content_type"), [*ANSWERS, *(pytest.param(*each, marks=pytest.mark.more) for each in FURTHER)]
)
@pytest.mark.parametrize("status", [200, 400, 403, 404])
def test_an_answer_of_another_server_is_a_cluster_error(start, status, body, content_type):
    cluster, client = start()
    cluster.faults.append(Fault("GET", "catalogsources", status, 100, body, content_type))
    with contextlib.suppress(ClusterError):
        assert client.list(CATALOG_SOURCE, "openshift-marketplace") is None
        assert status == 404


def test_a_missing_object_or_kind_is_none(start):
    _, client = start("4.12")
    assert client.get(CONFIG_MAP, "nothing", "openshift-config") is None
    assert client.list(CONFIG_MAP, "openshift-config") == []
    assert client.get(IDMS, "nothing") is None
    assert client.list(IDMS) is None


def test_lists_are_chosen_by_label(start):
    cluster, client = start()
    cluster.put(dict(catalog_source().body))
    found = client.list(CATALOG_SOURCE, "openshift-marketplace", {"app.kubernetes.io/managed-by": "hub-import"})
    assert [each["metadata"]["name"] for each in found] == ["hub-redhat-operators"]


def test_creating_an_existing_object_is_a_conflict(start):
    cluster, client = start()
    cluster.put(dict(catalog_source().body))
    with pytest.raises(ConflictError, match="already exists"):
        client.create(CATALOG_SOURCE, catalog_source().body)


def test_an_old_version_is_a_conflict(start):
    _, client = start()
    patch = {"metadata": {"resourceVersion": "1"}, "spec": {"disableAllDefaultSources": True}}
    with pytest.raises(ConflictError, match="has been modified"):
        client.merge_patch(OPERATOR_HUB, "cluster", "", patch)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "just text",
        "a: [",
        "clusters: 3",
        "clusters: []\ncontexts: []\n",
        "clusters: []\ncontexts: [{name: c, context: {cluster: x}}]\ncurrent-context: c\n",
        "contexts: [{}]\nclusters: [{name: a}]\n",
    ],
)
def test_a_broken_kubeconfig_is_named(tmp_path: Path, content):
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"no cluster to talk to from .*kubeconfig"):
        connect(path, None)


def test_a_kubeconfig_has_a_largest_size(tmp_path: Path):
    path = tmp_path / "kubeconfig"
    path.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(UsageError, match="larger than 4194304 bytes"):
        connect(path, None)


def test_a_missing_context_is_named(tmp_path: Path):
    with FakeCluster(tls=False) as cluster, pytest.raises(UsageError, match="Context 'other' not found") as caught:
        connect(cluster.kubeconfig(tmp_path), "other")
    assert caught.value.hint.endswith("--context NAME. It has: fake.")


def test_without_any_kubeconfig_the_hint_says_what_to_give():
    with pytest.raises(UsageError, match=r"\$KUBECONFIG") as caught:
        connect(None, None)
    assert "--kubeconfig" in caught.value.hint


def test_the_environments_kubeconfig_is_taken(tmp_path, monkeypatch):
    with FakeCluster(tls=False) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(tmp_path)))
        with connect(None, None) as client:
            assert hub(client) is not None


def test_several_files_of_the_environment_are_one_as_for_kubectl(tmp_path, monkeypatch):
    """clientcmd/loader.go: missing files are left out, the first of a name counts, paths are relative to their file."""
    folders = [tmp_path / name for name in ("contexts", "users")]
    with FakeCluster() as cluster:
        document = yaml.safe_load(cluster.kubeconfig(tmp_path).read_text())
        for folder in folders:
            folder.mkdir()
        entry = document["clusters"][0]["cluster"]
        (folders[0] / "ca.pem").write_bytes(base64.b64decode(entry.pop("certificate-authority-data")))
        entry["certificate-authority"] = "ca.pem"
        users = document.pop("users")
        (folders[0] / "config").write_text(yaml.safe_dump(document))
        other = [{"name": "fake", "cluster": {"server": "https://other.example"}}]
        (folders[1] / "config").write_text(yaml.safe_dump({"users": users, "clusters": other, "current-context": "x"}))
        listed = [tmp_path / "missing", *(folder / "config" for folder in folders)]
        monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, listed)))
        with connect(None, None) as client:
            assert (hub(client) is not None, client.context) == (True, "fake")
        monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, [*listed, ""])))
        with connect(None, "fake") as client:
            assert hub(client) is not None


@pytest.mark.parametrize(
    "user",
    [
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "no-such-login"}},
        *more([{"tokenFile": "/no-such-login"}]),
    ],
)
def test_a_program_for_tokens_that_is_not_installed_is_named(tmp_path, user):
    """A kubeconfig of another machine: aws, kubelogin or oc is not there."""
    with FakeCluster(tls=False) as cluster:
        path = cluster.kubeconfig(tmp_path)
        document = yaml.safe_load(path.read_text())
        document["users"][0]["user"] = user
        path.write_text(yaml.safe_dump(document))
        with connect(path, None) as client, pytest.raises(ClusterError, match=r"no credentials for .*no-such-login"):
            hub(client)


def test_an_account_without_a_home_is_told_what_to_give(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 987_654_321)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(UsageError, match="no cluster to talk to") as caught:
        connect(None, None)
    assert "--kubeconfig" in caught.value.hint


def test_a_missing_file_of_the_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}")
    with pytest.raises(UsageError, match=rf"from {tmp_path / 'one'} of \$KUBECONFIG: No such file"):
        connect(None, None)


@pytest.mark.parametrize("content", ["[]", "clusters: [3]\ncontexts: []\n", "users: [{name: x}]\n"])
def test_a_broken_file_among_several_is_reported(tmp_path, monkeypatch, content):
    for name, text in (("one", "clusters: []\ncontexts: []\n"), ("two", content)):
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}")
    with pytest.raises(UsageError, match="no cluster to talk to"):
        connect(None, None)


def test_a_cluster_that_wants_no_credentials_needs_none(tmp_path: Path):
    with FakeCluster(tls=False, token="") as cluster:
        path = cluster.kubeconfig(tmp_path)
        document = yaml.safe_load(path.read_text())
        del document["users"], document["contexts"][0]["context"]["user"]
        path.write_text(yaml.safe_dump(document))
        with connect(path, None) as client:
            assert hub(client) is not None


@pytest.mark.parametrize(
    "server", ["https://[::1", "https://☃.example", "https://x:port", "http://\u0000", "https://" + "a" * 70_000]
)
def test_a_server_that_is_not_a_url_is_reported(tmp_path, server):
    with FakeCluster(tls=False) as cluster:
        path = cluster.kubeconfig(tmp_path)
    document = yaml.safe_load(path.read_text())
    document["clusters"][0]["cluster"]["server"] = server
    path.write_text(yaml.safe_dump(document, allow_unicode=True))
    with pytest.raises(UsageError, match="kubeconfig"):
        connect(path, None)


@pytest.mark.parametrize("proxy", ["http://a b:80", "http://x:99999", "socks5://x:1", "http://[::1", "http://user:secret@"])
def test_a_proxy_that_is_not_a_url_is_reported_and_not_shown(tmp_path, proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with FakeCluster(tls=False) as cluster:
        path = cluster.kubeconfig(tmp_path)
        with pytest.raises(UsageError, match="the proxy is not usable") as caught:
            connect(path, None)
    assert "secret" not in str(caught.value)


def test_a_name_that_no_url_can_have_is_an_error_of_the_cluster(start):
    """Names of MachineConfigs come from the status of their pool, which anything in front of the API can have changed."""
    _, client = start()
    with pytest.raises(ClusterError, match="as the Kubernetes API does"):
        client.get(CONFIG_MAP, "rendered-\0worker", "openshift-config")
