"""The client against Debian's docker-registry, with skopeo as a witness."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

from common.errors import AuthenticationError, NotFoundError, RegistryRefusedError, RegistryUnreachableError
from common.oci.image import Descriptor, Index, digest_of, walk
from common.oci.reference import Reference
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from common.registry.source_sink import Counts, RegistrySink, RegistrySource
from common.transfer import copy
from tests.fakes.factories import image, index, seed
from tests.fakes.servers import PASSWORD, USER, Server, docker_registry, require

pytestmark = pytest.mark.integration
BIG = os.urandom(5_000_000)
IMAGES = index([image([{"a": b"shared"}, BIG], platform="linux/amd64"), image([{"a": b"shared"}], platform="linux/arm64")])


def _authfile(tmp_path: Path, server: Server) -> Path:
    path = tmp_path / "auth.json"
    entry = {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    path.write_text(json.dumps({"auths": {server.host: entry}}))
    return path


def _push(client: RegistryClient, source: Reference, mirror: Reference, tag: str) -> Counts:
    """Copy a tree of documents as the importer does: blobs, manifests, indexes, tag."""
    tree = walk(client.document(source), lambda child: client.document(source.pinned(child.digest)))
    sink = RegistrySink(client, {blob.digest: [mirror] for blob in tree.blobs})
    reading = RegistrySource(client, {blob.digest: [source] for blob in tree.blobs})
    assert [outcome.error for outcome in copy(tree.blobs, reading, sink, jobs=3)] == [None] * len(tree.blobs)
    for document in tree.documents:
        client.put_manifest(mirror.pinned(document.digest), document.raw, document.media_type)
    client.put_manifest(Reference(mirror.registry, mirror.repository, tag), tree.root.raw, tree.root.media_type)
    return sink.counts


def test_round_trip_with_tls_and_password(tmp_path):
    skopeo = require("skopeo")
    with docker_registry(tmp_path, name="source") as source, docker_registry(tmp_path, tls=True, htpasswd=True) as mirror:
        seed(f"http://{source.host}", "org/app", IMAGES, tag="v1")
        authfile = _authfile(tmp_path, mirror)
        settings = RegistrySettings(ca=mirror.ca, authfile=authfile, insecure=frozenset({source.host}))
        with RegistryClient(settings) as client:
            client.ping(mirror.host)
            wanted = Reference(source.host, "org/app", "v1")
            target = Reference(mirror.host, "copy/org/app")
            assert _push(client, wanted, target, "v1") == Counts(uploaded=4)
            assert _push(client, wanted, target, "v1") == Counts(present=4)
            pushed = client.document(Reference(mirror.host, "copy/org/app", "v1"))
            assert isinstance(pushed, Index)
            assert pushed.raw == IMAGES.raw
            assert client.head(Reference(mirror.host, "copy/org/app", "v1")) == IMAGES.descriptor
            assert list(client.tags(target)) == ["v1"]

        assert mirror.ca is not None
        done = subprocess.run(
            [
                *(skopeo, "copy", "--all", "--authfile", authfile, "--src-cert-dir", _cert_dir(tmp_path, mirror.ca)),
                *(f"docker://{mirror.host}/copy/org/app:v1", f"dir:{tmp_path / 'pulled'}"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "pulled/manifest.json").read_bytes() == IMAGES.raw
        assert (tmp_path / "pulled" / digest_of(BIG).removeprefix("sha256:")).read_bytes() == BIG


def _cert_dir(tmp_path: Path, ca: Path) -> Path:
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(ca.read_bytes())
    return folder


def test_what_skopeo_pushed_is_read(tmp_path):
    skopeo = require("skopeo")
    with docker_registry(tmp_path) as server:
        seed(f"http://{server.host}", "org/app", IMAGES, tag="v1")
        subprocess.run(
            [
                *(skopeo, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"),
                *(f"docker://{server.host}/org/app:v1", f"docker://{server.host}/by/skopeo:v2"),
            ],
            check=True,
            capture_output=True,
        )
        with RegistryClient(RegistrySettings(insecure=frozenset({server.host}))) as client:
            reference = Reference(server.host, "by/skopeo", "v2")
            assert client.document(reference).raw == IMAGES.raw
            assert client.blob_bytes(reference, Descriptor("a/b", digest_of(BIG), len(BIG)), len(BIG)) == BIG


def test_mount_across_repositories(tmp_path):
    blob = Descriptor("a/b", digest_of(BIG), len(BIG))
    with docker_registry(tmp_path) as server, RegistryClient(RegistrySettings(insecure=frozenset({server.host}))) as client:
        places = [Reference(server.host, f"org/app{number}") for number in range(5)]
        sink = RegistrySink(client, {blob.digest: places})
        sink.write(blob, lambda start: iter([BIG[start:]]))
        assert sink.counts == Counts(uploaded=1, mounted=4)
        assert all(client.has_blob(place, blob.digest) for place in places)
        assert client.blob_bytes(places[-1], blob, len(BIG)) == BIG
        assert b"".join(map(bytes, client.blob(places[0], blob, 4_999_990))) == BIG[-10:]
        log = server.log.read_text()
        assert len([line for line in log.splitlines() if '"PUT /v2/org/' in line]) == 1


def test_untrusted_certificate(tmp_path):
    with docker_registry(tmp_path, tls=True) as server, RegistryClient(RegistrySettings()) as client:
        with pytest.raises(RegistryUnreachableError, match="not trusted") as caught:
            client.ping(server.host)
        assert "--ca" in caught.value.hint


def test_insecure_accepts_any_certificate(tmp_path):
    with (
        docker_registry(tmp_path, tls=True) as server,
        RegistryClient(RegistrySettings(insecure=frozenset({server.host}))) as client,
    ):
        client.ping(server.host)


def test_missing_and_wrong_credentials(tmp_path):
    with docker_registry(tmp_path, tls=True, htpasswd=True) as server:
        reference = Reference(server.host, "org/app", "v1")
        with RegistryClient(RegistrySettings(ca=server.ca)) as client:
            with pytest.raises(AuthenticationError, match="no credentials") as caught:
                client.document(reference)
            assert f"podman login {server.host}" in caught.value.hint
        wrong = tmp_path / "wrong.json"
        wrong.write_text(json.dumps({"auths": {server.host: {"username": USER, "password": "another"}}}))
        settings = RegistrySettings(ca=server.ca, authfile=wrong)
        with RegistryClient(settings) as client, pytest.raises(AuthenticationError, match="credentials were refused"):
            client.put_manifest(reference, image().raw, image().media_type)


def test_sparse_index_is_refused(tmp_path):
    with docker_registry(tmp_path) as server, RegistryClient(RegistrySettings(insecure=frozenset({server.host}))) as client:
        seed(f"http://{server.host}", "org/app", IMAGES.manifests[0])
        with pytest.raises(RegistryRefusedError) as caught:
            client.put_manifest(Reference(server.host, "org/app", "v1"), IMAGES.raw, IMAGES.media_type, waits=False)
        assert (caught.value.status, caught.value.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_missing_things(tmp_path):
    with docker_registry(tmp_path) as server, RegistryClient(RegistrySettings(insecure=frozenset({server.host}))) as client:
        reference = Reference(server.host, "org/app", "v1")
        assert client.head(reference) is None
        assert not client.has_blob(reference, digest_of(b""))
        with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN"):
            client.document(reference)
