"""The client of update services against one on loopback, and answers from files."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from common.errors import AuthenticationError, ContentError, NotFoundError, RegistryError, RegistryRefusedError, UsageError
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from exporter.releases import hosts as standard
from exporter.releases.updates import graph_files, update_service
from exporter.releases.updates.graph_files import GraphFiles, label_of
from exporter.releases.updates.update_service import UpdateService, UpdateServices, graph_source, neighbours
from exporter.settings import ReleaseSettings
from tests.fakes.clock import FakeClock
from tests.fakes.graphs import DERIVED, REAL, answer, graph, made
from tests.fakes.release_hosts import GRAPH_PATHS, ReleaseHosts
from tests.fakes.tls_proxy import TlsProxy

PATH = GRAPH_PATHS[0]


@pytest.fixture
def hosts() -> Iterator[ReleaseHosts]:
    with ReleaseHosts() as hosts:
        for name in REAL + DERIVED:
            architecture, _, channel = name.partition("-")
            hosts.graphs[channel, architecture] = answer(name)
        yield hosts


@pytest.fixture
def client(tmp_path) -> Iterator[RegistryClient]:
    settings = RegistrySettings(environ={"HOME": str(tmp_path)}, system_root=tmp_path)
    with RegistryClient(settings, clock=FakeClock().clock) as client:
        yield client


@pytest.fixture
def service(hosts, client) -> UpdateService:
    return UpdateService(client, hosts.update_service)


def test_a_channel_is_requested_as_json_by_name_and_architecture(hosts, service):
    found = service.graph("stable-4.8", "s390x")
    assert found == graph("s390x-stable-4.8")
    (request,) = hosts.log()
    assert request.query == {"channel": "stable-4.8", "arch": "s390x"}
    assert request.headers["Accept"] == "application/json"  # anything else is refused with 406
    assert "id" not in request.query


@pytest.mark.parametrize("ending", ["", "/", PATH, f"{PATH}/", "?channel=x&a=b", "/graph"])
def test_the_path_of_the_service_is_added_where_it_is_missing(hosts, client, ending):
    service = UpdateService(client, hosts.url + ending)
    if ending.startswith("?"):
        assert service.url.endswith(ending)
    else:
        assert service.graph("stable-4.9", "amd64").nodes


@pytest.mark.parametrize(
    "url", ["https://[::1", "api.openshift.com", "https://a b/graph", "ftp://localhost/graph", "https://u:p@localhost/graph"]
)
def test_an_address_that_is_none_is_an_error_of_usage(client, url):
    with pytest.raises(UsageError) as caught:
        UpdateService(client, url).graph("stable-4.9", "amd64")
    assert caught.value.hint


def test_a_channel_that_is_not_known_has_no_releases(service):
    assert not service.graph("stable-4.99", "amd64").nodes
    assert not service.graph("stable-4.8", "arm64").nodes


HTML = b"<html><title>Please log in</title></html>"
ANSWERS = [
    ({"status": 200, "body": HTML, "headers": {"Content-Type": "text/html"}}, ContentError, "it begins with '<html>"),
    ({"status": 200, "body": b""}, ContentError, "no update graph"),
    ({"status": 200, "body": answer("amd64-stable-4.9")[:5000]}, ContentError, "no update graph"),
    ({"status": 200, "body": b'{"nodes": [], "edges": [[0, 1]]}'}, ContentError, "an edge from 0 to 1"),
    ({"status": 406, "body": b'{"kind":"invalid_content_type","value":"no"}'}, RegistryRefusedError, "HTTP 406 invalid_content_type"),
    ({"status": 400, "body": b'{"kind":"invalid_params","value":"arch"}'}, RegistryRefusedError, "invalid_params \\(arch\\)"),
    ({"status": 404, "body": HTML}, NotFoundError, "HTTP 404"),
    ({"status": 403, "body": HTML}, AuthenticationError, "HTTP 403"),
    ({"status": 500, "body": b'{"kind":"failed_graph_fetch","value":"x"}', "times": 1000}, RegistryError, "failed_graph_fetch"),
    ({"drop": True, "times": 1000}, RegistryError, "GET update graph"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "kind", "text"), ANSWERS, ids=range(len(ANSWERS)))
def test_bad_answers_are_errors_that_name_the_place(hosts, service, fault, kind, text):
    hosts.fault("GET", "/graph", **fault)
    with pytest.raises(kind, match=text) as caught:
        service.graph("stable-4.9", "amd64")
    assert f"localhost:{hosts.port}" in caught.value.message
    assert caught.value.hint
    assert len(str(caught.value)) < 1000


def test_an_endless_body_ends_at_the_limit(client):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
                try:
                    while True:
                        connection.sendall(b" " * (1 << 20))
                except OSError:
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(ContentError, match="sends more than 33554432 bytes"):
            UpdateService(client, f"http://127.0.0.1:{server.getsockname()[1]}").graph("stable-4.9", "amd64")
        thread.join(10)


def test_trouble_passes(hosts, service):
    hosts.fault("GET", "/graph", times=2, status=503)
    hosts.fault("GET", "/graph", cut_after=1000)
    assert service.graph("stable-4.9", "amd64").nodes


def test_each_graph_is_requested_once_and_okd_from_its_own_service(hosts, client):
    services = graph_source(client, ReleaseSettings(update_service=hosts.update_service))
    assert isinstance(services, UpdateServices)
    assert services.graph("stable-4.9", "amd64") is services.graph("stable-4.9", "amd64")
    assert len(hosts.log()) == 1
    plain = UpdateServices(client)
    assert [plain._services[okd].url for okd in (False, True)] == [standard.UPDATE_SERVICE, standard.OKD_UPDATE_SERVICE]


def test_the_standard_hosts_are_reached_through_the_proxy_and_with_ca(tmp_path):
    authority = trustme.CA()
    with ReleaseHosts(tls=True, authority=authority) as hosts:
        hosts.graphs["stable-4.9", "amd64"] = answer("amd64-stable-4.9")
        hosts.graphs["stable-4", "amd64"] = json.dumps(made(["4.18.0-okd-scos.8"])).encode()
        there = f"localhost:{hosts.port}"
        names = ("api.openshift.com:443", "origin-release.ci.openshift.org:443")
        with TlsProxy(None, routes=dict.fromkeys(names, there)) as proxy:
            environ = {"HOME": str(tmp_path), "HTTPS_PROXY": proxy.url}
            with RegistryClient(RegistrySettings(environ=environ, ca=hosts.ca, system_root=tmp_path)) as client:
                services = UpdateServices(client)
                assert services.graph("stable-4.9", "amd64").nodes
                assert services.graph("stable-4", "amd64", okd=True).versions == ("4.18.0-okd-scos.8",)
            assert proxy.asked == list(names)
            assert [request.path for request in hosts.log()] == [PATH, "/graph"]


NEAR = [
    ("stable-4.10", ["stable-4.9"]),
    ("stable-4.19", ["stable-4.18"]),
    ("stabel-4.18", ["stable-4.18", "eus-4.18", "stable-4.17"]),
    ("4.18", ["stable-4.18", "eus-4.18"]),
    ("stable-4.18.3", ["stable-4.18", "eus-4.18"]),
    ("fast-4.18", ["stable-4.18", "eus-4.18"]),
    ("eus-4.16", ["stable-4.16", "eus-4.18"]),
    ("stable-9.99", []),
    ("nonsense", []),
]


@pytest.mark.parametrize(("channel", "near"), NEAR)
def test_an_unknown_channel_names_those_beside_it(hosts, client, channel, near):
    fault = UpdateServices(client, hosts.update_service).unknown(channel, "amd64")
    assert f"channel {channel} has no releases for amd64" in fault.message
    assert set(near) <= set(fault.hint.removeprefix("Channels that have some: ").rstrip(".").split(", "))
    assert len(hosts.log()) <= update_service.MAX_LOOKUPS


def test_far_ahead_the_last_channel_is_found():
    asked = []

    def known(name):
        asked.append(name)
        prefix, _, minor = name.partition("-4.")
        return prefix != "eus" and 1 <= int(minor) <= 20

    assert neighbours("stable-4.99", known) == ["stable-4.20"]
    assert neighbours("eus-4.99", known) == ["stable-4.20"]
    assert len(asked) <= 2 * update_service.MAX_LOOKUPS


def test_a_channel_of_okd_says_its_type(hosts, client):
    services = UpdateServices(client, hosts.update_service)
    assert "type: okd" in services.unknown("stable-scos-4", "amd64").hint
    hosts.graphs["stable-4", "amd64"] = json.dumps(made(["4.18.0-okd-scos.8"])).encode()
    assert services.unknown("stable-5", "amd64", okd=True).hint == "Channels that have some: stable-4."


def controller(*versions: str, edges=()) -> bytes:
    """Return an answer of OKD's release controller: indented, without metadata, every tag of every stream."""
    nodes = [
        {"version": name, "payload": f"registry.ci.openshift.org/origin/release-scos@sha256:{n:064x}"}
        for n, name in enumerate(versions)
    ]
    nodes.append(
        {"version": "4.20.0-0.ci-2025-01-01-000000", "payload": "registry.ci.openshift.org/origin/release:4.20.0-0.ci"}
    )
    nodes += [nodes[0], {"version": "latest", "payload": "@sha256:12"}]
    return json.dumps({"nodes": nodes, "edges": [list(edge) for edge in edges]}, indent=2).encode()


