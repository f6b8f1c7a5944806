"""Payloads and graph-data images through registries: what is fetched, and what other readers make of the result."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from common.archive.inventory import ImageKind
from common.content import DirectoryStore
from common.errors import PayloadError
from common.oci import media_types
from common.oci.reference import Reference
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from exporter.images.resolve import ResolvedImage, WantedImage, fetch_tree
from exporter.images.stored import StoredBlobs
from exporter.releases import graph_data, graph_image, payload
from tests.fakes import factories, graph_builder, releases
from tests.fakes.factories import ImageParts
from tests.fakes.registry import FakeRegistry
from tests.fakes.releases import Release
from tests.fakes.servers import docker_registry, require

FEW = ("cli", "pod", "etcd")


def client_of(host: str, folder: Path, release: Release) -> RegistryClient:
    path = folder / "registries.conf"
    path.write_text(releases.registries_conf(host, release))
    return RegistryClient(RegistrySettings(registries_conf=path, environ=dict(os.environ)))


def test_what_is_fetched_of_a_payload(tmp_path: Path) -> None:
    release = releases.multi("4.18.3", names=FEW)
    with FakeRegistry() as registry:
        release.put(registry)
        with client_of(registry.host, tmp_path, release) as client:
            reference = Reference.parse(release.source)
            blobs = StoredBlobs(client, DirectoryStore(tmp_path / "store"))
            tree = fetch_tree(reference, client, ())
            for _ in range(2):
                found = payload.read(tree, lambda blob: blobs.read(reference, blob), release.source, version="4.18.3")
        assert found.architecture == "multi"
        assert [str(one.reference) for one in found.components] == [release.component(name) for name in FEW]
        # One config and one layer for each architecture, once; the layers of the cluster-version-operator are not fetched.
        # The top layer is the same for all of them.
        assert len(registry.log("GET", "/blobs/")) == 4 + 1
        with client_of(registry.host, tmp_path, release) as client:
            alone = Reference.parse(f"{release.payloads}@{release.payload.manifests[0].digest}")
            with pytest.raises(PayloadError, match="multi-architecture"):
                payload.read(fetch_tree(alone, client, ()), lambda blob: blobs.read(alone, blob), str(alone))


def test_the_update_service_finds_the_releases(tmp_path: Path) -> None:
    """The fake graph builder reads what published payloads look like, and leaves out what the real one leaves out."""
    one, many = releases.release("4.18.3", names=FEW, previous=["4.18.2"]), releases.multi("4.18.4", names=FEW)
    converted = factories.image((releases.manifests_layer(one.files),))
    with FakeRegistry(page=20) as registry:
        one.put(registry)
        many.put(registry)
        repository = one.payloads.partition("/")[2]
        registry.add_image(repository, converted, "4.18.5-x86_64")
        for number in range(30):
            registry.add_image(repository, factories.image(({"a": b"%d" % number},), docker=True), f"other-{number}")
        found = graph_builder.releases_of(registry.url, repository)
    assert [(each.version, each.architecture, each.digest, each.tag) for each in found] == [
        ("4.18.3", "amd64", one.digest, "4.18.3-x86_64"),
        ("4.18.4", "multi", many.digest, "4.18.4-multi"),
    ]
    assert found[0].previous == ("4.18.2",)


@pytest.mark.integration
def test_skopeo_reads_the_graph_data_image(tmp_path: Path) -> None:
    skopeo = require("skopeo")
    data = graph_data.checked(releases.graph_data(), "test")
    cli = releases.multi("4.18.3", names=("cli",), architectures=("amd64", "arm64")).components["cli"]
    tree, stored = releases.opened(cli)
    base = ResolvedImage(WantedImage(Reference.parse(f"{releases.COMPONENTS}@{cli.digest}"), ImageKind.COMPONENT), tree)
    made = graph_image.build(data, [base], stored)
    with docker_registry(tmp_path) as server:
        url = f"http://{server.host}"
        factories.seed(url, "openshift/graph-image", cli)
        for document in made.resolved.tree.documents:  # type: ignore[union-attr]
            layers = tuple(made.held[blob.digest] for blob in getattr(document, "layers", ()) if blob.digest in made.held)
            config = made.held[document.config.digest] if hasattr(document, "config") else b"{}"
            image = ImageParts(document.raw, document.media_type, config, layers, "")
            factories.seed(url, "openshift/graph-image", image, tag="graph" if document is made.resolved.tree.root else None)  # type: ignore[union-attr]
        copied = tmp_path / "copied"
        command = [skopeo, "copy", "--all", "--src-tls-verify=false", f"docker://{server.host}/openshift/graph-image:graph"]
        subprocess.run([*command, f"dir:{copied}"], check=True, capture_output=True)
    assert (copied / "manifest.json").read_bytes() == made.resolved.tree.root.raw  # type: ignore[union-attr]
    assert json.loads((copied / "manifest.json").read_bytes())["mediaType"] == media_types.DOCKER_LIST
