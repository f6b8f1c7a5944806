"""The fakes of releases: images as they are published, hosts that answer as the real ones do, signatures that gpgv verifies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import urllib3

from common.oci import media_types
from common.oci.image import digest_of, hex_of
from tests.fakes import releases
from tests.fakes.openpgp import Gpgv, signer
from tests.fakes.registry import FakeRegistry
from tests.fakes.release_hosts import ReleaseHosts, risk
from tests.fakes.servers import docker_registry

FEW = ("cli", "installer", "pod")


def test_a_release_has_the_published_components() -> None:
    made = releases.release()
    names = [tag["name"] for tag in json.loads(made.files["release-manifests/image-references"])["spec"]["tags"]]
    assert len(names) == len(made.components) == 183
    assert made.payload.media_type == media_types.DOCKER_MANIFEST
    layers = [digest_of(layer) for image in made.components.values() for layer in image.layers]
    assert (len(layers), len(set(layers))) == (549, 1 + 8 + 183)
    with FakeRegistry() as registry:
        made.put(registry)
        tags = registry.repositories["openshift-release-dev/ocp-release"].tags
        assert tags["4.12.0-x86_64"] == made.digest
        assert f"sha256-{hex_of(made.payload.digest)}.sig" in tags


def test_the_next_release_has_the_images_that_did_not_change() -> None:
    first = releases.release("4.12.0", names=FEW)
    then = releases.release("4.12.1", names=FEW, before=first, changed=("cli",), same={"pod": "installer"}, lists=("cli",))
    assert then.digest != first.digest
    assert then.components["installer"] is then.components["pod"] is first.components["installer"]
    assert then.components["cli"].media_type == media_types.DOCKER_LIST
    many = releases.multi("4.12.1", names=FEW, architectures=("amd64", "s390x"), kubevirt=True)
    assert (len(many.payload.manifests), len(many.kubevirt), many.tag) == (2, 2, "4.12.1-multi")


@pytest.mark.integration
def test_a_real_registry_takes_a_release(tmp_path: Path) -> None:
    made = releases.multi("4.12.1", names=("cli",), architectures=("amd64", "arm64"))
    with docker_registry(tmp_path) as server:
        made.seed(f"http://{server.host}")
        manifest = urllib3.request(
            "GET",
            f"http://{server.host}/v2/openshift-release-dev/ocp-release/manifests/{made.tag}",
            headers={"Accept": media_types.DOCKER_LIST},
        )
    assert digest_of(manifest.data) == made.digest


def test_the_hosts_answer_as_the_real_ones(tmp_path: Path) -> None:
    first, then = releases.release("4.12.0", names=FEW), releases.release("4.12.1", names=FEW)
    with ReleaseHosts() as hosts:
        hosts.add(first, "stable-4.12", "fast-4.12", signer=signer())
        hosts.add(then, "stable-4.12")
        hosts.connect(first, then, risk("SomeIssue"))
        hosts.graph_data = releases.graph_data()

        def ask(url: str, accept: str = "application/json") -> tuple[int, bytes]:
            answer = urllib3.request("GET", url, headers={"Accept": accept}, retries=False)
            return answer.status, answer.data

        graph = json.loads(ask(f"{hosts.update_service}?channel=stable-4.12&arch=amd64")[1])
        assert [node["payload"] for node in graph["nodes"]] == [first.source, then.source]
        assert graph["conditionalEdges"][0]["edges"] == [{"from": "4.12.0", "to": "4.12.1"}]
        assert not json.loads(ask(f"{hosts.update_service}?channel=stable-9.9")[1])["nodes"]
        refused = [
            ask(f"{hosts.update_service}?channel=x", "text/html"),
            ask(hosts.update_service),
            ask(f"{hosts.update_service}?channel=A_B"),
        ]
        assert [(status, json.loads(body)["kind"]) for status, body in refused] == [
            (406, "invalid_content_type"),
            (400, "missing_params"),
            (400, "invalid_params"),
        ]
        file = f"{hosts.stores[0]}/sha256={hex_of(first.payload.digest)}/signature-"
        assert [ask(f"{file}{number}")[0] for number in (1, 2)] == [200, 404]
        signed = json.loads(Gpgv(tmp_path, signer().key()).content(ask(f"{file}1")[1]) or b"{}")
        assert signed["critical"]["image"]["docker-manifest-digest"] == first.digest
        assert ask(hosts.graph_data_url)[1] == hosts.graph_data
        hosts.fault("GET", "graph-data", status=503)
        assert ask(hosts.graph_data_url)[0] == 503
        assert hosts.log("/graph")[0].query == {"channel": "stable-4.12", "arch": "amd64"}