def test_of_okds_builds_those_with_an_update_in_the_channel_are_its_releases(hosts, client, tmp_path):
    """openshift/release-controller, cmd/release-controller-api/http_upgrade_graph.go: a channel chooses edges, not nodes."""
    versions = (
        "4.17.0-okd-scos.1",
        "4.18.0-okd-scos.8",
        "4.19.0-0.okd-scos-2025-03-01-000000",
        "4.21.0-okd-scos.ec.1",
        "4.15.0-0.okd-2024-03-10-010116",
    )
    raw = controller(*versions, edges=[(0, 1), (1, 2), (4, 0), (1, 5), (7, 1)])
    hosts.graphs["stable-scos-4", "amd64"] = hosts.graphs["next-scos-4", "amd64"] = raw
    services = UpdateServices(client, hosts.okd_update_service)
    found = services.graph("stable-scos-4", "amd64", okd=True)
    assert found.versions == ("4.15.0-0.okd-2024-03-10-010116", "4.17.0-okd-scos.1", "4.18.0-okd-scos.8")
    assert found.plain["4.17.0-okd-scos.1"] == {"4.18.0-okd-scos.8"}
    assert not found.plain["4.18.0-okd-scos.8"]
    assert str(found.nodes["4.18.0-okd-scos.8"].payload).startswith("registry.ci.openshift.org/origin/release-scos@sha256:")
    assert versions[2] in services.graph("next-scos-4", "amd64", okd=True).nodes
    files = GraphFiles([saved(tmp_path, "okd.json", raw)])
    again = files.graph("stable-scos-4", "amd64", okd=True)
    assert (again.versions, again.plain) == (found.versions, found.plain)


def test_a_channel_that_okds_release_controller_does_not_know_has_no_releases(hosts, client):
    services = UpdateServices(client, hosts.okd_update_service)
    hosts.graphs["stable-9", "amd64"] = controller("4.18.0-okd-scos.8", edges=[])  # every build, and no update
    assert not services.graph("stable-9", "amd64", okd=True).nodes
    hosts.fault("GET", "/graph", status=400, body=b"Unsupported ?channel, must be '', 'prerelease', 'stable', or 'stable-*")
    assert not services.graph("4-stable", "amd64", okd=True).nodes


def test_lookups_end_with_the_first_error(hosts, client):
    hosts.fault("GET", "/graph", times=1000, status=404)
    fault = UpdateServices(client, hosts.update_service).unknown("stable-4.10", "amd64")
    assert "Check the channel" in fault.hint
    assert len(hosts.log()) == 1


# Files.


def saved(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def by_name(*names: str) -> bytes:
    return (
        b"{"
        + b",".join(json.dumps(name).encode() + b":" + answer(of) for name, _, of in (each.partition("=") for each in names))
        + b"}"
    )


@pytest.mark.parametrize("name", REAL + DERIVED)
def test_a_saved_answer_works_by_the_channels_of_its_releases(tmp_path, name):
    architecture, _, channel = name.partition("-")
    files = GraphFiles([saved(tmp_path, "answer", answer(name))])
    assert files.graph(channel, architecture).nodes.keys() == graph(name).nodes.keys()
    assert not files.graph("stable-4.99", architecture).nodes
    assert not files.graph(channel, "multi" if architecture != "multi" else "amd64").nodes


def test_an_answer_is_not_taken_for_a_later_channel_that_has_all_its_releases(tmp_path):
    assert all("stable-4.18" in node.channels for node in graph("amd64-stable-4.17").nodes.values())
    files = GraphFiles([saved(tmp_path, "a.json", answer("amd64-stable-4.17"))])
    assert not files.graph("stable-4.18", "amd64").nodes
    assert files.graph("stable-4.17", "amd64").nodes


def test_several_files_and_several_answers_in_one(tmp_path):
    array = b"[" + answer("amd64-stable-4.7") + b"," + answer("amd64-stable-4.8") + b"]"
    named = by_name(
        "s390x/stable-4.8=s390x-stable-4.8", "dir/amd64-stable-4.9.json=amd64-stable-4.9", "stable-4.13=amd64-stable-4.13"
    )
    files = GraphFiles([saved(tmp_path, "array.json", array), saved(tmp_path, "named.json", named)])
    for name in ("amd64-stable-4.7", "amd64-stable-4.8", "amd64-stable-4.9", "amd64-stable-4.13"):
        assert files.graph(name.removeprefix("amd64-"), "amd64").nodes.keys() == graph(name).nodes.keys()
    assert files.graph("stable-4.8", "s390x").nodes == graph("s390x-stable-4.8").nodes


def test_an_answer_without_an_architecture_serves_one_alone(tmp_path):
    """An answer for s390x has the versions of amd64 with other payloads."""
    files = GraphFiles([saved(tmp_path, "a.json", answer("s390x-stable-4.8"))])
    assert files.graph("stable-4.8", "s390x").nodes
    with pytest.raises(UsageError, match="s390x and amd64 are requested") as caught:
        files.graph("stable-4.8", "amd64")
    assert "amd64-stable-4.8.json" in caught.value.hint


def test_names_of_files_say_the_architecture(tmp_path):
    both = [saved(tmp_path, f"{name}.json", answer(name)) for name in ("amd64-stable-4.8", "s390x-stable-4.8")]
    files = GraphFiles(both)
    for name in ("amd64", "s390x"):
        assert files.graph("stable-4.8", name).nodes == graph(f"{name}-stable-4.8").nodes


def test_answers_of_several_architectures_without_names_are_an_error(tmp_path):
    both = b"[" + answer("amd64-stable-4.8") + b"," + answer("s390x-stable-4.8") + b"]"
    with pytest.raises(UsageError, match="in one and sha256:") as caught:
        GraphFiles([saved(tmp_path, "a.json", both)]).graph("stable-4.8", "amd64")
    assert "amd64-stable-4.8.json" in caught.value.hint


def test_releases_of_okd_do_not_say_their_channel(tmp_path):
    files = GraphFiles([saved(tmp_path, "okd.json", json.dumps(made(["4.18.0-okd-scos.8"])).encode())])
    assert files.graph("stable-4", "amd64", okd=True).versions == ("4.18.0-okd-scos.8",)
    assert not files.graph("stable-4.18", "amd64").nodes


def test_a_missing_channel_comes_with_the_command_that_saves_it(tmp_path):
    files = GraphFiles([saved(tmp_path, "amd64-stable-4.9.json", answer("amd64-stable-4.9"))])
    fault = files.unknown("stable-4.10", "arm64")
    assert "they have stable-4.9 (amd64)" in fault.message
    url = "https://api.openshift.com/api/upgrades_info/v1/graph?channel=stable-4.10&arch=arm64"
    assert fault.hint == f"Save it: curl -fo arm64-stable-4.10.json '{url}'"


BAD = [
    (b"", "no JSON"),
    (b"<html>", "it begins with '<html>'"),
    (b"[]x", "no JSON"),
    (b'{"nodes": []}{"nodes": []}', "no JSON"),
    (b'{"kind": "missing_params", "value": "channel"}', "no update graph"),
    (b'{"Stable 4.8": {"nodes": []}}', "no name of an answer"),
    (b'{"nodes": [{"version": "4.1"}]}', "no update graph"),
    (b'[{"nodes": 3}]', ": 1: no update graph"),
    (b'{"a": ' * 5000, "no JSON"),
    (b"[" + b"{}," * graph_files.MAX_ANSWERS + b"{}]", "1001 answers; the limit is 1000"),
    (b"[" + b"," * 6_000_001, "values; the limit is"),
]


@pytest.mark.parametrize(("content", "text"), BAD, ids=range(len(BAD)))
def test_files_that_are_no_answers_are_errors_of_usage(tmp_path, content, text):
    path = saved(tmp_path, "a.json", content)
    with pytest.raises(UsageError, match=text) as caught:
        GraphFiles([path])
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_files_have_a_limit_and_have_to_be_there(tmp_path):
    many = b"[" + b",".join([b'{"nodes": []}'] * graph_files.MAX_ANSWERS) + b"]"
    assert not GraphFiles([saved(tmp_path, "many.json", many)]).graph("a", "amd64").nodes
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError, match=str(path)):
            GraphFiles([path])
    big = tmp_path / "big.json"
    with big.open("wb") as file:
        file.write(b'{"nodes": []}')
        file.truncate(graph_files.MAX_FILE + 1)
    with pytest.raises(UsageError, match="more than 67108864 bytes"):
        GraphFiles([big])


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("stable-4.18", ("", "stable-4.18")),
        ("amd64/stable-4.18", ("amd64", "stable-4.18")),
        ("multi-stable-4.18", ("multi", "stable-4.18")),
        ("/a/b/arm64-eus-4.18.json", ("arm64", "eus-4.18")),
        ("a b", None),
        ("", None),
        ("amd64/", None),
    ],
)
def test_names_of_answers(name, label):
    assert label_of(name) == label
